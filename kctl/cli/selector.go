package cli

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// workloadSelector returns the label selector of a workload's or service's pods.
func workloadSelector(u *unstructured.Unstructured) (string, error) {
	raw, found, err := unstructured.NestedMap(u.Object, "spec", "selector")
	if err != nil || !found || len(raw) == 0 {
		return "", fmt.Errorf("%s %q has no selector, so that it has no pods of its own", u.GetKind(), u.GetName())
	}
	if u.GetKind() == "Service" || u.GetKind() == "ReplicationController" {
		set := labels.Set{}
		for k, v := range raw {
			set[k] = fmt.Sprint(v)
		}
		return set.String(), nil
	}
	var ls metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &ls); err != nil {
		return "", err
	}
	sel, err := metav1.LabelSelectorAsSelector(&ls)
	if err != nil {
		return "", err
	}
	return sel.String(), nil
}
