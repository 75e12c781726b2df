// Package output renders objects in the formats of kubectl's -o flag.
package output

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"text/template"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"
	"sigs.k8s.io/yaml/kyaml"
)

// Printer prints whole objects. A list of several comes as one object of kind List.
type Printer interface {
	Print(w io.Writer, obj *unstructured.Unstructured) error
}

// PrinterFunc is a Printer.
type PrinterFunc func(w io.Writer, obj *unstructured.Unstructured) error

// Print implements Printer.
func (f PrinterFunc) Print(w io.Writer, obj *unstructured.Unstructured) error { return f(w, obj) }

// Formats are what New knows, for help and errors.
const Formats = "json|yaml|kyaml|name|wide|jsonpath=…|jsonpath-as-json=…|jsonpath-file=…|go-template=…|go-template-file=…|custom-columns=…|custom-columns-file=…"

// Options are what can be said about a format beside it.
type Options struct {
	// Template takes the place of a format's argument; without a format it is a Go template.
	Template string
	// ShowManaged keeps metadata.managedFields.
	ShowManaged bool
	// Strict makes a template fail where a field or key of the object is missing.
	Strict bool
}

// New returns the printer of a format other than "", "wide" and "name".
func New(format string, o Options) (Printer, error) {
	kind, arg, given := strings.Cut(format, "=")
	if !given {
		arg = o.Template
	}
	if kind == "" && arg != "" {
		kind = "go-template"
	}
	p, err := newPrinter(kind, arg, o)
	if err != nil || o.ShowManaged {
		return p, err
	}
	return PrinterFunc(func(w io.Writer, obj *unstructured.Unstructured) error {
		return p.Print(w, withoutManagedFields(obj))
	}), nil
}

func newPrinter(kind, arg string, o Options) (Printer, error) {
	switch kind {
	case "jsonpath-file", "go-template-file", "templatefile", "custom-columns-file":
		if arg == "" {
			return nil, fmt.Errorf("--output: %s needs a file, e.g. -o %s=FILE", kind, kind)
		}
		data, err := os.ReadFile(arg)
		if err != nil {
			return nil, fmt.Errorf("--output: %w", err)
		}
		kind, arg = strings.TrimSuffix(kind, "-file"), string(data)
	}
	switch kind {
	case "json":
		return PrinterFunc(printJSON), nil
	case "yaml":
		return PrinterFunc(printYAML), nil
	case "kyaml":
		return PrinterFunc(printKYAML), nil
	case "jsonpath", "jsonpath-as-json":
		return newJSONPath(arg, kind == "jsonpath-as-json", o)
	case "go-template", "template", "templatefile":
		return newTemplate(arg, o)
	case "custom-columns":
		if strings.Contains(strings.TrimSpace(arg), "\n") {
			arg = columnsOf(arg)
		}
		return newCustomColumns(arg)
	}
	return nil, fmt.Errorf("--output: unable to match a printer suitable for the output format %q, allowed formats are: %s", kind, Formats)
}

func newTemplate(arg string, o Options) (Printer, error) {
	if arg == "" {
		return nil, errors.New("--output: go-template needs a template, e.g. -o go-template='{{.metadata.name}}'")
	}
	t, err := template.New("output").Funcs(template.FuncMap{"base64decode": func(v string) (string, error) {
		data, err := base64.StdEncoding.DecodeString(v)
		return string(data), err
	}}).Parse(arg)
	if err != nil {
		return nil, fmt.Errorf("--output: error parsing template %q: %w", arg, err)
	}
	if o.Strict {
		t.Option("missingkey=error")
	}
	return PrinterFunc(func(w io.Writer, obj *unstructured.Unstructured) error { return t.Execute(w, obj.Object) }), nil
}

// columnsOf turns a file of custom columns, a line of headers above a line of paths, into the flag's HEADER:path.
func columnsOf(file string) string {
	headers, paths, _ := strings.Cut(strings.TrimSpace(file), "\n")
	fields := strings.Fields(paths)
	var specs []string
	for i, header := range strings.Fields(headers) {
		if i < len(fields) {
			specs = append(specs, header+":"+fields[i])
		}
	}
	return strings.Join(specs, ",")
}

func printJSON(w io.Writer, obj *unstructured.Unstructured) error {
	data, err := json.MarshalIndent(obj.Object, "", "    ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}

func printYAML(w io.Writer, obj *unstructured.Unstructured) error {
	data, err := yaml.Marshal(obj.Object)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

func printKYAML(w io.Writer, obj *unstructured.Unstructured) error {
	return (&kyaml.Encoder{}).FromObject(obj.Object, w)
}

// relaxed adds the braces and the leading dot that kubectl lets users leave out.
func relaxed(path string) string {
	path = strings.TrimSpace(path)
	if strings.HasPrefix(path, "{") || strings.Contains(path, "{") {
		return path
	}
	if !strings.HasPrefix(path, ".") && !strings.HasPrefix(path, "[") {
		path = "." + path
	}
	return "{" + path + "}"
}

func newJSONPath(arg string, asJSON bool, o Options) (Printer, error) {
	if arg == "" {
		return nil, fmt.Errorf("--output: jsonpath needs a template, e.g. -o jsonpath='{.metadata.name}'")
	}
	j := jsonpath.New("output").AllowMissingKeys(!o.Strict)
	j.EnableJSONOutput(asJSON)
	if err := j.Parse(relaxed(arg)); err != nil {
		return nil, fmt.Errorf("--output: error parsing jsonpath %s: %w", arg, err)
	}
	return PrinterFunc(func(w io.Writer, obj *unstructured.Unstructured) error {
		return j.Execute(w, obj.Object)
	}), nil
}

type customColumn struct {
	header string
	path   *jsonpath.JSONPath
}

func newCustomColumns(arg string) (Printer, error) {
	var columns []customColumn
	for spec := range strings.SplitSeq(arg, ",") {
		header, path, ok := strings.Cut(spec, ":")
		if !ok || path == "" {
			return nil, fmt.Errorf("--output: custom-columns: %q is not HEADER:path, e.g. NAME:.metadata.name", spec)
		}
		j := jsonpath.New(header).AllowMissingKeys(true)
		if err := j.Parse(relaxed(path)); err != nil {
			return nil, fmt.Errorf("--output: custom-columns: %s: %w", path, err)
		}
		columns = append(columns, customColumn{header, j})
	}
	return PrinterFunc(func(w io.Writer, obj *unstructured.Unstructured) error { return printColumns(w, columns, obj) }), nil
}

func printColumns(w io.Writer, columns []customColumn, obj *unstructured.Unstructured) error {
	tw := tabwriter.NewWriter(w, 6, 4, 3, ' ', 0)
	var headers []string
	for _, c := range columns {
		headers = append(headers, c.header)
	}
	fmt.Fprintln(tw, strings.Join(headers, "\t"))
	rows := []map[string]any{obj.Object}
	if items, ok := obj.Object["items"].([]any); ok {
		rows = nil
		for _, i := range items {
			if m, ok := i.(map[string]any); ok {
				rows = append(rows, m)
			}
		}
	}
	for _, row := range rows {
		var cells []string
		for _, c := range columns {
			var b strings.Builder
			if err := c.path.Execute(&b, row); err != nil {
				return err
			}
			cell := b.String()
			if cell == "" {
				cell = "<none>"
			}
			cells = append(cells, cell)
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

// withoutManagedFields drops metadata.managedFields, which only --show-managed-fields asks for.
func withoutManagedFields(obj *unstructured.Unstructured) *unstructured.Unstructured {
	obj = obj.DeepCopy()
	obj.SetManagedFields(nil)
	items, _ := obj.Object["items"].([]any)
	for _, i := range items {
		if m, ok := i.(map[string]any); ok {
			unstructured.RemoveNestedField(m, "metadata", "managedFields")
		}
	}
	return obj
}

// List wraps objects in the v1 List that kubectl prints for more than one.
func List(items []*unstructured.Unstructured) *unstructured.Unstructured {
	content := make([]any, len(items))
	for i, u := range items {
		content[i] = u.Object
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "List", "metadata": map[string]any{"resourceVersion": ""}, "items": content,
	}}
}
