package codec

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
)

// encodeCustom returns the stored form of a custom object: its JSON without a resource version.
func encodeCustom(obj *registry.CustomObject) ([]byte, error) {
	content := obj.Object
	if obj.GetResourceVersion() != "" {
		content = maps.Clone(content)
		meta := maps.Clone(content["metadata"].(map[string]any))
		delete(meta, "resourceVersion")
		content["metadata"] = meta
	}
	b, err := obj.With(content).Marshal()
	if err != nil {
		return nil, fmt.Errorf("codec: encode %s: %w", obj.GroupVersionKind(), err)
	}
	return b, nil
}

// decodeCustom reads a body into a custom object, as DecodeBody does. What a Go type would have dropped the schema drops. That
// the kind is the wanted one is for validation to say, as in Kubernetes.
func (c *Codec) decodeCustom(contentType string, body []byte, want schema.GroupVersionKind, fv FieldValidation, into *registry.CustomObject) (warnings []string, err error) {
	if media, _, _ := strings.Cut(contentType, ";"); strings.TrimSpace(media) == Protobuf {
		return nil, unsupportedMediaType()
	}
	decoder, err := c.decoder(contentType, body, fv, into)
	if errors.Is(err, errAliasing) {
		return nil, describe(c.scheme, err, nil, want, body)
	}
	if err != nil {
		return nil, err
	}
	_, actual, err := decoder.Decode(body, &want, into)
	var found []error
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		found = strict.Errors()
	} else if err != nil {
		return nil, describe(c.scheme, err, actual, want, body)
	}
	if actual.GroupVersion() != want.GroupVersion() {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)",
			actual.GroupVersion(), want.GroupVersion()))
	}
	unknown, err := into.Custom.Coerce(into.Object, fv != Ignore)
	if err != nil {
		return nil, cannotHandle(*actual, want.Kind, err)
	}
	for _, path := range unknown {
		found = append(found, fmt.Errorf("unknown field %q", path))
	}
	switch {
	case len(found) == 0 || fv == Ignore:
		return nil, nil
	case fv == Warn:
		return Warnings(found), nil
	}
	return nil, cannotHandle(*actual, want.Kind, runtime.NewStrictDecodingError(found))
}

// Warnings words what a strict decoder found for people: a line each, also where the decoder of YAML lists several duplicate
// keys in one error.
func Warnings(found []error) []string {
	var out []string
	for _, err := range found {
		text := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
		lines, many := strings.CutPrefix(text, "yaml: unmarshal errors:\n")
		if !many {
			out = append(out, err.Error())
			continue
		}
		for line := range strings.SplitSeq(lines, "\n") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}
