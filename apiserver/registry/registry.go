// Package registry says what the API server serves: each kind is one Resource value, and no kind has code anywhere else in
// the server. A group's resources live in the folder of the group (registry/core, registry/apps, …), one file a kind.
//
// Everything in a Resource is a pure function of its arguments: no clock, no store, no logging. What needs other objects
// (admission) is the pipeline's business. The one exception is Stored of a custom resource whose versions a webhook converts.
//
// Custom resources are Resources too, made from CustomResourceDefinitions by apiserver/customresource while the server runs.
// Their objects are *CustomObject, which embeds unstructured.Unstructured, so that whoever knows no Go type for an Object can
// work on its content:
//
//	if c, ok := obj.(*registry.CustomObject); ok {
//		replicas, found, err := unstructured.NestedInt64(c.Object, "spec", "replicas")
//	}
package registry

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is a stored Kubernetes object: a pointer to a type of k8s.io/api, or a *CustomObject.
type Object interface {
	metav1.Object
	runtime.Object
	// Marshal and Unmarshal are the generated protobuf codec of k8s.io/api; those of a CustomObject write and read JSON.
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// Resource is one kind, as data.
type Resource struct {
	Kind schema.GroupVersionKind
	// Plural is the resource's name in paths and requests, in lower case.
	Plural string
	// Singular is the lower-case kind.
	Singular   string
	ShortNames []string
	Categories []string
	Namespaced bool
	// Fixed verbs; empty means all of them.
	Verbs []string
	// KeyPrefix is where the objects live in the store, as Kubernetes lays it out: "/registry/pods/",
	// "/registry/services/specs/", "/registry/minions/". An object's key is KeyPrefix[+namespace+"/"]+name. Empty means that
	// objects are created and answered, never stored (reviews); such a resource has no NewList.
	KeyPrefix string
	// New returns an empty object of the kind.
	New func() Object
	// NewList returns an empty list of the kind, for encoders.
	NewList func() runtime.Object

	Strategy Strategy
	// Fields are the selectable fields beyond metadata.name and metadata.namespace, by their path ("spec.nodeName").
	Fields map[string]func(Object) string
	// UnknownField is the format of the error for any other field, where Kubernetes has words of its own for the kind.
	UnknownField string
	// IndexedFields name those of Fields (or "metadata.name") that watchers select on so often that the watch cache dispatches by them.
	IndexedFields []string
	// Columns are what `get` prints, the object's name first.
	Columns []Column
	// Subresources beyond the object itself, by name.
	Subresources map[string]Subresource
	// Stored is set when the objects are kept under another resource's keys and in its form, so that one object is seen
	// through two versions or groups (events.k8s.io/v1 Events are kept as core/v1 Events). KeyPrefix is then the other's too.
	Stored *Stored
	// Defines says that the objects define custom resources: a write of one is answered when what it defines is served.
	Defines bool
	// Custom is set for the kinds that CustomResourceDefinitions define; their objects are *CustomObject.
	Custom *Custom
}

// Stored converts between a resource's own form and the one that its objects are kept in. That form is a resource of the same
// set, with the same KeyPrefix and scope, which is kept as it is; both share one watch cache.
type Stored struct {
	// Kind that the objects are kept as.
	Kind schema.GroupVersionKind
	// To and From convert, metadata included; neither modifies its argument. The result may share memory with it, as it is
	// only read or replaced whole; From's argument is shared by all readers. apiVersion and kind are the caller's to set.
	To   func(obj Object) (Object, error)
	From func(stored Object) (Object, error)
	// Prepare makes From ready for objects that are about to be read, where that costs less for all of them at once; nil where it does not.
	Prepare func(stored []Object) error
	// Fields are the stored kind's names of those selectable fields that it calls something else.
	Fields map[string]string
}

// Strategy is how a kind's objects are checked and kept. Nil functions do nothing.
type Strategy struct {
	// Default fills unset fields, exactly as Kubernetes' defaulting for the version does. It must be idempotent.
	Default func(Object)
	// PrepareCreate clears what a creator may not set (status) and sets what the system owns.
	PrepareCreate func(obj Object)
	// Named sets in a new object what follows from its name, which may be generated; nil sets nothing. It runs after
	// PrepareCreate and before Allocate, and again on the object as it was before if the generated name is taken.
	Named func(obj Object)
	// SetCreator records in a new object who made it, after PrepareCreate; nil records nothing.
	SetCreator func(obj Object, by Creator)
	// PrepareUpdate restores from old what an update through the main resource may not change (status).
	PrepareUpdate func(obj, old Object)
	// Validate checks a new object. Metadata has been checked by the pipeline with ValidateName.
	Validate func(obj Object) field.ErrorList
	// ValidateUpdate checks a change, including immutable fields; the new object passed Validate's rules as well where
	// Kubernetes demands it, so call Validate from here where it does.
	ValidateUpdate func(obj, old Object) field.ErrorList
	// Warnings returns what a user should know about an object that is accepted.
	Warnings func(obj Object) []string
	// ChangeWarnings takes its place for changes, if what the object was before matters; nil means that it does not.
	ChangeWarnings func(obj, old Object) []string
	// ValidateName checks metadata.name (or the generateName prefix); nil means a DNS-1123 subdomain.
	ValidateName func(name string, prefix bool) []string
	// AnyFinalizer lets metadata.finalizers hold names without a domain beside Kubernetes' own.
	AnyFinalizer bool
	// SpecChanged reports whether metadata.generation must be raised; nil means the kind keeps no generation.
	SpecChanged func(obj, old Object) bool
	// AllowCreateOnUpdate lets PUT create the object.
	AllowCreateOnUpdate bool
	// AllowUnconditionalUpdate lets an update come without a resource version.
	AllowUnconditionalUpdate bool
	// GracePeriod returns how long a deletion waits before the object is removed, given what the request asked for (nil:
	// nothing); nil function or 0 means at once. Pods that are bound and not finished use it.
	GracePeriod func(obj Object, requested *int64) time.Duration
	// MarkDeleted changes an object whose deletion begins (a Namespace's phase); nil changes nothing. Its deletion timestamp is set.
	MarkDeleted func(obj Object)
	// Held reports that an object must not be removed yet though it has neither metadata finalizers nor a grace period left
	// (a Namespace's spec.finalizers); nil means never.
	Held func(obj Object) bool
	// DefaultPropagation is what a delete without a propagation policy does to dependents; empty means background.
	DefaultPropagation metav1.DeletionPropagation
	// Uncollected says that the garbage collector does not follow the kind (events): a propagation policy does nothing, since
	// nobody would take the collector's finalizers away.
	Uncollected bool
	// Claims are the names outside the kind that the object holds exclusively, such as a Service's cluster IP. The pipeline
	// commits them together with the object, so that two objects can never hold one name: it adds the claims that the new
	// object has and the old one has not, and drops those that only the old one has.
	Claims func(obj Object) []Claim
	// Allocate fills fields that must hold a claimed name and do not yet (spec.clusterIP, nodePort), with names that pick
	// chooses, and frees fields that an update makes void; old is nil on create. It runs after Default and PrepareCreate or
	// PrepareUpdate and before Validate. If a name that it chose proves to be taken (another object was faster), the
	// pipeline starts again from the object as it was before Allocate. It fails with field errors when nothing is left.
	Allocate func(obj, old Object, pick Picker) field.ErrorList
}

// Creator is who made an object.
type Creator struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// Picker chooses names for Strategy.Allocate. The pipeline implements it with a random source and its view of the claims.
type Picker interface {
	// Intn returns a number in [0, n).
	Intn(n int) int
	// Taken reports whether the claim with that key is known to be held.
	Taken(key string) bool
	// Objects are those of another kind that say what there is to choose from (ServiceCIDRs), as the server's cache has them;
	// none if the server has no such kind. They are shared: never modify them.
	Objects(group, plural string) []Object
}

// Claim is one exclusively held name.
type Claim struct {
	// Key under /registry/bareboat/claims/, e.g. "serviceip/10.96.0.1".
	Key string
	// Field that holds the name, and its value, for the error message.
	Field *field.Path
	Value any
	// Detail is the error's text when somebody else holds it, e.g. "provided IP is already allocated".
	Detail string
	// Shown makes an object by which everybody can see the claim (a cluster IP's IPAddress), nil for none. It is written and
	// removed in the claim's own commit; if there is one of its name already, the claim counts as held by somebody else.
	Shown func() Shown
}

// Shown is an object of another kind, without namespace, that shows a claim.
type Shown struct {
	Group, Plural string
	Object        Object
}

// Column is one printed column.
type Column struct {
	metav1.TableColumnDefinition
	// Cell renders the column; now is for ages.
	Cell func(obj Object, now time.Time) string
	// Value is the cell as a JSON value, null included; nil means that it follows from Cell.
	Value func(obj Object, now time.Time) any
	// JSON is the JSON type of the cells where it is not that of Type: Kubernetes has columns of type "string" whose cells are numbers.
	JSON string
}

// Subresource is a part of an object that is read or written on its own.
type Subresource struct {
	Verbs []string
	// Kind of the body; the zero value means the resource's own kind ("status").
	Kind schema.GroupVersionKind
	// New returns an empty body; nil means the resource's own.
	New func() runtime.Object
	// Get renders the subresource from the object; nil returns the object.
	Get func(obj Object) (runtime.Object, error)
	// Base is what a patch starts from, where there is one though Get fails; nil means what Get renders.
	Base func(obj Object) (runtime.Object, error)
	// Apply returns the object changed as an update of the subresource asks: old is the stored object, body the decoded
	// request. It must not modify old; now is for conditions. An *apierrors.StatusError passes through as it is. The
	// preconditions in the body's metadata (uid, resource version) are the pipeline's to check.
	Apply func(old Object, body runtime.Object, now time.Time) (Object, error)
	// Validate checks what Apply made.
	Validate func(obj, old Object) field.ErrorList
	// Connect marks subresources that are streams or have code of their own in the pipeline (log, exec, token, eviction).
	Connect bool
}

// All returns every resource of the given groups as one slice; the composition root passes it to the server.
func All(groups ...[]*Resource) []*Resource {
	var all []*Resource
	for _, g := range groups {
		all = append(all, g...)
	}
	return all
}
