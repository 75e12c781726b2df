package numa

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// FormatList writes numbers as the kernel reads lists of CPUs and of nodes, "0-3,8" (cpuset(7)).
func FormatList(ids []int) string {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	var parts []string
	for i := 0; i < len(ids); {
		j := i
		for j+1 < len(ids) && ids[j+1] == ids[j]+1 {
			j++
		}
		if part := strconv.Itoa(ids[i]); i == j {
			parts = append(parts, part)
		} else {
			parts = append(parts, part+"-"+strconv.Itoa(ids[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// ParseList reads what FormatList writes. The result is sorted, and has nothing twice.
func ParseList(text string) (ids []int, err error) {
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		if part == "" {
			continue
		}
		low, high, ranged := strings.Cut(part, "-")
		a, err := strconv.Atoi(low)
		b := a
		if err == nil && ranged {
			b, err = strconv.Atoi(high)
		}
		const most = 1 << 13 // CPUs that Linux can be built for
		if err != nil || a < 0 || b < a || b >= most {
			return nil, fmt.Errorf("%q: want a list of numbers such as 0-3,8", text)
		}
		for id := a; id <= b; id++ {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}
