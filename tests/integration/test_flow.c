/* SPDX-License-Identifier: MIT */

/* Who waits for whom: windows, full queues, senders that wait, peers that do not read. */

#include "integration/harness.h"

#include <inttypes.h>
#include <poll.h>
#include <sys/socket.h>

#include "wire/limits.h"

static void test_window(void **state)
{
	struct client *c, *sender;
	int64_t n[10];

	start();
	c = client_connect();
	sender = client_connect();
	for (int i = 0; i < 10; i++)
		send_text(sender, "jobs", keep_printf("%d", i));
	say(c, "{'op':'receive','id':1,'queue':'jobs','max':0,'window':3,'wait_ms':-1}");
	for (int i = 0; i < 3; i++)
		n[i] = json_int(hear_delivery(c, 1, keep_printf("%d", i))->header,
				"message");
	hear_nothing(c);
	for (int i = 3; i < 10; i++) {
		say(c, "{'op':'ack','message':%" PRId64 "}", n[i - 3]);
		n[i] = json_int(hear_delivery(c, 1, keep_printf("%d", i))->header,
				"message");
		hear_nothing(c);
	}
}

/* Each verdict gives the credit back, and so does an ack from another connection. */
static void test_credit_comes_back(void **state)
{
	struct client *c, *other;
	struct frame *f;

	start();
	c = client_connect();
	other = client_connect();
	for (int i = 0; i < 5; i++)
		send_text(other, "jobs", keep_printf("%d", i));
	say(c, "{'op':'receive','id':1,'queue':'jobs','max':0,'window':1,'wait_ms':-1}");
	f = hear_delivery(c, 1, "0");
	say(c, "{'op':'nack','message':%" PRId64 ",'delay_ms':1000000}",
	    json_int(f->header, "message"));
	f = hear_delivery(c, 1, "1");
	say(c, "{'op':'reject','message':%" PRId64 "}", json_int(f->header, "message"));
	f = hear_delivery(c, 1, "2");
	hear_nothing(c);
	settle(other, "ack", f, "");
	f = hear_delivery(c, 1, "3");
	say(c, "{'op':'touch','message':%" PRId64 "}", json_int(f->header, "message"));
	hear_nothing(c);
}

/* A delivery whose ack_wait_ms is over gives its credit back too. */
static void test_credit_of_an_expired_lease(void **state)
{
	struct client *c, *sender;

	start();
	c = client_connect();
	sender = client_connect();
	send_text(sender, "jobs", "1");
	send_text(sender, "other", "2");
	say(c, "{'op':'receive','id':1,'queues':['jobs','other'],'max':2,'wait_ms':-1,"
	       "'ack_wait_ms':50}");
	hear_delivery(c, 1, "1");
	hear(c);
	hear_end(c, 1, "max");
}

static void test_max(void **state)
{
	struct client *c, *sender;

	start();
	c = client_connect();
	sender = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'jobs','max':3,'window':10,'wait_ms':-1}");
	for (int i = 0; i < 5; i++)
		send_text(sender, "jobs", keep_printf("%d", i));
	for (int i = 0; i < 3; i++)
		hear_delivery(c, 1, keep_printf("%d", i));
	hear_end(c, 1, "max");
	hear_nothing(c);
	assert_int_equal(queue_count("jobs", "ready"), 2);
}

static void fill(struct client *c, int n)
{
	for (int i = 0; i < n; i++)
		send_text(c, "jobs", keep_printf("%d", i));
}

static void test_full_queue(void **state)
{
	struct client *c;
	struct frame *f;

	start("--limit", "queue_messages=3");
	c = client_connect();
	fill(c, 3);
	say_text(c, "x", "{'op':'send','id':1,'queue':'jobs'}");
	f = hear_error(c, 1, "full");
	assert_non_null(strstr(json_string(f->header, "message"), "queue_messages"));
	assert_non_null(strstr(json_string(f->header, "message"), "3"));
	send_text(c, "other", "x");
	settle(c, "ack", take(c, "jobs", "0"), "");
	send_text(c, "jobs", "3");
	for (int i = 1; i < 4; i++)
		settle(c, "ack", take(c, "jobs", keep_printf("%d", i)), "");
}

/* Leased, delayed and dead messages take room like any. */
static void test_what_fills_a_queue(void **state)
{
	struct client *c;

	start("--limit", "queue_messages=3");
	c = client_connect();
	fill(c, 3);
	take(c, "jobs", "0");
	settle(c, "nack", take(c, "jobs", "1"), ",'delay_ms':1000000");
	settle(c, "reject", take(c, "jobs", "2"), "");
	say_text(c, "x", "{'op':'send','id':1,'queue':'jobs'}");
	hear_error(c, 1, "full");
}

static void test_a_send_waits_for_room(void **state)
{
	struct client *sender, *c;

	start("--limit", "queue_messages=3");
	sender = client_connect();
	c = client_connect();
	fill(sender, 3);
	say_text(sender, "3", "{'op':'send','id':1,'queue':'jobs','wait_ms':-1}");
	hear_nothing(sender); /* it delays nothing else */
	send_text(sender, "other", "x");
	assert_int_equal(queue_count("jobs", "waiting"), 1);
	settle(c, "ack", take(c, "jobs", "0"), "");
	hear_reply(sender, 1);
	say_text(sender, "never", "{'op':'send','id':2,'queue':'jobs','wait_ms':30}");
	hear_error(sender, 2, "full");
	for (int i = 1; i < 4; i++)
		settle(c, "ack", take(c, "jobs", keep_printf("%d", i)), "");
	assert_int_equal(queue_count("jobs", "waiting"), 0);
}

/* In more queues than are looked at in one pass. */
static void test_sends_wait_in_many_queues(void **state)
{
	enum { N = 300, PER_CLIENT = 60 };
	struct client *c, *senders[N / PER_CLIENT];

	start("--limit", "user_messages=4");
	c = client_connect();
	for (int i = 0; i < 4; i++)
		send_text(c, "full", "x");
	for (int i = 0; i < N; i++) {
		if (i % PER_CLIENT == 0)
			senders[i / PER_CLIENT] = client_connect();
		say(senders[i / PER_CLIENT],
		    "{'op':'send','id':%d,'queue':'q%d','wait_ms':-1}", i + 1, i);
		say(senders[i / PER_CLIENT], "{'op':'ping','id':1000}");
		hear_reply(senders[i / PER_CLIENT], 1000);
	}
	/* each that is received lets one in, in any of them */
	say(c, "{'op':'ack','id':1,'message':%" PRId64 "}",
	    json_int(take(c, "full", "x")->header, "message"));
	hear_reply(c, 1);
	for (int i = 0; i < N; i++) {
		say(c, "{'op':'receive','id':%d,'queue':'q%d','max':0,'wait_ms':-1}",
		    i + 10, i);
	}
	for (int i = 0; i < N; i++) {
		say(c, "{'op':'ack','message':%" PRId64 "}",
		    json_int(hear(c)->header, "message"));
	}
	for (int i = 0; i < N; i++)
		assert_true(json_has(hear(senders[i / PER_CLIENT])->header, "message"));
}

/* Later sends of the same connection to the same queue stay behind one that waits, so the
 * order holds. */
static void test_order_of_waiting_sends(void **state)
{
	enum { N = LIMIT_WAITING_SENDS_MAX };
	struct client *sender, *c;
	struct frame *f;

	start("--limit", "queue_messages=1");
	sender = client_connect();
	c = client_connect();
	send_text(sender, "jobs", "0");
	for (int i = 1; i <= N; i++)
		say_text(sender, keep_printf("%d", i),
			 "{'op':'send','id':%d,'queue':'jobs','wait_ms':-1}", i);
	hear_nothing(sender);
	assert_int_equal(queue_count("jobs", "waiting"), N);
	say_text(sender, "x", "{'op':'send','id':1000,'queue':'jobs','wait_ms':-1}");
	f = hear_error(sender, 1000, "full");
	assert_non_null(strstr(json_string(f->header, "message"), "waiting_sends_max"));
	for (int i = 0; i <= N; i++) {
		settle(c, "ack", take(c, "jobs", keep_printf("%d", i)), "");
		if (i < N)
			hear_reply(sender, (uint64_t)i + 1);
	}
}

/* Several senders wait: the one who came first goes first. */
static void test_waiting_senders_take_turns(void **state)
{
	struct client *sender[3], *c;

	start("--limit", "queue_messages=1");
	c = client_connect();
	send_text(c, "jobs", "first");
	for (int i = 0; i < 3; i++) {
		sender[i] = client_connect();
		say_text(sender[i], keep_printf("%d", i),
			 "{'op':'send','id':1,'queue':'jobs','wait_ms':-1}");
		hear_nothing(sender[i]);
	}
	settle(c, "ack", take(c, "jobs", "first"), "");
	for (int i = 0; i < 3; i++) {
		hear_reply(sender[i], 1);
		settle(c, "ack", take(c, "jobs", keep_printf("%d", i)), "");
	}
}

/* What can never enter any more does not hold up those behind it. */
static void test_a_limit_that_is_lowered(void **state)
{
	struct client *sender[2], *c;
	char *large = keep_printf("%060000d", 0);

	start();
	c = client_connect();
	say(c, "{'op':'create','id':1,'name':'q','queue_bytes':100000}");
	hear_reply(c, 1);
	send_text(c, "q", large);
	for (int i = 0; i < 2; i++) {
		sender[i] = client_connect();
		say_text(sender[i], i ? "small" : large,
			 "{'op':'send','id':1,'queue':'q','wait_ms':-1}");
		hear_nothing(sender[i]);
	}
	say(c, "{'op':'set','id':1,'name':'q','queue_bytes':50000}");
	hear_reply(c, 1);
	hear_error(sender[0], 1, "too-large");
	settle(c, "ack", take(c, "q", large), "");
	hear_reply(sender[1], 1);
	settle(c, "ack", take(c, "q", "small"), "");
}

/* A full send queue, and the ack that frees it behind it on the same connection. */
static void test_the_ack_goes_through(void **state)
{
	struct client *c;
	struct frame *f;

	start("--limit", "queue_messages=1");
	c = client_connect();
	send_text(c, "jobs", "0");
	f = take(c, "jobs", "0");
	for (int i = 1; i <= LIMIT_WAITING_SENDS_MAX; i++)
		say_text(c, keep_printf("%d", i),
			 "{'op':'send','id':%d,'queue':'jobs','wait_ms':-1}", i);
	settle(c, "touch", f, "");
	say(c, "{'op':'ack','message':%" PRId64 "}", json_int(f->header, "message"));
	hear_reply(c, 1);
	hear_nothing(c);
}

static void test_cancel_a_waiting_send(void **state)
{
	struct client *c;

	start("--limit", "queue_messages=1");
	c = client_connect();
	send_text(c, "jobs", "0");
	for (int i = 1; i <= 3; i++)
		say_text(c, keep_printf("%d", i),
			 "{'op':'send','id':%d,'queue':'jobs','wait_ms':-1}", i);
	say(c, "{'op':'cancel','id':9,'request':2}");
	hear_error(c, 2, "timeout");
	hear_reply(c, 9);
	settle(c, "ack", take(c, "jobs", "0"), "");
	hear_reply(c, 1);
	settle(c, "ack", take(c, "jobs", "1"), "");
	hear_reply(c, 3);
	take(c, "jobs", "3");
}

/* What waits goes away with its sender, with an id or without. */
static void test_a_waiting_sender_goes(void **state)
{
	struct client *sender, *c;

	start("--limit", "queue_messages=1");
	sender = client_connect();
	c = client_connect();
	send_text(c, "jobs", "0");
	say_text(sender, "lost", "{'op':'send','id':1,'queue':'jobs','wait_ms':-1}");
	say_text(sender, "lost", "{'op':'send','queue':'jobs','wait_ms':100}");
	say_text(sender, "lost", "{'op':'send','queue':'jobs','wait_ms':-1}");
	hear_nothing(sender);
	assert_int_equal(queue_count("jobs", "waiting"), 3);
	client_close(sender);
	wait_for(queue_count("jobs", "waiting") == 0);
	settle(c, "ack", take(c, "jobs", "0"), "");
	take_nothing(c, "jobs");
}

static void test_a_waiting_send_without_id(void **state)
{
	struct client *sender, *c;

	start("--limit", "queue_messages=1");
	sender = client_connect();
	c = client_connect();
	send_text(c, "jobs", "0");
	say_text(sender, "late", "{'op':'send','queue':'jobs','wait_ms':20}");
	assert_string_equal(json_string(hear_notice(sender, "full")->header, "op"),
			    "send");
	say_text(sender, "1", "{'op':'send','queue':'jobs','wait_ms':-1}");
	shutdown(client_fd(sender), SHUT_WR);
	wait_for(queue_count("jobs", "waiting") == 1);
	settle(c, "ack", take(c, "jobs", "0"), "");
	hear_eof(sender);
	take(c, "jobs", "1");
}

/* The end of the requests leaves those that wait; their answers come, then the end. */
static void test_a_waiting_send_of_a_half_closed_peer(void **state)
{
	struct client *sender, *c;

	start("--limit", "queue_messages=1");
	sender = client_connect();
	c = client_connect();
	send_text(c, "jobs", "0");
	say_text(sender, "1", "{'op':'send','id':1,'queue':'jobs','wait_ms':-1}");
	shutdown(client_fd(sender), SHUT_WR);
	wait_for(queue_count("jobs", "waiting") == 1);
	hear_nothing(c);
	settle(c, "ack", take(c, "jobs", "0"), "");
	hear_reply(sender, 1);
	hear_eof(sender);
	take(c, "jobs", "1");
}

/* More than the daemon ends in one pass. */
static void test_many_receives_end_at_once(void **state)
{
	enum { N = 2000 };
	struct client *c;

	start();
	c = client_connect();
	for (int i = 1; i <= N; i++)
		say(c, "{'op':'receive','id':%d,'queue':'jobs','wait_ms':100}", i);
	for (int i = 1; i <= N; i++)
		assert_string_equal(json_string(hear(c)->header, "end"), "timeout");
	say(c, "{'op':'ping','id':1}");
	hear_reply(c, 1);
}

static void test_cancel_a_receive(void **state)
{
	struct client *c, *sender;

	start();
	c = client_connect();
	sender = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'jobs','wait_ms':-1}");
	say(c, "{'op':'receive','id':2,'queue':'jobs','wait_ms':-1}");
	say(c, "{'op':'cancel','id':9,'request':1}");
	hear_end(c, 1, "cancelled");
	hear_reply(c, 9);
	send_text(sender, "jobs", "x");
	hear_delivery(c, 2, "x");
	hear_end(c, 2, "max");
	say(c, "{'op':'cancel','id':9,'request':2}");
	hear_error(c, 9, "not-found");
	assert_int_equal(queue_count("jobs", "receivers"), 0);

	/* the end is answer enough */
	say(c, "{'op':'receive','id':3,'queue':'jobs','wait_ms':-1}");
	say(c, "{'op':'cancel','request':3}");
	hear_end(c, 3, "cancelled");
	hear_nothing(c);
}

/* ---- peers that do not read ---- */

static const char *big_body(size_t size)
{
	char *body = keep(malloc(size + 1));

	memset(body, 'b', size);
	body[size] = '\0';
	return body;
}

/* Says the same frame again and again, as much as goes without waiting. *at: how much of
 * it was said before. True when the peer was cut. */
static bool push_until_cut(struct client *c, const char *bytes, size_t size, size_t *at)
{
	ssize_t n;

	while ((n = send(client_fd(c), bytes + *at, size - *at,
			 MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
		*at = (*at + (size_t)n) % size;
	return n < 0 && errno != EAGAIN;
}

/* It asks for echoes and reads none: it is no longer read from, and cut in the end; the log
 * names it; a sibling of the same user does not notice. */
static void test_a_peer_that_never_reads(void **state)
{
	struct client *stuck, *sibling;
	size_t size, at = 0;
	char *bytes = frame_encode(&size, big_body(60000), 60000, "{'op':'ping','id':1}");

	start("--limit", "buffer_per_connection=65536", "--limit", "stalled_deadline=500",
	      "--limit", "shutdown_deadline=500");
	sibling = client_connect();
	stuck = client_connect();
	for (int i = 0; i < 100; i++) {
		push_until_cut(stuck, bytes, size, &at);
		send_text(sibling, "jobs", "x");
	}
	wait_for(push_until_cut(stuck, bytes, size, &at));
	assert_int_equal(log_count("stalled_deadline"), 1);
	assert_int_equal(log_count("test_flow) is cut"), 1);
	for (int i = 0; i < 100; i++)
		settle(sibling, "ack", take(sibling, "jobs", "x"), "");
}

/* It goes while its output is stuck and it is not read from: that is seen at once. */
static void test_a_stuck_peer_goes(void **state)
{
	struct client *stuck, *c;
	size_t size, at = 0;
	char *bytes = frame_encode(&size, big_body(60000), 60000, "{'op':'ping','id':1}");

	start("--limit", "buffer_per_connection=65536");
	c = client_connect();
	stuck = client_connect();
	for (int i = 0; i < 1000; i++) {
		assert_false(push_until_cut(stuck, bytes, size, &at));
		hear_nothing(c);
	}
	client_close(stuck);
	wait_for(stats_count("peers") == 2);
}

/* A receiver that does not read is out of the way: the messages go to another. */
static void test_a_receiver_that_never_reads(void **state)
{
	const char *body = big_body(200000);
	struct client *stuck, *sender, *other;
	int n = 0;

	start("--limit", "buffer_per_connection=65536", "--limit", "stalled_deadline=500",
	      "--limit", "shutdown_deadline=500", "--limit", "lost_delay=0");
	stuck = client_connect();
	sender = client_connect();
	other = client_connect();
	say(stuck,
	    "{'op':'receive','id':1,'queue':'jobs','max':0,'window':65536,'wait_ms':-1}");
	hear_nothing(stuck);
	for (int i = 0; i < 40; i++)
		send_text(sender, "jobs", body);
	assert_true(queue_count("jobs", "leased") < 40);
	say(other,
	    "{'op':'receive','id':1,'queue':'jobs','max':40,'window':40,'wait_ms':-1}");
	while (n++ < 40)
		hear_delivery(other, 1, body);
	assert_int_equal(log_count("stalled_deadline"), 1);
}

/* One that reads slowly, but reads, is never cut. */
static void test_a_slow_reader(void **state)
{
	enum { N = 300, PACE_MS = 10 };
	const char *body = big_body(10000);
	struct client *slow, *sender;

	start("--limit", "buffer_per_connection=65536", "--limit",
	      "stalled_deadline=1500");
	slow = client_connect();
	sender = client_connect();
	say(slow,
	    "{'op':'receive','id':1,'queue':'jobs','max':%d,'window':65536,'wait_ms':-1}",
	    N);
	for (int i = 0; i < N; i++)
		send_text(sender, "jobs", body);
	for (int i = 0; i < N; i++) {
		hear_delivery(slow, 1, body);
		poll(NULL, 0, PACE_MS);
	}
	hear_end(slow, 1, "max");
}

/* Not reading does not stop the acks of one who waits for nothing else: what it says is
 * handled as long as its own output has room. */
static void test_a_sender_that_never_reads_replies(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	for (int i = 0; i < 2000; i++)
		say_text(c, "x", "{'op':'send','id':%d,'queue':'jobs'}", i);
	wait_for(queue_count("jobs", "ready") == 2000);
	for (int i = 0; i < 2000; i++)
		hear_reply(c, (uint64_t)i);
}

/* A reader that stops holds up its own peek, and little memory. */
static int64_t most_output(struct client *c)
{
	struct frame *f = list(c, "peers");
	const char *line;
	int64_t most = 0;

	for (unsigned int i = 0; (line = frame_line(f, i)); i++) {
		int64_t output = json_int(line, "output_bytes");

		most = output > most ? output : most;
	}
	return most;
}

static void test_peek_waits_for_its_reader(void **state)
{
	enum { MESSAGES = 1500, BODY = 1000, BUFFER = 65536 };
	struct client *sender, *reader;
	char *body;

	start("--limit", "buffer_per_connection=65536");
	sender = client_connect();
	reader = client_connect();
	body = keep(calloc(1, BODY + 1));
	memset(body, 'b', BODY);
	for (int i = 0; i < MESSAGES; i++)
		send_text(sender, "jobs", body);
	say(reader, "{'op':'receive','id':1,'queue':'jobs','peek':true,'max':0}");
	wait_for(most_output(sender) > BUFFER / 2);
	assert_true(most_output(sender) < BUFFER + 2 * BODY);
	send_text(sender, "jobs", "too late to be shown");
	for (int i = 0; i < MESSAGES; i++)
		hear_delivery(reader, 1, body);
	hear_end(reader, 1, "peeked");
}

/* One that is not read does not begin the next; one that is cancelled while it waits for its
 * turn ends at once. */
static void test_peeks_one_after_the_other(void **state)
{
	enum { MESSAGES = 30, BODY = 10000 };
	struct client *sender, *reader;
	char *body = keep(calloc(1, BODY + 1));

	memset(body, 'b', BODY);
	start("--limit", "buffer_per_connection=65536");
	sender = client_connect();
	reader = client_connect();
	for (int i = 0; i < MESSAGES; i++)
		send_text(sender, "jobs", body);
	for (int i = 1; i <= 4; i++)
		say(reader, "{'op':'receive','id':%d,'queue':'jobs','peek':true,'max':0}",
		    i);
	say(reader, "{'op':'cancel','id':5,'request':2}");
	wait_for(most_output(sender) > BODY);
	for (int i = 0, id = 1; id <= 4;) {
		struct frame *f = hear(reader);
		int64_t re = json_int(f->header, "re");

		if (re == 2 || re == 5) /* the end of the second, and of the cancel */
			continue;
		assert_int_equal(re, id);
		assert_true(json_has(f->header, "end") == (i == MESSAGES));
		i = i == MESSAGES ? 0 : i + 1;
		id += i == 0 ? id == 1 ? 2 : 1 : 0;
	}
}

static void test_peek_of_a_deleted_queue(void **state)
{
	struct client *sender, *reader;
	char *body;
	struct frame *f;

	start("--limit", "buffer_per_connection=65536");
	sender = client_connect();
	reader = client_connect();
	body = keep(calloc(1, 30001));
	memset(body, 'b', 30000);
	for (int i = 0; i < 50; i++)
		send_text(sender, "jobs", body);
	say(reader, "{'op':'receive','id':1,'queue':'jobs','peek':true,'max':0}");
	wait_for(most_output(sender) > 30000);
	say(sender, "{'op':'delete','id':2,'name':'jobs'}");
	hear_reply(sender, 2);
	do
		f = hear_reply(reader, 1);
	while (!json_has(f->header, "end"));
	assert_string_equal(json_string(f->header, "end"), "peeked");
}

static void receive_all(struct client *c, const char *queue, int wait_ms)
{
	say(c, "{'op':'receive','id':1,'queue':'%s','max':0,'window':1000,'wait_ms':%d}",
	    queue, wait_ms);
}

static void send_large_metas(struct client *c, const char *queue, int n)
{
	const char *meta = big_body(3000);

	for (int i = 0; i < n; i++) {
		say(c, "{'op':'send','id':1,'queue':'%s','meta':{'x':'%s'}}", queue,
		    meta);
		hear_reply(c, 1);
	}
}

/* Room that others of its user have made, by their end, is no sign that nothing is there. */
static void test_a_wait_with_room_not_used_yet(void **state)
{
	enum { N = 300, WAIT_MS = 300 };
	struct client *sender, *others[2], *reader, *clock;

	start("--limit", "buffer_per_connection=65536", "--limit",
	      "buffer_per_user=262144");
	sender = client_connect();
	reader = client_connect();
	clock = client_connect();
	send_large_metas(sender, "q", 2 * N);
	for (int i = 0; i < 2; i++) {
		others[i] = client_connect();
		receive_all(others[i], "q", -1);
	}
	wait_for(json_int(frame_line(list(sender, "stats"), 0), "usage.buffer_bytes") >
		 131072);
	receive_all(reader, "r", WAIT_MS);
	send_large_metas(sender, "r", N);
	client_close(others[0]);
	client_close(others[1]);
	receive_all(clock, "none", 2 * WAIT_MS);
	hear_end(clock, 1, "timeout");
	assert_in_range(queue_count("r", "ready"), 1, N);
	for (int i = 0; i < N; i++)
		assert_true(json_has(hear_reply(reader, 1)->header, "lease"));
	hear_end(reader, 1, "timeout");
}

/* What sends wait with is memory too. */
static void test_waiting_sends_are_charged(void **state)
{
	struct client *c;
	char *body;

	start("--limit", "queue_messages=1", "--limit", "buffer_per_user=65536");
	c = client_connect();
	send_text(c, "jobs", "full");
	body = keep(calloc(1, 30000));
	for (int i = 1; i <= 3; i++)
		say_body(c, body, 30000,
			 "{'op':'send','id':%d,'queue':'jobs','wait_ms':-1}", i);
	hear_error(c, 3, "quota");
	take(client_connect(), "jobs", "full");
	say(c, "{'op':'cancel','id':4,'request':1}");
	hear_error(c, 1, "timeout");
	hear_reply(c, 4);
	say_body(c, body, 30000, "{'op':'send','id':3,'queue':'jobs','wait_ms':-1}");
	hear_nothing(c);
}

static int64_t daemon_memory_kib(void)
{
	char *rollup = read_file(keep_printf("/proc/%d/smaps_rollup", server.pid));
	char *line = strstr(rollup, "Anonymous:");

	return line ? strtoll(line + strlen("Anonymous:"), NULL, 10) : -1;
}

static void test_memory_goes_back(void **state)
{
	enum { MESSAGES = 12000, BODY = 4000 };
	struct client *c;
	char *body;
	int64_t full;

	if (server_is_sanitized())
		skip(); /* it keeps what was freed */
	start();
	c = client_connect();
	body = keep(calloc(1, BODY));
	for (int i = 0; i < MESSAGES; i++)
		say_body(c, body, BODY, "{'op':'send','queue':'jobs'}");
	wait_for(queue_count("jobs", "ready") == MESSAGES);
	full = daemon_memory_kib();
	assert_true(full > (int64_t)MESSAGES / 1024 * BODY);
	say(c, "{'op':'purge','id':1,'name':'jobs'}");
	assert_int_equal(json_int(hear_reply(c, 1)->header, "purged"), MESSAGES);
	assert_true(daemon_memory_kib() < full / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_window),
		it(test_credit_comes_back),
		it(test_credit_of_an_expired_lease),
		it(test_max),
		it(test_full_queue),
		it(test_what_fills_a_queue),
		it(test_a_send_waits_for_room),
		it(test_sends_wait_in_many_queues),
		it(test_order_of_waiting_sends),
		it(test_waiting_senders_take_turns),
		it(test_a_limit_that_is_lowered),
		it(test_the_ack_goes_through),
		it(test_cancel_a_waiting_send),
		it(test_a_waiting_sender_goes),
		it(test_a_waiting_send_without_id),
		it(test_a_waiting_send_of_a_half_closed_peer),
		it(test_many_receives_end_at_once),
		it(test_cancel_a_receive),
		it(test_a_peer_that_never_reads),
		it(test_a_stuck_peer_goes),
		it(test_a_receiver_that_never_reads),
		it(test_a_slow_reader),
		it(test_a_sender_that_never_reads_replies),
		it(test_peek_waits_for_its_reader),
		it(test_peeks_one_after_the_other),
		it(test_peek_of_a_deleted_queue),
		it(test_a_wait_with_room_not_used_yet),
		it(test_waiting_sends_are_charged),
		it(test_memory_goes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
