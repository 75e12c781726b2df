package eviction

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Parse reads thresholds as --eviction-hard has them: "memory.available<100Mi,nodefs.available<10%". What is not named keeps
// its default; "0" or "0%" switches a signal off.
func Parse(text string) (map[Signal]Threshold, error) {
	thresholds := Defaults()
	known := []Signal{MemoryAvailable, NodeFSAvailable, NodeFSInodesFree, ImageFSAvailable, ImageFSInodesFree, PIDAvailable}
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "<")
		if !ok || !slices.Contains(known, Signal(name)) {
			return nil, fmt.Errorf("%q: want signal<quantity, with a signal of %v", part, known)
		}
		t, err := parseThreshold(value)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", part, err)
		}
		thresholds[Signal(name)] = t
	}
	return thresholds, nil
}

func parseThreshold(value string) (Threshold, error) {
	if percent, ok := strings.CutSuffix(value, "%"); ok {
		n, err := strconv.ParseFloat(percent, 64)
		if err != nil || n < 0 || n > 100 {
			return Threshold{}, fmt.Errorf("want a share from 0%% to 100%%")
		}
		return Threshold{Percent: n}, nil
	}
	q, err := resource.ParseQuantity(value)
	if err != nil || q.Sign() < 0 {
		return Threshold{}, fmt.Errorf("want a quantity such as 100Mi")
	}
	return Threshold{Amount: q.Value()}, nil
}
