package cluster

import (
	"net/netip"
	"os"
	"strings"
	"testing"
)

// TestChoicesAreRemembered shows that a later start without flags has what the first was told, and asks the host for what it was not.
func TestChoicesAreRemembered(t *testing.T) {
	l := Layout{Etc: t.TempDir()}
	if o, err := Remembered(l, testOptions()); err != nil || o != testOptions() {
		t.Errorf("without an earlier start: %+v, %v", o, err)
	}
	chosen := testOptions()
	chosen.NodeName, chosen.ServiceCIDR = "other", netip.MustParsePrefix("10.97.0.0/16")
	if err := saveChoices(l, chosen); err != nil {
		t.Fatal(err)
	}
	moved := testOptions()
	moved.NodeIP = netip.MustParseAddr("192.0.2.99")
	got, err := Remembered(l, moved)
	if err != nil || got.NodeName != "other" || got.ServiceCIDR != chosen.ServiceCIDR || got.NodeIP != moved.NodeIP {
		t.Errorf("remembered: %+v, %v", got, err)
	}
}

// TestWhatCannotChange shows that a flag that contradicts the stored objects or the running daemons is an error that names it.
func TestWhatCannotChange(t *testing.T) {
	dir := t.TempDir()
	l := Layout{Etc: dir + "/etc", State: dir}
	if err := saveChoices(l, testOptions()); err != nil {
		t.Fatal(err)
	}
	other := testOptions()
	other.ServiceCIDR, other.ProxyMode = netip.MustParsePrefix("10.97.0.0/16"), "nftables"
	if err := changeable(l, other, false); err != nil {
		t.Errorf("before there is state: %v", err)
	}
	if err := os.WriteFile(l.Database(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := changeable(l, other, false); err == nil || !strings.HasPrefix(err.Error(), "--service-cidr: ") || strings.Contains(err.Error(), "proxy-mode") {
		t.Errorf("with state: %v", err)
	}
	if err := changeable(l, other, true); err == nil || !strings.Contains(err.Error(), "--proxy-mode: the running cluster") {
		t.Errorf("while running: %v", err)
	}
	if err := changeable(l, testOptions(), true); err != nil {
		t.Errorf("without a change: %v", err)
	}
}
