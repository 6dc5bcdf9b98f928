/* SPDX-License-Identifier: MIT */

/* What goes into queues and who gets it: order, priorities, preference, delay, time to live,
 * peeking, and what the sender is told. */

#include "integration/harness.h"

#include <inttypes.h>
#include <poll.h>
#include <unistd.h>

#include "wire/limits.h"

static void test_a_message_arrives_whole(void **state)
{
	static const char meta[] = "{ \"b\" : 1.50,\"a\":[\"\\u00e4\", null] }";
	static const char body[] = "zero \0 newline \n high \xff\xfe";
	struct client *sender, *receiver;
	struct frame *f;
	int64_t number;

	start();
	sender = client_connect();
	receiver = client_connect();
	say_body(sender, body, sizeof(body),
		 "{'op':'send','id':1,'queue':'jobs.new','meta':%s}", meta);
	number = json_int(hear_reply(sender, 1)->header, "message");
	say(receiver, "{'op':'receive','id':2,'queue':'jobs.new'}");
	f = hear_reply(receiver, 2);
	assert_int_equal(json_int(f->header, "message"), number);
	assert_int_equal(json_int(f->header, "attempt"), 1);
	assert_int_equal(json_int(f->header, "from.uid"), getuid());
	assert_int_equal(json_int(f->header, "from.gid"), getgid());
	assert_int_equal(json_int(f->header, "from.pid"), getpid());
	assert_true(json_has(f->header, "from.user"));
	assert_string_equal(json_string(f->header, "queue"), "jobs.new");
	assert_true(strlen(json_string(f->header, "lease")) > 16);
	assert_false(json_has(f->header, "priority"));
	assert_non_null(strstr(f->header, meta)); /* byte for byte */
	assert_int_equal(f->body_size, sizeof(body));
	assert_memory_equal(f->body, body, sizeof(body));
	hear_end(receiver, 2, "max");
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = { 0, 1, 4096, 4097, 65536, 262144, 262145, 3000000 };
	char *body = keep(malloc(3000000));
	struct client *c;

	for (size_t i = 0; i < 3000000; i++)
		body[i] = (char)(i * 2654435761u >> 24);
	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		say_body(c, body, sizes[i], "{'op':'send','id':1,'queue':'jobs'}");
		hear_reply(c, 1);
	}
	say(c, "{'op':'receive','id':2,'queue':'jobs','max':%zu,'window':%zu}",
	    ARRAY_SIZE(sizes), ARRAY_SIZE(sizes));
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct frame *f = hear_reply(c, 2);

		assert_int_equal(f->body_size, sizes[i]);
		assert_memory_equal(f->body, body, sizes[i]);
	}
	hear_end(c, 2, "max");
	say(c, "{'op':'delete','id':3,'name':'jobs'}");
	hear_reply(c, 3);
}

/* A send has no body, or an empty one: both are messages. */
static void test_no_body(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say(c, "{'op':'send','id':1,'queue':'jobs'}");
	hear_reply(c, 1);
	take(c, "jobs", "");
}

static void test_order_of_one_sender(void **state)
{
	struct client *sender, *receiver;

	start();
	sender = client_connect();
	receiver = client_connect();
	say(receiver,
	    "{'op':'receive','id':1,'queue':'jobs','max':1000,'window':1000,'wait_ms':-1}");
	for (int i = 0; i < 1000; i++)
		say_text(sender, keep_printf("%d", i), "{'op':'send','queue':'jobs'}");
	for (int i = 0; i < 1000; i++)
		hear_delivery(receiver, 1, keep_printf("%d", i));
	hear_end(receiver, 1, "max");
	hear_nothing(sender);
}

static void test_priorities(void **state)
{
	static const struct {
		int priority;
		const char *text;
	} sent[] = { { 9, "9" },  { 4, "4a" }, { 0, "0a" }, { 5, "5" },
		     { 4, "4b" }, { 0, "0b" }, { 3, "3" } };
	static const char *const order[] = { "0a", "0b", "3", "4a", "4b", "5", "9" };
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(sent); i++) {
		say_text(c, sent[i].text,
			 "{'op':'send','id':1,'queue':'jobs','priority':%d}",
			 sent[i].priority);
		hear_reply(c, 1);
	}
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		f = take(c, "jobs", order[i]);
		assert_int_equal(json_has(f->header, "priority"), order[i][0] != '4');
		if (order[i][0] != '4')
			assert_int_equal(json_int(f->header, "priority"),
					 order[i][0] - '0');
	}
}

static void test_queues_in_order_of_preference(void **state)
{
	struct client *c, *sender;

	start();
	c = client_connect();
	sender = client_connect();
	send_text(c, "low", "l1");
	send_text(c, "high", "h1");
	send_text(c, "low", "l2");
	send_text(c, "high", "h2");
	say(c,
	    "{'op':'receive','id':1,'queues':['high','middle','low'],'max':5,'window':5,"
	    "'wait_ms':-1}");
	hear_delivery(c, 1, "h1");
	hear_delivery(c, 1, "h2");
	hear_delivery(c, 1, "l1");
	hear_delivery(c, 1, "l2");
	send_text(sender, "middle", "m");
	assert_string_equal(json_string(hear_delivery(c, 1, "m")->header, "queue"),
			    "middle");
	hear_end(c, 1, "max");
}

/* Two who wait take turns; one who is busy is passed over. */
static void test_two_receivers_take_turns(void **state)
{
	struct client *sender, *c[2];
	int n[2] = { 0, 0 };

	start();
	sender = client_connect();
	for (int i = 0; i < 2; i++) {
		c[i] = client_connect();
		say(c[i],
		    "{'op':'receive','id':1,'queue':'jobs','max':0,'window':100,'wait_ms':-1}");
		hear_nothing(c[i]);
	}
	for (int i = 0; i < 100; i++)
		send_text(sender, "jobs", "x");
	for (int i = 0; i < 2; i++) {
		struct frame *f;

		say(c[i], "{'op':'ping','id':2}");
		while ((f = hear(c[i])) && json_int(f->header, "re") == 1)
			n[i]++;
	}
	assert_int_equal(n[0], 50);
	assert_int_equal(n[1], 50);
}

static void test_each_message_has_one_receiver(void **state)
{
	struct client *sender, *c[4];
	bool seen[200] = { false };

	start();
	sender = client_connect();
	for (int i = 0; i < 4; i++) {
		c[i] = client_connect();
		say(c[i],
		    "{'op':'receive','id':1,'queue':'jobs','max':0,'window':1000,'wait_ms':-1}");
	}
	for (int i = 0; i < 200; i++)
		send_text(sender, "jobs", keep_printf("%d", i));
	for (int i = 0; i < 4; i++) {
		struct frame *f;

		say(c[i], "{'op':'ping','id':2}");
		while ((f = hear(c[i])) && json_int(f->header, "re") == 1) {
			int number = atoi(f->body);

			assert_false(seen[number]);
			seen[number] = true;
		}
	}
	for (int i = 0; i < 200; i++)
		assert_true(seen[i]);
}

/* It runs on where the window has room, whatever is acknowledged meanwhile. */
static void test_wait_ms_and_acks(void **state)
{
	enum { N = 500 };
	int64_t number[N];
	struct client *c;
	int acked = 0;

	start();
	c = client_connect();
	for (int i = 0; i < N; i++)
		send_text(c, "jobs", "x");
	say(c, "{'op':'receive','id':1,'queue':'jobs','max':0,'window':1000,"
	       "'wait_ms':50}");
	for (int i = 0; i < N; i++)
		number[i] = json_int(hear_delivery(c, 1, "x")->header, "message");
	for (; acked < N; acked++) {
		struct pollfd end = { .fd = client_fd(c), .events = POLLIN };

		if (poll(&end, 1, 10) == 1)
			break;
		say(c, "{'op':'ack','message':%" PRId64 "}", number[acked]);
	}
	hear_end(c, 1, "timeout");
	assert_in_range(acked, 0, N - 1);
}

static void test_wait_ms_of_receive(void **state)
{
	struct client *c, *sender;

	start();
	c = client_connect();
	sender = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'jobs'}");
	hear_end(c, 1, "timeout");
	say(c, "{'op':'receive','id':1,'queue':'jobs','wait_ms':20}");
	hear_end(c, 1, "timeout");
	say(c, "{'op':'receive','id':1,'queue':'jobs','wait_ms':%d}", DEADLINE_MS);
	hear_nothing(c);
	send_text(sender, "jobs", "x");
	hear_delivery(c, 1, "x");
	hear_end(c, 1, "max");
	/* the time is idle time: deliveries end nothing, silence behind them does */
	say(c, "{'op':'receive','id':1,'queue':'jobs','max':0,'window':9,'wait_ms':100}");
	send_text(sender, "jobs", "y");
	send_text(sender, "jobs", "z");
	hear_delivery(c, 1, "y");
	hear_delivery(c, 1, "z");
	hear_end(c, 1, "timeout");
}

/* What is there is given, even to one who does not wait at all. */
static void test_wait_0_takes_all_there_is(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	for (int i = 0; i < 5; i++)
		send_text(c, "jobs", keep_printf("%d", i));
	say(c, "{'op':'receive','id':1,'queue':'jobs','max':0,'window':100}");
	for (int i = 0; i < 5; i++)
		hear_delivery(c, 1, keep_printf("%d", i));
	hear_end(c, 1, "timeout");
}

static void test_delay(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say_text(c, "late", "{'op':'send','id':1,'queue':'jobs','delay_ms':200}");
	hear_reply(c, 1);
	say_text(c, "never",
		 "{'op':'send','id':1,'queue':'jobs','delay_ms':31536000000000}");
	hear_reply(c, 1);
	send_text(c, "jobs", "now");
	assert_int_equal(queue_count("jobs", "delayed"), 2);
	take(c, "jobs", "now");
	take(c, "jobs", "late");
	assert_int_equal(queue_count("jobs", "delayed"), 1);
	take_nothing(c, "jobs");
}

static void test_ttl(void **state)
{
	struct client *c, *asker;

	start();
	c = client_connect();
	asker = client_connect();
	say_text(asker, "gone",
		 "{'op':'send','id':1,'queue':'jobs','ttl_ms':50,'confirm':'acked'}");
	assert_string_equal(json_string(hear_reply(asker, 1)->header, "outcome"),
			    "expired");
	assert_int_equal(queue_count("jobs", "ready"), 0);
	take_nothing(c, "jobs");
	/* a delivery is not taken away, and expires when it is given back */
	say_text(asker, "held",
		 "{'op':'send','id':2,'queue':'jobs','ttl_ms':50,'confirm':'acked'}");
	settle(c, "nack", take(c, "jobs", "held"), ",'delay_ms':0");
	assert_string_equal(json_string(hear_reply(asker, 2)->header, "outcome"),
			    "expired");
	assert_int_equal(queue_count("jobs", "ready"), 0);
	assert_int_equal(queue_count("jobs", "dead"), 0);
}

static void test_peek(void **state)
{
	struct client *c, *holder;
	struct frame *f;

	start();
	c = client_connect();
	holder = client_connect();
	send_text(c, "jobs", "held");
	take(holder, "jobs", "held");
	send_text(c, "jobs", "bad");
	settle(c, "reject", take(c, "jobs", "bad"), ",'reason':'broken'");
	send_text(c, "jobs", "one");
	say_text(c, "late", "{'op':'send','id':1,'queue':'jobs','delay_ms':100000}");
	hear_reply(c, 1);
	say(c, "{'op':'receive','id':2,'queue':'jobs','peek':true,'max':0}");
	for (;;) {
		const char *want;

		f = hear_reply(c, 2);
		if (json_has(f->header, "end"))
			break;
		assert_false(json_has(f->header, "lease"));
		want = !strcmp(f->body, "held")	 ? "leased"
		       : !strcmp(f->body, "bad") ? "dead"
		       : !strcmp(f->body, "one") ? "ready"
						 : "delayed";
		assert_string_equal(json_string(f->header, "state"), want);
		if (!strcmp(want, "dead"))
			assert_string_equal(json_string(f->header, "reason"), "broken");
	}
	assert_string_equal(json_string(f->header, "end"), "peeked");
	assert_int_equal(queue_count("jobs", "ready"), 1);
	assert_int_equal(queue_count("jobs", "leased"), 1);
	take(c, "jobs", "one");
}

static void test_peek_counts_no_attempt(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	send_text(c, "jobs", "x");
	for (int i = 0; i < 10; i++) {
		say(c, "{'op':'receive','id':1,'queue':'jobs','peek':true,'max':0}");
		hear_delivery(c, 1, "x");
		hear_end(c, 1, "peeked");
	}
	assert_int_equal(json_int(take(c, "jobs", "x")->header, "attempt"), 1);
}

static void test_confirm_acked(void **state)
{
	static const struct {
		const char *op, *outcome;
	} rows[] = { { "ack", "acked" }, { "reject", "rejected" } };
	struct client *sender, *c;
	struct frame *f;

	start();
	sender = client_connect();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		say_text(sender, "x",
			 "{'op':'send','id':1,'queue':'jobs','confirm':'acked'}");
		hear_nothing(sender);
		f = take(c, "jobs", "x");
		hear_nothing(sender);
		settle(c, rows[i].op, f, "");
		f = hear_reply(sender, 1);
		assert_string_equal(json_string(f->header, "outcome"), rows[i].outcome);
		assert_true(json_int(f->header, "message") > 0);
	}
	say_text(sender, "x", "{'op':'send','id':1,'queue':'jobs','confirm':'stored'}");
	hear_reply(sender, 1);
}

/* The one who asked goes: the message stays. */
static void test_confirm_and_gone(void **state)
{
	struct client *sender, *c;

	start();
	sender = client_connect();
	c = client_connect();
	say_text(sender, "x", "{'op':'send','id':1,'queue':'jobs','confirm':'acked'}");
	hear_nothing(sender);
	client_close(sender);
	settle(c, "ack", take(c, "jobs", "x"), "");
	assert_int_equal(queue_count("jobs", "acked"), 1);
}

/* The reply comes behind its effect: who has heard it can tell a third. */
static void test_a_reply_follows_its_effect(void **state)
{
	struct client *a, *b;

	start();
	a = client_connect();
	b = client_connect();
	for (int i = 0; i < 200; i++) {
		struct frame *f;

		send_text(a, "jobs", "x");
		say(b, "{'op':'receive','id':1,'queue':'jobs'}");
		f = hear_delivery(b, 1, "x");
		hear_end(b, 1, "max");
		settle(b, "nack", f, ",'delay_ms':0");
		say(a, "{'op':'receive','id':1,'queue':'jobs'}");
		f = hear_delivery(a, 1, "x");
		hear_end(a, 1, "max");
		settle(a, "ack", f, "");
		take_nothing(b, "jobs");
	}
}

static void test_numbers_rise(void **state)
{
	struct client *c;
	uint64_t last = 0;

	start();
	c = client_connect();
	for (int i = 0; i < 20; i++) {
		uint64_t number = send_text(c, i % 2 ? "odd" : "even", "x");

		assert_true(number > last);
		last = number;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_a_message_arrives_whole),
		it(test_sizes),
		it(test_no_body),
		it(test_order_of_one_sender),
		it(test_priorities),
		it(test_queues_in_order_of_preference),
		it(test_two_receivers_take_turns),
		it(test_each_message_has_one_receiver),
		it(test_wait_ms_and_acks),
		it(test_wait_ms_of_receive),
		it(test_wait_0_takes_all_there_is),
		it(test_delay),
		it(test_ttl),
		it(test_peek),
		it(test_peek_counts_no_attempt),
		it(test_confirm_acked),
		it(test_confirm_and_gone),
		it(test_a_reply_follows_its_effect),
		it(test_numbers_rise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
