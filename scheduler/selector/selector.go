// Package selector evaluates the expressions (CEL) by which device classes and requests select devices, as the API server checks them.
//
// Nothing is set up before the first expression: a cluster without devices pays nothing.
package selector

import (
	"context"
	"sync"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/cel"

	"bareboat.dev/scheduler/devices"
)

// compiled is how many expressions are kept compiled: a cluster's classes and templates have a few each. At some 30 KiB they take 8 MiB.
const compiled = 256

// New returns a selector. It may be used by several goroutines.
func New() devices.Selector {
	cache := sync.OnceValue(func() *cel.Cache { return cel.NewCache(compiled, cel.Features{EnableConsumableCapacity: true}) })
	return func(expression, driver string, d *resourcev1.Device) (bool, error) {
		program := cache().GetOrCompile(expression)
		if program.Error != nil {
			return false, program.Error
		}
		// What an expression may cost is limited, so that it needs no time limit.
		ok, _, err := program.DeviceMatches(context.Background(), cel.Device{
			Driver: driver, AllowMultipleAllocations: d.AllowMultipleAllocations, Attributes: d.Attributes, Capacity: d.Capacity,
		})
		return ok, cel.EnhanceRuntimeError(err)
	}
}
