package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

const (
	nodesGroup     = "system:nodes"
	nodeUserPrefix = "system:node:"
)

// parse reads the request that a CertificateSigningRequest carries and checks that it is signed by its own key.
func parse(csr *certificatesv1.CertificateSigningRequest) (*x509.CertificateRequest, error) {
	block, rest := pem.Decode(csr.Spec.Request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return req, req.CheckSignature()
}

// condition returns a request's condition of a type, nil if it has none.
func condition(csr *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	for i := range csr.Status.Conditions {
		if c := &csr.Status.Conditions[i]; c.Type == t && (c.Status == corev1.ConditionTrue || c.Status == "") {
			return c
		}
	}
	return nil
}

// policy is what a signer's requests may ask for
// (https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers).
type policy struct {
	// purpose must be among the usages.
	purpose certificatesv1.KeyUsage
	// node: the subject must be a node's.
	node bool
	// names: host names and addresses are demanded, of a server, or, of a node's client, no names of any kind are allowed.
	names bool
}

// policies are the signers that there are here. kubernetes.io/legacy-unknown promises nothing to anybody and is not signed.
func policies(signer string) (policy, bool) {
	switch signer {
	case certificatesv1.KubeAPIServerClientSignerName:
		return policy{purpose: certificatesv1.UsageClientAuth}, true
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		return policy{purpose: certificatesv1.UsageClientAuth, node: true}, true
	case certificatesv1.KubeletServingSignerName:
		return policy{purpose: certificatesv1.UsageServerAuth, node: true, names: true}, true
	}
	return policy{}, false
}

// check returns what of a request its signer does not sign.
func (p policy) check(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if err := p.checkUsages(usages); err != nil || !p.node {
		return err
	}
	if len(req.Subject.Organization) != 1 || req.Subject.Organization[0] != nodesGroup {
		return errors.New("organization in subject must be only " + nodesGroup)
	}
	if !strings.HasPrefix(req.Subject.CommonName, nodeUserPrefix) || req.Subject.CommonName == nodeUserPrefix {
		return errors.New("subject common name must begin with " + nodeUserPrefix)
	}
	if len(req.EmailAddresses) > 0 || len(req.URIs) > 0 {
		return errors.New("email and URI names are not allowed")
	}
	named := len(req.DNSNames)+len(req.IPAddresses) > 0
	if p.names && !named {
		return errors.New("a DNS name or IP address is required")
	}
	if !p.names && named {
		return errors.New("DNS names and IP addresses are not allowed")
	}
	return nil
}

// checkUsages: the purpose, digital signature, and key encipherment if the key can do it. A node's may be nothing less.
func (p policy) checkUsages(usages []certificatesv1.KeyUsage) error {
	if !slices.Contains(usages, p.purpose) {
		return fmt.Errorf("usages must include %q", p.purpose)
	}
	for _, u := range usages {
		if u != p.purpose && u != certificatesv1.UsageDigitalSignature && u != certificatesv1.UsageKeyEncipherment {
			return fmt.Errorf("usage %q is not allowed", u)
		}
	}
	if p.node && !slices.Contains(usages, certificatesv1.UsageDigitalSignature) {
		return fmt.Errorf("usages must include %q", certificatesv1.UsageDigitalSignature)
	}
	return nil
}
