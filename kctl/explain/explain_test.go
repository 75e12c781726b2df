package explain

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

const gizmos = `{"components": {"schemas": {
  "com.example.Gizmo": {"type": "object", "description": "A gizmo. It has\ntwo lines and a very long one that has to be wrapped because it does not fit into eighty columns of text.\n\n  code",
    "properties": {"spec": {"description": "What it should be.", "allOf": [{"$ref": "#/components/schemas/com.example.GizmoSpec"}], "default": {}}},
    "x-kubernetes-group-version-kind": [{"group": "example.com", "version": "v1", "kind": "Gizmo"}]},
  "com.example.GizmoSpec": {"type": "object", "description": "GizmoSpec is a spec.", "required": ["color"], "properties": {
    "color": {"type": "string", "enum": ["", "red", "green", "blue", "black"], "description": "Its color."},
    "made": {"allOf": [{"$ref": "#/components/schemas/com.example.Time"}]},
    "weight": {"additionalProperties": {"$ref": "#/components/schemas/com.example.Quantity"}, "type": "object"},
    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/com.example.GizmoSpec"}}}},
  "com.example.Time": {"type": "string", "format": "date-time"},
  "com.example.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]}
}}}`

// Lines are parted between words, and space that is not at a break stays.
func TestWrap(t *testing.T) {
	long := strings.Repeat("x", width)
	for line, want := range map[string][]string{
		"": {""}, "a b": {"a b"}, "a.  B": {"a.  B"}, "  code x": {"  code x"}, "end ": {"end"},
		long + " y": {long, "y"}, "a " + long + "  b": {"a", long, "b"},
	} {
		if got := wrap(line); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// Kinds, fields and whole trees are laid out as kubectl's explain does; a type that holds itself ends.
func TestWrite(t *testing.T) {
	doc, err := Parse([]byte(gizmos))
	if err != nil {
		t.Fatal(err)
	}
	head := "GROUP:      example.com\nKIND:       Gizmo\nVERSION:    v1\n\n"
	tests := []struct {
		path      string
		recursive bool
		want      string
	}{
		{"", false, head + `DESCRIPTION:
    A gizmo. It has
    two lines and a very long one that has to be wrapped because it does not fit
    into eighty columns of text.
    
      code
    
FIELDS:
  spec	<GizmoSpec>
    What it should be.


`},
		{"spec color", false, head + `FIELD: color <string>
ENUM:
    ""
    red
    green
    blue
    black

DESCRIPTION:
    Its color.
    

`},
		{"spec parts", true, head + `FIELD: parts <[]GizmoSpec>


DESCRIPTION:
    GizmoSpec is a spec.
    
FIELDS:
  color	<string> -required-
  enum: "", red, green, blue, ....
  made	<string>
  parts	<[]GizmoSpec>
  weight	<map[string]Quantity>

`},
		{"spec parts parts weight", false, head + "FIELD: weight <map[string]Quantity>\n\n\nDESCRIPTION:\n    <empty>\n\n"},
	}
	for _, tt := range tests {
		var out strings.Builder
		if err := Write(&out, doc, schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Gizmo"}, strings.Fields(tt.path), tt.recursive); err != nil || out.String() != tt.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", tt.path, err, out.String(), tt.want)
		}
	}
	var none *NoFieldError
	err = Write(&strings.Builder{}, doc, schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Gizmo"}, []string{"spec", "made", "when"}, false)
	if !errors.As(err, &none) || none.Field != "when" {
		t.Errorf("a field that there is not: %v", err)
	}
}
