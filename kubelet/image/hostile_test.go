package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/rmtree"
)

// unpackEntries unpacks an archive next to a file that must stay as it is.
func unpackEntries(t *testing.T, entries ...entry) (root string, err error) {
	t.Helper()
	needRoot(t)
	base := t.TempDir()
	secret := filepath.Join(base, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	root = filepath.Join(base, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = unpack(t.Context(), bytes.NewReader(pack(t, entries...)), root, 1<<20, 1000)
	if data, readErr := os.ReadFile(secret); readErr != nil || string(data) != "secret" {
		t.Errorf("the file outside is now %q, %v", data, readErr)
	}
	if names, _ := os.ReadDir(base); len(names) != 2 {
		t.Errorf("files were made outside: %v", names)
	}
	return root, err
}

// Shows that no entry of an archive reaches outside of its root: it is refused, or ends up inside.
func TestUnpackStaysInside(t *testing.T) {
	for name, c := range map[string]struct {
		entries []entry
		want    error  // nil: it is unpacked
		tree    string // what is then there
	}{
		"dots":               {entries: []entry{file("../secret", "x")}, want: ErrUnsafe},
		"dots inside":        {entries: []entry{file("a/../../secret", "x")}, want: ErrUnsafe},
		"dots at the end":    {entries: []entry{dir("a/..")}, want: ErrUnsafe},
		"absolute":           {entries: []entry{file("/etc/x", "1")}, tree: "etc drwxr-xr-x\netc/x -rw-r--r-- \"1\"\n"},
		"through a link up":  {entries: []entry{link("up", ".."), file("up/secret", "x")}, tree: "secret -rw-r--r-- \"x\"\nup Lrwxrwxrwx -> ..\n"},
		"through a far link": {entries: []entry{link("abs", "/tmp"), dir("tmp"), file("abs/x", "1")}, tree: "abs Lrwxrwxrwx -> /tmp\ntmp drwxr-xr-x\ntmp/x -rw-r--r-- \"1\"\n"},
		"through chained links": {
			entries: []entry{dir("d"), link("d/a", "../../.."), link("b", "d/a/.."), file("b/secret", "x")},
			tree:    "b Lrwxrwxrwx -> d/a/..\nd drwxr-xr-x\nd/a Lrwxrwxrwx -> ../../..\nsecret -rw-r--r-- \"x\"\n",
		},
		"onto a link":          {entries: []entry{link("l", "../secret"), file("l", "x")}, tree: "l -rw-r--r-- \"x\"\n"},
		"directory onto link":  {entries: []entry{link("l", ".."), dir("l"), file("l/x", "1")}, tree: "l drwxr-xr-x\nl/x -rw-r--r-- \"1\"\n"},
		"hard link up":         {entries: []entry{hard("h", "../secret")}, want: ErrUnsafe},
		"hard link far":        {entries: []entry{hard("h", "/secret")}, want: unix.ENOENT},
		"hard link via link":   {entries: []entry{link("up", ".."), hard("h", "up/secret")}, want: unix.ENOENT},
		"hard link to link":    {entries: []entry{link("l", "../secret"), hard("h", "l")}, tree: "h Lrwxrwxrwx -> ../secret\nl Lrwxrwxrwx -> ../secret\n"},
		"write via hard link":  {entries: []entry{link("l", "../secret"), hard("h", "l"), file("h", "x")}, tree: "h -rw-r--r-- \"x\"\nl Lrwxrwxrwx -> ../secret\n"},
		"whiteout of the root": {entries: []entry{file(".wh.", "")}, want: ErrUnsafe},
		"whiteout of dot":      {entries: []entry{file("a/.wh..", "")}, want: ErrUnsafe},
		"whiteout of parent":   {entries: []entry{file("a/.wh...", "")}, want: ErrUnsafe},
		"whiteout via link":    {entries: []entry{link("up", ".."), file("up/.wh.secret", "")}, tree: "secret Dc---------\nup Lrwxrwxrwx -> ..\n"},
		"a whiteout as device": {entries: []entry{{name: "w", kind: tar.TypeChar}}, want: ErrUnsafe},
		"root is a link":       {entries: []entry{link(".", "/")}, want: ErrUnsafe},
		"overlay attributes": {
			entries: []entry{{name: "f", kind: tar.TypeReg, content: "1", pax: map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/secret"}}},
			tree:    "f -rw-r--r-- \"1\"\n",
		},
		"magic link":    {entries: []entry{link("p", "/proc/self/root"), file("p/secret", "x")}, want: unix.EEXIST},
		"unknown types": {entries: []entry{{name: "x", kind: 'Z'}}, want: ErrUnsafe},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := unpackEntries(t, c.entries...)
			if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
				if name == "magic link" && err != nil {
					return // there is no /proc in the image: any refusal will do
				}
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if c.want == nil {
				if have := tree(t, root); have != c.tree {
					t.Errorf("have:\n%swant:\n%s", have, c.tree)
				}
			}
			if value := make([]byte, 64); c.want == nil {
				if _, err := unix.Lgetxattr(filepath.Join(root, "f"), "trusted.overlay.redirect", value); err == nil {
					t.Error("an attribute for overlayfs was set")
				}
			}
		})
	}
}

// Shows that a whiteout hides what is below, but never what its own layer brings, in whichever order they come.
func TestWhiteoutOrder(t *testing.T) {
	for name, entries := range map[string][]entry{
		"before": {file("d/.wh.x", ""), dir("d/x"), file("d/x/new", "1")},
		"after":  {dir("d/x"), file("d/x/new", "1"), file("d/.wh.x", "")},
	} {
		t.Run(name, func(t *testing.T) {
			lower := newLayer(t, "", dir("d"), dir("d/x"), file("d/x/old", "0"))
			s := openStore(t, Options{})
			ref := newRegistry(t, nil).push(t, "app:1", newImage(t, v1.Config{}, lower, newLayer(t, "", entries...)))
			if _, err := s.Pull(t.Context(), ref, PullOptions{}); err != nil {
				t.Fatal(err)
			}
			rootfs, err := s.Mount(t.Context(), ref, "c")
			if err != nil {
				t.Fatal(err)
			}
			if have := tree(t, filepath.Join(rootfs, "d")); have != "x drwxr-xr-x\nx/new -rw-r--r-- \"1\"\n" {
				t.Errorf("have:\n%s", have)
			}
		})
	}
}

// Shows that bombs are refused at the limit, by size and by number, and that nothing of them stays.
func TestBombs(t *testing.T) {
	many := make([]entry, 300)
	for i := range many {
		many[i] = file("f"+strings.Repeat("x", i%50), "")
	}
	for name, l := range map[string]v1.Layer{
		"size":  newLayer(t, "gzip", file("zeros", strings.Repeat("\x00", 3<<20))),
		"zstd":  newLayer(t, "zstd", file("zeros", strings.Repeat("\x00", 3<<20))),
		"files": newLayer(t, "gzip", many...),
		"paths": newLayer(t, "gzip", file(strings.Repeat("d/", 150)+"f", ""), file(strings.Repeat("e/", 150)+"f", "")),
		// What is after an archive's end is not unpacked, but read.
		"tail": tailed(t, 8<<20),
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, Options{MaxLayerSize: 1 << 20, MaxLayerFiles: 200})
			ref := newRegistry(t, nil).push(t, "bomb:1", newImage(t, v1.Config{}, l))
			if _, err := s.Pull(t.Context(), ref, PullOptions{}); !errors.Is(err, ErrTooLarge) {
				t.Errorf("pull: %v", err)
			}
			if left := leftovers(t, s); len(left) != 0 {
				t.Errorf("left in tmp: %v", left)
			}
			if list := s.List(); len(list) != 0 {
				t.Errorf("images %+v", list)
			}
		})
	}
}

// tailed is a layer whose archive goes on after its end.
func tailed(t *testing.T, length int) v1.Layer {
	t.Helper()
	return static.NewLayer(slices.Concat(pack(t, file("f", "")), make([]byte, length)), types.DockerUncompressedLayer)
}

// lying is a layer that unpacks to something other than its image says.
type lying struct {
	v1.Layer
	diffID v1.Hash
}

func (l lying) DiffID() (v1.Hash, error) { return l.diffID, nil }

// Shows that a layer is kept only under the digest that its content has, and that its failure does not spoil the other image's layer.
func TestWrongDigest(t *testing.T) {
	honest, other := newLayer(t, "gzip", file("a", "1")), newLayer(t, "gzip", file("a", "2"))
	diffID, _ := honest.DiffID()
	reg := newRegistry(t, nil)
	bad := reg.push(t, "bad:1", newImage(t, v1.Config{}, lying{other, diffID}))
	good := reg.push(t, "good:1", newImage(t, v1.Config{}, honest))
	s := openStore(t, Options{})
	if _, err := s.Pull(t.Context(), bad, PullOptions{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("pull: %v", err)
	}
	if _, err := s.Pull(t.Context(), good, PullOptions{}); err != nil {
		t.Fatal(err)
	}
	rootfs, err := s.Mount(t.Context(), good, "c")
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(filepath.Join(rootfs, "a")); string(data) != "1" {
		t.Errorf("content %q", data)
	}
}

// Shows that what is not an image archive is called that, without harm.
func TestLoadGarbage(t *testing.T) {
	s := openStore(t, Options{})
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "cut gzip": {0x1f, 0x8b, 8}, "no index": pack(t, file("x", "y")),
		"bad json":     pack(t, file("index.json", "{")),
		"missing blob": pack(t, file("index.json", `{"schemaVersion":2,"manifests":[{"digest":"sha256:`+strings.Repeat("a", 64)+`","size":3}]}`)),
		"docker lies":  pack(t, file("manifest.json", `[{"Config":"../../etc/passwd","Layers":["x"]}]`)),
		"link loop":    pack(t, link("index.json", "index.json")),
	} {
		if images, err := s.Load(t.Context(), bytes.NewReader(data)); err == nil || len(images) != 0 {
			t.Errorf("%s: %v, %v", name, images, err)
		}
	}
	if left := leftovers(t, s); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

// Shows that removal follows no link and enters no mount.
func TestRemoveTree(t *testing.T) {
	needRoot(t)
	base := t.TempDir()
	doomed, kept := filepath.Join(base, "doomed"), filepath.Join(base, "kept")
	for _, d := range []string{filepath.Join(doomed, "a/b"), filepath.Join(doomed, "mnt"), kept} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(kept, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(kept, filepath.Join(doomed, "link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(kept, filepath.Join(doomed, "mnt"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := rmtree.Remove(doomed); !errors.Is(err, rmtree.ErrMounted) {
		t.Errorf("with a mount inside: %v", err)
	}
	if err := unix.Unmount(filepath.Join(doomed, "mnt"), 0); err != nil {
		t.Fatal(err)
	}
	if err := rmtree.Remove(doomed); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(kept, "precious")); err != nil {
		t.Error(err)
	}
}

// FuzzUnpack shows that no archive makes unpacking panic, hang or leave its root.
func FuzzUnpack(f *testing.F) {
	needRoot(f)
	f.Add(pack(f, dir("a"), file("a/b", "c"), link("l", "/a"), hard("h", "a/b"), file("a/.wh.x", "")))
	f.Add(pack(f, link("up", "../.."), file("up/x", "1")))
	f.Fuzz(func(t *testing.T, data []byte) {
		base := t.TempDir()
		root := filepath.Join(base, "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		plain, closer, err := decompress(bytes.NewReader(data))
		if err != nil {
			return
		}
		defer closer()
		_, _ = unpack(context.Background(), io.LimitReader(plain, 1<<20), root, 1<<20, 100)
		if names, _ := os.ReadDir(base); len(names) != 1 {
			t.Errorf("made outside: %v", names)
		}
	})
}
