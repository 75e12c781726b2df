package groups_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
)

// Which fields beside the name and the namespace select objects: those of Kubernetes 1.37, no fewer and no more.
func TestSelectableFields(t *testing.T) {
	want := map[string]string{
		"certificatesigningrequests.certificates.k8s.io/v1": "spec.signerName",
		"clustertrustbundles.certificates.k8s.io/v1":        "spec.signerName",
		"events.events.k8s.io/v1":                           "reason regarding.apiVersion regarding.fieldPath regarding.kind regarding.name regarding.namespace regarding.resourceVersion regarding.uid reportingController type",
		"events.v1":                                         "involvedObject.apiVersion involvedObject.fieldPath involvedObject.kind involvedObject.name involvedObject.namespace involvedObject.resourceVersion involvedObject.uid reason reportingComponent source type",
		"jobs.batch/v1":                                     "status.successful",
		"namespaces.v1":                                     "status.phase",
		"nodes.v1":                                          "spec.unschedulable",
		"podcertificaterequests.certificates.k8s.io/v1":     "spec.nodeName spec.podName spec.signerName",
		"pods.v1":                                           "spec.host spec.hostNetwork spec.nodeName spec.restartPolicy spec.schedulerName spec.serviceAccountName status.nominatedNodeName status.phase status.podIP status.podIPs",
		"replicationcontrollers.v1":                         "status.replicas",
		"resourceslices.resource.k8s.io/v1":                 "spec.driver spec.nodeName spec.pool.name",
		"secrets.v1":                                        "type",
		"services.v1":                                       "spec.clusterIP spec.type",
	}
	for _, r := range groups.All(core.Config{}) {
		name := r.Plural + "." + r.Kind.GroupVersion().String()
		if got := strings.Join(slices.Sorted(maps.Keys(r.Fields)), " "); got != want[name] {
			t.Errorf("%s: %q, want %q", name, got, want[name])
		}
	}
}
