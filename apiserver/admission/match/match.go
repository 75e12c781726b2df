// Package match says which writes the rules of webhooks and admission policies select: by operation, resource, scope, the labels of the
// object and those of its namespace (https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-rules).
package match

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/registry"
)

// Reader is what matching has to know beyond the write.
type Reader interface {
	admission.Reader
	// Set is what is served at the moment.
	Set() *registry.Set
}

// Write is a write that many rules are held against; what they ask of it is found out once.
type Write struct {
	*admission.Attributes
	source    *Source
	namespace *corev1.Namespace
	// alike are the equivalents, once looked for.
	alike  []*registry.Resource
	looked bool
}

// Source makes writes out of attributes.
type Source struct {
	reader Reader
	forms  atomic.Pointer[forms]
}

// forms are the resources of one set by where their objects are kept.
type forms struct {
	set      *registry.Set
	byPrefix map[string][]*registry.Resource
}

// NewSource returns a source that reads through reader.
func NewSource(reader Reader) *Source { return &Source{reader: reader} }

// Write wraps a write.
func (s *Source) Write(a *admission.Attributes) *Write { return &Write{Attributes: a, source: s} }

// sharing returns the resources whose objects are the resource's, itself among them.
func (s *Source) sharing(r *registry.Resource) []*registry.Resource {
	set := s.reader.Set()
	f := s.forms.Load()
	if f == nil || f.set != set {
		f = &forms{set, map[string][]*registry.Resource{}}
		for _, one := range set.All() {
			f.byPrefix[one.KeyPrefix] = append(f.byPrefix[one.KeyPrefix], one)
		}
		s.forms.Store(f)
	}
	return f.byPrefix[r.KeyPrefix]
}

// Operation is what the write is called outside: a subresource that is a command, such as pods/binding, is created.
func (w *Write) Operation() admissionregistrationv1.OperationType {
	if w.Subresource != "" && w.Attributes.Operation == admission.Update {
		if sub, ok := w.Resource.Subresources[w.Subresource]; ok && !slices.Contains(sub.Verbs, "update") && slices.Contains(sub.Verbs, "create") {
			return admissionregistrationv1.Create
		}
	}
	return admissionregistrationv1.OperationType(w.Attributes.Operation)
}

// isNamespace reports whether the write is of a Namespace itself.
func (w *Write) isNamespace() bool {
	return w.Resource.Kind.Group == "" && w.Resource.Plural == "namespaces"
}

// Namespace is the namespace that the write is in, or nil. A Namespace is in itself, as it will be.
func (w *Write) Namespace(ctx context.Context) (*corev1.Namespace, error) {
	if w.namespace != nil {
		return w.namespace, nil
	}
	if w.isNamespace() {
		w.namespace, _ = w.Object.(*corev1.Namespace)
		if w.namespace == nil {
			w.namespace, _ = w.Old.(*corev1.Namespace)
		}
		return w.namespace, nil
	}
	if w.Attributes.Namespace == "" {
		return nil, nil
	}
	for _, fresh := range []bool{false, true} {
		obj, ok, err := w.source.reader.Object(ctx, "", "namespaces", "", w.Attributes.Namespace, fresh)
		if err != nil {
			return nil, err
		}
		if ok {
			w.namespace = obj.(*corev1.Namespace)
			return w.namespace, nil
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, w.Attributes.Namespace)
}

// equivalents are the other versions and groups through which the same object can be written.
func (w *Write) equivalents() []*registry.Resource {
	if w.looked || w.Resource.KeyPrefix == "" {
		return w.alike
	}
	w.looked = true
	if all := w.source.sharing(w.Resource); len(all) > 1 {
		w.alike = slices.DeleteFunc(slices.Clone(all), func(r *registry.Resource) bool { return r.Kind == w.Resource.Kind })
	}
	return w.alike
}

// Criteria select writes.
type Criteria struct {
	rules, exclude    []admissionregistrationv1.NamedRuleWithOperations
	namespace, object labels.Selector
	exact             bool
}

// New compiles criteria.
func New(m *admissionregistrationv1.MatchResources) (*Criteria, error) {
	c := &Criteria{rules: m.ResourceRules, exclude: m.ExcludeResourceRules, exact: m.MatchPolicy != nil && *m.MatchPolicy == admissionregistrationv1.Exact}
	var err error
	if c.namespace, err = selector(m.NamespaceSelector); err != nil {
		return nil, err
	}
	c.object, err = selector(m.ObjectSelector)
	return c, err
}

// selector compiles a selector; none selects everything.
func selector(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Everything(), nil
	}
	return metav1.LabelSelectorAsSelector(s)
}

// NewRules compiles a webhook's criteria.
func NewRules(rules []admissionregistrationv1.RuleWithOperations, policy *admissionregistrationv1.MatchPolicyType, namespace, object *metav1.LabelSelector) (*Criteria, error) {
	m := &admissionregistrationv1.MatchResources{MatchPolicy: policy, NamespaceSelector: namespace, ObjectSelector: object}
	for i := range rules {
		m.ResourceRules = append(m.ResourceRules, admissionregistrationv1.NamedRuleWithOperations{RuleWithOperations: rules[i]})
	}
	return New(m)
}

// Match reports whether the write is selected, and as which resource: its own, or an equivalent one that the rules name instead.
func (c *Criteria) Match(ctx context.Context, w *Write) (*registry.Resource, bool, error) {
	as, ok := c.resource(w)
	if !ok || !c.selectsObject(w) {
		return nil, false, nil
	}
	if c.namespace.Empty() {
		return as, true, nil
	}
	ns, err := w.Namespace(ctx)
	if err != nil {
		return nil, false, err
	}
	return as, ns == nil || c.namespace.Matches(labels.Set(ns.Labels)), nil
}

// resource finds the resource that the rules select the write as. What is excluded is so in every equivalent form.
func (c *Criteria) resource(w *Write) (*registry.Resource, bool) {
	itself := [1]*registry.Resource{w.Resource}
	forms := itself[:]
	if !c.exact && (len(c.exclude) > 0 || !c.names(w, w.Resource, c.rules)) {
		forms = append(forms, w.equivalents()...)
	}
	for _, r := range forms {
		if c.names(w, r, c.exclude) {
			return nil, false
		}
	}
	for _, r := range forms {
		// No rules at all select everything; only bindings may have none.
		if c.names(w, r, c.rules) || c.rules == nil && r == w.Resource {
			return r, true
		}
	}
	return nil, false
}

func (c *Criteria) names(w *Write, r *registry.Resource, rules []admissionregistrationv1.NamedRuleWithOperations) bool {
	for i := range rules {
		if rule := &rules[i]; ruleNames(w, r, &rule.RuleWithOperations) && (len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, w.Name)) {
			return true
		}
	}
	return false
}

func ruleNames(w *Write, r *registry.Resource, rule *admissionregistrationv1.RuleWithOperations) bool {
	return has(rule.Operations, w.Operation()) && has(rule.APIGroups, r.Kind.Group) && has(rule.APIVersions, r.Kind.Version) &&
		scoped(rule.Scope, r.Namespaced) && slices.ContainsFunc(rule.Resources, func(pattern string) bool { return resourceFits(pattern, r.Plural, w.Subresource) })
}

// has reports whether a list has a value or the star.
func has[T ~string](list []T, value T) bool {
	return slices.Contains(list, value) || slices.Contains(list, "*")
}

func scoped(scope *admissionregistrationv1.ScopeType, namespaced bool) bool {
	if scope == nil {
		return true
	}
	switch *scope {
	case admissionregistrationv1.NamespacedScope:
		return namespaced
	case admissionregistrationv1.ClusterScope:
		return !namespaced
	}
	return true
}

// resourceFits holds a resource and a subresource to a pattern such as "pods", "pods/*", "*/scale" or "*".
func resourceFits(pattern, resource, subresource string) bool {
	of, sub, _ := strings.Cut(pattern, "/")
	return (of == "*" || of == resource) && (sub == subresource || sub == "*")
}

// selectsObject: the object is selected if it is or was.
func (c *Criteria) selectsObject(w *Write) bool {
	if c.object.Empty() {
		return true
	}
	for _, obj := range []registry.Object{w.Object, w.Old} {
		if obj != nil && c.object.Matches(labels.Set(obj.GetLabels())) {
			return true
		}
	}
	return false
}
