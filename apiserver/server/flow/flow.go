// Package flow tells which FlowSchema and which priority level a request belongs to, as Kubernetes' API Priority and Fairness
// classifies it (https://kubernetes.io/docs/concepts/cluster-administration/flow-control/). Answers carry both as headers, so that
// clients and their tools see what they see elsewhere. How many requests are served at once is package inflight's matter.
//
//	schema, level, ok := table.Classify(&flow.Request{User: id, Verb: "list", Resource: "pods"})
package flow

import (
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/apiserver/authn"
)

// Request is what a classification depends on.
type Request struct {
	User *authn.Identity
	Verb string
	// Group, Resource, Subresource and Namespace of a request about resources; Resource is empty for all others, which have Path.
	Group, Resource, Subresource, Namespace string
	Path                                    string
}

// Table is the FlowSchemas in the order in which they are tried. It never changes.
type Table struct{ entries []entry }

type entry struct {
	schema *flowcontrolv1.FlowSchema
	level  types.UID
}

// NewTable orders the schemas and finds their levels. A schema whose level does not exist is left out.
func NewTable(schemas []*flowcontrolv1.FlowSchema, levels []*flowcontrolv1.PriorityLevelConfiguration) *Table {
	uids := map[string]types.UID{}
	for _, l := range levels {
		uids[l.Name] = l.UID
	}
	t := &Table{}
	for _, s := range schemas {
		if uid, ok := uids[s.Spec.PriorityLevelConfiguration.Name]; ok {
			t.entries = append(t.entries, entry{s, uid})
		}
	}
	slices.SortFunc(t.entries, func(a, b entry) int {
		if a.schema.Spec.MatchingPrecedence != b.schema.Spec.MatchingPrecedence {
			return int(a.schema.Spec.MatchingPrecedence) - int(b.schema.Spec.MatchingPrecedence)
		}
		return strings.Compare(a.schema.Name, b.schema.Name)
	})
	return t
}

// Classify returns the uids of the first schema that matches and of its priority level.
func (t *Table) Classify(r *Request) (schema, level types.UID, ok bool) {
	for _, e := range t.entries {
		for i := range e.schema.Spec.Rules {
			if matches(&e.schema.Spec.Rules[i], r) {
				return e.schema.UID, e.level, true
			}
		}
	}
	return "", "", false
}

func matches(rule *flowcontrolv1.PolicyRulesWithSubjects, r *Request) bool {
	if !slices.ContainsFunc(rule.Subjects, func(s flowcontrolv1.Subject) bool { return isSubject(&s, r.User) }) {
		return false
	}
	if r.Resource == "" {
		return slices.ContainsFunc(rule.NonResourceRules, func(n flowcontrolv1.NonResourcePolicyRule) bool {
			return among(n.Verbs, r.Verb) && slices.ContainsFunc(n.NonResourceURLs, func(u string) bool { return isPath(u, r.Path) })
		})
	}
	return slices.ContainsFunc(rule.ResourceRules, func(p flowcontrolv1.ResourcePolicyRule) bool { return isResource(&p, r) })
}

func isSubject(s *flowcontrolv1.Subject, id *authn.Identity) bool {
	switch {
	case s.Kind == flowcontrolv1.SubjectKindUser && s.User != nil:
		return s.User.Name == flowcontrolv1.NameAll || s.User.Name == id.Name
	case s.Kind == flowcontrolv1.SubjectKindGroup && s.Group != nil:
		return s.Group.Name == flowcontrolv1.NameAll || id.In(s.Group.Name)
	case s.Kind == flowcontrolv1.SubjectKindServiceAccount && s.ServiceAccount != nil:
		if s.ServiceAccount.Name == flowcontrolv1.NameAll {
			return id.In(authn.ServiceAccounts + ":" + s.ServiceAccount.Namespace)
		}
		return id.Name == authn.ServiceAccountPrefix+s.ServiceAccount.Namespace+":"+s.ServiceAccount.Name
	}
	return false
}

func isResource(p *flowcontrolv1.ResourcePolicyRule, r *Request) bool {
	resource := r.Resource
	if r.Subresource != "" {
		resource += "/" + r.Subresource
	}
	if !among(p.Verbs, r.Verb) || !among(p.APIGroups, r.Group) || !among(p.Resources, resource) {
		return false
	}
	if r.Namespace == "" {
		return p.ClusterScope
	}
	return among(p.Namespaces, r.Namespace)
}

// isPath: "*" is every path, "/a/*" those below /a/, and anything else itself.
func isPath(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return pattern == path
}

func among(list []string, s string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, s)
}
