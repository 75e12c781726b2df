// Package relay passes a request on to another server and that server's answer back: all methods, streams, and connections that
// are upgraded (WebSocket, SPDY). It is how the proxy subresources and aggregated APIs are served.
//
//	relay.Serve(w, r, relay.Target{URL: location, Transport: transport, Prefix: "/api/v1/namespaces/n/pods/p/proxy"}, fail)
//
// A pod's web pages believe that they are at the root of a host. As in Kubernetes, redirects and the links of HTML pages are
// rewritten to go through the same path again.
package relay

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/proxy"
)

// Target is where a request goes.
type Target struct {
	// URL is complete: scheme, host and path. The request's query is added.
	URL *url.URL
	// Transport carries the request.
	Transport http.RoundTripper
	// Prefix is the path under which clients see the target's root: redirects and links are rewritten to it. Empty rewrites
	// nothing.
	Prefix string
	// Host is the Host header; empty means URL's.
	Host string
	// Header is set on the request, over what the client sent.
	Header http.Header
}

// Serve passes a request on. fail answers when the target cannot be reached.
func Serve(w http.ResponseWriter, r *http.Request, t Target, fail func(http.ResponseWriter, *http.Request, error)) {
	p := &httputil.ReverseProxy{
		Rewrite: func(q *httputil.ProxyRequest) { t.rewrite(q) },
		// Watches and other streams are passed on as they come.
		FlushInterval: -1,
		Transport:     t.transport(),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
				return // nobody is there to read it
			}
			fail(w, r, reachError(err))
		},
		ModifyResponse: drop,
	}
	p.ServeHTTP(w, r)
}

// reachError is Kubernetes' answer when the target gives none.
func reachError(err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return err
	}
	return apierrors.NewServiceUnavailable("error trying to reach service: " + err.Error())
}

// rewrite makes the request that goes out.
func (t *Target) rewrite(q *httputil.ProxyRequest) {
	u := *t.URL
	u.RawQuery = q.In.URL.RawQuery
	q.Out.URL = &u
	q.Out.Host = t.Host
	q.Out.Header["X-Forwarded-For"] = q.In.Header["X-Forwarded-For"]
	q.SetXForwarded()
	for name, values := range t.Header {
		q.Out.Header[name] = values
	}
}

// transport adds the rewriting of links where it is asked for.
func (t *Target) transport() http.RoundTripper {
	if t.Prefix == "" {
		return t.Transport
	}
	return shown{&proxy.Transport{PathPrepend: t.Prefix, RoundTripper: bounded{t.Transport}}}
}

// hiddenType is where the type of a page is kept whose encoding nobody here knows, so that its links are left alone: what rewrites them
// would lose it.
const hiddenType = "Bareboat-Hidden-Content-Type"

// shown puts hidden types back.
type shown struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s shown) RoundTrip(q *http.Request) (*http.Response, error) {
	resp, err := s.RoundTripper.RoundTrip(q)
	if err == nil && resp.Header.Get(hiddenType) != "" {
		resp.Header.Set("Content-Type", resp.Header.Get(hiddenType))
		resp.Header.Del(hiddenType)
	}
	return resp, err
}

// maxPage bounds an HTML page as it is without compression, since it is held in memory while its links are rewritten. With the bound on
// streams it is the most that a page costs; pages of a few MiB are rare.
const maxPage = 8 << 20

var errPage = errors.New("the page is too large to rewrite its links")

// bounded limits the pages that its transport brings, and brings them without compression: what is compressed may be a thousand times as
// large.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(q *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(q)
	if err != nil {
		return resp, err
	}
	resp.Header.Del(hiddenType)
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		return resp, nil
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && encoding != "gzip" && encoding != "deflate" {
		resp.Header.Set(hiddenType, resp.Header.Get("Content-Type"))
		resp.Header.Set("Content-Type", "application/octet-stream")
		return resp, nil
	}
	if err := expand(resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	resp.Body = &page{ReadCloser: resp.Body, left: maxPage}
	return resp, nil
}

// expand takes the compression off an answer's body, as far as links can be rewritten behind it.
func expand(resp *http.Response) error {
	encoding := resp.Header.Get("Content-Encoding")
	if encoding == "" {
		return nil
	}
	body := resp.Body
	from := bufio.NewReader(body)
	var plain io.Reader = from
	if _, err := from.Peek(1); errors.Is(err, io.EOF) {
		// The answer to HEAD, or one that says that nothing has changed.
	} else if encoding == "deflate" {
		plain = flate.NewReader(from)
	} else {
		unzipped, err := gzip.NewReader(from)
		if err != nil {
			return fmt.Errorf("reading a compressed page: %w", err)
		}
		plain = unzipped
	}
	resp.Body = &plainBody{plain, body}
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	resp.ContentLength, resp.Uncompressed = -1, true
	return nil
}

// plainBody is read without compression and closed where it comes from.
type plainBody struct {
	io.Reader
	io.Closer
}

// page is a body that fails when it is too long.
type page struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (p *page) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if p.left -= n; p.left < 0 {
		return 0, errPage
	}
	return n, err
}

// drop takes away what the API server says itself: what a pod says about other origins is not said about it, and the request has the
// name in its audit log.
func drop(resp *http.Response) error {
	resp.Header.Del("Audit-Id")
	for name := range resp.Header {
		if strings.HasPrefix(name, "Access-Control-Allow-") {
			resp.Header.Del(name)
		}
	}
	return nil
}
