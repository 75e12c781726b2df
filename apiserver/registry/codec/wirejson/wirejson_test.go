package wirejson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
	"bareboat.dev/apiserver/registry/codec/wirejson"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
	"bareboat.dev/apiserver/watchcache/frame"
)

func resources(t testing.TB) []*registry.Resource {
	t.Helper()
	set, err := registry.NewSet(groups.All(core.Config{})...)
	if err != nil {
		t.Fatal(err)
	}
	return set.All()
}

// goldens is where k8s.io/api keeps its golden objects.
func goldens(t testing.TB) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		t.Fatalf("where is k8s.io/api? %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "testdata")
}

// golden returns the protobuf files that there are for a kind, of all its versions.
func golden(t testing.TB, dir string, kind schema.GroupVersionKind) [][]byte {
	t.Helper()
	group := kind.Group
	if group == "" {
		group = "core"
	}
	base := filepath.Join(dir, "*", group+"."+kind.Version+"."+kind.Kind)
	var files []string
	for _, ext := range []string{".pb", ".*.pb"} {
		found, err := filepath.Glob(base + ext)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	var found [][]byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		_, _, raw, err := codec.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, raw)
	}
	return found
}

func planOf(t testing.TB, plans *wirejson.Plans, r *registry.Resource) *wirejson.Plan {
	t.Helper()
	p, err := plans.For(reflect.TypeOf(r.New()).Elem())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// same compares the text that the plan makes of an encoding with what encoding/json makes of the decoded object.
func same(t *testing.T, p *wirejson.Plan, r *registry.Resource, raw []byte) (usual bool) {
	t.Helper()
	version, kind := r.Kind.GroupVersion().String(), r.Kind.Kind
	before := bytes.Clone(raw)
	got, err := p.AppendTyped([]byte("x"), version, kind, raw)
	if !bytes.Equal(before, raw) {
		t.Fatalf("the encoding was modified")
	}
	if errors.Is(err, wirejson.ErrUnusual) && string(got) == "x" {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	obj := r.New()
	if err := obj.Unmarshal(raw); err != nil {
		t.Fatalf("%v, but this was written: %s", err, got)
	}
	obj.GetObjectKind().SetGroupVersionKind(r.Kind)
	want, err := json.Marshal(obj)
	if err != nil {
		t.Fatalf("%v, but this was written: %s", err, got)
	}
	if got = got[1:]; !bytes.Equal(got, want) {
		t.Fatalf("got\n%s\nwant\n%s\nof %x", got, want, raw)
	}
	obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	if want, err = json.Marshal(obj); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Append(nil, raw); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%v, got\n%s\nwant\n%s", err, got, want)
	}
	return true
}

// Of each kind, the objects that k8s.io/api ships, with every field set, are written as encoding/json writes them; so is their metadata.
func TestGolden(t *testing.T) {
	plans, dir, n := wirejson.New(), goldens(t), 0
	for _, r := range resources(t) {
		p := planOf(t, plans, r)
		for _, raw := range golden(t, dir, r.Kind) {
			n++
			if !same(t, p, r, raw) {
				t.Errorf("%s is unusual", r.Kind)
			}
			obj := r.New()
			if err := obj.Unmarshal(raw); err != nil {
				t.Fatal(err)
			}
			partial := &metav1.PartialObjectMetadata{
				TypeMeta:   metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/v1"},
				ObjectMeta: *obj.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta),
			}
			want, _ := json.Marshal(partial)
			if got, err := p.AppendMetadata(nil, "meta.k8s.io/v1", "PartialObjectMetadata", raw); err != nil || !bytes.Equal(got, want) {
				t.Errorf("metadata: %v\n%s\n%s", err, got, want)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d objects found", n)
	}
}

// An object of each kind with nothing in it is written as encoding/json writes it, also when it is no bytes at all.
func TestEmpty(t *testing.T) {
	plans := wirejson.New()
	for _, r := range resources(t) {
		p := planOf(t, plans, r)
		raw, err := r.New().(interface{ Marshal() ([]byte, error) }).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !same(t, p, r, raw) || !same(t, p, r, nil) {
			t.Errorf("%s is unusual", r.Kind)
		}
	}
}

// A frame of the watch cache, whose metadata comes in two parts, is written with its resource version in its place.
func TestFrame(t *testing.T) {
	plans, dir := wirejson.New(), goldens(t)
	for _, r := range resources(t) {
		for _, raw := range golden(t, dir, r.Kind) {
			f, err := frame.Splice(frame.Wrap(r.Kind.GroupVersion().String(), r.Kind.Kind, frame.Protobuf, raw), 4711)
			if err != nil {
				t.Fatal(err)
			}
			if !same(t, planOf(t, plans, r), r, f.Object()) {
				t.Errorf("%s is unusual", r.Kind)
			}
		}
	}
}

// Objects of every kind with fields set at random, among them strings and quantities that are hard to write, are written as
// encoding/json writes them.
func TestRandom(t *testing.T) {
	plans := wirejson.New()
	for i, r := range resources(t) {
		p, usual := planOf(t, plans, r), 0
		fill := newFiller(uint64(i))
		for range rounds {
			obj := r.New()
			fill.value(reflect.ValueOf(obj).Elem(), 0)
			obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
			raw, err := obj.(interface{ Marshal() ([]byte, error) }).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if same(t, p, r, raw) {
				usual++
			}
		}
		if usual < rounds/2 {
			t.Errorf("of %s only %d of %d are written from their bytes", r.Kind, usual, rounds)
		}
	}
}

const rounds = 25

// Encodings that are put together otherwise, cut off or damaged are written as what they decode to, or left to the decoder.
func TestDamaged(t *testing.T) {
	plans, dir := wirejson.New(), goldens(t)
	for i, r := range resources(t) {
		p, fill := planOf(t, plans, r), newFiller(uint64(i))
		for _, raw := range golden(t, dir, r.Kind) {
			for range rounds {
				same(t, p, r, fill.damage(raw))
			}
		}
	}
}

// No bytes make a pod's text another than what they decode to.
func FuzzPod(f *testing.F) {
	plans := wirejson.New()
	r, _ := kindNamed(f, "Pod")
	for _, raw := range golden(f, goldens(f), r.Kind) {
		f.Add(raw)
	}
	p := planOf(f, plans, r)
	f.Fuzz(func(t *testing.T, raw []byte) { same(t, p, r, raw) })
}

func kindNamed(t testing.TB, kind string) (*registry.Resource, bool) {
	for _, r := range resources(t) {
		if r.Kind.Kind == kind {
			return r, true
		}
	}
	return nil, false
}

// What is not an object of a known form has no plan.
func TestNoPlan(t *testing.T) {
	type Inner struct {
		A string `json:"a" protobuf:"bytes,1,opt,name=a"`
	}
	type twice struct {
		metav1.TypeMeta `json:",inline"`
		Inner           `json:",inline" protobuf:"bytes,1,opt,name=inner"`
		A               string `json:"a" protobuf:"bytes,2,opt,name=b"`
	}
	type unknown struct {
		metav1.TypeMeta `json:",inline"`
		A               complex64 `json:"a" protobuf:"bytes,1,opt,name=a"`
	}
	type local struct {
		metav1.TypeMeta `json:",inline"`
		A               string `json:"a"`
	}
	type quoted struct {
		metav1.TypeMeta `json:",inline"`
		A               int64 `json:"a,string" protobuf:"varint,1,opt,name=a"`
	}
	for _, typ := range []reflect.Type{
		reflect.TypeFor[corev1.PodSpec](), reflect.TypeFor[string](), reflect.TypeFor[twice](), reflect.TypeFor[unknown](), reflect.TypeFor[local](), reflect.TypeFor[quoted](),
	} {
		if _, err := wirejson.New().For(typ); err == nil {
			t.Errorf("%s has a plan", typ)
		}
	}
}

// BenchmarkPod writes a running pod as kubelets and controllers leave it, from its bytes and by way of the object.
func BenchmarkPod(b *testing.B) {
	r, _ := kindNamed(b, "Pod")
	p := planOf(b, wirejson.New(), r)
	raw, err := runningPod().Marshal()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("wire", func(b *testing.B) {
		var out []byte
		b.ReportAllocs()
		for b.Loop() {
			if out, err = p.Append(out[:0], raw); err != nil {
				b.Fatal(err)
			}
		}
		b.SetBytes(int64(len(out)))
	})
	b.Run("object", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var pod corev1.Pod
			if err := pod.Unmarshal(raw); err != nil {
				b.Fatal(err)
			}
			out, err := json.Marshal(&pod)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(out)))
		}
	})
}
