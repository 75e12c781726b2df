package server

import (
	"context"
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/shim"
)

// exec runs a process in a container, on the descriptors that came with the request or on a terminal that goes back with the first
// reply, and kills it when the client goes away.
func (s *Server) exec(ctx context.Context, conn *shim.Conn, r *shim.Request) {
	files := conn.Files()
	exited := make(chan unix.WaitStatus, 1)
	p, terminal, err := s.startExec(r, files, exited)
	closeAll(files)
	if err != nil {
		_ = conn.Send(shim.Reply{Error: shim.NewWireError(err)})
		return
	}
	pid, _ := p.Pid()
	if terminal != nil {
		err = conn.Send(shim.Reply{PID: pid}, terminal)
		_ = terminal.Close()
	} else {
		err = conn.Send(shim.Reply{PID: pid})
	}
	if err != nil {
		_ = p.Signal(unix.SIGKILL)
	}
	select {
	case ws := <-exited:
		code, signal := exitCode(ws)
		_ = conn.Send(shim.Reply{Exit: &shim.ExitStatus{Code: code, Signal: signal}})
	case <-ctx.Done():
		_ = p.Signal(unix.SIGKILL)
		<-exited
	}
}

// startExec starts the process; terminal is set if it has one.
func (s *Server) startExec(r *shim.Request, files []*os.File, exited chan<- unix.WaitStatus) (p *libcontainer.Process, terminal *os.File, err error) {
	ctr, err := s.find(r.ID)
	if err != nil {
		return nil, nil, err
	}
	if r.Exec == nil || len(r.Exec.Args) == 0 {
		return nil, nil, fmt.Errorf("%w: no command", shim.ErrInvalid)
	}
	if phase := ctr.snapshot().Phase; phase != shim.Running {
		return nil, nil, fmt.Errorf("container %s is %s: %w", r.ID, phase, shim.ErrNotRunning)
	}
	if p, err = newProcess(execProcess(ctr.config.Spec.Process, r.Exec)); err != nil {
		return nil, nil, err
	}
	p.LogLevel = initLogLevel
	var c *console
	if r.Exec.TTY {
		if c, err = newConsole(p); err != nil {
			return nil, nil, err
		}
		defer c.close()
	} else {
		null, err := assignStreams(p, r.Streams, files)
		if null != nil {
			defer null.Close()
		}
		if err != nil {
			return nil, nil, err
		}
	}
	err = s.reaper.start(func() (pid int, err error) {
		s.forker.do(func() {
			if err = ctr.lc.Start(p); err == nil {
				pid, err = p.Pid()
			}
		})
		return pid, err
	}, func(ws unix.WaitStatus) { exited <- ws })
	if err != nil {
		if ctr.snapshot().Phase != shim.Running {
			return nil, nil, fmt.Errorf("container %s: %w", r.ID, shim.ErrNotRunning)
		}
		return nil, nil, startError(err)
	}
	if c != nil {
		if terminal, err = c.receive(); err != nil {
			_ = p.Signal(unix.SIGKILL)
			return nil, nil, err
		}
	}
	return p, terminal, nil
}

// assignStreams gives the process the descriptors that came, and /dev/null for those that did not; the caller closes the latter.
func assignStreams(p *libcontainer.Process, streams shim.Streams, files []*os.File) (*os.File, error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	next := func(wanted bool) *os.File {
		if !wanted || len(files) == 0 {
			return null
		}
		f := files[0]
		files = files[1:]
		return f
	}
	p.Stdin, p.Stdout, p.Stderr = next(streams.Stdin), next(streams.Stdout), next(streams.Stderr)
	return null, setBlocking(p.Stdin, p.Stdout, p.Stderr)
}

// setBlocking undoes what receiving descriptors does: programs do not expect standard streams that never wait.
func setBlocking(streams ...any) error {
	for _, s := range streams {
		raw, err := s.(*os.File).SyscallConn()
		if err != nil {
			return err
		}
		var set error
		if err := raw.Control(func(fd uintptr) { set = unix.SetNonblock(int(fd), false) }); err != nil {
			return err
		}
		if set != nil {
			return set
		}
	}
	return nil
}

// attach connects a client's descriptors to a container's own streams until it exits or the client goes away.
func (s *Server) attach(ctx context.Context, conn *shim.Conn, r *shim.Request) {
	files := conn.Files()
	ctr, err := s.find(r.ID)
	if err == nil && ctr.snapshot().Phase == shim.Exited {
		err = fmt.Errorf("container %s: %w", r.ID, shim.ErrNotRunning)
	}
	if err != nil {
		closeAll(files)
		_ = conn.Send(shim.Reply{Error: shim.NewWireError(err)})
		return
	}
	left, detach := ctr.io.connectClient(r.Streams, files)
	defer detach()
	if conn.Send(shim.Reply{}) != nil {
		return
	}
	select {
	case <-ctr.exited:
		code := ctr.snapshot()
		_ = conn.Send(shim.Reply{Exit: &shim.ExitStatus{Code: code.ExitCode, Signal: code.Signal}})
	case <-left:
		_ = conn.Send(shim.Reply{Exit: &shim.ExitStatus{}})
	case <-ctx.Done():
	}
}

// connectClient hooks up a client's descriptors, in the order stdin, stdout, stderr; detach unhooks them. A client whose input has ended,
// but not the container's with it, has left: so it is with Kubernetes' runtimes, and kubectl run --attach --leave-stdin-open relies on it.
func (s *stdio) connectClient(streams shim.Streams, files []*os.File) (left <-chan struct{}, detach func()) {
	var undo []func()
	ended := make(chan struct{})
	for _, stream := range []struct {
		wanted bool
		fan    *fanout
	}{{streams.Stdin, nil}, {streams.Stdout, &s.stdout}, {streams.Stderr, &s.stderr}} {
		if !stream.wanted || len(files) == 0 {
			continue
		}
		f := files[0]
		files = files[1:]
		if stream.fan == nil {
			go func() {
				if s.attachInput(f) {
					close(ended)
				}
			}()
			undo = append(undo, func() { _ = f.Close() })
			continue
		}
		stream.fan.add(f)
		undo = append(undo, func() { stream.fan.remove(f) })
	}
	closeAll(files)
	return ended, func() {
		for _, fn := range undo {
			fn()
		}
	}
}

// resize sets the size of a container's terminal.
func (s *Server) resize(id string, size *shim.Size) error {
	ctr, err := s.find(id)
	if err != nil {
		return err
	}
	if ctr.io.terminal == nil || size == nil {
		return fmt.Errorf("%w: container %s has no terminal", shim.ErrInvalid, id)
	}
	raw, err := ctr.io.terminal.SyscallConn()
	if err != nil {
		return err
	}
	var ioctl error
	if err := raw.Control(func(fd uintptr) {
		ioctl = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: size.Width, Row: size.Height})
	}); err != nil {
		return fmt.Errorf("container %s: %w", id, shim.ErrNotRunning)
	}
	return ioctl
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
