package customresource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/webhook"
)

const shape = `
metadata: {name: things.x.com}
spec:
  group: x.com
  scope: Namespaced
  names: {plural: things, singular: thing, kind: Thing, listKind: ThingList}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.count, statusReplicasPath: .status.count, labelSelectorPath: .status.selector}}
    selectableFields: [{jsonPath: .spec.word}]
    additionalPrinterColumns:
    - {name: Word, type: string, jsonPath: .spec.word}
    - {name: Count, type: integer, jsonPath: .spec.count}
    - {name: Share, type: number, jsonPath: .spec.share}
    - {name: On, type: boolean, jsonPath: .spec.lit}
    - {name: Since, type: date, jsonPath: .spec.since}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [word]
            properties:
              word: {type: string, maxLength: 10}
              maybe: {type: string, nullable: true}
              count: {type: integer, default: 3}
              share: {type: number}
              lit: {type: boolean}
              since: {type: string, format: date-time}
              either: {x-kubernetes-int-or-string: true}
              open: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {known: {type: object, properties: {a: {type: string}}}}}
              pod: {type: object, x-kubernetes-embedded-resource: true, properties: {spec: {type: object, properties: {x: {type: string, default: d}}}}}
              set: {type: array, x-kubernetes-list-type: set, items: {type: string}}
              list: {type: array, items: {type: object, properties: {num: {type: integer, default: 1}}}}
              map: {type: object, additionalProperties: {type: object, properties: {v: {type: string}}}}
          status: {type: object, properties: {count: {type: integer}, selector: {type: string}}}
  - name: v2
    served: true
    storage: false
    deprecated: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {word: {type: string}, more: {type: string}}}}}}
`

// made returns the versions of the shape.
func made(t testing.TB, change func(*v1.CustomResourceDefinition)) *definition {
	t.Helper()
	d := &v1.CustomResourceDefinition{}
	if err := yaml.Unmarshal([]byte(shape), d); err != nil {
		t.Fatal(err)
	}
	d.Status.AcceptedNames = d.Spec.Names
	if change != nil {
		change(d)
	}
	def, err := newDefinition(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	return def
}

// object makes an object of the first version with a spec in YAML.
func object(t testing.TB, d *definition, spec string) *registry.CustomObject {
	t.Helper()
	o := &registry.CustomObject{Custom: d.storage.custom}
	text, err := yaml.YAMLToJSON([]byte("{apiVersion: x.com/v1, kind: Thing, metadata: {name: a}, spec: " + spec + "}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Unmarshal(text); err != nil {
		t.Fatal(err)
	}
	return o
}

func text(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What a client sends is made to fit the schema: unknown fields go and are told, nulls go where there can be none, defaults come.
func TestFit(t *testing.T) {
	d := made(t, nil)
	for _, c := range []struct{ name, spec, want, unknown string }{
		{"defaults", `{}`, `{"count":3}`, ""},
		{"unknown", `{bad: 1, list: [{x: 1}], map: {k: {w: 1}}}`, `{"count":3,"list":[{"num":1}],"map":{"k":{}}}`, "spec.bad spec.list[0].x spec.map.k.w"},
		{"null", `{word: null, maybe: null, count: null}`, `{"count":3,"maybe":null}`, ""},
		{"open", `{open: {z: {why: 1}, known: {a: b, c: d}}}`, `{"count":3,"open":{"known":{"a":"b"},"z":{"why":1}}}`, "spec.open.known.c"},
		{"embedded", `{pod: {apiVersion: v1, kind: Pod, metadata: {name: x, bogus: 1}, spec: {}, other: 1}}`,
			`{"count":3,"pod":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"x":"d"}}}`, "spec.pod.metadata.bogus spec.pod.other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := object(t, d, c.spec)
			unknown, err := d.storage.coerce(o.Object, true)
			if err != nil {
				t.Fatal(err)
			}
			d.storage.fill(o.Object)
			if got := text(t, o.Object["spec"]); got != c.want {
				t.Errorf("spec %s\nwant %s", got, c.want)
			}
			want := map[string]bool{}
			for _, path := range strings.Fields(c.unknown) {
				want[path] = true
			}
			for _, path := range unknown {
				if !want[path] {
					t.Errorf("unknown %q", path)
				}
				delete(want, path)
			}
			if len(want) > 0 {
				t.Errorf("not told: %v", want)
			}
		})
	}
}

func messages(errs field.ErrorList) string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Error())
	}
	return strings.Join(out, "\n")
}

// An object is held to its schema, and a change only to what it changes.
func TestValidate(t *testing.T) {
	d := made(t, nil)
	v := d.storage
	for _, c := range []struct{ name, spec, want string }{
		{"good", `{word: a, either: 1, set: [a, b]}`, ""},
		{"required", `{}`, "spec.word: Required value"},
		{"type", `{word: 1}`, `spec.word: Invalid value: "integer": spec.word in body must be of type string: "integer"`},
		{"long", `{word: aaaaaaaaaaaaa}`, `spec.word: Too long: may not be more than 10 bytes`},
		{"either", `{word: a, either: [1]}`, `spec.either: Invalid value: "array": spec.either in body must be of type integer,string: "array"`},
		{"set", `{word: a, set: [a, a]}`, `spec.set[1]: Duplicate value: "a"`},
		{"replicas", `{word: a, count: -1}`, `.spec.count: Invalid value: -1: should be a non-negative integer`},
		{"embedded", `{word: a, pod: {kind: Pod, metadata: {name: 'A B'}}}`, "spec.pod.apiVersion: Required value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := object(t, d, c.spec)
			if got := messages(v.validate(o)); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("errors %q\nwant %q", got, c.want)
			}
		})
	}
	old := object(t, d, `{word: aaaaaaaaaaaaa, count: 1}`)
	if errs := v.validateUpdate(object(t, d, `{word: aaaaaaaaaaaaa, count: 2}`), old); len(errs) != 0 {
		t.Errorf("a change elsewhere: %v", errs)
	}
	if errs := v.validateUpdate(object(t, d, `{word: bbbbbbbbbbbbb, count: 2}`), old); len(errs) == 0 {
		t.Error("a changed value may still be too long")
	}
}

// Columns show what there is as what they say they are, and null for the rest.
func TestColumns(t *testing.T) {
	d := made(t, nil)
	now := time.Date(2026, 1, 1, 1, 0, 0, 0, time.UTC)
	o := object(t, d, `{word: a, count: 2, share: 0.5, lit: true, since: "2026-01-01T00:00:00Z"}`)
	empty := object(t, d, `{count: text}`)
	var got, none []any
	for _, c := range d.storage.columns() {
		got, none = append(got, c.JSONValue(o, now)), append(none, c.JSONValue(empty, now))
	}
	if s := text(t, got); s != `["a","a",2,0.5,true,"60m"]` {
		t.Errorf("cells %s", s)
	}
	if s := text(t, none); s != `["a",null,null,null,null,null]` {
		t.Errorf("cells of nothing %s", s)
	}
}

// What readers see of stored bytes is seen of what they see as well, and is the bytes themselves if nothing is missing.
func TestViewIsIdempotent(t *testing.T) {
	d := made(t, nil)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		o := object(t, d, "{}")
		o.Object["spec"] = randomValue(rng, 4)
		stored, err := o.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		one, err := d.view(stored)
		if err != nil {
			t.Fatalf("%s: %v", stored, err)
		}
		two, err := d.view(one)
		if err != nil || string(one) != string(two) {
			t.Fatalf("%s is seen as\n%s, and that as\n%s (%v)", stored, one, two, err)
		}
	}
}

// randomValue is any JSON value made of the shape's names.
func randomValue(rng *rand.Rand, depth int) any {
	names := []string{"word", "maybe", "count", "open", "known", "pod", "metadata", "labels", "name", "set", "list", "map", "v", "num", "spec", "apiVersion", "kind"}
	switch n := rng.IntN(8); {
	case n < 3 && depth > 0:
		m := map[string]any{}
		for range rng.IntN(6) {
			m[names[rng.IntN(len(names))]] = randomValue(rng, depth-1)
		}
		return m
	case n == 3 && depth > 0:
		var l []any
		for range rng.IntN(4) {
			l = append(l, randomValue(rng, depth-1))
		}
		return l
	case n == 4:
		return nil
	case n == 5:
		return int64(rng.IntN(5))
	case n == 6:
		return rng.IntN(2) == 0
	}
	return names[rng.IntN(len(names))]
}

// Converted objects keep their identity and the metadata that is not a webhook's to change.
func TestRemoteConversion(t *testing.T) {
	var change func(o map[string]any)
	call := func(_ context.Context, _ webhook.Target, request, response any) error {
		b, err := json.Marshal(request)
		if err != nil {
			return err
		}
		var in review
		if err := json.Unmarshal(b, &in); err != nil {
			return err
		}
		o := in.Request.Objects[0]
		o["apiVersion"] = in.Request.DesiredAPIVersion
		change(o)
		out := fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"response":{"uid":%q,"result":{"status":"Success"},"convertedObjects":[%s]}}`, in.APIVersion, in.Kind, in.Request.UID, text(t, o))
		return json.Unmarshal([]byte(out), response)
	}
	d := made(t, nil)
	d.convert = &remote{versions: []string{"v7", "v1"}, call: call}
	o := object(t, d, "{word: a}")
	meta := func(o map[string]any) map[string]any { return o["metadata"].(map[string]any) }
	for _, c := range []struct {
		name   string
		change func(o map[string]any)
		want   string
	}{
		{"good", func(o map[string]any) { o["spec"] = map[string]any{"more": "b"}; meta(o)["finalizers"] = []any{"x"} }, ""},
		{"version", func(o map[string]any) { o["apiVersion"] = "x.com/v1" }, "invalid groupVersion (expected x.com/v2, received x.com/v1)"},
		{"kind", func(o map[string]any) { o["kind"] = "Other" }, "invalid kind (expected Thing, received Other)"},
		{"name", func(o map[string]any) { meta(o)["name"] = "b" }, "must have the same name: a != b"},
		{"no metadata", func(o map[string]any) { delete(o, "metadata") }, "must have the same name: a != "},
		{"label", func(o map[string]any) { meta(o)["labels"] = map[string]any{"a b": "c"} }, "metadata.labels: Invalid value"},
		{"label of a kind", func(o map[string]any) { meta(o)["labels"] = map[string]any{"a": 1} }, "metadata.labels[a] must be a string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			change = c.change
			got, err := d.to(d.versions["v2"], o)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v instead of %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s := text(t, got.(*registry.CustomObject).Object); s != `{"apiVersion":"x.com/v2","kind":"Thing","metadata":{"name":"a"},"spec":{"more":"b"}}` {
				t.Errorf("converted %s", s)
			}
		})
	}
	d.convert = &remote{versions: []string{"v7"}, call: call}
	if _, err := d.to(d.versions["v2"], o); !errors.Is(err, errNoReviewVersion) {
		t.Errorf("no version of reviews in common: %v", err)
	}
}

// A webhook is asked once about objects that are read together, in their order, and only about those that it has not converted yet.
func TestPrepareConversion(t *testing.T) {
	var asked []int
	fail := false
	call := func(_ context.Context, _ webhook.Target, request, response any) error {
		r := request.(*review)
		asked = append(asked, len(r.Request.Objects))
		if fail {
			return errors.New("not today")
		}
		var out []string
		for _, o := range r.Request.Objects {
			c := runtime.DeepCopyJSON(o)
			c["apiVersion"] = r.Request.DesiredAPIVersion
			out = append(out, text(t, c))
		}
		answer := fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"response":{"uid":%q,"result":{"status":"Success"},"convertedObjects":[%s]}}`, r.APIVersion, r.Kind, r.Request.UID, strings.Join(out, ","))
		return json.Unmarshal([]byte(answer), response)
	}
	d := made(t, nil)
	d.convert = &remote{versions: []string{"v1"}, call: call}
	v2 := d.versions["v2"]
	var stored []registry.Object
	for i := range 5 {
		o := object(t, d, "{word: a}")
		o.SetName(fmt.Sprint("o", i))
		o.SetUID(types.UID(fmt.Sprint("u", i)))
		o.SetResourceVersion("1")
		stored = append(stored, o)
	}
	read := func(want ...int) {
		t.Helper()
		asked = nil
		if err := v2.prepare(stored); err != nil {
			t.Fatal(err)
		}
		for i, o := range stored {
			got, err := v2.fromStored(o)
			if err != nil {
				t.Fatal(err)
			}
			if got.GetName() != fmt.Sprint("o", i) || got.GetObjectKind().GroupVersionKind().Version != "v2" {
				t.Errorf("object %d is %s in %s", i, got.GetName(), got.GetObjectKind().GroupVersionKind())
			}
		}
		if !slices.Equal(asked, want) {
			t.Errorf("asked about %v objects at once, not about %v", asked, want)
		}
	}
	read(5)
	read()
	changed := func(i int) {
		stored[i] = stored[i].DeepCopyObject().(registry.Object)
		stored[i].SetResourceVersion("2")
	}
	changed(3)
	read(1)
	changed(0)
	changed(1)
	read(2)
	changed(2)
	changed(4)
	stored[2].SetResourceVersion("3")
	stored[4].SetResourceVersion("3")
	fail = true
	if err := v2.prepare(stored); err == nil || !strings.Contains(err.Error(), "conversion webhook for x.com/v1, Kind=Thing failed: not today") {
		t.Errorf("a failure: %v", err)
	}
}

// What is kept of converted objects is bounded by what they take, not only by how many they are; what was just put is there.
func TestConvertedIsBounded(t *testing.T) {
	var c converted
	large := func() map[string]any { return map[string]any{"data": strings.Repeat("x", 1<<20)} }
	for i := range 200 {
		k := convertedKey{uid: fmt.Sprint(i), revision: "1"}
		c.put(k, large())
		if _, ok := c.get(k); !ok {
			t.Fatalf("object %d is not kept", i)
		}
		kept := 0
		for _, half := range []map[convertedKey]map[string]any{c.new, c.older} {
			for _, content := range half {
				kept += weight(content)
			}
		}
		if kept > maxConvertedBytes {
			t.Fatalf("%d bytes are kept after %d objects", kept, i+1)
		}
	}
	c.put(convertedKey{uid: "huge"}, map[string]any{"data": strings.Repeat("x", maxConvertedBytes)})
	if _, ok := c.get(convertedKey{uid: "huge"}); ok {
		t.Error("what is larger than all that may be kept is kept")
	}
}

// A deprecated version warns, of the newer one to use if there is one.
func TestDeprecation(t *testing.T) {
	d := made(t, func(d *v1.CustomResourceDefinition) {
		d.Spec.Versions[0].Deprecated = true
		d.Spec.Versions[1].Deprecated = false
	})
	if got := d.versions["v1"].deprecation(); len(got) != 1 || got[0] != "x.com/v1 Thing is deprecated; use x.com/v2 Thing" {
		t.Errorf("v1: %q", got)
	}
	if got := d.versions["v2"].deprecation(); got != nil {
		t.Errorf("v2: %q", got)
	}
}

// No bytes in the store and no body of a client makes the server panic.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"x.com/v1","kind":"Thing","metadata":{"name":"a"},"spec":{"word":"a","pod":{"metadata":{"labels":{"a":1}}}}}`))
	f.Add([]byte(`{"apiVersion":"x.com/v1","kind":"Thing","metadata":[],"spec":{"set":["a","a"],"map":{"k":null}}}`))
	d := made(f, nil)
	f.Fuzz(func(_ *testing.T, body []byte) {
		if seen, err := d.view(body); err == nil {
			_, _ = d.view(seen)
		}
		o := &registry.CustomObject{Custom: d.storage.custom}
		if o.Unmarshal(body) != nil {
			return
		}
		if _, err := d.storage.coerce(o.Object, true); err != nil {
			return
		}
		d.storage.fill(o.Object)
		d.storage.validate(o)
		d.storage.validateUpdate(o, o)
		d.storage.validateStatus(o, o)
		for _, c := range d.storage.columns() {
			c.Cell(o, time.Unix(0, 0))
		}
	})
}
