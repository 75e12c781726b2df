package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/proxy/agent"
	"bareboat.dev/proxy/plan"
	"bareboat.dev/proxy/policy"
)

// policer keeps what it was told.
type policer struct {
	mu    sync.Mutex
	held  bool
	text  string
	calls int
	fail  error
	moved chan struct{}
}

func (p *policer) Hold(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = true
	return nil
}

func (p *policer) Apply(_ context.Context, r policy.Rules) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { close(p.moved); p.moved = make(chan struct{}) }()
	p.calls++
	if p.fail == nil {
		p.held, p.text = false, r.String()
	}
	return p.fail
}
func (p *policer) Intact() bool { return true }
func (p *policer) Forget()      {}

func (p *policer) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		p.mu.Lock()
		done, moved, text := ok(), p.moved, p.text
		p.mu.Unlock()
		if done {
			return
		}
		select {
		case <-moved:
		case <-deadline:
			t.Fatalf("never came: %s; in force:\n%s", what, text)
		}
	}
}

func startPolicies(t *testing.T, api *clienttest.Server, p *policer) {
	p.moved = make(chan struct{})
	a := agent.NewPolicies(api.Client(), agent.PolicyConfig{
		NodeName: "n1", Log: slog.New(slog.DiscardHandler), Families: []agent.PolicyFamily{{Family: plan.IPv4, Policer: p}},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// Policies, pods and namespaces reach the kernel as they change; a failure is tried again.
func TestPoliciesFollow(t *testing.T) {
	leaks(t)
	api := clienttest.NewServer(t)
	p := &policer{fail: errors.New("busy")}
	startPolicies(t, api, p)
	p.until(t, "a second attempt", func() bool { return p.calls >= 2 && p.held })
	p.mu.Lock()
	p.fail = nil
	p.mu.Unlock()
	p.until(t, "the hold lifted", func() bool { return !p.held })

	c := api.Client()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", Labels: map[string]string{"app": "db"}}}
	pod.Spec.NodeName = "n1"
	pod, err := client.Of(c, client.Pods()).Create(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "deny"}}
	if _, err := client.Of(c, client.NetworkPolicies()).Create(t.Context(), np); err != nil {
		t.Fatal(err)
	}
	pod.Status.PodIP = "10.244.0.5"
	if _, err := client.Of(c, client.Pods()).UpdateStatus(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	p.until(t, "the pod isolated", func() bool { return strings.Contains(p.text, "ingress 10.244.0.5: in-") })
	if err := client.Of(c, client.NetworkPolicies()).Delete(t.Context(), "ns", "deny", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p.until(t, "the pod free again", func() bool { return !strings.Contains(p.text, "ingress") })
}

// An API that does not know the kind has no policies: nothing stays held back.
func TestPoliciesUnknown(t *testing.T) {
	leaks(t)
	api := clienttest.NewServer(t)
	api.Fail(func(_ string, ref *apiv1.ResourceRef) error {
		if ref.GetResource() != "networkpolicies" {
			return nil
		}
		return apierrors.NewGenericServerResponse(http.StatusNotFound, "list", schema.GroupResource{}, "", "", 0, false)
	})
	p := &policer{held: true}
	startPolicies(t, api, p)
	p.until(t, "the hold lifted", func() bool { return !p.held && p.calls == 1 })
}
