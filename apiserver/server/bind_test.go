package server_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// A binding is recorded in nobody's managed fields, as in Kubernetes: it is a command, not a write of the pod.
func TestBindingOwnsNoFields(t *testing.T) {
	h := start(t, engines()["memory"](t))
	u := h.admin()
	h.defaultAccount(u)
	made, err := u.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "pods", "default", ""), Object: asProto(t, podURL, benchPod("a"))})
	check(t, err)
	before := into(t, made.GetObject(), &corev1.Pod{}).ManagedFields
	code, _, body := u.rest(t, "POST", "/api/v1/namespaces/default/pods/a/binding", "application/json", `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"a"},"target":{"kind":"Node","name":"n"}}`)
	if code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	got, err := u.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "pods", "default", "a")})
	check(t, err)
	pod := into(t, got.GetObject(), &corev1.Pod{})
	if pod.Spec.NodeName != "n" || len(before) != 1 || len(pod.ManagedFields) != 1 || string(pod.ManagedFields[0].FieldsV1.Raw) != string(before[0].FieldsV1.Raw) {
		t.Errorf("on %q with %+v", pod.Spec.NodeName, pod.ManagedFields)
	}
}
