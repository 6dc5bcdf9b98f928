/* SPDX-License-Identifier: MIT */

/* File descriptors that come with frames: each with its own frame or lost by name, and all
 * of them closed (the teardown counts). This ipcd has no request that takes any. */

#include "integration/harness_file.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCM_FDS_MAX = 253 /* unix(7) */ };

static const char SEND[] = "{\"op\":\"send\",\"id\":1,\"queue\":\"jobs\"%s}";

/* A send with "fds":announced (if not 0) in a message that carries `sent` descriptors. */
static void say_with_fds(struct client *c, int announced, unsigned int sent)
{
	int fds[SCM_FDS_MAX], null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	char *keys = announced ? keep_printf(",\"fds\":%d", announced)
			       : keep_printf("%s", "");
	size_t size;
	char *bytes = frame_encode(&size, "x", 1, SEND, keys);

	for (unsigned int i = 0; i < sent; i++)
		fds[i] = null;
	if (sent)
		say_bytes_fds(c, bytes, size, fds, sent);
	else
		say_bytes(c, bytes, size);
	close(null);
}

static void test_counts(void **state)
{
	static const struct {
		int announced;
		unsigned int sent;
		const char *word; /* NULL: it succeeds */
		bool lives;
	} rows[] = {
		{ 0, 0, NULL, true },
		{ 1, 1, "bad-request", true },
		{ 16, 16, "bad-request", true },
		{ 17, 17, "bad-request", true },
		{ SCM_FDS_MAX, SCM_FDS_MAX, "bad-request", true },
		{ 2, 1, "fds-lost", true },
		{ 1, 2, "fds-lost", true },
		{ 1, 0, "bad-frame", false },
		{ 0, 1, "bad-frame", false },
		{ 0, SCM_FDS_MAX, "bad-frame", false },
	};

	start();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct client *c = client_connect();
		struct frame *f;

		say_with_fds(c, rows[i].announced, rows[i].sent);
		f = hear(c);
		if (!rows[i].lives && !json_has(f->header, "error"))
			f = hear(c); /* the frame itself may have been fine */
		if (!rows[i].word)
			assert_false(json_has(f->header, "error"));
		else
			assert_string_equal(json_string(f->header, "error"),
					    rows[i].word);
		if (rows[i].lives)
			hear_nothing(c);
		else
			hear_eof(c);
	}
}

/* Sending them again would not help: it is said what would. */
static void test_counts_out_of_range(void **state)
{
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	say_with_fds(c, 17, 17);
	f = hear_error(c, 1, "bad-request");
	assert_non_null(strstr(json_string(f->header, "message"), "fds_max"));
	say(c, "{'op':'send','id':1,'queue':'jobs','fds':0}");
	hear_error(c, 1, "bad-request");
	say(c, "{'op':'send','id':1,'queue':'jobs','fds':true}");
	hear_error(c, 1, "bad-request");
	hear_nothing(c);
}

/* The daemon keeps none: the last writer of this pipe is gone at once. */
static void test_refused_fds_are_closed(void **state)
{
	size_t size;
	char *bytes = frame_encode(&size, "x", 1, SEND, ",\"fds\":1"), byte;
	struct client *c;
	int ends[2];

	start();
	c = client_connect();
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	say_bytes_fds(c, bytes, size, &ends[1], 1);
	close(ends[1]);
	hear_error(c, 1, "bad-request");
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
}

/* A connection that holds its own other end would never be closed. */
static void test_own_connection(void **state)
{
	size_t size;
	char *bytes = frame_encode(&size, "x", 1, SEND, ",\"fds\":1");
	struct client *c;
	int fd;

	start();
	c = client_connect();
	fd = client_fd(c);
	say_bytes_fds(c, bytes, size, &fd, 1);
	hear_error(c, 1, "bad-request");
}

/* Frames without and with descriptors follow each other, all of them in the socket before
 * ipcd reads the first. */
static void test_back_to_back(void **state)
{
	static const int pattern[] = { 0, 1, 0, 0, 2, 3, 0, 1 };
	struct client *c;

	start();
	c = client_connect();
	kill(server.pid, SIGSTOP);
	for (size_t i = 0; i < ARRAY_SIZE(pattern); i++)
		say_with_fds(c, pattern[i], (unsigned int)pattern[i]);
	kill(server.pid, SIGCONT);
	for (size_t i = 0; i < ARRAY_SIZE(pattern); i++) {
		if (pattern[i])
			hear_error(c, 1, "bad-request");
		else
			hear_reply(c, 1);
	}
	assert_int_equal(queue_count("jobs", "ready"), 4);
}

static void test_split_at_every_byte(void **state)
{
	int fds[2] = { STDIN_FILENO, STDIN_FILENO };
	size_t size;
	char *bytes = frame_encode(&size, "x", 1, SEND, ",\"fds\":2");
	struct client *c;

	start();
	c = client_connect();
	for (size_t n = 1; n < size; n++) {
		say_bytes_fds(c, bytes, n, fds, 2);
		say_bytes(c, bytes + n, size - n);
		hear_error(c, 1, "bad-request");
		hear_nothing(c);
	}
}

/* In pieces of one byte each, of which every one carries a descriptor: the frame can have
 * only one batch, so this ends the connection. */
static void test_a_batch_with_each_byte(void **state)
{
	int fd = STDIN_FILENO;
	size_t size;
	char *bytes = frame_encode(&size, "x", 1, SEND, ",\"fds\":1");
	struct client *c, *bystander;

	start();
	bystander = client_connect();
	c = client_connect();
	kill(server.pid, SIGSTOP);
	for (size_t n = 0; n < size; n++)
		say_bytes_fds(c, bytes + n, 1, &fd, 1);
	kill(server.pid, SIGCONT);
	hear_last_words(c, "bad-frame");
	hear_nothing(bystander);
}

/* Descriptors of a frame that is too large, in an error of an early piece, or of a peer
 * that goes before the frame is whole: closed as well. */
static void test_fds_of_frames_that_come_to_nothing(void **state)
{
	int fd = STDIN_FILENO;
	size_t size;
	char *large =
		frame_encode(&size, keep(calloc(1, 2000)), 2000, SEND, ",\"fds\":1");
	struct client *c;

	start("--limit", "body_max=1024");
	c = client_connect();
	say_bytes_fds(c, large, size, &fd, 1);
	assert_true(json_has(hear(c)->header, "error"));
	hear_nothing(c);
	say_bytes_fds(c, large, size - 1, &fd, 1);
	client_close(c);
}

static rlim_t lowest_free_fd(void)
{
	struct stat st;
	rlim_t fd = 0;

	while (lstat(keep_printf("/proc/%d/fd/%d", (int)server.pid, (int)fd), &st) == 0)
		fd++;
	return fd;
}

static void limit_server_fds(rlim_t soft)
{
	struct rlimit limit;

	assert_int_equal(prlimit(server.pid, RLIMIT_NOFILE, NULL, &limit), 0);
	limit.rlim_cur = soft;
	assert_int_equal(prlimit(server.pid, RLIMIT_NOFILE, &limit, NULL), 0);
}

/* No free descriptor in the daemon: the frame that brought some has lost them, the next
 * frame has its own. */
static void test_daemon_at_its_limit(void **state)
{
	struct client *c;
	rlim_t free_fd;

	start();
	c = client_connect();
	hear_nothing(c);
	free_fd = lowest_free_fd();
	limit_server_fds(free_fd + 1);
	say_with_fds(c, 3, 3);
	hear_error(c, 1, "fds-lost");
	wait_for(lowest_free_fd() == free_fd); /* the one that did arrive is closed */
	say_with_fds(c, 0, 0);
	hear_reply(c, 1);
	say_with_fds(c, 1, 1);
	hear_error(c, 1, "bad-request");
	limit_server_fds(free_fd + 64);
	say_with_fds(c, 3, 3);
	hear_error(c, 1, "bad-request");
	hear_nothing(c);
}

/* NULL if it was refused. */
static struct client *connect_if_served(void)
{
	struct client *c = client_connect();
	size_t size;
	char *bytes = frame_encode(&size, NULL, 0, "{'op':'ping','id':1}");
	struct frame *f;

	send(client_fd(c), bytes, size, MSG_NOSIGNAL);
	f = hear_or_eof(c);
	if (f && !json_has(f->header, "error"))
		return c;
	client_close(c);
	return NULL;
}

/* Clients come while the daemon has no descriptor left: each is told and closed, the log
 * says so once, who is connected is served, and so is who comes when there is room. */
static void test_clients_come_at_the_limit(void **state)
{
	struct client *first, *served, *c;

	start();
	first = client_connect();
	hear_nothing(first);
	limit_server_fds(lowest_free_fd() + 1);
	served = client_connect(); /* the last one that there is room for */
	hear_nothing(served);
	hear_nothing(first);
	assert_int_equal(log_count("open files"), 0);
	assert_int_equal(server_count_fds(), server.n_fds + 2);
	for (int i = 0; i < 200; i++) {
		struct frame *f;

		c = client_connect();
		f = hear_last_words(c, "full");
		assert_non_null(
			strstr(json_string(f->header, "message"), "no free descriptors"));
		client_close(c);
	}
	hear_nothing(served);
	assert_int_equal(server_count_fds(), server.n_fds + 2);
	assert_int_equal(log_count("open files"), 1);
	client_close(first);
	/* in its place; whoever comes and goes at the limit does not fill the log */
	for (int i = 0; i < 20; i++) {
		wait_for((c = connect_if_served()));
		hear_last_words(client_connect(), "full");
		client_close(c);
	}
	assert_int_equal(log_count("open files"), 1);
	assert_int_equal(log_count("accepting connections again"), 1);
	limit_server_fds(lowest_free_fd() + 64);
	for (int i = 0; i < 8; i++)
		hear_nothing(client_connect());
}

static void hear_no_descriptors(struct client *c)
{
	struct frame *f = hear_error(c, 1, "full");

	assert_non_null(strstr(json_string(f->header, "message"), "RLIMIT_NOFILE"));
	hear_nothing(c);
}

/* How often the daemon has slept. */
static int64_t count_sleeps(void)
{
	static const char key[] = "\nvoluntary_ctxt_switches:";
	const char *status = read_file(keep_printf("/proc/%d/status", (int)server.pid));
	const char *at = strstr(status, key);

	assert_non_null(at);
	return strtoll(at + strlen(key), NULL, 10);
}

/* Large bodies come while the daemon has no descriptor left: each is refused and dropped,
 * nothing else is held up, and when there are some again they are taken. */
static void check_bodies_at_the_limit(void)
{
	struct client *c = connect_with_fds(), *other = client_connect();
	const char *body = pattern(LARGE);

	hear_nothing(other);
	limit_server_fds(lowest_free_fd());
	say_body(c, body, LARGE, "{'op':'send','id':1,'queue':'q'}");
	hear_no_descriptors(c);
	say_body(c, body, LARGE, "{'op':'send','id':1,'queue':'q','more':true}");
	say_body(c, body, LARGE, "{'id':1,'more':true}");
	say_body(c, body, SMALL, "{'id':1}");
	hear_no_descriptors(c);
	for (int i = 0; i < 8; i++)
		say_body(c, body, 60000,
			 i ? "{'id':1,'more':true}"
			   : "{'op':'send','id':1,'queue':'q','more':true}");
	say_body(c, body, SMALL, "{'id':1}");
	hear_no_descriptors(c);
	send_text(other, "jobs", "small");
	send_text(c, "jobs", "small");
	limit_server_fds(lowest_free_fd() + 64);
	for (enum way way = 0; way < N_WAYS; way++)
		send_file(c, way, LARGE, "'queue':'q'");
	assert_int_equal(queue_count("q", "ready"), N_WAYS);
	say(c, "{'op':'delete','id':1,'name':'q','force':true}");
	hear_reply(c, 1);
}

static void test_bodies_come_at_the_limit(void **state)
{
	start();
	check_bodies_at_the_limit();
}

static void test_bodies_for_the_disk_come_at_the_limit(void **state)
{
	start_durable();
	check_bodies_at_the_limit();
}

/* For a delivery, too: it waits, the log says why, and not too often. */
static void test_bodies_go_at_the_limit(void **state)
{
	enum { N = 100 };
	struct client *c, *receiver;
	int64_t n_slept;

	start_durable();
	c = client_connect();
	receiver = connect_with_fds();
	for (int i = 0; i < N; i++)
		send_file(c, BY_FRAME, LARGE, "'queue':'q'");
	limit_server_fds(lowest_free_fd());
	say(receiver,
	    "{'op':'receive','id':1,'queue':'q','max':%d,'window':%d,"
	    "'wait_ms':-1}",
	    N, N);
	hear_nothing(c);
	wait_for(log_count("cannot be opened") > 0);
	n_slept = count_sleeps();
	wait_for(count_sleeps() >= n_slept + 10);
	send_text(c, "jobs", "small");
	limit_server_fds(lowest_free_fd() + 64);
	for (int i = 0; i < N; i++)
		assert_true(hear_file(receiver, 1, LARGE)->fd >= 0);
	hear_end(receiver, 1, "max");
	assert_true(log_count("cannot be opened") < N);
}

/* The reserve does not help: below it the limit leaves no place. They wait. */
static void test_clients_wait_below_the_limit(void **state)
{
	struct client *served, *late[8];

	start();
	served = client_connect();
	hear_nothing(served);
	limit_server_fds(3);
	for (size_t i = 0; i < ARRAY_SIZE(late); i++)
		late[i] = client_connect();
	wait_for(log_count("open files") > 0);
	for (int i = 0; i < 100; i++)
		hear_nothing(served);
	assert_int_equal(log_count("open files"), 1);
	limit_server_fds(64);
	for (size_t i = 0; i < ARRAY_SIZE(late); i++)
		hear_nothing(late[i]);
	/* the reserve is there again */
	limit_server_fds(lowest_free_fd());
	hear_last_words(client_connect(), "full");
	hear_nothing(served);
	limit_server_fds(64);
}

/* ---- descriptors in flight, unix(7) ---- */

enum { IN_FLIGHT_MAX = 64 };

/* Whoever may do these is not counted; without them even root's daemon is. */
static void start_as_one_who_is_counted(const char *stalled_deadline)
{
	prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN); /* for children: we ourselves keep it */
	prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE);
	start("--limit", stalled_deadline);
	limit_server_fds(IN_FLIGHT_MAX);
}

/* More than that, until the end that is returned is closed. */
static int put_in_flight(void)
{
	union {
		char space[CMSG_SPACE((IN_FLIGHT_MAX + 1) * sizeof(int))];
		struct cmsghdr header;
	} control = { .header = { .cmsg_len = CMSG_LEN((IN_FLIGHT_MAX + 1) * sizeof(int)),
				  .cmsg_level = SOL_SOCKET,
				  .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { (char[]){ "x" }, 1 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	for (int i = 0; i <= IN_FLIGHT_MAX; i++)
		memcpy(CMSG_DATA(&control.header) + (size_t)i * sizeof(int), &ends[0],
		       sizeof(int));
	assert_int_equal(sendmsg(ends[0], &message, 0), 1);
	close(ends[0]);
	return keep_fd(ends[1]);
}

static bool hears_something(const struct client *c)
{
	struct pollfd p = { .fd = client_fd(c), .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* A delivery waits until there are fewer, and is tried again and again between sleeps; others
 * are served. */
static void test_too_many_in_flight(void **state)
{
	struct client *c, *receiver;
	struct frame *f;
	int64_t n_slept;
	int end;

	start_as_one_who_is_counted("stalled_deadline=30000");
	c = client_connect();
	receiver = connect_with_fds();
	send_file(c, BY_FD, LARGE, "'queue':'q'");
	send_file(c, BY_FD, SMALL, "'queue':'q'");
	end = put_in_flight();
	say(receiver, "{'op':'receive','id':1,'queue':'q','max':2,'window':2}");
	hear_nothing(c);
	n_slept = count_sleeps();
	wait_for(count_sleeps() >= n_slept + 10);
	assert_false(hears_something(receiver));
	close_kept(end);
	f = hear_file(receiver, 1, LARGE);
	assert_true(f->fd >= 0);
	hear_file(receiver, 1, SMALL);
	hear_end(receiver, 1, "max");
	settle(receiver, "ack", f, "");
}

/* It is not said to be slow, and its message goes back. */
static void test_too_many_in_flight_for_long(void **state)
{
	struct client *c, *receiver;
	struct frame *f;

	start_as_one_who_is_counted("stalled_deadline=300");
	c = client_connect();
	receiver = connect_with_fds();
	send_file(c, BY_FD, LARGE, "'queue':'q'");
	put_in_flight();
	say(receiver, "{'op':'receive','id':1,'queue':'q'}");
	hear_eof(receiver);
	assert_int_equal(log_count("as many descriptors as ipcd may have open"), 1);
	f = take_file(c, "q", LARGE);
	assert_int_equal(json_int(f->header, "attempt"), 1);
	settle(c, "ack", f, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_counts),
		it(test_counts_out_of_range),
		it(test_refused_fds_are_closed),
		it(test_own_connection),
		it(test_back_to_back),
		it(test_split_at_every_byte),
		it(test_a_batch_with_each_byte),
		it(test_fds_of_frames_that_come_to_nothing),
		it(test_daemon_at_its_limit),
		it(test_clients_come_at_the_limit),
		it(test_bodies_come_at_the_limit),
		it(test_bodies_for_the_disk_come_at_the_limit),
		it(test_bodies_go_at_the_limit),
		it(test_clients_wait_below_the_limit),
		it(test_too_many_in_flight),
		it(test_too_many_in_flight_for_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
