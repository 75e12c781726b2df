package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestLogRotation shows that a log is rotated within its number of files while it is written, that older parts are compressed, and
// that no line of what is kept is lost or doubled.
func TestLogRotation(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("noisy", `containers: [{name: app, command: [sh, -c, "i=0; while true; do i=$((i+1)); echo $i; done"]}]`)
	p := h.await("noisy", "Running", running)
	dir := filepath.Join(h.c.LogDir, "default_noisy_"+string(p.UID), "app")
	const files = 3
	for i := range 5 {
		h.awaitOn(dir, "a log to rotate", func() bool {
			info, err := os.Stat(filepath.Join(dir, "0.log"))
			return err == nil && info.Size() > 0
		})
		h.k.agent.RotateOnce(context.Background(), time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC), 1, files)
		h.k.agent.RotateOnce(context.Background(), time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC), 1, files) // again in the same second
	}
	h.stop()
	all := parts(t, dir)
	if len(all) > files || len(all) < 2 || !strings.HasSuffix(all[0], ".gz") {
		t.Fatalf("files are %v", all)
	}
	last := 0
	for _, name := range all {
		for _, n := range numbers(t, filepath.Join(dir, name)) {
			if last != 0 && n != last+1 {
				t.Fatalf("%s has %d after %d", name, n, last)
			}
			last = n
		}
	}
}

// parts are the files of a log, the oldest first.
func parts(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "0.log" && !strings.HasSuffix(e.Name(), ".tmp") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return append(names, "0.log")
}

func numbers(t *testing.T, path string) (all []int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	for s := bufio.NewScanner(r); s.Scan(); {
		fields := strings.Fields(s.Text())
		if n, err := strconv.Atoi(fields[len(fields)-1]); err == nil {
			all = append(all, n)
		}
	}
	return all
}
