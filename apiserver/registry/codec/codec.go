// Package codec turns stored and sent bytes into objects and back.
//
// What is stored is Kubernetes' protobuf envelope: the four bytes "k8s\x00", then a runtime.Unknown with the object's type
// and its protobuf encoding as raw. What is sent may be that, the bare message in a google.protobuf.Any, JSON or YAML. JSON and
// YAML are decoded strictly, and the verdict on unknown fields, duplicate keys and wrong types is worded as kube-apiserver
// words it, since it comes from the same decoders.
//
//	c := codec.New(set)
//	warnings, err := c.DecodeBody("application/json", body, want, codec.Strict, obj)
//	stored, err := c.EncodeStored(want, obj)
//
// Every decoder is bounded: see MaxBody, MaxElements and MaxDepth. Nothing here keeps a reference to the bytes it was given,
// unless it says so.
package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec/wirejson"
)

// The content types of bodies.
const (
	JSON     = runtime.ContentTypeJSON
	YAML     = runtime.ContentTypeYAML
	Protobuf = runtime.ContentTypeProtobuf
)

// FieldValidation says what becomes of unknown and duplicate fields in JSON and YAML; see the API's fieldValidation.
type FieldValidation int

const (
	// Warn drops them and returns warnings; it is the default.
	Warn FieldValidation = iota
	// Ignore drops them.
	Ignore
	// Strict refuses them.
	Strict
)

// ErrMalformed is wrapped by errors about stored bytes that are not what they should be.
var ErrMalformed = errors.New("malformed stored object")

var magic = []byte("k8s\x00")

// Codec decodes and encodes the kinds of one set. It is safe for concurrent use.
type Codec struct {
	scheme                *runtime.Scheme
	jsonLax, jsonStrict   *kjson.Serializer
	quickLax, quick       *kjson.Serializer // the same, but for the wording of their errors
	yamlLax, yamlStrict   *kjson.Serializer
	jsonPretty, jsonPlain *kjson.Serializer
	proto                 *protobuf.Serializer
	shapes                shapeCache
	plans                 plans
}

// New returns the codec of a set.
func New(set *registry.Set) *Codec {
	s := set.Scheme()
	of := func(o kjson.SerializerOptions) *kjson.Serializer {
		return kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, s, s, o)
	}
	return &Codec{
		scheme:     s,
		jsonLax:    of(kjson.SerializerOptions{}),
		jsonStrict: of(kjson.SerializerOptions{Strict: true}),
		quickLax:   kjson.NewSerializerWithOptions(quickMeta{}, s, s, kjson.SerializerOptions{}),
		quick:      kjson.NewSerializerWithOptions(quickMeta{}, s, s, kjson.SerializerOptions{Strict: true}),
		yamlLax:    of(kjson.SerializerOptions{Yaml: true}),
		yamlStrict: of(kjson.SerializerOptions{Yaml: true, Strict: true}),
		jsonPlain:  of(kjson.SerializerOptions{}),
		jsonPretty: of(kjson.SerializerOptions{Pretty: true}),
		proto:      protobuf.NewSerializer(s, s),
		plans:      plans{wire: wirejson.New(), byKind: map[schema.GroupVersionKind]*wirejson.Plan{}},
	}
}

// EncodeStored returns the object in the stored form: no resource version inside, since that is the commit's revision.
// The object is not modified.
func (c *Codec) EncodeStored(kind schema.GroupVersionKind, obj registry.Object) ([]byte, error) {
	if c, ok := obj.(*registry.CustomObject); ok {
		return encodeCustom(c)
	}
	if obj.GetResourceVersion() != "" {
		obj = obj.DeepCopyObject().(registry.Object)
		obj.SetResourceVersion("")
	}
	return c.EncodeProtobuf(kind, obj)
}

// EncodeProtobuf returns the object in the protobuf envelope, complete.
func (c *Codec) EncodeProtobuf(kind schema.GroupVersionKind, obj runtime.Object) ([]byte, error) {
	msg, ok := obj.(sizedMarshaler)
	if !ok {
		return nil, fmt.Errorf("codec: %T has no protobuf encoding", obj)
	}
	size := msg.Size()
	unknown := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind}}
	// The envelope's own fields and the raw field's header take at most this much besides the object.
	out := make([]byte, len(magic)+unknown.Size()+size+envelopeSlack)
	n, err := unknown.NestedMarshalTo(out[len(magic):], msg, uint64(size))
	if err != nil {
		return nil, fmt.Errorf("codec: encode %s: %w", kind, err)
	}
	copy(out, magic)
	return out[:len(magic)+n], nil
}

// envelopeSlack: one tag byte and a varint of at most ten bytes ahead of the raw field.
const envelopeSlack = 11

type sizedMarshaler interface {
	runtime.ProtobufMarshaller
	Size() int
}

// Open splits stored bytes into kind, content type ("" and Protobuf both mean protobuf; custom resources are JSON) and the
// object's own encoding, without decoding it. raw shares stored's memory.
func Open(stored []byte) (kind schema.GroupVersionKind, contentType string, raw []byte, err error) {
	body, ok := bytes.CutPrefix(stored, magic)
	if !ok {
		return kind, "", nil, fmt.Errorf("%w: no protobuf envelope", ErrMalformed)
	}
	apiVersion, kindName, contentType, raw, err := openUnknown(body)
	if err != nil {
		return kind, "", nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return kind, "", nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return gv.WithKind(kindName), contentType, raw, nil
}

// DecodeStored decodes stored bytes into an empty object of their kind and sets its apiVersion and kind.
func (c *Codec) DecodeStored(stored []byte, into registry.Object) error {
	kind, contentType, raw, err := Open(stored)
	if err != nil {
		return err
	}
	if contentType == JSON {
		if err := json.Unmarshal(raw, into); err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
	} else if err := into.Unmarshal(raw); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, kind, err)
	}
	into.GetObjectKind().SetGroupVersionKind(kind)
	return nil
}

// DecodeRaw decodes a bare protobuf message, as a google.protobuf.Any carries it, into an empty object of the kind. Errors
// are the client's (BadRequest).
func (c *Codec) DecodeRaw(kind schema.GroupVersionKind, raw []byte, into runtime.Object) error {
	if err := checkSize(len(raw)); err != nil {
		return err
	}
	m, ok := into.(interface{ Unmarshal([]byte) error })
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q has no protobuf encoding", kind.Kind, kind.Version))
	}
	if err := c.shapes.check(raw, into); err != nil {
		return cannotHandle(kind, kind.Kind, err)
	}
	if err := m.Unmarshal(raw); err != nil {
		return cannotHandle(kind, kind.Kind, err)
	}
	into.GetObjectKind().SetGroupVersionKind(kind)
	return nil
}

// DecodeBody decodes a request's body into an empty object of the wanted kind. A body without apiVersion and kind is taken
// for that kind. Errors are the client's, as *apierrors.StatusError.
func (c *Codec) DecodeBody(contentType string, body []byte, want schema.GroupVersionKind, fv FieldValidation, into runtime.Object) (warnings []string, err error) {
	if err := checkSize(len(body)); err != nil {
		return nil, err
	}
	if custom, ok := into.(*registry.CustomObject); ok {
		return c.decodeCustom(contentType, body, want, fv, custom)
	}
	decoder, err := c.decoder(contentType, body, fv, into)
	if errors.Is(err, errAliasing) {
		return nil, describe(c.scheme, err, nil, want, body)
	}
	if err != nil {
		return nil, err
	}
	_, actual, err := decoder.Decode(body, &want, into)
	strict, isStrict := runtime.AsStrictDecodingError(err)
	if err != nil && !isStrict && (decoder == c.quick || decoder == c.quickLax) {
		_, actual, err = pick(fv, c.jsonLax, c.jsonStrict).Decode(body, &want, into)
		strict, isStrict = runtime.AsStrictDecodingError(err)
	}
	switch {
	case err == nil:
	case isStrict && fv == Warn:
		warnings = Warnings(strict.Errors())
	default:
		return nil, describe(c.scheme, err, actual, want, body)
	}
	if actual.GroupVersion() != want.GroupVersion() {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)",
			actual.GroupVersion(), want.GroupVersion()))
	}
	if actual.Kind != want.Kind {
		return nil, cannotHandle(*actual, want.Kind, wrongKind(c.scheme, *actual, want))
	}
	into.GetObjectKind().SetGroupVersionKind(want)
	return warnings, nil
}

func (c *Codec) decoder(contentType string, body []byte, fv FieldValidation, into runtime.Object) (runtime.Decoder, error) {
	media, _, _ := strings.Cut(contentType, ";")
	switch strings.TrimSpace(media) {
	case JSON, "":
		if err := checkJSON(body); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if _, custom := into.(*registry.CustomObject); custom {
			return pick(fv, c.jsonLax, c.jsonStrict), nil
		}
		return pick(fv, c.quickLax, c.quick), nil
	case YAML:
		if err := checkYAML(body); errors.Is(err, errAliasing) {
			return nil, err
		} else if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		return pick(fv, c.yamlLax, c.yamlStrict), nil
	case Protobuf:
		if _, _, _, raw, err := openBody(body); err == nil {
			if err := c.shapes.check(raw, into); err != nil {
				return nil, apierrors.NewBadRequest(err.Error())
			}
		}
		return c.proto, nil
	}
	return nil, unsupportedMediaType()
}

func pick(fv FieldValidation, lax, strict *kjson.Serializer) *kjson.Serializer {
	if fv == Ignore {
		return lax
	}
	return strict
}

// EncodeJSON writes the object, which must carry its apiVersion and kind, as JSON with a final newline.
func (c *Codec) EncodeJSON(obj runtime.Object, pretty bool) ([]byte, error) {
	if pretty {
		return runtime.Encode(c.jsonPretty, obj)
	}
	return runtime.Encode(c.jsonPlain, obj)
}

// EncodeYAML writes the object, which must carry its apiVersion and kind, as YAML.
func (c *Codec) EncodeYAML(obj runtime.Object) ([]byte, error) {
	return runtime.Encode(c.yamlLax, obj)
}

// describe words a decoding error as kube-apiserver does.
func describe(scheme *runtime.Scheme, err error, actual *schema.GroupVersionKind, want schema.GroupVersionKind, body []byte) error {
	if actual != nil && actual.Kind != "" {
		if runtime.IsNotRegisteredError(err) {
			err = wrongKind(scheme, *actual, want)
		}
		return cannotHandle(*actual, want.Kind, err)
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)",
		want.Kind, err, summary(body)))
}

func cannotHandle(actual schema.GroupVersionKind, as string, err error) error {
	return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", actual.Kind, actual.Version, as, err))
}

func wrongKind(scheme *runtime.Scheme, actual, want schema.GroupVersionKind) error {
	if !scheme.Recognizes(actual) {
		return fmt.Errorf("no kind %q is registered for version %q", actual.Kind, actual.GroupVersion())
	}
	return fmt.Errorf("converting (%s.%s) to (%s.%s): unknown conversion", actual.Version, actual.Kind, goPackage(want.Group), want.Kind)
}

// goPackage is the name of upstream's Go package for a group: its first label.
func goPackage(group string) string {
	first, _, _ := strings.Cut(group, ".")
	if first == "" {
		return "core"
	}
	return first
}

// summary shows the beginning of a body that makes no sense; protobuf as hexadecimal digits.
func summary(body []byte) string {
	const most = 30
	switch {
	case len(body) == 0:
		return "<empty>"
	case body[0] == '{':
		if len(body) > most {
			return string(body[:most]) + " ..."
		}
		return string(body)
	case len(body) > most:
		return fmt.Sprintf("%x", body[:most]) + " ..."
	}
	return fmt.Sprintf("%x", body)
}

func unsupportedMediaType() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure,
		Code:   http.StatusUnsupportedMediaType,
		Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " +
			strings.Join([]string{JSON, YAML, Protobuf}, ", "),
	}}
}

func checkSize(n int) error {
	if n > MaxBody {
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", MaxBody))
	}
	return nil
}
