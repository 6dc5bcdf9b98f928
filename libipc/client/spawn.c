/* SPDX-License-Identifier: MIT */

/*
 * Twice a new process: the first becomes a session leader, makes the second and ends; so
 * the daemon is nobody's child and can never get a controlling terminal. The first is made
 * by clone(2) without a signal, and so neither SIGCHLD nor wait(2) of the program sees it.
 *
 * Between clone and execve only what is async-signal-safe is called: other threads of the
 * program may hold any lock, signal-safety(7).
 */

#include "client/spawn.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

static const char failed[] = "FAIL ", ready[] = "READY\n";

enum {
	ABOVE_STANDARD = 10, /* descriptors that dup2() to 0..3 cannot hit */
	CLOSE_MAX = 65536,   /* where there is no close_range(2) */
	LINE_MAX_BYTES = 64,
};

/* ---- in the new process ---- */

static _Noreturn void give_up(int ready_fd, int errnum)
{
	char line[LINE_MAX_BYTES];
	size_t n = sizeof(failed) - 1;

	memcpy(line, failed, n);
	n += format_u64(line + n, (uint64_t)errnum);
	line[n++] = '\n';
	(void)!write(ready_fd, line, n);
	_exit(127);
}

static pid_t clone_quietly(void)
{
	/* like fork(2), but no signal at the end; all zeros on every architecture */
	return (pid_t)syscall(SYS_clone, 0, 0, 0, 0, 0);
}

static void reset_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		sigaction(i, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void close_others(void)
{
	struct rlimit limit;
	unsigned int end = CLOSE_MAX;

	if (close_range(SPAWN_READY_FD + 1, UINT_MAX, 0) == 0)
		return;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < end)
		end = (unsigned int)limit.rlim_cur;
	for (unsigned int fd = SPAWN_READY_FD + 1; fd < end; fd++)
		close((int)fd);
}

static _Noreturn void become_daemon(const struct spawn *spawn, const int fds[static 3])
{
	if (dup2(fds[0], STDIN_FILENO) < 0 || dup2(fds[1], STDOUT_FILENO) < 0 ||
	    dup2(fds[1], STDERR_FILENO) < 0 || dup2(fds[2], SPAWN_READY_FD) < 0 ||
	    chdir("/") < 0)
		give_up(fds[2], errno);
	umask(077);
	close_others();
	reset_signals();
	execve(spawn->program, spawn->argv, spawn->envp);
	give_up(SPAWN_READY_FD, errno);
}

static _Noreturn void become_leader(const struct spawn *spawn, const int fds[static 3])
{
	pid_t pid;

	setsid();
	pid = clone_quietly();
	if (pid < 0)
		give_up(fds[2], errno);
	if (pid == 0)
		become_daemon(spawn, fds);
	_exit(0);
}

/* ---- in the program ---- */

/* Handlers of the program must not run in the new process, so no signal comes there before
 * reset_signals(). */
static int clone_and_wait(const struct spawn *spawn, const int fds[static 3])
{
	sigset_t all, before;
	pid_t pid;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = clone_quietly();
	if (pid == 0)
		become_leader(spawn, fds);
	error = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return err_origin(-error);
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	return 0;
}

static int above_standard(int fd)
{
	int above = fcntl(fd, F_DUPFD_CLOEXEC, ABOVE_STANDARD);

	return above < 0 ? err_origin(-errno) : above;
}

static int open_null(void)
{
	_cleanup_fd_ int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	return fd < 0 ? err_origin(-errno) : err_trace(above_standard(fd));
}

int spawn_daemon(const struct spawn *spawn, int *ret_fd)
{
	_cleanup_fd_ int null = open_null();
	_cleanup_fd_ int log =
		null < 0 ? -1 : above_standard(spawn->log_fd < 0 ? null : spawn->log_fd);
	_cleanup_fd_ int from = -1, to_low = -1, to = -1;
	int ends[2], r;

	if (null < 0 || log < 0)
		return err_trace(null < 0 ? null : log);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_origin(-errno);
	from = ends[0];
	to_low = ends[1];
	to = above_standard(to_low);
	if (to < 0)
		return err_trace(to);
	r = clone_and_wait(spawn, (const int[3]){ null, log, to });
	if (r < 0)
		return err_trace(r);
	*ret_fd = TAKE_FD(from);
	return 0;
}

/* 0: not there yet. */
static int wait_readable(int fd, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now = clock_ns(CLOCK_MONOTONIC), ms;

	if (now >= deadline_ns)
		return err_origin(-ETIMEDOUT);
	ms = (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS;
	return poll(&p, 1, ms > INT_MAX ? INT_MAX : (int)ms) > 0;
}

static int parse_line(char *line)
{
	size_t size = strcspn(line, "\n");
	uint64_t errnum;

	if (!strcmp(line, ready))
		return 0;
	line[size] = '\0';
	if (!strncmp(line, failed, sizeof(failed) - 1) &&
	    parse_u64(line + sizeof(failed) - 1, INT_MAX, &errnum) && errnum)
		return err_origin(-(int)errnum);
	return err_origin(-ECHILD);
}

int spawn_wait_ready(int fd, uint64_t deadline_ns)
{
	char line[LINE_MAX_BYTES] = { 0 };
	size_t size = 0;
	ssize_t n;
	int r;

	while (size < sizeof(line) - 1 && !strchr(line, '\n')) {
		r = wait_readable(fd, deadline_ns);
		if (r < 0)
			return err_trace(r);
		n = r ? read(fd, line + size, sizeof(line) - 1 - size) : 0;
		if (r && n == 0)
			break;
		size += n > 0 ? (size_t)n : 0;
	}
	return err_trace(parse_line(line));
}
