/* SPDX-License-Identifier: MIT */

/* purge, move and peek of many messages, while others go on. */

#include "integration/harness.h"

enum { MANY = 60000 };

/* Only what is on the disk can be swept: with the last one all are there. */
static void send_many(struct client *c, const char *queue, int n)
{
	for (int i = 1; i < n; i++) {
		say(c, "{'op':'send','queue':'%s'}", queue);
		if (i % 500 == 0)
			hear_nothing(c);
	}
	say(c, "{'op':'send','id':1,'queue':'%s'}", queue);
	hear_reply(c, 1);
}

/* The request takes many turns, and others have theirs in between. */
static struct frame *pings_until_answered(struct client *c, struct client *other)
{
	struct frame *answer;

	while (!(answer = client_hear_now(c))) {
		say(other, "{'op':'ping','id':9}");
		hear_reply(other, 9);
	}
	return answer;
}

static void test_others_go_on_during_a_sweep(void **state)
{
	struct client *c, *other;
	struct frame *f;

	start();
	c = client_connect();
	other = client_connect();
	send_many(c, "q", MANY);
	say(c, "{'op':'move','id':1,'name':'q','to':'r','state':'ready'}");
	f = pings_until_answered(c, other);
	assert_int_equal(json_int(f->header, "moved"), MANY);
	assert_int_equal(queue_count("r", "ready"), MANY);
	/* what is not purged is looked at, too */
	say(c, "{'op':'purge','id':1,'name':'r','state':'dead'}");
	f = pings_until_answered(c, other);
	assert_int_equal(json_int(f->header, "purged"), 0);
	say(c, "{'op':'purge','id':1,'name':'r'}");
	f = pings_until_answered(c, other);
	assert_int_equal(json_int(f->header, "purged"), MANY);
}

/* What a connection that ends has not acknowledged goes back in parts, but all of it: also of a
 * receive that is over, and what it had not read. */
static void test_many_leases_go_back(void **state)
{
	enum { N = 5000, MAX = 2000, READ = 2500 };
	struct client *c, *other;

	start("--limit", "lost_delay=0");
	other = client_connect();
	send_many(other, "q", N);
	c = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'q','max':%d,'window':%d}", MAX, MAX);
	say(c, "{'op':'receive','id':2,'queue':'q','max':0,'window':%d}", N);
	for (int i = 0; i < READ; i++)
		hear(c);
	wait_for(queue_count("q", "leased") == N);
	client_close(c);
	wait_for(queue_count("q", "ready") == N);
	say(other, "{'op':'receive','id':1,'queue':'q','max':%d,'window':%d}", N, N);
	for (int i = 1; i <= N; i++)
		assert_int_equal(json_int(hear_reply(other, 1)->header, "message"), i);
	hear_end(other, 1, "max");
	assert_true(stats_count("lost") >= READ - 1);
}

/* Also of one that has not gone back yet the lease has ended. */
static void test_no_touch_of_what_goes_back(void **state)
{
	enum { N = 20000 };
	struct client *c, *other;
	struct frame *f = NULL;

	start();
	other = client_connect();
	send_many(other, "q", N);
	c = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'q','max':%d,'window':%d}", N, N);
	for (int i = 0; i < N; i++)
		f = hear_reply(c, 1);
	client_close(c);
	wait_for(queue_count("q", "leased") < N);
	say(other, "{'op':'touch','id':1,'message':%d,'lease':'%s'}", N,
	    json_string(f->header, "lease"));
	f = hear_error(other, 1, "lease-lost");
	assert_non_null(strstr(json_string(f->header, "message"), "has ended"));
}

/* So does what is not acknowledged in time. */
static void test_many_are_overdue(void **state)
{
	enum { N = 3000 };
	struct client *c;

	start();
	c = client_connect();
	send_many(c, "q", N);
	say(c, "{'op':'receive','id':1,'queue':'q','max':%d,'window':%d,'ack_wait_ms':1}",
	    N, N);
	for (int i = 0; i < N; i++)
		hear_reply(c, 1);
	hear_end(c, 1, "max");
	wait_for(queue_count("q", "ready") == N);
	assert_int_equal(stats_count("lost"), N);
}

/* Messages go to where their numbers belong, which here is more than one turn away. */
static void test_a_move_that_goes_far(void **state)
{
	enum { OLD = 3, BETWEEN = 20000 };
	struct client *c;

	start();
	c = client_connect();
	send_many(c, "r", OLD);
	send_many(c, "q", BETWEEN);
	send_many(c, "r", 1);
	say(c, "{'op':'move','id':1,'name':'r','to':'q','state':'ready'}");
	assert_int_equal(json_int(hear_reply(c, 1)->header, "moved"), OLD + 1);
	say(c, "{'op':'receive','id':1,'queue':'q','peek':true,'max':0}");
	for (int i = 1; i <= OLD + BETWEEN + 1; i++)
		assert_int_equal(json_int(hear_reply(c, 1)->header, "message"), i);
	hear_end(c, 1, "peeked");
}

/* The queue is emptied and filled under the eyes of who peeks. */
static void test_peek_while_in_use(void **state)
{
	enum { SHOWN = 10000, TAKEN = 3000 };
	struct client *peeker, *c;
	uint64_t last = 0;
	int n = 0;

	start();
	c = client_connect();
	send_many(c, "q", SHOWN);
	peeker = client_connect();
	say(peeker, "{'op':'receive','id':1,'queue':'q','max':0,'peek':true}");
	say(c, "{'op':'receive','id':2,'queue':'q','max':%d,'window':%d}", TAKEN, TAKEN);
	for (int i = 0; i < TAKEN; i++) {
		struct frame *f = hear_reply(c, 2);

		say(c, "{'op':'ack','message':%lld}",
		    (long long)json_int(f->header, "message"));
		say(c, "{'op':'send','queue':'q'}");
	}
	hear_end(c, 2, "max");
	for (;;) {
		struct frame *f = hear_reply(peeker, 1);

		if (json_has(f->header, "end"))
			break;
		assert_true((uint64_t)json_int(f->header, "message") > last);
		last = (uint64_t)json_int(f->header, "message");
		n++;
	}
	/* all but what was gone before it came to that */
	assert_in_range(n, SHOWN - TAKEN, SHOWN);
	assert_int_equal(last, SHOWN);
	assert_int_equal(queue_count("q", "ready"), SHOWN);
}

/* More to show than the output holds, and nobody reads. */
static void test_a_peeker_who_does_not_read(void **state)
{
	enum { LARGE = 100000, N = 100 };
	char *body = keep(calloc(1, LARGE));
	struct client *peeker, *c;
	struct frame *f;

	start();
	c = client_connect();
	peeker = client_connect();
	for (int i = 0; i < N; i++) {
		say_body(c, body, LARGE, "{'op':'send','id':1,'queue':'q'}");
		hear_reply(c, 1);
	}
	say(peeker, "{'op':'receive','id':1,'queues':['q','r'],'max':0,'peek':true}");
	hear_nothing(c);
	say(c, "{'op':'receive','id':1,'queue':'q'}");
	f = hear_reply(c, 1);
	hear_end(c, 1, "max");
	settle(c, "ack", f, "");
	say(c, "{'op':'purge','id':1,'name':'q'}");
	assert_int_equal(json_int(hear_reply(c, 1)->header, "purged"), N - 1);
	send_text(c, "r", "too late");
	f = hear_reply(peeker, 1);
	while (!json_has(f->header, "end"))
		f = hear_reply(peeker, 1);
	assert_string_equal(json_string(f->header, "end"), "peeked");
}

/* As a receive that waits: one that looks is told when it may no longer. */
static void test_a_peeker_who_loses_the_right(void **state)
{
	enum { LARGE = 100000, N = 100 };
	char *body = keep(calloc(1, LARGE));
	struct client *peeker, *c;
	struct frame *f;
	int n = 0;

	skip_unless_root();
	start("--system");
	c = client_connect();
	peeker = client_connect_as(stranger(0));
	say(c, "{'op':'create','id':1,'name':'q','mode':'0644'}");
	hear_reply(c, 1);
	for (int i = 0; i < N; i++) {
		say_body(c, body, LARGE, "{'op':'send','id':1,'queue':'q'}");
		hear_reply(c, 1);
	}
	say(peeker, "{'op':'receive','id':1,'queue':'q','max':0,'peek':true}");
	f = hear_reply(peeker, 1);
	say(c, "{'op':'set','id':1,'name':'q','mode':'0600'}");
	hear_reply(c, 1);
	for (; !json_has(f->header, "error"); n++) {
		assert_false(json_has(f->header, "end"));
		f = hear(peeker);
	}
	assert_string_equal(json_string(f->header, "error"), "denied");
	assert_in_range(n, 1, N - 1);
	hear_nothing(peeker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_others_go_on_during_a_sweep),
		it(test_a_move_that_goes_far),
		it(test_many_leases_go_back),
		it(test_no_touch_of_what_goes_back),
		it(test_many_are_overdue),
		it(test_peek_while_in_use),
		it(test_a_peeker_who_does_not_read),
		it(test_a_peeker_who_loses_the_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
