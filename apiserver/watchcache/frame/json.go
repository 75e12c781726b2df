package frame

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// spliceJSON puts the resource version into the metadata of a JSON object, in place of one that is there already. It reads
// tokens only as far as the end of metadata.
func spliceJSON(stored []byte, revision int64) (Frame, error) {
	open, old, empty, err := findMetadata(stored)
	if err != nil {
		return Frame{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	const member = `"resourceVersion":"`
	data := make([]byte, 0, len(stored)+len(member)+22)
	if old[1] > 0 {
		data = append(data, stored[:old[0]]...)
		data = append(data, '"')
		data = strconv.AppendInt(data, revision, 10)
		data = append(data, '"')
		data = append(data, stored[old[1]:]...)
	} else {
		data = append(data, stored[:open]...)
		data = append(data, member...)
		data = strconv.AppendInt(data, revision, 10)
		data = append(data, '"')
		if !empty {
			data = append(data, ',')
		}
		data = append(data, stored[open:]...)
	}
	return Frame{data: data, end: len(data), contentType: JSON}, nil
}

// findMetadata returns the offset behind the brace that opens the top-level member "metadata", the range of the value of
// its resourceVersion if it has one, and whether it has no members.
func findMetadata(b []byte) (open int, version [2]int, empty bool, err error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := expect(dec, json.Delim('{')); err != nil {
		return 0, version, false, err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return 0, version, false, err
		}
		if key != "metadata" {
			if err := skip(dec); err != nil {
				return 0, version, false, err
			}
			continue
		}
		if err := expect(dec, json.Delim('{')); err != nil {
			return 0, version, false, err
		}
		open = int(dec.InputOffset())
		empty = !dec.More()
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return 0, version, false, err
			}
			start := int(dec.InputOffset())
			if err := skip(dec); err != nil {
				return 0, version, false, err
			}
			if key == "resourceVersion" {
				end := int(dec.InputOffset())
				// The decoder's offset is behind the key; the value begins at its quote.
				version = [2]int{start + bytes.IndexByte(b[start:end], '"'), end}
			}
		}
		return open, version, empty, nil
	}
	return 0, version, false, fmt.Errorf("no metadata")
}

func expect(dec *json.Decoder, want json.Token) error {
	got, err := dec.Token()
	if err == nil && got != want {
		err = fmt.Errorf("%v instead of %v", got, want)
	}
	return err
}

func skip(dec *json.Decoder) error {
	var value json.RawMessage
	return dec.Decode(&value)
}
