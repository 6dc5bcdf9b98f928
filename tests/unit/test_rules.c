/* SPDX-License-Identifier: MIT */

/* Patterns: which are any, what they match, which of several wins. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "rules.h"
#include "wire/limits.h"

static const char *long_name(size_t size)
{
	static char text[512];

	memset(text, 'a', size);
	text[size] = '\0';
	return text;
}

static void test_what_a_pattern_is(void **state)
{
	static const struct {
		const char *text;
		bool valid;
	} rows[] = {
		{ "a", true },	      { "*", true },	      { "**", true },
		{ "a.b-c_D9", true }, { "*.a", true },	      { "a.*.b", true },
		{ "a.**", true },     { "*.**", true },	      { "@*", true },
		{ "@**", true },      { "@1000.x.**", true }, { "@ann", true },
		{ "", false },	      { "@", false },	      { ".", false },
		{ "a.", false },      { ".a", false },	      { "a..b", false },
		{ "**.a", false },    { "a.**.b", false },    { "***", false },
		{ "a*", false },      { "*a", false },	      { "a.b**", false },
		{ "a b", false },     { "a/b", false },	      { "@@a", false },
		{ "a.@b", false },    { "a\n", false },	      { "\xc3\xa4", false },
		{ "@.a", false },     { "@a.", false },	      { "@**.a", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (pattern_is_valid(rows[i].text) != rows[i].valid)
			fail_msg("pattern \"%s\"", rows[i].text);
	assert_true(pattern_is_valid(long_name(LIMIT_NAME_MAX - 1)));
	assert_true(pattern_is_valid(long_name(LIMIT_NAME_MAX)));
	assert_false(pattern_is_valid(long_name(LIMIT_NAME_MAX + 1)));
}

static void test_every_byte_alone(void **state)
{
	static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				   "0123456789_-*";

	for (int c = 1; c < 256; c++) {
		const char text[] = { (char)c, '\0' };

		assert_int_equal(pattern_is_valid(text), strchr(good, c) != NULL);
	}
}

static void test_what_matches(void **state)
{
	static const struct {
		const char *pattern, *name;
		bool matches;
	} rows[] = {
		{ "a", "a", true },	     { "a", "b", false },
		{ "a", "ab", false },	     { "ab", "a", false },
		{ "a", "a.b", false },	     { "a.b", "a", false },
		{ "*", "a", true },	     { "*", "a.b", false },
		{ "*.b", "a.b", true },	     { "*.b", "b", false },
		{ "a.*", "a.b", true },	     { "a.*", "a", false },
		{ "a.*", "a.b.c", false },   { "a.*.c", "a.b.c", true },
		{ "a.*.c", "a.b.d", false }, { "**", "a", true },
		{ "**", "a.b.c", true },     { "a.**", "a.b", true },
		{ "a.**", "a.b.c.d", true }, { "a.**", "a", false },
		{ "a.**", "ab.c", false },   { "*.**", "a", false },
		{ "*.**", "a.b", true },     { "**", "@1", false },
		{ "*", "@1", false },	     { "@*", "@1", true },
		{ "@*", "a", false },	     { "@*", "@1.x", false },
		{ "@*.x", "@1.x", true },    { "@**", "@1", true },
		{ "@**", "@1.x.y", true },   { "@**", "a", false },
		{ "@1.**", "@1.x", true },   { "@1.**", "@10.x", false },
		{ "@10.**", "@1.x", false }, { "@1.**", "@1", false },
		{ "1.*", "@1.x", false },    { "john.*", "john.doe", true },
		{ "A", "a", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (pattern_matches(rows[i].pattern, rows[i].name) != rows[i].matches)
			fail_msg("\"%s\" and \"%s\"", rows[i].pattern, rows[i].name);
	assert_true(pattern_matches("*", long_name(LIMIT_NAME_MAX)));
	assert_true(pattern_matches("**", long_name(LIMIT_NAME_MAX)));
}

enum { RULES_MAX = 6 };

static const struct rule *find(const char *const *patterns, const char *name)
{
	static struct rule rule[RULES_MAX];
	struct rules rules = { rule, 0 };

	while (patterns[rules.n]) {
		rule[rules.n].pattern = (char *)(uintptr_t)patterns[rules.n];
		rules.n++;
	}
	return rules_find(&rules, name);
}

static void test_the_most_specific_wins(void **state)
{
	static const struct {
		const char *patterns[RULES_MAX];
		const char *name, *wins; /* in whatever order they stand */
	} rows[] = {
		{ { "**", "*", "a" }, "a", "a" },
		{ { "**", "*", "a" }, "b", "*" },
		{ { "**", "*", "a" }, "b.c", "**" },
		{ { "a.**", "a.*", "a.b", "*.b", "**" }, "a.b", "a.b" },
		{ { "a.**", "a.*", "*.b", "**" }, "a.b", "a.*" },
		{ { "a.**", "*.b", "**" }, "a.b", "a.**" },
		{ { "*.b", "*.*", "*.**", "**" }, "a.b", "*.b" },
		{ { "*.*", "*.**", "**" }, "a.b", "*.*" },
		{ { "*.**", "**" }, "a.b", "*.**" },
		{ { "a.*.c", "a.b.**" }, "a.b.c", "a.b.**" },
		{ { "a.*.c", "a.b.**" }, "a.x.c", "a.*.c" },
		{ { "*.b.c", "a.**" }, "a.b.c", "a.**" },
		{ { "@**", "@*", "@1", "**" }, "@1", "@1" },
		{ { "@**", "@*", "@1.**" }, "@1", "@*" },
		{ { "@**", "@*.x", "@1.*", "@1.**" }, "@1.x", "@1.*" },
		{ { "a", "a.b", "@**" }, "b", NULL },
		{ { NULL }, "a", NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *turned[RULES_MAX] = { NULL };
		size_t n = 0;

		while (rows[i].patterns[n])
			n++;
		for (size_t shift = 0; shift < n; shift++) {
			const struct rule *rule;

			for (size_t k = 0; k < n; k++)
				turned[k] = rows[i].patterns[(k + shift) % n];
			rule = find(turned, rows[i].name);
			if (rows[i].wins
				    ? !rule || strcmp(rule->pattern, rows[i].wins) != 0
				    : rule != NULL)
				fail_msg("row %zu: %s for %s", i,
					 rule ? rule->pattern : "none", rows[i].name);
		}
	}
}

static void test_of_equals_the_last(void **state)
{
	const char *const patterns[] = { "a.*", "**", "a.*", "**", NULL };
	const struct rule *first = find(patterns, "a.b");
	const struct rule *all = find(patterns, "b");

	assert_ptr_equal(first, find(patterns, "a.c"));
	assert_string_equal(first->pattern, "a.*");
	assert_int_equal(all - first, 1); /* 3 and 2 of 0..3 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_a_pattern_is),
		cmocka_unit_test(test_every_byte_alone),
		cmocka_unit_test(test_what_matches),
		cmocka_unit_test(test_the_most_specific_wins),
		cmocka_unit_test(test_of_equals_the_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
