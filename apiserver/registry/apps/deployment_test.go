package apps_test

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/apps"
	"bareboat.dev/apiserver/registry/kindtest"
)

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec: {containers: [{name: c, image: nginx}]}
`

// Deployments that kube-apiserver accepts and refuses, and why.
func TestDeploymentCreate(t *testing.T) {
	kindtest.Create(t, kindtest.Kind(t, apps.Resources(), "Deployment"), deployment, []kindtest.Case{
		{Name: "minimal"},
		{Name: "recreate", Edit: "spec: {strategy: {type: Recreate}}"},
		{Name: "surge only", Edit: "spec: {strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}}"},
		{Name: "upper case", Edit: "metadata: {name: Web}", Want: []string{
			`metadata.name: Invalid value: "Web": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`}},
		{Name: "no selector", Edit: "spec: {selector: null}", Want: []string{`spec.selector: Required value`,
			"spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"}},
		{Name: "empty selector", Edit: "spec: {selector: {matchLabels: null}}", Want: []string{
			`spec.selector: Invalid value: {}: empty selector is invalid for deployment`}},
		{Name: "selector does not match", Edit: "spec: {template: {metadata: {labels: {app: b}}}}", Want: []string{
			"spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`"}},
		{Name: "negative", Edit: "spec: {replicas: -1}", Want: []string{`spec.replicas: Invalid value: -1: must be greater than or equal to 0`}},
		{Name: "no containers", Edit: "spec: {template: {spec: {containers: []}}}", Want: []string{`spec.template.spec.containers: Required value`}},
		{Name: "no image", Edit: "spec: {template: {spec: {containers: [{name: c}]}}}", Want: []string{
			`spec.template.spec.containers[0].image: Required value`}},
		{Name: "restart policy", Edit: "spec: {template: {spec: {restartPolicy: Never}}}", Want: []string{
			`spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`}},
		{Name: "deadline", Edit: "spec: {template: {spec: {activeDeadlineSeconds: 5}}}", Want: []string{
			`spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported`}},
		{Name: "strategy", Edit: "spec: {strategy: {type: BlueGreen}}", Want: []string{
			`spec.strategy: Unsupported value: "BlueGreen": supported values: "Recreate", "RollingUpdate"`}},
		{Name: "rolling recreate", Edit: "spec: {strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}}", Want: []string{
			"spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"}},
		{Name: "no movement", Edit: "spec: {strategy: {rollingUpdate: {maxUnavailable: 0%, maxSurge: 0}}}", Want: []string{
			"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"}},
		{Name: "too much percent", Edit: "spec: {strategy: {rollingUpdate: {maxUnavailable: 101%}}}", Want: []string{
			`spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%`}},
		{Name: "not a percentage", Edit: "spec: {strategy: {rollingUpdate: {maxSurge: many}}}", Want: []string{
			`spec.strategy.rollingUpdate.maxSurge: Invalid value: "many": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')`}},
		{Name: "progress deadline", Edit: "spec: {minReadySeconds: 600}", Want: []string{
			`spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds`}},
		{Name: "ephemeral containers", Edit: "spec: {template: {spec: {ephemeralContainers: [{name: e, image: i}]}}}", Want: []string{
			`spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template`}},
	})
}

// A deployment's selector never changes.
func TestDeploymentUpdate(t *testing.T) {
	kindtest.Update(t, kindtest.Kind(t, apps.Resources(), "Deployment"), deployment, []kindtest.Case{
		{Name: "nothing"},
		{Name: "image", Edit: "spec: {template: {spec: {containers: [{name: c, image: 'nginx:2'}]}}}"},
		{Name: "selector", Edit: "spec: {selector: {matchLabels: {app: b}}, template: {metadata: {labels: {app: b}}}}", Want: []string{
			`spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable`}},
	})
}

// Everything that a manifest leaves out is filled as Kubernetes fills it, and filling again changes nothing.
func TestDeploymentDefaults(t *testing.T) {
	r := kindtest.Kind(t, apps.Resources(), "Deployment")
	obj, _ := kindtest.New(t, r, deployment)
	d := obj.(*appsv1.Deployment)
	c := d.Spec.Template.Spec.Containers[0]
	s := d.Spec.Template.Spec
	for name, ok := range map[string]bool{
		"replicas":      *d.Spec.Replicas == 1,
		"history":       *d.Spec.RevisionHistoryLimit == 10,
		"deadline":      *d.Spec.ProgressDeadlineSeconds == 600,
		"strategy":      d.Spec.Strategy.RollingUpdate.MaxSurge.StrVal == "25%" && d.Spec.Strategy.RollingUpdate.MaxUnavailable.StrVal == "25%",
		"pull policy":   c.ImagePullPolicy == corev1.PullAlways,
		"message path":  c.TerminationMessagePath == "/dev/termination-log" && c.TerminationMessagePolicy == corev1.TerminationMessageReadFile,
		"dns":           s.DNSPolicy == corev1.DNSClusterFirst,
		"grace":         *s.TerminationGracePeriodSeconds == 30,
		"scheduler":     s.SchedulerName == "default-scheduler",
		"security":      s.SecurityContext != nil,
		"service links": s.EnableServiceLinks == nil,
	} {
		if !ok {
			t.Error(name)
		}
	}
	again := d.DeepCopy()
	r.Strategy.Default(again)
	if r.Strategy.SpecChanged(again, d) {
		t.Error("defaulting is not idempotent")
	}
}

// Scale reads and writes the number of replicas and nothing else.
func TestDeploymentScale(t *testing.T) {
	r := kindtest.Kind(t, apps.Resources(), "Deployment")
	obj, _ := kindtest.New(t, r, deployment)
	sub := r.Subresources["scale"]
	view, err := sub.Get(obj)
	if err != nil {
		t.Fatal(err)
	}
	scale := view.(*autoscalingv1.Scale)
	if scale.Spec.Replicas != 1 || scale.Status.Selector != "app=a" || scale.UID != obj.GetUID() {
		t.Errorf("%+v", scale)
	}
	scale.Spec.Replicas = 5
	scaled, err := sub.Apply(obj, scale, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if *scaled.(*appsv1.Deployment).Spec.Replicas != 5 || *obj.(*appsv1.Deployment).Spec.Replicas != 1 {
		t.Error("replicas")
	}
	scale.Spec.Replicas = -1
	if _, err := sub.Apply(obj, scale, time.Time{}); err == nil ||
		err.Error() != `Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0` {
		t.Error(err)
	}
}

// The columns of `get deployments -o wide`.
func TestDeploymentColumns(t *testing.T) {
	r := kindtest.Kind(t, apps.Resources(), "Deployment")
	obj, _ := kindtest.New(t, r, deployment)
	obj.(*appsv1.Deployment).Status = appsv1.DeploymentStatus{Replicas: 1, ReadyReplicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}
	if got := row(r, obj); got != "web|1/1|1|1|<unknown>|c|nginx|app=a" {
		t.Error(got)
	}
}

func row(r *registry.Resource, obj registry.Object) string {
	line := ""
	for i, c := range r.Columns {
		if i > 0 {
			line += "|"
		}
		line += c.Cell(obj, time.Time{})
	}
	return line
}
