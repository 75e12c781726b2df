package apps_test

import (
	"testing"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/apps"
	"bareboat.dev/apiserver/registry/kindtest"
)

// A workload's template is warned of when the workload is made or its spec changes, its name only when it is made.
func TestTemplateWarnings(t *testing.T) {
	const template = `
spec:
  selector: {matchLabels: {app: a}}
  template: {metadata: {labels: {app: a}}, spec: {terminationGracePeriodSeconds: -1, containers: [{name: c, image: i}]}}
`
	const grace = "spec.template.spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
	for _, kind := range []string{"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"} {
		r := kindtest.Kind(t, apps.Resources(), kind)
		name, want := "a.b", []string{grace}
		switch kind {
		case "StatefulSet":
			name = "ab"
		case "Deployment", "ReplicaSet":
			want = append(want, "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]")
		}
		base := "apiVersion: apps/v1\nkind: " + kind + "\nmetadata: {name: " + name + "}" + template
		kindtest.Warnings(t, r, base, []kindtest.Case{{Name: kind, Want: want}})
		obj, _ := kindtest.New(t, r, base)
		changed := obj.DeepCopyObject().(registry.Object)
		changed.SetGeneration(2)
		if got := r.Strategy.ChangeWarnings(changed, obj); len(got) != 1 || got[0] != grace {
			t.Errorf("%s: changed: %q", kind, got)
		}
		if got := r.Strategy.ChangeWarnings(obj, obj); len(got) > 0 {
			t.Errorf("%s: unchanged: %q", kind, got)
		}
	}
}
