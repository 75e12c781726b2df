package tlsconf

import (
	"crypto/tls"
	"os"
	"sync"
	"time"
)

// file is a file that is read again only when its size or time of change differ. A file that has become unreadable serves on
// with its last contents.
type file struct {
	path string

	mu      sync.Mutex
	size    int64
	modTime time.Time
	data    []byte
	version int
	pair    *tls.Certificate
}

func (f *file) read() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err == nil && f.data != nil && info.Size() == f.size && info.ModTime().Equal(f.modTime) {
		return f.data, nil
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(f.path)
	}
	if err != nil {
		if f.data != nil {
			return f.data, nil
		}
		return nil, err
	}
	f.data, f.size, f.modTime = data, info.Size(), info.ModTime()
	f.version++
	return data, nil
}

// currentVersion reads the file if it changed and returns a number that grows with each change.
func (f *file) currentVersion() int {
	if f.path == "" {
		return 0
	}
	_, _ = f.read() // a failure shows when the configuration is built
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version
}

func (f *file) lastPair() *tls.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pair
}

func (f *file) setPair(pair *tls.Certificate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pair = pair
}

// cache keeps a built configuration for as long as its files do not change.
type cache struct {
	src   *source
	build func() (*tls.Config, error)

	mu       sync.Mutex
	cfg      *tls.Config
	versions [3]int
}

func (c *cache) get() (*tls.Config, error) {
	versions := [3]int{c.src.cert.currentVersion(), c.src.key.currentVersion(), c.src.ca.currentVersion()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cfg != nil && versions == c.versions {
		return c.cfg, nil
	}
	cfg, err := c.build()
	if err != nil {
		if c.cfg != nil {
			return c.cfg, nil
		}
		return nil, err
	}
	c.cfg, c.versions = cfg, versions
	return cfg, nil
}
