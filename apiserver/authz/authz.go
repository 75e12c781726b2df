// Package authz decides who may do what. It is asked by one function of the pipeline, whichever door a request came
// through, and denies what nothing allows.
//
//	chain := authz.Chain{authz.Masters{}, node, &authz.RBAC{Rules: rules}}
//	decision, reason, err := chain.Authorize(ctx, authz.Attributes{User: id, Verb: "list", Resource: "pods"})
//
// Decisions are those of Kubernetes' RBAC and Node authorizers
// (https://kubernetes.io/docs/reference/access-authn-authz/rbac/ and …/node/).
package authz

import (
	"context"
	"fmt"

	"bareboat.dev/apiserver/authn"
)

// Decision is an authorizer's opinion.
type Decision int

const (
	// NoOpinion leaves the decision to the next authorizer; in the end it means no.
	NoOpinion Decision = iota
	// Allow ends the chain.
	Allow
	// Deny ends the chain.
	Deny
)

// Attributes are what a decision depends on.
type Attributes struct {
	User *authn.Identity
	// Verb is Kubernetes' request verb ("get", "list", "deletecollection"…); for non-resource paths the lower-case HTTP method.
	Verb string
	// Group, Version, Resource and Subresource name what is acted on; Resource is empty for non-resource paths.
	Group, Version, Resource, Subresource string
	Namespace, Name                       string
	// Fields and Labels are the equality requirements of the request's field and label selectors.
	Fields, Labels map[string]string
	// Path is the non-resource path, e.g. "/healthz".
	Path string
}

// Authorizer has an opinion on requests. Reason is shown to the user with a denial.
type Authorizer interface {
	Authorize(ctx context.Context, a *Attributes) (d Decision, reason string, err error)
}

// Chain asks each authorizer in turn until one allows or denies.
type Chain []Authorizer

// Authorize implements Authorizer.
func (c Chain) Authorize(ctx context.Context, a *Attributes) (Decision, string, error) {
	reasons := ""
	for _, z := range c {
		d, reason, err := z.Authorize(ctx, a)
		if err != nil {
			return Deny, "", err
		}
		if d != NoOpinion {
			return d, reason, nil
		}
		if reason != "" && reasons != "" {
			reasons += ", "
		}
		reasons += reason
	}
	return NoOpinion, reasons, nil
}

// Masters allows everything to members of system:masters.
type Masters struct{}

// Authorize implements Authorizer.
func (Masters) Authorize(_ context.Context, a *Attributes) (Decision, string, error) {
	if a.User.In(authn.Masters) {
		return Allow, "", nil
	}
	return NoOpinion, "", nil
}

// HealthPaths allows everybody to ask for health and version, whatever the rules say and even before they have been read:
// who asks whether a server is well must get an answer when it is not.
type HealthPaths struct{}

// Authorize implements Authorizer.
func (HealthPaths) Authorize(_ context.Context, a *Attributes) (Decision, string, error) {
	if a.Resource != "" || a.Verb != "get" && a.Verb != "head" {
		return NoOpinion, "", nil
	}
	switch a.Path {
	case "/healthz", "/livez", "/readyz", "/version", "/version/":
		return Allow, "", nil
	}
	return NoOpinion, "", nil
}

// Message words a denial as Kubernetes does: `User "x" cannot list resource "pods" in API group "" in the namespace "y"`.
func (a *Attributes) Message(reason string) string {
	var m string
	switch {
	case a.Resource == "":
		m = fmt.Sprintf("User %q cannot %s path %q", a.User.Name, a.Verb, a.Path)
	default:
		resource := a.Resource
		if a.Subresource != "" {
			resource += "/" + a.Subresource
		}
		m = fmt.Sprintf("User %q cannot %s resource %q in API group %q", a.User.Name, a.Verb, resource, a.Group)
		if a.Namespace != "" {
			m += fmt.Sprintf(" in the namespace %q", a.Namespace)
		} else {
			m += " at the cluster scope"
		}
	}
	if reason != "" {
		m += ": " + reason
	}
	return m
}
