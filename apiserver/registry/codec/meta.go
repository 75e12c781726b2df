package codec

import (
	"bytes"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
)

// quickMeta finds the kind of a JSON object without decoding the object for it, which takes as long as what comes after. Texts in
// which it is not plain to see are left to the usual way. It does not check the text: what is no JSON is for the decoder to find, and
// for the usual way to word.
type quickMeta struct{}

// Interpret implements kjson.MetaFactory.
func (quickMeta) Interpret(text []byte) (*schema.GroupVersionKind, error) {
	apiVersion, kind, ok := plainKind(text)
	if !ok {
		return kjson.DefaultMetaFactory.Interpret(text)
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return kjson.DefaultMetaFactory.Interpret(text)
	}
	return &schema.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: kind}, nil
}

// plainKind returns the members apiVersion and kind of a JSON object. It is not ok if one of them is missing, there twice, in another case
// (encoding/json takes that too), no string, or written with escapes.
func plainKind(text []byte) (apiVersion, kind string, ok bool) {
	depth, isKey := 0, true
	var want *string // where the value goes that comes next
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			end := endOfString(text, i)
			if end >= len(text) || depth == 0 {
				return "", "", false
			}
			if depth == 1 && (isKey || want != nil) {
				word := text[i+1 : end]
				if !plainWord(word) {
					return "", "", false
				}
				if isKey {
					switch {
					case string(word) == "kind" && kind == "":
						want = &kind
					case string(word) == "apiVersion" && apiVersion == "":
						want = &apiVersion
					case strings.EqualFold(string(word), "kind"), strings.EqualFold(string(word), "apiVersion"):
						return "", "", false
					}
				} else {
					*want, want = string(word), nil
				}
				isKey = false
			}
			i = end
		case '{', '[':
			if want != nil || depth == 0 && c == '[' {
				return "", "", false
			}
			depth++
		case '}', ']':
			depth--
		case ',':
			if depth == 1 {
				isKey = true
			}
		case ':', ' ', '\t', '\r', '\n':
		default:
			if want != nil || depth == 0 {
				return "", "", false
			}
		}
	}
	return apiVersion, kind, depth == 0 && apiVersion != "" && kind != ""
}

// plainWord reports whether a string of a JSON text means what it shows: ASCII without escapes.
func plainWord(word []byte) bool {
	return bytes.IndexFunc(word, func(r rune) bool { return r < ' ' || r == '\\' || r > '~' }) < 0
}
