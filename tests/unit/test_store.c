/* SPDX-License-Identifier: MIT */

/* The loop's side of the store: who is told what and when, its states, its end; with the
 * real thread, on a disk that fails. */

#include "unit/alloc.h"
#include "unit/disk.h"

#include "base/clock.h"
#include "log.h"
#include "loop.h"
#include "store.h"

enum { N = 40 };

static struct owner {
	struct loop loop;
	struct store *store;
	bool there[N], storing[N];
	uint64_t next_number, dumps;
	bool worked_again;
	char told[2000]; /* in order: "5+" stored, "5-" not, "w0", "w-28" the end of a wait */
	void (*on_dump)(void);
} o;

static struct store_wait waits[8];

/* ---- the owner ---- */

static void tell(const char *format, ...) PRINTF_LIKE(1, 2);
static void tell(const char *format, ...)
{
	size_t used = strlen(o.told);
	va_list args;

	va_start(args, format);
	vsnprintf(o.told + used, sizeof(o.told) - used, format, args);
	va_end(args);
}

static void check_told(const char *text)
{
	assert_string_equal(o.told, text);
	*o.told = '\0';
}

static void on_stored(void *owner, uint64_t number, bool ok)
{
	(void)owner;
	o.storing[number] = false;
	if (!ok)
		o.there[number] = false;
	tell("%d%c ", (int)number, ok ? '+' : '-');
}

static void on_done(struct store_wait *wait, int result)
{
	tell("%c%d ", 'a' + (int)(wait - waits), result);
}

static struct message_record record(uint64_t number, uint64_t attempts)
{
	static char body[5000];

	return (struct message_record){ .number = number,
					.attempts = attempts,
					.meta = { "{}", 2 },
					.body = { body, number % 2 ? 5000 : 10 },
					.body_size = number % 2 ? 5000 : 10 };
}

static int on_dump(void *owner, uint64_t *cursor)
{
	(void)owner;
	o.dumps++;
	for (; *cursor < N; ++*cursor) {
		struct message_record m = record(*cursor, 0);

		if (o.there[*cursor] && !o.storing[*cursor])
			store_put_message_again(o.store, &m, NULL);
		if (*cursor == N / 2 && o.on_dump) {
			o.on_dump();
			o.on_dump = NULL;
			++*cursor;
			return 0;
		}
	}
	return 1;
}

static uint64_t next_number(void *owner)
{
	(void)owner;
	return o.next_number;
}

static bool exists(void *owner, uint64_t number)
{
	(void)owner;
	return number < N && o.there[number];
}

static void on_works(void *owner)
{
	(void)owner;
	o.worked_again = true;
}

static const struct store_ops ops = {
	.stored = on_stored,
	.dump = on_dump,
	.next_number = next_number,
	.works = on_works,
	.exists = exists,
};

/* ---- its acts ---- */

static int send(uint64_t number)
{
	struct message_record m = record(number, 0);
	int r = store_put_message(o.store, &m, NULL);

	if (r == 0)
		o.there[number] = o.storing[number] = true;
	o.next_number = number + 1;
	return r;
}

static void drop(uint64_t number)
{
	struct message_record m = record(number, 0);

	store_drop_message(o.store, number, m.body_size);
	o.there[number] = o.storing[number] = false;
}

static void wait_as(int which, bool for_send)
{
	waits[which] = (struct store_wait){ .for_send = for_send, .done = on_done };
	store_wait(o.store, &waits[which]);
}

#define until(condition)                                         \
	do {                                                     \
		while (!(condition))                             \
			assert_int_equal(loop_pass(&o.loop), 0); \
	} while (0)

static enum store_state state_of(void)
{
	struct store_report report;

	store_describe(o.store, &report);
	return report.state;
}

static bool was_told(const char *text)
{
	return strstr(o.told, text) != NULL;
}

/* ---- opening and what is found ---- */

static bool found[N];

static int on_name(void *arg, const struct name_record *n)
{
	(void)arg;
	(void)n;
	return 0;
}

static int on_message(void *arg, const struct message_record *m)
{
	(void)arg;
	assert_in_range(m->number, 1, N - 1);
	found[m->number] = true;
	return 0;
}

static int on_dedup(void *arg, const struct dedup_record *d)
{
	(void)arg;
	(void)d;
	return 0;
}

static int open_store(void)
{
	int r = store_open(&o.store, disk_directory, &o.loop, &ops, &o);

	memset(found, 0, sizeof(found));
	if (r == 0)
		r = store_load(o.store, on_name, on_message, on_dedup, NULL);
	if (r == 0)
		r = store_judge(o.store);
	memcpy(o.there, found, sizeof(found));
	if (r == 0)
		r = store_start(o.store);
	return r;
}

/* Closes it, and opens it anew on a disk that works: all that is there is there. */
static void check_reopened(void)
{
	bool there[N];
	struct store_report report;

	memcpy(there, o.there, sizeof(there));
	o.store = store_close(o.store, true);
	disk_works();
	assert_int_equal(open_store(), 0);
	assert_true(store_get_head(o.store)->next_number >= o.next_number);
	store_describe(o.store, &report);
	if (report.damage)
		fail_msg("%s", report.damage);
	for (int i = 0; i < N; i++)
		if (there[i] != found[i])
			fail_msg("message %d is %s", i, found[i] ? "there" : "lost");
}

static int setup(void **state)
{
	disk_setup(state);
	log_set_level(LEVEL_ERROR);
	memset(&o, 0, sizeof(o));
	o.next_number = 1;
	assert_int_equal(loop_init(&o.loop), 0);
	assert_int_equal(open_store(), 0);
	return 0;
}

static int teardown(void **state)
{
	disk_works();
	o.store = store_close(o.store, true);
	loop_deinit(&o.loop);
	return disk_teardown(state);
}

/* ---- in order ---- */

static void test_order(void **state)
{
	for (uint64_t i = 1; i <= 3; i++) {
		assert_int_equal(send(i), 0);
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
		assert_int_equal(send(i), 0);
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
	assert_int_equal(send(1), 0);
	until(was_told("1+"));
	drop(1);
	store_set_message(o.store, &(struct message_record){ .number = 1 });
	check_told("1+ ");
	check_reopened();
}

static void test_who_waits_no_longer(void **state)
{
	assert_int_equal(send(1), 0);
	wait_as(0, true);
	wait_as(1, true);
	list_remove(&waits[0].link);
	until(was_told("b"));
	check_told("1+ b0 ");
}

static void test_flush(void **state)
{
	assert_int_equal(send(1), 0);
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

	assert_int_equal(send(1), 0);
	wait_as(0, true);
	until(was_told("a"));
	check_told("1+ a0 ");
	disk_fail(1, UINT32_MAX, ENOSPC);
	assert_int_equal(send(2), 0);
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
	assert_int_equal(send(3), 0);
	wait_as(0, true);
	until(was_told("a"));
	check_told("3+ a0 ");
	check_reopened();
}

/* What ends messages has room that was kept for it. */
static void test_the_rest_is_written(void **state)
{
	assert_int_equal(send(1), 0);
	assert_true(store_flush(o.store, 30000));
	check_told("1+ ");
	assert_int_equal(send(2), 0);
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
	store_put_message_again(o.store, &m, NULL);
	o.there[7] = true;
	wait_as(2, false);
}

static void send_many(void)
{
	for (uint64_t i = 1; i < N; i++)
		if (i != 7 && i != 39)
			assert_int_equal(send(i), 0);
	assert_true(store_flush(o.store, 30000));
	*o.told = '\0';
}

static void test_a_new_file(void **state)
{
	struct fault fault;

	send_many();
	disk_fail(1, 1, EIO);
	assert_int_equal(send(39), 0);
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

/* ---- no memory ---- */

/* True if all was told to be there. */
static bool use_store(void)
{
	bool ok = open_store() == 0;

	for (uint64_t i = 1; i < 8 && ok; i++)
		ok = send(i) == 0;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_order),		 it(test_while_a_commit_runs),
		it(test_nobody_waits),	 it(test_who_waits_no_longer),
		it(test_flush),		 it(test_an_orderly_end),
		it(test_a_full_disk),	 it(test_the_rest_is_written),
		it(test_a_new_file),	 it(test_waiting_for_a_new_file),
		it(test_it_tries_again), it(test_the_end_while_broken),
		it(test_no_memory),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
