package openapi

import (
	_ "embed"
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
	// merge is how a list or map is merged: "atomic", "set", or "map" and its keys, separated by commas.
	merge string
}

// marks returns the marks by type and field. They are read when the first document is built.
var marks = sync.OnceValue(func() map[string]map[string]mark {
	out := map[string]map[string]mark{}
	for line := range strings.Lines(markersText) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		fields := map[string]mark{}
		for _, word := range words[1:] {
			name, merge, _ := strings.Cut(word, "=")
			m := mark{merge: merge}
			if name, m.required = strings.CutSuffix(name, "!"); !m.required {
				name, m.optional = strings.CutSuffix(name, "?")
			}
			fields[name] = m
		}
		out[words[0]] = fields
	}
	return out
})

// describe adds how a field is merged to its schema.
func (m mark) describe(s object, isMap bool) {
	kind, keys, _ := strings.Cut(m.merge, ",")
	switch {
	case kind == "":
	case s["type"] == "array":
		s["x-kubernetes-list-type"] = kind
		if keys != "" {
			s["x-kubernetes-list-map-keys"] = strings.Split(keys, ",")
		}
	case isMap || kind == "atomic":
		s["x-kubernetes-map-type"] = kind
	}
}
