// Package markers collects the markers of the types that resources are made of, from the comments of their sources. A line of
// what Generate returns is a type and its marked fields, by their JSON names: "!" behind a name means that the field is required
// though its tag does not say so, "?" that it is optional though its tag does not say so, "=" is followed by how a list or map
// is merged.
//
//	io.k8s.api.core.v1.PodSpec containers=map,name hostAliases=map,ip nodeSelector=atomic
//
// Kubernetes takes a field for optional if it is marked so, or is not marked required and is omitted when empty.
package markers

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
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
	var lines []string
	for path, dir := range dirs {
		structs, err := parse(dir)
		if err != nil {
			return "", err
		}
		for _, t := range byPackage[path] {
			if line := describe(structs[t.Name()]); line != "" {
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

// reachable are the structs that resources are made of.
func reachable(resources []*registry.Resource) []reflect.Type {
	seen := map[reflect.Type]bool{}
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			visit(t.Elem())
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

// parse returns the structs of a package by name.
func parse(dir string) (map[string]*ast.StructType, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	structs := map[string]*ast.StructType{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("markers: %w", err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					structs[spec.Name.Name] = s
				}
			}
			return true
		})
	}
	return structs, nil
}

// describe is a struct's part of its line; empty if nothing is marked.
func describe(s *ast.StructType) string {
	if s == nil {
		return ""
	}
	var out strings.Builder
	for _, f := range s.Fields.List {
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
		if text != "" {
			out.WriteString(" " + name + text)
		}
	}
	return out.String()
}

// marked returns the values of each marker of a field.
func marked(f *ast.Field) map[string][]string {
	marks := map[string][]string{}
	if f.Doc == nil {
		return marks
	}
	for line := range strings.SplitSeq(f.Doc.Text(), "\n") {
		if mark, ok := strings.CutPrefix(strings.TrimSpace(line), "+"); ok {
			key, value, _ := strings.Cut(mark, "=")
			marks[key] = append(marks[key], value)
		}
	}
	return marks
}

// merging says how a field is merged: "map" and its keys, "set" or "atomic".
func merging(marks map[string][]string) string {
	for _, key := range []string{"listType", "mapType", "structType"} {
		switch values := marks[key]; {
		case len(values) == 0, values[0] == "granular":
		case values[0] == "map":
			return strings.Join(append([]string{"map"}, marks["listMapKey"]...), ",")
		default:
			return values[0]
		}
	}
	return ""
}
