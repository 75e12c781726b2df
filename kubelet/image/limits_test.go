package image

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// Shows that a full disk fails a pull and nothing else: what was there stays whole and usable, nothing half is left, and with room the
// same pull succeeds.
func TestFullDisk(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	if err := unix.Mount("small", root, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	noise := make([]byte, 2<<20)
	_, _ = rand.Read(noise)
	reg := newRegistry(t, nil)
	small := reg.push(t, "small:1", newImage(t, v1.Config{}, newLayer(t, "", file("a", "1"))))
	large := reg.push(t, "large:1", newImage(t, v1.Config{}, newLayer(t, "", file("noise", string(noise)))))
	s := openAt(t, filepath.Join(root, "store"), Options{})
	if _, err := s.Pull(t.Context(), small, PullOptions{}); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(root, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pull(t.Context(), large, PullOptions{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("pull on a full disk: %v", err)
	}
	var archive bytes.Buffer
	archive.Write(pack(t, file("blobs/sha256/x", string(noise)), file("blobs/sha256/y", string(noise))))
	if _, err := s.Load(t.Context(), &archive); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("load on a full disk: %v", err)
	}
	if left := leftovers(t, s); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
	if _, err := s.Get(small); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	// What was downloaded of the large one is in the way of nothing: it is what the next pull goes on from.
	if err := unix.Mount("small", root, "tmpfs", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	again := openAt(t, filepath.Join(root, "store"), Options{})
	if list := again.List(); len(list) != 1 {
		t.Errorf("images after reopening: %+v", list)
	}
	if _, err := again.Pull(t.Context(), large, PullOptions{}); err != nil {
		t.Error(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// Shows that an image of as many layers as are allowed is mounted, although their paths do not fit into the mount's options, and that one
// more is refused.
func TestManyLayers(t *testing.T) {
	var layers []v1.Layer
	for i := range maxLayers + 1 {
		layers = append(layers, newLayer(t, "", file(fmt.Sprintf("f%d", i), "x"), file("last", fmt.Sprint(i))))
	}
	reg, s := newRegistry(t, nil), openStore(t, Options{})
	ref := reg.push(t, "many:1", newImage(t, v1.Config{}, layers[:maxLayers]...))
	if _, err := s.Pull(t.Context(), ref, PullOptions{}); err != nil {
		t.Fatal(err)
	}
	rootfs, err := s.Mount(t.Context(), ref, "c")
	if err != nil {
		t.Fatal(err)
	}
	if names, _ := os.ReadDir(rootfs); len(names) != maxLayers+1 {
		t.Errorf("%d files", len(names))
	}
	if data, _ := os.ReadFile(filepath.Join(rootfs, "last")); string(data) != fmt.Sprint(maxLayers-1) {
		t.Errorf("the topmost layer's file is %q", data)
	}
	tooMany := reg.push(t, "many:2", newImage(t, v1.Config{}, layers...))
	if _, err := s.Pull(t.Context(), tooMany, PullOptions{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one layer too many: %v", err)
	}
}

// BenchmarkMount measures what a container's start pays for its root file system.
func BenchmarkMount(b *testing.B) {
	reg, s := newRegistry(b, nil), openStore(b, Options{})
	ref := reg.push(b, "app:1", newImage(b, v1.Config{}, newLayer(b, "", file("a", "1")), newLayer(b, "", file("b", "2"))))
	img, err := s.Pull(b.Context(), ref, PullOptions{})
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		n++
		id := fmt.Sprint("c", n)
		if _, err := s.Mount(b.Context(), img.ID, id); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Unmount(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
