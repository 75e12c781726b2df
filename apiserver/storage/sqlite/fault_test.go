package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/sqlite"
)

// wantOpenError opens a file that must be refused with an error that names it, and checks that it was left as it was.
func wantOpenError(t *testing.T, path string, want error) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err == nil {
		e.Close()
		t.Fatal("opened")
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
		t.Errorf("error: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed: %v", err)
	}
	t.Log(err)
}

// filled makes a store of some 200 pages and returns its path.
func filled(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	e := open(t, path)
	for i := range 200 {
		if _, err := e.Commit(t.Context(), storage.Op{Key: fmt.Sprintf("/k%03d", i), Value: bytes.Repeat([]byte{byte(i)}, 3000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// Whatever part of the file is overwritten, or cut off, it is refused with a sentence and not touched.
func TestDamagedFile(t *testing.T) {
	damage := map[string]func([]byte) []byte{
		"header":     func(b []byte) []byte { copy(b, "not a database"); return b },
		"text":       func([]byte) []byte { return []byte("hello") },
		"first page": func(b []byte) []byte { clear(b[100:2000]); return b },
		"middle":     func(b []byte) []byte { garbage(b[len(b)/2 : len(b)/2+20000]); return b },
		"cut off":    func(b []byte) []byte { return b[:len(b)/2] },
	}
	for name, change := range damage {
		t.Run(name, func(t *testing.T) {
			path := filled(t)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, change(b), 0o600); err != nil {
				t.Fatal(err)
			}
			wantOpenError(t, path, sqlite.ErrCorrupt)
		})
	}
}

func garbage(b []byte) {
	for i := range b {
		b[i] = byte(i*7 + 13)
	}
}

// Somebody else's database is refused.
func TestForeignFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.db")
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE t (a)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	wantOpenError(t, path, sqlite.ErrForeign)
}

// A second server on the same file is refused while the first one runs.
func TestLockedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	e := open(t, path)
	if _, err := sqlite.Open(t.Context(), sqlite.Config{Path: path}); !errors.Is(err, sqlite.ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Errorf("error: %v", err)
	}
	e.Close()
	open(t, path)
}

// A path with characters that mean something in URLs is taken as it is.
func TestOddPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a?b#c%20d e.db")
	e := open(t, path)
	if _, err := e.Commit(t.Context(), storage.Op{Key: "/a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// A full disk fails commits with one clear error that wraps ErrUnavailable, loses nothing, still serves reads, and commits
// work again when there is space. It needs root, for a small file system of its own.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root, to mount a small file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatalf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "state.db")
	e, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { e.Close() }()
	written := fill(t, e)
	for key, rev := range written {
		if got, _, err := e.Get(t.Context(), key, storage.Latest); err != nil || got.Modified != rev {
			t.Fatalf("%s while full: %v %v", key, got.Modified, err)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	rev, err := e.Commit(t.Context(), storage.Op{Key: "/after", Value: []byte("x")})
	if err != nil {
		t.Fatalf("commit after space was made: %v", err)
	}
	written["/after"] = rev
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, path)
	for key, rev := range written {
		if got, _, err := e.Get(t.Context(), key, storage.Latest); err != nil || got.Modified != rev {
			t.Fatalf("%s after opening again: %v %v", key, got.Modified, err)
		}
	}
	if n, _ := e.Count(t.Context(), "/"); n != int64(len(written)) {
		t.Errorf("%d keys, %d were acknowledged", n, len(written))
	}
}

// fill commits until the disk is full and a few times more.
func fill(t *testing.T, e storage.Engine) map[string]storage.Revision {
	t.Helper()
	written := map[string]storage.Revision{}
	failures := 0
	for i := 0; failures < 3; i++ {
		key := fmt.Sprintf("/k%d", i)
		rev, err := e.Commit(t.Context(), storage.Op{Key: key, Value: bytes.Repeat([]byte("x"), 50_000)})
		if err == nil {
			written[key] = rev
			continue
		}
		failures++
		if !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "no space left") || i > 1000 {
			t.Fatalf("commit %d on a full disk: %v", i, err)
		}
		if failures == 1 {
			t.Log(err)
		}
	}
	return written
}

// Every commit that a process reported before it was killed is there, whole, when the file is opened again.
func TestKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	acknowledged := map[string]bool{}
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHelperCommitForever$")
		cmd.Env = append(os.Environ(), "SQLITE_TEST_FILE="+path, fmt.Sprintf("SQLITE_TEST_ROUND=%d", round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if key, ok := strings.CutPrefix(lines.Text(), "committed "); ok {
				acknowledged[key] = true
			}
			if n == 300 {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		e := open(t, path)
		for key := range acknowledged {
			a, _, err := e.Get(t.Context(), key, storage.Latest)
			b, _, err2 := e.Get(t.Context(), key+"/twin", storage.Latest)
			if err != nil || err2 != nil || a.Modified != b.Modified {
				t.Fatalf("round %d: %s: %v %v", round, key, err, err2)
			}
		}
		e.Close()
	}
	if len(acknowledged) < 500 {
		t.Errorf("only %d commits", len(acknowledged))
	}
}

// TestHelperCommitForever is not a test: it is the process that TestKilledProcess kills.
func TestHelperCommitForever(t *testing.T) {
	path, round := os.Getenv("SQLITE_TEST_FILE"), os.Getenv("SQLITE_TEST_ROUND")
	if path == "" {
		return
	}
	e := open(t, path)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; ; n++ {
				key := fmt.Sprintf("/%s/%d/%d", round, i, n)
				if _, err := e.Commit(context.Background(), storage.Op{Key: key, Value: make([]byte, 500)}, storage.Op{Key: key + "/twin"}); err != nil {
					return
				}
				mu.Lock()
				fmt.Printf("committed %s\n", key)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
}

// A watcher that is further behind than what is kept in memory reads the rest from the file.
func TestWatchFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	e := open(t, path)
	start, err := e.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const n = 3000
	for i := 0; i < n; {
		var ops []storage.Op
		for range 1 + i%7 {
			ops = append(ops, storage.Op{Key: fmt.Sprintf("/k%05d", i), Value: []byte("v")})
			i++
		}
		if _, err := e.Commit(t.Context(), ops...); err != nil {
			t.Fatal(err)
		}
	}
	e.Close()
	e = open(t, path)
	w, err := e.Watch(t.Context(), "/", start)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	seen := 0
	for seen < n {
		b, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range b.Events {
			if want := fmt.Sprintf("/k%05d", seen); event.Entry.Key != want {
				t.Fatalf("event %d is of %s", seen, event.Entry.Key)
			}
			seen++
		}
	}
}

// Compaction removes every row that cannot be read any more from the file, in steps, while commits go on, and the store
// that is opened again knows that it was compacted.
func TestCompactionShrinksLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	e := open(t, path)
	var rev storage.Revision
	var err error
	for i := range 1500 {
		if rev, err = e.Commit(t.Context(), storage.Op{Key: fmt.Sprintf("/k%d", i%10), Value: []byte("v")}, storage.Op{Key: fmt.Sprintf("/gone%d", i)}); err != nil {
			t.Fatal(err)
		}
		if rev, err = e.Commit(t.Context(), storage.Op{Type: storage.Delete, Key: fmt.Sprintf("/gone%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error)
	go func() {
		_, err := e.Commit(context.Background(), storage.Op{Key: "/meanwhile"})
		done <- err
	}()
	if err := e.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	e.Close()
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := db.QueryRow("SELECT count(*) FROM log").Scan(&rows); err != nil || rows != 11 {
		t.Errorf("%d rows are left: %v", rows, err)
	}
	db.Close()
	e = open(t, path)
	if _, _, err := e.Get(t.Context(), "/k1", rev-1); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("read before the compaction: %v", err)
	}
	if now, err := e.Commit(t.Context(), storage.Op{Key: "/next"}); err != nil || now <= rev {
		t.Errorf("revision %d after %d: %v", now, rev, err)
	}
}

// An open file whose newest row is gone by compaction does not give a revision twice.
func TestRevisionsAreNeverReused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	e := open(t, path)
	if _, err := e.Commit(t.Context(), storage.Op{Key: "/a"}); err != nil {
		t.Fatal(err)
	}
	last, err := e.Commit(t.Context(), storage.Op{Type: storage.Delete, Key: "/a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	e.Close()
	e = open(t, path)
	if rev, err := e.Commit(t.Context(), storage.Op{Key: "/b"}); err != nil || rev <= last {
		t.Errorf("revision %d after %d: %v", rev, last, err)
	}
}

// When the disk fails a write, those who waited are told that the outcome is unknown, nothing is written any more, reads go
// on, and what was acknowledged is there when the file is opened again. The failure is a limit on file sizes, in a process of
// its own.
func TestFailedWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperFailedWrite$", "-test.v")
	cmd.Env = append(os.Environ(), "SQLITE_TEST_LIMITED="+path)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
	var acknowledged int
	for _, line := range strings.Split(string(out), "\n") {
		fmt.Sscanf(line, "acknowledged %d", &acknowledged)
	}
	e := open(t, path)
	if n, err := e.Count(t.Context(), "/"); err != nil || acknowledged < 10 || n < int64(acknowledged) {
		t.Errorf("%d of %d keys are there: %v", n, acknowledged, err)
	}
}

// TestHelperFailedWrite is not a test of its own: it is the process that TestFailedWrite starts.
func TestHelperFailedWrite(t *testing.T) {
	path := os.Getenv("SQLITE_TEST_LIMITED")
	if path == "" {
		return
	}
	e := open(t, path)
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 2 << 20, Max: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	n := 0
	commit := func() error {
		_, err := e.Commit(t.Context(), storage.Op{Key: fmt.Sprintf("/k%d", n), Value: make([]byte, 50_000)})
		return err
	}
	err := commit()
	for ; err == nil && n < 1000; err = commit() {
		n++
	}
	fmt.Printf("acknowledged %d\n", n)
	if !errors.Is(err, storage.ErrUnknownOutcome) && !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("first failure: %v", err)
	}
	t.Log(err)
	if err := commit(); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("next commit: %v", err)
	} else {
		t.Log(err)
	}
	if _, _, err := e.Get(t.Context(), "/k3", storage.Latest); err != nil {
		t.Errorf("read: %v", err)
	}
}
