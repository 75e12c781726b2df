package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	sqlite3 "github.com/mattn/go-sqlite3"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/internal/mvcc"
)

const (
	// groupRequests and groupBytes bound one transaction, so that a flood of commits is answered in steps of a few
	// milliseconds.
	groupRequests = 512
	groupBytes    = 8 << 20
	// rowsPerInsert is how many rows one execution of an INSERT appends; it saves crossings into C.
	rowsPerInsert = 16
)

// request is a commit, or a step of a compaction, on its way through the writer.
type request struct {
	ops []storage.Op
	// delete are rows to remove; compacted, if not 0, is the compaction to note.
	delete    []int64
	compacted storage.Revision

	rev      storage.Revision
	conflict *conflict
	err      error
	done     chan struct{}
}

// conflict is the first op whose condition did not hold, and the key's version.
type conflict struct {
	key     string
	version mvcc.Version[struct{}]
	exists  bool
}

// Commit implements storage.Engine.
func (e *Engine) Commit(ctx context.Context, ops ...storage.Op) (storage.Revision, error) {
	if err := storage.Validate(ops); err != nil {
		return 0, err
	}
	r := &request{ops: ops, done: make(chan struct{})}
	if err := e.submit(ctx, r); err != nil {
		return 0, err
	}
	if r.conflict != nil {
		return 0, e.conflictError(ctx, r.conflict)
	}
	return r.rev, r.err
}

// submit hands a request to the writer and waits for its outcome.
func (e *Engine) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-e.closing:
		return storage.ErrClosed
	default:
	}
	select {
	case e.requests <- r:
	case <-e.closing:
		return storage.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.done:
		return nil
	case <-e.written:
		select {
		case <-r.done:
			return nil
		default:
			return storage.ErrClosed
		}
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", storage.ErrUnknownOutcome, ctx.Err())
	}
}

// conflictError fetches the entry that a commit conflicted with. If it has been compacted away since, the key's newest
// entry stands in for it.
func (e *Engine) conflictError(ctx context.Context, c *conflict) error {
	if !c.exists {
		return &storage.ConflictError{Key: c.key}
	}
	value, err := e.value(ctx, c.version)
	if err == nil {
		entry := found{c.key, c.version}.entry(value)
		return &storage.ConflictError{Key: c.key, Current: &entry}
	}
	if !errors.Is(err, errGone) {
		return err
	}
	entry, _, err := e.Get(ctx, c.key, storage.Latest)
	if errors.Is(err, storage.ErrNotFound) {
		return &storage.ConflictError{Key: c.key}
	}
	if err != nil {
		return err
	}
	return &storage.ConflictError{Key: c.key, Current: &entry}
}

// write is the goroutine that commits.
func (e *Engine) write() {
	defer e.closed.Done()
	defer close(e.written)
	for {
		select {
		case <-e.closing:
			return
		default:
		}
		select {
		case r := <-e.requests:
			e.group(e.gather(r))
		case <-e.closing:
			return
		}
	}
}

// gather takes what else waits. When nothing does it lets other goroutines run and looks again, as long as that brings
// something: those that the last group has just answered are about to commit again, and a sync costs more than the look.
func (e *Engine) gather(first *request) []*request {
	group, bytes, looked := []*request{first}, 0, 0
	for len(group) < groupRequests && bytes < groupBytes {
		select {
		case r := <-e.requests:
			group = append(group, r)
			for _, op := range r.ops {
				bytes += len(op.Value)
			}
			continue
		default:
		}
		if looked == len(group) {
			break
		}
		looked = len(group)
		runtime.Gosched()
	}
	return group
}

// group decides and commits some requests in one transaction and answers them.
func (e *Engine) group(group []*request) {
	events, rev := e.decide(group)
	err := e.writer.commit(events, group)
	e.mu.Lock()
	if err != nil {
		for _, event := range events {
			e.index.Rollback(event.Entry.Key, e.visible)
		}
	} else {
		e.visible = rev
		for _, r := range group {
			if r.compacted > e.compacted {
				e.compacted = r.compacted
				e.log.Compact(r.compacted)
			}
		}
		if len(events) > 0 {
			e.log.Append(rev, events)
		}
	}
	e.mu.Unlock()
	for _, r := range group {
		if err != nil {
			r.err, r.conflict = e.writeError(err), nil
		}
		close(r.done)
	}
}

// decide checks the conditions of each request, in order, and enters those that hold into the index, where they stay
// invisible until they are durable.
func (e *Engine) decide(group []*request) (events []storage.Event, rev storage.Revision) {
	e.mu.Lock()
	defer e.mu.Unlock()
	rev = e.visible
	for _, r := range group {
		if op, v, exists := e.index.Failing(r.ops, rev); op != nil {
			r.conflict = &conflict{key: op.Key, version: v, exists: exists}
			continue
		}
		if mvcc.Changes(r.ops) {
			rev++
			events = e.index.Apply(rev, r.ops, func([]byte) struct{} { return struct{}{} }, events)
		}
		r.rev = rev
	}
	return events, rev
}

// writeError says what a failed transaction means to those who wait for it.
func (e *Engine) writeError(err error) error {
	switch {
	case errors.Is(err, errFailed):
		return fmt.Errorf("%w: an earlier write to %s failed and nothing is written any more: check the disk, then restart the server", storage.ErrUnavailable, e.cfg.Path)
	case diskFull(err):
		return fmt.Errorf("%w: no space left for %s: free some on its disk: %w", storage.ErrUnavailable, e.cfg.Path, err)
	case errors.Is(err, storage.ErrUnknownOutcome):
		return fmt.Errorf("write %s: %w", e.cfg.Path, err)
	}
	return fmt.Errorf("%w: write %s: %w", storage.ErrUnavailable, e.cfg.Path, err)
}

// errFailed is what a writer says after the disk has failed it.
var errFailed = errors.New("writer has failed")

// writer is the connection that commits. Only the engine's goroutine uses it.
type writer struct {
	conn                   *sqlite3.SQLiteConn
	begin, commitStmt      driver.Stmt
	rollback               driver.Stmt
	insertOne, insertMany  driver.Stmt
	deleteRows, setCompact driver.Stmt
	args                   []driver.NamedValue
	failed                 bool
	// written estimates the bytes in the write-ahead log since a checkpoint was last asked for.
	written atomic.Int64
	// due tells the checkpointer that there is work.
	due chan struct{}
}

func openWriter(path string) (*writer, error) {
	conn, err := connect(path)
	if err != nil {
		return nil, err
	}
	w := &writer{conn: conn, due: make(chan struct{}, 1)}
	if err := w.prepare(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return w, nil
}

func (w *writer) prepare() error {
	if err := prepare(w.conn); err != nil {
		return err
	}
	many := "INSERT INTO log VALUES (?,?,?,?)"
	for range rowsPerInsert - 1 {
		many += ",(?,?,?,?)"
	}
	for text, stmt := range map[string]*driver.Stmt{
		"BEGIN IMMEDIATE":                  &w.begin,
		"COMMIT":                           &w.commitStmt,
		"ROLLBACK":                         &w.rollback,
		"INSERT INTO log VALUES (?,?,?,?)": &w.insertOne,
		many:                               &w.insertMany,
		"DELETE FROM log WHERE id = ?":     &w.deleteRows,
		"UPDATE meta SET value = max(value, ?) WHERE name = 'compacted'": &w.setCompact,
	} {
		var err error
		if *stmt, err = w.conn.Prepare(text); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) close() error {
	var errs []error
	for _, s := range []driver.Stmt{w.begin, w.commitStmt, w.rollback, w.insertOne, w.insertMany, w.deleteRows, w.setCompact} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// run executes a prepared statement with w.args.
func (w *writer) run(s driver.Stmt) error {
	_, err := s.(driver.StmtExecContext).ExecContext(context.Background(), w.args)
	w.args = w.args[:0]
	return err
}

func (w *writer) arg(v driver.Value) {
	w.args = append(w.args, driver.NamedValue{Ordinal: len(w.args) + 1, Value: v})
}

// commit makes events, and what the group's compactions want, durable in one transaction, or nothing of it.
func (w *writer) commit(events []storage.Event, group []*request) error {
	if w.failed {
		return errFailed
	}
	if len(events) == 0 && !housekeeping(group) {
		return nil
	}
	if err := w.run(w.begin); err != nil {
		return err
	}
	err := w.append(events)
	for _, r := range group {
		if err == nil {
			err = w.clean(r)
		}
	}
	if err != nil {
		return w.undo(err)
	}
	if err := w.run(w.commitStmt); err != nil {
		return w.uncertain(w.undo(err))
	}
	w.checkpointSometimes(events)
	return nil
}

func housekeeping(group []*request) bool {
	for _, r := range group {
		if r.compacted > 0 || len(r.delete) > 0 {
			return true
		}
	}
	return false
}

// undo rolls back, if SQLite has not done it itself.
func (w *writer) undo(err error) error {
	if !w.conn.AutoCommit() {
		if undo := w.run(w.rollback); undo != nil {
			w.failed = true
		}
	}
	return err
}

// uncertain judges a failed COMMIT. Without space or a lock nothing has happened. After any other failure, above all of
// the sync, nobody can say what is on the disk, and the kernel may have dropped what it could not write: a later sync that
// succeeds proves nothing. So the writer stops, and what the file holds is found out when it is opened again.
func (w *writer) uncertain(err error) error {
	var se sqlite3.Error
	if diskFull(err) || errors.As(err, &se) && (se.Code == sqlite3.ErrBusy || se.Code == sqlite3.ErrLocked) {
		return err
	}
	w.failed = true
	return fmt.Errorf("%w: %w", storage.ErrUnknownOutcome, err)
}

// append inserts the rows of events.
func (w *writer) append(events []storage.Event) error {
	rev, seq := storage.Revision(0), uint8(0)
	for len(events) > 0 {
		n, stmt := 1, w.insertOne
		if len(events) >= rowsPerInsert {
			n, stmt = rowsPerInsert, w.insertMany
		}
		for _, event := range events[:n] {
			if event.Entry.Modified != rev {
				rev, seq = event.Entry.Modified, 0
			}
			w.row(event, seq)
			seq++
		}
		if err := w.run(stmt); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// row adds the columns of one row.
func (w *writer) row(event storage.Event, seq uint8) {
	e := event.Entry
	w.arg(rowID(e.Modified, seq))
	w.arg(e.Key)
	w.arg(int64(e.Created))
	switch {
	case event.Type == storage.DeleteEvent:
		w.arg(nil)
	case e.Value == nil:
		w.arg([]byte{})
	default:
		w.arg(e.Value)
	}
}

// clean does the compaction's part of a request.
func (w *writer) clean(r *request) error {
	if r.compacted > 0 {
		w.arg(int64(r.compacted))
		if err := w.run(w.setCompact); err != nil {
			return err
		}
	}
	for _, id := range r.delete {
		w.arg(id)
		if err := w.run(w.deleteRows); err != nil {
			return err
		}
	}
	return nil
}
