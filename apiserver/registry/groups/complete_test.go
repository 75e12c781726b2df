package groups_test

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
	"bareboat.dev/apiserver/review"
)

// notServed are kinds of stable versions that are no resource's and no subresource's, and why.
var notServed = map[schema.GroupKind]string{
	{Kind: "PodProxyOptions"}:                                 "the query of a proxied request",
	{Kind: "PodAttachOptions"}:                                "the query of a stream",
	{Kind: "PodExecOptions"}:                                  "the query of a stream",
	{Kind: "PodLogOptions"}:                                   "the query of a log",
	{Kind: "PodPortForwardOptions"}:                           "the query of a stream",
	{Kind: "NodeProxyOptions"}:                                "the query of a proxied request",
	{Kind: "ServiceProxyOptions"}:                             "the query of a proxied request",
	{Kind: "PodStatusResult"}:                                 "what an old resize answered with; nothing sends it",
	{Kind: "RangeAllocation"}:                                 "kube-apiserver's own bookkeeping in the store, never served",
	{Kind: "SerializedReference"}:                             "a form of an annotation",
	{Kind: "List"}:                                            "what kubectl prints, never served",
	{Group: "admission.k8s.io", Kind: "AdmissionReview"}:      "what webhooks are sent",
	{Group: "imagepolicy.k8s.io", Kind: "ImageReview"}:        "what a webhook is sent",
	{Group: "apidiscovery.k8s.io", Kind: "APIGroupDiscovery"}: "discovery itself",
}

// Every kind that k8s.io/api has in a stable version is served, or is one that nobody serves.
func TestComplete(t *testing.T) {
	set, err := registry.NewSet(registry.All(groups.All(core.Config{}), review.Resources())...)
	if err != nil {
		t.Fatal(err)
	}
	served := map[schema.GroupVersionKind]bool{}
	for _, r := range set.All() {
		served[r.Kind] = true
		for _, sub := range r.Subresources {
			served[sub.Kind] = true
		}
	}
	var missing []string
	for gvk, typ := range scheme.Scheme.AllKnownTypes() {
		meta := strings.HasPrefix(typ.PkgPath(), "k8s.io/apimachinery/") || gvk.Version == runtime.APIVersionInternal
		unstable := strings.Contains(gvk.Version, "alpha") || strings.Contains(gvk.Version, "beta")
		if meta || unstable || served[gvk] || notServed[gvk.GroupKind()] != "" {
			continue
		}
		if item, isList := strings.CutSuffix(gvk.Kind, "List"); isList && served[gvk.GroupVersion().WithKind(item)] {
			continue
		}
		missing = append(missing, gvk.String())
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		t.Errorf("not served:\n%s", strings.Join(missing, "\n"))
	}
}
