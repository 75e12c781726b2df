package devices

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Why a node is rejected, in kube-scheduler's words.
const (
	NotAvailable   = "resourceclaim not available on the node"
	CannotAllocate = "cannot allocate all claims"
	TimedOut       = "timed out trying to allocate devices"
)

// Demand is what a pod's claims ask for.
type Demand struct {
	// Refused is why no node whatever would do; empty if it depends on the node.
	Refused string
	// Err is the first expression that could not be evaluated on a device; the device counts as not selected.
	Err error

	table *Table
	pod   *corev1.Pod
	given []given
	// pending are claims without allocation.
	pending []*pending
	// tries is how many more devices may be tried before the search is given up.
	tries int
}

// given is a claim that has its allocation.
type given struct {
	claim *resourcev1.ResourceClaim
	reach *nodeaffinity.NodeSelector // nil for everywhere
	// reserved tells that the pod may use it already.
	reserved bool
}

// pending is a claim that needs an allocation.
type pending struct {
	claim    *resourcev1.ResourceClaim
	requests []request
}

// Step is what must be written into a claim's status before the pod may be bound.
type Step struct {
	Claim *resourcev1.ResourceClaim
	// Allocation is the decided one; nil if the claim has one, and only the reservation is missing.
	Allocation *resourcev1.AllocationResult
}

// ClaimName returns the name of the claim that an entry of a pod stands for; empty if none is needed. It fails while the claim of a
// template has not been made.
func ClaimName(pod *corev1.Pod, pc *corev1.PodResourceClaim) (name string, err error) {
	switch {
	case pc.ResourceClaimName != nil:
		return *pc.ResourceClaimName, nil
	case pc.ResourceClaimTemplateName != nil:
		for i := range pod.Status.ResourceClaimStatuses {
			s := &pod.Status.ResourceClaimStatuses[i]
			if s.Name != pc.Name {
				continue
			}
			if s.ResourceClaimName == nil {
				return "", nil
			}
			return *s.ResourceClaimName, nil
		}
		return "", fmt.Errorf("pod %q: ResourceClaim not created yet", pod.Namespace+"/"+pod.Name)
	}
	return "", fmt.Errorf("pod %q, spec.resourceClaim %q: none of the supported fields are set", pod.Namespace+"/"+pod.Name, pc.Name)
}

// DemandOf gathers what a pod's claims ask for; nil if it has none.
func (t *Table) DemandOf(pod *corev1.Pod) *Demand {
	if len(pod.Spec.ResourceClaims) == 0 {
		return nil
	}
	d := &Demand{table: t, pod: pod, tries: maxTries}
	seen := map[string]bool{}
	for i := range pod.Spec.ResourceClaims {
		pc := &pod.Spec.ResourceClaims[i]
		name, err := ClaimName(pod, pc)
		if err != nil {
			d.Refused = err.Error()
			return d
		}
		if name == "" || seen[name] {
			continue
		}
		seen[name] = true
		if d.Refused = d.add(name, pc.ResourceClaimTemplateName != nil); d.Refused != "" {
			return d
		}
	}
	return d
}

// add looks at one claim and returns why the pod has to wait, if it has.
func (d *Demand) add(name string, made bool) string {
	t, pod := d.table, d.pod
	claim := t.claims[claimKey{pod.Namespace, name}]
	switch {
	case claim == nil:
		return fmt.Sprintf("resourceclaim.resource.k8s.io %q not found", name)
	case claim.DeletionTimestamp != nil:
		return fmt.Sprintf("resourceclaim %q is being deleted", name)
	case made && !metav1.IsControlledBy(claim, pod):
		return fmt.Sprintf("ResourceClaim %s/%s was not created for Pod %s/%s (Pod is not owner)", claim.Namespace, name, pod.Namespace, pod.Name)
	case claim.Status.Allocation != nil:
		g := given{claim: claim, reserved: ReservedFor(claim, pod.UID)}
		if !g.reserved && len(claim.Status.ReservedFor) >= resourcev1.ResourceClaimReservedForMaxSize {
			return "resourceclaim in use"
		}
		if s := claim.Status.Allocation.NodeSelector; s != nil {
			var err error
			if g.reach, err = nodeaffinity.NewNodeSelector(s); err != nil {
				return fmt.Sprintf("resourceclaim %q: %v", name, err)
			}
		}
		d.given = append(d.given, g)
		return ""
	case t.assumed[claim.UID] != nil:
		return fmt.Sprintf("resource claim %s/%s is in the process of being allocated", claim.Namespace, name)
	}
	p := &pending{claim: claim}
	for i := range claim.Spec.Devices.Requests {
		r, refused := t.compile(&claim.Spec.Devices.Requests[i])
		if refused != "" {
			return refused
		}
		p.requests = append(p.requests, r)
	}
	d.pending = append(d.pending, p)
	return ""
}

// ReservedFor tells whether a pod may use a claim.
func ReservedFor(claim *resourcev1.ResourceClaim, pod types.UID) bool {
	return slices.ContainsFunc(claim.Status.ReservedFor, func(ref resourcev1.ResourceClaimConsumerReference) bool { return ref.UID == pod })
}

// Reject tells why a node cannot give what the pod's claims ask for; empty if it can.
func (d *Demand) Reject(node *corev1.Node) string {
	if d.Refused != "" {
		return CannotAllocate
	}
	for i := range d.given {
		if g := &d.given[i]; g.reach != nil && !g.reach.Match(node) {
			return NotAvailable
		}
	}
	if len(d.pending) == 0 {
		return ""
	}
	s := d.search(node)
	switch {
	case s.run():
		return ""
	case s.tries <= 0:
		return TimedOut
	}
	return CannotAllocate
}

// steps are what must be written for the pod to use its claims on a node.
func (d *Demand) steps(node *corev1.Node) []Step {
	var out []Step
	for i := range d.given {
		if g := &d.given[i]; !g.reserved {
			out = append(out, Step{Claim: g.claim})
		}
	}
	if len(d.pending) == 0 {
		return out
	}
	s := d.search(node)
	s.tries = maxTries // Reject has found it with no more
	if !s.run() {
		return out // not after Reject
	}
	for i, p := range d.pending {
		out = append(out, Step{p.claim, s.result(i)})
	}
	return out
}

// Stranded lists the claims of a refused pod that are allocated where it cannot go and that nobody else uses: taken back, they may
// be allocated where it can.
func (t *Table) Stranded(pod *corev1.Pod) []*resourcev1.ResourceClaim {
	d := t.DemandOf(pod)
	if d == nil || d.Refused != "" {
		return nil
	}
	var out []*resourcev1.ResourceClaim
	for i := range d.given {
		g := &d.given[i]
		users := len(g.claim.Status.ReservedFor)
		if g.reach != nil && (users == 0 || users == 1 && g.reserved) {
			out = append(out, g.claim)
		}
	}
	return out
}
