package image

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Verification says for which images that are here a pod needs its registry's word that it may use them (KEP-2535).
type Verification struct {
	// Policy is one of the following; empty means NeverVerifyPreloadedImages.
	Policy string
	// Allowlist are repositories that NeverVerifyAllowlistedImages leaves out: "registry.example/app", or with "/*" at the end all below.
	Allowlist []string
}

// The policies, in Kubernetes' spelling.
const (
	NeverVerify                  = "NeverVerify"
	NeverVerifyPreloadedImages   = "NeverVerifyPreloadedImages"
	NeverVerifyAllowlistedImages = "NeverVerifyAllowlistedImages"
	AlwaysVerify                 = "AlwaysVerify"
)

// Validate checks the settings; its errors begin with the setting's name in the kubelet's configuration.
func (v Verification) Validate() error {
	policies := []string{"", NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages, AlwaysVerify}
	var errs []error
	if !slices.Contains(policies, v.Policy) {
		errs = append(errs, fmt.Errorf("imagePullCredentialsVerificationPolicy %q: want %s", v.Policy, strings.Join(policies[1:], ", ")))
	}
	if len(v.Allowlist) > 0 && v.Policy != NeverVerifyAllowlistedImages {
		errs = append(errs, fmt.Errorf("preloadedImagesVerificationAllowlist: only imagePullCredentialsVerificationPolicy %s has one", NeverVerifyAllowlistedImages))
	}
	for _, pattern := range v.Allowlist {
		prefix, below := strings.CutSuffix(pattern, "/*")
		if below {
			prefix += "/any"
		}
		if _, err := parse(prefix); err != nil || repositoryAsWritten(prefix) != prefix {
			errs = append(errs, fmt.Errorf("preloadedImagesVerificationAllowlist: %q: want a repository without tag or digest, or one with /* at its end", pattern))
		}
	}
	return errors.Join(errs...)
}

// Requires tells whether the registry of an image must be asked, although the image is here under the name ref.
func (v Verification) Requires(ref string, a Access) bool {
	switch v.Policy {
	case NeverVerify:
		return false
	case AlwaysVerify:
		return a != Granted
	case NeverVerifyAllowlistedImages:
		return a != Granted && !v.allows(repositoryAsWritten(ref))
	default:
		return a == Unproven
	}
}

func (v Verification) allows(repository string) bool {
	return slices.ContainsFunc(v.Allowlist, func(pattern string) bool {
		if prefix, below := strings.CutSuffix(pattern, "*"); below {
			return strings.HasPrefix(repository, prefix)
		}
		return repository == pattern
	})
}

// repositoryAsWritten takes tag and digest off a reference.
func repositoryAsWritten(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if colon := strings.LastIndexByte(ref, ':'); colon > strings.LastIndexByte(ref, '/') {
		ref = ref[:colon]
	}
	return ref
}
