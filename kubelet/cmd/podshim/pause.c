// The first process of a pod's shared PID namespace: it reaps orphans and otherwise sleeps, for a few dozen KiB. It runs before the Go
// runtime starts, and never lets it.
//
// Containers of the namespace see it in /proc: it keeps all capabilities, so that only a process that has as many may look into it, and
// leaves the host's file system, so that there is nothing to find if one does.

#define _GNU_SOURCE
#include <signal.h>
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
	if (syscall(SYS_close_range, 0, ~0U, 0) < 0)
		_exit(71);
	sigaction(SIGCHLD, &action, NULL);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (;;) {
		int got;

		sigwait(&all, &got);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}
