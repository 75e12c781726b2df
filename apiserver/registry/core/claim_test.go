package core_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/kindtest"
)

const claim = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: c}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}, storageClassName: fast}
`

// Claims that kube-apiserver accepts and refuses, and why.
func TestPersistentVolumeClaim(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(), "PersistentVolumeClaim")
	kindtest.Create(t, r, claim, []kindtest.Case{
		{Name: "minimal"},
		{Name: "snapshot", Edit: "spec: {dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: s}}"},
		{Name: "any source", Edit: "spec: {dataSourceRef: {apiGroup: example.com, kind: Thing, name: s, namespace: other}}"},
		{Name: "nothing asked", Edit: "spec: {accessModes: null, resources: null}", Want: []string{
			"spec.accessModes: Required value: at least 1 access mode is required",
			"spec.resources[storage]: Required value"}},
		{Name: "no size", Edit: "spec: {resources: {requests: {storage: 0}}}", Want: []string{
			`spec.resources[storage]: Invalid value: "0": must be greater than zero`}},
		{Name: "mode", Edit: "spec: {accessModes: [Write]}", Want: []string{
			`spec.accessModes: Unsupported value: "Write": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"`}},
		{Name: "alone", Edit: "spec: {accessModes: [ReadWriteOncePod, ReadWriteOnce]}", Want: []string{
			"spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"}},
		{Name: "sources differ", Edit: "spec: {dataSource: {kind: Thing, name: a}, dataSourceRef: {apiGroup: a.b, kind: Thing, name: a}}", Want: []string{
			`spec.dataSource: Invalid value: "Thing": must be 'PersistentVolumeClaim' when referencing the default apiGroup`,
			`spec: Invalid value: {}: must match dataSourceRef`}},
		{Name: "class", Edit: "spec: {storageClassName: Fast}", Want: []string{`spec.storageClassName: Invalid value: "Fast": a lowercase RFC 1123 subdomain…`}},
	})
	const immutable = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims…"
	kindtest.Update(t, r, claim, []kindtest.Case{
		{Name: "labels", Edit: "metadata: {labels: {a: b}}"},
		{Name: "binding", Edit: "spec: {volumeName: v}"},
		{Name: "attributes", Edit: "spec: {volumeAttributesClassName: gold}", Want: []string{immutable}},
		{Name: "class once", Old: "spec: {storageClassName: null}", Edit: "spec: {storageClassName: slow}"},
		{Name: "binding twice", Old: "spec: {volumeName: v}", Edit: "spec: {volumeName: w}", Want: []string{immutable}},
		{Name: "class", Edit: "spec: {storageClassName: slow}", Want: []string{immutable}},
		{Name: "class off", Edit: "spec: {storageClassName: null}", Want: []string{immutable}},
		{Name: "size while unbound", Edit: "spec: {resources: {requests: {storage: 3Gi}}}", Want: []string{immutable}},
		{Name: "annotation", Edit: "metadata: {annotations: {volume.beta.kubernetes.io/storage-class: x}}", Want: []string{
			`metadata.annotations[volume.beta.kubernetes.io/storage-class]: Invalid value: "x": field is immutable`}},
		{Name: "volume mode", Edit: "spec: {volumeMode: Block}", Want: []string{immutable,
			`volumeMode: Invalid value: "Block": field is immutable`}},
	})
}

// What a claim's status says of its size is said of storage.
func TestClaimStatus(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(), "PersistentVolumeClaim")
	kindtest.Status(t, r, claim, []kindtest.Case{
		{Name: "resizing", Edit: "status: {allocatedResources: {storage: 2Gi}, allocatedResourceStatuses: {storage: NodeResizePending}}"},
		{Name: "what it doesn't have", Edit: "status: {allocatedResources: {cpu: 1}, allocatedResourceStatuses: {memory: Soon}}", Want: []string{
			`status.allocatedResourceStatuses: Unsupported value: "memory": supported values: "storage"`,
			`status.allocatedResourceStatuses: Unsupported value: "memory": supported values: "ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible", "NodeResizePending"`,
			`status.allocatedResources: Unsupported value: "cpu": supported values: "storage"`}},
		{Name: "no name", Edit: "status: {allocatedResources: {a b: -1}}", Want: []string{
			`status.allocatedResources: Invalid value: "a b": name part must consist of alphanumeric characters…`}},
	})
}

// A bound claim may grow; it may shrink only while it is still larger than what it has.
func TestClaimResize(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(), "PersistentVolumeClaim")
	obj, errs := kindtest.New(t, r, claim)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	old := obj.(*corev1.PersistentVolumeClaim)
	old.Status.Phase = corev1.ClaimBound
	old.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	for size, refused := range map[string]bool{"3Gi": false, "1500Mi": false, "1Gi": true, "1Mi": true} {
		c := old.DeepCopy()
		c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse(size)
		errs := kindtest.Change(r, c, old)
		if !refused && len(errs) == 0 {
			continue
		}
		const want = "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
		if !refused || len(errs) != 1 || errs[0].Error() != want {
			t.Errorf("%s: got %v", size, errs)
		}
	}
}

// The attributes of a bound claim can be exchanged; once they are applied they can not be taken away.
func TestClaimAttributes(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(), "PersistentVolumeClaim")
	obj, errs := kindtest.New(t, r, kindtest.Edit(t, claim, "spec: {volumeAttributesClassName: gold}"))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	old := obj.(*corev1.PersistentVolumeClaim)
	old.Status.Phase = corev1.ClaimBound
	silver, none := "silver", ""
	const applied = " is forbidden when status.currentVolumeAttributesClassName is not nil"
	for _, c := range []struct {
		current, class *string
		want           string
	}{
		{nil, &silver, ""}, {nil, nil, ""}, {nil, &none, ""}, {&silver, &silver, ""},
		{&silver, nil, "spec.volumeAttributesClassName: Forbidden: update to nil" + applied},
		{&silver, &none, "spec.volumeAttributesClassName: Forbidden: update to empty string" + applied},
	} {
		old.Status.CurrentVolumeAttributesClassName = c.current
		obj := old.DeepCopy()
		obj.Spec.VolumeAttributesClassName = c.class
		got := ""
		if errs := kindtest.Change(r, obj, old); len(errs) > 0 {
			got = errs.ToAggregate().Error()
		}
		if got != c.want {
			t.Errorf("%v: got %q, want %q", c, got, c.want)
		}
	}
}

// The two ways to name a source say the same, and dataSource forgets what it never took.
func TestClaimSources(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(), "PersistentVolumeClaim")
	spec := func(edit string) corev1.PersistentVolumeClaimSpec {
		obj, errs := kindtest.New(t, r, kindtest.Edit(t, claim, edit))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		return obj.(*corev1.PersistentVolumeClaim).Spec
	}
	if s := spec("spec: {dataSource: {kind: PersistentVolumeClaim, name: other}}"); s.DataSourceRef == nil || s.DataSourceRef.Name != "other" {
		t.Errorf("dataSourceRef: got %v", s.DataSourceRef)
	}
	if s := spec("spec: {dataSourceRef: {apiGroup: a.b, kind: Thing, name: other}}"); s.DataSource == nil || s.DataSource.Kind != "Thing" {
		t.Errorf("dataSource: got %v", s.DataSource)
	}
	if s := spec("spec: {dataSourceRef: {kind: PersistentVolumeClaim, name: other, namespace: elsewhere}}"); s.DataSourceRef != nil {
		t.Errorf("got a reference into another namespace: %v", s.DataSourceRef)
	}
	if s := spec("spec: {dataSource: {apiGroup: a.b, kind: Thing, name: other}}"); s.DataSource != nil || s.DataSourceRef != nil {
		t.Errorf("got %v and %v, want neither", s.DataSource, s.DataSourceRef)
	}
}

// What is bound shows what it got.
func TestClaimColumns(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(), "PersistentVolumeClaim")
	obj, _ := kindtest.New(t, r, claim)
	c := obj.(*corev1.PersistentVolumeClaim)
	c.Spec.VolumeName = "v"
	c.Status = corev1.PersistentVolumeClaimStatus{
		Phase:       corev1.ClaimBound,
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany, corev1.ReadWriteOnce},
		Capacity:    corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")},
	}
	for i, want := range []string{"c", "Bound", "v", "2Gi", "RWO,RWX", "fast", "<unset>"} {
		if got := r.Columns[i].Cell(c, time.Time{}); got != want {
			t.Errorf("column %s: got %q, want %q", r.Columns[i].Name, got, want)
		}
	}
}
