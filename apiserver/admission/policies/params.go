package policies

import (
	"context"
	"errors"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/admission/match"
	"bareboat.dev/apiserver/registry"
)

var (
	errNoParams  = errors.New("no params found for policy binding with `Deny` parameterNotFoundAction")
	errNamespace = errors.New("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
	errCluster   = errors.New("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
)

// paramsOf returns the objects that a binding evaluates its policy with, each by itself; one nil if the policy or the binding has none.
func (c *Config) paramsOf(ctx context.Context, p *policy, b *binding, w *match.Write) ([]registry.Object, error) {
	if p.params == nil || b.ref == nil {
		return []registry.Object{nil}, nil
	}
	gv, err := schema.ParseGroupVersion(p.params.APIVersion)
	if err != nil {
		return nil, err
	}
	kind := gv.WithKind(p.params.Kind)
	r, ok := c.Reader.Set().ForKind(kind)
	if !ok || r.KeyPrefix == "" {
		return nil, fmt.Errorf("failed to find resource referenced by paramKind: '%v'", kind)
	}
	namespace := b.ref.Namespace
	switch {
	case !r.Namespaced && namespace != "":
		return nil, errNamespace
	case r.Namespaced && namespace == "":
		if namespace = w.Attributes.Namespace; namespace == "" {
			return nil, errCluster
		}
	}
	found, err := c.find(ctx, r, b.ref, namespace)
	if err == nil && len(found) == 0 && (b.ref.ParameterNotFoundAction == nil || *b.ref.ParameterNotFoundAction == admissionregistrationv1.DenyAction) {
		err = errNoParams
	}
	return found, err
}

func (c *Config) find(ctx context.Context, r *registry.Resource, ref *admissionregistrationv1.ParamRef, namespace string) ([]registry.Object, error) {
	if ref.Selector == nil {
		for _, fresh := range []bool{false, true} {
			obj, ok, err := c.Reader.Object(ctx, r.Kind.Group, r.Plural, namespace, ref.Name, fresh)
			if err != nil {
				return nil, err
			}
			if ok {
				return []registry.Object{obj}, nil
			}
		}
		return nil, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(ref.Selector)
	if err != nil {
		return nil, err
	}
	all, err := c.Reader.Objects(ctx, r.Kind.Group, r.Plural, namespace)
	if err != nil {
		return nil, err
	}
	var found []registry.Object
	for _, obj := range all {
		if selector.Matches(labels.Set(obj.GetLabels())) {
			found = append(found, obj)
		}
	}
	return found, nil
}
