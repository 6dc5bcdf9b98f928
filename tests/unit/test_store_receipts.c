/* SPDX-License-Identifier: MIT */

/* What the storage thread does ahead of the loop: it sends receipts. */

#include "unit/store_world.h"

#include <poll.h>
#include <sys/socket.h>

#include "outlet.h"

static int pair[2];
static struct outlet *outlet;

static int setup_receipts(void **state)
{
	setup(state);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	outlet = outlet_new(pair[0], false);
	return 0;
}

static int teardown_receipts(void **state)
{
	int r = teardown(state);

	outlet = outlet_unref(outlet);
	close(pair[0]);
	close(pair[1]);
	return r;
}

static void wait_with_receipt(int which, bool for_send)
{
	char header[] = "{a}";

	header[1] += (char)which;
	wait_as(which, for_send);
	store_add_receipt(o.store, &waits[which], outlet, (struct slice){ header, 3 });
}

/* Those that have come; waits until there is one. */
static void check_receipts(const char *text)
{
	struct pollfd poll_fd = { .fd = pair[1], .events = POLLIN };
	char data[700], got[100] = "";
	ssize_t n;

	if (*text)
		assert_int_equal(poll(&poll_fd, 1, 60000), 1);
	n = recv(pair[1], data, sizeof(data), 0);
	for (ssize_t at = 0; at < n; at += 7)
		got[at / 7] = data[at + 5];
	assert_string_equal(got, text);
}

/* Until the thread has something to do. */
static void begin(void)
{
	assert_int_equal(loop_pass(&o.loop), 0);
	assert_int_equal(loop_pass(&o.loop), 0);
}

/* ---- receipts ---- */

/* The loop is elsewhere. When it comes back it may be asked for what was answered. */
static void test_before_the_loop_knows(void **state)
{
	assert_int_equal(put(1), 0);
	wait_with_receipt(0, true);
	wait_with_receipt(1, false);
	begin();
	check_receipts("ab");
	check_told("");
	store_catch_up(o.store);
	assert_true(was_told("1+ "));
	until(was_told("b"));
	check_told("1+ a0r b0r ");
	store_catch_up(o.store);
	check_told("");
	check_reopened();
}

static void test_who_waits_no_longer(void **state)
{
	assert_int_equal(put(1), 0);
	wait_with_receipt(0, true);
	wait_with_receipt(1, true);
	wait_with_receipt(2, true);
	receipt_revoke(waits[1].receipt);
	list_remove(&waits[1].link);
	until(was_told("c"));
	check_told("1+ a0r c0r ");
	check_receipts("ac");
}

static void test_the_loop_has_more_for_it(void **state)
{
	outlet_take(outlet);
	assert_int_equal(put(1), 0);
	wait_with_receipt(0, true);
	until(was_told("a"));
	check_told("1+ a0 ");
	check_receipts("");
}

static void test_none_from_a_full_disk(void **state)
{
	disk_fail(1, UINT32_MAX, ENOSPC);
	assert_int_equal(put(1), 0);
	wait_with_receipt(0, true);
	until(was_told("a"));
	check_told("1- a-28 ");
	disk_works();
	until(state_of() == STORE_WORKS);
	check_receipts("");
	assert_int_equal(put(2), 0);
	wait_with_receipt(1, true);
	until(was_told("b"));
	check_told("2+ b0r ");
	check_receipts("b");
	check_reopened();
}

/* What ended a message is on the disk, the message that came is not: nobody knows which. */
static void test_none_for_half_of_it(void **state)
{
	assert_int_equal(put(1), 0);
	assert_true(store_flush(o.store, 30000));
	check_told("1+ ");
	assert_int_equal(put(2), 0);
	drop(1);
	wait_with_receipt(0, true);
	wait_with_receipt(1, false);
	disk_fail(1, 1, ENOSPC);
	until(was_told("b"));
	check_told("2- a-28 b0 ");
	check_receipts("");
	until(state_of() == STORE_WORKS);
	check_reopened();
}

static void receive_meanwhile(void)
{
	wait_with_receipt(2, false);
}

/* As long as it is not the file that will be there. */
static void test_none_while_all_is_written_anew(void **state)
{
	assert_int_equal(put(1), 0);
	assert_true(store_flush(o.store, 30000));
	disk_fail(1, 1, EIO);
	assert_int_equal(put(2), 0);
	wait_with_receipt(0, true);
	o.on_dump = receive_meanwhile;
	until(was_told("a"));
	check_told("1+ 2- a-5 ");
	until(state_of() == STORE_WORKS);
	check_told("c0 ");
	check_receipts("");
	check_reopened();
}

/* It is not known before the commit has begun that it is not the last one into this file. */
static void test_all_is_to_be_written_anew(void **state)
{
	for (int taken = 0; taken < 2; taken++) {
		uint64_t number = 1 + (uint64_t)taken;

		if (taken)
			outlet_take(outlet);
		assert_int_equal(put(number), 0);
		wait_with_receipt(0, true);
		begin();
		store_renew(o.store);
		until(state_of() == STORE_BROKEN);
		assert_int_equal(was_told("a0r "), !taken);
		assert_int_equal(was_told("a0 "), false); /* not before it is complete */
		until(state_of() == STORE_WORKS);
		assert_int_equal(was_told("a0 "), taken);
		check_receipts(taken ? "" : "a");
		*o.told = '\0';
		check_reopened();
	}
}

/* The batch is cleared before the new file is there, and so is its memory. */
static void test_the_batch_ends_before_the_wait(void **state)
{
	assert_int_equal(put(1), 0);
	assert_true(store_flush(o.store, 30000));
	*o.told = '\0';
	disk_fail(1, 1, EIO);
	drop(1);
	wait_with_receipt(0, false);
	begin();
	wait_with_receipt(1, false); /* in what gathers */
	until(was_told("b"));
	check_told("a-5 b0 ");
	check_receipts("");
	check_reopened();
}

static void test_more_than_fits(void **state)
{
	static char header[RECEIPT_MAX];

	assert_int_equal(put(1), 0);
	wait_as(0, true);
	store_add_receipt(o.store, &waits[0], outlet,
			  (struct slice){ header, sizeof(header) });
	assert_null(waits[0].receipt);
	until(was_told("a"));
	check_told("1+ a0 ");
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, setup_receipts, teardown_receipts)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_before_the_loop_knows),
		TEST(test_who_waits_no_longer),
		TEST(test_the_loop_has_more_for_it),
		TEST(test_none_from_a_full_disk),
		TEST(test_none_for_half_of_it),
		TEST(test_none_while_all_is_written_anew),
		TEST(test_all_is_to_be_written_anew),
		TEST(test_the_batch_ends_before_the_wait),
		TEST(test_more_than_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
