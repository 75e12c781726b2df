package plan

import (
	"errors"

	resourcev1 "k8s.io/api/resource/v1"

	"bareboat.dev/scheduler/devices"
)

// errNoSelector is what expressions give in a cluster that was made without a way to evaluate them.
var errNoSelector = errors.New("device selectors cannot be evaluated")

func noSelector(string, string, *resourcev1.Device) (bool, error) { return false, errNoSelector }

// NewWithDevices returns an empty cluster whose device selectors are evaluated by match.
func NewWithDevices(match devices.Selector) *Cluster {
	c := New()
	c.devices = devices.New(match)
	return c
}

// Devices is what is known of devices and the claims on them. What Schedule decides for claims (Decision.Claims) holds until the claims
// are told with it or Devices().Forget takes it back: forgetting the pod alone does not, since it may have been written.
func (c *Cluster) Devices() *devices.Table { return c.devices }

// rejectClaims checks a node for devices.
func (k *constraints) rejectClaims(n *node) verdictID {
	switch k.devices.Reject(n.obj) {
	case "":
		return feasible
	case devices.NotAvailable:
		return claimElsewhere
	case devices.TimedOut:
		return claimTimeout
	}
	return claimUnmet
}

// hasDevices tells whether a node has what the pod's claims ask for, if it has any.
func (k *constraints) hasDevices(n *node) bool {
	return k.devices == nil || k.rejectClaims(n) == feasible
}

// refused is why no node whatever would do for a pod, by the plugin that says so; empty if it depends on the node.
func (k *constraints) refused() (string, Plugin) {
	switch {
	case k == nil:
	case k.volumes != nil && k.volumes.refused != "":
		return k.volumes.refused, k.volumes.plugin
	case k.devices != nil && k.devices.Refused != "":
		return k.devices.Refused, DynamicResources
	}
	return "", 0
}
