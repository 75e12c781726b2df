// Package pki makes and checks the certificates of a cluster: one certificate authority, and short-lived leaf certificates
// for every server and client in it. All keys are ECDSA P-256; a file that exists is used as it is and never overwritten,
// so that users may bring their own.
//
//	store := pki.Store{Dir: "/etc/bareboat/pki"}
//	ca, err := store.CA(now)
//	err = store.Leaf(ca, pki.Leaf{Name: "apiserver", CommonName: "kube-apiserver", DNSNames: …, Server: true}, now)
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	// CAValidity is how long a new authority is valid: longer than the hardware it is likely to run on.
	CAValidity = 10 * 365 * 24 * time.Hour
	// LeafValidity is how long a new leaf is valid.
	LeafValidity = 365 * 24 * time.Hour
	// RenewBefore is how close to its end a leaf is made anew: a third of its life, so that a cluster that is visited once a season stays up.
	RenewBefore = LeafValidity / 3
	// clockSkew lets hosts whose clocks are a little behind accept a certificate that was just made.
	clockSkew = 5 * time.Minute
)

// Pair is a certificate with its key.
type Pair struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// Leaf describes a certificate to be made.
type Leaf struct {
	// Name is the file's name without its ending.
	Name string
	// CommonName is the user name, Organizations are the groups that the API server sees in a client.
	CommonName    string
	Organizations []string
	// DNSNames and IPs are what a server is reached as.
	DNSNames []string
	IPs      []net.IP
	// Server and Client say what the certificate may be used for.
	Server, Client bool
	// Authority is the name of the authority that signs it; empty means the cluster's own, "ca".
	Authority string
}

// Store keeps pairs as <name>.crt and <name>.key in a folder.
type Store struct {
	Dir string
}

// CertFile is the path of a certificate.
func (s Store) CertFile(name string) string { return filepath.Join(s.Dir, name+".crt") }

// KeyFile is the path of a key.
func (s Store) KeyFile(name string) string { return filepath.Join(s.Dir, name+".key") }

// CA returns the cluster's authority, making it if neither of its files exists.
func (s Store) CA(now time.Time) (*Pair, error) { return s.Authority(clusterCA, now) }

// Authority returns an authority by its name, making it if neither of its files exists.
func (s Store) Authority(name string, now time.Time) (*Pair, error) {
	pair, err := s.Load(name)
	if err == nil {
		if !pair.Cert.IsCA {
			return nil, fmt.Errorf("%s is not the certificate of an authority; put a CA there or remove it and its key", s.CertFile(name))
		}
		return pair, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "bareboat-" + name},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(CAValidity),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	return s.sign(name, template, key, &Pair{Cert: template, Key: key})
}

// Leaf makes the certificate unless a current one, signed by ca and good for the same names, exists. It reports whether it
// made one.
func (s Store) Leaf(ca *Pair, leaf Leaf, now time.Time) (made bool, err error) {
	old, err := s.Load(leaf.Name)
	switch {
	case err == nil && current(old.Cert, ca.Cert, leaf, now):
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	if err == nil {
		// The key stays, so that the pair changes in one rename: a crash leaves the old pair or the new one, never half of each.
		_, err = s.renew(leaf.Name, template(leaf, now), old.Key, ca)
		return err == nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return false, err
	}
	_, err = s.sign(leaf.Name, template(leaf, now), key, ca)
	return err == nil, err
}

func template(leaf Leaf, now time.Time) *x509.Certificate {
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: leaf.CommonName, Organization: leaf.Organizations},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(LeafValidity),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		DNSNames:              leaf.DNSNames,
		IPAddresses:           leaf.IPs,
	}
	if leaf.Server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if leaf.Client {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	return t
}

// current reports whether cert still does what leaf asks for.
func current(cert, ca *x509.Certificate, leaf Leaf, now time.Time) bool {
	if cert.CheckSignatureFrom(ca) != nil || now.Add(RenewBefore).After(cert.NotAfter) || cert.Subject.CommonName != leaf.CommonName {
		return false
	}
	for _, name := range leaf.DNSNames {
		if cert.VerifyHostname(name) != nil {
			return false
		}
	}
	for _, ip := range leaf.IPs {
		if cert.VerifyHostname(ip.String()) != nil {
			return false
		}
	}
	return true
}

// SigningKey makes the key pair <name>.key and <name>.pub that signs ServiceAccount tokens, unless it exists.
func (s Store) SigningKey(name string) error {
	if _, err := os.Stat(s.KeyFile(name)); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	// The public half first: with the key's existence as the sign of completeness, a crash in between is repaired by the next call.
	if err := writePEM(filepath.Join(s.Dir, name+".pub"), "PUBLIC KEY", pub, 0o644); err != nil {
		return err
	}
	return writeKey(s.KeyFile(name), key)
}

// Load reads a pair. The error wraps fs.ErrNotExist only if there is no usable pair to lose: neither file exists, or only the
// key of a leaf.
func (s Store) Load(name string) (*Pair, error) {
	_, certErr := os.Stat(s.CertFile(name))
	_, keyErr := os.Stat(s.KeyFile(name))
	if errors.Is(certErr, fs.ErrNotExist) && keyErr == nil {
		if authority(name) {
			// It may have signed what is in use elsewhere; making a new authority over it would lose it.
			return nil, fmt.Errorf("%s exists but its certificate %s does not; put the certificate there or remove the key", s.KeyFile(name), s.CertFile(name))
		}
		// A crash between the key and its certificate: the key has never been used.
		return nil, fmt.Errorf("%s: %w", s.CertFile(name), fs.ErrNotExist)
	}
	if certErr == nil && errors.Is(keyErr, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s exists but its key %s does not; put the key there or remove the certificate", s.CertFile(name), s.KeyFile(name))
	}
	certDER, err := readPEM(s.CertFile(name), "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.CertFile(name), err)
	}
	key, err := readKey(s.KeyFile(name))
	if err != nil {
		return nil, err
	}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s does not belong to %s; restore the matching pair", s.KeyFile(name), s.CertFile(name))
	}
	return &Pair{Cert: cert, Key: key}, nil
}

// sign makes a pair. The key is written first: a key without its certificate has never been used.
func (s Store) sign(name string, template *x509.Certificate, key *ecdsa.PrivateKey, ca *Pair) (*Pair, error) {
	if err := writeKey(s.KeyFile(name), key); err != nil {
		return nil, err
	}
	return s.renew(name, template, key, ca)
}

// renew writes a certificate for a key that is there.
func (s Store) renew(name string, template *x509.Certificate, key crypto.Signer, ca *Pair) (*Pair, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1)) // RFC 5280, 4.1.2.2: a positive integer
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, key.Public(), ca.Key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate %q: %w", name, err)
	}
	if err := writePEM(s.CertFile(name), "CERTIFICATE", der, 0o644); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Pair{Cert: cert, Key: key}, err
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "PRIVATE KEY", der, 0o600)
}

// writePEM replaces path at once, so that a reader or a crash never sees half a file.
func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := errors.Join(tmp.Chmod(mode), pem.Encode(tmp, &pem.Block{Type: kind, Bytes: der}), tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp.Name(), path)
}

func readPEM(path, kind string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == kind {
			return block.Bytes, nil
		}
	}
	return nil, fmt.Errorf("%s holds no PEM block of type %s", path, kind)
}

func readKey(path string) (crypto.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var key any
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
	}
	return nil, fmt.Errorf("%s holds no private key in PEM", path)
}
