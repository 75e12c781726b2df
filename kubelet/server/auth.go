package server

import (
	"context"
	"crypto/x509"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Who is let in.
const (
	adminOrganization = "system:masters"
	apiserverClient   = "kube-apiserver-kubelet-client"
)

// Authorize says whether the owner of a verified certificate may speak to a kubelet.
func Authorize(cert *x509.Certificate) bool {
	return cert.Subject.CommonName == apiserverClient || slices.Contains(cert.Subject.Organization, adminOrganization)
}

// check is Authorize for the caller of a method.
func check(ctx context.Context) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return status.Error(codes.Unauthenticated, "a client certificate is required")
	}
	cert := info.State.VerifiedChains[0][0]
	if !Authorize(cert) {
		return status.Errorf(codes.PermissionDenied, "%q may not speak to a kubelet", cert.Subject.CommonName)
	}
	return nil
}

func authorizeUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := check(ctx); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func authorizeStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := check(stream.Context()); err != nil {
		return err
	}
	return next(srv, stream)
}
