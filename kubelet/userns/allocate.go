package userns

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/durable"
)

// Length is how many ids a pod has: what the kernel's 16-bit interfaces can name.
const Length = 1 << 16

// file is the pod's range, in its directory, in the form that Kubernetes' kubelet gives it.
const file = "userns"

// ErrFull: all ranges are taken.
var ErrFull = errors.New("could not find an empty slot to allocate a user namespace")

type mapping struct {
	HostID      uint32 `json:"hostId"`
	ContainerID uint32 `json:"containerId"`
	Length      uint32 `json:"length"`
}

type record struct {
	UIDs []mapping `json:"uidMappings"`
	GIDs []mapping `json:"gidMappings"`
}

// Allocator knows which ranges are taken. Its methods may be called from any number of goroutines.
type Allocator struct {
	dir  string
	pods int

	mu    sync.Mutex
	taken map[uint32]types.UID // by the range's number
}

// Open reads the ranges of the pods whose directories are in dir. pods is how many pods there may be.
func Open(dir string, pods int) (*Allocator, error) {
	a := &Allocator{dir: dir, pods: pods, taken: map[uint32]types.UID{}}
	files, err := filepath.Glob(filepath.Join(dir, "*", file))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		first, err := read(f)
		if err != nil {
			return nil, err // better no kubelet than two pods of one user
		}
		a.taken[first/Length] = types.UID(filepath.Base(filepath.Dir(f)))
	}
	return a, nil
}

func read(path string) (first uint32, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	if len(r.UIDs) != 1 || r.UIDs[0].HostID == 0 || r.UIDs[0].HostID%Length != 0 {
		return 0, fmt.Errorf("%s: no range of ids", path)
	}
	return r.UIDs[0].HostID, nil
}

// Allocate returns the first id of the pod's range, the same one each time. The pod's directory exists.
func (a *Allocator) Allocate(uid types.UID) (first uint32, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n, owner := range a.taken {
		if owner == uid {
			return n * Length, nil
		}
	}
	for n := uint32(1); n <= uint32(a.pods); n++ {
		if _, taken := a.taken[n]; taken {
			continue
		}
		if err := a.write(uid, n*Length); err != nil {
			return 0, err
		}
		a.taken[n] = uid
		return n * Length, nil
	}
	return 0, ErrFull
}

func (a *Allocator) write(uid types.UID, first uint32) error {
	m := []mapping{{HostID: first, Length: Length}}
	data, err := json.Marshal(record{UIDs: m, GIDs: m})
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(a.dir, string(uid), file), data, 0o600)
}

// Release gives a pod's range back, once its directory is gone. One that has none is fine.
func (a *Allocator) Release(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n, owner := range a.taken {
		if owner == uid {
			delete(a.taken, n)
		}
	}
}
