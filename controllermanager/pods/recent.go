package pods

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// maxRecent is how many deleted pods' names are remembered: 4,096 names of about 60 bytes are 0.5 MB, and more than a
// burst of replacements that anyone would read the logs of.
const maxRecent = 4096

// Recent remembers the names of pods that were deleted lately, so that a replacement does not come back under the same
// name and confuse whoever follows the old one. Forgetting a name is harmless.
type Recent struct {
	mu    sync.Mutex
	names map[string]int
	ring  [maxRecent]string
	next  int
}

// NewRecent returns an empty memory.
func NewRecent() *Recent { return &Recent{names: map[string]int{}} }

// Note is a mirror's change handler.
func (r *Recent) Note(old, new *corev1.Pod) {
	if new != nil || old == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if gone := r.ring[r.next]; gone != "" {
		if r.names[gone]--; r.names[gone] == 0 {
			delete(r.names, gone)
		}
	}
	name := old.Namespace + "/" + old.Name
	r.ring[r.next] = name
	r.names[name]++
	r.next = (r.next + 1) % maxRecent
}

// has reports whether a pod of that name was deleted lately.
func (r *Recent) has(namespace, name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.names[namespace+"/"+name] > 0
}

// Taken returns a function that reports whether a pod of a name exists in a namespace, or was deleted there lately.
func (r *Recent) Taken(existing interface {
	Taken(namespace string) func(name string) bool
}, namespace string) func(name string) bool {
	exists := existing.Taken(namespace)
	return func(name string) bool { return exists(name) || r.has(namespace, name) }
}
