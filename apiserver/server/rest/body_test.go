package rest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
)

// A list that fails is an error as long as nothing of it has been sent, and then ends with its connection, so that nobody takes a part for
// the whole.
func TestListThatFails(t *testing.T) {
	failure := errors.New("the store is gone")
	kind := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	// send lists as many objects of 16 KiB, and then fails.
	send := func(objects int) (w *httptest.ResponseRecorder, err error, panicked any) {
		listing := &pipeline.Listing{Resource: &registry.Resource{Kind: kind}, Objects: func(yield func(*pipeline.Object, error) bool) {
			for range objects {
				m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Data: map[string]string{"k": strings.Repeat("x", 16<<10)}}
				if !yield(pipeline.Answer(kind, m).Object, nil) {
					return
				}
			}
			yield(nil, failure)
		}}
		w = httptest.NewRecorder()
		defer func() { panicked = recover() }()
		err = (&Handler{}).sendList(w, httptest.NewRequest(http.MethodGet, "/", nil), format{media: codec.JSON}, listing)
		return w, err, nil
	}
	if w, err, panicked := send(4); !errors.Is(err, failure) || panicked != nil || w.Body.Len() > 0 {
		t.Errorf("short: %v %v, %d bytes sent", err, panicked, w.Body.Len())
	}
	if w, _, panicked := send(40); panicked != http.ErrAbortHandler || w.Body.Len() == 0 {
		t.Errorf("long: %v, %d bytes sent", panicked, w.Body.Len())
	}
}
