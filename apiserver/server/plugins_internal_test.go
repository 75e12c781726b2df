package server

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
	"bareboat.dev/apiserver/storage/memory"
)

// BenchmarkAdmission measures what each plugin adds to the creation of a ConfigMap and of a pod: in a cluster without rules, and in one
// with a hundred webhooks and policies that all select something else.
func BenchmarkAdmission(b *testing.B) {
	for _, world := range []struct {
		name  string
		rules int
	}{{"none", 0}, {"100 others", 100}} {
		b.Run(world.name, func(b *testing.B) { benchmarkAdmission(b, world.rules) })
	}
}

func benchmarkAdmission(b *testing.B, rules int) {
	set, err := registry.NewSet(groups.All(core.Config{})...)
	if err != nil {
		b.Fatal(err)
	}
	engine := memory.New()
	defer engine.Close()
	s, err := New(Config{Set: set, Engine: engine, Metrics: prometheus.NewRegistry(), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- s.feed.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	close(s.rules.begin)
	close(s.rules.ready)
	if err := s.feed.WaitReady(ctx); err != nil {
		b.Fatal(err)
	}
	if err := s.pipeline.Serve(nil); err != nil {
		b.Fatal(err)
	}
	make1 := func(group, resource, body string) {
		b.Helper()
		r := &pipeline.Request{Verb: pipeline.Create, Caller: pipeline.System(), Ref: pipeline.Ref{Group: group, Version: "v1", Resource: resource, Namespace: map[string]string{"serviceaccounts": "default"}[resource]}, Body: pipeline.Body{ContentType: "application/yaml", Data: []byte(body)}}
		if _, err := s.pipeline.Do(ctx, r); err != nil {
			b.Fatal(err)
		}
	}
	make1("", "namespaces", "metadata: {name: default}")
	const api = "admissionregistration.k8s.io"
	const match = "resourceRules: [{operations: ['*'], apiGroups: [example.com], apiVersions: ['*'], resources: [things]}]"
	const hook = "webhooks: [{name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: 'https://x'}, rules: [{operations: ['*'], apiGroups: [example.com], apiVersions: ['*'], resources: [things]}]}]"
	for i := range rules / 4 {
		name := "metadata: {name: r" + string(rune('a'+i)) + "}\n"
		make1(api, "mutatingwebhookconfigurations", name+hook)
		make1(api, "validatingwebhookconfigurations", name+hook)
		make1(api, "validatingadmissionpolicies", name+"spec: {validations: [{expression: 'true'}], matchConstraints: {"+match+"}}")
		make1(api, "validatingadmissionpolicybindings", name+"spec: {validationActions: [Deny], policyName: r"+string(rune('a'+i))+"}")
		make1(api, "mutatingadmissionpolicies", name+"spec: {reinvocationPolicy: Never, mutations: [{patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{}]'}}], matchConstraints: {"+match+"}}")
		make1(api, "mutatingadmissionpolicybindings", name+"spec: {policyName: r"+string(rune('a'+i))+"}")
	}
	plugins, err := s.plugins(authz.Chain{authz.Masters{}})
	if err != nil {
		b.Fatal(err)
	}
	make1("", "serviceaccounts", "metadata: {name: default, namespace: default}")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	for plural, obj := range map[string]registry.Object{"configmaps": &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m", Namespace: "default"}}, "pods": pod} {
		resource, ok := set.Lookup("", "v1", plural)
		if !ok {
			b.Fatal("no " + plural)
		}
		a := &admission.Attributes{
			Operation: admission.Create, User: &authn.Identity{Name: "jane", Groups: []string{"dev"}}, Resource: resource, Namespace: "default", Name: obj.GetName(), Object: obj,
		}
		b.Run(plural, func(b *testing.B) { eachPlugin(ctx, b, plugins, a) })
	}
}

// eachPlugin measures all plugins together and each by itself.
func eachPlugin(ctx context.Context, b *testing.B, plugins []admission.Plugin, a *admission.Attributes) {
	run := func(b *testing.B, list []admission.Plugin) {
		b.ReportAllocs()
		for b.Loop() {
			for i := range list {
				for _, f := range []func(context.Context, *admission.Attributes) error{list[i].Mutate, list[i].Validate} {
					if f == nil {
						continue
					}
					if err := f(ctx, a); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	}
	b.Run("all", func(b *testing.B) { run(b, plugins) })
	for i := range plugins {
		b.Run(plugins[i].Name, func(b *testing.B) { run(b, plugins[i:i+1]) })
	}
}
