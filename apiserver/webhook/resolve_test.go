package webhook_test

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/webhook"
)

// world is what the resolver sees.
type world struct {
	service *corev1.Service
	slices  []registry.Object
}

func (w world) Object(_ context.Context, _, plural, namespace, name string, _ bool) (registry.Object, bool, error) {
	if plural == "services" && w.service != nil && w.service.Namespace == namespace && w.service.Name == name {
		return w.service, true, nil
	}
	return nil, false, nil
}

func (w world) Objects(context.Context, string, string, string) ([]registry.Object, error) {
	return w.slices, nil
}

func ptr[T any](v T) *T { return &v }

func slice(service, port string, number int32, ready *bool, address string) registry.Object {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		Ports:      []discoveryv1.EndpointPort{{Name: &port, Port: &number}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: ready}}},
	}
}

// TestEndpoints shows that a service resolves to a ready endpoint of the port that is asked for, or to a clear error.
func TestEndpoints(t *testing.T) {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ops", Name: "hook"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "web", Port: 80}, {Name: "tls", Port: 443}}},
	}
	external := &corev1.Service{ObjectMeta: svc.ObjectMeta, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "hook.example.org"}}
	others := []registry.Object{
		slice("hook", "web", 8080, nil, "10.0.0.1"), slice("other", "tls", 8443, nil, "10.0.0.2"), slice("hook", "tls", 8443, ptr(false), "10.0.0.3"),
	}
	tests := map[string]struct {
		world  world
		port   int32
		want   string
		failed string
	}{
		"ready":           {world{svc, append(others, slice("hook", "tls", 8443, ptr(true), "10.0.0.4"))}, 443, "10.0.0.4:8443", ""},
		"IPv6":            {world{svc, []registry.Object{slice("hook", "tls", 8443, nil, "fd00::1")}}, 443, "[fd00::1]:8443", ""},
		"external name":   {world{external, nil}, 443, "hook.example.org:443", ""},
		"none ready":      {world{svc, others}, 443, "", `no endpoints available for service "hook"`},
		"no such port":    {world{svc, others}, 444, "", `no service port 444 found for service "hook"`},
		"no such service": {world{}, 443, "", `services "hook" not found`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := webhook.Endpoints(tt.world)(t.Context(), "ops", "hook", tt.port)
			if got != tt.want || (err == nil) != (tt.failed == "") || err != nil && !strings.Contains(err.Error(), tt.failed) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
