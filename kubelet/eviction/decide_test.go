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
	return Decide(Input{Config: Config{Hard: Defaults(), Transition: DefaultTransition}, Levels: levels, Pods: pods, Memory: m, Now: now})
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

// TestSoft shows a soft threshold's life: it is acted on when its grace is over, gently, and is over when the minimum has been
// reclaimed; a hard one beside it does not wait.
func TestSoft(t *testing.T) {
	soft, grace, err := ParseSoft("memory.available<300Mi", "memory.available=1m")
	reclaim, err2 := ParseReclaim("memory.available=100Mi")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	c := Config{Hard: Defaults(), Soft: soft, SoftGrace: grace, MinimumReclaim: reclaim, Transition: DefaultTransition, MaxPodGrace: 20 * time.Second}
	pod := Pod{UID: "a", Memory: 50 << 20, Containers: []Container{{Name: "app", Memory: 50<<20 + 5}, {Name: "meek", Memory: 1, MemoryRequest: 2}}}
	var m Memory
	for _, step := range []struct {
		at        time.Duration
		available int64
		want      string
	}{
		{0, 299, "pressure"},
		{59 * time.Second, 250, "pressure"},
		{60 * time.Second, 250, "pressure a after 20s"},
		{65 * time.Second, 250, "pressure"}, // the first has yet to be gone
		{71 * time.Second, 399, "pressure a after 20s"},
		{90 * time.Second, 400, "pressure"},
		{100 * time.Second, 350, "pressure"}, // over: the threshold alone counts
		{110 * time.Second, 299, "pressure"}, // and its grace begins anew
		{120 * time.Second, 99, "pressure a after 0s"},
		{130 * time.Second, 600, "pressure"},
		{131*time.Second + DefaultTransition, 600, ""},
	} {
		d := Decide(Input{Config: c, Levels: map[Signal]Level{MemoryAvailable: {Capacity: 1000 << 20, Available: step.available << 20}},
			Pods: []Pod{pod}, Memory: m, Now: start.Add(step.at)})
		m = d.Memory
		got := ""
		if d.MemoryPressure {
			got = "pressure"
		}
		for _, v := range d.Victims {
			got += fmt.Sprintf(" %s after %s", v.UID, v.Grace)
			if want := "Container app was using 50Mi, request is 0, has larger consumption of memory. "; !strings.HasSuffix(v.Message, want) {
				t.Errorf("it says %q", v.Message)
			}
		}
		if got != step.want {
			t.Errorf("at %s: %q, want %q", step.at, got, step.want)
		}
	}
}

// TestSignals shows what each signal ranks pods by, and that what pods may have together is held against memory's hard threshold.
func TestSignals(t *testing.T) {
	pods := []Pod{
		{UID: "memory", Memory: 9, Disk: 1, Inodes: 1, PIDs: 1}, {UID: "disk", Memory: 1, Disk: 9, Inodes: 1, PIDs: 1},
		{UID: "inodes", Memory: 1, Disk: 1, Inodes: 9, PIDs: 1}, {UID: "pids", Memory: 1, Disk: 1, Inodes: 1, PIDs: 9},
	}
	hard, err := Parse("pid.available<10%")
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[Signal]string{
		MemoryAvailable: "memory", AllocatableMemory: "memory", PIDAvailable: "pids", NodeFSAvailable: "disk", ImageFSAvailable: "disk",
		NodeFSInodesFree: "inodes", ImageFSInodesFree: "inodes",
	} {
		d := Decide(Input{Config: Config{Hard: hard}, Levels: map[Signal]Level{s: {Capacity: 1000 << 20, Available: 0}}, Pods: pods, Now: start})
		if victims(d) != want || d.Acting != s {
			t.Errorf("%s: %s for %s, want %s", s, victims(d), d.Acting, want)
		}
	}
}

// TestParseSoft shows soft thresholds in the flags' spelling.
func TestParseSoft(t *testing.T) {
	for _, c := range [][3]string{
		{"memory.available<1Gi", "", "grace period must be specified for the soft eviction threshold memory.available"},
		{"memory.available<1Gi", "memory.available=soon", "want a time such as 1m30s"},
		{"memory.available<1Gi", "memory.available=90s", "map[memory.available:1m30s]"},
		{"memory.available=1Gi", "", "want signal<quantity"},
		{"allocatableMemory.available<1Gi", "", "want signal<quantity"},
	} {
		_, periods, err := ParseSoft(c[0], c[1])
		got := fmt.Sprint(periods)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c[2]) {
			t.Errorf("%s, %s: %s, want %s", c[0], c[1], got, c[2])
		}
	}
}
