package watchcache

import (
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// facet is one thing that a watcher can select on. A change shows facets; a watcher waits for one.
type facet struct {
	kind  facetKind
	field int // of Config.Indexes
	label string
	value string
}

type facetKind uint8

const (
	everything facetKind = iota
	inNamespace
	withLabel
	withName
	withField
	oneObject
)

// facet returns the narrowest facet that every match of m shows.
func (m matcher) facet(c Config) facet {
	if m.name != "" && (m.namespace != "" || !c.Namespaced) {
		return facet{kind: oneObject, value: c.Key(m.namespace, m.name)}
	}
	if i, value := m.index(c); i >= 0 {
		return facet{kind: withField, field: i, value: value}
	}
	if m.name != "" {
		return facet{kind: withName, value: m.name}
	}
	if key, value, ok := exactLabel(m.labels); ok {
		return facet{kind: withLabel, label: key, value: value}
	}
	if m.namespace != "" {
		return facet{kind: inNamespace, value: m.namespace}
	}
	return facet{}
}

// exactly reports whether whatever shows the facet matches; an object's name and namespace never change.
func (m matcher) exactly(fc facet) bool {
	return m.labels == nil && m.fields == nil && (fc.kind == everything || fc.kind == inNamespace || fc.kind == oneObject)
}

// exactLabel returns a label that the selector wants to have one value.
func exactLabel(s labels.Selector) (key, value string, ok bool) {
	if s == nil {
		return "", "", false
	}
	requirements, _ := s.Requirements()
	for _, r := range requirements {
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			if r.Values().Len() == 1 {
				return r.Key(), r.Values().UnsortedList()[0], true
			}
		}
	}
	return "", "", false
}

// shows reports whether an item shows a facet.
func (fc facet) shows(it *Item, indexes []string) bool {
	if it == nil {
		return false
	}
	switch fc.kind {
	case inNamespace:
		return it.Namespace == fc.value
	case withLabel:
		value, ok := it.Labels[fc.label]
		return ok && value == fc.value
	case withName:
		return it.Name == fc.value
	case withField:
		return indexValue(it, indexes[fc.field]) == fc.value
	case oneObject:
		return it.Key == fc.value
	}
	return true
}
