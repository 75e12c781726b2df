// Package admit decides whether a node takes a pod that is bound to it. The scheduler decided on an older view, and another
// scheduler, or a person, may have decided at the same time: what does not fit, or asks for what this node must refuse, fails
// here with the reasons that Kubernetes gives, and its controller makes another.
//
// It is pure: the pod, the other pods of the node and what the node has are given in.
package admit

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	helpers "k8s.io/component-helpers/resource"
)

// Node is what a pod is held against.
type Node struct {
	Allocatable corev1.ResourceList
	// AppArmor says that the kernel enforces AppArmor profiles.
	AppArmor bool
	// UnsafeSysctls are allowed beside the safe ones; a name ending in "*" allows all that begin so.
	UnsafeSysctls []string
}

// Rejection is why a pod is not taken: its status' reason and message.
type Rejection struct{ Reason, Message string }

// Admit returns nil if the node takes the pod beside the others, which must be all that are not terminal.
func Admit(p *corev1.Pod, others []*corev1.Pod, n Node) *Rejection {
	for _, check := range []func(*corev1.Pod, []*corev1.Pod, Node) *Rejection{sysctls, appArmor, fits} {
		if r := check(p, others, n); r != nil {
			r.Message = "Pod was rejected: " + r.Message
			return r
		}
	}
	return nil
}

// fits compares requests with what is left.
func fits(p *corev1.Pod, others []*corev1.Pod, n Node) *Rejection {
	if pods := n.Allocatable.Pods().Value(); pods > 0 && int64(len(others))+1 > pods {
		return short("pods", 1, int64(len(others)), pods)
	}
	want := helpers.PodRequests(p, helpers.PodResourcesOptions{})
	used := corev1.ResourceList{}
	for _, o := range others {
		for name, q := range helpers.PodRequests(o, helpers.PodResourcesOptions{}) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	for _, name := range names(want) {
		have, ok := n.Allocatable[name]
		q, u := want[name], used[name]
		if q.IsZero() || !ok && !native(name) {
			continue // what only a device plug-in could know
		}
		total := u.DeepCopy()
		total.Add(q)
		if total.Cmp(have) > 0 {
			return short(name, count(name, q), count(name, u), count(name, have))
		}
	}
	return nil
}

func short(name corev1.ResourceName, want, used, have int64) *Rejection {
	return &Rejection{"OutOf" + string(name), fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, want, used, have)}
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
func sysctls(p *corev1.Pod, _ []*corev1.Pod, n Node) *Rejection {
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
func appArmor(p *corev1.Pod, _ []*corev1.Pod, n Node) *Rejection {
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
