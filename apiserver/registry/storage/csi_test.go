package storage_test

import (
	"testing"
	"time"

	"bareboat.dev/apiserver/registry/kindtest"
	"bareboat.dev/apiserver/registry/storage"
)

// Drivers that kube-apiserver accepts and refuses, and why.
func TestDriver(t *testing.T) {
	r := kindtest.Kind(t, storage.Resources(), "CSIDriver")
	const base = "apiVersion: storage.k8s.io/v1\nkind: CSIDriver\nmetadata: {name: d.example.com}\nspec: {}\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "tokens", Edit: "spec: {tokenRequests: [{audience: a}, {audience: '', expirationSeconds: 600}], serviceAccountTokenInSecrets: true}"},
		{Name: "name", Edit: "metadata: {name: A_b}", Want: []string{`metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain…`}},
		{Name: "enumerations", Edit: "spec: {fsGroupPolicy: Odd, volumeLifecycleModes: [Odd]}", Want: []string{
			`spec.fsGroupPolicy: Unsupported value: "Odd": supported values: "File", "None", "ReadWriteOnceWithFSType"`,
			`spec.volumeLifecycleModes: Unsupported value: "Odd": supported values: "Ephemeral", "Persistent"`}},
		{Name: "bad tokens", Edit: "spec: {tokenRequests: [{audience: a, expirationSeconds: 599}, {audience: a}, {audience: b, expirationSeconds: 4294967297}]}", Want: []string{
			"spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
			`spec.tokenRequests[1].audience: Duplicate value: "a"`,
			"spec.tokenRequests[2].expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds"}},
		{Name: "period", Edit: "spec: {nodeAllocatableUpdatePeriodSeconds: 9}", Want: []string{
			"spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds"}},
		{Name: "secrets without tokens", Edit: "spec: {serviceAccountTokenInSecrets: true}", Want: []string{
			"spec.serviceAccountTokenInSecrets: Invalid value: true: serviceAccountTokenInSecrets is set but no tokenRequests are specified"}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "mutable", Edit: "spec: {podInfoOnMount: true, storageCapacity: true, fsGroupPolicy: File}"},
		{Name: "immutable", Edit: "spec: {attachRequired: false, volumeLifecycleModes: [Ephemeral]}", Want: []string{
			"spec.attachedRequired: Invalid value: false: field is immutable",
			`spec.volumeLifecycleModes: Invalid value: ["Ephemeral"]: field is immutable`}},
	})
	obj, _ := kindtest.New(t, r, base)
	for i, want := range []string{"d.example.com", "true", "false", "false", "<unset>", "false", "Persistent"} {
		if got := r.Columns[i].Cell(obj, time.Time{}); got != want {
			t.Errorf("column %s: got %q, want %q", r.Columns[i].Name, got, want)
		}
	}
}

// Nodes' drivers that kube-apiserver accepts and refuses, and why.
func TestCSINode(t *testing.T) {
	r := kindtest.Kind(t, storage.Resources(), "CSINode")
	const base = `
apiVersion: storage.k8s.io/v1
kind: CSINode
metadata: {name: node}
spec: {drivers: [{name: d.example.com, nodeID: node, topologyKeys: [example.com/zone]}]}
`
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "none", Edit: "spec: {drivers: []}"},
		{Name: "driver", Edit: "spec: {drivers: [{name: '', nodeID: '', topologyKeys: ['a b', c, c], allocatable: {count: -1}}]}", Want: []string{
			"spec.drivers[0].name: Required value",
			"spec.drivers[0].nodeID: Required value",
			"spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
			`spec.drivers[0]: Invalid value: "a b": name part must consist…`, `spec.drivers[0]: Duplicate value: "c"`}},
		{Name: "twice", Edit: "spec: {drivers: [{name: a, nodeID: node, topologyKeys: []}, {name: a, nodeID: node, topologyKeys: []}]}", Want: []string{
			`spec.drivers[1].name: Duplicate value: "a"`}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "another", Edit: "spec: {drivers: [{name: other, nodeID: node, topologyKeys: []}]}"},
		{Name: "count", Edit: "spec: {drivers: [{name: d.example.com, nodeID: node, topologyKeys: [example.com/zone], allocatable: {count: 3}}]}"},
		{Name: "node ID", Edit: "spec: {drivers: [{name: d.example.com, nodeID: m, topologyKeys: [example.com/zone]}]}", Want: []string{
			`spec.drivers: Invalid value: {"name":"d.example.com","nodeID":"m","topologyKeys":["example.com/zone"]}: field is immutable`}},
	})
}

// Capacities that kube-apiserver accepts and refuses, and why.
func TestStorageCapacity(t *testing.T) {
	r := kindtest.Kind(t, storage.Resources(), "CSIStorageCapacity")
	const base = "apiVersion: storage.k8s.io/v1\nkind: CSIStorageCapacity\nmetadata: {name: c}\nstorageClassName: fast\ncapacity: 1Gi\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "topology", Edit: "nodeTopology: {matchLabels: {zone: a}}"},
		{Name: "wrong", Edit: "{storageClassName: A_b, capacity: -1, maximumVolumeSize: -1, nodeTopology: {matchLabels: {zone: a b}}}", Want: []string{
			`storageClassName: Invalid value: "A_b": a lowercase RFC 1123 subdomain…`,
			`capacity: Invalid value: "-1": must be greater than or equal to 0`,
			`nodeTopology.matchLabels: Invalid value: "a b": a valid label must be…`}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "capacity", Edit: "capacity: 2Gi"},
		{Name: "class", Edit: "storageClassName: slow", Want: []string{`storageClassName: Invalid value: "slow": field is immutable`}},
	})
}

// Attachments that kube-apiserver accepts and refuses, and why.
func TestAttachment(t *testing.T) {
	r := kindtest.Kind(t, storage.Resources(), "VolumeAttachment")
	const base = `
apiVersion: storage.k8s.io/v1
kind: VolumeAttachment
metadata: {name: a}
spec: {attacher: d.example.com, nodeName: node, source: {persistentVolumeName: v}}
`
	const one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "inline", Edit: "spec: {source: {persistentVolumeName: null, inlineVolumeSpec: {accessModes: [ReadWriteOnce], csi: {driver: d, volumeHandle: h}}}}"},
		{Name: "inline as a translator makes it", Edit: "spec: {source: {persistentVolumeName: null, inlineVolumeSpec: {accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Retain, volumeMode: Filesystem, volumeAttributesClassName: c, csi: {driver: d, volumeHandle: h}}}}"},
		{Name: "inline is bound to nothing", Edit: "spec: {source: {persistentVolumeName: null, inlineVolumeSpec: {accessModes: [ReadWriteOnce], volumeMode: Block, claimRef: {name: c}, csi: {driver: d, volumeHandle: h}}}}", Want: []string{
			"spec.source.inlineVolumeSpec.claimRef: Forbidden: may not be specified in the context of inline volumes",
			"spec.source.inlineVolumeSpec.volumeMode: Forbidden: may not specify volumeMode other than Filesystem in the context of inline volumes"}},
		{Name: "inline is no object", Edit: "spec: {source: {persistentVolumeName: null, inlineVolumeSpec: {accessModes: [ReadWriteOnce], storageClassName: s, nfs: {server: s, path: /}}}}", Want: []string{
			"spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes",
			"spec.source.inlineVolumeSpec.storageClassName: Forbidden: may not be specified in the context of inline volumes"}},
		{Name: "no source", Edit: "spec: {source: {persistentVolumeName: null}}", Want: []string{"spec.source: Required value: " + one}},
		{Name: "names", Edit: "spec: {attacher: a/b, nodeName: A_b, source: {persistentVolumeName: ''}}", Want: []string{
			"spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName",
			`spec.nodeName: Invalid value: "A_b": a lowercase RFC 1123 subdomain…`,
			`spec.attacher: Invalid value: "a/b": a lowercase RFC 1123 subdomain…`,
			`spec.source.persistentVolumeName: Invalid value: "": a lowercase RFC 1123 subdomain…`}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "labels", Edit: "metadata: {labels: {a: b}}"},
		{Name: "spec", Edit: "spec: {nodeName: m}", Want: []string{`spec: Invalid value: {"attacher":"d.example.com",…`}},
	})
}

// Attributes classes that kube-apiserver accepts and refuses, and why.
func TestAttributesClass(t *testing.T) {
	r := kindtest.Kind(t, storage.Resources(), "VolumeAttributesClass")
	const base = "apiVersion: storage.k8s.io/v1\nkind: VolumeAttributesClass\nmetadata: {name: c}\ndriverName: d.example.com\nparameters: {iops: '100'}\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "empty", Edit: "{driverName: '', parameters: null}", Want: []string{
			"driverName: Required value",
			"parameters: Required value: must contain at least one key/value pair"}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "labels", Edit: "metadata: {labels: {a: b}}"},
		{Name: "immutable", Edit: "{driverName: e.example.com, parameters: {iops: '200'}}", Want: []string{
			`driverName: Forbidden: updates to driverName are forbidden.`, `parameters: Forbidden: updates to parameters are forbidden.`}},
	})
}
