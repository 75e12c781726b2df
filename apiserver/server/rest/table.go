package rest

import (
	"iter"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
)

func tableKind() schema.GroupVersionKind { return metav1.SchemeGroupVersion.WithKind("Table") }

// table renders objects as kubectl prints them. Include says how much of each object a row carries.
func (h *Handler) table(res *registry.Resource, include string, objects iter.Seq2[*pipeline.Object, error]) (*metav1.Table, error) {
	t := &metav1.Table{Rows: []metav1.TableRow{}}
	t.SetGroupVersionKind(tableKind())
	for _, c := range res.Columns {
		t.ColumnDefinitions = append(t.ColumnDefinitions, c.TableColumnDefinition)
	}
	now := h.cfg.Now()
	for o, err := range objects {
		if err != nil {
			return nil, err
		}
		obj, err := registryObject(o)
		if err != nil {
			return nil, err
		}
		row := metav1.TableRow{Cells: make([]any, 0, len(res.Columns))}
		for i := range res.Columns {
			row.Cells = append(row.Cells, res.Columns[i].JSONValue(obj, now))
		}
		if row.Object, err = rowObject(o, obj, include); err != nil {
			return nil, err
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
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
