package watchcache

import (
	"slices"
	"sync"
	"sync/atomic"
)

// maxEncodings is how many different encodings of one event are kept: the two doors in three views each, and two
// that are a whole message of one.
const maxEncodings = 8

// encodings are an event's encoded forms.
type encodings struct {
	// list is replaced, never modified, so that the thousands of watchers that only look need no lock.
	list atomic.Pointer[[]encoding]
	// mu is held while an encoding is built, so that only one is.
	mu sync.Mutex
	// sealed says that nothing is kept any more. It is set before list is emptied, and looked at after list is set: so
	// nothing stays behind, and the log never waits for a build.
	sealed atomic.Bool
}

type encoding struct {
	form  string
	value any
}

// Encoded returns the event encoded in some form, such as a framed response message, building it the first time only: the
// bytes are shared by every watcher that the event goes to. The form is a constant that names everything that the bytes
// depend on. A failed build is not kept, and an event that is no longer among the newest is built anew for the few that are
// so far behind.
func (e *Event) Encoded(form string, build func(*Event) ([]byte, error)) ([]byte, error) {
	v, err := e.Shared(form, func(e *Event) (any, error) { return build(e) })
	data, _ := v.([]byte)
	return data, err
}

// Shared is Encoded for what is more than bytes; it must be safe for concurrent use.
func (e *Event) Shared(form string, build func(*Event) (any, error)) (any, error) {
	if v, ok := e.cached.find(form); ok {
		return v, nil
	}
	e.cached.mu.Lock()
	defer e.cached.mu.Unlock()
	if v, ok := e.cached.find(form); ok {
		return v, nil
	}
	v, err := build(e)
	if err != nil {
		return nil, err
	}
	var list []encoding
	if old := e.cached.list.Load(); old != nil {
		list = *old
	}
	if len(list) < maxEncodings {
		list = append(slices.Clone(list), encoding{form, v})
		e.cached.list.Store(&list)
		if e.cached.sealed.Load() {
			e.cached.list.Store(nil)
		}
	}
	return v, nil
}

func (c *encodings) find(form string) (any, bool) {
	list := c.list.Load()
	if list == nil {
		return nil, false
	}
	for i := range *list {
		if x := &(*list)[i]; x.form == form {
			return x.value, true
		}
	}
	return nil, false
}

// seal lets go of what is kept.
func (c *encodings) seal() {
	c.sealed.Store(true)
	c.list.Store(nil)
}
