// Package admit decides whether a node takes a pod that is bound to it. The scheduler decided on an older view, and another
// scheduler, or a person, may have decided at the same time: what does not fit, or asks for what this node must refuse, fails
// here with the reasons that Kubernetes gives, and its controller makes another.
//
// It is pure: the pod, the other pods of the node and what the node has are given in.
package admit

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	helpers "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"bareboat.dev/kubelet/pod"
)

// Node is what a pod is held against.
type Node struct {
	Allocatable corev1.ResourceList
	// Object is the node's object, for its labels and taints; nil if it is not known, and then nothing is refused for its sake.
	Object *corev1.Node
	// Pressure are the node's conditions of shortage that are true: MemoryPressure, DiskPressure, PIDPressure.
	Pressure []corev1.NodeConditionType
	// ShuttingDown says that the host is going down.
	ShuttingDown bool
	// AppArmor says that the kernel enforces AppArmor profiles.
	AppArmor bool
	// UnsafeSysctls are allowed beside the safe ones; a name ending in "*" allows all that begin so.
	UnsafeSysctls []string
}

// Pod is a pod with what its node knows of it.
type Pod struct {
	*corev1.Pod
	// Static says that it comes from a file on the node.
	Static bool
}

// Critical says whether the node rather does without other pods than without this one.
func (p Pod) Critical() bool { return p.Static || p.priority() >= systemCritical }

// systemCritical is the priority from which pods are critical: that of system-cluster-critical.
const systemCritical = 2000000000

func (p Pod) priority() int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// Rejection is why a pod is not taken: its status' reason and message.
type Rejection struct{ Reason, Message string }

// Verdict is what is decided of a pod.
type Verdict struct {
	// Rejection is why it is not taken; nil if it is.
	Rejection *Rejection
	// Preempted are pods, by their place among the others, that end to make room for it.
	Preempted []int
}

// Admit decides whether the node takes the pod beside the others, which must be all that are not terminal. Between what concerns the
// state of the node and what concerns room on it, reserve is asked to choose what the pod is to have alone, as Kubernetes does; if the pod
// is refused later on, the caller takes it back. It may be nil.
func Admit(p Pod, others []Pod, n Node, reserve func() *Rejection) Verdict {
	if r := first(p, n, shutdown, pressure, sysctls); r != nil {
		return reject(r)
	}
	if reserve != nil {
		if r := reserve(); r != nil {
			return reject(r)
		}
	}
	if r := first(p, n, system, placement, taints, appArmor); r != nil {
		return reject(r)
	}
	if r := ports(p, others); r != nil {
		return reject(r)
	}
	r := fits(p, others, n)
	if r == nil {
		return Verdict{}
	}
	if victims, ok := preempt(p, others, n); ok {
		return Verdict{Preempted: victims}
	}
	return reject(r)
}

// first is the first rejection among some checks'; nil if there is none.
func first(p Pod, n Node, checks ...func(Pod, Node) *Rejection) *Rejection {
	for _, check := range checks {
		if r := check(p, n); r != nil {
			return r
		}
	}
	return nil
}

func reject(r *Rejection) Verdict {
	r.Message = "Pod was rejected: " + r.Message
	return Verdict{Rejection: r}
}

// shutdown refuses all pods while the host goes down.
func shutdown(_ Pod, n Node) *Rejection {
	if !n.ShuttingDown {
		return nil
	}
	return &Rejection{"NodeShutdown", "Pod was rejected as the node is shutting down."}
}

// pressure keeps pods from a node that runs short: short of memory it still takes those that have requested theirs.
func pressure(p Pod, n Node) *Rejection {
	if len(n.Pressure) == 0 || p.Critical() {
		return nil
	}
	if len(n.Pressure) == 1 && n.Pressure[0] == corev1.NodeMemoryPressure {
		short := corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
		if pod.QOSClass(&p.Spec) != corev1.PodQOSBestEffort || tolerates(p.Pod, short) {
			return nil
		}
	}
	return &Rejection{"Evicted", fmt.Sprintf("The node had condition: %v. ", n.Pressure)}
}

// system refuses pods of another operating system or of a runtime that is not here.
func system(p Pod, n Node) *Rejection {
	if os := p.Spec.OS; os != nil && os.Name != corev1.Linux {
		return &Rejection{"PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"}
	}
	if want, ok := p.Spec.NodeSelector[corev1.LabelOSStable]; ok && want != string(corev1.Linux) {
		return &Rejection{"PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"}
	}
	return nil
}

// placement holds the pod's node selector and required affinity against the node as it is now.
func placement(p Pod, n Node) *Rejection {
	if n.Object == nil {
		return nil
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(p.Pod).Match(n.Object); err == nil && ok {
		return nil
	}
	return predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
}

// taints refuses a pod that would be evicted at once.
func taints(p Pod, n Node) *Rejection {
	if n.Object == nil || p.Static {
		return nil
	}
	for _, t := range n.Object.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute && !tolerates(p.Pod, t) {
			return predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate")
		}
	}
	return nil
}

func tolerates(p *corev1.Pod, taint corev1.Taint) bool {
	return slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool {
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			return false
		}
		value, err := strconv.ParseInt(taint.Value, 10, 64)
		bound, err2 := strconv.ParseInt(t.Value, 10, 64)
		numbers := err == nil && err2 == nil
		switch t.Operator {
		case "", corev1.TolerationOpEqual:
			return t.Value == taint.Value
		case corev1.TolerationOpExists:
			return true
		case corev1.TolerationOpLt:
			return numbers && value < bound
		case corev1.TolerationOpGt:
			return numbers && value > bound
		}
		return false
	})
}

// ports refuses a pod whose ports of the host another one has.
func ports(p Pod, others []Pod) *Rejection {
	mine := hostPorts(p.Pod)
	for _, o := range others {
		for _, theirs := range hostPorts(o.Pod) {
			for _, port := range mine {
				if port.HostPort == theirs.HostPort && port.Protocol == theirs.Protocol && (everywhere(port) || everywhere(theirs) || port.HostIP == theirs.HostIP) {
					return predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports")
				}
			}
		}
	}
	return nil
}

func everywhere(p corev1.ContainerPort) bool {
	return p.HostIP == "" || p.HostIP == "0.0.0.0" || p.HostIP == "::"
}

// hostPorts are the ports that a pod takes of the host as long as it lives.
func hostPorts(p *corev1.Pod) (all []corev1.ContainerPort) {
	add := func(c *corev1.Container) {
		for _, port := range c.Ports {
			if port.HostPort > 0 {
				if port.Protocol == "" {
					port.Protocol = corev1.ProtocolTCP
				}
				all = append(all, port)
			}
		}
	}
	for i := range p.Spec.InitContainers {
		if r := p.Spec.InitContainers[i].RestartPolicy; r != nil && *r == corev1.ContainerRestartPolicyAlways {
			add(&p.Spec.InitContainers[i])
		}
	}
	for i := range p.Spec.Containers {
		add(&p.Spec.Containers[i])
	}
	return all
}

func predicate(name, why string) *Rejection {
	return &Rejection{name, fmt.Sprintf("Predicate %s failed: %s", name, why)}
}

// shortage is a resource of which there is not enough left for a pod.
type shortage struct {
	name             corev1.ResourceName
	want, used, have resource.Quantity
}

// fits compares requests with what is left.
func fits(p Pod, others []Pod, n Node) *Rejection {
	short := shortages(p, others, n)
	if len(short) == 0 {
		return nil
	}
	s := short[0]
	return &Rejection{"OutOf" + string(s.name), fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
		s.name, count(s.name, s.want), count(s.name, s.used), count(s.name, s.have))}
}

func shortages(p Pod, others []Pod, n Node) (short []shortage) {
	units := func(k int64) resource.Quantity { return *resource.NewQuantity(k, resource.DecimalSI) }
	if pods := n.Allocatable.Pods().Value(); pods > 0 && int64(len(others))+1 > pods {
		short = append(short, shortage{corev1.ResourcePods, units(1), units(int64(len(others))), units(pods)})
	}
	used := corev1.ResourceList{}
	for _, o := range others {
		for name, q := range requests(o) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	want := requests(p)
	for _, name := range names(want) {
		have, ok := n.Allocatable[name]
		q, u := want[name], used[name]
		if q.IsZero() || !ok && !native(name) {
			continue // what only a device plug-in could know
		}
		total := u.DeepCopy()
		total.Add(q)
		if total.Cmp(have) > 0 {
			short = append(short, shortage{name, q, u, have})
		}
	}
	return short
}

// requests are what a pod asks for, its overhead included.
func requests(p Pod) corev1.ResourceList {
	return helpers.PodRequests(p.Pod, helpers.PodResourcesOptions{})
}

// preempt chooses pods that make room for a critical one: the least of them, of the lowest priority and class first. It says
// whether that is enough.
func preempt(p Pod, others []Pod, n Node) ([]int, bool) {
	if !p.Critical() {
		return nil, false
	}
	var candidates []int
	for i, o := range others {
		if !o.Critical() || p.Spec.Priority != nil && o.Spec.Priority != nil && p.priority() > o.priority() {
			candidates = append(candidates, i)
		}
	}
	slices.SortStableFunc(candidates, func(a, b int) int { return cheaper(others[a], others[b]) })
	gone := map[int]bool{}
	for _, i := range candidates {
		if gone[i] = true; len(shortages(p, without(others, gone), n)) == 0 {
			break
		}
	}
	if len(shortages(p, without(others, gone), n)) > 0 {
		return nil, false
	}
	// Spare whoever is not needed after all, the dearest first.
	for _, i := range slices.Backward(candidates) {
		if !gone[i] {
			continue
		}
		if delete(gone, i); len(shortages(p, without(others, gone), n)) > 0 {
			gone[i] = true
		}
	}
	var victims []int
	for i := range others {
		if gone[i] {
			victims = append(victims, i)
		}
	}
	return victims, true
}

// cheaper orders pods by how little is lost with them.
func cheaper(a, b Pod) int {
	class := func(p Pod) int {
		switch pod.QOSClass(&p.Spec) {
		case corev1.PodQOSBestEffort:
			return 0
		case corev1.PodQOSBurstable:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(class(a), class(b)), cmp.Compare(a.priority(), b.priority()))
}

func without(all []Pod, gone map[int]bool) []Pod {
	var rest []Pod
	for i, p := range all {
		if !gone[i] {
			rest = append(rest, p)
		}
	}
	return rest
}

// Resize decides whether the node grants a pod the resources that its specification now asks for, beside the others with what
// they have been granted. The rejection's reason is Infeasible if it never can, Deferred if not now.
func Resize(p Pod, others []Pod, n Node) *Rejection {
	for _, s := range shortages(p, nil, n) {
		return &Rejection{corev1.PodReasonInfeasible, fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", s.name, count(s.name, s.want), count(s.name, s.have))}
	}
	for _, s := range shortages(p, others, n) {
		return &Rejection{corev1.PodReasonDeferred, fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
			s.name, count(s.name, s.want), count(s.name, s.used), count(s.name, s.have))}
	}
	return nil
}

// count is a quantity as such messages give it: thousandths of a CPU, units of everything else.
func count(name corev1.ResourceName, q resource.Quantity) int64 {
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

func names(list corev1.ResourceList) []corev1.ResourceName {
	var all []corev1.ResourceName
	for n := range list {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

func native(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage ||
		strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// safeSysctls can be set by any pod: they are namespaced and cannot harm others (the API's documentation of sysctls lists them).
func safeSysctls() []string {
	return []string{
		"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
		"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout",
		"net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
	}
}

// sysctls refuses what is not safe, not allowed by the node's administrator, or would be the host's own.
func sysctls(p Pod, n Node) *Rejection {
	s := p.Spec.SecurityContext
	if s == nil {
		return nil
	}
	for _, c := range s.Sysctls {
		name := strings.ReplaceAll(c.Name, "/", ".")
		switch {
		case strings.HasPrefix(name, "net.") && p.Spec.HostNetwork:
			return forbidden(c.Name, "not allowed with host net enabled")
		case (strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") || strings.HasPrefix(name, "kernel.sem") ||
			strings.HasPrefix(name, "fs.mqueue.")) && p.Spec.HostIPC:
			return forbidden(c.Name, "not allowed with host ipc enabled")
		case !slices.Contains(safeSysctls(), name) && !allowed(name, n.UnsafeSysctls):
			return forbidden(c.Name, "not allowlisted")
		}
	}
	return nil
}

func forbidden(name, why string) *Rejection {
	return &Rejection{"SysctlForbidden", fmt.Sprintf("forbidden sysctl: %q %s", name, why)}
}

func allowed(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, wild := strings.CutSuffix(p, "*")
		return p == name || wild && strings.HasPrefix(name, prefix)
	})
}

// appArmor refuses pods that rely on a protection that the kernel does not give.
func appArmor(p Pod, n Node) *Rejection {
	if n.AppArmor {
		return nil
	}
	relies := func(a *corev1.AppArmorProfile) bool {
		return a != nil && a.Type != corev1.AppArmorProfileTypeUnconfined
	}
	no := &Rejection{"AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
	if s := p.Spec.SecurityContext; s != nil && relies(s.AppArmorProfile) {
		return no
	}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if c.SecurityContext != nil && relies(c.SecurityContext.AppArmorProfile) {
			return no
		}
	}
	return nil
}
