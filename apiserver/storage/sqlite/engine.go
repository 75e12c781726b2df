// Package sqlite is the embedded storage engine: one SQLite file, owned by one API server.
//
// The file has one table that only grows until it is compacted: log, one row for each change of a key, by revision and
// position in the commit. Which row is whose newest, or was at some revision, is known from an index in memory that is read
// from the log when the store is opened (about 100 bytes a key; a million rows take about a second). So a commit appends to
// the right edge of one B-tree and touches nothing else, and a condition is checked without asking SQLite.
//
// One goroutine writes. It takes all commits that wait, checks and appends them in one transaction, and answers them when
// SQLite has synced the write-ahead log (WAL, synchronous=FULL): commits that come while the disk is busy share the next
// sync. Readers use connections of their own and never wait for the writer. A commit that was answered survives a crash of
// the process and of the host.
//
// A second server on the same file is refused (a lock on <file>.lock); other programs may read the file, for backups.
// A file that is damaged or not a store is refused with ErrCorrupt or ErrForeign and left as it is.
//
//	engine, err := sqlite.Open(ctx, sqlite.Config{Path: "/var/lib/bareboat/state.db", Log: log})
//	defer engine.Close()
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/internal/mvcc"
)

const (
	// recentEvents and recentBytes bound the events that are kept in memory for watchers, which are few (one feed) and
	// quick; one that is slower reads the file.
	recentEvents = 4096
	recentBytes  = 16 << 20
	// queueLength is how many commits wait to be taken by the writer before their callers wait to wait.
	queueLength = 1024
	// readers is how many connections read at a time.
	readers = 4
)

// Config describes a store.
type Config struct {
	// Path of the database file. It is created if it does not exist; its directory is not.
	Path string
	Log  *slog.Logger
}

// Engine implements storage.Engine.
type Engine struct {
	cfg    Config
	lock   *os.File
	reader *sql.DB
	byID   *sql.Stmt
	writer *writer

	requests chan *request
	// closing is closed when Close is called, written when the writer has answered its last request.
	closing, written chan struct{}
	closed           sync.WaitGroup
	once             sync.Once
	closeErr         error
	// compacting is a mutex that a context can give up waiting for.
	compacting chan struct{}

	mu    sync.RWMutex
	index *mvcc.Index[struct{}]
	log   *mvcc.Log
	// visible is the newest revision that is durable; the index may hold newer ones that are on their way.
	visible   storage.Revision
	compacted storage.Revision
	// unwanted are rows that have left the index and are still to be removed from the file.
	unwanted []int64
}

var _ storage.Engine = (*Engine)(nil)

// Open opens or creates the store. It fails with a sentence that says what to do if the file is locked (ErrLocked), damaged
// (ErrCorrupt) or something else (ErrForeign).
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	lock, err := lockFile(cfg.Path)
	if err != nil {
		return nil, explain(cfg.Path, err)
	}
	e := &Engine{cfg: cfg, lock: lock, index: mvcc.NewIndex[struct{}](), requests: make(chan *request, queueLength),
		closing: make(chan struct{}), written: make(chan struct{}), compacting: make(chan struct{}, 1)}
	if err := e.open(ctx); err != nil {
		e.release()
		return nil, explain(cfg.Path, err)
	}
	e.closed.Add(2)
	go e.write()
	go e.checkpoint()
	return e, nil
}

// open opens the connections and reads the index.
func (e *Engine) open(ctx context.Context) (err error) {
	if err = checkHeader(e.cfg.Path); err != nil {
		return err
	}
	if e.writer, err = openWriter(e.cfg.Path); err != nil {
		return err
	}
	// The file's name has to survive a crash as its content does.
	if err = syncDirectory(filepath.Dir(e.cfg.Path)); err != nil {
		return err
	}
	if e.reader, err = openReaders(e.cfg.Path); err != nil {
		return err
	}
	if err = e.load(ctx); err != nil {
		return err
	}
	e.byID, err = e.reader.Prepare("SELECT value FROM log WHERE id = ?")
	return err
}

// release closes what open opened.
func (e *Engine) release() error {
	var errs []error
	if e.byID != nil {
		errs = append(errs, e.byID.Close())
	}
	if e.reader != nil {
		errs = append(errs, e.reader.Close())
	}
	if e.writer != nil {
		errs = append(errs, e.writer.close())
	}
	return errors.Join(append(errs, e.lock.Close())...)
}

// Close implements storage.Engine.
func (e *Engine) Close() error {
	e.once.Do(func() {
		close(e.closing)
		e.log.Close()
		e.closed.Wait()
		e.mu.Lock()
		defer e.mu.Unlock()
		e.closeErr = e.release()
	})
	return e.closeErr
}

// rowID is where a version is in the log: the revision and, in the low bits, the position in the commit (MaxOps are 128).
func rowID(rev storage.Revision, seq uint8) int64 { return int64(rev)<<8 | int64(seq) }

func revisionOf(id int64) storage.Revision { return storage.Revision(id >> 8) }

// readableLocked resolves the revision of a read.
func (e *Engine) readableLocked(ctx context.Context, at storage.Revision) (storage.Revision, error) {
	select {
	case <-e.closing:
		return 0, storage.ErrClosed
	default:
	}
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case at == storage.Latest:
		return e.visible, nil
	case at > e.visible:
		return 0, fmt.Errorf("%w: %d, the newest is %d", storage.ErrFuture, at, e.visible)
	case at < e.compacted:
		return 0, fmt.Errorf("%w: %d, the oldest is %d", storage.ErrCompacted, at, e.compacted)
	}
	return at, nil
}

// Current implements storage.Engine.
func (e *Engine) Current(ctx context.Context) (storage.Revision, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.readableLocked(ctx, storage.Latest)
}

// Watch implements storage.Engine.
func (e *Engine) Watch(ctx context.Context, prefix string, from storage.Revision) (storage.Watcher, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if _, err := e.readableLocked(ctx, storage.Latest); err != nil {
		return nil, err
	}
	w, err := e.log.Watch(prefix, from, e.older)
	if err != nil {
		return nil, err
	}
	return w, nil
}
