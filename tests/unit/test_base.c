/* SPDX-License-Identifier: MIT */

/* The small parts of libipc/base: util, err, list, bytes, fdset, clock, hash. */

#include "unit/base.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fdset.h"
#include "base/hash.h"
#include "base/list.h"

/* ---- util ---- */

static void test_take(void **state)
{
	int number = 1, *ptr = &number, fd = 7;

	assert_ptr_equal(TAKE_PTR(ptr), &number);
	assert_null(ptr);
	assert_int_equal(TAKE_FD(fd), 7);
	assert_int_equal(fd, -1);
}

static void test_cleanup_closes_and_frees(void **state)
{
	int before = count_fds();
	int kept;

	{
		_cleanup_fd_ int dropped = open("/dev/null", O_RDONLY | O_CLOEXEC);
		_cleanup_fd_ int given = dup(dropped);
		_cleanup_free_ char *block = malloc(10);

		assert_non_null(block);
		assert_int_equal(count_fds(), before + 2);
		kept = TAKE_FD(given);
	}
	assert_int_equal(count_fds(), before + 1);
	assert_int_equal(fd_close(kept), -1);
	assert_int_equal(count_fds(), before);
}

static void test_fd_close_keeps_errno(void **state)
{
	errno = EAGAIN;
	assert_int_equal(fd_close(-1), -1);
	assert_int_equal(fd_close(1000000), -1);
	assert_int_equal(errno, EAGAIN);
}

static void check_formatted(uint64_t value)
{
	char text[24], expected[24];

	text[format_u64(text, value)] = '\0';
	snprintf(expected, sizeof(expected), "%llu", (unsigned long long)value);
	assert_string_equal(text, expected);
	text[format_hex(text, value)] = '\0';
	snprintf(expected, sizeof(expected), "%llx", (unsigned long long)value);
	assert_string_equal(text, expected);
}

static void test_format(void **state)
{
	for (uint64_t value = 0; value < 2000; value++)
		check_formatted(value);
	for (uint64_t power = 1; power <= UINT64_MAX / 10; power *= 10) {
		check_formatted(power - 1);
		check_formatted(power * 10 + 7);
	}
	for (int bit = 0; bit < 64; bit++) {
		check_formatted(1ull << bit);
		check_formatted(UINT64_MAX >> bit);
	}
}

static void test_hex64(void **state)
{
	static const char *const bad[] = { "",
					   "abcdeF",
					   "0123456789abcdef0",
					   "0123456789abcdeF",
					   "0123456789abcdeg",
					   "0123456789abcde ",
					   "0x23456789abcdef",
					   "-123456789abcdef" };
	uint64_t value = 1;
	char text[16];

	format_hex64(text, 0x0123456789abcdefu);
	assert_memory_equal(text, "0123456789abcdef", 16);
	assert_true(parse_hex(text, 16, &value));
	assert_int_equal(value, 0x0123456789abcdefu);
	format_hex64(text, UINT64_MAX);
	assert_true(parse_hex(text, 16, &value));
	assert_int_equal(value, UINT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(parse_hex(bad[i], strlen(bad[i]), &value));
	assert_int_equal(value, UINT64_MAX);
}

static void test_parse_u64(void **state)
{
	static const char *const bad[] = {
		"",
		"-1",
		"+1",
		" 1",
		"1 ",
		"1k",
		"0x1",
		"18446744073709551616",
		"18446744073709551620",
		"99999999999999999999",
		"\xef\xbc\x91",
	};
	uint64_t value = 7;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(parse_u64(bad[i], UINT64_MAX, &value));
	assert_int_equal(value, 7);
	assert_true(parse_u64("18446744073709551615", UINT64_MAX, &value));
	assert_int_equal(value, UINT64_MAX);
	assert_true(parse_u64("0099", 99, &value));
	assert_int_equal(value, 99);
	assert_false(parse_u64("100", 99, &value));
	assert_true(parse_u64("0", 0, &value));
	assert_int_equal(value, 0);
}

static void test_saturation(void **state)
{
	assert_int_equal(add_saturating(1, 2), 3);
	assert_int_equal(add_saturating(UINT64_MAX, 0), UINT64_MAX);
	assert_int_equal(add_saturating(UINT64_MAX, 1), UINT64_MAX);
	assert_int_equal(ms_to_ns(1), 1000000);
	assert_int_equal(ms_to_ns(UINT64_MAX / 1000000), UINT64_MAX / 1000000 * 1000000);
	assert_int_equal(ms_to_ns(UINT64_MAX / 1000000 + 1), UINT64_MAX);
	assert_int_equal(deadline_after(5, 1), 1000005);
	assert_int_equal(deadline_after(5, UINT64_MAX), UINT64_MAX);
	assert_int_equal(deadline_after(UINT64_MAX - 1, 1), UINT64_MAX);
	assert_int_equal(min_u64(1, UINT64_MAX), 1);
	assert_int_equal(max_u64(1, UINT64_MAX), UINT64_MAX);
	assert_int_equal(min_size(3, 2), 2);
}

static void test_clock_runs(void **state)
{
	uint64_t a = clock_ns(CLOCK_MONOTONIC), b = clock_ns(CLOCK_MONOTONIC);

	assert_true(a > 0 && b >= a);
	assert_true(clock_ns(CLOCK_BOOTTIME) >= a);
}

/* ---- err ---- */

static int fail_below(int depth)
{
	if (!depth)
		return err_origin(-ENOENT);
	return err_trace(fail_below(depth - 1));
}

static void test_err_trail(void **state)
{
	const char *trail;

	assert_int_equal(fail_below(2), -ENOENT);
	trail = err_trail();
	assert_ptr_equal(strstr(trail, "test_base.c:"), trail);
	assert_non_null(strstr(trail, " < test_base.c:"));

	assert_int_equal(fail_below(0), -ENOENT);
	assert_null(strstr(err_trail(), " < "));

	assert_int_equal(err_origin(0), 0);
	assert_int_equal(err_trace(5), 5);
	assert_null(strstr(err_trail(), " < "));
}

static void test_err_long_way_keeps_origin(void **state)
{
	char origin[64];
	const char *trail;

	assert_int_equal(fail_below(0), -ENOENT);
	snprintf(origin, sizeof(origin), "%s < ", err_trail());
	assert_int_equal(fail_below(1000), -ENOENT);
	trail = err_trail();
	assert_ptr_equal(strstr(trail, origin), trail);
	assert_in_range(strlen(trail), 100, 255);
	assert_int_equal(trail[strlen(trail) - 1] >= '0', true);
}

/* ---- list ---- */

struct item {
	int number;
	struct list link;
};

/* The numbers of the list as digits. */
static const char *list_text(struct list *head)
{
	static char text[16];
	size_t n = 0;

	LIST_FOREACH(pos, head)
		text[n++] = (char)('0' + LIST_ENTRY(pos, struct item, link)->number);
	text[n] = '\0';
	return text;
}

static void test_list(void **state)
{
	struct item items[5];
	struct list head = LIST_INIT(head), other = LIST_INIT(other);

	for (int i = 0; i < 5; i++) {
		items[i].number = i;
		list_init(&items[i].link);
		assert_false(list_is_linked(&items[i].link));
	}
	assert_true(list_is_empty(&head));
	assert_null(LIST_FIRST(&head, struct item, link));
	list_add_tail(&head, &items[1].link);
	list_add_tail(&head, &items[2].link);
	list_add_head(&head, &items[0].link);
	assert_string_equal(list_text(&head), "012");
	assert_ptr_equal(LIST_FIRST(&head, struct item, link), &items[0]);
	assert_true(list_is_linked(&items[1].link));

	list_splice_tail(&head, &other);
	assert_string_equal(list_text(&head), "012");
	list_add_tail(&other, &items[3].link);
	list_add_tail(&other, &items[4].link);
	list_splice_tail(&head, &other);
	assert_string_equal(list_text(&head), "01234");
	assert_true(list_is_empty(&other));
	list_splice_tail(&other, &head);
	assert_string_equal(list_text(&other), "01234");
	assert_true(list_is_empty(&head));

	list_remove(&items[2].link);
	list_remove(&items[2].link);
	assert_false(list_is_linked(&items[2].link));
	assert_string_equal(list_text(&other), "0134");
	LIST_FOREACH_SAFE(pos, &other)
		if (LIST_ENTRY(pos, struct item, link)->number != 3)
			list_remove(pos);
	assert_string_equal(list_text(&other), "3");
	LIST_FOREACH_SAFE(pos, &other)
		list_remove(pos);
	assert_true(list_is_empty(&other));
}

/* ---- bytes, fdset ---- */

static void test_bytes(void **state)
{
	struct bytes *b = bytes_new_copy("abc", 3), *empty = bytes_new_copy(NULL, 0);

	assert_memory_equal(b->data, "abc", 3);
	assert_int_equal(b->size, 3);
	assert_ptr_equal(bytes_ref(b), b);
	assert_null(bytes_unref(b));
	assert_memory_equal(b->data, "abc", 3);
	assert_null(bytes_unref(b));
	assert_int_equal(empty->size, 0);
	bytes_unref(empty);
	assert_null(bytes_unref(NULL));
	assert_null(bytes_new(SIZE_MAX));
}

static void test_fdset(void **state)
{
	int before = count_fds();
	int fds[3], taken;
	struct fdset *set;

	for (int i = 0; i < 3; i++)
		fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	set = fdset_new(fds, 3);
	assert_int_equal(set->n, 3);
	taken = fdset_steal(set, 1);
	assert_int_equal(taken, fds[1]);
	assert_int_equal(set->fds[1], -1);
	assert_null(fdset_free(set));
	assert_int_equal(count_fds(), before + 1);
	close(taken);
	set = fdset_new(fds, 0);
	assert_int_equal(set->n, 0);
	fdset_free(set);
	assert_null(fdset_free(NULL));
	assert_int_equal(count_fds(), before);
}

static void note_return(void *lender)
{
	++*(int *)lender;
}

static void test_lent_fdset(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), n_returned = 0;
	struct fdset *set = fdset_new(&fd, 1);

	(void)state;
	set->give_back = note_return;
	set->lender = &n_returned;
	fdset_free(set);
	assert_int_equal(n_returned, 1);
	assert_int_equal(close(fd), 0); /* it was open still */
}

/* ---- hash ---- */

/* From the appendix of the SipHash paper and its reference vectors: key 00 01 … 0f, the
 * input 00 01 02 … of 0, 1, 7, 8, 15 and 63 bytes. */
static void test_siphash_vectors(void **state)
{
	static const struct {
		size_t size;
		uint64_t hash;
	} vectors[] = {
		{ 0, 0x726fdb47dd0e0e31u },  { 1, 0x74f839c593dc67fdu },
		{ 7, 0xab0200f58b01d137u },  { 8, 0x93f5f5799a932462u },
		{ 15, 0xa129ca6149be45e5u }, { 63, 0x958a324ceb064572u },
	};
	const struct hash_key key = { 0x0706050403020100u, 0x0f0e0d0c0b0a0908u };
	unsigned char input[64];

	for (size_t i = 0; i < sizeof(input); i++)
		input[i] = (unsigned char)i;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++)
		assert_int_equal(hash_bytes(&key, input, vectors[i].size),
				 vectors[i].hash);
}

static void test_hash_needs_no_alignment(void **state)
{
	const struct hash_key key = { 1, 2 };
	char a[24] = "0123456789abcdefghij", b[24];

	memcpy(b + 1, a, 20);
	assert_int_equal(hash_bytes(&key, a, 20), hash_bytes(&key, b + 1, 20));
}

static void test_hash_key_random(void **state)
{
	struct hash_key a, b;

	assert_int_equal(hash_key_random(&a), 0);
	assert_int_equal(hash_key_random(&b), 0);
	assert_memory_not_equal(&a, &b, sizeof(a));
	assert_int_not_equal(hash_bytes(&a, "x", 1), hash_bytes(&b, "x", 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_take),
		cmocka_unit_test(test_cleanup_closes_and_frees),
		cmocka_unit_test(test_fd_close_keeps_errno),
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_hex64),
		cmocka_unit_test(test_parse_u64),
		cmocka_unit_test(test_saturation),
		cmocka_unit_test(test_clock_runs),
		cmocka_unit_test(test_err_trail),
		cmocka_unit_test(test_err_long_way_keeps_origin),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_fdset),
		cmocka_unit_test(test_lent_fdset),
		cmocka_unit_test(test_siphash_vectors),
		cmocka_unit_test(test_hash_needs_no_alignment),
		cmocka_unit_test(test_hash_key_random),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
