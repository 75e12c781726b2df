package authn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// maxTokenSize bounds a bearer token before it is looked at: a bound token is about 1.2 KiB, and HTTP servers commonly
// cap a whole header block at 16 KiB.
const maxTokenSize = 16 << 10

// jwtHeader is the protected header of a compact JWS (RFC 7515).
type jwtHeader struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid,omitempty"`
}

// publicKey is one key that tokens may be signed with.
type publicKey struct {
	id        string
	algorithm string
	key       crypto.PublicKey
}

// keyID derives a key's id from its SubjectPublicKeyInfo, so that every server that has the key names it alike.
func keyID(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encoding public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// newPublicKey accepts RSA keys (RS256) and P-256 keys (ES256).
func newPublicKey(key crypto.PublicKey) (publicKey, error) {
	id, err := keyID(key)
	if err != nil {
		return publicKey{}, err
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		return publicKey{id: id, algorithm: "RS256", key: k}, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return publicKey{}, fmt.Errorf("elliptic curve %s is not supported, use P-256", k.Curve.Params().Name)
		}
		return publicKey{id: id, algorithm: "ES256", key: k}, nil
	}
	return publicKey{}, fmt.Errorf("keys of type %T are not supported", key)
}

// ParsePublicKeys reads every RSA or P-256 key of a PEM file; of private keys and certificates it takes the public half.
func ParsePublicKeys(data []byte) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "PUBLIC KEY":
			k, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("parsing public key: %w", err)
			}
			keys = append(keys, k)
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("parsing certificate: %w", err)
			}
			keys = append(keys, c.PublicKey)
		case "EC PARAMETERS":
		default:
			k, err := parsePrivateBlock(block)
			if err != nil {
				return nil, err
			}
			keys = append(keys, k.Public())
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no PEM-encoded key found")
	}
	return keys, nil
}

// ParsePrivateKey reads the first private key of a PEM file.
func ParsePrivateKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return parsePrivateBlock(block)
		}
	}
	return nil, errors.New("no PEM-encoded private key found")
}

func parsePrivateBlock(block *pem.Block) (crypto.Signer, error) {
	switch block.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if s, ok := k.(crypto.Signer); ok {
			return s, nil
		}
	}
	return nil, fmt.Errorf("PEM block %q holds no usable private key", block.Type)
}

// sign makes a compact JWS of the claims.
func sign(key crypto.Signer, pub publicKey, claims any) (string, error) {
	header, err := json.Marshal(jwtHeader{Algorithm: pub.algorithm, KeyID: pub.id})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	input := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(body)
	sum := sha256.Sum256([]byte(input))
	var sig []byte
	switch k := key.(type) {
	case *rsa.PrivateKey:
		sig, err = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		if r, s, err = ecdsa.Sign(rand.Reader, k, sum[:]); err == nil {
			sig = make([]byte, 64)
			r.FillBytes(sig[:32])
			s.FillBytes(sig[32:])
		}
	default:
		err = fmt.Errorf("keys of type %T cannot sign", key)
	}
	if err != nil {
		return "", fmt.Errorf("signing token: %w", err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}

// errNotSigned means that none of the keys made the signature.
var errNotSigned = errors.New("signature does not verify with any known key")

// verify checks a compact JWS against the keys and returns its payload. The algorithm is the key's, never the header's word.
func verify(token string, keys []publicKey) ([]byte, error) {
	if len(token) > maxTokenSize {
		return nil, fmt.Errorf("token is longer than %d bytes", maxTokenSize)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("token is not a compact JWS")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	var header jwtHeader
	if err := json.Unmarshal(raw, &header); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	sum := sha256.Sum256([]byte(token[:len(parts[0])+1+len(parts[1])]))
	for _, k := range keys {
		if k.algorithm == header.Algorithm && (header.KeyID == "" || header.KeyID == k.id) && k.verifies(sum[:], sig) {
			return decodeSegment(parts[1])
		}
	}
	return nil, errNotSigned
}

func (k publicKey) verifies(sum, sig []byte) bool {
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum, sig) == nil
	case *ecdsa.PublicKey:
		return len(sig) == 64 && ecdsa.Verify(key, sum, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	}
	return false
}

// decodeSegment decodes one part of a compact JWS.
func decodeSegment(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }
