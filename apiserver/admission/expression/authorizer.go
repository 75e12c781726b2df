package expression

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/library"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
)

// WithAuthorizer lets the input's expressions ask what its user may do; the resource is the request's own.
func (in *Input) WithAuthorizer(who *authn.Identity, a authz.Authorizer, group, version, resource, subresource, namespace, name string) *Input {
	out := *in
	info := &user.DefaultInfo{Name: who.Name, UID: who.UID, Groups: who.Groups, Extra: who.Extra}
	out.authorizer = library.NewAuthorizerVal(info, asker{a})
	out.requestResource = library.NewResourceAuthorizerVal(info, asker{a}, target{group, version, resource, subresource, namespace, name})
	return &out
}

// target implements library.Resource.
type target struct{ group, version, resource, subresource, namespace, name string }

func (t target) GetName() string        { return t.name }
func (t target) GetNamespace() string   { return t.namespace }
func (t target) GetSubresource() string { return t.subresource }
func (t target) GetResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: t.group, Version: t.version, Resource: t.resource}
}

// asker is the server's authorizer as the CEL library knows one.
type asker struct{ authorizer authz.Authorizer }

// Authorize implements authorizer.UnconditionalAuthorizer.
func (k asker) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	u := a.GetUser()
	q := &authz.Attributes{
		User: &authn.Identity{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()}, Verb: a.GetVerb(),
		Group: a.GetAPIGroup(), Version: a.GetAPIVersion(), Resource: a.GetResource(), Subresource: a.GetSubresource(), Namespace: a.GetNamespace(), Name: a.GetName(),
	}
	if !a.IsResourceRequest() {
		q.Path = a.GetPath()
	}
	d, reason, err := k.authorizer.Authorize(ctx, q)
	if d == authz.Allow {
		return authorizer.DecisionAllow, reason, err
	}
	return authorizer.DecisionNoOpinion, reason, err
}
