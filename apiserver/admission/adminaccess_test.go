package admission

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"

	"bareboat.dev/apiserver/registry"
)

// labelReader has one namespace, whose label the cache does not know of yet.
type labelReader struct {
	Reader
	value string
}

func (r labelReader) Object(_ context.Context, _, _, _, _ string, fresh bool) (registry.Object, bool, error) {
	ns := &corev1.Namespace{}
	if fresh {
		ns.Labels = map[string]string{resourcev1.DRAAdminNamespaceLabelKey: r.value}
	}
	return ns, true, nil
}

// Devices that others use are for claims in labelled namespaces alone; a claim that has one keeps it.
func TestAdminAccess(t *testing.T) {
	yes := true
	requests := []resourcev1.DeviceRequest{{Name: "a"}, {Name: "b", Exactly: &resourcev1.ExactDeviceRequest{AdminAccess: &yes}}}
	claim := func(asks, has bool) *resourcev1.ResourceClaim {
		c := &resourcev1.ResourceClaim{}
		if asks {
			c.Spec.Devices.Requests = requests
		}
		if has {
			c.Status.Allocation = &resourcev1.AllocationResult{}
			c.Status.Allocation.Devices.Results = []resourcev1.DeviceRequestAllocationResult{{AdminAccess: &yes}}
		}
		return c
	}
	template := &resourcev1.ResourceClaimTemplate{}
	template.Spec.Spec.Devices.Requests = requests
	const request, result = "spec.devices.requests[1].adminAccess: Forbidden", "status.allocation.devices.results[0].adminAccess: Forbidden"
	for name, c := range map[string]struct {
		label string
		a     Attributes
		want  string
	}{
		"plain claim":              {"", Attributes{Operation: Create, Object: claim(false, false)}, ""},
		"claim":                    {"", Attributes{Operation: Create, Object: claim(true, false)}, request},
		"claim where it is meant":  {"true", Attributes{Operation: Create, Object: claim(true, false)}, ""},
		"label that says no":       {"false", Attributes{Operation: Create, Object: claim(true, false)}, request},
		"changed claim":            {"", Attributes{Operation: Update, Object: claim(true, false), Old: claim(true, false)}, ""},
		"template":                 {"", Attributes{Operation: Create, Object: template}, request},
		"allocation":               {"", Attributes{Operation: Update, Subresource: "status", Object: claim(true, true), Old: claim(true, false)}, result},
		"allocation that is there": {"", Attributes{Operation: Update, Subresource: "status", Object: claim(true, true), Old: claim(true, true)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.a.Resource = &registry.Resource{Kind: resourcev1.SchemeGroupVersion.WithKind("ResourceClaim")}
			err := AdminAccess(labelReader{value: c.label}).Validate(t.Context(), &c.a)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
