package sqlite_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/sqlite"
	"bareboat.dev/apiserver/storage/storagetest"
)

func TestMain(m *testing.M) {
	// database/sql keeps one goroutine for each pool until it is closed, which the engine does.
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, path string) *sqlite.Engine {
	t.Helper()
	e, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// The SQLite engine keeps the storage contract.
func TestConformance(t *testing.T) {
	paths := map[storage.Engine]string{}
	storagetest.Run(t, storagetest.Setup{
		New: func(t testing.TB) storage.Engine {
			path := filepath.Join(t.TempDir(), "state.db")
			e := open(t, path)
			paths[e] = path
			return e
		},
		Reopen: func(t testing.TB, e storage.Engine) storage.Engine {
			path := paths[e]
			e.Close()
			again := open(t, path)
			paths[again] = path
			return again
		},
	})
}
