package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/shim"
)

// container is one container from create to delete.
type container struct {
	config shim.ContainerConfig
	lc     *libcontainer.Container
	io     *stdio
	// exited is closed when the exit is on disk and announced.
	exited chan struct{}

	// recording is held while the status is written to disk.
	recording sync.Mutex

	mu       sync.Mutex
	status   shim.ContainerStatus
	starting bool   // Start has begun
	sequence uint64 // of the exit among the pod's; 0 while it lives
}

// create makes a container whose process waits to be started.
func (s *Server) create(c shim.ContainerConfig) (err error) {
	if err := c.Validate(); err != nil {
		return err
	}
	if err := s.reserve(c.ID); err != nil {
		return err
	}
	ctr := &container{config: c, exited: make(chan struct{})}
	defer func() {
		if err != nil {
			s.discard(ctr)
			s.release(c.ID, nil)
		}
	}()
	if err := s.complete(&c); err != nil {
		return err
	}
	if err := os.MkdirAll(s.containerDir(c.ID), 0o700); err != nil {
		return err
	}
	log, err := openLog(c.LogPath)
	if err != nil {
		return err
	}
	ctr.io = &stdio{log: log}
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: c.ID, Spec: c.Spec})
	if err != nil {
		return startError(err)
	}
	if ctr.lc, err = libcontainer.Create(s.runtimeDir(), c.ID, config); err != nil {
		return startError(err)
	}
	if err := s.spawn(ctr); err != nil {
		return err
	}
	// libcontainer has its own copy of the rest; what it is exec'd with is all that is needed from here on.
	ctr.config.Spec = &specs.Spec{Process: c.Spec.Process}
	s.release(c.ID, ctr)
	return nil
}

// spawn starts the container's process, which stops before exec.
func (s *Server) spawn(ctr *container) error {
	p, err := newProcess(ctr.config.Spec.Process)
	if err != nil {
		return err
	}
	p.Init = true
	p.LogLevel = initLogLevel
	wiring, err := s.wire(ctr, p)
	if err != nil {
		return err
	}
	defer wiring.close()
	err = s.reaper.start(func() (pid int, err error) {
		s.forker.do(func() {
			if err = ctr.lc.Start(p); err == nil {
				pid, err = p.Pid()
			}
		})
		if err == nil {
			if err = s.recordCreated(ctr, pid); err != nil {
				_ = p.Signal(unix.SIGKILL) // and the sweep collects it
			}
		}
		return pid, err
	}, func(status unix.WaitStatus) { s.onExit(ctr, status) })
	if err != nil {
		return startError(err)
	}
	return wiring.connect()
}

// wiring joins a process that is being made to its streams.
type wiring struct {
	given   []*os.File // the process's ends, closed once it has them
	console *console
	connect func() error
}

func (w *wiring) close() {
	for _, f := range w.given {
		_ = f.Close()
	}
	if w.console != nil {
		w.console.close()
	}
}

// wire gives a container's process its streams; connect starts to read them.
func (s *Server) wire(ctr *container, p *libcontainer.Process) (_ *wiring, err error) {
	w := &wiring{}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if ctr.config.TTY {
		if w.console, err = newConsole(p); err != nil {
			return nil, err
		}
		w.connect = func() error { return s.connectTerminal(ctr, w.console) }
		return w, nil
	}
	in, err := ctr.input(w)
	if err != nil {
		return nil, err
	}
	p.Stdin = in
	out, given, err := pipe(true)
	if err != nil {
		return nil, err
	}
	p.Stdout, w.given = given, append(w.given, given)
	ctr.io.follow(&s.buffers, out, "stdout", &ctr.io.stdout)
	errs, given, err := pipe(true)
	if err != nil {
		return nil, err
	}
	p.Stderr, w.given = given, append(w.given, given)
	ctr.io.follow(&s.buffers, errs, "stderr", &ctr.io.stderr)
	w.connect = func() error { return nil }
	return w, nil
}

// input is what the process reads: a pipe that we keep the other end of, or nothing.
func (c *container) input(w *wiring) (*os.File, error) {
	if !c.config.Stdin {
		null, err := os.OpenFile("/dev/null", os.O_RDONLY, 0)
		if err == nil {
			w.given = append(w.given, null)
		}
		return null, err
	}
	keep, give, err := pipe(false)
	if err != nil {
		return nil, err
	}
	w.given = append(w.given, give)
	c.io.in, c.io.inOnce = keep, c.config.StdinOnce
	return give, nil
}

func (s *Server) connectTerminal(ctr *container, c *console) error {
	terminal, err := c.receive()
	if err != nil {
		return err
	}
	ctr.io.terminal = terminal
	if ctr.config.Stdin {
		ctr.io.in, ctr.io.inOnce = terminal, ctr.config.StdinOnce
	}
	ctr.io.follow(&s.buffers, terminal, "stdout", &ctr.io.stdout)
	return nil
}

// recordCreated sets and writes the container's first status; if that fails, it has none.
func (s *Server) recordCreated(ctr *container, pid int) error {
	c := &ctr.config
	ctr.mu.Lock()
	ctr.status = shim.ContainerStatus{
		ID: c.ID, Name: c.Name, Attempt: c.Attempt, LogPath: c.LogPath, Phase: shim.Created, PID: pid, CreatedAt: time.Now(),
	}
	ctr.mu.Unlock()
	if err := s.record(ctr); err != nil {
		ctr.mu.Lock()
		ctr.status = shim.ContainerStatus{}
		ctr.mu.Unlock()
		return err
	}
	return nil
}

func (c *container) snapshot() shim.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// start lets the container's process exec the user's program.
func (s *Server) start(id string) (int, error) {
	ctr, err := s.find(id)
	if err != nil {
		return 0, err
	}
	if err := ctr.beginStart(); err != nil {
		return 0, err
	}
	if err := ctr.lc.Exec(); err != nil {
		if ctr.snapshot().Phase == shim.Exited {
			return 0, fmt.Errorf("container %s has ended before it was started: %w", id, shim.ErrNotRunning)
		}
		return 0, startError(err)
	}
	status := ctr.snapshot()
	if status.Phase == shim.Running {
		err = s.record(ctr)
	}
	return status.PID, err
}

// record writes the container's status as it is now. A program that ends at once has its start and its exit recorded at the
// same time: whoever writes last writes the newest state.
func (s *Server) record(ctr *container) error {
	ctr.recording.Lock()
	defer ctr.recording.Unlock()
	return writeRecord(filepath.Join(s.containerDir(ctr.config.ID), shim.StatusFile), ctr.snapshot())
}

// beginStart marks the container as running before its program does anything, so that an exit always comes after it.
func (c *container) beginStart() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Phase != shim.Created || c.starting {
		return fmt.Errorf("container %s is %s, not created: %w", c.config.ID, c.status.Phase, shim.ErrNotRunning)
	}
	c.starting = true
	c.status.Phase, c.status.StartedAt = shim.Running, time.Now()
	return nil
}

// onExit records and announces the end of a container's first process.
func (s *Server) onExit(ctr *container, ws unix.WaitStatus) {
	finished := time.Now()
	s.killRest(ctr)
	oom := s.oomKilled(ctr)
	ctr.io.drain()

	ctr.mu.Lock()
	st := &ctr.status
	st.Phase, st.FinishedAt = shim.Exited, finished
	st.ExitCode, st.Signal = exitCode(ws)
	st.OOMKilled = oom && st.ExitCode != 0
	ctr.mu.Unlock()

	if err := s.record(ctr); err != nil {
		s.log.Error("cannot record the exit of a container", "container", ctr.config.ID, "error", err)
	}
	s.announce(ctr)
	close(ctr.exited)
	s.worked()
}

// killRest ends what the first process left behind. With a PID namespace of its own the kernel has done that already.
func (s *Server) killRest(ctr *container) {
	if !s.sharesPIDs() && ctr.config.TargetID == "" {
		return
	}
	if err := s.killAll(ctr); err != nil {
		s.log.Warn("cannot kill the rest of a container", "container", ctr.config.ID, "error", err)
	}
}

func exitCode(ws unix.WaitStatus) (code, signal int32) {
	const signalBase = 128
	if ws.Signaled() {
		return signalBase + int32(ws.Signal()), int32(ws.Signal())
	}
	return int32(ws.ExitStatus()), 0
}

// signal sends to the first process, or to all.
func (s *Server) signal(id string, sig syscall.Signal, all bool) error {
	ctr, err := s.find(id)
	if err != nil {
		return err
	}
	if all {
		return s.killAll(ctr)
	}
	if ctr.snapshot().Phase == shim.Exited {
		return fmt.Errorf("container %s: %w", id, shim.ErrNotRunning)
	}
	if err := ctr.lc.Signal(sig); err != nil {
		if errors.Is(err, os.ErrProcessDone) || errors.Is(err, libcontainer.ErrNotRunning) || errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("container %s: %w", id, shim.ErrNotRunning)
		}
		return err
	}
	return nil
}

// delete forgets a container that has ended, or was never started.
func (s *Server) delete(id string) error {
	ctr, err := s.find(id)
	if err != nil {
		return err
	}
	switch ctr.snapshot().Phase {
	case shim.Running:
		return fmt.Errorf("%w: container %s is running", shim.ErrInvalid, id)
	case shim.Created:
		if err := s.killAll(ctr); err != nil {
			return err
		}
	}
	<-ctr.exited
	if err := s.killAll(ctr); err != nil {
		return err
	}
	if err := s.destroy(ctr); err != nil {
		return fmt.Errorf("delete container %s: %w", id, err)
	}
	if err := os.RemoveAll(s.containerDir(id)); err != nil {
		return err
	}
	s.forget(id)
	return nil
}

// destroy removes what libcontainer keeps of a container. It waits itself for the poststop hooks that it runs.
func (s *Server) destroy(ctr *container) error {
	s.reaper.starting.RLock()
	defer s.reaper.sweep()
	defer s.reaper.starting.RUnlock()
	return ctr.lc.Destroy()
}

// discard undoes a create that failed.
func (s *Server) discard(ctr *container) {
	if ctr.lc != nil {
		if err := s.killAll(ctr); err != nil {
			s.log.Warn("cannot kill a container that could not be created", "container", ctr.config.ID, "error", err)
		} else if ctr.snapshot().Phase != "" {
			<-ctr.exited
		}
		if err := s.destroy(ctr); err != nil {
			s.log.Warn("cannot remove a container that could not be created", "container", ctr.config.ID, "error", err)
		}
	}
	if ctr.io != nil {
		ctr.io.close()
	}
	_ = os.RemoveAll(s.containerDir(ctr.config.ID))
}

// update changes a running container's limits.
func (s *Server) update(id string, r *specs.LinuxResources) error {
	ctr, err := s.find(id)
	if err != nil {
		return err
	}
	if r == nil {
		return fmt.Errorf("%w: no resources", shim.ErrInvalid)
	}
	config := ctr.lc.Config()
	cgroup := *config.Cgroups
	resources := *cgroup.Resources
	mergeResources(&resources, r)
	cgroup.Resources = &resources
	config.Cgroups = &cgroup
	if err := ctr.lc.Set(config); err != nil {
		if errors.Is(err, libcontainer.ErrNotRunning) {
			return fmt.Errorf("container %s: %w", id, shim.ErrNotRunning)
		}
		return err
	}
	return nil
}
