package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"

	"bareboat.dev/client"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// remote is a process at the other end of a stream: one that exec started, or a container's own.
type remote interface {
	stdin(data []byte) error
	stdinClosed() error
	resize(size *nodev1.TerminalSize) error
	// recv returns the next output, or how the process ended.
	recv() (stdout, stderr []byte, exit *nodev1.Exit, err error)
}

// interact connects kctl's own streams with a remote process until that ends, and returns its exit code as an error.
func (s *session) interact(ctx context.Context, open func(context.Context, bool, *nodev1.TerminalSize) (remote, error), stdin, tty bool) error {
	fd := -1
	if f, ok := s.in.(*os.File); ok {
		fd = int(f.Fd())
	}
	if tty && (!stdin || fd < 0 || !term.IsTerminal(fd)) {
		fmt.Fprintln(s.err, "Unable to use a TTY - input is not a terminal or the right kind of file")
		tty = false
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var window *nodev1.TerminalSize
	if tty {
		window = size(fd)
	}
	r, err := open(ctx, tty, window)
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the stream has an error to tell, which recv returns
		return client.FromGRPC(ctx, err)
	}
	r = &shared{remote: r}
	if tty {
		old, err := term.MakeRaw(fd)
		if err != nil {
			return fmt.Errorf("put the terminal into raw mode: %w", err)
		}
		defer term.Restore(fd, old)
		go followSize(ctx, r, fd)
	}
	if stdin {
		go copyStdin(r, s.in)
	}
	return s.printRemote(ctx, r)
}

// printRemote prints output until the process ends, and turns its exit code into kctl's.
func (s *session) printRemote(ctx context.Context, r remote) error {
	for {
		stdout, stderr, exit, err := r.recv()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("the connection ended before the command did")
		case err != nil:
			return client.FromGRPC(ctx, err)
		case exit != nil && exit.Code == 0:
			return nil
		case exit != nil:
			return &exitError{code: int(exit.Code), msg: fmt.Sprintf("command terminated with exit code %d", exit.Code)}
		}
		if _, err := s.out.Write(stdout); err != nil {
			return err
		}
		if _, err := s.err.Write(stderr); err != nil {
			return err
		}
	}
}

// shared lets standard input and the terminal's size share the stream, which takes one sender at a time.
type shared struct {
	mu sync.Mutex
	remote
}

func (s *shared) stdin(data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remote.stdin(data)
}

func (s *shared) stdinClosed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remote.stdinClosed()
}

func (s *shared) resize(size *nodev1.TerminalSize) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remote.resize(size)
}

func copyStdin(r remote, in io.Reader) {
	buf := make([]byte, ioChunk)
	for {
		n, err := in.Read(buf)
		if n > 0 && r.stdin(append([]byte(nil), buf[:n]...)) != nil {
			return
		}
		if err != nil {
			_ = r.stdinClosed()
			return
		}
	}
}

func followSize(ctx context.Context, r remote, fd int) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	defer signal.Stop(changed)
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			if sz := size(fd); sz != nil && r.resize(sz) != nil {
				return
			}
		}
	}
}

// execRemote is a process that exec started.
type execRemote struct{ stream nodev1.NodeService_ExecClient }

func (e execRemote) stdin(data []byte) error {
	return e.stream.Send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_Stdin{Stdin: data}})
}

func (e execRemote) stdinClosed() error {
	return e.stream.Send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_StdinClosed{StdinClosed: true}})
}

func (e execRemote) resize(size *nodev1.TerminalSize) error {
	return e.stream.Send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_Resize{Resize: size}})
}

func (e execRemote) recv() ([]byte, []byte, *nodev1.Exit, error) {
	resp, err := e.stream.Recv()
	return resp.GetStdout(), resp.GetStderr(), resp.GetExit(), err
}

// attachRemote is a container's own process.
type attachRemote struct {
	stream nodev1.NodeService_AttachClient
}

func (a attachRemote) stdin(data []byte) error {
	return a.stream.Send(&nodev1.AttachRequest{Request: &nodev1.AttachRequest_Stdin{Stdin: data}})
}

func (a attachRemote) stdinClosed() error {
	return a.stream.Send(&nodev1.AttachRequest{Request: &nodev1.AttachRequest_StdinClosed{StdinClosed: true}})
}

func (a attachRemote) resize(size *nodev1.TerminalSize) error {
	return a.stream.Send(&nodev1.AttachRequest{Request: &nodev1.AttachRequest_Resize{Resize: size}})
}

func (a attachRemote) recv() ([]byte, []byte, *nodev1.Exit, error) {
	resp, err := a.stream.Recv()
	return resp.GetStdout(), resp.GetStderr(), resp.GetExit(), err
}
