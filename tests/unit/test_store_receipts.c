/* SPDX-License-Identifier: MIT */

/* What the storage thread does ahead of the loop: it sends receipts, and writes what the loop
 * still adds to. */

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

/* Until the thread has something to do, and no further: that is in the first pass in which
 * nothing is ready. */
static void begin(void)
{
	struct pollfd loop_fd = { .fd = o.loop.epoll_fd, .events = POLLIN };

	while (poll(&loop_fd, 1, 0) > 0)
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

/* ---- what is added while it is written ---- */

static uint64_t n_commits(void)
{
	struct store_report report;

	store_describe(o.store, &report);
	return report.commits;
}

/* All at once, without a pass of the loop: the thread begins behind the first few. */
static void add_many(uint64_t from, uint64_t to)
{
	wait_as(0, true);
	for (uint64_t i = from; i <= to; i++)
		assert_int_equal(put(i), 0);
	wait_with_receipt(1, true);
}

static void test_added_meanwhile(void **state)
{
	uint64_t before = n_commits();

	for (uint64_t i = 0; i < 3; i++) {
		add_many(1 + i * 10, 10 + i * 10);
		until(was_told("b"));
		check_receipts("b");
		assert_int_equal(n_commits(), before + 1 + i);
		*o.told = '\0';
	}
	check_reopened();
}

static void test_flush_meanwhile(void **state)
{
	add_many(1, 20);
	assert_true(store_flush(o.store, 30000));
	assert_true(was_told("20+ a0 b0r "));
	check_reopened();
}

static void test_the_end_meanwhile(void **state)
{
	add_many(1, 20);
	check_reopened();
	assert_true(was_told("20+ a0 b0r "));
}

/* They have gone, but it was begun. */
static void test_nobody_waits_any_more(void **state)
{
	add_many(1, 20);
	receipt_revoke(waits[1].receipt);
	list_remove(&waits[0].link);
	list_remove(&waits[1].link);
	until(was_told("20+"));
	check_receipts("");
	check_reopened();
}

static void test_a_bad_disk_meanwhile(void **state)
{
	static const int errors[] = { ENOSPC, EIO };

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		uint64_t first = 1 + i * 15;

		assert_int_equal(put(first), 0);
		assert_true(store_flush(o.store, 30000));
		*o.told = '\0';
		disk_fail(1, UINT32_MAX, errors[i]);
		add_many(first + 1, first + 10);
		drop(first);
		until(was_told("b"));
		assert_true(was_told(i ? "a-5 b-5 " : "a-28 b-28 "));
		check_receipts("");
		disk_works();
		until(state_of() == STORE_WORKS);
		check_reopened();
	}
}

/* One of the first is a file that cannot be put there, so that the thread fails while more
 * is added. */
static void test_it_fails_before_the_rest_is_there(void **state)
{
	static const char body[] = "body";
	int fd = memfd_create("body", MFD_CLOEXEC);

	assert_int_equal(write(fd, body, sizeof(body)), sizeof(body));
	assert_int_equal(workers_new(&o.workers, &o.loop), 0);
	blobs_init(&o.blobs, o.workers);
	assert_int_equal(blobs_open(&o.blobs, disk_directory), 0);
	blobs_begin(&o.blobs, 7);
	o.blob[1] = blob_new_fd(&o.blobs, 0, fd, sizeof(body), sizeof(body), false, true);
	blob_name(o.blob[1]);
	disk_fail(1, 1, ENOSPC);
	add_many(1, 20);
	until(was_told("b"));
	assert_true(was_told("1- 2- 3- 4- 5- "));
	assert_true(was_told("20- a-28 b-28 "));
	until(state_of() == STORE_WORKS);
	check_receipts("");
	check_reopened();
}

static void test_no_memory_for_a_record_meanwhile(void **state)
{
	struct store_report report;

	assert_int_equal(put(1), 0);
	assert_true(store_flush(o.store, 30000));
	*o.told = '\0';
	add_many(2, 12);
	fail_allocation(1);
	for (int i = 0; i < 5000; i++)
		store_drop_message(o.store, 1, 5000, NULL);
	assert_true(allocation_failed());
	o.there[1] = o.storing[1] = false;
	until(state_of() == STORE_BROKEN);
	store_describe(o.store, &report);
	assert_string_equal(report.error, strerror(ENOMEM));
	until(state_of() == STORE_WORKS);
	assert_true(was_told("b0 "));
	check_receipts("");
	check_reopened();
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
		TEST(test_added_meanwhile),
		TEST(test_flush_meanwhile),
		TEST(test_the_end_meanwhile),
		TEST(test_nobody_waits_any_more),
		TEST(test_a_bad_disk_meanwhile),
		TEST(test_it_fails_before_the_rest_is_there),
		TEST(test_no_memory_for_a_record_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
