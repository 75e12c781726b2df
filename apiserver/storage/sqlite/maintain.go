package sqlite

import (
	"context"
	"database/sql/driver"
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
		if _, left, err := checkpoint(w.conn, "RESTART"); err == nil && left == 0 {
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
			size, _, err := checkpoint(conn, "PASSIVE")
			if err != nil {
				e.cfg.Log.Warn("checkpoint of the database failed", "file", e.cfg.Path, "error", explain(e.cfg.Path, err))
				continue
			}
			// What the writer has only estimated is known now.
			e.writer.written.Store(size)
		case <-e.closing:
			return
		}
	}
}

// checkpoint copies the write-ahead log. It returns how large the log is and how much of it could not be copied yet.
func checkpoint(c *sqlite3.SQLiteConn, mode string) (size, left int64, err error) {
	rows, err := c.Query("PRAGMA wal_checkpoint("+mode+")", nil)
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	// Whether it was kept from finishing, the pages in the log, those of them that were copied.
	v := make([]driver.Value, 3)
	if err := rows.Next(v); err != nil {
		return 0, 0, err
	}
	pages, _ := v[1].(int64)
	copied, _ := v[2].(int64)
	if left = (pages - copied) * pageSize; v[0] != int64(0) {
		left = max(left, 1)
	}
	return pages * pageSize, left, nil
}
