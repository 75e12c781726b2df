// Package podsecurity holds pods to the Pod Security Standards that their namespace's labels ask for
// (https://kubernetes.io/docs/concepts/security/pod-security-admission/). What the standards demand is k8s.io/pod-security-admission's to
// say; this package decides whom to ask about, and what becomes of the answer: pods are refused, workloads that would make such pods are
// warned about, and a namespace whose label becomes stricter is told which of its pods would no longer be let in.
package podsecurity

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/registry"
)

// Lister lists what must not be missed.
type Lister interface {
	// Fresh returns every object of a resource in a namespace as they are now.
	Fresh(ctx context.Context, group, plural, namespace string) ([]registry.Object, error)
}

// Plugin enforces the standards. It fails if the configuration names levels or versions that do not exist.
func Plugin(reader admission.Reader, lister Lister, cfg Configuration, now func() time.Time) (admission.Plugin, error) {
	defaults, err := cfg.policy()
	if err != nil {
		return admission.Plugin{}, err
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return admission.Plugin{}, err
	}
	s := &security{reader: reader, lister: lister, exempt: cfg.Exemptions, defaults: defaults, evaluator: evaluator, now: now}
	return admission.Plugin{Name: "PodSecurity", Obeys: []schema.GroupResource{{Resource: "namespaces"}}, Validate: s.validate}, nil
}

type security struct {
	reader    admission.Reader
	lister    Lister
	exempt    Exemptions
	defaults  api.Policy
	evaluator policy.Evaluator
	now       func() time.Time
}

func (s *security) validate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation == admission.Delete || a.Object == nil {
		return nil
	}
	switch obj := a.Object.(type) {
	case *corev1.Namespace:
		return s.namespace(ctx, a, obj)
	case *corev1.Pod:
		return s.pod(ctx, a, obj)
	}
	if a.Subresource != "" {
		return nil
	}
	if template := templateOf(a.Object); template != nil {
		return s.workload(ctx, a, template)
	}
	return nil
}

// pod judges a new pod, or one whose containers have changed.
func (s *security) pod(ctx context.Context, a *admission.Attributes, pod *corev1.Pod) error {
	switch a.Subresource {
	case "", "ephemeralcontainers", "resize":
	default:
		return nil
	}
	if old, ok := a.Old.(*corev1.Pod); ok && a.Operation == admission.Update && sameContainers(&pod.Spec, &old.Spec) {
		return nil
	}
	p, invalid, done, err := s.policy(ctx, a)
	if err != nil || done || !invalid && p.FullyPrivileged() {
		return err
	}
	return s.evaluate(a, p, &pod.ObjectMeta, &pod.Spec, true)
}

// workload warns of a template whose pods would be refused or warned about.
func (s *security) workload(ctx context.Context, a *admission.Attributes, t *corev1.PodTemplateSpec) error {
	p, invalid, done, err := s.policy(ctx, a)
	if err != nil || done || !invalid && p.Warn.Level == api.LevelPrivileged && p.Audit.Level == api.LevelPrivileged {
		return err
	}
	return s.evaluate(a, p, &t.ObjectMeta, &t.Spec, false)
}

// policy is what the write's namespace asks for; done means that the write is exempt. Labels that make no sense ask for the strictest.
func (s *security) policy(ctx context.Context, a *admission.Attributes) (p api.Policy, invalid, done bool, err error) {
	switch {
	case slices.Contains(s.exempt.Namespaces, a.Namespace):
		a.Note(api.AuditAnnotationPrefix+api.ExemptionReasonAnnotationKey, "namespace")
		return p, false, true, nil
	case a.User != nil && slices.Contains(s.exempt.Usernames, a.User.Name):
		a.Note(api.AuditAnnotationPrefix+api.ExemptionReasonAnnotationKey, "user")
		return p, false, true, nil
	}
	obj, ok, err := s.reader.Object(ctx, "", "namespaces", "", a.Namespace, false)
	if err == nil && !ok {
		obj, ok, err = s.reader.Object(ctx, "", "namespaces", "", a.Namespace, true)
	}
	if err != nil || !ok {
		return p, false, false, apierrors.NewInternalError(fmt.Errorf("failed to lookup namespace %q", a.Namespace))
	}
	p, errs := api.PolicyToEvaluate(obj.GetLabels(), s.defaults)
	if len(errs) > 0 {
		a.Note(api.AuditAnnotationPrefix+"error", fmt.Sprintf("Failed to parse policy: %v", errs.ToAggregate()))
	}
	return p, len(errs) > 0, false, nil
}

// evaluate asks the standards at the three levels of the policy, each at most once.
func (s *security) evaluate(a *admission.Attributes, p api.Policy, meta *metav1.ObjectMeta, spec *corev1.PodSpec, enforce bool) error {
	if class := spec.RuntimeClassName; class != nil && slices.Contains(s.exempt.RuntimeClasses, *class) {
		a.Note(api.AuditAnnotationPrefix+api.ExemptionReasonAnnotationKey, "runtimeClass")
		return nil
	}
	known := map[api.LevelVersion]policy.AggregateCheckResult{}
	at := func(lv api.LevelVersion) policy.AggregateCheckResult {
		if r, ok := known[lv]; ok {
			return r
		}
		r := policy.AggregateCheckResults(s.evaluator.EvaluatePod(lv, meta, spec))
		known[lv] = r
		return r
	}
	if r := at(p.Audit); !r.Allowed {
		a.Note(api.AuditAnnotationPrefix+api.AuditViolationsAnnotationKey, fmt.Sprintf("would violate PodSecurity %q: %s", p.Audit.String(), r.ForbiddenDetail()))
	}
	if enforce {
		a.Note(api.AuditAnnotationPrefix+api.EnforcedPolicyAnnotationKey, p.Enforce.String())
		if r := at(p.Enforce); !r.Allowed {
			return apierrors.NewForbidden(schema.GroupResource{Group: a.Resource.Kind.Group, Resource: a.Resource.Plural}, a.ObjectName(),
				fmt.Errorf("violates PodSecurity %q: %s", p.Enforce.String(), r.ForbiddenDetail()))
		}
	}
	if r := at(p.Warn); !r.Allowed {
		a.Warn(fmt.Sprintf("would violate PodSecurity %q: %s", p.Warn.String(), r.ForbiddenDetail()))
	}
	return nil
}

// sameContainers reports whether nothing changed that the standards may say anything new about; the rest of a pod does not change.
func sameContainers(is, was *corev1.PodSpec) bool {
	images := func(list []corev1.Container) (out []string) {
		for i := range list {
			out = append(out, list[i].Image)
		}
		return out
	}
	return slices.Equal(images(is.Containers), images(was.Containers)) && slices.Equal(images(is.InitContainers), images(was.InitContainers)) &&
		equality.Semantic.DeepEqual(is.EphemeralContainers, was.EphemeralContainers)
}
