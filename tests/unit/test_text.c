/* SPDX-License-Identifier: MIT */

/* Text that people read and limits that they set: utf8, fault, limits. */

#include "unit/base.h"

#include "base/utf8.h"
#include "wire/fault.h"
#include "wire/limits.h"

/* ---- utf8 ---- */

struct sample {
	const char *text;
	size_t size;
};
#define S(literal)                           \
	{                                    \
		literal, sizeof(literal) - 1 \
	}

static const struct sample good[] = {
	S(""),
	S("plain ASCII, longer than one word of eight bytes"),
	S("\0 and \x7f"),
	S("\xc2\x80"),
	S("\xdf\xbf"),
	S("\xe0\xa0\x80"),
	S("\xed\x9f\xbf"), /* U+D7FF */
	S("\xee\x80\x80"), /* U+E000 */
	S("\xef\xbf\xbf"), /* U+FFFF */
	S("\xf0\x90\x80\x80"),
	S("\xf4\x8f\xbf\xbf"), /* U+10FFFF */
	S("z\xc3\xbcrich \xe2\x82\xac \xf0\x9f\x98\x80"),
};

static const struct sample bad[] = {
	S("\x80"),
	S("\xbf"),
	S("\xc0\x80"), /* overlong NUL */
	S("\xc1\xbf"),
	S("\xe0\x80\x80"),
	S("\xe0\x9f\xbf"), /* overlong U+7FF */
	S("\xf0\x80\x80\x80"),
	S("\xf0\x8f\xbf\xbf"),	       /* overlong U+FFFF */
	S("\xed\xa0\x80"),	       /* U+D800 */
	S("\xed\xbf\xbf"),	       /* U+DFFF */
	S("\xed\xa0\xbd\xed\xb8\x80"), /* a pair of surrogates, CESU-8 */
	S("\xf4\x90\x80\x80"),	       /* U+110000 */
	S("\xf5\x80\x80\x80"),
	S("\xf8\x88\x80\x80\x80"),
	S("\xfe"),
	S("\xff"),
	S("\xc2"),
	S("\xc2 "),
	S("\xe2\x82"),
	S("\xe2\x82 "),
	S("\xe2 \xac"),
	S("\xf0\x9f\x98"),
	S("\xf0\x9f\x98 "),
	S("\xf0 \x98\x80"),
	S("\xc3\xbc\xbc"),
};

/* Each sample at each place of the eight-byte words, with text before and behind, in a
 * block of the exact size so that a read beyond is seen. */
static void check_samples(const struct sample *samples, size_t n, bool valid)
{
	for (size_t i = 0; i < n; i++)
		for (size_t before = 0; before < 18; before++)
			for (size_t behind = 0; behind < 18; behind += 17) {
				size_t size = before + samples[i].size + behind;
				char *text = malloc(size ? size : 1);

				memset(text, 'x', size);
				memcpy(text + before, samples[i].text, samples[i].size);
				assert_int_equal(utf8_is_valid(text, size), valid);
				free(text);
			}
}

static void test_utf8_good(void **state)
{
	check_samples(good, ARRAY_SIZE(good), true);
}

static void test_utf8_bad(void **state)
{
	check_samples(bad, ARRAY_SIZE(bad), false);
}

/* Every code point, encoded by the definition. */
static void test_utf8_every_point(void **state)
{
	for (uint32_t c = 0x80; c < 0x120000; c++) {
		unsigned char t[4];
		size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

		for (size_t i = n - 1; i; i--)
			t[i] = (unsigned char)(0x80 | (c >> 6 * (n - 1 - i) & 0x3f));
		t[0] = (unsigned char)((0xf00u >> n & 0xf0) | c >> 6 * (n - 1));
		if (utf8_is_valid(t, n) != (c < 0x110000 && (c < 0xd800 || c > 0xdfff)))
			fail_msg("U+%04X", c);
	}
}

static void check_escaped(const char *text, size_t size, const char *expected)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	assert_int_equal(utf8_append_escaped(&b, text, size), 0);
	assert_int_equal(buf_terminate(&b), 0);
	assert_string_equal(b.data, expected);
}

static void test_escaped(void **state)
{
#define ESCAPED(text, expected) check_escaped(text, sizeof(text) - 1, expected)
	ESCAPED("", "");
	ESCAPED("z\xc3\xbcrich \"1\"", "z\xc3\xbcrich \"1\"");
	ESCAPED("a\nb\tc\\d\r", "a\\nb\\tc\\\\d\\x0d");
	ESCAPED("\0\x1b[31m\x7f", "\\x00\\x1b[31m\\x7f");
	ESCAPED("\xc2\x9b"
		"31m\xc2\xa0",
		"\\x9b31m\xc2\xa0"); /* C1 CSI; U+00A0 is text */
	ESCAPED("\xe2\x80\xae", "\\u{202e}");
	ESCAPED("\xe2\x80\xa8\xe2\x81\xa9\xe2\x80\x8f\xd8\x9c",
		"\\u{2028}\\u{2069}\\u{200f}\\u{061c}");
	ESCAPED("\xff\xc3", "\\xff\\xc3");
	ESCAPED("\xed\xa0\x80", "\\xed\\xa0\\x80");
	ESCAPED("\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80");
}

/* What comes out has no control character and is valid, whatever goes in. */
static void test_escaped_is_safe(void **state)
{
	uint32_t seed = 3;
	char text[64];

	for (int round = 0; round < 5000; round++) {
		_cleanup_buf_ struct buf b = BUF_INIT;

		for (size_t i = 0; i < sizeof(text); i++)
			text[i] = (char)(next_random(&seed) % (round % 2 ? 256 : 40));
		assert_int_equal(utf8_append_escaped(&b, text, sizeof(text)), 0);
		assert_true(utf8_is_valid(b.data, b.size));
		for (size_t i = 0; i < b.size; i++)
			assert_true((unsigned char)b.data[i] >= 0x20 &&
				    b.data[i] != 0x7f);
	}
}

/* ---- fault ---- */

static void test_fault_words(void **state)
{
	for (int i = 0; i < FAULT_N_WORDS; i++) {
		const char *word = fault_word_name((enum fault_word)i);

		assert_true(fault_word_errno(word, strlen(word)) > 0);
		assert_int_not_equal(fault_word_errno(word, strlen(word)), EPROTO);
		assert_int_equal(fault_word_errno(word, strlen(word) - 1), EPROTO);
	}
	assert_int_equal(fault_word_errno("denied", 6), EACCES);
	assert_int_equal(fault_word_errno("", 0), EPROTO);
	assert_int_equal(fault_word_errno("deniedx", 7), EPROTO);
}

static void test_fault_text(void **state)
{
	struct fault fault;

	assert_int_equal(fault_set(&fault, FAULT_FULL, "%s has %d", "jobs", 3), FAULT);
	assert_int_equal(fault.word, FAULT_FULL);
	assert_string_equal(fault.text, "jobs has 3");
	assert_int_equal(fault_set(&fault, FAULT_FULL, "%s", ""), FAULT);
	assert_string_equal(fault.text, "");
}

/* Cut at a character's end, wherever the limit falls in it. */
static void test_fault_is_cut_between_characters(void **state)
{
	struct fault fault;
	char text[1200];

	for (size_t before = 0; before < 8; before++) {
		memset(text, 'x', sizeof(text));
		for (size_t i = LIMIT_ERROR_TEXT_MAX - 8 + before; i + 4 < sizeof(text);
		     i += 4)
			memcpy(text + i, "\xf0\x9f\x98\x80", 4);
		text[sizeof(text) - 1] = '\0';
		fault_set(&fault, FAULT_INTERNAL, "%s", text);
		assert_true(utf8_is_valid(fault.text, strlen(fault.text)));
		assert_in_range(strlen(fault.text), LIMIT_ERROR_TEXT_MAX - 3,
				LIMIT_ERROR_TEXT_MAX);
	}
	fault_set(&fault, FAULT_INTERNAL, "ab%scd", "\xff");
	assert_string_equal(fault.text, "ab");
}

/* ---- limits ---- */

static void test_limits_table(void **state)
{
	for (size_t i = 0; i < limits_table_size; i++) {
		const struct limit_info *info = &limits_table[i];
		uint64_t in_struct;

		assert_true(info->min <= info->value && info->value <= info->max);
		assert_true(*info->key && *info->what);
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(info->key, limits_table[k].key);
		if (info->offset == SIZE_MAX)
			continue;
		memcpy(&in_struct, (const char *)&limits_default + info->offset,
		       sizeof(in_struct));
		assert_int_equal(in_struct, info->value);
	}
}

/* Each settable limit at min - 1, min, max, max + 1: R3. */
static void test_limits_edges(void **state)
{
	const struct limit_info *named;
	char assignment[96];

	for (size_t i = 0; i < limits_table_size; i++) {
		const struct limit_info *info = &limits_table[i];
		uint64_t tries[4] = { info->min, info->max, info->max + 1,
				      info->min - 1 };
		struct limits limits = limits_default;
		uint64_t now;

		if (info->offset == SIZE_MAX)
			continue;
		for (size_t k = 0; k < 4 - !info->min; k++) {
			named = NULL;
			snprintf(assignment, sizeof(assignment), "%s=%llu", info->key,
				 (unsigned long long)tries[k]);
			assert_int_equal(limits_set(&limits, assignment, &named),
					 k < 2 ? 0 : -ERANGE);
			assert_ptr_equal(named, k < 2 ? NULL : info);
			memcpy(&now, (char *)&limits + info->offset, sizeof(now));
			assert_int_equal(now, tries[k < 2 ? k : 1]);
		}
	}
}

static void test_limits_refused(void **state)
{
	static const struct {
		const char *assignment;
		int error;
	} cases[] = {
		{ "body_max", -EINVAL },
		{ "body_max=", -EINVAL },
		{ "body_max=1k", -EINVAL },
		{ "body_max=-1", -EINVAL },
		{ "body_max= 4096", -EINVAL },
		{ "body_ma=4096", -ENOENT },
		{ "body_maxx=4096", -ENOENT },
		{ "=4096", -ENOENT },
		{ "", -EINVAL },
		{ "header_max=70000", -ENOENT },
		{ "body_max=18446744073709551616", -EINVAL },
	};
	struct limits limits = limits_default;
	const struct limit_info *named = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(limits_set(&limits, cases[i].assignment, &named),
				 cases[i].error);
	assert_null(named);
	assert_memory_equal(&limits, &limits_default, sizeof(limits));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_utf8_good),
		cmocka_unit_test(test_utf8_bad),
		cmocka_unit_test(test_utf8_every_point),
		cmocka_unit_test(test_escaped),
		cmocka_unit_test(test_escaped_is_safe),
		cmocka_unit_test(test_fault_words),
		cmocka_unit_test(test_fault_text),
		cmocka_unit_test(test_fault_is_cut_between_characters),
		cmocka_unit_test(test_limits_table),
		cmocka_unit_test(test_limits_edges),
		cmocka_unit_test(test_limits_refused),
	};

	return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
