package storagetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"bareboat.dev/apiserver/storage"
)

// counter has goroutines add to one number, each conditionally on what it read.
func counter(s *suite) {
	const workers, adds = 8, 25
	s.commit(put("/n", ""))
	var wg sync.WaitGroup
	for range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; n < adds; {
				e, _, err := s.Get(s.ctx, "/n", storage.Latest)
				if err != nil {
					s.Error(err)
					return
				}
				_, err = s.Commit(s.ctx, when(put("/n", string(e.Value)+"x"), storage.Condition(e.Modified)))
				if err == nil {
					n++
				} else if !errors.Is(err, storage.ErrConflict) {
					s.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	if e, _, err := s.Get(s.ctx, "/n", storage.Latest); err != nil || len(e.Value) != workers*adds {
		s.Errorf("%d additions are left of %d: %v", len(e.Value), workers*adds, err)
	}
}

// attempt is one call of the random history. The call happened at some revision between before and after.
type attempt struct {
	ops           []storage.Op
	before, after storage.Revision
	// at is the revision of a commit, or that a read says it is of.
	at       storage.Revision
	conflict *storage.ConflictError
	// read is what a Get of ops[0].Key returned; nil if the key was absent.
	isRead bool
	read   *storage.Entry
}

// model is the store as the comments of Engine define it, one whole state a revision.
type model struct {
	states map[storage.Revision]map[string]storage.Entry
	revs   []storage.Revision
	stride storage.Revision
}

// at returns the state at a revision.
func (m *model) at(rev storage.Revision) map[string]storage.Entry {
	i, found := slices.BinarySearch(m.revs, rev)
	if !found {
		i--
	}
	return m.states[m.revs[i]]
}

// apply adds the state after a commit; it returns the first op whose condition does not hold.
func (m *model) apply(a attempt) (bad *storage.Op) {
	old := m.states[m.revs[len(m.revs)-1]]
	state := make(map[string]storage.Entry, len(old)+1)
	for k, e := range old {
		state[k] = e
	}
	for i, op := range a.ops {
		e, ok := old[op.Key]
		var current *storage.Entry
		if ok {
			current = &e
		}
		if !op.Holds(current) {
			return &a.ops[i]
		}
		switch op.Type {
		case storage.Put:
			created := a.at
			if ok {
				created = e.Created
			}
			state[op.Key] = storage.Entry{Key: op.Key, Value: op.Value, Created: created, Modified: a.at}
		case storage.Delete:
			delete(state, op.Key)
		}
	}
	m.states[a.at] = state
	m.revs = append(m.revs, a.at)
	return nil
}

// history runs writers, readers and watchers at once and then asks whether one sequence of states, by revision, explains
// everything that they saw.
func history(s *suite) {
	const writers, calls = 6, 60
	start := s.current()
	w := s.watch("/", start)
	var mu sync.Mutex
	var attempts []attempt
	var wg sync.WaitGroup
	for i := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(uint64(i), 7))
			for n := range calls {
				a, ok := s.attempt(rng, fmt.Sprintf("%d.%d", i, n))
				if !ok {
					return
				}
				mu.Lock()
				attempts = append(attempts, a)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	m := s.checkAttempts(start, attempts)
	s.checkEvents(m, w)
	s.checkSnapshots(m)
	s.checkCompactions(m)
}

// attempt makes one random call on few keys, so that conflicts are frequent.
func (s *suite) attempt(rng *rand.Rand, value string) (attempt, bool) {
	a := attempt{before: s.current()}
	key := func(i int) string { return fmt.Sprintf("/k%d", i) }
	if a.isRead = rng.IntN(4) == 0; a.isRead {
		a.ops = []storage.Op{{Type: storage.Check, Key: key(rng.IntN(4))}}
		e, rev, err := s.Get(s.ctx, a.ops[0].Key, storage.Latest)
		if err == nil {
			a.read = &e
		} else if !errors.Is(err, storage.ErrNotFound) {
			s.Error(err)
			return a, false
		}
		a.at = rev
		a.after = s.current()
		return a, true
	}
	first := rng.IntN(4)
	for i := range 1 + rng.IntN(3) {
		op := storage.Op{Type: storage.OpType(rng.IntN(3)), Key: key((first + i) % 4)}
		if op.Type == storage.Put {
			op.Value = []byte(value)
		}
		switch rng.IntN(5) {
		case 0:
			op.If = storage.Absent
		case 1:
			op.If = storage.Present
		case 2:
			if e, _, err := s.Get(s.ctx, op.Key, storage.Latest); err == nil {
				op.If = storage.Condition(e.Modified)
			}
		}
		a.ops = append(a.ops, op)
	}
	rev, err := s.Commit(s.ctx, a.ops...)
	if err != nil && !errors.As(err, &a.conflict) {
		s.Error(err)
		return a, false
	}
	a.at, a.after = rev, s.current()
	return a, true
}

// checkAttempts replays the commits in the order of their revisions and checks every answer against the model.
func (s *suite) checkAttempts(start storage.Revision, attempts []attempt) *model {
	m := &model{states: map[storage.Revision]map[string]storage.Entry{start: {}}, revs: []storage.Revision{start}, stride: s.stride}
	slices.SortStableFunc(attempts, func(a, b attempt) int { return int(a.at - b.at) })
	for _, a := range attempts {
		if a.isRead || a.conflict != nil || !changes(a.ops) {
			continue
		}
		if last := m.revs[len(m.revs)-1]; a.at <= last || a.at <= a.before || a.at > a.after {
			s.Fatalf("commit at %d after %d, called between %d and %d", a.at, last, a.before, a.after)
		}
		if bad := m.apply(a); bad != nil {
			s.Fatalf("commit at %d happened although %+v does not hold", a.at, *bad)
		}
	}
	for _, a := range attempts {
		switch {
		case a.isRead:
			e, ok := m.at(a.at)[a.ops[0].Key]
			if a.at < a.before || a.at > a.after || ok != (a.read != nil) || ok && !m.same(e, *a.read) {
				s.Errorf("read of %s at %d between %d and %d: %v, not %v", a.ops[0].Key, a.at, a.before, a.after, a.read, e)
			}
		case a.conflict != nil && !m.explains(a):
			s.Errorf("conflict %v between %d and %d: %+v holds at each revision", a.conflict, a.before, a.after, a.ops)
		}
	}
	return m
}

func changes(ops []storage.Op) bool {
	return slices.ContainsFunc(ops, func(op storage.Op) bool { return op.Type != storage.Check })
}

// explains reports whether a conflict is right at one of the revisions at which the call can have happened.
func (m *model) explains(a attempt) bool {
	for rev := a.before; rev <= a.after; rev++ {
		state := m.at(rev)
		for _, op := range a.ops {
			e, ok := state[op.Key]
			var current *storage.Entry
			if ok {
				current = &e
			}
			if op.Holds(current) {
				continue
			}
			if op.Key == a.conflict.Key && ok == (a.conflict.Current != nil) && (!ok || m.same(e, *a.conflict.Current)) {
				return true
			}
			break
		}
	}
	return false
}

// checkEvents checks that a watcher saw each difference between one state and the next exactly once.
func (s *suite) checkEvents(m *model, w storage.Watcher) {
	end := m.revs[len(m.revs)-1]
	var events []storage.Event
	for upTo := m.revs[0]; upTo < end; {
		b, err := w.Next(s.ctx)
		if err != nil {
			s.Fatal(err)
		}
		events = append(events, b.Events...)
		upTo = b.Revision
	}
	for i, rev := range m.revs[1:] {
		old, state := m.states[m.revs[i]], m.states[rev]
		n := 0
		for n < len(events) && events[n].Entry.Modified == rev {
			e := events[n]
			now, exists := state[e.Entry.Key]
			if _, was := old[e.Entry.Key]; e.Type == storage.DeleteEvent && (exists || !was) || e.Type == storage.PutEvent && !m.same(now, e.Entry) {
				s.Errorf("event %s at %d does not agree with the state %v", showEvent(e), rev, state)
			}
			n++
		}
		if want := differences(old, state); n != want {
			s.Fatalf("%d events at revision %d, not %d", n, rev, want)
		}
		events = events[n:]
	}
	if len(events) > 0 {
		s.Errorf("events that no commit made: %v", events)
	}
}

func differences(old, state map[string]storage.Entry) (n int) {
	for k, e := range state {
		if o, ok := old[k]; !ok || o.Modified != e.Modified {
			n++
		}
	}
	for k := range old {
		if _, ok := state[k]; !ok {
			n++
		}
	}
	return n
}

// checkSnapshots lists the store at revisions of its history.
func (s *suite) checkSnapshots(m *model) {
	for i := 0; i < len(m.revs); i += 7 {
		s.checkSnapshot(m, m.revs[i])
	}
}

func (s *suite) checkSnapshot(m *model, rev storage.Revision) {
	r, err := s.List(s.ctx, "/", storage.ListOptions{Revision: rev})
	if err != nil {
		s.Fatal(err)
	}
	state := m.at(rev)
	if len(r.Entries) != len(state) {
		s.Errorf("%d entries at revision %d, not %d", len(r.Entries), rev, len(state))
	}
	for _, e := range r.Entries {
		if !m.same(e, state[e.Key]) {
			s.Errorf("%s at revision %d, not %s", show(e), rev, show(state[e.Key]))
		}
	}
}

// checkCompactions forgets more and more of the history, and checks that what is left is as it was.
func (s *suite) checkCompactions(m *model) {
	for part := 1; part <= 4; part++ {
		before := m.revs[(len(m.revs)-1)*part/4]
		if err := s.Compact(s.ctx, before); err != nil {
			s.Fatal(err)
		}
		for i, rev := range m.revs {
			if rev >= before && (i%7 == 0 || rev == before) {
				s.checkSnapshot(m, rev)
			}
		}
		// Commits that were made together with this one may be kept as long as it.
		_, err := s.List(s.ctx, "/", storage.ListOptions{Revision: before - s.stride})
		s.wantErr(err, storage.ErrCompacted)
	}
}

// reopen ends the engine in the middle of commits, several times, and checks what is left.
func reopen(t *testing.T, setup Setup) {
	e := setup.New(t)
	s := &suite{t, e, t.Context(), 1}
	first := s.commit(put("/first", "1"))
	acknowledged := map[string]storage.Revision{"/first": first}
	for round := range 3 {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for n := 0; ; n++ {
					key := fmt.Sprintf("/r%d/%d/%d", round, i, n)
					rev, err := s.Commit(s.ctx, put(key, "v"), put(key+"/twin", "v"))
					if err != nil {
						return
					}
					mu.Lock()
					acknowledged[key] = rev
					mu.Unlock()
				}
			}()
		}
		for {
			if n, err := s.Count(s.ctx, fmt.Sprintf("/r%d/", round)); err != nil || n > 100 {
				break
			}
		}
		e = setup.Reopen(t, e)
		wg.Wait()
		s = &suite{t, e, t.Context(), 1}
		for key, rev := range acknowledged {
			if got, _, err := s.Get(s.ctx, key, storage.Latest); err != nil || got.Modified != rev {
				t.Fatalf("round %d: %s was acknowledged at %d: %s %v", round, key, rev, show(got), err)
			}
		}
		checkTwins(s)
		events := s.collect(s.watch("/", first), len(acknowledged)-1)
		if i := slices.IndexFunc(events, func(e storage.Event) bool { return e.Entry.Modified <= first }); i >= 0 {
			t.Errorf("old event %s", showEvent(events[i]))
		}
		if rev := s.commit(put("/after", "")); rev <= slices.Max(revisions(acknowledged)) {
			t.Errorf("revision %d was given twice", rev)
		}
	}
	e.Close()
}

func revisions(m map[string]storage.Revision) (revs []storage.Revision) {
	for _, r := range m {
		revs = append(revs, r)
	}
	return revs
}

// checkTwins checks that no commit is there by half.
func checkTwins(s *suite) {
	r, err := s.List(s.ctx, "/r", storage.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	twins := map[string]storage.Revision{}
	for _, e := range r.Entries {
		twins[e.Key] = e.Modified
	}
	for key, rev := range twins {
		if !strings.HasSuffix(key, "/twin") && twins[key+"/twin"] != rev {
			s.Errorf("%s was committed at %d without its twin", key, rev)
		}
	}
}
