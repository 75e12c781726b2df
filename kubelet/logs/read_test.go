package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bareboat.dev/kubelet/dirwatch/dirwatchtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const sample = `2026-01-02T03:04:05.1Z stdout F one
2026-01-02T03:04:06Z stderr F two
2026-01-02T03:04:07Z stdout P thr
2026-01-02T03:04:07Z stdout F ee
garbage
2026-01-02T03:04:08Z stdout F 
2026-01-02T03:04:09Z stdout F five
`

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func ptr(n int64) *int64 { return &n }

// TestRead shows what each option leaves of a log with partial lines, an empty line and a line that is none.
func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	write(t, path, sample)
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"all":        {Options{}, "one\ntwo\nthree\n\nfive\n"},
		"tail":       {Options{TailLines: ptr(2)}, "\nfive\n"},
		"tail 0":     {Options{TailLines: ptr(0)}, ""},
		"tail many":  {Options{TailLines: ptr(100)}, "one\ntwo\nthree\n\nfive\n"},
		"since":      {Options{Since: time.Date(2026, 1, 2, 3, 4, 8, 0, time.UTC)}, "\nfive\n"},
		"limit":      {Options{LimitBytes: ptr(6)}, "one\ntw"},
		"timestamps": {Options{Timestamps: true, TailLines: ptr(1)}, "2026-01-02T03:04:09Z five\n"},
		"partial":    {Options{Timestamps: true, LimitBytes: ptr(79)}, "2026-01-02T03:04:05.1Z one\n2026-01-02T03:04:06Z two\n2026-01-02T03:04:07Z three\n"},
	} {
		var b bytes.Buffer
		if err := Read(context.Background(), path, c.o, &b, &b); err != nil || b.String() != c.want {
			t.Errorf("%s: %q, %v; want %q", name, b.String(), err, c.want)
		}
	}
}

// TestTailOfLongLog shows that a tail is found over several reads.
func TestTailOfLongLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	var b bytes.Buffer
	for i := range 5000 {
		fmt.Fprintf(&b, "2026-01-02T03:04:05Z stdout F line %d of many\n", i)
	}
	write(t, path, b.String())
	for _, n := range []int64{1, 999, 4999} {
		var out bytes.Buffer
		if err := Read(context.Background(), path, Options{TailLines: &n}, &out, &out); err != nil {
			t.Fatal(err)
		}
		if got := int64(bytes.Count(out.Bytes(), []byte{'\n'})); got != n {
			t.Errorf("tail of %d has %d lines", n, got)
		}
	}
}

// TestFollow shows that a followed log goes on across a rotation, in order and once, and ends after the container has.
func TestFollow(t *testing.T) { follow(t) }

// TestFollowWithoutInotify shows that it does so where inotify is used up.
func TestFollowWithoutInotify(t *testing.T) {
	if dirwatchtest.Exhausted(t) {
		follow(t)
	}
}

func follow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	line := func(n int) { fmt.Fprintf(f, "2026-01-02T03:04:05Z stdout F %d\n", n) }
	r, w := io.Pipe()
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		err := Read(context.Background(), path, Options{Follow: true, Done: done}, w, w)
		_ = w.Close()
		ended <- err
	}()
	read := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
			t.Fatalf("read %q, %v; want %q", got, err, want)
		}
	}
	line(1)
	read("1\n")
	line(2)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	line(3) // still to the old file: its writer has yet to be told
	if f, err = os.Create(path); err != nil {
		t.Fatal(err)
	}
	line(4)
	read("2\n3\n4\n")
	line(5)
	close(done)
	read("5\n")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// FuzzParse shows that no line makes the reader panic.
func FuzzParse(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:05Z stdout F x"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if l, err := Parse(line); err == nil && len(l.Text) > len(line) {
			t.Errorf("%q gave %q", line, l.Text)
		}
	})
}
