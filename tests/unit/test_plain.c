/* SPDX-License-Identifier: MIT */

/* Headers recognised and written without yajl: never another text or meaning than with it. */

#include "unit/base.h"

#include "wire/header.h"
#include "wire/plain.h"

#define FROM "\"from\":{\"uid\":7,\"gid\":8,\"pid\":9,\"user\":\"ann\"}"
#define REST FROM ",\"queue\":\"q\"}"
#define BEGIN "{\"re\":4,\"size\":5,\"message\":41,\"lease\":\"09af\",\"attempt\":2,"
#define DELIVERY BEGIN REST
#define SENT "{\"re\":9007199254740991,\"message\":12}"

static struct json *json;

static int open_parser(void **state)
{
	return json_new(&json, LIMIT_HEADER_MAX, false);
}

static int close_parser(void **state)
{
	json = json_free(json);
	return 0;
}

static void assert_text(const char *text, size_t size, const char *expected)
{
	assert_int_equal(size, strlen(expected));
	assert_memory_equal(text, expected, size);
}

static void test_delivery(void **state)
{
	struct plain p = plain_scan(DELIVERY, strlen(DELIVERY));

	assert_int_equal(p.kind, PLAIN_DELIVERY);
	assert_int_equal(p.re, 4);
	assert_int_equal(p.size, 5);
	assert_int_equal(p.message, 41);
	assert_int_equal(p.attempt, 2);
	assert_int_equal(p.uid, 7);
	assert_int_equal(p.gid, 8);
	assert_int_equal(p.pid, 9);
	assert_text(p.lease, p.lease_size, "09af");
	assert_text(p.user, p.user_size, "ann");
	assert_text(p.queue, p.queue_size, "q");
}

static void test_sent(void **state)
{
	struct plain o = plain_scan(SENT, strlen(SENT));

	assert_int_equal(o.kind, PLAIN_SENT);
	assert_int_equal(o.re, 9007199254740991);
	assert_int_equal(o.size, 0);
	assert_int_equal(o.message, 12);
}

static void test_others(void **state)
{
	static const char *const others[] = {
		"",
		"{",
		"{\"re\":1}",
		"{\"re\":01,\"message\":1}",
		"{\"re\":0,\"message\":1}",
		"{\"re\":-1,\"message\":1}",
		"{\"re\":1.0,\"message\":1}",
		"{\"re\":9007199254740992,\"message\":1}",
		"{\"re\":10000000000000000,\"message\":1}",
		"{\"re\":1,\"message\":1,\"duplicate\":true}",
		"{\"re\":1,\"message\":\"no\",\"error\":\"denied\"}",
		"{\"re\":1,\"size\":0,\"message\":1}",
		"{\"re\":1,\"message\":1} ",
		"{\"re\": 1,\"message\":1}",
		"{\"re\":1,\"message\":1",
		"{\"re\":4,\"fds\":1,\"message\":41,\"lease\":\"0\",\"attempt\":1," REST,
		"{\"re\":4,\"size\":5,\"more\":true,\"message\":41,\"lease\":\"0\","
		"\"attempt\":1," REST,
		"{\"re\":4,\"message\":41,\"lease\":\"0\",\"attempt\":1," REST,
		"{\"re\":4,\"size\":5,\"message\":41,\"state\":\"dead\",\"attempt\":1," REST,
		"{\"re\":4,\"size\":5,\"message\":41,\"lease\":\"\\u0030\",\"attempt\":1," REST,
		"{\"re\":4,\"size\":5,\"message\":41,\"lease\":\"\xc3\xa4\",\"attempt\":1," REST,
		BEGIN "\"priority\":0," REST,
		BEGIN "\"file_size\":1," REST,
		BEGIN FROM ",\"queue\":\"q\",\"file_size\":1}",
		BEGIN FROM ",\"queue\":\"q\",\"meta\":{}}",
		BEGIN FROM ",\"queue\":\"q\\\"}",
		BEGIN FROM ",\"queue\":\"q\"",
		BEGIN FROM ",\"queue\":\"q\"}}",
		BEGIN FROM "}",
		BEGIN
		"\"from\":{\"uid\":4294967296,\"gid\":8,\"pid\":9,\"user\":\"\"},\"queue\":\"q\"}",
		BEGIN
		"\"from\":{\"uid\":7,\"gid\":8,\"pid\":2147483648,\"user\":\"\"},\"queue\":\"q\"}",
		BEGIN
		"\"from\":{\"uid\":7,\"gid\":8,\"pid\":-1,\"user\":\"\"},\"queue\":\"q\"}",
		BEGIN "\"from\":{\"uid\":7},\"queue\":\"q\"}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (plain_scan(others[i], strlen(others[i])).kind)
			fail_msg("%s", others[i]);
}

static uint64_t number_of(const struct header *h, enum header_key key)
{
	struct fault fault;
	uint64_t value = 0;

	assert_true(header_get_u64(h, key, 0, LIMIT_NUMBER_MAX, &value, &fault) >= 0);
	return value;
}

static void check_string(const struct header *h, enum header_key key, const char *text,
			 size_t size)
{
	const char *found = NULL;
	size_t found_size = 0;
	struct fault fault;

	assert_int_equal(header_get_string(h, key, 0, LIMIT_HEADER_MAX, &found,
					   &found_size, &fault),
			 1);
	assert_int_equal(found_size, size);
	assert_memory_equal(found, text, size);
}

static int64_t number_of_from(const struct header *h, const char *key)
{
	return json_at(h->json, json_member(h->json, h->at[KEY_FROM], key))->integer;
}

/* What is recognised is good JSON, and says the same. */
static void check_agrees(const char *text, size_t size)
{
	struct plain p = plain_scan(text, size);
	struct header h;

	if (!p.kind)
		return;
	assert_int_equal(header_parse(&h, json, text, size), 0);
	assert_int_equal(number_of(&h, KEY_RE), p.re);
	assert_int_equal(number_of(&h, KEY_SIZE), p.size);
	assert_int_equal(number_of(&h, KEY_MESSAGE), p.message);
	assert_int_equal(number_of(&h, KEY_ATTEMPT), p.attempt);
	assert_int_equal(json_at(json, 0)->n_members, p.kind == PLAIN_SENT ? 2 : 7);
	if (p.kind == PLAIN_SENT)
		return;
	check_string(&h, KEY_LEASE, p.lease, p.lease_size);
	check_string(&h, KEY_QUEUE, p.queue, p.queue_size);
	assert_int_equal(number_of_from(&h, "uid"), p.uid);
	assert_int_equal(number_of_from(&h, "gid"), p.gid);
	assert_int_equal(number_of_from(&h, "pid"), p.pid);
}

/* Every byte changed to every other, and every beginning: from memory of that size. */
static void check_changes(const char *text)
{
	size_t size = strlen(text);
	char *copy = malloc(size);

	for (size_t at = 0; at < size; at++) {
		memcpy(copy, text, size);
		for (int c = 0; c < 256; c++) {
			copy[at] = (char)c;
			check_agrees(copy, size);
		}
	}
	free(copy);
	for (size_t cut = 1; cut < size; cut++) {
		copy = malloc(cut);
		memcpy(copy, text, cut);
		assert_int_equal(plain_scan(copy, cut).kind, PLAIN_NONE);
		free(copy);
	}
}

static void test_changed(void **state)
{
	check_changes(DELIVERY);
	check_changes(SENT);
}

/* ---- written ---- */

static const uint64_t numbers[] = { 1, 9, 10, 99, 100, 101, 12345678, LIMIT_NUMBER_MAX };

static void assert_same(const struct buf *a, const struct buf *b)
{
	assert_int_equal(a->size, b->size);
	assert_memory_equal(a->data, b->data, a->size);
}

static void check_sent(uint64_t re, uint64_t message)
{
	_cleanup_buf_ struct buf ours = BUF_INIT, yajls = BUF_INIT;
	struct json_writer *w;

	assert_int_equal(plain_put_sent(&ours, re, message), 0);
	assert_int_equal(json_writer_new(&w), 0);
	json_writer_begin(w, &yajls);
	json_put_u64(w, "re", re);
	json_put_u64(w, "message", message);
	assert_int_equal(json_writer_end(w), 0);
	json_writer_free(w);
	assert_same(&ours, &yajls);
	assert_int_equal(plain_scan(ours.data, ours.size).kind, PLAIN_SENT);
}

static void check_delivery(const struct plain *p)
{
	_cleanup_buf_ struct buf ours = BUF_INIT, yajls = BUF_INIT;
	struct json_writer *w;
	struct plain read;

	assert_int_equal(plain_put_delivery(&ours, p), 0);
	assert_int_equal(json_writer_new(&w), 0);
	json_writer_begin(w, &yajls);
	json_put_u64(w, "re", p->re);
	json_put_u64(w, "size", p->size);
	json_put_u64(w, "message", p->message);
	json_put_string(w, "lease", p->lease, p->lease_size);
	json_put_u64(w, "attempt", p->attempt);
	assert_int_equal(json_writer_end_open(w), 0);
	json_writer_free(w);
	assert_same(&ours, &yajls);
	assert_int_equal(buf_append_string(&ours, REST), 0);
	read = plain_scan(ours.data, ours.size);
	assert_int_equal(read.kind, PLAIN_DELIVERY);
	assert_int_equal(read.size, p->size);
	assert_int_equal(read.lease_size, p->lease_size);
}

static void test_written(void **state)
{
	static const char lease[] =
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	enum { N = ARRAY_SIZE(numbers) };

	for (int i = 0; i < N * N; i++) {
		uint64_t re = numbers[i % N], message = numbers[i / N];

		check_sent(re, message);
		check_delivery(&(struct plain){ .re = re,
						.size = message,
						.message = message,
						.attempt = re - 1,
						.lease = lease,
						.lease_size = 1 + (size_t)i });
	}
}

static void test_send(void **state)
{
	static const char *const queues[] = { "q", "@ann.in-box_7", "Az09._-@" };

	for (size_t i = 0; i < ARRAY_SIZE(queues) * ARRAY_SIZE(numbers); i++) {
		_cleanup_buf_ struct buf ours = BUF_INIT, yajls = BUF_INIT;
		const char *queue = queues[i % ARRAY_SIZE(queues)];
		uint64_t number = numbers[i / ARRAY_SIZE(queues)], size = i ? number : 0;
		struct json_writer *w;

		assert_true(plain_is_name(queue, strlen(queue)));
		assert_int_equal(
			plain_put_send(&ours, number, queue, strlen(queue), size), 0);
		assert_int_equal(json_writer_new(&w), 0);
		json_writer_begin(w, &yajls);
		json_put_text(w, "op", "send");
		json_put_u64(w, "id", number);
		json_put_text(w, "queue", queue);
		if (size)
			json_put_u64(w, "size", size);
		assert_int_equal(json_writer_end(w), 0);
		json_writer_free(w);
		assert_int_equal(ours.size, yajls.size);
		assert_memory_equal(ours.data, yajls.data, ours.size);
	}
}

static void test_ack(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT;
		char expected[64];

		assert_int_equal(plain_put_ack(&out, numbers[i]), 0);
		snprintf(expected, sizeof(expected), "{\"op\":\"ack\",\"message\":%llu}",
			 (unsigned long long)numbers[i]);
		assert_int_equal(out.size, strlen(expected));
		assert_memory_equal(out.data, expected, out.size);
	}
}

/* The longest that there is has room. */
static void test_long_name(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	char queue[LIMIT_NAME_MAX];

	memset(queue, 'q', sizeof(queue));
	assert_int_equal(plain_put_send(&out, LIMIT_NUMBER_MAX, queue, sizeof(queue),
					UINT64_MAX),
			 0);
	assert_true(out.size > sizeof(queue) + 40);
	assert_int_equal(json_parse(json, out.data, out.size), 0);
}

static void test_names(void **state)
{
	for (int c = 0; c < 256; c++) {
		char byte = (char)c;
		bool ours = plain_is_name(&byte, 1);

		assert_int_equal(ours, c && strchr("abcdefghijklmnopqrstuvwxyz"
						   "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
						   "0123456789._-@",
						   c));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delivery), cmocka_unit_test(test_sent),
		cmocka_unit_test(test_others),	 cmocka_unit_test(test_changed),
		cmocka_unit_test(test_written),	 cmocka_unit_test(test_send),
		cmocka_unit_test(test_ack),	 cmocka_unit_test(test_long_name),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, open_parser, close_parser);
}
