package e2e

import (
	"strings"
	"testing"
)

// TestBadInput shows that what Kubernetes refuses is refused with the same path and reason, that nothing of it is stored, and that a
// second apply says unchanged.
func TestBadInput(t *testing.T) {
	h := up(t, "input")
	const good = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - {name: web, image: "example.test/web:1"}
`
	tests := map[string]struct{ manifest, want string }{
		"unknown field":     {strings.Replace(good, "spec:\n  selector", "spec:\n  replica: 2\n  selector", 1), ".spec.replica: field not declared in schema"},
		"wrong type":        {strings.Replace(good, "spec:\n  selector", "spec:\n  replicas: two\n  selector", 1), "replicas"},
		"missing selector":  {strings.Replace(good, "  selector: {matchLabels: {app: web}}\n", "", 1), "spec.selector: Required value"},
		"selector mismatch": {strings.Replace(good, "labels: {app: web}", "labels: {app: other}", 1), "`selector` does not match template `labels`"},
		"duplicate key":     {strings.Replace(good, "metadata: {name: web}\n", "metadata: {name: web}\nkind: Deployment\n", 1), "already"},
		"upper case name":   {strings.Replace(good, "name: web}", "name: Web}", 1), "a lowercase RFC 1123 subdomain must consist of"},
		"3 MB object":       {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big}\ndata:\n  blob: " + strings.Repeat("x", 3<<20) + "\n", "too l"},
		"alias bomb":        {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n", "excessive aliasing"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := h.Must("kctl", "get", "deploy,cm", "-A", "-o", "name")
			out, err := h.Input(tt.manifest, "kctl", "apply", "-f", "-")
			if err == nil || !strings.Contains(out, tt.want) {
				t.Errorf("apply: %v; want %q in:\n%.600s", err, tt.want, out)
			}
			if after := h.Must("kctl", "get", "deploy,cm", "-A", "-o", "name"); after != before {
				t.Errorf("something was stored:\n%s", after)
			}
		})
	}
	for i, want := range []string{"deployment.apps/web created", "deployment.apps/web unchanged"} {
		out, err := h.Input(good, "kctl", "apply", "-f", "-")
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("apply %d: %q, %v; want %q", i+1, out, err, want)
		}
	}
}
