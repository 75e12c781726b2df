package patch

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// A shape is what the recorded fields of a new object depend on: which fields are set and not zero, the keys of its maps, and, since list
// elements are recorded under the values of their keys, the contents of its lists. Two objects of one kind and one shape have
// the same fields, so that of a thousand pods of one ReplicaSet only the first has to be gone through with its schema.
type shapes struct {
	plans sync.Map // reflect.Type → *plan

	mu    sync.Mutex
	known map[string][]byte // shape → FieldsV1
}

// The bounds of what is remembered: 2 MiB of shapes and about as much of fields.
const (
	maxShapes    = 512
	maxShapeSize = 4 << 10
)

// get returns the fields of a shape.
func (s *shapes) get(shape []byte) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fields, ok := s.known[string(shape)]
	return fields, ok
}

// put remembers the fields of a shape. A full memory forgets everything: what is used is soon remembered again.
func (s *shapes) put(shape, fields []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= maxShapes {
		s.known = map[string][]byte{}
	}
	s.known[string(shape)] = slices.Clone(fields)
}

// plan is what is known of a struct type.
type plan struct {
	leaf   bool // it marshals itself
	fields []planField
}

type planField struct {
	index     int
	omitEmpty bool
}

var marshaler = reflect.TypeFor[json.Marshaler]()

func (s *shapes) plan(t reflect.Type) *plan {
	if p, ok := s.plans.Load(t); ok {
		return p.(*plan)
	}
	p := &plan{leaf: t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler)}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		p.fields = append(p.fields, planField{index: i, omitEmpty: strings.Contains(options, "omitempty")})
	}
	s.plans.Store(t, p)
	return p
}

// write appends v's shape to out; in lists, contents too. It gives up, returning false, once out is too long to remember.
func (s *shapes) write(out []byte, v reflect.Value, inList bool) ([]byte, bool) {
	if len(out) > maxShapeSize {
		return out, false
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return append(out, 0), true
		}
		return s.write(append(out, 1), v.Elem(), inList)
	case reflect.Struct:
		return s.writeStruct(out, v, inList)
	case reflect.Map:
		return s.writeMap(out, v, inList)
	case reflect.Slice:
		return s.writeSlice(out, v)
	case reflect.String:
		if inList {
			out = binary.AppendUvarint(out, uint64(v.Len()))
			return append(out, v.String()...), true
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		if inList {
			return binary.AppendVarint(out, v.Int()), true
		}
	}
	// A field that is written even when it is zero is recorded only if it is not.
	return append(out, 2, isZero(v)), true
}

func (s *shapes) writeStruct(out []byte, v reflect.Value, inList bool) ([]byte, bool) {
	p := s.plan(v.Type())
	if p.leaf {
		return append(out, 3, isZero(v)), true
	}
	ok := true
	for _, f := range p.fields {
		field := v.Field(f.index)
		if f.omitEmpty && isEmpty(field) {
			out = append(out, 4)
			continue
		}
		if out, ok = s.write(append(out, 5), field, inList); !ok {
			return out, false
		}
	}
	return out, true
}

func (s *shapes) writeMap(out []byte, v reflect.Value, inList bool) ([]byte, bool) {
	entries := make(map[string]reflect.Value, v.Len())
	for iter := v.MapRange(); iter.Next(); {
		entries[iter.Key().String()] = iter.Value()
	}
	out = binary.AppendUvarint(append(out, isNil(v)), uint64(len(entries)))
	ok := true
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		out = binary.AppendUvarint(out, uint64(len(key)))
		if out, ok = s.write(append(out, key...), entries[key], inList); !ok {
			return out, false
		}
	}
	return out, true
}

func (s *shapes) writeSlice(out []byte, v reflect.Value) ([]byte, bool) {
	out = binary.AppendUvarint(append(out, isNil(v)), uint64(v.Len()))
	if v.Type().Elem().Kind() == reflect.Uint8 {
		return append(out, 6), true // bytes are one value
	}
	ok := true
	for i := range v.Len() {
		if out, ok = s.write(out, v.Index(i), true); !ok {
			return out, false
		}
	}
	return out, true
}

// isEmpty is encoding/json's notion of what omitempty omits.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

func isZero(v reflect.Value) byte {
	if v.IsZero() {
		return 1
	}
	return 0
}

func isNil(v reflect.Value) byte {
	if v.IsNil() {
		return 7
	}
	return 8
}
