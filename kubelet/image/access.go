package image

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
)

// access is who may use an image under the names of one repository, as its registry has decided in earlier pulls.
type access struct {
	// Loaded by an administrator, not pulled.
	Loaded bool `json:"loaded,omitempty"`
	// Anyone: the registry gave it without credentials.
	Anyone bool `json:"anyone,omitempty"`
	// Credentials are those that it was given for, each as a keyed hash; Sources are the pull secrets that they came from.
	Credentials []string `json:"credentials,omitempty"`
	Sources     []string `json:"sources,omitempty"`
}

// maxCredentials bounds what is remembered of a repository; who is forgotten is checked by the registry again. 100 are 7 KiB.
const maxCredentials = 100

// grant is what a pull or load adds to an image's access.
type grant struct {
	repositories []string
	// loaded is set if no registry was asked.
	loaded bool
	// by is the credential that opened the registry; nil for none.
	by *Auth
}

// loaded is what an administrator does who gives an image these names.
func loaded(names []string) grant {
	g := grant{loaded: true}
	for _, n := range names {
		if r, err := parse(n); err == nil {
			g.repositories = append(g.repositories, repository(r))
		}
	}
	return g
}

// addTo extends what is known. The maps and slices of the former state stay as they are: a change that cannot be made durable is taken
// back.
func (g grant) addTo(have map[string]access, id string) map[string]access {
	next := maps.Clone(have)
	if next == nil {
		next = map[string]access{}
	}
	for _, repo := range g.repositories {
		a := next[repo]
		switch {
		case g.loaded:
			a.Loaded = true
		case g.by == nil:
			a = access{Loaded: a.Loaded, Anyone: true} // whoever else may is of no interest any more
		case !a.Anyone:
			a.Credentials = remember(a.Credentials, g.by.hash(id, repo))
			if g.by.Source != "" {
				a.Sources = remember(a.Sources, g.by.Source)
			}
		}
		next[repo] = a
	}
	return next
}

// remember puts a value last and forgets the first beyond maxCredentials.
func remember(list []string, value string) []string {
	list = append(slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == value }), value)
	return list[max(0, len(list)-maxCredentials):]
}

// hash of a credential, which differs by image and repository, so that the file tells nobody who uses the same one elsewhere.
func (a Auth) hash(id, repo string) string {
	mac := hmac.New(sha256.New, []byte(id+"\x00"+repo))
	for _, s := range []string{a.Username, a.Password, a.IdentityToken, a.RegistryToken} {
		_, _ = mac.Write([]byte(s + "\x00")) // a hash never fails
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// Access says what is known of the right to use an image that is here.
type Access int

const (
	// Preloaded: no pull brought it, it was loaded by an administrator, or before rights were recorded.
	Preloaded Access = iota
	// Granted: its registry gave it to the same credential, or to anybody, in an earlier pull.
	Granted
	// Unproven: others brought it; only its registry can say.
	Unproven
)

// Access tells whether who has the credentials may use an image that is here under the name ref, as far as can be known without asking
// its registry (KEP-2535). [ErrNotFound].
func (s *Store) Access(ref string, auths []Auth) (Access, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.findLocked(ref)
	if err != nil {
		return Unproven, err
	}
	if len(r.Access) == 0 {
		return Preloaded, nil
	}
	best := Unproven
	for repo, a := range r.Access {
		// An ID names no repository: what holds for any of them will do.
		if byID := r == s.byIDLocked(ref); !byID && !names(ref, repo) {
			continue
		}
		if a.Loaded && best == Unproven {
			best = Preloaded
		}
		if a.grants(r.ID, repo, auths) {
			best = Granted
		}
	}
	return best, nil
}

func names(ref, repo string) bool {
	r, err := parse(ref)
	return err == nil && repository(r) == repo
}

// grants tells whether a registry has given the image to one of the credentials, or to anybody.
func (a access) grants(id, repo string, auths []Auth) bool {
	return a.Anyone || slices.ContainsFunc(auths, func(x Auth) bool {
		return slices.Contains(a.Credentials, x.hash(id, repo)) || x.Source != "" && slices.Contains(a.Sources, x.Source)
	})
}
