package authn

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// FrontProxy lets a proxy in front of the server say who a request is from, in headers
// (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy). It is believed if its client
// certificate is from the proxies' own authority and has one of the allowed names.
type FrontProxy struct {
	// Authorities returns the proxies' authorities as they are now.
	Authorities func() (*x509.CertPool, error)
	// Names are the allowed common names; empty allows all that the authorities have signed.
	Names []string
	// UserHeaders, GroupHeaders and UIDHeaders are names of headers, in the order in which they are looked at.
	UserHeaders, GroupHeaders, UIDHeaders []string
	// ExtraPrefixes begin the names of headers whose rest is the name of an extra.
	ExtraPrefixes []string
}

// Identity returns who the headers say the request is from; ok is false if the connection is not such a proxy's, or the headers
// name nobody.
func (f *FrontProxy) Identity(chains [][]*x509.Certificate, header http.Header) (id *Identity, ok bool, err error) {
	name := first(header, f.UserHeaders)
	if name == "" || len(chains) == 0 || len(chains[0]) == 0 {
		return nil, false, nil
	}
	ok, err = f.believes(chains[0])
	if err != nil || !ok {
		return nil, false, err
	}
	id = &Identity{Name: name, UID: first(header, f.UIDHeaders), Groups: []string{}, Extra: f.extra(header)}
	for _, h := range f.GroupHeaders {
		id.Groups = append(id.Groups, header.Values(h)...)
	}
	if name == Anonymous || slices.Contains(id.Groups, Unauthenticated) {
		return id, true, nil
	}
	if !id.In(AllAuthenticated) {
		id.Groups = append(id.Groups, AllAuthenticated)
	}
	return id, true, nil
}

// believes reports whether a client certificate is a proxy's.
func (f *FrontProxy) believes(chain []*x509.Certificate) (bool, error) {
	pool, err := f.Authorities()
	if err != nil {
		return false, fmt.Errorf("authorities of front proxies: %w", err)
	}
	leaf := chain[0]
	if len(f.Names) > 0 && !slices.Contains(f.Names, leaf.Subject.CommonName) {
		return false, nil
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err == nil, nil // a certificate of another authority is a client's own
}

func (f *FrontProxy) extra(header http.Header) map[string][]string {
	out := map[string][]string{}
	for name, values := range header {
		for _, prefix := range f.ExtraPrefixes {
			if len(name) <= len(prefix) || !strings.EqualFold(name[:len(prefix)], prefix) {
				continue
			}
			key := strings.ToLower(name[len(prefix):])
			if plain, err := url.PathUnescape(key); err == nil {
				key = plain
			}
			out[key] = append(out[key], values...)
		}
	}
	return out
}

// Headers reports whether a header is one by which a proxy speaks; such headers are not passed on.
func (f *FrontProxy) Headers(name string) bool {
	is := func(h string) bool { return strings.EqualFold(h, name) }
	return slices.ContainsFunc(f.UserHeaders, is) || slices.ContainsFunc(f.GroupHeaders, is) || slices.ContainsFunc(f.UIDHeaders, is) ||
		slices.ContainsFunc(f.ExtraPrefixes, func(p string) bool { return len(name) > len(p) && strings.EqualFold(name[:len(p)], p) })
}

func first(header http.Header, names []string) string {
	for _, n := range names {
		if v := header.Get(n); v != "" {
			return v
		}
	}
	return ""
}
