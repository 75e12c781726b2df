package apparmor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEnabled shows that AppArmor counts only where the kernel enforces it and securityfs is there to name profiles.
func TestEnabled(t *testing.T) {
	sys := t.TempDir()
	for _, step := range []struct {
		path, content string
		want          bool
	}{
		{"module/apparmor/parameters/enabled", "Y\n", false}, {"kernel/security/apparmor/profiles", "", true}, {"module/apparmor/parameters/enabled", "N\n", false},
	} {
		path := filepath.Join(sys, step.path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(step.content), 0o644)); err != nil {
			t.Fatal(err)
		}
		if got := enabledIn(sys); got != step.want {
			t.Errorf("with %s of %q: %v", step.path, step.content, got)
		}
	}
}

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
