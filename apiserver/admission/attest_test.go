package admission

import (
	"context"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/registry"
)

// attestor allows "attest" for some signers.
type attestor map[string]bool

func (m attestor) Authorize(_ context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	if a.Verb == "attest" && a.Group == certificatesv1.GroupName && a.Resource == "signers" && m[a.Name] {
		return authz.Allow, "", nil
	}
	return authz.NoOpinion, "", nil
}

// Whom to trust for a signer is said by those who may attest for it; the garbage collector may do its work without.
func TestClusterTrustBundleAttest(t *testing.T) {
	bundle := func(signer, trust string, finalizers ...string) *certificatesv1.ClusterTrustBundle {
		b := &certificatesv1.ClusterTrustBundle{Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: trust}}
		b.Finalizers = finalizers
		return b
	}
	for name, c := range map[string]struct {
		may     map[string]bool
		a       Attributes
		refused bool
	}{
		"no signer":             {nil, Attributes{Object: bundle("", "x")}, false},
		"may not":               {nil, Attributes{Object: bundle("example.com/s", "x")}, true},
		"may":                   {map[string]bool{"example.com/s": true}, Attributes{Object: bundle("example.com/s", "x")}, false},
		"may for the domain":    {map[string]bool{"example.com/*": true}, Attributes{Object: bundle("example.com/s", "x")}, false},
		"may for another":       {map[string]bool{"example.com/t": true}, Attributes{Object: bundle("example.com/s", "x")}, true},
		"garbage collection":    {nil, Attributes{Operation: Update, Object: bundle("example.com/s", "x"), Old: bundle("example.com/s", "x", "a/b")}, false},
		"change of the anchors": {nil, Attributes{Operation: Update, Object: bundle("example.com/s", "y"), Old: bundle("example.com/s", "x")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c.a.User = &authn.Identity{Name: "jane"}
			c.a.Resource = &registry.Resource{Kind: certificatesv1.SchemeGroupVersion.WithKind("ClusterTrustBundle"), Plural: "clustertrustbundles"}
			if err := ClusterTrustBundleAttest(attestor(c.may)).Validate(t.Context(), &c.a); (err != nil) != c.refused {
				t.Errorf("%v, refused should be %t", err, c.refused)
			}
		})
	}
}
