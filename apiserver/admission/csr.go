package admission

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
)

var errNoRequest = errors.New("PEM block type must be CERTIFICATE REQUEST")

// parseRequest reads a certificate request in PEM.
func parseRequest(text []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errNoRequest
	}
	return x509.ParseCertificateRequest(block.Bytes)
}
