/* SPDX-License-Identifier: MIT */

/* A frame's header: keys and getters. */

#include "unit/base.h"

#include "wire/header.h"

static struct json *json;
static struct header header;
static struct fault fault;

static int open_parser(void **state)
{
	return json_new(&json, LIMIT_HEADER_MAX, false);
}

static int close_parser(void **state)
{
	json = json_free(json);
	return 0;
}

static void parse(const char *text)
{
	assert_int_equal(header_parse(&header, json, text, strlen(text)), 0);
	fault = (struct fault){ .word = FAULT_INTERNAL };
}

/* A refusal: the error names the key and what was wrong. */
static void check_refused(int r, const char *key, const char *why)
{
	char quoted[64];

	assert_int_equal(r, -EINVAL);
	assert_int_equal(fault.word, FAULT_BAD_REQUEST);
	snprintf(quoted, sizeof(quoted), "\"%s\"", key);
	assert_non_null(strstr(fault.text, quoted));
	if (!strstr(fault.text, why))
		fail_msg("%s, expected: %s", fault.text, why);
}

static void test_every_key_is_found(void **state)
{
	for (int i = 0; i < KEY_N; i++) {
		const char *key = header_key_name((enum header_key)i);
		char text[128];

		snprintf(text, sizeof(text), "{\"x\":{\"%s\":1},\"%s\":%d,\"%s_\":1}",
			 key, key, i, key);
		parse(text);
		for (int k = 0; k < KEY_N; k++)
			assert_int_equal(header_has(&header, (enum header_key)k), k == i);
		assert_int_equal(json_at(json, header.at[i])->integer, i);
	}
}

static void test_unknown_keys_are_ignored(void **state)
{
	parse("{\"\":1,\"i\":2,\"idd\":3,\"Id\":4,\"id \":5,\"\\u0069d\":6}");
	for (int k = 0; k < KEY_N; k++)
		assert_int_equal(header_has(&header, (enum header_key)k), k == KEY_ID);
	assert_int_equal(json_at(json, header.at[KEY_ID])->integer, 6);
	parse("{}");
	for (int k = 0; k < KEY_N; k++)
		assert_false(header_has(&header, (enum header_key)k));
}

static void test_bad_header(void **state)
{
	assert_int_equal(header_parse(&header, json, "[]", 2), -EBADMSG);
	assert_true(*json_error(json));
	parse("{\"id\":1}");
	assert_true(header_has(&header, KEY_ID));
}

static int get_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	parse(text);
	return header_get_u64(&header, KEY_ID, min, max, ret, &fault);
}

static void test_u64(void **state)
{
	uint64_t v = 42;

	assert_int_equal(get_u64("{}", 1, 2, &v), 0);
	assert_int_equal(v, 42);
	assert_int_equal(get_u64("{\"id\":5}", 5, 5, &v), 1);
	assert_int_equal(v, 5);
	assert_int_equal(get_u64("{\"id\":0}", 0, INT64_MAX, &v), 1);
	assert_int_equal(v, 0);
	assert_int_equal(get_u64("{\"id\":9223372036854775807}", 0, INT64_MAX, &v), 1);
	assert_int_equal(v, INT64_MAX);
	assert_int_equal(get_u64("{\"id\":9007199254740991}", 0, LIMIT_NUMBER_MAX, &v),
			 1);
	v = 42;
	check_refused(get_u64("{\"id\":9007199254740992}", 0, LIMIT_NUMBER_MAX, &v), "id",
		      "from 0 to 9007199254740991, not 9007199254740992");
	check_refused(get_u64("{\"id\":4}", 5, 7, &v), "id", "from 5 to 7, not 4");
	check_refused(get_u64("{\"id\":8}", 5, 7, &v), "id", "from 5 to 7, not 8");
	check_refused(get_u64("{\"id\":-1}", 0, 7, &v), "id", "not -1");
	check_refused(get_u64("{\"id\":-9223372036854775808}", 0, 7, &v), "id",
		      "-9223372036854775808");
	assert_int_equal(v, 42);
}

static void test_u64_of_another_type(void **state)
{
	static const char *const texts[] = {
		"{\"id\":1.0}",	  "{\"id\":1e3}",  "{\"id\":9223372036854775808}",
		"{\"id\":\"1\"}", "{\"id\":null}", "{\"id\":true}",
		"{\"id\":[1]}",	  "{\"id\":{}}",
	};
	uint64_t v = 42;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		check_refused(get_u64(texts[i], 0, INT64_MAX, &v), "id",
			      "an integer, not ");
	assert_int_equal(v, 42);
}

static void test_ms(void **state)
{
	uint64_t v = 42;

	parse("{\"wait_ms\":-1}");
	assert_int_equal(header_get_ms(&header, KEY_WAIT_MS, true, &v, &fault), 1);
	assert_true(v == UINT64_MAX);
	check_refused(header_get_ms(&header, KEY_WAIT_MS, false, &v, &fault), "wait_ms",
		      "-1");
	assert_int_equal(header_get_ms(&header, KEY_TTL_MS, true, &v, &fault), 0);
	parse("{\"wait_ms\":-2}");
	check_refused(header_get_ms(&header, KEY_WAIT_MS, true, &v, &fault), "wait_ms",
		      "-2");
	parse("{\"wait_ms\":31536000000000}");
	assert_int_equal(header_get_ms(&header, KEY_WAIT_MS, true, &v, &fault), 1);
	assert_int_equal(v, LIMIT_WAIT_MAX);
	parse("{\"wait_ms\":31536000000001}");
	check_refused(header_get_ms(&header, KEY_WAIT_MS, true, &v, &fault), "wait_ms",
		      "31536000000000");
	parse("{\"wait_ms\":-1.0}");
	check_refused(header_get_ms(&header, KEY_WAIT_MS, true, &v, &fault), "wait_ms",
		      "integer");
}

static void test_bool(void **state)
{
	bool v = true;

	parse("{\"peek\":false,\"dead\":1,\"live\":\"true\",\"more\":null}");
	assert_int_equal(header_get_bool(&header, KEY_PEEK, &v, &fault), 1);
	assert_false(v);
	assert_int_equal(header_get_bool(&header, KEY_PIECES, &v, &fault), 0);
	check_refused(header_get_bool(&header, KEY_DEAD, &v, &fault), "dead",
		      "an integer");
	check_refused(header_get_bool(&header, KEY_LIVE, &v, &fault), "live", "a string");
	check_refused(header_get_bool(&header, KEY_MORE, &v, &fault), "more", "null");
	assert_false(v);
	parse("{\"peek\":true}");
	assert_int_equal(header_get_bool(&header, KEY_PEEK, &v, &fault), 1);
	assert_true(v);
}

static void test_string(void **state)
{
	const char *text = NULL;
	size_t size = 42;

	parse("{\"queue\":\"jobs\",\"name\":\"\",\"op\":7}");
	assert_int_equal(
		header_get_string(&header, KEY_QUEUE, 4, 4, &text, &size, &fault), 1);
	assert_int_equal(size, 4);
	assert_memory_equal(text, "jobs", 4);
	assert_int_equal(
		header_get_string(&header, KEY_REASON, 1, 4, &text, &size, &fault), 0);
	check_refused(header_get_string(&header, KEY_QUEUE, 1, 3, &text, &size, &fault),
		      "queue", "1 to 3 bytes, not 4");
	check_refused(header_get_string(&header, KEY_NAME, 1, 9, &text, &size, &fault),
		      "name", "not 0");
	check_refused(header_get_string(&header, KEY_OP, 1, 9, &text, &size, &fault),
		      "op", "a string, not an integer");
	assert_int_equal(size, 4);
	assert_int_equal(header_get_string(&header, KEY_NAME, 0, 9, &text, &size, &fault),
			 1);
	assert_int_equal(size, 0);
	parse("{\"queue\":\"\\u00fc\"}"); /* bytes are counted, of what it means */
	assert_int_equal(
		header_get_string(&header, KEY_QUEUE, 2, 2, &text, &size, &fault), 1);
	assert_memory_equal(text, "\xc3\xbc", 2);
}

static void test_object(void **state)
{
	const char *text;
	size_t size;

	parse("{\"meta\": { \"a\" :1.50 } ,\"from\":[]}");
	assert_int_equal(header_get_object(&header, KEY_META, 13, &text, &size, &fault),
			 1);
	assert_int_equal(size, 13);
	assert_memory_equal(text, "{ \"a\" :1.50 }", 13); /* byte for byte */
	check_refused(header_get_object(&header, KEY_META, 12, &text, &size, &fault),
		      "meta", "2 to 12 bytes");
	check_refused(header_get_object(&header, KEY_FROM, 12, &text, &size, &fault),
		      "from", "an object, not an array");
	assert_int_equal(header_get_object(&header, KEY_LIMITS, 1, &text, &size, &fault),
			 0);
}

static void test_array(void **state)
{
	uint32_t at = 0, n = 0;
	uint64_t sum = 0;

	parse("{\"messages\":[1,2,3],\"queues\":[],\"queue\":\"x\"}");
	assert_int_equal(header_get_array(&header, KEY_MESSAGES, 3, &at, &n, &fault), 1);
	assert_int_equal(n, 3);
	for (uint32_t i = 0; i < n; i++, at = json_at(json, at)->next)
		sum = sum * 10 + (uint64_t)json_at(json, at)->integer;
	assert_int_equal(sum, 123);
	check_refused(header_get_array(&header, KEY_MESSAGES, 2, &at, &n, &fault),
		      "messages", "1 to 2 elements, not 3");
	check_refused(header_get_array(&header, KEY_QUEUES, 2, &at, &n, &fault), "queues",
		      "not 0");
	check_refused(header_get_array(&header, KEY_QUEUE, 2, &at, &n, &fault), "queue",
		      "an array, not a string");
	assert_int_equal(header_get_array(&header, KEY_ID, 2, &at, &n, &fault), 0);
	parse("{\"queues\":[{\"a\":[1]},[2],\"c\"]}");
	assert_int_equal(header_get_array(&header, KEY_QUEUES, 3, &at, &n, &fault), 1);
	at = json_at(json, at)->next;
	assert_int_equal(json_at(json, at)->type, JSON_ARRAY);
	at = json_at(json, at)->next;
	assert_int_equal(json_at(json, at)->type, JSON_STRING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_key_is_found),
		cmocka_unit_test(test_unknown_keys_are_ignored),
		cmocka_unit_test(test_bad_header),
		cmocka_unit_test(test_u64),
		cmocka_unit_test(test_u64_of_another_type),
		cmocka_unit_test(test_ms),
		cmocka_unit_test(test_bool),
		cmocka_unit_test(test_string),
		cmocka_unit_test(test_object),
		cmocka_unit_test(test_array),
	};

	return cmocka_run_group_tests_name("header", tests, open_parser, close_parser);
}
