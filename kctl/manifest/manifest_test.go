package manifest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadSplitsDocuments shows what counts as a document: YAML streams with comments and empty parts, JSON streams, lists.
func TestReadSplitsDocuments(t *testing.T) {
	tests := map[string]struct {
		in   string
		want []string
	}{
		"two YAML documents":     {"apiVersion: v1\nkind: A\nmetadata: {name: x}\n---\napiVersion: g/v2\nkind: B\nmetadata: {name: z, namespace: ns}\n", []string{"/v1 A x", "g/v2 B ns/z"}},
		"comments are no object": {"# nothing\n---\n---\n# still nothing\napiVersion: v1\nkind: A\n---\nnull\n", []string{"/v1 A "}},
		"JSON values":            {`{"apiVersion":"v1","kind":"A","metadata":{"name":"x"}} {"apiVersion":"v1","kind":"A","metadata":{"name":"y"}}`, []string{"/v1 A x", "/v1 A y"}},
		"a List's items":         {`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"A","metadata":{"name":"x"}}]}`, []string{"/v1 A x"}},
		"a wrong type passes":    {"apiVersion: v1\nkind: A\nmetadata: {name: 7}\n", []string{"/v1 A "}},
	}
	for name, tt := range tests {
		docs, err := Read(strings.NewReader(tt.in), false, "-")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, d := range docs {
			n := d.Name
			if d.Namespace != "" {
				n = d.Namespace + "/" + n
			}
			got = append(got, d.Kind.Group+"/"+d.Kind.Version+" "+d.Kind.Kind+" "+n)
		}
		if strings.Join(got, "|") != strings.Join(tt.want, "|") {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// TestReadErrorsSayWhatToDo shows one clear error per kind of bad input.
func TestReadErrorsSayWhatToDo(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"no kind":       {"apiVersion: v1\n", "Object 'Kind' is missing"},
		"no apiVersion": {"kind: Pod\n", "apiVersion not set"},
		"not YAML":      {"a: b: c\n", "error converting YAML to JSON"},
		"nothing":       {"# only a comment\n", "no objects passed"},
		"alias bomb":    {aliasBomb(), "excessive aliasing"},
	}
	for name, tt := range tests {
		_, err := Read(strings.NewReader(tt.in), false, "-")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
	if _, err := Read(nil, false, "/does/not/exist"); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("missing path: %v", err)
	}
}

// aliasBomb is YAML whose aliases expand to a billion elements.
func aliasBomb() string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: A\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 9; i++ {
		prev := "*a" + string(rune('0'+i-1))
		b.WriteString("a" + string(rune('0'+i)) + ": &a" + string(rune('0'+i)) + " [" + strings.TrimSuffix(strings.Repeat(prev+",", 10), ",") + "]\n")
	}
	return b.String()
}

// TestFolders shows that a folder means its manifests in order of their names, and those below only with recursive.
func TestFolders(t *testing.T) {
	dir := t.TempDir()
	for name, kind := range map[string]string{"b.yaml": "B", "a.json": `A`, "notes.txt": "X", "below/c.yml": "C"} {
		content := "apiVersion: v1\nkind: " + kind + "\n"
		if filepath.Ext(name) == ".json" {
			content = `{"apiVersion":"v1","kind":"` + kind + `"}`
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for recursive, want := range map[bool]string{false: "AB", true: "ABC"} {
		docs, err := Read(nil, recursive, dir)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, d := range docs {
			got += d.Kind.Kind
		}
		if got != want {
			t.Errorf("recursive=%t: got %s, want %s", recursive, got, want)
		}
	}
}

// TestOneBadDocumentDoesNotStopTheRest shows that the documents around a bad one are returned beside its error.
func TestOneBadDocumentDoesNotStopTheRest(t *testing.T) {
	in := "apiVersion: v1\nkind: A\nmetadata: {name: x}\n---\na: b: c\n---\napiVersion: v1\n---\napiVersion: v1\nkind: A\nmetadata: {name: w}\n"
	docs, err := Read(strings.NewReader(in), false, "-")
	if len(docs) != 2 || docs[0].Name != "x" || docs[1].Name != "w" {
		t.Errorf("documents: %+v", docs)
	}
	if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), "converting YAML") || !strings.Contains(err.Error(), "'Kind' is missing") {
		t.Errorf("error: %v", err)
	}
}
