package adapters

import (
	"context"
	"strings"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// documents are what a server answers by path.
type documents map[string]string

func (d documents) Get(_ context.Context, path string) ([]byte, error) {
	if body, ok := d[path]; ok {
		return []byte(body), nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "metrics"}, path)
}

// Each kind of metric is asked for at the path and with the selectors that adapters serve it at.
func TestSource(t *testing.T) {
	labelled := autoscalingv2.MetricIdentifier{Name: "qps", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"verb": "GET"}}}
	plain := autoscalingv2.MetricIdentifier{Name: "qps"}
	s := Source{documents{
		"/apis/custom.metrics.k8s.io":   `{"versions":[{"version":"v1beta1"},{"version":"v1beta2"}]}`,
		"/apis/external.metrics.k8s.io": `{"versions":[{"version":"v1beta1"}]}`,
		"/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods/*/qps?labelSelector=app%3Dweb&metricLabelSelector=verb%3DGET": `{"items":[{"describedObject":{"name":"a"},"value":"1500m"},{"describedObject":{"name":"b"},"value":"2"}]}`,
		"/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods/*/qps?labelSelector=app%3Dnone":                               `{"items":[]}`,
		"/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/ingresses.networking.k8s.io/i/qps":                                 `{"items":[{"value":"3k"}]}`,
		"/apis/custom.metrics.k8s.io/v1beta2/nodes/n/qps":                                                                     `{"items":[{"value":"4"}]}`,
		"/apis/custom.metrics.k8s.io/v1beta2/namespaces/n/metrics/qps":                                                        `{"items":[{"value":"5"}]}`,
		"/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/qps?labelSelector=verb%3DGET":                                    `{"items":[{"value":"1"},{"value":"500m"}]}`,
	}}
	ctx := t.Context()
	if got, err := s.Pods(ctx, "ns", "app=web", labelled); err != nil || got["a"] != 1500 || got["b"] != 2000 || len(got) != 2 {
		t.Errorf("pods: %v, %v", got, err)
	}
	for name, c := range map[string]struct {
		ask  func() (int64, error)
		want int64
	}{
		"namespaced":     {func() (int64, error) { return s.Object(ctx, "ns", "ingresses.networking.k8s.io", "i", plain) }, 3_000_000},
		"cluster-scoped": {func() (int64, error) { return s.Object(ctx, "", "nodes", "n", plain) }, 4000},
		"a namespace":    {func() (int64, error) { return s.Object(ctx, "", "namespaces", "n", plain) }, 5000},
		"external":       {func() (int64, error) { return s.External(ctx, "ns", labelled) }, 1500},
	} {
		if got, err := c.ask(); err != nil || got != c.want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	for want, ask := range map[string]func(Source) error{
		"no metrics returned from custom metrics API":                                                                     func(Source) error { _, err := s.Pods(ctx, "ns", "app=none", plain); return err },
		"unable to fetch metrics from custom metrics API: metrics":                                                        func(Source) error { _, err := s.Pods(ctx, "other", "", plain); return err },
		"unable to fetch metrics from external metrics API: metrics":                                                      func(Source) error { _, err := s.External(ctx, "ns", plain); return err },
		"unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered":       func(none Source) error { _, err := none.Object(ctx, "", "nodes", "n", plain); return err },
		"unable to fetch metrics from external metrics API: no external metrics API (external.metrics.k8s.io) registered": func(none Source) error { _, err := none.External(ctx, "ns", plain); return err },
	} {
		for _, none := range []Source{{}, {documents{}}, {documents{"/apis/custom.metrics.k8s.io": `{"versions":[{"version":"v9"}]}`}}} {
			if err := ask(none); err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
	}
}
