/* SPDX-License-Identifier: MIT */

/* Headers recognised by how they begin: never another meaning than the parser's. */

#include "unit/base.h"

#include "wire/header.h"
#include "wire/opening.h"

#define FROM "\"from\":{\"uid\":7,\"user\":\"ann\"},\"queue\":\"q\"}"
#define DELIVERY \
	"{\"re\":4,\"size\":5,\"message\":41,\"lease\":\"09af\",\"attempt\":2," FROM
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

static void test_delivery(void **state)
{
	struct opening o = opening_scan(DELIVERY, strlen(DELIVERY));

	assert_int_equal(o.kind, OPENING_DELIVERY);
	assert_int_equal(o.re, 4);
	assert_int_equal(o.size, 5);
	assert_int_equal(o.message, 41);
	assert_int_equal(o.attempt, 2);
	assert_int_equal(o.lease_size, 4);
	assert_memory_equal(o.lease, "09af", 4);
}

static void test_sent(void **state)
{
	struct opening o = opening_scan(SENT, strlen(SENT));

	assert_int_equal(o.kind, OPENING_SENT);
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
		"{\"re\":4,\"fds\":1,\"message\":41,\"lease\":\"0\",\"attempt\":1," FROM,
		"{\"re\":4,\"size\":5,\"more\":true,\"message\":41,\"lease\":\"0\","
		"\"attempt\":1," FROM,
		"{\"re\":4,\"message\":41,\"state\":\"dead\",\"attempt\":1," FROM,
		"{\"re\":4,\"message\":41,\"lease\":\"\",\"attempt\":1," FROM,
		"{\"re\":4,\"message\":41,\"lease\":\"\\u0030\",\"attempt\":1," FROM,
		"{\"re\":4,\"message\":41,\"lease\":\"0\",\"attempt\":1,\"priority\":0," FROM,
		"{\"re\":4,\"message\":41,\"lease\":\"0\",\"attempt\":1,\"file_size\":1," FROM,
		"{\"re\":4,\"message\":41,\"lease\":\"0\",\"attempt\":1}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (opening_scan(others[i], strlen(others[i])).kind)
			fail_msg("%s", others[i]);
}

static uint64_t number_of(const struct header *h, enum header_key key)
{
	struct fault fault;
	uint64_t value = 0;

	assert_true(header_get_u64(h, key, 0, LIMIT_NUMBER_MAX, &value, &fault) >= 0);
	return value;
}

static void check_agrees(const char *text, size_t size)
{
	struct opening o = opening_scan(text, size);
	struct header h;

	if (!o.kind || header_parse(&h, json, text, size) < 0)
		return;
	assert_int_equal(number_of(&h, KEY_RE), o.re);
	assert_int_equal(number_of(&h, KEY_SIZE), o.size);
	assert_int_equal(number_of(&h, KEY_MESSAGE), o.message);
	assert_int_equal(number_of(&h, KEY_ATTEMPT), o.attempt);
	assert_int_equal(header_has(&h, KEY_LEASE), o.kind == OPENING_DELIVERY);
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
		assert_int_not_equal(opening_scan(copy, cut).kind, OPENING_SENT);
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

/* As the writer would write it, but for the end. */
static void write_by_yajl(struct buf *out, const struct opening *o)
{
	struct json_writer *w;
	char lease[OPENING_LEASE_MAX + 1];

	assert_int_equal(json_writer_new(&w), 0);
	json_writer_begin(w, out);
	json_put_u64(w, "re", o->re);
	if (o->kind == OPENING_DELIVERY)
		json_put_u64(w, "size", o->size);
	json_put_u64(w, "message", o->message);
	if (o->kind == OPENING_DELIVERY) {
		snprintf(lease, sizeof(lease), "%.*s", (int)o->lease_size, o->lease);
		json_put_text(w, "lease", lease);
		json_put_u64(w, "attempt", o->attempt);
		assert_int_equal(json_writer_end_open(w), 0);
	} else {
		assert_int_equal(json_writer_end(w), 0);
	}
	json_writer_free(w);
}

static void check_written(const struct opening *o)
{
	_cleanup_buf_ struct buf ours = BUF_INIT, yajls = BUF_INIT;
	struct opening read;

	assert_int_equal(opening_put(&ours, o), 0);
	write_by_yajl(&yajls, o);
	assert_int_equal(ours.size, yajls.size);
	assert_memory_equal(ours.data, yajls.data, ours.size);
	if (o->kind == OPENING_DELIVERY)
		assert_int_equal(buf_append_string(&ours, FROM), 0);
	read = opening_scan(ours.data, ours.size);
	assert_int_equal(read.kind, o->kind);
	assert_int_equal(read.re, o->re);
	assert_int_equal(read.size, o->size);
	assert_int_equal(read.message, o->message);
	assert_int_equal(read.attempt, o->attempt);
	assert_int_equal(read.lease_size, o->lease_size);
}

static void test_written(void **state)
{
	static const char lease[] =
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	enum { N = ARRAY_SIZE(numbers) };

	for (int i = 0; i < N * N; i++) {
		uint64_t re = numbers[i % N], message = numbers[i / N];

		check_written(&(struct opening){
			.kind = OPENING_SENT, .re = re, .message = message });
		check_written(&(struct opening){ .kind = OPENING_DELIVERY,
						 .re = re,
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

		assert_true(opening_is_name(queue, strlen(queue)));
		assert_int_equal(
			opening_put_send(&ours, number, queue, strlen(queue), size), 0);
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

		assert_int_equal(opening_put_ack(&out, numbers[i]), 0);
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
	assert_int_equal(opening_put_send(&out, LIMIT_NUMBER_MAX, queue, sizeof(queue),
					  UINT64_MAX),
			 0);
	assert_true(out.size > sizeof(queue) + 40);
	assert_int_equal(json_parse(json, out.data, out.size), 0);
}

static void test_names(void **state)
{
	for (int c = 0; c < 256; c++) {
		char byte = (char)c;
		bool ours = opening_is_name(&byte, 1);

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
