// Package controllermanager_test holds the rules that all controllers keep.
package controllermanager_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bareboat.dev/controllermanager/config"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/manager"
)

// shells are the folders that are not controllers, whose files may do I/O.
var shells = []string{"adapters", "cmd", "config", "engine", "manager", "plantest"}

// banned says what a pure core may not import, and why.
var banned = map[string]string{
	"context":                               "a core cannot be cancelled: it returns at once",
	"log/slog":                              "a core returns what there is to say; its shell says it",
	"math/rand/v2":                          "the same view must lead to the same plan",
	"net/http":                              "a core does no I/O",
	"os":                                    "a core does no I/O",
	"sync":                                  "a core has no state to guard",
	"bareboat.dev/client/events":            "events are part of the plan",
	"bareboat.dev/controllermanager/engine": "the engine is for shells",
	"github.com/prometheus/client_golang/prometheus": "a core counts nothing",
}

// In every controller's folder all files but controller.go are pure: no clock, I/O, logging, randomness or goroutines.
// pods.Recent, a memory that shells feed, is the one exception.
func TestCoresArePure(t *testing.T) {
	files, err := filepath.Glob("*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v: %d files", err, len(files))
	}
	for _, file := range files {
		dir, name := filepath.Dir(file), filepath.Base(file)
		if slices.Contains(shells, dir) || name == "controller.go" || strings.HasSuffix(name, "_test.go") || file == "pods/recent.go" {
			continue
		}
		src, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range src.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			if why, bad := banned[path]; bad {
				t.Errorf("%s imports %s: %s", file, path, why)
			}
		}
		ast.Inspect(src, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine: a core returns a plan, its shell acts", file)
			case *ast.SelectorExpr:
				if pkg, ok := x.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker"}, x.Sel.Name) {
					t.Errorf("%s uses time.%s: a core is given the time", file, x.Sel.Name)
				}
			}
			return true
		})
	}
}

// Every controller's folder has a core and a shell.
func TestEveryControllerHasACoreAndAShell(t *testing.T) {
	dirs, err := filepath.Glob("*/controller.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, shell := range dirs {
		if dir := filepath.Dir(shell); dir != "engine" {
			cores, _ := filepath.Glob(filepath.Join(dir, "*.go"))
			if !slices.ContainsFunc(cores, func(f string) bool {
				src, err := os.ReadFile(f)
				return err == nil && filepath.Base(f) != "controller.go" && !strings.HasSuffix(f, "_test.go") && strings.Contains(string(src), "plan.Plan")
			}) {
				t.Errorf("%s has no file that makes plans", dir)
			}
		}
	}
}

// The whole set declares no field twice and no name twice.
func TestSetIsConsistent(t *testing.T) {
	cfg := config.Default()
	set, err := manager.Controllers(&cfg, "pem", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engine.New(engine.Options{}, set...); err != nil {
		t.Error(err)
	}
	seen := map[string]bool{}
	for _, c := range set {
		if seen[c.Name] || c.Setup == nil {
			t.Errorf("%s twice, or without a setup", c.Name)
		}
		seen[c.Name] = true
	}
}

// A misspelt name in --controllers is refused with the names there are.
func TestUnknownControllerIsRefused(t *testing.T) {
	for words, ok := range map[string]bool{"*,-job-controller": true, "*,-node-ipam-controller": true, "deploymnet-controller": false} {
		cfg := config.Default()
		cfg.Controllers = strings.Split(words, ",")
		cfg.AllocateNodeCIDRs = false
		if _, err := manager.Controllers(&cfg, "", nil); (err == nil) != ok {
			t.Errorf("%s: %v", words, err)
		}
	}
}
