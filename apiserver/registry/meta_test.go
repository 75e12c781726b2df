package registry_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry"
)

// What a change may not do to metadata, with the fields and the words that Kubernetes answers with.
func TestCheckMetaChange(t *testing.T) {
	free := &registry.Resource{Namespaced: true, Strategy: registry.Strategy{AnyFinalizer: true}}
	strict := &registry.Resource{Namespaced: true}
	at, grace := metav1.Unix(1000, 0), int64(7)
	for name, c := range map[string]struct {
		of   *registry.Resource
		edit func(*corev1.ConfigMap)
		want []string
	}{
		"nothing":                   {strict, func(*corev1.ConfigMap) {}, nil},
		"finalizer with a domain":   {strict, func(c *corev1.ConfigMap) { c.Finalizers = []string{"example.com/x"} }, nil},
		"a finalizer of Kubernetes": {strict, func(c *corev1.ConfigMap) { c.Finalizers = []string{metav1.FinalizerOrphanDependents} }, nil},
		"finalizer without a domain": {strict, func(c *corev1.ConfigMap) { c.Finalizers = []string{"mine"} }, []string{
			`metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified`}},
		"any finalizer": {free, func(c *corev1.ConfigMap) { c.Finalizers = []string{"mine"} }, nil},
		"generate name": {strict, func(c *corev1.ConfigMap) { c.GenerateName = "a/b" }, []string{
			`metadata.generateName: Invalid value: "a/b": may not contain '/'`}},
		"deletion": {strict, func(c *corev1.ConfigMap) { c.DeletionTimestamp, c.DeletionGracePeriodSeconds = &at, &grace }, []string{
			`metadata.deletionTimestamp: Invalid value: "1970-01-01T00:16:40Z": field is immutable`,
			`metadata.deletionGracePeriodSeconds: Invalid value: 7: field is immutable`}},
	} {
		t.Run(name, func(t *testing.T) {
			old := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "default", UID: "1", ResourceVersion: "1"}}
			obj := old.DeepCopy()
			c.edit(obj)
			var got []string
			for _, err := range c.of.CheckMetaChange(obj, old) {
				got = append(got, err.Error())
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("unexpected errors (-want +got):\n%s", d)
			}
		})
	}
}
