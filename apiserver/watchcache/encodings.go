package watchcache

import "sync"

// maxEncodings is how many different encodings of one event are kept: the two doors in three views each, and two spare.
const maxEncodings = 8

// encodings are an event's encoded forms.
type encodings struct {
	mu   sync.Mutex
	list []encoding
}

type encoding struct {
	form string
	data []byte
}

// Encoded returns the event encoded in some form, such as a framed response message, building it the first time only: the
// bytes are shared by every watcher that the event goes to and live as long as the event does. The form is a constant that
// names everything that the bytes depend on. A failed build is not kept.
func (e *Event) Encoded(form string, build func(*Event) ([]byte, error)) ([]byte, error) {
	e.cached.mu.Lock()
	defer e.cached.mu.Unlock()
	for _, c := range e.cached.list {
		if c.form == form {
			return c.data, nil
		}
	}
	data, err := build(e)
	if err == nil && len(e.cached.list) < maxEncodings {
		e.cached.list = append(e.cached.list, encoding{form, data})
	}
	return data, err
}
