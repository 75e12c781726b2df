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

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"bareboat.dev/kctl/why"
)

// Related is what else a description may tell of; a kind uses what concerns it.
type Related struct {
	// Events are those about the object, oldest first.
	Events []*corev1.Event
	// Pods are a workload's or a node's; ReplicaSets a deployment's, oldest revision first; EndpointSlices a service's.
	Pods           []*corev1.Pod
	ReplicaSets    []*appsv1.ReplicaSet
	EndpointSlices []*discoveryv1.EndpointSlice
	// Findings say why the object does not work; none if it does.
	Findings []why.Finding
}

// Object writes a description; now is for ages.
func Object(w io.Writer, u *unstructured.Unstructured, rel Related, now time.Time) error {
	p := &printer{w: w, now: now}
	p.flush()
	if err := p.object(u, rel); err != nil {
		return err
	}
	p.findings(rel.Findings)
	p.events(rel.Events)
	return p.tw.Flush()
}

type printer struct {
	w   io.Writer
	tw  *tabwriter.Writer
	now time.Time
}

// flush ends a block of lines whose columns are aligned with each other.
func (p *printer) flush() {
	if p.tw != nil {
		p.tw.Flush()
	}
	p.tw = tabwriter.NewWriter(p.w, 0, 8, 2, ' ', 0)
}

func (p *printer) findings(list []why.Finding) {
	if len(list) == 0 {
		return
	}
	p.flush()
	p.line(0, "Why", "")
	for _, f := range list {
		fmt.Fprintf(p.tw, "  %s: %s\n", f.Subject, f.Text)
		if f.Hint != "" {
			fmt.Fprintf(p.tw, "    → %s\n", f.Hint)
		}
	}
	p.flush()
}

// typed reads the object as its own type and calls fn with it.
func typed[T any](u *unstructured.Unstructured, rel Related, fn func(*T, Related)) error {
	var into T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &into); err != nil {
		return err
	}
	fn(&into, rel)
	return nil
}

// line writes an indented "Key:<tab>value"; an empty value leaves the key alone, and an empty key continues the line above.
func (p *printer) line(depth int, key, format string, args ...any) {
	value := fmt.Sprintf(format, args...)
	if key == "" {
		fmt.Fprintf(p.tw, "%s\t%s\n", strings.Repeat("  ", depth), value)
		return
	}
	if value == "" {
		fmt.Fprintf(p.tw, "%s%s:\n", strings.Repeat("  ", depth), key)
		return
	}
	fmt.Fprintf(p.tw, "%s%s:\t%s\n", strings.Repeat("  ", depth), key, value)
}

func (p *printer) object(u *unstructured.Unstructured, rel Related) error {
	p.head(u)
	switch u.GroupVersionKind().GroupKind().String() {
	case "Pod":
		return typed(u, rel, p.pod)
	case "Service":
		return typed(u, rel, p.service)
	case "Node":
		return typed(u, rel, p.node)
	case "Deployment.apps":
		return typed(u, rel, p.deployment)
	case "ReplicaSet.apps":
		return typed(u, rel, p.replicaSet)
	case "StatefulSet.apps":
		return typed(u, rel, p.statefulSet)
	case "DaemonSet.apps":
		return typed(u, rel, p.daemonSet)
	case "Job.batch":
		return typed(u, rel, p.job)
	case "Secret":
		p.secret(u)
	case "ConfigMap":
		p.configMap(u)
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
	if created := u.GetCreationTimestamp(); !created.IsZero() {
		p.line(0, "Created", "%s (%s ago)", created.UTC().Format(time.RFC3339), duration.HumanDuration(p.now.Sub(created.Time)))
	}
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
		key = ""
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

// configMap shows whole values, as they are the object.
func (p *printer) configMap(u *unstructured.Unstructured) {
	data, _, _ := unstructured.NestedMap(u.Object, "data")
	binary, _, _ := unstructured.NestedStringMap(u.Object, "binaryData")
	p.line(0, "Data", "%s", map[bool]string{true: "<none>"}[len(data)+len(binary) == 0])
	for _, k := range sortedKeys(data) {
		text := fmt.Sprint(data[k])
		if !strings.Contains(text, "\n") {
			p.line(1, k, "%s", text)
			continue
		}
		p.line(1, k, "")
		p.flush()
		for line := range strings.Lines(text) {
			fmt.Fprintf(p.w, "    %s\n", strings.TrimRight(line, "\n"))
		}
	}
	for k, v := range binary {
		p.line(1, k, "%d bytes", len(v)*3/4-strings.Count(v, "="))
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
			if userKeys(key) {
				p.line(depth+1, k, "%s", shorten(fmt.Sprint(v[k])))
				continue
			}
			p.field(depth+1, k, v[k])
		}
	case []any:
		p.list(depth, key, v)
	case nil:
	default:
		p.line(depth, title(key), "%s", shorten(fmt.Sprint(v)))
	}
}

// userKeys reports whether a field's keys are its user's words, which are shown as they are.
func userKeys(field string) bool {
	switch strings.ToLower(field) {
	case "labels", "annotations", "matchlabels", "selector", "nodeselector", "data", "stringdata", "parameters", "hard", "used", "capacity", "allocatable", "requests", "limits":
		return true
	}
	return false
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
				if mark == "- " {
					fmt.Fprintf(p.tw, "%s-\n", strings.Repeat("  ", depth+1))
				}
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
	var rows [][]string
	for _, e := range events {
		at := e.LastTimestamp.Time
		if at.IsZero() {
			at = e.EventTime.Time
		}
		if at.IsZero() {
			at = e.CreationTimestamp.Time
		}
		ago := duration.HumanDuration(p.now.Sub(at))
		if e.Count > 1 {
			ago += fmt.Sprintf(" (x%d over %s)", e.Count, duration.HumanDuration(p.now.Sub(e.FirstTimestamp.Time)))
		}
		from := e.Source.Component
		if from == "" {
			from = e.ReportingController
		}
		rows = append(rows, []string{e.Type, e.Reason, ago, from, strings.TrimSpace(e.Message)})
	}
	p.flush()
	p.table("Events", []string{"Type", "Reason", "Age", "From", "Message"}, rows)
}
