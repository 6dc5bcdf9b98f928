/* SPDX-License-Identifier: MIT */

/* Dead messages: how they are looked at, and what is told of them. */

#include "integration/harness.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_only_the_dead_are_shown),
		it(test_reason_and_attempt),
		it(test_who_may_look),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
