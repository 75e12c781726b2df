package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/shim"
)

const (
	// gcPercent makes the collector run early: with a live heap of some 300 KiB the default would let 4 MiB pile up.
	gcPercent = 40
	// idleAfter is how long after the last work unused memory is returned to the kernel: long enough that the other pods of a burst, which
	// want the processors, have been started meanwhile.
	idleAfter = 1500 * time.Millisecond
	// backlog is how many connections may wait to be accepted: more than a kubelet makes to one pod at once, exec probes and all.
	backlog = 1024
	// terminationPatience is how long containers may take to end after SIGTERM to podshim. The host going down waits for us, and the kubelet
	// has ended the pods that it could before.
	terminationPatience = 5 * time.Second
	// initLogLevel is logrus' warning level: what a container's init reports of itself before it is the user's program.
	initLogLevel = "3"
)

// Server is one pod's podshim.
type Server struct {
	config  shim.PodConfig
	dir     string
	log     *slog.Logger
	cgroups *cgroup.Hierarchy
	forker  forker
	reaper  *reaper
	buffers bufferPool
	idle    *time.Timer
	// pidNS is the pod's PID namespace, if its containers share one.
	pidNS string
	// end is closed by shutdown.
	end     chan struct{}
	endOnce sync.Once

	mu         sync.Mutex
	containers map[string]*container // nil while being created
	sequence   uint64
	changed    chan struct{} // closed and replaced at each exit
	ending     bool
}

// Run serves the pod whose configuration is in dir until it is shut down. Once it listens, it writes its [shim.Process] to ready. When it
// returns, the process must end: the pod's containers depend on the thread that it ran on.
func Run(dir string, ready *os.File, log *slog.Logger) error {
	debug.SetGCPercent(gcPercent)
	config, _, err := shim.ReadState(dir)
	if err != nil {
		return err
	}
	if err := config.Validate(); err != nil {
		return err
	}
	h, err := cgroup.Detect()
	if err != nil {
		return err
	}
	s := &Server{
		config: config, dir: dir, log: log, cgroups: h,
		forker: make(forker), reaper: newReaper(), containers: map[string]*container{},
		changed: make(chan struct{}), end: make(chan struct{}),
	}
	s.idle = time.AfterFunc(idleAfter, giveBack)
	s.buffers.dropped = s.worked
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	go s.reaper.run(s.end)
	go s.terminateOnSignal()
	ended := make(chan error, 1)
	go func() {
		err := s.preparePod()
		if err == nil {
			err = s.listen(ready)
		}
		ended <- err
	}()
	return s.forker.run(ended)
}

// listen accepts connections until shutdown.
func (s *Server) listen(ready *os.File) error {
	l, err := listenIn(s.dir)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := s.announceReady(ready); err != nil {
		return err
	}
	go s.warmUp()
	go func() {
		<-s.end
		_ = l.Close()
	}()
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		go s.serve(shim.NewConn(conn))
	}
}

// listenIn makes the socket through a descriptor of the directory, since socket addresses are limited to 107 bytes. It does not use
// net.ListenUnix, which reads the host's limit of connections through a buffer of 64 KiB: a thirtieth of what a podshim has in all.
func listenIn(dir string) (*net.UnixListener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	socket := os.NewFile(uintptr(fd), shim.SocketFile)
	defer socket.Close() // the listener has a descriptor of its own
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), shim.SocketFile)}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := os.Chmod(filepath.Join(dir, shim.SocketFile), 0o600); err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	l, err := net.FileListener(socket)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil // closing it leaves the file, which Reap removes
}

func (s *Server) announceReady(ready *os.File) error {
	start, err := shim.StartTime(os.Getpid())
	if err != nil {
		return err
	}
	process := shim.Process{PID: os.Getpid(), StartTime: start}
	if err := writeRecord(filepath.Join(s.dir, shim.ProcessFile), process); err != nil {
		return err
	}
	_, err = fmt.Fprintf(ready, `{"pid":%d,"startTime":%d}`, process.PID, process.StartTime)
	return errors.Join(err, ready.Close())
}

// reserve takes an ID for a container that is about to be created.
func (s *Server) reserve(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return fmt.Errorf("%w: the pod is being shut down", shim.ErrNotRunning)
	}
	if _, taken := s.containers[id]; taken {
		return fmt.Errorf("container %s: %w", id, shim.ErrExists)
	}
	s.containers[id] = nil
	return nil
}

// release ends a reservation: with the container, or with nothing.
func (s *Server) release(id string, ctr *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctr == nil {
		delete(s.containers, id)
		return
	}
	s.containers[id] = ctr
	if ctr.sequence > 0 { // it has ended already, unseen
		s.wakeLocked()
	}
}

func (s *Server) find(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctr := s.containers[id]; ctr != nil {
		return ctr, nil
	}
	return nil, fmt.Errorf("container %s: %w", id, shim.ErrNotFound)
}

func (s *Server) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, id)
}

// all returns the containers, oldest first.
func (s *Server) all() []*container {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		if c != nil {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *container) int { return a.snapshot().CreatedAt.Compare(b.snapshot().CreatedAt) })
	return list
}

// announce gives an exit its place in the sequence and wakes those who wait for events.
func (s *Server) announce(ctr *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sequence++
	ctr.sequence = s.sequence
	s.wakeLocked()
}

func (s *Server) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// exitsAfter returns the exits after a sequence number, in order, and what is closed when there are more.
func (s *Server) exitsAfter(sequence uint64) ([]*container, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*container
	for _, c := range s.containers {
		if c != nil && c.sequence > sequence {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *container) int { return int(a.sequence) - int(b.sequence) })
	return list, s.changed
}

// events sends exits until the client goes away.
func (s *Server) events(ctx context.Context, conn *shim.Conn) {
	var last uint64
	for {
		exits, more := s.exitsAfter(last)
		for _, ctr := range exits {
			if conn.Send(shim.Reply{Event: &shim.Event{ContainerStatus: ctr.snapshot()}}) != nil {
				return
			}
			last = ctr.sequence
		}
		select {
		case <-more:
		case <-ctx.Done():
			return
		}
	}
}

// worked arranges for memory to be given back when nothing more happens for a while.
func (s *Server) worked() { s.idle.Reset(idleAfter) }

// giveBack returns unused memory to the kernel, if the heap was ever collected. A first collection would cost more than it brings: the
// runtime makes lists of spans for each class of sizes in use, 600 KiB of them, to find 350 KiB in what a pod's start leaves. (So would runtime.ReadMemStats.)
func giveBack() {
	var s debug.GCStats
	debug.ReadGCStats(&s)
	if s.NumGC > 0 {
		debug.FreeOSMemory()
	}
}

// shutdown kills and deletes all containers. The process ends when the answer is out.
func (s *Server) shutdown() error {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	if err := s.killGroup(s.config.CgroupParent); err != nil {
		return err
	}
	for _, ctr := range s.all() {
		<-ctr.exited
		if err := s.delete(ctr.config.ID); err != nil && !errors.Is(err, shim.ErrNotFound) {
			return err
		}
	}
	return nil
}

// terminateOnSignal ends the pod on SIGTERM, which is what podshim gets when the host goes down: the containers are asked to end and then made
// to, and their exits are on disk, for whoever may still read them. The state directory stays.
func (s *Server) terminateOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM)
	select {
	case <-signals:
	case <-s.end:
		return
	}
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	patience := time.After(terminationPatience)
	for _, ctr := range s.all() {
		_ = s.signal(ctr.config.ID, unix.SIGTERM, false)
	}
	for _, ctr := range s.all() {
		select {
		case <-ctr.exited:
		case <-patience:
			if err := s.killGroup(s.config.CgroupParent); err != nil {
				s.log.Error("cannot kill the pod's processes", "error", err)
				s.stop()
				return
			}
			<-ctr.exited
		}
	}
	s.stop()
}

// stop makes Run return.
func (s *Server) stop() { s.endOnce.Do(func() { close(s.end) }) }
