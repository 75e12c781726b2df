package output

import (
	"fmt"
	"io"
	"sort"
	"strings"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// TableOptions are the flags that change a table.
type TableOptions struct {
	Wide, NoHeaders, WithNamespace, WithKind, ShowLabels bool
	// LabelColumns are the labels that get a column each.
	LabelColumns []string
}

// Table prints rows in aligned columns as they come. Later rows of a watch keep the widths of the first ones and widen them
// when they must, so that a long watch stays readable.
type Table struct {
	w      io.Writer
	opts   TableOptions
	kind   string
	cols   []*apiv1.TableColumn
	widths []int
	begun  bool
}

// NewTable returns a table for objects of one kind; kind is the prefix of names ("pod/") if opts ask for it.
func NewTable(w io.Writer, kind string, opts TableOptions) *Table {
	return &Table{w: w, opts: opts, kind: kind}
}

// Print prints a part of the table; the first part carries the columns.
func (t *Table) Print(part *apiv1.Table) error {
	if len(part.GetColumns()) > 0 {
		t.cols = part.Columns
	}
	var lines [][]string
	if !t.begun && !t.opts.NoHeaders && len(part.GetRows()) > 0 {
		lines = append(lines, t.header())
	}
	for _, r := range part.GetRows() {
		lines = append(lines, t.row(r))
	}
	if len(lines) == 0 {
		return nil
	}
	t.begun = true
	return t.align(lines)
}

func (t *Table) header() []string {
	var cells []string
	if t.opts.WithNamespace {
		cells = append(cells, "NAMESPACE")
	}
	for _, c := range t.cols {
		if c.Priority == 0 || t.opts.Wide {
			cells = append(cells, strings.ToUpper(c.Name))
		}
	}
	for _, l := range t.opts.LabelColumns {
		cells = append(cells, strings.ToUpper(l[strings.LastIndex(l, "/")+1:]))
	}
	if t.opts.ShowLabels {
		cells = append(cells, "LABELS")
	}
	return cells
}

func (t *Table) row(r *apiv1.TableRow) []string {
	var cells []string
	if t.opts.WithNamespace {
		cells = append(cells, r.Namespace)
	}
	for i, cell := range r.Cells {
		if i < len(t.cols) && t.cols[i].Priority > 0 && !t.opts.Wide {
			continue
		}
		if i == 0 && t.opts.WithKind {
			cell = t.kind + "/" + cell
		}
		cells = append(cells, cell)
	}
	for _, l := range t.opts.LabelColumns {
		cells = append(cells, r.Labels[l])
	}
	if t.opts.ShowLabels {
		cells = append(cells, labels(r.Labels))
	}
	return cells
}

func labels(m map[string]string) string {
	if len(m) == 0 {
		return "<none>"
	}
	pairs := make([]string, 0, len(m))
	for k, v := range m {
		pairs = append(pairs, k+"="+v)
	}
	sort.Strings(pairs)
	return strings.Join(pairs, ",")
}

// align pads every cell but the last to its column's width and three spaces, as kubectl does.
func (t *Table) align(lines [][]string) error {
	for _, cells := range lines {
		for i, c := range cells {
			if i == len(t.widths) {
				t.widths = append(t.widths, 0)
			}
			t.widths[i] = max(t.widths[i], len([]rune(c)))
		}
	}
	var b strings.Builder
	for _, cells := range lines {
		for i, c := range cells {
			if i == len(cells)-1 {
				b.WriteString(c)
				break
			}
			fmt.Fprintf(&b, "%-*s", t.widths[i]+3, c)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(t.w, b.String())
	return err
}
