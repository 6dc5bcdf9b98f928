/* SPDX-License-Identifier: MIT */

/* Looking through queues: turns end, and the next one comes with the next pass. */

#include "unit/queue_world.h"

#include "base/clock.h"
#include "scan.h"

enum { MANY = 10000 };

static void end_all(void)
{
	struct message *m;

	while ((m = LIST_FIRST(&w.queue->all, struct message, in_queue)))
		message_end(m, "deleted");
}

static void begin(struct scan *scan, unsigned int states)
{
	scan_init(scan, (uint16_t)states, NULL, w.broker.next_number - 1);
	scan_open(scan, w.queue);
}

/* ---- turns ---- */

static void test_turns_end(void **state)
{
	struct message *m;
	struct scan scan;
	int turns = 1, found = 0, r;

	(void)state;
	for (int i = 0; i < MANY; i++)
		send_one(NULL);
	begin(&scan, 1 << MESSAGE_READY);
	while ((r = scan_next(&scan, &m)) != SCAN_END) {
		found += r == SCAN_FOUND;
		if (r == SCAN_PAUSE) {
			assert_int_equal(scan_next(&scan, &m), SCAN_PAUSE);
			scan_begin_turn(&scan);
			turns++;
		}
	}
	assert_int_equal(found, MANY);
	assert_in_range(turns, 3, MANY / 100);
	scan_deinit(&scan);
	/* what is only looked at takes its time, too */
	begin(&scan, 1 << MESSAGE_DEAD);
	assert_int_equal(scan_next(&scan, &m), SCAN_PAUSE);
	scan_deinit(&scan);
}

static int count_in(enum message_state state)
{
	return (int)w.queue->n_in_state[state];
}

/* Many that are due at a time come in parts, and none is handed out when its time is over. */
static void test_what_is_due_comes_in_parts(void **state)
{
	enum { N = 2 * LOOP_AT_ONCE + 200 };
	struct message_content content = { .from = w.from,
					   .ttl_ms = 1,
					   .priority = LIMIT_PRIORITY_DEFAULT };
	struct receiver receiver;
	struct message *last;
	struct fault fault;
	uint64_t number;

	(void)state;
	for (int i = 0; i < N; i++)
		assert_int_equal(queue_send(w.queue, w.user, message_new(&content),
					    &number, &fault),
				 0);
	last = send_one(NULL);
	while (!message_is_over(message_find(&w.broker, number)))
		;
	world_open_receiver(&receiver, 1000);
	world_n_hungry = 0;
	receiver_feed(&receiver);
	assert_int_equal(count_in(MESSAGE_LEASED), 0);
	message_expiring_due(&w.broker);
	assert_int_equal(count_in(MESSAGE_READY), N + 1 - LOOP_AT_ONCE);
	while (count_in(MESSAGE_READY) > 0) {
		int before = count_in(MESSAGE_READY);

		assert_int_equal(world_n_hungry, 0); /* it is not known yet */
		pass();
		assert_true(count_in(MESSAGE_READY) >= before - LOOP_AT_ONCE - 1);
	}
	assert_int_equal(last->state, MESSAGE_LEASED);
	assert_int_equal(w.queue->counters.expired, N);
	pass();
	assert_int_equal(world_n_hungry, 1);
	for (int i = 0; i < N; i++)
		message_set_state(send_one(NULL), MESSAGE_DELAYED, 1);
	receiver_end(&receiver);
	while (count_in(MESSAGE_DELAYED) > 0) {
		int before = count_in(MESSAGE_DELAYED);

		pass();
		assert_true(count_in(MESSAGE_DELAYED) >= before - LOOP_AT_ONCE);
	}
	receiver_lose(&receiver, 0, UINT64_MAX);
	receiver_deinit(&receiver);
}

/* A place is sought by so many steps, and kept where the last one led. */
static void test_a_place_is_sought_in_parts(void **state)
{
	struct message *first = send_one(NULL);
	unsigned int left, parts = 0;
	struct cursor place;

	(void)state;
	for (int i = 0; i < 99; i++)
		send_one(NULL);
	cursor_init(&place);
	cursor_open_at_end(&place, w.queue);
	do {
		left = 10;
		parts++;
	} while (!queue_seek(w.queue, &place, 0, &left));
	assert_ptr_equal(place.at, &first->in_queue);
	assert_int_equal(parts, 11);
	assert_int_equal(left, 10);
	message_end(first, "deleted"); /* it knows who stands there */
	left = 200;
	assert_true(queue_seek(w.queue, &place, UINT64_MAX, &left));
	assert_ptr_equal(place.at, &w.queue->all);
	assert_int_equal(left, 200 - 99);
	cursor_close(&place);
}

/* ---- what is seen ---- */

static void test_a_state_not_named_is_not_seen(void **state)
{
	struct message *m = send_one(NULL), *found = NULL;
	struct scan scan;

	(void)state;
	m->state = MESSAGE_N_STATES; /* one that is not known yet */
	begin(&scan, 1 << MESSAGE_READY | 1 << MESSAGE_DELAYED | 1 << MESSAGE_LEASED |
			     1 << MESSAGE_DEAD);
	assert_int_equal(scan_next(&scan, &found), SCAN_END);
	m->state = MESSAGE_READY;
	scan_deinit(&scan);
}

static void test_what_comes_and_goes(void **state)
{
	struct message *m[5], *found;
	struct scan scan;

	(void)state;
	for (int i = 0; i < 4; i++)
		m[i] = send_one(NULL);
	begin(&scan, 1 << MESSAGE_READY);
	m[4] = send_one(NULL); /* too late to be seen */
	assert_int_equal(scan_next(&scan, &found), SCAN_FOUND);
	assert_ptr_equal(found, m[0]);
	message_end(m[0], "deleted"); /* found, next, one further on */
	message_end(m[1], "deleted");
	message_end(m[3], "deleted");
	assert_int_equal(scan_next(&scan, &found), SCAN_FOUND);
	assert_ptr_equal(found, m[2]);
	assert_int_equal(scan_next(&scan, &found), SCAN_END);
	assert_int_equal(scan_next(&scan, &found), SCAN_END);
	assert_true(scan_is_open(&scan));
	queue_delete(w.queue);
	assert_false(scan_is_open(&scan));
	assert_int_equal(scan_next(&scan, &found), SCAN_END);
	scan_deinit(&scan);
}

/* ---- the oldest one ---- */

static void expect_oldest(const struct message *m)
{
	assert_ptr_equal(queue_oldest(w.queue), m);
	assert_ptr_equal(queue_oldest(w.queue), m);
}

static void kill(struct message *m)
{
	message_set_state(m, MESSAGE_DEAD, 0);
}

static void test_the_oldest_alive(void **state)
{
	struct message *m[4];

	(void)state;
	expect_oldest(NULL);
	for (int i = 0; i < 3; i++)
		m[i] = send_one(NULL);
	expect_oldest(m[0]);
	kill(m[0]);
	expect_oldest(m[1]);
	kill(m[2]);
	message_end(m[1], "deleted");
	expect_oldest(NULL);
	m[3] = send_one(NULL);
	expect_oldest(m[3]);
	message_revive(m[2]);
	expect_oldest(m[2]);
	message_revive(m[0]);
	expect_oldest(m[0]);
	message_end(m[0], "deleted");
	expect_oldest(m[2]);
	kill(m[2]);
	message_end(m[3], "deleted");
	expect_oldest(NULL);
	message_end(m[2], "deleted");
	expect_oldest(NULL);
	m[0] = send_one(NULL);
	m[0]->state = MESSAGE_N_STATES; /* one that is not known yet */
	expect_oldest(NULL);
	m[0]->state = MESSAGE_READY;
	expect_oldest(m[0]);
}

/* ---- filters ---- */

static struct filter *filter_of(const char *json)
{
	struct header header;
	struct filter *filter;
	struct fault fault;
	struct json *parser;

	assert_int_equal(json_new(&parser, LIMIT_HEADER_MAX, false), 0);
	assert_int_equal(header_parse(&header, parser, json, strlen(json)), 0);
	assert_int_equal(filter_get(&header, &filter, &fault), 0);
	json_free(parser); /* a filter needs nothing of its request */
	return filter;
}

static bool lets_through(const char *json, const struct message *m)
{
	struct filter *filter = filter_of(json);
	int r = filter_matches(filter, m);

	filter_free(filter);
	assert_in_range(r, 0, 1);
	return r;
}

static void test_ages(void **state)
{
	uint64_t now_ms = clock_ns(CLOCK_REALTIME) / NS_PER_MS;
	struct message *m = send_one(NULL);

	(void)state;
	m->sent_ms = now_ms - 60000;
	assert_true(lets_through("{\"filter\":{\"older_ms\":59999}}", m));
	assert_false(lets_through("{\"filter\":{\"older_ms\":120000}}", m));
	assert_true(lets_through("{\"filter\":{\"newer_ms\":120000}}", m));
	assert_false(lets_through("{\"filter\":{\"newer_ms\":60000}}", m));
	assert_true(
		lets_through("{\"filter\":{\"older_ms\":59000,\"newer_ms\":120000}}", m));
	m->sent_ms = now_ms + 3600000; /* the clock was set back */
	assert_false(lets_through("{\"filter\":{\"older_ms\":0}}", m));
	assert_true(lets_through("{\"filter\":{\"newer_ms\":1}}", m));
	assert_true(lets_through("{}", m));
}

static unsigned int found_in_a_turn(const char *json)
{
	struct message *m;
	struct scan scan;
	unsigned int n = 0;

	scan_init(&scan, 1 << MESSAGE_READY, filter_of(json), w.broker.next_number - 1);
	scan_open(&scan, w.queue);
	while (scan_next(&scan, &m) == SCAN_FOUND)
		n++;
	scan_deinit(&scan);
	return n;
}

/* What has to be read takes longer, and so a turn has fewer of them. */
static void test_long_meta_makes_turns_short(void **state)
{
	static char meta[LIMIT_META_MAX + 1];
	unsigned int plain, small, large;

	(void)state;
	for (int i = 0; i < MANY; i++)
		send_one("{\"a\":1}");
	plain = found_in_a_turn("{\"filter\":{\"priority_min\":1}}");
	small = found_in_a_turn("{\"filter\":{\"meta\":{\"a\":1}}}");
	end_all();
	snprintf(meta, sizeof(meta), "{\"a\":1,\"b\":\"%030000d\"}", 0);
	for (int i = 0; i < 10; i++)
		send_one(meta);
	large = found_in_a_turn("{\"filter\":{\"meta\":{\"a\":1}}}");
	assert_true(plain > small && small > large && large > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_turns_end),
		TEST(test_a_place_is_sought_in_parts),
		TEST(test_what_is_due_comes_in_parts),
		TEST(test_a_state_not_named_is_not_seen),
		TEST(test_what_comes_and_goes),
		TEST(test_the_oldest_alive),
		TEST(test_ages),
		TEST(test_long_meta_makes_turns_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
