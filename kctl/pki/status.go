package pki

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Status is one certificate as `kctl pki status` prints it.
type Status struct {
	Name     string
	Subject  string
	NotAfter time.Time
	// Problem is empty if the certificate is usable.
	Problem string
}

// Status reads every certificate of the store, in order of their names.
func (s Store) Status(now time.Time) ([]Status, error) {
	files, err := filepath.Glob(filepath.Join(s.Dir, "*.crt"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		if _, err := os.Stat(s.Dir); err != nil {
			return nil, err
		}
	}
	sort.Strings(files)
	ca, caErr := s.Load(clusterCA)
	proxies, proxiesErr := s.Load(FrontProxyCA)
	var out []Status
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".crt")
		pair, err := s.Load(name)
		if err != nil {
			out = append(out, Status{Name: name, Problem: err.Error()})
			continue
		}
		st := Status{Name: name, Subject: subject(pair.Cert), NotAfter: pair.Cert.NotAfter}
		by, byName, byErr := ca, clusterCA, caErr
		if name == FrontProxy || name == FrontProxyCA {
			by, byName, byErr = proxies, FrontProxyCA, proxiesErr
		}
		switch {
		case now.After(pair.Cert.NotAfter):
			st.Problem = "expired"
		case byErr != nil:
			st.Problem = fmt.Sprintf("authority unreadable: %v", byErr)
		case !authority(name) && pair.Cert.CheckSignatureFrom(by.Cert) != nil:
			st.Problem = "not signed by " + byName + ".crt"
		case !authority(name) && now.Add(RenewBefore).After(pair.Cert.NotAfter):
			st.Problem = "due for renewal"
		}
		out = append(out, st)
	}
	return out, nil
}

func subject(cert *x509.Certificate) string {
	s := "CN=" + cert.Subject.CommonName
	for _, o := range cert.Subject.Organization {
		s += ",O=" + o
	}
	return s
}
