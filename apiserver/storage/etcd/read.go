package etcd

import (
	"context"
	"fmt"
	"iter"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bareboat.dev/apiserver/storage"
)

// Get implements storage.Engine.
func (e *Engine) Get(ctx context.Context, key string, at storage.Revision) (storage.Entry, storage.Revision, error) {
	call, cancel := e.bound(ctx)
	defer cancel()
	main := int64(0)
	if at != storage.Latest {
		main, _ = split(at)
	}
	r, err := e.client.Get(call, key, clientv3.WithRev(main))
	if err == nil && at != storage.Latest && main != base(at) && (len(r.Kvs) == 0 || entry(r.Kvs[0]).Modified > at) {
		// The transaction was not through: what it had not yet put is as it was before.
		r, err = e.client.Get(call, key, clientv3.WithRev(base(at)))
	}
	if err != nil {
		return storage.Entry{}, 0, e.failure(ctx, err)
	}
	if at == storage.Latest {
		at = whole(r.Header.Revision)
	}
	if len(r.Kvs) == 0 {
		return storage.Entry{}, at, fmt.Errorf("%s: %w", key, storage.ErrNotFound)
	}
	return entry(r.Kvs[0]), at, nil
}

// List implements storage.Engine.
func (e *Engine) List(ctx context.Context, prefix string, opts storage.ListOptions) (storage.ListResult, error) {
	call, cancel := e.bound(ctx)
	defer cancel()
	result := storage.ListResult{Revision: opts.Revision}
	main := int64(0)
	if opts.Revision != storage.Latest {
		main, _ = split(opts.Revision)
	}
	newest := &scan{engine: e, ctx: call, prefix: prefix, after: opts.After, main: main, limit: opts.Limit}
	entries := newest.entries()
	if opts.Revision != storage.Latest && main != base(opts.Revision) {
		before := &scan{engine: e, ctx: call, prefix: prefix, after: opts.After, main: base(opts.Revision), limit: opts.Limit}
		entries = overlay(before.entries(), entries, opts.Revision)
	}
	for entry, err := range entries {
		if err != nil {
			return storage.ListResult{}, e.failure(ctx, err)
		}
		if opts.Limit > 0 && len(result.Entries) == opts.Limit {
			result.More = true
			break
		}
		result.Entries = append(result.Entries, entry)
	}
	if result.Revision == storage.Latest {
		result.Revision = whole(newest.main)
	}
	return result, nil
}

// scan reads a range of one snapshot, page by page.
type scan struct {
	engine        *Engine
	ctx           context.Context
	prefix, after string
	// main is etcd's revision; if it is 0 the first page's becomes that of the others.
	main int64
	// limit is how many entries are wanted, and one more to know that there are more; 0 means all.
	limit int
}

// entries yields the entries in the order of their keys.
func (s *scan) entries() iter.Seq2[storage.Entry, error] {
	from, end := s.prefix, clientv3.GetPrefixRangeEnd(s.prefix)
	if s.prefix == "" {
		from, end = "\x00", "\x00"
	}
	if s.after != "" {
		from = max(from, s.after+"\x00")
	}
	return func(yield func(storage.Entry, error) bool) {
		if end != "\x00" && from >= end {
			// etcd takes an empty range for a mistake; the revision is still wanted, and whether it exists.
			if _, err := s.page("\x00", clientv3.WithRange("\x00"), clientv3.WithCountOnly()); err != nil {
				yield(storage.Entry{}, err)
			}
			return
		}
		for more := true; more; {
			limit := pageKeys
			if s.limit > 0 {
				limit = min(limit, s.limit+1)
			}
			r, err := s.page(from, clientv3.WithRange(end), clientv3.WithLimit(int64(limit)))
			if err != nil {
				yield(storage.Entry{}, err)
				return
			}
			for _, kv := range r.Kvs {
				if !yield(entry(kv), nil) {
					return
				}
			}
			if more = r.More && len(r.Kvs) > 0; more {
				from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
			}
		}
	}
}

func (s *scan) page(from string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	r, err := s.engine.client.Get(s.ctx, from, append(opts, clientv3.WithRev(s.main))...)
	if err == nil && s.main == 0 {
		s.main = r.Header.Revision
	}
	return r, err
}

// overlay yields the state at a revision in the middle of a transaction: what was there before it, and what it had put by then.
// A transaction that has more than one place deletes nothing.
func overlay(before, after iter.Seq2[storage.Entry, error], at storage.Revision) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		next, stop := iter.Pull2(after)
		defer stop()
		b, err, more := next()
		for a, failed := range before {
			for ; more && err == nil && failed == nil && b.Key < a.Key; b, err, more = next() {
				if b.Modified <= at && !yield(b, nil) {
					return
				}
			}
			if err != nil {
				failed = err
			}
			if more && failed == nil && b.Key == a.Key {
				if b.Modified <= at {
					a = b
				}
				b, err, more = next()
			}
			if !yield(a, failed) || failed != nil {
				return
			}
		}
		for ; more; b, err, more = next() {
			if (err != nil || b.Modified <= at) && !yield(b, err) || err != nil {
				return
			}
		}
	}
}
