package wirejson

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// AppendTyped appends the JSON text of an object that is encoded as raw, with its API version and kind, as an object that is sent
// alone has them. The text has no final newline. With an error dst is returned as it was.
func (p *Plan) AppendTyped(dst []byte, apiVersion, kind string, raw []byte) ([]byte, error) {
	return p.append(dst, apiVersion, kind, p.root, raw)
}

// Append appends the text of an object without API version and kind, as the items of a list have none.
func (p *Plan) Append(dst, raw []byte) ([]byte, error) { return p.append(dst, "", "", p.root, raw) }

// AppendMetadata appends, as an object of the given API version and kind, only the metadata of one.
func (p *Plan) AppendMetadata(dst []byte, apiVersion, kind string, raw []byte) ([]byte, error) {
	return p.append(dst, apiVersion, kind, p.meta, raw)
}

func (p *Plan) append(dst []byte, apiVersion, kind string, m *message, raw []byte) ([]byte, error) {
	w := p.plans.pool.Get().(*writer)
	start := len(dst)
	w.out = dst
	if kind != "" {
		w.out = append(w.out, `,"kind":`...)
		w.out = appendText(w.out, []byte(kind))
	}
	if apiVersion != "" {
		w.out = append(w.out, `,"apiVersion":`...)
		w.out = appendText(w.out, []byte(apiVersion))
	}
	err := w.fields(m, raw)
	w.brace(start)
	out := w.out
	w.release()
	p.plans.pool.Put(w)
	if err != nil {
		return out[:start], err
	}
	return out, nil
}

// writer is the state of one call.
type writer struct {
	out []byte
	// slots are a stack: each message that is being written has as many as it has fields.
	slots []slot
	// entries are a stack of the entries of maps.
	entries []entry
	// merged holds messages that were put together from several parts.
	merged []byte
	depth  int
	used   int // the most slots there were
}

// slot is what a message holds of one field.
type slot struct {
	// data is the value of a length-delimited field; of a list or map the rest of the message from its first element.
	data []byte
	// bits are the value of another field.
	bits uint64
	n    int
}

type entry struct{ key, value []byte }

// keep bounds what a writer keeps for the next call: enough for the metadata of nearly all objects.
const keep = 64 << 10

// release lets go of the object's bytes.
func (w *writer) release() {
	w.out, w.depth = nil, 0
	clear(w.slots[:w.used])
	clear(w.entries[:cap(w.entries)])
	w.slots, w.entries, w.merged, w.used = w.slots[:0], w.entries[:0], w.merged[:0], 0
	if cap(w.merged) > keep {
		w.merged = nil
	}
	if cap(w.entries) > keep/48 {
		w.entries = nil
	}
}

// brace makes an object of the members that were written since start, the first of which begins with a comma.
func (w *writer) brace(start int) {
	if len(w.out) == start {
		w.out = append(w.out, "{}"...)
		return
	}
	w.out[start] = '{'
	w.out = append(w.out, '}')
}

// fields writes the members of a message, each behind a comma.
func (w *writer) fields(m *message, msg []byte) error {
	if w.depth++; w.depth > maxDepth {
		return ErrUnusual
	}
	base := len(w.slots)
	w.slots = slices.Grow(w.slots, len(m.fields))[:base+len(m.fields)]
	w.used = max(w.used, len(w.slots))
	found, err := w.read(m, base, msg)
	if err != nil {
		return err
	}
	for left := found | m.always; left != 0; left &= left - 1 {
		i := bits.TrailingZeros64(left)
		s := slot{}
		if found>>i&1 == 1 {
			s = w.slots[base+i]
		}
		if err := w.field(&m.fields[i], s); err != nil {
			return err
		}
	}
	w.slots = w.slots[:base]
	w.depth--
	return nil
}

// read notes in the slots where in a message its fields are, and returns the set of those that there are.
func (w *writer) read(m *message, base int, msg []byte) (found uint64, err error) {
	slots := w.slots[base:]
	for rest := msg; len(rest) > 0; {
		at := rest
		tag, wire, data, bits, next, ok := consume(rest)
		if !ok {
			return 0, ErrUnusual
		}
		rest = next
		if int(tag) >= len(m.slots) || m.slots[tag] == 0 || int(m.slots[tag]) > len(m.fields) {
			continue // a field of a newer version, or one that is not asked for
		}
		i := int(m.slots[tag]) - 1
		f, s, again := &m.fields[i], &slots[i], found>>i&1 == 1
		found |= 1 << i
		switch {
		case f.number == lookup && wire != 2, f.number != lookup && wire != wireTypes[f.kind]:
			return 0, ErrUnusual
		case !again:
			*s = slot{data, bits, 1}
			if f.number >= list {
				s.data = at
			}
			continue
		case f.number >= list:
			s.n++
			continue
		case f.kind == timestamp, f.kind == microtime:
			return 0, ErrUnusual // the second takes the first one's place, but only if that can be decoded
		case f.kind >= nested:
			data = w.merge(s.data, data)
		}
		s.data, s.bits = data, bits
	}
	return found, nil
}

// merge puts two parts of a message together. Earlier results stay as they are when the buffer grows.
func (w *writer) merge(a, b []byte) []byte {
	start := len(w.merged)
	w.merged = append(append(w.merged, a...), b...)
	return w.merged[start:len(w.merged):len(w.merged)]
}

// consume takes the next field off a message: its number and wire type, and its data or bits.
func consume(b []byte) (tag uint32, wire uint8, data []byte, bits uint64, rest []byte, ok bool) {
	if len(b) >= 2 && b[0] < 0x80 && b[0] >= 8 && b[1] < 0x80 { // nearly all: a small number and a small value or length
		n := int(b[1])
		switch wire = b[0] & 7; {
		case wire == 2 && n <= len(b)-2:
			return uint32(b[0] >> 3), wire, b[2 : 2+n : 2+n], 0, b[2+n:], true
		case wire == 0:
			return uint32(b[0] >> 3), wire, nil, uint64(n), b[2:], true
		}
	}
	head, b, ok := uvarint(b)
	if !ok || head > math.MaxUint32 || head < 8 {
		return 0, 0, nil, 0, nil, false
	}
	tag, wire = uint32(head>>3), uint8(head&7)
	switch wire {
	case 0:
		bits, rest, ok = uvarint(b)
		return tag, wire, nil, bits, rest, ok
	case 1:
		if len(b) < 8 {
			return 0, 0, nil, 0, nil, false
		}
		return tag, wire, nil, binary.LittleEndian.Uint64(b), b[8:], true
	case 2:
		size, b, ok := uvarint(b)
		if !ok || size > uint64(len(b)) {
			return 0, 0, nil, 0, nil, false
		}
		return tag, wire, b[:size:size], 0, b[size:], true
	}
	return 0, 0, nil, 0, nil, false
}

func uvarint(b []byte) (v uint64, rest []byte, ok bool) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), b[1:], true
	}
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// field writes one member, unless it is empty and to be left out then.
func (w *writer) field(f *field, s slot) error {
	if f.inline {
		if f.number == maybe && s.n == 0 {
			return nil
		}
		return w.fields(f.of, s.data)
	}
	if f.omitEmpty && f.empty(s) || f.omitZero && zeroTime(s.data) {
		return nil
	}
	w.out = append(w.out, f.name...)
	switch {
	case f.number == list && s.n > 0:
		return w.list(f, s)
	case f.number == lookup && s.n > 0:
		return w.lookup(f, s)
	case s.n == 0 && (f.number != one || f.kind == blob):
		w.out = append(w.out, "null"...)
		return nil
	}
	return w.value(&f.value, s.data, s.bits)
}

// empty reports whether encoding/json finds the value empty.
func (f *field) empty(s slot) bool {
	if f.number != one {
		return s.n == 0
	}
	switch f.kind {
	case text, blob:
		return len(s.data) == 0
	case boolean, integer:
		return s.bits == 0
	case double:
		return math.Float64frombits(s.bits) == 0
	case integer32:
		return int32(s.bits) == 0
	}
	return false // structs never are
}

func (w *writer) list(f *field, s slot) error {
	for n, rest := 0, s.data; n < s.n; {
		tag, _, data, bits, next, _ := consume(rest)
		rest = next
		if tag != f.tag {
			continue
		}
		w.out = append(w.out, separator(n == 0, '['))
		if err := w.value(&f.value, data, bits); err != nil {
			return err
		}
		n++
	}
	w.out = append(w.out, ']')
	return nil
}

func separator(first bool, open byte) byte {
	if first {
		return open
	}
	return ','
}

// lookup writes a map, by key.
func (w *writer) lookup(f *field, s slot) error {
	base := len(w.entries)
	sorted := true
	for n, rest := 0, s.data; n < s.n; {
		tag, _, data, _, next, _ := consume(rest)
		rest = next
		if tag != f.tag {
			continue
		}
		n++
		e, ok := readEntry(data)
		if !ok {
			return ErrUnusual
		}
		if last := len(w.entries) - 1; last >= base && bytes.Compare(w.entries[last].key, e.key) >= 0 {
			sorted = false
		}
		w.entries = append(w.entries, e)
	}
	if !sorted {
		slices.SortStableFunc(w.entries[base:], func(a, b entry) int { return bytes.Compare(a.key, b.key) })
	}
	for i, end := base, len(w.entries); i < end; i++ {
		e := w.entries[i]
		if i > base && bytes.Equal(e.key, w.entries[i-1].key) {
			return ErrUnusual
		}
		w.out = append(w.out, separator(i == base, '{'))
		w.out = append(appendText(w.out, e.key), ':')
		if err := w.value(&f.value, e.value, 0); err != nil {
			return err
		}
	}
	w.entries = w.entries[:base]
	w.out = append(w.out, '}')
	return nil
}

// readEntry reads the message that an entry of a map is.
func readEntry(b []byte) (e entry, ok bool) {
	for len(b) > 0 {
		tag, wire, data, _, rest, ok := consume(b)
		switch {
		case !ok || wire != 2 || tag == 2 && e.value != nil:
			return e, false
		case tag == 1:
			e.key = data
		case tag == 2:
			e.value = data
		}
		b = rest
	}
	return e, true
}
