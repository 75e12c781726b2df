package plan

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	helpers "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// world is the state as the oracle sees it: plain objects in maps, every rule computed from scratch.
type world struct {
	nodes map[string]*corev1.Node
	pods  map[string]*corev1.Pod // with spec.nodeName set
}

// on lists the pods on a node.
func (w *world) on(node string) (out []*corev1.Pod) {
	for _, p := range w.pods {
		if p.Spec.NodeName == node {
			out = append(out, p)
		}
	}
	return out
}

// verdict says which nodes would do, with their scores, and counts the reasons of the others.
func (w *world) verdict(pod *corev1.Pod) (scores map[string]int, reasons map[string]int) {
	reasons, scores = map[string]int{}, map[string]int{}
	var feasible []*corev1.Node
	for _, n := range w.nodes {
		rs := w.reject(pod, n)
		for _, r := range rs {
			reasons[r]++
		}
		if len(rs) == 0 {
			feasible = append(feasible, n)
		}
	}
	for name, s := range w.score(pod, feasible) {
		scores[name] = s
	}
	return scores, reasons
}

func naiveTolerates(pod *corev1.Pod, t corev1.Taint) bool {
	for _, tol := range pod.Spec.Tolerations {
		if tol.Effect != "" && tol.Effect != t.Effect {
			continue
		}
		if tol.Operator == corev1.TolerationOpExists && (tol.Key == "" || tol.Key == t.Key) {
			return true
		}
		if tol.Operator != corev1.TolerationOpExists && tol.Key == t.Key && tol.Value == t.Value {
			return true
		}
	}
	return false
}

func naiveAffinity(pod *corev1.Pod, n *corev1.Node) bool {
	ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(n)
	return ok && err == nil
}

func (w *world) reject(pod *corev1.Pod, n *corev1.Node) []string {
	if n.Spec.Unschedulable && !naiveTolerates(pod, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}) {
		return []string{"node(s) were unschedulable"}
	}
	for _, t := range n.Spec.Taints {
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !naiveTolerates(pod, t) {
			return []string{"node(s) had untolerated taint {" + t.Key + ": " + t.Value + "}"}
		}
	}
	if !naiveAffinity(pod, n) {
		return []string{"node(s) didn't match Pod's node affinity/selector"}
	}
	for _, other := range w.on(n.Name) {
		for _, a := range hostPorts(pod) {
			for _, b := range hostPorts(other) {
				if a.conflicts(b) {
					return []string{"node(s) didn't have free ports for the requested pod ports"}
				}
			}
		}
	}
	if rs := w.misfit(pod, n); len(rs) > 0 {
		return rs
	}
	if r := w.spreadReject(pod, n); r != "" {
		return []string{r}
	}
	if r := w.affinityReject(pod, n); r != "" {
		return []string{r}
	}
	return nil
}

func (w *world) misfit(pod *corev1.Pod, n *corev1.Node) (rs []string) {
	on := w.on(n.Name)
	if int64(len(on)+1) > n.Status.Allocatable.Pods().Value() {
		rs = append(rs, "Too many pods")
	}
	for name, want := range helpers.PodRequests(pod, helpers.PodResourcesOptions{}) {
		if want.IsZero() {
			continue
		}
		free := n.Status.Allocatable[name].DeepCopy()
		for _, p := range on {
			free.Sub(helpers.PodRequests(p, helpers.PodResourcesOptions{})[name])
		}
		if want.Cmp(free) > 0 {
			rs = append(rs, "Insufficient "+string(name))
		}
	}
	return rs
}

func naiveSelects(ls *metav1.LabelSelector, p *corev1.Pod) bool {
	s, err := metav1.LabelSelectorAsSelector(ls)
	if err != nil {
		panic(err)
	}
	return s.Matches(labels.Set(p.Labels))
}

// eligible are the nodes that a spread constraint of a group counts on.
func (w *world) eligible(pod *corev1.Pod, this corev1.TopologySpreadConstraint, group []corev1.TopologySpreadConstraint) (out []*corev1.Node) {
	for _, n := range w.nodes {
		ok := naiveAffinity(pod, n) || (this.NodeAffinityPolicy != nil && *this.NodeAffinityPolicy == corev1.NodeInclusionPolicyIgnore)
		if this.NodeTaintsPolicy != nil && *this.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor {
			for _, taint := range n.Spec.Taints {
				ok = ok && (taint.Effect == corev1.TaintEffectPreferNoSchedule || naiveTolerates(pod, taint))
			}
		}
		for _, tsc := range group {
			_, has := n.Labels[tsc.TopologyKey]
			ok = ok && has
		}
		if ok {
			out = append(out, n)
		}
	}
	return out
}

func (w *world) matching(tsc corev1.TopologySpreadConstraint, pod *corev1.Pod, node string) (count int64) {
	for _, p := range w.on(node) {
		same := true
		for _, key := range tsc.MatchLabelKeys {
			value, has := pod.Labels[key]
			same = same && (!has || p.Labels[key] == value)
		}
		if p.Namespace == pod.Namespace && p.DeletionTimestamp == nil && same && naiveSelects(tsc.LabelSelector, p) {
			count++
		}
	}
	return count
}

func group(pod *corev1.Pod, when corev1.UnsatisfiableConstraintAction) (out []corev1.TopologySpreadConstraint) {
	for _, tsc := range pod.Spec.TopologySpreadConstraints {
		if tsc.WhenUnsatisfiable == when {
			out = append(out, tsc)
		}
	}
	return out
}

func (w *world) spreadReject(pod *corev1.Pod, n *corev1.Node) string {
	hard := group(pod, corev1.DoNotSchedule)
	for _, tsc := range hard {
		value, ok := n.Labels[tsc.TopologyKey]
		if !ok {
			return "node(s) didn't match pod topology spread constraints (missing required label)"
		}
		counts := map[string]int64{}
		for _, e := range w.eligible(pod, tsc, hard) {
			counts[e.Labels[tsc.TopologyKey]] += w.matching(tsc, pod, e.Name)
		}
		least := int64(math.MaxInt64)
		for _, v := range counts {
			least = min(least, v)
		}
		if len(counts) == 0 || (tsc.MinDomains != nil && len(counts) < int(*tsc.MinDomains)) {
			least = 0
		}
		self := int64(0)
		if naiveSelects(tsc.LabelSelector, pod) {
			self = 1
		}
		if counts[value]+self-least > int64(tsc.MaxSkew) {
			return "node(s) didn't match pod topology spread constraints"
		}
	}
	return ""
}

// termMatches tells whether a term of owner matches p.
func termMatches(owner *corev1.Pod, t corev1.PodAffinityTerm, p *corev1.Pod) bool {
	in := len(t.Namespaces) == 0 && t.NamespaceSelector == nil && owner.Namespace == p.Namespace
	for _, ns := range t.Namespaces {
		in = in || ns == p.Namespace
	}
	if t.NamespaceSelector != nil {
		s, err := metav1.LabelSelectorAsSelector(t.NamespaceSelector)
		if err != nil {
			panic(err)
		}
		in = in || s.Matches(labels.Set{"team": p.Namespace}) // as the test labels them
	}
	return in && naiveSelects(t.LabelSelector, p)
}

func required(p *corev1.Pod, anti bool) []corev1.PodAffinityTerm {
	a := p.Spec.Affinity
	switch {
	case a != nil && anti && a.PodAntiAffinity != nil:
		return a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	case a != nil && !anti && a.PodAffinity != nil:
		return a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

func preferred(p *corev1.Pod, anti bool) []corev1.WeightedPodAffinityTerm {
	a := p.Spec.Affinity
	switch {
	case a != nil && anti && a.PodAntiAffinity != nil:
		return a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	case a != nil && !anti && a.PodAffinity != nil:
		return a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

// together tells whether two nodes are in one domain.
func (w *world) together(key, a, b string) bool {
	x, y := w.nodes[a], w.nodes[b]
	if x == nil || y == nil {
		return false
	}
	v, ok := x.Labels[key]
	u, has := y.Labels[key]
	return ok && has && v == u
}

func (w *world) affinityReject(pod *corev1.Pod, n *corev1.Node) string {
	terms := required(pod, false)
	all := func(p *corev1.Pod) bool {
		for _, t := range terms {
			if !termMatches(pod, t, p) {
				return false
			}
		}
		return len(terms) > 0
	}
	exists := false
	for _, p := range w.pods {
		for _, t := range terms {
			exists = exists || (all(p) && w.together(t.TopologyKey, p.Spec.NodeName, p.Spec.NodeName))
		}
	}
	for _, t := range terms {
		_, ok := n.Labels[t.TopologyKey]
		found := false
		for _, p := range w.pods {
			found = found || (all(p) && w.together(t.TopologyKey, p.Spec.NodeName, n.Name))
		}
		if !ok || (!found && !(all(pod) && !exists)) {
			return "node(s) didn't match pod affinity rules"
		}
	}
	for _, t := range required(pod, true) {
		for _, p := range w.pods {
			if termMatches(pod, t, p) && w.together(t.TopologyKey, p.Spec.NodeName, n.Name) {
				return "node(s) didn't match pod anti-affinity rules"
			}
		}
	}
	for _, p := range w.pods {
		for _, t := range required(p, true) {
			if termMatches(p, t, pod) && w.together(t.TopologyKey, p.Spec.NodeName, n.Name) {
				return "node(s) didn't satisfy existing pods anti-affinity rules"
			}
		}
	}
	return ""
}

// score adds up every plugin's normalized score times its weight.
func (w *world) score(pod *corev1.Pod, nodes []*corev1.Node) map[string]int {
	pref, taints, pull := map[string]int64{}, map[string]int64{}, map[string]int64{}
	for _, n := range nodes {
		if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
			terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
			if err != nil {
				panic(err)
			}
			pref[n.Name] = terms.Score(n)
		}
		for _, t := range n.Spec.Taints {
			if t.Effect == corev1.TaintEffectPreferNoSchedule && !naiveTolerates(pod, t) {
				taints[n.Name]++
			}
		}
		pull[n.Name] = w.pull(pod, n.Name)
	}
	spread := w.spreadScore(pod, nodes)
	maxPref, maxTaint := int64(0), int64(0)
	minPull, maxPull := int64(math.MaxInt64), int64(math.MinInt64)
	for _, n := range nodes {
		maxPref, maxTaint = max(maxPref, pref[n.Name]), max(maxTaint, taints[n.Name])
		minPull, maxPull = min(minPull, pull[n.Name]), max(maxPull, pull[n.Name])
	}
	out := map[string]int{}
	for _, n := range nodes {
		score := w.resourceScore(pod, n) + w.imageScore(pod, n) + int64(2)*spread[n.Name] + 300
		if maxPref > 0 {
			score += 2 * (100 * pref[n.Name] / maxPref)
		}
		if maxTaint > 0 {
			score -= 3 * (100 * taints[n.Name] / maxTaint)
		}
		if maxPull > minPull {
			score += 2 * int64(100*float64(pull[n.Name]-minPull)/float64(maxPull-minPull))
		}
		out[n.Name] = int(score)
	}
	return out
}

func (w *world) resourceScore(pod *corev1.Pod, n *corev1.Node) int64 {
	type use struct{ cpu, memory, scoreCPU, scoreMemory int64 }
	var u use
	add := func(p *corev1.Pod) {
		for i := range p.Spec.Containers {
			r := p.Spec.Containers[i].Resources.Requests
			c, hasCPU := r[corev1.ResourceCPU]
			m, hasMemory := r[corev1.ResourceMemory]
			u.cpu, u.memory = u.cpu+c.MilliValue(), u.memory+m.Value()
			if u.scoreCPU += c.MilliValue(); !hasCPU {
				u.scoreCPU += 100
			}
			if u.scoreMemory += m.Value(); !hasMemory {
				u.scoreMemory += 200 << 20
			}
		}
	}
	add(pod)
	wantsNone := u.cpu == 0 && u.memory == 0
	for _, p := range w.on(n.Name) {
		add(p)
	}
	totalCPU, totalMemory := n.Status.Allocatable.Cpu().MilliValue(), n.Status.Allocatable.Memory().Value()
	least := int64(0)
	if u.scoreCPU <= totalCPU {
		least += (totalCPU - u.scoreCPU) * 100 / totalCPU
	}
	if u.scoreMemory <= totalMemory {
		least += (totalMemory - u.scoreMemory) * 100 / totalMemory
	}
	balanced := int64(0)
	if !wantsNone {
		a, b := math.Min(float64(u.cpu)/float64(totalCPU), 1), math.Min(float64(u.memory)/float64(totalMemory), 1)
		balanced = int64((1 - math.Abs(a-b)/2) * 100)
	}
	return least/2 + balanced
}

func (w *world) pull(pod *corev1.Pod, node string) (sum int64) {
	for _, p := range w.pods {
		for sign, anti := range map[int64]bool{1: false, -1: true} {
			for _, t := range preferred(pod, anti) {
				if termMatches(pod, t.PodAffinityTerm, p) && w.together(t.PodAffinityTerm.TopologyKey, p.Spec.NodeName, node) {
					sum += sign * int64(t.Weight)
				}
			}
			for _, t := range preferred(p, anti) {
				if termMatches(p, t.PodAffinityTerm, pod) && w.together(t.PodAffinityTerm.TopologyKey, p.Spec.NodeName, node) {
					sum += sign * int64(t.Weight)
				}
			}
		}
		for _, t := range required(p, false) {
			if termMatches(p, t, pod) && w.together(t.TopologyKey, p.Spec.NodeName, node) {
				sum++
			}
		}
	}
	return sum
}

func (w *world) spreadScore(pod *corev1.Pod, nodes []*corev1.Node) map[string]int64 {
	soft := group(pod, corev1.ScheduleAnyway)
	out := map[string]int64{}
	if len(soft) == 0 {
		return out
	}
	var counted []*corev1.Node
	for _, n := range nodes {
		ok := true
		for _, tsc := range soft {
			_, has := n.Labels[tsc.TopologyKey]
			ok = ok && has
		}
		if ok {
			counted = append(counted, n)
		}
	}
	for _, n := range counted {
		sum := 0.0
		for _, tsc := range soft {
			domains, count := map[string]bool{}, int64(0)
			for _, m := range counted {
				domains[m.Labels[tsc.TopologyKey]] = true
			}
			size := len(domains)
			if tsc.TopologyKey == corev1.LabelHostname {
				size, count = len(counted), w.matching(tsc, pod, n.Name)
			} else {
				for _, e := range w.eligible(pod, tsc, soft) {
					if e.Labels[tsc.TopologyKey] == n.Labels[tsc.TopologyKey] {
						count += w.matching(tsc, pod, e.Name)
					}
				}
			}
			sum += float64(count)*math.Log(float64(size+2)) + float64(tsc.MaxSkew-1)
		}
		out[n.Name] = int64(math.Round(sum))
	}
	least, most := int64(math.MaxInt64), int64(0)
	for _, v := range out {
		least, most = min(least, v), max(most, v)
	}
	for name, v := range out {
		if most == 0 {
			out[name] = 100
		} else {
			out[name] = 100 * (most + least - v) / most
		}
	}
	return out
}

func (w *world) imageScore(pod *corev1.Pod, n *corev1.Node) int64 {
	has := func(n *corev1.Node) int64 {
		for _, image := range n.Status.Images {
			for _, name := range image.Names {
				if name == pod.Spec.Containers[0].Image+":latest" {
					return image.SizeBytes
				}
			}
		}
		return -1
	}
	with := 0
	for _, other := range w.nodes {
		if has(other) >= 0 {
			with++
		}
	}
	sum := int64(0)
	if size := has(n); size >= 0 {
		sum = int64(float64(size) * (float64(with) / float64(len(w.nodes))))
	}
	return 100 * (min(max(sum, 23<<20), 1000<<20) - 23<<20) / (1000<<20 - 23<<20)
}
