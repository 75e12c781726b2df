package pipeline

import (
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/watchcache"
)

// query parses a request's selectors.
func (h *handle) query(r *Request) (watchcache.Query, error) {
	q := watchcache.Query{Namespace: r.Namespace, Name: r.Name}
	if r.LabelSelector != "" {
		s, err := labels.Parse(r.LabelSelector)
		if err != nil {
			return q, apierrors.NewBadRequest(fmt.Sprintf("unable to parse requirement: %v", trimRequirement(err)))
		}
		if !s.Empty() {
			q.Labels = s
		}
	}
	if r.FieldSelector == "" {
		return q, nil
	}
	s, err := fields.ParseSelector(r.FieldSelector)
	if err != nil {
		return q, apierrors.NewBadRequest(err.Error())
	}
	for _, req := range s.Requirements() {
		if err := h.checkField(req.Field); err != nil {
			return q, err
		}
	}
	if !s.Empty() {
		q.Fields, err = h.storedFields(s)
	}
	if c := h.res.Custom; c != nil && c.Remade {
		q.FieldsOf = h.remadeFields
	}
	return q, err
}

// remadeFields are an item's selectable fields as they are in the handle's version. What cannot be converted has none.
func (h *handle) remadeFields(it *watchcache.Item) map[string]string {
	obj, err := h.object(it)
	if err != nil {
		return nil
	}
	found := make(map[string]string, len(h.res.Fields))
	for path, get := range h.res.Fields {
		found[path] = get(obj)
	}
	return found
}

// selection is a request's selectors, which have been found good, as a predicate on objects of the request's version.
func (h *handle) selection(r *Request) func(registry.Object) bool {
	byLabel, err := labels.Parse(r.LabelSelector)
	if err != nil {
		byLabel = labels.Nothing()
	}
	byField, err := fields.ParseSelector(r.FieldSelector)
	if err != nil {
		byField = fields.Nothing()
	}
	return func(obj registry.Object) bool {
		set := fields.Set{"metadata.name": obj.GetName(), "metadata.namespace": obj.GetNamespace()}
		for path, get := range h.res.Fields {
			set[path] = get(obj)
		}
		return byLabel.Matches(labels.Set(obj.GetLabels())) && byField.Matches(set)
	}
}

func trimRequirement(err error) string {
	const prefix = "unable to parse requirement: "
	m := err.Error()
	if len(m) > len(prefix) && m[:len(prefix)] == prefix {
		return m[len(prefix):]
	}
	return m
}

func (h *handle) checkField(path string) error {
	if _, ok := h.res.Fields[path]; ok || path == "metadata.name" || path == "metadata.namespace" && h.res.Namespaced {
		return nil
	}
	switch {
	case h.res.Custom != nil || len(h.res.Fields) > 0 && h.res.UnknownField == "":
		return apierrors.NewBadRequest("field label not supported: " + path)
	case h.res.UnknownField != "":
		return apierrors.NewBadRequest(fmt.Sprintf(h.res.UnknownField, path))
	case path == "metadata.namespace": // which is empty
		return nil
	}
	return apierrors.NewBadRequest(fmt.Sprintf(`%q is not a known field selector: only "metadata.name", "metadata.namespace"`, path))
}

// equalities are the fields that a selector pins, for authorizers.
func equalities(selector string) map[string]string {
	if selector == "" {
		return nil
	}
	s, err := fields.ParseSelector(selector)
	if err != nil {
		return nil
	}
	m := map[string]string{}
	for _, req := range s.Requirements() {
		if req.Operator == selection.Equals || req.Operator == selection.DoubleEquals {
			m[req.Field] = req.Value
		}
	}
	return m
}

// labelEqualities returns what a label selector demands to be equal.
func labelEqualities(selector string) map[string]string {
	if selector == "" {
		return nil
	}
	requirements, err := labels.ParseToRequirements(selector)
	if err != nil {
		return nil
	}
	m := map[string]string{}
	for _, r := range requirements {
		if values := r.Values().UnsortedList(); len(values) == 1 && (r.Operator() == selection.Equals || r.Operator() == selection.DoubleEquals || r.Operator() == selection.In) {
			m[r.Key()] = values[0]
		}
	}
	return m
}

// parseVersion reads a resource version; empty is 0.
func parseVersion(s string) (storage.Revision, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("Invalid value: %q: %w", s, err)
	}
	return storage.Revision(n), nil
}
