package devicetaint

import (
	resourcev1 "k8s.io/api/resource/v1"
)

// Device finds a device in the slices of its pool; only those of the newest generation count.
func Device(pool []*resourcev1.ResourceSlice, name string) *resourcev1.Device {
	newest := newestGeneration(pool)
	for _, s := range pool {
		if s.Spec.Pool.Generation != newest {
			continue
		}
		for i := range s.Spec.Devices {
			if s.Spec.Devices[i].Name == name {
				return &s.Spec.Devices[i]
			}
		}
	}
	return nil
}

func newestGeneration(pool []*resourcev1.ResourceSlice) (newest int64) {
	for _, s := range pool {
		newest = max(newest, s.Spec.Pool.Generation)
	}
	return newest
}

// published counts the devices that a rule selects in all slices there are.
func published(all []*resourcev1.ResourceSlice, rule *resourcev1.DeviceTaintRule) (n int) {
	pools := map[string][]*resourcev1.ResourceSlice{}
	for _, s := range all {
		id := s.Spec.Driver + "/" + s.Spec.Pool.Name
		pools[id] = append(pools[id], s)
	}
	for _, pool := range pools {
		newest := newestGeneration(pool)
		for _, s := range pool {
			for i := range s.Spec.Devices {
				if s.Spec.Pool.Generation == newest && selects(rule, s.Spec.Driver, s.Spec.Pool.Name, s.Spec.Devices[i].Name) {
					n++
				}
			}
		}
	}
	return n
}

// allocated counts a claim's devices that a rule selects.
func allocated(claim *resourcev1.ResourceClaim, rule *resourcev1.DeviceTaintRule) (n int) {
	if claim.Status.Allocation == nil {
		return 0
	}
	for _, r := range claim.Status.Allocation.Devices.Results {
		if selects(rule, r.Driver, r.Pool, r.Device) {
			n++
		}
	}
	return n
}
