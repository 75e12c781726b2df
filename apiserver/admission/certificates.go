package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
)

// CertificateApproval lets only those approve or deny a request who may "approve" for its signer.
func CertificateApproval(authorizer authz.Authorizer) Plugin {
	return Plugin{Name: "CertificateApproval", Validate: func(ctx context.Context, a *Attributes) error {
		if a.Operation != Update || a.Subresource != "approval" {
			return nil
		}
		csr, ok := a.Old.(*certificatesv1.CertificateSigningRequest)
		if !ok {
			return nil
		}
		return signer(ctx, authorizer, a, "approve", csr.Spec.SignerName)
	}}
}

// CertificateSigning lets only those issue a certificate, or say that signing has failed, who may "sign" for the request's signer.
func CertificateSigning(authorizer authz.Authorizer) Plugin {
	return Plugin{Name: "CertificateSigning", Validate: func(ctx context.Context, a *Attributes) error {
		if a.Operation != Update || a.Subresource != "status" {
			return nil
		}
		csr, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
		old, okOld := a.Old.(*certificatesv1.CertificateSigningRequest)
		if !ok || !okOld || slices.Equal(csr.Status.Certificate, old.Status.Certificate) && equality.Semantic.DeepEqual(csr.Status.Conditions, old.Status.Conditions) {
			return nil
		}
		return signer(ctx, authorizer, a, "sign", old.Spec.SignerName)
	}}
}

// ClusterTrustBundleAttest lets only those say whom to trust for a signer who may "attest" for it.
func ClusterTrustBundleAttest(authorizer authz.Authorizer) Plugin {
	return Plugin{Name: "ClusterTrustBundleAttest", Validate: func(ctx context.Context, a *Attributes) error {
		b, ok := a.Object.(*certificatesv1.ClusterTrustBundle)
		if !ok || b.Spec.SignerName == "" || onlyCollected(a) {
			return nil
		}
		if allowed, err := maySign(ctx, authorizer, a, "attest", b.Spec.SignerName); allowed || err != nil {
			return err
		}
		return apierrors.NewForbidden(resource(a), a.ObjectName(), fmt.Errorf("user not permitted to attest for signerName %q", b.Spec.SignerName))
	}}
}

// signer asks whether the user may do something with the requests to a signer.
func signer(ctx context.Context, authorizer authz.Authorizer, a *Attributes, verb, name string) error {
	if allowed, err := maySign(ctx, authorizer, a, verb, name); allowed || err != nil {
		return err
	}
	return apierrors.NewForbidden(resource(a), a.ObjectName(), fmt.Errorf("user not permitted to %s requests with signerName %q", verb, name))
}

// maySign reports whether the user may do something for a signer, by its name or for all of its domain.
func maySign(ctx context.Context, authorizer authz.Authorizer, a *Attributes, verb, name string) (bool, error) {
	domain, _, _ := strings.Cut(name, "/")
	for _, allowed := range []string{name, domain + "/*"} {
		d, _, err := authorizer.Authorize(ctx, &authz.Attributes{
			User: a.User, Verb: verb, Group: certificatesv1.GroupName, Version: "*", Resource: "signers", Name: allowed,
		})
		if err != nil {
			return false, apierrors.NewInternalError(err)
		}
		if d == authz.Allow {
			return true, nil
		}
	}
	return false, nil
}

var errMasters = errors.New("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed")

// CertificateSubjectRestriction refuses requests for client certificates of the group that may do everything.
func CertificateSubjectRestriction() Plugin {
	return Plugin{Name: "CertificateSubjectRestriction", Validate: func(_ context.Context, a *Attributes) error {
		csr, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
		if !ok || a.Operation != Create || a.Subresource != "" || csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
			return nil
		}
		request, err := parseRequest(csr.Spec.Request)
		if err != nil {
			return apierrors.NewForbidden(resource(a), a.ObjectName(), fmt.Errorf("failed to parse CSR: %w", err))
		}
		if slices.Contains(request.Subject.Organization, authn.Masters) {
			return apierrors.NewForbidden(resource(a), a.ObjectName(), errMasters)
		}
		return nil
	}}
}
