package patch

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"bareboat.dev/apiserver/registry"
)

// The managed fields of custom objects follow their definition's schema instead of Go types, and are worked out on the
// unstructured object within.

// maxCustomManagers bounds how many managers of custom kinds are kept, a few hundred bytes each; the schemas are their
// definitions'. When they are too many, those in use come back at once.
const maxCustomManagers = 4096

// customManager is the manager of a kind as its definition was when it was made.
type customManager struct {
	form    any
	manager *managedfields.FieldManager
}

func (f *Fields) customManager(r *registry.Resource, subresource string) (*managedfields.FieldManager, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := managerKey{r.Kind, subresource}
	if m, ok := f.customs[key]; ok && m.form == r.Custom.Form {
		return m.manager, nil
	}
	types, err := r.Custom.Converter()
	if err != nil {
		return nil, fmt.Errorf("patch: managed fields of %s: %w", r.Kind, err)
	}
	m, err := managedfields.NewDefaultCRDFieldManager(types, customConverter{r: r}, customDefaulter{r}, customCreater{},
		r.Kind, r.Kind.GroupVersion(), subresource, customReset(r, subresource))
	if err != nil {
		return nil, fmt.Errorf("patch: managed fields of %s: %w", r.Kind, err)
	}
	if f.customs == nil || len(f.customs) >= maxCustomManagers {
		f.customs = map[managerKey]customManager{}
	}
	f.customs[key] = customManager{r.Custom.Form, m}
	return m, nil
}

// customReset is reset for custom kinds: through its status nothing but the status can be owned.
func customReset(r *registry.Resource, subresource string) map[fieldpath.APIVersion]fieldpath.Filter {
	if subresource != "status" {
		return reset(r, subresource)
	}
	set := fieldpath.NewSet(fieldpath.MakePathOrDie("metadata"), fieldpath.MakePathOrDie("spec"))
	return map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(r.Kind.GroupVersion().String()): fieldpath.NewExcludeSetFilter(set)}
}

// trackCustom is Track for custom objects.
func (f *Fields) trackCustom(r *registry.Resource, subresource string, o, before registry.Object, manager string) error {
	obj := o.(*registry.CustomObject)
	old, ok := before.(*registry.CustomObject)
	if !ok {
		old = registry.NewCustomObject(r.Kind, r.Custom)
	}
	held := old.GetManagedFields()
	if subresource == "" && len(obj.GetManagedFields()) > 0 {
		held = obj.GetManagedFields()
	}
	if len(held) == 0 && old.GetUID() != "" || resetRecord(obj) && subresource == "" {
		obj.SetManagedFields(nil)
		return nil
	}
	if sameButRecord(obj, old) {
		obj.SetManagedFields(held)
		return nil
	}
	m, err := f.customManager(r, subresource)
	if err != nil {
		return err
	}
	now, then := obj.DeepCopy(), old.DeepCopy()
	now.SetManagedFields(held)
	then.SetManagedFields(held)
	then.SetUID("") // with a record that may be empty, the change is recorded all the same
	meta, ok := m.UpdateNoErrors(then, now, manager).(metav1.Object)
	if !ok {
		return fmt.Errorf("patch: no metadata in %s", r.Kind)
	}
	obj.SetManagedFields(meta.GetManagedFields())
	return nil
}

// resetRecord reports whether a request empties the record, as opposed to saying nothing of it.
func resetRecord(obj *registry.CustomObject) bool {
	list, found, err := unstructured.NestedSlice(obj.Object, "metadata", "managedFields")
	return err == nil && found && len(list) == 0
}

// sameButRecord reports whether two objects differ in nothing but who owns what.
func sameButRecord(a, b *registry.CustomObject) bool {
	return equality.Semantic.DeepEqual(withoutRecord(a.Object), withoutRecord(b.Object))
}

func withoutRecord(obj map[string]any) map[string]any {
	out := make(map[string]any, len(obj))
	for k, v := range obj {
		out[k] = v
	}
	if meta, ok := obj["metadata"].(map[string]any); ok {
		m := make(map[string]any, len(meta))
		for k, v := range meta {
			m[k] = v
		}
		delete(m, "managedFields")
		out["metadata"] = m
	}
	return out
}

// applyCustom is the merge of Apply for custom objects.
func (f *Fields) applyCustom(r *registry.Resource, subresource string, live registry.Object, applied *unstructured.Unstructured, o ApplyOptions) (registry.Object, error) {
	m, err := f.customManager(r, subresource)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	before := registry.NewCustomObject(r.Kind, r.Custom)
	if live != nil {
		before = live.DeepCopyObject().(*registry.CustomObject)
	}
	if err := integers(applied); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	merged, err := m.Apply(&before.Unstructured, applied, o.Manager, o.Force)
	if err != nil {
		return nil, applyError(err)
	}
	u, ok := merged.(*unstructured.Unstructured)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("patch: merged %s is a %T", r.Kind, merged))
	}
	obj := before.With(u.Object)
	if live != nil && unchangedBut(obj, live) {
		return live, nil
	}
	return obj, nil
}

// integers makes whole numbers, which the decoder of YAML reads as floats, what they are in objects.
func integers(u *unstructured.Unstructured) error {
	text, err := json.Marshal(u.Object)
	if err != nil {
		return err
	}
	u.Object = map[string]any{}
	return utiljson.Unmarshal(text, &u.Object)
}

// customConverter converts between the versions of one definition.
type customConverter struct {
	runtime.ObjectConvertor
	r *registry.Resource
}

// ConvertToVersion implements runtime.ObjectConvertor.
func (c customConverter) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	u, ok := in.(*unstructured.Unstructured)
	gv, isVersion := target.(schema.GroupVersion)
	if !ok || !isVersion || u.GroupVersionKind().GroupVersion() == gv || c.r.Custom.Convert == nil {
		return in, nil
	}
	out, err := c.r.Custom.Convert(&registry.CustomObject{Unstructured: *u, Custom: c.r.Custom}, gv)
	if err != nil {
		return nil, runtime.NewNotRegisteredErrForTarget("custom resources", nil, target)
	}
	return &out.Unstructured, nil
}

type customDefaulter struct{ r *registry.Resource }

// Default implements runtime.ObjectDefaulter.
func (d customDefaulter) Default(in runtime.Object) {
	if u, ok := in.(*unstructured.Unstructured); ok && d.r.Strategy.Default != nil {
		d.r.Strategy.Default(&registry.CustomObject{Unstructured: *u, Custom: d.r.Custom})
	}
}

type customCreater struct{}

// New implements runtime.ObjectCreater.
func (customCreater) New(kind schema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(kind)
	return u, nil
}
