/* SPDX-License-Identifier: MIT */
#ifndef UNIT_FILLING_WORLD_H
#define UNIT_FILLING_WORLD_H

/*
 * Bodies on their way into blobs, with real workers and a loop, in a private directory or
 * (without_spool) in memory. The system's functions are replaced by ones that fail or do less
 * when the test says so: see FILLING_WRAPS in tests/module.mk.
 */

#include "unit/turns.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "filling.h"
#include "worker.h"

enum { UID = 1000 };

static struct {
	struct workers *workers;
	struct users users;
	struct user *user;
	struct blobs blobs;
	struct limits limits;
	char directory[200];
	int fds_before, gate[2];
} f;

/* ---- functions that fail ---- */

/* Touched by the test while no job runs, by the one job otherwise. */
struct fake {
	unsigned int n_calls;
	unsigned int fail_at, n_fail; /* so many calls from that one on */
	int error;
	size_t take_max; /* of one call; 0: all */
	unsigned int hook_at;
	void (*hook)(void); /* before that call */
};

static struct fake writing, reading, syncing;
static unsigned int at_gate; /* atomic: how many have come to wait_at_gate() */

static UNUSED void let_fail(struct fake *fake, unsigned int at, unsigned int n, int error)
{
	fake->fail_at = at;
	fake->n_fail = n;
	fake->error = error;
}

static UNUSED void hook(struct fake *fake, unsigned int at, void (*function)(void))
{
	fake->hook_at = at;
	fake->hook = function;
}

static UNUSED bool fails_now(struct fake *fake)
{
	unsigned int call = ++fake->n_calls;

	if (fake->hook && call == fake->hook_at)
		fake->hook();
	if (call < fake->fail_at || call - fake->fail_at >= fake->n_fail)
		return false;
	errno = fake->error;
	return true;
}

static size_t cut(const struct fake *fake, size_t size)
{
	return fake->take_max ? min_size(size, fake->take_max) : size;
}

/* The worker stops here until open_gate(). */
static UNUSED void wait_at_gate(void)
{
	char c;

	__atomic_add_fetch(&at_gate, 1, __ATOMIC_RELEASE);
	assert_int_equal(read(f.gate[0], &c, 1), 1);
}

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size)
{
	if (size <= sizeof(uint64_t)) /* that wakes the loop */
		return __real_write(fd, data, size);
	return fails_now(&writing) ? -1 : __real_write(fd, data, cut(&writing, size));
}

ssize_t __real_pread(int fd, void *data, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *data, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *data, size_t size, off_t at)
{
	return fails_now(&reading) ? -1 : __real_pread(fd, data, cut(&reading, size), at);
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	return fails_now(&syncing) ? -1 : 0; /* what is in memory needs none */
}

static bool says_no_blocks; /* a file system that does not tell how much is there */

int __real_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st)
{
	int r = __real_fstat(fd, st);

	if (says_no_blocks)
		st->st_blocks = 0;
	return r;
}

static UNUSED bool is_at_gate(void)
{
	return __atomic_load_n(&at_gate, __ATOMIC_ACQUIRE) > 0;
}

static UNUSED void open_gate(void)
{
	__atomic_store_n(&at_gate, 0, __ATOMIC_RELAXED);
	assert_int_equal(__real_write(f.gate[1], "x", 1), 1);
}

/* ---- setup ---- */

static UNUSED unsigned int n_spooled(void)
{
	char path[220];
	unsigned int n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/spool", f.directory);
	d = opendir(path);
	for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d))
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

/* In memory where that is possible: nothing here waits for a real disk. */
static void make_directory(void)
{
	const char *base = getenv("TMPDIR");

	if (!base || !*base)
		base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(f.directory, sizeof(f.directory), "%s/ipcd-filling.XXXXXX", base);
	assert_non_null(mkdtemp(f.directory));
}

static UNUSED int filling_setup(void **state)
{
	(void)state;
	memset(&f, 0, sizeof(f));
	f.fds_before = count_fds();
	f.limits = limits_default;
	at_gate = 0;
	says_no_blocks = false;
	writing = reading = syncing = (struct fake){ 0 };
	make_directory();
	turns_begin();
	assert_int_equal(pipe2(f.gate, O_CLOEXEC), 0);
	assert_int_equal(workers_new(&f.workers, &loop), 0);
	assert_int_equal(users_init(&f.users, &loop, f.workers), 0);
	assert_int_equal(user_get(&f.users, UID, &f.user), 0);
	blobs_init(&f.blobs, f.workers);
	assert_int_equal(blobs_open(&f.blobs, f.directory), 0);
	return 0;
}

static UNUSED void without_spool(void)
{
	blobs_deinit(&f.blobs);
}

/* How many files were in it? */
static UNUSED unsigned int remove_directory(void)
{
	char path[220];
	unsigned int n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/spool", f.directory);
	d = opendir(path);
	assert_non_null(d);
	for (struct dirent *e = readdir(d); e; e = readdir(d))
		n += unlinkat(dirfd(d), e->d_name, 0) == 0; /* not "." and ".." */
	closedir(d);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(f.directory), 0);
	return n;
}

/* Nothing may be left: no charge, no file, no descriptor. The directory goes first, since a
 * test that has failed may have left anything. */
static UNUSED int filling_teardown(void **state)
{
	unsigned int n_left;

	(void)state;
	if (is_at_gate())
		open_gate();
	f.workers = workers_free(f.workers, 30000);
	n_left = remove_directory();
	assert_int_equal(n_left, 0);
	assert_int_equal(f.user->refs, 1);
	assert_int_equal(f.user->usage.file_bytes, 0);
	assert_int_equal(f.user->usage.bytes, 0);
	user_unref(f.user);
	users_deinit(&f.users);
	blobs_deinit(&f.blobs);
	loop_deinit(&loop);
	close(f.gate[0]);
	close(f.gate[1]);
	assert_int_equal(count_fds(), f.fds_before);
	return 0;
}

/* ---- checks ---- */

static UNUSED off_t size_of(int fd)
{
	struct stat st;

	assert_int_equal(__real_fstat(fd, &st), 0);
	return st.st_size;
}

static UNUSED uint64_t disk_of(int fd)
{
	struct stat st;

	assert_int_equal(__real_fstat(fd, &st), 0);
	return min_u64((uint64_t)st.st_size, (uint64_t)st.st_blocks * 512);
}

/* What is in it, which the caller frees. To map it would fill its holes. */
static UNUSED char *load(int fd, size_t size)
{
	char *data = malloc(size + 1);

	assert_int_equal(__real_pread(fd, data, size + 1, 0), size);
	return data;
}

/* Each kind that is said, and no other, is there and right. */
static UNUSED void check_digests(const struct filling *filling, unsigned int kinds,
				 const char *data, size_t size)
{
	char hex[DIGEST_HEX_MAX + 1];

	for (unsigned int kind = 0; kind < DIGEST_N; kind++) {
		struct digest *digest;

		if (!(kinds & 1u << kind)) {
			assert_string_equal(filling->hex[kind], "");
			continue;
		}
		assert_int_equal(digest_new(1u << kind, &digest), 0);
		digest_update(digest, data, size);
		digest_final(digest, kind, hex);
		digest_free(digest);
		assert_string_equal(filling->hex[kind], hex);
	}
}

static UNUSED void check_failed(const struct filling *filling, enum fault_word word,
				const char *why)
{
	assert_true(filling->failed);
	if (filling->fault.word != word || !strstr(filling->fault.text, why))
		fail_msg("%s: %s, expected: %s: %s", fault_word_name(filling->fault.word),
			 filling->fault.text, fault_word_name(word), why);
}

static UNUSED uint64_t usage(void)
{
	return f.blobs.directory >= 0 ? f.user->usage.file_bytes : f.user->usage.bytes;
}

#endif
