package codec

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// The bounds of what is decoded.
const (
	// MaxBody is the largest request body, 3 MiB: Kubernetes' limit, twice what etcd stores in one value.
	MaxBody = 3 << 20
	// MaxElements is the most list elements in one object, all its lists together. A list of "null" takes five bytes an
	// element in JSON and up to a KiB an element as Go structs (a Container), so without a limit a body of 3 MiB would
	// become 600 MiB; with it, 64 MiB.
	MaxElements = 1 << 16
	// MaxDepth is the deepest nesting of lists and maps. The deepest built-in kind is below 50; recursive ones
	// (JSONSchemaProps) are written by people.
	MaxDepth = 1000
	// maxYAMLExpanded is the most that a YAML document may grow by its aliases, in bytes and nodes together: no more than
	// the same document written out could have.
	maxYAMLExpanded = MaxBody
)

var (
	errTooDeep     = fmt.Errorf("exceeded max depth of %d", MaxDepth)
	errTooMany     = fmt.Errorf("exceeded max number of list elements, %d", MaxElements)
	errAliasing    = errors.New("yaml: document contains excessive aliasing")
	errUnsupported = errors.New("unsupported wire type")
	errTruncated   = errors.New("unexpected EOF")
)

// Bounded holds a JSON or YAML text that is decoded elsewhere to this package's bounds. Its errors are the client's.
func Bounded(contentType string, text []byte) error {
	if err := checkSize(len(text)); err != nil {
		return err
	}
	check := checkJSON
	if contentType == YAML {
		check = checkYAML
	}
	if err := check(text); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return nil
}

// checkJSON scans a JSON text for nesting and list lengths in one pass and constant memory. It does not check syntax: what
// is not JSON is the decoder's to refuse.
func checkJSON(text []byte) error {
	var stack [MaxDepth]byte
	depth, elements := 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			i = endOfString(text, i)
		case '[', '{':
			if depth == MaxDepth {
				return errTooDeep
			}
			stack[depth] = c
			depth++
			if c == '[' {
				elements++
			}
		case ']', '}':
			if depth > 0 {
				depth--
			}
		case ',':
			if depth > 0 && stack[depth-1] == '[' {
				elements++
			}
		}
		if elements > MaxElements {
			return errTooMany
		}
	}
	return nil
}

// endOfString returns the index of the quote that ends the string starting at i, or the text's length.
func endOfString(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return i
}

// checkYAML refuses documents that grow beyond bounds by their aliases, nest too deeply or list too much.
func checkYAML(text []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil // not YAML: the decoder says so in its own words
	}
	w := yamlWalk{sizes: map[*yaml.Node]yamlSize{}}
	size, err := w.measure(&doc, 0)
	switch {
	case err != nil:
		return err
	case size.bytes > maxYAMLExpanded && w.aliases:
		return errAliasing
	case size.elements > MaxElements:
		return errTooMany
	}
	return nil
}

type yamlWalk struct {
	sizes   map[*yaml.Node]yamlSize // of anchored nodes, each measured once
	aliases bool
}

type yamlSize struct{ bytes, elements, height int }

// measure returns what the node is with its aliases written out. Sums saturate well above every limit.
func (w *yamlWalk) measure(n *yaml.Node, depth int) (yamlSize, error) {
	if depth > MaxDepth {
		return yamlSize{}, errTooDeep
	}
	if n.Kind == yaml.AliasNode {
		w.aliases = true
		size, known := w.sizes[n.Alias]
		switch {
		case !known: // inside its own anchor: it would never end
			return yamlSize{}, errAliasing
		case depth+size.height > MaxDepth:
			return yamlSize{}, errTooDeep
		}
		return size, nil
	}
	total := yamlSize{bytes: len(n.Value) + 1}
	for _, child := range n.Content {
		size, err := w.measure(child, depth+1)
		if err != nil {
			return yamlSize{}, err
		}
		total.bytes = min(total.bytes+size.bytes, 16*maxYAMLExpanded)
		total.elements = min(total.elements+size.elements, 16*MaxElements)
		total.height = max(total.height, size.height+1)
	}
	if n.Kind == yaml.SequenceNode {
		total.elements = min(total.elements+len(n.Content), 16*MaxElements)
	}
	if n.Anchor != "" {
		w.sizes[n] = total
	}
	return total, nil
}
