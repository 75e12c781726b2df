package watchcache

import (
	"sort"
	"sync"
	"time"

	"bareboat.dev/apiserver/storage"
)

const (
	// DefaultLogEvents is what a log holds at most. At the 3,000 pods/s that the control plane is built for, with three
	// changes each, it is seven seconds: time enough for a watcher that lives, and a bound on what a dead one costs.
	DefaultLogEvents = 1 << 16
	// logBytes bounds the encoded objects that only the log keeps alive.
	logBytes = 64 << 20
	// logAge is how long changes are kept while there are few of them: the store forgets its history after five minutes
	// too, and so an idle server's log shrinks.
	logAge = 5 * time.Minute
	// encodedChanges and encodedBytes bound the changes whose encodings are kept, each about as large as the object: watchers
	// that keep up, which is nearly all, are within a few dozen. At least encodedLeast are kept, however large.
	encodedChanges = 1 << 10
	encodedBytes   = 16 << 20
	encodedLeast   = 8
	// logKeep changes are kept however old, so that a quiet resource's watchers can resume after a long break.
	logKeep = 1 << 10
)

// channel is the watchers of one facet: where in the log the changes are that show it, and how they are woken. It exists
// while it has watchers. Fields are guarded by the log's owner, Cache.mu.
type channel struct {
	facet facet
	refs  int
	// positions in the log, rising, of the changes since `since` that show the facet. The facet `everything` keeps none,
	// since it would be all of them.
	positions []uint64
	since     uint64
	// lost is behind the newest position that has left the log.
	lost uint64
	// mu guards waiting, which cursors join while Cache.mu is held for reading.
	mu sync.Mutex
	// waiting are the cursors to be woken by the next change. Each waits on a signal of its own: thousands that wait on one
	// channel would queue for its lock.
	waiting []*Cursor
}

// wait has a cursor woken by the next change. It may be called again before that.
func (c *channel) wait(cur *Cursor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cur.place == 0 {
		c.waiting = append(c.waiting, cur)
		cur.place = len(c.waiting)
	}
}

// unwait takes a cursor that is closed from those to be woken.
func (c *channel) unwait(cur *Cursor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cur.place == 0 {
		return
	}
	last := len(c.waiting) - 1
	moved := c.waiting[last]
	c.waiting[cur.place-1], moved.place = moved, cur.place
	c.waiting[last], cur.place = nil, 0
	c.waiting = c.waiting[:last]
}

// take appends those that wait, who are then to be signalled.
func (c *channel) take(woken []*Cursor) []*Cursor {
	c.mu.Lock()
	defer c.mu.Unlock()
	woken = append(woken, c.waiting...)
	for _, cur := range c.waiting {
		cur.place = 0
	}
	clear(c.waiting)
	c.waiting = c.waiting[:0]
	return woken
}

// changelog is the bounded log of a cache's changes.
type changelog struct {
	changes []*change
	// base is the position of changes[0]; positions count from 1 over the cache's whole life and are never used twice.
	base uint64
	// floor is the revision of the state that changes[0] changed: everything after it is in the log.
	floor storage.Revision
	bytes int
	limit int
	// open is the position of the oldest change whose encodings are kept, openBytes what one encoding of each takes.
	open      uint64
	openBytes int
	// channels by facet, and how many watch each label, so that a change is looked up by those only.
	channels map[facet]*channel
	labels   map[string]int
}

func newChangelog(limit int) changelog {
	if limit <= 0 {
		limit = DefaultLogEvents
	}
	return changelog{base: 1, open: 1, limit: limit, channels: map[facet]*channel{}, labels: map[string]int{}}
}

// head is the position that the next change will have.
func (l *changelog) head() uint64 { return l.base + uint64(len(l.changes)) }

// position returns the position of the first change after a revision.
func (l *changelog) position(after storage.Revision) uint64 {
	return l.base + uint64(sort.Search(len(l.changes), func(i int) bool { return l.changes[i].revision > after }))
}

// append adds a change and notes it in the channels that it concerns, whose cursors must be woken afterwards.
func (l *changelog) append(ch *change, indexes []string, woken map[*channel]struct{}) {
	position := l.head()
	l.changes = append(l.changes, ch)
	l.bytes += ch.size()
	l.openBytes += ch.weight()
	l.sealOld()
	note := func(fc facet) {
		c, ok := l.channels[fc]
		if !ok {
			return
		}
		woken[c] = struct{}{}
		if fc.kind != everything && (len(c.positions) == 0 || c.positions[len(c.positions)-1] != position) {
			c.positions = append(c.positions, position)
		}
	}
	note(facet{})
	for _, it := range []*Item{ch.prev, ch.cur} {
		if it == nil {
			continue
		}
		note(facet{kind: oneObject, value: it.Key})
		note(facet{kind: withName, value: it.Name})
		note(facet{kind: inNamespace, value: it.Namespace})
		for i, field := range indexes {
			note(facet{kind: withField, field: i, value: indexValue(it, field)})
		}
		if len(l.labels) > 0 {
			for key, value := range it.Labels {
				if l.labels[key] > 0 {
					note(facet{kind: withLabel, label: key, value: value})
				}
			}
		}
	}
}

// sealOld lets go of the encodings of changes that are no longer new.
func (l *changelog) sealOld() {
	for n := l.head() - l.open; n > encodedLeast && (n > encodedChanges || l.openBytes > encodedBytes); n-- {
		ch := l.changes[l.open-l.base]
		ch.seal()
		l.openBytes -= ch.weight()
		l.open++
	}
}

// waiting takes those that wait in the channels.
func waiting(channels map[*channel]struct{}) []*Cursor {
	var woken []*Cursor
	for c := range channels {
		woken = c.take(woken)
	}
	return woken
}

// trim drops the oldest changes beyond the limits, whole revisions of them. It lets the log grow a quarter beyond them
// first, so that it is moved seldom.
func (l *changelog) trim(now int64) {
	slack := l.limit / 4
	n, bytes := 0, l.bytes
	drop := func(limit, byteLimit int) {
		for n < len(l.changes) && (len(l.changes)-n > limit || bytes > byteLimit) {
			bytes -= l.changes[n].size()
			n++
		}
	}
	if len(l.changes) > l.limit+slack || l.bytes > logBytes+logBytes/4 {
		drop(l.limit, logBytes)
	}
	old := now - int64(logAge)
	if len(l.changes) > 2*logKeep && l.changes[logKeep].at < old {
		for len(l.changes)-n > logKeep && l.changes[n].at < old {
			bytes -= l.changes[n].size()
			n++
		}
	}
	if n == 0 {
		return
	}
	for n < len(l.changes) && l.changes[n].revision == l.changes[n-1].revision {
		bytes -= l.changes[n].size()
		n++
	}
	for l.open < l.base+uint64(n) {
		l.openBytes -= l.changes[l.open-l.base].weight()
		l.open++
	}
	l.floor, l.bytes = l.changes[n-1].revision, bytes
	l.changes = append(make([]*change, 0, len(l.changes)-n+slack), l.changes[n:]...)
	l.base += uint64(n)
	for _, c := range l.channels {
		c.forget(l.base)
	}
}

// forget drops the positions below base.
func (c *channel) forget(base uint64) {
	n := sort.Search(len(c.positions), func(i int) bool { return c.positions[i] >= base })
	if n > 0 {
		c.lost = c.positions[n-1] + 1
		c.positions = append([]uint64(nil), c.positions[n:]...)
	}
}

// reset empties the log; it goes on from the state at floor. Every cursor has to find its position lost.
func (l *changelog) reset(floor storage.Revision) {
	// One position is left out, so that a cursor that had seen everything has not.
	l.base = l.head() + 1
	l.changes, l.bytes, l.floor = nil, 0, floor
	l.open, l.openBytes = l.base, 0
	for _, c := range l.channels {
		c.positions, c.since, c.lost = nil, l.base, l.base
	}
}

// join returns the channel of a facet, for a cursor that has yet to read from a position on.
func (l *changelog) join(fc facet, from uint64, indexes []string) *channel {
	c, ok := l.channels[fc]
	if !ok {
		c = &channel{facet: fc, since: l.head()}
		l.channels[fc] = c
		if fc.kind == withLabel {
			l.labels[fc.label]++
		}
	}
	c.refs++
	if fc.kind != everything && from < c.since {
		var earlier []uint64
		for p := max(from, l.base); p < c.since; p++ {
			if ch := l.changes[p-l.base]; fc.shows(ch.prev, indexes) || fc.shows(ch.cur, indexes) {
				earlier = append(earlier, p)
			}
		}
		c.positions, c.since = append(earlier, c.positions...), from
	}
	return c
}

// leave gives up a place in a channel.
func (l *changelog) leave(c *channel) {
	if c.refs--; c.refs > 0 {
		return
	}
	delete(l.channels, c.facet)
	if c.facet.kind == withLabel {
		if l.labels[c.facet.label]--; l.labels[c.facet.label] == 0 {
			delete(l.labels, c.facet.label)
		}
	}
}

// read returns the next changes of a channel from a position on, at most about limit, whole revisions of them, and the
// position behind what was looked at. ok is false if some have left the log.
func (l *changelog) read(c *channel, from uint64, limit int) (changes []*change, next uint64, ok bool) {
	if c.facet.kind == everything {
		if from < l.base {
			return nil, 0, false
		}
		i := int(from - l.base)
		j := l.wholeRevision(min(i+limit, len(l.changes)))
		// The backing array is only ever appended to or left behind, so that it can be read without the lock.
		return l.changes[i:j:j], l.base + uint64(j), true
	}
	if c.lost > from {
		return nil, 0, false
	}
	i := sort.Search(len(c.positions), func(i int) bool { return c.positions[i] >= from })
	if len(c.positions)-i <= limit {
		limit, next = len(c.positions)-i, l.head()
	}
	for _, p := range c.positions[i : i+limit] {
		changes = append(changes, l.changes[p-l.base])
	}
	for k := i + limit; next == 0; k++ {
		if k == len(c.positions) {
			next = l.head()
		} else if ch := l.changes[c.positions[k]-l.base]; ch.revision == changes[len(changes)-1].revision {
			changes = append(changes, ch)
		} else {
			next = c.positions[k]
		}
	}
	return changes, next, true
}

// wholeRevision moves the end of a range of changes so that it does not split a revision.
func (l *changelog) wholeRevision(j int) int {
	for j > 0 && j < len(l.changes) && l.changes[j].revision == l.changes[j-1].revision {
		j++
	}
	return j
}
