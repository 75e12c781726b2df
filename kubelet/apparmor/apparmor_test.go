package apparmor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoader shows that the profile is given to the parser once, again after a failure, and what is said without a parser.
func TestLoader(t *testing.T) {
	dir := t.TempDir()
	log, broken, parser := filepath.Join(dir, "log"), filepath.Join(dir, "broken"), filepath.Join(dir, "parser")
	if _, err := NewLoader(parser).Default(t.Context()); !errors.Is(err, ErrNoParser) {
		t.Errorf("without a parser: %v", err)
	}
	script := "#!/bin/sh\n[ ! -e " + broken + " ] || { echo no such rule >&2; exit 1; }\necho run $@ >> " + log + "; cat >> " + log + "\n"
	for path, content := range map[string]string{parser: script, broken: ""} {
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l := NewLoader(parser)
	if _, err := l.Default(t.Context()); err == nil || !strings.Contains(err.Error(), "no such rule") {
		t.Errorf("a parser that fails: %v", err)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if name, err := l.Default(t.Context()); err != nil || name != DefaultName {
			t.Errorf("loaded %q, %v", name, err)
		}
	}
	data, err := os.ReadFile(log)
	if err != nil || strings.Count(string(data), "run --replace --skip-cache") != 1 || !strings.Contains(string(data), "deny mount,") {
		t.Errorf("the parser was given %s, %v", data, err)
	}
}
