package host

import (
	"fmt"
	"os/exec"
	"sort"
	"strings"
)

// Snapshot is what a cluster might leave behind on a host, as comparable text by subject.
type Snapshot map[string]string

// Snapshot takes stock of processes, mounts, namespaces, interfaces, routes, rules, sysctls and cgroups.
func (h *Host) Snapshot() Snapshot {
	h.t.Helper()
	s := Snapshot{
		"processes":  h.Must("sh", "-c", "ps -e -o comm= | grep -v -x -e ps -e sh -e sort -e grep -e nsenter -e sleep -e bash | sort"),
		"mounts":     h.Must("sh", "-c", "cut -d' ' -f1-3 /proc/mounts | sort"),
		"interfaces": h.Must("sh", "-c", "ip -o address | sed 's/ tentative//; s/ valid_lft.*//' | cut -d: -f2- | sort"),
		"routes":     h.Must("sh", "-c", "ip route; ip -6 route; ip rule"),
		"iptables":   h.Must("sh", "-c", "for t in filter nat mangle raw; do iptables -t $t -S; done"),
		"nftables":   h.Must("sh", "-c", "nft list ruleset | grep -v '^#'; true"),
		"netns":      h.Must("sh", "-c", "ip netns list; true"),
		"forwarding": h.Must("cat", "/proc/sys/net/ipv4/ip_forward"),
		"cgroups":    h.Must("sh", "-c", "find /sys/fs/cgroup -mindepth 1 -type d | sort"),
	}
	return s
}

// Diff says what is in one snapshot and not in the other; empty if they are alike.
func (s Snapshot) Diff(other Snapshot) string {
	var out []string
	for subject, before := range s {
		if after := other[subject]; after != before {
			out = append(out, fmt.Sprintf("%s:\n%s", subject, lineDiff(before, after)))
		}
	}
	sort.Strings(out)
	return strings.Join(out, "\n")
}

func lineDiff(a, b string) string {
	count := map[string]int{}
	for l := range strings.Lines(a) {
		count[l]--
	}
	for l := range strings.Lines(b) {
		count[l]++
	}
	var out []string
	for l, n := range count {
		switch {
		case n > 0:
			out = append(out, "+ "+strings.TrimRight(l, "\n"))
		case n < 0:
			out = append(out, "- "+strings.TrimRight(l, "\n"))
		}
	}
	sort.Strings(out)
	return strings.Join(out, "\n")
}

// Require fails the test unless programs are there, with the command that installs them.
func Require(t interface {
	Helper()
	Fatalf(string, ...any)
}, programs map[string]string) {
	t.Helper()
	for program, pkg := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("this test needs %s; install it with: apt-get install %s", program, pkg)
		}
	}
}
