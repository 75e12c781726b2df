package codec_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
)

func testSet(t testing.TB) *registry.Set {
	t.Helper()
	set, err := registry.NewSet(groups.All(core.Config{})...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// The objects that k8s.io/api ships as golden data decode and re-encode byte for byte, in JSON, YAML and protobuf, for each
// registered kind.
func TestGolden(t *testing.T) {
	set := testSet(t)
	c := codec.New(set)
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		t.Fatalf("where is k8s.io/api? %v", err)
	}
	head := filepath.Join(strings.TrimSpace(string(out)), "testdata", "HEAD")
	for _, r := range set.All() {
		if strings.HasPrefix(r.Kind.Group, "api") {
			continue // apiextensions.k8s.io and apiregistration.k8s.io are not in k8s.io/api
		}
		group := r.Kind.Group
		if group == "" {
			group = "core"
		}
		base := filepath.Join(head, group+"."+r.Kind.Version+"."+r.Kind.Kind)
		t.Run(group+"."+r.Kind.Version+"."+r.Kind.Kind, func(t *testing.T) { goldenKind(t, c, r, base) })
	}
}

func goldenKind(t *testing.T, c *codec.Codec, r *registry.Resource, base string) {
	read := func(ext string) []byte {
		data, err := os.ReadFile(base + ext)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	fromJSON, fromYAML, fromProto := r.New(), r.New(), r.New()
	jsonText, yamlText, proto := read(".json"), read(".yaml"), read(".pb")
	for _, body := range []struct {
		contentType string
		data        []byte
		into        registry.Object
	}{{codec.JSON, jsonText, fromJSON}, {codec.YAML, yamlText, fromYAML}, {codec.Protobuf, proto, fromProto}} {
		warnings, err := c.DecodeBody(body.contentType, body.data, r.Kind, codec.Strict, body.into)
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%s: %v %v", body.contentType, err, warnings)
		}
	}
	if diff := cmp.Diff(fromJSON, fromProto, compactRaw()); diff != "" {
		t.Errorf("JSON and protobuf differ: %s", diff)
	}
	if diff := cmp.Diff(fromJSON, fromYAML, compactRaw()); diff != "" {
		t.Errorf("JSON and YAML differ: %s", diff)
	}
	if got, err := c.EncodeJSON(fromProto, true); err != nil || !bytes.Equal(got, jsonText) {
		t.Errorf("JSON: %v %s", err, cmp.Diff(string(jsonText), string(got)))
	}
	if got, err := c.EncodeYAML(fromJSON); err != nil || !bytes.Equal(got, yamlText) {
		t.Errorf("YAML: %v %s", err, cmp.Diff(string(yamlText), string(got)))
	}
	if got, err := c.EncodeProtobuf(r.Kind, fromYAML); err != nil || !bytes.Equal(got, proto) {
		t.Errorf("protobuf differs: %v", err)
	}
	stored := r.New()
	encoded, err := c.EncodeStored(r.Kind, fromJSON)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DecodeStored(encoded, stored); err != nil {
		t.Fatal(err)
	}
	if stored.GetResourceVersion() != "" || fromJSON.GetResourceVersion() == "" {
		t.Error("the stored form has a resource version, or the object lost its own")
	}
	stored.SetResourceVersion(fromJSON.GetResourceVersion())
	if diff := cmp.Diff(fromJSON, stored); diff != "" {
		t.Errorf("stored form: %s", diff)
	}
}

// compactRaw compares embedded JSON without its white space.
func compactRaw() cmp.Option {
	return cmp.Transformer("compact", func(r runtime.RawExtension) string {
		var out bytes.Buffer
		_ = json.Compact(&out, r.Raw)
		return out.String()
	})
}
