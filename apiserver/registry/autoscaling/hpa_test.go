package autoscaling_test

import (
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/autoscaling"
	"bareboat.dev/apiserver/registry/kindtest"
)

func version(t *testing.T, v string) *registry.Resource {
	for _, r := range autoscaling.Resources() {
		if r.Kind.Version == v {
			return r
		}
	}
	t.Fatal("no version " + v)
	return nil
}

const scaler = `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: a}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}
  maxReplicas: 3
`

// Autoscalers that kube-apiserver accepts and refuses, and why.
func TestAutoscaler(t *testing.T) {
	kindtest.Create(t, version(t, "v2"), scaler, []kindtest.Case{
		{Name: "minimal"},
		{Name: "behavior", Edit: "spec: {behavior: {scaleDown: {tolerance: '0.1', policies: [{type: Pods, value: 1, periodSeconds: 60}]}}}"},
		{Name: "metrics", Edit: `spec: {metrics: [
{type: Pods, pods: {metric: {name: m}, target: {type: AverageValue, averageValue: 1k}}},
{type: Object, object: {metric: {name: m}, describedObject: {kind: Service, name: s, apiVersion: v1}, target: {type: Value, value: 1}}},
{type: External, external: {metric: {name: m, selector: {matchLabels: {a: b}}}, target: {type: AverageValue, averageValue: 1}}},
{type: ContainerResource, containerResource: {name: cpu, container: c, target: {type: Utilization, averageUtilization: 50}}}]}`},
		{Name: "controller of the core group", Edit: "spec: {scaleTargetRef: {apiVersion: v1, kind: ReplicationController}}"},
		{Name: "zero with an outside metric", Edit: "spec: {minReplicas: 0, metrics: [{type: External, external: {metric: {name: x}, target: {type: AverageValue, averageValue: 1}}}]}"},
		{Name: "fewer than none", Edit: "spec: {minReplicas: -1}", Want: []string{"spec.minReplicas: Invalid value: -1: must be greater than or equal to 0"}},
		{Name: "container resource", Edit: "spec: {metrics: [{type: ContainerResource, containerResource: {name: a, container: B, target: {type: Utilization, averageUtilization: 1}}}]}", Want: []string{
			`spec.metrics[0].containerResource.name: Invalid value: "a": must be a standard resource type or fully qualified`,
			`spec.metrics[0].containerResource.name: Invalid value: "a": must be a standard resource for containers`,
			`spec.metrics[0].containerResource.container: Invalid value: "B": a lowercase RFC 1123 label…`}},
		{Name: "metric selectors are the adapter's", Edit: "spec: {metrics: [{type: Pods, pods: {metric: {name: x, selector: {matchLabels: {'': '-'}}}, target: {type: AverageValue, averageValue: 1}}}]}"},
		{Name: "bounds", Edit: "spec: {minReplicas: 0, maxReplicas: -1}", Want: []string{
			"spec.maxReplicas: Invalid value: -1: must be greater than 0",
			"spec.maxReplicas: Invalid value: -1: must be greater than or equal to `minReplicas`",
			"spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas"}},
		{Name: "no maximum", Edit: "spec: {maxReplicas: null}", Want: []string{
			"spec.maxReplicas: Required value: must be set and greater than 0",
			"spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`"}},
		{Name: "target", Edit: "spec: {scaleTargetRef: {apiVersion: v1, kind: a/b, name: ''}}", Want: []string{
			`spec.scaleTargetRef.kind: Invalid value: "a/b": may not contain '/'`, "spec.scaleTargetRef.name: Required value",
			`spec.scaleTargetRef.apiVersion: Invalid value: "v1": apiVersion must specify API group`}},
		{Name: "metric without source", Edit: "spec: {metrics: [{type: Pods}]}", Want: []string{
			"spec.metrics[0].pods: Required value: must populate information for the given metric source"}},
		{Name: "metric of another type", Edit: "spec: {metrics: [{type: Pods, resource: {name: cpu, target: {type: Utilization, averageUtilization: 0}}}]}", Want: []string{
			"spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
			"spec.metrics[0].pods: Required value: must populate information for the given metric source"}},
		{Name: "unknown type", Edit: "spec: {metrics: [{type: Odd}]}", Want: []string{
			`spec.metrics[0].type: Unsupported value: "Odd": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"`,
			`spec.metrics[0].type: Unsupported value: "Odd": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"`}},
		{Name: "two targets", Edit: "spec: {metrics: [{type: Resource, resource: {name: cpu, target: {type: Odd, averageUtilization: 1, averageValue: 1}}}]}", Want: []string{
			`spec.metrics[0].resource.target.type: Invalid value: "Odd": must be either Utilization, Value, or AverageValue`,
			"spec.metrics[0].resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization"}},
		{Name: "behavior's bounds", Edit: `spec: {behavior: {scaleUp: {stabilizationWindowSeconds: 3601, selectPolicy: Odd, tolerance: '-1', policies: []},
scaleDown: {policies: [{type: Odd, value: 0, periodSeconds: 1801}]}}}`, Want: []string{
			"spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
			`spec.behavior.scaleUp.selectPolicy: Unsupported value: "Odd": supported values: "Disabled", "Max", "Min"`,
			"spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
			`spec.behavior.scaleUp.tolerance: Invalid value: "-1": must be greater than or equal to 0`,
			`spec.behavior.scaleDown.policies[0].type: Unsupported value: "Odd": supported values: "Percent", "Pods"`,
			"spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero",
			"spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800"}},
	})
	kindtest.Update(t, version(t, "v2"), scaler, []kindtest.Case{
		{Name: "anything", Edit: "spec: {minReplicas: 2, scaleTargetRef: {name: other}}"},
		{Name: "target's version", Edit: "spec: {scaleTargetRef: {apiVersion: v1}}", Want: []string{
			`spec.scaleTargetRef.apiVersion: Invalid value: "v1": apiVersion must specify API group`}},
	})
}

// v1 is checked as v2 is, and its errors name v2's fields, as in Kubernetes.
func TestAutoscalerV1(t *testing.T) {
	base := kindtest.Edit(t, scaler, "apiVersion: autoscaling/v1")
	kindtest.Create(t, version(t, "v1"), base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "cpu", Edit: "spec: {targetCPUUtilizationPercentage: 50}"},
		{Name: "no cpu", Edit: "spec: {targetCPUUtilizationPercentage: 0}", Want: []string{
			"spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"}},
		{Name: "annotation", Edit: "metadata: {annotations: {autoscaling.alpha.kubernetes.io/metrics: '{'}}", Want: []string{
			"metadata.annotations: Invalid value: autoscaling.alpha.kubernetes.io/metrics: unexpected end of JSON input"}},
	})
}

// Everything that v2 says is in the v1 form, and comes back from it.
func TestAutoscalerRoundTrip(t *testing.T) {
	v1, v2 := version(t, "v1"), version(t, "v2")
	obj, errs := kindtest.New(t, v2, kindtest.Edit(t, scaler, `spec:
  behavior: {scaleUp: {tolerance: '0.1'}}
  metrics:
  - {type: Pods, pods: {metric: {name: m}, target: {type: AverageValue, averageValue: 1k}}}
  - {type: Object, object: {metric: {name: m}, describedObject: {kind: Service, name: s, apiVersion: v1}, target: {type: AverageValue, averageValue: 1}}}
  - {type: External, external: {metric: {name: m, selector: {matchLabels: {a: b}}}, target: {type: Value, value: 1}}}
  - {type: ContainerResource, containerResource: {name: cpu, container: c, target: {type: AverageValue, averageValue: 50}}}
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}`))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	a := obj.(*autoscalingv2.HorizontalPodAutoscaler)
	utilization := int32(40)
	a.Status.CurrentMetrics = []autoscalingv2.MetricStatus{{
		Type: "Resource", Resource: &autoscalingv2.ResourceMetricStatus{Name: "cpu", Current: autoscalingv2.MetricValueStatus{
			AverageUtilization: &utilization, AverageValue: a.Spec.Metrics[0].Pods.Target.AverageValue}},
	}}
	a.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.AbleToScale, Status: "True"}}
	shown, err := v1.Stored.From(obj)
	if err != nil {
		t.Fatal(err)
	}
	b := shown.(*autoscalingv1.HorizontalPodAutoscaler)
	if p := b.Spec.TargetCPUUtilizationPercentage; p == nil || *p != 50 || len(b.Annotations) != 4 || len(a.Annotations) != 0 {
		t.Errorf("v1: %v", b)
	}
	back, err := v1.Stored.To(shown)
	if err != nil {
		t.Fatal(err)
	}
	back.GetObjectKind().SetGroupVersionKind(v2.Kind)
	kindtest.Same(t, back, obj)
}

// What the table shows of each kind of metric.
func TestAutoscalerColumns(t *testing.T) {
	obj, _ := kindtest.New(t, version(t, "v2"), scaler)
	for i, want := range []string{"a", "Deployment/d", "cpu: <unknown>/80%", "1", "3", "0"} {
		for _, v := range []string{"v1", "v2"} {
			r, shown := version(t, v), obj
			if v == "v1" {
				shown, _ = r.Stored.From(obj)
			}
			if got := r.Columns[i].Cell(shown, time.Time{}); got != want {
				t.Errorf("%s column %s: got %q, want %q", v, r.Columns[i].Name, got, want)
			}
		}
	}
}
