package server

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bareboat.dev/kubelet/image"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// ListImages lists the node's images.
func (s *Server) ListImages(context.Context, *nodev1.ListImagesRequest) (*nodev1.ListImagesResponse, error) {
	return &nodev1.ListImagesResponse{Images: toProto(s.images.List())}, nil
}

func toProto(images []image.Image) []*nodev1.Image {
	var list []*nodev1.Image
	for _, i := range images {
		list = append(list, &nodev1.Image{Id: i.ID, Tags: i.RepoTags, Digests: i.RepoDigests, SizeBytes: uint64(i.Size), Loaded: timestamppb.New(i.Loaded)})
	}
	return list
}

// LoadImage imports an archive.
func (s *Server) LoadImage(stream nodev1.NodeService_LoadImageServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetStart() == nil {
		return status.Error(codes.InvalidArgument, "the first request must carry start")
	}
	images, err := s.images.Load(stream.Context(), &archive{stream: stream})
	if err != nil {
		return toStatus(err)
	}
	s.changed()
	return stream.SendAndClose(&nodev1.LoadImageResponse{Images: toProto(images)})
}

// archive reads what a stream of requests carries.
type archive struct {
	stream nodev1.NodeService_LoadImageServer
	rest   []byte
}

func (a *archive) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		m, err := a.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		a.rest = m.GetData()
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// RemoveImage removes an image that no container uses.
func (s *Server) RemoveImage(ctx context.Context, r *nodev1.RemoveImageRequest) (*nodev1.RemoveImageResponse, error) {
	if err := s.images.Remove(ctx, r.GetImage()); err != nil {
		return nil, toStatus(err)
	}
	s.changed()
	return &nodev1.RemoveImageResponse{}, nil
}
