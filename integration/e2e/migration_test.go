package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// crontabs is a definition of two versions, the last argument's being the one that objects are stored in.
const crontabs = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab}
  versions:
  - {name: v1, served: true, storage: %t, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
  - {name: v2, served: true, storage: %t, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

// A StorageVersionMigration stores the objects of a custom resource in its new version, after which the old one can be taken off the
// definition.
func TestStorageVersionMigration(t *testing.T) {
	h := up(t, "migration")
	apply := func(manifest string) {
		t.Helper()
		if out, err := h.Input(manifest, "kctl", "apply", "-f", "-"); err != nil {
			t.Fatalf("apply: %v\n%s", err, out)
		}
	}
	define := func(v1 bool) { apply(fmt.Sprintf(crontabs, v1, !v1)) }
	define(true)
	h.Must("kctl", "wait", "--for=condition=Established", "crd/crontabs.stable.example.com", "--timeout=30s")
	var objects strings.Builder
	for i := range 3 {
		fmt.Fprintf(&objects, "---\napiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {name: tab%d, namespace: default}\nspec: {n: %d}\n", i, i)
	}
	apply(objects.String())
	define(false)
	stored := func() string {
		return h.Must("kctl", "get", "crd", "crontabs.stable.example.com", "-o", "jsonpath={.status.storedVersions}")
	}
	h.Eventually("both versions being stored", func() error {
		if got := stored(); got != `["v1","v2"]` {
			return fmt.Errorf("stored versions are %s", got)
		}
		return nil
	})
	before := h.Must("kctl", "get", "crontabs", "-o", "jsonpath={.items[*].metadata.resourceVersion}")
	apply("apiVersion: storagemigration.k8s.io/v1\nkind: StorageVersionMigration\nmetadata: {name: crontabs}\n" +
		"spec: {resource: {group: stable.example.com, resource: crontabs}}\n")
	h.Must("kctl", "wait", "--for=condition=Succeeded", "storageversionmigration/crontabs", "--timeout=60s")
	if got := stored(); got != `["v2"]` {
		t.Errorf("after the migration the stored versions are %s", got)
	}
	after := h.Must("kctl", "get", "crontabs", "-o", "jsonpath={.items[*].metadata.resourceVersion}")
	for i, was := range strings.Fields(before) {
		if is := strings.Fields(after)[i]; is == was {
			t.Errorf("tab%d was not written anew: still at %s", i, is)
		}
	}
}
