/* SPDX-License-Identifier: MIT */

/* Deliveries and how they end: ack, nack, reject, touch, lost connections, deadlines. */

#include "integration/harness.h"

#include <inttypes.h>

#include "wire/limits.h"

static void test_ack_ends_a_message(void **state)
{
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	send_text(c, "jobs", "x");
	f = take(c, "jobs", "x");
	assert_int_equal(queue_count("jobs", "leased"), 1);
	settle(c, "ack", f, "");
	assert_int_equal(queue_count("jobs", "leased"), 0);
	assert_int_equal(queue_count("jobs", "acked"), 1);
	assert_int_equal(stats_count("messages"), 0);
}

/* The second verdict about one delivery comes too late, whatever both are. */
static void test_settle_twice(void **state)
{
	static const char *const ops[] = { "ack", "nack", "reject" };
	struct client *c;

	start("--limit", "max_attempts=100");
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(ops) * ARRAY_SIZE(ops); i++) {
		char *queue = keep_printf("q%zu", i);
		struct frame *f;

		send_text(c, queue, "x");
		f = take(c, queue, "x");
		settle(c, ops[i / 3], f, i / 3 == 1 ? ",'delay_ms':1000000" : "");
		settle_fails(c, ops[i % 3], f, "lease-lost");
		settle_fails(c, "touch", f, "lease-lost");
	}
}

static void test_nack_with_delay(void **state)
{
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	send_text(c, "jobs", "x");
	f = take(c, "jobs", "x");
	settle(c, "nack", f, ",'delay_ms':100,'reason':'busy'");
	assert_int_equal(queue_count("jobs", "leased"), 0);
	f = take(c, "jobs", "x");
	assert_int_equal(json_int(f->header, "attempt"), 2);
	settle(c, "nack", f, ",'delay_ms':0");
	f = take(c, "jobs", "x");
	assert_int_equal(json_int(f->header, "attempt"), 3);
	settle(c, "nack", f, ",'delay_ms':31536000000000");
	assert_int_equal(queue_count("jobs", "delayed"), 1);
	take_nothing(c, "jobs");
}

/* Without delay_ms it takes at least the first step of the backoff. */
static void test_nack_with_backoff(void **state)
{
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	send_text(c, "jobs", "x");
	settle(c, "nack", take(c, "jobs", "x"), "");
	assert_int_equal(queue_count("jobs", "delayed"), 1);
	take_nothing(c, "jobs");
	f = take(c, "jobs", "x");
	assert_int_equal(json_int(f->header, "attempt"), 2);
}

/* A message that was given back has its old place. */
static void test_nack_keeps_the_place(void **state)
{
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	send_text(c, "jobs", "1");
	send_text(c, "jobs", "2");
	f = take(c, "jobs", "1");
	settle(c, "nack", f, ",'delay_ms':0");
	take(c, "jobs", "1");
	take(c, "jobs", "2");
}

static void test_dead_after_max_attempts(void **state)
{
	struct client *c, *sender;
	struct frame *f;

	start("--limit", "max_attempts=3");
	c = client_connect();
	sender = client_connect();
	say_text(sender, "x", "{'op':'send','id':1,'queue':'jobs','confirm':'acked'}");
	for (int attempt = 1; attempt <= 3; attempt++) {
		f = take(c, "jobs", "x");
		assert_int_equal(json_int(f->header, "attempt"), attempt);
		settle(c, "nack", f, ",'delay_ms':0,'reason':'no luck'");
	}
	assert_string_equal(json_string(hear_reply(sender, 1)->header, "outcome"),
			    "dead");
	take_nothing(c, "jobs");
	assert_int_equal(queue_count("jobs", "dead"), 1);
	say(c, "{'op':'receive','id':2,'queue':'jobs','peek':true,'max':0}");
	f = hear_delivery(c, 2, "x");
	assert_string_equal(json_string(f->header, "state"), "dead");
	assert_non_null(strstr(json_string(f->header, "reason"), "no luck"));
	hear_end(c, 2, "peeked");
}

static void test_uncounted_nacks(void **state)
{
	struct client *c;
	struct frame *f;

	start("--limit", "max_attempts=2");
	c = client_connect();
	send_text(c, "jobs", "x");
	for (int i = 0; i < 10; i++) {
		f = take(c, "jobs", "x");
		assert_int_equal(json_int(f->header, "attempt"), 1);
		settle(c, "nack", f, ",'delay_ms':0,'count':false");
	}
	settle(c, "nack", take(c, "jobs", "x"), ",'delay_ms':0,'count':true");
	assert_int_equal(json_int(take(c, "jobs", "x")->header, "attempt"), 2);
}

static void test_reject(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	send_text(c, "jobs", "x");
	settle(c, "reject", take(c, "jobs", "x"), ",'reason':'no such \\u00e4ccount'");
	take_nothing(c, "jobs");
	assert_int_equal(queue_count("jobs", "dead"), 1);
	say(c, "{'op':'receive','id':1,'queue':'jobs','peek':true,'max':0}");
	assert_string_equal(json_string(hear_delivery(c, 1, "x")->header, "reason"),
			    "no such \xc3\xa4"
			    "ccount");
	hear_end(c, 1, "peeked");
}

/* The verdict has used the token up, also for a message that was revived since. */
static void test_reject_twice(void **state)
{
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	send_text(c, "jobs", "x");
	f = take(c, "jobs", "x");
	settle(c, "reject", f, "");
	settle_fails(c, "reject", f, "lease-lost");
	say(c, "{'op':'move','id':1,'name':'jobs'}");
	hear_reply(c, 1);
	for (int i = 0; i < 2; i++) {
		say(c, "{'op':'%s','id':1,'message':%" PRId64 ",'lease':\"%s\"}",
		    i ? "ack" : "reject", json_int(f->header, "message"),
		    json_string(f->header, "lease"));
		hear_error(c, 1, "lease-lost");
	}
	take(c, "jobs", "x");
}

/* The attempts of one message are counted on and on. */
static void test_seventy_thousand_attempts(void **state)
{
	enum { N = 70000 };
	struct client *c;

	start("--limit", "max_attempts=1000000000", "--log-level", "warning");
	c = client_connect();
	send_text(c, "jobs", "x");
	say(c, "{'op':'receive','id':1,'queue':'jobs','max':0,'wait_ms':-1}");
	for (int i = 1; i <= N; i++) {
		struct frame *f = hear_delivery(c, 1, "x");

		assert_int_equal(json_int(f->header, "attempt"), i);
		say(c, "{'op':'nack','message':%" PRId64 ",'delay_ms':0}",
		    json_int(f->header, "message"));
	}
	hear_delivery(c, 1, "x");
}

static void test_a_lost_connection(void **state)
{
	struct client *c, *other;
	struct frame *f;

	start("--limit", "lost_delay=100");
	c = client_connect();
	other = client_connect();
	send_text(other, "jobs", "x");
	take(c, "jobs", "x");
	client_close(c);
	wait_for(queue_count("jobs", "leased") == 0);
	f = take(other, "jobs", "x");
	assert_int_equal(json_int(f->header, "attempt"), 2);
}

/* The lease of a lost connection still counts until the message is handed out anew. */
static void test_an_old_lease_still_acks(void **state)
{
	struct client *c, *other;
	struct frame *f;

	start("--limit", "lost_delay=1000000");
	other = client_connect();
	c = client_connect();
	send_text(other, "jobs", "x");
	f = take(c, "jobs", "x");
	client_close(c);
	wait_for(queue_count("jobs", "leased") == 0);
	settle(other, "ack", f, "");
	assert_int_equal(stats_count("messages"), 0);
}

static void test_an_old_lease_is_lost_to_a_new_one(void **state)
{
	struct client *c, *other;
	struct frame *old, *new;

	start("--limit", "lost_delay=0");
	c = client_connect();
	other = client_connect();
	send_text(other, "jobs", "x");
	old = take(c, "jobs", "x");
	client_close(c);
	new = take(other, "jobs", "x");
	assert_string_not_equal(json_string(old->header, "lease"),
				json_string(new->header, "lease"));
	c = client_connect();
	settle_fails(c, "ack", old, "lease-lost");
	settle_fails(c, "nack", old, "lease-lost");
	settle(c, "ack", new, ""); /* any connection of the same user */
}

static void test_a_lease_of_another_user(void **state)
{
	struct client *owner, *thief;
	struct frame *f;

	skip_unless_root();
	start("--system");
	thief = client_connect_as(stranger(0));
	owner = client_connect();
	send_text(owner, "jobs", "x");
	f = take(owner, "jobs", "x");
	settle_fails(thief, "ack", f, "lease-lost");
	settle_fails(thief, "touch", f, "lease-lost");
	settle(owner, "ack", f, "");
}

static void test_forged_leases(void **state)
{
	static const char *const leases[] = {
		"0000000000000000", "ffffffffffffffff", "x", "",
		"0123456789ABCDEF", "00000000000000000"
	};
	struct client *c;
	int64_t number;

	start();
	c = client_connect();
	send_text(c, "jobs", "x");
	number = json_int(take(c, "jobs", "x")->header, "message");
	for (size_t i = 0; i < ARRAY_SIZE(leases); i++) {
		struct frame *f;

		say(c, "{'op':'ack','id':1,'message':%" PRId64 ",'lease':'%s'}", number,
		    leases[i]);
		f = hear(c);
		assert_true(json_has(f->header, "error"));
	}
	assert_int_equal(queue_count("jobs", "leased"), 1);
}

/* Without lease: only deliveries that this connection holds. */
static void test_many_at_once(void **state)
{
	struct client *c, *other;
	struct frame *f;
	int64_t n[4];

	start();
	c = client_connect();
	other = client_connect();
	for (int i = 0; i < 4; i++)
		send_text(c, "jobs", "x");
	for (int i = 0; i < 4; i++)
		n[i] = json_int(take(i == 2 ? other : c, "jobs", "x")->header, "message");
	say(c,
	    "{'op':'ack','id':1,'messages':[%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64
	    ",999999]}",
	    n[0], n[1], n[2], n[3]);
	f = hear_error(c, 1, "lease-lost");
	assert_non_null(strstr(f->header,
			       keep_printf("\"messages\":[%" PRId64 ",999999]", n[2])));
	assert_int_equal(queue_count("jobs", "leased"), 1);
	say(other, "{'op':'ack','id':1,'message':%" PRId64 "}", n[2]);
	hear_reply(other, 1);
	assert_int_equal(queue_count("jobs", "acked"), 4);
	/* one that stands there twice is done */
	send_text(c, "jobs", "x");
	n[0] = json_int(take(c, "jobs", "x")->header, "message");
	say(c, "{'op':'ack','id':1,'messages':[%" PRId64 ",%" PRId64 "]}", n[0], n[0]);
	hear_reply(c, 1);
	/* and one that failed is named once */
	send_text(c, "jobs", "x");
	n[0] = json_int(take(c, "jobs", "x")->header, "message");
	say(c,
	    "{'op':'ack','id':1,'messages':[%" PRId64 ",999999,%" PRId64
	    ",999998,999999,999998]}",
	    n[0], n[0]);
	f = hear_error(c, 1, "lease-lost");
	assert_non_null(strstr(f->header, "\"messages\":[999999,999998]"));
	say(c, "{'op':'ack','id':1,'messages':[-1]}");
	f = hear_error(c, 1, "bad-request");
	assert_non_null(strstr(json_string(f->header, "message"), "from 1 to"));
}

static void test_nack_and_reject_many(void **state)
{
	struct client *c;
	int64_t n[4];

	start();
	c = client_connect();
	for (int i = 0; i < 4; i++)
		send_text(c, "jobs", "x");
	for (int i = 0; i < 4; i++)
		n[i] = json_int(take(c, "jobs", "x")->header, "message");
	say(c, "{'op':'touch','id':1,'messages':[%" PRId64 ",%" PRId64 "]}", n[0], n[1]);
	hear_reply(c, 1);
	say(c, "{'op':'nack','id':1,'messages':[%" PRId64 ",%" PRId64 "],'delay_ms':0}",
	    n[0], n[1]);
	hear_reply(c, 1);
	say(c, "{'op':'reject','id':1,'messages':[%" PRId64 ",%" PRId64 "]}", n[2], n[3]);
	hear_reply(c, 1);
	assert_int_equal(queue_count("jobs", "ready"), 2);
	assert_int_equal(queue_count("jobs", "dead"), 2);
}

/* Nobody is told about an ack that succeeds and has no id. */
static void test_fire_and_forget(void **state)
{
	struct client *c;
	int64_t number;

	start();
	c = client_connect();
	send_text(c, "jobs", "x");
	number = json_int(take(c, "jobs", "x")->header, "message");
	say(c, "{'op':'ack','message':%" PRId64 "}", number);
	hear_nothing(c);
	say(c, "{'op':'ack','message':%" PRId64 "}", number);
	hear_notice(c, "lease-lost");
	hear_nothing(c);
}

static void test_ack_wait_ends_a_lease(void **state)
{
	struct client *slow, *other;
	struct frame *old, *f;

	start();
	slow = client_connect();
	other = client_connect();
	send_text(other, "jobs", "x");
	say(slow, "{'op':'receive','id':1,'queue':'jobs','ack_wait_ms':100}");
	old = hear_delivery(slow, 1, "x");
	hear_end(slow, 1, "max");
	f = take(other, "jobs", "x");
	assert_int_equal(json_int(f->header, "attempt"), 2);
	settle_fails(slow, "ack", old, "lease-lost");
	settle(other, "ack", f, "");
}

/* Expired but not yet handed out anew: the old token still counts. */
static void test_ack_after_ack_wait(void **state)
{
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	send_text(c, "jobs", "x");
	say(c, "{'op':'receive','id':1,'queue':'jobs','ack_wait_ms':1}");
	f = hear_delivery(c, 1, "x");
	hear_end(c, 1, "max");
	wait_for(queue_count("jobs", "leased") == 0);
	settle(c, "ack", f, "");
	assert_int_equal(stats_count("messages"), 0);
}

/* It cannot be made longer, but that is no reason to say that somebody else has it. */
static void test_touch_when_the_lease_has_ended(void **state)
{
	struct client *c, *other;
	struct frame *f;

	start("--limit", "lost_delay=86400000");
	c = client_connect();
	other = client_connect();
	send_text(c, "jobs", "x");
	f = take(other, "jobs", "x");
	client_close(other);
	wait_queue_count("jobs", "delayed", 1);
	say(c, "{'op':'touch','id':1,'message':%" PRId64 ",'lease':'%s'}",
	    json_int(f->header, "message"), json_string(f->header, "lease"));
	assert_non_null(strstr(hear_error(c, 1, "lease-lost")->header, "can be settled"));
	settle(c, "ack", f, "");
}

/* As long as it is touched it stays, far beyond its ack_wait_ms. */
static void test_touch(void **state)
{
	struct client *c, *other;
	struct frame *f;

	start();
	c = client_connect();
	other = client_connect();
	send_text(other, "jobs", "x");
	send_text(other, "clock", "tick");
	say(c, "{'op':'receive','id':1,'queue':'jobs','ack_wait_ms':2000}");
	f = hear_delivery(c, 1, "x");
	hear_end(c, 1, "max");
	for (int i = 0; i < 5; i++) {
		struct frame *tick = take(other, "clock", "tick");

		settle(other, "nack", tick, ",'delay_ms':600,'count':false");
		settle(c, "touch", f, "");
		take_nothing(other, "jobs");
	}
	settle(c, "ack", f, "");
}

/* A lease belongs to the connection, not to the receive it came from. */
static void test_a_lease_outlives_its_receive(void **state)
{
	struct client *c;
	int64_t number;

	start();
	c = client_connect();
	send_text(c, "jobs", "x");
	say(c, "{'op':'receive','id':1,'queue':'jobs','max':0,'wait_ms':-1}");
	number = json_int(hear_delivery(c, 1, "x")->header, "message");
	say(c, "{'op':'cancel','id':2,'request':1}");
	hear_end(c, 1, "cancelled");
	hear_reply(c, 2);
	assert_int_equal(queue_count("jobs", "leased"), 1);
	say(c, "{'op':'ack','id':3,'message':%" PRId64 "}", number);
	hear_reply(c, 3);
}

/* Many receives that have ended, each with a lease: all can be settled, and what is not comes
 * back, by its time or with the connection. */
static void test_leases_of_many_receives(void **state)
{
	enum { N = 300 };
	struct client *c, *other;
	struct frame *f[N];

	start("--limit", "lost_delay=0");
	c = client_connect();
	other = client_connect();
	for (int i = 0; i < N; i++) {
		send_text(other, "jobs", keep_printf("%d", i));
		f[i] = take(c, "jobs", keep_printf("%d", i));
	}
	send_text(other, "late", "x");
	say(c, "{'op':'receive','id':1,'queue':'late','ack_wait_ms':1}");
	hear_delivery(c, 1, "x");
	hear_end(c, 1, "max");
	for (int i = 0; i < N; i += 2)
		settle(c, "ack", f[i], "");
	wait_for(queue_count("late", "ready") == 1);
	assert_int_equal(queue_count("jobs", "leased"), N / 2);
	client_close(c);
	for (int i = 1; i < N; i += 2)
		take(other, "jobs", keep_printf("%d", i));
}

/* What a dying consumer had not yet read is not lost either. */
static void test_unread_deliveries_come_back(void **state)
{
	struct client *c, *other;

	start("--limit", "lost_delay=0");
	c = client_connect();
	other = client_connect();
	for (int i = 0; i < 50; i++)
		send_text(other, "jobs", keep_printf("%d", i));
	say(c,
	    "{'op':'receive','id':1,'queue':'jobs','max':0,'window':100,'wait_ms':-1}");
	wait_for(queue_count("jobs", "leased") == 50);
	client_close(c);
	for (int i = 0; i < 50; i++)
		take(other, "jobs", keep_printf("%d", i));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_ack_ends_a_message),
		it(test_settle_twice),
		it(test_nack_with_delay),
		it(test_nack_with_backoff),
		it(test_nack_keeps_the_place),
		it(test_dead_after_max_attempts),
		it(test_uncounted_nacks),
		it(test_reject),
		it(test_reject_twice),
		it(test_seventy_thousand_attempts),
		it(test_a_lost_connection),
		it(test_an_old_lease_still_acks),
		it(test_an_old_lease_is_lost_to_a_new_one),
		it(test_a_lease_of_another_user),
		it(test_forged_leases),
		it(test_many_at_once),
		it(test_nack_and_reject_many),
		it(test_fire_and_forget),
		it(test_ack_wait_ends_a_lease),
		it(test_ack_after_ack_wait),
		it(test_touch),
		it(test_touch_when_the_lease_has_ended),
		it(test_a_lease_outlives_its_receive),
		it(test_leases_of_many_receives),
		it(test_unread_deliveries_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
