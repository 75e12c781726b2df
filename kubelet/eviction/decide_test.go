package eviction

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func decide(available map[Signal]int64, m Memory, now time.Time, pods ...Pod) Decision {
	levels := map[Signal]Level{}
	for s, n := range available {
		levels[s] = Level{Capacity: 1000 << 20, Available: n << 20}
	}
	return Decide(Input{Levels: levels, Thresholds: Defaults(), Pods: pods, Memory: m, Now: now})
}

func victims(d Decision) string {
	var all []string
	for _, v := range d.Victims {
		all = append(all, string(v.UID))
	}
	return strings.Join(all, " ")
}

// TestOrder shows who goes first: who uses more than requested, then lower priority, then the greater excess; never the critical.
func TestOrder(t *testing.T) {
	within := Pod{UID: "within", Memory: 500, MemoryRequest: 600, Priority: -5}
	over := Pod{UID: "over", Memory: 50, MemoryRequest: 10, Priority: 100}
	more := Pod{UID: "more", Memory: 90, MemoryRequest: 10, Priority: 100}
	low := Pod{UID: "low", Memory: 11, MemoryRequest: 10, Priority: 1}
	critical := Pod{UID: "critical", Memory: 900, Critical: true}
	for want, pods := range map[string][]Pod{
		"":       {critical},
		"within": {critical, within},
		"over":   {within, over},
		"more":   {over, more},
		"low":    {more, low, over, within, critical},
	} {
		if got := victims(decide(map[Signal]int64{MemoryAvailable: 99}, Memory{}, start, pods...)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestPressureFades shows that conditions outlast a shortage, that one pod is ended at a time, and what is said of it.
func TestPressureFades(t *testing.T) {
	pods := []Pod{{UID: "a", Disk: 9}, {UID: "b", Disk: 5}}
	d := decide(map[Signal]int64{NodeFSAvailable: 50}, Memory{}, start, pods...)
	if !d.DiskPressure || d.MemoryPressure || !d.Reclaim || victims(d) != "a" {
		t.Fatalf("disk shortage: %+v", d)
	}
	if want := "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: 50Mi. "; d.Victims[0].Message != want {
		t.Errorf("it says %q", d.Victims[0].Message)
	}
	if d = decide(map[Signal]int64{NodeFSAvailable: 50}, d.Memory, start.Add(time.Second), pods[1]); victims(d) != "" || !d.DiskPressure {
		t.Errorf("before the first has settled: %+v", d)
	}
	if d = decide(map[Signal]int64{NodeFSAvailable: 500}, d.Memory, start.Add(time.Minute), pods[1]); victims(d) != "" || !d.DiskPressure {
		t.Errorf("after the shortage: %+v", d)
	}
	if d = decide(map[Signal]int64{NodeFSAvailable: 500}, d.Memory, start.Add(7*time.Minute), pods[1]); d.DiskPressure {
		t.Error("the condition does not end")
	}
}

// TestLimits shows that a pod beyond its own limit goes without a shortage.
func TestLimits(t *testing.T) {
	d := decide(map[Signal]int64{NodeFSAvailable: 900}, Memory{}, start, Pod{UID: "a", Exceeded: "too much"}, Pod{UID: "b"})
	if victims(d) != "a" || d.Victims[0].Message != "too much" || d.DiskPressure {
		t.Errorf("%+v", d)
	}
}

// TestParse shows thresholds in the flag's spelling.
func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "{104857600 0} {0 10}",
		"memory.available<1Gi":  "{1073741824 0} {0 10}",
		"nodefs.available<5.5%": "{104857600 0} {0 5.5}",
		"memory.available":      `"memory.available": want signal<quantity`,
		"disk<5%":               `"disk<5%": want signal<quantity`,
		"memory.available<lots": "want a quantity such as 100Mi",
		"nodefs.available<101%": "want a share from 0% to 100%",
	} {
		got, err := Parse(text)
		s := fmt.Sprint(got[MemoryAvailable], got[NodeFSAvailable])
		if err != nil {
			s = err.Error()
		}
		if !strings.Contains(s, want) {
			t.Errorf("%q: %s, want %s", text, s, want)
		}
	}
}
