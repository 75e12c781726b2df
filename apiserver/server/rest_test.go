package server_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// rest sends a request through the REST door.
func (u *user) rest(t testing.TB, method, path, contentType, body string) (int, http.Header, []byte) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, u.base+path, strings.NewReader(body))
	check(t, err)
	if contentType != "" {
		q.Header.Set("Content-Type", contentType)
	}
	return u.roundTrip(t, q)
}

func (u *user) roundTrip(t testing.TB, q *http.Request) (int, http.Header, []byte) {
	t.Helper()
	resp, err := u.http.Do(q)
	check(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	check(t, err)
	return resp.StatusCode, resp.Header, b
}

// get reads a path in a media type.
func (u *user) get(t testing.TB, path, accept string) []byte {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.base+path, nil)
	check(t, err)
	q.Header.Set("Accept", accept)
	code, _, b := u.roundTrip(t, q)
	if code != http.StatusOK {
		t.Fatalf("GET %s: %d %s", path, code, b)
	}
	return b
}
