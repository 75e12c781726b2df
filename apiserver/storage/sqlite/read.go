package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/internal/mvcc"
)

const (
	// rowsAtOnce is how many rows one query fetches for a list: its ids are 10 KiB of JSON.
	rowsAtOnce = 512
	// olderRows is how many events a watcher that is behind reads from the file at a time.
	olderRows = 512
)

// found is a version that a read has to fetch the value of.
type found struct {
	key string
	v   mvcc.Version[struct{}]
}

func (f found) entry(value []byte) storage.Entry {
	return storage.Entry{Key: f.key, Value: value, Created: f.v.Created, Modified: f.v.Modified}
}

// errGone means that a row was compacted away between looking it up and reading it.
var errGone = errors.New("row is gone")

// Get implements storage.Engine.
func (e *Engine) Get(ctx context.Context, key string, at storage.Revision) (storage.Entry, storage.Revision, error) {
	for {
		e.mu.RLock()
		rev, err := e.readableLocked(ctx, at)
		v, ok := e.index.At(key, rev)
		e.mu.RUnlock()
		if err != nil {
			return storage.Entry{}, 0, err
		}
		if !ok {
			return storage.Entry{}, rev, fmt.Errorf("%s: %w", key, storage.ErrNotFound)
		}
		value, err := e.value(ctx, v)
		if errors.Is(err, errGone) {
			// The next look sees the compaction: ErrCompacted, or a newer version.
			continue
		}
		if err != nil {
			return storage.Entry{}, 0, err
		}
		return found{key, v}.entry(value), rev, nil
	}
}

// value reads the value of one version.
func (e *Engine) value(ctx context.Context, v mvcc.Version[struct{}]) ([]byte, error) {
	value := []byte{}
	err := e.byID.QueryRowContext(ctx, rowID(v.Modified, v.Seq)).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errGone
	}
	return value, e.readError(ctx, err)
}

// readError says what became of a read.
func (e *Engine) readError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case <-e.closing:
		return storage.ErrClosed
	default:
	}
	return fmt.Errorf("%w: read %s: %w", storage.ErrUnavailable, e.cfg.Path, err)
}

// List implements storage.Engine.
func (e *Engine) List(ctx context.Context, prefix string, opts storage.ListOptions) (storage.ListResult, error) {
	for {
		e.mu.RLock()
		rev, err := e.readableLocked(ctx, opts.Revision)
		if err != nil {
			e.mu.RUnlock()
			return storage.ListResult{}, err
		}
		result := storage.ListResult{Revision: rev}
		var wanted []found
		e.index.Ascend(prefix, opts.After, rev, func(key string, v mvcc.Version[struct{}]) bool {
			if opts.Limit > 0 && len(wanted) == opts.Limit {
				result.More = true
				return false
			}
			wanted = append(wanted, found{key, v})
			return true
		})
		e.mu.RUnlock()
		result.Entries, err = e.fetch(ctx, wanted)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return storage.ListResult{}, err
		}
		return result, nil
	}
}

// fetch reads the values of versions.
func (e *Engine) fetch(ctx context.Context, wanted []found) ([]storage.Entry, error) {
	entries := make([]storage.Entry, 0, len(wanted))
	values := make(map[int64][]byte, min(len(wanted), rowsAtOnce))
	for len(wanted) > 0 {
		some := wanted[:min(rowsAtOnce, len(wanted))]
		wanted = wanted[len(some):]
		clear(values)
		if err := e.fetchValues(ctx, some, values); err != nil {
			return nil, e.readError(ctx, err)
		}
		for _, f := range some {
			value, ok := values[rowID(f.v.Modified, f.v.Seq)]
			if !ok {
				return nil, errGone
			}
			entries = append(entries, f.entry(value))
		}
	}
	return entries, nil
}

func (e *Engine) fetchValues(ctx context.Context, wanted []found, values map[int64][]byte) error {
	ids := make([]int64, len(wanted))
	for i, f := range wanted {
		ids[i] = rowID(f.v.Modified, f.v.Seq)
	}
	text, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	rows, err := e.reader.QueryContext(ctx, "SELECT id, value FROM log WHERE id IN (SELECT value FROM json_each(?))", string(text))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		value := []byte{}
		if err := rows.Scan(&id, &value); err != nil {
			return err
		}
		values[id] = value
	}
	return rows.Err()
}

// Count implements storage.Engine.
func (e *Engine) Count(ctx context.Context, prefix string) (int64, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	at, err := e.readableLocked(ctx, storage.Latest)
	if err != nil {
		return 0, err
	}
	var n int64
	e.index.Ascend(prefix, "", at, func(string, mvcc.Version[struct{}]) bool { n++; return true })
	return n, nil
}

// older reads events for a watcher that is behind what is kept in memory.
func (e *Engine) older(ctx context.Context, prefix string, from, upTo storage.Revision) ([]storage.Event, storage.Revision, error) {
	events, reached, err := e.readLog(ctx, prefix, from, upTo)
	if err != nil {
		return nil, 0, e.readError(ctx, err)
	}
	// Rows that a compaction has dropped meanwhile may be missing from what was read.
	e.mu.RLock()
	defer e.mu.RUnlock()
	if from < e.compacted {
		return nil, 0, storage.ErrCompacted
	}
	return events, reached, nil
}

// readLog reads whole revisions after from, up to upTo or until there are enough.
func (e *Engine) readLog(ctx context.Context, prefix string, from, upTo storage.Revision) ([]storage.Event, storage.Revision, error) {
	rows, err := e.reader.QueryContext(ctx, "SELECT id, key, created, value FROM log WHERE id >= ? AND id < ? ORDER BY id",
		rowID(from+1, 0), rowID(upTo+1, 0))
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	var events []storage.Event
	read, last := 0, from
	for rows.Next() {
		var id int64
		event := storage.Event{}
		if err := rows.Scan(&id, &event.Entry.Key, &event.Entry.Created, &event.Entry.Value); err != nil {
			return nil, 0, err
		}
		event.Entry.Modified = revisionOf(id)
		if read >= olderRows && event.Entry.Modified != last {
			return events, last, nil
		}
		read, last = read+1, event.Entry.Modified
		if len(event.Entry.Key) < len(prefix) || event.Entry.Key[:len(prefix)] != prefix {
			continue
		}
		if event.Entry.Value == nil {
			event.Type, event.Entry.Created = storage.DeleteEvent, 0
		}
		events = append(events, event)
	}
	return events, upTo, rows.Err()
}
