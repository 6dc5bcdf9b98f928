/* SPDX-License-Identifier: MIT */

/* Dead messages: how they are looked at, and what is told of them. */

#include "integration/harness.h"

#include <unistd.h>

#include "wire/limits.h"

static struct client *c;

static void reject_one(const char *queue, const char *text, const char *keys)
{
	send_text(c, queue, text);
	settle(c, "reject", take(c, queue, text), keys);
}

/* The bodies that a look at the dead shows, joined by blanks. */
static const char *dead_of(const char *keys)
{
	char *all = keep_printf("%s", "");
	struct frame *f;

	say(c, "{'op':'receive','id':1,'max':0,'dead':true%s}", with_quotes(keys));
	for (;;) {
		f = hear_reply(c, 1);
		if (json_has(f->header, "end")) {
			assert_string_equal(json_string(f->header, "end"), "peeked");
			return all;
		}
		assert_string_equal(json_string(f->header, "state"), "dead");
		assert_false(json_has(f->header, "lease"));
		all = keep_printf("%s%s%s", all, *all ? " " : "", f->body);
	}
}

static void test_only_the_dead_are_shown(void **state)
{
	struct client *holder;

	start();
	c = client_connect();
	holder = client_connect();
	send_text(c, "q", "held");
	take(holder, "q", "held");
	reject_one("q", "one", "");
	reject_one("r", "two", "");
	reject_one("q", "three", "");
	send_text(c, "q", "ready");
	assert_string_equal(dead_of(",'queue':'q'"), "one three");
	assert_string_equal(dead_of(",'queues':['r','q']"), "two one three");
	assert_string_equal(dead_of(",'queue':'q','peek':true"), "one three");
	assert_string_equal(dead_of(",'queue':'none'"), "");
	assert_string_equal(dead_of(",'queue':'q','filter':{'attempt_min':2}"), "");
	assert_string_equal(dead_of(",'queue':'q','filter':{'attempt_min':1}"),
			    "one three");
	/* nothing was changed by that */
	assert_int_equal(queue_count("q", "dead"), 2);
	take(c, "q", "ready");
}

static void test_reason_and_attempt(void **state)
{
	struct frame *f;

	start();
	c = client_connect();
	reject_one("q", "x", ",'reason':'no picture'");
	say(c, "{'op':'receive','id':1,'queue':'q','dead':true}");
	f = hear_delivery(c, 1, "x");
	hear_end(c, 1, "peeked");
	assert_string_equal(json_string(f->header, "reason"), "no picture");
	assert_int_equal(json_int(f->header, "attempt"), 1);
	assert_string_equal(json_string(f->header, "queue"), "q");
	say(c, "{'op':'receive','id':1,'queue':'q','dead':1}");
	hear_error(c, 1, "bad-request");
}

/* With max it is told whether that was all. */
static void test_is_there_more(void **state)
{
	start();
	c = client_connect();
	for (int i = 0; i < 2; i++)
		send_text(c, i ? "r" : "q", "x");
	for (int max = 1; max <= 2; max++) {
		say(c, "{'op':'receive','id':1,'queues':['q','r'],'peek':true,'max':%d}",
		    max);
		for (int i = 0; i < max; i++)
			hear_delivery(c, 1, "x");
		hear_end(c, 1, max == 1 ? "max" : "peeked");
	}
	say(c, "{'op':'receive','id':1,'queue':'q','peek':true}");
	hear_delivery(c, 1, "x");
	hear_end(c, 1, "peeked");
}

static void test_who_may_look(void **state)
{
	struct client *bob;

	skip_unless_root();
	start("--system");
	c = client_connect();
	bob = client_connect_as(stranger(1));
	reject_one("q", "x", "");
	say(bob, "{'op':'receive','id':1,'queue':'q','dead':true}");
	hear_error(bob, 1, "denied");
}

/* ---- history ---- */

static const struct frame *look(const char *queue)
{
	struct frame *f;

	say(c, "{'op':'receive','id':1,'queue':'%s','peek':true}", queue);
	f = hear_reply(c, 1);
	hear_end(c, 1, "peeked");
	return f;
}

#define assert_has(text, part)                                   \
	do {                                                     \
		if (!strstr(text, part))                         \
			fail_msg("%s is not in %s", part, text); \
	} while (0)

static void test_each_end_is_noted(void **state)
{
	const char *mine = keep_printf("\"uid\":%u,\"pid\":%d,", getuid(), getpid());
	struct client *other;
	const char *h;

	start("--limit", "lost_delay=0", "--limit", "max_attempts=4");
	c = client_connect();
	send_text(c, "q", "x");
	assert_false(json_has(look("q")->header, "history"));
	settle(c, "nack", take(c, "q", "x"),
	       ",'delay_ms':0,'reason':'no \\u0022picture'");
	settle(c, "nack", take(c, "q", "x"), ",'delay_ms':0,'count':false");
	other = client_connect();
	take(other, "q", "x");
	client_close(other);
	wait_for(queue_count("q", "ready") == 1);
	other = client_connect();
	say(other, "{'op':'receive','id':1,'queue':'q','ack_wait_ms':1}");
	hear_delivery(other, 1, "x");
	hear_end(other, 1, "max");
	wait_for(queue_count("q", "ready") == 1);
	assert_int_equal(json_int(look("q")->header, "attempt"), 3);
	settle(c, "nack", take(c, "q", "x"), "");
	h = look("q")->header;
	assert_string_equal(json_string(h, "state"), "dead");
	assert_has(h, "\"history\":[{\"attempt\":1,\"at_ms\":");
	assert_has(h,
		   keep_printf("%s\"reason\":\"no \\\"picture\"},{\"attempt\":2,", mine));
	assert_has(h, keep_printf("%s\"reason\":\"the receiver's connection ended\"},"
				  "{\"attempt\":3,",
				  mine));
	assert_has(h, keep_printf("%s\"reason\":\"not acknowledged within ack_wait_ms\"},"
				  "{\"attempt\":4,",
				  mine));
	assert_has(h, keep_printf("%s\"reason\":\"\"}]", mine));
	/* a revived one keeps it, elsewhere too, and begins to count anew */
	say(c, "{'op':'move','id':1,'name':'q','to':'r'}");
	assert_int_equal(json_int(hear_reply(c, 1)->header, "moved"), 1);
	h = look("r")->header;
	assert_string_equal(json_string(h, "state"), "ready");
	assert_int_equal(json_int(h, "attempt"), 0);
	assert_has(h, "{\"attempt\":4,");
	settle(c, "reject", take(c, "r", "x"), ",'reason':'never'");
	h = look("r")->header;
	assert_has(h, "},{\"attempt\":1,");
	assert_has(h, "\"reason\":\"never\"}]");
	/* a delivery to a receiver has none */
	say(c, "{'op':'move','id':1,'name':'r'}");
	hear_reply(c, 1);
	assert_false(json_has(take(c, "r", "x")->header, "history"));
}

/* A lease that ended, and the verdict that came all the same, are one attempt. */
static void test_a_late_verdict_is_no_second_entry(void **state)
{
	struct client *other;
	struct frame *f;
	const char *h;

	start("--limit", "lost_delay=86400000");
	c = client_connect();
	other = client_connect();
	send_text(c, "q", "x");
	f = take(other, "q", "x");
	client_close(other);
	wait_queue_count("q", "delayed", 1);
	h = look("q")->header;
	assert_has(h, "\"reason\":\"the receiver's connection ended\"}]");
	settle(c, "nack", f, ",'delay_ms':0,'reason':'late'");
	h = look("q")->header;
	assert_has(h, "\"history\":[{\"attempt\":1,");
	assert_has(h, "\"reason\":\"late\"}]");
	assert_null(strstr(h, "connection ended"));
	settle(c, "reject", take(c, "q", "x"), ",'reason':'never'");
	assert_has(look("q")->header, "\"reason\":\"late\"},{\"attempt\":2,");
}

/* ---- which messages are dead ---- */

/* Its time to live was over before: it is kept all the same, with what was said. */
static void test_rejected_when_its_time_was_up(void **state)
{
	struct frame *f;

	start_durable();
	c = client_connect();
	for (int i = 0; i < 2; i++) {
		say_text(c, i ? "y" : "x", "{'op':'send','id':1,'queue':'q','ttl_ms':%d}",
			 1500 + i);
		hear_reply(c, 1);
	}
	f = take(c, "q", "x");
	wait_for(queue_count("q", "expired") == 1); /* y, and x before it */
	settle(c, "reject", f, ",'reason':'no'");
	assert_int_equal(queue_count("q", "dead"), 1);
	stop();
	start_durable();
	c = client_connect();
	assert_int_equal(queue_count("q", "dead"), 1);
	assert_has(look("q")->header, "\"reason\":\"no\"}]");
	/* revived it has no end */
	say(c, "{'op':'move','id':1,'name':'q'}");
	hear_reply(c, 1);
	settle(c, "nack", take(c, "q", "x"), ",'delay_ms':0");
	settle(c, "ack", take(c, "q", "x"), "");
}

/* The last attempt, too, may still be settled by the one who had it. */
static void test_the_last_attempt_is_lost(void **state)
{
	struct client *other;
	struct frame *f, *g;

	start("--limit", "lost_delay=86400000", "--limit", "max_attempts=1");
	c = client_connect();
	other = client_connect();
	send_text(c, "q", "x");
	send_text(c, "q", "y");
	f = take(other, "q", "x");
	g = take(other, "q", "y");
	client_close(other);
	wait_queue_count("q", "delayed", 2);
	settle(c, "ack", f, "");
	settle(c, "nack", g, ",'delay_ms':0");
	assert_int_equal(queue_count("q", "dead"), 1);
	assert_int_equal(queue_count("q", "acked"), 1);
	/* who does not come back in time leaves it dead */
	say(c, "{'op':'create','id':1,'name':'r','lost_delay':1}");
	hear_reply(c, 1);
	other = client_connect();
	send_text(c, "r", "z");
	take(other, "r", "z");
	client_close(other);
	wait_queue_count("r", "dead", 1);
	assert_string_equal(json_string(look("r")->header, "reason"),
			    "the receiver's connection ended");
}

static void test_fewer_attempts_than_before(void **state)
{
	start();
	c = client_connect();
	send_text(c, "q", "x");
	send_text(c, "q", "y");
	for (int i = 0; i < 3; i++)
		settle(c, "nack", take(c, "q", "x"), ",'delay_ms':0");
	say(c, "{'op':'set','id':1,'name':'q','max_attempts':3}");
	hear_reply(c, 1);
	settle(c, "ack", take(c, "q", "y"), "");
	take_nothing(c, "q");
	assert_int_equal(queue_count("q", "dead"), 1);
}

/* The largest header there can be: it is a frame all the same. */
static void test_the_largest_header(void **state)
{
	char *reason = keep_printf("%s", ""), *meta;
	char name[LIMIT_NAME_MAX + 1];
	struct frame *f;

	start("--limit", "max_attempts=100");
	c = client_connect();
	for (int i = 0; i < 64; i++)
		reason = keep_printf("%s\\u0001\\u0001\\u0001\\u0001", reason);
	reason = keep_printf("%s%s%s%s", reason, reason, reason, reason);
	memset(name, 'n', LIMIT_NAME_MAX);
	name[LIMIT_NAME_MAX] = '\0';
	meta = keep_printf("{\"k\":\"%0*d\"}", LIMIT_META_MAX - 8, 0);
	assert_int_equal(strlen(meta), LIMIT_META_MAX);
	say_text(c, "x", "{'op':'send','id':1,'queue':'%s','meta':%s}", name, meta);
	hear_reply(c, 1);
	for (int i = 0; i < 9; i++)
		settle(c, i < 8 ? "nack" : "reject", take(c, name, "x"),
		       keep_printf(",'reason':'%s'%s", reason,
				   i < 8 ? ",'delay_ms':0" : ""));
	say(c, "{'op':'receive','id':1,'queue':'%s','dead':true}", name);
	f = hear_delivery(c, 1, "x");
	assert_in_range(strlen(f->header), 40000, LIMIT_HEADER_MAX);
	assert_has(f->header, "\"history\":[{\"attempt\":9,");
	hear_end(c, 1, "peeked");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_only_the_dead_are_shown),
		it(test_reason_and_attempt),
		it(test_is_there_more),
		it(test_who_may_look),
		it(test_each_end_is_noted),
		it(test_a_late_verdict_is_no_second_entry),
		it(test_rejected_when_its_time_was_up),
		it(test_the_last_attempt_is_lost),
		it(test_fewer_attempts_than_before),
		it(test_the_largest_header),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
