/* SPDX-License-Identifier: MIT */

/* The loop's side of the store: who is told what and when, its states, its end. */

#include "unit/store_world.h"

/* ---- in order ---- */

static void test_order(void **state)
{
	for (uint64_t i = 1; i <= 3; i++) {
		assert_int_equal(put(i), 0);
		wait_as((int)i - 1, true);
	}
	wait_as(3, false);
	check_told(""); /* never within the call */
	until(was_told("d"));
	check_told("1+ 2+ 3+ a0 b0 c0 d0 ");
	check_reopened();
}

/* What comes while a commit runs goes into the next one. */
static void test_while_a_commit_runs(void **state)
{
	struct store_report report;
	uint64_t before;

	store_describe(o.store, &report);
	before = report.commits;
	for (uint64_t i = 1; i <= 20; i++) {
		assert_int_equal(put(i), 0);
		wait_as(0, true);
		if (i % 5 == 0)
			assert_int_equal(loop_pass(&o.loop), 0);
		else
			list_remove(&waits[0].link);
	}
	until(was_told("20+ a0"));
	store_describe(o.store, &report);
	assert_true(report.commits - before <= 5);
	check_reopened();
}

static void test_nobody_waits(void **state)
{
	assert_int_equal(put(1), 0);
	until(was_told("1+"));
	drop(1);
	store_set_message(o.store, &(struct message_record){ .number = 1 });
	check_told("1+ ");
	check_reopened();
}

static void test_who_waits_no_longer(void **state)
{
	assert_int_equal(put(1), 0);
	wait_as(0, true);
	wait_as(1, true);
	list_remove(&waits[0].link);
	until(was_told("b"));
	check_told("1+ b0 ");
}

static void test_flush(void **state)
{
	assert_int_equal(put(1), 0);
	wait_as(0, true);
	assert_true(store_flush(o.store, 30000));
	check_told("1+ a0 ");
	assert_true(store_flush(o.store, 0)); /* there is nothing to do */
	check_reopened();
}

static void test_an_orderly_end(void **state)
{
	bool clean;

	assert_false(store_get_head(o.store)->clean);
	o.store = store_close(o.store, true);
	assert_int_equal(store_open(&o.store, disk_directory, &o.loop, &ops, &o), 0);
	clean = store_get_head(o.store)->clean;
	assert_true(clean);
	o.store = store_close(o.store, true);
	assert_int_equal(open_store(), 0);
}

/* ---- a full disk ---- */

static void test_a_full_disk(void **state)
{
	struct fault fault;

	assert_int_equal(put(1), 0);
	wait_as(0, true);
	until(was_told("a"));
	check_told("1+ a0 ");
	disk_fail(1, UINT32_MAX, ENOSPC);
	assert_int_equal(put(2), 0);
	wait_as(0, true);
	drop(1);
	wait_as(1, false);
	until(was_told("b"));
	check_told("2- a-28 b-28 ");
	assert_int_equal(state_of(), STORE_FULL);
	assert_int_equal(store_check(o.store, &fault), FAULT);
	assert_int_equal(fault.word, FAULT_NO_SPACE);
	disk_works();
	until(state_of() == STORE_WORKS);
	assert_int_equal(store_check(o.store, &fault), 0);
	assert_int_equal(put(3), 0);
	wait_as(0, true);
	until(was_told("a"));
	check_told("3+ a0 ");
	check_reopened();
}

/* What ends messages has room that was kept for it. */
static void test_the_rest_is_written(void **state)
{
	assert_int_equal(put(1), 0);
	assert_true(store_flush(o.store, 30000));
	check_told("1+ ");
	assert_int_equal(put(2), 0);
	drop(1);
	wait_as(0, true);
	wait_as(1, false);
	disk_fail(1, 1, ENOSPC);
	until(was_told("b"));
	check_told("2- a-28 b0 ");
	until(state_of() == STORE_WORKS);
	check_reopened();
}

/* ---- a bad disk ---- */

static void change_meanwhile(void)
{
	struct message_record m = record(7, 0);

	drop(5);
	drop(30);
	store_put_message_again(o.store, &m, NULL, NULL);
	o.there[7] = true;
	wait_as(2, false);
}

static void send_many(void)
{
	for (uint64_t i = 1; i < N; i++)
		if (i != 7 && i != 39)
			assert_int_equal(put(i), 0);
	assert_true(store_flush(o.store, 30000));
	*o.told = '\0';
}

static void test_a_new_file(void **state)
{
	struct fault fault;

	send_many();
	disk_fail(1, 1, EIO);
	assert_int_equal(put(39), 0);
	wait_as(0, true);
	drop(3);
	wait_as(1, false);
	o.on_dump = change_meanwhile;
	until(was_told("b"));
	check_told("39- a-5 b-5 ");
	assert_int_equal(state_of(), STORE_BROKEN);
	assert_int_equal(store_check(o.store, &fault), FAULT);
	assert_int_equal(fault.word, FAULT_INTERNAL);
	until(state_of() == STORE_WORKS);
	assert_true(o.worked_again);
	check_told("c0 "); /* not before the file is complete */
	assert_true(o.dumps >= 2);
	check_reopened();
}

/* Nothing else is to be written. */
static void test_a_new_file_without_memory_for_a_record(void **state)
{
	send_many();
	store_renew(o.store);
	until(state_of() == STORE_BROKEN);
	until(state_of() == STORE_WORKS);
	check_reopened();
	store_renew(o.store);
	assert_true(store_flush(o.store, 30000));
	assert_int_equal(state_of(), STORE_WORKS);
	assert_int_equal(o.dumps, 2);
}

/* Who waits while the file is not to be trusted is told when the new one is complete. */
static void test_waiting_for_a_new_file(void **state)
{
	send_many();
	disk_fail(1, 1, EIO);
	drop(3);
	wait_as(0, false);
	/* handed over in the first pass in which nothing is ready */
	assert_int_equal(loop_pass(&o.loop), 0);
	assert_int_equal(loop_pass(&o.loop), 0);
	drop(4);
	wait_as(1, false);
	until(was_told("b"));
	assert_true(was_told("a-5 "));
	assert_true(was_told("b0 "));
	assert_int_equal(state_of(), STORE_WORKS);
	check_reopened();
}

/* It fails, and the new file too: again and again, until there is one. */
static void test_it_tries_again(void **state)
{
	send_many();
	disk_fail(1, 2, EIO); /* the second one is in the first attempt */
	drop(3);
	wait_as(0, false);
	until(was_told("a"));
	check_told("a-5 ");
	until(state_of() == STORE_WORKS);
	check_reopened();
}

/* The end comes while it is broken: what is in memory is in the file. */
static void test_the_end_while_broken(void **state)
{
	send_many();
	disk_fail(1, 1, EIO);
	drop(3);
	wait_as(0, false);
	until(was_told("a"));
	assert_int_equal(state_of(), STORE_BROKEN);
	check_reopened();
}

/* ---- bodies that are blobs ---- */

static int setup_blobs(void **state)
{
	setup(state);
	assert_int_equal(workers_new(&o.workers, &o.loop), 0);
	blobs_init(&o.blobs, o.workers);
	assert_int_equal(blobs_open(&o.blobs, disk_directory), 0);
	blobs_begin(&o.blobs, 7);
	return 0;
}

static const char body[] = "a body that is large";

static int open_memfd(void)
{
	int fd = memfd_create("body", MFD_CLOEXEC);

	assert_int_equal(write(fd, body, sizeof(body)), sizeof(body));
	return fd;
}

/* The body of a message that is then sent. */
static struct blob *make_blob(uint64_t number)
{
	struct blob *b = blob_new(&o.blobs);
	int fd = blob_create(b);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, body, sizeof(body)), sizeof(body));
	blob_adopt_take(b, fd, sizeof(body), sizeof(body));
	o.blob[number] = b;
	return b;
}

static const char *path_of(uint64_t id)
{
	static char name[40];

	snprintf(name, sizeof(name), "spool/%llu", (unsigned long long)id);
	return name;
}

static void flush(void)
{
	assert_true(store_flush(o.store, 30000));
}

static void test_a_file_goes_behind_its_row(void **state)
{
	struct blob *b = make_blob(1);
	uint64_t id = b->id;

	assert_int_equal(put(1), 0);
	assert_int_equal(b->refs, 2);
	assert_false(b->synced);
	flush();
	check_told("1+ ");
	assert_int_equal(b->refs, 1);
	assert_true(b->synced);
	check_reopened();
	drop(1);
	assert_int_equal(b->refs, 1); /* the record's */
	assert_true(disk_has(path_of(id)));
	flush();
	until(!disk_has(path_of(id)));
	check_reopened();
}

/* The row is there until the disk has room again, and so is the file. */
static void test_a_file_on_a_full_disk(void **state)
{
	struct blob *b = make_blob(1), *refused;
	uint64_t id = b->id;

	assert_int_equal(put(1), 0);
	flush();
	refused = blob_ref(make_blob(2));
	disk_fail(1, UINT32_MAX, ENOSPC);
	assert_int_equal(put(2), 0);
	drop(1);
	wait_as(0, false);
	until(was_told("a"));
	check_told("1+ 2- a-28 ");
	assert_int_equal(refused->refs, 1); /* it does not take up the room */
	assert_int_equal(b->refs, 1);
	assert_true(disk_has(path_of(id)));
	disk_works();
	until(state_of() == STORE_WORKS);
	until(!disk_has(path_of(id)));
	id = refused->id;
	blob_unref(refused);
	until(!disk_has(path_of(id)));
	check_reopened();
}

static uint64_t held[3];

static void check_held(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(held); i++)
		assert_true(disk_has(path_of(held[i])));
	drop(4); /* it is in the old file, too */
}

/* Takes a reference that is not the last one before that. */
static void until_works_holding(struct blob *blob)
{
	while (state_of() != STORE_WORKS) {
		assert_true(blob->refs > 1);
		assert_int_equal(loop_pass(&o.loop), 0);
	}
	assert_int_equal(blob->refs, 1);
	blob_unref(blob);
}

/* The same where the end of a message has to wait for room. */
static void test_a_file_on_a_full_disk_and_all_anew(void **state)
{
	struct blob *b = blob_ref(make_blob(1));
	uint64_t id = b->id;

	assert_int_equal(put(1), 0);
	flush();
	disk_fail(1, UINT32_MAX, ENOSPC);
	drop(1);
	store_renew(o.store);
	until(state_of() == STORE_BROKEN);
	disk_works();
	until_works_holding(b);
	until(!disk_has(path_of(id)));
	check_reopened();
}

/* The old file may have its row as long as there is no other in its place. */
static void test_a_file_while_all_is_written_anew(void **state)
{
	uint64_t stays, comes;
	struct blob *last;

	for (uint64_t i = 1; i <= 3; i++) {
		held[i - 1] = make_blob(i == 3 ? 4 : i)->id;
		assert_int_equal(put(i == 3 ? 4 : i), 0);
	}
	last = blob_ref(o.blob[4]);
	stays = make_blob(5)->id;
	assert_int_equal(put(5), 0);
	flush();
	*o.told = '\0';
	comes = make_blob(6)->id;
	disk_fail(1, 1, EIO);
	assert_int_equal(put(6), 0);
	drop(1);
	wait_as(0, false);
	/* handed over in the first pass in which nothing is ready */
	assert_int_equal(loop_pass(&o.loop), 0);
	assert_int_equal(loop_pass(&o.loop), 0);
	drop(2); /* gathers while the failure is on its way */
	o.on_dump = check_held;
	until(was_told("a"));
	check_told("6- a-5 ");
	assert_true(disk_has(path_of(comes)));
	until_works_holding(last);
	assert_null(o.on_dump);
	for (size_t i = 0; i < ARRAY_SIZE(held); i++)
		until(!disk_has(path_of(held[i])));
	until(!disk_has(path_of(comes)));
	assert_true(disk_has(path_of(stays)));
	check_reopened();
}

/* All it holds is given back, whatever could be written; but who ends it keeps the files. */
static void test_the_end_of_a_store_that_holds_files(void **state)
{
	struct blob *b = blob_ref(make_blob(1));

	assert_int_equal(put(1), 0);
	flush();
	disk_fail(1, UINT32_MAX, EIO);
	drop(1);
	until(state_of() == STORE_BROKEN);
	o.blobs.keep = true;
	o.store = store_close(o.store, true);
	assert_int_equal(b->refs, 1);
	blob_unref(b);
	disk_works();
	assert_int_equal(open_store(), 0);
	assert_true(found[1]); /* and its file is there */
}

/* No record can be made: what it would have named stays until there is a new file. */
static void test_a_file_without_memory(void **state)
{
	uint64_t id = make_blob(1)->id;

	assert_int_equal(put(1), 0);
	flush();
	fail_allocation(1);
	drop(1);
	assert_true(allocation_failed());
	assert_true(disk_has(path_of(id)));
	wait_as(0, false);
	until(state_of() == STORE_BROKEN);
	assert_true(disk_has(path_of(id)));
	until(state_of() == STORE_WORKS);
	until(!disk_has(path_of(id)));
	check_reopened();
}

static void test_a_memfd(void **state)
{
	struct message_record m;
	struct blob *b;

	b = o.blob[1] = blob_new_fd(&o.blobs, 0, open_memfd(), sizeof(body), sizeof(body),
				    false, true);
	blob_name(b);
	m = record(1, 0);
	for (int i = 0; i < 2; i++) {
		store_put_message_again(o.store, &m, NULL, b);
		o.there[1] = true;
		flush();
		disk_check(path_of(b->id), body, sizeof(body));
		assert_true(b->synced);
		assert_false(disk_has("spool/new"));
	}
	check_reopened();
	m.number = b->id;
	drop(1);
	flush();
	until(!disk_has(path_of(m.number)));
}

/* A file that has been lost costs nothing but its message: not even when all is written
 * anew. */
static void test_a_file_that_was_lost(void **state)
{
	uint64_t id = make_blob(1)->id;

	assert_int_equal(put(1), 0);
	make_blob(2);
	assert_int_equal(put(2), 0);
	flush();
	o.blob[1]->synced = false;
	assert_int_equal(unlink(disk_path(path_of(id))), 0);
	disk_fail(1, 1, EIO);
	store_put_name(o.store, &(struct name_record){ .id = 1, .name = { "q", 1 } });
	until(state_of() == STORE_BROKEN);
	until(state_of() == STORE_WORKS);
	make_blob(3);
	assert_int_equal(unlink(disk_path(path_of(o.blob[3]->id))), 0);
	*o.told = '\0';
	assert_int_equal(put(3), 0); /* but such a send fails */
	until(was_told("3-"));
	until(state_of() == STORE_WORKS);
	assert_true(o.there[2]);
	o.store = store_close(o.store, true);
	assert_int_equal(open_store(), 0);
	assert_true(found[2] && !found[1] && !found[3]);
}

/* ---- no memory ---- */

/* True if all was told to be there. */
static bool use_store(void)
{
	bool ok = open_store() == 0;

	for (uint64_t i = 1; i < 8 && ok; i++)
		ok = put(i) == 0;
	if (ok) {
		drop(2);
		store_put_name(o.store,
			       &(struct name_record){ .id = 1, .name = { "q", 1 } });
		wait_as(0, false);
	}
	return ok;
}

static void test_no_memory(void **state)
{
	bool failed = true;
	unsigned long n;

	for (n = 1; failed; n++) {
		teardown(state);
		disk_setup(state);
		memset(&o, 0, sizeof(o));
		o.next_number = 1;
		assert_int_equal(loop_init(&o.loop), 0);
		fail_allocation(n);
		if (use_store() && !store_flush(o.store, 30000))
			until(state_of() == STORE_WORKS);
		failed = allocation_failed();
		if (o.store)
			until(state_of() == STORE_WORKS);
		if (o.store && o.next_number > 1)
			check_reopened();
		else if (!o.store)
			assert_int_equal(open_store(), 0);
	}
	print_message("%lu allocations\n", n - 2);
	assert_true(n > 7);
}

#define it(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define with_blobs(test) cmocka_unit_test_setup_teardown(test, setup_blobs, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_order),
		it(test_while_a_commit_runs),
		it(test_nobody_waits),
		it(test_who_waits_no_longer),
		it(test_flush),
		it(test_an_orderly_end),
		it(test_a_full_disk),
		it(test_the_rest_is_written),
		it(test_a_new_file),
		it(test_a_new_file_without_memory_for_a_record),
		it(test_waiting_for_a_new_file),
		it(test_it_tries_again),
		it(test_the_end_while_broken),
		with_blobs(test_a_file_goes_behind_its_row),
		with_blobs(test_a_file_on_a_full_disk),
		with_blobs(test_a_file_while_all_is_written_anew),
		with_blobs(test_a_file_on_a_full_disk_and_all_anew),
		with_blobs(test_the_end_of_a_store_that_holds_files),
		with_blobs(test_a_file_without_memory),
		with_blobs(test_a_memfd),
		with_blobs(test_a_file_that_was_lost),
		it(test_no_memory),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
