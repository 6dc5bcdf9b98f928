/* SPDX-License-Identifier: MIT */

/* Starting, stopping, sockets, signals, the log. */

#include "integration/harness.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- the socket's path ---- */

static char *other_log(void)
{
	return keep_printf("%s/log.second", server.dir);
}

/* A start that must be refused with a reason in the log. */
static void start_fails(const char *socket, const char *reason)
{
	const char *arguments[] = { "--socket", socket, "--state",
				    keep_printf("%s/state2", server.dir), NULL };
	int ready;
	pid_t pid = server_spawn(arguments, other_log(), &ready);

	assert_false(server_wait_ready(ready));
	assert_int_equal(wait_exit(pid), 1);
	if (!strstr(read_file(other_log()), reason))
		fail_msg("not \"%s\" but: %s", reason, read_file(other_log()));
}

static void test_second_daemon(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	start_fails(server.socket, server.socket);
	hear_nothing(c);
	hear_nothing(client_connect()); /* the socket is still the first one's */
}

/* After kill -9 the socket file is still there, and nobody's. */
static void test_stale_socket(void **state)
{
	start();
	hear_nothing(client_connect());
	kill(server.pid, SIGKILL);
	assert_int_equal(wait_exit(server.pid), 256 + SIGKILL);
	assert_int_equal(access(server.socket, F_OK), 0);
	start();
	hear_nothing(client_connect());
}

/* Many starts at once: one wins, the others refuse. */
static void test_race_for_the_socket(void **state)
{
	enum { N = 4 };
	const char *arguments[] = { "--socket", server.socket, "--state", server.state,
				    NULL };
	int ready[N], n_ready = 0;
	pid_t pids[N];

	for (int i = 0; i < N; i++)
		pids[i] = server_spawn(arguments, other_log(), &ready[i]);
	for (int i = 0; i < N; i++) {
		if (server_wait_ready(ready[i]))
			server.pid = pids[i], n_ready++;
		else
			assert_int_equal(wait_exit(pids[i]), 1);
	}
	assert_int_equal(n_ready, 1);
	server.n_fds = server_count_fds();
	hear_nothing(client_connect());
}

static void test_regular_file_in_its_place(void **state)
{
	FILE *file = fopen(server.socket, "w");

	assert_non_null(file);
	fputs("precious", file);
	fclose(file);
	start_fails(server.socket, "no socket");
	assert_string_equal(read_file(server.socket), "precious");
}

static void test_symlink_in_its_place(void **state)
{
	assert_int_equal(symlink("/nonexistent/socket", server.socket), 0);
	start_fails(server.socket, server.socket);
}

/* A socket that another program serves is never taken from it. */
static void test_socket_of_another_program(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stat st;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", server.socket);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 5), 0);
	start_fails(server.socket, server.socket);
	close(fd);
	assert_int_equal(stat(server.socket, &st), 0);
}

static void test_path_too_long(void **state)
{
	char *path = keep(malloc(200)), *end;
	struct sockaddr_un address;
	size_t size = sizeof(address.sun_path);

	memset(path, 'p', 200);
	end = path + sprintf(path, "%s/", server.dir);
	*end = 'p';
	path[size] = '\0';
	start_fails(path, "107");
	path[size - 1] = '\0';
	assert_int_equal(strlen(path), 107);
	server.socket = path;
	start();
	hear_nothing(client_connect());
}

static void test_directory_that_is_not_there(void **state)
{
	char *path = keep_printf("%s/none/socket", server.dir);

	start_fails(path, path);
}

static void test_orderly_stop_removes_the_socket(void **state)
{
	start();
	stop();
	assert_int_equal(access(server.socket, F_OK), -1);
	assert_int_equal(errno, ENOENT);
	start();
	hear_nothing(client_connect());
}

/* ---- the end ---- */

static void test_stop_tells_those_who_wait(void **state)
{
	struct client *c, *full;

	start("--limit", "queue_messages=1");
	c = client_connect();
	full = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'empty','wait_ms':-1}");
	say_text(c, "x", "{'op':'send','id':2,'queue':'jobs','confirm':'acked'}");
	hear_nothing(c);
	say_text(full, "x", "{'op':'send','id':3,'queue':'jobs','wait_ms':-1}");
	hear_nothing(full);
	stop();
	for (int i = 0; i < 2; i++) {
		struct frame *f = hear(c);

		if (json_int(f->header, "re") == 1)
			assert_string_equal(json_string(f->header, "end"),
					    "shutting-down");
		else
			assert_string_equal(json_string(f->header, "error"),
					    "shutting-down");
	}
	while (hear_or_eof(c))
		;
	hear_error(full, 3, "shutting-down");
	while (hear_or_eof(full))
		;
}

/* What was written before the stop is still handed over; a peer that does not read does not
 * keep the daemon from ending. */
static void test_stop_with_output_under_way(void **state)
{
	enum { N = 100, SIZE = 10000 };
	char *body = keep(malloc(SIZE + 1));
	struct client *c, *stuck;

	memset(body, 'b', SIZE);
	body[SIZE] = '\0';
	start("--limit", "shutdown_deadline=500");
	c = client_connect();
	stuck = client_connect();
	for (int i = 0; i < N; i++) {
		say_text(c, body, "{'op':'ping','id':%d}", i);
		say_text(stuck, body, "{'op':'ping','id':%d}", i);
	}
	hear_reply(c, 0);
	kill(server.pid, SIGTERM);
	for (int i = 1; i < N; i++) {
		struct frame *f = hear_or_eof(c);

		if (!f || !json_has(f->header, "re"))
			break; /* not yet read by then: not answered, and never half */
		assert_int_equal(f->body_size, SIZE);
	}
	assert_int_equal(wait_exit(server.pid), 0);
	server.pid = 0;
}

static void test_sigint(void **state)
{
	start();
	kill(server.pid, SIGINT);
	assert_int_equal(wait_exit(server.pid), 0);
	server.pid = 0;
}

/* Signals that ask for nothing here, and a hang-up of the terminal. */
static void test_sigpipe_and_closed_stderr(void **state)
{
	struct client *c;

	start();
	kill(server.pid, SIGPIPE);
	c = client_connect();
	hear_nothing(c);
}

/* send, then close at once: it arrives. */
static void test_send_and_close(void **state)
{
	struct client *c;

	start();
	for (int i = 0; i < 100; i++) {
		c = client_connect();
		for (int k = 0; k < 10; k++)
			say_text(c, "x", "{'op':'send','queue':'jobs'}");
		client_close(c);
	}
	wait_for(queue_count("jobs", "ready") == 1000);
}

/* The same when replies were asked for that nobody will read. */
static void test_send_with_id_and_close(void **state)
{
	struct client *c;

	start();
	for (int i = 0; i < 100; i++) {
		c = client_connect();
		for (int k = 0; k < 10; k++)
			say_text(c, "x", "{'op':'send','id':%d,'queue':'jobs'}", k);
		client_close(c);
	}
	wait_for(queue_count("jobs", "ready") == 1000);
}

static void test_large_send_and_close(void **state)
{
	enum { SIZE = 8 << 20 };
	char *body = keep(malloc(SIZE));
	struct client *c;

	memset(body, 'b', SIZE);
	start();
	c = client_connect();
	say_body(c, body, SIZE, "{'op':'send','queue':'jobs'}");
	client_close(c);
	c = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'jobs','wait_ms':-1}");
	assert_int_equal(hear_reply(c, 1)->body_size, SIZE);
	say(c, "{'op':'delete','id':2,'name':'jobs'}");
}

/* ---- signals and the log ---- */

static const char *log_level(void)
{
	struct client *c = client_connect();
	const char *level = json_string(frame_line(list(c, "stats"), 0), "log_level");

	client_close(c);
	return level;
}

static void test_log_level_by_signal(void **state)
{
	start();
	assert_string_equal(log_level(), "info");
	kill(server.pid, SIGUSR1);
	wait_for(!strcmp(log_level(), "debug"));
	kill(server.pid, SIGUSR1);
	wait_for(!strcmp(log_level(), "debug"));
	kill(server.pid, SIGUSR2);
	wait_for(!strcmp(log_level(), "info"));
	kill(server.pid, SIGUSR2);
	wait_for(!strcmp(log_level(), "notice"));
	kill(server.pid, SIGUSR2);
	wait_for(!strcmp(log_level(), "warning"));
	kill(server.pid, SIGUSR2);
	wait_for(!strcmp(log_level(), "error"));
	kill(server.pid, SIGUSR2);
	assert_string_equal(log_level(), "error");
	kill(server.pid, SIGUSR1);
	wait_for(!strcmp(log_level(), "warning"));
}

/* What peers say about themselves reaches the log in a form that drives no terminal; the
 * teardown looks at each line. */
static void test_hostile_labels_in_the_log(void **state)
{
	static const char *const labels[] = {
		"\\n<3>forged",	  "\\u001b]0;title\\u0007", "\\u202egnp.exe",
		"\\u0085\\u2028", "\xf0\x9f\x98\x80",	    "\\\\\\\"",
	};
	struct client *c, *cutter;

	start("--log-level", "debug");
	cutter = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(labels); i++) {
		int64_t number;

		c = client_connect();
		say(c, "{'op':'hello','id':1,'label':'%s'}", labels[i]);
		number = json_int(hear_reply(c, 1)->header, "peer");
		say_text(c, "x", "{'op':'send','id':2,'queue':'%s'}", labels[i]);
		hear_error(c, 2, "bad-name");
		say(cutter, "{'op':'disconnect','id':1,'peer':%d}", (int)number);
		hear_reply(cutter, 1);
		c = client_connect();
		say(c, "{'op':'hello','id':1,'label':'%s'}", labels[i]);
		hear_reply(c, 1);
		say_bytes(c, "\x1b[31m\n\xff", 7);
		hear_last_words(c, "bad-frame");
	}
	assert_null(strstr(server_read_log(), "\n<3>forged"));
	assert_null(strstr(server_read_log(), "\xe2\x80\xae")); /* U+202E */
}

/* ---- the command line ---- */

static int run(const char *a, const char *b, const char *c, char **ret_output)
{
	const char *arguments[] = { a, b, c, NULL };
	char *log = keep_printf("%s/log.run", server.dir);
	int status;

	unlink(log);
	status = wait_exit(server_spawn(arguments, log, NULL));
	*ret_output = read_file(log);
	return status;
}

static void test_command_line(void **state)
{
	static const struct {
		const char *a, *b, *c;
		int status;
		const char *says;
	} rows[] = {
		{ "--version", NULL, NULL, 0, "ipcd " },
		{ "--help", NULL, NULL, 0, "--socket" },
		{ "--limits", NULL, NULL, 0, "queue_messages" },
		{ "--no-such-option", NULL, NULL, 1, "no-such-option" },
		{ "--socket", NULL, NULL, 1, "socket" },
		{ "--log-level", "loud", NULL, 1, "loud" },
		{ "--ready-fd", "x", NULL, 1, "ready-fd" },
		{ "stray", NULL, NULL, 1, "stray" },
		{ "--limit", "nonsense", NULL, 1, "nonsense" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *output;
		int status = run(rows[i].a, rows[i].b, rows[i].c, &output);

		if (status != rows[i].status || !strstr(output, rows[i].says))
			fail_msg("%s: status %d, %s", rows[i].a, status, output);
	}
}

static void test_modes_of_the_files(void **state)
{
	struct stat st;

	start(getuid() ? "--user" : "--system");
	assert_int_equal(stat(server.socket, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, getuid() ? 0600 : 0666);
	if (stat(server.state, &st) == 0)
		assert_int_equal(st.st_mode & 0077, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_second_daemon),
		it(test_stale_socket),
		it(test_race_for_the_socket),
		it(test_regular_file_in_its_place),
		it(test_symlink_in_its_place),
		it(test_socket_of_another_program),
		it(test_path_too_long),
		it(test_directory_that_is_not_there),
		it(test_orderly_stop_removes_the_socket),
		it(test_stop_tells_those_who_wait),
		it(test_stop_with_output_under_way),
		it(test_sigint),
		it(test_sigpipe_and_closed_stderr),
		it(test_send_and_close),
		it(test_send_with_id_and_close),
		it(test_large_send_and_close),
		it(test_log_level_by_signal),
		it(test_hostile_labels_in_the_log),
		it(test_command_line),
		it(test_modes_of_the_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
