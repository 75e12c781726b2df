package grpc

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
	"bareboat.dev/apiserver/watchcache/frame"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// encode returns the type URL and value of an object in a view; never for VIEW_TABLE.
func encode(o *pipeline.Object, view apiv1.View) (url string, value []byte, err error) {
	if view == apiv1.View_VIEW_METADATA {
		return encodeMetadata(o)
	}
	contentType, value, err := o.Encoded()
	switch {
	case err != nil:
		return "", nil, apierrors.NewInternalError(err)
	case contentType == frame.JSON:
		u := runtime.Unknown{Raw: value, ContentType: runtime.ContentTypeJSON}
		value, err = u.Marshal()
		return unknownURL, value, err
	case o.Kind.Kind == "Status" && o.Kind.Group == "":
		return statusURL, value, nil
	}
	return registry.TypeURL(o.Kind), value, nil
}

func encodeMetadata(o *pipeline.Object) (string, []byte, error) {
	obj, err := o.Decoded()
	if err != nil {
		return "", nil, apierrors.NewInternalError(err)
	}
	partial, ok := partialMetadata(o.Kind, obj)
	if !ok {
		return "", nil, apierrors.NewBadRequest(o.Kind.Kind + " has no metadata")
	}
	value, err := partial.Marshal()
	return metadataURL, value, err
}

// partialMetadata shares the object's metadata.
func partialMetadata(kind schema.GroupVersionKind, obj runtime.Object) (*metav1.PartialObjectMetadata, bool) {
	a, ok := obj.(metav1.ObjectMetaAccessor)
	if !ok {
		return nil, false
	}
	meta, ok := a.GetObjectMeta().(*metav1.ObjectMeta)
	if !ok {
		return nil, false
	}
	p := &metav1.PartialObjectMetadata{ObjectMeta: *meta}
	p.SetGroupVersionKind(kind)
	return p, true
}

func toAny(o *pipeline.Object, view apiv1.View) (*anypb.Any, error) {
	if o == nil {
		return nil, nil
	}
	url, value, err := encode(o, view)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: url, Value: value}, nil
}

// Field numbers of google.protobuf.Any.
const (
	anyTypeURL = 1
	anyValue   = 2
)

// appendAnyHead appends an Any up to where its value's bytes begin; sizeAny is the whole Any's size.
func appendAnyHead(b []byte, url string, value int) []byte {
	b = protowire.AppendTag(b, anyTypeURL, protowire.BytesType)
	b = protowire.AppendString(b, url)
	b = protowire.AppendTag(b, anyValue, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(value))
}

func sizeAny(url string, value int) int {
	return 1 + protowire.SizeBytes(len(url)) + 1 + protowire.SizeBytes(value)
}

// body translates an Any of a write into the pipeline's body.
func (s *Server) body(a *anypb.Any) (pipeline.Body, error) {
	if a == nil {
		return pipeline.Body{}, apierrors.NewBadRequest("object is required")
	}
	if a.GetTypeUrl() == unknownURL {
		var u runtime.Unknown
		if err := u.Unmarshal(a.GetValue()); err != nil {
			return pipeline.Body{}, apierrors.NewBadRequest("malformed runtime.Unknown: " + err.Error())
		}
		contentType := u.ContentType
		if contentType == "" {
			contentType = codec.JSON
		}
		return pipeline.Body{ContentType: contentType, Data: u.Raw}, nil
	}
	kind, ok := s.kinds[a.GetTypeUrl()]
	if !ok {
		return pipeline.Body{}, apierrors.NewBadRequest("no kind is registered for the type " + a.GetTypeUrl())
	}
	return pipeline.Body{ContentType: pipeline.Raw, Data: a.GetValue(), Kind: kind}, nil
}

// bodyKinds indexes the kinds that writes may carry by their type URLs.
func bodyKinds(set *registry.Set) map[string]schema.GroupVersionKind {
	kinds := map[string]schema.GroupVersionKind{}
	for _, r := range set.All() {
		kinds[registry.TypeURL(r.Kind)] = r.Kind
		for _, sub := range r.Subresources {
			if sub.New != nil {
				kinds[registry.TypeURL(sub.Kind)] = sub.Kind
			}
		}
	}
	return kinds
}

func columns(r *registry.Resource) []*apiv1.TableColumn {
	out := make([]*apiv1.TableColumn, 0, len(r.Columns))
	for _, c := range r.Columns {
		out = append(out, &apiv1.TableColumn{Name: c.Name, Type: c.Type, Format: c.Format, Description: c.Description, Priority: c.Priority})
	}
	return out
}

func row(o *pipeline.Object, now time.Time) (*apiv1.TableRow, error) {
	decoded, err := o.Decoded()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	obj, ok := decoded.(registry.Object)
	if !ok || o.Resource == nil {
		return nil, apierrors.NewBadRequest(o.Kind.Kind + " has no table")
	}
	r := &apiv1.TableRow{
		Namespace: obj.GetNamespace(), Name: obj.GetName(), Uid: string(obj.GetUID()),
		ResourceVersion: obj.GetResourceVersion(), Labels: obj.GetLabels(),
	}
	for _, c := range o.Resource.Columns {
		r.Cells = append(r.Cells, c.Cell(obj, now))
	}
	return r, nil
}

func table(o *pipeline.Object, now time.Time, heads bool) (*apiv1.Table, error) {
	r, err := row(o, now)
	if err != nil {
		return nil, err
	}
	t := &apiv1.Table{Rows: []*apiv1.TableRow{r}}
	if heads {
		t.Columns = columns(o.Resource)
	}
	return t, nil
}
