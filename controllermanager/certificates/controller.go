package certificates

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// SigningName is the signing controller's name; it runs only if there is an authority to sign with.
const SigningName = "certificatesigningrequest-signing-controller"

// serialBits is the length of a certificate's random number: as long as RFC 5280 allows with room for its sign.
const serialBits = 159

// Authority is the cluster's certificate authority, read from its files whenever a signature is made, so that it can be replaced
// without a restart.
type Authority struct {
	// CertFile and KeyFile are PEM files.
	CertFile, KeyFile string
	// Longest is how long certificates live at most.
	Longest time.Duration
}

// Load reads the authority.
func (a Authority) Load() (*x509.Certificate, crypto.Signer, error) {
	pair, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("cluster signing authority: %w", err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, nil, fmt.Errorf("cluster signing authority: %s is not a certificate authority's", a.CertFile)
	}
	return pair.Leaf, key, nil
}

// Controllers returns the declarations of the approver and the cleaners, and of the signer if there is an authority.
func Controllers(a Authority) []engine.Controller {
	set := []engine.Controller{
		{
			Name:   "certificatesigningrequest-approving-controller",
			Reads:  []plan.Kind{plan.CSRs},
			Writes: []engine.Claim{{Kind: plan.CSRs, Field: "status.conditions[Approved]"}},
			Setup: func(s *engine.Setup) error {
				requests := engine.Mirror(s, client.CertificateSigningRequests())
				requests.Loop(s, engine.LoopConfig{Name: "certificate_approving"}, func(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, step engine.Step) (plan.Plan, error) {
					return approve(ctx, s, csr, step)
				})
				return nil
			},
		},
		{
			Name:    "certificatesigningrequest-cleaner-controller",
			Reads:   []plan.Kind{plan.CSRs},
			Deletes: []plan.Kind{plan.CSRs},
			Setup: func(s *engine.Setup) error {
				requests := engine.Mirror(s, client.CertificateSigningRequests())
				requests.Loop(s, engine.LoopConfig{Name: "certificate_cleaning"}, func(_ context.Context, csr *certificatesv1.CertificateSigningRequest, step engine.Step) (plan.Plan, error) {
					return Clean(csr, step.Now), nil
				})
				return nil
			},
		},
		{
			Name:    "podcertificaterequest-cleaner-controller",
			Reads:   []plan.Kind{plan.PodCertificateRequests},
			Deletes: []plan.Kind{plan.PodCertificateRequests},
			Setup: func(s *engine.Setup) error {
				requests := engine.Mirror(s, client.PodCertificateRequests())
				requests.Loop(s, engine.LoopConfig{Name: "pod_certificate_cleaning"}, func(_ context.Context, req *certificatesv1.PodCertificateRequest, step engine.Step) (plan.Plan, error) {
					return CleanPodCertificate(req, step.Now), nil
				})
				return nil
			},
		},
	}
	if a.CertFile == "" {
		return set
	}
	return append(set, engine.Controller{
		Name:  SigningName,
		Reads: []plan.Kind{plan.CSRs},
		Writes: []engine.Claim{
			{Kind: plan.CSRs, Field: "status.conditions[Failed]"},
			{Kind: plan.CSRs, Field: "status.certificate"},
		},
		Setup: func(s *engine.Setup) error {
			requests := engine.Mirror(s, client.CertificateSigningRequests())
			requests.Loop(s, engine.LoopConfig{Name: "certificate_signing"}, func(_ context.Context, csr *certificatesv1.CertificateSigningRequest, step engine.Step) (plan.Plan, error) {
				return a.sign(csr, step.Now)
			})
			return nil
		},
	})
}

// approve asks the reviews of a request and approves it after the first yes.
func approve(ctx context.Context, s *engine.Setup, csr *certificatesv1.CertificateSigningRequest, step engine.Step) (plan.Plan, error) {
	for _, r := range Reviews(csr) {
		answer, err := client.Of(s.Client(), client.SubjectAccessReviews()).Create(ctx, Question(csr, r))
		if err != nil {
			return plan.Plan{}, fmt.Errorf("review of request %s: %w", csr.Name, err)
		}
		if allowed(answer) {
			return Approve(csr, r, step.Now), nil
		}
	}
	return plan.Plan{}, nil
}

func allowed(r *authorizationv1.SubjectAccessReview) bool {
	return r.Status.Allowed && !r.Status.Denied
}

// sign makes the certificate of an approved request. A crash before it is delivered costs a certificate that nobody has seen.
func (a Authority) sign(csr *certificatesv1.CertificateSigningRequest, now time.Time) (plan.Plan, error) {
	if condition(csr, certificatesv1.CertificateApproved) == nil || len(csr.Status.Certificate) > 0 {
		return plan.Plan{}, nil
	}
	authority, key, err := a.Load()
	if err != nil {
		return plan.Plan{}, err
	}
	req, template, p := Signable(csr, a.Longest, authority, now)
	if template == nil {
		return p, nil
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits)); err != nil {
		return plan.Plan{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, req.PublicKey, key)
	if err != nil {
		return plan.Plan{}, fmt.Errorf("sign request %s: %w", csr.Name, err)
	}
	return Issue(csr, der), nil
}
