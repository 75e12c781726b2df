package rest

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry/codec"
)

// statusOf is the metav1.Status of an error.
func statusOf(err error) metav1.Status {
	var api apierrors.APIStatus
	switch {
	case errors.As(err, &api):
		return api.Status()
	case errors.Is(err, context.DeadlineExceeded):
		return apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0).ErrStatus
	}
	return apierrors.NewInternalError(err).ErrStatus
}

func notFound() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
		Message: "the server could not find the requested resource", Details: &metav1.StatusDetails{},
	}}
}

// writeStatus answers with an error, in the format that the client accepts; where there is none, in JSON.
func (h *Handler) writeStatus(w http.ResponseWriter, r *http.Request, s metav1.Status) {
	s.Kind, s.APIVersion = "Status", "v1"
	if s.Details != nil && s.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(s.Details.RetryAfterSeconds)))
	}
	f, err := negotiate(r, forms{protobuf: true, table: true})
	if err != nil {
		f = format{media: codec.JSON}
	}
	b, err := h.marshal(format{media: f.media, pretty: f.pretty}, statusKind(), &s)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", f.media)
	code := int(s.Code)
	if code == 0 {
		code = http.StatusInternalServerError
	}
	w.WriteHeader(code)
	w.Write(b)
}
