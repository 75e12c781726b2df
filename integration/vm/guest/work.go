package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bareboat.dev/integration/vm/plan"
)

// work makes the machine a host and runs the plan.
func work() error {
	if err := furnish(); err != nil {
		return err
	}
	data, err := os.ReadFile(plan.File)
	if err != nil {
		return err
	}
	var p plan.Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(p.Hostname)); err != nil {
		return err
	}
	port, err := openPort("/dev/ttyS1")
	if err != nil {
		return err
	}
	defer port.Close()
	say := json.NewEncoder(port)
	for _, job := range p.Jobs {
		end := run(job, func(line string) { _ = say.Encode(plan.Line{Job: job.Name, Output: line}) })
		if err := say.Encode(end); err != nil {
			return err
		}
	}
	return unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1) // wait until all of it is out
}

// furnish mounts what every host has. cgroup v2 has the options that systemd mounts it with.
func furnish() error {
	const noExec = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"proc", "/proc", "proc", noExec, ""},
		{"sysfs", "/sys", "sysfs", noExec, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, ""},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=000"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"mqueue", "/dev/mqueue", "mqueue", noExec, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", noExec, "nsdelegate,memory_recursiveprot"},
		{"bpf", "/sys/fs/bpf", "bpf", noExec, ""},
		{"securityfs", "/sys/kernel/security", "securityfs", noExec, ""},
	} {
		if err := mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return err
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return err
	}
	for link, target := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return errors.Join(os.Chmod("/tmp", 0o1777), exec.Command("/usr/sbin/ip", "link", "set", "lo", "up").Run())
}

// openPort opens a serial port for bytes as they are.
func openPort(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	t.Iflag &^= unix.ICRNL | unix.IXON
	return f, unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
}

// run runs one job and passes its output on, line by line. This process is the machine's first: in between it also collects orphans.
func run(job plan.Job, output func(line string)) plan.Line {
	end := plan.Line{Job: job.Name, Ended: true, Code: -1}
	cmd := exec.Command(job.Args[0], job.Args[1:]...)
	cmd.Dir = job.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Env = append([]string{"PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp", "LANG=C.UTF-8"}, job.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	r, w, err := os.Pipe()
	if err != nil {
		end.Error = err.Error()
		return end
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		end.Error = err.Error()
		return end
	}
	_ = w.Close()
	pid := cmd.Process.Pid
	limit := time.AfterFunc(time.Duration(job.Seconds)*time.Second, func() { _ = syscall.Kill(-pid, syscall.SIGKILL) })
	defer limit.Stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		relay(r, output)
	}()
	status := reap(pid)
	// Daemons that the job leaves running may keep its output open: what it wrote itself is there by now.
	select {
	case <-done:
	case <-time.After(time.Second):
		_ = r.Close()
		<-done
	}
	if status.Exited() {
		end.Code = status.ExitStatus()
	} else {
		end.Error = fmt.Sprintf("ended by signal %v (limit %d s)", status.Signal(), job.Seconds)
	}
	return end
}

func relay(r io.Reader, output func(string)) {
	const longest = 1 << 20
	s := bufio.NewScanner(r)
	s.Buffer(nil, longest)
	for s.Scan() {
		output(s.Text())
	}
	_, _ = io.Copy(io.Discard, r)
}

// reap waits for a process and collects whatever else ends meanwhile.
func reap(pid int) syscall.WaitStatus {
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		if ended == pid || err != nil && !errors.Is(err, syscall.EINTR) {
			return status
		}
	}
}
