/* SPDX-License-Identifier: MIT */

/* ipcd as a service manager starts it: passed sockets, notifications, the watchdog. The test
 * is the manager, by the documents: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3). */

#include "integration/harness.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	FDS_MAX = 4,
	FIRST_PASSED = 3, /* where a manager's descriptors begin */
	READY_FD = 60,
	ASIDE = 64,
};

/* ---- the manager ---- */

static struct {
	int listening[FDS_MAX]; /* to pass */
	size_t n;
	int notify; /* what ipcd tells; -1: not asked for */
	char *notify_name;
	const char *names; /* LISTEN_FDNAMES */
	const char *watchdog_usec;
	bool for_another_pid; /* LISTEN_PID and WATCHDOG_PID */
} manager;

static int setup(void **state)
{
	memset(&manager, 0, sizeof(manager));
	manager.notify = -1;
	return harness_setup(state);
}

static int teardown(void **state)
{
	for (size_t i = 0; i < manager.n; i++)
		fd_close(manager.listening[i]);
	fd_close(manager.notify);
	return harness_teardown(state);
}

static void pass(int fd)
{
	assert_true(fd >= 0 && manager.n < FDS_MAX);
	manager.listening[manager.n++] = fd;
}

static int bind_unix(const char *path, int type, int *ret_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t size =
		(size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);

	*ret_fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	return bind(*ret_fd, (const struct sockaddr *)&address,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size));
}

/* A blocking one, as socket units with Accept=no need not be otherwise. */
static int listen_at(const char *path)
{
	int fd;

	assert_int_equal(bind_unix(path, SOCK_STREAM, &fd), 0);
	assert_int_equal(listen(fd, 100), 0);
	return fd;
}

static void set_variable(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

/* In the child: what sd_listen_fds(3) and the others read. */
static void set_environment(void)
{
	char pid[16], n[16];

	snprintf(pid, sizeof(pid), "%d",
		 (int)(manager.for_another_pid ? getppid() : getpid()));
	snprintf(n, sizeof(n), "%zu", manager.n);
	set_variable("LISTEN_PID", pid);
	set_variable("LISTEN_FDS", n);
	set_variable("LISTEN_FDNAMES", manager.names);
	set_variable("NOTIFY_SOCKET", manager.notify_name);
	set_variable("WATCHDOG_USEC", manager.watchdog_usec);
	set_variable("WATCHDOG_PID", pid);
}

/* First all of them out of the way, for any may have a number that another one is to get. */
static void place_descriptors(int ready)
{
	int aside[FDS_MAX],
		log = open(server.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	for (size_t i = 0; i < manager.n; i++)
		aside[i] = fcntl(manager.listening[i], F_DUPFD_CLOEXEC, ASIDE);
	if (dup2(log, 1) < 0 || dup2(log, 2) < 0 || dup2(ready, READY_FD) < 0)
		_exit(126);
	for (size_t i = 0; i < manager.n; i++)
		if (aside[i] >= 0 && dup2(aside[i], FIRST_PASSED + (int)i) < 0)
			_exit(126);
}

/* Starts ipcd; *ret_ready as of server_spawn(). */
static pid_t spawn(int *ret_ready, const char *socket)
{
	const char *argv[] = { "ipcd",	     "--user",	    "--state",
			       server.state, "--log-level", "debug",
			       "--ready-fd", "60",	    socket ? "--socket" : NULL,
			       socket,	     NULL };
	int ready[2];
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork_child();
	if (!pid) {
		place_descriptors(ready[1]);
		set_environment();
		unsetenv("XDG_RUNTIME_DIR");
		execv(server_program(), (char **)(uintptr_t)argv);
		_exit(127);
	}
	close(ready[1]);
	*ret_ready = ready[0];
	return pid;
}

static void activate(const char *socket)
{
	int ready;

	server.pid = spawn(&ready, socket);
	if (!server_wait_ready(ready))
		fail_msg("ipcd did not get ready: %s", server_read_log());
	server.n_fds = server_count_fds();
}

static void activation_fails(const char *reason)
{
	int ready;
	pid_t pid = spawn(&ready, NULL);

	assert_false(server_wait_ready(ready));
	assert_int_equal(wait_exit(pid), 1);
	if (!strstr(server_read_log(), reason))
		fail_msg("not \"%s\" but: %s", reason, server_read_log());
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* ---- sockets ---- */

static char *second_socket(void)
{
	return keep_printf("%s/second", server.dir);
}

static void serves(char *path)
{
	char *before = server.socket;

	server.socket = path;
	hear_nothing(client_connect());
	server.socket = before;
}

static bool is_close_on_exec(int fd)
{
	const char *info =
		read_file(keep_printf("/proc/%d/fdinfo/%d", (int)server.pid, fd));
	const char *flags = strstr(info, "flags:");

	return flags && strtoul(flags + 6, NULL, 8) & O_CLOEXEC;
}

static void test_two_sockets(void **state)
{
	char *second = second_socket();

	pass(listen_at(server.socket));
	pass(listen_at(second));
	manager.names = "main:side";
	activate(NULL);
	serves(server.socket);
	serves(second);
	assert_true(is_close_on_exec(FIRST_PASSED) && is_close_on_exec(FIRST_PASSED + 1));
	assert_int_equal(log_count(keep_printf("%s, passed as main", server.socket)), 1);
	assert_int_equal(log_count(keep_printf("%s, passed as side", second)), 1);
	stop();
	assert_true(exists(server.socket) && exists(second));
	assert_false(exists(keep_printf("%s.lock", server.socket)));
}

/* Blocking sockets whose connections are accepted until none is left. */
static void test_many_at_once(void **state)
{
	struct client *c[20];

	pass(listen_at(server.socket));
	activate(NULL);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		hear_nothing(c[i]);
}

static void test_abstract_socket(void **state)
{
	char *name = keep_printf("@ipcd-test-%d", (int)getpid());

	pass(listen_at(name));
	activate(NULL);
	assert_int_equal(log_count(keep_printf("%s, passed as unknown", name)), 1);
}

static void test_fewer_names_than_sockets(void **state)
{
	pass(listen_at(server.socket));
	pass(listen_at(second_socket()));
	manager.names = "main";
	activate(NULL);
	assert_int_equal(log_count("passed as main"), 1);
	assert_int_equal(log_count("passed as unknown"), 1);
}

/* Nobody is refused while no daemon runs: who connects waits in the kernel's queue. */
static void test_clients_wait_for_a_start(void **state)
{
	struct client *early, *between, *old;
	int n_fds;

	pass(listen_at(server.socket));
	activate(NULL);
	n_fds = server.n_fds;
	stop();

	early = client_connect();
	say(early, "{'op':'ping','id':1}");
	activate(NULL);
	hear_reply(early, 1);
	old = client_connect();
	hear_nothing(old);
	client_close(early);
	stop();
	hear_eof(old);

	between = client_connect();
	say(between, "{'op':'ping','id':2}");
	activate(NULL);
	server.n_fds = n_fds; /* without the one that was waiting */
	hear_reply(between, 2);
	hear_nothing(client_connect());
}

/* ---- what is no socket to serve ---- */

static void refuses(int fd, const char *what)
{
	pass(fd);
	manager.names = "main:odd";
	activation_fails(keep_printf("\"odd\" (descriptor 4), %s;", what));
	unlink(server.log);
	close(manager.listening[--manager.n]);
}

static void test_wrong_sockets(void **state)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int fd, pair[2];

	pass(listen_at(server.socket));
	assert_int_equal(bind_unix(second_socket(), SOCK_DGRAM, &fd), 0);
	refuses(fd, "a Unix datagram socket");
	unlink(second_socket());
	assert_int_equal(bind_unix(second_socket(), SOCK_SEQPACKET, &fd), 0);
	assert_int_equal(listen(fd, 1), 0);
	refuses(fd, "a Unix sequential-packet socket");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	refuses(pair[0], "a Unix stream socket that does not listen");
	close(pair[1]);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	refuses(fd, "an IPv4 stream socket");
	assert_true(exists(server.socket));
}

static void test_no_sockets(void **state)
{
	int pipe_fds[2];

	pass(listen_at(server.socket));
	refuses(open(server.dir, O_RDONLY | O_CLOEXEC), "a directory");
	refuses(open("/dev/null", O_RDWR | O_CLOEXEC), "a device");
	refuses(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), "a regular file");
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	refuses(pipe_fds[0], "a FIFO or pipe");
	close(pipe_fds[1]);
}

/* LISTEN_FDS counts more than there are. */
static void test_descriptor_not_open(void **state)
{
	pass(listen_at(server.socket));
	manager.listening[manager.n++] = -1;
	manager.names = "main:lost";
	activation_fails("\"lost\" (descriptor 4), not open");
	manager.n--;
}

/* ---- which path wins ---- */

static void test_another_path_configured(void **state)
{
	char *other = keep_printf("%s/configured", server.dir);

	pass(listen_at(server.socket));
	manager.names = "main";
	activate(other);
	serves(server.socket);
	assert_false(exists(other));
	assert_int_equal(
		log_count(keep_printf("%s, as configured, is not served: the service "
				      "manager passed %s (main)",
				      other, server.socket)),
		1);
	/* where clients look for the daemon of this state */
	assert_non_null(
		strstr(read_file(keep_printf("%s/lock", server.state)), server.socket));
}

static void test_same_path_configured(void **state)
{
	char *second = second_socket();

	pass(listen_at(server.socket));
	pass(listen_at(second));
	activate(second);
	serves(server.socket);
	assert_int_equal(log_count("as configured, is not served"), 0);
	assert_non_null(strstr(read_file(keep_printf("%s/lock", server.state)), second));
}

/* Variables that were left in the environment by somebody above. */
static void test_sockets_of_another_process(void **state)
{
	char *second = second_socket();

	pass(listen_at(second));
	manager.for_another_pid = true;
	activate(server.socket);
	serves(server.socket);
	assert_int_equal(log_count("passed as"), 0);
	assert_true(exists(keep_printf("%s.lock", server.socket)));
	stop();
	assert_false(exists(server.socket));
	assert_true(exists(second));
}

/* ---- notifications ---- */

static void want_notifications(const char *name)
{
	struct timeval patience = { .tv_sec = DEADLINE_MS / 1000 };

	manager.notify_name = keep_printf("%s", name);
	assert_int_equal(bind_unix(name, SOCK_DGRAM, &manager.notify), 0);
	setsockopt(manager.notify, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	pass(listen_at(server.socket));
}

static char *told(void)
{
	char *text = keep(calloc(1, 1024));

	if (recv(manager.notify, text, 1023, 0) < 0)
		fail_msg("nothing told: %s", strerror(errno));
	return text;
}

static void is_told(const char *wanted)
{
	char *text = told();

	if (strncmp(text, wanted, strlen(wanted)) != 0)
		fail_msg("told \"%s\", not \"%s\"", text, wanted);
}

static void tells_all(void)
{
	const char *usec;
	uint64_t before;

	activate(NULL);
	is_told("READY=1");
	is_told("STATUS=peers: 0, names: 0, messages: 0");
	before = clock_ns(CLOCK_MONOTONIC) / 1000;
	kill(server.pid, SIGHUP);
	usec = told();
	assert_memory_equal(usec, "RELOADING=1\nMONOTONIC_USEC=", 27);
	assert_in_range(strtoull(usec + 27, NULL, 10), before,
			clock_ns(CLOCK_MONOTONIC) / 1000);
	is_told("READY=1");
	stop();
	is_told("STOPPING=1");
	assert_int_equal(recv(manager.notify, &(char){ 0 }, 1, MSG_DONTWAIT), -1);
}

static void test_notify(void **state)
{
	want_notifications(keep_printf("%s/notify", server.dir));
	tells_all();
}

static void test_notify_abstract(void **state)
{
	want_notifications(keep_printf("@ipcd-test-notify-%d", (int)getpid()));
	tells_all();
}

/* The manager is busy, its queue full: ipcd serves, and says so when there is room. */
static void test_notify_when_there_is_room(void **state)
{
	char *path = keep_printf("%s/notify", server.dir);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), n = 0;

	want_notifications(path);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	while (sendto(fd, "x", 1, 0, (const struct sockaddr *)&address,
		      sizeof(address)) == 1)
		n++;
	close(fd);
	activate(NULL);
	serves(server.socket);
	while (n--)
		is_told("x");
	is_told("READY=1");
}

static void test_nobody_to_notify(void **state)
{
	pass(listen_at(server.socket));
	manager.notify_name = keep_printf("%s/nobody", server.dir);
	activate(NULL);
	serves(server.socket);
	stop();
	manager.notify_name = keep_printf("vsock:2:1234");
	activate(NULL);
	serves(server.socket);
	assert_int_equal(log_count("$NOTIFY_SOCKET is ignored: vsock:2:1234"), 1);
}

static void test_watchdog(void **state)
{
	manager.watchdog_usec = "40000";
	want_notifications(keep_printf("%s/notify", server.dir));
	activate(NULL);
	is_told("READY=1");
	is_told("WATCHDOG=1");
	is_told("STATUS=");
	for (int i = 0; i < 5; i++)
		is_told("WATCHDOG=1");
}

static void test_watchdog_of_another_process(void **state)
{
	struct client *c;

	manager.watchdog_usec = "1000";
	manager.for_another_pid = true;
	want_notifications(keep_printf("%s/notify", server.dir));
	/* neither are the sockets meant for this one */
	activate(second_socket());
	server.socket = second_socket();
	c = client_connect();
	for (int i = 0; i < 100; i++)
		hear_nothing(c);
	client_close(c);
	is_told("READY=1");
	is_told("STATUS=");
	stop();
	is_told("STOPPING=1");
}

#define as_service(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		as_service(test_two_sockets),
		as_service(test_many_at_once),
		as_service(test_abstract_socket),
		as_service(test_fewer_names_than_sockets),
		as_service(test_clients_wait_for_a_start),
		as_service(test_wrong_sockets),
		as_service(test_no_sockets),
		as_service(test_descriptor_not_open),
		as_service(test_another_path_configured),
		as_service(test_same_path_configured),
		as_service(test_sockets_of_another_process),
		as_service(test_notify),
		as_service(test_notify_abstract),
		as_service(test_notify_when_there_is_room),
		as_service(test_nobody_to_notify),
		as_service(test_watchdog),
		as_service(test_watchdog_of_another_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
