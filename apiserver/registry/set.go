package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

// Set is everything that one server serves, by every name that a request may use. It never changes after NewSet: what is
// served changes by another set taking its place, made with With.
type Set struct {
	all        []*Resource
	byResource map[schema.GroupVersionResource]*Resource
	byKind     map[schema.GroupVersionKind]*Resource
	preferred  map[string]string // group → version
	scheme     *runtime.Scheme
}

// NewSet indexes resources. It fails if two of them claim one group-version-resource or one kind.
func NewSet(resources ...*Resource) (*Set, error) {
	s := &Set{
		byResource: map[schema.GroupVersionResource]*Resource{},
		byKind:     map[schema.GroupVersionKind]*Resource{},
		preferred:  map[string]string{},
		scheme:     runtime.NewScheme(),
	}
	for _, r := range resources {
		if err := s.add(r); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Set) add(r *Resource) error {
	gvr := r.GVR()
	if other, taken := s.byResource[gvr]; taken {
		return fmt.Errorf("registry: %s is registered for both %s and %s", gvr, other.Kind, r.Kind)
	}
	if _, taken := s.byKind[r.Kind]; taken {
		return fmt.Errorf("registry: %s is registered twice", r.Kind)
	}
	s.all = append(s.all, r)
	s.byResource[gvr] = r
	s.byKind[r.Kind] = r
	if best, ok := s.preferred[r.Kind.Group]; !ok || version.CompareKubeAwareVersionStrings(r.Kind.Version, best) > 0 {
		s.preferred[r.Kind.Group] = r.Kind.Version
	}
	if r.Custom != nil {
		return nil // no Go type stands for the kind
	}
	s.scheme.AddKnownTypeWithName(r.Kind, r.New())
	if r.NewList != nil {
		s.scheme.AddKnownTypeWithName(r.Kind.GroupVersion().WithKind(r.Kind.Kind+"List"), r.NewList())
	}
	for name, sub := range r.Subresources {
		if sub.New == nil {
			continue
		}
		if sub.Kind.Empty() {
			return fmt.Errorf("registry: %s/%s has a body of its own but names no kind", gvr, name)
		}
		s.scheme.AddKnownTypeWithName(sub.Kind, sub.New())
	}
	return nil
}

// With returns a set of this one's resources and the given custom ones. It costs a copy of the indexes; the scheme is shared,
// as custom kinds have no Go types to register.
func (s *Set) With(custom ...*Resource) (*Set, error) {
	out := &Set{
		all: slices.Clone(s.all), byResource: maps.Clone(s.byResource), byKind: maps.Clone(s.byKind), preferred: maps.Clone(s.preferred),
		scheme: s.scheme,
	}
	for _, r := range custom {
		if r.Custom == nil {
			return nil, fmt.Errorf("registry: %s is not a custom resource", r.Kind)
		}
		if err := out.add(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Admits returns why a custom resource cannot be served beside the set's own: one of its names, or its keys, are another's.
func (s *Set) Admits(r *Resource) error {
	if other, taken := s.byResource[r.GVR()]; taken {
		return fmt.Errorf("registry: %s is %s", r.GVR(), other.Kind)
	}
	if _, taken := s.byKind[r.Kind]; taken {
		return fmt.Errorf("registry: %s is built in", r.Kind)
	}
	for _, other := range s.all {
		if other.KeyPrefix != "" && (strings.HasPrefix(other.KeyPrefix, r.KeyPrefix) || strings.HasPrefix(r.KeyPrefix, other.KeyPrefix)) {
			return fmt.Errorf("registry: the keys of %s overlap with those of %s", r.Kind, other.Kind)
		}
	}
	return nil
}

// All returns every resource, in the order of registration. The slice is the caller's.
func (s *Set) All() []*Resource { return slices.Clone(s.all) }

// Lookup finds a resource by its group, version and plural name; an empty version means the group's preferred one, or the
// newest in which the resource exists.
func (s *Set) Lookup(group, ver, plural string) (*Resource, bool) {
	if ver != "" {
		r, ok := s.byResource[schema.GroupVersionResource{Group: group, Version: ver, Resource: plural}]
		return r, ok
	}
	if preferred := s.preferred[group]; preferred != "" {
		if r, ok := s.Lookup(group, preferred, plural); ok {
			return r, ok
		}
	}
	var best *Resource
	for _, r := range s.all {
		if r.Kind.Group == group && r.Plural == plural &&
			(best == nil || version.CompareKubeAwareVersionStrings(r.Kind.Version, best.Kind.Version) > 0) {
			best = r
		}
	}
	return best, best != nil
}

// ForKind finds the resource of a kind.
func (s *Set) ForKind(gvk schema.GroupVersionKind) (*Resource, bool) {
	r, ok := s.byKind[gvk]
	return r, ok
}

// Versions returns each group's versions, the preferred one first.
func (s *Set) Versions() map[string][]string {
	groups := map[string][]string{}
	for _, r := range s.all {
		if !slices.Contains(groups[r.Kind.Group], r.Kind.Version) {
			groups[r.Kind.Group] = append(groups[r.Kind.Group], r.Kind.Version)
		}
	}
	for _, versions := range groups {
		slices.SortFunc(versions, func(a, b string) int { return version.CompareKubeAwareVersionStrings(b, a) })
	}
	return groups
}

// Scheme knows every kind of the set, its list and its subresources' bodies. It is for apimachinery's serializers and
// managed fields; the set itself never converts between versions.
func (s *Set) Scheme() *runtime.Scheme { return s.scheme }

// GVR is the resource's full name.
func (r *Resource) GVR() schema.GroupVersionResource {
	return r.Kind.GroupVersion().WithResource(r.Plural)
}

// Key is where the object of that namespace (ignored for cluster-scoped kinds) and name is stored.
func (r *Resource) Key(namespace, name string) string {
	if r.Namespaced {
		return r.KeyPrefix + namespace + "/" + name
	}
	return r.KeyPrefix + name
}

const typeURLPrefix = "type.googleapis.com/"

// TypeURL names a kind's protobuf message in a google.protobuf.Any, after upstream's package: the group's first label,
// "core" for the empty group.
//
//	TypeURL(appsv1 Deployment) == "type.googleapis.com/k8s.io.api.apps.v1.Deployment"
func TypeURL(gvk schema.GroupVersionKind) string {
	switch gvk.Group { // published apart from k8s.io/api
	case "apiextensions.k8s.io":
		return typeURLPrefix + "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions." + gvk.Version + "." + gvk.Kind
	case "apiregistration.k8s.io":
		return typeURLPrefix + "k8s.io.kube_aggregator.pkg.apis.apiregistration." + gvk.Version + "." + gvk.Kind
	}
	group, _, _ := strings.Cut(gvk.Group, ".")
	if group == "" {
		group = "core"
	}
	return typeURLPrefix + "k8s.io.api." + group + "." + gvk.Version + "." + gvk.Kind
}
