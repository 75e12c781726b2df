// Package kindtest runs tables of accepted and rejected objects against a kind, in the pipeline's order: decode strictly,
// default, prepare, allocate, check the metadata, validate.
//
//	kindtest.Create(t, r, base, []kindtest.Case{
//		{Name: "negative", Edit: "spec: {replicas: -1}", Want: []string{"spec.replicas: Invalid value: -1: must be greater than or equal to 0"}},
//	})
package kindtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
)

// Case is one object or one change.
type Case struct {
	Name string
	// Old edits the base (an RFC 7396 merge patch in YAML) before it is stored; updates only.
	Old string
	// Edit edits what is sent.
	Edit string
	// Want are the errors, in any order, word for word; none means that the object is accepted. An entry that ends in "…"
	// is a prefix.
	Want []string
}

// Kind finds a kind among resources.
func Kind(t testing.TB, resources []*registry.Resource, kind string) *registry.Resource {
	t.Helper()
	for _, r := range resources {
		if r.Kind.Kind == kind {
			return r
		}
	}
	t.Fatalf("no %s", kind)
	return nil
}

// Status runs cases as writes of the base's status: Old and Edit are laid over the object that is stored and the one that is
// sent (YAML with a status), after the base has been created.
func Status(t *testing.T, r *registry.Resource, base string, cases []Case) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			old, errs := New(t, r, base)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			lay(t, c.Old, old)
			body := old.DeepCopyObject().(registry.Object)
			lay(t, c.Edit, body)
			sub := r.Subresources["status"]
			changed, err := sub.Apply(old, body, time.Unix(1000, 0))
			if err != nil {
				t.Fatal(err)
			}
			compare(t, sub.Validate(changed, old), c.Want)
		})
	}
}

func lay(t testing.TB, text string, over registry.Object) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), over); err != nil {
		t.Fatal(err)
	}
}

// Create runs cases as creations of the edited base.
func Create(t *testing.T, r *registry.Resource, base string, cases []Case) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			_, errs := New(t, r, Edit(t, base, c.Edit))
			compare(t, errs, c.Want)
		})
	}
}

// Update runs cases as updates of the stored base by the edited base.
func Update(t *testing.T, r *registry.Resource, base string, cases []Case) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			text := Edit(t, base, c.Old)
			old, errs := New(t, r, text)
			if len(errs) > 0 {
				t.Fatalf("the old object is invalid: %v", errs)
			}
			obj := Decode(t, r, Edit(t, text, c.Edit))
			compare(t, Change(r, obj, old), c.Want)
		})
	}
}

// Edit applies a merge patch in YAML to a manifest in YAML.
func Edit(t testing.TB, base, edit string) string {
	t.Helper()
	if edit == "" {
		return base
	}
	doc, err := yaml.YAMLToJSON([]byte(base))
	if err != nil {
		t.Fatal(err)
	}
	patch, err := yaml.YAMLToJSON([]byte(edit))
	if err != nil {
		t.Fatal(err)
	}
	merged, err := jsonpatch.MergePatch(doc, patch)
	if err != nil {
		t.Fatal(err)
	}
	return string(merged)
}

// Decode decodes a manifest strictly.
func Decode(t testing.TB, r *registry.Resource, manifest string) registry.Object {
	t.Helper()
	set, err := registry.NewSet(r)
	if err != nil {
		t.Fatal(err)
	}
	obj := r.New()
	if _, err := codec.New(set).DecodeBody(codec.YAML, []byte(manifest), r.Kind, codec.Strict, obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

// New makes an object as the pipeline does, and returns what is wrong with it.
func New(t testing.TB, r *registry.Resource, manifest string) (registry.Object, field.ErrorList) {
	t.Helper()
	obj, s := Decode(t, r, manifest), &r.Strategy
	if s.Default != nil {
		s.Default(obj)
	}
	if r.Namespaced && obj.GetNamespace() == "" {
		obj.SetNamespace("default")
	}
	obj.SetUID(types.UID("6ec9c0c6-8d36-4fcd-a03f-000000000001"))
	if s.PrepareCreate != nil {
		s.PrepareCreate(obj)
	}
	if s.SpecChanged != nil {
		obj.SetGeneration(1)
	}
	if s.Named != nil {
		s.Named(obj)
	}
	if s.Allocate != nil {
		if errs := s.Allocate(obj, nil, &Picker{}); len(errs) > 0 {
			return obj, errs
		}
	}
	errs := r.CheckMeta(obj)
	if s.Validate != nil {
		errs = append(errs, s.Validate(obj)...)
	}
	return obj, errs
}

// Change updates old to obj as the pipeline does, and returns what is wrong with that.
func Change(r *registry.Resource, obj, old registry.Object) field.ErrorList {
	s := &r.Strategy
	obj.SetResourceVersion("7")
	obj.SetUID(old.GetUID())
	obj.SetNamespace(old.GetNamespace())
	obj.SetGeneration(old.GetGeneration())
	if s.Default != nil {
		s.Default(obj)
	}
	if s.PrepareUpdate != nil {
		s.PrepareUpdate(obj, old)
	}
	if s.Allocate != nil {
		if errs := s.Allocate(obj, old, &Picker{}); len(errs) > 0 {
			return errs
		}
	}
	errs := r.CheckMetaChange(obj, old)
	if s.ValidateUpdate != nil {
		errs = append(errs, s.ValidateUpdate(obj, old)...)
	}
	return errs
}

// Warnings creates the edited base and compares what it is warned of, in any order.
func Warnings(t *testing.T, r *registry.Resource, base string, cases []Case) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			obj, errs := New(t, r, Edit(t, base, c.Edit))
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			compareTexts(t, r.Strategy.Warnings(obj), c.Want)
		})
	}
}

// Picker picks the first free name; Held are taken, Others are the objects of every other kind.
type Picker struct {
	Held   map[string]bool
	Others []registry.Object
}

// Objects implements registry.Picker.
func (p *Picker) Objects(string, string) []registry.Object { return p.Others }

// Intn implements registry.Picker.
func (p *Picker) Intn(int) int { return 0 }

// Taken implements registry.Picker.
func (p *Picker) Taken(key string) bool { return p.Held[key] }

func compare(t *testing.T, errs field.ErrorList, want []string) {
	t.Helper()
	compareTexts(t, Texts(errs), want)
}

func compareTexts(t *testing.T, got, want []string) {
	t.Helper()
	rest := slices.Clone(got)
	var missing []string
	for _, w := range want {
		prefix, isPrefix := strings.CutSuffix(w, "…")
		i := slices.IndexFunc(rest, func(g string) bool { return g == w || isPrefix && strings.HasPrefix(g, prefix) })
		if i < 0 {
			missing = append(missing, w)
			continue
		}
		rest = slices.Delete(rest, i, i+1)
	}
	if len(missing) > 0 || len(rest) > 0 {
		t.Errorf("missing:\n\t%s\nunexpected:\n\t%s", strings.Join(missing, "\n\t"), strings.Join(rest, "\n\t"))
	}
}

// Same compares two objects, quantities by value.
func Same(t testing.TB, got, want registry.Object) {
	t.Helper()
	if !equality.Semantic.DeepEqual(got, want) {
		t.Errorf("got:\n\t%+v\nwant:\n\t%+v", got, want)
	}
}

// Texts renders errors as kube-apiserver sends them.
func Texts(errs field.ErrorList) []string {
	var texts []string
	for _, err := range errs {
		texts = append(texts, fmt.Sprint(err))
	}
	return texts
}
