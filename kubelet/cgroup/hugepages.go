package cgroup

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

// hugepages is where the kernel lists the sizes of huge pages that it has, as "hugepages-2048kB".
const hugepages = "/sys/kernel/mm/hugepages"

// HugepageSizes lists the sizes of huge pages that can be limited, as control files spell them ("2MB", "1GB"); none without a controller
// for them.
func (h *Hierarchy) HugepageSizes() []string {
	if !slices.Contains(h.Controllers(), "hugetlb") {
		return nil
	}
	entries, err := os.ReadDir(hugepages)
	if err != nil {
		return nil
	}
	var sizes []string
	for _, e := range entries {
		if size, ok := hugepageSize(e.Name()); ok {
			sizes = append(sizes, size)
		}
	}
	return sizes
}

// hugepageSize turns "hugepages-2048kB" into "2MB".
func hugepageSize(name string) (string, bool) {
	number, ok := strings.CutPrefix(name, "hugepages-")
	if !ok {
		return "", false
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(number, "kB"), 10, 64)
	if err != nil || n == 0 {
		return "", false
	}
	const step = 1024
	units := []string{"KB", "MB", "GB"}
	unit := 0
	for n%step == 0 && unit < len(units)-1 {
		n, unit = n/step, unit+1
	}
	return fmt.Sprintf("%d%s", n, units[unit]), true
}

// withOtherHugepages adds a limit of nothing for each size that limits does not name.
func (h *Hierarchy) withOtherHugepages(limits map[string]uint64) map[string]uint64 {
	sizes := h.HugepageSizes()
	if len(sizes) == 0 {
		return limits
	}
	all := maps.Clone(limits)
	if all == nil {
		all = map[string]uint64{}
	}
	for _, size := range sizes {
		if _, named := all[size]; !named {
			all[size] = 0
		}
	}
	return all
}
