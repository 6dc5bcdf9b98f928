/* SPDX-License-Identifier: MIT */

/* Filters as people write them, to what goes to the daemon. */

#include "unit/alloc.h"

#include "client/filter.h"

struct row {
	const char *text, *expected;
};

static void test_what_is_sent(void **state)
{
	static const struct row rows[] = {
		{ "age>1h", "{\"older_ms\":3600000}" },
		{ "age<30s", "{\"newer_ms\":30000}" },
		{ "age>1.5h,age<2d", "{\"older_ms\":5400000,\"newer_ms\":172800000}" },
		{ "age>0", "{\"older_ms\":0}" },
		{ "age>90", "{\"older_ms\":90000}" },
		{ "age>250ms", "{\"older_ms\":250}" },
		{ "age<0.0019s", "{\"newer_ms\":1}" },
		{ "age<1.00000000000000001m", "{\"newer_ms\":60000}" },
		{ "age<365000d", "{\"newer_ms\":31536000000000}" },
		{ "sender=root", "{\"uid\":0}" },
		{ "sender=4000001", "{\"uid\":4000001}" },
		{ "attempt>=3", "{\"attempt_min\":3}" },
		{ "attempt>3", "{\"attempt_min\":4}" },
		{ "attempt<2", "{\"attempt_max\":1}" },
		{ "attempt<=2", "{\"attempt_max\":2}" },
		{ "attempt=1", "{\"attempt_min\":1,\"attempt_max\":1}" },
		{ "attempt>=0", "{\"attempt_min\":0}" },
		{ "attempt>=2 attempt<5", "{\"attempt_min\":2,\"attempt_max\":4}" },
		{ "priority>=5", "{\"priority_min\":5}" },
		{ "priority=0", "{\"priority_min\":0,\"priority_max\":0}" },
		{ "priority<9", "{\"priority_max\":8}" },
		{ "priority<=9", "{\"priority_max\":9}" },
		{ " , age>1s ,\t\nattempt<2,", "{\"older_ms\":1000,\"attempt_max\":1}" },
		{ "meta.kind=thumb", "{\"meta\":{\"kind\":\"thumb\"}}" },
		{ "meta.n=3", "{\"meta\":{\"n\":3}}" },
		{ "meta.n=-3", "{\"meta\":{\"n\":-3}}" },
		{ "meta.n=03", "{\"meta\":{\"n\":\"03\"}}" },
		{ "meta.n=\"3\"", "{\"meta\":{\"n\":\"3\"}}" },
		{ "meta.a=true meta.b=false meta.c=null meta.d=nil",
		  "{\"meta\":{\"a\":true,\"b\":false,\"c\":null,\"d\":\"nil\"}}" },
		{ "meta.t=\"two, words\" age>1s",
		  "{\"older_ms\":1000,\"meta\":{\"t\":\"two, words\"}}" },
		{ "meta.t=\"a \\\" quote\"", "{\"meta\":{\"t\":\"a \\\" quote\"}}" },
		{ "meta.t=\"\"", "{\"meta\":{\"t\":\"\"}}" },
		{ "meta.a.b=x=y", "{\"meta\":{\"a.b\":\"x=y\"}}" },
		{ "meta.p=C:\\x", "{\"meta\":{\"p\":\"C:\\\\x\"}}" },
		{ "meta.x={}", "{\"meta\":{\"x\":\"{}\"}}" },
		{ "meta.x=1}", "{\"meta\":{\"x\":\"1}\"}}" },
		{ "meta.\xc3\xa4=\xc3\xb6", "{\"meta\":{\"\xc3\xa4\":\"\xc3\xb6\"}}" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_buf_ struct buf json = BUF_INIT;
		struct client_error error;
		int r = filter_to_json(rows[i].text, &json, &error);

		if (r < 0)
			fail_msg("%s: %s", rows[i].text, error.text);
		assert_int_equal(buf_terminate(&json), 0);
		assert_string_equal(json.data, rows[i].expected);
	}
}

/* The error has the word, and what is possible. */
static void test_mistakes(void **state)
{
	static const struct row rows[] = {
		{ "", "the filter is empty" },
		{ " ,\t", "the filter is empty" },
		{ "\xff", "not valid UTF-8" },
		{ "colour=red",
		  "'colour=red': unknown; there are age>T age<T sender=USER" },
		{ "age > 1h", "'age': unknown; there are" },
		{ "age>1h and attempt>2", "'and': unknown" },
		{ ">1h", "'>1h': unknown" },
		{ "age>=1h", "'age>=1h': age goes as age>1h or age<30s" },
		{ "age=1h", "age goes as" },
		{ "age>", "age goes as" },
		{ "age>h", "age goes as" },
		{ "age>1.h", "age goes as" },
		{ "age>-1h", "age goes as" },
		{ "age>1week", "age goes as" },
		{ "age>365001d", "at most 365000d" },
		{ "age>99999999999999999999999999d", "age goes as" },
		{ "age>1h age>2h", "'age>2h': that is said before already" },
		{ "sender=no-such-user", "'sender=no-such-user': there is no such user" },
		{ "sender=", "sender goes as" },
		{ "sender>ann", "sender goes as" },
		{ "sender=root sender=0", "said before" },
		{ "attempt=x", "attempt goes as attempt>=3" },
		{ "attempt<0", "attempt goes as" },
		{ "attempt!=1", "attempt goes as" },
		{ "attempt<>1", "attempt goes as" },
		{ "attempt===1", "unknown" },
		{ "attempt=1 attempt>=1", "'attempt>=1': that is said before" },
		{ "priority>9", "'priority>9': priority goes as" },
		{ "priority=10", "priority goes as" },
		{ "meta=1", "'meta=1': unknown" },
		{ "meta.=1", "meta goes as meta.kind=thumb" },
		{ "meta.a>1", "meta goes as" },
		{ "meta.a=", "the empty text is \"\"" },
		{ "meta.a=1 meta.a=2", "'meta.a=2': that is said before" },
		{ "meta.a=1.5", "only integers can be compared" },
		{ "meta.a=1e3", "only integers can be compared" },
		{ "meta.a=99999999999999999999", "out of range: an integer has at most" },
		{ "meta.a=-9223372036854775809", "out of range" },
		{ "meta.a=\"x", "a quote is not closed" },
		{ "meta.a=\"x\\", "a quote is not closed" },
		{ "meta.a=x\"y z\"", "quotes stand around the whole value" },
		{ "meta.a=\"x\"y", "quotes stand around the whole value" },
		{ "meta.a=\"\\x\"", "quotes stand around the whole value" },
		{ "meta.\"a b\"=1", "unknown" },
		{ "meta.1=1 meta.2=1 meta.3=1 meta.4=1 meta.5=1 meta.6=1 meta.7=1 meta.8=1 "
		  "meta.9=1 meta.a=1 meta.b=1 meta.c=1 meta.d=1 meta.e=1 meta.f=1 meta.g=1 "
		  "meta.h=1",
		  "'meta.h=1': too many" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_buf_ struct buf json = BUF_INIT;
		struct client_error error = { .text = "nothing" };
		int r = filter_to_json(rows[i].text, &json, &error);

		assert_true(r == -EINVAL || r == -ENOENT);
		if (!strstr(error.text, rows[i].expected))
			fail_msg("%s: %s", rows[i].text, error.text);
		assert_int_equal(json.size, 0);
	}
}

/* What is wrong is said also of a long word, of whole characters. */
static void test_a_long_word(void **state)
{
	_cleanup_buf_ struct buf json = BUF_INIT;
	struct client_error error;
	char text[5001] = "x";

	(void)state;
	for (int i = 1; i < 4999; i += 2)
		memcpy(text + i, "\xc3\xa4", 2);
	assert_int_equal(filter_to_json(text, &json, &error), -EINVAL);
	assert_non_null(strstr(error.text, "unknown; there are"));
	assert_true(strlen(error.text) < 500);
	assert_null(strstr(error.text, "\xc3'"));
}

static void test_no_memory(void **state)
{
	static const char text[] = "age>1h meta.title=\"two words\" meta.n=3 meta.k=x";
	int r = -ENOMEM;

	(void)state;
	for (unsigned long n = 1; r; n++) {
		_cleanup_buf_ struct buf json = BUF_INIT;
		struct client_error error;

		fail_allocation(n);
		r = filter_to_json(text, &json, &error);
		assert_int_equal(r, allocation_failed() ? -ENOMEM : 0);
		if (r)
			assert_string_equal(error.text, "no memory for a filter");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_sent),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_a_long_word),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
