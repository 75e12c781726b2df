package server_test

import (
	"strings"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	eventsv1 "k8s.io/api/events/v1"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// An object that is written in one version is read, watched and selected in the other, and a change through either is one
// change of the one object.
func TestOneObjectInTwoVersions(t *testing.T) {
	for name, engine := range engines() {
		t.Run(name, func(t *testing.T) {
			admin := start(t, engine(t)).admin()
			at := func(version, name string) *apiv1.ResourceRef {
				r := ref("autoscaling", "horizontalpodautoscalers", "default", name)
				r.Version = version
				return r
			}
			_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: at("v1", ""), Object: asJSON(t, jsonType,
				`{"metadata":{"name":"a"},"spec":{"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"d"},"maxReplicas":3,"targetCPUUtilizationPercentage":70}}`)})
			check(t, err)
			got, err := admin.Get(t.Context(), &apiv1.GetRequest{Ref: at("v2", "a")})
			check(t, err)
			two := into(t, got.GetObject(), &autoscalingv2.HorizontalPodAutoscaler{})
			if m := two.Spec.Metrics; len(m) != 1 || *m[0].Resource.Target.AverageUtilization != 70 {
				t.Errorf("v2: %v", two.Spec)
			}
			_, err = admin.Patch(t.Context(), &apiv1.PatchRequest{Ref: at("v2", "a"), Type: apiv1.PatchRequest_TYPE_MERGE, Patch: []byte(`{"spec":{"maxReplicas":5}}`)})
			check(t, err)
			got, err = admin.Get(t.Context(), &apiv1.GetRequest{Ref: at("v1", "a")})
			check(t, err)
			one := into(t, got.GetObject(), &autoscalingv1.HorizontalPodAutoscaler{})
			if one.Spec.MaxReplicas != 5 || *one.Spec.TargetCPUUtilizationPercentage != 70 || one.UID != two.UID || one.ResourceVersion == two.ResourceVersion || one.Generation != 2 {
				t.Errorf("v1: %v", one)
			}
			_, err = admin.Delete(t.Context(), &apiv1.DeleteRequest{Ref: at("v1", "a")})
			check(t, err)
		})
	}
}

// Events of the core group are listed, selected and watched in events.k8s.io by its own names of their fields.
func TestEventsInTwoGroups(t *testing.T) {
	admin := start(t, engines()["memory"](t)).admin()
	for _, name := range []string{"p", "q"} {
		_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "events", "default", ""), Object: asJSON(t, jsonType,
			`{"metadata":{"name":"`+name+`"},"involvedObject":{"kind":"Pod","namespace":"default","name":"`+name+`"},"message":"hello"}`)})
		check(t, err)
	}
	w, err := admin.Watch(t.Context(), &apiv1.WatchRequest{Ref: ref("events.k8s.io", "events", "default", ""), FieldSelector: "regarding.name=q", SendInitialEvents: true})
	check(t, err)
	m, err := w.Recv()
	check(t, err)
	if len(m.GetEvents()) == 0 || !strings.HasSuffix(m.GetEvents()[0].GetObject().GetTypeUrl(), "k8s.io.api.events.v1.Event") {
		t.Fatalf("got %v", m)
	}
	if e := into(t, m.GetEvents()[0].GetObject(), &eventsv1.Event{}); e.Regarding.Name != "q" || e.Note != "hello" || e.ResourceVersion == "" {
		t.Errorf("got %v", e)
	}
	_, err = admin.Get(t.Context(), &apiv1.GetRequest{Ref: ref("events.k8s.io", "events", "default", "p")})
	check(t, err)
}

// One manager applies an object in either version: what it no longer applies goes away, whichever version it applied that in.
func TestApplyInTwoVersions(t *testing.T) {
	admin := start(t, engines()["memory"](t)).admin()
	apply := func(version, spec string) {
		t.Helper()
		r := ref("autoscaling", "horizontalpodautoscalers", "default", "a")
		r.Version = version
		_, err := admin.Patch(t.Context(), &apiv1.PatchRequest{
			Ref: r, Type: apiv1.PatchRequest_TYPE_APPLY, Options: &apiv1.WriteOptions{FieldManager: "m"},
			Patch: []byte("apiVersion: autoscaling/" + version + "\nkind: HorizontalPodAutoscaler\nmetadata: {name: a}\nspec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}" + spec + "}\n"),
		})
		check(t, err)
	}
	apply("v1", ", minReplicas: 2")
	apply("v2", ", behavior: {scaleDown: {stabilizationWindowSeconds: 7}}")
	apply("v1", "")
	apply("v2", "")
	got, err := admin.Get(t.Context(), &apiv1.GetRequest{Ref: ref("autoscaling", "horizontalpodautoscalers", "default", "a")})
	check(t, err)
	if a := into(t, got.GetObject(), &autoscalingv2.HorizontalPodAutoscaler{}); *a.Spec.MinReplicas != 1 || a.Spec.Behavior != nil || len(a.ManagedFields) != 1 {
		t.Errorf("minReplicas %d, behavior %v, managed by %v", *a.Spec.MinReplicas, a.Spec.Behavior, a.ManagedFields)
	}
}
