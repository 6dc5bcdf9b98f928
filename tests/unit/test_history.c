/* SPDX-License-Identifier: MIT */

/* How attempts ended: what is noted, how much of it is kept, what it costs. */

#include "unit/alloc.h"
#include "unit/queue_world.h"

#include "base/clock.h"
#include "history.h"
#include "wire/json.h"

/* ---- the text ---- */

struct text {
	char *data;
	size_t size;
	struct json_writer *writer;
};

static void append(struct text *t, uint64_t attempt, const char *reason)
{
	const struct history_entry entry = { .attempt = attempt,
					     .at_ms = 1764191042123,
					     .has_uid = attempt % 2,
					     .uid = 4000001,
					     .pid = (pid_t)attempt,
					     .reason = reason };

	assert_int_equal(history_append(&t->data, &t->size, t->writer, &entry), 0);
	assert_in_range(t->size, 1, HISTORY_SIZE_MAX);
}

/* It is JSON, and has the entries from first to last. */
static void expect_entries(const struct text *t, int64_t first, int64_t last)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct json *json;
	uint32_t array, at;

	assert_int_equal(buf_printf(&text, "{\"h\":[%.*s]}", (int)t->size, t->data), 0);
	assert_int_equal(json_new(&json, text.size, false), 0);
	assert_int_equal(json_parse(json, text.data, text.size), 0);
	array = json_member(json, 0, "h");
	assert_int_equal(json_at(json, array)->n_members, last - first + 1);
	at = array + 1;
	for (int64_t i = first; i <= last; i++, at = json_at(json, at)->next) {
		uint32_t attempt = json_member(json, at, "attempt");

		assert_int_equal(json_at(json, attempt)->integer, i);
		assert_int_equal(!json_member(json, at, "uid"), i % 2 == 0);
	}
	json_free(json);
}

static void with_text(void (*test)(struct text *t))
{
	struct text t = { NULL, 0, NULL };

	assert_int_equal(json_writer_new(&t.writer), 0);
	test(&t);
	free(t.data);
	json_writer_free(t.writer);
}

static void check_form(struct text *t)
{
	static const char expected[] =
		"{\"attempt\":1,\"at_ms\":1764191042123,\"uid\":4000001,\"pid\":1,"
		"\"reason\":\"a \\\"b\\\"\"},"
		"{\"attempt\":2,\"at_ms\":1764191042123,\"pid\":2,\"reason\":\"\"}";

	append(t, 1, "a \"b\"");
	append(t, 2, NULL);
	assert_int_equal(t->size, strlen(expected));
	assert_memory_equal(t->data, expected, t->size);
}

static void check_entries(struct text *t)
{
	for (int i = 1; i <= 100; i++) {
		append(t, (uint64_t)i, "no");
		expect_entries(
			t, i > HISTORY_ENTRIES_MAX ? i - HISTORY_ENTRIES_MAX + 1 : 1, i);
	}
}

/* A reason can hold what looks like the end of an entry. */
static void check_hostile_reasons(struct text *t)
{
	for (int i = 1; i <= 20; i++) {
		append(t, (uint64_t)i, "x\"},{\"attempt\":7},{\"");
		expect_entries(
			t, i > HISTORY_ENTRIES_MAX ? i - HISTORY_ENTRIES_MAX + 1 : 1, i);
	}
}

/* Escaped six times as long: two of these do not fit beside each other. */
static void check_longest_reasons(struct text *t)
{
	char reason[LIMIT_REASON_MAX + 1];

	memset(reason, 1, LIMIT_REASON_MAX);
	reason[LIMIT_REASON_MAX] = '\0';
	append(t, 1, "short");
	append(t, 2, reason);
	expect_entries(t, 1, 2);
	append(t, 3, reason);
	expect_entries(t, 3, 3);
	memset(reason, 'x', LIMIT_REASON_MAX);
	for (int i = 4; i <= 20; i++)
		append(t, (uint64_t)i, reason);
	expect_entries(t, 14, 20);
}

static void test_text(void **state)
{
	(void)state;
	with_text(check_form);
	with_text(check_entries);
	with_text(check_hostile_reasons);
	with_text(check_longest_reasons);
}

/* ---- of messages ---- */

static struct receiver receiver;

static void open_receiver(uid_t uid, pid_t pid)
{
	world_open_receiver(&receiver, uid);
	receiver.pid = pid;
	receiver.left = UINT64_MAX;
	receiver_feed(&receiver);
}

static void expect_history(const struct message *m, const char *part)
{
	_cleanup_free_ char *text = NULL;

	assert_non_null(m->more);
	text = strndup(m->more->history, m->more->history_size);
	if (!strstr(text, part))
		fail_msg("%s is not in %s", part, text);
}

static uint64_t size_of_all(void)
{
	uint64_t sum = 0;

	LIST_FOREACH(link, &w.queue->all)
		sum += message_cost(LIST_ENTRY(link, struct message, in_queue));
	return sum;
}

static void expect_charges(void)
{
	assert_int_equal(w.queue->bytes, size_of_all());
	assert_int_equal(w.user->usage.bytes, size_of_all());
	assert_int_equal(w.broker.message_bytes, size_of_all());
}

static void test_who_and_why(void **state)
{
	struct message *m = send_one(NULL);

	(void)state;
	open_receiver(7, 4711);
	message_nack(m, 0, true, strdup("busy"));
	expect_history(m, "\"uid\":7,\"pid\":4711,\"reason\":\"busy\"}");
	expect_charges();
	pass();
	assert_int_equal(m->state, MESSAGE_LEASED);
	message_nack(m, 0, false, NULL); /* nobody's fault, and nothing to say */
	assert_null(memmem(m->more->history, m->more->history_size, "},{", 3));
	pass();
	receiver_end(&receiver);
	receiver_lose(&receiver, 1, UINT64_MAX);
	expect_history(m, "{\"attempt\":2,");
	expect_history(m, "\"reason\":\"the receiver's connection ended\"}");
	receiver_deinit(&receiver);
	/* by the old lease: who had it is known, if no longer by the receiver */
	message_reject(m, strdup("never"));
	expect_history(m, "\"uid\":7,\"pid\":4711,\"reason\":\"never\"}");
	expect_charges();
	message_revive(m);
	assert_int_equal(m->attempts, 0);
	expect_history(m, "\"reason\":\"never\"}");
	message_end(m, "deleted");
	assert_int_equal(w.queue->bytes, 0);
	assert_int_equal(w.user->usage.bytes, 0);
}

/* What others do to a message takes no room that its sender does not have. */
static void test_no_room(void **state)
{
	struct message *m = send_one(NULL);

	(void)state;
	open_receiver(7, 1);
	w.limits.user_bytes = w.user->usage.bytes + 150;
	message_nack(m, 0, true, strdup("there is no room for this"));
	assert_int_equal(m->more->history_size, 0);
	assert_string_equal(message_reason(m), "there is no room for this");
	expect_charges();
	w.limits.user_bytes = limits_default.user_bytes;
	pass();
	w.queue->settings = (struct queue_settings){ .set = SETTING_MAX_BYTES,
						     .max_bytes = w.queue->bytes + 150 };
	message_nack(m, 0, true, strdup("there is no room for this"));
	assert_int_equal(m->more->history_size, 0);
	receiver_end(&receiver);
	receiver_lose(&receiver, 1, UINT64_MAX);
	receiver_deinit(&receiver);
}

/* A verdict never fails: without memory nothing is noted, or all of it. */
static void test_no_memory(void **state)
{
	bool failed = true;

	(void)state;
	open_receiver(7, 1);
	for (unsigned long n = 1; failed; n++) {
		struct message *m = send_one(NULL);

		assert_int_equal(m->state, MESSAGE_LEASED);
		fail_allocation(n);
		message_reject(m, NULL);
		failed = allocation_failed();
		assert_int_equal(m->state, MESSAGE_DEAD);
		expect_charges();
		if (m->more && m->more->history)
			expect_history(m, "\"uid\":7,\"pid\":1,\"reason\":\"\"}");
		else
			assert_true(failed);
		pass();
	}
	receiver_end(&receiver);
	receiver_lose(&receiver, 1, UINT64_MAX);
	receiver_deinit(&receiver);
}

/* Attempts do not wrap, wherever they have come to. */
static void test_many_attempts(void **state)
{
	static const uint64_t counts[] = { UINT16_MAX, UINT32_MAX, LIMIT_NUMBER_MAX - 1 };
	struct message *m = send_one(NULL);
	char part[64];

	(void)state;
	w.limits.max_attempts = UINT64_MAX;
	open_receiver(7, 1);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		m->attempts = counts[i];
		message_nack(m, 0, true, NULL);
		pass();
		assert_int_equal(m->state, MESSAGE_LEASED);
		assert_true(m->attempts == counts[i] + 1);
		snprintf(part, sizeof(part), "{\"attempt\":%llu,",
			 (unsigned long long)counts[i]);
		expect_history(m, part);
	}
	message_nack(m, UINT64_MAX, true, NULL);
	assert_int_equal(m->state, MESSAGE_DELAYED); /* by the last step of the backoff */
	receiver_end(&receiver);
	receiver_lose(&receiver, 1, UINT64_MAX);
	receiver_deinit(&receiver);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text), TEST(test_who_and_why),   TEST(test_no_room),
		TEST(test_no_memory),	     TEST(test_many_attempts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
