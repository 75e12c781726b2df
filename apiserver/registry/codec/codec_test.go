package codec_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
)

var deployment = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}

// Bodies that kube-apiserver refuses are refused with its reason and its words.
func TestDecodeBodyVerdicts(t *testing.T) {
	c := codec.New(testSet(t))
	for _, tc := range []struct {
		name, contentType, body string
		fv                      codec.FieldValidation
		want                    string // of the error; "" for success
		warnings                []string
	}{
		{name: "unknown field", contentType: codec.JSON, fv: codec.Strict,
			body: `{"apiVersion":"apps/v1","kind":"Deployment","spec":{"foo":1}}`,
			want: `Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.foo"`},
		{name: "unknown field in YAML", contentType: codec.YAML, fv: codec.Strict,
			body: "apiVersion: apps/v1\nkind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n        imagee: b\n",
			want: `Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.template.spec.containers[0].imagee"`},
		{name: "unknown field, warned", contentType: codec.JSON,
			body: `{"spec":{"foo":1}}`, warnings: []string{`unknown field "spec.foo"`}},
		{name: "unknown field, ignored", contentType: codec.JSON, fv: codec.Ignore, body: `{"spec":{"foo":1}}`},
		{name: "duplicate key", contentType: codec.JSON, fv: codec.Strict,
			body: `{"apiVersion":"apps/v1","kind":"Deployment","spec":{"paused":true,"paused":false}}`,
			want: `Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: duplicate field "spec.paused"`},
		{name: "duplicate key in YAML", contentType: codec.YAML, fv: codec.Strict,
			body: "apiVersion: apps/v1\nkind: Deployment\nspec:\n  paused: true\n  paused: false\n",
			want: "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: yaml: unmarshal errors:\n  line 5: key \"paused\" already set in map"},
		{name: "wrong type", contentType: codec.JSON, fv: codec.Ignore,
			body: `{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":"two"}}`,
			want: `Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`},
		{name: "another kind", contentType: codec.JSON,
			body: `{"apiVersion":"v1","kind":"Pod"}`,
			want: `the API version in the data (v1) does not match the expected API version (apps/v1)`},
		{name: "another kind of the group", contentType: codec.JSON,
			body: `{"apiVersion":"apps/v1","kind":"ReplicaSet"}`,
			want: `ReplicaSet in version "v1" cannot be handled as a Deployment: converting (v1.ReplicaSet) to (apps.Deployment): unknown conversion`},
		{name: "unheard-of kind", contentType: codec.JSON,
			body: `{"apiVersion":"apps/v1","kind":"Deploymint"}`,
			want: `Deploymint in version "v1" cannot be handled as a Deployment: no kind "Deploymint" is registered for version "apps/v1"`},
		{name: "no kind is the wanted kind", contentType: codec.JSON, body: `{"metadata":{"name":"x"}}`},
		{name: "not JSON", contentType: codec.JSON, body: `{"spec`,
			want: `the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: unexpected end of JSON input ({"spec)`},
		{name: "media type", contentType: "text/plain", body: `x`,
			want: "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			obj := newDeployment(t)
			warnings, err := c.DecodeBody(tc.contentType, []byte(tc.body), deployment, tc.fv, obj)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || err.Error() != tc.want) {
				t.Errorf("error\n got %v\nwant %s", err, tc.want)
			}
			if fmt.Sprint(warnings) != fmt.Sprint(tc.warnings) {
				t.Errorf("warnings %q, want %q", warnings, tc.warnings)
			}
			if tc.want != "" && tc.contentType != "text/plain" && !apierrors.IsBadRequest(err) {
				t.Errorf("not a bad request: %v", err)
			}
			if tc.want == "" && obj.GetObjectKind().GroupVersionKind() != deployment {
				t.Errorf("kind %v", obj.GetObjectKind().GroupVersionKind())
			}
		})
	}
}

func newDeployment(t testing.TB) registry.Object {
	r, ok := testSet(t).ForKind(deployment)
	if !ok {
		t.Fatal("no Deployment")
	}
	return r.New()
}

// Bodies made to exhaust the server are refused, and refusing one takes less memory than a few times its size.
func TestBombs(t *testing.T) {
	c := codec.New(testSet(t))
	elements := strings.TrimSuffix(strings.Repeat("null,", 600_000), ",")
	for _, tc := range []struct{ name, contentType, body, want string }{
		{"body", codec.JSON, strings.Repeat(" ", codec.MaxBody+1), "Request entity too large: limit is 3145728"},
		{"nesting", codec.JSON, `{"spec":` + strings.Repeat("[", 100_000), "exceeded max depth of 1000"},
		{"elements", codec.JSON, `{"spec":{"template":{"spec":{"containers":[` + elements + `]}}}}`, "exceeded max number of list elements, 65536"},
		{"aliases", codec.YAML, laughs(), "document contains excessive aliasing"},
		{"long alias", codec.YAML, "a: &a \"" + strings.Repeat("x", 1<<20) + "\"\nb: [" + strings.Repeat("*a,", 1000) + "*a]\n", "document contains excessive aliasing"},
		{"endless alias", codec.YAML, "a: &a [*a]\n", "aliasing"},
		{"protobuf", codec.Protobuf, protobufBomb(), "exceeded max number of list elements, 65536"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := c.DecodeBody(tc.contentType, []byte(tc.body), deployment, codec.Strict, newDeployment(t))
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %s", err, tc.want)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
				t.Errorf("allocated %d bytes", used)
			}
		})
	}
}

// laughs is nine levels of nine references each.
func laughs() string {
	var b strings.Builder
	b.WriteString("l0: &l0 lol\n")
	for i := 1; i <= 9; i++ {
		fmt.Fprintf(&b, "l%d: &l%d [%s*l%d]\n", i, i, strings.Repeat(fmt.Sprintf("*l%d, ", i-1), 8), i-1)
	}
	return b.String()
}

// protobufBomb is a deployment with 700,000 empty containers, two bytes each.
func protobufBomb() string {
	field := func(number byte, value []byte) []byte {
		out := []byte{number<<3 | 2}
		for n := len(value); ; n >>= 7 {
			if n < 0x80 {
				out = append(out, byte(n))
				break
			}
			out = append(out, byte(n)|0x80)
		}
		return append(out, value...)
	}
	containers := bytes.Repeat([]byte{2<<3 | 2, 0}, 700_000)
	template := field(2, containers) // PodTemplateSpec.spec
	spec := field(3, template)       // DeploymentSpec.template
	raw := field(2, spec)            // Deployment.spec
	unknown := append(field(1, append(field(1, []byte("apps/v1")), field(2, []byte("Deployment"))...)), field(2, raw)...)
	return "k8s\x00" + string(unknown)
}

// A stored frame is split without decoding, and what is not one is told apart.
func TestOpen(t *testing.T) {
	c := codec.New(testSet(t))
	obj := newDeployment(t)
	obj.SetName("web")
	stored, err := c.EncodeStored(deployment, obj)
	if err != nil {
		t.Fatal(err)
	}
	kind, contentType, raw, err := codec.Open(stored)
	if err != nil || kind != deployment || contentType != "" {
		t.Fatalf("%v %q %v", kind, contentType, err)
	}
	want, _ := obj.Marshal()
	if !bytes.Equal(raw, want) {
		t.Error("raw is not the object's encoding")
	}
	for _, bad := range []string{"", "k8s", "k8s\x00\x0a\xff", "json"} {
		if _, _, _, err := codec.Open([]byte(bad)); err == nil {
			t.Errorf("%q opened", bad)
		}
	}
}
