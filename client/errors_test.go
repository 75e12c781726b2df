package client

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Shows what a user reads when no server answers: the address and the reason, not gRPC's layers.
func TestUnavailableMessage(t *testing.T) {
	for in, want := range map[string]string{
		`max retries exhausted: failed after 3 attempts: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:6443: connect: connection refused"`: "API server unavailable: dial tcp 127.0.0.1:6443: connect: connection refused",
		`connection error: desc = "transport: authentication handshake failed: EOF"`: "API server unavailable: authentication handshake failed: EOF",
		"no children to pick from": "API server unavailable: no children to pick from",
	} {
		err := FromGRPC(context.Background(), status.Error(codes.Unavailable, in))
		if err.Error() != want || !IsUnavailable(err) {
			t.Errorf("%s\nreads %q, want %q", in, err, want)
		}
	}
}

// Shows what bare gRPC codes, without the API's own status, come to.
func TestBareCodes(t *testing.T) {
	for code, is := range map[codes.Code]func(error) bool{
		codes.NotFound: apierrors.IsNotFound, codes.AlreadyExists: apierrors.IsAlreadyExists, codes.Aborted: apierrors.IsConflict,
		codes.InvalidArgument: apierrors.IsBadRequest, codes.OutOfRange: IsExpired, codes.PermissionDenied: apierrors.IsForbidden,
		codes.Unauthenticated: apierrors.IsUnauthorized, codes.ResourceExhausted: apierrors.IsTooManyRequests,
		codes.Internal: apierrors.IsInternalError, codes.Unknown: apierrors.IsInternalError,
		codes.DeadlineExceeded: func(err error) bool { return errors.Is(err, context.DeadlineExceeded) },
		codes.Canceled:         IsUnavailable, // not by us: the context is alive
	} {
		if err := FromGRPC(context.Background(), status.Error(code, "x")); !is(err) {
			t.Errorf("%v became %v", code, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := FromGRPC(ctx, status.Error(codes.Canceled, "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("our own cancellation became %v", err)
	}
}
