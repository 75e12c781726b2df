package rest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry/codec"
)

// Whatever path is asked for, what is read out of it is a part of it, and the rest of a proxied path is exactly what follows.
func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"/api/v1/pods", "/api/v1/namespaces/a/pods/p/log", "/apis/apps/v1/namespaces/a/deployments/d/status", "/api/v1/watch/namespaces/a/pods/p",
		"/api/v1/namespaces/a/services/http:web:80/proxy//a%2Fb/?c=d", "/api/v1/nodes/n/proxy/", "/apis/x", "/", "//", "/api/v1/namespaces/a/status", "/api/v1/watch",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.ParseRequestURI(raw)
		if err != nil {
			return
		}
		target, ok := parsePath(u.Path)
		if !ok {
			return
		}
		for _, part := range []string{target.group, target.version, target.resource, target.namespace, target.name, target.subresource, target.rest} {
			if !strings.Contains(u.Path, part) {
				t.Errorf("%q is no part of %q", part, u.Path)
			}
		}
		prefix, rest := cutPath(u, segments(target))
		if !strings.HasSuffix(u.Path, rest.Path) || rest.Path != "" && rest.Path[0] != '/' || len(prefix) > len(u.Path)+1 {
			t.Errorf("%q cut to %q and %q", u.Path, prefix, rest.Path)
		}
		if rest.RawPath != "" && !strings.HasSuffix(u.EscapedPath(), rest.RawPath) {
			t.Errorf("%q has not %q", u.EscapedPath(), rest.RawPath)
		}
	})
}

// Whatever parameters come with a read or a write, they are understood or refused as the client's mistake.
func FuzzOptions(f *testing.F) {
	for _, s := range []string{
		"limit=5&continue=x", "watch&timeoutSeconds=-1", "resourceVersionMatch=Exact&resourceVersion=0", "dryRun=All&dryRun=no", "fieldManager=%00",
		"gracePeriodSeconds=99999999999999999999", "propagationPolicy=&orphanDependents=", "sendInitialEvents=0&labelSelector=!a,b in (c)",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		h := &Handler{}
		for _, err := range []error{
			readOptions(&pipeline.Request{}, q), checkListOptions(q, false), checkListOptions(q, true),
			writeOptions(&pipeline.Request{Verb: pipeline.Patch, PatchType: pipeline.ApplyPatch}, q, "PatchOptions"),
			h.deleteOptions(&pipeline.Request{}, q, "application/json", nil),
		} {
			if err == nil {
				continue
			}
			if s := statusOf(err); s.Code < 400 || s.Code >= 500 {
				t.Errorf("%q: %d %s", query, s.Code, s.Message)
			}
		}
	})
}

// Whatever a client accepts, the answer has one of the three formats or is 406.
func FuzzAccept(f *testing.F) {
	for _, s := range []string{
		"*/*", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "text/html;q=0.9, application/yaml;q=0.1", "application/vnd.kubernetes.protobuf;stream=watch", ";;=,", "a/b;q=nan",
	} {
		f.Add(s)
	}
	object := func(r *http.Request, protobuf bool) (format, error) {
		return negotiate(r, forms{protobuf: protobuf, table: true})
	}
	f.Fuzz(func(t *testing.T, accept string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept", accept)
		for _, negotiate := range []func(*http.Request, bool) (format, error){object, negotiateStream} {
			if custom, err := negotiate(r, false); err == nil && custom.media == codec.Protobuf && custom.view != metadataOnly {
				t.Errorf("%q: protobuf for what has none", accept)
			}
			got, err := negotiate(r, true)
			switch {
			case err != nil && statusOf(err).Code != http.StatusNotAcceptable:
				t.Errorf("%q: %v", accept, err)
			case err == nil && got.media == "":
				t.Errorf("%q: no format", accept)
			}
		}
	})
}

// Whatever body a deletion has, it is options or the client's mistake.
func FuzzDeleteOptions(f *testing.F) {
	f.Add("application/json", []byte(`{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":5,"preconditions":{"uid":"a"}}`))
	f.Add("application/yaml", []byte("a: &a [b,b]\nc: [*a,*a]\n"))
	f.Add("application/vnd.kubernetes.protobuf", []byte("k8s\x00\x0a\x13\x0a\x02v1\x12\x0dDeleteOptions\x12\x02\x08\x05"))
	f.Add("application/json", []byte(strings.Repeat("[", 10_000)))
	f.Fuzz(func(t *testing.T, media string, body []byte) {
		var o metav1.DeleteOptions
		if err := decodeDeleteOptions(media, body, &o); err != nil {
			if s := statusOf(err); s.Code != http.StatusBadRequest {
				t.Errorf("%d %s", s.Code, s.Message)
			}
		}
	})
}

// Whatever protocols and headers a WebSocket's handshake names, asking about them harms nothing.
func FuzzUpgrade(f *testing.F) {
	f.Add("SPDY/3.1+portforward.k8s.io, v5.channel.k8s.io", "Upgrade, keep-alive")
	f.Fuzz(func(_ *testing.T, protocols, connection string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Sec-Websocket-Protocol", protocols)
		r.Header.Set("Connection", connection)
		r.Header.Set("Upgrade", "websocket")
		_, _, _ = tunnels(r), upgrades(r), subprotocols(r)
	})
}
