package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/internal/mvcc"
)

var (
	// ErrLocked means that another process has the store open.
	ErrLocked = errors.New("database is in use by another server")
	// ErrCorrupt means that the file is damaged.
	ErrCorrupt = errors.New("database is damaged")
	// ErrForeign means that the file is a database, but not a store, or one of a newer release.
	ErrForeign = errors.New("database was not written by this program")
)

const (
	// applicationID marks the file as ours: "BARE".
	applicationID = 0x42415245
	// schemaVersion is kept as user_version; a release that changes the tables raises it and converts older ones.
	schemaVersion = 1
	header        = "SQLite format 3\x00"
	// pageSize lets two or three objects of the usual 2 to 5 KiB share a page and most others fit one without a chain of
	// overflow pages. It is set when the file is made.
	pageSize = 16 << 10
	// walLimit is the size that the write-ahead log is cut back to.
	walLimit = 64 << 20
	// busyWait, in milliseconds, is how long a statement waits for another program, such as a backup, to let go.
	busyWait = 5000
)

// schema: value is NULL for a deletion. created is the revision at which the key began to exist.
const schema = `
CREATE TABLE log (id INTEGER PRIMARY KEY, key TEXT NOT NULL, created INTEGER NOT NULL, value BLOB);
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('compacted', 0);
`

// lockFile takes the lock beside the database. It goes with the process.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, err
	}
	return f, nil
}

// checkHeader refuses a file that SQLite would take for an empty or foreign one.
func checkHeader(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, len(header))
	n, err := io.ReadFull(f, b)
	if err == io.EOF {
		return nil
	}
	if err != nil && err != io.ErrUnexpectedEOF {
		return err
	}
	if string(b[:n]) != header {
		return fmt.Errorf("%w: the file does not begin as a SQLite database", ErrCorrupt)
	}
	return nil
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// dsn names the file for the driver.
func dsn(path, options string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + fmt.Sprintf("?_busy_timeout=%d&%s", busyWait, options)
}

// connect opens one connection that is not part of a pool.
func connect(path string) (*sqlite3.SQLiteConn, error) {
	c, err := (&sqlite3.SQLiteDriver{}).Open(dsn(path, ""))
	if err != nil {
		return nil, err
	}
	return c.(*sqlite3.SQLiteConn), nil
}

func openReaders(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite3", dsn(path, "_query_only=1"))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	return db, nil
}

// prepare brings a new file into shape, or checks an old one.
func prepare(c *sqlite3.SQLiteConn) error {
	app, err := pragma(c, "application_id")
	if err != nil {
		return err
	}
	version, err := pragma(c, "user_version")
	if err != nil {
		return err
	}
	tables, err := scalar(c, "SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return err
	}
	fresh := app == 0 && version == 0 && tables == 0
	if !fresh && (app != applicationID || version != schemaVersion) {
		return fmt.Errorf("%w: application %#x, version %d", ErrForeign, app, version)
	}
	if !fresh {
		if err := quickCheck(c); err != nil {
			return err
		}
	}
	if fresh {
		if err := exec(c, fmt.Sprintf("PRAGMA page_size = %d", pageSize)); err != nil {
			return err
		}
	}
	settings := fmt.Sprintf("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = %d;", walLimit)
	if err := exec(c, settings); err != nil {
		return err
	}
	if !fresh {
		return nil
	}
	return exec(c, fmt.Sprintf("BEGIN IMMEDIATE; PRAGMA application_id = %d; PRAGMA user_version = %d; %s COMMIT;", applicationID, schemaVersion, schema))
}

// quickCheck reads the whole file for damage to its structure.
func quickCheck(c *sqlite3.SQLiteConn) error {
	rows, err := c.Query("PRAGMA quick_check(1)", nil)
	if err != nil {
		return err
	}
	defer rows.Close()
	result := make([]driver.Value, 1)
	if err := rows.Next(result); err != nil {
		return err
	}
	if text := fmt.Sprint(result[0]); text != "ok" {
		_, detail, _ := strings.Cut(text, "\n")
		return fmt.Errorf("%w: %s", ErrCorrupt, cmp.Or(detail, text))
	}
	return nil
}

func exec(c *sqlite3.SQLiteConn, statements string) error {
	_, err := c.Exec(statements, nil)
	return err
}

func pragma(c *sqlite3.SQLiteConn, name string) (int64, error) { return scalar(c, "PRAGMA "+name) }

// scalar returns the one integer that a query gives.
func scalar(c *sqlite3.SQLiteConn, query string) (int64, error) {
	rows, err := c.Query(query, nil)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	v := make([]driver.Value, len(rows.Columns()))
	if err := rows.Next(v); err != nil {
		return 0, err
	}
	n, ok := v[0].(int64)
	if !ok {
		return 0, fmt.Errorf("%s: %v is not a number", query, v[0])
	}
	return n, nil
}

// load reads the index.
func (e *Engine) load(ctx context.Context) error {
	if err := e.reader.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = 'compacted'").Scan(&e.compacted); err != nil {
		return err
	}
	rows, err := e.reader.QueryContext(ctx, "SELECT id, key, created, value IS NULL FROM log ORDER BY id")
	if err != nil {
		return err
	}
	defer rows.Close()
	newest := max(mvcc.First, e.compacted)
	for rows.Next() {
		var id int64
		var key string
		v := mvcc.Version[struct{}]{}
		if err := rows.Scan(&id, &key, &v.Created, &v.Deleted); err != nil {
			return err
		}
		v.Modified, v.Seq = revisionOf(id), uint8(id)
		e.index.Append(key, v)
		newest = max(newest, v.Modified)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	e.visible = newest
	e.log = mvcc.NewLog(newest, e.compacted, recentEvents, recentBytes)
	return nil
}

// explain makes what SQLite says about a file into a sentence that says what to do.
func explain(path string, err error) error {
	var se sqlite3.Error
	switch {
	case errors.As(err, &se) && (se.Code == sqlite3.ErrCorrupt || se.Code == sqlite3.ErrNotADB):
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		fallthrough
	case errors.Is(err, ErrCorrupt):
		return fmt.Errorf("database %s: %w; nothing was changed: move the file and its -wal and -shm neighbours away and restore a backup in its place", path, err)
	case errors.Is(err, ErrLocked):
		return fmt.Errorf("database %s: %w: stop that one first, or give this one another file", path, err)
	case errors.Is(err, ErrForeign):
		return fmt.Errorf("database %s: %w; nothing was changed: give the server another file, or a release that knows this one", path, err)
	case diskFull(err):
		return fmt.Errorf("database %s: %w: the disk is full: free some space and try again: %w", path, storage.ErrUnavailable, err)
	}
	return fmt.Errorf("open database %s: %w", path, err)
}

// diskFull reports whether an error is for want of space.
func diskFull(err error) bool {
	var se sqlite3.Error
	if errors.As(err, &se) {
		return se.Code == sqlite3.ErrFull || se.SystemErrno == unix.ENOSPC || se.SystemErrno == unix.EDQUOT
	}
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
