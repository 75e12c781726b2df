// Package rootca publishes the certificate authority that API servers are to be trusted by: a ConfigMap kube-root-ca.crt in
// every namespace, which pods get with their service account token.
package rootca

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
)

const (
	// Name of the ConfigMap and Key of the PEM certificates in it.
	Name = "kube-root-ca.crt"
	Key  = "ca.crt"
	// descriptionKey and description are upstream's annotation.
	descriptionKey = "kubernetes.io/description"
	description    = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
)

// Reconcile plans the ConfigMap of one namespace; have is nil if there is none.
func Reconcile(ns *corev1.Namespace, have *corev1.ConfigMap, pem string) plan.Plan {
	var p plan.Plan
	if ns.DeletionTimestamp != nil || ns.Status.Phase == corev1.NamespaceTerminating {
		return p
	}
	want := map[string]string{Key: pem}
	switch {
	case have == nil:
		p.Add(plan.Create(plan.ConfigMaps, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: Name, Annotations: map[string]string{descriptionKey: description}},
			Data:       want,
		}))
	case have.DeletionTimestamp == nil && !maps.Equal(have.Data, want):
		next := have.DeepCopy()
		next.Data = want
		p.Add(plan.Update(plan.ConfigMaps, next))
	}
	return p
}
