/* SPDX-License-Identifier: MIT */

/* The world of one test: its directory, its ipcd, its memory; see harness.h. */

#include "integration/harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "integration/harness_internal.h"

enum { LOG_SHOWN_MAX = 8192 };

struct server server;

static struct {
	void **kept;
	size_t n_kept, capacity;
	int fds[1024];
	size_t n_fds;
	pid_t children[64];
	size_t n_children;
	int n_own_fds;
} world;

void fail_at(struct place at, const char *format, ...)
{
	char text[4096];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	print_error("%s\n", text);
	_fail(at.file, at.line);
	abort(); /* not reached, but nobody told the compiler */
}

void *keep(void *allocated)
{
	if (world.n_kept == world.capacity) {
		world.capacity = world.capacity ? world.capacity * 2 : 64;
		world.kept = realloc(world.kept, world.capacity * sizeof(*world.kept));
	}
	if (!world.kept || !allocated)
		fail_at(HERE, "no memory");
	world.kept[world.n_kept++] = allocated;
	return allocated;
}

char *keep_printf(const char *format, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	return keep(text);
}

int keep_fd_at(struct place at, int fd)
{
	if (fd < 0)
		fail_at(at, "no descriptor: %s", strerror(errno));
	if (world.n_fds == ARRAY_SIZE(world.fds)) {
		close(fd);
		fail_at(at, "too many descriptors");
	}
	world.fds[world.n_fds++] = fd;
	return fd;
}

void close_kept(int fd)
{
	size_t i = 0;

	while (i < world.n_fds && world.fds[i] != fd)
		i++;
	if (i == world.n_fds)
		fail_at(HERE, "%d is not kept", fd);
	world.fds[i] = world.fds[--world.n_fds];
	close(fd);
}

static void close_all_kept(void)
{
	while (world.n_fds)
		close(world.fds[--world.n_fds]);
}

size_t keep_mark(void)
{
	return world.n_kept;
}

void keep_release(size_t mark)
{
	while (world.n_kept > mark)
		free(world.kept[--world.n_kept]);
}

static void free_kept(void)
{
	keep_release(0);
	free(world.kept);
	world.kept = NULL;
	world.capacity = 0;
}

uint64_t wait_deadline(void)
{
	return deadline_after(clock_ns(CLOCK_MONOTONIC), DEADLINE_MS);
}

bool wait_again(uint64_t deadline_ns)
{
	poll(NULL, 0, 2);
	return clock_ns(CLOCK_MONOTONIC) < deadline_ns;
}

int wait_left_ms(uint64_t deadline_ns)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	return now >= deadline_ns ? 0 : (int)((deadline_ns - now) / NS_PER_MS) + 1;
}

/* ---- files ---- */

char *read_file(const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t size = 0;

	if (!file)
		return keep_printf("%s", "");
	if (getdelim(&text, &size, '\0', file) < 0 && text)
		text[0] = '\0';
	fclose(file);
	return text ? keep(text) : keep_printf("%s", "");
}

char *server_read_log(void)
{
	return read_file(server.log);
}

int log_count(const char *text)
{
	char *line = server_read_log(), *next;
	int n = 0;

	for (; *line; line = next) {
		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		n += strstr(line, text) != NULL;
	}
	return n;
}

/* Timers are opened when first needed, and stay. */
static bool is_counted(int dir_fd, const char *name)
{
	static const char timer[] = "anon_inode:[timerfd]";
	char target[64];
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target));

	return n > 0 &&
	       ((size_t)n != strlen(timer) || memcmp(target, timer, (size_t)n) != 0);
}

static int count_fds(pid_t pid)
{
	char path[64];
	struct dirent *entry;
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir)
		return -1;
	while ((entry = readdir(dir)))
		n += entry->d_name[0] != '.' && is_counted(dirfd(dir), entry->d_name);
	closedir(dir);
	return pid == getpid() ? n - 1 : n; /* not the one of this directory */
}

int server_count_fds(void)
{
	return count_fds(server.pid);
}

static int remove_entry(const char *path, const struct stat *st, int type,
			struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void make_directory(void)
{
	const char *base = getenv("TMPDIR");

	server.dir = keep_printf("%s/ipcd-test.XXXXXX", base && *base ? base : "/tmp");
	if (!mkdtemp(server.dir) || chmod(server.dir, 0755) < 0)
		fail_at(HERE, "mkdtemp %s: %s", server.dir, strerror(errno));
	server.socket = keep_printf("%s/socket", server.dir);
	server.state = keep_printf("%s/state", server.dir);
	server.log = keep_printf("%s/log", server.dir);
}

/* ---- processes ---- */

const char *server_program(void)
{
	const char *program = getenv("IPC_TEST_DAEMON");

	return program && *program ? program : "build/release/ipcd";
}

bool server_is_sanitized(void)
{
	static const char mark[] = "san_init"; /* __asan_init, __tsan_init */
	FILE *file = fopen(server_program(), "re");
	size_t matched = 0;
	int c;

	if (!file)
		fail_at(HERE, "%s: %s", server_program(), strerror(errno));
	while (matched < sizeof(mark) - 1 && (c = getc(file)) != EOF)
		matched = c == mark[matched] ? matched + 1 : c == mark[0];
	fclose(file);
	return matched == sizeof(mark) - 1;
}

static void remember_child(pid_t pid)
{
	if (world.n_children == ARRAY_SIZE(world.children))
		fail_at(HERE, "too many children");
	world.children[world.n_children++] = pid;
}

static void forget_child(pid_t pid)
{
	for (size_t i = 0; i < world.n_children; i++)
		if (world.children[i] == pid)
			world.children[i] = world.children[--world.n_children];
}

pid_t fork_child(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		fail_at(HERE, "fork: %s", strerror(errno));
	if (pid > 0) {
		remember_child(pid);
		return pid;
	}
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(127);
	return 0;
}

pid_t server_spawn(const char *const *arguments, const char *log, int *ret_ready)
{
	char ready_text[16];
	const char *argv[64] = { "ipcd" };
	int ready[2] = { -1, -1 }, n = 1;
	pid_t pid;

	while (*arguments && n < 60)
		argv[n++] = *arguments++;
	if (ret_ready && pipe2(ready, O_CLOEXEC) < 0)
		fail_at(HERE, "pipe: %s", strerror(errno));
	if (ret_ready) {
		snprintf(ready_text, sizeof(ready_text), "%d", ready[1]);
		argv[n++] = "--ready-fd";
		argv[n++] = ready_text;
	}
	pid = fork_child();
	if (!pid) {
		int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
		int in = open("/dev/null", O_RDONLY);

		if (ret_ready)
			fcntl(ready[1], F_SETFD, 0);
		if (dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(out, 2) == 2) {
			if (out > 2)
				close(out);
			if (in > 2)
				close(in);
			execv(server_program(), (char **)(uintptr_t)argv);
		}
		fprintf(stderr, "%s: %s\n", server_program(), strerror(errno));
		_exit(127);
	}
	fd_close(ready[1]);
	if (ret_ready)
		*ret_ready = ready[0];
	return pid;
}

bool server_wait_ready(int ready)
{
	uint64_t end = wait_deadline();
	struct pollfd pollfd = { .fd = ready, .events = POLLIN };
	char text[16];
	size_t size = 0;
	ssize_t n = 0;

	while (size < sizeof(text) && poll(&pollfd, 1, wait_left_ms(end)) == 1) {
		n = read(ready, text + size, sizeof(text) - size);
		if (n <= 0)
			break;
		size += (size_t)n;
	}
	close(ready);
	return n == 0 && size == 6 && !memcmp(text, "READY\n", 6);
}

void server_start(struct place at, const char *const *options)
{
	const char *arguments[48] = { "--socket", server.socket, "--state",
				      server.state };
	int n = 4, ready;

	for (int i = 0; options[i]; i++)
		if (!strcmp(options[i], "--volatile"))
			n = 2;
	while (*options && n < 47)
		arguments[n++] = *options++;
	server.pid = server_spawn(arguments, server.log, &ready);
	if (!server_wait_ready(ready))
		fail_at(at, "%s did not get ready", server_program());
	server.n_fds = server_count_fds();
}

int wait_exit_at(struct place at, pid_t pid)
{
	struct pollfd pollfd = { .events = POLLIN };
	int status, n;

	pollfd.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	n = poll(&pollfd, 1, DEADLINE_MS);
	fd_close(pollfd.fd);
	if (n != 1)
		fail_at(at, "process %d does not end", (int)pid);
	if (waitpid(pid, &status, 0) != pid)
		fail_at(at, "waitpid %d: %s", (int)pid, strerror(errno));
	forget_child(pid);
	return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

void server_stop(struct place at)
{
	pid_t pid = server.pid;
	int status;

	kill(pid, SIGTERM);
	status = wait_exit_at(at, pid);
	server.pid = 0;
	if (status)
		fail_at(at, "ipcd ended with status %d", status);
}

/* All before the first is waited for: one may hang until another has gone. */
static void kill_children(void)
{
	for (size_t i = 0; i < world.n_children; i++)
		kill(world.children[i], SIGKILL);
	while (world.n_children)
		waitpid(world.children[--world.n_children], NULL, 0);
}

/* ---- set-up and teardown ---- */

static void check_log_line(const char *line, size_t size)
{
	static const char *const reports[] = { "Sanitizer", "runtime error:" };

	for (size_t i = 0; i < ARRAY_SIZE(reports); i++)
		if (memmem(line, size, reports[i], strlen(reports[i])))
			fail_at(HERE, "a sanitizer reports: %.*s", (int)size, line);
	if (size < 4 || line[0] != '<' || line[1] < '0' || line[1] > '7' ||
	    line[2] != '>')
		fail_at(HERE, "a log line without priority: %.*s", (int)size, line);
	if (!utf8_is_valid(line, size))
		fail_at(HERE, "a log line is not UTF-8: %.*s", (int)size, line);
	for (size_t i = 0; i < size; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			fail_at(HERE, "a control character in the log: %.*s", (int)size,
				line);
}

static void check_log(void)
{
	const char *line = server_read_log();

	while (*line) {
		size_t size = strcspn(line, "\n");

		check_log_line(line, size);
		line += size + (line[size] == '\n');
	}
}

/* The runner shows this only if something failed. */
static void show_log(void)
{
	const char *log = server_read_log();
	size_t size = strlen(log);

	if (size > LOG_SHOWN_MAX)
		log += size - LOG_SHOWN_MAX;
	if (size)
		print_message("---- ipcd's log\n%s----\n", log);
}

static bool server_fds_are_back(void)
{
	return server_count_fds() == server.n_fds;
}

static void check_server_fds(void)
{
	uint64_t end = wait_deadline();

	while (!server_fds_are_back())
		if (!wait_again(end))
			fail_at(HERE, "%d descriptors open in ipcd, %d at the start",
				server_count_fds(), server.n_fds);
}

/* Also what a teardown left that has failed half-way. */
static void clean_up(void)
{
	clients_close_all();
	kill_children();
	close_all_kept();
	if (server.dir)
		nftw(server.dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	memset(&server, 0, sizeof(server));
	free_kept();
}

int harness_setup(void **state)
{
	static bool registered;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	if (!registered)
		registered = atexit(clean_up) == 0;
	clean_up();
	world.n_own_fds = count_fds(getpid());
	make_directory();
	return 0;
}

int harness_teardown(void **state)
{
	int n_own_fds;

	(void)state;
	clients_close_all();
	show_log();
	if (server.pid) {
		check_server_fds();
		stop();
		check_log();
	}
	clean_up();
	n_own_fds = count_fds(getpid());
	if (n_own_fds != world.n_own_fds)
		fail_at(HERE, "%d descriptors open in the test, %d before it", n_own_fds,
			world.n_own_fds);
	return 0;
}
