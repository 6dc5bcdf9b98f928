/* SPDX-License-Identifier: MIT */

/*
 * What is told is on the disk, also at the edges: answers to things that failed in part,
 * outcomes, moves to and fro, a change of the queue, a start that comes to nothing.
 */

#include "integration/durable.h"

#include <stdlib.h>
#include <sys/socket.h>

enum { LARGE = 300000 };

static struct client *c;

static void make(const char *name, const char *durable)
{
	say(c, "{'op':'create','id':1,'name':'%s','durable':%s}", name, durable);
	hear_reply(c, 1);
}

/* Both in one write, so that one batch has both. */
static void say_two(const char *first, const char *second)
{
	size_t n, m;
	char *a = frame_encode(&n, NULL, 0, "%s", with_quotes(first));
	char *b = frame_encode(&m, NULL, 0, "%s", with_quotes(second));
	char *both = keep(malloc(n + m));

	memcpy(both, a, n);
	memcpy(both + n, b, m);
	assert_int_equal(send(client_fd(c), both, n + m, MSG_NOSIGNAL), (ssize_t)(n + m));
}

/* The file of a large body is dropped and put in one transaction. */
static void test_a_large_body_moves_to_and_fro(void **state)
{
	char *body = keep(malloc(LARGE + 1));

	memset(body, 'l', LARGE);
	body[LARGE] = '\0';
	start_durable(AT_ONCE);
	c = client_connect();
	make("a", "true");
	make("m", "false");
	send_text(c, "a", body);
	say_two("{'op':'move','id':2,'name':'a','to':'m','state':'all'}",
		"{'op':'move','id':3,'name':'m','to':'a','state':'all'}");
	hear_reply(c, 2);
	hear_reply(c, 3);
	restart(CRASH, AT_ONCE);
	c = client_connect();
	take(c, "a", body);
}

/* Those that could be acknowledged do not come again, for it was told that only the last one
 * could not. */
static void test_some_of_many(void **state)
{
	int64_t numbers[3];

	start_durable(AT_ONCE);
	c = client_connect();
	for (int i = 0; i < 3; i++)
		send_text(c, "q", "x");
	for (int i = 0; i < 3; i++)
		numbers[i] = json_int(take(c, "q", "x")->header, "message");
	say(c,
	    "{'op':'ack','id':5,'messages':[%" PRId64 ",%" PRId64 ",%" PRId64 ",99999]}",
	    numbers[0], numbers[1], numbers[2]);
	hear_error(c, 5, "lease-lost");
	restart(CRASH, AT_ONCE);
	assert_int_equal(stats_count("messages"), 0);
}

static void test_a_move_that_ends_early(void **state)
{
	struct frame *f;

	start_durable(AT_ONCE);
	c = client_connect();
	say(c, "{'op':'create','id':1,'name':'small','queue_messages':2}");
	hear_reply(c, 1);
	for (int i = 0; i < 4; i++)
		send_text(c, "q", "x");
	say(c, "{'op':'move','id':2,'name':'q','to':'small','state':'all'}");
	f = hear_error(c, 2, "full");
	assert_int_equal(json_int(f->header, "moved"), 2);
	restart(CRASH, AT_ONCE);
	assert_int_equal(queue_count("small", "ready"), 2);
	assert_int_equal(queue_count("q", "ready"), 2);
}

static void test_an_outcome(void **state)
{
	struct client *other;

	start_durable(AT_ONCE);
	c = client_connect();
	other = client_connect();
	say_text(c, "x", "{'op':'send','id':1,'queue':'q','confirm':'acked'}");
	say(other, "{'op':'receive','id':1,'queue':'q','wait_ms':-1}");
	say(other, "{'op':'ack','message':%" PRId64 "}",
	    json_int(hear_reply(other, 1)->header, "message"));
	assert_string_equal(json_string(hear_reply(c, 1)->header, "outcome"), "acked");
	restart(CRASH, AT_ONCE);
	assert_int_equal(stats_count("messages"), 0);
}

/* What was sent while the queue was durable is not overtaken on its way to a receiver. */
static void test_order_when_durable_changes(void **state)
{
	struct frame *first, *second;
	struct client *other;

	start_durable(AT_ONCE);
	c = client_connect();
	other = client_connect();
	make("q", "true");
	for (int i = 0; i < 20; i++) {
		say(other, "{'op':'receive','id':1,'queue':'q','max':2,'window':2,"
			   "'wait_ms':-1}");
		hear_nothing(other);
		kill(server.pid, SIGSTOP); /* it reads all three at once */
		say_text(c, "first", "{'op':'send','queue':'q'}");
		say(c, "{'op':'set','id':1,'name':'q','durable':false}");
		say_text(c, "second", "{'op':'send','id':2,'queue':'q'}");
		kill(server.pid, SIGCONT);
		first = hear_delivery(other, 1, "first");
		second = hear_delivery(other, 1, "second");
		hear_end(other, 1, "max");
		settle(other, "ack", first, "");
		settle(other, "ack", second, "");
		hear_or_eof(c); /* in whatever order */
		hear_or_eof(c);
		say(c, "{'op':'set','id':1,'name':'q','durable':true}");
		hear_reply(c, 1);
	}
}

/* It does not get the socket: what was kept for the next start is kept for the one after. */
static void test_a_start_that_comes_to_nothing(void **state)
{
	const char *arguments[] = { "--socket", "/nonexistent/socket", "--state",
				    server.state, NULL };

	start_durable(AT_ONCE);
	c = client_connect();
	make("m", "false");
	send_text(c, "m", "kept");
	stop();
	assert_int_not_equal(wait_exit(server_spawn(arguments, server.log, NULL)), 0);
	start_durable(AT_ONCE);
	c = client_connect();
	take(c, "m", "kept");
}

/* Who makes records without waiting for an answer is not read from while too many of them
 * wait for the disk, and read on afterwards: nothing is lost, others are served. */
static void test_records_that_wait_for_the_disk(void **state)
{
	enum { N = 20000 };
	struct client *other;

	start_durable("--limit", "store_buffer=262144", "--limit",
		      "max_attempts=1000000000", "--log-level", "warning");
	c = client_connect();
	other = client_connect();
	send_text(c, "q", "x");
	say(c, "{'op':'receive','id':1,'queue':'q','max':0,'window':1,'wait_ms':-1}");
	for (int i = 0; i < N; i++)
		say(c,
		    "{'op':'nack','message':%" PRId64
		    ",'delay_ms':0,'count':false,'reason':'again'}",
		    json_int(hear_reply(c, 1)->header, "message"));
	for (int i = 0; i < N; i++)
		say_text(other, "y", "{'op':'send','queue':'r'}");
	hear_nothing(other);
	wait_queue_count("r", "ready", N);
	assert_int_equal(queue_count("q", "nacked"), N);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_a_large_body_moves_to_and_fro),
		it(test_some_of_many),
		it(test_a_move_that_ends_early),
		it(test_an_outcome),
		it(test_order_when_durable_changes),
		it(test_a_start_that_comes_to_nothing),
		it(test_records_that_wait_for_the_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
