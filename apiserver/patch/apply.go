package patch

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
)

// ApplyOptions say who applies, and how.
type ApplyOptions struct {
	// Manager that will own the applied fields; required.
	Manager string
	// Force takes over fields that others own.
	Force bool
	// Validation says what becomes of duplicate keys in the configuration. Fields that the kind does not have are refused
	// always: nobody could own them.
	Validation codec.FieldValidation
}

// Apply merges a configuration, in YAML or JSON, into live through the subresource, and returns the outcome as a new object
// whose managed fields name the manager. live is nil if the object does not exist yet. Fields that another manager owns with
// another value are a Conflict that names it, unless forced. An outcome that differs from live in nothing is live itself.
func (f *Fields) Apply(r *registry.Resource, subresource string, live registry.Object, config []byte, o ApplyOptions) (obj registry.Object, warnings []string, err error) {
	applied, warnings, err := parseConfig(config, o.Validation)
	if err != nil {
		return nil, nil, err
	}
	if subresource == "scale" {
		if applied, err = scaleConfig(r, applied); err != nil {
			return nil, nil, err
		}
	}
	if r.Custom != nil {
		obj, err = f.applyCustom(r, subresource, live, applied, o)
		return obj, warnings, err
	}
	m, err := f.manager(r, subresource)
	if err != nil {
		return nil, nil, apierrors.NewInternalError(err)
	}
	var before registry.Object
	if live == nil {
		before = r.New()
	} else {
		before = live.DeepCopyObject().(registry.Object)
	}
	before.GetObjectKind().SetGroupVersionKind(r.Kind)
	merged, err := m.Apply(before, applied, o.Manager, o.Force)
	if err != nil {
		return nil, nil, applyError(err)
	}
	obj, ok := merged.(registry.Object)
	if !ok {
		if obj, err = f.typed(r, merged); err != nil {
			return nil, nil, apierrors.NewInternalError(err)
		}
	}
	obj.GetObjectKind().SetGroupVersionKind(r.Kind)
	if live != nil && unchangedBut(obj, live) {
		return live, warnings, nil
	}
	return obj, warnings, nil
}

func parseConfig(config []byte, validation codec.FieldValidation) (*unstructured.Unstructured, []string, error) {
	if err := codec.Bounded(codec.YAML, config); err != nil {
		return nil, nil, err
	}
	applied := &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal(config, &applied.Object); err != nil {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	if applied.Object == nil {
		return nil, nil, apierrors.NewBadRequest("error decoding YAML: the configuration is empty")
	}
	if validation == codec.Ignore {
		return applied, nil, nil
	}
	err := yaml.UnmarshalStrict(config, &map[string]any{})
	switch {
	case err == nil:
		return applied, nil, nil
	case validation == codec.Strict:
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error strict decoding YAML: %v", err))
	}
	return applied, codec.Warnings([]error{err}), nil
}

// scaleConfig turns an applied Scale into the part of the parent that it is a view of.
func scaleConfig(r *registry.Resource, scale *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if gvk := scale.GroupVersionKind(); gvk.Kind != "Scale" || gvk.Group != "autoscaling" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a Scale", gvk.Kind, gvk.Version))
	}
	parent := &unstructured.Unstructured{Object: map[string]any{}}
	parent.SetGroupVersionKind(r.Kind)
	parent.SetName(scale.GetName())
	parent.SetNamespace(scale.GetNamespace())
	replicas, set, err := unstructured.NestedFieldCopy(scale.Object, "spec", "replicas")
	if err != nil || !set {
		return parent, nil
	}
	path := []string{"spec", "replicas"}
	if r.Custom != nil {
		path = nil
		for _, e := range r.Custom.Replicas[r.Kind.GroupVersion().String()] {
			path = append(path, *e.FieldName)
		}
	}
	return parent, unstructured.SetNestedField(parent.Object, replicas, path...)
}

func (f *Fields) typed(r *registry.Resource, merged runtime.Object) (registry.Object, error) {
	obj := r.New()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(merged)
	if err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, obj); err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	return obj, nil
}

// unchangedBut reports whether an apply changed nothing: neither the object nor who owns what. One that names no field of an
// object without managed fields (a Namespace by its name alone) owns nothing, so that "before-first-apply", the record of
// what others owned before, would set it apart from nobody.
func unchangedBut(obj, live registry.Object) bool {
	fields := obj.GetManagedFields()
	defer obj.SetManagedFields(fields)
	old := live.GetManagedFields()
	if len(old) == 0 && !slices.ContainsFunc(fields, func(e metav1.ManagedFieldsEntry) bool { return e.Operation == metav1.ManagedFieldsOperationApply }) {
		fields = nil
	}
	if len(fields) != len(old) {
		return false
	}
	for i := range fields {
		a, b := fields[i], old[i]
		a.Time, b.Time = nil, nil
		if a.Manager != b.Manager || a.Operation != b.Operation || a.APIVersion != b.APIVersion || a.Subresource != b.Subresource ||
			a.FieldsV1 == nil || b.FieldsV1 == nil || string(a.FieldsV1.Raw) != string(b.FieldsV1.Raw) {
			return false
		}
	}
	obj.SetManagedFields(old)
	return equality.Semantic.DeepEqual(obj, live)
}

// applyError keeps what is a status already; anything else, such as a field that the kind does not have, kube-apiserver
// answers with code 500 and the bare message.
func applyError(err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return err
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error(),
	}}
}
