package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"bareboat.dev/integration/vm/plan"
)

// KVMVariable names the environment variable that, if set, has the processor's own virtualization used. It is not looked for: on virtual
// machines /dev/kvm often is there and hangs.
const KVMVariable = "BAREBOAT_TEST_KVM"

// Machine is a virtual machine that has not been started.
type Machine struct {
	// Kernel, Initramfs and Disk are files. The disk is changed.
	Kernel, Initramfs, Disk string
	// CPUs and Memory (MiB) are its size.
	CPUs, Memory int
	// Arguments are added to the kernel's command line.
	Arguments []string
	// Console is the file that the kernel's messages go to.
	Console string
}

// Result is how a job ended.
type Result struct {
	plan.Line
	Output string
}

// Run starts the machine and returns when it has turned itself off. follow, which may be nil, is given each line as it comes.
func (m Machine) Run(ctx context.Context, follow func(plan.Line)) ([]Result, error) {
	fifo := filepath.Join(filepath.Dir(m.Disk), "report")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		return nil, err
	}
	defer os.Remove(fifo)
	// Opened for both directions, so that opening waits for nobody; what ends the reading is QEMU's end.
	report, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer report.Close()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", m.arguments(fifo)...)
	var complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &complaints, &complaints
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	results := make(chan []Result, 1)
	go func() { results <- collect(report, follow) }()
	err = cmd.Run()
	_, _ = io.WriteString(report, "\n"+endOfReport+"\n")
	got := <-results
	if err != nil {
		return got, fmt.Errorf("qemu-system-x86_64 (Debian: apt-get install qemu-system-x86): %w: %s", err, complaints.String())
	}
	return got, nil
}

// endOfReport is what follows the machine's last word.
const endOfReport = "{}"

func (m Machine) arguments(report string) []string {
	accel, cpu := "tcg,thread=multi", "max"
	if os.Getenv(KVMVariable) != "" {
		accel, cpu = "kvm", "host"
	}
	line := append([]string{"console=ttyS0", "quiet", "panic=-1", "rdinit=/init"}, m.Arguments...)
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35", "-accel", accel, "-cpu", cpu,
		"-smp", strconv.Itoa(m.CPUs), "-m", strconv.Itoa(m.Memory),
		"-kernel", m.Kernel, "-initrd", m.Initramfs, "-append", strings.Join(line, " "),
		"-drive", "file=" + m.Disk + ",format=raw,if=virtio,cache=unsafe",
		"-serial", "file:" + m.Console, "-chardev", "file,id=report,path=" + report, "-serial", "chardev:report",
	}
}

// collect reads what the machine reports, until endOfReport.
func collect(r io.Reader, follow func(plan.Line)) []Result {
	var all []Result
	output := map[string]*strings.Builder{}
	lines := bufio.NewReader(r)
	for {
		text, err := lines.ReadString('\n')
		if err != nil || strings.TrimSpace(text) == endOfReport {
			return all
		}
		var line plan.Line
		if json.Unmarshal([]byte(text), &line) != nil || line.Job == "" {
			continue
		}
		if follow != nil {
			follow(line)
		}
		b := output[line.Job]
		if b == nil {
			b = &strings.Builder{}
			output[line.Job] = b
		}
		if !line.Ended {
			b.WriteString(line.Output + "\n")
			continue
		}
		all = append(all, Result{Line: line, Output: b.String()})
	}
}
