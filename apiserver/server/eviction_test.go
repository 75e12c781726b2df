package server_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// An eviction spends the pod's disruption budget, and is refused with 429 once that is spent.
func TestEvictionSpendsTheBudget(t *testing.T) {
	h := start(t, engines()["memory"](t))
	admin := h.admin()
	h.defaultAccount(admin)
	_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("policy", "poddisruptionbudgets", "default", ""), Object: asJSON(t, jsonType,
		`{"metadata":{"name":"b"},"spec":{"minAvailable":1,"selector":{"matchLabels":{"app":"web"}}}}`)})
	check(t, err)
	budget := ref("policy", "poddisruptionbudgets", "default", "b")
	budget.Subresource = "status"
	_, err = admin.Patch(t.Context(), &apiv1.PatchRequest{Ref: budget, Type: apiv1.PatchRequest_TYPE_MERGE,
		Patch: []byte(`{"status":{"observedGeneration":1,"disruptionsAllowed":1,"currentHealthy":2,"desiredHealthy":1,"expectedPods":2}}`)})
	check(t, err)
	evict := func(name string) error {
		r := ref("", "pods", "default", name)
		r.Subresource = "eviction"
		_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: r, Object: asJSON(t, jsonType, `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"`+name+`"}}`)})
		return err
	}
	for _, name := range []string{"a", "b", "c"} {
		p := pod(name)
		p.Labels, p.Spec.NodeName = map[string]string{"app": "web"}, "n1"
		_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "pods", "default", ""), Object: asProto(t, podURL, p)})
		check(t, err)
		r := ref("", "pods", "default", name)
		r.Subresource = "status"
		_, err = admin.Patch(t.Context(), &apiv1.PatchRequest{Ref: r, Type: apiv1.PatchRequest_TYPE_MERGE, Patch: []byte(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"` + map[bool]string{true: "True", false: "False"}[name != "c"] + `"}]}}`)})
		check(t, err)
	}
	check(t, evict("a"))
	got, err := admin.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "pods", "default", "a")})
	check(t, err)
	evicted := into(t, got.GetObject(), &corev1.Pod{})
	if evicted.DeletionTimestamp == nil {
		t.Error("the evicted pod is not being deleted")
	}
	if !slices.ContainsFunc(evicted.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == "EvictionByEvictionAPI"
	}) {
		t.Errorf("the evicted pod does not say why it ends: %v", evicted.Status.Conditions)
	}
	err = evict("b")
	if s := apiStatus(t, err); status.Code(err) != codes.ResourceExhausted || s.Message != "Cannot evict pod as it would violate the pod's disruption budget." ||
		!strings.Contains(s.Details.Causes[0].Message, "The disruption budget b needs 1 healthy pods and has 2 currently") {
		t.Errorf("second eviction: %v", err)
	}
	// Two are healthy and one is wanted, so the third, which is not ready, may go though nothing is left to spend.
	check(t, evict("c"))
}

// A pod that is not ready is guarded while its budget lacks healthy ones, unless the budget always allows its end.
func TestEvictionOfUnhealthyPods(t *testing.T) {
	h := start(t, engines()["memory"](t))
	admin := h.admin()
	h.defaultAccount(admin)
	for name, policy := range map[string]string{"guarded": "IfHealthyBudget", "free": "AlwaysAllow"} {
		_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("policy", "poddisruptionbudgets", "default", ""), Object: asJSON(t, jsonType,
			`{"metadata":{"name":"`+name+`"},"spec":{"minAvailable":1,"unhealthyPodEvictionPolicy":"`+policy+`","selector":{"matchLabels":{"app":"`+name+`"}}}}`)})
		check(t, err)
		budget := ref("policy", "poddisruptionbudgets", "default", name)
		budget.Subresource = "status"
		_, err = admin.Patch(t.Context(), &apiv1.PatchRequest{Ref: budget, Type: apiv1.PatchRequest_TYPE_MERGE,
			Patch: []byte(`{"status":{"observedGeneration":1,"currentHealthy":0,"desiredHealthy":1,"expectedPods":1}}`)})
		check(t, err)
		p := pod(name)
		p.Labels, p.Spec.NodeName = map[string]string{"app": name}, "n1"
		_, err = admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "pods", "default", ""), Object: asProto(t, podURL, p)})
		check(t, err)
		r := ref("", "pods", "default", name)
		r.Subresource = "status"
		_, err = admin.Patch(t.Context(), &apiv1.PatchRequest{Ref: r, Type: apiv1.PatchRequest_TYPE_MERGE, Patch: []byte(`{"status":{"phase":"Running"}}`)})
		check(t, err)
		r.Subresource = "eviction"
		_, err = admin.Create(t.Context(), &apiv1.CreateRequest{Ref: r, Object: asJSON(t, jsonType, `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"`+name+`"}}`)})
		if (err == nil) != (name == "free") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A pod's priority is that of its class; a class that does not exist is refused, and so is a number of one's own.
func TestPriorityClasses(t *testing.T) {
	h := start(t, engines()["memory"](t))
	admin := h.admin()
	h.defaultAccount(admin)
	_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("scheduling.k8s.io", "priorityclasses", "", ""), Object: asJSON(t, jsonType,
		`{"metadata":{"name":"high"},"value":1000,"preemptionPolicy":"Never"}`)})
	check(t, err)
	create := func(name, class string) (*corev1.Pod, error) {
		p := pod(name)
		p.Spec.PriorityClassName = class
		resp, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "pods", "default", ""), Object: asProto(t, podURL, p)})
		if err != nil {
			return nil, err
		}
		return into(t, resp.GetObject(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{}}), nil
	}
	p, err := create("a", "high")
	check(t, err)
	if *p.Spec.Priority != 1000 || *p.Spec.PreemptionPolicy != corev1.PreemptNever {
		t.Errorf("priority %d %s", *p.Spec.Priority, *p.Spec.PreemptionPolicy)
	}
	if p, err = create("b", "system-node-critical"); err != nil || *p.Spec.Priority != 2_000_001_000 {
		t.Errorf("system class: %v", err)
	}
	_, err = create("c", "none")
	if s := apiStatus(t, err); s.Message != `pods "c" is forbidden: no PriorityClass with name none was found` {
		t.Errorf("no such class: %v", err)
	}
}
