/* SPDX-License-Identifier: MIT */

/* Digests by their published test vectors, in pieces, several at once; their hex. */

#include "unit/alloc.h"

#include "wire/digest.h"

enum { ALL = 1 << DIGEST_XXH3 | 1 << DIGEST_SHA256 | 1 << DIGEST_MD5 };

static const struct {
	const char *data, *hex[DIGEST_N];
} vectors[] = {
	{ "",
	  { "99aa06d3014798d86001c324468d497f",
	    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	    "d41d8cd98f00b204e9800998ecf8427e" } },
	{ "abc",
	  { "06b05ab6733a618578af5f94892f3950",
	    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
	    "900150983cd24fb0d6963f7d28e17f72" } },
};

static void test_vectors(void **state)
{
	char hex[DIGEST_HEX_MAX + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		_cleanup_digest_ struct digest *d = NULL;

		assert_int_equal(digest_new(ALL, &d), 0);
		for (const char *p = vectors[i].data; *p; p++)
			digest_update(d, p, 1);
		digest_update(d, NULL, 0);
		for (enum digest_kind kind = 0; kind < DIGEST_N; kind++) {
			digest_final(d, kind, hex);
			assert_string_equal(hex, vectors[i].hex[kind]);
			assert_int_equal(strlen(hex), digest_hex_size(kind));
			assert_true(digest_hex_is_valid(kind, hex, strlen(hex)));
		}
	}
}

/* Those not asked for cost nothing, and do not get in the way. */
static void test_one_of_them(void **state)
{
	char hex[DIGEST_HEX_MAX + 1];

	(void)state;
	for (enum digest_kind kind = 0; kind < DIGEST_N; kind++) {
		_cleanup_digest_ struct digest *d = NULL;

		assert_int_equal(digest_new(1u << kind, &d), 0);
		digest_update(d, "abc", 3);
		digest_final(d, kind, hex);
		assert_string_equal(hex, vectors[1].hex[kind]);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(digest_name(DIGEST_XXH3), "xxh3");
	assert_string_equal(digest_name(DIGEST_SHA256), "sha256");
	assert_string_equal(digest_name(DIGEST_MD5), "md5");
	for (enum digest_kind kind = 0; kind < DIGEST_N; kind++)
		assert_int_equal(digest_of_name(digest_name(kind)), kind);
	assert_int_equal(digest_of_name("sha1"), DIGEST_N);
	assert_int_equal(digest_of_name(""), DIGEST_N);
}

static void test_hex(void **state)
{
	const char *md5 = vectors[1].hex[DIGEST_MD5];

	(void)state;
	assert_true(digest_hex_is_valid(DIGEST_MD5, md5, 32));
	assert_true(
		digest_hex_is_valid(DIGEST_MD5, "0123456789abcdefABCDEF0123456789", 32));
	assert_false(digest_hex_is_valid(DIGEST_MD5, md5, 31));
	assert_false(digest_hex_is_valid(DIGEST_SHA256, md5, 32));
	assert_false(
		digest_hex_is_valid(DIGEST_MD5, "g0150983cd24fb0d6963f7d28e17f72a", 32));
	assert_false(
		digest_hex_is_valid(DIGEST_MD5, "00150983cd24fb0d6963f7d28e17f7\0a", 32));
	assert_true(digest_hex_is_equal("00ffAB", "00FFab", 6));
	assert_false(digest_hex_is_equal("00ffab", "00ffac", 6));
	assert_false(digest_hex_is_equal("00`f", "00@f", 4));
}

static void test_no_memory(void **state)
{
	struct digest *d = NULL;

	(void)state;
	fail_allocation(1);
	assert_int_equal(digest_new(ALL, &d), -ENOMEM);
	fail_allocation(0);
	assert_null(d);
	assert_null(digest_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),	  cmocka_unit_test(test_one_of_them),
		cmocka_unit_test(test_names),	  cmocka_unit_test(test_hex),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
