package shim_test

import (
	"bytes"
	"testing"

	"bareboat.dev/kubelet/shim"
	"bareboat.dev/kubelet/shim/shimtest"
)

// Shows a container's whole life: created, started, logged, ended with its own exit code, deleted.
func TestLife(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{Hostname: "web-0"})
	c := shimtest.Container(t, "hostname; echo oops >&2; exit 7")
	if err := pod.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	pid, err := pod.Start(t.Context(), c.ID)
	if err != nil || pid == 0 {
		t.Fatalf("start: pid %d, %v", pid, err)
	}
	status := shimtest.AwaitExit(t, pod, c.ID)
	if status.Phase != shim.Exited || status.ExitCode != 7 || status.Signal != 0 || status.OOMKilled {
		t.Errorf("status %+v, want exit code 7", status)
	}
	if got, want := shimtest.Log(t, c), "web-0\noops\n"; got != want {
		t.Errorf("log %q, want %q", got, want)
	}
	if err := pod.Delete(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	state, err := pod.State(t.Context())
	if err != nil || len(state.Containers) != 0 {
		t.Errorf("state %+v, %v; want none", state, err)
	}
	if err := pod.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Shows that an exec'd process has its own streams, environment and exit code.
func TestExec(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, "sleep 1000")
	if err := pod.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := pod.Start(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
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
}
