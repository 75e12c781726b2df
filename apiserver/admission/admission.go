// Package admission is what decides on a write by looking beyond the object itself: at its namespace, at other objects, at who
// writes. A Plugin changes an object (Mutate) or refuses it (Validate); the pipeline runs all mutations, then defaulting and
// validation, then all refusals, for every write through either door.
//
// The built-in plugins bear the names of their Kubernetes counterparts
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/).
package admission

import (
	"context"
	"maps"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/registry"
)

// Operation is what a write does.
type Operation string

// The operations.
const (
	Create Operation = "CREATE"
	Update Operation = "UPDATE"
	Delete Operation = "DELETE"
	// Connect opens a stream to a pod, or passes a request on to a pod, a Service or a node.
	Connect Operation = "CONNECT"
)

// Attributes are what a plugin may look at.
type Attributes struct {
	Operation   Operation
	User        *authn.Identity
	Resource    *registry.Resource
	Subresource string
	Namespace   string
	// Name is empty while a name is still to be generated.
	Name string
	// Object is the new object: Mutate may change it, Validate may not. Nil on Delete.
	Object registry.Object
	// Old is the stored object, shared and never changed; nil on Create.
	Old registry.Object
	// Body is a subresource's request (a Binding, an Eviction), if its kind is another than Object's. On Connect it is the options, and
	// there are no objects. Mutate may change it, and says so by BodyChanged; Object is then made anew of it.
	Body        runtime.Object
	BodyChanged bool
	DryRun      bool
	// Request is what else the request says.
	Request Request
	// Round is 0, and 1 while all mutations run again because of Again.
	Round int
	// Memory is what a plugin keeps from the first round to the second, by its name.
	Memory map[string]any

	warnings   []string
	companions []Companion
	settled    []func(version string, err error)
	again      bool
}

// Again asks for a second round of all mutations, since the object was changed by somebody whom they do not know. There is no third.
func (a *Attributes) Again() { a.again = true }

// NextRound begins the second round if somebody has asked for it.
func (a *Attributes) NextRound() bool {
	if !a.again || a.Round > 0 {
		return false
	}
	a.Round = 1
	return true
}

// Request is what a request says beside its object.
type Request struct {
	// Verb is Kubernetes' ("create", "patch", …).
	Verb                          string
	FieldManager, FieldValidation string
	Force                         bool
	// Delete are the options of a deletion.
	Delete *metav1.DeleteOptions
	Notes  *Notes
}

// Notes are audit annotations, and what the user is told whatever becomes of the request. They outlive the attributes, which are made anew
// when a write is decided again; what is noted twice counts once. A nil *Notes keeps nothing.
type Notes struct {
	mu       sync.Mutex
	all      map[string]string
	warnings []string
}

// Warn notes something for the user.
func (n *Notes) Warn(text string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Contains(n.warnings, text) {
		n.warnings = append(n.warnings, text)
	}
}

// Warnings returns what Warn was told; they are the caller's.
func (n *Notes) Warnings() []string {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.warnings)
}

// Set notes something for the audit log.
func (n *Notes) Set(key, value string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all == nil {
		n.all = map[string]string{}
	}
	n.all[key] = value
}

// All returns the notes; they are the caller's.
func (n *Notes) All() map[string]string {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.all)
}

// Note tells the audit log something about the write.
func (a *Attributes) Note(key, value string) { a.Request.Notes.Set(key, value) }

// Companion is a change of another object that is committed together with the write that it belongs to, or not at all. If the other
// object has moved on meanwhile, the write is decided again.
type Companion struct {
	Group, Plural string
	// Object as it shall be; its resource version is the one that it was decided from.
	Object registry.Object
}

// Together adds a companion to the write. Only Validate may.
func (a *Attributes) Together(c Companion) { a.companions = append(a.companions, c) }

// Companions returns what Together was told.
func (a *Attributes) Companions() []Companion { return a.companions }

// OnSettled has f called when the write has been committed, with its resource version, or was given up, with the error. A Validate
// that returns an error must not have asked for it.
func (a *Attributes) OnSettled(f func(version string, err error)) { a.settled = append(a.settled, f) }

// Settle calls what OnSettled was told, once.
func (a *Attributes) Settle(version string, err error) {
	for _, f := range a.settled {
		f(version, err)
	}
	a.settled = nil
}

// Warn tells the user something, whether the object is accepted or not.
func (a *Attributes) Warn(text string) {
	a.warnings = append(a.warnings, text)
	a.Request.Notes.Warn(text)
}

// Warnings returns what Warn was told.
func (a *Attributes) Warnings() []string { return a.warnings }

// Is reports whether the write is to the named resource's main part.
func (a *Attributes) Is(group, plural string) bool {
	return a.Subresource == "" && a.Resource.Kind.Group == group && a.Resource.Plural == plural
}

// ObjectName is the name that errors about the write give its object: while it has none, the prefix that its name is made from.
func (a *Attributes) ObjectName() string {
	switch {
	case a.Name != "":
		return a.Name
	case a.Object == nil:
		return ""
	case a.Object.GetName() != "":
		return a.Object.GetName()
	}
	return a.Object.GetGenerateName()
}

// Plugin is one admission plugin. Nil functions do nothing. Errors are *apierrors.StatusError.
type Plugin struct {
	// Name is Kubernetes' name of the plugin, as in --disable-admission-plugins.
	Name     string
	Mutate   func(ctx context.Context, a *Attributes) error
	Validate func(ctx context.Context, a *Attributes) error
	// Connects: the plugin also decides on Connect.
	Connects bool
	// Obeys are the resources whose objects tell the plugin what to decide. A write of one of them is answered once this server's caches
	// show it, so that no later request passes by it.
	Obeys []schema.GroupResource
}

func obeys(group, plural string) []schema.GroupResource {
	return []schema.GroupResource{{Group: group, Resource: plural}}
}

// Reader is how plugins see other objects.
type Reader interface {
	// Object returns an object as it is now, or recently was; fresh asks the store. It is shared and must not be modified.
	// ok is false if it does not exist.
	Object(ctx context.Context, group, plural, namespace, name string, fresh bool) (obj registry.Object, ok bool, err error)
	// Objects returns every object of a resource, as they recently were.
	Objects(ctx context.Context, group, plural, namespace string) ([]registry.Object, error)
	// Collection returns a resource's state in brief, which costs nothing to look at; ok is false if it is not served.
	Collection(group, plural string) (c Collection, ok bool)
}

// Collection tells whether it is worth looking at a resource's objects.
type Collection interface {
	// Changed is a number that is another whenever the objects are others.
	Changed() int64
	// Empty reports that there are none.
	Empty() bool
}
