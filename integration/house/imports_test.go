// Package house holds the rules that keep the modules apart, as tests that say why.
package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const prefix = "bareboat.dev/"

// mayImport says which modules a module may import; the reason for each absence is in ARCHITECTURE.md.
func mayImport() map[string][]string {
	component := []string{"proto", "client", "daemon"}
	return map[string][]string{
		"proto":             nil,
		"client":            {"proto"},
		"daemon":            {"proto"},
		"apiserver":         {"proto", "daemon"},
		"scheduler":         component,
		"controllermanager": component,
		"kubelet":           component,
		"proxy":             component,
		"dns":               component,
		"kctl":              {"proto", "client"},
	}
}

// ban forbids an import to all packages but those under some paths.
type ban struct {
	imported, reason string
	// except are package path prefixes that may import it.
	except []string
}

func bans() []ban {
	return []ban{
		{"k8s.io/kubernetes", "Kubernetes' API, not Kubernetes' code: semantics are written here", nil},
		{"k8s.io/client-go/kubernetes", "clients speak gRPC through bareboat.dev/client", []string{"bareboat.dev/kctl/api", "bareboat.dev/apiserver", "bareboat.dev/integration"}},
		{"github.com/opencontainers/runc/libcontainer", "only the pod shim links libcontainer: it starts threads and re-executes itself, which no daemon must", []string{"bareboat.dev/kubelet/shim/server", "bareboat.dev/kubelet/cmd/podshim"}},
		{"github.com/mattn/go-sqlite3", "one engine knows SQLite; the rest knows storage.Engine", []string{"bareboat.dev/apiserver/storage/sqlite"}},
		{"go.etcd.io/etcd", "one engine knows etcd; the rest knows storage.Engine", []string{"bareboat.dev/apiserver/storage/etcd"}},
	}
}

// pureCores may know neither clock nor I/O: they are functions from a snapshot and a time to a plan.
func pureCores() []string {
	return []string{
		"bareboat.dev/scheduler/plan", "bareboat.dev/scheduler/devices", "bareboat.dev/kubelet/pod", "bareboat.dev/kubelet/numa", "bareboat.dev/kubelet/admit", "bareboat.dev/kubelet/eviction", "bareboat.dev/proxy/plan", "bareboat.dev/proxy/policy", "bareboat.dev/dns/zone", "bareboat.dev/kctl/rollout", "bareboat.dev/kctl/why",
	}
}

// impure are the packages that a pure core may not import itself.
func impure() map[string]string {
	return map[string]string{
		"os": "I/O", "net/http": "I/O", "io/ioutil": "I/O", "os/exec": "I/O", "log": "logging", "log/slog": "logging", "math/rand": "randomness",
		"math/rand/v2": "randomness", "context": "a pure function is never cancelled", "sync": "goroutines", "bareboat.dev/client": "I/O", "google.golang.org/grpc": "I/O",
	}
}

// pkg is what `go list` says of a package.
type pkg struct {
	ImportPath string
	Imports    []string
	GoFiles    []string
	Dir        string
}

// list returns every package of a module.
func list(t *testing.T, module string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,GoFiles,Dir", "./...")
	cmd.Dir = filepath.Join("..", "..", module)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list in %s: %s", module, exit.Stderr)
		}
		t.Fatal(err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// TestModulesKeepApart shows that components never import each other, and nobody imports integration.
func TestModulesKeepApart(t *testing.T) {
	for module, allowed := range mayImport() {
		for _, p := range list(t, module) {
			for _, imported := range p.Imports {
				rest, ours := strings.CutPrefix(imported, prefix)
				if !ours {
					continue
				}
				other, _, _ := strings.Cut(rest, "/")
				if other != module && !contains(allowed, other) {
					t.Errorf("%s imports %s: module %s may import only %v", p.ImportPath, imported, module, allowed)
				}
			}
		}
	}
}

// TestBannedImports shows that each library with one home is imported from there only.
func TestBannedImports(t *testing.T) {
	for module := range mayImport() {
		for _, p := range list(t, module) {
			for _, b := range bans() {
				for _, imported := range p.Imports {
					if under(imported, b.imported) && !exempt(p.ImportPath, b.except) {
						t.Errorf("%s imports %s: %s", p.ImportPath, imported, b.reason)
					}
				}
			}
		}
	}
}

// TestPureCoresStayPure shows that no pure core imports what would give it a clock, I/O, logs, randomness or goroutines.
func TestPureCoresStayPure(t *testing.T) {
	found := map[string]bool{}
	for module := range mayImport() {
		for _, p := range list(t, module) {
			if !exempt(p.ImportPath, pureCores()) {
				continue
			}
			found[p.ImportPath] = true
			for _, imported := range p.Imports {
				if why, bad := impure()[imported]; bad {
					t.Errorf("%s imports %s: a pure core knows nothing of %s", p.ImportPath, imported, why)
				}
			}
			for _, call := range impureCalls(t, p) {
				t.Errorf("%s: a pure core gets the time as an argument and starts no goroutine", call)
			}
		}
	}
	for _, core := range pureCores() {
		if !found[core] {
			t.Errorf("pure core %s does not exist; correct the list", core)
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func under(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func exempt(path string, roots []string) bool {
	for _, r := range roots {
		if under(path, r) {
			return true
		}
	}
	return false
}
