/* SPDX-License-Identifier: MIT */

/* What is charged to queues and senders is counted anew at the start: limits hold as if ipcd
 * had never ended. */

#include "integration/durable.h"

static struct client *c;

static void send_fails(struct client *client, const char *queue, const char *word)
{
	say_text(client, "x", "{'op':'send','id':9,'queue':'%s'}", queue);
	hear_error(client, 9, word);
}

/* One below the limit before the restart: one more goes, and no other. */
static void test_messages_of_a_queue(void **state)
{
	enum { N = 5 };

	start_durable(AT_ONCE, "--limit", "queue_messages=5");
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		c = client_connect();
		for (int i = 0; i < N - 1; i++)
			send_text(c, "q", "x");
		restart(how, AT_ONCE, "--limit", "queue_messages=5");
		c = client_connect();
		send_text(c, "q", "last");
		send_fails(c, "q", "full");
		restart(how, AT_ONCE, "--limit", "queue_messages=5");
		c = client_connect();
		send_fails(c, "q", "full");
		settle(c, "ack", take(c, "q", "x"), "");
		send_text(c, "q", "one more");
		send_fails(c, "q", "full");
		say(c, "{'op':'purge','id':1,'name':'q'}");
		hear_reply(c, 1);
	}
}

/* More than there may be, since the limit has become smaller: none is lost, none comes. */
static void test_above_a_smaller_limit(void **state)
{
	start_durable(AT_ONCE);
	c = client_connect();
	for (int i = 0; i < 5; i++)
		send_text(c, "q", "x");
	restart(CRASH, AT_ONCE, "--limit", "queue_messages=3");
	c = client_connect();
	for (int i = 0; i < 3; i++) {
		send_fails(c, "q", "full");
		settle(c, "ack", take(c, "q", "x"), "");
	}
	send_text(c, "q", "y");
	send_fails(c, "q", "full");
}

/* Bytes are the same to the last one, with all that is charged beside the body. */
static void test_bytes(void **state)
{
	static const size_t sizes[] = { 0, 100, 4096, 4097, 300000 };
	char *body = keep(calloc(300000, 1));
	int64_t bytes, file_bytes;

	start_durable(AT_ONCE);
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		say_body(c, body, sizes[i],
			 "{'op':'send','id':1,'queue':'q','meta':{'i':%zu},'ttl_ms':%zu}",
			 i, 100000000 + i);
		hear_reply(c, 1);
	}
	settle(c, "nack", take(c, "q", ""), ",'delay_ms':0,'reason':'noted'");
	bytes = queue_count("q", "bytes");
	file_bytes = queue_count("q", "file_bytes");
	assert_true(bytes > 8293);
	assert_int_equal(file_bytes, 300000);
	for (int i = 0; i < 4; i++) {
		restart((enum ending)(i % N_ENDINGS), AT_ONCE);
		assert_int_equal(queue_count("q", "bytes"), bytes);
		assert_int_equal(stats_count("bytes"), bytes);
		assert_int_equal(queue_count("q", "file_bytes"), file_bytes);
	}
	c = client_connect();
	say(c, "{'op':'purge','id':1,'name':'q'}");
	hear_reply(c, 1);
	assert_int_equal(stats_count("bytes"), 0);
}

/* Each sender of an inbox stops at its own share; its other queues go on. */
static void test_shares_of_an_inbox(void **state)
{
	const char *inbox = keep_printf("@%u", stranger(9));
	struct client *ann, *bob;

	skip_unless_root();
	start_durable(AT_ONCE, "--system", "--limit", "inbox_messages_per_sender=3");
	ann = client_connect_as(stranger(1));
	for (int i = 0; i < 2; i++)
		send_text(ann, inbox, "of ann");
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		restart(how, AT_ONCE, "--system", "--limit",
			"inbox_messages_per_sender=3");
		ann = client_connect_as(stranger(1));
		bob = client_connect_as(stranger(2 + how));
		if (how == 0)
			send_text(ann, inbox, "of ann");
		send_fails(ann, inbox, "quota");
		send_text(ann, keep_printf("@%u.own", stranger(1)), "x");
		for (int i = 0; i < 3; i++)
			send_text(bob, inbox, "of bob");
		send_fails(bob, inbox, "quota");
	}
	c = client_connect_as(stranger(9));
	settle(c, "ack", take(c, inbox, "of ann"), "");
	send_text(ann, inbox, "of ann");
	send_fails(ann, inbox, "quota");
}

/* All that one user has, in any queue. */
static void test_messages_of_a_user(void **state)
{
	struct client *ann;

	skip_unless_root();
	start_durable(AT_ONCE, "--system", "--limit", "user_messages=4");
	ann = client_connect_as(stranger(1));
	for (int i = 0; i < 3; i++)
		send_text(ann, keep_printf("@%u.q%d", stranger(1), i), "x");
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		restart(how, AT_ONCE, "--system", "--limit", "user_messages=4");
		ann = client_connect_as(stranger(1));
		if (how == 0)
			send_text(ann, keep_printf("@%u.more", stranger(1)), "x");
		send_fails(ann, keep_printf("@%u.more", stranger(1)), "quota");
	}
	settle(ann, "ack", take(ann, keep_printf("@%u.q1", stranger(1)), "x"), "");
	send_text(ann, keep_printf("@%u.more", stranger(1)), "x");
	send_fails(ann, keep_printf("@%u.more", stranger(1)), "quota");
}

/* More names than one may have by now: they are there, but no new one is made. */
static void test_names_of_a_user(void **state)
{
	struct client *ann;

	skip_unless_root();
	start_durable(AT_ONCE, "--system");
	ann = client_connect_as(stranger(1));
	for (int i = 0; i < 3; i++)
		send_text(ann, keep_printf("@%u.q%d", stranger(1), i), "x");
	restart(CRASH, AT_ONCE, "--system", "--limit", "names_per_user=2");
	ann = client_connect_as(stranger(1));
	for (int i = 0; i < 3; i++)
		take(ann, keep_printf("@%u.q%d", stranger(1), i), "x");
	send_fails(ann, keep_printf("@%u.new", stranger(1)), "quota");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_messages_of_a_queue),
		it(test_above_a_smaller_limit),
		it(test_bytes),
		it(test_shares_of_an_inbox),
		it(test_messages_of_a_user),
		it(test_names_of_a_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
