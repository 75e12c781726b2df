// Package topology chooses what a pod is to have alone when it is admitted: devices, CPUs and memory, all of them near each other if that is
// asked for. It is Kubernetes' topology manager
// (https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/).
//
//	m, err := topology.New(topology.Config{Policy: numa.SingleNode, Scope: topology.Container, Machine: machine}, devices, cpus, memory)
//	err = m.Reserve(pod)        // *Refusal
//	err = m.Release(pod.UID)    // when nothing of it runs any more
//
// Providers are asked in the order in which they are given: first for the NUMA nodes on which a share could be, then to take it from those that
// suit all. What they have taken is saved before Reserve returns; if one refuses, none has taken anything.
package topology

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/numa"
)

// Provider is who gives a kind of resource away.
type Provider interface {
	// Hints are the nodes on which a container's shares could be, by resource; those of the whole pod if c is nil.
	Hints(p *corev1.Pod, c *corev1.Container) map[string][]numa.Hint
	// Take chooses a container's shares. A container that has some keeps them.
	Take(p *corev1.Pod, c *corev1.Container, near numa.Hint) error
	// Commit saves what has been taken.
	Commit() error
	Release(uid types.UID) error
	Retain(keep func(types.UID) bool) error
}

// Scope is what has its shares near each other, as --topology-manager-scope names it.
type Scope string

// The scopes.
const (
	Container Scope = "container"
	Pod       Scope = "pod"
)

// Options are those of the policies but none.
type Options struct {
	// PreferClosest: prefer-closest-numa-nodes. Of sets of as many nodes the one with the shortest distances is taken.
	PreferClosest bool
	// MaxNodes: max-allowable-numa-nodes. A machine with more is refused, since every set of nodes is looked at.
	MaxNodes int
}

// ParseOptions reads options as --topology-manager-policy-options gives them.
func ParseOptions(given map[string]string) (o Options, err error) {
	o.MaxNodes = numa.DefaultMaxNodes
	for name, value := range given {
		switch name {
		case "prefer-closest-numa-nodes":
			if o.PreferClosest, err = strconv.ParseBool(value); err != nil {
				return o, fmt.Errorf("bad value for option %q: %w", name, err)
			}
		case "max-allowable-numa-nodes":
			if o.MaxNodes, err = strconv.Atoi(value); err != nil {
				return o, fmt.Errorf("unable to convert policy option to integer %q: %w", name, err)
			}
			if o.MaxNodes < numa.DefaultMaxNodes {
				return o, fmt.Errorf("the minimum value of %q should not be less than %d", name, numa.DefaultMaxNodes)
			}
		default:
			return o, fmt.Errorf("unknown Topology Manager Policy option: %q", name)
		}
	}
	return o, nil
}

// Config is what a manager is told.
type Config struct {
	Policy  numa.Policy
	Scope   Scope
	Options Options
	Machine numa.Machine
}

// Refusal is why a pod is not taken: its status' reason and message.
type Refusal struct{ Reason, Message string }

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

// Manager asks providers. Reserve must not be called twice at once: each pod is decided on with what those before it have got.
type Manager struct {
	scope     Scope
	layout    numa.Layout
	providers []Provider
	metrics   metrics
}

// New makes a manager. It fails if the machine has more NUMA nodes than the policy can be applied to.
func New(c Config, providers ...Provider) (*Manager, error) {
	m := &Manager{scope: c.Scope, layout: numa.Layout{Policy: c.Policy, Nodes: c.Machine.Set()}, providers: providers, metrics: newMetrics()}
	if c.Policy == numa.None {
		return m, nil
	}
	if n := m.layout.Nodes.Len(); n > c.Options.MaxNodes {
		return nil, fmt.Errorf("topology manager policy %s: unsupported on machines with more than %d NUMA Nodes, this one has %d", c.Policy, c.Options.MaxNodes, n)
	}
	if c.Options.PreferClosest {
		m.layout.Distances = c.Machine.Distances()
	}
	return m, nil
}

// Reserve chooses what a pod that is admitted gets alone. Its error is a *[Refusal]; then the pod has got nothing.
func (m *Manager) Reserve(p *corev1.Pod) (err error) {
	begun := time.Now()
	defer func() { m.metrics.count(begun, err) }()
	err = m.take(p)
	for _, provider := range m.providers {
		if err == nil {
			err = provider.Commit()
		}
	}
	if err == nil {
		return nil
	}
	return refusal(errors.Join(err, m.Release(p.UID)))
}

// refusal gives an error its reason, which some bring along.
func refusal(err error) *Refusal {
	var reasoned interface {
		error
		Reason() string
	}
	if errors.As(err, &reasoned) {
		return &Refusal{Reason: reasoned.Reason(), Message: reasoned.Error()}
	}
	return &Refusal{Reason: "UnexpectedAdmissionError", Message: fmt.Sprintf("Allocate failed due to %v, which is unexpected", err)}
}

// misplaced: the policy does not take what the resources agree on.
type misplaced struct{}

func (misplaced) Error() string  { return "Resources cannot be allocated with Topology locality" }
func (misplaced) Reason() string { return "TopologyAffinityError" }

func (m *Manager) take(p *corev1.Pod) error {
	var near numa.Hint
	var err error
	if m.scope == Pod {
		if near, err = m.near(p, nil); err != nil {
			return err
		}
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if m.scope != Pod {
				if near, err = m.near(p, &list[i]); err != nil {
					return err
				}
			}
			for _, provider := range m.providers {
				if err := provider.Take(p, &list[i], near); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// near finds the nodes that suit all of a container's resources, or a pod's.
func (m *Manager) near(p *corev1.Pod, c *corev1.Container) (numa.Hint, error) {
	if m.layout.Policy == numa.None {
		return numa.Hint{}, nil
	}
	var all [][]numa.Hint
	for _, provider := range m.providers {
		hints := provider.Hints(p, c)
		for _, resource := range slices.Sorted(maps.Keys(hints)) {
			all = append(all, hints[resource])
		}
	}
	near, ok := numa.Merge(m.layout, all...)
	if !ok {
		return near, misplaced{}
	}
	return near, nil
}

// Release gives back what a pod has, Retain what all pods have but those that keep says.
func (m *Manager) Release(uid types.UID) error {
	return m.each(func(p Provider) error { return p.Release(uid) })
}

func (m *Manager) Retain(keep func(types.UID) bool) error {
	return m.each(func(p Provider) error { return p.Retain(keep) })
}

func (m *Manager) each(do func(Provider) error) (err error) {
	for _, p := range m.providers {
		err = errors.Join(err, do(p))
	}
	return err
}
