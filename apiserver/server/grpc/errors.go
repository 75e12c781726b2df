package grpc

import (
	"context"
	"errors"
	"net/http"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/pipeline"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const (
	statusURL   = "type.googleapis.com/k8s.io.apimachinery.pkg.apis.meta.v1.Status"
	metadataURL = "type.googleapis.com/k8s.io.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata"
	unknownURL  = "type.googleapis.com/k8s.io.apimachinery.pkg.runtime.Unknown"
)

// toStatus maps an error of the pipeline to gRPC: the canonical code, with the metav1.Status as a detail, and the warnings as another.
func toStatus(err error) *status.Status {
	var warned *pipeline.WarnedError
	if errors.As(err, &warned) {
		if s, err := toStatus(warned.Err).WithDetails(&apiv1.Warnings{Warnings: warned.Warnings}); err == nil {
			return s
		}
	}
	var api apierrors.APIStatus
	switch {
	case errors.As(err, &api):
		return fromAPIStatus(api.Status())
	case errors.Is(err, context.Canceled):
		return status.New(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.New(codes.DeadlineExceeded, err.Error())
	}
	if s, ok := status.FromError(err); ok {
		return s
	}
	return status.New(codes.Internal, err.Error())
}

// toError is toStatus for handlers; nil stays nil.
func toError(err error) error {
	if err == nil {
		return nil
	}
	return toStatus(err).Err()
}

func fromAPIStatus(s metav1.Status) *status.Status {
	out := &spb.Status{Code: int32(code(&s)), Message: s.Message}
	if raw, err := s.Marshal(); err == nil {
		out.Details = append(out.Details, &anypb.Any{TypeUrl: statusURL, Value: raw})
	}
	if s.Details != nil && s.Details.RetryAfterSeconds > 0 {
		wait := durationpb.New(time.Duration(s.Details.RetryAfterSeconds) * time.Second)
		if info, err := anypb.New(&errdetails.RetryInfo{RetryDelay: wait}); err == nil {
			out.Details = append(out.Details, info)
		}
	}
	return status.FromProto(out)
}

func code(s *metav1.Status) codes.Code {
	switch s.Reason {
	case metav1.StatusReasonNotFound:
		return codes.NotFound
	case metav1.StatusReasonAlreadyExists:
		return codes.AlreadyExists
	case metav1.StatusReasonConflict:
		return codes.Aborted
	case metav1.StatusReasonInvalid, metav1.StatusReasonBadRequest, metav1.StatusReasonRequestEntityTooLarge,
		metav1.StatusReasonUnsupportedMediaType, metav1.StatusReasonNotAcceptable:
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
	case metav1.StatusReasonTimeout, metav1.StatusReasonServerTimeout:
		return codes.DeadlineExceeded
	case metav1.StatusReasonInternalError:
		return codes.Internal
	}
	switch s.Code {
	case http.StatusUnprocessableEntity:
		return codes.InvalidArgument
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	}
	return codes.Unknown
}
