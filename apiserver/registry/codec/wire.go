package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// openUnknown reads a runtime.Unknown by hand, so that raw is a part of body and not a copy.
func openUnknown(body []byte) (apiVersion, kind, contentType string, raw []byte, err error) {
	err = eachField(body, func(number int, value []byte) error {
		switch number {
		case 1:
			return eachField(value, func(number int, value []byte) error {
				switch number {
				case 1:
					apiVersion = string(value)
				case 2:
					kind = string(value)
				}
				return nil
			})
		case 2:
			raw = value
		case 4:
			contentType = string(value)
		}
		return nil
	})
	return apiVersion, kind, contentType, raw, err
}

func openBody(body []byte) (apiVersion, kind, contentType string, raw []byte, err error) {
	rest, ok := bytes.CutPrefix(body, magic)
	if !ok {
		return "", "", "", nil, ErrMalformed
	}
	return openUnknown(rest)
}

// eachField calls do for each field of a protobuf message; value is nil unless the field is length-delimited.
func eachField(msg []byte, do func(number int, value []byte) error) error {
	for len(msg) > 0 {
		tag, n := binary.Uvarint(msg)
		if n <= 0 {
			return errTruncated
		}
		msg = msg[n:]
		var value []byte
		switch tag & 7 {
		case 0:
			_, n := binary.Uvarint(msg)
			if n <= 0 {
				return errTruncated
			}
			msg = msg[n:]
		case 1, 5:
			size := 8
			if tag&7 == 5 {
				size = 4
			}
			if len(msg) < size {
				return errTruncated
			}
			msg = msg[size:]
		case 2:
			size, n := binary.Uvarint(msg)
			if n <= 0 || size > uint64(len(msg)-n) {
				return errTruncated
			}
			value = msg[n : n+int(size)]
			msg = msg[n+int(size):]
		default:
			return errUnsupported
		}
		if err := do(int(tag>>3), value); err != nil {
			return err
		}
	}
	return nil
}

// check holds a message to MaxElements and MaxDepth before it is decoded: an empty element of a repeated field
// takes two bytes on the wire and up to a KiB in memory. Malformed messages are the decoder's to refuse.
func (c *shapeCache) check(raw []byte, into any) error {
	elements := 0
	err := c.count(raw, c.of(reflect.TypeOf(into)), 0, &elements)
	if err == errTooDeep || err == errTooMany {
		return err
	}
	return nil
}

func (c *shapeCache) count(raw []byte, s *shape, depth int, elements *int) error {
	if depth > MaxDepth {
		return errTooDeep
	}
	return eachField(raw, func(number int, value []byte) error {
		f, known := s.fields[number]
		if !known {
			return nil
		}
		if f.repeated {
			if *elements++; *elements > MaxElements {
				return errTooMany
			}
		}
		if f.message == nil || value == nil {
			return nil
		}
		return c.count(value, c.of(f.message), depth+1, elements)
	})
}

// shape is what the struct tags of a generated type say about its wire form.
type shape struct{ fields map[int]shapeField }

type shapeField struct {
	repeated bool
	message  reflect.Type // nil for scalars and strings
}

// shapeCache keeps shapes by type; the same type always has the same shape.
type shapeCache struct{ byType sync.Map }

func (c *shapeCache) of(t reflect.Type) *shape {
	if s, ok := c.byType.Load(t); ok {
		return s.(*shape)
	}
	s := &shape{fields: map[int]shapeField{}}
	elem := t
	for elem.Kind() == reflect.Pointer {
		elem = elem.Elem()
	}
	if elem.Kind() == reflect.Struct {
		s.read(elem)
	}
	c.byType.Store(t, s) // under the type that was asked for, pointer or not
	return s
}

func (s *shape) read(t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		parts := strings.Split(f.Tag.Get("protobuf"), ",")
		if len(parts) < 3 {
			continue
		}
		number, err := strconv.Atoi(parts[1])
		if err != nil {
			panic(fmt.Sprintf("codec: %s.%s: %v", t, f.Name, err))
		}
		s.fields[number] = shapeField{repeated: parts[2] == "rep", message: messageOf(f.Type)}
	}
}

// messageOf finds the struct that a field's value decodes into; maps are left to their byte count, as their entries are
// no larger in memory than a small multiple of it.
func messageOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	return t
}
