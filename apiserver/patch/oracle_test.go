package patch

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
)

// What Track records, with its short cuts, is what apimachinery's field manager records without them: for each kind, over
// random objects and random changes by the same and by other managers, through the object and its status.
func TestTrackAgreesWithFieldManager(t *testing.T) {
	set, err := registry.NewSet(groups.All(core.Config{})...)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFields(set)
	rng := rand.New(rand.NewPCG(1, 2))
	steps := 0
	defer func() {
		if steps < 50 {
			t.Errorf("only %d histories were well-formed", steps)
		}
	}()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	api := strings.TrimSpace(string(out))
	for _, r := range set.All() {
		if r.Kind.Group == "apiextensions.k8s.io" || r.Kind.Group == "apiregistration.k8s.io" {
			continue // k8s.io/api has no golden objects of them
		}
		golden := goldenObject(t, r, api)
		for range 8 {
			a, b := thinned(t, r, golden, rng), thinned(t, r, golden, rng)
			sub := ""
			if _, ok := r.Subresources["status"]; ok && rng.IntN(2) == 0 {
				sub = "status"
			}
			manager := []string{"first", "second"}[rng.IntN(2)]
			mine, theirs := a.DeepCopyObject().(registry.Object), a.DeepCopyObject().(registry.Object)
			mine2, theirs2 := b.DeepCopyObject().(registry.Object), b.DeepCopyObject().(registry.Object)
			mine3, theirs3 := a.DeepCopyObject().(registry.Object), a.DeepCopyObject().(registry.Object)
			if step(t, f, r, "", mine, theirs, nil, nil, "first") && step(t, f, r, sub, mine2, theirs2, mine, theirs, manager) {
				step(t, f, r, "", mine3, theirs3, mine2, theirs2, "third")
				steps++
			}
		}
	}
}

// step tracks a change both ways and compares. It reports whether the object was one that can be tracked at all: random
// ones may lack the keys of list elements.
func step(t *testing.T, f *Fields, r *registry.Resource, sub string, mine, theirs, mineOld, theirsOld registry.Object, manager string) bool {
	t.Helper()
	m, err := f.manager(r, sub)
	if err != nil {
		t.Fatal(err)
	}
	if theirsOld == nil {
		theirsOld = r.New()
		theirsOld.GetObjectKind().SetGroupVersionKind(r.Kind)
	}
	out, err := m.Update(theirsOld, theirs, manager)
	if err != nil {
		return false
	}
	if err := f.Track(r, sub, mine, mineOld, manager); err != nil {
		t.Fatal(err)
	}
	theirs.SetManagedFields(out.(registry.Object).GetManagedFields())
	if diff := cmp.Diff(plain(theirs), plain(mine)); diff != "" {
		is, _ := json.Marshal(mine)
		was, _ := json.Marshal(mineOld)
		t.Fatalf("%s %q %s: %s\nis  %s\nwas %s", r.Kind.Kind, sub, manager, diff, is, was)
	}
	return true
}

func plain(obj registry.Object) map[string]any {
	fields := map[string]any{}
	for _, e := range obj.GetManagedFields() {
		var set any
		_ = json.Unmarshal(e.FieldsV1.Raw, &set)
		fields[e.Manager+"/"+string(e.Operation)+"/"+e.APIVersion+"/"+e.Subresource] = set
	}
	return fields
}

func goldenObject(t *testing.T, r *registry.Resource, api string) map[string]any {
	t.Helper()
	group := r.Kind.Group
	if group == "" {
		group = "core"
	}
	text, err := os.ReadFile(filepath.Join(api, "testdata", "HEAD", group+"."+r.Kind.Version+"."+r.Kind.Kind+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var golden map[string]any
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	return golden
}

// thinned is the golden object without random parts of it.
func thinned(t *testing.T, r *registry.Resource, golden map[string]any, rng *rand.Rand) registry.Object {
	t.Helper()
	text, err := json.Marshal(thin(golden, rng))
	if err != nil {
		t.Fatal(err)
	}
	obj := r.New()
	if err := json.Unmarshal(text, obj); err != nil {
		t.Fatal(err)
	}
	obj.GetObjectKind().SetGroupVersionKind(r.Kind)
	obj.SetManagedFields(nil)
	obj.SetUID("u")
	obj.SetCreationTimestamp(metav1.Time{})
	return obj
}

func thin(v any, rng *rand.Rand) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if rng.IntN(8) != 0 {
				out[key] = thin(v[key], rng)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = thin(v[i], rng)
		}
		return out
	case string: // not times and amounts
		if strings.HasSuffix(v, "Value") && rng.IntN(8) == 0 {
			return v + "x"
		}
	case float64:
		if rng.IntN(8) == 0 {
			return v + 1
		}
	}
	return v
}
