package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// statusTypeURL is the type of the error detail that holds what REST would have answered.
const statusTypeURL = typeURLPrefix + "k8s.io.apimachinery.pkg.apis.meta.v1.Status"

// ErrUnavailable is what errors wrap that kept a request from being decided: no endpoint reachable, connection lost.
var ErrUnavailable = errors.New("API server unavailable")

// IsUnavailable reports whether err kept the request from being decided by the API, so that trying again later, on any
// endpoint, may help. A write that failed so may or may not have been carried out.
func IsUnavailable(err error) bool {
	return errors.Is(err, ErrUnavailable) || apierrors.IsServiceUnavailable(err)
}

// IsExpired reports whether a revision asked for is no longer held, so that only a new list helps.
func IsExpired(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}

// isFuture reports whether a revision asked for has not happened at the server. It is the newest that this client has seen, so the
// store was taken back to an earlier state: only a new list tells what is there now.
func isFuture(err error) bool {
	return apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

// FromGRPC turns the error of a call on Conn into the error that this package returns for it: the *apierrors.StatusError
// that the server sent as a detail, one made from the gRPC code if it sent none, an error that wraps ErrUnavailable, or
// one that wraps the context's error. Nil stays nil; an error that is none of gRPC's is returned as it is.
func FromGRPC(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	if e := fromDetails(st.Proto().GetDetails()); e != nil {
		return e
	}
	switch st.Code() {
	case codes.Unavailable:
		return fmt.Errorf("%w: %s", ErrUnavailable, innermost(st.Message()))
	case codes.Canceled:
		if ctx.Err() == nil {
			return fmt.Errorf("%w: %s", ErrUnavailable, innermost(st.Message()))
		}
		return fmt.Errorf("%s: %w", st.Message(), context.Canceled)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w", st.Message(), context.DeadlineExceeded)
	}
	return fromCode(st.Code(), st.Message())
}

// innermost is the part of gRPC's message that a user can act on: "dial tcp 10.0.0.1:6443: connect: connection refused" without
// the layers, each naming the next as its description, that it has come through. It only shortens; nothing is decided by it.
func innermost(message string) string {
	if i := strings.LastIndex(message, "desc = "); i >= 0 {
		message = message[i+len("desc = "):]
		if plain, err := strconv.Unquote(message); err == nil {
			message = plain
		}
	}
	message = strings.TrimPrefix(message, "transport: ")
	return strings.TrimPrefix(message, "Error while dialing: ")
}

// fromWireStatus turns one operation's error of a batch into an error.
func fromWireStatus(s *apiv1.Status) error {
	if s == nil {
		return nil
	}
	if e := fromDetails(s.GetDetails()); e != nil {
		return e
	}
	if codes.Code(s.GetCode()) == codes.Unavailable {
		return fmt.Errorf("%w: %s", ErrUnavailable, s.GetMessage())
	}
	return fromCode(codes.Code(s.GetCode()), s.GetMessage())
}

// fromDetails returns the error that the first metav1.Status among details describes, nil without one.
func fromDetails(details []*anypb.Any) error {
	for _, d := range details {
		if d.GetTypeUrl() != statusTypeURL {
			continue
		}
		var s metav1.Status
		if err := s.Unmarshal(d.GetValue()); err != nil {
			return nil
		}
		return &apierrors.StatusError{ErrStatus: s}
	}
	return nil
}

// fromCode makes the API error that a bare gRPC code stands for, as the design pairs them.
func fromCode(code codes.Code, message string) error {
	pair, ok := map[codes.Code]struct {
		reason metav1.StatusReason
		http   int32
	}{
		codes.NotFound:           {metav1.StatusReasonNotFound, http.StatusNotFound},
		codes.AlreadyExists:      {metav1.StatusReasonAlreadyExists, http.StatusConflict},
		codes.Aborted:            {metav1.StatusReasonConflict, http.StatusConflict},
		codes.InvalidArgument:    {metav1.StatusReasonBadRequest, http.StatusBadRequest},
		codes.OutOfRange:         {metav1.StatusReasonExpired, http.StatusGone},
		codes.PermissionDenied:   {metav1.StatusReasonForbidden, http.StatusForbidden},
		codes.Unauthenticated:    {metav1.StatusReasonUnauthorized, http.StatusUnauthorized},
		codes.ResourceExhausted:  {metav1.StatusReasonTooManyRequests, http.StatusTooManyRequests},
		codes.Unimplemented:      {metav1.StatusReasonMethodNotAllowed, http.StatusMethodNotAllowed},
		codes.FailedPrecondition: {metav1.StatusReasonConflict, http.StatusConflict},
	}[code]
	if !ok {
		pair.reason, pair.http = metav1.StatusReasonInternalError, http.StatusInternalServerError
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Reason: pair.reason, Code: pair.http, Message: message,
	}}
}
