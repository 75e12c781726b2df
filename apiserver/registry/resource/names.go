package resource

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

func checkDriver(e *check.Errors, name string, at *field.Path) {
	if !e.Present(at, name) {
		return
	}
	if len(name) > resourcev1.DriverNameMaxLength {
		e.Add(field.TooLong(at, name, resourcev1.DriverNameMaxLength))
	}
	e.Each(at, name, validation.IsDNS1123Subdomain(strings.ToLower(name)))
}

// checkPool checks a pool's name: subdomains with slashes between them.
func checkPool(e *check.Errors, name string, at *field.Path) {
	if !e.Present(at, name) {
		return
	}
	if len(name) > resourcev1.PoolNameMaxLength {
		e.Add(field.TooLong(at, "", resourcev1.PoolNameMaxLength))
	}
	for _, part := range strings.Split(name, "/") {
		e.Subdomain(at, part)
	}
}

// checkQualified checks the name of an attribute or a capacity: an identifier, with a driver's domain before it or without.
func checkQualified(e *check.Errors, name string, at *field.Path) {
	domain, id, qualified := strings.Cut(name, "/")
	if !qualified {
		checkIdentifier(e, name, at)
		return
	}
	if domain == "" {
		e.Invalid(at, "", "the domain must not be empty")
	} else {
		checkDriver(e, domain, at)
	}
	if id == "" {
		e.Invalid(at, "", "the name must not be empty")
	} else {
		checkIdentifier(e, id, at)
	}
}

func checkFullyQualified(e *check.Errors, name string, at *field.Path) {
	checkQualified(e, name, at)
	if !strings.Contains(name, "/") {
		e.Invalid(at, name, "a fully qualified name must be a domain and a name separated by a slash")
	}
}

func checkIdentifier(e *check.Errors, id string, at *field.Path) {
	if len(id) > resourcev1.DeviceMaxIDLength {
		e.Add(field.TooLong(at, "", resourcev1.DeviceMaxIDLength))
	}
	e.Each(at, id, validation.IsCIdentifier(id))
}

func checkUUID(e *check.Errors, id string, at *field.Path) {
	if err := uuid.Validate(id); err != nil {
		e.Invalid(at, id, fmt.Sprintf("error validating uid: %v", err))
	} else if len(id) != 36 || id != strings.ToLower(id) {
		e.Invalid(at, id, "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters")
	}
}

// checkList checks a list's items, unless there are too many; a negative bound means that there is none.
func checkList[T any](e *check.Errors, list []T, most int, at *field.Path, item func(v *T, at *field.Path)) bool {
	if most >= 0 && len(list) > most {
		e.Add(field.TooMany(at, len(list), most))
		return false
	}
	for i := range list {
		item(&list[i], at.Index(i))
	}
	return true
}

// checkSet is checkList for lists whose items have keys that differ.
func checkSet[T any, K comparable](e *check.Errors, list []T, most int, at *field.Path, key func(*T) K, item func(v *T, at *field.Path)) {
	if !checkList(e, list, most, at, item) {
		return
	}
	seen := map[K]bool{}
	for i := range list {
		k := key(&list[i])
		if seen[k] {
			e.Duplicate(at.Index(i), k)
		}
		seen[k] = true
	}
}

func self(s *string) string { return *s }

// shortKey keeps a path with a key readable: what is too long loses its middle.
func shortKey(key string, most int) string {
	if len(key) <= most {
		return key
	}
	const gap = "..."
	rest := most - len(gap)
	return key[:(rest+1)/2] + gap + key[len(key)-rest/2:]
}
