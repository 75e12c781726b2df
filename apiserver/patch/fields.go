package patch

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	extensions "k8s.io/apiextensions-apiserver/pkg/client/applyconfiguration"
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
	// loadExtensions is load for the one kind whose schema is published apart.
	loadExtensions func() managedfields.TypeConverter

	shapes shapes

	mu       sync.Mutex
	managers map[managerKey]*managedfields.FieldManager
	customs  map[managerKey]customManager
}

type managerKey struct {
	kind        schema.GroupVersionKind
	subresource string
}

// NewFields returns the managed fields of a set's kinds.
func NewFields(set *registry.Set) *Fields {
	return &Fields{
		set:            set,
		load:           sync.OnceValue(func() managedfields.TypeConverter { return applyconfigurations.NewTypeConverter(set.Scheme()) }),
		loadExtensions: sync.OnceValue(func() managedfields.TypeConverter { return extensions.NewTypeConverter(set.Scheme()) }),
		managers:       map[managerKey]*managedfields.FieldManager{},
	}
}

// types returns what gives a kind's objects types: the schemas of k8s.io/api or of CustomResourceDefinitions, or, of a kind that
// has none (APIService), what can be told from an object: its lists are then one value each.
func (f *Fields) types(r *registry.Resource) managedfields.TypeConverter {
	obj := r.New()
	obj.GetObjectKind().SetGroupVersionKind(r.Kind)
	for _, load := range []func() managedfields.TypeConverter{f.load, f.loadExtensions} {
		types := load()
		if _, err := types.ObjectToTyped(obj); err == nil {
			return types
		}
	}
	return managedfields.NewDeducedTypeConverter()
}

// Track records in obj which fields manager set by changing old to obj through the subresource; old is nil for a new object.
// Nothing changes if no field did. An object whose fields cannot be read keeps old's record, as kube-apiserver does.
func (f *Fields) Track(r *registry.Resource, subresource string, obj, old registry.Object, manager string) error {
	if r.Custom != nil {
		return f.trackCustom(r, subresource, obj, old, manager)
	}
	obj.GetObjectKind().SetGroupVersionKind(r.Kind)
	if old == nil {
		return f.trackNew(r, subresource, obj, manager)
	}
	held := old.GetManagedFields()
	if subresource == "" && len(obj.GetManagedFields()) > 0 {
		held = obj.GetManagedFields() // who may change the object may change its record
	}
	if len(held) == 0 && old.GetUID() != "" || obj.GetManagedFields() != nil && len(obj.GetManagedFields()) == 0 && subresource == "" {
		// Never recorded, or reset by this very request: there is nothing to go on from.
		obj.SetManagedFields(nil)
		return nil
	}
	changed, before, names := differing(obj, old)
	if len(names) == 0 {
		obj.SetManagedFields(held)
		return nil
	}
	m, err := f.manager(r, subresource)
	if err != nil {
		return err
	}
	touched, rest := split(held, names, entry(r, subresource, manager, nil))
	changed.SetManagedFields(touched)
	before.SetManagedFields(touched)
	before.SetUID("") // with a record that is not empty but may be so here, the change is always recorded
	if err := record(m, obj, changed, before, manager); err != nil {
		return err
	}
	if len(rest) > 0 {
		obj.SetManagedFields(sorted(append(rest, obj.GetManagedFields()...)))
	}
	return nil
}

// maxUpdaters is how many entries of ordinary updates an object keeps before the oldest are merged.
const maxUpdaters = 10

// split divides the entries of a record into those that a change of the named fields can touch, or that belong to the
// changer, and the rest, which need not be read.
func split(held []metav1.ManagedFieldsEntry, names []string, own metav1.ManagedFieldsEntry) (touched, rest []metav1.ManagedFieldsEntry) {
	if len(held) >= maxUpdaters {
		return held, nil
	}
	for _, e := range held {
		mine := e.Manager == own.Manager && e.Operation == own.Operation && e.Subresource == own.Subresource
		if mine || e.APIVersion != own.APIVersion || e.FieldsV1 == nil || e.Time == nil || mentions(e.FieldsV1.Raw, names) {
			touched = append(touched, e)
		} else {
			rest = append(rest, e)
		}
	}
	return touched, rest
}

// mentions reports whether a record could hold one of the fields; it may say so wrongly, but never not say so.
func mentions(fields []byte, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		if !strings.HasSuffix(name, atomic) {
			name += `"`
		}
		return bytes.Contains(fields, []byte(`"f:`+name))
	})
}

// sorted puts entries in the order in which kube-apiserver keeps them.
func sorted(entries []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
	seconds := func(e metav1.ManagedFieldsEntry) int64 {
		if e.Time == nil {
			return 0
		}
		return e.Time.Unix()
	}
	slices.SortStableFunc(entries, func(a, b metav1.ManagedFieldsEntry) int {
		return cmp.Or(cmp.Compare(a.Operation, b.Operation), cmp.Compare(seconds(a), seconds(b)), cmp.Compare(a.Manager, b.Manager),
			cmp.Compare(a.APIVersion, b.APIVersion), cmp.Compare(a.Subresource, b.Subresource))
	})
	return entries
}

func record(m *managedfields.FieldManager, obj, changed, before registry.Object, manager string) error {
	meta, ok := m.UpdateNoErrors(before, changed, manager).(metav1.Object)
	if !ok {
		return fmt.Errorf("patch: no metadata in %T", obj)
	}
	obj.SetManagedFields(meta.GetManagedFields())
	return nil
}

// trackNew is Track for a new object: all that is set is the manager's.
func (f *Fields) trackNew(r *registry.Resource, subresource string, obj registry.Object, manager string) error {
	var shape []byte
	if obj.GetManagedFields() == nil {
		shape = f.shape(r, subresource, obj)
	}
	if shape != nil {
		if fields, known := f.shapes.get(shape); known {
			obj.SetManagedFields([]metav1.ManagedFieldsEntry{entry(r, subresource, manager, fields)})
			return nil
		}
	}
	m, err := f.manager(r, subresource)
	if err != nil {
		return err
	}
	before := r.New()
	before.GetObjectKind().SetGroupVersionKind(r.Kind)
	if err := record(m, obj, shallow(obj), before, manager); err != nil {
		return err
	}
	if made := obj.GetManagedFields(); shape != nil && len(made) == 1 && made[0].FieldsV1 != nil {
		f.shapes.put(shape, made[0].FieldsV1.Raw)
	}
	return nil
}

// shape returns the key under which a new object's fields are remembered, or nil if they are too many.
func (f *Fields) shape(r *registry.Resource, subresource string, obj registry.Object) []byte {
	key := make([]byte, 0, 1<<10)
	key = append(key, r.Kind.Group...)
	key = append(key, '/')
	key = append(key, r.Kind.Version...)
	key = append(key, '/')
	key = append(key, r.Kind.Kind...)
	key = append(key, '/')
	key = append(key, subresource...)
	key, ok := f.shapes.write(append(key, 0), reflect.ValueOf(obj), false)
	if !ok {
		return nil
	}
	return key
}

func entry(r *registry.Resource, subresource, manager string, fields []byte) metav1.ManagedFieldsEntry {
	if manager == "" {
		manager = "unknown"
	}
	now := metav1.NewTime(time.Now().UTC())
	return metav1.ManagedFieldsEntry{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: r.Kind.GroupVersion().String(),
		Time: &now, FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: fields}, Subresource: subresource,
	}
}

func (f *Fields) manager(r *registry.Resource, subresource string) (*managedfields.FieldManager, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := managerKey{r.Kind, subresource}
	if m, ok := f.managers[key]; ok {
		return m, nil
	}
	scheme := f.set.Scheme()
	m, err := managedfields.NewDefaultFieldManager(f.types(r), newConverter(f.set), defaulter{r}, scheme,
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
