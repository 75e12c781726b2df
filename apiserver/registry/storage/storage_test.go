package storage_test

import (
	"testing"
	"time"

	"bareboat.dev/apiserver/registry/kindtest"
	"bareboat.dev/apiserver/registry/storage"
)

const storageClass = `
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: s, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: Example.com/disk
parameters: {type: fast}
`

// Classes that kube-apiserver accepts and refuses, and why.
func TestStorageClass(t *testing.T) {
	r := kindtest.Kind(t, storage.Resources(), "StorageClass")
	kindtest.Create(t, r, storageClass, []kindtest.Case{
		{Name: "minimal"},
		{Name: "topology", Edit: "allowedTopologies: [{matchLabelExpressions: [{key: zone, values: [a, b]}]}, {matchLabelExpressions: [{key: zone, values: [a]}]}]"},
		{Name: "provisioner", Edit: "provisioner: null", Want: []string{"provisioner: Required value"}},
		{Name: "provisioner's name", Edit: "provisioner: a/b/c", Want: []string{`provisioner: Invalid value: "a/b/c": …`}},
		{Name: "parameter", Edit: "parameters: {'': x}", Want: []string{`parameters: Invalid value: "": field can not be empty.`}},
		{Name: "reclaim policy", Edit: "reclaimPolicy: Recycle", Want: []string{
			`reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"`}},
		{Name: "binding mode", Edit: "volumeBindingMode: Later", Want: []string{
			`volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"`}},
		{Name: "topologies", Edit: `
allowedTopologies:
- matchLabelExpressions: [{key: zone, values: [a, a]}, {key: zone, values: []}]
- matchLabelExpressions: [{key: rack, values: [r]}]
- matchLabelExpressions: [{key: rack, values: [r]}]
- {}`, Want: []string{
			`allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "a"`,
			`allowedTopologies[0].matchLabelExpressions[1].values: Required value`,
			`allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: "zone"`,
			`allowedTopologies[2].matchLabelExpressions: Duplicate value: ""`,
			`allowedTopologies[3].matchLabelExpressions: Duplicate value: ""`,
		}},
	})
	kindtest.Update(t, r, storageClass, []kindtest.Case{
		{Name: "expansion", Edit: "{allowVolumeExpansion: true, mountOptions: [ro]}"},
		{Name: "parameters", Edit: "parameters: {type: slow}", Want: []string{`parameters: Invalid value: {"type":"slow"}: field is immutable`}},
		{Name: "provisioner", Edit: "provisioner: other", Want: []string{`provisioner: Invalid value: "other": field is immutable`}},
		{Name: "policy", Edit: "reclaimPolicy: Retain", Want: []string{`reclaimPolicy: Invalid value: "Retain": field is immutable`}},
		{Name: "mode", Edit: "volumeBindingMode: WaitForFirstConsumer", Want: []string{
			`volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable`}},
	})
}

// The default class is marked where its name is printed.
func TestStorageClassColumns(t *testing.T) {
	r := kindtest.Kind(t, storage.Resources(), "StorageClass")
	obj, _ := kindtest.New(t, r, storageClass)
	for i, want := range []string{"s (default)", "Example.com/disk", "Delete", "Immediate", "false"} {
		if got := r.Columns[i].Cell(obj, time.Time{}); got != want {
			t.Errorf("column %s: got %q, want %q", r.Columns[i].Name, got, want)
		}
	}
}
