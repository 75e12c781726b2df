package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"bareboat.dev/apiserver/storage"
)

const (
	clients   = 64
	valueSize = 1024
)

// parallel runs fn n times on 64 goroutines.
func parallel(b *testing.B, n int, fn func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := fn(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
}

// Durable commits a second of 64 writers, against plain SQLite inserts in transactions of 64 rows and against fdatasync
// alone, in alternation.
func BenchmarkCommit(b *testing.B) {
	value := bytes.Repeat([]byte("v"), valueSize)
	e := open(b, filepath.Join(b.TempDir(), "state.db"))
	raw := rawTable(b)
	const round = 6400
	var engineTime, rawTime, syncTime time.Duration
	commits, syncs := 0, 0
	for b.Loop() {
		start := time.Now()
		parallel(b, round, func(i int) error {
			_, err := e.Commit(context.Background(), storage.Op{Key: fmt.Sprintf("/registry/pods/default/p%d", i), Value: value})
			return err
		})
		engineTime += time.Since(start)
		start = time.Now()
		rawInserts(b, raw, round, value)
		rawTime += time.Since(start)
		commits += round
		n, took := rawSyncs(b, value)
		syncs += n
		syncTime += took
	}
	perSecond := func(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }
	b.ReportMetric(perSecond(commits, engineTime), "commits/s")
	b.ReportMetric(perSecond(commits, rawTime), "raw-inserts/s")
	b.ReportMetric(perSecond(syncs, syncTime), "fdatasyncs/s")
	b.ReportMetric(rawTime.Seconds()/engineTime.Seconds(), "of-raw")
	b.ReportMetric(0, "ns/op")
}

// rawTable is what SQLite does without an engine: the same durability, one table.
func rawTable(b *testing.B) *sql.DB {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(b.TempDir(), "raw.db")+"?_journal_mode=WAL&_synchronous=FULL")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	if _, err := db.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY, key TEXT, value BLOB)"); err != nil {
		b.Fatal(err)
	}
	return db
}

func rawInserts(b *testing.B, db *sql.DB, n int, value []byte) {
	for done := 0; done < n; done += clients {
		tx, err := db.Begin()
		if err != nil {
			b.Fatal(err)
		}
		stmt, err := tx.Prepare("INSERT INTO t (key, value) VALUES (?, ?)")
		if err != nil {
			b.Fatal(err)
		}
		for i := range clients {
			if _, err := stmt.Exec(fmt.Sprintf("/registry/pods/default/p%d", done+i), value); err != nil {
				b.Fatal(err)
			}
		}
		stmt.Close()
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

// rawSyncs appends to a file and syncs it, as often as makes sense here.
func rawSyncs(b *testing.B, value []byte) (int, time.Duration) {
	f, err := os.Create(filepath.Join(b.TempDir(), "sync"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const n = 50
	start := time.Now()
	for range n {
		if _, err := f.Write(value); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return n, time.Since(start)
}
