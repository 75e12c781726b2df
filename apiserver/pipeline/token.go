package pipeline

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"bareboat.dev/apiserver/storage"
)

// continueToken is what an opaque continue value holds: where a list goes on, and at which revision. Revision -1 means "at
// the newest", after the first list's revision has expired.
type continueToken struct {
	Version  string           `json:"v"`
	Revision storage.Revision `json:"rv"`
	Start    string           `json:"start"`
}

const tokenVersion = "meta.k8s.io/v1"

// encodeContinue makes the token that goes on behind a key. The key is kept without the resource's prefix.
func encodeContinue(prefix, after string, rev storage.Revision) (string, error) {
	rest, ok := strings.CutPrefix(after, prefix)
	if !ok {
		return "", fmt.Errorf("key %q is outside of %q", after, prefix)
	}
	b, err := json.Marshal(continueToken{Version: tokenVersion, Revision: rev, Start: rest + "\u0000"})
	return base64.RawURLEncoding.EncodeToString(b), err
}

// decodeContinue returns the key to go on behind, and the revision.
func decodeContinue(prefix, token string) (after string, rev storage.Revision, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", 0, fmt.Errorf("continue key is not valid: %w", err)
	}
	var t continueToken
	if err := json.Unmarshal(b, &t); err != nil {
		return "", 0, fmt.Errorf("continue key is not valid: %w", err)
	}
	switch {
	case t.Version != tokenVersion:
		return "", 0, fmt.Errorf("continue key is not valid: server does not recognize this encoded version %q", t.Version)
	case t.Revision == 0:
		return "", 0, errors.New("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
	case t.Start == "":
		return "", 0, errors.New("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)")
	}
	start := strings.TrimSuffix(t.Start, "\u0000")
	if strings.HasPrefix(start, "/") || strings.Contains(start, "..") {
		return "", 0, fmt.Errorf("invalid key: %s", t.Start)
	}
	return prefix + start, t.Revision, nil
}
