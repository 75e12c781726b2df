// Package markers collects the markers of the types that resources are made of, from the comments of their sources. A line of
// what Generate returns is a type and its marked fields, by their JSON names: "!" behind a name means that the field is required
// though its tag does not say so, "?" that it is optional though its tag does not say so, "=" is followed by how a list or map
// is merged, "~" by the field's default as JSON.
//
//	io.k8s.api.core.v1.PodSpec containers=map,name hostAliases=map,ip nodeSelector=atomic
//	io.k8s.api.core.v1.ContainerPort protocol~"TCP"
//
// A type that is merged as one value has "=atomic" in front of its fields. A type of text that is marked as an enumeration has a line of its values, sorted, as JSON.
//
//	io.k8s.api.core.v1.Protocol ["SCTP","TCP","UDP"]
//
// Kubernetes takes a field for optional if it is marked so, or is not marked required and is omitted when empty.
package markers

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"maps"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"bareboat.dev/apiserver/registry"
)

// Generate returns the markers of every type within the resources, one line each, sorted.
func Generate(resources []*registry.Resource) (string, error) {
	types := reachable(resources)
	byPackage := map[string][]reflect.Type{}
	for _, t := range types {
		byPackage[t.PkgPath()] = append(byPackage[t.PkgPath()], t)
	}
	dirs, err := directories(slices.Sorted(maps.Keys(byPackage)))
	if err != nil {
		return "", err
	}
	all := &sources{dirs: dirs, parsed: map[string]*source{}}
	var lines []string
	for path := range dirs {
		src, err := all.of(path)
		if err != nil {
			return "", err
		}
		for _, t := range byPackage[path] {
			line, err := src.describe(t)
			if err != nil {
				return "", fmt.Errorf("markers: %s: %w", Name(t), err)
			}
			if line != "" {
				lines = append(lines, Name(t)+line)
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n", nil
}

// Name is upstream's name of a type: its package with the domain reversed, k8s.io/api/core/v1 Pod is io.k8s.api.core.v1.Pod.
func Name(t reflect.Type) string {
	domain, path, _ := strings.Cut(t.PkgPath(), "/")
	parts := strings.Split(domain, ".")
	slices.Reverse(parts)
	return strings.Join(append(append(parts, strings.Split(path, "/")...), t.Name()), ".")
}

// reachable are the structs and the types of text that resources are made of.
func reachable(resources []*registry.Resource) []reflect.Type {
	seen := map[reflect.Type]bool{}
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			visit(t.Elem())
		case reflect.String:
			seen[t] = seen[t] || t.PkgPath() != ""
		case reflect.Struct:
			if seen[t] || t.PkgPath() == "" {
				return
			}
			seen[t] = true
			for i := range t.NumField() {
				if f := t.Field(i); f.IsExported() && f.Tag.Get("json") != "-" {
					visit(f.Type)
				}
			}
		}
	}
	for _, r := range resources {
		visit(reflect.TypeOf(r.New()))
		if r.NewList != nil {
			visit(reflect.TypeOf(r.NewList()))
		}
		for _, sub := range r.Subresources {
			if sub.New != nil {
				visit(reflect.TypeOf(sub.New()))
			}
		}
	}
	return slices.Collect(maps.Keys(seen))
}

// directories returns where the sources of packages are.
func directories(paths []string) (map[string]string, error) {
	out, err := exec.Command("go", append([]string{"list", "-f", "{{.ImportPath}} {{.Dir}}"}, paths...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("markers: finding the sources: %w", err)
	}
	dirs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		dirs[path] = dir
	}
	return dirs, nil
}

// describe is a type's part of its line; empty if nothing is marked.
func (s *source) describe(t reflect.Type) (string, error) {
	if t.Kind() != reflect.Struct {
		return s.enumeration(t.Name())
	}
	fields := s.structs[t.Name()]
	if fields == nil {
		return "", nil
	}
	text, err := s.fields(fields)
	if s.atomic[t.Name()] {
		text = " =atomic" + text
	}
	return text, err
}

// enumeration is the values of a type that is marked as one.
func (s *source) enumeration(name string) (string, error) {
	if !s.enums[name] {
		return "", nil
	}
	values, err := s.valuesOf(name)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(values)
	return " " + string(text), err
}

func (s *source) fields(fields *ast.StructType) (string, error) {
	var out strings.Builder
	for _, f := range fields.Fields.List {
		if f.Tag == nil {
			continue
		}
		name, options, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		marks := marked(f)
		omitted := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		text := ""
		switch {
		case marks["required"] != nil && omitted:
			text = "!"
		case marks["required"] == nil && marks["optional"] != nil && !omitted:
			text = "?"
		}
		if merge := merging(marks); merge != "" {
			text += "=" + merge
		}
		value, err := s.defaulted(marks["default"])
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		if value != "" {
			text += "~" + value
		}
		if text != "" {
			out.WriteString(" " + name + text)
		}
	}
	return out.String(), nil
}

// defaulted is a default as JSON: what a marker says itself, or a constant that it refers to.
func (s *source) defaulted(values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	text := values[0]
	if name, ok := strings.CutPrefix(text, "ref("); ok {
		value, err := s.value(ast.NewIdent(strings.TrimSuffix(name, ")")))
		if err != nil {
			return "", err
		}
		text = strconv.Quote(value)
	}
	if !json.Valid([]byte(text)) || strings.ContainsAny(text, " ~") {
		return "", fmt.Errorf("default %s cannot be written down", text)
	}
	return text, nil
}

// marked returns the values of each marker of a field.
func marked(f *ast.Field) map[string][]string {
	marks := map[string][]string{}
	for line := range strings.SplitSeq(f.Doc.Text(), "\n") {
		if mark, ok := strings.CutPrefix(strings.TrimSpace(line), "+"); ok {
			key, value, _ := strings.Cut(mark, "=")
			marks[key] = append(marks[key], value)
		}
	}
	return marks
}

// merging says how a field is merged: "map" and its keys, "set", "atomic" or "granular".
func merging(marks map[string][]string) string {
	for _, key := range []string{"listType", "mapType", "structType"} {
		switch values := marks[key]; {
		case len(values) == 0:
		case values[0] == "map":
			return strings.Join(append([]string{"map"}, marks["listMapKey"]...), ",")
		default:
			return values[0]
		}
	}
	return ""
}
