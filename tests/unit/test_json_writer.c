/* SPDX-License-Identifier: MIT */

/* The JSON writer of wire/json.h. */

#include "unit/base.h"

#include "wire/json.h"
#include "wire/limits.h"

static struct json *parser; /* reads what was written */

static int open_parser(void **state)
{
	return json_new(&parser, LIMIT_HEADER_MAX, false);
}

static int close_parser(void **state)
{
	parser = json_free(parser);
	return 0;
}

static void write_all_kinds(struct json_writer *w)
{
	json_put_u64(w, "u", UINT64_MAX);
	json_put_i64(w, "i", INT64_MIN);
	json_put_bool(w, "t", true);
	json_put_bool(w, "f", false);
	json_put_text(w, "s", "a\"\\/\n\x01\x7f\xe2\x82\xac");
	json_put_string(w, "", "ab", 1);
	json_put_raw(w, "r", "{ \"x\" : 1 }", 11);
	json_put_array(w, "a");
	json_put_u64(w, NULL, 1);
	json_put_object(w, NULL);
	json_put_array(w, "e");
	json_put_end(w);
	json_put_end(w);
	json_put_text(w, NULL, "two");
	json_put_end(w);
	json_put_object(w, "o");
	json_put_end(w);
}

static void test_writer(void **state)
{
	static const char expected[] =
		"{\"u\":18446744073709551615,\"i\":-9223372036854775808,\"t\":true,"
		"\"f\":false,\"s\":\"a\\\"\\\\/\\n\\u0001\x7f\xe2\x82\xac\",\"\":\"a\","
		"\"r\":{ \"x\" : 1 },\"a\":[1,{\"e\":[]},\"two\"],\"o\":{}}";
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct json_writer *w;

	assert_int_equal(json_writer_new(&w), 0);
	for (int i = 0; i < 3; i++) {
		out.size = 0;
		json_writer_begin(w, &out);
		write_all_kinds(w);
		assert_int_equal(json_writer_end(w), 0);
		assert_int_equal(out.size, sizeof(expected) - 1);
		assert_memory_equal(out.data, expected, out.size);
		assert_int_equal(json_parse(parser, out.data, out.size), 0);
	}
	assert_null(json_writer_free(w));
	assert_null(json_writer_free(NULL));
}

static void test_writer_open_end(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct json_writer *w;

	assert_int_equal(json_writer_new(&w), 0);
	json_writer_begin(w, &out);
	json_put_u64(w, "re", 1);
	assert_int_equal(json_writer_end_open(w), 0);
	assert_int_equal(buf_append_string(&out, "\"x\":2}"), 0);
	json_writer_begin(w, &out);
	assert_int_equal(json_writer_end(w), 0);
	assert_int_equal(buf_terminate(&out), 0);
	assert_string_equal(out.data, "{\"re\":1,\"x\":2}{}");
	json_writer_free(w);
}

/* What is written is read as the same, for strings of any characters. */
static void test_round_trip(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct json_writer *w;
	uint32_t seed = 4;
	char text[50];

	assert_int_equal(json_writer_new(&w), 0);
	for (int round = 0; round < 2000; round++) {
		size_t size = next_random(&seed) % sizeof(text);

		for (size_t i = 0; i < size; i++)
			text[i] = (char)(1 + next_random(&seed) % 127);
		out.size = 0;
		json_writer_begin(w, &out);
		json_put_string(w, "k", text, size);
		json_put_array(w, "a");
		json_put_string(w, NULL, text, size);
		json_put_end(w);
		assert_int_equal(json_writer_end(w), 0);
		assert_int_equal(json_parse(parser, out.data, out.size), 0);
		for (uint32_t at = 2; at < 6; at += 3) {
			assert_int_equal(json_at(parser, at)->size, size);
			assert_memory_equal(json_text(parser, json_at(parser, at)), text,
					    size);
		}
	}
	json_writer_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writer),
		cmocka_unit_test(test_writer_open_end),
		cmocka_unit_test(test_round_trip),
	};

	return cmocka_run_group_tests_name("json_writer", tests, open_parser,
					   close_parser);
}
