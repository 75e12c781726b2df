package podspec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// ValidateTolerations checks a list of tolerations.
func ValidateTolerations(e *check.Errors, tolerations []corev1.Toleration, at *field.Path) {
	for i, t := range tolerations {
		here := at.Index(i)
		if t.Key != "" {
			e.LabelName(here.Child("key"), t.Key)
		} else if t.Operator != corev1.TolerationOpExists {
			e.Invalid(here.Child("operator"), t.Operator,
				"operator must be Exists when `key` is empty, which means \"match all values and all keys\"")
		}
		if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
			e.Invalid(here.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
		}
		validateTolerationValue(e, t, here)
		if t.Effect != "" {
			ValidateTaintEffect(e, t.Effect, here.Child("effect"))
		}
	}
}

func validateTolerationValue(e *check.Errors, t corev1.Toleration, at *field.Path) {
	switch t.Operator {
	case corev1.TolerationOpEqual, "":
		if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
			e.Invalid(at.Child("operator"), t.Value, strings.Join(msgs, ";"))
		}
	case corev1.TolerationOpExists:
		if t.Value != "" {
			e.Invalid(at.Child("operator"), t.Value, "value must be empty when `operator` is 'Exists'")
		}
	case corev1.TolerationOpLt, corev1.TolerationOpGt:
		n, err := strconv.ParseInt(t.Value, 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != t.Value {
			e.Invalid(at.Child("value"), t.Value, "must be a valid integer for numeric operators")
		}
	default:
		e.Add(field.NotSupported(at.Child("operator"), t.Operator,
			[]corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists, corev1.TolerationOpLt, corev1.TolerationOpGt}))
	}
}

// ValidateTaintEffect requires one of the effects.
func ValidateTaintEffect(e *check.Errors, effect corev1.TaintEffect, at *field.Path) {
	check.OneOf(e, at, effect, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)
}

func (s *scope) checkAffinity(at *field.Path) {
	a := s.spec.Affinity
	if a == nil {
		return
	}
	const required, preferred = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
	if n := a.NodeAffinity; n != nil {
		here := at.Child("nodeAffinity")
		if n.RequiredDuringSchedulingIgnoredDuringExecution != nil {
			ValidateNodeSelector(s.Errors, n.RequiredDuringSchedulingIgnoredDuringExecution, here.Child(required))
		}
		for i, term := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			s.checkWeight(term.Weight, here.Child(preferred).Index(i))
			validateNodeSelectorTerm(s.Errors, term.Preference, false, here.Child(preferred).Index(i).Child("preference"))
		}
	}
	if p := a.PodAffinity; p != nil {
		s.checkPodTerms(p.RequiredDuringSchedulingIgnoredDuringExecution, at.Child("podAffinity", required))
		s.checkWeightedPodTerms(p.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAffinity", preferred))
	}
	if p := a.PodAntiAffinity; p != nil {
		s.checkPodTerms(p.RequiredDuringSchedulingIgnoredDuringExecution, at.Child("podAntiAffinity", required))
		s.checkWeightedPodTerms(p.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAntiAffinity", preferred))
	}
}

func (s *scope) checkWeight(weight int32, at *field.Path) {
	if weight <= 0 || weight > 100 {
		s.Invalid(at.Child("weight"), weight, "must be in the range 1-100")
	}
}

func (s *scope) checkPodTerms(terms []corev1.PodAffinityTerm, at *field.Path) {
	for i, term := range terms {
		s.checkPodTerm(term, at.Index(i))
	}
}

func (s *scope) checkWeightedPodTerms(terms []corev1.WeightedPodAffinityTerm, at *field.Path) {
	for i, term := range terms {
		s.checkWeight(term.Weight, at.Index(i))
		s.checkPodTerm(term.PodAffinityTerm, at.Index(i).Child("podAffinityTerm"))
	}
}

func (s *scope) checkPodTerm(t corev1.PodAffinityTerm, at *field.Path) {
	s.Selector(at.Child("labelSelector"), t.LabelSelector)
	s.Selector(at.Child("namespaceSelector"), t.NamespaceSelector)
	for _, ns := range t.Namespaces {
		s.Name(at.Child("namespace"), ns, apivalidation.ValidateNamespaceName)
	}
	s.checkMatchLabelKeys(t, at)
	if t.TopologyKey == "" {
		s.Required(at.Child("topologyKey"), "can not be empty")
	}
	s.LabelName(at.Child("topologyKey"), t.TopologyKey)
}

func (s *scope) checkMatchLabelKeys(t corev1.PodAffinityTerm, at *field.Path) {
	keys := func(keys []string, at *field.Path) {
		if len(keys) > 0 && t.LabelSelector == nil {
			s.Forbidden(at, "must not be specified when labelSelector is not set")
			return
		}
		for i, key := range keys {
			s.LabelName(at.Index(i), key)
		}
	}
	keys(t.MatchLabelKeys, at.Child("matchLabelKeys"))
	keys(t.MismatchLabelKeys, at.Child("mismatchLabelKeys"))
	if t.LabelSelector != nil {
		// The selector already holds one requirement per key that was merged in on creation; a second one is the user's.
		seen := sets.KeySet(t.LabelSelector.MatchLabels)
		for _, expr := range t.LabelSelector.MatchExpressions {
			if i := slices.Index(t.MatchLabelKeys, expr.Key); i >= 0 && seen.Has(expr.Key) {
				s.Invalid(at.Index(i), expr.Key, "exists in both matchLabelKeys and labelSelector")
			}
			seen.Insert(expr.Key)
		}
	}
	for i, key := range t.MatchLabelKeys {
		if slices.Contains(t.MismatchLabelKeys, key) {
			s.Invalid(at.Child("matchLabelKeys").Index(i), key, "exists in both matchLabelKeys and mismatchLabelKeys")
		}
	}
}

// ValidateNodeSelector checks a required node selector.
func ValidateNodeSelector(e *check.Errors, n *corev1.NodeSelector, at *field.Path) {
	terms := at.Child("nodeSelectorTerms")
	if len(n.NodeSelectorTerms) == 0 {
		e.Required(terms, "must have at least one node selector term")
	}
	for i, term := range n.NodeSelectorTerms {
		validateNodeSelectorTerm(e, term, true, terms.Index(i))
	}
}

func validateNodeSelectorTerm(e *check.Errors, t corev1.NodeSelectorTerm, checkValues bool, at *field.Path) {
	for i, r := range t.MatchExpressions {
		here := at.Child("matchExpressions").Index(i)
		validateNodeSelectorRequirement(e, r, here)
		if checkValues {
			for j, value := range r.Values {
				e.Each(here.Child("values").Index(j), value, validation.IsValidLabelValue(value))
			}
		}
	}
	for i, r := range t.MatchFields {
		validateNodeFieldRequirement(e, r, at.Child("matchFields").Index(i))
	}
}

func validateNodeSelectorRequirement(e *check.Errors, r corev1.NodeSelectorRequirement, at *field.Path) {
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) == 0 {
			e.Required(at.Child("values"), "must be specified when `operator` is 'In' or 'NotIn'")
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			e.Forbidden(at.Child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(r.Values) != 1 {
			e.Required(at.Child("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'")
		}
	default:
		e.Invalid(at.Child("operator"), r.Operator, "not a valid selector operator")
	}
	e.LabelName(at.Child("key"), r.Key)
}

func validateNodeFieldRequirement(e *check.Errors, r corev1.NodeSelectorRequirement, at *field.Path) {
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) != 1 {
			e.Required(at.Child("values"), "must be only one value when `operator` is 'In' or 'NotIn' for node field selector")
		}
	default:
		e.Invalid(at.Child("operator"), r.Operator, "not a valid selector operator")
	}
	if r.Key != metav1.ObjectNameField {
		e.Invalid(at.Child("key"), r.Key, "not a valid field selector key")
		return
	}
	for i, value := range r.Values {
		e.Name(at.Child("values").Index(i), value, apivalidation.NameIsDNSSubdomain)
	}
}

func (s *scope) checkTopologySpread(at *field.Path) {
	all := s.spec.TopologySpreadConstraints
	for i, c := range all {
		here := at.Index(i)
		if c.MaxSkew <= 0 {
			s.Invalid(here.Child("maxSkew"), c.MaxSkew, check.NotPositive)
		}
		if c.TopologyKey == "" {
			s.Required(here.Child("topologyKey"), "can not be empty")
		}
		check.Supported(s.Errors, here.Child("whenUnsatisfiable"), c.WhenUnsatisfiable, corev1.DoNotSchedule, corev1.ScheduleAnyway)
		for _, later := range all[i+1:] {
			if later.TopologyKey == c.TopologyKey && later.WhenUnsatisfiable == c.WhenUnsatisfiable {
				s.Duplicate(here.Child("{topologyKey, whenUnsatisfiable}"), fmt.Sprintf("{%v, %v}", c.TopologyKey, c.WhenUnsatisfiable))
				break
			}
		}
		s.checkMinDomains(c, here.Child("minDomains"))
		s.checkInclusionPolicy(c.NodeAffinityPolicy, here.Child("nodeAffinityPolicy"))
		s.checkInclusionPolicy(c.NodeTaintsPolicy, here.Child("nodeTaintsPolicy"))
		s.checkSpreadLabelKeys(c, here.Child("matchLabelKeys"))
		s.Selector(here.Child("labelSelector"), c.LabelSelector)
	}
}

func (s *scope) checkMinDomains(c corev1.TopologySpreadConstraint, at *field.Path) {
	if c.MinDomains == nil {
		return
	}
	if *c.MinDomains <= 0 {
		s.Invalid(at, *c.MinDomains, check.NotPositive)
	}
	if c.WhenUnsatisfiable != corev1.DoNotSchedule {
		s.Invalid(at, *c.MinDomains, fmt.Sprintf("can only use minDomains if whenUnsatisfiable=%s, not %s", corev1.DoNotSchedule, c.WhenUnsatisfiable))
	}
}

func (s *scope) checkInclusionPolicy(p *corev1.NodeInclusionPolicy, at *field.Path) {
	if p != nil {
		check.Supported(s.Errors, at, *p, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
	}
}

func (s *scope) checkSpreadLabelKeys(c corev1.TopologySpreadConstraint, at *field.Path) {
	if len(c.MatchLabelKeys) == 0 {
		return
	}
	if c.LabelSelector == nil {
		s.Forbidden(at, "must not be specified when labelSelector is not set")
	}
	for i, key := range c.MatchLabelKeys {
		s.LabelName(at.Index(i), key)
		if c.LabelSelector != nil && selectedTwice(c.LabelSelector, key) {
			s.Invalid(at.Index(i), key, "exists in both matchLabelKeys and labelSelector")
		}
	}
}

// selectedTwice reports whether a selector asks for a label more than once: the first time may be what was merged in when
// the pod was created.
func selectedTwice(s *metav1.LabelSelector, key string) bool {
	n := 0
	if _, set := s.MatchLabels[key]; set {
		n++
	}
	for _, expr := range s.MatchExpressions {
		if expr.Key == key {
			n++
		}
	}
	return n > 1
}
