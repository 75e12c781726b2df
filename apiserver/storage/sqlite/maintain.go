package sqlite

import (
	"context"
	"fmt"

	sqlite3 "github.com/mattn/go-sqlite3"

	"bareboat.dev/apiserver/storage"
)

const (
	// compactRows is how many rows one transaction of a compaction removes: about as much work as one group of commits, so
	// that these hardly wait.
	compactRows = 256
	// checkpointBytes is how much is written before the write-ahead log is copied into the database, in the background.
	checkpointBytes = 8 << 20
	// rowOverhead estimates what a row costs beside its value.
	rowOverhead = 128
)

// Compact implements storage.Engine. First the revision is noted, durably; from then on reads before it fail. Then rows are
// removed in small transactions between commits. If ctx ends or the process dies in the middle, the next compaction
// removes the rest.
func (e *Engine) Compact(ctx context.Context, before storage.Revision) error {
	select {
	case e.compacting <- struct{}{}:
		defer func() { <-e.compacting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	e.mu.RLock()
	current, err := e.readableLocked(ctx, storage.Latest)
	done := before <= e.compacted
	e.mu.RUnlock()
	if err != nil {
		return err
	}
	if before > current {
		return fmt.Errorf("%w: %d, the newest is %d", storage.ErrFuture, before, current)
	}
	if !done {
		if err := e.maintain(ctx, &request{compacted: before}); err != nil {
			return err
		}
	}
	for more := true; more; {
		if more, err = e.compactStep(ctx, before); err != nil {
			return err
		}
	}
	return nil
}

// maintain has the writer do a piece of housekeeping.
func (e *Engine) maintain(ctx context.Context, r *request) error {
	r.done = make(chan struct{})
	if err := e.submit(ctx, r); err != nil {
		return err
	}
	return r.err
}

// compactStep removes some rows and reports whether there are more. What leaves the index but cannot be removed from the
// file is kept for the next step.
func (e *Engine) compactStep(ctx context.Context, before storage.Revision) (more bool, err error) {
	e.mu.Lock()
	if len(e.unwanted) == 0 {
		dropped, done := e.index.Compact(min(before, e.compacted), compactRows)
		for _, d := range dropped {
			e.unwanted = append(e.unwanted, rowID(d.Version.Modified, d.Version.Seq))
		}
		more = !done
	} else {
		more = true
	}
	ids := e.unwanted
	e.mu.Unlock()
	if len(ids) == 0 {
		return more, nil
	}
	// The ids are removed from the list only when their rows are gone. A step whose outcome is unknown is done again: it
	// then finds no rows, and that is no error.
	if err := e.maintain(ctx, &request{delete: ids}); err != nil {
		return false, err
	}
	e.mu.Lock()
	e.unwanted = nil
	e.mu.Unlock()
	return more, nil
}

// checkpointSometimes tells the checkpointer that there is work. If it does not keep up, since commits never pause, the
// writer waits for a complete checkpoint, so that the write-ahead log begins anew and its size is bounded.
func (w *writer) checkpointSometimes(events []storage.Event) {
	bytes := int64(0)
	for _, event := range events {
		bytes += int64(len(event.Entry.Key)+len(event.Entry.Value)) + rowOverhead
	}
	before := w.written.Load()
	now := w.written.Add(bytes)
	if now/checkpointBytes > before/checkpointBytes {
		select {
		case w.due <- struct{}{}:
		default:
		}
	}
	if now > walLimit {
		// It is copied by then but for the last few megabytes. A reader that is in the way is tried again later.
		if busy, err := checkpoint(w.conn, "RESTART"); err == nil && !busy {
			w.written.Store(0)
		} else {
			w.written.Store(walLimit - checkpointBytes)
		}
	}
}

// checkpoint is the goroutine that copies the write-ahead log into the database, on a connection of its own. A failure
// loses nothing, since the log is kept; it is tried again after the next checkpointBytes.
func (e *Engine) checkpoint() {
	defer e.closed.Done()
	conn, err := connect(e.cfg.Path)
	if err != nil {
		e.cfg.Log.Error("no checkpoints of the database in the background", "file", e.cfg.Path, "error", err)
		return
	}
	defer conn.Close()
	for {
		select {
		case <-e.writer.due:
			if _, err := checkpoint(conn, "PASSIVE"); err != nil {
				e.cfg.Log.Warn("checkpoint of the database failed", "file", e.cfg.Path, "error", explain(e.cfg.Path, err))
			}
		case <-e.closing:
			return
		}
	}
}

// checkpoint reports busy if a reader kept it from finishing.
func checkpoint(c *sqlite3.SQLiteConn, mode string) (busy bool, err error) {
	n, err := scalar(c, "PRAGMA wal_checkpoint("+mode+")")
	return n != 0, err
}
