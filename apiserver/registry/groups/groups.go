// Package groups is the list of every group that the server serves. A new group is one line here.
package groups

import (
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/admissionregistration"
	"bareboat.dev/apiserver/registry/apiextensions"
	"bareboat.dev/apiserver/registry/apiregistration"
	"bareboat.dev/apiserver/registry/apps"
	"bareboat.dev/apiserver/registry/autoscaling"
	"bareboat.dev/apiserver/registry/batch"
	"bareboat.dev/apiserver/registry/certificates"
	"bareboat.dev/apiserver/registry/coordination"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/discovery"
	"bareboat.dev/apiserver/registry/events"
	"bareboat.dev/apiserver/registry/flowcontrol"
	"bareboat.dev/apiserver/registry/networking"
	"bareboat.dev/apiserver/registry/node"
	"bareboat.dev/apiserver/registry/policy"
	"bareboat.dev/apiserver/registry/rbac"
	"bareboat.dev/apiserver/registry/resource"
	"bareboat.dev/apiserver/registry/scheduling"
	"bareboat.dev/apiserver/registry/storage"
	"bareboat.dev/apiserver/registry/storagemigration"
)

// All returns every resource of every group, for a cluster of the given networks.
func All(config core.Config) []*registry.Resource {
	return registry.All(
		core.Resources(config),
		admissionregistration.Resources(),
		apiextensions.Resources(),
		apiregistration.Resources(),
		apps.Resources(),
		autoscaling.Resources(),
		batch.Resources(),
		certificates.Resources(),
		discovery.Resources(),
		events.Resources(),
		flowcontrol.Resources(),
		coordination.Resources(),
		rbac.Resources(),
		policy.Resources(),
		scheduling.Resources(),
		networking.Resources(),
		node.Resources(),
		storage.Resources(),
		resource.Resources(),
		storagemigration.Resources(),
	)
}
