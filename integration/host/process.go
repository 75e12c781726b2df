package host

import (
	"bytes"
	"os/exec"
	"strconv"
	"syscall"
)

// Process is a program that runs on a host until it is killed.
type Process struct {
	h      *Host
	args   []string
	cmd    *exec.Cmd
	output *bytes.Buffer
}

// Start starts a program in the background with the host's network and files; programs of this repository are found in build/bin.
// It is not one of the host's processes, so that its id here is the one to signal. It is killed when the test ends.
func (h *Host) Start(name string, args ...string) *Process {
	h.t.Helper()
	p := &Process{h: h, args: append([]string{name}, args...)}
	h.t.Cleanup(p.Kill)
	p.Restart()
	return p
}

// Restart starts the program again, after killing it if it runs.
func (p *Process) Restart() {
	p.h.t.Helper()
	p.Kill()
	name := p.args[0]
	if own := Root() + "/build/bin/" + name; exists(own) {
		name = own
	}
	p.output = &bytes.Buffer{}
	p.cmd = exec.Command("nsenter", append([]string{"--target", strconv.Itoa(p.h.pid), "--mount", "--net", "--uts", "--ipc", "--", name}, p.args[1:]...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.h.t.Fatal(err)
	}
}

// Kill ends the program as a crash would, and returns when it is gone.
func (p *Process) Kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}

// Output is what the program has printed; to be read after Kill.
func (p *Process) Output() string { return p.output.String() }
