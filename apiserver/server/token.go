package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
)

const (
	minTokenSeconds = 10 * 60
	maxTokenSeconds = 1 << 32
	// defaultTokenSeconds is what a TokenRequest that names no lifetime gets.
	defaultTokenSeconds = 60 * 60
	// maxIssuedSeconds is the longest lifetime that is granted, whatever was asked for: a year.
	maxIssuedSeconds = 365 * 24 * 60 * 60
)

// tokens serves serviceaccounts/token (TokenRequest).
type tokens struct {
	issuer *authn.Issuer
	now    func() time.Time
	id     func() string
}

func tokenRequestKind() schema.GroupVersionKind {
	return authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
}

func (t *tokens) connect(ctx context.Context, p *pipeline.Pipeline, r *pipeline.Request, stored registry.Object) (*pipeline.Result, error) {
	account := stored.(*corev1.ServiceAccount)
	req := &authenticationv1.TokenRequest{}
	warnings, err := p.Decode(r, tokenRequestKind(), req)
	if err != nil {
		return nil, err
	}
	if req.Spec.ExpirationSeconds == nil {
		s := int64(defaultTokenSeconds)
		req.Spec.ExpirationSeconds = &s
	}
	if err := p.Admit(ctx, r, account, req); err != nil {
		return nil, err
	}
	if err := t.check(r, req); err != nil {
		return nil, err
	}
	spec := authn.TokenSpec{
		Namespace: account.Namespace, ServiceAccount: authn.BoundRef{Name: account.Name, UID: string(account.UID)},
		Audiences: req.Spec.Audiences, Now: t.now(), ID: t.id(),
		Lifetime: time.Duration(min(*req.Spec.ExpirationSeconds, maxIssuedSeconds)) * time.Second,
	}
	if err := bind(ctx, p, &spec, account, req.Spec.BoundObjectRef); err != nil {
		return nil, err
	}
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = t.issuer.Audiences()
	}
	token, expires, err := t.issuer.Issue(spec)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	req.Name, req.Namespace, req.CreationTimestamp = account.Name, account.Namespace, metav1.NewTime(t.now().Truncate(time.Second))
	req.Status = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(expires)}
	res := pipeline.Answer(tokenRequestKind(), req)
	res.Warnings = warnings
	return res, nil
}

func (t *tokens) check(r *pipeline.Request, req *authenticationv1.TokenRequest) error {
	var errs field.ErrorList
	at := field.NewPath("spec", "expirationSeconds")
	switch s := *req.Spec.ExpirationSeconds; {
	case s < minTokenSeconds:
		errs = append(errs, field.Invalid(at, s, "may not specify a duration less than 10 minutes"))
	case s > maxTokenSeconds:
		errs = append(errs, field.Invalid(at, s, "may not specify a duration larger than 2^32 seconds"))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(tokenRequestKind().GroupKind(), r.Name, errs)
	}
	if ref := req.Spec.BoundObjectRef; ref != nil {
		if ref.APIVersion != "v1" || !slices.Contains([]string{"Pod", "Secret", "Node"}, ref.Kind) {
			return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to object %q", r.Name, ref.Kind))
		}
	}
	return nil
}

// bind ties the token to the object that the request names; a pod must run as the account.
func bind(ctx context.Context, p *pipeline.Pipeline, spec *authn.TokenSpec, account *corev1.ServiceAccount, ref *authenticationv1.BoundObjectReference) error {
	if ref == nil {
		return nil
	}
	plural, namespace := map[string]string{"Pod": "pods", "Secret": "secrets", "Node": "nodes"}[ref.Kind], account.Namespace
	if ref.Kind == "Node" {
		namespace = ""
	}
	obj, ok, err := p.Object(ctx, "", plural, namespace, ref.Name, true)
	if err != nil {
		return err
	}
	gr := schema.GroupResource{Resource: plural}
	if !ok {
		return apierrors.NewNotFound(gr, ref.Name)
	}
	if ref.UID != "" && types.UID(ref.UID) != obj.GetUID() {
		return apierrors.NewConflict(gr, ref.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	bound := &authn.BoundRef{Name: obj.GetName(), UID: string(obj.GetUID())}
	switch o := obj.(type) {
	case *corev1.Pod:
		if o.Spec.ServiceAccountName != account.Name {
			return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", account.Name))
		}
		spec.Pod = bound
		return bindNode(ctx, p, spec, o.Spec.NodeName)
	case *corev1.Node:
		spec.Node = bound
	default:
		spec.Secret = bound
	}
	return nil
}

// bindNode notes, for information, on which node the bound pod runs.
func bindNode(ctx context.Context, p *pipeline.Pipeline, spec *authn.TokenSpec, name string) error {
	if name == "" {
		return nil
	}
	spec.Node = &authn.BoundRef{Name: name}
	node, ok, err := p.Object(ctx, "", "nodes", "", name, false)
	if err != nil {
		return err
	}
	if ok {
		spec.Node.UID = string(node.GetUID())
	}
	return nil
}
