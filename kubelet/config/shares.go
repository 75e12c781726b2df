package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"bareboat.dev/kubelet/cpus"
	"bareboat.dev/kubelet/memory"
	"bareboat.dev/kubelet/numa"
	"bareboat.dev/kubelet/topology"
)

// MemoryReservation is what the system has of a NUMA node: memory and huge pages, as quantities by resource.
type MemoryReservation struct {
	NumaNode int32             `json:"numaNode"`
	Limits   map[string]string `json:"limits"`
}

// shareFlags registers the flags of what containers have alone.
func (c *Config) shareFlags(f *pflag.FlagSet) {
	f.StringVar(&c.CPUManagerPolicy, "cpu-manager-policy", c.CPUManagerPolicy, "none, or static: containers of Guaranteed pods that ask for whole CPUs have them alone")
	f.StringToStringVar(&c.CPUManagerPolicyOptions, "cpu-manager-policy-options", c.CPUManagerPolicyOptions, "options of the static policy, full-pcpus-only=true,…")
	f.StringVar(&c.ReservedCPUs, "reserved-cpus", c.ReservedCPUs, "CPUs that no container has alone, such as 0-1,8; they count instead of the cpu of --system-reserved and --kube-reserved")
	f.StringVar(&c.MemoryManagerPolicy, "memory-manager-policy", c.MemoryManagerPolicy, "None, or Static: containers of Guaranteed pods have memory of NUMA nodes of their own")
	f.Var((*reservations)(&c.ReservedMemory), "reserved-memory", "what the system has of a NUMA node, 0:memory=1Gi,hugepages-2Mi=4Mi; may be given again for other nodes")
	f.StringVar(&c.TopologyManagerPolicy, "topology-manager-policy", c.TopologyManagerPolicy, "none, best-effort, restricted or single-numa-node: how near to each other what a container has must be")
	f.StringVar(&c.TopologyManagerScope, "topology-manager-scope", c.TopologyManagerScope, "container or pod: whose resources must be near each other")
	f.StringToStringVar(&c.TopologyManagerPolicyOptions, "topology-manager-policy-options", c.TopologyManagerPolicyOptions, "options of the topology manager's policy, prefer-closest-numa-nodes=true,…")
}

// reservations is the flag of reserved memory.
type reservations []MemoryReservation

// Type, String and Set implement pflag.Value.
func (*reservations) Type() string { return "node:resource=quantity,…" }

func (r *reservations) String() string {
	var all []string
	for _, one := range *r {
		var limits []string
		for _, name := range slices.Sorted(maps.Keys(one.Limits)) {
			limits = append(limits, name+"="+one.Limits[name])
		}
		all = append(all, fmt.Sprintf("%d:%s", one.NumaNode, strings.Join(limits, ",")))
	}
	return strings.Join(all, " ")
}

func (r *reservations) Set(text string) error {
	node, rest, ok := strings.Cut(text, ":")
	id, err := strconv.ParseInt(node, 10, 32)
	if !ok || err != nil || id < 0 {
		return fmt.Errorf("%q: want a NUMA node and what is reserved of it, such as 0:memory=1Gi", text)
	}
	one := MemoryReservation{NumaNode: int32(id), Limits: map[string]string{}}
	for limit := range strings.SplitSeq(rest, ",") {
		name, quantity, ok := strings.Cut(limit, "=")
		if !ok {
			return fmt.Errorf("%q: want a quantity of a resource, such as memory=1Gi", limit)
		}
		one.Limits[name] = quantity
	}
	*r = append(*r, one)
	return nil
}

// validateShares checks the settings of what containers have alone.
func (c *Config) validateShares() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	named, err := numa.ParseList(c.ReservedCPUs)
	if err != nil {
		fail("--reserved-cpus: %w", err)
	}
	options, err := cpus.ParseOptions(c.CPUManagerPolicyOptions)
	if err != nil {
		fail("--cpu-manager-policy-options: %w", err)
	}
	switch cpus.Policy(c.CPUManagerPolicy) {
	case cpus.None:
	case cpus.Static:
		if reserved, err := c.Reserved(); err == nil && len(named) == 0 && reserved.Cpu().IsZero() {
			fail("--cpu-manager-policy static needs --reserved-cpus, or cpu in --system-reserved or --kube-reserved, which the system and all other pods have")
		}
	default:
		fail("--cpu-manager-policy %q: want none or static", c.CPUManagerPolicy)
	}
	switch memory.Policy(c.MemoryManagerPolicy) {
	case memory.None, memory.Static:
	default:
		fail("--memory-manager-policy %q: want None or Static", c.MemoryManagerPolicy)
	}
	if _, err := c.MemoryByNode(); err != nil {
		errs = append(errs, err)
	}
	switch p := numa.Policy(c.TopologyManagerPolicy); p {
	case numa.None, numa.BestEffort, numa.Restricted:
	case numa.SingleNode:
		if options.BySocket {
			fail("--topology-manager-policy %s excludes the option align-by-socket of --cpu-manager-policy-options", p)
		}
	default:
		fail("--topology-manager-policy %q: want none, best-effort, restricted or single-numa-node", p)
	}
	if s := topology.Scope(c.TopologyManagerScope); s != topology.Container && s != topology.Pod {
		fail("--topology-manager-scope %q: want container or pod", s)
	}
	if _, err := topology.ParseOptions(c.TopologyManagerPolicyOptions); err != nil {
		fail("--topology-manager-policy-options: %w", err)
	}
	return errors.Join(errs...)
}

// MemoryByNode is what is reserved of each NUMA node, by resource, in bytes.
func (c *Config) MemoryByNode() (map[int]map[string]int64, error) {
	all := map[int]map[string]int64{}
	for _, r := range c.ReservedMemory {
		id := int(r.NumaNode)
		if all[id] != nil {
			return nil, fmt.Errorf("--reserved-memory: NUMA node %d is given twice", id)
		}
		all[id] = map[string]int64{}
		for name, text := range r.Limits {
			q, err := resource.ParseQuantity(text)
			if err != nil || name != "memory" && !strings.HasPrefix(name, "hugepages-") || q.Sign() < 0 {
				return nil, fmt.Errorf("--reserved-memory: %s=%q: want a quantity of memory or of hugepages-<size>", name, text)
			}
			all[id][name] = q.Value()
		}
	}
	return all, nil
}
