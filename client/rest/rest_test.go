package rest

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/client"
)

// A path is read from the server that is up, with the user's token, over TLS that is checked.
func TestGet(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"kind":"Status","reason":"Unauthorized","message":"Unauthorized","code":401}`))
		case r.URL.Path == "/there":
			_, _ = w.Write([]byte("it is " + r.URL.RawQuery))
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	cfg := client.Config{Endpoints: []string{strings.TrimPrefix(down.URL, "http://"), s.URL}, CAData: ca, Token: "secret"}
	get := func(cfg client.Config, path string) (string, error) {
		c, err := New(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		body, err := c.Get(t.Context(), path)
		return string(body), err
	}
	if body, err := get(cfg, "/there?a=b"); err != nil || body != "it is a=b" {
		t.Errorf("%q, %v", body, err)
	}
	if _, err := get(cfg, "/nowhere"); !apierrors.IsNotFound(err) {
		t.Errorf("no such path: %v", err)
	}
	nobody, foreign := cfg, cfg
	nobody.Token, foreign.CAData, foreign.Endpoints = "", nil, cfg.Endpoints[1:]
	if _, err := get(nobody, "/there"); !apierrors.IsUnauthorized(err) {
		t.Errorf("without a token: %v", err)
	}
	if _, err := get(foreign, "/there"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server that no authority vouches for: %v", err)
	}
}

// Nothing is sent to nowhere, and no token without TLS.
func TestNewRefuses(t *testing.T) {
	if _, err := New(&client.Config{}); err == nil {
		t.Error("no server is no error")
	}
	if _, err := New(&client.Config{Endpoints: []string{"a"}, CAData: []byte("x")}); err == nil {
		t.Error("an authority without a certificate is no error")
	}
}
