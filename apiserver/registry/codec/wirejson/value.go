package wirejson

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// value writes one value. No data is the zero value.
func (w *writer) value(v *value, data []byte, bits uint64) error {
	switch v.kind {
	case text:
		w.out = appendText(w.out, data)
	case boolean:
		w.out = strconv.AppendBool(w.out, bits != 0)
	case integer:
		w.out = strconv.AppendInt(w.out, int64(bits), 10)
	case integer32:
		w.out = strconv.AppendInt(w.out, int64(int32(bits)), 10)
	case double:
		return w.encoded(math.Float64frombits(bits))
	case blob:
		w.out = append(w.out, '"')
		w.out = base64.StdEncoding.AppendEncode(w.out, data)
		w.out = append(w.out, '"')
	case nested:
		start := len(w.out)
		if err := w.fields(v.of, data); err != nil {
			return err
		}
		w.brace(start)
	case wrapped:
		return w.wrapped(v, data)
	case timestamp, microtime:
		return w.time(v.kind, data)
	case quantity:
		return w.quantity(data)
	case intOrText:
		return w.intOrText(data)
	case rawJSON:
		return w.rawJSON(v, data)
	default:
		return w.reencoded(v, data)
	}
	return nil
}

// encoded writes a value as encoding/json does.
func (w *writer) encoded(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return ErrUnusual
	}
	w.out = append(w.out, b...)
	return nil
}

// reencoded decodes a value and writes that.
func (w *writer) reencoded(v *value, data []byte) error {
	obj := reflect.New(v.typ).Interface().(interface{ Unmarshal([]byte) error })
	if obj.Unmarshal(data) != nil {
		return ErrUnusual
	}
	return w.encoded(obj)
}

// wrapped writes a list that is a message with the list as its only field.
func (w *writer) wrapped(v *value, data []byte) error {
	s := slot{}
	for rest := data; len(rest) > 0; {
		tag, wire, _, _, next, ok := consume(rest)
		if !ok || tag != 1 || wire != wireTypes[v.of.fields[0].kind] {
			return ErrUnusual
		}
		rest = next
		s.n++
	}
	if s.n == 0 {
		w.out = append(w.out, "[]"...) // as the decoder makes it
		return nil
	}
	s.data = data
	return w.list(&v.of.fields[0], s)
}

// scalars reads a message of at most three fields, those in the set texts strings and the others numbers.
func scalars(data []byte, texts uint8) (bits [4]uint64, strings [4][]byte, ok bool) {
	for len(data) > 0 {
		tag, wire, text, n, rest, ok := consume(data)
		if !ok || tag > 3 || wire == 1 || (wire == 2) != (texts>>tag&1 == 1) {
			return bits, strings, false
		}
		bits[tag], strings[tag] = n, text
		data = rest
	}
	return bits, strings, true
}

// zeroTime reports whether a metav1.Time, which has no fractions of seconds, is the zero time.
func zeroTime(data []byte) bool {
	if len(data) == 0 {
		return true
	}
	bits, _, ok := scalars(data, 0)
	return ok && int64(bits[1]) == zeroSeconds
}

// zeroSeconds is when the zero time.Time is, in Unix seconds.
const zeroSeconds = -62135596800

func (w *writer) time(k kind, data []byte) error {
	if len(data) == 0 {
		w.out = append(w.out, "null"...)
		return nil
	}
	bits, _, ok := scalars(data, 0)
	if !ok {
		return ErrUnusual
	}
	layout, at := time.RFC3339, time.Unix(int64(bits[1]), 0)
	if k == microtime {
		layout = metav1.RFC3339Micro
		at = time.Unix(int64(bits[1]), int64(time.Duration(int32(bits[2])).Truncate(time.Microsecond)))
	}
	if at.IsZero() {
		w.out = append(w.out, "null"...)
		return nil
	}
	w.out = append(w.out, '"')
	w.out = at.UTC().AppendFormat(w.out, layout)
	w.out = append(w.out, '"')
	return nil
}

// quantity writes a quantity in its canonical form, which nearly all have on the wire already.
func (w *writer) quantity(data []byte) error {
	_, texts, ok := scalars(data, 1<<1)
	if ok && canonical(texts[1]) && len(data) == len(texts[1])+2 {
		w.out = append(w.out, '"')
		w.out = append(w.out, texts[1]...)
		w.out = append(w.out, '"')
		return nil
	}
	var q resource.Quantity
	if q.Unmarshal(data) != nil {
		return ErrUnusual
	}
	return w.encoded(&q)
}

// canonical reports whether a quantity surely is as it is written: a few digits, perhaps with one of the suffixes of which no larger
// one can be used instead. Others may be, too.
func canonical(q []byte) bool {
	n, v := 0, uint64(0)
	for n < len(q) && '0' <= q[n] && q[n] <= '9' {
		v = 10*v + uint64(q[n]-'0')
		n++
	}
	if n == 0 || n > 15 || q[0] == '0' {
		return len(q) == 1 && q[0] == '0'
	}
	switch string(q[n:]) {
	case "", "m", "k", "M", "G", "T", "P":
		return v%1000 != 0
	case "Ki", "Mi", "Gi", "Ti", "Pi":
		return v%1024 != 0
	}
	return false
}

func (w *writer) intOrText(data []byte) error {
	bits, texts, ok := scalars(data, 1<<3)
	if !ok {
		return ErrUnusual
	}
	switch int64(bits[1]) {
	case 0:
		w.out = strconv.AppendInt(w.out, int64(int32(bits[2])), 10)
	case 1:
		w.out = appendText(w.out, texts[3])
	default:
		return ErrUnusual
	}
	return nil
}

// rawJSON writes JSON that is kept in an object.
func (w *writer) rawJSON(v *value, data []byte) error {
	if len(data) == 0 {
		w.out = append(w.out, "null"...)
		return nil
	}
	tag, wire, raw, _, rest, ok := consume(data)
	if ok && tag == 1 && wire == 2 && len(rest) == 0 && len(raw) > 0 && raw[0] == '{' && isPlain(raw) {
		w.out = append(w.out, raw...)
		return nil
	}
	return w.reencoded(v, data)
}
