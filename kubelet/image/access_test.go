package image

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// users makes a registry that, once closed, gives its images only to the users named, whose passwords are their names.
func users(t *testing.T, closed *atomic.Bool, names ...string) registryServer {
	return newRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			if !closed.Load() || user == password && strings.Contains(strings.Join(names, " "), user) && user != "" {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
		})
	})
}

func is(user string) []Auth {
	return []Auth{{Username: user, Password: user, Source: "ns/" + user + "/uid"}}
}

// Shows that an image which a credential brought is for who has that credential, or the secret that it came from, until its registry has
// given it to others: to one more credential, or to anybody; and that this outlives the process.
func TestAccessAfterPulls(t *testing.T) {
	needRoot(t)
	var closed atomic.Bool
	reg := users(t, &closed, "ann", "bob")
	ref := reg.push(t, "private:1", newImage(t, v1.Config{}, newLayer(t, "gzip", file("a", "a"))))
	closed.Store(true)
	root := t.TempDir()
	s := openAt(t, root, Options{})
	check := func(want Access, auths []Auth, ref string) {
		t.Helper()
		if got, err := s.Access(ref, auths); err != nil || got != want {
			t.Errorf("access of %v to %s: %v (%v), want %v", auths, ref, got, err, want)
		}
	}
	pull := func(auths []Auth) error { _, err := s.Pull(t.Context(), ref, PullOptions{Auth: auths}); return err }
	if err := pull(is("ann")); err != nil {
		t.Fatal(err)
	}
	rotated := is("ann")
	rotated[0].Password = "new"
	img, _ := s.Get(ref)
	for _, name := range []string{ref, img.RepoDigests[0]} {
		check(Granted, is("ann"), name)
		check(Granted, rotated, name)
		check(Unproven, is("bob"), name)
		check(Unproven, nil, name)
	}
	check(Granted, is("ann"), img.ID)
	check(Unproven, is("eve"), img.ID)
	if err := pull(nil); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("pull by nobody: %v", err)
	}
	check(Unproven, nil, ref)
	if err := pull(is("bob")); err != nil {
		t.Fatal(err)
	}
	check(Granted, is("bob"), ref)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(root + "/" + indexFile); err != nil || strings.Contains(string(data), `"bob"`) {
		t.Errorf("the index has a credential in the clear: %v\n%s", err, data)
	}
	s = openAt(t, root, Options{})
	check(Granted, is("ann"), ref)
	check(Unproven, is("eve"), ref)
	closed.Store(false)
	if err := pull(nil); err != nil {
		t.Fatal(err)
	}
	check(Granted, nil, ref)
}

// Shows that an image which an administrator loaded, or that is of a time before rights were recorded, is for everybody, and stays so
// after a pull of the same content, under the names that it was loaded with.
func TestAccessToLoaded(t *testing.T) {
	var closed atomic.Bool
	reg := users(t, &closed, "ann")
	image := newImage(t, v1.Config{}, newLayer(t, "gzip", file("a", "a")))
	ref := reg.push(t, "app:1", image)
	closed.Store(true)
	s := openStore(t, Options{})
	img, err := s.Pull(t.Context(), ref, PullOptions{Auth: is("ann")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), ref, "mine:1"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Access{ref: Unproven, "mine:1": Preloaded, img.ID: Preloaded} {
		if got, err := s.Access(name, nil); err != nil || got != want {
			t.Errorf("%s: %v (%v), want %v", name, got, err, want)
		}
	}
	s.mu.Lock()
	for _, r := range s.images {
		r.Access = nil // as an older version left it
	}
	s.mu.Unlock()
	if _, err := s.Pull(t.Context(), ref, PullOptions{Auth: is("ann")}); err != nil {
		t.Fatal(err)
	}
	for _, auths := range [][]Auth{nil, is("eve")} {
		if got, err := s.Access(ref, auths); err != nil || got != Preloaded {
			t.Errorf("%v: %v (%v)", auths, got, err)
		}
	}
	if _, err := s.Access("none:1", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("of what is not here: %v", err)
	}
}

// Each policy asks the registry just when KEP-2535 says so.
func TestVerification(t *testing.T) {
	const listed, below, other = "r.example/app:1", "r.example/org/a@sha256:0", "r.example/apps"
	list := []string{"r.example/app", "r.example/org/*"}
	for _, c := range []struct {
		policy string
		ref    string
		asks   string // for a preloaded image, a granted one, and an unproven one
	}{
		{NeverVerify, other, "no no no"},
		{"", other, "no no yes"},
		{NeverVerifyPreloadedImages, other, "no no yes"},
		{AlwaysVerify, other, "yes no yes"},
		{NeverVerifyAllowlistedImages, listed, "no no no"},
		{NeverVerifyAllowlistedImages, below, "no no no"},
		{NeverVerifyAllowlistedImages, other, "yes no yes"},
	} {
		v := Verification{Policy: c.policy, Allowlist: list}
		var asks []string
		for _, a := range []Access{Preloaded, Granted, Unproven} {
			asks = append(asks, map[bool]string{true: "yes", false: "no"}[v.Requires(c.ref, a)])
		}
		if got := strings.Join(asks, " "); got != c.asks {
			t.Errorf("%s of %s: %s, want %s", c.policy, c.ref, got, c.asks)
		}
	}
	if err := (Verification{Policy: NeverVerifyAllowlistedImages, Allowlist: list}).Validate(); err != nil {
		t.Error(err)
	}
	for _, bad := range []Verification{
		{Policy: "Sometimes"}, {Policy: NeverVerify, Allowlist: list}, {Policy: NeverVerifyAllowlistedImages, Allowlist: []string{"r.example/*/app"}},
		{Policy: NeverVerifyAllowlistedImages, Allowlist: []string{"r.example/app:1"}}, {Policy: NeverVerifyAllowlistedImages, Allowlist: []string{"/*"}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
