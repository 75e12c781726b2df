package core

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

func namespaces() *registry.Resource {
	return &registry.Resource{
		Kind: kind("Namespace"), Plural: "namespaces", Singular: "namespace", ShortNames: []string{"ns"},
		KeyPrefix: "/registry/namespaces/",
		Verbs:     []string{"create", "delete", "get", "list", "patch", "update", "watch"},
		New:       func() registry.Object { return &corev1.Namespace{} },
		NewList:   func() runtime.Object { return &corev1.NamespaceList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(n *corev1.Namespace) {
				if n.Status.Phase == "" {
					n.Status.Phase = corev1.NamespaceActive
				}
				if n.Name != "" {
					setLabel(n, corev1.LabelMetadataName, n.Name)
				}
			}),
			Named: registry.On(func(n *corev1.Namespace) { setLabel(n, corev1.LabelMetadataName, n.Name) }),
			PrepareCreate: registry.On(func(n *corev1.Namespace) {
				n.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
				// The namespace controller takes this away when everything in the namespace is gone.
				if !slices.Contains(n.Spec.Finalizers, corev1.FinalizerKubernetes) {
					n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
				}
			}),
			PrepareUpdate: registry.OnChange(func(n, old *corev1.Namespace) {
				n.Spec.Finalizers = old.Spec.Finalizers
				n.Status = old.Status
			}),
			Validate: registry.Checks(func(e *check.Errors, n *corev1.Namespace) {
				for _, name := range n.Spec.Finalizers {
					checkNamespaceFinalizer(e, name, field.NewPath("spec", "finalizers"))
				}
			}),
			ValidateName: apivalidation.ValidateNamespaceName,
			MarkDeleted:  registry.On(func(n *corev1.Namespace) { n.Status.Phase = corev1.NamespaceTerminating }),
			Held:         func(obj registry.Object) bool { return len(obj.(*corev1.Namespace).Spec.Finalizers) > 0 },

			AllowUnconditionalUpdate: true,
		},
		Fields: map[string]func(registry.Object) string{
			"status.phase": registry.Field(func(n *corev1.Namespace) string { return string(n.Status.Phase) }),
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Status", "The status of the namespace", func(n *corev1.Namespace) string { return string(n.Status.Phase) }),
			registry.AgeColumn(),
		},
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(
				func(n, body *corev1.Namespace) { n.Status = body.Status },
				func(e *check.Errors, n, _ *corev1.Namespace) { checkNamespacePhase(e, n) }),
			"finalize": {
				Verbs: []string{"update"},
				Apply: func(old registry.Object, body runtime.Object, _ time.Time) (registry.Object, error) {
					n := old.DeepCopyObject().(*corev1.Namespace)
					n.Spec.Finalizers = slices.Clone(body.(*corev1.Namespace).Spec.Finalizers)
					return n, nil
				},
				Validate: registry.ChecksChange(func(e *check.Errors, n, _ *corev1.Namespace) {
					for i, name := range n.Spec.Finalizers {
						checkNamespaceFinalizer(e, name, field.NewPath("spec", "finalizers").Index(i))
					}
				}),
			},
		},
	}
}

func checkNamespaceFinalizer(e *check.Errors, name corev1.FinalizerName, at *field.Path) {
	e.Add(apivalidation.ValidateFinalizerName(string(name), at)...)
	checkFinalizer(e, string(name), at)
}

func checkNamespacePhase(e *check.Errors, n *corev1.Namespace) {
	at := field.NewPath("status", "Phase")
	if n.DeletionTimestamp.IsZero() {
		if n.Status.Phase != corev1.NamespaceActive {
			e.Invalid(at, n.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")
		}
	} else if n.Status.Phase != corev1.NamespaceTerminating {
		e.Invalid(at, n.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")
	}
}

func setLabel(obj registry.Object, key, value string) {
	labels := obj.GetLabels()
	if labels[key] == value {
		return
	}
	if labels == nil {
		labels = map[string]string{}
	}
	labels[key] = value
	obj.SetLabels(labels)
}
