package batch

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

// The bounds of jobs.
const (
	maxIndexedParallelism = 100_000
	maxFailedIndexes      = 100_000
	// maxFailedIndexesOfMany bounds failures of jobs with more than 100,000 indexes, whose status must list them.
	maxFailedIndexesOfMany = 10_000
	maxPolicyRules         = 20
	maxExitCodes           = 255
	maxPodConditions       = 20
	maxManagedBy           = 63
	maxIndexesText         = 64 << 10
)

func checkJob(e *check.Errors, j *batchv1.Job) {
	checkGeneratedSelector(e, j)
	checkJobSpec(e, &j.Spec, specPath)
	if s := j.Spec.Selector; s == nil {
		e.Required(specPath.Child("selector"), "")
	} else {
		e.Selector(specPath.Child("selector"), s)
	}
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(labels.Set(j.Spec.Template.Labels)) {
		e.Invalid(specPath.Child("template", "metadata", "labels"), j.Spec.Template.Labels, "`selector` does not match template `labels`")
	}
	if indexed(&j.Spec) && j.Spec.Completions != nil && *j.Spec.Completions > 0 {
		// The last pod's host name is the job's name, a dash and the last index.
		name := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1)
		if msgs := validation.IsDNS1123Label(name); len(msgs) > 0 {
			e.Invalid(field.NewPath("metadata", "name"), j.Name, fmt.Sprintf("will not able to create pod with invalid DNS label: %s", name))
		}
	}
}

func indexed(s *batchv1.JobSpec) bool {
	return s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion
}

func checkGeneratedSelector(e *check.Errors, j *batchv1.Job) {
	if j.Spec.ManualSelector != nil && *j.Spec.ManualSelector || j.Spec.Selector == nil {
		return
	}
	if j.UID == "" {
		e.Required(field.NewPath("metadata", "uid"), "")
	}
	at := specPath.Child("template", "metadata", "labels")
	for _, l := range [][2]string{{legacyUIDLabel, string(j.UID)}, {uidLabel, string(j.UID)}, {legacyNameLabel, j.Name}, {nameLabel, j.Name}} {
		value, set := j.Spec.Template.Labels[l[0]]
		must := fmt.Sprintf("must be '%s'", l[1])
		if !set {
			e.Required(at.Key(l[0]), must)
		} else if value != l[1] {
			e.Invalid(at.Key(l[0]), j.Spec.Template.Labels, must)
		}
	}
	own := labels.Set{legacyUIDLabel: string(j.UID), uidLabel: string(j.UID), legacyNameLabel: j.Name, nameLabel: j.Name}
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(own) {
		e.Invalid(specPath.Child("selector"), j.Spec.Selector, "`selector` not auto-generated")
	}
}

func checkJobSpec(e *check.Errors, s *batchv1.JobSpec, at *field.Path) {
	count := func(name string, n *int32) {
		if n != nil {
			e.NonNegative(at.Child(name), int64(*n))
		}
	}
	count("parallelism", s.Parallelism)
	count("completions", s.Completions)
	if s.ActiveDeadlineSeconds != nil {
		e.NonNegative(at.Child("activeDeadlineSeconds"), *s.ActiveDeadlineSeconds)
	}
	count("backoffLimit", s.BackoffLimit)
	count("ttlSecondsAfterFinished", s.TTLSecondsAfterFinished)
	count("backoffLimitPerIndex", s.BackoffLimitPerIndex)
	count("maxFailedIndexes", s.MaxFailedIndexes)
	if s.MaxFailedIndexes != nil {
		if s.Completions != nil && *s.MaxFailedIndexes > *s.Completions {
			e.Invalid(at.Child("maxFailedIndexes"), *s.MaxFailedIndexes, "must be less than or equal to completions")
		}
		if *s.MaxFailedIndexes > maxFailedIndexes {
			e.Invalid(at.Child("maxFailedIndexes"), *s.MaxFailedIndexes, fmt.Sprintf("must be less than or equal to %d", maxFailedIndexes))
		}
		if s.BackoffLimitPerIndex == nil {
			e.Required(at.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified")
		}
	}
	if s.ManagedBy != nil {
		e.Add(validation.IsDomainPrefixedPath(at.Child("managedBy"), *s.ManagedBy)...)
		if len(*s.ManagedBy) > maxManagedBy {
			e.Add(field.TooLong(at.Child("managedBy"), *s.ManagedBy, maxManagedBy))
		}
	}
	checkCompletionMode(e, s, at)
	if s.PodFailurePolicy != nil {
		checkFailurePolicy(e, s, at.Child("podFailurePolicy"))
	}
	if s.SuccessPolicy != nil {
		checkSuccessPolicy(e, s, at.Child("successPolicy"))
	}
	checkReplacementPolicy(e, s, at.Child("podReplacementPolicy"))
	podspec.ValidateTemplate(e, &s.Template, at.Child("template"))
	checkJobRestartPolicy(e, s, at.Child("template", "spec", "restartPolicy"))
}

// checkJobRestartPolicy: a template that says nothing has been defaulted to Always, so that this is treated as nothing.
func checkJobRestartPolicy(e *check.Errors, s *batchv1.JobSpec, at *field.Path) {
	valid := []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}
	switch p := s.Template.Spec.RestartPolicy; {
	case p == "" || p == corev1.RestartPolicyAlways:
		e.Required(at, fmt.Sprintf("valid values: %q, %q", valid[0], valid[1]))
	case !slices.Contains(valid, p):
		e.Add(field.NotSupported(at, p, valid))
	case s.PodFailurePolicy != nil && p != corev1.RestartPolicyNever:
		e.Invalid(at, p, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever))
	}
}

func checkCompletionMode(e *check.Errors, s *batchv1.JobSpec, at *field.Path) {
	if s.CompletionMode != nil {
		check.Supported(e, at.Child("completionMode"), *s.CompletionMode, batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)
	}
	if !indexed(s) {
		if s.BackoffLimitPerIndex != nil {
			e.Invalid(at.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, "requires indexed completion mode")
		}
		if s.MaxFailedIndexes != nil {
			e.Invalid(at.Child("maxFailedIndexes"), *s.MaxFailedIndexes, "requires indexed completion mode")
		}
		return
	}
	if s.Completions == nil {
		e.Required(at.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion))
	}
	if s.Parallelism != nil && *s.Parallelism > maxIndexedParallelism {
		e.Invalid(at.Child("parallelism"), *s.Parallelism,
			fmt.Sprintf("must be less than or equal to %d when completion mode is %s", maxIndexedParallelism, batchv1.IndexedCompletion))
	}
	if s.Completions == nil || *s.Completions <= maxFailedIndexes || s.BackoffLimitPerIndex == nil {
		return
	}
	if s.MaxFailedIndexes == nil {
		e.Required(at.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", maxFailedIndexes))
	} else if *s.MaxFailedIndexes > maxFailedIndexesOfMany {
		e.Invalid(at.Child("maxFailedIndexes"), *s.MaxFailedIndexes,
			fmt.Sprintf("must be less than or equal to %d when completions are above %d and used with backoff limit per index", maxFailedIndexesOfMany, maxFailedIndexes))
	}
	if s.Parallelism != nil && *s.Parallelism > maxFailedIndexesOfMany {
		e.Invalid(at.Child("parallelism"), *s.Parallelism,
			fmt.Sprintf("must be less than or equal to %d when completions are above %d and used with backoff limit per index", maxFailedIndexesOfMany, maxFailedIndexes))
	}
}

func checkReplacementPolicy(e *check.Errors, s *batchv1.JobSpec, at *field.Path) {
	if s.PodReplacementPolicy == nil {
		return
	}
	if s.PodFailurePolicy != nil {
		check.Supported(e, at, *s.PodReplacementPolicy, batchv1.Failed)
		return
	}
	check.Supported(e, at, *s.PodReplacementPolicy, batchv1.Failed, batchv1.TerminatingOrFailed)
}

func checkFailurePolicy(e *check.Errors, s *batchv1.JobSpec, at *field.Path) {
	rules := at.Child("rules")
	if n := len(s.PodFailurePolicy.Rules); n > maxPolicyRules {
		e.Add(field.TooMany(rules, n, maxPolicyRules))
	}
	for i := range s.PodFailurePolicy.Rules {
		checkFailureRule(e, s, &s.PodFailurePolicy.Rules[i], rules.Index(i))
	}
}

func checkFailureRule(e *check.Errors, s *batchv1.JobSpec, r *batchv1.PodFailurePolicyRule, at *field.Path) {
	actions := []batchv1.PodFailurePolicyAction{
		batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex,
		batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore,
	}
	switch {
	case r.Action == "":
		e.Required(at.Child("action"), fmt.Sprintf("valid values: %q", actions))
	case r.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil:
		e.Invalid(at.Child("action"), r.Action, "requires the backoffLimitPerIndex to be set")
	default:
		check.Supported(e, at.Child("action"), r.Action, actions...)
	}
	if r.OnExitCodes != nil {
		checkExitCodes(e, s, r.OnExitCodes, at.Child("onExitCodes"))
	}
	conditions := at.Child("onPodConditions")
	if len(r.OnPodConditions) > maxPodConditions {
		e.Add(field.TooMany(conditions, len(r.OnPodConditions), maxPodConditions))
	}
	for i, c := range r.OnPodConditions {
		e.QualifiedName(conditions.Index(i).Child("type"), string(c.Type))
		statuses := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
		if c.Status == "" {
			e.Required(conditions.Index(i).Child("status"), fmt.Sprintf("valid values: %q", statuses))
		} else {
			check.Supported(e, conditions.Index(i).Child("status"), c.Status, statuses...)
		}
	}
	switch both := r.OnExitCodes != nil; {
	case both && len(r.OnPodConditions) > 0:
		e.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported")
	case !both && len(r.OnPodConditions) == 0:
		e.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required")
	}
}

func checkExitCodes(e *check.Errors, s *batchv1.JobSpec, r *batchv1.PodFailurePolicyOnExitCodesRequirement, at *field.Path) {
	operators := []batchv1.PodFailurePolicyOnExitCodesOperator{batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}
	if r.Operator == "" {
		e.Required(at.Child("operator"), fmt.Sprintf("valid values: %q", operators))
	} else {
		check.Supported(e, at.Child("operator"), r.Operator, operators...)
	}
	if r.ContainerName != nil {
		known := func(c corev1.Container) bool { return c.Name == *r.ContainerName }
		if !slices.ContainsFunc(s.Template.Spec.Containers, known) && !slices.ContainsFunc(s.Template.Spec.InitContainers, known) {
			e.Invalid(at.Child("containerName"), *r.ContainerName, "must be one of the container or initContainer names in the pod template")
		}
	}
	values := at.Child("values")
	if len(r.Values) == 0 {
		e.Invalid(values, r.Values, "at least one value is required")
	} else if len(r.Values) > maxExitCodes {
		e.Add(field.TooMany(values, len(r.Values), maxExitCodes))
	}
	ordered := true
	for i, v := range r.Values {
		if r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && v == 0 {
			e.Invalid(values.Index(i), v, "must not be 0 for the In operator")
		}
		if slices.Contains(r.Values[:i], v) {
			e.Duplicate(values.Index(i), v)
		}
		ordered = ordered && (i == 0 || r.Values[i-1] <= v)
	}
	if !ordered {
		e.Invalid(values, r.Values, "must be ordered")
	}
}

func checkSuccessPolicy(e *check.Errors, s *batchv1.JobSpec, at *field.Path) {
	if !indexed(s) {
		e.Invalid(at, s.SuccessPolicy, "requires indexed completion mode")
		return
	}
	rules := at.Child("rules")
	if n := len(s.SuccessPolicy.Rules); n == 0 {
		e.Required(rules, "at least one rules must be specified when the successPolicy is specified")
	} else if n > maxPolicyRules {
		e.Add(field.TooMany(rules, n, maxPolicyRules))
	}
	var completions int32
	if s.Completions != nil {
		completions = *s.Completions
	}
	for i, r := range s.SuccessPolicy.Rules {
		checkSuccessRule(e, r, completions, rules.Index(i))
	}
}

func checkSuccessRule(e *check.Errors, r batchv1.SuccessPolicyRule, completions int32, at *field.Path) {
	if r.SucceededCount == nil && r.SucceededIndexes == nil {
		e.Required(at, "at least one of succeededCount or succeededIndexes must be specified")
		return
	}
	total := completions
	if r.SucceededIndexes != nil {
		here := at.Child("succeededIndexes")
		if len(*r.SucceededIndexes) > maxIndexesText {
			e.Add(field.TooLong(here, *r.SucceededIndexes, maxIndexesText))
		}
		n, err := countIndexes(*r.SucceededIndexes, completions)
		if err != nil {
			e.Invalid(here, *r.SucceededIndexes, fmt.Sprintf("error parsing succeededIndexes: %v", err))
			return
		}
		total = n
	}
	if c := r.SucceededCount; c != nil {
		here := at.Child("succeededCount")
		e.NonNegative(here, int64(*c))
		if *c > total {
			what := "the total number of the succeededIndexes"
			if r.SucceededIndexes == nil {
				what = "the number of specified completions"
			}
			e.Invalid(here, *c, fmt.Sprintf("must be less than or equal to %d (%s)", total, what))
		}
	}
}

func checkJobUpdate(e *check.Errors, j, old *batchv1.Job) {
	checkJob(e, j)
	is, was := &j.Spec, &old.Spec
	if !same(is.Completions, was.Completions) {
		// An indexed job may grow and shrink, as long as all indexes run at once.
		if !indexed(is) || is.Completions == nil || was.Completions == nil {
			e.Immutable(specPath.Child("completions"), is.Completions, was.Completions)
		} else if !same(is.Completions, is.Parallelism) {
			e.Invalid(specPath.Child("completions"), is.Completions, fmt.Sprintf("can only be modified in tandem with %s", specPath.Child("parallelism")))
		}
	}
	e.Immutable(specPath.Child("selector"), is.Selector, was.Selector)
	e.Immutable(specPath.Child("completionMode"), is.CompletionMode, was.CompletionMode)
	e.Immutable(specPath.Child("podFailurePolicy"), is.PodFailurePolicy, was.PodFailurePolicy)
	e.Immutable(specPath.Child("backoffLimitPerIndex"), is.BackoffLimitPerIndex, was.BackoffLimitPerIndex)
	e.Immutable(specPath.Child("managedBy"), is.ManagedBy, was.ManagedBy)
	e.Immutable(specPath.Child("successPolicy"), is.SuccessPolicy, was.SuccessPolicy)
	checkTemplateUpdate(e, is, old)
}

// checkTemplateUpdate: what decides where pods go (KEP-2926) and what their containers ask for (KEP-5440) may change while
// a job is suspended and has no pods.
func checkTemplateUpdate(e *check.Errors, is *batchv1.JobSpec, old *batchv1.Job) {
	template, was, at := is.Template.DeepCopy(), &old.Spec.Template, specPath.Child("template")
	suspended := old.Spec.Suspend != nil && *old.Spec.Suspend
	seen := slices.ContainsFunc(old.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Type == batchv1.JobSuspended && c.Status == corev1.ConditionTrue
	})
	if suspended && (seen || old.Status.StartTime == nil) && old.Status.Active == 0 {
		at = at.Child("spec")
		keepDirectives(template, was)
		keepResources(template.Spec.Containers, was.Spec.Containers)
		keepResources(template.Spec.InitContainers, was.Spec.InitContainers)
	}
	if !equality.Semantic.DeepEqual(*template, *was) {
		e.Invalid(at, is.Template, "field is immutable")
	}
}

// keepDirectives gives a template the directives for the scheduler that it had.
func keepDirectives(template, was *corev1.PodTemplateSpec) {
	template.Labels, template.Annotations = was.Labels, was.Annotations
	template.Spec.NodeSelector, template.Spec.Tolerations = was.Spec.NodeSelector, was.Spec.Tolerations
	template.Spec.SchedulingGates = was.Spec.SchedulingGates
	switch {
	case template.Spec.Affinity != nil && was.Spec.Affinity != nil:
		template.Spec.Affinity.NodeAffinity = was.Spec.Affinity.NodeAffinity
	case template.Spec.Affinity != nil && template.Spec.Affinity.PodAffinity == nil && template.Spec.Affinity.PodAntiAffinity == nil:
		template.Spec.Affinity = nil
	case template.Spec.Affinity == nil && was.Spec.Affinity != nil:
		template.Spec.Affinity = &corev1.Affinity{NodeAffinity: was.Spec.Affinity.NodeAffinity}
	}
}

// keepResources gives containers the requests and limits that they had.
func keepResources(containers, were []corev1.Container) {
	if len(containers) != len(were) {
		return
	}
	for i := range containers {
		if containers[i].Name == were[i].Name {
			containers[i].Resources = were[i].Resources
		}
	}
}
