package runspec

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// DefaultSeccomp is the filter of type RuntimeDefault: everything is allowed but the system calls that reach past the
// container, each group of which is allowed again to who has the capability that the kernel asks for it anyway.
func DefaultSeccomp(caps []string) *specs.LinuxSeccomp {
	deny := uint(unix.EPERM)
	filter := &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32},
	}
	if nativeArm {
		filter.Architectures = []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	}
	for _, g := range guarded() {
		if g.cap == "" || !slices.Contains(caps, g.cap) {
			filter.Syscalls = append(filter.Syscalls,
				specs.LinuxSyscall{Names: g.calls, Action: specs.ActErrno, ErrnoRet: &deny})
		}
	}
	if !slices.Contains(caps, "CAP_SYS_ADMIN") {
		filter.Syscalls = append(filter.Syscalls, denyNamespaces(deny)...)
	}
	return filter
}

// guard is a group of system calls and the capability that allows them; empty if none does.
type guard struct {
	cap   string
	calls []string
}

// guarded are the system calls that act on the host, the kernel or other containers (seccomp(2), capabilities(7)).
func guarded() []guard {
	return []guard{
		{"CAP_SYS_ADMIN", []string{"mount", "umount", "umount2", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick",
			"mount_setattr", "pivot_root", "setns", "unshare", "swapon", "swapoff", "quotactl", "quotactl_fd", "lookup_dcookie",
			"fanotify_init", "sethostname", "setdomainname", "name_to_handle_at"}},
		{"CAP_SYS_MODULE", []string{"init_module", "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms"}},
		{"CAP_SYS_BOOT", []string{"reboot", "kexec_load", "kexec_file_load"}},
		{"CAP_SYS_TIME", []string{"settimeofday", "stime", "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64", "adjtimex"}},
		{"CAP_SYS_PACCT", []string{"acct"}},
		{"CAP_SYS_RAWIO", []string{"iopl", "ioperm"}},
		{"CAP_SYSLOG", []string{"syslog"}},
		{"CAP_BPF", []string{"bpf"}},
		{"CAP_PERFMON", []string{"perf_event_open"}},
		{"CAP_DAC_READ_SEARCH", []string{"open_by_handle_at"}},
		{"CAP_SYS_NICE", []string{"mbind", "set_mempolicy", "get_mempolicy", "migrate_pages", "move_pages"}},
		{"CAP_SYS_PTRACE", []string{"userfaultfd", "kcmp"}},
		{"", []string{"add_key", "request_key", "keyctl", "uselib", "ustat", "sysfs", "_sysctl", "nfsservctl", "vm86", "vm86old",
			"io_uring_setup", "io_uring_enter", "io_uring_register"}},
	}
}

// denyNamespaces keeps clone from making namespaces. clone3 hides its flags from filters, so it is said not to exist, and
// the C library falls back to clone.
func denyNamespaces(deny uint) []specs.LinuxSyscall {
	missing := uint(unix.ENOSYS)
	calls := []specs.LinuxSyscall{{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &missing}}
	for _, flag := range []uint64{unix.CLONE_NEWNS, unix.CLONE_NEWUTS, unix.CLONE_NEWIPC, unix.CLONE_NEWUSER, unix.CLONE_NEWPID,
		unix.CLONE_NEWNET, unix.CLONE_NEWCGROUP} {
		calls = append(calls, specs.LinuxSyscall{
			Names: []string{"clone"}, Action: specs.ActErrno, ErrnoRet: &deny,
			Args: []specs.LinuxSeccompArg{{Index: 0, Value: flag, ValueTwo: flag, Op: specs.OpMaskedEqual}},
		})
	}
	return calls
}
