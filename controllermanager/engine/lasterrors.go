package engine

import "sync"

// maxLastErrors bounds how many keys' failures a loop remembers; 10,000 errors of about 300 bytes are 3 MB. Beyond that
// the failures of some keys go unremembered, which costs them a status condition, never correctness.
const maxLastErrors = 10_000

// lastErrors remembers what the last step of each failing key ended with.
type lastErrors struct {
	mu   sync.Mutex
	errs map[string]error
}

func newLastErrors() *lastErrors { return &lastErrors{errs: map[string]error{}} }

func (l *lastErrors) get(key string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.errs[key]
}

func (l *lastErrors) set(key string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		delete(l.errs, key)
	} else if len(l.errs) < maxLastErrors || l.errs[key] != nil {
		l.errs[key] = err
	}
}
