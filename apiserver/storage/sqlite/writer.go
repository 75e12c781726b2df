package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"

	sqlite3 "github.com/mattn/go-sqlite3"

	"bareboat.dev/apiserver/storage"
)

// rowsPerInsert is how many rows one execution of an INSERT appends; it saves crossings into C.
const rowsPerInsert = 16

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
