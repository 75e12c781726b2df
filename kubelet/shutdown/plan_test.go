package shutdown

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestPlan shows which pods end when, and with how much time.
func TestPlan(t *testing.T) {
	pods := []Pod{{"critical", 2000000000, 30 * time.Second}, {"plain", 0, 5 * time.Second}, {"low", -10, time.Hour}, {"high", 100000, time.Minute}}
	second := func(n int) time.Duration { return time.Duration(n) * time.Second }
	for want, groups := range map[string][]Group{
		"": nil,
		"20s: plain 5s, low 20s, high 20s; 10s: critical 10s": Simple(second(30), second(10)),
		"30s: plain 5s, low 30s, high 30s; 0s: critical 0s":   Simple(second(30), 0),
		"7s: plain 5s, low 7s; 8s: high 8s; 9s: critical 9s":  {{100000, second(8)}, {2000000000, second(9)}, {10, second(7)}},
		"1m0s: critical 30s, plain 5s, low 1m0s, high 1m0s":   {{0, second(60)}},
	} {
		var steps []string
		for _, s := range Plan(pods, groups) {
			var all []string
			for _, p := range s.Pods {
				all = append(all, fmt.Sprint(p.UID, " ", p.Grace))
			}
			steps = append(steps, fmt.Sprintf("%s: %s", s.Period, strings.Join(all, ", ")))
		}
		if got := strings.Join(steps, "; "); got != want {
			t.Errorf("%v:\n got %s\nwant %s", groups, got, want)
		}
	}
}

// TestCheck shows which groups make no sense.
func TestCheck(t *testing.T) {
	for want, groups := range map[string][]Group{
		"<nil>":                          {{0, 1}, {1, 1}},
		"priority 1 is there twice":      {{1, 1}, {1, 2}},
		"priority 3 has a period of -1s": {{3, -time.Second}},
	} {
		if got := fmt.Sprint(Check(groups)); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %s, want %s", groups, got, want)
		}
	}
}
