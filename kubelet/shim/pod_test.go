package shim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/shim"
	"bareboat.dev/kubelet/shim/shimtest"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func itoa(n int) string { return strconv.Itoa(n) }

// Shows a container's whole life: created, started, logged, ended with its own exit code, deleted.
func TestLife(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{Hostname: "web-0"})
	c := shimtest.Container(t, "hostname; echo oops >&2; exit 7")
	if err := pod.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	state, err := pod.State(t.Context())
	if err != nil || len(state.Containers) != 1 || state.Containers[0].Phase != shim.Created {
		t.Errorf("state %+v, %v; want one created container", state, err)
	}
	pid, err := pod.Start(t.Context(), c.ID)
	if err != nil || pid == 0 {
		t.Fatalf("start: pid %d, %v", pid, err)
	}
	status := shimtest.AwaitExit(t, pod, c.ID)
	if status.Phase != shim.Exited || status.ExitCode != 7 || status.Signal != 0 || status.OOMKilled {
		t.Errorf("status %+v, want exit code 7", status)
	}
	if status.StartedAt.Before(status.CreatedAt) || status.FinishedAt.Before(status.StartedAt) {
		t.Errorf("times out of order: %+v", status)
	}
	if _, recorded, err := shim.ReadState(pod.Config().StateDir); err != nil || len(recorded.Containers) != 1 || recorded.Containers[0].ExitCode != 7 {
		t.Errorf("announced, but on disk is %+v, %v", recorded, err)
	}
	if got, want := shimtest.Log(t, c), "web-0\noops\n"; got != want {
		t.Errorf("log %q, want %q", got, want)
	}
	if err := pod.Delete(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if state, err = pod.State(t.Context()); err != nil || len(state.Containers) != 0 {
		t.Errorf("state %+v, %v; want none", state, err)
	}
	if err := pod.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(pod.Config().StateDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state directory after shutdown: %v", err)
	}
	if _, err := pod.State(t.Context()); !errors.Is(err, shim.ErrShimDead) {
		t.Errorf("asked after shutdown: %v", err)
	}
}

// Shows that the ways for a process to end come out as the exit codes and signals that the shell would show.
func TestExitCodes(t *testing.T) {
	pod, rootfs := shimtest.Launch(t, shim.PodConfig{}), shimtest.Rootfs(t)
	for _, c := range []struct {
		command      string
		code, signal int32
	}{
		{"exit 0", 0, 0},
		{"exit 255", 255, 0},
		{"exec busybox kill -9 $$", 0, 0}, // the first process of a PID namespace cannot kill itself
	} {
		config := shimtest.ContainerIn(t, rootfs, c.command)
		if status := finishes(t, pod, config); status.ExitCode != c.code || status.Signal != c.signal {
			t.Errorf("%q: code %d, signal %d", c.command, status.ExitCode, status.Signal)
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		config := shimtest.ContainerIn(t, rootfs, "")
		config.Spec.Process.Args = []string{"/bin/sh", "-c", "trap 'exit 42' TERM; echo ready; while :; do sleep 0.01; done"}
		run(t, pod, config)
		await := newScreen()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = pod.Attach(ctx, config.ID, shim.Stdio{Stdout: await}, nil) }()
		execIn(t, pod, config.ID, "until grep -q SigCgt /proc/1/status; do :; done; while [ $(( 0x$(sed -n 's/SigCgt:.//p' /proc/1/status | tail -c 5) & 0x4000 )) = 0 ]; do :; done")
		if err := pod.Signal(t.Context(), config.ID, sig); err != nil {
			t.Fatal(err)
		}
		status := shimtest.AwaitExit(t, pod, config.ID)
		cancel()
		want := shim.ContainerStatus{ExitCode: 42}
		if sig == syscall.SIGKILL {
			want = shim.ContainerStatus{ExitCode: 137, Signal: 9}
		}
		if status.ExitCode != want.ExitCode || status.Signal != want.Signal {
			t.Errorf("%v: code %d, signal %d", sig, status.ExitCode, status.Signal)
		}
		if err := pod.Signal(t.Context(), config.ID, sig); !errors.Is(err, shim.ErrNotRunning) {
			t.Errorf("%v after the end: %v", sig, err)
		}
	}
}

// Shows that what cannot be started says why, as ErrStart, and leaves nothing behind.
func TestStartErrors(t *testing.T) {
	pod, rootfs := shimtest.Launch(t, shim.PodConfig{}), shimtest.Rootfs(t)
	for name, change := range map[string]func(*shim.ContainerConfig){
		`exec: "nosuch": executable file not found in $PATH`: func(c *shim.ContainerConfig) { c.Spec.Process.Args = []string{"nosuch"} },
		"permission denied":         func(c *shim.ContainerConfig) { c.Spec.Process.Args = []string{"/etc/passwd"} },
		"no such file or directory": func(c *shim.ContainerConfig) { c.Spec.Root.Path = rootfs + "-missing" },
		"mount": func(c *shim.ContainerConfig) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/data", Source: "/nonexistent", Type: "bind", Options: []string{"rbind"}})
		},
	} {
		c := shimtest.ContainerIn(t, rootfs, "")
		change(&c)
		err := pod.Create(t.Context(), c)
		if !errors.Is(err, shim.ErrStart) || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q, have %v", name, err)
		}
	}
	state, err := pod.State(t.Context())
	if err != nil || len(state.Containers) != 0 || len(groups(t, pod)) != 0 {
		t.Errorf("left: %+v, %v, processes %v", state, err, groups(t, pod))
	}
	for _, dir := range []string{shim.ContainersDir, shim.RuntimeDir} {
		if left, _ := os.ReadDir(filepath.Join(pod.Config().StateDir, dir)); len(left) != 0 {
			t.Errorf("left in %s: %v", dir, left)
		}
	}
}

// Shows that a kubelet that starts again finds its pods, the exits that it missed, and can go on.
func TestAttachAfterKubeletRestart(t *testing.T) {
	first := shimtest.Launch(t, shim.PodConfig{Name: "web"})
	rootfs := shimtest.Rootfs(t)
	gone, stays := shimtest.ContainerIn(t, rootfs, "exit 3"), shimtest.ContainerIn(t, rootfs, "sleep 1000")
	finishes(t, first, gone)
	pid := run(t, first, stays)

	dirs, err := shim.List(filepath.Dir(first.Config().StateDir))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("list: %v, %v", dirs, err)
	}
	again, err := shim.Attach(t.Context(), dirs[0])
	if err != nil || again.Config().Name != "web" {
		t.Fatalf("attach: %+v, %v", again, err)
	}
	if status := shimtest.AwaitExit(t, again, gone.ID); status.ExitCode != 3 {
		t.Errorf("the exit that was missed: %+v", status)
	}
	if out := execIn(t, again, stays.ID, "echo works"); out != "works" {
		t.Errorf("exec: %q", out)
	}
	state, err := again.State(t.Context())
	if err != nil || len(state.Containers) != 2 || state.Containers[1].PID != pid {
		t.Errorf("state %+v, %v", state, err)
	}
}

// Shows that containers die with a podshim that is killed, that the kubelet is told, still reads what was recorded, and can clear up.
func TestPodshimKilled(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	rootfs := shimtest.Rootfs(t)
	past := shimtest.ContainerIn(t, rootfs, "exit 5")
	finishes(t, pod, past)
	nobody := shimtest.ContainerIn(t, rootfs, "sleep 1000 & sleep 1000")
	nobody.Spec.Process.User = specs.User{UID: 65534, GID: 65534} // a change of user takes the parent-death signal away; it must be back
	pids := []int{run(t, pod, shimtest.ContainerIn(t, rootfs, "sleep 1000")), run(t, pod, nobody)}
	if err := syscall.Kill(pod.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		ended(t, pid)
	}
	for _, err := range pod.Events(t.Context()) {
		if !errors.Is(err, shim.ErrShimDead) {
			t.Errorf("events: %v", err)
		}
	}
	ended(t, pod.PID())
	if _, err := shim.Attach(t.Context(), pod.Config().StateDir); !errors.Is(err, shim.ErrShimDead) {
		t.Errorf("attach: %v", err)
	}
	_, state, err := shim.ReadState(pod.Config().StateDir)
	if err != nil || len(state.Containers) != 3 || state.Containers[0].ExitCode != 5 || state.Containers[1].Phase != shim.Running {
		t.Errorf("recorded: %+v, %v", state, err)
	}
	for range 2 {
		if err := shim.Reap(t.Context(), pod.Config().StateDir); err != nil {
			t.Fatal(err)
		}
	}
	if left := groups(t, pod); len(left) != 0 {
		t.Errorf("processes left: %v", left)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || strings.Contains(string(mounts), pod.Config().StateDir) {
		t.Errorf("mounts left in %s", pod.Config().StateDir)
	}
}

// Shows that SIGTERM to podshim, as when the host goes down, ends its containers in order and leaves their exits on disk.
func TestPodshimTerminated(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, "trap 'exit 42' TERM; echo ready; while :; do sleep 0.01; done")
	run(t, pod, c)
	execIn(t, pod, c.ID, "while [ $(( 0x$(sed -n 's/SigCgt:.//p' /proc/1/status | tail -c 5) & 0x4000 )) = 0 ]; do :; done")
	if err := syscall.Kill(pod.PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended(t, pod.PID())
	_, state, err := shim.ReadState(pod.Config().StateDir)
	if err != nil || len(state.Containers) != 1 || state.Containers[0].ExitCode != 42 {
		t.Errorf("recorded: %+v, %v", state, err)
	}
	if _, err := pod.State(t.Context()); !errors.Is(err, shim.ErrShimDead) {
		t.Errorf("asked afterwards: %v", err)
	}
}

// Shows that creating containers one after the other harms none that runs: the thread that forked it must live on.
func TestContainersSurviveLaterOnes(t *testing.T) {
	pod, rootfs := shimtest.Launch(t, shim.PodConfig{}), shimtest.Rootfs(t)
	first := shimtest.ContainerIn(t, rootfs, "sleep 1000")
	run(t, pod, first)
	for range 10 {
		c := shimtest.ContainerIn(t, rootfs, "true")
		finishes(t, pod, c)
		if err := pod.Delete(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
		execIn(t, pod, first.ID, "true")
	}
	state, err := pod.State(t.Context())
	if err != nil || len(state.Containers) != 1 || state.Containers[0].Phase != shim.Running {
		t.Errorf("state %+v, %v", state, err)
	}
}

// Shows that an exec'd process has its own streams, environment and exit code, and that what cannot be run says so.
func TestExec(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, "sleep 1000")
	run(t, pod, c)
	var stdout, stderr bytes.Buffer
	exit, err := pod.Exec(t.Context(), c.ID, shim.ExecConfig{
		Args: []string{"sh", "-c", "cat; echo $X >&2; exit 3"}, Env: []string{"X=y"},
	}, shim.Stdio{Stdin: bytes.NewBufferString("hello\n"), Stdout: &stdout, Stderr: &stderr}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if exit.Code != 3 || stdout.String() != "hello\n" || stderr.String() != "y\n" {
		t.Errorf("exit %+v, stdout %q, stderr %q", exit, stdout.String(), stderr.String())
	}
	_, err = pod.Exec(t.Context(), c.ID, shim.ExecConfig{Args: []string{"nosuch"}}, shim.Stdio{}, nil)
	if !errors.Is(err, shim.ErrStart) || !strings.Contains(err.Error(), `"nosuch": executable file not found in $PATH`) {
		t.Errorf("missing program: %v", err)
	}
	_, err = pod.Exec(t.Context(), "other", shim.ExecConfig{Args: []string{"true"}}, shim.Stdio{}, nil)
	if !errors.Is(err, shim.ErrNotFound) {
		t.Errorf("missing container: %v", err)
	}
	if out := execIn(t, pod, c.ID, "head -c 3000000 /dev/zero | wc -c"); out != "3000000" {
		t.Errorf("wc: %q", out)
	}
}

// Shows that large output of an exec'd process arrives whole, and that its end is not held up by a process that it leaves behind.
func TestExecOutput(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, "sleep 1000")
	run(t, pod, c)
	var out bytes.Buffer
	exit, err := pod.Exec(t.Context(), c.ID, shim.ExecConfig{Args: []string{"sh", "-c", "sleep 1000 & head -c 5000000 /dev/zero"}}, shim.Stdio{Stdout: &out}, nil)
	if err != nil || exit.Code != 0 || out.Len() != 5000000 {
		t.Errorf("exit %+v, %v, %d bytes", exit, err, out.Len())
	}
}

// Shows that ending the context of an exec kills its process.
func TestExecCancelled(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, "sleep 1000")
	run(t, pod, c)
	ctx, cancel := context.WithCancel(t.Context())
	out := newScreen()
	done := make(chan error, 1)
	go func() {
		_, err := pod.Exec(ctx, c.ID, shim.ExecConfig{Args: []string{"sh", "-c", "echo ready; exec sleep 2000"}}, shim.Stdio{Stdout: out}, nil)
		done <- err
	}()
	out.await(t, "ready")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("exec: %v", err)
	}
	execIn(t, pod, c.ID, "while ps | grep -q '[s]leep 2000'; do sleep 0.01; done")
}

// Shows that an exec'd process gets a terminal of the size asked for, and of each size after that.
func TestExecTerminal(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, "sleep 1000")
	run(t, pod, c)
	keys, typed := io.Pipe()
	defer typed.Close()
	out, sizes := newScreen(), make(chan shim.Size)
	done := make(chan error, 1)
	go func() {
		exit, err := pod.Exec(t.Context(), c.ID, shim.ExecConfig{Args: []string{"sh"}, TTY: true, Size: &shim.Size{Width: 91, Height: 31}},
			shim.Stdio{Stdin: keys, Stdout: out}, sizes)
		if err == nil && exit.Code != 4 {
			err = fmt.Errorf("exit %+v", exit)
		}
		done <- err
	}()
	_, _ = io.WriteString(typed, "tty; stty size\n")
	out.await(t, "/dev/pts/0")
	out.await(t, "31 91")
	sizes <- shim.Size{Width: 120, Height: 40}
	_, _ = io.WriteString(typed, "until [ \"$(stty size)\" = '40 120' ]; do :; done; echo re''sized; exit 4\n")
	out.await(t, "resized")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Shows that attaching gives a container's input and output, that output is logged as well, and that StdinOnce ends the input.
func TestAttachStreams(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, "cat; echo end >&2; exit 9")
	c.Stdin, c.StdinOnce = true, true
	run(t, pod, c)
	keys, typed := io.Pipe()
	stdout, stderr := newScreen(), newScreen()
	done := make(chan shim.ExitStatus, 1)
	go func() {
		exit, err := pod.Attach(t.Context(), c.ID, shim.Stdio{Stdin: keys, Stdout: stdout, Stderr: stderr}, nil)
		if err != nil {
			t.Error(err)
		}
		done <- exit
	}()
	_, _ = io.WriteString(typed, "hello\n")
	stdout.await(t, "hello")
	_ = typed.Close()
	if exit := <-done; exit.Code != 9 || stderr.String() != "end\n" {
		t.Errorf("exit %+v, stderr %q", exit, stderr.String())
	}
	if log := shimtest.Log(t, c); log != "hello\nend\n" {
		t.Errorf("log %q", log)
	}
}

// Shows that a client whose input has ended leaves a container that goes on reading, and that the next one finds it.
func TestAttachLeaves(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, "cat; exit 9")
	c.Stdin = true
	run(t, pod, c)
	for _, word := range []string{"hello", "again"} {
		keys, typed := io.Pipe()
		stdout, done := newScreen(), make(chan error, 1)
		go func() {
			exit, err := pod.Attach(t.Context(), c.ID, shim.Stdio{Stdin: keys, Stdout: stdout}, nil)
			if exit.Code != 0 {
				t.Errorf("exit %+v of a container that runs", exit)
			}
			done <- err
		}()
		_, _ = io.WriteString(typed, word+"\n")
		stdout.await(t, word)
		_ = typed.Close()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if log := shimtest.Log(t, c); log != "hello\nagain\n" {
		t.Errorf("log %q", log)
	}
	if err := pod.Kill(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	shimtest.AwaitExit(t, pod, c.ID)
}

// Shows that a container with a terminal can be attached to more than once, and resized.
func TestAttachTerminal(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, "")
	c.Spec.Process.Args = []string{"sh"}
	c.Stdin, c.TTY = true, true
	run(t, pod, c)
	for i := range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		keys, typed := io.Pipe()
		out, done := newScreen(), make(chan error, 1)
		go func() {
			_, err := pod.Attach(ctx, c.ID, shim.Stdio{Stdin: keys, Stdout: out}, nil)
			done <- err
		}()
		if err := pod.Resize(t.Context(), c.ID, shim.Size{Width: uint16(100 + i), Height: 30}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(typed, "stty size\n")
		out.await(t, fmt.Sprintf("30 %d", 100+i))
		cancel()
		<-done
		_ = typed.Close()
	}
	if err := pod.Kill(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if status := shimtest.AwaitExit(t, pod, c.ID); status.ExitCode != 137 {
		t.Errorf("status %+v", status)
	}
}

// Shows that containers of a pod share its network, host name, System V and POSIX shared memory, but neither processes nor files.
func TestPodNamespaces(t *testing.T) {
	pod, rootfs := shimtest.Launch(t, shim.PodConfig{Hostname: "together", Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}}), shimtest.Rootfs(t)
	a, b := shimtest.ContainerIn(t, rootfs, "echo x > /dev/shm/x; nc -l -p 8080 -e echo hi"), shimtest.Container(t, "sleep 1000")
	run(t, pod, a)
	run(t, pod, b)
	got := execIn(t, pod, b.ID, "until [ -s /dev/shm/x ] && nc 127.0.0.1 8080; do sleep 0.01; done; hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ps | grep -c '[n]c -l' || true")
	if want := "hi\ntogether\n0\n0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	config := shim.PodConfig{Sysctls: map[string]string{"kernel.panic": "1"}}
	shimtest.Fill(t, &config)
	if _, err := shim.Launch(t.Context(), shimtest.Binary(t), config); err == nil || !strings.Contains(err.Error(), "kernel.panic") {
		t.Errorf("a sysctl of the whole host: %v", err)
	}
}

// Shows that with a shared PID namespace containers see each other's processes, orphans are reaped, and one container's end leaves
// nothing of it behind while the other goes on.
func TestSharedProcessNamespace(t *testing.T) {
	pod, rootfs := shimtest.Launch(t, shim.PodConfig{ShareProcessNamespace: true}), shimtest.Rootfs(t)
	a, b := shimtest.ContainerIn(t, rootfs, "sleep 3000 & exec sleep 4000"), shimtest.ContainerIn(t, rootfs, "sleep 1000")
	run(t, pod, a)
	run(t, pod, b)
	if out := execIn(t, pod, b.ID, "until ps -o args | grep -q '^sleep 3000'; do :; done; tr '\\0' ' ' < /proc/1/cmdline"); out != "pause pause" {
		t.Errorf("first process: %q", out)
	}
	execIn(t, pod, b.ID, "(sleep 0.01 & ) ; while ps -o args | grep -q '^sleep 0.01'; do :; done; n=0; while ps -o stat | grep -q Z; do n=$((n+1)); [ $n -lt 500 ] || exit 1; done")
	var leak bytes.Buffer
	exit, err := pod.Exec(t.Context(), b.ID, shim.ExecConfig{Args: []string{"sh", "-c", "ls /proc/1/root/ || cat /proc/1/exe"}}, shim.Stdio{Stdout: &leak}, nil)
	if err != nil || exit.Code == 0 || leak.Len() != 0 {
		t.Errorf("a container looked into the first process: exit %+v, %v, %d bytes", exit, err, leak.Len())
	}
	if err := pod.Signal(t.Context(), a.ID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	shimtest.AwaitExit(t, pod, a.ID)
	if out := execIn(t, pod, b.ID, "ps -o args | grep '^sleep [34]000' || echo none"); out != "none" {
		t.Errorf("left behind: %q", out)
	}
}

// Shows that a container with a target sees the target's processes, and that one whose target does not run is refused.
func TestTarget(t *testing.T) {
	pod, rootfs := shimtest.Launch(t, shim.PodConfig{}), shimtest.Rootfs(t)
	target := shimtest.ContainerIn(t, rootfs, "exec sleep 4711")
	run(t, pod, target)
	debug := shimtest.ContainerIn(t, rootfs, "until tr '\\0' ' ' < /proc/1/cmdline | grep '^sleep 4711'; do :; done")
	debug.TargetID = target.ID
	if status := finishes(t, pod, debug); status.ExitCode != 0 {
		t.Errorf("ended %+v: %s", status, shimtest.Log(t, debug))
	}
	if err := pod.Kill(t.Context(), target.ID); err != nil {
		t.Fatal(err)
	}
	shimtest.AwaitExit(t, pod, target.ID)
	late := shimtest.ContainerIn(t, rootfs, "true")
	late.TargetID = target.ID
	if err := pod.Create(t.Context(), late); !errors.Is(err, shim.ErrNotRunning) {
		t.Errorf("a container whose target has ended: %v", err)
	}
}

// Shows that a specification's hooks are run, in order, and are told which container they are for: the host's programs, as CDI's are.
func TestHooks(t *testing.T) {
	pod, told := shimtest.Launch(t, shim.PodConfig{}), filepath.Join(t.TempDir(), "told")
	c := shimtest.Container(t, "cat /from-hook")
	c.Spec.Annotations = map[string]string{"example.org/device": "d0"}
	hook := func(name, also string) []specs.Hook {
		script := "grep -q '\"id\":\"" + c.ID + "\".*\"example.org/device\":\"d0\"' && echo " + name + " >> " + told + also
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}}}
	}
	c.Spec.Hooks = &specs.Hooks{
		CreateRuntime: hook("createRuntime", ""), CreateContainer: hook("createContainer", "; echo hello > "+c.Spec.Root.Path+"/from-hook"),
		Poststop: hook("poststop", ""),
	}
	if status := finishes(t, pod, c); status.ExitCode != 0 || shimtest.Log(t, c) != "hello\n" {
		t.Errorf("ended %+v: %s", status, shimtest.Log(t, c))
	}
	if err := pod.Delete(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(told); err != nil || string(data) != "createRuntime\ncreateContainer\npoststop\n" {
		t.Errorf("told %q, %v", data, err)
	}
	c = shimtest.ContainerIn(t, c.Spec.Root.Path, "true")
	c.Spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/false"}}}
	if err := pod.Create(t.Context(), c); err == nil {
		t.Error("a container was made although its hook failed")
	}
}

// Shows that with the host's PID namespace a container's end takes its background processes along, too.
func TestHostProcessNamespace(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{HostPID: true})
	c := shimtest.Container(t, "sleep 3000 & (sleep 3000 &) ; echo $$; exit 0")
	status := finishes(t, pod, c)
	if got := strings.TrimSpace(shimtest.Log(t, c)); got != itoa(status.PID) {
		t.Errorf("the container sees its process as %s, the host as %d", got, status.PID)
	}
	if left := groups(t, pod); len(left) != 0 {
		t.Errorf("processes left: %v", left)
	}
}

// Shows that podshim collects the orphans of containers that have no PID namespace of their own.
func TestOrphansAreCollected(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{HostPID: true})
	c := shimtest.Container(t, "sleep 1000")
	run(t, pod, c)
	orphan := fmt.Sprintf("ps -o ppid,stat,args | grep -q '^ *%d [A-Z]* *sleep 0.02'", pod.PID())
	for range 5 {
		execIn(t, pod, c.ID, "(sleep 0.02 &) ; until "+orphan+"; do (sleep 0.02 &) ; done")
	}
	zombie := fmt.Sprintf("ps -o ppid,stat | grep -q '^ *%d Z'", pod.PID())
	execIn(t, pod, c.ID, "n=0; while "+orphan+" || "+zombie+"; do n=$((n+1)); [ $n -lt 500 ] || exit 1; done")
}

// Shows that a pod on the host's network has the host's name and network, and that setting them is refused or ignored.
func TestHostNetwork(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{HostNetwork: true, Hostname: "ignored"})
	c := shimtest.Container(t, "hostname; readlink /proc/self/ns/net")
	finishes(t, pod, c)
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := shimtest.Log(t, c), name+"\n"+ns+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Shows that Dial connects inside the pod, says when nobody listens, and takes no names.
func TestDial(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, "echo up; nc -l -p 7000 -e cat")
	run(t, pod, c)
	execIn(t, pod, c.ID, "until grep -q :1B58 /proc/net/tcp /proc/net/tcp6; do sleep 0.01; done")
	conn, err := pod.Dial(t.Context(), "tcp", "127.0.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "ping")
	_ = conn.(*net.TCPConn).CloseWrite()
	if data, err := io.ReadAll(conn); err != nil || string(data) != "ping" {
		t.Errorf("echo: %q, %v", data, err)
	}
	if _, err := pod.Dial(t.Context(), "tcp", "127.0.0.1:7001"); !errors.Is(err, shim.ErrRefused) {
		t.Errorf("closed port: %v", err)
	}
	if _, err := pod.Dial(t.Context(), "tcp", "localhost:7000"); !errors.Is(err, shim.ErrInvalid) {
		t.Errorf("a name: %v", err)
	}
}

// Shows that limits hold, that running out of memory is told from other kills, and that limits can be changed while running.
func TestResources(t *testing.T) {
	pod, rootfs := shimtest.Launch(t, shim.PodConfig{}), shimtest.Rootfs(t)
	limit, pids := int64(32<<20), int64(20)
	hog := shimtest.ContainerIn(t, rootfs, "exec tail /dev/zero")
	hog.Spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	if status := finishes(t, pod, hog); !status.OOMKilled || status.ExitCode != 137 {
		t.Errorf("memory hog: %+v", status)
	}
	bomb := shimtest.ContainerIn(t, rootfs, "for i in $(seq 40); do sleep 1000 & done; sleep 1000")
	bomb.Spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: &pids}
	bomb.Spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	run(t, pod, bomb)
	shimtest.AwaitExit(t, pod, bomb.ID) // the shell gives up when it cannot fork
	calm := shimtest.ContainerIn(t, rootfs, "sleep 1000")
	calm.Spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	run(t, pod, calm)
	more := int64(64 << 20)
	if err := pod.UpdateResources(t.Context(), calm.ID, specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &more}}); err != nil {
		t.Fatal(err)
	}
	stats, err := pod.Stats(t.Context(), calm.ID)
	if err != nil || stats.MemoryLimit != 64<<20 || stats.Pids == 0 || stats.CPUUsage == 0 || stats.OOMKills != 0 {
		t.Errorf("stats %+v, %v", stats, err)
	}
	execIn(t, pod, calm.ID, "echo > /dev/null") // updating must not take devices away
	if err := pod.Kill(t.Context(), calm.ID); err != nil {
		t.Fatal(err)
	}
	if status := shimtest.AwaitExit(t, pod, calm.ID); status.OOMKilled {
		t.Errorf("killed, not out of memory: %+v", status)
	}
	if _, err := pod.Stats(t.Context(), "other"); !errors.Is(err, shim.ErrNotFound) {
		t.Errorf("stats of nothing: %v", err)
	}
	_ = cgroup.V1
}

// Shows that an oom_score_adj below what the kernel lets us set does not keep a container from starting.
func TestOOMScore(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	for _, adj := range []int{-998, 1000} {
		c := shimtest.Container(t, "cat /proc/self/oom_score_adj")
		c.Spec.Process.OOMScoreAdj = &adj
		if status := finishes(t, pod, c); status.ExitCode != 0 {
			t.Errorf("adj %d: %+v", adj, status)
		}
		if got, _ := strconv.Atoi(strings.TrimSpace(shimtest.Log(t, c))); got < adj {
			t.Errorf("adj %d became %d", adj, got)
		}
	}
}
