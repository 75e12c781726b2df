package rest

import (
	"bytes"
	"encoding/json"
	"iter"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec/wirejson"
)

// tableKind is what the format calls a table.
func (f format) tableKind() schema.GroupVersionKind {
	gv := metav1.SchemeGroupVersion
	if f.beta {
		gv.Version = "v1beta1"
	}
	return gv.WithKind("Table")
}

// newTable is a table without rows.
func newTable(f format, res *registry.Resource) *metav1.Table {
	t := &metav1.Table{Rows: []metav1.TableRow{}}
	t.SetGroupVersionKind(f.tableKind())
	for _, c := range res.Columns {
		t.ColumnDefinitions = append(t.ColumnDefinitions, c.TableColumnDefinition)
	}
	return t
}

// table renders objects as kubectl prints them. Include says how much of each object a row carries.
func (h *Handler) table(f format, res *registry.Resource, include string, objects iter.Seq2[*pipeline.Object, error]) (*metav1.Table, error) {
	t := newTable(f, res)
	now := h.cfg.Now()
	for o, err := range objects {
		if err != nil {
			return nil, err
		}
		obj, err := registryObject(o)
		if err != nil {
			return nil, err
		}
		row := metav1.TableRow{Cells: cells(res, obj, now)}
		if row.Object, err = rowObject(o, obj, include); err != nil {
			return nil, err
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

// tableOf is the table of one object, of which it has the version.
func (h *Handler) tableOf(f format, o *pipeline.Object, include string) (*metav1.Table, error) {
	t, err := h.table(f, o.Resource, include, one(o))
	if err != nil {
		return nil, err
	}
	t.ResourceVersion = resourceVersion(o)
	return t, nil
}

func cells(res *registry.Resource, obj registry.Object, now time.Time) []any {
	out := make([]any, 0, len(res.Columns))
	for i := range res.Columns {
		out = append(out, res.Columns[i].JSONValue(obj, now))
	}
	return out
}

// jsonTable writes the table of a list row by row, as encoding/json writes the whole.
func (h *Handler) jsonTable(b *body, f format, l *pipeline.Listing, include string) error {
	t := newTable(f, l.Resource)
	t.ListMeta = listMeta(l)
	head, err := json.Marshal(t)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	const end = "]}"
	b.buf = append(b.buf, bytes.TrimSuffix(head, []byte(end))...)
	first, now := true, h.cfg.Now()
	for o, err := range l.Objects {
		if err != nil {
			return err
		}
		if !first {
			b.buf = append(b.buf, ',')
		}
		first = false
		if err := h.jsonRow(b, o, l.Resource, include, now); err != nil {
			return err
		}
		if err := b.spill(); err != nil {
			return err
		}
	}
	b.buf = append(b.buf, end+"\n"...)
	return nil
}

func (h *Handler) jsonRow(b *body, o *pipeline.Object, res *registry.Resource, include string, now time.Time) error {
	obj, err := registryObject(o)
	if err != nil {
		return err
	}
	b.buf = append(b.buf, `{"cells":[`...)
	for i, cell := range cells(res, obj, now) {
		if i > 0 {
			b.buf = append(b.buf, ',')
		}
		if text, ok := cell.(string); ok {
			b.buf = wirejson.AppendText(b.buf, text)
		} else if b.buf, err = appendJSON(b.buf, cell); err != nil {
			return err
		}
	}
	b.buf = append(b.buf, `],"object":`...)
	if include == "" || include == string(metav1.IncludeMetadata) {
		b.buf, err = h.appendMetadata(b.buf, o)
	} else {
		var whole runtime.RawExtension
		if whole, err = rowObject(o, obj, include); err == nil {
			b.buf, err = appendJSON(b.buf, whole)
		}
	}
	b.buf = append(b.buf, '}')
	return err
}

func appendJSON(dst []byte, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return dst, apierrors.NewInternalError(err)
	}
	return append(dst, text...), nil
}

func rowObject(o *pipeline.Object, obj registry.Object, include string) (runtime.RawExtension, error) {
	switch include {
	case "", string(metav1.IncludeMetadata):
		p, err := partial(o)
		return runtime.RawExtension{Object: p}, err
	case string(metav1.IncludeObject):
		return runtime.RawExtension{Object: obj}, nil
	case string(metav1.IncludeNone):
		return runtime.RawExtension{}, nil
	}
	return runtime.RawExtension{}, apierrors.NewBadRequest("unrecognized includeObject value: \"" + include + "\"")
}
