package cli

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
)

// TestChangeTaints shows how taints are set, changed and removed, and which changes are refused.
func TestChangeTaints(t *testing.T) {
	have := []corev1.Taint{{Key: "a", Value: "1", Effect: corev1.TaintEffectNoSchedule}, {Key: "a", Effect: corev1.TaintEffectNoExecute}}
	tests := []struct {
		change    string
		overwrite bool
		want      string
		err       string
	}{
		{"b=2:NoExecute", false, "a=1:NoSchedule a:NoExecute b=2:NoExecute", ""},
		{"a=2:NoSchedule", true, "a=2:NoSchedule a:NoExecute", ""},
		{"a=2:NoSchedule", false, "", "--overwrite is false"},
		{"a=1:NoSchedule", false, "a=1:NoSchedule a:NoExecute", ""},
		{"a:NoExecute-", false, "a=1:NoSchedule", ""},
		{"a-", false, "", ""},
		{"c-", false, "", "not found"},
		{"a=1:Never", false, "", "none of NoSchedule"},
		{"=1:NoSchedule", false, "", "has no key"},
	}
	for _, tt := range tests {
		got, err := changeTaints(have, []string{tt.change}, tt.overwrite)
		var words []string
		for _, taint := range got {
			words = append(words, taint.ToString())
		}
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: error %v, want %q", tt.change, err, tt.err)
			}
		} else if err != nil || strings.Join(words, " ") != tt.want {
			t.Errorf("%s: %v, %v; want %s", tt.change, words, err, tt.want)
		}
	}
}

// TestDrainable shows which pods a drain moves, leaves, and refuses to lose.
func TestDrainable(t *testing.T) {
	yes := true
	pod := func(name, owner string, change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name}}
		if owner != "" {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: owner, Controller: &yes}}
		}
		if change != nil {
			change(p)
		}
		return p
	}
	pods := []*corev1.Pod{
		pod("plain", "ReplicaSet", nil), pod("daemon", "DaemonSet", nil), pod("lone", "", nil),
		pod("data", "ReplicaSet", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}),
		pod("done", "", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		pod("static", "", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }),
	}
	leaving, blocked := drainable(pods, drainOptions{})
	if len(leaving) != 2 || len(blocked) != 3 {
		t.Errorf("without flags %d leave and %v block", len(leaving), blocked)
	}
	leaving, blocked = drainable(pods, drainOptions{ignoreDaemonSets: true, emptyDir: true, force: true})
	if len(leaving) != 4 || len(blocked) != 0 {
		t.Errorf("with every flag %d leave and %v block", len(leaving), blocked)
	}
}

// TestCordonAndTaint shows the commands on a node.
func TestCordonAndTaint(t *testing.T) {
	m := newModel(t)
	clienttest.Put(m.server, client.Nodes(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "host-1"}})
	if out := m.must("cordon", "host-1"); out != "node/host-1 cordoned\n" {
		t.Errorf("cordon: %q", out)
	}
	if out := m.must("cordon", "node/host-1"); out != "node/host-1 already cordoned\n" {
		t.Errorf("cordon again: %q", out)
	}
	m.must("taint", "node", "host-1", "gpu=yes:NoSchedule")
	if out := m.must("get", "node/host-1", "-o", "jsonpath={.spec.unschedulable} {.spec.taints[0].key}"); out != "true gpu" {
		t.Errorf("the node has %q", out)
	}
	m.must("uncordon", "host-1")
	m.must("taint", "nodes", "host-1", "gpu-")
	if out := m.must("get", "node/host-1", "-o", "jsonpath={.spec}"); out != "{}" {
		t.Errorf("the node has %q", out)
	}
	if _, errOut, code := m.run("", "taint", "pod", "x", "a=b:NoSchedule"); code != 1 || !strings.Contains(errOut, "only nodes") {
		t.Errorf("taint of a pod: %q", errOut)
	}
}
