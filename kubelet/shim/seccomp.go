package shim

import (
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// DefaultSeccomp is the profile that Kubernetes calls RuntimeDefault: system calls that no ordinary program needs, and
// that reach into the kernel's less trodden parts, fail with EPERM (or ENOSYS, when a program would otherwise not fall back to an older one).
// Capabilities that the container has open the calls that go with them: caps are those in its bounding set.
//
// The list is of what is allowed, by purpose, so that a call that a future kernel adds is refused until somebody has looked at it.
func DefaultSeccomp(caps []string) *specs.LinuxSeccomp {
	eperm, enosys := uint(unix.EPERM), uint(unix.ENOSYS)
	profile := &specs.LinuxSeccomp{
		DefaultAction:   specs.ActErrno,
		DefaultErrnoRet: &eperm,
		Architectures:   seccompArchitectures(),
		Syscalls: []specs.LinuxSyscall{
			{Names: ordinarySyscalls(), Action: specs.ActAllow},
			personality(), socketFamilies(),
		},
	}
	for _, group := range capabilitySyscalls() {
		if slices.Contains(caps, group.capability) {
			profile.Syscalls = append(profile.Syscalls, specs.LinuxSyscall{Names: group.names, Action: specs.ActAllow})
		}
	}
	if !slices.Contains(caps, "CAP_SYS_ADMIN") {
		profile.Syscalls = append(profile.Syscalls,
			cloneWithoutNamespaces(),
			// Its flags are behind a pointer, where no filter can look: as if it did not exist, so that the C library uses clone.
			specs.LinuxSyscall{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &enosys})
	}
	return profile
}

// seccompArchitectures are this machine's and the 32-bit one that its kernel also runs; a program for any other, x32 among them, is
// killed. The filter costs some 10 ms at every start, since libseccomp makes it anew; each architecture is a part of that.
func seccompArchitectures() []specs.Arch {
	switch runtime.GOARCH {
	case "amd64":
		return []specs.Arch{specs.ArchX86_64, specs.ArchX86}
	case "arm64":
		return []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	default:
		return nil // libseccomp's native one
	}
}

// personality allows the execution domains that programs ask for: Linux, Linux 32-bit, with and without UNAME26, and "what is it".
func personality() specs.LinuxSyscall {
	s := specs.LinuxSyscall{Names: []string{"personality"}, Action: specs.ActAllow}
	for _, domain := range []uint64{0x0, 0x0008, 0x20000, 0x20008, 0xffffffff} {
		s.Args = append(s.Args, specs.LinuxSeccompArg{Index: 0, Value: domain, Op: specs.OpEqualTo})
	}
	return s
}

// socketFamilies allows all but AF_VSOCK, which leads to the hypervisor rather than to the pod's network.
func socketFamilies() specs.LinuxSyscall {
	return specs.LinuxSyscall{
		Names: []string{"socket"}, Action: specs.ActAllow,
		Args: []specs.LinuxSeccompArg{{Index: 0, Value: unix.AF_VSOCK, Op: specs.OpNotEqual}},
	}
}

// cloneWithoutNamespaces allows making processes and threads, but no namespaces.
func cloneWithoutNamespaces() specs.LinuxSyscall {
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID |
		unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP
	return specs.LinuxSyscall{
		Names: []string{"clone"}, Action: specs.ActAllow,
		Args: []specs.LinuxSeccompArg{{Index: 0, Value: namespaces, ValueTwo: 0, Op: specs.OpMaskedEqual}},
	}
}

type capabilityGroup struct {
	capability string
	names      []string
}

// capabilitySyscalls are what a container may call if it has the capability that the kernel asks for anyway.
func capabilitySyscalls() []capabilityGroup {
	return []capabilityGroup{
		{"CAP_DAC_READ_SEARCH", words("open_by_handle_at")},
		{"CAP_SYS_ADMIN", words(`bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_set_self_attr mount
			mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare`)},
		{"CAP_SYS_BOOT", words("reboot")},
		{"CAP_SYS_CHROOT", words("chroot")},
		{"CAP_SYS_MODULE", words("delete_module finit_module init_module")},
		{"CAP_SYS_PACCT", words("acct")},
		{"CAP_SYS_PTRACE", words("kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace")},
		{"CAP_SYS_RAWIO", words("ioperm iopl")},
		{"CAP_SYS_TIME", words("clock_settime clock_settime64 settimeofday stime")},
		{"CAP_SYS_TTY_CONFIG", words("vhangup")},
		{"CAP_SYS_NICE", words("get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node")},
		{"CAP_SYSLOG", words("syslog")},
		{"CAP_BPF", words("bpf")},
		{"CAP_PERFMON", words("perf_event_open")},
	}
}

func words(s string) []string { return strings.Fields(s) }

// ordinarySyscalls are what programs without privileges use. Names that an architecture does not have are passed over.
func ordinarySyscalls() []string {
	return slices.Concat(
		words(`read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 sendfile sendfile64 splice tee vmsplice
			copy_file_range lseek _llseek readahead`),
		// Files and directories.
		words(`open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64 flock fallocate truncate truncate64 ftruncate
			ftruncate64 fsync fdatasync sync syncfs sync_file_range sync_file_range2 arm_sync_file_range access faccessat faccessat2 stat stat64
			lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64 statmount listmount getdents getdents64 mkdir mkdirat rmdir
			mknod mknodat link linkat symlink symlinkat unlink unlinkat rename renameat renameat2 readlink readlinkat chdir fchdir getcwd umask
			chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 utime utimes utimensat utimensat_time64 futimesat
			name_to_handle_at cachestat fadvise64 fadvise64_64 arm_fadvise64_64`),
		words(`getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr llistxattr flistxattr listxattrat
			removexattr lremovexattr fremovexattr removexattrat`),
		// Waiting for things to happen.
		words(`poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait
			epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_settime64
			timerfd_gettime timerfd_gettime64 inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark pipe pipe2`),
		words("io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set"),
		// Memory.
		words(`brk mmap mmap2 munmap mremap mprotect madvise msync mincore mlock mlock2 mlockall munlock munlockall memfd_create memfd_secret
			remap_file_pages membarrier pkey_alloc pkey_free pkey_mprotect map_shadow_stack mseal process_mrelease`),
		// Processes and threads.
		words(`fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid getpgrp setpgid getsid setsid
			kill tkill tgkill pidfd_open pidfd_send_signal prctl arch_prctl set_tid_address set_robust_list get_robust_list rseq
			futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue set_thread_area get_thread_area modify_ldt getrlimit setrlimit
			ugetrlimit prlimit64 getrusage getpriority setpriority nice times getcpu restart_syscall seccomp lsm_get_self_attr lsm_list_modules
			cacheflush set_tls breakpoint uretprobe`),
		words(`sched_yield sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_getattr sched_setattr sched_getaffinity
			sched_setaffinity sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64`),
		words(`rt_sigaction rt_sigprocmask rt_sigpending rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
			rt_sigtimedwait_time64 sigaction sigaltstack signal sigpending sigprocmask sigreturn sigsuspend pause alarm`),
		// Who one is.
		words(`getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32 getgroups
			getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32
			setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset`),
		// Time.
		words(`time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep clock_nanosleep_time64 nanosleep
			getitimer setitimer timer_create timer_delete timer_gettime timer_gettime64 timer_settime timer_settime64 timer_getoverrun
			adjtimex clock_adjtime clock_adjtime64`),
		// Sockets; "socket" itself has a rule of its own.
		words(`socketcall socketpair bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt send sendto
			sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64`),
		// System V and POSIX interprocess communication: the pod's own.
		words(`ipc shmget shmat shmctl shmdt semget semop semctl semtimedop semtimedop_time64 msgget msgctl msgsnd msgrcv mq_open mq_unlink
			mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64`),
		words("ioctl uname olduname oldolduname sysinfo getrandom landlock_create_ruleset landlock_add_rule landlock_restrict_self"),
		words("ptrace process_vm_readv process_vm_writev pidfd_getfd"), // within the container, by the kernel's own rules, since Linux 4.8
	)
}
