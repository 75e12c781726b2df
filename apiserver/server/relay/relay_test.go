package relay_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"bareboat.dev/apiserver/server/relay"
)

// compressed is a text in a content encoding.
func compressed(t *testing.T, encoding, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&out)
	if encoding == "deflate" {
		var err error
		if w, err = flate.NewWriter(&out, flate.BestSpeed); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// The links of pages are rewritten whether they are compressed or not, and a page that is too large once it is not is refused.
func TestPages(t *testing.T) {
	const small, want = `<a href="/next">x</a>`, `<a href="/proxy/next">x</a>`
	large := strings.Repeat("x", 9<<20)
	for _, test := range []struct {
		name, method, encoding string
		body                   []byte
		want                   string
		broken                 bool
	}{
		{"plain", "GET", "", []byte(small), want, false},
		{"gzip", "GET", "gzip", compressed(t, "gzip", small), want, false},
		{"deflate", "GET", "deflate", compressed(t, "deflate", small), want, false},
		{"another encoding", "GET", "br", []byte("??"), "??", false},
		{"nothing", "GET", "gzip", nil, "", false},
		{"only the head", "HEAD", "gzip", nil, "", false},
		{"no gzip", "GET", "gzip", []byte("plain"), "", true},
		{"large", "GET", "", []byte(large), "", true},
		{"large once expanded", "GET", "gzip", compressed(t, "gzip", large), "", true},
		{"large once inflated", "GET", "deflate", compressed(t, "deflate", large), "", true},
	} {
		backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			if test.encoding != "" {
				w.Header().Set("Content-Encoding", test.encoding)
			}
			w.Write(test.body)
		}))
		to, err := url.Parse(backend.URL + "/page")
		if err != nil {
			t.Fatal(err)
		}
		failed := false
		answer := httptest.NewRecorder()
		q := httptest.NewRequest(test.method, "/proxy/page", nil)
		q.Header.Set("Accept-Encoding", "gzip") // so that the transport leaves it to us
		relay.Serve(answer, q, relay.Target{URL: to, Transport: backend.Client().Transport, Prefix: "/proxy", Host: "h"}, func(w http.ResponseWriter, _ *http.Request, _ error) { failed = true })
		backend.Close()
		if failed != test.broken || !test.broken && (answer.Body.String() != test.want || answer.Header().Get("Content-Type") != "text/html") {
			t.Errorf("%s: refused %t, body %.60q", test.name, failed, answer.Body)
		}
	}
}
