/* SPDX-License-Identifier: MIT */

/* The strict JSON reader of wire/json.h. */

#include "unit/base.h"

#include "wire/json.h"
#include "wire/limits.h"

enum { TEXT_MAX = LIMIT_HEADER_MAX };

static struct json *strict, *commented;

static int open_parsers(void **state)
{
	return json_new(&strict, TEXT_MAX, false) || json_new(&commented, TEXT_MAX, true);
}

static int close_parsers(void **state)
{
	strict = json_free(strict);
	commented = json_free(commented);
	return 0;
}

/* Parses a copy of the exact size, so that a read beyond is seen. */
static int parse_with(struct json *j, const char *text, size_t size)
{
	static char *copy;

	free(copy);
	copy = malloc(size ? size : 1);
	memcpy(copy, text, size);
	return json_parse(j, copy, size);
}

static void accept_text(struct json *j, const char *text, size_t size)
{
	if (parse_with(j, text, size))
		fail_msg("%s: %s", text, json_error(j));
	assert_string_equal(json_error(j), "");
}

/* Refused, with a reason, and the parser is as good as before. */
static void refuse_text(struct json *j, const char *text, size_t size)
{
	if (parse_with(j, text, size) != -EBADMSG)
		fail_msg("accepted: %s", text);
	assert_true(*json_error(j));
	assert_int_equal(parse_with(j, "{\"a\":1}", 7), 0);
	assert_int_equal(json_at(j, 0)->n_members, 1);
	assert_int_equal(json_at(j, 2)->integer, 1);
}

#define ACCEPT(text) accept_text(strict, text, sizeof(text) - 1)
#define REFUSE(text) refuse_text(strict, text, sizeof(text) - 1)

/* ---- what is refused ---- */

static void test_not_one_object(void **state)
{
	REFUSE("");
	REFUSE(" \n");
	REFUSE("[]");
	REFUSE("[{}]");
	REFUSE("1");
	REFUSE("12 ");
	REFUSE("\"text\"");
	REFUSE("true");
	REFUSE("null");
	REFUSE("{}{}");
	REFUSE("{} {}");
	REFUSE("{}x");
	REFUSE("{},");
	REFUSE("{}}");
	REFUSE("{}]");
	REFUSE("{}\0");
	REFUSE("\xef\xbb\xbf{}"); /* byte order mark */
	ACCEPT("{}");
	ACCEPT(" \t\r\n{} \t\r\n");
}

/* The end of the text cuts a token in the lexer: it must be seen all the same, and must not
 * wait there for the next text, which is another peer's. */
static void test_cut_token_behind_the_object(void **state)
{
	REFUSE("{} 12");
	REFUSE("{}1");
	REFUSE("{}-");
	REFUSE("{} \"open");
	REFUSE("{} \"");
	REFUSE("{} tru");
	REFUSE("{} n");
	REFUSE("{} \"\\");
	REFUSE("{}/");
	REFUSE("{}/*");
}

static void test_syntax(void **state)
{
	REFUSE("{a:1}");
	REFUSE("{'a':1}");
	REFUSE("{\"a\" 1}");
	REFUSE("{\"a\":}");
	REFUSE("{\"a\"}");
	REFUSE("{1:1}");
	REFUSE("{\"a\":1,}");
	REFUSE("{,\"a\":1}");
	REFUSE("{\"a\":[1,]}");
	REFUSE("{\"a\":[,1]}");
	REFUSE("{\"a\":[1 2]}");
	REFUSE("{\"a\":[1}]");
	REFUSE("{\"a\":{]}");
	REFUSE("{\"a\":True}");
	REFUSE("{\"a\":nul}");
	REFUSE("{\"a\":NaN}");
	REFUSE("{\"a\":Infinity}");
	REFUSE("{\"a\":1} // text");
	REFUSE("{/* text */}");
	REFUSE("{\"a\":1\\}");
	REFUSE("\\u0061{}");
}

static void test_white_space(void **state)
{
	REFUSE("{\v}");
	REFUSE("{\f}");
	REFUSE("{}\f");
	REFUSE("{\xc2\xa0}"); /* U+00A0 */
	REFUSE("{\xe2\x80\xa8}");
	ACCEPT("{\t\"a\"\n:\r1 }");
}

static void test_control_characters(void **state)
{
	char text[] = "{\"a\":\"?\"}";

	for (int c = 0; c < 0x20; c++) {
		text[6] = (char)c;
		refuse_text(strict, text, sizeof(text) - 1);
	}
	text[6] = 0x7f;
	ACCEPT(text);
	REFUSE("{\"a\0\":1}");
	REFUSE("{\0\"a\":1}");
}

static void test_utf8(void **state)
{
	ACCEPT("{\"\xc3\xbc\":\"\xf0\x9f\x98\x80\"}");
	REFUSE("{\"a\":\"\x80\"}");
	REFUSE("{\"a\":\"\xc0\x80\"}");
	REFUSE("{\"a\":\"\xe0\x80\x80\"}");
	REFUSE("{\"a\":\"\xed\xa0\x80\"}");
	REFUSE("{\"a\":\"\xf4\x90\x80\x80\"}");
	REFUSE("{\"a\":\"\xff\"}");
	REFUSE("{\"a\":\"\xe2\x82\"}");
	REFUSE("{\"\xc3\":1}");
	REFUSE("{}\xff");
	REFUSE("\xff{}");
}

static void test_escapes_refused(void **state)
{
	REFUSE("{\"a\":\"\\u0000\"}");
	REFUSE("{\"a\\u0000\":1}");
	REFUSE("{\"a\":\"\\ud800\"}");
	REFUSE("{\"a\":\"\\uDBFFx\"}");
	REFUSE("{\"a\":\"\\udc00\"}");
	REFUSE("{\"a\":\"\\uDFFF\"}");
	REFUSE("{\"a\":\"\\ud800\\ud800\"}");
	REFUSE("{\"a\":\"\\ud83d\\u0041\"}");
	REFUSE("{\"a\":\"\\ud83d\\n\"}");
	REFUSE("{\"a\":\"\\ud83d\\\\ude00\"}");
	REFUSE("{\"a\":\"\\ud800\\\\uZZZZ\"}");
	REFUSE("{\"\\ud800\":1}");
	REFUSE("{\"a\":\"\\udc00\\ud800\"}");
	REFUSE("{\"a\":\"\\udc00\\udc00\"}");
	REFUSE("{\"a\":\"\\u12\"}");
	REFUSE("{\"a\":\"\\u12g4\"}");
	REFUSE("{\"a\":\"\\u\"}");
	REFUSE("{\"a\":\"\\x41\"}");
	REFUSE("{\"a\":\"\\U00000041\"}");
	REFUSE("{\"a\":\"\\'\"}");
	REFUSE("{\"a\":\"\\\"}");
	REFUSE("{\"a\":\"\\u006");
	REFUSE("{\"a\":\"\\");
}

static void test_duplicate_keys(void **state)
{
	REFUSE("{\"a\":1,\"a\":1}");
	REFUSE("{\"a\":1,\"b\":1,\"c\":1,\"a\":1}");
	REFUSE("{\"a\":1,\"\\u0061\":2}");
	REFUSE("{\"\\u0061\":1,\"a\":2}");
	REFUSE("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}");
	REFUSE("{\"\":1,\"\":2}");
	REFUSE("{\"m\":{\"a\":1,\"a\":1}}");
	REFUSE("{\"m\":[[{\"x\":{\"a\":1,\"\\u0061\":1}}]]}");
	REFUSE("{\"m\":{\"a\":1},\"n\":2,\"m\":3}");
	ACCEPT("{\"a\":{\"a\":{\"a\":[{\"a\":1},{\"a\":1}]}},\"A\":1,\"aa\":1,\"\":1}");
}

/* n different keys of which, if twin >= 0, the last is key number twin again. */
static size_t many_keys(char *text, int n, int twin, bool escaped)
{
	size_t size = 0;

	text[size++] = '{';
	for (int i = 0; i < n; i++) {
		bool last = i == n - 1 && twin >= 0;
		int key = last ? twin : (i * 7919) % 100003;

		if (last)
			key = (twin * 7919) % 100003;
		size += (size_t)sprintf(text + size, "%s\"%s%05d\":%d", i ? "," : "",
					last && escaped ? "\\u006b" : "k", key, i);
	}
	text[size++] = '}';
	return size;
}

static void test_duplicate_among_many_keys(void **state)
{
	static const int counts[] = { 2, 7, 8, 9, 10, 100, 4000 };
	static char text[TEXT_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		int n = counts[i];

		accept_text(strict, text, many_keys(text, n, -1, false));
		assert_int_equal(json_at(strict, 0)->n_members, n);
		refuse_text(strict, text, many_keys(text, n, 0, false));
		refuse_text(strict, text, many_keys(text, n, n - 2, false));
		refuse_text(strict, text, many_keys(text, n, n / 2 - 1, true));
	}
}

static size_t nested(char *text, int depth, const char *open, const char *close)
{
	char *end = stpcpy(text, "{\"a\":");

	for (int i = 1; i < depth; i++)
		end = stpcpy(end, open);
	end = stpcpy(end, "1");
	for (int i = 1; i < depth; i++)
		end = stpcpy(end, close);
	end = stpcpy(end, "}");
	return (size_t)(end - text);
}

static void test_depth(void **state)
{
	static char text[TEXT_MAX];

	accept_text(strict, text, nested(text, LIMIT_JSON_DEPTH_MAX, "[", "]"));
	accept_text(strict, text, nested(text, LIMIT_JSON_DEPTH_MAX, "{\"b\":", "}"));
	refuse_text(strict, text, nested(text, LIMIT_JSON_DEPTH_MAX + 1, "[", "]"));
	refuse_text(strict, text, nested(text, LIMIT_JSON_DEPTH_MAX + 1, "{\"b\":", "}"));
	refuse_text(strict, text, nested(text, 10000, "[", "]"));
	assert_int_equal(parse_with(strict, text, nested(text, 33, "[", "]")), -EBADMSG);
	assert_non_null(strstr(json_error(strict), "32"));
}

static void test_truncated_at_every_byte(void **state)
{
	static const char text[] =
		"{\"op\":\"s\\u00fcnd \\ud83d\\ude00\",\"id\":-12.5e+3,"
		"\"m\":{\"a\":[true,false,null,[],{}]},\"u\":\"\xe2\x82\xac\"}";

	accept_text(strict, text, sizeof(text) - 1);
	for (size_t size = 0; size < sizeof(text) - 1; size++)
		refuse_text(strict, text, size);
	assert_int_equal(parse_with(strict, text, sizeof(text) - 2), -EBADMSG);
	assert_string_equal(json_error(strict), "it ends too early");
}

static void test_size(void **state)
{
	static char text[TEXT_MAX + 1];

	memset(text, 'x', sizeof(text));
	memcpy(text, "{\"a\":\"", 6);
	memcpy(text + TEXT_MAX - 2, "\"}", 3);
	accept_text(strict, text, TEXT_MAX);
	assert_int_equal(json_at(strict, 2)->size, TEXT_MAX - 8);
	memcpy(text + TEXT_MAX - 2, "x\"}", 3);
	refuse_text(strict, text, TEXT_MAX + 1);
}

/* The worst for yajl's buffers, which lie in an arena of a fixed size. */
static void test_arena_is_large_enough(void **state)
{
	static char text[TEXT_MAX];
	size_t size = 6;

	memcpy(text, "{\"a\":\"", 6);
	while (size + 8 < sizeof(text)) {
		memcpy(text + size, "\\n", 2);
		size += 2;
	}
	memcpy(text + size, "\"}", 2);
	accept_text(strict, text, size + 2);
	assert_int_equal(json_at(strict, 2)->size, (size - 6) / 2);
	refuse_text(strict, text, size); /* all of it in the lexer's own buffer */
	size = nested(text, 32, "[\"\\n\",", "]");
	accept_text(strict, text, size);
}

/* ---- what is read ---- */

static const struct json_value *value_of(const char *text)
{
	char object[512];
	int n = snprintf(object, sizeof(object), "{\"a\":%s}", text);

	accept_text(strict, object, (size_t)n);
	return json_at(strict, 2);
}

static void test_integers(void **state)
{
	static const struct {
		const char *text;
		int64_t integer;
	} cases[] = {
		{ "0", 0 },
		{ "-0", 0 },
		{ "7", 7 },
		{ "9223372036854775807", INT64_MAX },
		{ "-9223372036854775808", INT64_MIN },
		{ "9223372036854775806", INT64_MAX - 1 },
		{ "-9223372036854775807", INT64_MIN + 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct json_value *v = value_of(cases[i].text);

		assert_int_equal(v->type, JSON_INTEGER);
		assert_true(v->integer == cases[i].integer);
	}
}

static void test_other_numbers(void **state)
{
	static const char *const numbers[] = {
		"9223372036854775808",
		"-9223372036854775809",
		"18446744073709551616",
		"1.0",
		"1e3",
		"1E3",
		"0.5",
		"-0.0",
		"1e400",
		"1e-400",
	};
	char big[402] = "1";

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		assert_int_equal(value_of(numbers[i])->type, JSON_NUMBER);
	memset(big + 1, '0', 400);
	assert_int_equal(value_of(big)->type, JSON_NUMBER);
	REFUSE("{\"a\":01}");
	REFUSE("{\"a\":-01}");
	REFUSE("{\"a\":+1}");
	REFUSE("{\"a\":.5}");
	REFUSE("{\"a\":1.}");
	REFUSE("{\"a\":1e}");
	REFUSE("{\"a\":1e+}");
	REFUSE("{\"a\":-}");
	REFUSE("{\"a\":--1}");
	REFUSE("{\"a\":0x10}");
	REFUSE("{\"a\":1_000}");
}

static void check_string(const char *json, const char *expected, size_t size)
{
	const struct json_value *v = value_of(json);

	assert_int_equal(v->type, JSON_STRING);
	assert_int_equal(v->size, size);
	assert_memory_equal(json_text(strict, v), expected, size);
}

static void test_strings(void **state)
{
#define STRING(json, text) check_string(json, text, sizeof(text) - 1)
	STRING("\"\"", "");
	STRING("\"plain\"", "plain");
	STRING("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t");
	STRING("\"\\u0061\\u00fC\\u20ac\\uFFFF\"", "a\xc3\xbc\xe2\x82\xac\xef\xbf\xbf");
	STRING("\"\\ud83d\\ude00\\uD800\\uDC00\\uDBFF\\uDFFF\"",
	       "\xf0\x9f\x98\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
	STRING("\"\\\\ud800 \\\\u0000\"", "\\ud800 \\u0000");
	STRING("\"\xe2\x82\xac\\n\"", "\xe2\x82\xac\n");
	STRING("\"// no comment /* \"", "// no comment /* ");
}

static void test_decoded_strings_keep_apart(void **state)
{
	ACCEPT("{\"\\u0061\":\"\\u0062\",\"c\":\"\\u0064e\",\"f\":\"g\"}");
	assert_memory_equal(json_text(strict, json_at(strict, 1)), "a", 1);
	assert_memory_equal(json_text(strict, json_at(strict, 2)), "b", 1);
	assert_memory_equal(json_text(strict, json_at(strict, 4)), "de", 2);
	assert_memory_equal(json_text(strict, json_at(strict, 6)), "g", 1);
	assert_int_equal(json_member(strict, 0, "a"), 2);
	assert_int_equal(json_member(strict, 0, "f"), 6);
}

static void check_raw(uint32_t at, const char *expected)
{
	const struct json_value *v = json_at(strict, at);

	assert_int_equal(v->size, strlen(expected));
	assert_memory_equal(json_text(strict, v), expected, v->size);
}

static void test_tape(void **state)
{
	ACCEPT(" {\"a\" : { \"x\":[1, {} ,\"s\"] },\"b\":[ ],\"c\":null,\"d\":true,\"e\":false} ");
	check_raw(
		0,
		"{\"a\" : { \"x\":[1, {} ,\"s\"] },\"b\":[ ],\"c\":null,\"d\":true,\"e\":false}");
	assert_int_equal(json_at(strict, 0)->n_members, 5);
	assert_int_equal(json_at(strict, 0)->next, 16);
	check_raw(2, "{ \"x\":[1, {} ,\"s\"] }");
	assert_int_equal(json_at(strict, 2)->next, 8);
	check_raw(4, "[1, {} ,\"s\"]");
	assert_int_equal(json_at(strict, 4)->n_members, 3);
	assert_int_equal(json_at(strict, 5)->integer, 1);
	check_raw(6, "{}");
	check_raw(9, "[ ]");
	assert_int_equal(json_at(strict, 9)->n_members, 0);
	assert_int_equal(json_at(strict, json_member(strict, 0, "c"))->type, JSON_NULL);
	assert_int_equal(json_at(strict, json_member(strict, 0, "d"))->type, JSON_TRUE);
	assert_int_equal(json_at(strict, json_member(strict, 0, "e"))->type, JSON_FALSE);
	assert_int_equal(json_member(strict, 0, "x"), 0);
	assert_int_equal(json_member(strict, 2, "x"), 4);
	assert_int_equal(json_member(strict, 0, ""), 0);
	for (int i = JSON_NULL; i <= JSON_ARRAY; i++)
		assert_true(*json_type_name((enum json_type)i));
}

/* ---- comments, for configuration ---- */

#define ACCEPT_C(text) accept_text(commented, text, sizeof(text) - 1)
#define REFUSE_C(text) refuse_text(commented, text, sizeof(text) - 1)

static void test_comments(void **state)
{
	ACCEPT_C("// head\n{ /* a */ \"a\" /**/ : // b\n 1 /* * / ***/ } // end");
	ACCEPT_C("{} /* end */ // end\n");
	ACCEPT_C("/*\"*/{\"a\":\"//\"}");
	ACCEPT_C(
		"// C:\\users \\u0000 \\ud800 \"\n{\"a\":\"\\u0061\"} /* \\udc00 \\u */");
	REFUSE_C("{} /* open");
	REFUSE_C("{} /* open *");
	REFUSE_C("{} /");
	REFUSE_C("{} / /");
	REFUSE_C("{ /* open }");
	REFUSE_C("{} /* */ x");
	REFUSE_C("{} // x\n12");
	REFUSE_C("{} # x");
	REFUSE_C("/* \" */ {\"a\":\"\\ud800\"}");
	REFUSE_C("// \" \n {\"a\":\"\\u0000\"}");
	REFUSE_C("{\"a\":\"/*\", \"b\":\"\\udc00*/\"}");
	REFUSE_C("{\"a\":\"\\\"//\\ud800\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_not_one_object),
		cmocka_unit_test(test_cut_token_behind_the_object),
		cmocka_unit_test(test_syntax),
		cmocka_unit_test(test_white_space),
		cmocka_unit_test(test_control_characters),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_escapes_refused),
		cmocka_unit_test(test_duplicate_keys),
		cmocka_unit_test(test_duplicate_among_many_keys),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_truncated_at_every_byte),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_arena_is_large_enough),
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_other_numbers),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_decoded_strings_keep_apart),
		cmocka_unit_test(test_tape),
		cmocka_unit_test(test_comments),
	};

	return cmocka_run_group_tests_name("json", tests, open_parsers, close_parsers);
}
