package image

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Shows how users are turned into numbers: by the image's own files, digits always as numbers, nothing out of range, no link out.
func TestResolveUser(t *testing.T) {
	root := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("passwd", "root:x:0:0::/root:/bin/sh\nweb:x:1000:100::/srv:/bin/sh\n2000:x:7:7::/:/bin/sh\n")
	write("group", "root:x:0:\nusers:x:100:\nstaff:x:50:web\n")
	for _, c := range []struct {
		spec string
		want User
		err  error
	}{
		{"", User{Name: "root", Home: "/root"}, nil},
		{"web", User{UID: 1000, GID: 100, Groups: []uint32{50}, Name: "web", Home: "/srv"}, nil},
		{"1000", User{UID: 1000, GID: 100, Groups: []uint32{50}, Name: "web", Home: "/srv"}, nil},
		{"web:staff", User{UID: 1000, GID: 50, Name: "web", Home: "/srv"}, nil},
		{"4711", User{UID: 4711, Home: "/"}, nil},
		{"4711:815", User{UID: 4711, GID: 815, Home: "/"}, nil},
		{"2000", User{UID: 2000, Home: "/"}, nil}, // a number, although there is a user of that name
		{"nosuch", User{}, ErrNoUser},
		{"web:nosuch", User{}, ErrNoUser},
		{"-1", User{}, ErrNoUser},
		{"4294967296", User{}, ErrNoUser}, // would be 0 in 32 bits
		{"2147483648", User{}, ErrNoUser},
		{"99999999999999999999", User{}, ErrNoUser},
		{"0:4294967296", User{}, ErrNoUser},
	} {
		got, err := ResolveUser(root, c.spec)
		if !errors.Is(err, c.err) || got.UID != c.want.UID || got.GID != c.want.GID || !slices.Equal(got.Groups, c.want.Groups) || got.Name != c.want.Name || got.Home != c.want.Home {
			t.Errorf("%q: %+v, %v; want %+v, %v", c.spec, got, err, c.want, c.err)
		}
	}
}

// Shows that an image whose passwd file is a link to the node's is not told about the node's users, and that one that is a device is refused.
func TestResolveUserStaysInside(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "passwd"), []byte("node:x:7:7::/:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(root, "etc")); err != nil {
		t.Fatal(err)
	}
	if _, err := ResolveUser(root, "node"); !errors.Is(err, ErrNoUser) {
		t.Errorf("through a link: %v", err)
	}
	root = t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc/passwd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := ResolveUser(root, "web"); !errors.Is(err, ErrUnsafe) {
		t.Errorf("a directory: %v", err)
	}
}

// Shows the full forms of names, and what is no name.
func TestNormalize(t *testing.T) {
	digest := "@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	for in, want := range map[string]string{
		"busybox":                  "docker.io/library/busybox:latest",
		"team/app:1":               "docker.io/team/app:1",
		"docker.io/busybox":        "docker.io/library/busybox:latest",
		"registry.example/a/b/c":   "registry.example/a/b/c:latest",
		"localhost:5000/app":       "localhost:5000/app:latest",
		"busybox:1" + digest:       "docker.io/library/busybox" + digest,
		"registry.example:443/a:x": "registry.example:443/a:x",
		"Busybox":                  "", "a//b": "", "a:b:c": "", "a@b": "", "-": "",
	} {
		got, err := Normalize(in)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrInvalidName) {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}
