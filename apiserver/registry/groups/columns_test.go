package groups_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
)

var update = flag.Bool("update", false, "write testdata/columns.txt anew; compare it with what Kubernetes prints before you keep it")

// What `get` prints of each kind: the columns of Kubernetes 1.37, those of -o wide in parentheses, and of which type their cells
// are declared to be if not strings.
func TestColumns(t *testing.T) {
	var lines []string
	for _, r := range groups.All(core.Config{}) {
		if len(r.Columns) == 0 {
			continue
		}
		var names []string
		for _, c := range r.Columns {
			name := c.Name
			if c.Type != "string" {
				name += ":" + c.Type
			}
			if c.Priority > 0 {
				name = "(" + name + ")"
			}
			names = append(names, name)
		}
		lines = append(lines, fmt.Sprintf("%s.%s: %s\n", r.Plural, r.Kind.GroupVersion(), strings.Join(names, ", ")))
	}
	slices.Sort(lines)
	const file = "testdata/columns.txt"
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	expected := strings.SplitAfter(strings.TrimSuffix(string(want), "\n")+"\n", "\n")
	for _, line := range lines {
		if !slices.Contains(expected, line) {
			t.Errorf("not expected: %s", line)
		}
	}
	for _, line := range expected {
		if line != "" && !slices.Contains(lines, line) {
			t.Errorf("missing: %s", line)
		}
	}
}
