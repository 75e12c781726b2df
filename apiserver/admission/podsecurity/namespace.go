package podsecurity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"bareboat.dev/apiserver/admission"
)

const (
	// maxPods and maxTime bound the look at a namespace's pods when its label becomes stricter, as upstream does.
	maxPods = 3000
	maxTime = time.Second
)

// namespace checks a namespace's labels and looks at its pods if they are to be held to more than before.
func (s *security) namespace(ctx context.Context, a *admission.Attributes, ns *corev1.Namespace) error {
	if a.Subresource != "" {
		return nil
	}
	is, errs := api.PolicyToEvaluate(ns.Labels, s.defaults)
	was := s.defaults
	if old, ok := a.Old.(*corev1.Namespace); ok && a.Operation == admission.Update {
		before, oldErrs := api.PolicyToEvaluate(old.Labels, s.defaults)
		if was = before; len(errs) > 0 && equality.Semantic.DeepEqual(errs.ToAggregate(), oldErrs.ToAggregate()) {
			errs = nil // what was stored before the rule stays
		}
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Namespace").GroupKind(), ns.Name, errs)
	}
	exempt := slices.Contains(s.exempt.Namespaces, ns.Name)
	if exempt && !is.FullyPrivileged() && !is.Equivalent(&s.defaults) && (a.Operation == admission.Create || stricter(is.Enforce, was.Enforce)) {
		a.Warn(fmt.Sprintf("namespace %q is exempt from Pod Security, and the policy (%s) will be ignored", ns.Name, asked(ns.Labels, is)))
	}
	if exempt || a.Operation == admission.Create || !stricter(is.Enforce, was.Enforce) {
		return nil
	}
	warnings, err := s.violations(ctx, ns.Name, is.Enforce)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		a.Warn(w)
	}
	return nil
}

// asked prints what a namespace's labels themselves ask for.
func asked(labels map[string]string, p api.Policy) string {
	var parts []string
	for _, mode := range []struct {
		name, level, version string
		lv                   api.LevelVersion
	}{
		{"enforce", api.EnforceLevelLabel, api.EnforceVersionLabel, p.Enforce}, {"audit", api.AuditLevelLabel, api.AuditVersionLabel, p.Audit},
		{"warn", api.WarnLevelLabel, api.WarnVersionLabel, p.Warn},
	} {
		_, level := labels[mode.level]
		_, version := labels[mode.version]
		if (level || version) && mode.lv.Level != api.LevelPrivileged {
			parts = append(parts, mode.name+"="+mode.lv.String())
		}
	}
	return strings.Join(parts, ", ")
}

// stricter reports whether pods that were let in may no longer be.
func stricter(is, was api.LevelVersion) bool {
	switch {
	case is == was, is.Level == api.LevelPrivileged:
		return false
	case is.Version == was.Version:
		return api.CompareLevels(is.Level, was.Level) > 0
	}
	return true
}

// group is pods that violate a level in the same way.
type group struct {
	first string
	count int
}

func (g group) String() string {
	switch g.count {
	case 1:
		return g.first
	case 2:
		return g.first + " (and 1 other pod)"
	}
	return fmt.Sprintf("%s (and %d other pods)", g.first, g.count-1)
}

// violations names the pods of a namespace that a level would not let in.
func (s *security) violations(ctx context.Context, namespace string, level api.LevelVersion) ([]string, error) {
	objects, err := s.lister.Fresh(ctx, "", "pods", namespace) // labels change rarely, and a pod that was just made counts
	if err != nil {
		return nil, err
	}
	var pods []*corev1.Pod
	for _, obj := range objects {
		pod := obj.(*corev1.Pod)
		if class := pod.Spec.RuntimeClassName; class == nil || !slices.Contains(s.exempt.RuntimeClasses, *class) {
			pods = append(pods, pod)
		}
	}
	groups := map[string]group{}
	checked, until := 0, s.now().Add(maxTime)
	for _, pod := range onePerOwner(pods) {
		if checked == maxPods || s.now().After(until) || ctx.Err() != nil {
			break
		}
		checked++
		r := policy.AggregateCheckResults(s.evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec))
		if r.Allowed {
			continue
		}
		g := groups[r.ForbiddenReason()]
		if g.count == 0 || pod.Name < g.first {
			g.first = pod.Name
		}
		g.count++
		groups[r.ForbiddenReason()] = g
	}
	var warnings, lines []string
	if checked < len(pods) {
		warnings = append(warnings, fmt.Sprintf("new PodSecurity enforce level only checked against the first %d of %d existing pods", checked, len(pods)))
	}
	if len(groups) > 0 {
		warnings = append(warnings, fmt.Sprintf("existing pods in namespace %q violate the new PodSecurity enforce level %q", namespace, level.String()))
	}
	for reason, g := range groups {
		lines = append(lines, g.String()+": "+reason)
	}
	slices.Sort(lines)
	return append(warnings, lines...), nil
}

// onePerOwner puts the first pod of each owner before the owners' others, which are like it.
func onePerOwner(pods []*corev1.Pod) []*corev1.Pod {
	var first, rest []*corev1.Pod
	seen := map[types.UID]bool{}
	for _, pod := range pods {
		owner := metav1.GetControllerOfNoCopy(pod)
		if owner != nil && seen[owner.UID] {
			rest = append(rest, pod)
			continue
		}
		if owner != nil {
			seen[owner.UID] = true
		}
		first = append(first, pod)
	}
	return append(first, rest...)
}
