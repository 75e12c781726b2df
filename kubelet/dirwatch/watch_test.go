package dirwatch

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bareboat.dev/kubelet/dirwatch/dirwatchtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// next waits for a change; false if the directory is gone.
func next(t *testing.T, w *Watcher) bool {
	t.Helper()
	select {
	case _, ok := <-w.Changed():
		return ok
	case <-t.Context().Done():
		t.Fatal("nothing was told")
	case <-time.After(time.Minute): // reached only when something is wrong
		t.Fatal("nothing was told")
	}
	return false
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWatch shows that changes of the wanted kind are told, that those of others are not, and that the directory's end is.
func TestWatch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if _, err := New(slog.Default()).Open(dir, Names); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var all []*Watcher
	for _, mask := range []Mask{Written, Growing, Names} {
		w, err := New(slog.Default()).Open(dir, mask)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		all = append(all, w)
	}
	write(t, dir+"/a")
	for _, w := range all {
		next(t, w)
	}
	if err := os.Remove(dir + "/a"); err != nil {
		t.Fatal(err)
	}
	next(t, all[2])
	if len(all[0].Changed())+len(all[1].Changed()) != 0 {
		t.Error("a removal counts as a write")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	for _, w := range all {
		for next(t, w) {
		}
	}
}

// TestExhausted shows that without inotify directories are looked at, that this is said once however many there are, and that a
// directory's end is noticed.
func TestExhausted(t *testing.T) {
	if !dirwatchtest.Exhausted(t) {
		return
	}
	var said bytes.Buffer
	s := New(slog.New(slog.NewTextHandler(&said, nil)))
	dir := filepath.Join(t.TempDir(), "d")
	if _, err := s.Open(dir, Names); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	a, err := s.Open(dir, Names)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Open(dir, Written)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/a")
	next(t, a)
	next(t, b)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for next(t, a) {
	}
	a.Close()
	b.Close()
	if n := strings.Count(said.String(), "level=WARN"); n != 1 || !strings.Contains(said.String(), "fs.inotify.max_user_instances") {
		t.Errorf("it said %q", said.String())
	}
}

// TestResume shows that inotify is used again once there is an instance, that this is said, and that no change is missed on the way.
func TestResume(t *testing.T) {
	if !dirwatchtest.Exhausted(t) {
		return
	}
	var said bytes.Buffer
	s := New(slog.New(slog.NewTextHandler(&said, nil)))
	w := &Watcher{source: s, dir: t.TempDir(), mask: Names, changed: make(chan struct{}, 1), stop: make(chan struct{})}
	s.begin(instancesSetting, w.dir)
	if w.resume() {
		t.Error("it was resumed while there is no instance")
	}
	if err := os.WriteFile("/proc/sys/user/max_inotify_instances", []byte("10"), 0); err != nil {
		t.Fatal(err)
	}
	if !w.resume() || !strings.Contains(said.String(), "inotify can be used again") {
		t.Errorf("it was not resumed: %s", said.String())
	}
	next(t, w) // of what may have changed before
	write(t, w.dir+"/a")
	next(t, w)
	w.Close()
}
