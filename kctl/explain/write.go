package explain

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// width is that of a line without its indentation, so that a terminal of 80 columns holds it.
	width = 76
	// shownEnums is how many of a field's values a list of fields names.
	shownEnums = 4
)

// Write describes a kind, or the field that a path leads to, with its fields; recursive lists the fields' fields, too, all of them
// by name and type only.
func Write(w io.Writer, d *Document, gvk schema.GroupVersionKind, path []string, recursive bool) error {
	s, err := d.kind(gvk)
	if err != nil {
		return err
	}
	if s, err = d.find(s, path); err != nil {
		return err
	}
	p := &printer{Writer: bufio.NewWriter(w), doc: d, recursive: recursive}
	if gvk.Group != "" {
		fmt.Fprintf(p, "GROUP:      %s\n", gvk.Group)
	}
	fmt.Fprintf(p, "KIND:       %s\nVERSION:    %s\n\n", gvk.Kind, gvk.Version)
	if len(path) > 0 {
		p.field(path[len(path)-1], s)
	}
	p.description(s)
	if owner := d.fields(s); owner != nil {
		fmt.Fprintln(p, "FIELDS:")
		p.fields(owner, 1, nil)
	}
	fmt.Fprintln(p)
	return p.Flush()
}

type printer struct {
	*bufio.Writer
	doc       *Document
	recursive bool
}

// field heads the description of one field.
func (p *printer) field(name string, s *Schema) {
	fmt.Fprintf(p, "FIELD: %s <%s>\n", name, p.doc.typeName(s))
	if len(s.Enum) > 0 {
		fmt.Fprintln(p, "ENUM:")
		for _, v := range s.Enum {
			fmt.Fprintln(p, "    "+enumText(v))
		}
	} else {
		fmt.Fprintln(p)
	}
	fmt.Fprintln(p)
}

func (p *printer) description(s *Schema) {
	fmt.Fprintln(p, "DESCRIPTION:")
	texts := p.doc.descriptions(s)
	if len(texts) == 0 {
		fmt.Fprintln(p, "    <empty>")
		return
	}
	for _, text := range texts {
		p.paragraphs(text)
	}
	fmt.Fprintln(p, "    ")
}

// fields lists the fields of a schema in the order of their names. above are the schemas that it is a part of: a type that holds
// itself is named, not followed.
func (p *printer) fields(owner *Schema, level int, above []*Schema) {
	indent := strings.Repeat("  ", level)
	for _, name := range slices.Sorted(maps.Keys(owner.Properties)) {
		s := owner.Properties[name]
		required := ""
		if slices.Contains(owner.Required, name) {
			required = " -required-"
		}
		fmt.Fprintf(p, "%s%s\t<%s>%s\n", indent, name, p.doc.typeName(s), required)
		if len(s.Enum) > 0 {
			fmt.Fprintf(p, "%senum: %s\n", indent, enumList(s.Enum))
		}
		if !p.recursive {
			p.paragraphs(s.text())
			fmt.Fprintln(p)
			continue
		}
		if inner := p.doc.fields(s); inner != nil && inner != owner && !slices.Contains(above, inner) {
			p.fields(inner, level+1, append(above, owner))
		}
	}
}

// text is a field's own description.
func (s *Schema) text() string {
	if s.Description == "" {
		return "<no description>"
	}
	return s.Description
}

// paragraphs prints a text, indented and with long lines wrapped between words.
func (p *printer) paragraphs(text string) {
	for line := range strings.SplitSeq(text, "\n") {
		for _, part := range wrap(line) {
			fmt.Fprintln(p, "    "+part)
		}
	}
}

// wrap parts a line between words. Space within a line, and at its beginning, stays as it is, for it may be meant.
func wrap(line string) []string {
	out := []string{""}
	for rest := line; rest != ""; {
		space := rest[:len(rest)-len(strings.TrimLeft(rest, " \t"))]
		word, _, _ := strings.Cut(rest[len(space):], " ")
		rest = rest[len(space)+len(word):]
		last := &out[len(out)-1]
		switch {
		case word == "": // space at the end
		case *last != "" && len(*last)+len(space)+len(word) > width:
			out = append(out, word)
		default:
			*last += space + word
		}
	}
	return out
}

func enumText(v any) string {
	if v == "" {
		return `""`
	}
	return fmt.Sprint(v)
}

func enumList(values []any) string {
	var words []string
	for i, v := range values {
		if i == shownEnums {
			words = append(words, "....")
			break
		}
		words = append(words, enumText(v))
	}
	return strings.Join(words, ", ")
}
