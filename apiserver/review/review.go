// Package review answers questions about identities and rights: authorization.k8s.io and authentication.k8s.io. Its resources
// are created and never stored; the answer is the created object (`kubectl auth can-i`, `kubectl auth whoami`, and what
// kubelets and aggregated servers ask about their callers).
//
//	set, err := registry.NewSet(append(groups.All(cfg), review.Resources()...)...)
//	connectors := reviewer.Connectors()
package review

import (
	"context"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
)

// Resources are the kinds of questions.
func Resources() []*registry.Resource {
	ask := func(group, kind, plural, singular string, namespaced bool, newObject func() registry.Object) *registry.Resource {
		r := &registry.Resource{Plural: plural, Singular: singular, Namespaced: namespaced, Verbs: []string{"create"}, New: newObject}
		r.Kind.Group, r.Kind.Version, r.Kind.Kind = group, "v1", kind
		return r
	}
	const authorization, authentication = authorizationv1.GroupName, authenticationv1.GroupName
	return []*registry.Resource{
		ask(authorization, "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview", false, func() registry.Object { return &authorizationv1.SubjectAccessReview{} }),
		ask(authorization, "SelfSubjectAccessReview", "selfsubjectaccessreviews", "selfsubjectaccessreview", false, func() registry.Object { return &authorizationv1.SelfSubjectAccessReview{} }),
		ask(authorization, "LocalSubjectAccessReview", "localsubjectaccessreviews", "localsubjectaccessreview", true, func() registry.Object { return &authorizationv1.LocalSubjectAccessReview{} }),
		ask(authorization, "SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview", false, func() registry.Object { return &authorizationv1.SelfSubjectRulesReview{} }),
		ask(authentication, "TokenReview", "tokenreviews", "tokenreview", false, func() registry.Object { return &authenticationv1.TokenReview{} }),
		ask(authentication, "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview", false, func() registry.Object { return &authenticationv1.SelfSubjectReview{} }),
	}
}

// Reviewer answers.
type Reviewer struct {
	Authorizer authz.Authorizer
	RBAC       *authz.RBAC
	// Tokens checks tokens; nil knows none.
	Tokens Tokens
}

// Tokens says whose a token is, and for which of the wanted audiences it is good; no audiences means the server's own.
type Tokens interface {
	Review(ctx context.Context, token string, audiences []string) (*authn.Identity, []string, error)
}

// Connectors are what the pipeline calls for the resources.
func (v *Reviewer) Connectors() map[string]pipeline.Connector {
	const authorization, authentication = authorizationv1.GroupName, authenticationv1.GroupName
	return map[string]pipeline.Connector{
		authorization + "/subjectaccessreviews/":      v.subjectAccess,
		authorization + "/selfsubjectaccessreviews/":  v.selfAccess,
		authorization + "/localsubjectaccessreviews/": v.localAccess,
		authorization + "/selfsubjectrulesreviews/":   v.selfRules,
		authentication + "/tokenreviews/":             v.token,
		authentication + "/selfsubjectreviews/":       v.self,
	}
}

func (v *Reviewer) subjectAccess(ctx context.Context, p *pipeline.Pipeline, r *pipeline.Request, _ registry.Object) (*pipeline.Result, error) {
	q := &authorizationv1.SubjectAccessReview{}
	kind := authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview")
	if _, err := p.Decode(r, kind, q); err != nil {
		return nil, err
	}
	var err error
	q.Status, err = v.decide(ctx, subject(&q.Spec), question{kind.Kind, q.ObjectMeta, &q.Spec, q.Spec.ResourceAttributes, q.Spec.NonResourceAttributes})
	return pipeline.Answer(kind, q), err
}

func (v *Reviewer) selfAccess(ctx context.Context, p *pipeline.Pipeline, r *pipeline.Request, _ registry.Object) (*pipeline.Result, error) {
	q := &authorizationv1.SelfSubjectAccessReview{}
	kind := authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview")
	if _, err := p.Decode(r, kind, q); err != nil {
		return nil, err
	}
	var err error
	q.Status, err = v.decide(ctx, r.User, question{kind.Kind, q.ObjectMeta, nil, q.Spec.ResourceAttributes, q.Spec.NonResourceAttributes})
	return pipeline.Answer(kind, q), err
}

func (v *Reviewer) localAccess(ctx context.Context, p *pipeline.Pipeline, r *pipeline.Request, _ registry.Object) (*pipeline.Result, error) {
	q := &authorizationv1.LocalSubjectAccessReview{}
	kind := authorizationv1.SchemeGroupVersion.WithKind("LocalSubjectAccessReview")
	if _, err := p.Decode(r, kind, q); err != nil {
		return nil, err
	}
	if q.Spec.ResourceAttributes != nil && q.Spec.ResourceAttributes.Namespace != r.Namespace {
		return nil, apierrors.NewBadRequest("spec.resourceAttributes.namespace must match namespace: " + r.Namespace)
	}
	var err error
	q.Status, err = v.decide(ctx, subject(&q.Spec), question{kind.Kind, q.ObjectMeta, &q.Spec, q.Spec.ResourceAttributes, q.Spec.NonResourceAttributes})
	return pipeline.Answer(kind, q), err
}

// subject is the identity that a review is about.
func subject(s *authorizationv1.SubjectAccessReviewSpec) *authn.Identity {
	id := &authn.Identity{Name: s.User, UID: s.UID, Groups: s.Groups, Extra: map[string][]string{}}
	for k, values := range s.Extra {
		id.Extra[k] = values
	}
	return id
}

func (v *Reviewer) decide(ctx context.Context, user *authn.Identity, q question) (authorizationv1.SubjectAccessReviewStatus, error) {
	if err := q.check(); err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	a := authz.Attributes{User: user}
	if res := q.resource; res != nil {
		a.Verb, a.Group, a.Version, a.Resource, a.Subresource = res.Verb, res.Group, res.Version, res.Resource, res.Subresource
		a.Namespace, a.Name = res.Namespace, res.Name
		a.Fields, a.Labels = pinned(res)
	} else {
		a.Verb, a.Path = q.path.Verb, q.path.Path
	}
	d, reason, err := v.Authorizer.Authorize(ctx, &a)
	if err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, apierrors.NewInternalError(err)
	}
	return authorizationv1.SubjectAccessReviewStatus{Allowed: d == authz.Allow, Denied: d == authz.Deny, Reason: reason}, nil
}

func (v *Reviewer) selfRules(_ context.Context, p *pipeline.Pipeline, r *pipeline.Request, _ registry.Object) (*pipeline.Result, error) {
	q := &authorizationv1.SelfSubjectRulesReview{}
	kind := authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectRulesReview")
	if _, err := p.Decode(r, kind, q); err != nil {
		return nil, err
	}
	if q.Spec.Namespace == "" {
		return nil, apierrors.NewBadRequest("no namespace on request")
	}
	rules := v.RBAC.RulesFor(r.User, q.Spec.Namespace)
	if r.User.In(authn.Masters) {
		rules = append(rules, rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
			rbacv1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}})
	}
	// What a node may do depends on its pods and is no list of rules.
	q.Status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}, Incomplete: r.User.In(authn.Nodes),
	}
	for _, rule := range rules {
		if len(rule.Resources) > 0 {
			q.Status.ResourceRules = append(q.Status.ResourceRules, authorizationv1.ResourceRule{
				Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames,
			})
		}
		if len(rule.NonResourceURLs) > 0 {
			q.Status.NonResourceRules = append(q.Status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
		}
	}
	return pipeline.Answer(kind, q), nil
}

func (v *Reviewer) token(ctx context.Context, p *pipeline.Pipeline, r *pipeline.Request, _ registry.Object) (*pipeline.Result, error) {
	q := &authenticationv1.TokenReview{}
	kind := authenticationv1.SchemeGroupVersion.WithKind("TokenReview")
	if _, err := p.Decode(r, kind, q); err != nil {
		return nil, err
	}
	if q.Spec.Token == "" {
		return nil, apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	q.Status = authenticationv1.TokenReviewStatus{}
	if v.Tokens == nil {
		q.Status.Error = "this server knows no tokens"
		return pipeline.Answer(kind, q), nil
	}
	id, good, err := v.Tokens.Review(ctx, q.Spec.Token, q.Spec.Audiences)
	if err != nil {
		q.Status.Error = "[invalid bearer token]"
		return pipeline.Answer(kind, q), nil
	}
	q.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: userInfo(id), Audiences: good}
	return pipeline.Answer(kind, q), nil
}

func (v *Reviewer) self(_ context.Context, p *pipeline.Pipeline, r *pipeline.Request, _ registry.Object) (*pipeline.Result, error) {
	q := &authenticationv1.SelfSubjectReview{}
	kind := authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview")
	if _, err := p.Decode(r, kind, q); err != nil {
		return nil, err
	}
	q.Status.UserInfo = userInfo(r.User)
	return pipeline.Answer(kind, q), nil
}

func userInfo(id *authn.Identity) authenticationv1.UserInfo {
	u := authenticationv1.UserInfo{Username: id.Name, UID: id.UID, Groups: slices.Clone(id.Groups)}
	for k, values := range id.Extra {
		if u.Extra == nil {
			u.Extra = map[string]authenticationv1.ExtraValue{}
		}
		u.Extra[k] = values
	}
	return u
}
