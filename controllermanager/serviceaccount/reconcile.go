// Package serviceaccount keeps a ServiceAccount "default" in every namespace, so that a pod that names none has one.
package serviceaccount

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
)

// Name of the account.
const Name = "default"

// Reconcile plans the account of one namespace. exists tells whether it is there.
func Reconcile(ns *corev1.Namespace, exists bool) plan.Plan {
	var p plan.Plan
	if exists || ns.DeletionTimestamp != nil || ns.Status.Phase == corev1.NamespaceTerminating {
		return p
	}
	p.Add(plan.Create(plan.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: Name}}))
	return p
}
