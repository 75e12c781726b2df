package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestShares shows the settings of what containers have alone: in upstream's spelling, and which of them are refused.
func TestShares(t *testing.T) {
	parse := func(args ...string) (*Config, error) {
		c := Default()
		c.TLSCertFile, c.TLSPrivateKeyFile, c.ClientCAFile = "/a", "/b", "/c"
		f := pflag.NewFlagSet("kubelet", pflag.ContinueOnError)
		c.Flags(f)
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		return &c, c.Validate()
	}
	c, err := parse("--cpu-manager-policy=static", "--cpu-manager-policy-options=full-pcpus-only=true,strict-cpu-reservation=true", "--reserved-cpus=0-1",
		"--system-reserved=cpu=500m,memory=1Gi", "--memory-manager-policy=Static", "--reserved-memory=0:memory=1Gi,hugepages-2Mi=4Mi", "--reserved-memory=1:memory=100Mi",
		"--topology-manager-policy=restricted", "--topology-manager-scope=pod", "--topology-manager-policy-options=prefer-closest-numa-nodes=true")
	if err != nil {
		t.Fatal(err)
	}
	byNode, err := c.MemoryByNode()
	if want := "map[0:map[hugepages-2Mi:4194304 memory:1073741824] 1:map[memory:104857600]]"; err != nil || fmt.Sprint(byNode) != want {
		t.Errorf("reserved memory is %v, %v, want %s", byNode, err, want)
	}
	if reserved, err := c.Reserved(); err != nil || reserved.Cpu().String() != "2" { // those that are named count
		t.Errorf("reserved are %v, %v", reserved, err)
	}
	if got := (*reservations)(&c.ReservedMemory).String(); got != "0:hugepages-2Mi=4Mi,memory=1Gi 1:memory=100Mi" {
		t.Errorf("the flag reads %s", got)
	}
	for args, want := range map[string]string{
		"--cpu-manager-policy=static":                                  "needs --reserved-cpus, or cpu in --system-reserved",
		"--cpu-manager-policy=x":                                       "want none or static",
		"--cpu-manager-policy-options=x=true":                          "unknown CPU Manager Policy option",
		"--reserved-cpus=x":                                            "--reserved-cpus",
		"--memory-manager-policy=static":                               "want None or Static",
		"--reserved-memory=x":                                          "want a NUMA node",
		"--reserved-memory=0:memory":                                   "want a quantity",
		"--reserved-memory=0:cpu=1":                                    "want a quantity of memory or of hugepages-<size>",
		"--reserved-memory=0:memory=1 --reserved-memory=0:memory=1":    "given twice",
		"--topology-manager-policy=x":                                  "want none, best-effort, restricted or single-numa-node",
		"--topology-manager-scope=x":                                   "want container or pod",
		"--topology-manager-policy-options=max-allowable-numa-nodes=2": "should not be less than 8",
		"--topology-manager-policy=single-numa-node --cpu-manager-policy-options=align-by-socket=true": "excludes the option align-by-socket",
	} {
		if _, err := parse(strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}
