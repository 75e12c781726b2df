// Package frame holds the encoded form of an object: the bytes that are in the store are, but for the resource version, the
// bytes on the wire.
//
// A stored value is what Kubernetes keeps in etcd. A built-in kind is the protobuf envelope: the four bytes "k8s\x00", then a
// k8s.io.apimachinery.pkg.runtime.Unknown with the API version, the kind and, as raw, the object's protobuf encoding. A
// custom resource is its JSON text. Neither has a resource version, since that is known only when the commit has happened.
//
// Splice makes a Frame of a stored value without decoding it. Protobuf merges a repeated embedded message field by field
// (https://protobuf.dev/programming-guides/encoding/#last-one-wins), so a second ObjectMeta that holds nothing but the
// resource version is appended to the object; in JSON the member is put in front of the others of "metadata". The frame's
// bytes are then shared by every reader and never modified.
//
//	f, err := frame.Splice(entry.Value, int64(entry.Modified))
//	any := &anypb.Any{TypeUrl: url, Value: f.Object()}
package frame

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// ContentType is how an object is encoded.
type ContentType uint8

const (
	// Protobuf is the generated protobuf encoding of k8s.io/api.
	Protobuf ContentType = iota
	// JSON is one JSON text, as custom resources are kept.
	JSON
)

// String returns the media type.
func (c ContentType) String() string {
	if c == JSON {
		return "application/json"
	}
	return "application/vnd.kubernetes.protobuf"
}

// ErrMalformed means that bytes are not a stored object.
var ErrMalformed = errors.New("not a stored object")

// magic begins a protobuf envelope.
const magic = "k8s\x00"

// Field numbers of runtime.Unknown, runtime.TypeMeta, any kind's message and metav1.ObjectMeta, from their generated.proto.
const (
	unknownTypeMeta        = 1
	unknownRaw             = 2
	unknownContentEncoding = 3
	unknownContentType     = 4

	typeMetaAPIVersion = 1
	typeMetaKind       = 2

	objectMetadata      = 1
	metaResourceVersion = 6
)

// Frame is one encoded object at one resource version. It is a value; copies share the bytes. The zero Frame is empty.
type Frame struct {
	// Protobuf: the whole envelope. JSON: the object.
	data []byte
	// data[start:end] is the object.
	start, end int
	// data[start:stored] is the object as stored, without the spliced resource version (protobuf only).
	stored      int
	contentType ContentType
	apiVersion  string
	kind        string
}

// Object returns the object's encoding, with its resource version. It must not be modified.
func (f Frame) Object() []byte { return f.data[f.start:f.end:f.end] }

// Envelope returns what REST sends as application/vnd.kubernetes.protobuf: the magic number and runtime.Unknown around
// Object. Of a JSON frame it returns the JSON. It must not be modified.
func (f Frame) Envelope() []byte { return f.data }

// ContentType says how Object is encoded.
func (f Frame) ContentType() ContentType { return f.contentType }

// APIVersion returns the object's group and version as stored, "apps/v1". It is empty for JSON, where the text has it.
func (f Frame) APIVersion() string { return f.apiVersion }

// Kind returns the object's kind as stored. It is empty for JSON, where the text has it.
func (f Frame) Kind() string { return f.kind }

// IsZero reports whether the frame is empty.
func (f Frame) IsZero() bool { return f.data == nil }

// Size returns how many bytes the frame keeps in memory.
func (f Frame) Size() int { return cap(f.data) }

// Wrap makes the stored value of an object: the envelope around a protobuf encoding, or the JSON text itself.
func Wrap(apiVersion, kind string, c ContentType, object []byte) []byte {
	if c == JSON {
		return object
	}
	head := appendHead(nil, apiVersion, kind, len(object), len(object)+tailRoom)
	return append(append(head, object...), tail...)
}

// tail ends an envelope: Kubernetes writes contentEncoding and contentType even when they are empty.
var tail = string([]byte{unknownContentEncoding<<3 | 2, 0, unknownContentType<<3 | 2, 0})

const tailRoom = 4

// appendHead appends the envelope up to, and with, the length of the object.
func appendHead(b []byte, apiVersion, kind string, objectLen, room int) []byte {
	typeMeta := protowire.SizeTag(typeMetaAPIVersion) + protowire.SizeBytes(len(apiVersion)) +
		protowire.SizeTag(typeMetaKind) + protowire.SizeBytes(len(kind))
	size := len(magic) + 1 + protowire.SizeBytes(typeMeta) + 1 + protowire.SizeVarint(uint64(objectLen))
	if b == nil {
		b = make([]byte, 0, size+room)
	}
	b = append(b, magic...)
	b = protowire.AppendTag(b, unknownTypeMeta, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(typeMeta))
	b = protowire.AppendTag(b, typeMetaAPIVersion, protowire.BytesType)
	b = protowire.AppendString(b, apiVersion)
	b = protowire.AppendTag(b, typeMetaKind, protowire.BytesType)
	b = protowire.AppendString(b, kind)
	b = protowire.AppendTag(b, unknownRaw, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(objectLen))
}

// Splice makes the frame of a stored value at a revision. It copies the value once and does not keep it. The error wraps
// ErrMalformed.
func Splice(stored []byte, revision int64) (Frame, error) {
	if !bytes.HasPrefix(stored, []byte(magic)) {
		return spliceJSON(stored, revision)
	}
	apiVersion, kind, raw, err := parseEnvelope(stored[len(magic):])
	if err != nil {
		return Frame{}, err
	}
	return build(apiVersion, kind, raw, revision), nil
}

// WithRevision returns the same object at another resource version: what a deletion sends.
func (f Frame) WithRevision(revision int64) (Frame, error) {
	if f.contentType == JSON {
		return spliceJSON(f.data, revision)
	}
	return build(f.apiVersion, f.kind, f.data[f.start:f.stored], revision), nil
}

// build lays out envelope, object and spliced version in one buffer.
func build(apiVersion, kind string, raw []byte, revision int64) Frame {
	var digits [20]byte
	version := strconv.AppendInt(digits[:0], revision, 10)
	// A version has at most 19 digits, so both lengths below fit one byte.
	meta := len(version) + 2
	objectLen := len(raw) + meta + 2
	data := appendHead(nil, apiVersion, kind, objectLen, objectLen+tailRoom)
	start := len(data)
	data = append(data, raw...)
	stored := len(data)
	data = append(data, objectMetadata<<3|2, byte(meta), metaResourceVersion<<3|2, byte(len(version)))
	data = append(data, version...)
	end := len(data)
	data = append(data, tail...)
	return Frame{data: data, start: start, end: end, stored: stored, apiVersion: apiVersion, kind: kind}
}

// parseEnvelope finds the parts of a runtime.Unknown.
func parseEnvelope(b []byte) (apiVersion, kind string, raw []byte, err error) {
	found := false
	err = eachField(b, func(num protowire.Number, v []byte) error {
		switch num {
		case unknownTypeMeta:
			return eachField(v, func(num protowire.Number, v []byte) error {
				switch num {
				case typeMetaAPIVersion:
					apiVersion = string(v)
				case typeMetaKind:
					kind = string(v)
				}
				return nil
			})
		case unknownRaw:
			raw, found = v, true
		case unknownContentEncoding, unknownContentType:
			if len(v) > 0 {
				return fmt.Errorf("%w: envelope holds %q, not protobuf", ErrMalformed, v)
			}
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: envelope without an object", ErrMalformed)
	}
	if err == nil {
		// What is appended to the object must begin a new field of it.
		err = eachField(raw, func(protowire.Number, []byte) error { return nil })
	}
	return apiVersion, kind, raw, err
}

// eachField calls fn for each length-delimited field of a message and skips the others.
func eachField(b []byte, fn func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(n))
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(n))
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(n))
		}
		if err := fn(num, v); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
