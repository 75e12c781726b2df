package authn

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
)

// jwk is one key of a JSON Web Key Set (RFC 7517, RFC 7518 section 6).
type jwk struct {
	Use       string `json:"use"`
	Type      string `json:"kty"`
	KeyID     string `json:"kid"`
	Curve     string `json:"crv,omitempty"`
	Algorithm string `json:"alg"`
	N         string `json:"n,omitempty"`
	E         string `json:"e,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
}

// jwks renders public keys as a JSON Web Key Set.
func jwks(keys []publicKey) ([]byte, error) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	enc := base64.RawURLEncoding.EncodeToString
	for _, k := range keys {
		out := jwk{Use: "sig", KeyID: k.id, Algorithm: k.algorithm}
		switch key := k.key.(type) {
		case *rsa.PublicKey:
			out.Type, out.N, out.E = "RSA", enc(key.N.Bytes()), enc(big.NewInt(int64(key.E)).Bytes())
		case *ecdsa.PublicKey:
			point, err := key.Bytes() // 0x04, then X and Y of 32 bytes each
			if err != nil {
				return nil, err
			}
			out.Type, out.Curve, out.X, out.Y = "EC", "P-256", enc(point[1:33]), enc(point[33:])
		}
		set.Keys = append(set.Keys, out)
	}
	return json.Marshal(set)
}
