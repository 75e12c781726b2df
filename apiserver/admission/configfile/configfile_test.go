package configfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRead shows that plugins are configured in place or by a file, and that what is not understood is refused.
func TestRead(t *testing.T) {
	const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n"
	const body = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\ndefaults: {enforce: baseline, enforce-version: latest}\nexemptions: {namespaces: [kube-system]}\n"
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("pods.yaml", body)
	tests := map[string]struct{ text, failed string }{
		"in place":       {head + "- name: PodSecurity\n  configuration:\n    " + strings.ReplaceAll(body, "\n", "\n    "), ""},
		"by file":        {head + "- {name: PodSecurity, path: pods.yaml}\n", ""},
		"unknown field":  {head + "- {name: PodSecurity, configuration: {default: {}}}\n", "default"},
		"unknown plugin": {head + "- {name: PodSafety}\n", `plugin "PodSafety" takes no configuration`},
		"another kind":   {"apiVersion: v1\nkind: Pod\n", "want kind AdmissionConfiguration"},
		"no file":        {head + "- {name: PodSecurity, path: none.yaml}\n", "no such file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := Read(write("config.yaml", tt.text))
			if (err == nil) != (tt.failed == "") || err != nil && !strings.Contains(err.Error(), tt.failed) {
				t.Fatalf("got %v, want %s", err, tt.failed)
			}
			if err == nil && (c.PodSecurity.Defaults.Enforce != "baseline" || len(c.PodSecurity.Exemptions.Namespaces) != 1) {
				t.Errorf("read %+v", c)
			}
		})
	}
}
