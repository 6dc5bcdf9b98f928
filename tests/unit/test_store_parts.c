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

/* Also blobs: of sends that are not tried again at once. */
static void test_a_batch_has_blobs(void **state)
{
	struct blobs blobs = { .directory = -1 };
	struct blob *blob = blob_new(&blobs);
	const struct message_record m = { .number = 1, .file = { "f", 1 } };
	struct batch b;

	batch_init(&b);
	assert_int_equal(batch_add_message(&b, BATCH_PUT_MESSAGE, false, &m, NULL, blob),
			 0);
	assert_int_equal(batch_add_message(&b, BATCH_PUT_MESSAGE, true, &m, NULL, blob),
			 0);
	assert_int_equal(batch_add_message(&b, BATCH_SET_MESSAGE, true, &m, NULL, NULL),
			 0);
	assert_int_equal(batch_add_drop(&b, BATCH_DROP_MESSAGE, 1, 0, blob), 0);
	assert_ptr_not_equal(b.first->message.file.data, m.file.data);
	assert_int_equal(blob->refs, 4);
	batch_give_up_sends(&b);
	assert_true(b.without_sends);
	assert_int_equal(blob->refs, 3);
	batch_clear(&b);
	assert_int_equal(blob->refs, 1);
	assert_int_equal(batch_add_drop(&b, BATCH_DROP_MESSAGE, 1, 0, blob), 0);
	batch_deinit(&b);
	assert_int_equal(blob->refs, 1);
	blob_unref(blob);
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
					.lease_key = { 0x1234, 0x5678 },
					.clock_ms = 1ull << 50 };

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
	assert_int_equal(h.clock_ms, head.clock_ms);
	close(fd);
}

static void test_damaged_commits(void **state)
{
	enum { WITHOUT_CLOCK = 72 }; /* bytes */
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
		/* what an earlier version has written is shorter, and has no clock */
		assert_int_equal(commits_read(fd, &h), size >= WITHOUT_CLOCK);
		if (size >= WITHOUT_CLOCK)
			assert_int_equal(h.clock_ms, 0);
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

static const char text[] = "a body";

enum { SIZE = sizeof(text) - 1 };

static struct message_record blob_record(uint64_t id, int fd)
{
	return (struct message_record){ .body_size = SIZE, .blob = id, .blob_fd = fd };
}

static int memfd_of(const char *content)
{
	int fd = memfd_create("body", MFD_CLOEXEC);

	assert_int_equal(write(fd, content, strlen(content)), strlen(content));
	return fd;
}

/* How many calls change something, or wait for the disk. */
static unsigned long put(struct spool *spool, const struct message_record *m,
			 int expected)
{
	disk.calls = 0;
	assert_int_equal(spool_put(spool, m), expected);
	return disk.calls;
}

static void test_files_of_others(void **state)
{
	struct spool *spool = open_spool();
	struct message_record m = blob_record(INT64_MAX, -1);

	assert_int_equal(put(spool, &m, -ENOENT), 0);
	disk_put("spool/9223372036854775807", text, SIZE);
	assert_int_equal(put(spool, &m, 0), 1); /* fdatasync */
	disk.calls = 0;
	assert_int_equal(spool_sync(spool), 0);
	assert_int_equal(disk.calls, 1);
	assert_int_equal(spool_sync(spool), 0);
	assert_int_equal(disk.calls, 1);
	m.blob_synced = true; /* by the one who wrote it: but not its name */
	assert_int_equal(put(spool, &m, 0), 0);
	assert_int_equal(spool_sync(spool), 0);
	assert_int_equal(disk.calls, 1);
	assert_int_equal(unlink(disk_path("spool/9223372036854775807")), 0);
	assert_int_equal(put(spool, &m, -ENOENT), 0);
	spool_close(spool);
}

static void test_a_file_of_another_size(void **state)
{
	uint64_t takes;
	struct spool *spool = open_spool();
	struct message_record m = blob_record(1, -1);

	assert_int_equal(spool_check(spool, 1, SIZE, &takes), 0);
	disk_put("spool/1", text, SIZE);
	assert_int_equal(spool_check(spool, 1, SIZE, &takes), 1);
	assert_int_equal(spool_check(spool, 1, SIZE + 1, &takes), 0);
	assert_int_equal(spool_check(spool, 1, SIZE - 1, &takes), 0);
	m.body_size--;
	put(spool, &m, -ENOENT);
	assert_int_equal(symlink("1", disk_path("spool/2")), 0);
	assert_int_equal(spool_check(spool, 2, SIZE, &takes), 0);
	m = blob_record(2, -1);
	put(spool, &m, -ENOENT);
	assert_int_equal(mkdir(disk_path("spool/3"), 0700), 0);
	assert_int_equal(spool_check(spool, 3, SIZE, &takes), 0);
	spool_close(spool);
}

static void test_a_memfd(void **state)
{
	struct spool *spool = open_spool();
	int fd = memfd_of(text);
	struct message_record m = blob_record(1, fd);

	assert_true(put(spool, &m, 0) > 0);
	disk_check("spool/1", text, SIZE);
	assert_int_equal(put(spool, &m, 0), 0);		/* it is there, and on the disk */
	assert_int_equal(lseek(fd, 0, SEEK_CUR), SIZE); /* others use it */
	assert_int_equal(truncate(disk_path("spool/1"), 1), 0);
	assert_true(put(spool, &m, 0) > 0);
	disk_check("spool/1", text, SIZE);
	disk_put("elsewhere", "another", 7);
	assert_int_equal(symlink("../elsewhere", disk_path("spool/2")), 0);
	m.blob = 2;
	put(spool, &m, 0); /* in its place, not through it */
	disk_check("spool/2", text, SIZE);
	disk_check("elsewhere", "another", 7);
	m.blob = 3;
	m.body_size++;
	put(spool, &m, -ENOENT);
	assert_false(disk_has("spool/3"));
	assert_false(disk_has("spool/new"));
	close(fd);
	spool_close(spool);
}

static void test_a_large_memfd(void **state)
{
	struct spool *spool = open_spool();
	size_t size = 200001;
	char *content = calloc(1, size + 1);
	struct message_record m = { .body_size = size, .blob = 1 };

	for (size_t i = 0; i < size; i++)
		content[i] = (char)('a' + i % 23);
	m.blob_fd = memfd_of(content);
	put(spool, &m, 0);
	disk_check("spool/1", content, size);
	close(m.blob_fd);
	free(content);
	spool_close(spool);
}

static bool is_odd(void *arg, uint64_t id)
{
	++*(int *)arg;
	return id % 2;
}

static void test_sweep(void **state)
{
	struct spool *spool = open_spool();
	int asked = 0;
	char name[24];

	for (int i = 1; i <= 10; i++) {
		snprintf(name, sizeof(name), "spool/%d", i);
		disk_put(name, "x", 1);
	}
	disk_put("spool/new", "x", 1);
	disk_put("spool/no-number", "x", 1);
	spool_sweep(spool, false, is_odd, &asked);
	assert_int_equal(asked, 10);
	assert_true(disk_has("spool/10"));
	assert_false(disk_has("spool/new"));
	spool_sweep(spool, true, is_odd, &asked);
	assert_int_equal(asked, 20);
	assert_true(disk_has("spool/9"));
	assert_false(disk_has("spool/10"));
	assert_true(disk_has("spool/no-number"));
	spool_close(spool);
}

/* Each call fails in turn: the caller hears of it, until all is on the disk. */
static void fail_each_call(struct spool *spool, int fd, unsigned long calls, uint64_t id)
{
	static const int errors[] = { EIO, ENOSPC, EDQUOT };

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		int expected = errors[i] == EIO ? -EIO : -ENOSPC;

		for (unsigned long n = 1;; n++) {
			struct message_record m = blob_record(id++, fd);
			char name[32];
			int r;

			snprintf(name, sizeof(name), "spool/%d", (int)m.blob);
			if (fd < 0)
				disk_put(name, text, SIZE);
			disk_fail(n, n, errors[i]);
			r = spool_put(spool, &m);
			if (r == 0)
				r = spool_sync(spool);
			assert_int_equal(r, disk.failed ? expected : 0);
			assert_false(disk_has("spool/new"));
			if (!disk.failed) {
				assert_int_equal(disk.calls, calls);
				break;
			}
		}
		disk_works();
		assert_int_equal(spool_sync(spool), 0);
	}
}

static void test_a_memfd_on_a_bad_disk(void **state)
{
	struct spool *spool = open_spool();
	int fd = memfd_of(text);

	/* write, fdatasync, rename, fsync of the directory */
	fail_each_call(spool, fd, 4, 1);
	close(fd);
	spool_close(spool);
}

/* Where fdatasync has failed a second one says nothing: the file is written once more. */
static void test_files_on_a_bad_disk(void **state)
{
	struct spool *spool = open_spool();
	struct message_record m = blob_record(1, -1);
	struct stat before, after;

	disk_put("spool/1", text, SIZE);
	assert_int_equal(stat(disk_path("spool/1"), &before), 0);
	disk_fail(1, 1, ENOSPC);
	assert_int_equal(spool_put(spool, &m), -ENOSPC);
	disk_works();
	assert_int_equal(put(spool, &m, 0), 3);
	assert_int_equal(stat(disk_path("spool/1"), &after), 0);
	assert_true(before.st_ino != after.st_ino);
	disk_check("spool/1", text, SIZE);
	fail_each_call(spool, -1, 4, 2);
	m.blob_synced = true;
	assert_int_equal(put(spool, &m, 0), 0);
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
		cmocka_unit_test(test_a_batch_has_blobs),
		cmocka_unit_test(test_a_batch_without_memory),
		on_disk(test_commits),
		on_disk(test_damaged_commits),
		on_disk(test_commits_that_cannot_be_opened),
		on_disk(test_files_of_others),
		on_disk(test_a_file_of_another_size),
		on_disk(test_a_memfd),
		on_disk(test_a_large_memfd),
		on_disk(test_sweep),
		on_disk(test_a_memfd_on_a_bad_disk),
		on_disk(test_files_on_a_bad_disk),
	};

	return cmocka_run_group_tests_name("store_parts", tests, NULL, NULL);
}
