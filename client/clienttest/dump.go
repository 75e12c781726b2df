package clienttest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"bareboat.dev/client"
)

// dump renders all objects, one line each: "pods default/web-0 labels={…} spec={…} status={…}".
func (s *state) dump() string {
	var lines []string
	for key, r := range s.objects {
		lines = append(lines, key.resourceName.String()+" "+key.Key.String()+describe(r.obj)+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func describe(obj client.Object) string {
	data, err := json.Marshal(obj)
	if err != nil {
		return " " + err.Error()
	}
	var content map[string]any
	if err := json.Unmarshal(data, &content); err != nil {
		return " " + err.Error()
	}
	var b strings.Builder
	meta, _ := content["metadata"].(map[string]any)
	for _, field := range []string{"labels", "annotations", "finalizers"} {
		writeField(&b, field, meta[field])
	}
	for _, o := range obj.GetOwnerReferences() {
		fmt.Fprintf(&b, " owner=%s/%s", o.Kind, o.Name)
	}
	if obj.GetDeletionTimestamp() != nil {
		b.WriteString(" deleting")
	}
	delete(content, "metadata")
	delete(content, "kind")
	delete(content, "apiVersion")
	var fields []string
	for field := range content {
		fields = append(fields, field)
	}
	slices.Sort(fields)
	for _, field := range fields {
		writeField(&b, field, steady(content[field]))
	}
	return b.String()
}

func writeField(b *strings.Builder, name string, value any) {
	if value == nil || isEmpty(value) {
		return
	}
	data, err := json.Marshal(value)
	if err != nil {
		data = []byte(err.Error())
	}
	fmt.Fprintf(b, " %s=%s", name, data)
}

// steady drops what is empty or differs from run to run: times and uids.
func steady(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key, field := range v {
			lower := strings.ToLower(key)
			if strings.HasSuffix(lower, "time") || strings.HasSuffix(lower, "timestamp") || key == "uid" || key == "resourceVersion" {
				delete(v, key)
				continue
			}
			if v[key] = steady(field); v[key] == nil || isEmpty(v[key]) {
				delete(v, key)
			}
		}
	case []any:
		for i := range v {
			v[i] = steady(v[i])
		}
	}
	return value
}

func isEmpty(value any) bool {
	switch v := value.(type) {
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}
