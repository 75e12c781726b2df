package bridge_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bareboat.dev/proxy/bridge"
	"bareboat.dev/proxy/internal/lab"
	"bareboat.dev/proxy/internal/suite"
	"bareboat.dev/proxy/nftables"
	"bareboat.dev/proxy/plan"
)

// With the switch off, a pod does not get a service's answer from a pod on the same bridge; Ensure sees to it, twice without
// forgetting what was there, and Restore brings that back.
func TestSameBridge(t *testing.T) {
	l := lab.New(t)
	web, pod := l.Pod("web", 2), l.Pod("pod", 3)
	web.ServeUDP(":8080")
	dir := filepath.Join(t.TempDir(), "state")
	const path = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	value := func() string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		return strings.TrimSpace(string(data))
	}
	l.Node.Do(func() {
		if err := os.WriteFile(path, []byte("0"), 0); err != nil {
			t.Error(err)
		}
		a, err := nftables.New(nftables.Config{Family: plan.IPv4, ClusterCIDRs: suite.ClusterCIDRs()})
		if err != nil {
			t.Error(err)
			return
		}
		set := plan.NewSet(plan.IPv4)
		set.Put(plan.ForService(suite.Service("a", "10.96.0.7"), suite.Slices("10.244.0.2@node"), plan.Node{Name: "node"}, plan.IPv4))
		if err := a.Apply(t.Context(), set, nil); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := bridge.Ensure(dir); err != nil {
				t.Error(err)
			}
		}
		if value() != "1" {
			t.Errorf("the switch is at %s", value())
		}
	})
	if got, err := pod.AskUDP("10.96.0.7:80"); err != nil || got.Server != "web" {
		t.Errorf("%v, %v", got, err)
	}
	l.Node.Do(func() {
		for range 2 {
			if err := bridge.Restore(dir); err != nil {
				t.Error(err)
			}
		}
		if value() != "0" {
			t.Errorf("the switch is left at %s", value())
		}
	})
	if _, err := os.Stat(dir); err == nil {
		t.Error("the state is left behind")
	}
}
