package certificates

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

// minRequestSeconds is the shortest validity that may be asked for.
const minRequestSeconds = 600

func knownUsages() []certificatesv1.KeyUsage {
	return []certificatesv1.KeyUsage{
		certificatesv1.UsageAny, certificatesv1.UsageCertSign, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning,
		certificatesv1.UsageContentCommitment, certificatesv1.UsageCRLSign, certificatesv1.UsageDataEncipherment,
		certificatesv1.UsageDecipherOnly, certificatesv1.UsageDigitalSignature, certificatesv1.UsageEmailProtection,
		certificatesv1.UsageEncipherOnly, certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel,
		certificatesv1.UsageIPsecUser, certificatesv1.UsageKeyAgreement, certificatesv1.UsageKeyEncipherment,
		certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC, certificatesv1.UsageOCSPSigning,
		certificatesv1.UsageSMIME, certificatesv1.UsageServerAuth, certificatesv1.UsageSigning, certificatesv1.UsageTimestamping,
	}
}

// checkRequest checks a request; what was wrong with old already is borne, so that it can be finished.
func checkRequest(e *check.Errors, r, old request) {
	at := field.NewPath("spec")
	if err := checkPKCS10(r.Spec.Request); err != nil {
		e.Invalid(at.Child("request"), r.Spec.Request, err.Error())
	}
	if len(r.Spec.Usages) == 0 {
		e.Required(at.Child("usages"), "")
	}
	checkUsages(e, r, old, at.Child("usages"))
	podspec.ValidateSignerName(e, r.Spec.SignerName, at.Child("signerName"))
	if s := r.Spec.ExpirationSeconds; s != nil && *s < minRequestSeconds {
		e.Invalid(at.Child("expirationSeconds"), *s, "may not specify a duration less than 600 seconds (10 minutes)")
	}
	checkConditions(e, r, old, field.NewPath("status", "conditions"))
	untouched := old != nil && (bytes.Equal(r.Status.Certificate, old.Status.Certificate) || checkChain(old.Status.Certificate) != nil)
	if err := checkChain(r.Status.Certificate); err != nil && !untouched {
		e.Invalid(field.NewPath("status", "certificate"), "<certificate data>", err.Error())
	}
}

func checkUsages(e *check.Errors, r, old request, at *field.Path) {
	known := knownUsages()
	unknown := func(u certificatesv1.KeyUsage) bool { return !slices.Contains(known, u) }
	borne := old != nil && slices.ContainsFunc(old.Spec.Usages, unknown)
	for i, u := range r.Spec.Usages {
		if unknown(u) && !borne {
			e.Add(field.NotSupported(at.Index(i), u, known))
		}
		if slices.Contains(r.Spec.Usages[:i], u) && old == nil {
			e.Duplicate(at.Index(i), u)
		}
	}
}

// checkPKCS10 checks a request in PEM and its signature.
func checkPKCS10(text []byte) error {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	return parsed.CheckSignature()
}

// checkChain checks certificates in PEM; there may be none.
func checkChain(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	all := blocks(text)
	for _, b := range all {
		if b.Type != certificateBlock {
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", b.Type)
		}
		if len(b.Headers) != 0 {
			return errors.New("no PEM block headers are permitted")
		}
		certs, err := x509.ParseCertificates(b.Bytes)
		if err != nil {
			return err
		}
		if len(certs) == 0 {
			return errors.New("found CERTIFICATE PEM block containing 0 certificates")
		}
	}
	if len(all) == 0 {
		return errors.New("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}

func checkConditions(e *check.Errors, r, old request, at *field.Path) {
	bears := func(wrong func([]certificatesv1.CertificateSigningRequestCondition) bool) bool {
		return old != nil && wrong(old.Status.Conditions)
	}
	bearsBoth, bearsTwice, bearsEmpty := bears(approvedAndDenied), bears(typeTwice), bears(typeEmpty)
	seen := map[certificatesv1.RequestConditionType]bool{}
	for i, c := range r.Status.Conditions {
		here := at.Index(i)
		if c.Type == "" && !bearsEmpty {
			e.Required(here.Child("type"), "")
		}
		allowed := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
		switch c.Type {
		case certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed:
			allowed = []corev1.ConditionStatus{corev1.ConditionTrue}
		}
		check.OneOf(e, here.Child("status"), c.Status, allowed...)
		other := map[certificatesv1.RequestConditionType]certificatesv1.RequestConditionType{
			certificatesv1.CertificateApproved: certificatesv1.CertificateDenied, certificatesv1.CertificateDenied: certificatesv1.CertificateApproved,
		}[c.Type]
		if other != "" && seen[other] && !bearsBoth {
			e.Invalid(here.Child("type"), c.Type, "Approved and Denied conditions are mutually exclusive")
		}
		if seen[c.Type] && !bearsTwice {
			e.Duplicate(here.Child("type"), c.Type)
		}
		seen[c.Type] = true
	}
}

func approvedAndDenied(conditions []certificatesv1.CertificateSigningRequestCondition) bool {
	has := func(t certificatesv1.RequestConditionType) bool {
		return slices.ContainsFunc(conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool { return c.Type == t })
	}
	return has(certificatesv1.CertificateApproved) && has(certificatesv1.CertificateDenied)
}

func typeTwice(conditions []certificatesv1.CertificateSigningRequestCondition) bool {
	seen := map[certificatesv1.RequestConditionType]bool{}
	for _, c := range conditions {
		if seen[c.Type] {
			return true
		}
		seen[c.Type] = true
	}
	return false
}

func typeEmpty(conditions []certificatesv1.CertificateSigningRequestCondition) bool {
	return slices.ContainsFunc(conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool { return c.Type == "" })
}

// rights say what a change may do beyond adding ordinary conditions.
type rights struct{ approval, certificate bool }

func checkRequestUpdate(e *check.Errors, r, old request, may rights) {
	checkRequest(e, r, old)
	at := field.NewPath("status", "conditions")
	for _, t := range []certificatesv1.RequestConditionType{
		certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed,
	} {
		is, was := conditionsOf(&r.Status, t), conditionsOf(&old.Status, t)
		switch {
		case len(is) < len(was):
			e.Forbidden(at, fmt.Sprintf("updates may not remove a condition of type %q", t))
		case may.approval || t == certificatesv1.CertificateFailed:
		case len(is) > len(was):
			e.Forbidden(at, fmt.Sprintf("updates may not add a condition of type %q", t))
		case !equality.Semantic.DeepEqual(is, was):
			e.Forbidden(at, fmt.Sprintf("updates may not modify a condition of type %q\n%v", t, diff.Diff(was, is)))
		}
	}
	if bytes.Equal(r.Status.Certificate, old.Status.Certificate) {
		return
	}
	if !may.certificate {
		e.Forbidden(field.NewPath("status", "certificate"), "updates may not set certificate content")
	} else if len(old.Status.Certificate) > 0 {
		e.Forbidden(field.NewPath("status", "certificate"), "updates may not modify existing certificate content")
	}
}
