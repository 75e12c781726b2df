package image

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
)

// hub is what people call the registry that names without a host mean; hubHost is where it is.
const (
	hub     = "docker.io"
	hubHost = "index.docker.io"
)

// Normalize gives the full form of a name: "busybox" → "docker.io/library/busybox:latest". [ErrInvalidName].
func Normalize(ref string) (string, error) {
	r, err := parse(ref)
	if err != nil {
		return "", err
	}
	return full(r), nil
}

// parse reads a reference as people write it.
func parse(ref string) (name.Reference, error) {
	if ref != strings.TrimSpace(ref) {
		return nil, fmt.Errorf("%w %q: invalid reference format", ErrInvalidName, ref)
	}
	r, err := name.ParseReference(ref)
	if err != nil {
		return nil, fmt.Errorf("%w %q: invalid reference format: %s", ErrInvalidName, ref, err)
	}
	if !repositoryPattern().MatchString(r.Context().RepositoryStr()) {
		return nil, fmt.Errorf("%w %q: invalid reference format", ErrInvalidName, ref)
	}
	return r, nil
}

// repositoryPattern is the distribution specification's for repository names ("Pulling manifests"), which the library does not insist on.
var repositoryPattern = sync.OnceValue(func() *regexp.Regexp {
	const component = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
	return regexp.MustCompile(`^` + component + `(?:/` + component + `)*$`)
})

// full is the reference with registry, repository, and tag or digest.
func full(r name.Reference) string {
	if d, ok := r.(name.Digest); ok {
		return repository(r) + "@" + d.DigestStr()
	}
	return repository(r) + ":" + r.Identifier()
}

func repository(r name.Reference) string {
	return registryOf(r) + "/" + r.Context().RepositoryStr()
}

// registryOf is the registry's host as people write it.
func registryOf(r name.Reference) string {
	if host := r.Context().RegistryStr(); host != hubHost {
		return host
	}
	return hub
}
