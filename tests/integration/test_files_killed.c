/* SPDX-License-Identifier: MIT */

/* kill -9 at each step of a transfer by libipc: of the one who saves, of the one who sends,
 * of the daemon. What is under a name is whole, what was not finished is not there or comes
 * again as it was, and others do not notice. */

#include "integration/harness_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ipc/ipc.h>

#include "integration/durable.h"

enum { SIZE = 2 << 20 };

static struct ipc_client *open_client(void)
{
	struct ipc_client *client;

	assert_int_equal(ipc_client_open(server.socket, 0, &client), 0);
	return client;
}

/* Who dies, and how many steps from now. */
struct victim {
	pid_t pid;
	int steps;
};

static void step(struct victim *victim)
{
	int status;

	if (--victim->steps)
		return;
	kill(victim->pid, SIGKILL);
	if (victim->pid != server.pid)
		return;
	status = wait_exit(server.pid);
	server.pid = 0;
	assert_int_equal(status, 256 + SIGKILL);
}

static void start_anew(void)
{
	start_durable(AT_ONCE, "--limit", "max_attempts=1000");
	assert_int_equal(log_count("is damaged"), 0);
}

/* ---- while it is saved ---- */

static int step_of_copy(uint64_t done, uint64_t total, void *userdata)
{
	step(userdata);
	return 0;
}

static int make_target(void)
{
	const char *path = keep_printf("%s/to", server.dir);

	if (mkdir(path, 0700) < 0)
		assert_int_equal(errno, EEXIST);
	return keep_fd(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static bool is_saved(int target)
{
	return faccessat(target, "x", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void check_saved(int target)
{
	int fd = openat(target, "x", O_RDONLY | O_CLOEXEC);

	assert_true(fd_has_pattern(keep_fd(fd), SIZE));
	close_kept(fd);
	assert_int_equal(unlinkat(target, "x", 0), 0);
}

/* In a process of its own, which ends with 0 if it has come to the end. */
static pid_t fork_receiver(int target, int steps)
{
	pid_t pid = fork_child();
	struct victim self = { getpid(), steps };
	struct ipc_client *client;
	struct ipc_message *m;

	if (pid)
		return pid;
	if (ipc_client_open(server.socket, 0, &client) < 0 ||
	    ipc_receive(client, "q", DEADLINE_MS, &m) < 0)
		_exit(1);
	ipc_message_set_progress(m, step_of_copy, &self);
	if (ipc_message_save(m, target, "x", 0, NULL) < 0 || ipc_ack(client, m) < 0 ||
	    ipc_client_flush(client) < 0)
		_exit(1);
	ipc_client_close(client);
	_exit(0);
}

static void test_a_receiver_is_killed(void **state)
{
	struct client *other;
	int target, status, steps = 0;

	start_anew();
	target = make_target();
	other = client_connect();
	send_file(other, BY_FRAME, SIZE, "'queue':'q','md5':true");
	do {
		status = wait_exit(fork_receiver(target, ++steps));
		if (status) {
			assert_int_equal(status, 256 + SIGKILL);
			assert_false(is_saved(target));
			wait_queue_count("q", "ready", 1);
		}
		hear_nothing(other);
	} while (status);
	assert_true(steps > 2);
	check_saved(target);
	wait_queue_count("q", "leased", 0);
	assert_int_equal(queue_count("q", "ready"), 0);
	wait_for(spool_count() == 0);
}

/* Whoever has the file does not need the daemon any more; only that it is done cannot be
 * told, so it comes again. */
static void test_the_daemon_is_killed_while_it_is_saved(void **state)
{
	int target, steps = 0;
	bool killed;

	start_anew();
	target = make_target();
	send_file(client_connect(), BY_FRAME, SIZE, "'queue':'q','md5':true");
	do {
		struct victim daemon = { server.pid, ++steps };
		struct ipc_client *client = open_client();
		struct ipc_message *m;

		assert_int_equal(ipc_receive(client, "q", DEADLINE_MS, &m), 0);
		ipc_message_set_progress(m, step_of_copy, &daemon);
		assert_int_equal(ipc_message_save(m, target, "x", 0, NULL), 0);
		check_saved(target);
		killed = !server.pid;
		ipc_message_free(m);
		ipc_client_close(client);
		if (killed)
			start_anew();
		wait_queue_count("q", "ready", 1);
	} while (killed);
	assert_true(steps > 2);
	settle(client_connect(), "ack", take_file(client_connect(), "q", SIZE), "");
	wait_for(spool_count() == 0);
}

/* ---- while it is sent ---- */

struct source {
	struct victim victim;
	size_t at;
};

static ssize_t read_step(void *buffer, size_t size, void *userdata)
{
	struct source *source = userdata;
	size_t left = SIZE - source->at, n = size < left ? size : left;

	step(&source->victim);
	pattern_fill(buffer, n, source->at);
	source->at += n;
	return (ssize_t)n;
}

static int send_steps(struct ipc_client *client, pid_t victim, int steps)
{
	struct source source = { .victim = { victim, steps } };
	struct ipc_message *m;
	int r = ipc_message_new(&m);

	if (r < 0)
		return r;
	r = ipc_message_set_reader(m, read_step, &source, "x", 0);
	if (!r)
		r = ipc_send_message(client, "q", m, 0, 0, NULL);
	ipc_message_free(m);
	return r;
}

static pid_t fork_sender(int steps)
{
	pid_t pid = fork_child();
	struct ipc_client *client;

	if (pid)
		return pid;
	if (ipc_client_open(server.socket, 0, &client) < 0 ||
	    send_steps(client, getpid(), steps) < 0)
		_exit(1);
	ipc_client_close(client);
	_exit(0);
}

static void check_sent(void)
{
	struct client *c = client_connect();
	struct frame *f = take_file(c, "q", SIZE);

	assert_string_equal(json_string(f->header, "filename"), "x");
	settle(c, "ack", f, "");
	take_nothing(c, "q");
	wait_for(spool_count() == 0);
}

static void test_a_sender_is_killed(void **state)
{
	struct client *other;
	int status, steps = 0;

	start_anew();
	other = client_connect();
	do {
		status = wait_exit(fork_sender(++steps));
		if (status) {
			assert_int_equal(status, 256 + SIGKILL);
			check_nothing_remains();
		}
		hear_nothing(other);
	} while (status);
	assert_true(steps > 2);
	check_sent();
}

static void test_the_daemon_is_killed_while_it_is_sent(void **state)
{
	int steps = 0;
	bool killed;

	start_anew();
	do {
		struct ipc_client *client = open_client();
		int r = send_steps(client, server.pid, ++steps);

		killed = !server.pid;
		assert_int_equal(r, killed ? -ECONNRESET : 0);
		ipc_client_close(client);
		if (killed) {
			start_anew();
			check_nothing_remains();
		}
	} while (killed);
	assert_true(steps > 2);
	check_sent();
}

/* ---- while it comes as a stream ---- */

/* The peer sees its end in the middle of the body. */
static void hear_break(struct client *c)
{
	static char data[65536];
	ssize_t n;

	while ((n = read(client_fd(c), data, sizeof(data))) > 0)
		;
	assert_true(n == 0 || errno == ECONNRESET);
}

static void check_streams(enum way way)
{
	enum { STREAM = 8 << 20, STEPS = 4, PART = STREAM / STEPS - 1 };
	static char data[PART * STEPS];

	for (int steps = 0; steps < STEPS; steps++) {
		struct client *c = connect_for(way);
		char *digest;
		struct frame *f;

		send_file(client_connect(), BY_FD, STREAM, "'queue':'q','md5':true");
		say(c, "{'op':'receive','id':1,'queue':'q'}");
		f = hear_header(c);
		digest = keep_printf("%s", json_string(f->header, "md5"));
		if (way == BY_FRAME)
			client_read(HERE, c, data, (size_t)(steps + 1) * PART);
		else
			client_read(HERE, c, data, f->body_size / STEPS * (steps + 1));
		end_by(HERE, CRASH);
		hear_break(c);
		client_close(c);
		start_anew();
		c = client_connect();
		f = take_file(c, "q", STREAM);
		assert_string_equal(json_string(f->header, "md5"), digest);
		settle(c, "ack", f, "");
		wait_for(spool_count() == 0);
	}
}

static void test_the_daemon_is_killed_while_it_streams(void **state)
{
	start_anew();
	check_streams(BY_FRAME);
	check_streams(BY_PIECES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_a_receiver_is_killed),
		it(test_the_daemon_is_killed_while_it_is_saved),
		it(test_a_sender_is_killed),
		it(test_the_daemon_is_killed_while_it_is_sent),
		it(test_the_daemon_is_killed_while_it_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
