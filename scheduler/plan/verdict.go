package plan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/scheduler/devices"
)

// Plugin is a set of kube-scheduler's filter plugins.
type Plugin uint32

// The plugins, in the order in which they filter: the first that rejects a node gives the reason.
const (
	NodeUnschedulable Plugin = 1 << iota
	TaintToleration
	NodeAffinity
	NodePorts
	NodeResourcesFit
	VolumeRestrictions
	NodeVolumeLimits
	VolumeBinding
	VolumeZone
	PodTopologySpread
	InterPodAffinity
	DynamicResources
)

// String lists the plugins by name.
func (p Plugin) String() string {
	var out []string
	for i, name := range []string{
		"NodeUnschedulable", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit", "VolumeRestrictions", "NodeVolumeLimits",
		"VolumeBinding", "VolumeZone", "PodTopologySpread", "InterPodAffinity", "DynamicResources",
	} {
		if p&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, ",")
}

// verdict is why a node was rejected.
type verdict struct {
	plugin  Plugin
	reasons []string
	// resolvable tells that removing pods from the node might help.
	resolvable bool
}

// verdictID numbers verdicts; feasible is none.
type verdictID int32

// The verdicts that say the same of every node; others are numbered after them as they are met.
const (
	feasible verdictID = iota
	unschedulable
	affinityMismatch
	portsTaken
	volumesRefused
	volumeInUse
	volumeLimit
	volumeMissing
	volumeAffinity
	volumeNone
	volumeZone
	spreadMissingLabel
	spreadSkew
	podAffinity
	podAntiAffinity
	keptOut
	claimElsewhere
	claimUnmet
	claimTimeout
	firstOther
)

// verdictTable numbers verdicts, so that rankings can count them in arrays.
type verdictTable struct {
	list   []verdict
	taints map[taintName]verdictID
	fits   map[misfit]verdictID
}

// taintName is what the reason of an untolerated taint names.
type taintName struct{ key, value string }

// misfit is what a node has too little of: resources as a set of their numbers, the last bit standing for all from the 63rd on.
type misfit struct {
	resources  uint64
	pods       bool
	resolvable bool
}

func newVerdictTable() *verdictTable {
	t := &verdictTable{list: make([]verdict, firstOther), taints: map[taintName]verdictID{}, fits: map[misfit]verdictID{}}
	for id, v := range map[verdictID]verdict{
		unschedulable:      {NodeUnschedulable, []string{"node(s) were unschedulable"}, false},
		affinityMismatch:   {NodeAffinity, []string{"node(s) didn't match Pod's node affinity/selector"}, false},
		portsTaken:         {NodePorts, []string{"node(s) didn't have free ports for the requested pod ports"}, true},
		volumesRefused:     {VolumeBinding, nil, false},
		volumeInUse:        {VolumeRestrictions, []string{"node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"}, true},
		volumeLimit:        {NodeVolumeLimits, []string{"node(s) exceed max volume count"}, true},
		volumeMissing:      {VolumeBinding, []string{"node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"}, false},
		volumeAffinity:     {VolumeBinding, []string{"node(s) didn't match PersistentVolume's node affinity"}, false},
		volumeNone:         {VolumeBinding, []string{"node(s) didn't find available persistent volumes to bind"}, false},
		volumeZone:         {VolumeZone, []string{"node(s) had no available volume zone"}, false},
		spreadMissingLabel: {PodTopologySpread, []string{"node(s) didn't match pod topology spread constraints (missing required label)"}, false},
		spreadSkew:         {PodTopologySpread, []string{"node(s) didn't match pod topology spread constraints"}, true},
		podAffinity:        {InterPodAffinity, []string{"node(s) didn't match pod affinity rules"}, false},
		podAntiAffinity:    {InterPodAffinity, []string{"node(s) didn't match pod anti-affinity rules"}, true},
		keptOut:            {InterPodAffinity, []string{"node(s) didn't satisfy existing pods anti-affinity rules"}, true},
		claimElsewhere:     {DynamicResources, []string{devices.NotAvailable}, false},
		claimUnmet:         {DynamicResources, []string{devices.CannotAllocate}, false},
		claimTimeout:       {DynamicResources, []string{devices.TimedOut}, false},
	} {
		t.list[id] = v
	}
	return t
}

func (t *verdictTable) add(v verdict) verdictID {
	t.list = append(t.list, v)
	return verdictID(len(t.list) - 1)
}

// taint is the verdict on an untolerated taint.
func (t *verdictTable) taint(key, value string) verdictID {
	id, ok := t.taints[taintName{key, value}]
	if !ok {
		id = t.add(verdict{TaintToleration, []string{"node(s) had untolerated taint {" + key + ": " + value + "}"}, false})
		t.taints[taintName{key, value}] = id
	}
	return id
}

// misfit is the verdict on a node with too little of something.
func (t *verdictTable) misfit(m misfit, names []corev1.ResourceName) verdictID {
	id, ok := t.fits[m]
	if !ok {
		v := verdict{plugin: NodeResourcesFit, resolvable: m.resolvable}
		if m.pods {
			v.reasons = append(v.reasons, "Too many pods")
		}
		for r := range min(len(names), maxMisfit+1) {
			if m.resources&(1<<r) != 0 {
				v.reasons = append(v.reasons, "Insufficient "+string(names[r]))
			}
		}
		id = t.add(v)
		t.fits[m] = id
	}
	return id
}

// maxMisfit is the last resource number that a reason tells apart.
const maxMisfit = 63

// Unschedulable explains why no node would do.
type Unschedulable struct {
	// Nodes is how many there are.
	Nodes int
	// Pod is why no node whatever would do; empty if the reasons are the nodes'.
	Pod string
	// Reasons counts nodes by reason; a node may have several.
	Reasons map[string]int
	// Plugins are those that rejected nodes.
	Plugins Plugin
	// Preemption says what came of looking for pods to preempt; empty if it was not tried.
	Preemption string
}

// String is the explanation in kube-scheduler's words.
func (u *Unschedulable) String() string {
	if u.Nodes == 0 {
		return "no nodes available to schedule pods"
	}
	reasons := u.Pod
	if reasons == "" {
		reasons = histogram(u.Reasons)
	}
	text := fmt.Sprintf("0/%d nodes are available: %s.", u.Nodes, reasons)
	if u.Preemption != "" {
		text += " preemption: " + u.Preemption
	}
	return text
}

// histogram joins "count reason" pairs in lexical order.
func histogram(reasons map[string]int) string {
	parts := make([]string, 0, len(reasons))
	for reason, n := range reasons {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// count adds n nodes with a verdict.
func (u *Unschedulable) count(v verdict, n int) {
	if n == 0 {
		return
	}
	u.Plugins |= v.plugin
	for _, reason := range v.reasons {
		u.Reasons[reason] += n
	}
}
