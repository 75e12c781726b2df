package server

import (
	"bytes"
	"errors"
	"os"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bareboat.dev/kubelet/logs"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// Logs streams a container's log.
func (s *Server) Logs(r *nodev1.LogsRequest, stream nodev1.NodeService_LogsServer) error {
	i, err := s.pods.Instance(r.GetRef().GetNamespace(), r.GetRef().GetPod(), r.GetRef().GetContainer(), r.GetPrevious())
	if err != nil {
		return toStatus(err)
	}
	o := logs.Options{Timestamps: r.GetTimestamps(), Follow: r.GetFollow(), Done: i.Exited}
	if t := r.GetSince(); t != nil {
		o.Since = t.AsTime()
	}
	if n := r.GetTailLines(); n != nil {
		o.TailLines = &n.Value
	}
	if n := r.GetLimitBytes(); n != nil {
		if n.Value <= 0 {
			return status.Error(codes.InvalidArgument, "limit_bytes must be greater than 0")
		}
		o.LimitBytes = &n.Value
	}
	out := &logWriter{send: func(p []byte) error { return stream.Send(&nodev1.LogsResponse{Data: p}) }, eager: o.Follow}
	err = logs.Read(stream.Context(), i.LogPath, o, out, out)
	if errors.Is(err, os.ErrNotExist) {
		return status.Errorf(codes.NotFound, "unable to retrieve container logs for %s", i.Name)
	}
	return toStatus(errors.Join(err, out.flush()))
}

// logWriter gathers lines into messages. While a log is followed each line is sent as it comes.
type logWriter struct {
	b     bytes.Buffer
	send  func([]byte) error
	eager bool
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.b.Write(p)
	if w.eager || w.b.Len() >= chunkSize {
		return len(p), w.flush()
	}
	return len(p), nil
}

func (w *logWriter) flush() error {
	for w.b.Len() > 0 {
		if err := w.send(bytes.Clone(w.b.Next(chunkSize))); err != nil {
			return err
		}
	}
	return nil
}
