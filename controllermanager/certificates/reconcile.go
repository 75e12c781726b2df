// Package certificates approves, signs and clears away CertificateSigningRequests.
//
// Approval: a node's request for a client certificate is approved if who asks may have it, by a SubjectAccessReview on
// certificatesigningrequests/nodeclient (anybody's for a node, such as a bootstrap token's) or /selfnodeclient (a node's for itself).
// Everything else is for people to approve.
//
// Signing: approved requests of kubernetes.io/kube-apiserver-client, kube-apiserver-client-kubelet and kubelet-serving that ask for
// nothing that the signer does not grant are signed with the cluster's authority, for as long as spec.expirationSeconds asks
// but at most as long as the setting and the authority say. Others fail with a condition that says why.
//
// Clearing away: requests that were decided go after an hour, forgotten ones after a day.
//
// What is decided is decided here, purely; asking for reviews and making signatures is the shell's.
package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
)

const (
	// keepDecided, keepPending and keepPodCertificate are how long requests stay, as upstream.
	keepDecided        = time.Hour
	keepPending        = 24 * time.Hour
	keepPodCertificate = 15 * time.Minute
	// backdate makes certificates valid before now, for clocks that are behind.
	backdate = 5 * time.Minute
	// shortest is the shortest life that a certificate gets.
	shortest = 10 * time.Minute
)

// Review is a question that must be answered with yes for an approval.
type Review struct {
	// Subresource that the one who asks must be allowed to create.
	Subresource string
	// Message of the approval.
	Message string
}

// Reviews returns the questions about a request, of which one must be answered with yes; none if it is not for this
// controller to approve.
func Reviews(csr *certificatesv1.CertificateSigningRequest) []Review {
	if len(csr.Status.Certificate) > 0 || len(csr.Status.Conditions) > 0 || csr.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName {
		return nil
	}
	p, _ := policies(csr.Spec.SignerName)
	req, err := parse(csr)
	if err != nil || p.check(req, csr.Spec.Usages) != nil {
		return nil
	}
	reviews := []Review{{"nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."}}
	if csr.Spec.Username == req.Subject.CommonName {
		reviews = slices.Insert(reviews, 0, Review{"selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."})
	}
	return reviews
}

// Question is the SubjectAccessReview of a review.
func Question(csr *certificatesv1.CertificateSigningRequest, r Review) *authorizationv1.SubjectAccessReview {
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range csr.Spec.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	return &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: csr.Spec.Username, UID: csr.Spec.UID, Groups: csr.Spec.Groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: certificatesv1.GroupName, Version: "*", Resource: "certificatesigningrequests", Subresource: r.Subresource, Verb: "create",
		},
	}}
}

// Approve plans the approval of a request after a review.
func Approve(csr *certificatesv1.CertificateSigningRequest, r Review, now time.Time) plan.Plan {
	var p plan.Plan
	next := csr.DeepCopy()
	at := metav1.NewTime(now)
	next.Status.Conditions = append(next.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "AutoApproved", Message: r.Message, LastUpdateTime: at, LastTransitionTime: at,
	})
	p.Add(plan.Write{Verb: plan.VerbUpdate, Kind: plan.CSRs, Object: next, Subresource: "approval"})
	return p
}

// Signable returns what to sign for a request. Both results are empty if there is nothing to do; a plan says that it is refused.
func Signable(csr *certificatesv1.CertificateSigningRequest, longest time.Duration, authority *x509.Certificate, now time.Time) (*x509.CertificateRequest, *x509.Certificate, plan.Plan) {
	p, known := policies(csr.Spec.SignerName)
	if !known || len(csr.Status.Certificate) > 0 || condition(csr, certificatesv1.CertificateApproved) == nil ||
		condition(csr, certificatesv1.CertificateDenied) != nil || condition(csr, certificatesv1.CertificateFailed) != nil {
		return nil, nil, plan.Plan{}
	}
	req, err := parse(csr)
	if err == nil {
		err = p.check(req, csr.Spec.Usages)
	}
	if err != nil {
		return nil, nil, refuse(csr, err.Error(), now)
	}
	return req, template(req, csr, longest, authority, now), plan.Plan{}
}

func refuse(csr *certificatesv1.CertificateSigningRequest, why string, now time.Time) plan.Plan {
	var p plan.Plan
	next := csr.DeepCopy()
	at := metav1.NewTime(now)
	next.Status.Conditions = append(next.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "SignerValidationFailure", Message: why, LastUpdateTime: at, LastTransitionTime: at,
	})
	p.Add(plan.UpdateStatus(plan.CSRs, next))
	return p
}

// template is the certificate that a request gets, but for its number.
func template(req *x509.CertificateRequest, csr *certificatesv1.CertificateSigningRequest, longest time.Duration, authority *x509.Certificate, now time.Time) *x509.Certificate {
	life := longest
	if s := csr.Spec.ExpirationSeconds; s != nil {
		life = min(max(time.Duration(*s)*time.Second, shortest), longest)
	}
	t := &x509.Certificate{
		Subject: req.Subject, RawSubject: req.RawSubject, DNSNames: req.DNSNames, IPAddresses: req.IPAddresses, EmailAddresses: req.EmailAddresses, URIs: req.URIs,
		NotBefore: now.Add(-min(backdate, life/2)).UTC(), NotAfter: now.Add(life).UTC(), BasicConstraintsValid: true,
	}
	if t.NotAfter.After(authority.NotAfter) {
		t.NotAfter = authority.NotAfter
	}
	for _, u := range csr.Spec.Usages {
		switch u {
		case certificatesv1.UsageDigitalSignature:
			t.KeyUsage |= x509.KeyUsageDigitalSignature
		case certificatesv1.UsageKeyEncipherment:
			t.KeyUsage |= x509.KeyUsageKeyEncipherment
		case certificatesv1.UsageClientAuth:
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		case certificatesv1.UsageServerAuth:
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		}
	}
	return t
}

// Issue plans the delivery of a certificate, in DER.
func Issue(csr *certificatesv1.CertificateSigningRequest, der []byte) plan.Plan {
	var p plan.Plan
	next := csr.DeepCopy()
	next.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	p.Add(plan.UpdateStatus(plan.CSRs, next))
	return p
}

// Clean plans the end of a request that nobody needs any more, or when to look again.
func Clean(csr *certificatesv1.CertificateSigningRequest, now time.Time) plan.Plan {
	var p plan.Plan
	if csr.DeletionTimestamp != nil {
		return p
	}
	end := csr.CreationTimestamp.Add(keepPending)
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed} {
		c := condition(csr, t)
		if c == nil || t == certificatesv1.CertificateApproved && len(csr.Status.Certificate) == 0 {
			continue // One that was approved but waits for its certificate is pending.
		}
		at := c.LastUpdateTime.Time
		if at.IsZero() {
			at = csr.CreationTimestamp.Time
		}
		if at = at.Add(keepDecided); at.Before(end) {
			end = at
		}
	}
	if end.After(now) {
		p.LookAgain(now, end)
		return p
	}
	p.Add(plan.Delete(plan.CSRs, csr))
	return p
}

// CleanPodCertificate plans the end of a pod's request, answered or not, or when to look again. The kubelet has taken its answer
// long before, and asks anew if it has not.
func CleanPodCertificate(req *certificatesv1.PodCertificateRequest, now time.Time) plan.Plan {
	var p plan.Plan
	if req.DeletionTimestamp != nil {
		return p
	}
	if end := req.CreationTimestamp.Add(keepPodCertificate); end.After(now) {
		p.LookAgain(now, end)
		return p
	}
	p.Add(plan.Delete(plan.PodCertificateRequests, req))
	return p
}
