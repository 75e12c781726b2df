// Package certificates is certificates.k8s.io/v1: requests for certificates, and bundles of trusted ones. What signers do with
// them is not here; see controllermanager/csr and the admission plugins Certificate*.
package certificates

import (
	"encoding/pem"

	"bareboat.dev/apiserver/registry"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource {
	return []*registry.Resource{signingRequests(), trustBundles(), podRequests()}
}

// certificateBlock is the type of PEM blocks that hold a certificate.
const certificateBlock = "CERTIFICATE"

// blocks returns the PEM blocks of a text, in order; what is between them is ignored.
func blocks(text []byte) []*pem.Block {
	var out []*pem.Block
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			return out
		}
		out = append(out, b)
	}
}
