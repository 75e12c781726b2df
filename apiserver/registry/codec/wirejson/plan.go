package wirejson

import (
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Plans makes plans and keeps them. It is safe for concurrent use.
type Plans struct {
	mu     sync.Mutex
	byType map[reflect.Type]*message
	pool   sync.Pool // of *writer
}

// New returns an empty Plans.
func New() *Plans {
	p := &Plans{byType: map[reflect.Type]*message{}}
	p.pool.New = func() any { return new(writer) }
	return p
}

// Plan is how the objects of one type are written. It is safe for concurrent use.
type Plan struct {
	plans *Plans
	root  *message
	// meta is root with nothing but its metadata.
	meta *message
}

// For returns the plan of a struct type that embeds metav1.TypeMeta first, as all objects do. The error says which field is of a
// form that is not known here.
func (p *Plans) For(t reflect.Type) (*Plan, error) {
	if t.Kind() != reflect.Struct || t.NumField() == 0 || t.Field(0).Type != typeMeta {
		return nil, fmt.Errorf("wirejson: %s is not an object", t)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	root, err := p.messageLocked(t)
	if err != nil {
		return nil, err
	}
	meta := &message{}
	if len(root.fields) > 0 && root.fields[0].name == `,"metadata":` {
		meta.fields, meta.slots, meta.always = root.fields[:1], root.slots, root.always&1
	}
	return &Plan{plans: p, root: root, meta: meta}, nil
}

// kind is how a value is encoded on the wire and written as JSON.
type kind uint8

const (
	text kind = iota
	boolean
	integer   // int64
	integer32 // int32
	double
	blob       // []byte
	nested     // a message; this and what follows are structs
	wrapped    // a list that is a message of its own, since protobuf has no lists of lists
	timestamp  // metav1.Time
	microtime  // metav1.MicroTime
	quantity   // resource.Quantity
	intOrText  // intstr.IntOrString
	rawJSON    // a message that holds JSON: metav1.FieldsV1, runtime.RawExtension
	reencoded  // any other type with a JSON form of its own: decoded and encoded
	kindsCount // how many there are
)

// wireTypes are the wire types of the kinds.
var wireTypes = [kindsCount]uint8{
	text: 2, boolean: 0, integer: 0, integer32: 0, double: 1, blob: 2, nested: 2, wrapped: 2,
	timestamp: 2, microtime: 2, quantity: 2, intOrText: 2, rawJSON: 2, reencoded: 2,
}

// number is how often a field holds its value.
type number uint8

const (
	one    number = iota
	maybe         // a pointer
	list          // a slice
	lookup        // a map from strings
)

// field is a field of a message, in both forms.
type field struct {
	// name is `,"name":`.
	name      string
	tag       uint32 // the field's number
	number    number
	omitEmpty bool
	omitZero  bool
	inline    bool // its own fields are written in its place
	value
}

// value is what a field, or each element of it, is.
type value struct {
	kind kind
	of   *message     // nested and wrapped
	typ  reflect.Type // rawJSON and reencoded
}

// message is what is known of a struct type.
type message struct {
	// fields in the order in which they are written.
	fields []field
	// slots by field number: one more than the index in fields; 0 is unknown.
	slots []uint8
	// always is the set of fields that are written even if they are not on the wire.
	always uint64
}

var (
	typeMeta  = reflect.TypeFor[metav1.TypeMeta]()
	marshaler = reflect.TypeFor[json.Marshaler]()
	decoder   = reflect.TypeFor[interface{ Unmarshal([]byte) error }]()
)

// maxFieldNumber is larger than any in k8s.io/api, so that a table by number stays small.
const maxFieldNumber = 1 << 10

// maxFields of a message, so that a set of them is a number. The most in k8s.io/api are 45.
const maxFields = 64

func (p *Plans) messageLocked(t reflect.Type) (*message, error) {
	if m, ok := p.byType[t]; ok {
		return m, nil
	}
	m := &message{}
	p.byType[t] = m // before its fields, as types hold themselves
	if err := p.readLocked(m, t); err != nil {
		delete(p.byType, t)
		return nil, err
	}
	return m, nil
}

func (p *Plans) readLocked(m *message, t reflect.Type) error {
	names := map[string]bool{}
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Type == typeMeta && sf.Anonymous {
			if i != 0 {
				return fmt.Errorf("wirejson: %s has its type behind other fields", t)
			}
			continue // not on the wire; whoever has it says it
		}
		f, err := p.fieldLocked(sf)
		if err != nil {
			return fmt.Errorf("wirejson: %s.%s: %w", t, sf.Name, err)
		}
		for int(f.tag) >= len(m.slots) {
			m.slots = append(m.slots, 0)
		}
		if m.slots[f.tag] != 0 {
			return fmt.Errorf("wirejson: %s has field number %d twice", t, f.tag)
		}
		if len(m.fields) == maxFields {
			return fmt.Errorf("wirejson: %s has too many fields", t)
		}
		if f.writtenWithout() {
			m.always |= 1 << len(m.fields)
		}
		m.fields = append(m.fields, f)
		m.slots[f.tag] = uint8(len(m.fields))
		for name := range written(f) {
			if names[name] {
				return fmt.Errorf("wirejson: which field of %s is meant by %s is not decided here", t, name)
			}
			names[name] = true
		}
	}
	return nil
}

// writtenWithout reports whether a field is written although it is not on the wire: encoding/json finds no struct empty.
func (f *field) writtenWithout() bool {
	if f.inline {
		return f.number == one
	}
	return !f.omitZero && (!f.omitEmpty || f.number == one && f.kind >= nested)
}

// written yields the names of the members that a field may become.
func written(f field) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !f.inline {
			yield(f.name)
			return
		}
		for _, inner := range f.of.fields {
			for name := range written(inner) {
				if !yield(name) {
					return
				}
			}
		}
	}
}

func (p *Plans) fieldLocked(sf reflect.StructField) (field, error) {
	f := field{}
	if !sf.IsExported() {
		return f, fmt.Errorf("unexported")
	}
	proto := strings.Split(sf.Tag.Get("protobuf"), ",")
	if len(proto) < 2 {
		return f, fmt.Errorf("no protobuf field")
	}
	n, err := strconv.ParseUint(proto[1], 10, 32)
	if err != nil || n == 0 || n > maxFieldNumber {
		return f, fmt.Errorf("field number %q", proto[1])
	}
	f.tag = uint32(n)
	name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "":
		case "omitempty":
			f.omitEmpty = true
		case "omitzero":
			f.omitZero = true
		case "inline": // encoding/json does not know it; an embedded struct without a name is
		default:
			return f, fmt.Errorf("JSON option %q", option)
		}
	}
	if name == "-" {
		return f, fmt.Errorf("not in JSON")
	}
	if f.number, f.value, err = p.numberLocked(sf.Type); err != nil {
		return f, err
	}
	if f.kind == wrapped && f.number <= maybe {
		return f, fmt.Errorf("%s outside of a list or map", sf.Type)
	}
	if f.inline = sf.Anonymous && name == ""; f.inline && (f.kind != nested || f.number > maybe) {
		return f, fmt.Errorf("embedded %s", sf.Type)
	}
	if name == "" {
		name = sf.Name
	}
	if f.omitZero && (f.kind != timestamp || f.number != one) {
		return f, fmt.Errorf("omitzero on %s", sf.Type)
	}
	quoted, err := json.Marshal(name)
	if err != nil {
		return f, err
	}
	f.name = "," + string(quoted) + ":"
	return f, nil
}

// numberLocked takes pointers, slices and maps off a type.
func (p *Plans) numberLocked(t reflect.Type) (number, value, error) {
	n, elem := one, t
	switch {
	case t.Kind() == reflect.Pointer:
		n, elem = maybe, t.Elem()
	case t.Implements(marshaler) || reflect.PointerTo(t).Implements(decoder):
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		n, elem = list, t.Elem()
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String:
		n, elem = lookup, t.Elem()
	}
	v, err := p.valueLocked(elem)
	if err == nil && n == lookup && wireTypes[v.kind] != 2 {
		err = fmt.Errorf("map of %s", elem)
	}
	return n, v, err
}

func (p *Plans) valueLocked(t reflect.Type) (value, error) {
	switch t {
	case reflect.TypeFor[metav1.Time]():
		return value{kind: timestamp}, nil
	case reflect.TypeFor[metav1.MicroTime]():
		return value{kind: microtime}, nil
	case reflect.TypeFor[resource.Quantity]():
		return value{kind: quantity}, nil
	case reflect.TypeFor[intstr.IntOrString]():
		return value{kind: intOrText}, nil
	case reflect.TypeFor[metav1.FieldsV1](), reflect.TypeFor[runtime.RawExtension]():
		return value{kind: rawJSON, typ: t}, nil
	}
	decodes := reflect.PointerTo(t).Implements(decoder)
	if t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler) {
		if !decodes || t.Kind() != reflect.Struct {
			return value{}, fmt.Errorf("%s has a JSON form of its own", t)
		}
		return value{kind: reencoded, typ: t}, nil
	}
	switch t.Kind() {
	case reflect.String:
		return value{kind: text}, nil
	case reflect.Bool:
		return value{kind: boolean}, nil
	case reflect.Int64:
		return value{kind: integer}, nil
	case reflect.Int32:
		return value{kind: integer32}, nil
	case reflect.Float64:
		return value{kind: double}, nil
	case reflect.Struct:
		m, err := p.messageLocked(t)
		return value{kind: nested, of: m}, err
	case reflect.Slice:
		return p.sliceLocked(t, decodes)
	}
	return value{}, fmt.Errorf("%s is not known", t)
}

// sliceLocked is bytes, or a list that is a message of its own.
func (p *Plans) sliceLocked(t reflect.Type, decodes bool) (value, error) {
	if t.Elem().Kind() == reflect.Uint8 && !decodes {
		return value{kind: blob}, nil
	}
	if !decodes {
		return value{}, fmt.Errorf("%s is a list in a list", t)
	}
	v, err := p.valueLocked(t.Elem())
	if err != nil {
		return value{}, err
	}
	items := &message{fields: []field{{tag: 1, number: list, value: v}}, slots: []uint8{0, 1}}
	return value{kind: wrapped, of: items}, nil
}
