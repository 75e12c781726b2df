package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"bareboat.dev/apiserver/storage"
)

// The write-ahead log stays bounded while commits never pause.
func TestWriteAheadLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	e := open(t, path)
	value := make([]byte, 50_000)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 250 { // 200 MB together
				if _, err := e.Commit(context.Background(), storage.Op{Key: fmt.Sprintf("/%d", i), Value: value}); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	// 64 MiB are the limit; as much again covers what is written while a checkpoint catches up.
	if info.Size() > 128<<20 {
		t.Errorf("write-ahead log of %d MiB", info.Size()>>20)
	}
	t.Logf("%d MiB", info.Size()>>20)
}
