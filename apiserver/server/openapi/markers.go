package openapi

import (
	_ "embed"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

//go:generate go run ./markergen markers.txt

// markersText is what the comments of the types' sources say to machines; see package markers.
//
//go:embed markers.txt
var markersText string

// mark is what is marked of a field.
type mark struct {
	required, optional bool
	// merge is how a list or map is merged: "atomic", "granular", "set", or "map" and its keys, separated by commas.
	merge string
	// standard is the field's default; nil if none is marked.
	standard any
}

// marked is what is marked of types.
type marked struct {
	// fields are the marks by type and field; "" is the type itself.
	fields map[string]map[string]mark
	// values are those that the types have that are enumerations.
	values map[string][]string
}

// marks are read when the first document is built.
var marks = sync.OnceValue(func() marked {
	out := marked{map[string]map[string]mark{}, map[string][]string{}}
	for line := range strings.Lines(markersText) {
		typ, said, _ := strings.Cut(line, " ")
		var values []string
		if json.Unmarshal([]byte(said), &values) == nil {
			out.values[typ] = values
			continue
		}
		fields := map[string]mark{}
		for _, word := range strings.Fields(said) {
			name, m := parseMark(word)
			fields[name] = m
		}
		out.fields[typ] = fields
	}
	return out
})

func parseMark(word string) (name string, m mark) {
	word, standard, ok := strings.Cut(word, "~")
	if ok {
		// The generator writes valid JSON only.
		_ = json.Unmarshal([]byte(standard), &m.standard)
	}
	name, m.merge, _ = strings.Cut(word, "=")
	if name, m.required = strings.CutSuffix(name, "!"); !m.required {
		name, m.optional = strings.CutSuffix(name, "?")
	}
	return name, m
}

// describe adds how a field is merged to its schema.
func (m mark) describe(s object, kind reflect.Kind) {
	merge, keys, _ := strings.Cut(m.merge, ",")
	switch {
	case merge == "":
	case kind == reflect.Slice:
		s["x-kubernetes-list-type"] = merge
		if keys != "" {
			s["x-kubernetes-list-map-keys"] = strings.Split(keys, ",")
		}
	default:
		s["x-kubernetes-map-type"] = merge
	}
}
