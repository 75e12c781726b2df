package plan

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// compiled is a pod's own spread constraints and affinity terms, parsed once for all pods of the same text.
type compiled struct {
	spread []spreadConstraint
	// affinity must all match one and the same pod; joint is the text of them together.
	affinity []affinityTerm
	joint    []podMatcher
	anti     []affinityTerm
	// preferred terms, with negative weight for anti-affinity.
	preferred []weightedTerm
}

// spreadConstraint is one topologySpreadConstraint.
type spreadConstraint struct {
	key         int32
	hard        bool
	maxSkew     int64
	minDomains  int
	matcher     podMatcher
	text        string
	anyAffinity bool
	honorTaints bool
	hostname    bool
}

// affinityTerm is one required term.
type affinityTerm struct {
	key     int32
	matcher podMatcher
	text    string
}

// weightedTerm is one preferred term.
type weightedTerm struct {
	affinityTerm
	weight int64
}

// maxCompiled bounds the parsed constraints that are kept; all are dropped beyond it.
const maxCompiled = 4096

// compile parses what the pod says about other pods; nil if it says nothing.
func (t *topology) compile(c *Cluster, pod *corev1.Pod) (*compiled, error) {
	text := constraintText(pod)
	if text == "" {
		return nil, nil
	}
	if k := t.compiled[text]; k != nil {
		return k, nil
	}
	k := &compiled{}
	for i := range pod.Spec.TopologySpreadConstraints {
		s, err := t.compileSpread(c, pod, &pod.Spec.TopologySpreadConstraints[i])
		if err != nil {
			return nil, fmt.Errorf("topology spread constraint %d: %w", i, err)
		}
		k.spread = append(k.spread, s)
	}
	if a := pod.Spec.Affinity; a != nil {
		if err := t.compileAffinity(c, pod, a, k); err != nil {
			return nil, err
		}
	}
	if len(t.compiled) >= maxCompiled {
		clear(t.compiled)
	}
	t.compiled[text] = k
	return k, nil
}

// constraintText spells the constraints and what else of the pod they mean.
func constraintText(pod *corev1.Pod) string {
	var b strings.Builder
	labelKeys := map[string]bool{}
	for i := range pod.Spec.TopologySpreadConstraints {
		tsc := &pod.Spec.TopologySpreadConstraints[i]
		b.WriteString(mustMarshal(tsc))
		b.WriteByte('|')
		for _, key := range tsc.MatchLabelKeys {
			labelKeys[key] = true
		}
	}
	if a := pod.Spec.Affinity; a != nil {
		if a.PodAffinity != nil {
			b.WriteString("+" + mustMarshal(a.PodAffinity))
		}
		if a.PodAntiAffinity != nil {
			b.WriteString("-" + mustMarshal(a.PodAntiAffinity))
		}
		for _, pt := range affinityTerms(a) {
			for _, key := range append(pt.MatchLabelKeys, pt.MismatchLabelKeys...) {
				labelKeys[key] = true
			}
		}
	}
	if b.Len() == 0 {
		return ""
	}
	b.WriteString("@" + pod.Namespace)
	if len(labelKeys) > 0 {
		for key, value := range pod.Labels {
			if labelKeys[key] {
				fmt.Fprintf(&b, "|%q=%q", key, value) // several keys in either order only cost a second compilation
			}
		}
	}
	return b.String()
}

// affinityTerms lists all terms of both kinds.
func affinityTerms(a *corev1.Affinity) []*corev1.PodAffinityTerm {
	var out []*corev1.PodAffinityTerm
	if pa := a.PodAffinity; pa != nil {
		for i := range pa.RequiredDuringSchedulingIgnoredDuringExecution {
			out = append(out, &pa.RequiredDuringSchedulingIgnoredDuringExecution[i])
		}
		for i := range pa.PreferredDuringSchedulingIgnoredDuringExecution {
			out = append(out, &pa.PreferredDuringSchedulingIgnoredDuringExecution[i].PodAffinityTerm)
		}
	}
	if pa := a.PodAntiAffinity; pa != nil {
		for i := range pa.RequiredDuringSchedulingIgnoredDuringExecution {
			out = append(out, &pa.RequiredDuringSchedulingIgnoredDuringExecution[i])
		}
		for i := range pa.PreferredDuringSchedulingIgnoredDuringExecution {
			out = append(out, &pa.PreferredDuringSchedulingIgnoredDuringExecution[i].PodAffinityTerm)
		}
	}
	return out
}

func (t *topology) compileSpread(c *Cluster, pod *corev1.Pod, tsc *corev1.TopologySpreadConstraint) (spreadConstraint, error) {
	selector, err := selectorOf(pod, tsc.LabelSelector, tsc.MatchLabelKeys, nil)
	if err != nil {
		return spreadConstraint{}, err
	}
	s := spreadConstraint{
		key: t.key(c, tsc.TopologyKey), hard: tsc.WhenUnsatisfiable != corev1.ScheduleAnyway, maxSkew: int64(tsc.MaxSkew), minDomains: 1,
		matcher: podMatcher{namespaces: []string{pod.Namespace}, selector: selector}, hostname: tsc.TopologyKey == corev1.LabelHostname,
	}
	if tsc.MinDomains != nil {
		s.minDomains = int(*tsc.MinDomains)
	}
	s.anyAffinity = tsc.NodeAffinityPolicy != nil && *tsc.NodeAffinityPolicy == corev1.NodeInclusionPolicyIgnore
	s.honorTaints = tsc.NodeTaintsPolicy != nil && *tsc.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
	s.text = "spread " + tsc.TopologyKey + " " + s.matcher.text()
	return s, nil
}

func (t *topology) compileAffinity(c *Cluster, pod *corev1.Pod, a *corev1.Affinity, k *compiled) error {
	one := func(pt *corev1.PodAffinityTerm) (affinityTerm, error) {
		m, err := t.matcherOf(pod, pt)
		if err != nil {
			return affinityTerm{}, fmt.Errorf("pod affinity term: %w", err)
		}
		return affinityTerm{t.key(c, pt.TopologyKey), m, pt.TopologyKey + " " + m.text()}, nil
	}
	if pa := a.PodAffinity; pa != nil {
		joint := ""
		for i := range pa.RequiredDuringSchedulingIgnoredDuringExecution {
			term, err := one(&pa.RequiredDuringSchedulingIgnoredDuringExecution[i])
			if err != nil {
				return err
			}
			k.affinity, k.joint = append(k.affinity, term), append(k.joint, term.matcher)
			joint += " & " + term.matcher.text()
		}
		for i := range k.affinity {
			k.affinity[i].text = fmt.Sprintf("joint %d%s", k.affinity[i].key, joint)
		}
		for i := range pa.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &pa.PreferredDuringSchedulingIgnoredDuringExecution[i]
			term, err := one(&w.PodAffinityTerm)
			if err != nil {
				return err
			}
			k.preferred = append(k.preferred, weightedTerm{term, int64(w.Weight)})
		}
	}
	if pa := a.PodAntiAffinity; pa != nil {
		for i := range pa.RequiredDuringSchedulingIgnoredDuringExecution {
			term, err := one(&pa.RequiredDuringSchedulingIgnoredDuringExecution[i])
			if err != nil {
				return err
			}
			k.anti = append(k.anti, term)
		}
		for i := range pa.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &pa.PreferredDuringSchedulingIgnoredDuringExecution[i]
			term, err := one(&w.PodAffinityTerm)
			if err != nil {
				return err
			}
			k.preferred = append(k.preferred, weightedTerm{term, -int64(w.Weight)})
		}
	}
	return nil
}
