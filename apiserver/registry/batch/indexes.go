package batch

import (
	"fmt"
	"strconv"
	"strings"
)

// interval is a range of indexes, both ends included.
type interval struct{ low, high int32 }

// countIndexes reads "1,3-5,7": numbers and ranges in rising order, below completions.
func countIndexes(text string, completions int32) (int32, error) {
	if text == "" {
		return 0, nil
	}
	total, last := int32(0), int32(-1)
	for part := range strings.SplitSeq(text, ",") {
		i, err := parseInterval(part, completions)
		if err != nil {
			return 0, err
		}
		if i.low <= last {
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", last, i.low)
		}
		total += i.high - i.low + 1
		last = i.high
	}
	return total, nil
}

// parseInterval reads "3" or "3-5".
func parseInterval(text string, completions int32) (interval, error) {
	ends := strings.Split(text, "-")
	if len(ends) > 2 {
		return interval{}, fmt.Errorf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", text)
	}
	var at [2]int32
	for i, end := range ends {
		n, err := strconv.Atoi(end)
		if err != nil {
			return interval{}, fmt.Errorf("cannot convert string to integer for index: %q", end)
		}
		if n >= int(completions) {
			return interval{}, fmt.Errorf("too large index: %q", end)
		}
		at[i] = int32(n)
	}
	if len(ends) == 1 {
		return interval{at[0], at[0]}, nil
	}
	if at[0] >= at[1] {
		return interval{}, fmt.Errorf("non-increasing order, previous: %d, current: %d", at[0], at[1])
	}
	return interval{at[0], at[1]}, nil
}

// overlap returns the least index that is in both lists. What cannot be read is passed over: it is an error of its own.
func overlap(a, b string, completions int32) (int32, bool) {
	x, y := intervals(a, completions), intervals(b, completions)
	for len(x) > 0 && len(y) > 0 {
		if x[0].low <= y[0].high && y[0].low <= x[0].high {
			return max(x[0].low, y[0].low), true
		}
		if x[0].low <= y[0].low {
			x = x[1:]
		} else {
			y = y[1:]
		}
	}
	return 0, false
}

func intervals(text string, completions int32) []interval {
	var out []interval
	for part := range strings.SplitSeq(text, ",") {
		if i, err := parseInterval(part, completions); err == nil {
			out = append(out, i)
		}
	}
	return out
}
