package server_test

import "testing"

// Pods are held to their namespace's labels and workloads warned of, through either door; a label that becomes stricter tells of the pods there.
func TestPodSecurity(t *testing.T) {
	const violation = `violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`
	spec := "spec: {hostNetwork: true, containers: [{name: c, image: i}]}\n"
	agree(t, []write{
		{name: "without labels", at: "v1/pods@default", body: "metadata: {name: before}\n" + spec},
		{name: "a bad label", verb: "patch", at: "v1/namespaces:default", body: `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"none"}}}`, code: 422,
			refused: `Namespace "default" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "none": must be one of privileged, baseline, restricted`},
		{name: "a label", verb: "patch", at: "v1/namespaces:default", body: `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"baseline"}}}`,
			warned: []string{`existing pods in namespace "default" violate the new PodSecurity enforce level "baseline:latest"`, "before: host namespaces"}},
		{name: "with the label", at: "v1/pods@default", body: "metadata: {name: after}\n" + spec, code: 403,
			refused: `pods "after" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`},
		{name: "refused, whatever else is wrong", at: "v1/pods@default", body: "metadata: {name: after, resourceVersion: \"7\"}\n" + spec, code: 403,
			refused: `pods "after" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`},
		{name: "admitted, but not new", at: "v1/pods@default", body: "metadata: {name: good, resourceVersion: \"7\"}\nspec: {containers: [{name: c, image: i}]}\n", code: 400,
			refused: "resourceVersion should not be set on objects to be created"},
		{name: "a workload", at: "apps/v1/deployments@default", warned: []string{"would " + violation},
			body: "metadata: {name: d}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {hostNetwork: true, containers: [{name: c, image: i}]}}}\n"},
		{name: "a good pod", at: "v1/pods@default", body: "metadata: {name: good}\nspec: {containers: [{name: c, image: i}]}\n"},
	})
}
