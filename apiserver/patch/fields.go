package patch

import (
	"fmt"
	"strings"
	"sync"
	"unicode"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"bareboat.dev/apiserver/registry"
)

// Fields keeps the managed fields of a set's kinds. It is safe for concurrent use. The schemas that it needs are read on its
// first use, which takes a moment.
type Fields struct {
	set  *registry.Set
	load func() managedfields.TypeConverter

	mu       sync.Mutex
	managers map[managerKey]*managedfields.FieldManager
}

type managerKey struct {
	kind        schema.GroupVersionKind
	subresource string
}

// NewFields returns the managed fields of a set's kinds.
func NewFields(set *registry.Set) *Fields {
	return &Fields{
		set:      set,
		load:     sync.OnceValue(func() managedfields.TypeConverter { return applyconfigurations.NewTypeConverter(set.Scheme()) }),
		managers: map[managerKey]*managedfields.FieldManager{},
	}
}

// Track records in obj which fields manager set by changing old to obj through the subresource; old is nil for a new object.
// Nothing changes if no field did. An object whose fields cannot be read keeps old's record, as kube-apiserver does.
func (f *Fields) Track(r *registry.Resource, subresource string, obj, old registry.Object, manager string) error {
	if old == nil {
		old = r.New()
	} else if unchanged(obj, old) {
		obj.SetManagedFields(old.GetManagedFields())
		return nil
	}
	m, err := f.manager(r, subresource)
	if err != nil {
		return err
	}
	obj.GetObjectKind().SetGroupVersionKind(r.Kind)
	if old.GetObjectKind().GroupVersionKind() != r.Kind {
		old = old.DeepCopyObject().(registry.Object)
		old.GetObjectKind().SetGroupVersionKind(r.Kind)
	}
	tracked := m.UpdateNoErrors(old, obj, manager)
	if meta, ok := tracked.(metav1.Object); ok {
		obj.SetManagedFields(meta.GetManagedFields())
	}
	return nil
}

// unchanged reports whether obj is old, but for managed fields that it left out or left as they were.
func unchanged(obj, old registry.Object) bool {
	if len(obj.GetManagedFields()) > 0 && !equality.Semantic.DeepEqual(obj.GetManagedFields(), old.GetManagedFields()) || obj.GetManagedFields() != nil && len(obj.GetManagedFields()) == 0 {
		return false
	}
	kept := obj.GetManagedFields()
	obj.SetManagedFields(old.GetManagedFields())
	defer obj.SetManagedFields(kept)
	return equality.Semantic.DeepEqual(obj, old)
}

func (f *Fields) manager(r *registry.Resource, subresource string) (*managedfields.FieldManager, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := managerKey{r.Kind, subresource}
	if m, ok := f.managers[key]; ok {
		return m, nil
	}
	scheme := f.set.Scheme()
	m, err := managedfields.NewDefaultFieldManager(f.load(), runtime.UnsafeObjectConvertor(scheme), defaulter{r}, scheme,
		r.Kind, r.Kind.GroupVersion(), subresource, reset(r, subresource))
	if err != nil {
		return nil, fmt.Errorf("patch: managed fields of %s: %w", r.Kind, err)
	}
	f.managers[key] = m
	return m, nil
}

// defaulter fills what an apply left out, as a decoder would have.
type defaulter struct{ r *registry.Resource }

func (d defaulter) Default(obj runtime.Object) {
	if o, ok := obj.(registry.Object); ok && d.r.Strategy.Default != nil {
		d.r.Strategy.Default(o)
	}
}

// reset are the fields that a write through the subresource cannot change, and so cannot own.
func reset(r *registry.Resource, subresource string) map[fieldpath.APIVersion]fieldpath.Filter {
	version := fieldpath.APIVersion(r.Kind.GroupVersion().String())
	exclude := func(names ...string) map[fieldpath.APIVersion]fieldpath.Filter {
		set := fieldpath.NewSet()
		for _, name := range names {
			set.Insert(fieldpath.MakePathOrDie(name))
		}
		return map[fieldpath.APIVersion]fieldpath.Filter{version: fieldpath.NewExcludeSetFilter(set)}
	}
	switch _, hasStatus := r.Subresources["status"]; {
	case subresource == "status":
		return exclude("spec")
	case subresource == "" && hasStatus:
		return exclude("status")
	}
	return nil
}

// ManagerName is the name under which a request's changes are recorded: the one that it gives, or the first part of the
// client's user agent.
func ManagerName(given, userAgent string) string {
	if given != "" {
		return given
	}
	name, _, _ := strings.Cut(userAgent, "/")
	var b strings.Builder
	for _, r := range name {
		if !unicode.IsPrint(r) || b.Len()+len(string(r)) > metavalidation.FieldManagerMaxLength {
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
