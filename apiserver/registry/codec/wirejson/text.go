package wirejson

import "unicode/utf8"

const hex = "0123456789abcdef"

// plain are the bytes that a JSON string has as they are: ASCII without what JSON or, as encoding/json writes it, HTML would
// misunderstand.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return t
}()

// AppendText appends a string as JSON.
func AppendText(dst []byte, s string) []byte { return appendText(dst, []byte(s)) }

// appendText appends a JSON string as encoding/json does: HTML's special characters and the line separators of JavaScript escaped,
// what is no UTF-8 replaced.
func appendText(dst, s []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			dst = append(dst, s[start:i]...)
			dst = appendEscape(dst, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, s[start:i]...), `\ufffd`...)
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, s[start:i]...), `\u202`...)
			dst = append(dst, hex[r&0xf])
		default:
			i += size
			continue
		}
		i += size
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '\\', '"':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
}

// isPlain reports whether a text surely is one JSON value that encoding/json would write just so: without white space, and with
// nothing in it that would be escaped.
func isPlain(b []byte) bool {
	n := plainValue(b, 0, 0)
	return n == len(b) && n > 0
}

// plainValue returns where the value at i ends, or -1.
func plainValue(b []byte, i, depth int) int {
	if i >= len(b) || depth > maxDepth {
		return -1
	}
	switch b[i] {
	case '{':
		return plainMembers(b, i+1, depth, '}')
	case '[':
		return plainMembers(b, i+1, depth, ']')
	case '"':
		return plainString(b, i+1)
	case 't':
		return literal(b, i, "true")
	case 'f':
		return literal(b, i, "false")
	case 'n':
		return literal(b, i, "null")
	}
	return plainNumber(b, i)
}

// plainMembers returns where the list or object ends whose first member would be at i.
func plainMembers(b []byte, i, depth int, end byte) int {
	if i < len(b) && b[i] == end {
		return i + 1
	}
	for i < len(b) {
		if end == '}' {
			if b[i] != '"' {
				return -1
			}
			if i = plainString(b, i+1); i < 0 || i >= len(b) || b[i] != ':' {
				return -1
			}
			i++
		}
		if i = plainValue(b, i, depth+1); i < 0 || i >= len(b) {
			return -1
		}
		switch b[i] {
		case end:
			return i + 1
		case ',':
			i++
		default:
			return -1
		}
	}
	return -1
}

// plainString returns what is behind the string of which i is the first character.
func plainString(b []byte, i int) int {
	for i < len(b) {
		switch c := b[i]; {
		case plain[c]:
			i++
		case c == '"':
			return i + 1
		case c == '\\':
			if i+1 >= len(b) {
				return -1
			}
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			default:
				return -1 // \u is seldom
			}
		case c >= utf8.RuneSelf && c != 0xe2: // which the line separators begin with
			i++
		default:
			return -1
		}
	}
	return -1
}

func literal(b []byte, i int, word string) int {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

// plainNumber accepts integers that have no leading zero.
func plainNumber(b []byte, i int) int {
	if i < len(b) && b[i] == '-' {
		i++
	}
	start := i
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	if i == start || b[start] == '0' && i > start+1 {
		return -1
	}
	if i < len(b) && (b[i] == '.' || b[i] == 'e' || b[i] == 'E') {
		return -1
	}
	return i
}
