package apps_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry/apps"
	"bareboat.dev/apiserver/registry/kindtest"
)

const statefulSet = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec: {containers: [{name: c, image: pg, volumeMounts: [{name: data, mountPath: /data}]}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`

// Stateful sets that kube-apiserver accepts and refuses, and what of one may change.
func TestStatefulSet(t *testing.T) {
	r := kindtest.Kind(t, apps.Resources(), "StatefulSet")
	kindtest.Create(t, r, statefulSet, []kindtest.Case{
		{Name: "minimal"},
		{Name: "on delete", Edit: "spec: {updateStrategy: {type: OnDelete}}"},
		{Name: "policies", Edit: "spec: {podManagementPolicy: Chaotic, persistentVolumeClaimRetentionPolicy: {whenDeleted: Keep}}", Want: []string{
			`spec.podManagementPolicy: Invalid value: "Chaotic": must be 'OrderedReady' or 'Parallel'`,
			`spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: "Keep": supported values: "Retain", "Delete"`}},
		{Name: "strategy", Edit: "spec: {updateStrategy: {type: OnDelete, rollingUpdate: {partition: 1}}}", Want: []string{
			`spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for updateStrategy 'RollingUpdate'`}},
		{Name: "numbers", Edit: "spec: {replicas: -1, ordinals: {start: -1}, updateStrategy: {rollingUpdate: {partition: -1, maxUnavailable: 0}}}", Want: []string{
			"spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
			"spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
			"spec.replicas: Invalid value: -1: must be greater than or equal to 0",
			"spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"}},
		{Name: "selector", Edit: "spec: {selector: {matchLabels: {app: b}}}", Want: []string{
			"spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"}},
		{Name: "restart policy", Edit: "spec: {template: {spec: {restartPolicy: Never}}}", Want: []string{
			`spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`}},
		{Name: "name", Edit: "metadata: {name: a.b}", Want: []string{`metadata.name: Invalid value: "a.b": must not contain dots`}},
		{Name: "service", Edit: "spec: {serviceName: a.b}", Want: []string{`spec.serviceName: Invalid value: "a.b": must not contain dots`}},
		{Name: "claims", Edit: "spec: {volumeClaimTemplates: [{metadata: {name: data}, spec: {resources: {requests: {storage: 1Gi}}}}]}", Want: []string{
			"spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required"}},
	})
	kindtest.Update(t, r, statefulSet, []kindtest.Case{
		{Name: "scale", Edit: "spec: {replicas: 3}"},
		{Name: "template", Edit: "spec: {template: {metadata: {annotations: {a: b}}}}"},
		{Name: "service", Edit: "spec: {serviceName: other}", Want: []string{
			`spec.serviceName: Invalid value: "other": field is immutable`}},
	})
}

const daemonSet = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec: {containers: [{name: c, image: agent}]}
`

// Daemon sets that kube-apiserver accepts and refuses, and how changes of the template are counted.
func TestDaemonSet(t *testing.T) {
	r := kindtest.Kind(t, apps.Resources(), "DaemonSet")
	kindtest.Create(t, r, daemonSet, []kindtest.Case{
		{Name: "minimal"},
		{Name: "surge", Edit: "spec: {updateStrategy: {rollingUpdate: {maxSurge: 10%, maxUnavailable: 0}}}"},
		{Name: "surge and unavailable", Edit: "spec: {updateStrategy: {rollingUpdate: {maxSurge: 1}}}", Want: []string{
			"spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"}},
		{Name: "neither", Edit: "spec: {updateStrategy: {rollingUpdate: {maxUnavailable: 0}}}", Want: []string{
			"spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"}},
		{Name: "strategy", Edit: "spec: {updateStrategy: {type: Recreate}}", Want: []string{
			`spec.updateStrategy: Unsupported value: "Recreate": supported values: "RollingUpdate", "OnDelete"`}},
		{Name: "selector", Edit: "spec: {selector: {matchLabels: null}}", Want: []string{
			"spec.selector: Invalid value: {}: empty selector is invalid for daemonset"}},
		{Name: "deadline", Edit: "spec: {template: {spec: {activeDeadlineSeconds: 1}}}", Want: []string{
			"spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported"}},
	})
	kindtest.Update(t, r, daemonSet, []kindtest.Case{
		{Name: "image", Edit: "spec: {template: {spec: {containers: [{name: c, image: 'agent:2'}]}}}"},
		{Name: "selector", Edit: "spec: {selector: {matchLabels: {app: b}}, template: {metadata: {labels: {app: b}}}}", Want: []string{
			`spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable`}},
	})
	old, _ := kindtest.New(t, r, daemonSet)
	obj := kindtest.Decode(t, r, kindtest.Edit(t, daemonSet, "spec: {template: {spec: {containers: [{name: c, image: 'agent:2'}]}}}"))
	if errs := kindtest.Change(r, obj, old); len(errs) > 0 {
		t.Fatal(errs)
	}
	if a, b := old.GetAnnotations()[appsv1.DeprecatedTemplateGeneration], obj.GetAnnotations()[appsv1.DeprecatedTemplateGeneration]; a != "1" || b != "2" {
		t.Errorf("template generations %s and %s", a, b)
	}
}

// A revision's data never changes.
func TestControllerRevision(t *testing.T) {
	r := kindtest.Kind(t, apps.Resources(), "ControllerRevision")
	const base = "apiVersion: apps/v1\nkind: ControllerRevision\nmetadata: {name: r}\ndata: {a: b}\nrevision: 1\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "no data", Edit: "data: null", Want: []string{"data: Required value: data is mandatory"}},
		{Name: "negative", Edit: "revision: -1", Want: []string{"revision: Invalid value: -1: must be greater than or equal to 0"}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "revision", Edit: "revision: 2"},
		{Name: "data", Edit: "data: {a: c}", Want: []string{`data: Invalid value: {"a":"c"}: field is immutable`}},
	})
}

// A stateful set that is sent as it was read may be written: its claim templates are what the store kept, which does not say their kind.
func TestStatefulSetSentBack(t *testing.T) {
	r := kindtest.Kind(t, apps.Resources(), "StatefulSet")
	made, errs := kindtest.New(t, r, statefulSet)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	raw, err := made.(*appsv1.StatefulSet).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	stored, sent := &appsv1.StatefulSet{}, &appsv1.StatefulSet{}
	for _, s := range []*appsv1.StatefulSet{stored, sent} {
		if err := s.Unmarshal(raw); err != nil {
			t.Fatal(err)
		}
	}
	sent.Spec.VolumeClaimTemplates[0].TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}
	if errs := kindtest.Change(r, sent, stored); len(errs) > 0 {
		t.Error(errs)
	}
}
