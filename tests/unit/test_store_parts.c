/* SPDX-License-Identifier: MIT */

/* The small parts of the store: batches, the file `commits`, the spool. */

#include "unit/alloc.h"
#include "unit/disk.h"

#include "batch.h"
#include "commits.h"
#include "spool.h"

/* ---- batches ---- */

static struct slice slice_of(const char *text)
{
	return (struct slice){ text, strlen(text) };
}

static void test_a_batch_has_copies(void **state)
{
	char text[] = "text";
	struct slice copied = slice_of(text), none = { NULL, 0 }, empty = { "", 0 };
	struct batch b;

	batch_init(&b);
	assert_int_equal(batch_copy(&b, &copied), 0);
	assert_int_equal(batch_copy(&b, &none), 0);
	assert_int_equal(batch_copy(&b, &empty), 0);
	memset(text, 'x', sizeof(text));
	assert_memory_equal(copied.data, "text", 4);
	assert_null(none.data);
	assert_non_null(empty.data);
	assert_int_equal(empty.size, 0);
	batch_deinit(&b);
}

static void test_a_batch_keeps_the_order(void **state)
{
	struct batch_entry *e;
	struct batch b;
	uint64_t n = 0;

	batch_init(&b);
	for (uint64_t i = 0; i < 5000; i++) {
		e = batch_new_entry(&b, i % 2 ? BATCH_DROP_DEDUP : BATCH_DROP_NAME);
		assert_non_null(e);
		assert_int_equal((uintptr_t)e % sizeof(void *), 0);
		if (i % 2)
			e->dedup.number = i;
		else
			e->name.id = i;
		assert_int_equal(b.n, i);
		batch_put(&b, e);
	}
	for (e = b.first; e; e = e->next, n++)
		assert_int_equal(n % 2 ? e->dedup.number : e->name.id, n);
	assert_int_equal(n, 5000);
	batch_deinit(&b);
}

/* One entry that is not put is in its memory, and not among its entries. */
static void test_an_entry_that_is_not_put(void **state)
{
	struct batch b;

	batch_init(&b);
	assert_non_null(batch_new_entry(&b, BATCH_PUT_NAME));
	assert_null(b.first);
	assert_int_equal(b.n, 0);
	batch_deinit(&b);
}

static void test_large_texts(void **state)
{
	static const size_t sizes[] = { 1, 131072, 131073, 1000000, 7, 131065 };
	char *text = malloc(1000000);
	struct slice copies[ARRAY_SIZE(sizes)];
	struct batch b;

	memset(text, 't', 1000000);
	batch_init(&b);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		copies[i] = (struct slice){ text, sizes[i] };
		assert_int_equal(batch_copy(&b, &copies[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_memory_equal(copies[i].data, text, sizes[i]);
	free(text);
	batch_deinit(&b);
}

/* It takes the same memory again, and gives references back. */
static void test_a_batch_is_used_again(void **state)
{
	struct bytes *block = bytes_new_copy("block", 5);
	struct batch b;

	batch_init(&b);
	for (int round = 0; round < 3; round++) {
		fail_allocation(round ? 1 : 0);
		for (int i = 0; i < 100; i++) {
			struct batch_entry *e = batch_new_entry(&b, BATCH_PUT_MESSAGE);

			assert_non_null(e);
			e->block = bytes_ref(block);
			batch_put(&b, e);
		}
		assert_false(allocation_failed());
		assert_int_equal(block->refs, 101);
		b.without_sends = true;
		batch_clear(&b);
		assert_int_equal(block->refs, 1);
		assert_int_equal(b.n, 0);
		assert_null(b.first);
		assert_false(b.without_sends);
	}
	batch_deinit(&b);
	bytes_unref(block);
}

static void test_a_batch_without_memory(void **state)
{
	char *text = calloc(1, 200000);
	struct slice large = { text, 200000 };
	struct batch b;

	batch_init(&b);
	fail_allocation(1);
	assert_null(batch_new_entry(&b, BATCH_PUT_NAME));
	assert_true(allocation_failed());
	fail_allocation(1);
	assert_int_equal(batch_copy(&b, &large), -ENOMEM);
	assert_true(allocation_failed());
	assert_ptr_equal(large.data, text);
	assert_non_null(batch_new_entry(&b, BATCH_PUT_NAME));
	batch_deinit(&b);
	free(text);
}

/* ---- commits ---- */

static const struct store_head head = { .generation = 3,
					.commits = 1ull << 40,
					.next_number = 99,
					.live = 7,
					.clean = true,
					.lease_key = { 0x1234, 0x5678 } };

static void check_head(const struct store_head *h)
{
	assert_int_equal(h->generation, head.generation);
	assert_int_equal(h->commits, head.commits);
	assert_int_equal(h->next_number, head.next_number);
	assert_int_equal(h->live, head.live);
	assert_int_equal(h->clean, head.clean);
	assert_int_equal(h->lease_key.k0, head.lease_key.k0);
	assert_int_equal(h->lease_key.k1, head.lease_key.k1);
}

static int open_commits(void)
{
	int fd;

	assert_int_equal(commits_open(disk_directory, &fd), 0);
	return fd;
}

static void test_commits(void **state)
{
	struct store_head h = { .generation = 55 };
	int fd = open_commits();

	assert_false(commits_read(fd, &h));
	assert_int_equal(h.generation, 55); /* untouched */
	commits_write(fd, &head);
	assert_true(commits_read(fd, &h));
	check_head(&h);
	close(fd);
	fd = open_commits();
	assert_true(commits_read(fd, &h));
	check_head(&h);
	close(fd);
}

static void test_damaged_commits(void **state)
{
	struct store_head h;
	int fd = open_commits();
	struct stat st;

	commits_write(fd, &head);
	assert_int_equal(fstat(fd, &st), 0);
	for (off_t i = 0; i < st.st_size; i++) {
		char c;

		assert_int_equal(pread(fd, &c, 1, i), 1);
		c ^= 0x10;
		assert_int_equal(pwrite(fd, &c, 1, i), 1);
		if (commits_read(fd, &h)) /* any number but 0 says "clean" */
			check_head(&h);
		c ^= 0x10;
		assert_int_equal(pwrite(fd, &c, 1, i), 1);
	}
	assert_true(commits_read(fd, &h));
	for (off_t size = 0; size < st.st_size; size++) {
		commits_write(fd, &head);
		assert_int_equal(ftruncate(fd, size), 0);
		assert_false(commits_read(fd, &h));
	}
	close(fd);
}

static void test_commits_that_cannot_be_opened(void **state)
{
	int fd;

	assert_int_equal(mkdir(disk_path("commits"), 0700), 0);
	assert_int_equal(commits_open(disk_directory, &fd), -EIO);
	assert_int_equal(commits_open(disk_path("none"), &fd), -EIO);
}

/* ---- spool ---- */

static struct spool *open_spool(void)
{
	struct spool *spool;

	assert_int_equal(spool_open(&spool, disk_directory), 0);
	return spool;
}

static void put(struct spool *spool, uint64_t number, const char *text, bool is_new)
{
	bool was_new;

	assert_int_equal(spool_put(spool, number, slice_of(text), &was_new), 0);
	assert_int_equal(was_new, is_new);
}

static void check_body(struct spool *spool, uint64_t number, const char *text)
{
	_cleanup_buf_ struct buf body = BUF_INIT;

	assert_int_equal(spool_get(spool, number, strlen(text), &body), 0);
	assert_int_equal(body.size, strlen(text));
	assert_memory_equal(body.data, text, body.size);
}

static void test_spool(void **state)
{
	struct spool *spool = open_spool();

	put(spool, 1, "one", true);
	put(spool, INT64_MAX, "largest", true);
	assert_int_equal(spool_sync(spool), 0);
	check_body(spool, 1, "one");
	check_body(spool, INT64_MAX, "largest");
	spool_close(spool);
	spool = open_spool();
	check_body(spool, 1, "one");
	put(spool, 1, "another", false);
	check_body(spool, 1, "another");
	spool_drop(spool, 1);
	spool_drop(spool, 1);
	assert_false(disk_has("spool/1"));
	spool_close(spool);
}

static void test_a_file_of_another_size(void **state)
{
	struct spool *spool = open_spool();
	_cleanup_buf_ struct buf body = BUF_INIT;

	assert_int_equal(spool_get(spool, 1, 3, &body), -ENOENT);
	put(spool, 1, "one", true);
	assert_int_equal(spool_get(spool, 1, 2, &body), -ENOENT);
	assert_int_equal(spool_get(spool, 1, 4, &body), -ENOENT);
	assert_int_equal(body.size, 0);
	assert_int_equal(symlink("1", disk_path("spool/2")), 0);
	assert_int_equal(spool_get(spool, 2, 3, &body), -ENOENT);
	put(spool, 2, "two", false); /* in its place, not through it */
	check_body(spool, 1, "one");
	check_body(spool, 2, "two");
	spool_close(spool);
}

static bool is_odd(void *arg, uint64_t number)
{
	++*(int *)arg;
	return number % 2;
}

static void test_sweep(void **state)
{
	struct spool *spool = open_spool();
	int asked = 0;

	for (uint64_t i = 1; i <= 10; i++)
		put(spool, i, "x", true);
	close(open(disk_path("spool/new"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	close(open(disk_path("spool/no-number"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	spool_sweep(spool, is_odd, &asked);
	assert_int_equal(asked, 10);
	assert_true(disk_has("spool/9"));
	assert_false(disk_has("spool/10"));
	assert_true(disk_has("spool/no-number"));
	assert_false(disk_has("spool/new"));
	spool_close(spool);
}

/* Each call fails in turn: the caller hears of it, until all is on the disk. */
static void test_a_spool_on_a_bad_disk(void **state)
{
	static const int errors[] = { EIO, ENOSPC, EDQUOT };
	struct spool *spool = open_spool();

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		int expected = errors[i] == EIO ? -EIO : -ENOSPC;

		for (unsigned long n = 1;; n++) {
			bool is_new;
			int r;

			disk_fail(n, n, errors[i]);
			r = spool_put(spool, 100 * i + n, slice_of("body"), &is_new);
			if (r == 0)
				r = spool_sync(spool);
			if (!disk.failed) {
				assert_int_equal(r, 0);
				assert_int_equal(n, 4); /* write, fdatasync, fsync */
				break;
			}
			assert_int_equal(r, expected);
		}
		disk_works();
		assert_int_equal(spool_sync(spool), 0);
	}
	spool_close(spool);
}

#define on_disk(test) cmocka_unit_test_setup_teardown(test, disk_setup, disk_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_batch_has_copies),
		cmocka_unit_test(test_a_batch_keeps_the_order),
		cmocka_unit_test(test_an_entry_that_is_not_put),
		cmocka_unit_test(test_large_texts),
		cmocka_unit_test(test_a_batch_is_used_again),
		cmocka_unit_test(test_a_batch_without_memory),
		on_disk(test_commits),
		on_disk(test_damaged_commits),
		on_disk(test_commits_that_cannot_be_opened),
		on_disk(test_spool),
		on_disk(test_a_file_of_another_size),
		on_disk(test_sweep),
		on_disk(test_a_spool_on_a_bad_disk),
	};

	return cmocka_run_group_tests_name("store_parts", tests, NULL, NULL);
}
