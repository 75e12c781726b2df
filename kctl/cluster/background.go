package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// background runs the daemons under kctl's own supervisor.
type background struct {
	l Layout
	// supervisor tells when the supervisor that start started has ended; nil if another process started it.
	supervisor <-chan struct{}
	// logStart is where the supervisor's log began when it was started.
	logStart int64
}

func (b *background) running() bool { return lockHeld(supervisorLock(b.l)) }

func (b *background) settle(ctx context.Context) error { return endOrphans(ctx, b.l) }

func (b *background) start(context.Context) error {
	if err := os.RemoveAll(filepath.Join(b.l.Run, "status")); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := openLog(b.l, "supervisor")
	if err != nil {
		return err
	}
	defer log.Close()
	b.logStart, _ = log.Seek(0, 2)
	cmd := exec.Command(exe, "supervise")
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	// A session of its own: a terminal's ^C and hang-up are not for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	b.supervisor = ended
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	return nil
}

// stop ends the supervisor, which ends the daemons, and daemons that have lost theirs.
func (b *background) stop(ctx context.Context) error {
	for b.running() {
		// A supervisor that has just begun holds its lock before it has written its number.
		if pid := supervisorPID(b.l); pid != 0 {
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stop the supervisor (pid %d): %w", pid, err)
			}
		}
		if !sleep(ctx, poll) {
			return fmt.Errorf("the daemons have not ended yet: %w", context.Cause(ctx))
		}
	}
	if b.supervisor != nil {
		<-b.supervisor
	}
	return endOrphans(ctx, b.l)
}

func (b *background) ready(daemon string) bool {
	st, err := Status(b.l, daemon)
	return err == nil && st.Ready
}

func (b *background) failed() (string, bool) {
	for _, d := range Daemons() {
		if st, err := Status(b.l, d); err == nil && !st.Ready && st.Ended >= maxEnds {
			return fmt.Sprintf("the %s ended while starting: %s (its log: %s)", d, st.LastWords, logFile(b.l, d)), true
		}
	}
	if b.supervisor == nil {
		return "the supervisor ended", !b.running()
	}
	select {
	case <-b.supervisor:
		// Another one may be at work, and ours found its lock; that will do.
		words := tail(logFile(b.l, "supervisor"), b.logStart)
		return fmt.Sprintf("the supervisor ended: %s (its log: %s)", words, logFile(b.l, "supervisor")), !b.running()
	default:
		return "", false
	}
}

// endOrphans ends daemons whose supervisor was killed. The kernel has told them to end then; until they have, their ports and
// the database are theirs.
func endOrphans(ctx context.Context, l Layout) error {
	for _, d := range Daemons() {
		st, err := Status(l, d)
		if err != nil || st.PID == 0 || !runs(st.PID, l.Bin(d)) {
			continue
		}
		if err := endProcess(ctx, st.PID, l.Bin(d)); err != nil {
			return fmt.Errorf("end the %s (pid %d) that an earlier supervisor left: %w", d, st.PID, err)
		}
	}
	return nil
}

// runs reports whether pid is still the program: numbers are used again.
func runs(pid int, program string) bool {
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(args) == 0 {
		return false
	}
	return commandHas(args, program)
}

// endProcess asks a process to end, and kills it after stopTimeout.
func endProcess(ctx context.Context, pid int, program string) error {
	late, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	signal := syscall.SIGTERM
	for {
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		for sleep(late, poll) {
			if !runs(pid, program) {
				return nil
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if signal == syscall.SIGKILL {
			return errors.New("it does not end even when killed; see its state in /proc")
		}
		signal = syscall.SIGKILL
		late, cancel = context.WithTimeout(ctx, stopTimeout)
		defer cancel()
	}
}
