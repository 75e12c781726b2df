package plan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// podMatcher selects pods by namespace and labels.
type podMatcher struct {
	namespaces []string
	// all tells that every namespace is selected, byLabels which beyond those named.
	all      bool
	byLabels labels.Selector
	selector labels.Selector
	known    map[string]labels.Set
}

func (m *podMatcher) matches(pod *corev1.Pod) bool {
	return m.inNamespace(pod.Namespace) && m.selector.Matches(labels.Set(pod.Labels))
}

func (m *podMatcher) inNamespace(ns string) bool {
	if m.all || slices.Contains(m.namespaces, ns) {
		return true
	}
	return m.byLabels != nil && m.byLabels.Matches(m.known[ns])
}

func (m *podMatcher) text() string {
	by := "-"
	if m.byLabels != nil {
		by = m.byLabels.String()
	}
	return fmt.Sprintf("%s %v %s %s", strings.Join(m.namespaces, ","), m.all, by, m.selector)
}

// matcherOf compiles an affinity term of a pod. Keys in matchLabelKeys stand for the pod's own values (KEP-3633).
func (t *topology) matcherOf(pod *corev1.Pod, term *corev1.PodAffinityTerm) (podMatcher, error) {
	m := podMatcher{namespaces: slices.Sorted(slices.Values(term.Namespaces)), known: t.namespaces}
	selector, err := selectorOf(pod, term.LabelSelector, term.MatchLabelKeys, term.MismatchLabelKeys)
	if err != nil {
		return m, err
	}
	m.selector = selector
	if term.NamespaceSelector != nil {
		if m.byLabels, err = metav1.LabelSelectorAsSelector(term.NamespaceSelector); err != nil {
			return m, err
		}
		m.all = m.byLabels.Empty()
	} else if len(m.namespaces) == 0 {
		m.namespaces = []string{pod.Namespace}
	}
	return m, nil
}

// selectorOf compiles a label selector with label keys whose values are the pod's own.
func selectorOf(pod *corev1.Pod, ls *metav1.LabelSelector, match, mismatch []string) (labels.Selector, error) {
	if len(match)+len(mismatch) > 0 && ls != nil {
		ls = ls.DeepCopy()
		for _, list := range []struct {
			keys []string
			op   metav1.LabelSelectorOperator
		}{{match, metav1.LabelSelectorOpIn}, {mismatch, metav1.LabelSelectorOpNotIn}} {
			for _, key := range list.keys {
				if value, ok := pod.Labels[key]; ok {
					ls.MatchExpressions = append(ls.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: list.op, Values: []string{value}})
				}
			}
		}
	}
	return metav1.LabelSelectorAsSelector(ls)
}

// termKind is what a placed pod's term does to a waiting pod that it matches.
type termKind int

const (
	// requiredAnti keeps the waiting pod out of the domain.
	requiredAnti termKind = iota
	// attracts and repels score; the weight is negative for what repels.
	attracts
	repels
)

// hardAffinityWeight is what a placed pod's required affinity term scores for a waiting pod that it matches.
const hardAffinityWeight = 1

// term is an affinity term as carried by placed pods, counted by domain. Equal terms of many pods are one.
type term struct {
	tally
	text    string
	kind    termKind
	weight  int64
	matcher podMatcher
	seq     uint64
}

func (t *term) order() uint64 { return t.seq }

// termsOf returns the terms that a placed pod carries. A term that cannot be parsed says nothing.
func (t *topology) termsOf(c *Cluster, pod *corev1.Pod) []*term {
	a := pod.Spec.Affinity
	if a == nil || (a.PodAffinity == nil && a.PodAntiAffinity == nil) {
		return nil
	}
	var out []*term
	add := func(kind termKind, weight int64, pt *corev1.PodAffinityTerm) {
		m, err := t.matcherOf(pod, pt)
		if err != nil {
			return
		}
		text := fmt.Sprintf("%d %d %s %s", kind, weight, pt.TopologyKey, m.text())
		found := t.terms[text]
		if found == nil {
			t.made++
			found = &term{tally: tally{key: t.key(c, pt.TopologyKey)}, text: text, kind: kind, weight: weight, matcher: m, seq: t.made}
			t.terms[text] = found
			t.termIndex.add(&found.matcher, found)
		}
		out = append(out, found)
	}
	if pa := a.PodAffinity; pa != nil {
		for i := range pa.RequiredDuringSchedulingIgnoredDuringExecution {
			add(attracts, hardAffinityWeight, &pa.RequiredDuringSchedulingIgnoredDuringExecution[i])
		}
		for i := range pa.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &pa.PreferredDuringSchedulingIgnoredDuringExecution[i]
			add(attracts, int64(w.Weight), &w.PodAffinityTerm)
		}
	}
	if pa := a.PodAntiAffinity; pa != nil {
		for i := range pa.RequiredDuringSchedulingIgnoredDuringExecution {
			add(requiredAnti, 0, &pa.RequiredDuringSchedulingIgnoredDuringExecution[i])
		}
		for i := range pa.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &pa.PreferredDuringSchedulingIgnoredDuringExecution[i]
			add(repels, -int64(w.Weight), &w.PodAffinityTerm)
		}
	}
	return out
}
