package certificates

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

// The bounds of a pod's request, from KEP-4317.
const (
	minExpiration           = 3600       // an hour
	maxExpiration           = 91 * 86400 // any signer
	maxKubernetesExpiration = 86400      // a signer of kubernetes.io
	maxUID                  = 128
	maxStubRequest          = 10 << 10
	maxChain                = 100 << 10
	// refreshMargin is how far from both ends of the validity a refresh is.
	refreshMargin = 10 * time.Minute
	// clockSkew is how far a certificate's beginning may be from the server's time.
	clockSkew = 5 * time.Minute
)

type podRequest = *certificatesv1.PodCertificateRequest

func podRequests() *registry.Resource {
	return &registry.Resource{
		Kind:   certificatesv1.SchemeGroupVersion.WithKind("PodCertificateRequest"),
		Plural: "podcertificaterequests", Singular: "podcertificaterequest",
		Namespaced: true, KeyPrefix: "/registry/podcertificaterequests/",
		New:     func() registry.Object { return &certificatesv1.PodCertificateRequest{} },
		NewList: func() runtime.Object { return &certificatesv1.PodCertificateRequestList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(r podRequest) {
				if r.Spec.MaxExpirationSeconds == nil {
					day := int32(maxKubernetesExpiration)
					r.Spec.MaxExpirationSeconds = &day
				}
			}),
			PrepareCreate: registry.On(func(r podRequest) { r.Status = certificatesv1.PodCertificateRequestStatus{} }),
			PrepareUpdate: registry.OnChange(func(r, old podRequest) { r.Status = old.Status }),
			Validate:      registry.Checks(checkPodRequest),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, r, old podRequest) {
				e.Immutable(field.NewPath("spec"), r.Spec, old.Spec)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
		},
		Fields: map[string]func(registry.Object) string{
			"spec.signerName": registry.Field(func(r podRequest) string { return r.Spec.SignerName }),
			"spec.podName":    registry.Field(func(r podRequest) string { return r.Spec.PodName }),
			"spec.nodeName":   registry.Field(func(r podRequest) string { return string(r.Spec.NodeName) }),
		},
		IndexedFields: []string{"spec.nodeName"},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("PodName", certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["podName"], func(r podRequest) string { return r.Spec.PodName }),
			registry.Text("ServiceAccountName", certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["serviceAccountName"], func(r podRequest) string {
				return r.Spec.ServiceAccountName
			}),
			registry.Text("NodeName", certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["nodeName"], func(r podRequest) string { return string(r.Spec.NodeName) }),
			registry.Text("SignerName", certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["signerName"], func(r podRequest) string { return r.Spec.SignerName }),
			registry.Text("State", certificatesv1.PodCertificateRequestStatus{}.SwaggerDoc()["conditions"], podRequestState),
			registry.Text("UnverifiedUserAnnotations", certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["unverifiedUserAnnotations"], func(r podRequest) string {
				return registry.LabelsText(r.Spec.UnverifiedUserAnnotations)
			}).Wide(),
		},
		Subresources: map[string]registry.Subresource{
			"status": {
				Verbs: []string{"get", "patch", "update"},
				// The server's time is part of the rule, so the outcome is checked where that is known.
				Apply: func(old registry.Object, body runtime.Object, now time.Time) (registry.Object, error) {
					was, r := old.(podRequest), old.DeepCopyObject().(podRequest)
					asked := body.(podRequest)
					r.Status, r.ManagedFields = *asked.Status.DeepCopy(), asked.ManagedFields
					var e check.Errors
					checkPodStatus(&e, r, was, now)
					if len(e.List) > 0 {
						return nil, apierrors.NewInvalid(certificatesv1.SchemeGroupVersion.WithKind("PodCertificateRequest").GroupKind(), r.Name, e.List)
					}
					return r, nil
				},
			},
		},
	}
}

func podRequestState(r podRequest) string {
	for _, c := range r.Status.Conditions {
		switch c.Type {
		case certificatesv1.PodCertificateRequestConditionTypeDenied, certificatesv1.PodCertificateRequestConditionTypeFailed,
			certificatesv1.PodCertificateRequestConditionTypeIssued:
			return c.Type
		}
	}
	return "Pending"
}

func checkPodRequest(e *check.Errors, r podRequest) {
	s, at := &r.Spec, field.NewPath("spec")
	podspec.ValidateSignerName(e, s.SignerName, at.Child("signerName"))
	notes := at.Child("unverifiedUserAnnotations")
	e.Annotations(notes, s.UnverifiedUserAnnotations)
	for key := range s.UnverifiedUserAnnotations {
		if !strings.Contains(key, "/") {
			e.Invalid(notes, key, "all keys must be domain-prefixed")
		}
	}
	for _, ref := range []struct{ name, value, uidName, uid string }{
		{"podName", s.PodName, "podUID", string(s.PodUID)},
		{"serviceAccountName", s.ServiceAccountName, "serviceAccountUID", string(s.ServiceAccountUID)},
		{"nodeName", string(s.NodeName), "nodeUID", string(s.NodeUID)},
	} {
		e.Name(at.Child(ref.name), ref.value, apivalidation.NameIsDNSSubdomain)
		if ref.uid == "" {
			e.Invalid(at.Child(ref.uidName), ref.uid, "must not be empty")
		}
		if len(ref.uid) > maxUID {
			e.Add(field.TooLong(at.Child(ref.uidName), ref.uid, maxUID))
		}
	}
	longest := int32(maxExpiration)
	if domain, _, _ := strings.Cut(s.SignerName, "/"); domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") {
		longest = maxKubernetesExpiration
	}
	if n := s.MaxExpirationSeconds; n == nil {
		e.Required(at.Child("maxExpirationSeconds"), "must be set")
		return
	} else if *n < minExpiration || *n > longest {
		e.Invalid(at.Child("maxExpirationSeconds"), *n, fmt.Sprintf("must be in the range [%d, %d]", minExpiration, longest))
	}
	checkStub(e, s.StubPKCS10Request, at.Child("stubPKCS10Request"))
}

// checkStub checks the request in DER: its signature proves that the kubelet has the key.
func checkStub(e *check.Errors, der []byte, at *field.Path) {
	if len(der) == 0 {
		// Older versions have the other pair.
		e.Invalid(field.NewPath("spec"), field.OmitValueType{}, "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set")
		return
	}
	if len(der) > maxStubRequest {
		e.Add(field.TooLong(at, field.OmitValueType{}, maxStubRequest))
		return
	}
	parsed, err := x509.ParseCertificateRequest(der)
	if err != nil {
		e.Invalid(at, field.OmitValueType{}, "must be a valid PKCS#10 CSR")
		return
	}
	switch key := parsed.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			e.Invalid(at, "curve "+key.Curve.Params().Name, "elliptic public keys must use curve P256, P384, or P521")
			return
		}
	case *rsa.PublicKey:
		if bits := key.Size() * 8; bits != 3072 && bits != 4096 {
			e.Invalid(at, fmt.Sprintf("%d-bit modulus", bits), "RSA keys must have modulus size 3072 or 4096")
			return
		}
	default:
		e.Invalid(at, field.OmitValueType{}, "unknown public key type; supported types are Ed25519, ECDSA, and RSA")
		return
	}
	if err := parsed.CheckSignature(); err != nil {
		e.Invalid(at, field.OmitValueType{}, "invalid signature")
	}
}

// ended reports whether a request has come to its end: nothing of its status changes any more.
func ended(r podRequest, types ...string) bool {
	for _, c := range r.Status.Conditions {
		for _, t := range types {
			if c.Type == t && c.Status == metav1.ConditionTrue {
				return true
			}
		}
	}
	return false
}

// checkPodStatus: a status changes once, to one of three ends.
func checkPodStatus(e *check.Errors, r, old podRequest, now time.Time) {
	const issued, denied, failed = certificatesv1.PodCertificateRequestConditionTypeIssued,
		certificatesv1.PodCertificateRequestConditionTypeDenied, certificatesv1.PodCertificateRequestConditionTypeFailed
	status, at := field.NewPath("status"), field.NewPath("status", "conditions")
	for i, c := range r.Status.Conditions {
		switch here := at.Child(fmt.Sprintf("[%d]", i)); c.Type {
		case issued, denied, failed:
			if i > 0 {
				e.Invalid(here.Child("type"), c.Type, `There may be at most one condition with type "Issued", "Denied", or "Failed"`)
			}
			check.Supported(e, here.Child("status"), c.Status, metav1.ConditionTrue)
		default:
			check.Supported(e, here.Child("type"), c.Type, issued, denied, failed)
		}
	}
	e.Add(metavalidation.ValidateConditions(r.Status.Conditions, at)...)
	if len(e.List) > 0 {
		return
	}
	same := equality.Semantic.DeepEqual(r.Status, old.Status)
	switch {
	case ended(old, issued, denied, failed):
		if !same {
			e.Invalid(status, field.OmitValueType{}, "immutable after PodCertificateRequest is issued, denied, or failed")
		}
	case ended(r, denied, failed):
		if !equality.Semantic.DeepEqual(r.Status, certificatesv1.PodCertificateRequestStatus{Conditions: r.Status.Conditions}) {
			e.Invalid(status, field.OmitValueType{}, "non-condition status fields must be empty when denying or failing the PodCertificateRequest")
		}
	case ended(r, issued):
		checkIssued(e, r, now)
	case !same:
		e.Invalid(status, field.OmitValueType{}, `status is immutable unless transitioning to "Issued", "Denied", or "Failed"`)
	}
}

func checkIssued(e *check.Errors, r podRequest, now time.Time) {
	s, at := &r.Status, field.NewPath("status")
	chain := at.Child("certificateChain")
	if len(s.CertificateChain) > maxChain {
		e.Add(field.TooLong(chain, s.CertificateChain, maxChain))
		return
	}
	leaf := checkIssuedChain(e, s.CertificateChain, chain)
	if leaf == nil {
		return
	}
	stub, err := x509.ParseCertificateRequest(r.Spec.StubPKCS10Request)
	if err != nil {
		e.Invalid(field.NewPath("spec", "stubPKCS10Request"), field.OmitValueType{}, "must be a valid PKCS#10 CSR")
		return
	}
	if key, ok := stub.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !key.Equal(leaf.PublicKey) {
		e.Invalid(chain, s.CertificateChain, "leaf certificate was not issued to the requested public key")
		return
	}
	if s.NotBefore == nil {
		e.Required(at.Child("notBefore"), "must be present and consistent with the issued certificate")
	}
	if s.NotAfter == nil {
		e.Required(at.Child("notAfter"), "must be present and consistent with the issued certificate")
	}
	if s.BeginRefreshAt == nil {
		e.Required(at.Child("beginRefreshAt"), "must be present and in the range [notbefore+10min, notafter-10min]")
	}
	if len(e.List) == 0 {
		checkTimes(e, r, leaf, now, at)
	}
}

// checkIssuedChain returns the leaf of a chain, or nil if something is wrong with it.
func checkIssuedChain(e *check.Errors, text string, at *field.Path) (leaf *x509.Certificate) {
	all := blocks([]byte(text))
	if len(all) == 0 {
		e.Invalid(at, text, "issued certificate chain must contain at least one certificate")
		return nil
	}
	for i, b := range all {
		if b.Type != certificateBlock {
			e.Invalid(at, text, "issued certificate chain must consist entirely of CERTIFICATE PEM blocks")
			return nil
		}
		cert, err := x509.ParseCertificate(b.Bytes)
		switch {
		case err != nil && i == 0:
			e.Invalid(at, text, "leaf certificate does not parse as valid X.509")
			return nil
		case err != nil:
			e.Invalid(at, text, "intermediate certificate does not parse as valid X.509")
			return nil
		case i == 0:
			leaf = cert
		}
	}
	return leaf
}

// checkTimes stops at the first fault: the later ones follow from it.
func checkTimes(e *check.Errors, r podRequest, leaf *x509.Certificate, now time.Time, at *field.Path) {
	s := &r.Status
	begin, end, refresh := s.NotBefore.Time, s.NotAfter.Time, s.BeginRefreshAt.Time
	lifetime := leaf.NotAfter.Sub(leaf.NotBefore)
	longest := time.Duration(*r.Spec.MaxExpirationSeconds) * time.Second
	switch {
	case !begin.Equal(leaf.NotBefore):
		e.Invalid(at.Child("notBefore"), begin, "must be set to the NotBefore time encoded in the leaf certificate")
	case begin.Sub(now).Abs() >= clockSkew:
		e.Invalid(at.Child("notBefore"), begin, "must be set to within 5 minutes of kube-apiserver's current time")
	case !end.Equal(leaf.NotAfter):
		e.Invalid(at.Child("notAfter"), end, "must be set to the NotAfter time encoded in the leaf certificate")
	case lifetime < time.Hour:
		e.Invalid(at.Child("certificateChain"), lifetime, "leaf certificate lifetime must be >= 1 hour")
	case lifetime > longest:
		e.Invalid(at.Child("certificateChain"), lifetime, fmt.Sprintf("leaf certificate lifetime must be <= spec.maxExpirationSeconds (%v)", *r.Spec.MaxExpirationSeconds))
	case refresh.Before(begin.Add(refreshMargin)):
		e.Invalid(at.Child("beginRefreshAt"), refresh, "must be at least 10 minutes after status.notBefore")
	case refresh.After(end.Add(-refreshMargin)):
		e.Invalid(at.Child("beginRefreshAt"), refresh, "must be at least 10 minutes before status.notAfter")
	}
}
