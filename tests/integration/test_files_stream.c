/* SPDX-License-Identifier: MIT */

/* Large bodies of peers without descriptors, while they come and go: who stops, dies or gives
 * up in the middle leaves nothing, and nobody else waits for it. */

#include "integration/harness_file.h"

#include <inttypes.h>
#include <poll.h>
#include <sys/socket.h>

#include "integration/durable.h"
#include "wire/limits.h"

#define MIB ((size_t)1 << 20)

/* ---- senders ---- */

static void say_half(struct client *c, enum way way)
{
	const char *data = pattern(2 * MIB);

	if (way == BY_PIECES) {
		say_body(c, data, MIB, "{'op':'send','id':1,'queue':'q','more':true}");
	} else {
		size_t size;
		char *frame = frame_encode(&size, data, 2 * MIB,
					   "{'op':'send','id':1,'queue':'q'}");

		say_bytes(c, frame, size / 2);
	}
}

static void test_a_sender_dies(void **state)
{
	start_durable();
	for (enum way way = BY_FRAME; way < N_WAYS; way++) {
		struct client *c = client_connect();

		say_half(c, way);
		client_close(c);
		check_nothing_remains();
	}
}

static void test_a_sender_stops(void **state)
{
	start_durable("--limit", "pieces_deadline=200", "--limit", "body_deadline=200");
	for (enum way way = BY_FRAME; way < N_WAYS; way++) {
		struct client *c = client_connect();

		say_half(c, way);
		hear_last_words(c, "timeout");
		check_nothing_remains();
	}
}

static void test_a_sender_gives_up(void **state)
{
	struct client *c;

	start_durable();
	c = client_connect();
	for (int i = 0; i < 3; i++) {
		say_half(c, BY_PIECES);
		say(c, "{'id':1,'abort':'no more'}");
		hear_error(c, 1, "bad-request");
		check_nothing_remains();
	}
	send_file(c, BY_PIECES, 2 * MIB, "'queue':'q'");
	take_file(c, "q", 2 * MIB);
}

/* It has shut down its side with half a body said. */
static void test_a_sender_shuts_down(void **state)
{
	start_durable();
	for (enum way way = BY_FRAME; way < N_WAYS; way++) {
		struct client *c = client_connect();

		say_half(c, way);
		shutdown(client_fd(c), SHUT_WR);
		while (hear_or_eof(c))
			;
		check_nothing_remains();
	}
}

/* Likewise, but it goes on receiving. */
static void test_a_receiver_shuts_down(void **state)
{
	struct client *other;

	start_durable();
	other = client_connect();
	for (enum way way = BY_FRAME; way < N_WAYS; way++) {
		struct client *c = client_connect();

		say(c, "{'op':'receive','id':2,'queue':'r','max':0,'wait_ms':-1}");
		say_half(c, way);
		wait_for(spool_count() == 1);
		shutdown(client_fd(c), SHUT_WR);
		wait_for(spool_count() == 0);
		send_text(other, "r", "text");
		assert_int_equal(json_int(hear(c)->header, "re"), 2);
		client_close(c);
	}
}

/* What comes of a body after its refusal is dropped, and counts for nobody. */
static void test_a_refusal_in_the_middle(void **state)
{
	struct client *c;

	start_durable("--limit", "file_max=1000000");
	c = client_connect();
	for (int i = 0; i < 3; i++) {
		const char *data = pattern(MIB);

		say_body(c, data, MIB, "{'op':'send','id':1,'queue':'q','more':true}");
		say_body(c, data, MIB, "{'id':1,'more':true}");
		hear_error(c, 1, "too-large");
		hear_nothing(c);
		say_body(c, data, MIB, "{'id':1,'more':true}");
		say_body(c, data, 1, "{'id':1}");
		say(c, "{'op':'ping','id':1}");
		hear_reply(c, 1);
		check_nothing_remains();
	}
}

/* Eight bodies at once of one connection, each its own. */
static void test_eight_at_once(void **state)
{
	enum { PIECES = 6, PIECE = 100000 };
	struct client *c, *receiver;

	start_durable();
	c = client_connect();
	receiver = connect_with_fds();
	for (int n = 0; n < PIECES; n++)
		for (int i = 0; i < LIMIT_CUT_BODIES_MAX; i++) {
			size_t size = (size_t)(PIECES * PIECE + i),
			       at = (size_t)n * PIECE;
			const char *data = pattern(size);

			say_body(c, data + at, n == PIECES - 1 ? size - at : PIECE,
				 "{'id':%d%s%s}", i,
				 n ? "" : ",\"op\":\"send\",\"queue\":\"q\"",
				 n < PIECES - 1 ? ",\"more\":true" : "");
		}
	for (int i = 0; i < LIMIT_CUT_BODIES_MAX; i++)
		assert_false(json_has(hear(c)->header, "error"));
	for (int i = 0; i < LIMIT_CUT_BODIES_MAX; i++)
		settle(receiver, "ack",
		       take_file(receiver, "q", (size_t)(PIECES * PIECE + i)), "");
	wait_for(spool_count() == 0);
}

/* The ninth ends the connection, and all eight. */
static void test_nine_at_once(void **state)
{
	const char *data;
	struct client *c;

	start_durable();
	data = pattern(LARGE);
	c = client_connect();
	for (int i = 0; i <= LIMIT_CUT_BODIES_MAX; i++)
		say_body(c, data, SMALL, "{'op':'send','id':%d,'queue':'q','more':true}",
			 i);
	hear_last_words(c, "bad-request");
	check_nothing_remains();
}

/* Frames of two connections, a little of each in turn. */
static void test_two_connections(void **state)
{
	enum { SIZE = 4 * MIB, STEP = 50000 };
	struct client *c[2], *receiver;
	size_t size, n;
	char *frame;

	start_durable();
	receiver = client_connect();
	frame = frame_encode(&size, pattern(SIZE), SIZE,
			     "{'op':'send','id':1,'queue':'q'}");
	for (int i = 0; i < 2; i++)
		c[i] = client_connect();
	for (size_t at = 0; at < size; at += n) {
		n = size - at < STEP ? size - at : STEP;
		for (int i = 0; i < 2; i++)
			say_bytes(c[i], frame + at, n);
	}
	for (int i = 0; i < 2; i++) {
		hear_reply(c[i], 1);
		settle(receiver, "ack", take_file(receiver, "q", SIZE), "");
	}
}

/* ---- receivers ---- */

/* The header and a little of the body, and no more. */
static void hear_a_little(struct client *c, size_t size)
{
	static char little[1000];
	struct frame *f = hear_header(c);

	assert_in_range(f->body_size, LIMIT_PIECE_MAX, size);
	client_read(HERE, c, little, sizeof(little));
}

static void receive_a_little(struct client *c, size_t size)
{
	say(c, "{'op':'receive','id':1,'queue':'q','wait_ms':30000}");
	hear_a_little(c, size);
}

static void check_another_receives(size_t size)
{
	struct client *c = client_connect();

	settle(c, "ack", take_file(c, "q", size), "");
	client_close(c);
	wait_for(spool_count() == 0);
}

static void test_a_receiver_dies(void **state)
{
	start_durable(AT_ONCE);
	for (enum way way = BY_FRAME; way < N_WAYS; way++) {
		struct client *c = connect_for(way), *second = connect_with_fds();
		struct frame *f;

		send_file(second, BY_FD, 8 * MIB, "'queue':'q'");
		receive_a_little(c, 8 * MIB);
		client_close(c);
		f = take_file(second, "q", 8 * MIB);
		assert_int_equal(json_int(f->header, "attempt"), 1); /* not delivered */
		settle(second, "ack", f, "");
		close_kept(f->fd);
		client_close(second);
		wait_for(spool_count() == 0);
	}
}

static void test_a_receiver_stops_reading(void **state)
{
	start_durable(AT_ONCE, "--limit", "stalled_deadline=300", "--limit",
		      "shutdown_deadline=300");
	for (enum way way = BY_FRAME; way < N_WAYS; way++) {
		struct client *c = connect_for(way), *other = client_connect();

		send_file(other, BY_FD, 8 * MIB, "'queue':'q'");
		receive_a_little(c, 8 * MIB);
		send_file(other, BY_FD, 8 * MIB, "'queue':'r'");
		settle(other, "ack", take_file(other, "r", 8 * MIB), "");
		wait_for(log_count("stalled_deadline") == (int)way);
		check_another_receives(8 * MIB);
		client_close(c);
		client_close(other);
	}
}

/* One who reads slowly, but reads, is never cut. */
static void test_a_slow_receiver(void **state)
{
	enum { SIZE = 3 * MIB, STEP = 60000, PACE_MS = 10 };
	static char part[STEP];
	struct client *c;
	struct frame *f;

	start_durable("--limit", "stalled_deadline=400");
	c = client_connect();
	send_file(c, BY_FD, SIZE, "'queue':'q'");
	say(c, "{'op':'receive','id':1,'queue':'q'}");
	f = hear_header(c);
	assert_int_equal(f->body_size, SIZE);
	for (size_t at = 0; at < SIZE; at += STEP) {
		client_read(HERE, c, part, SIZE - at < STEP ? SIZE - at : STEP);
		poll(NULL, 0, PACE_MS);
	}
	hear_end(c, 1, "max");
	settle(c, "ack", f, "");
	wait_for(spool_count() == 0);
}

/* Deleted while its bytes go out: they go on to their end. */
static void test_purged_while_it_goes_out(void **state)
{
	enum { SIZE = 8 * MIB };
	struct client *c, *other;
	char *body;

	start_durable();
	c = client_connect();
	other = client_connect();
	send_file(other, BY_FD, SIZE, "'queue':'q'");
	receive_a_little(c, SIZE);
	say(other, "{'op':'delete','id':1,'name':'q'}");
	hear_reply(other, 1);
	body = keep(malloc(SIZE));
	client_read(HERE, c, body, SIZE - 1000);
	assert_memory_equal(body, pattern(SIZE) + 1000, SIZE - 1000);
	hear_end(c, 1, "max");
	wait_for(spool_count() == 0);
}

/* Other requests of a receiver's own are answered behind the frame, or between pieces. */
static void test_answers_between_pieces(void **state)
{
	enum { SIZE = 8 * MIB };
	struct client *c;
	struct frame *f;
	size_t got = 0;
	bool answered = false, more = true;

	start_durable();
	c = connect_with_pieces();
	send_file(c, BY_FD, SIZE, "'queue':'q'");
	say(c, "{'op':'receive','id':1,'queue':'q'}");
	got = hear_reply(c, 1)->body_size;
	say(c, "{'op':'ping','id':2}");
	while (more) {
		f = hear(c);
		if (json_int(f->header, "re") == 2) {
			answered = true;
			continue;
		}
		got += f->body_size;
		more = json_has(f->header, "more");
	}
	assert_true(answered);
	assert_int_equal(got, SIZE);
	hear_end(c, 1, "max");
}

/* The rest of a piece, of which a little was received, and what was put behind it already. */
static void hear_abort(struct client *c, size_t size, const char *why)
{
	static char piece[LIMIT_PIECE_MAX];
	size_t got = LIMIT_PIECE_MAX;
	struct frame *f;

	client_read(HERE, c, piece, LIMIT_PIECE_MAX - 1000);
	for (f = hear_reply(c, 1); json_has(f->header, "more"); f = hear_reply(c, 1))
		got += f->body_size;
	assert_int_equal(f->body_size, 0);
	assert_non_null(strstr(json_string(f->header, "abort"), why));
	assert_true(got < size);
}

static void test_a_stop_between_pieces(void **state)
{
	struct client *c, *whole;

	start_durable();
	c = connect_with_pieces();
	whole = client_connect();
	for (int i = 0; i < 2; i++)
		send_file(whole, BY_FD, 8 * MIB, "'queue':'q'");
	receive_a_little(whole, 8 * MIB);
	receive_a_little(c, 8 * MIB);
	kill(server.pid, SIGTERM);
	wait_for(log_count("stopping") == 1);
	hear_abort(c, 8 * MIB, "shutting-down");
	hear_end(c, 1, "shutting-down"); /* max was not reached */
	hear_eof(c);
	client_close(whole);
	stop();
	start_durable();
	c = client_connect();
	for (int i = 0; i < 2; i++)
		settle(c, "ack", take_file(c, "q", 8 * MIB), "");
}

/* Taken or looked at, with more to come behind it or as the last one. */
static const char *const ways_to_receive[] = { "'max':2", "'max':1",
					       "'max':2,'peek':true",
					       "'max':1,'peek':true" };

/* Whoever cancels is answered at once, and may use the id again: nothing comes after. */
static void test_cancel_between_pieces(void **state)
{
	struct client *c, *other;

	start_durable();
	c = connect_with_pieces();
	other = client_connect();
	send_file(other, BY_FD, 8 * MIB, "'queue':'q'");
	for (size_t i = 0; i < ARRAY_SIZE(ways_to_receive); i++) {
		say(c, "{'op':'receive','id':1,'queue':'q','wait_ms':-1,%s}",
		    with_quotes(ways_to_receive[i]));
		hear_a_little(c, 8 * MIB);
		say(c, "{'op':'cancel','id':2,'request':1}");
		hear_abort(c, 8 * MIB, "cancelled");
		hear_end(c, 1, "cancelled");
		hear_reply(c, 2);
		say(c, "{'op':'ping','id':1}");
		hear_reply(c, 1);
	}
	assert_int_equal(json_int(take_file(other, "q", 8 * MIB)->header, "attempt"), 1);
}

static void test_less_right_between_pieces(void **state)
{
	struct client *ann, *root;
	struct frame *f;

	skip_unless_root();
	start_durable("--system");
	root = client_connect();
	ann = client_connect_as(stranger(1));
	say(ann, "{'op':'hello','id':9,'pieces':true}");
	hear_reply(ann, 9);
	say(root, "{'op':'create','id':1,'name':'q','mode':'0666'}");
	hear_reply(root, 1);
	send_file(root, BY_FD, 8 * MIB, "'queue':'q'");
	for (size_t i = 0; i < ARRAY_SIZE(ways_to_receive); i++) {
		say(ann, "{'op':'receive','id':1,'queue':'q','wait_ms':-1,%s}",
		    with_quotes(ways_to_receive[i]));
		hear_a_little(ann, 8 * MIB);
		say(root, "{'op':'set','id':1,'name':'q','mode':'0600'}");
		hear_reply(root, 1);
		hear_abort(ann, 8 * MIB, "receive");
		hear_error(ann, 1, "denied");
		say(ann, "{'op':'ping','id':2}");
		hear_reply(ann, 2);
		say(root, "{'op':'set','id':1,'name':'q','mode':'0666'}");
		hear_reply(root, 1);
	}
	f = take_file(root, "q", 8 * MIB); /* though ann is still there */
	assert_int_equal(json_int(f->header, "attempt"), 1);
	settle(root, "ack", f, "");
}

/* ---- a very large one next to small calls ---- */

enum { HUGE_SIZE = 256 * MIB };

static int try_send(struct client *c, const char *data, size_t size)
{
	ssize_t n = send(client_fd(c), data, size, MSG_DONTWAIT | MSG_NOSIGNAL);

	assert_true(n >= 0 || errno == EAGAIN);
	return n < 0 ? 0 : (int)n;
}

/* As fast as it goes, with a ping of another peer after each step. */
static void send_huge(struct client *c, struct client *other)
{
	static char zeros[MIB];
	size_t size, said = 0;
	char *header = frame_encode(
		&size, NULL, 0, "{'op':'send','id':1,'queue':'q','size':%d}", HUGE_SIZE);

	say_bytes(c, header, size);
	while (said < HUGE_SIZE) {
		size_t left = HUGE_SIZE - said;

		said += (size_t)try_send(c, zeros, left < MIB ? left : MIB);
		hear_nothing(other);
	}
	hear_reply(c, 1);
}

static void receive_huge(struct client *c, struct client *other)
{
	static char data[MIB];
	struct frame *f;

	say(c, "{'op':'receive','id':2,'queue':'q'}");
	f = hear_header(c);
	assert_int_equal(f->body_size, HUGE_SIZE);
	for (size_t got = 0; got < HUGE_SIZE; got += MIB) {
		client_read(HERE, c, data, MIB);
		assert_int_equal(data[0] | data[MIB - 1], 0);
		hear_nothing(other);
	}
	hear_end(c, 2, "max");
	settle(c, "ack", f, "");
}

static void test_a_huge_body_next_to_pings(void **state)
{
	struct client *c, *other;

	start_durable();
	c = client_connect();
	other = client_connect();
	create_volatile(c, "q");
	send_huge(c, other);
	receive_huge(c, other);
	wait_for(spool_count() == 0);
}

/* One comes, one goes, and a third is copied meanwhile. */
static void test_huge_bodies_both_ways(void **state)
{
	enum { STREAM = 64 * MIB, STEP = 256 << 10 };
	static char zeros[MIB], data[STEP];
	struct client *in, *out, *copied, *other;
	size_t size, said = 0, got = 0;
	struct frame *f;
	char *header;

	start_durable();
	in = client_connect();
	out = client_connect();
	copied = client_connect();
	other = client_connect();
	create_volatile(other, "in");
	create_volatile(other, "out");
	send_fd(out, make_sparse(STREAM), "'queue':'out'");
	say(out, "{'op':'receive','id':2,'queue':'out'}");
	f = hear_header(out);
	assert_int_equal(f->body_size, STREAM);
	header = frame_encode(&size, NULL, 0,
			      "{'op':'send','id':1,'queue':'in','size':%d}", STREAM);
	say_bytes(in, header, size);
	say_fd(copied, make_file(STREAM),
	       "{'op':'send','id':1,'fds':1,'queue':'copied','sha256':true}");
	while (said < STREAM || got < STREAM) {
		size_t left = STREAM - said;

		if (left)
			said += (size_t)try_send(in, zeros, left < MIB ? left : MIB);
		hear_nothing(other);
		if (got == STREAM)
			continue;
		client_read(HERE, out, data, STEP);
		assert_int_equal(data[0] | data[STEP - 1], 0);
		got += STEP;
		hear_nothing(other);
	}
	hear_reply(in, 1);
	hear_end(out, 2, "max");
	settle(out, "ack", f, "");
	hear_reply(copied, 1);
	assert_int_equal(queue_count("in", "file_bytes"), STREAM);
	settle(copied, "ack", take_file(copied, "copied", STREAM), "");
	say(in, "{'op':'purge','id':2,'name':'in'}");
	hear_reply(in, 2);
	wait_for(spool_count() == 0);
}

/* It is in a file, not in the daemon's memory. */
static long resident_kib(void)
{
	const char *status = read_file(keep_printf("/proc/%d/status", (int)server.pid));
	const char *line = strstr(status, "VmHWM:");

	assert_non_null(line);
	return strtol(line + strlen("VmHWM:"), NULL, 10);
}

static void test_memory(void **state)
{
	enum { SIZE = 64 * MIB };
	struct client *c, *receivers[4];
	static char little[1000];

	start_durable();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(receivers); i++)
		send_fd(c, make_sparse(SIZE), "'queue':'q'");
	for (size_t i = 0; i < ARRAY_SIZE(receivers); i++) {
		receivers[i] = client_connect();
		say(receivers[i], "{'op':'receive','id':1,'queue':'q'}");
		assert_int_equal(hear_header(receivers[i])->body_size, SIZE);
		client_read(HERE, receivers[i], little, sizeof(little));
	}
	hear_nothing(c);
	if (!server_is_sanitized())
		assert_in_range(resident_kib(), 1, 48 * 1024);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_a_sender_dies),
		it(test_a_sender_stops),
		it(test_a_sender_gives_up),
		it(test_a_sender_shuts_down),
		it(test_a_receiver_shuts_down),
		it(test_a_refusal_in_the_middle),
		it(test_eight_at_once),
		it(test_nine_at_once),
		it(test_two_connections),
		it(test_a_receiver_dies),
		it(test_a_receiver_stops_reading),
		it(test_a_slow_receiver),
		it(test_purged_while_it_goes_out),
		it(test_answers_between_pieces),
		it(test_a_stop_between_pieces),
		it(test_cancel_between_pieces),
		it(test_less_right_between_pieces),
		it(test_a_huge_body_next_to_pings),
		it(test_huge_bodies_both_ways),
		it(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
