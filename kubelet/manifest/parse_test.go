package manifest

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const web = `
apiVersion: v1
kind: Pod
metadata: {name: web, uid: mine, annotations: {kubernetes.io/config.mirror: x}}
spec:
  hostNetwork: true
  priorityClassName: system-node-critical
  containers:
  - {name: app, image: "app:1", ports: [{containerPort: 80}], resources: {limits: {cpu: 1}}}
  - {name: newest, image: "registry:5000/app"}
`

// TestParse shows what a static pod is given that its manifest does not say.
func TestParse(t *testing.T) {
	p, err := Parse([]byte(web), "Node1")
	if err != nil {
		t.Fatal(err)
	}
	again, _ := Parse([]byte(web), "Node1")
	other, _ := Parse([]byte(web), "node2")
	changed, _ := Parse([]byte(web+"\n"), "Node1")
	if p.UID != again.UID || p.UID == other.UID || p.UID == changed.UID || len(p.UID) != 32 {
		t.Errorf("UIDs: %s, again %s, on another node %s, changed %s", p.UID, again.UID, other.UID, changed.UID)
	}
	app := p.Spec.Containers[0]
	switch {
	case p.Name != "web-node1" || p.Namespace != "default" || p.Spec.NodeName != "Node1":
		t.Errorf("it is %s/%s on %s", p.Namespace, p.Name, p.Spec.NodeName)
	case p.Annotations[HashAnnotation] != string(p.UID) || p.Annotations[SourceAnnotation] != "file" || IsMirror(p):
		t.Errorf("annotations: %v", p.Annotations)
	case app.ImagePullPolicy != corev1.PullIfNotPresent || p.Spec.Containers[1].ImagePullPolicy != corev1.PullAlways:
		t.Errorf("pull policies: %s, %s", app.ImagePullPolicy, p.Spec.Containers[1].ImagePullPolicy)
	case app.Ports[0].HostPort != 80 || app.Ports[0].Protocol != corev1.ProtocolTCP || app.Resources.Requests.Cpu().Value() != 1:
		t.Errorf("container: %+v", app)
	case *p.Spec.Priority != 2000001000 || *p.Spec.TerminationGracePeriodSeconds != 30 || p.Spec.RestartPolicy != corev1.RestartPolicyAlways:
		t.Errorf("spec: %+v", p.Spec)
	case len(p.Spec.Tolerations) != 1 || p.Spec.Tolerations[0].Effect != corev1.TaintEffectNoExecute:
		t.Errorf("tolerations: %v", p.Spec.Tolerations)
	}
}

// TestParseRefuses shows what is no static pod, and what is said of it.
func TestParseRefuses(t *testing.T) {
	pod := func(spec string) string {
		return "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: " + spec + "}"
	}
	for text, want := range map[string]string{
		"":                             `it holds a "" of "", want a Pod of v1`,
		"a: b: c":                      "mapping values are not allowed",
		"{apiVersion: v1, kind: List}": `it holds a "List" of "v1"`,
		"{apiVersion: v1, kind: Pod}":  "metadata.name is missing",
		pod("{}"):                      "spec.containers is empty",
		pod("{containres: []}"):        `unknown field "spec.containres"`,
		pod("{dnsPolicy: A, dnsPolicy: B, containers: [{name: a, image: i}]}"):                                           "already set",
		pod("{containers: [{name: a}]}"):                                                                                 "spec.containers[0].image is missing",
		pod("{containers: [{name: a, image: i}, {name: a, image: i}]}"):                                                  "no other container has",
		pod("{containers: [{name: A, image: i}]}"):                                                                       "want a DNS label",
		pod("{containers: [{name: a, image: i, volumeMounts: [{name: v, mountPath: /}]}]}"):                              "no such volume",
		pod("{serviceAccountName: x, containers: [{name: a, image: i}]}"):                                                "static pods may not reference serviceaccounts",
		pod("{containers: [{name: a, image: i, envFrom: [{secretRef: {name: s}}]}]}"):                                    "static pods may not reference secrets",
		pod("{volumes: [{name: v, projected: {sources: [{configMap: {name: c}}]}}], containers: [{name: a, image: i}]}"): "static pods may not reference configmaps",
		"{apiVersion: v1, kind: Pod, metadata: {name: UPPER}, spec: {containers: [{name: a, image: i}]}}":                `metadata.name "UPPER-n"`,
		strings.Repeat(" ", SizeLimit+1):                                                                                 "larger than",
	} {
		_, err := Parse([]byte(text), "n")
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %s", text, err, want)
		}
	}
}
