// The first process of a pod's shared PID namespace: it reaps orphans and otherwise sleeps, for a few dozen KiB. It runs before the Go
// runtime starts, and never lets it.
//
// Containers of the namespace see it in /proc, and one that may trace processes can make it do whatever it can do itself. So it can do
// nothing: it leaves the host's file system, is nobody, has no capability and can get none, and the kernel lets it wait and no more.

#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave_host_files(void)
{
	if (mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("pause", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, "size=4k") < 0 ||
	    chdir("/proc") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		_exit(70);
}

#define READY 4 /* where podshim hears that this process is harmless: the second of its extra files */
#define NOBODY 65534

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

// What whoever takes this process over may still call.
static void only_wait(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
		REFUSE,
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(rt_sigtimedwait),
		ALLOW(wait4),
		ALLOW(rt_sigreturn),
		ALLOW(restart_syscall),
		// Of this process's own start; without a descriptor they are good for nothing.
		ALLOW(write),
		ALLOW(close_range),
		ALLOW(exit_group),
		REFUSE,
	};
	struct sock_fprog program = { .len = sizeof(filter) / sizeof(filter[0]), .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(73);
}

static void drop_privileges(void)
{
	int cap;

	for (cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			_exit(74);
	// Of this process, which has one thread, not of glibc's idea of it; the change of user takes all capabilities along.
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, NOBODY, NOBODY, NOBODY) < 0 ||
	    syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY) < 0)
		_exit(75);
	// The kernel has forgotten the first, and may have set the second, with the change of user.
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		_exit(76);
}

static void on_signal(int sig)
{
	(void)sig;
}

__attribute__((constructor)) static void pause_init(int argc, char **argv)
{
	sigset_t all;
	struct sigaction action = { .sa_handler = on_signal };

	if (argc != 2 || strcmp(argv[0], "pause") != 0 || strcmp(argv[1], "pause") != 0 || getpid() != 1)
		return;
	leave_host_files();
	drop_privileges();
	sigaction(SIGCHLD, &action, NULL);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	only_wait();
	// Nobody to tell: podshim died before its death was ours.
	if (write(READY, "x", 1) != 1 || syscall(SYS_close_range, 0, ~0U, 0) < 0)
		_exit(71);
	for (;;) {
		int got;

		sigwait(&all, &got);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}
