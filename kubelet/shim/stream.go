package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Stdio is where a process's standard streams go. A nil stream is /dev/null. With a TTY all output comes on Stdout.
type Stdio struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// drainLimit is how long output is still awaited after the process has ended. All it wrote itself is in the pipe by then and read at
// once; only a process that it left behind with the same stdout makes us wait this long.
const drainLimit = time.Second

// Exec runs a process in a running container and waits for its end. Ending ctx kills it. Sizes read from resize (may be nil) are
// applied to its terminal. The status is valid if the error is nil. [ErrStart] if the program cannot be run (not found, …).
//
// If Stdin is an *os.File (or blocks in Read for another reason), a goroutine may stay in that Read after Exec has returned.
func (p *Pod) Exec(ctx context.Context, id string, c ExecConfig, stdio Stdio, resize <-chan Size) (ExitStatus, error) {
	s, err := newStreams(stdio, c.TTY)
	if err != nil {
		return ExitStatus{}, err
	}
	defer s.close()
	conn, err := p.open(ctx, Request{Op: OpExec, ID: id, Exec: &c, Streams: s.set()}, s.remote...)
	s.closeRemote()
	if err != nil {
		return ExitStatus{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.UnixConn.Close() })
	defer stop()
	if _, err := receive(ctx, conn); err != nil {
		return ExitStatus{}, err
	}
	if c.TTY {
		if err := s.takeTerminal(conn.Files()); err != nil {
			return ExitStatus{}, err
		}
	}
	s.copy(stdio)
	defer s.resizer(resize, func(size Size) { _ = setSize(s.terminal, size) })()
	return s.finish(ctx, conn)
}

// Attach connects stdio to the container's own streams, from now on, until it exits, ctx ends, or stdio's input does while
// the container's own stays open: then it is as if it had exited with 0. Output goes on being logged. A reader that
// does not keep up is cut off after ten seconds rather than holding up the container. Stdin needs ContainerConfig.Stdin.
func (p *Pod) Attach(ctx context.Context, id string, stdio Stdio, resize <-chan Size) (ExitStatus, error) {
	s, err := newStreams(stdio, false)
	if err != nil {
		return ExitStatus{}, err
	}
	defer s.close()
	conn, err := p.open(ctx, Request{Op: OpAttach, ID: id, Streams: s.set()}, s.remote...)
	s.closeRemote()
	if err != nil {
		return ExitStatus{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.UnixConn.Close() })
	defer stop()
	if _, err := receive(ctx, conn); err != nil {
		return ExitStatus{}, err
	}
	s.copy(stdio)
	defer s.resizer(resize, func(size Size) { _ = p.Resize(ctx, id, size) })()
	return s.finish(ctx, conn)
}

// streams is the kubelet's end of a process's standard streams.
type streams struct {
	stdin          *os.File // we write
	stdout, stderr *os.File // we read
	terminal       *os.File // instead of the three
	remote         []*os.File
	output         sync.WaitGroup
}

// newStreams makes a pipe per stream that is wanted; a process with a terminal has none.
func newStreams(stdio Stdio, tty bool) (s *streams, err error) {
	s = &streams{}
	if tty {
		return s, nil
	}
	defer func() {
		if err != nil {
			s.closeRemote()
			s.close()
		}
	}()
	pipe := func(keepRead bool) (keep *os.File, err error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		if !keepRead {
			r, w = w, r
		}
		s.remote = append(s.remote, w)
		return r, nil
	}
	if stdio.Stdin != nil {
		if s.stdin, err = pipe(false); err != nil {
			return s, err
		}
	}
	if stdio.Stdout != nil {
		if s.stdout, err = pipe(true); err != nil {
			return s, err
		}
	}
	if stdio.Stderr != nil {
		if s.stderr, err = pipe(true); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *streams) set() Streams {
	return Streams{Stdin: s.stdin != nil, Stdout: s.stdout != nil, Stderr: s.stderr != nil}
}

// takeTerminal adopts the terminal's controlling side, which podshim passed.
func (s *streams) takeTerminal(files []*os.File) error {
	if len(files) != 1 {
		for _, f := range files {
			f.Close()
		}
		return fmt.Errorf("podshim passed %d terminals for one", len(files))
	}
	s.terminal = files[0]
	return nil
}

// copy starts the goroutines that move bytes. Those for output are awaited by finish.
func (s *streams) copy(stdio Stdio) {
	in, out := s.stdin, s.stdout
	if s.terminal != nil {
		in, out = s.terminal, s.terminal
	}
	if stdio.Stdin != nil {
		go func() {
			_, _ = io.Copy(in, stdio.Stdin)
			if s.terminal == nil {
				_ = in.Close()
			}
		}()
	}
	if stdio.Stdout != nil {
		s.pump(stdio.Stdout, out)
	} else if s.terminal != nil {
		s.pump(io.Discard, out)
	}
	if stdio.Stderr != nil && s.terminal == nil {
		s.pump(stdio.Stderr, s.stderr)
	}
}

// pump copies until the end; a failing writer does not stop it, so that the process is not stopped by a full pipe.
func (s *streams) pump(w io.Writer, r *os.File) {
	s.output.Go(func() {
		if _, err := io.Copy(w, r); err != nil {
			_, _ = io.Copy(io.Discard, r)
		}
	})
}

// finish waits for the process, then for its output.
func (s *streams) finish(ctx context.Context, conn *Conn) (ExitStatus, error) {
	reply, err := receive(ctx, conn)
	limit := time.Now().Add(drainLimit)
	for _, f := range []*os.File{s.stdout, s.stderr, s.terminal} {
		if f != nil {
			_ = f.SetReadDeadline(limit)
		}
	}
	s.output.Wait()
	if err != nil {
		return ExitStatus{}, err
	}
	if reply.Exit == nil {
		return ExitStatus{}, errors.New("podshim reported no exit status")
	}
	return *reply.Exit, nil
}

// resizer applies sizes until the returned function is called.
func (s *streams) resizer(sizes <-chan Size, apply func(Size)) (stop func()) {
	if sizes == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case size, ok := <-sizes:
				if !ok {
					return
				}
				apply(size)
			}
		}
	}()
	return func() { close(done); <-ended }
}

func (s *streams) closeRemote() {
	for _, f := range s.remote {
		_ = f.Close()
	}
	s.remote = nil
}

func (s *streams) close() {
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr, s.terminal} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// setSize sets a terminal's size; f may be nil.
func setSize(f *os.File, size Size) error {
	if f == nil {
		return nil
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ioctl error
	err = raw.Control(func(fd uintptr) {
		ioctl = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: size.Width, Row: size.Height})
	})
	return errors.Join(err, ioctl)
}
