package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	nodesGroup     = "system:nodes"
	nodeUserPrefix = "system:node:"
)

// RotateAt is when a certificate is to be replaced: when 70 to 90 % of its life are over, by the node's name, so that a thousand
// nodes of one age do not ask at once.
func RotateAt(cert *x509.Certificate, node string) time.Time {
	h := fnv.New32a()
	h.Write([]byte(node))
	part := 0.7 + 0.2*float64(h.Sum32()%1000)/1000
	life := cert.NotAfter.Sub(cert.NotBefore)
	return cert.NotBefore.Add(time.Duration(float64(life) * part))
}

// nextKey returns the key of the request that is under way, made and kept in a file before it is asked for, so that a kubelet that
// starts again goes on with the same request.
func nextKey(file string) (*ecdsa.PrivateKey, []byte, error) {
	data, err := os.ReadFile(file)
	if err == nil {
		if key, err := parseKey(data); err == nil {
			return key, data, nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	data = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return key, data, writeFile(file, data)
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

// Names are what a server certificate is for.
type Names struct {
	DNS []string
	IPs []net.IP
}

// covered says whether a certificate is for all of these names.
func (n *Names) covered(cert *x509.Certificate) bool {
	for _, name := range n.DNS {
		if !slices.Contains(cert.DNSNames, name) {
			return false
		}
	}
	for _, ip := range n.IPs {
		if !slices.ContainsFunc(cert.IPAddresses, ip.Equal) {
			return false
		}
	}
	return true
}

// wanted is a certificate that is to be asked for: a node's, as a client of the API server, or with names as a server.
type wanted struct {
	node  string
	names *Names
}

func (w wanted) signer() string {
	if w.names != nil {
		return certificatesv1.KubeletServingSignerName
	}
	return certificatesv1.KubeAPIServerClientKubeletSignerName
}

// request makes the request for a certificate. Its name comes from the key and the names, so that asking again finds it.
func (w wanted) request(key *ecdsa.PrivateKey) (*certificatesv1.CertificateSigningRequest, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: nodeUserPrefix + w.node, Organization: []string{nodesGroup}}}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	prefix, purpose := "node-csr-", certificatesv1.UsageClientAuth
	if w.names != nil {
		template.DNSNames, template.IPAddresses = w.names.DNS, w.names.IPs
		prefix, purpose = "node-serving-csr-", certificatesv1.UsageServerAuth
		public = fmt.Appendf(public, "%q %q", w.names.DNS, w.names.IPs)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(public)
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: prefix + hex.EncodeToString(sum[:16])},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: w.signer(),
			Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, purpose},
		},
	}, nil
}

// ErrRefused is wrapped by the error of a request that was denied, or that could not be signed.
var ErrRefused = errors.New("the certificate request was refused")

// answer returns the certificate that a request got, nil if there is none yet.
func answer(csr *certificatesv1.CertificateSigningRequest, key *ecdsa.PrivateKey) ([]byte, error) {
	for _, c := range csr.Status.Conditions {
		if (c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed) && c.Status != corev1.ConditionFalse {
			return nil, fmt.Errorf("%w: %s: %s %s", ErrRefused, c.Type, c.Reason, c.Message)
		}
	}
	if len(csr.Status.Certificate) == 0 {
		return nil, nil
	}
	cert, err := parseCertificate(csr.Status.Certificate)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if public, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || !public.Equal(key.Public()) {
		return nil, fmt.Errorf("%w: the certificate is for another key", ErrRefused)
	}
	return csr.Status.Certificate, nil
}

// parseCertificate reads the first certificate of a PEM file, which may hold a key, too.
func parseCertificate(data []byte) (*x509.Certificate, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, errors.New("no certificate in PEM")
}
