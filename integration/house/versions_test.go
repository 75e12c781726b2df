package house

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// modules lists every module of the workspace.
func modules() []string {
	names := []string{"integration"}
	for m := range mayImport() {
		names = append(names, m)
	}
	return names
}

// TestOneVersionOfEachDependency shows that no two modules require different versions of the same dependency.
func TestOneVersionOfEachDependency(t *testing.T) {
	type requirement struct{ version, module string }
	seen := map[string]requirement{}
	for _, m := range modules() {
		cmd := exec.Command("go", "mod", "edit", "-json")
		cmd.Dir = filepath.Join("..", "..", m)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var mod struct {
			Go      string
			Require []struct{ Path, Version string }
		}
		if err := json.Unmarshal(out, &mod); err != nil {
			t.Fatal(err)
		}
		for _, r := range append(mod.Require, struct{ Path, Version string }{"go", mod.Go}) {
			if strings.HasPrefix(r.Path, prefix) {
				continue
			}
			if first, ok := seen[r.Path]; ok && first.version != r.Version {
				t.Errorf("%s: %s requires %s, %s requires %s; run make fix", r.Path, first.module, first.version, m, r.Version)
			} else if !ok {
				seen[r.Path] = requirement{r.Version, m}
			}
		}
	}
}

// TestSourcesAreTidy shows that no source file is too large to be read in one sitting, and that generated ones are the only exceptions.
func TestSourcesAreTidy(t *testing.T) {
	const most = 600 // lines; a file past this holds more than one idea
	for _, m := range modules() {
		err := filepath.WalkDir(filepath.Join("..", "..", m), func(path string, _ os.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, ".pb.go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			if n := strings.Count(string(data), "\n"); n > most {
				t.Errorf("%s has %d lines; split it by idea (most: %d)", path, n, most)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
