/* SPDX-License-Identifier: MIT */

/* What outlives the daemon, however it ends: messages with all they have, names with all
 * that was set, numbers. */

#include "integration/durable.h"

static struct client *c;

/* ---- messages ---- */

static void send_with(const char *queue, const char *text, const char *keys)
{
	say_text(c, text, "{'op':'send','id':1,'queue':'%s'%s}", queue,
		 with_quotes(keys));
	hear_reply(c, 1);
}

static void fill_with_all_kinds(void)
{
	send_with("q", "plain", "");
	send_with("q", "urgent", ",'priority':0");
	send_with("q", "late", ",'priority':9,'ttl_ms':31536000000000");
	send_with("q", "with meta", ",'meta':{ 'b' : 1.50,'a':['\\u00e4', null] }");
	send_with("q", "empty meta", ",'meta':{}");
	send_with("q", "", "");
	send_with("q", "not yet", ",'delay_ms':1000000");
	send_with("r", "rejected", "");
	settle(c, "reject", take(c, "r", "rejected"), ",'reason':'no \xc3\xa4'");
	send_with("r", "without a word", "");
	settle(c, "reject", take(c, "r", "without a word"), "");
	send_with("r", "came back", "");
	settle(c, "nack", take(c, "r", "came back"), ",'delay_ms':0,'reason':'busy'");
	settle(c, "nack", take(c, "r", "came back"), ",'delay_ms':0");
}

static void test_all_a_message_has(void **state)
{
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		char *q, *r;

		start_durable(AT_ONCE);
		c = client_connect();
		if (how == ORDERLY)
			fill_with_all_kinds();
		q = describe_queue("q");
		r = describe_queue("r");
		restart(how, AT_ONCE);
		assert_string_equal(describe_queue("q"), q);
		assert_string_equal(describe_queue("r"), r);
		assert_int_equal(queue_count("q", "delayed"), 1);
		assert_int_equal(queue_count("r", "dead"), 2);
		stop();
	}
}

static void test_a_delivery_afterwards(void **state)
{
	struct frame *f;

	start_durable(AT_ONCE);
	c = client_connect();
	fill_with_all_kinds();
	restart(CRASH, AT_ONCE);
	c = client_connect();
	f = take(c, "q", "urgent");
	assert_int_equal(json_int(f->header, "priority"), 0);
	assert_int_equal(json_int(f->header, "attempt"), 1);
	assert_int_equal(json_int(f->header, "from.pid"), getpid());
	take(c, "q", "plain");
	f = take(c, "q", "with meta");
	assert_non_null(strstr(f->header, "{ \"b\" : 1.50,\"a\":[\"\\u00e4\", null] }"));
	take(c, "q", "empty meta");
	take(c, "q", "");
	take(c, "q", "late");
	take_nothing(c, "q");
	f = take(c, "r", "came back");
	assert_int_equal(json_int(f->header, "attempt"), 3);
}

static const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 262144, 262145, 3000000 };

static void send_sizes(const char *body)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		say_body(c, body, sizes[i], "{'op':'send','id':1,'queue':'q'}");
		hear_reply(c, 1);
	}
}

static void receive_sizes(const char *body)
{
	c = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'q','max':0,'window':100,'wait_ms':-1}");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct frame *f = hear_reply(c, 1);

		assert_int_equal(f->body_size, sizes[i]);
		assert_memory_equal(f->body, body, sizes[i]);
	}
}

static void test_bodies(void **state)
{
	char *body = keep(malloc(3000000));

	for (size_t i = 0; i < 3000000; i++)
		body[i] = (char)(i * 2654435761u >> 24);
	start_durable(AT_ONCE);
	c = client_connect();
	send_sizes(body);
	restart(CRASH, AT_ONCE);
	receive_sizes(body);
	restart(ORDERLY, AT_ONCE);
	wait_queue_count("q", "ready", (int64_t)ARRAY_SIZE(sizes));
	receive_sizes(body);
}

/* ---- time goes on ---- */

static void test_delay_goes_on(void **state)
{
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		start_durable(AT_ONCE);
		c = client_connect();
		send_with("q", "soon", ",'delay_ms':200");
		send_with("q", "never", ",'delay_ms':31536000000000");
		restart(how, AT_ONCE);
		c = client_connect();
		settle(c, "ack", take(c, "q", "soon"), "");
		wait_queue_count("q", "delayed", 1 + (int64_t)how);
		stop();
	}
}

static void test_ttl_goes_on(void **state)
{
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		start_durable(AT_ONCE);
		c = client_connect();
		send_with("q", "short", ",'ttl_ms':1000");
		send_with("q", "long", ",'ttl_ms':31536000000000");
		send_with("q", "for ever", "");
		restart(how, AT_ONCE);
		wait_queue_count("q", "ready", 2);
		c = client_connect();
		take(c, "q", "long");
		take(c, "q", "for ever");
		client_close(c);
		wait_queue_count("q", "ready", 2);
		c = client_connect();
		say(c, "{'op':'purge','id':1,'name':'q'}");
		hear_reply(c, 1);
		stop();
	}
}

/* A dead message has no ttl any more, nor one that was revived: also not afterwards. */
static void test_no_ttl_of_the_dead(void **state)
{
	start_durable(AT_ONCE);
	c = client_connect();
	send_with("q", "dead", ",'ttl_ms':1000");
	send_with("q", "alive", ",'ttl_ms':1000");
	settle(c, "reject", take(c, "q", "dead"), "");
	settle(c, "reject", take(c, "q", "alive"), "");
	send_with("clock", "later", ",'ttl_ms':1001");
	restart(CRASH, AT_ONCE);
	wait_queue_count("clock", "ready", 0);
	assert_int_equal(queue_count("q", "dead"), 2);
	c = client_connect();
	say(c, "{'op':'move','id':1,'name':'q','to':'r','state':'dead'}");
	hear_reply(c, 1);
	restart(ORDERLY, AT_ONCE);
	c = client_connect();
	take(c, "r", "dead");
	take(c, "r", "alive");
}

static void test_when_it_was_sent(void **state)
{
	int64_t age;

	start_durable(AT_ONCE);
	c = client_connect();
	send_text(c, "q", "x");
	wait_for(queue_count("q", "oldest_ms") > 50);
	age = queue_count("q", "oldest_ms");
	restart(CRASH, AT_ONCE);
	assert_true(queue_count("q", "oldest_ms") >= age);
}

/* ---- numbers ---- */

static void test_numbers_are_never_used_twice(void **state)
{
	uint64_t last = 0, number;

	start_durable(AT_ONCE);
	for (int i = 0; i < 6; i++) {
		c = client_connect();
		number = send_text(c, "q", "x");
		assert_true(number > last);
		last = number;
		if (i >= 2)
			settle(c, "ack", take(c, "q", "x"), "");
		if (i == 4) {
			say(c, "{'op':'delete','id':1,'name':'q'}");
			hear_reply(c, 1);
		}
		restart(i % 2 ? ORDERLY : CRASH, AT_ONCE);
	}
}

/* ---- what is answered is done ---- */

static void test_what_was_answered_is_done(void **state)
{
	start_durable(AT_ONCE);
	c = client_connect();
	send_text(c, "deleted", "x");
	send_text(c, "purged", "x");
	send_text(c, "moved", "x");
	say(c, "{'op':'delete','id':1,'name':'deleted'}");
	hear_reply(c, 1);
	say(c, "{'op':'purge','id':1,'name':'purged'}");
	hear_reply(c, 1);
	say(c, "{'op':'move','id':1,'name':'moved','to':'there','state':'all'}");
	hear_reply(c, 1);
	restart(CRASH, AT_ONCE);
	c = client_connect();
	say(c, "{'op':'names','id':1,'name':'deleted'}");
	hear_error(c, 1, "not-found");
	assert_int_equal(queue_count("purged", "ready"), 0);
	assert_int_equal(queue_count("moved", "ready"), 0);
	take(c, "there", "x");
}

/* What comes and goes within one commit leaves no trace, and no false alarm. */
static void test_sent_and_deleted_at_once(void **state)
{
	size_t size[3], total = 0;
	char *bytes[3], *all;

	bytes[0] = frame_encode(&size[0], "x", 1, "{'op':'send','id':1,'queue':'q'}");
	bytes[1] = frame_encode(&size[1], NULL, 0, "{'op':'delete','id':2,'name':'q'}");
	bytes[2] = frame_encode(&size[2], NULL, 0, "{'op':'ping','id':3}");
	all = keep(malloc(size[0] + size[1] + size[2]));
	for (int i = 0; i < 3; i++) {
		memcpy(all + total, bytes[i], size[i]);
		total += size[i];
	}
	start_durable(AT_ONCE);
	c = client_connect();
	for (int i = 0; i < 3; i++) {
		say_bytes(c, all, total);
		for (int k = 0; k < 3; k++)
			hear(c);
	}
	restart(CRASH, AT_ONCE);
	c = client_connect();
	say(c, "{'op':'names','id':1,'name':'q'}");
	hear_error(c, 1, "not-found");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_all_a_message_has),
		it(test_a_delivery_afterwards),
		it(test_bodies),
		it(test_delay_goes_on),
		it(test_ttl_goes_on),
		it(test_no_ttl_of_the_dead),
		it(test_when_it_was_sent),
		it(test_numbers_are_never_used_twice),
		it(test_what_was_answered_is_done),
		it(test_sent_and_deleted_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
