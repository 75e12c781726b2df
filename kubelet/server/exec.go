package server

import (
	"context"
	"io"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bareboat.dev/kubelet/shim"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// Exec runs a command in a container.
func (s *Server) Exec(stream nodev1.NodeService_ExecServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil || len(start.GetCommand()) == 0 {
		return status.Error(codes.InvalidArgument, "the first request must say what to run")
	}
	i, err := s.pods.Instance(start.GetRef().GetNamespace(), start.GetRef().GetPod(), start.GetRef().GetContainer(), false)
	if err != nil {
		return toStatus(err)
	}
	if !i.Running || i.Sandbox == nil {
		return status.Errorf(codes.FailedPrecondition, "container not found (%q)", i.Name)
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	in := newInput(ctx, nil, func() (message, error) { return stream.Recv() })
	out := &output{send: func(stdout, stderr []byte) error {
		if stdout != nil {
			return stream.Send(&nodev1.ExecResponse{Response: &nodev1.ExecResponse_Stdout{Stdout: stdout}})
		}
		return stream.Send(&nodev1.ExecResponse{Response: &nodev1.ExecResponse_Stderr{Stderr: stderr}})
	}}
	config := shim.ExecConfig{Args: start.GetCommand(), TTY: start.GetTty(), Size: size(start.GetSize())}
	exit, err := i.Sandbox.Exec(ctx, i.ID, config, out.stdio(in, start.GetStdin(), start.GetTty()), in.sizes)
	if err != nil {
		return toStatus(err)
	}
	return stream.Send(&nodev1.ExecResponse{Response: &nodev1.ExecResponse_Exit{Exit: &nodev1.Exit{Code: exit.Code}}})
}

// Attach joins a container's own streams.
func (s *Server) Attach(stream nodev1.NodeService_AttachServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return status.Error(codes.InvalidArgument, "the first request must say what to attach to")
	}
	i, err := s.pods.Instance(start.GetRef().GetNamespace(), start.GetRef().GetPod(), start.GetRef().GetContainer(), false)
	if err != nil {
		return toStatus(err)
	}
	if !i.Running || i.Sandbox == nil {
		return status.Errorf(codes.FailedPrecondition, "container not found (%q)", i.Name)
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	in := newInput(ctx, size(start.GetSize()), func() (message, error) { return stream.Recv() })
	out := &output{send: func(stdout, stderr []byte) error {
		if stdout != nil {
			return stream.Send(&nodev1.AttachResponse{Response: &nodev1.AttachResponse_Stdout{Stdout: stdout}})
		}
		return stream.Send(&nodev1.AttachResponse{Response: &nodev1.AttachResponse_Stderr{Stderr: stderr}})
	}}
	exit, err := i.Sandbox.Attach(ctx, i.ID, out.stdio(in, start.GetStdin() && i.Stdin, i.TTY), in.sizes)
	if err != nil {
		return toStatus(err)
	}
	return stream.Send(&nodev1.AttachResponse{Response: &nodev1.AttachResponse_Exit{Exit: &nodev1.Exit{Code: exit.Code}}})
}

func size(t *nodev1.TerminalSize) *shim.Size {
	if t == nil {
		return nil
	}
	return &shim.Size{Width: uint16(t.GetWidth()), Height: uint16(t.GetHeight())}
}

// message is what requests of both kinds have in common.
type message interface {
	GetStdin() []byte
	GetStdinClosed() bool
	GetResize() *nodev1.TerminalSize
}

// input turns a stream of requests into standard input and sizes.
type input struct {
	stdin *io.PipeReader
	sizes chan shim.Size
}

// newInput reads requests until the stream or ctx ends. The first size, if there is one, comes before all others.
func newInput(ctx context.Context, first *shim.Size, receive func() (message, error)) *input {
	r, w := io.Pipe()
	in := &input{stdin: r, sizes: make(chan shim.Size, 1)}
	if first != nil {
		in.sizes <- *first // there is room for it, as nobody else sends yet
	}
	context.AfterFunc(ctx, func() { _ = r.Close() })
	go func() {
		for {
			m, err := receive()
			if err != nil {
				_ = w.Close()
				return
			}
			in.take(ctx, m, w)
		}
	}()
	return in
}

func (in *input) take(ctx context.Context, m message, stdin *io.PipeWriter) {
	if sz := size(m.GetResize()); sz != nil {
		select {
		case in.sizes <- *sz:
		case <-ctx.Done():
		}
	}
	if m.GetStdinClosed() {
		_ = stdin.Close()
	} else if data := m.GetStdin(); len(data) > 0 {
		_, _ = stdin.Write(data) // fails only when nobody reads any more
	}
}

// output turns writes into responses; the stream takes one at a time.
type output struct {
	mu   sync.Mutex
	send func(stdout, stderr []byte) error
}

func (o *output) stdio(in *input, stdin, tty bool) shim.Stdio {
	io := shim.Stdio{Stdout: writer(func(p []byte) error { return o.write(p, nil) })}
	if !tty {
		io.Stderr = writer(func(p []byte) error { return o.write(nil, p) })
	}
	if stdin {
		io.Stdin = in.stdin
	}
	return io
}

func (o *output) write(stdout, stderr []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.send(stdout, stderr)
}

// writer makes a function an io.Writer that cuts what it is given into chunks.
type writer func([]byte) error

func (w writer) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		end := min(n+chunkSize, len(p))
		if err := w(p[n:end]); err != nil {
			return n, err
		}
		n = end
	}
	return len(p), nil
}
