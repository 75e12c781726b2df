package customresource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/jsonpath"

	"bareboat.dev/apiserver/registry"
)

// columns are what `get` prints of a version's objects: the name and the columns of the definition, or the age if it has none.
func (v *kindVersion) columns() []registry.Column {
	out := []registry.Column{registry.NameColumn()}
	if len(v.spec.AdditionalPrinterColumns) == 0 {
		return append(out, registry.AgeColumn())
	}
	for _, c := range v.spec.AdditionalPrinterColumns {
		out = append(out, column(c))
	}
	return out
}

func column(c v1.CustomResourceColumnDefinition) registry.Column {
	description := c.Description
	if description == "" {
		description = "Custom resource definition column (in JSONPath format): " + c.JSONPath
	}
	path, broken := parsePath(c.Name, c.JSONPath)
	value := func(obj registry.Object, now time.Time) any {
		if broken != nil {
			return nil
		}
		return cell(c.Type, path, obj.(*registry.CustomObject).Object, now)
	}
	return registry.Column{
		TableColumnDefinition: metav1.TableColumnDefinition{
			Name: c.Name, Type: c.Type, Format: c.Format, Description: description, Priority: c.Priority,
		},
		Value: value,
		Cell: func(obj registry.Object, now time.Time) string {
			if x := value(obj, now); x != nil {
				return fmt.Sprint(x)
			}
			return "<none>"
		},
	}
}

func parsePath(name, path string) (*jsonpath.JSONPath, error) {
	p := jsonpath.New(name).AllowMissingKeys(true)
	return p, p.Parse("{" + path + "}")
}

// first returns the first value at a path.
func first(path *jsonpath.JSONPath, obj map[string]any) (reflect.Value, bool) {
	results, err := path.FindResults(obj)
	if err != nil || len(results) == 0 || len(results[0]) == 0 {
		return reflect.Value{}, false
	}
	return results[0][0], true
}

// cell is the value at a path as a column of a type shows it; nil if there is none.
func cell(columnType string, path *jsonpath.JSONPath, obj map[string]any, now time.Time) any {
	found, ok := first(path, obj)
	if !ok {
		return nil
	}
	value := found.Interface()
	if columnType == "string" {
		var text bytes.Buffer
		if err := path.PrintResults(&text, []reflect.Value{reflect.ValueOf(value)}); err != nil {
			return nil
		}
		return text.String()
	}
	return typed(columnType, value, now)
}

func typed(columnType string, value any, now time.Time) any {
	switch x := value.(type) {
	case nil:
		return nil
	case bool:
		if columnType == "boolean" {
			return x
		}
	case int64:
		switch columnType {
		case "integer":
			return x
		case "number":
			return float64(x)
		}
	case float64:
		switch columnType {
		case "integer":
			return int64(x)
		case "number":
			return x
		}
	case json.Number:
		return typedNumber(columnType, x)
	case string:
		if columnType != "date" {
			break
		}
		then, err := time.Parse(time.RFC3339, x)
		if err != nil {
			return "<invalid>"
		}
		return registry.Age(metav1.NewTime(then), now)
	}
	return nil
}

func typedNumber(columnType string, x json.Number) any {
	if columnType == "integer" {
		if n, err := x.Int64(); err == nil {
			return n
		}
		return nil
	}
	if f, err := x.Float64(); err == nil && columnType == "number" {
		return f
	}
	return nil
}

// selectable are the fields by which objects can be selected, of all versions together, in which they are found in the same
// way.
func (d *definition) selectable() map[string]func(registry.Object) string {
	out := map[string]func(registry.Object) string{}
	for i := range d.spec.Versions {
		for _, f := range d.spec.Versions[i].SelectableFields {
			out[strings.TrimPrefix(f.JSONPath, ".")] = selectableField(f.JSONPath)
		}
	}
	return out
}

// fields are those of them that the version has.
func (v *kindVersion) fields() map[string]func(registry.Object) string {
	out := map[string]func(registry.Object) string{}
	for _, f := range v.spec.SelectableFields {
		name := strings.TrimPrefix(f.JSONPath, ".")
		out[name] = v.custom.Selectable[name]
	}
	return out
}

func selectableField(jsonPath string) func(registry.Object) string {
	path, err := parsePath("selectableField", jsonPath)
	return func(obj registry.Object) string {
		if err != nil {
			return ""
		}
		value, ok := first(path, obj.(*registry.CustomObject).Object)
		if !ok || value.Interface() == nil {
			return ""
		}
		return fmt.Sprint(value.Interface())
	}
}
