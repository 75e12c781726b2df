package authz

import (
	"slices"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Store is a Rules that follows the stored RBAC objects: whoever watches them calls Set and Delete. A ClusterRole with an
// aggregation rule has the rules of all ClusterRoles that it selects, at once.
type Store struct {
	mu                  sync.RWMutex
	clusterRoles        map[string]*rbacv1.ClusterRole
	aggregated          map[string]*rbacv1.ClusterRole
	roles               map[key]*rbacv1.Role
	clusterRoleBindings map[string]*rbacv1.ClusterRoleBinding
	roleBindings        map[string]map[string]*rbacv1.RoleBinding // by namespace and name
	// bindings and inNamespace are the lists that readers share; nil when they must be made anew.
	bindings    []*rbacv1.ClusterRoleBinding
	inNamespace map[string][]*rbacv1.RoleBinding
}

type key struct{ namespace, name string }

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{
		clusterRoles: map[string]*rbacv1.ClusterRole{}, roles: map[key]*rbacv1.Role{},
		clusterRoleBindings: map[string]*rbacv1.ClusterRoleBinding{}, roleBindings: map[string]map[string]*rbacv1.RoleBinding{},
		inNamespace: map[string][]*rbacv1.RoleBinding{},
	}
}

// Set adds or replaces an object, one of the four RBAC kinds. The store keeps it; nobody may change it.
func (s *Store) Set(obj metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch o := obj.(type) {
	case *rbacv1.ClusterRole:
		s.clusterRoles[o.Name], s.aggregated = o, nil
	case *rbacv1.Role:
		s.roles[key{o.Namespace, o.Name}] = o
	case *rbacv1.ClusterRoleBinding:
		s.clusterRoleBindings[o.Name], s.bindings = o, nil
	case *rbacv1.RoleBinding:
		if s.roleBindings[o.Namespace] == nil {
			s.roleBindings[o.Namespace] = map[string]*rbacv1.RoleBinding{}
		}
		s.roleBindings[o.Namespace][o.Name] = o
		delete(s.inNamespace, o.Namespace)
	}
}

// Delete forgets an object.
func (s *Store) Delete(obj metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch o := obj.(type) {
	case *rbacv1.ClusterRole:
		delete(s.clusterRoles, o.Name)
		s.aggregated = nil
	case *rbacv1.Role:
		delete(s.roles, key{o.Namespace, o.Name})
	case *rbacv1.ClusterRoleBinding:
		delete(s.clusterRoleBindings, o.Name)
		s.bindings = nil
	case *rbacv1.RoleBinding:
		delete(s.roleBindings[o.Namespace], o.Name)
		if len(s.roleBindings[o.Namespace]) == 0 {
			delete(s.roleBindings, o.Namespace)
		}
		delete(s.inNamespace, o.Namespace)
	}
}

// ClusterRole implements Rules.
func (s *Store) ClusterRole(name string) (*rbacv1.ClusterRole, bool) {
	s.mu.RLock()
	r, ok := s.clusterRoles[name]
	var whole *rbacv1.ClusterRole
	if ok && r.AggregationRule != nil {
		whole = s.aggregated[name]
	}
	s.mu.RUnlock()
	if !ok || r.AggregationRule == nil || whole != nil {
		if whole != nil {
			r = whole
		}
		return r, ok
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aggregateLocked(name)
}

// aggregateLocked puts an aggregated ClusterRole together and keeps it until a ClusterRole changes.
func (s *Store) aggregateLocked(name string) (*rbacv1.ClusterRole, bool) {
	r, ok := s.clusterRoles[name]
	if !ok || r.AggregationRule == nil {
		return r, ok
	}
	whole := r.DeepCopy()
	for i := range r.AggregationRule.ClusterRoleSelectors {
		sel, err := metav1.LabelSelectorAsSelector(&r.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			continue
		}
		for _, other := range s.sortedLocked() {
			if other.Name != name && sel.Matches(labels.Set(other.Labels)) {
				whole.Rules = append(whole.Rules, other.Rules...)
			}
		}
	}
	if s.aggregated == nil {
		s.aggregated = map[string]*rbacv1.ClusterRole{}
	}
	s.aggregated[name] = whole
	return whole, true
}

func (s *Store) sortedLocked() []*rbacv1.ClusterRole {
	names := make([]string, 0, len(s.clusterRoles))
	for n := range s.clusterRoles {
		names = append(names, n)
	}
	slices.Sort(names)
	out := make([]*rbacv1.ClusterRole, 0, len(names))
	for _, n := range names {
		out = append(out, s.clusterRoles[n])
	}
	return out
}

// Role implements Rules.
func (s *Store) Role(namespace, name string) (*rbacv1.Role, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.roles[key{namespace, name}]
	return r, ok
}

// ClusterRoleBindings implements Rules.
func (s *Store) ClusterRoleBindings() []*rbacv1.ClusterRoleBinding {
	s.mu.RLock()
	list := s.bindings
	s.mu.RUnlock()
	if list != nil {
		return list
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bindings = make([]*rbacv1.ClusterRoleBinding, 0, len(s.clusterRoleBindings))
	for _, b := range s.clusterRoleBindings {
		s.bindings = append(s.bindings, b)
	}
	return s.bindings
}

// RoleBindings implements Rules.
func (s *Store) RoleBindings(namespace string) []*rbacv1.RoleBinding {
	s.mu.RLock()
	list, ok := s.inNamespace[namespace]
	_, any := s.roleBindings[namespace]
	s.mu.RUnlock()
	if ok || !any {
		return list
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.roleBindings[namespace] {
		list = append(list, b)
	}
	s.inNamespace[namespace] = list
	return list
}
