package pipeline

import (
	"context"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
)

// The headers by which a request asks to be treated as somebody else's, in lower case: HTTP headers and gRPC metadata alike
// (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation).
const (
	impersonateUser  = "impersonate-user"
	impersonateGroup = "impersonate-group"
	impersonateUID   = "impersonate-uid"
	impersonateExtra = "impersonate-extra-"
)

// Impersonate returns the caller that a request's headers (with keys in lower case) ask for, with an error if the real caller may not
// impersonate it, and the caller unchanged if they ask for nobody.
func (p *Pipeline) Impersonate(ctx context.Context, c Caller, headers map[string][]string) (Caller, error) {
	if !impersonates(headers) {
		return c, nil
	}
	id := &authn.Identity{Extra: map[string][]string{}}
	asked := false
	for name, values := range headers {
		switch {
		case !strings.HasPrefix(name, "impersonate-") || len(values) == 0:
			continue
		case name == impersonateUser:
			id.Name = values[0]
		case name == impersonateUID:
			id.UID = values[0]
		case name == impersonateGroup:
			id.Groups = append(id.Groups, values...)
		case strings.HasPrefix(name, impersonateExtra):
			key, err := url.PathUnescape(strings.TrimPrefix(name, impersonateExtra))
			if err != nil {
				return c, apierrors.NewBadRequest("malformed impersonation header " + name)
			}
			id.Extra[key] = append(id.Extra[key], values...)
		default:
			continue
		}
		asked = true
	}
	if !asked {
		return c, nil
	}
	if id.Name == "" {
		return c, apierrors.NewBadRequest("requested groups, uid or extra data without impersonating a user")
	}
	err := p.mayImpersonate(ctx, c.User, id)
	c.Real, c.User = c.User, complete(id)
	return c, err
}

// impersonates reports whether any header may ask for somebody else. Nearly no request has one.
func impersonates(headers map[string][]string) bool {
	for name := range headers {
		if strings.HasPrefix(name, "impersonate-") {
			return true
		}
	}
	return false
}

// mayImpersonate asks for each part of the identity.
func (p *Pipeline) mayImpersonate(ctx context.Context, real, id *authn.Identity) error {
	check := func(group, resource, sub, namespace, name string) error {
		return p.AuthorizeAttributes(ctx, &authz.Attributes{
			User: real, Verb: "impersonate", Group: group, Version: "v1", Resource: resource, Subresource: sub, Namespace: namespace, Name: name,
		})
	}
	var err error
	if namespace, name, ok := serviceAccount(id.Name); ok {
		err = check("", "serviceaccounts", "", namespace, name)
	} else {
		err = check("", "users", "", "", id.Name)
	}
	for _, g := range id.Groups {
		if err == nil {
			err = check("", "groups", "", "", g)
		}
	}
	if err == nil && id.UID != "" {
		err = check("authentication.k8s.io", "uids", "", "", id.UID)
	}
	for key, values := range id.Extra {
		for _, v := range values {
			if err == nil {
				err = check("authentication.k8s.io", "userextras", key, "", v)
			}
		}
	}
	return err
}

func serviceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, authn.ServiceAccountPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}

// complete adds the groups that the identity would have had by authenticating.
func complete(id *authn.Identity) *authn.Identity {
	if namespace, _, ok := serviceAccount(id.Name); ok && len(id.Groups) == 0 {
		id.Groups = []string{authn.ServiceAccounts, authn.ServiceAccounts + ":" + namespace}
	}
	switch {
	case id.Name == authn.Anonymous:
		if !id.In(authn.Unauthenticated) {
			id.Groups = append(id.Groups, authn.Unauthenticated)
		}
	case !id.In(authn.AllAuthenticated) && !id.In(authn.Unauthenticated):
		id.Groups = append(id.Groups, authn.AllAuthenticated)
	}
	return id
}
