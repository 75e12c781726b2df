package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/status"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// session is one exec or attach: it joins a client's streams to a kubelet's.
type session struct {
	node    nodev1.NodeServiceClient
	ref     *nodev1.ContainerRef
	options *remotecommand.Options
}

// stdinChunk is how much of standard input goes into one message.
const stdinChunk = 32 << 10

// ExecInContainer implements remotecommand.Executor.
func (s *session) ExecInContainer(ctx context.Context, _, _, _ string, cmd []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.node.Exec(ctx)
	if err != nil {
		return plain(err)
	}
	start := &nodev1.ExecRequest_Start{Ref: s.ref, Command: cmd, Stdin: in != nil, Tty: tty}
	if err := stream.Send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_Start_{Start: start}}); err != nil && !errors.Is(err, io.EOF) {
		return plain(err)
	}
	var mu sync.Mutex // a gRPC stream takes one sender at a time
	send := func(m *nodev1.ExecRequest) error {
		mu.Lock()
		defer mu.Unlock()
		return stream.Send(m)
	}
	go copyIn(in, func(b []byte) error { return send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_Stdin{Stdin: b}}) },
		func() error {
			return send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_StdinClosed{StdinClosed: true}})
		})
	go copySizes(ctx, resize, func(t *nodev1.TerminalSize) error {
		return send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_Resize{Resize: t}})
	})
	return copyOut(out, errOut, func() (stdout, stderr []byte, exit *nodev1.Exit, err error) {
		m, err := stream.Recv()
		return m.GetStdout(), m.GetStderr(), m.GetExit(), err
	})
}

// AttachContainer implements remotecommand.Attacher.
func (s *session) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.node.Attach(ctx)
	if err != nil {
		return plain(err)
	}
	start := &nodev1.AttachRequest_Start{Ref: s.ref, Stdin: in != nil, Tty: tty}
	if err := stream.Send(&nodev1.AttachRequest{Request: &nodev1.AttachRequest_Start_{Start: start}}); err != nil && !errors.Is(err, io.EOF) {
		return plain(err)
	}
	var mu sync.Mutex
	send := func(m *nodev1.AttachRequest) error {
		mu.Lock()
		defer mu.Unlock()
		return stream.Send(m)
	}
	go copyIn(in, func(b []byte) error {
		return send(&nodev1.AttachRequest{Request: &nodev1.AttachRequest_Stdin{Stdin: b}})
	},
		func() error {
			return send(&nodev1.AttachRequest{Request: &nodev1.AttachRequest_StdinClosed{StdinClosed: true}})
		})
	go copySizes(ctx, resize, func(t *nodev1.TerminalSize) error {
		return send(&nodev1.AttachRequest{Request: &nodev1.AttachRequest_Resize{Resize: t}})
	})
	return copyOut(out, errOut, func() (stdout, stderr []byte, exit *nodev1.Exit, err error) {
		m, err := stream.Recv()
		return m.GetStdout(), m.GetStderr(), m.GetExit(), err
	})
}

// copyIn sends standard input until it ends or nobody wants it. It ends at the latest when the client's connection closes.
func copyIn(in io.Reader, send func([]byte) error, end func() error) {
	if in == nil {
		return
	}
	for {
		buf := make([]byte, stdinChunk)
		n, err := in.Read(buf)
		if n > 0 && send(buf[:n]) != nil {
			return
		}
		if err != nil {
			_ = end() // the call may have ended already
			return
		}
	}
}

func copySizes(ctx context.Context, sizes <-chan remotecommand.TerminalSize, send func(*nodev1.TerminalSize) error) {
	if sizes == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-sizes:
			if !ok || send(&nodev1.TerminalSize{Width: uint32(s.Width), Height: uint32(s.Height)}) != nil {
				return
			}
		}
	}
}

// copyOut writes output until the command's exit arrives, which it returns as the error that the streaming library knows.
func copyOut(out, errOut io.Writer, recv func() (stdout, stderr []byte, exit *nodev1.Exit, err error)) error {
	for {
		stdout, stderr, exit, err := recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return plain(err)
		case exit != nil && exit.GetCode() != 0:
			code := int(exit.GetCode())
			return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
		case exit != nil:
			return nil
		}
		if len(stdout) > 0 && out != nil {
			if _, err := out.Write(stdout); err != nil {
				return err
			}
		}
		if len(stderr) > 0 && errOut != nil {
			if _, err := errOut.Write(stderr); err != nil {
				return err
			}
		}
	}
}

// plain is a gRPC error's message, which a person reads.
func plain(err error) error { return errors.New(status.Convert(err).Message()) }
