/* SPDX-License-Identifier: MIT */

/* dedup_id: the same send once more is the first one, before and after the daemon's end. */

#include "integration/durable.h"

static struct client *c;

static struct frame *send_id(struct client *client, const char *queue, const char *id,
			     const char *text)
{
	say_text(client, text, "{'op':'send','id':5,'queue':'%s','dedup_id':'%s'}", queue,
		 id);
	return hear_reply(client, 5);
}

static bool is_duplicate(const struct frame *f)
{
	return json_has(f->header, "duplicate");
}

static uint64_t first(const char *queue, const char *id)
{
	struct frame *f = send_id(c, queue, id, id);

	assert_false(is_duplicate(f));
	return (uint64_t)json_int(f->header, "message");
}

static void again(const char *queue, const char *id, uint64_t number)
{
	struct frame *f = send_id(c, queue, id, "another text");

	assert_true(is_duplicate(f));
	assert_int_equal(json_int(f->header, "message"), number);
}

static void test_across_restarts(void **state)
{
	uint64_t waiting, taken;

	start_durable(AT_ONCE);
	c = client_connect();
	waiting = first("q", "waiting");
	taken = first("r", "taken");
	settle(c, "ack", take(c, "r", "taken"), "");
	for (int i = 0; i < 4; i++) {
		again("q", "waiting", waiting);
		again("r", "taken", taken);
		restart((enum ending)(i % N_ENDINGS), AT_ONCE);
		c = client_connect();
	}
	take(c, "q", "waiting");
	take_nothing(c, "q");
	take_nothing(c, "r");
}

/* kill -9 before the reply was read: whichever way it went, there is one message. */
static void test_after_a_lost_reply(void **state)
{
	start_durable(AT_ONCE);
	for (int i = 0; i < 10; i++) {
		const char *id = keep_printf("id%d", i);

		c = client_connect();
		say_text(c, "x", "{'op':'send','id':5,'queue':'q','dedup_id':'%s'}", id);
		restart(CRASH, AT_ONCE);
		c = client_connect();
		send_id(c, "q", id, "x");
		assert_int_equal(queue_count("q", "ready"), i + 1);
	}
}

static void test_per_queue_and_sender(void **state)
{
	struct client *ann;
	uint64_t number;

	skip_unless_root();
	start_durable(AT_ONCE, "--system");
	c = client_connect();
	say(c, "{'op':'create','id':1,'name':'q','mode':'0666'}");
	hear_reply(c, 1);
	number = first("q", "id");
	first("r", "id");
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		struct frame *f;

		restart(how, AT_ONCE, "--system");
		c = client_connect();
		ann = client_connect_as(stranger(how));
		f = send_id(ann, "q", "id", "of another");
		assert_false(is_duplicate(f));
		assert_true(is_duplicate(send_id(ann, "q", "id", "x")));
		again("q", "id", number);
	}
	assert_int_equal(queue_count("q", "ready"), 1 + N_ENDINGS);
}

/* ---- the window ---- */

static void test_after_the_window(void **state)
{
	start_durable(AT_ONCE, "--limit", "dedup_window=300");
	c = client_connect();
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		first("q", "id");
		restart(how, AT_ONCE, "--limit", "dedup_window=300");
		c = client_connect();
		wait_for(!is_duplicate(send_id(c, "q", "id", "x")));
		say(c, "{'op':'delete','id':1,'name':'q'}");
		hear_reply(c, 1);
	}
}

/* The shortest there is: an id may be too old as soon as it is noted. */
static void test_the_shortest_window(void **state)
{
	start_durable(AT_ONCE, "--limit", "dedup_window=1");
	c = client_connect();
	for (int i = 0; i < 300; i++)
		send_id(c, i % 2 ? "q" : "r", "id", "x");
	create_volatile(c, "m");
	for (int i = 0; i < 300; i++)
		send_id(c, "m", "id", "x");
	restart(CRASH, AT_ONCE, "--limit", "dedup_window=1");
	c = client_connect();
	wait_for(!is_duplicate(send_id(c, "q", "id", "x")));
}

static void test_the_oldest_go_first(void **state)
{
	uint64_t second;

	start_durable(AT_ONCE, "--limit", "dedup_ids=2");
	c = client_connect();
	first("q", "1");
	second = first("q", "2");
	first("q", "3");
	restart(CRASH, AT_ONCE, "--limit", "dedup_ids=2");
	c = client_connect();
	again("q", "2", second);
	first("q", "1");
	first("q", "2");
}

static void test_ids_per_user(void **state)
{
	start_durable(AT_ONCE, "--limit", "dedup_ids_per_user=2");
	c = client_connect();
	first("q", "1");
	first("r", "2");
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		say_text(c, "x", "{'op':'send','id':5,'queue':'s','dedup_id':'3'}");
		hear_error(c, 5, "quota");
		restart(how, AT_ONCE, "--limit", "dedup_ids_per_user=2");
		c = client_connect();
	}
	say(c, "{'op':'delete','id':1,'name':'r'}");
	hear_reply(c, 1);
	first("q", "3");
}

/* No receiving makes room for an id, so nobody waits for that. */
static void test_waiting_with_an_id_too_many(void **state)
{
	struct client *sender[2];

	start_durable(AT_ONCE, "--limit", "dedup_ids_per_user=2", "--limit",
		      "queue_messages=2");
	c = client_connect();
	first("q", "1");
	send_text(c, "q", "x");
	for (int i = 0; i < 2; i++) {
		sender[i] = client_connect();
		say_text(sender[i], "y",
			 "{'op':'send','id':1,'queue':'q','dedup_id':'w%d','wait_ms':-1}",
			 i);
		hear_nothing(sender[i]);
	}
	settle(c, "ack", take(c, "q", "1"), "");
	hear_reply(sender[0], 1);
	hear_error(sender[1], 1, "quota");
	say_text(c, "x", "{'op':'send','id':5,'queue':'s','dedup_id':'4','wait_ms':-1}");
	hear_error(c, 5, "quota");
}

/* It was told that it is dead, and is told nothing any more. */
static void test_the_outcome_of_a_dead_one(void **state)
{
	uint64_t number;
	struct frame *f;

	start_durable(AT_ONCE);
	c = client_connect();
	number = first("q", "id");
	settle(c, "reject", take(c, "q", "id"), "");
	say_text(c, "x",
		 "{'op':'send','id':5,'queue':'q','dedup_id':'id','confirm':'acked'}");
	f = hear_reply(c, 5);
	assert_true(is_duplicate(f));
	assert_int_equal(json_int(f->header, "message"), number);
	assert_string_equal(json_string(f->header, "outcome"), "dead");
}

/* All are told that still wait, whoever of them goes before. */
static void test_many_wait_for_one_outcome(void **state)
{
	enum { N = 5 };
	struct client *senders[N];

	start_durable(AT_ONCE);
	c = client_connect();
	first("q", "id");
	for (int i = 0; i < N; i++) {
		senders[i] = client_connect();
		say_text(senders[i], "x",
			 "{'op':'send','id':5,'queue':'q','dedup_id':'id',"
			 "'confirm':'acked'}");
		hear_nothing(senders[i]);
	}
	client_close(senders[0]);
	say(senders[2], "{'op':'cancel','id':6,'request':5}");
	hear_error(senders[2], 5, "timeout");
	hear_reply(senders[2], 6);
	settle(c, "ack", take(c, "q", "id"), "");
	for (int i = 1; i < N; i++)
		if (i != 2)
			assert_string_equal(json_string(hear_reply(senders[i], 5)->header,
							"outcome"),
					    "acked");
}

/* ---- room ---- */

static void test_with_a_full_queue(void **state)
{
	uint64_t number;

	start_durable(AT_ONCE, "--limit", "queue_messages=1");
	c = client_connect();
	number = first("q", "id");
	say_text(c, "x", "{'op':'send','id':6,'queue':'q','dedup_id':'other'}");
	hear_error(c, 6, "full");
	again("q", "id", number);
	restart(CRASH, AT_ONCE, "--limit", "queue_messages=1");
	c = client_connect();
	again("q", "id", number);
	settle(c, "ack", take(c, "q", "id"), "");
	first("q", "other"); /* its refusal was not taken for a send */
}

/* The first waits for room; the second is the same, and waits with it. */
static void test_while_the_first_waits(void **state)
{
	struct client *a, *b;
	struct frame *f, *g;

	start_durable(AT_ONCE, "--limit", "queue_messages=1");
	c = client_connect();
	a = client_connect();
	b = client_connect();
	send_text(c, "q", "full");
	say_text(a, "x", "{'op':'send','id':5,'queue':'q','dedup_id':'id','wait_ms':-1}");
	hear_nothing(a);
	say_text(b, "x", "{'op':'send','id':5,'queue':'q','dedup_id':'id','wait_ms':-1}");
	hear_nothing(b);
	settle(c, "ack", take(c, "q", "full"), "");
	f = hear_reply(a, 5);
	g = hear_reply(b, 5);
	assert_true(is_duplicate(f) != is_duplicate(g));
	assert_int_equal(json_int(f->header, "message"), json_int(g->header, "message"));
	settle(c, "ack", take(c, "q", "x"), "");
	take_nothing(c, "q");
}

/* Both in one write: the second is answered when the first is on the disk, not before. */
static void test_two_in_one_write(void **state)
{
	size_t size;
	char *one = frame_encode(&size, "x", 1,
				 "{'op':'send','id':5,'queue':'q','dedup_id':'id'}");
	char *two = frame_encode(&size, "x", 1,
				 "{'op':'send','id':6,'queue':'q','dedup_id':'id'}");
	char *both = keep(malloc(2 * size));
	struct frame *f, *g;

	memcpy(both, one, size);
	memcpy(both + size, two, size);
	start_durable(AT_ONCE);
	c = client_connect();
	say_bytes(c, both, 2 * size);
	f = hear_reply(c, 5);
	g = hear_reply(c, 6);
	assert_false(is_duplicate(f));
	assert_true(is_duplicate(g));
	assert_int_equal(json_int(f->header, "message"), json_int(g->header, "message"));
	restart(CRASH, AT_ONCE);
	assert_int_equal(queue_count("q", "ready"), 1);
}

/* ---- memory queues ---- */

/* Where the first message is gone with the daemon, the id is gone too. */
static void test_memory_queue(void **state)
{
	uint64_t number;

	start_durable(AT_ONCE);
	c = client_connect();
	create_volatile(c, "m");
	number = first("m", "id");
	restart(ORDERLY, AT_ONCE);
	c = client_connect();
	again("m", "id", number);
	restart(CRASH, AT_ONCE);
	c = client_connect();
	number = first("m", "id");
	restart(ORDERLY, AT_ONCE);
	restart(ORDERLY, AT_ONCE);
	c = client_connect();
	again("m", "id", number);
	take(c, "m", "id");
	take_nothing(c, "m");
}

/* What was sent before stays where it was, and so does its id. */
static void test_durable_no_longer(void **state)
{
	uint64_t number;

	start_durable(AT_ONCE);
	c = client_connect();
	number = first("q", "id");
	say(c, "{'op':'set','id':1,'name':'q','durable':false}");
	hear_reply(c, 1);
	restart(ORDERLY, AT_ONCE);
	c = client_connect();
	again("q", "id", number);
	restart(CRASH, AT_ONCE);
	c = client_connect();
	again("q", "id", number);
	take(c, "q", "id");
	take_nothing(c, "q");
}

static void test_a_deleted_queue_forgets(void **state)
{
	start_durable(AT_ONCE);
	c = client_connect();
	first("q", "id");
	say(c, "{'op':'delete','id':1,'name':'q'}");
	hear_reply(c, 1);
	restart(CRASH, AT_ONCE);
	c = client_connect();
	first("q", "id");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_across_restarts),
		it(test_after_a_lost_reply),
		it(test_per_queue_and_sender),
		it(test_after_the_window),
		it(test_the_shortest_window),
		it(test_the_oldest_go_first),
		it(test_ids_per_user),
		it(test_with_a_full_queue),
		it(test_while_the_first_waits),
		it(test_two_in_one_write),
		it(test_memory_queue),
		it(test_a_deleted_queue_forgets),
		it(test_durable_no_longer),
		it(test_waiting_with_an_id_too_many),
		it(test_the_outcome_of_a_dead_one),
		it(test_many_wait_for_one_outcome),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
