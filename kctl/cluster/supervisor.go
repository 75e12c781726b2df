package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// restartFirst and restartMost bound the wait before a daemon that ended is started again: at once for a first
	// accident, and not in a hot loop for a lasting one.
	restartFirst = 100 * time.Millisecond
	restartMost  = 5 * time.Second
	// restartReset is how long a daemon must have run for its next end to count as a first one.
	restartReset = 30 * time.Second
	// stopTimeout is how long a daemon gets to drain before it is killed; systemd's TimeoutStopSec in the units is the same.
	stopTimeout = 20 * time.Second
	// lastWords is how much of a daemon's output is kept to say why it ended: a sentence with a path in it.
	lastWords = 4 << 10
)

// DaemonStatus is what the supervisor knows of one daemon.
type DaemonStatus struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// Ready is true once the daemon has said so (sd_notify READY=1).
	Ready bool `json:"ready"`
	// Ended counts how often the daemon has ended, LastWords is what it printed last before it did.
	Ended     int    `json:"ended"`
	LastWords string `json:"lastWords,omitempty"`
}

// Supervise runs every daemon until ctx ends, then stops them in reverse order. It is what systemd does where there is one.
func Supervise(ctx context.Context, l Layout) error {
	lock, err := lockSupervisor(l)
	if err != nil {
		return err
	}
	defer lock.Close()
	var units []unit
	for _, d := range Daemons() {
		u, err := readUnit(l, d)
		if err != nil {
			return err
		}
		units = append(units, u)
	}
	var running []*supervised
	for _, u := range units {
		s := &supervised{layout: l, unit: u, done: make(chan struct{})}
		s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
		running = append(running, s)
		go s.run()
	}
	<-ctx.Done()
	for i := len(running) - 1; i >= 0; i-- {
		running[i].stop()
		<-running[i].done
	}
	return nil
}

// supervisorLock is held by the running supervisor and holds its process id.
func supervisorLock(l Layout) string { return filepath.Join(l.Run, "supervisor.lock") }

// lockSupervisor makes sure that there is one supervisor.
func lockSupervisor(l Layout) (*os.File, error) {
	f, err := tryLock(supervisorLock(l))
	if errors.Is(err, errLocked) {
		return nil, errRunning
	}
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(fmt.Appendf(nil, "%-10d\n", os.Getpid()), 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

var errRunning = errors.New("a supervisor is running")

// supervisorPID returns the process id of the running supervisor, or 0.
func supervisorPID(l Layout) int {
	if !lockHeld(supervisorLock(l)) {
		return 0
	}
	data, err := os.ReadFile(supervisorLock(l))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return pid
}

// statusFile is where a daemon's status is.
func statusFile(l Layout, daemon string) string {
	return filepath.Join(l.Run, "status", daemon+".json")
}

// Status reads what the supervisor knows of a daemon.
func Status(l Layout, daemon string) (DaemonStatus, error) {
	var st DaemonStatus
	data, err := os.ReadFile(statusFile(l, daemon))
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(data, &st)
}

// supervised is one daemon under supervision.
type supervised struct {
	layout Layout
	unit   unit
	ctx    context.Context
	stop   context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	status DaemonStatus
}

// run starts the daemon again and again until stop is called.
func (s *supervised) run() {
	defer close(s.done)
	// The daemons' parent-death signal follows the thread that started them, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	wait := restartFirst
	for s.ctx.Err() == nil {
		started := time.Now()
		words := s.once()
		if time.Since(started) > restartReset {
			wait = restartFirst
		}
		s.update(func(st *DaemonStatus) { st.PID, st.Ready, st.LastWords = 0, false, words; st.Ended++ })
		select {
		case <-s.ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, restartMost)
	}
	os.Remove(statusFile(s.layout, s.unit.name))
}

// once runs the daemon until it ends and returns its last words.
func (s *supervised) once() string {
	log, err := openLog(s.layout, s.unit.name)
	if err != nil {
		return err.Error()
	}
	defer log.Close()
	notify, err := s.listenNotify()
	if err != nil {
		return err.Error()
	}
	told := make(chan struct{})
	go func() { defer close(told); s.watchNotify(notify) }()
	// Joined before the daemon counts as ended: what a dead daemon had still to say must not make it ready.
	defer func() { notify.Close(); <-told }()
	start, _ := log.Seek(0, 2)
	cmd := exec.Command(s.unit.args[0], s.unit.args[1:]...)
	cmd.Env = append(append(os.Environ(), s.unit.env...), "NOTIFY_SOCKET="+notify.LocalAddr().String())
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	// Own process group: a terminal's ^C is not for daemons. SIGTERM if the supervisor dies: the daemons' next supervisor must find
	// their ports free.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err.Error()
	}
	s.update(func(st *DaemonStatus) { st.PID = cmd.Process.Pid })
	ended := make(chan struct{})
	go func() {
		select {
		case <-ended:
			return
		case <-s.ctx.Done():
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(stopTimeout):
			_ = cmd.Process.Kill()
		}
	}()
	err = cmd.Wait()
	close(ended)
	words := tail(log.Name(), start)
	if words == "" && err != nil {
		words = err.Error()
	}
	return words
}

// listenNotify opens the socket on which the daemon says that it is ready (sd_notify(3)).
func (s *supervised) listenNotify() (*net.UnixConn, error) {
	path := filepath.Join(s.layout.Run, "notify", s.unit.name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
}

func (s *supervised) watchNotify(conn *net.UnixConn) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("READY=1")) {
			s.update(func(st *DaemonStatus) { st.Ready = true })
		}
	}
}

// update changes the status and writes it for kctl to read.
func (s *supervised) update(change func(*DaemonStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Name = s.unit.name
	change(&s.status)
	data, err := json.Marshal(s.status)
	if err != nil {
		return
	}
	path := statusFile(s.layout, s.unit.name)
	_ = os.MkdirAll(filepath.Dir(path), 0o755)
	if os.WriteFile(path+".new", data, 0o644) == nil {
		_ = os.Rename(path+".new", path)
	}
}

// tail returns the last line with text in what was written to a log since offset start.
func tail(path string, start int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	end, err := f.Seek(0, 2)
	if err != nil {
		return ""
	}
	from := max(start, end-lastWords)
	buf := make([]byte, end-from)
	n, _ := f.ReadAt(buf, from)
	lines := strings.Split(strings.TrimSpace(string(buf[:n])), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
