/* SPDX-License-Identifier: MIT */

/* Answers that the storage thread sends: what follows them finds what they tell, and each
 * request is answered once, in whole frames. */

#include "integration/durable.h"

static struct client *c, *other;

static void begin(void)
{
	start_durable(AT_ONCE, "--log-level", "error");
	c = client_connect();
	other = client_connect();
}

/* The daemon may still have what is answered among its requests. */
static void test_the_same_id_again(void **state)
{
	begin();
	for (int i = 0; i < 2000; i++) {
		say_text(c, "x", "{'op':'send','id':1,'queue':'q'}");
		hear_reply(c, 1);
	}
	assert_int_equal(queue_count("q", "ready"), 2000);
}

enum { CROWD = 60 };
static struct client *crowd[CROWD];

static void connect_crowd(void)
{
	for (int i = 0; i < CROWD; i++)
		crowd[i] = client_connect();
}

static void crowd_sends(void)
{
	for (int i = 0; i < CROWD; i++)
		say_text(crowd[i], "x", "{'op':'send','id':1,'queue':'crowd'}");
}

/* The thread is still busy with the answers of others. */
static void test_what_was_answered_is_there(void **state)
{
	begin();
	connect_crowd();
	for (int i = 0; i < 200; i++) {
		const char *text = keep_printf("%d", i);
		struct frame *f;

		say_text(c, text, "{'op':'send','id':1,'queue':'q'}");
		crowd_sends();
		hear_reply(c, 1);
		say(c, "{'op':'receive','id':2,'queue':'q'}");
		f = hear_delivery(c, 2, text);
		hear_end(c, 2, "max");
		settle(c, "ack", f, "");
		for (int k = 0; k < CROWD; k++)
			hear_reply(crowd[k], 1);
	}
}

static void test_what_was_answered_is_counted(void **state)
{
	begin();
	for (int i = 0; i < 500; i++) {
		const char *text = keep_printf("%d", i);

		send_text(c, "q", text);
		assert_int_equal(queue_count("q", "sent"), i + 1);
		settle(other, "ack", take(other, "q", text), "");
	}
	assert_int_equal(queue_count("q", "acked"), 500);
}

/* Of the client's own connection, which has no request open but this one. */
static int64_t requests_of_mine(void)
{
	struct frame *f = list(c, "peers");
	int64_t most = 0;

	for (unsigned int i = 0; frame_line(f, i); i++)
		most = max_u64((uint64_t)most,
			       (uint64_t)json_int(frame_line(f, i), "requests"));
	return most;
}

static void test_what_was_answered_is_no_request(void **state)
{
	begin();
	for (int i = 0; i < 300; i++) {
		send_text(c, "q", "x");
		assert_int_equal(requests_of_mine(), 0);
	}
}

/* Whoever comes first: the request has one answer, and cancel tells which. */
static void test_cancelled_at_any_moment(void **state)
{
	int n_cancelled = 0;

	begin();
	for (int i = 0; i < 1000; i++) {
		struct frame *first, *second;
		bool cancelled;

		say_text(c, "x", "{'op':'send','id':1,'queue':'q'}");
		usleep((useconds_t)(i % 50) * 10);
		say(c, "{'op':'cancel','id':2,'request':1}");
		first = hear(c);
		second = hear(c);
		assert_int_equal(json_int(first->header, "re"), 1);
		assert_int_equal(json_int(second->header, "re"), 2);
		cancelled = json_has(first->header, "error");
		assert_int_equal(json_has(second->header, "error"), !cancelled);
		n_cancelled += cancelled;
	}
	hear_nothing(c);
	print_message("%d of 1000 were cancelled\n", n_cancelled);
	wait_queue_count("q", "ready",
			 1000); /* also of the last one, if that was cancelled */
}

enum { MANY = 1500, RECEIVE = 1000000 };

static struct {
	int sent, pongs, got;
} heard;

/* The next frame, of whatever kind. */
static void hear_any(void)
{
	struct frame *f = hear(c);
	int64_t re = json_int(f->header, "re");

	assert_false(json_has(f->header, "error"));
	if (re < MANY) {
		heard.sent++;
	} else if (re < RECEIVE) {
		heard.pongs++;
	} else if (!json_has(f->header, "end")) {
		heard.got++;
		say(c, "{'op':'ack','message':%" PRId64 "}",
		    json_int(f->header, "message"));
	}
}

/* Deliveries and other answers go out on the same connection, from the loop, and more than
 * fits into its socket. */
static void test_among_other_frames(void **state)
{
	enum { LARGE = 20000 };
	char *body = keep(malloc(LARGE));

	memset(body, 'b', LARGE);
	begin();
	say(c, "{'op':'receive','id':%d,'queue':'q','max':%d,'window':200,'wait_ms':-1}",
	    RECEIVE, MANY);
	for (int i = 0; i < MANY; i++) {
		say_body(c, body, i % 3 ? 10 : LARGE, "{'op':'send','id':%d,'queue':'q'}",
			 i);
		if (i % 5 == 0)
			say(c, "{'op':'ping','id':%d}", MANY + i);
		if (i % 50 == 49)
			for (int k = 0; k < 40; k++)
				hear_any();
	}
	while (heard.sent < MANY || heard.got < MANY || heard.pongs < MANY / 5)
		hear_any();
}

struct bytes_said {
	char data[1000];
	size_t size;
};

static void append(struct bytes_said *all, const char *header, const char *body)
{
	size_t size;
	char *frame = frame_encode(&size, body, strlen(body), "%s", with_quotes(header));

	assert_true(all->size + size <= sizeof(all->data));
	memcpy(all->data + all->size, frame, size);
	all->size += size;
}

/* It has swept, and waits for the disk as those behind it do: they wait on. */
static void test_a_sweep_is_cancelled(void **state)
{
	begin();
	for (int i = 0; i < 20; i++) {
		struct bytes_said all = { .size = 0 };
		struct client *sweeper = client_connect();
		bool told[23] = { false };

		for (int k = 0; k < 3; k++)
			send_text(c, "q", "x");
		append(&all, "{'op':'purge','id':10,'name':'q'}", "");
		append(&all, "{'op':'send','id':20,'queue':'r'}", "x");
		append(&all, "{'op':'send','id':21,'queue':'r'}", "x");
		append(&all, "{'op':'cancel','id':22,'request':10}", "");
		say_bytes(sweeper, all.data, all.size);
		for (int k = 0; k < 4; k++) {
			struct frame *f = hear(sweeper);
			int64_t re = json_int(f->header, "re");

			assert_false(told[re]);
			told[re] = true;
			if (re == 10 && json_has(f->header, "error"))
				assert_int_equal(json_int(f->header, "purged"), 3);
		}
		assert_int_equal(requests_of_mine(), 0);
		client_close(sweeper);
	}
	assert_int_equal(queue_count("r", "ready"), 40);
	assert_int_equal(queue_count("q", "ready"), 0);
}

/* While the thread is at it. */
static void test_the_end(void **state)
{
	for (int i = 0; i < 20; i++) {
		begin();
		connect_crowd();
		crowd_sends();
		hear_reply(crowd[0], 1);
		stop();
		for (int k = 1; k < CROWD; k++) {
			assert_int_equal(json_int(hear(crowd[k])->header, "re"), 1);
			hear_eof(crowd[k]);
		}
	}
}

/* Nothing comes behind them. */
static void test_last_words(void **state)
{
	begin();
	for (int i = 0; i < 100; i++) {
		struct client *bad = client_connect();
		struct frame *f;

		for (int k = 0; k < 20; k++)
			say_text(bad, "x", "{'op':'send','id':%d,'queue':'q'}", k);
		usleep((useconds_t)(i % 20) * 20);
		say(bad, "no JSON");
		while (json_has((f = hear(bad))->header, "re"))
			;
		assert_string_equal(json_string(f->header, "error"), "bad-json");
		hear_eof(bad);
	}
	wait_queue_count("q", "ready", 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_the_same_id_again),
		it(test_what_was_answered_is_there),
		it(test_what_was_answered_is_counted),
		it(test_what_was_answered_is_no_request),
		it(test_cancelled_at_any_moment),
		it(test_among_other_frames),
		it(test_a_sweep_is_cancelled),
		it(test_the_end),
		it(test_last_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
