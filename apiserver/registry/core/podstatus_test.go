package core_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"bareboat.dev/apiserver/registry/kindtest"
)

// What a kubelet may not report of a pod, with the fields and words of Kubernetes; what it reports of features that are off is
// left out.
func TestPodStatusFields(t *testing.T) {
	const asks = "spec: {containers: [{name: c, image: x, resources: {limits: {example.com/gpu: 1}, requests: {example.com/gpu: 1}}}]}"
	r := kindOf(t, "Pod")
	for name, c := range map[string]struct {
		pod, status string
		want        []string
	}{
		"health": {asks, "containerStatuses: [{name: c, allocatedResourcesStatus: [{name: example.com/gpu, resources: [{resourceID: a, health: Healthy}]}]}]", nil},
		"health of what is not asked for": {asks, `containerStatuses: [{name: c, allocatedResourcesStatus: [
            {name: example.com/other, resources: [{resourceID: a, health: Ill}, {resourceID: a, health: Unknown, message: ''}]}, {name: 'claim:x'}]}]`, []string{
			`status.containerStatuses[0].allocatedResourcesStatus[0].name: Invalid value: "example.com/other": must match one of the container's resource requests`,
			`status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].health: Unsupported value: "Ill": supported values: "Healthy", "Unhealthy", "Unknown"`,
			`status.containerStatuses[0].allocatedResourcesStatus[0].resources[1].message: Required value: must be non-empty if specified`,
			`status.containerStatuses[0].allocatedResourcesStatus[0].resources[1].resourceID: Duplicate value: "a"`,
			`status.containerStatuses[0].allocatedResourcesStatus[1].name: Invalid value: "claim:x": must match one of the container's resource claims as 'claim:<claimName>/<requestName>' when container.resources.claims[*].request is set or 'claim:<claimName>' when it is empty`}},
		"health of an ephemeral container": {"", "ephemeralContainerStatuses: [{name: e, allocatedResourcesStatus: [{name: x}]}]", []string{
			`status.ephemeralContainerStatuses[0].allocatedResourcesStatus: Forbidden: must not be specified in container status`}},
		"user": {"", "containerStatuses: [{name: c, user: {linux: {uid: 4294967295, gid: 0}}}]", nil},
		"no user": {"", "containerStatuses: [{name: c, user: {linux: {uid: -1, gid: -1, supplementalGroups: [-2]}}}]", []string{
			`status.containerStatuses[0].user.linux.uid: Invalid value: -1: must be between 0 and 4294967295, inclusive`,
			`status.containerStatuses[0].user.linux.gid: Invalid value: -1: must be between 0 and 2147483647, inclusive`,
			`status.containerStatuses[0].user.linux.supplementalGroups[0]: Invalid value: -2: must be between 0 and 2147483647, inclusive`}},
		"claim for extended resources": {asks, `extendedResourceClaimStatus: {resourceClaimName: x, requestMappings: [{containerName: c, resourceName: example.com/gpu, requestName: r}]}`, nil},
		"claim for nothing": {asks, `extendedResourceClaimStatus: {resourceClaimName: '', requestMappings: [{containerName: d, resourceName: a, requestName: r}, {containerName: c, resourceName: a, requestName: r}]}`, []string{
			`status.extendedResourceClaimStatus.requestMappings[0].containerName: Invalid value: "d": must match the name of an entry in spec.initContainers.name or spec.containers.name`,
			`status.extendedResourceClaimStatus.requestMappings[1].resourceName: Invalid value: "a": must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests`,
			`status.extendedResourceClaimStatus.resourceClaimName: Required value`}},
		"claim without requests": {"", "extendedResourceClaimStatus: {resourceClaimName: x}", []string{
			`status.extendedResourceClaimStatus.requestMappings: Required value: at least one request mapping is required`}},
		"conditions": {"", "observedGeneration: -1\nconditions: [{type: a b, observedGeneration: -1}]", []string{
			`status.conditions[0].observedGeneration: Invalid value: -1: must be a non-negative integer`,
			`status.conditions[0].Type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
			`status.observedGeneration: Invalid value: -1: must be a non-negative integer`}},
		"nominated though bound": {"spec: {nodeName: node}", "nominatedNodeName: m", []string{
			`status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node`}},
		"claims": {"", "resourceClaimStatuses: [{name: x, resourceClaimName: A_}]", []string{
			"status.resourceClaimStatuses[0].name: Invalid value: \"x\": must match the name of an entry in `spec.resourceClaims`",
			`status.resourceClaimStatuses[0].resourceClaimName: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`}},
		"addresses that are none": {"", "podIP: x\npodIPs: [{ip: x}, {ip: z}]", []string{
			`status.podIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`,
			`status.podIPs[1]: Invalid value: "z": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`,
			`status.podIPs: Internal error: failed to check for dual stack with error:invalid IP[0]: x`,
			`status.podIPs: Invalid value: [{"ip":"x"},{"ip":"z"}]: may specify no more than one IP for each IP family`}},
		"address alone": {"", "podIP: 10.0.0.1", nil},
		"alpha":         {"", "volumeHealth: [{name: x}]", nil},
	} {
		t.Run(name, func(t *testing.T) {
			obj, errs := kindtest.New(t, r, kindtest.Edit(t, pod, c.pod))
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			old := obj.(*corev1.Pod)
			body := old.DeepCopy()
			if err := yaml.Unmarshal([]byte(c.status), &body.Status); err != nil {
				t.Fatal(err)
			}
			sub := r.Subresources["status"]
			changed, err := sub.Apply(old, body, time.Unix(1000, 0))
			if err != nil {
				t.Fatal(err)
			}
			got := changed.(*corev1.Pod).Status
			if len(got.VolumeHealth) > 0 || got.PodIP != "" && len(got.PodIPs) == 0 {
				t.Errorf("%+v", got)
			}
			var texts []string
			for _, err := range sub.Validate(changed, old) {
				texts = append(texts, err.Error())
			}
			if d := cmp.Diff(c.want, texts); d != "" {
				t.Errorf("unexpected errors (-want +got):\n%s", d)
			}
		})
	}
}
