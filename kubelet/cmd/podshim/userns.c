// A pod with a user namespace of its own. podshim stays in the host's, since it mounts and makes control groups; but the pod's network,
// host name and IPC must belong to the pod's user namespace, or its root could do nothing with them. So a child makes the four, and
// podshim enters all but the user namespace: here, before the Go runtime starts, while there is one thread to move. It keeps a
// descriptor of the user namespace for the containers to join.

#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define VARIABLE "PODSHIM_USERNS"	/* "<first id on the host> <count>", from shim.Launch */
#define DESCRIPTOR 100			/* shim.UserNSDescriptor; nothing that early is given so high a number */
#define FAILED 72

static void fail(const char *what)
{
	fprintf(stderr, "podshim: user namespace: %s: %m\n", what);
	_exit(FAILED);
}

static void await(int fd)
{
	char c;

	if (read(fd, &c, 1) != 1)
		_exit(FAILED);
}

static void tell(int fd)
{
	if (write(fd, "x", 1) != 1)
		_exit(FAILED);
}

static void write_map(pid_t child, const char *file, const char *map)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", child, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, map, strlen(map)) != (ssize_t)strlen(map))
		fail(file);
	close(fd);
}

static int open_ns(pid_t child, const char *kind)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", child, kind);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail(kind);
	return fd;
}

static void enter(pid_t child, const char *kind, int type)
{
	int fd = open_ns(child, kind);

	if (setns(fd, type) < 0)
		fail(kind);
	close(fd);
}

// The child: makes the namespaces as their root, says so, and waits to be no longer needed.
static void make_namespaces(int up, int down)
{
	if (unshare(CLONE_NEWUSER) < 0)
		fail("unshare");
	tell(up);
	await(down); // now it is mapped
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		fail("become its root");
	if (unshare(CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC) < 0)
		fail("unshare in it");
	tell(up);
	await(down);
	_exit(0);
}

__attribute__((constructor)) static void userns_init(int argc, char **argv)
{
	char *value = getenv(VARIABLE), map[64];
	unsigned int first, count;
	int up[2], down[2], fd;
	pid_t child;

	(void)argv;
	if (argc != 2 || !value)
		return;
	if (sscanf(value, "%u %u", &first, &count) != 2 || first == 0 || count == 0)
		fail("malformed " VARIABLE);
	unsetenv(VARIABLE);
	if (pipe2(up, O_CLOEXEC) < 0 || pipe2(down, O_CLOEXEC) < 0)
		fail("pipe");
	child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		close(up[0]);
		close(down[1]);
		make_namespaces(up[1], down[0]);
	}
	close(up[1]);
	close(down[0]);
	await(up[0]);
	snprintf(map, sizeof(map), "0 %u %u\n", first, count);
	write_map(child, "uid_map", map);
	write_map(child, "gid_map", map);
	tell(down[1]);
	await(up[0]);
	fd = open_ns(child, "user");
	if (dup3(fd, DESCRIPTOR, O_CLOEXEC) < 0)
		fail("keep it");
	close(fd);
	enter(child, "net", CLONE_NEWNET);
	enter(child, "uts", CLONE_NEWUTS);
	enter(child, "ipc", CLONE_NEWIPC);
	close(up[0]);
	close(down[1]); // which ends the child
	waitpid(child, NULL, 0);
}
