package core

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

var (
	specPath        = field.NewPath("spec")
	annotationsPath = field.NewPath("metadata", "annotations")
)

// checkPod is what holds for pods at every moment.
func checkPod(e *check.Errors, p *corev1.Pod) {
	podspec.ValidateAnnotations(e, p.Annotations, &p.Spec, annotationsPath)
	podspec.ValidateSpec(e, &p.Spec, &p.ObjectMeta, specPath)
	if p.Spec.ServiceAccountName == "" {
		for i, v := range p.Spec.Volumes {
			if v.Projected == nil {
				continue
			}
			for j, src := range v.Projected.Sources {
				if src.ServiceAccountToken != nil {
					e.Forbidden(specPath.Child("volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken"),
						"must not be specified when serviceAccountName is not set")
				}
			}
		}
	}
	podspec.ValidatePodImages(e, &p.Spec, specPath)
}

func checkPodCreate(e *check.Errors, p *corev1.Pod) {
	checkPod(e, p)
	if len(p.Spec.EphemeralContainers) > 0 {
		e.Forbidden(specPath.Child("ephemeralContainers"), "cannot be set on create")
	}
	if p.Spec.NodeName != "" && len(p.Spec.SchedulingGates) != 0 {
		e.Forbidden(specPath.Child("nodeName"), "cannot be set until all schedulingGates have been cleared")
	}
	podspec.ValidateProfiles(e, p.Annotations, &p.Spec, specPath)
}

const updatableFields = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

func checkPodUpdate(e *check.Errors, p, old *corev1.Pod) {
	checkPod(e, p)
	checkAnnotationUpdate(e, p, old)
	if !checkSameContainers(e, p.Spec.Containers, old.Spec.Containers, specPath.Child("containers")) ||
		!checkSameContainers(e, p.Spec.InitContainers, old.Spec.InitContainers, specPath.Child("initContainers")) {
		return
	}
	if !checkDeadlineUpdate(e, p, old) {
		return
	}
	checkTolerationsUpdate(e, p.Spec.Tolerations, old.Spec.Tolerations)
	for i, g := range p.Spec.SchedulingGates {
		if !slices.Contains(old.Spec.SchedulingGates, g) {
			e.Forbidden(specPath.Child("schedulingGates").Index(i).Child("name"),
				fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", g.Name))
		}
	}
	if equality.Semantic.DeepEqual(p.Spec, old.Spec) {
		return
	}
	rest := *p.Spec.DeepCopy()
	forgive(&rest, &old.Spec)
	if len(old.Spec.SchedulingGates) > 0 {
		checkGatedUpdate(e, &rest, &old.Spec)
	}
	if !equality.Semantic.DeepEqual(rest, old.Spec) {
		e.Forbidden(specPath, fmt.Sprintf("pod updates may not change fields other than %s\n%v", updatableFields, diff.Diff(old.Spec, rest)))
	}
}

// forgive undoes in spec the changes that have been checked on their own.
func forgive(spec, old *corev1.PodSpec) {
	for i := range spec.Containers {
		spec.Containers[i].Image = old.Containers[i].Image
	}
	for i := range spec.InitContainers {
		spec.InitContainers[i].Image = old.InitContainers[i].Image
	}
	spec.ActiveDeadlineSeconds = old.ActiveDeadlineSeconds
	spec.SchedulingGates = old.SchedulingGates
	spec.Tolerations = old.Tolerations
	if was, is := old.TerminationGracePeriodSeconds, spec.TerminationGracePeriodSeconds; was != nil && *was < 0 && is != nil && *is == 1 {
		spec.TerminationGracePeriodSeconds = was
	}
}

func checkSameContainers(e *check.Errors, is, was []corev1.Container, at *field.Path) bool {
	if len(is) != len(was) {
		e.Forbidden(at, "pod updates may not add or remove containers")
		return false
	}
	for i, c := range is {
		e.Present(at.Index(i).Child("image"), c.Image)
		if strings.TrimSpace(c.Image) != c.Image {
			e.Invalid(at.Index(i).Child("image"), c.Image, "must not have leading or trailing whitespace")
		}
	}
	return true
}

// checkDeadlineUpdate: a deadline may be set and brought forward. It reports whether to look further.
func checkDeadlineUpdate(e *check.Errors, p, old *corev1.Pod) bool {
	at := specPath.Child("activeDeadlineSeconds")
	is, was := p.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds
	switch {
	case is == nil && was != nil:
		e.Invalid(at, is, "must not update from a positive integer to nil value")
	case is != nil && (*is < 0 || *is > math.MaxInt32):
		e.Invalid(at, *is, validation.InclusiveRangeError(0, math.MaxInt32))
		return false
	case is != nil && was != nil && *was < *is:
		e.Invalid(at, *is, "must be less than or equal to previous value")
		return false
	}
	return true
}

func checkTolerationsUpdate(e *check.Errors, is, was []corev1.Toleration) {
	at := specPath.Child("tolerations")
	for _, w := range was {
		kept := slices.ContainsFunc(is, func(t corev1.Toleration) bool {
			t.TolerationSeconds = w.TolerationSeconds
			return reflect.DeepEqual(t, w)
		})
		if !kept {
			e.Forbidden(at, "existing toleration can not be modified except its tolerationSeconds")
			return
		}
	}
	podspec.ValidateTolerations(e, is, at)
}

// checkGatedUpdate allows what narrows the nodes of a pod that is not yet offered to the scheduler, and undoes it in spec.
func checkGatedUpdate(e *check.Errors, spec, old *corev1.PodSpec) {
	for key, value := range old.NodeSelector {
		if is, set := spec.NodeSelector[key]; !set || is != value {
			e.Invalid(specPath.Child("nodeSelector"), spec.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)")
			break
		}
	}
	spec.NodeSelector = old.NodeSelector
	is, was := nodeAffinity(spec), nodeAffinity(old)
	if equality.Semantic.DeepEqual(is, was) {
		return
	}
	checkNodeAffinityNarrowed(e, is, was)
	switch {
	case spec.Affinity == nil:
		spec.Affinity = &corev1.Affinity{NodeAffinity: was}
	case old.Affinity == nil && spec.Affinity.PodAffinity == nil && spec.Affinity.PodAntiAffinity == nil:
		spec.Affinity = nil
	default:
		spec.Affinity.NodeAffinity = was
	}
}

func nodeAffinity(s *corev1.PodSpec) *corev1.NodeAffinity {
	if s.Affinity == nil {
		return nil
	}
	return s.Affinity.NodeAffinity
}

func checkNodeAffinityNarrowed(e *check.Errors, is, was *corev1.NodeAffinity) {
	terms := func(a *corev1.NodeAffinity) []corev1.NodeSelectorTerm {
		if a == nil || a.RequiredDuringSchedulingIgnoredDuringExecution == nil {
			return nil
		}
		return a.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	at := specPath.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	now, before := terms(is), terms(was)
	if len(before) == 0 {
		return
	}
	if len(now) != len(before) {
		e.Invalid(at, now, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")
		return
	}
	for i, b := range before {
		if !extends(now[i].MatchExpressions, b.MatchExpressions) || !extends(now[i].MatchFields, b.MatchFields) ||
			len(b.MatchExpressions)+len(b.MatchFields) == 0 && len(now[i].MatchExpressions)+len(now[i].MatchFields) > 0 {
			e.Invalid(at.Index(i), now[i], "only additions are allowed (no mutations or deletions)")
		}
	}
}

func extends(is, was []corev1.NodeSelectorRequirement) bool {
	return len(is) >= len(was) && equality.Semantic.DeepEqual(is[:len(was)], was)
}

func checkAnnotationUpdate(e *check.Errors, p, old *corev1.Pod) {
	const appArmor = corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix
	for key, value := range old.Annotations {
		if is, set := p.Annotations[key]; set && is == value {
			continue
		}
		if strings.HasPrefix(key, appArmor) {
			e.Forbidden(annotationsPath.Key(key), "may not remove or update AppArmor annotations")
		}
		if key == podspec.MirrorAnnotation {
			e.Forbidden(annotationsPath.Key(key), "may not remove or update mirror pod annotation")
		}
	}
	for key := range p.Annotations {
		if _, had := old.Annotations[key]; had {
			continue
		}
		if strings.HasPrefix(key, appArmor) {
			e.Forbidden(annotationsPath.Key(key), "may not add AppArmor annotations")
		}
		if key == podspec.MirrorAnnotation {
			e.Forbidden(annotationsPath.Key(key), "may not add mirror pod annotation")
		}
	}
}

// restartsAll reports whether the exit of one container may start all of them again, whatever their own policies say (KEP-5532).
func restartsAll(p *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(p.Spec.InitContainers, p.Spec.Containers), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
			return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		})
	})
}

// restartsContainer reports whether a container that exited may run again: by its own policy and rules, else by the pod's.
func restartsContainer(p *corev1.Pod, name string, exit int32) bool {
	if restartsAll(p) {
		return true
	}
	for i := range p.Spec.Containers {
		if c := &p.Spec.Containers[i]; c.Name == name && c.RestartPolicy != nil {
			return restartsByOwnPolicy(c, exit)
		}
	}
	return restartsByPodPolicy(p, exit)
}

func restartsInit(p *corev1.Pod, name string, exit int32) bool {
	if restartsAll(p) {
		return true
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.Name == name && c.RestartPolicy != nil {
			return restartsByOwnPolicy(c, exit)
		}
	}
	return restartsByPodPolicy(p, exit)
}

func restartsByOwnPolicy(c *corev1.Container, exit int32) bool {
	for _, r := range c.RestartPolicyRules {
		if r.ExitCodes == nil {
			continue
		}
		in := slices.Contains(r.ExitCodes.Values, exit)
		if in == (r.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return true
		}
	}
	return *c.RestartPolicy == corev1.ContainerRestartPolicyAlways || *c.RestartPolicy == corev1.ContainerRestartPolicyOnFailure && exit != 0
}

func restartsByPodPolicy(p *corev1.Pod, exit int32) bool {
	return p.Spec.RestartPolicy == corev1.RestartPolicyAlways || p.Spec.RestartPolicy == corev1.RestartPolicyOnFailure && exit != 0
}

func checkEphemeralUpdate(e *check.Errors, p, old *corev1.Pod) {
	if _, mirror := old.Annotations[podspec.MirrorAnnotation]; mirror {
		e.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")
		return
	}
	checkPod(e, p)
	at := specPath.Child("ephemeralContainers")
	for _, was := range old.Spec.EphemeralContainers {
		i := slices.IndexFunc(p.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == was.Name })
		switch {
		case i < 0:
			e.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", was.Name))
		case !equality.Semantic.DeepEqual(was, p.Spec.EphemeralContainers[i]):
			e.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", was.Name, diff.Diff(was, p.Spec.EphemeralContainers[i])))
		}
	}
}
