// Package describe renders an object for a person, as `kubectl describe` does: what matters of well-known kinds in an order that
// helps, every field of the others, and the events about it.
package describe

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Object writes a description. Events are those about the object, oldest first; now is for ages.
func Object(w io.Writer, u *unstructured.Unstructured, events []*corev1.Event, now time.Time) error {
	p := &printer{tw: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0), now: now}
	if err := p.object(u); err != nil {
		return err
	}
	p.events(events)
	return p.tw.Flush()
}

type printer struct {
	tw  *tabwriter.Writer
	now time.Time
}

// line writes an indented "Key:<tab>value"; an empty value leaves the key alone.
func (p *printer) line(depth int, key, format string, args ...any) {
	value := fmt.Sprintf(format, args...)
	if value == "" {
		fmt.Fprintf(p.tw, "%s%s:\n", strings.Repeat("  ", depth), key)
		return
	}
	fmt.Fprintf(p.tw, "%s%s:\t%s\n", strings.Repeat("  ", depth), key, value)
}

func (p *printer) object(u *unstructured.Unstructured) error {
	p.head(u)
	typed := func(into any) error { return runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, into) }
	switch u.GroupVersionKind().GroupKind().String() {
	case "Pod":
		var pod corev1.Pod
		if err := typed(&pod); err != nil {
			return err
		}
		p.pod(&pod)
	case "Secret":
		p.secret(u)
	default:
		p.rest(u)
	}
	return nil
}

// head is what every object has.
func (p *printer) head(u *unstructured.Unstructured) {
	p.line(0, "Name", "%s", u.GetName())
	if ns := u.GetNamespace(); ns != "" {
		p.line(0, "Namespace", "%s", ns)
	}
	p.pairs(0, "Labels", u.GetLabels())
	p.pairs(0, "Annotations", u.GetAnnotations())
	created := u.GetCreationTimestamp()
	p.line(0, "Created", "%s (%s ago)", created.UTC().Format(time.RFC3339), duration.HumanDuration(p.now.Sub(created.Time)))
	if d := u.GetDeletionTimestamp(); d != nil {
		p.line(0, "Status", "Terminating (since %s)", d.UTC().Format(time.RFC3339))
		if f := u.GetFinalizers(); len(f) > 0 {
			p.line(0, "Finalizers", "%s", strings.Join(f, ", "))
		}
	}
	for _, o := range u.GetOwnerReferences() {
		if o.Controller != nil && *o.Controller {
			p.line(0, "Controlled By", "%s/%s", o.Kind, o.Name)
		}
	}
}

func (p *printer) pairs(depth int, key string, m map[string]string) {
	if len(m) == 0 {
		p.line(depth, key, "<none>")
		return
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		p.line(depth, key, "%s=%s", k, shorten(m[k]))
		key = " "
	}
}

// maxValue keeps a description readable; `get -o yaml` has the whole value.
const maxValue = 140

func shorten(s string) string {
	s = strings.ReplaceAll(s, "\n", "\\n")
	if r := []rune(s); len(r) > maxValue {
		return string(r[:maxValue]) + "..."
	}
	return s
}

// secret shows sizes only: a description may be read over a shoulder.
func (p *printer) secret(u *unstructured.Unstructured) {
	kind, _, _ := unstructured.NestedString(u.Object, "type")
	p.line(0, "Type", "%s", kind)
	p.line(0, "Data", "")
	data, _, _ := unstructured.NestedStringMap(u.Object, "data")
	keys := make([]string, 0, len(data))
	for k := range data {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		p.line(1, k, "%d bytes", len(data[k])*3/4-strings.Count(data[k], "="))
	}
}

// rest writes every field but the metadata.
func (p *printer) rest(u *unstructured.Unstructured) {
	for _, k := range sortedKeys(u.Object) {
		if k == "apiVersion" || k == "kind" || k == "metadata" {
			continue
		}
		p.field(0, k, u.Object[k])
	}
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func (p *printer) field(depth int, key string, value any) {
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 {
			return
		}
		p.line(depth, title(key), "")
		for _, k := range sortedKeys(v) {
			p.field(depth+1, k, v[k])
		}
	case []any:
		p.list(depth, key, v)
	case nil:
	default:
		p.line(depth, title(key), "%s", shorten(fmt.Sprint(v)))
	}
}

func (p *printer) list(depth int, key string, list []any) {
	p.line(depth, title(key), "")
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			fmt.Fprintf(p.tw, "%s- %v\n", strings.Repeat("  ", depth+1), item)
			continue
		}
		mark := "- "
		for _, k := range sortedKeys(m) {
			switch m[k].(type) {
			case map[string]any, []any:
				p.field(depth+2, k, m[k])
			default:
				fmt.Fprintf(p.tw, "%s%s%s:\t%s\n", strings.Repeat("  ", depth+1), mark, title(k), shorten(fmt.Sprint(m[k])))
			}
			mark = "  "
		}
	}
}

// title turns "nodeName" into "Node Name"; label keys stay as they are.
func title(s string) string {
	if strings.ContainsAny(s, "./-_ ") {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case i == 0:
			b.WriteString(strings.ToUpper(string(r)))
			continue
		case r >= 'A' && r <= 'Z' && !(s[i-1] >= 'A' && s[i-1] <= 'Z'):
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (p *printer) events(events []*corev1.Event) {
	if len(events) == 0 {
		p.line(0, "Events", "<none>")
		return
	}
	p.tw.Flush()
	p.line(0, "Events", "")
	fmt.Fprintln(p.tw, "  Type\tReason\tAge\tFrom\tMessage")
	fmt.Fprintln(p.tw, "  ----\t------\t---\t----\t-------")
	for _, e := range events {
		at := e.LastTimestamp.Time
		if at.IsZero() {
			at = e.EventTime.Time
		}
		ago := duration.HumanDuration(p.now.Sub(at))
		if e.Count > 1 {
			ago += fmt.Sprintf(" (x%d)", e.Count)
		}
		from := e.Source.Component
		if from == "" {
			from = e.ReportingController
		}
		fmt.Fprintf(p.tw, "  %s\t%s\t%s\t%s\t%s\n", e.Type, e.Reason, ago, from, strings.TrimSpace(e.Message))
	}
}
