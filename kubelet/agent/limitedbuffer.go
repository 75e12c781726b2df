package agent

import (
	"bytes"
	"sync"
)

// limitedBuffer keeps the first execOutputLimit bytes written to it. It may be written by several goroutines.
type limitedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write never fails, and says that it has taken everything.
func (l *limitedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(p[:min(len(p), execOutputLimit-l.b.Len())])
	return len(p), nil
}

func (l *limitedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
