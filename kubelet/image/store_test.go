package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Shows that an image of gzip, zstd and plain layers is pulled, stacked, written to and gone after Unmount.
func TestPullAndMount(t *testing.T) {
	reg := newRegistry(t, nil)
	img := newImage(t, v1.Config{Cmd: []string{"/bin/app"}, User: "web", ExposedPorts: map[string]struct{}{"80/tcp": {}}},
		newLayer(t, "gzip", dir("etc"), file("etc/a", "1"), file("etc/b", "1"), dir("old"), file("old/x", "1")),
		newLayer(t, "zstd", file("etc/.wh.a", ""), file("etc/b", "2"), dir("old"), file("old/.wh..wh..opq", ""), file("old/y", "2")),
		newLayer(t, "", entry{name: "bin/app", content: "run", kind: tar.TypeReg, mode: 0o4755}, link("etc/c", "/etc/b")),
	)
	ref := reg.push(t, "team/app:1", img)
	s := openStore(t, Options{})
	got, err := s.Pull(t.Context(), ref, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.RepoTags, []string{ref}) || len(got.RepoDigests) != 1 || got.Config.User != "web" ||
		!slices.Equal(got.Config.ExposedPorts, []string{"80/tcp"}) || got.Size != 8 {
		t.Errorf("image %+v", got)
	}
	if age := time.Since(got.Loaded); age < 0 || age > time.Minute || got.Created.Equal(got.Loaded) {
		t.Errorf("loaded at %v, made at %v", got.Loaded, got.Created)
	}
	rootfs, err := s.Mount(t.Context(), got.ID, "c1")
	if err != nil {
		t.Fatal(err)
	}
	want := `bin drwxr-xr-x
bin/app urwxr-xr-x "run"
etc drwxr-xr-x
etc/b -rw-r--r-- "2"
etc/c Lrwxrwxrwx -> /etc/b
old drwxr-xr-x
old/y -rw-r--r-- "2"
`
	if have := tree(t, rootfs); have != want {
		t.Errorf("root file system:\n%swant:\n%s", have, want)
	}
	if err := os.WriteFile(filepath.Join(rootfs, "etc/b"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n, inodes, err := s.WritableUsage("c1"); err != nil || n < 7 || inodes < 3 {
		t.Errorf("writable usage %d bytes, %d inodes, %v", n, inodes, err)
	}
	if again, err := s.Mount(t.Context(), got.ID, "c1"); err != nil || again != rootfs {
		t.Errorf("mounted again at %q, %v", again, err)
	}
	if err := s.Remove(t.Context(), got.ID); !errors.Is(err, ErrInUse) {
		t.Errorf("remove while mounted: %v", err)
	}
	if err := s.Unmount(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(rootfs)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the container's directory is still there: %v", err)
	}
	if err := s.Remove(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{layersDir, blobsDir, partialDir, tmpDir} {
		if left, _ := os.ReadDir(s.path(dir)); len(left) != 0 {
			t.Errorf("%s still has %v", dir, left)
		}
	}
}

// Shows that an OCI layout and what docker save writes give the same image, under the archive's names.
func TestLoad(t *testing.T) {
	img := newImage(t, v1.Config{Entrypoint: []string{"/x"}}, newLayer(t, "gzip", file("x", "1")), newLayer(t, "", file("y", "2")))
	tag, err := name.NewTag("example.org/app:2")
	if err != nil {
		t.Fatal(err)
	}
	var docker bytes.Buffer
	if err := tarball.Write(tag, img, &docker); err != nil {
		t.Fatal(err)
	}
	for kind, archive := range map[string][]byte{"docker": docker.Bytes(), "oci": ociArchive(t, img, "example.org/app:2")} {
		t.Run(kind, func(t *testing.T) {
			s := openStore(t, Options{})
			images, err := s.Load(t.Context(), bytes.NewReader(archive))
			if err != nil {
				t.Fatal(err)
			}
			if len(images) != 1 || !slices.Equal(images[0].RepoTags, []string{"example.org/app:2"}) {
				t.Fatalf("images %+v", images)
			}
			rootfs, err := s.Mount(t.Context(), "example.org/app:2", "c")
			if err != nil {
				t.Fatal(err)
			}
			if have, want := tree(t, rootfs), "x -rw-r--r-- \"1\"\ny -rw-r--r-- \"2\"\n"; have != want {
				t.Errorf("root file system:\n%s", have)
			}
			if left := leftovers(t, s); len(left) != 0 {
				t.Errorf("left in tmp: %v", left)
			}
		})
	}
}

// ociArchive lays an image out as OCI has it, and packs that.
func ociArchive(t *testing.T, img v1.Image, ref string) []byte {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, emptyIndex())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{annotationRef: ref})); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
