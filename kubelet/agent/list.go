package agent

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pods are the node's, by namespace and name, with the statuses that were decided last: the API may not have been told of them yet.
func (a *Agent) Pods() *corev1.PodList {
	list := &corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	for _, w := range a.all() {
		w.mu.Lock()
		p := *w.pod
		if w.status != nil {
			p.Status = *w.status
		}
		w.mu.Unlock()
		p.TypeMeta = metav1.TypeMeta{}
		list.Items = append(list.Items, p)
	}
	slices.SortFunc(list.Items, func(x, y corev1.Pod) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	return list
}
