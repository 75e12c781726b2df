package clienttest

import (
	"errors"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const statusTypeURL = "type.googleapis.com/k8s.io.apimachinery.pkg.apis.meta.v1.Status"

// toGRPC turns an error into what the API server sends for it.
func toGRPC(err error) error {
	if err == nil {
		return nil
	}
	s := toWire(err)
	return status.FromProto(&spb.Status{Code: s.GetCode(), Message: s.GetMessage(), Details: s.GetDetails()}).Err()
}

// toWire turns an error into the value that a batch carries.
func toWire(err error) *apiv1.Status {
	var api *apierrors.StatusError
	if errors.As(err, &api) {
		out := &apiv1.Status{Code: int32(codeOf(api.ErrStatus)), Message: api.ErrStatus.Message}
		if value, err := api.ErrStatus.Marshal(); err == nil {
			out.Details = []*anypb.Any{{TypeUrl: statusTypeURL, Value: value}}
		}
		return out
	}
	st := status.Convert(err)
	return &apiv1.Status{Code: int32(st.Code()), Message: st.Message(), Details: st.Proto().GetDetails()}
}

func codeOf(s metav1.Status) codes.Code {
	switch s.Reason {
	case metav1.StatusReasonNotFound:
		return codes.NotFound
	case metav1.StatusReasonAlreadyExists:
		return codes.AlreadyExists
	case metav1.StatusReasonConflict:
		return codes.Aborted
	case metav1.StatusReasonInvalid, metav1.StatusReasonBadRequest:
		return codes.InvalidArgument
	case metav1.StatusReasonGone, metav1.StatusReasonExpired:
		return codes.OutOfRange
	case metav1.StatusReasonForbidden:
		return codes.PermissionDenied
	case metav1.StatusReasonUnauthorized:
		return codes.Unauthenticated
	case metav1.StatusReasonTooManyRequests:
		return codes.ResourceExhausted
	case metav1.StatusReasonMethodNotAllowed:
		return codes.Unimplemented
	case metav1.StatusReasonServiceUnavailable:
		return codes.Unavailable
	}
	return codes.Internal
}
