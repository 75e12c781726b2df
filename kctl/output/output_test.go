package output

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func testPod(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": name, "managedFields": []any{map[string]any{"manager": "kctl"}}},
		"spec":     map[string]any{"containers": []any{map[string]any{"name": "a"}, map[string]any{"name": "b"}}},
	}}
}

// TestFormats shows each -o format on one object and on a list.
func TestFormats(t *testing.T) {
	list := List([]*unstructured.Unstructured{testPod("x"), testPod("y")})
	tests := []struct {
		format string
		obj    *unstructured.Unstructured
		want   string
	}{
		{"jsonpath={.metadata.name}", testPod("x"), "x"},
		{"jsonpath=.metadata.name", testPod("x"), "x"},
		{"jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}", list, "x\ny\n"},
		{"jsonpath={.spec.missing}", testPod("x"), ""},
		{"custom-columns=NAME:.metadata.name,FIRST:.spec.containers[0].name", list, "NAME   FIRST\nx      a\ny      a\n"},
		{"go-template={{.metadata.name}}", testPod("x"), "x"},
		{"yaml", testPod("x"), "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\nspec:\n  containers:\n  - name: a\n  - name: b\n"},
	}
	for _, tt := range tests {
		p, err := New(tt.format, Options{})
		if err != nil {
			t.Errorf("%s: %v", tt.format, err)
			continue
		}
		var b strings.Builder
		if err := p.Print(&b, tt.obj); err != nil || b.String() != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.format, b.String(), err, tt.want)
		}
	}
	for _, bad := range []string{"nonsense", "jsonpath=", "jsonpath={.a", "custom-columns=NAME"} {
		if _, err := New(bad, Options{}); err == nil || !strings.HasPrefix(err.Error(), "--output: ") {
			t.Errorf("%s: error %v does not name the flag", bad, err)
		}
	}
}

// TestTable shows aligned columns, hidden wide columns, and that later rows of a watch keep the columns.
func TestTable(t *testing.T) {
	var b strings.Builder
	table := NewTable(&b, "pod", TableOptions{WithNamespace: true, LabelColumns: []string{"example.com/tier"}})
	first := &apiv1.Table{
		Columns: []*apiv1.TableColumn{{Name: "Name"}, {Name: "Ready"}, {Name: "Node", Priority: 1}},
		Rows:    []*apiv1.TableRow{{Namespace: "default", Cells: []string{"web-1", "1/1", "host"}, Labels: map[string]string{"example.com/tier": "web"}}},
	}
	next := &apiv1.Table{Rows: []*apiv1.TableRow{{Namespace: "kube-system", Cells: []string{"dns", "0/1", "host"}}}}
	for _, part := range []*apiv1.Table{first, next} {
		if err := table.Print(part); err != nil {
			t.Fatal(err)
		}
	}
	want := "NAMESPACE   NAME    READY   TIER\ndefault     web-1   1/1     web\nkube-system   dns     0/1     \n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// Templates may come from files and from --template, columns from a file of two lines; what an object lacks is left out unless
// the user wants to know.
func TestTemplatesFromElsewhere(t *testing.T) {
	u := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "a"}, "data": map[string]any{"k": "aGk="}}}
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, tc := range []struct {
		format string
		o      Options
		want   string
	}{
		{"", Options{Template: "{{.metadata.name}}"}, "a"},
		{"go-template", Options{Template: "{{.data.k | base64decode}}"}, "hi"},
		{"jsonpath", Options{Template: "{.metadata.name}"}, "a"},
		{"jsonpath={.none.x}", Options{}, ""},
		{"go-template-file=" + file("{{.metadata.name}}!"), Options{}, "a!"},
		{"jsonpath-file=" + file("{.metadata.name}?"), Options{}, "a?"},
		{"custom-columns-file=" + file("NAME K\n.metadata.name .data.k\n"), Options{}, "NAME   K\na      aGk=\n"},
		{"kyaml", Options{}, "---\n{\n  data: {\n    k: \"aGk=\",\n  },\n  metadata: {\n    name: \"a\",\n  },\n}\n"},
	} {
		p, err := New(tc.format, tc.o)
		if err != nil {
			t.Errorf("%s: %v", tc.format, err)
			continue
		}
		var b strings.Builder
		if err := p.Print(&b, u); err != nil || b.String() != tc.want {
			t.Errorf("%s: %q %v, want %q", tc.format, b.String(), err, tc.want)
		}
	}
	p, err := New("jsonpath={.none.x}", Options{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Print(io.Discard, u); err == nil {
		t.Error("a missing field was printed though it may not be missing")
	}
}
