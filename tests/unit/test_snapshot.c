/* SPDX-License-Identifier: MIT */

/* Copies of files: by every method, with holes, of files that change, fail or hang. */

#include "unit/filling_world.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>

#include "snapshot.h"

static bool slow; /* each byte that is asked for takes its time */
enum { SLOW_SIZE = 4 << 20, SLOW_NS = 100 };
enum { BLOCK = 4096 };
enum { SIZE = 1000003, SMALL = 5000, OFFSET = 1234 };
enum { ALL_KINDS = (1u << DIGEST_N) - 1, FOR_EVER = 1000000 };

static int source = -1;
static struct fake cloning, ranging, sending, mapping, looking;
static bool can_clone, can_map, may_not_open;
static bool maps_before; /* what goes on it tells of only up to where it was asked */
static enum { SIZE_CHANGES, MTIME_CHANGES, CTIME_CHANGES } what_changes;
static unsigned int changes_at[2]; /* looks that see another file */

/* ---- what a file system can ---- */

static void take_time(size_t size)
{
	uint64_t ns = slow ? size * SLOW_NS : 0;
	struct timespec time = { (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) };

	nanosleep(&time, NULL);
}

/* As much of it as fits. */
static int clone_file(int to, int from)
{
	size_t size = (size_t)size_of(from);
	_cleanup_free_ char *data = load(from, size);

	take_time(size); /* what is not on the disk yet has to get there first */
	assert_int_equal(pwrite(to, data, size, 0), size);
	return 0;
}

static int map_file(int fd, struct fiemap *m)
{
	char path[40];
	int again;
	off_t begin, end;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	assert_true(again >= 0);
	begin = lseek(again, (off_t)m->fm_start, SEEK_DATA);
	m->fm_mapped_extents = begin >= 0;
	if (begin >= 0) {
		end = lseek(again, begin, SEEK_HOLE);
		/* an extent may begin before what was asked for, and end behind the file */
		m->fm_extents[0].fe_logical = (uint64_t)begin & ~4095ull;
		m->fm_extents[0].fe_length = ((uint64_t)end + 4095) / 4096 * 4096 -
					     m->fm_extents[0].fe_logical;
	}
	if (maps_before && m->fm_start && begin == (off_t)m->fm_start) {
		m->fm_extents[0].fe_logical = (uint64_t)begin - BLOCK;
		m->fm_extents[0].fe_length = BLOCK;
	}
	close(again);
	return 0;
}

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == FICLONE) {
		if (fails_now(&cloning))
			return -1;
		if (can_clone)
			return clone_file(fd, (int)(intptr_t)arg);
	} else if (request == FS_IOC_FIEMAP) {
		if (fails_now(&mapping))
			return -1;
		if (can_map)
			return map_file(fd, arg);
	} else {
		return __real_ioctl(fd, request, arg);
	}
	errno = EOPNOTSUPP;
	return -1;
}

/* As the kernel does it: all that was asked for, however long that takes. */
static ssize_t copy_slowly(int from, int to, off_t in, off_t out, size_t size)
{
	static char buffer[SLOW_SIZE];
	ssize_t n = __real_pread(from, buffer, min_size(size, sizeof(buffer)), in);

	take_time(n > 0 ? (size_t)n : 0);
	return n <= 0 ? n : pwrite(to, buffer, (size_t)n, out);
}

static ssize_t copy_bytes(int from, int to, off_t in, off_t out, size_t size)
{
	static char buffer[65536];
	ssize_t n;

	if (slow)
		return copy_slowly(from, to, in, out, size);
	n = __real_pread(from, buffer, min_size(size, sizeof(buffer)), in);
	return n <= 0 ? n : pwrite(to, buffer, (size_t)n, out);
}

ssize_t __wrap_copy_file_range(int from, off_t *in, int to, off_t *out, size_t size,
			       unsigned int flags);
ssize_t __wrap_copy_file_range(int from, off_t *in, int to, off_t *out, size_t size,
			       unsigned int flags)
{
	assert_non_null(in);
	assert_int_equal(flags, 0);
	if (fails_now(&ranging))
		return errno ? -1 : 0;
	return copy_bytes(from, to, *in, *out, cut(&ranging, size));
}

ssize_t __wrap_sendfile(int to, int from, off_t *in, size_t size);
ssize_t __wrap_sendfile(int to, int from, off_t *in, size_t size)
{
	assert_non_null(in);
	if (fails_now(&sending))
		return errno ? -1 : 0;
	return copy_bytes(from, to, *in, lseek(to, 0, SEEK_CUR), cut(&sending, size));
}

int __real_fd_reopen(int fd, int flags);
int __wrap_fd_reopen(int fd, int flags);
int __wrap_fd_reopen(int fd, int flags)
{
	return may_not_open ? -EACCES : __real_fd_reopen(fd, flags);
}

int __real_statx(int fd, const char *path, int flags, unsigned int mask,
		 struct statx *stx);
int __wrap_statx(int fd, const char *path, int flags, unsigned int mask,
		 struct statx *stx);
int __wrap_statx(int fd, const char *path, int flags, unsigned int mask,
		 struct statx *stx)
{
	if (fails_now(&looking) || __real_statx(fd, path, flags, mask, stx) < 0)
		return -1;
	if (says_no_blocks)
		stx->stx_blocks = 0;
	if (looking.n_calls != changes_at[0] && looking.n_calls != changes_at[1])
		return 0;
	if (what_changes == SIZE_CHANGES)
		stx->stx_size++;
	else if (what_changes == MTIME_CHANGES)
		stx->stx_mtime.tv_nsec ^= 1;
	else
		stx->stx_ctime.tv_nsec ^= 1;
	return 0;
}

/* ---- sources ---- */

static void fill(off_t from, size_t size)
{
	char *data = malloc(size);

	for (size_t i = 0; i < size; i++)
		data[i] = (char)((from + (off_t)i) * 7 % 251 + 1);
	assert_int_equal(pwrite(source, data, size, from), size);
	free(data);
}

/* Its offset stands somewhere, and has to stay there. */
static void make_source(void)
{
	source = memfd_create("source", MFD_CLOEXEC);
	assert_true(source >= 0);
	assert_int_equal(lseek(source, OFFSET, SEEK_SET), OFFSET);
}

static void make_full(size_t size)
{
	make_source();
	fill(0, size);
}

static void drop_source(void)
{
	source = fd_close(source);
}

/* Holes at both ends and between. */
static void make_sparse(void)
{
	make_source();
	fill(1 << 20, 65536);
	fill(3 << 20, 100000);
	fill(5 << 20, 4096);
	assert_int_equal(ftruncate(source, (7 << 20) + 5), 0);
}

/* ---- snapshots ---- */

static unsigned int n_done, n_stalled;
static struct digests digests;
static uint64_t promised;
static bool durable;

static void on_done(struct snapshot *s)
{
	(void)s;
	n_done++;
}

static void on_stalled(struct snapshot *s)
{
	(void)s;
	n_stalled++;
}

static struct snapshot *start(void)
{
	struct snapshot *s = snapshot_new(&f.blobs, f.workers, f.user, &f.limits,
					  fcntl(source, F_DUPFD_CLOEXEC, 3), &digests);

	assert_non_null(s);
	n_done = n_stalled = 0;
	s->promised = promised;
	s->durable = durable;
	s->done = on_done;
	s->stalled = on_stalled;
	s->owner = &source;
	snapshot_start(s);
	return s;
}

static struct snapshot *run(void)
{
	struct snapshot *s = start();

	wait_for(n_done);
	assert_int_equal(n_done, 1);
	assert_int_equal(n_stalled, 0);
	assert_int_equal(lseek(source, 0, SEEK_CUR), OFFSET);
	return s;
}

static void end(struct snapshot *s)
{
	assert_null(snapshot_free(s));
	wait_for(n_spooled() == 0);
	assert_int_equal(usage(), 0);
}

static void check_large(struct snapshot *s, size_t size)
{
	struct filling *copy = &s->filling;
	_cleanup_free_ char *here = load(source, size), *there = load(copy->fd, size);
	unsigned int kinds = copy->kinds;

	assert_int_equal(kinds & digests.wanted, digests.wanted);
	assert_memory_equal(here, there, size);
	check_digests(copy, kinds, here, size);
	assert_null(copy->block);
	assert_int_equal(size_of(copy->fd), size);
	assert_int_equal(copy->disk, disk_of(copy->fd));
	assert_int_equal(copy->disk, disk_of(source));
	assert_int_equal(copy->charged, disk_of(source));
	assert_int_equal(usage(), copy->charged);
	assert_int_equal(n_spooled(), copy->blob->id ? 1 : 0);
	assert_int_equal(copy->blob->synced, durable && copy->blob->id);
}

static void check_copy(struct snapshot *s)
{
	struct filling *copy = &s->filling;
	size_t size = (size_t)size_of(source);

	if (copy->failed)
		fail_msg("%s", copy->fault.text);
	assert_int_equal(copy->size, size);
	if (size > LIMIT_PIECE_MAX) {
		check_large(s, size);
		return;
	}
	assert_non_null(copy->block);
	assert_int_equal(copy->block->size, size);
	assert_int_equal(copy->charged, 0);
	if (size) {
		_cleanup_free_ char *here = load(source, size);

		assert_memory_equal(here, copy->block->data, size);
	}
	check_digests(copy, digests.wanted | 1u << DIGEST_XXH3, copy->block->data, size);
}

static void copy_it(void)
{
	struct snapshot *s = run();

	check_copy(s);
	end(s);
}

static void refuse_it(enum fault_word word, const char *why)
{
	struct snapshot *s = run();

	check_failed(&s->filling, word, why);
	end(s);
}

static void reset(void)
{
	cloning = ranging = sending = mapping = looking = writing = reading = syncing =
		(struct fake){ 0 };
	changes_at[0] = changes_at[1] = 0;
}

static int setup(void **state)
{
	reset();
	can_clone = can_map = may_not_open = maps_before = durable = slow = false;
	promised = UINT64_MAX;
	memset(&digests, 0, sizeof(digests));
	source = -1;
	return filling_setup(state);
}

static int teardown(void **state)
{
	if (source >= 0)
		close(source);
	return filling_teardown(state);
}

/* ---- methods ---- */

static void test_clone(void **state)
{
	(void)state;
	make_full(SIZE);
	can_clone = true;
	copy_it();
	assert_int_equal(cloning.n_calls, 1);
	assert_int_equal(ranging.n_calls, 0);
}

/* Where one is not able the next one is taken, and stays. */
static void test_methods(void **state)
{
	static const int unable[] = { EXDEV, EINVAL, ENOSYS, EOPNOTSUPP, ETXTBSY };

	(void)state;
	make_full(SIZE);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(unable); i++) {
		int error = unable[i / 2];

		if (i == 5)
			without_spool();
		reset();
		copy_it();
		assert_true(ranging.n_calls > 1);
		assert_int_equal(sending.n_calls, 0);
		reset();
		let_fail(&ranging, 1, FOR_EVER, error);
		copy_it();
		assert_int_equal(ranging.n_calls, 1);
		assert_true(sending.n_calls > 1);
		assert_int_equal(reading.n_calls, 0);
		reset();
		let_fail(&ranging, 3, FOR_EVER, error); /* in the middle */
		let_fail(&sending, 3, FOR_EVER, error);
		copy_it();
		assert_int_equal(ranging.n_calls, 3);
		assert_int_equal(sending.n_calls, 3);
		assert_true(reading.n_calls > 0);
	}
}

/* Some say the end where there is none: read(2) decides. */
static void test_methods_that_see_the_end(void **state)
{
	(void)state;
	make_full(SIZE);
	let_fail(&ranging, 3, FOR_EVER, 0);
	copy_it();
	assert_int_equal(ranging.n_calls, 3);
	assert_true(reading.n_calls > 0);
	reset();
	let_fail(&ranging, 1, FOR_EVER, EXDEV);
	let_fail(&sending, 1, FOR_EVER, 0);
	copy_it();
	assert_int_equal(sending.n_calls, 1);
	assert_true(reading.n_calls > 0);
}

/* Each of the fakes in its turn does the copying. */
static void use(struct fake *method)
{
	reset();
	if (method != &ranging)
		let_fail(&ranging, 1, FOR_EVER, EXDEV);
	if (method != &ranging && method != &sending)
		let_fail(&sending, 1, FOR_EVER, EINVAL);
}

static struct fake *const methods[] = { &ranging, &sending, &reading, &writing };

static void test_short_and_interrupted(void **state)
{
	(void)state;
	make_full(SIZE);
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		use(methods[i]);
		methods[i]->take_max = 3001;
		copy_it();
		assert_true(methods[i]->n_calls >= SIZE / 3001);
		if (methods[i] == &reading)
			continue; /* pread(2) of a file is not interrupted */
		use(methods[i]);
		let_fail(methods[i], 1, 3, EINTR);
		copy_it();
	}
}

static void test_no_space(void **state)
{
	static const int errors[] = { ENOSPC, EDQUOT };

	(void)state;
	make_full(SIZE);
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		if (methods[i] == &reading)
			continue;
		for (size_t e = 0; e < ARRAY_SIZE(errors); e++) {
			use(methods[i]);
			let_fail(methods[i], 2, FOR_EVER, errors[e]);
			methods[i]->take_max = 100000;
			refuse_it(FAULT_NO_SPACE, "no space");
			assert_int_equal(methods[i]->n_calls, 2);
		}
	}
}

static void test_read_error(void **state)
{
	(void)state;
	make_full(SIZE);
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		use(methods[i]);
		let_fail(methods[i], 2, FOR_EVER, EIO);
		methods[i]->take_max = 100000;
		if (methods[i] == &writing)
			refuse_it(FAULT_INTERNAL, "cannot be kept");
		else
			refuse_it(FAULT_BAD_FD, "cannot be read: Input/output");
	}
	reset();
	let_fail(&looking, 1, 1, ESTALE);
	refuse_it(FAULT_BAD_FD, "cannot be read: Stale");
	reset();
	let_fail(&looking, 2, 1, ESTALE);
	refuse_it(FAULT_BAD_FD, "cannot be read: Stale");
}

static void test_small(void **state)
{
	(void)state;
	make_source();
	copy_it();
	fill(0, SMALL);
	copy_it();
	reset();
	reading.take_max = 999;
	let_fail(&reading, 2, 2, EINTR);
	copy_it();
	reset();
	let_fail(&reading, 1, 1, EIO);
	refuse_it(FAULT_BAD_FD, "cannot be read: Input/output");
	assert_int_equal(ftruncate(source, LIMIT_PIECE_MAX), 0);
	copy_it();
	assert_int_equal(ftruncate(source, LIMIT_PIECE_MAX + 1), 0);
	copy_it();
}

static void test_digests(void **state)
{
	(void)state;
	make_full(SIZE);
	for (digests.wanted = 0; digests.wanted <= ALL_KINDS; digests.wanted++) {
		reset();
		copy_it();
		assert_int_equal(ranging.n_calls > 0, !digests.wanted);
	}
}

static void test_not_a_file(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	source = ends[0];
	struct snapshot *s = start();

	wait_for(n_done);
	check_failed(&s->filling, FAULT_BAD_FD, "not of a regular file");
	end(s);
	close(ends[1]);
}

/* ---- holes ---- */

static void check_holes(void)
{
	struct snapshot *s = run();

	check_copy(s);
	assert_true(s->filling.disk < 300000);
	end(s);
}

static void test_holes(void **state)
{
	(void)state;
	make_sparse();
	for (int spooled = 1; spooled >= 0; spooled--) {
		if (!spooled)
			without_spool();
		for (digests.wanted = 0; digests.wanted <= ALL_KINDS;
		     digests.wanted += 7) {
			may_not_open = can_map = false;
			reset();
			check_holes();
			assert_int_equal(mapping.n_calls, 0);
			may_not_open = can_map = true;
			reset();
			check_holes();
			assert_true(mapping.n_calls >= 3);
			ranging.take_max = reading.take_max = 5000;
			check_holes();
		}
	}
}

/* As btrfs does it of what is not on the disk yet. */
static void test_holes_of_what_was_before(void **state)
{
	(void)state;
	make_sparse();
	may_not_open = can_map = maps_before = true;
	ranging.take_max = (size_t)2 * BLOCK;
	check_holes();
}

/* Where nothing tells them they are copied as zeros. */
static void test_holes_unknown(void **state)
{
	struct snapshot *s;

	(void)state;
	make_sparse();
	may_not_open = true;
	s = run();
	assert_false(s->filling.failed);
	assert_int_equal(mapping.n_calls, 1);
	assert_int_equal(s->filling.disk, size_of(source));
	assert_int_equal(s->filling.charged, size_of(source));
	end(s);
}

static void test_only_a_hole(void **state)
{
	(void)state;
	make_source();
	assert_int_equal(ftruncate(source, 10 << 20), 0);
	for (int i = 0; i < 2; i++) {
		may_not_open = can_map = i;
		digests.wanted = 0;
		copy_it();
		digests.wanted = 1u << DIGEST_MD5;
		copy_it();
	}
}

/* More than one turn. */
static void test_turns(void **state)
{
	struct snapshot *s;

	(void)state;
	make_source();
	fill(0, 65536);
	fill(100 << 20, 65536);
	fill(200 << 20, 65536);
	s = run();
	assert_int_equal(s->copied, size_of(source));
	check_copy(s);
	end(s);
}

/* ---- what it may have ---- */

static void test_promised(void **state)
{
	(void)state;
	make_full(SIZE);
	promised = SIZE;
	copy_it();
	promised = SIZE - 1;
	refuse_it(FAULT_CHANGED, "\"file_size\"");
	promised = SIZE + 1;
	refuse_it(FAULT_CHANGED, "\"file_size\"");
	promised = 0;
	refuse_it(FAULT_CHANGED, "\"file_size\"");
}

static void test_file_max(void **state)
{
	(void)state;
	make_full(SIZE);
	f.limits.file_max = SIZE;
	copy_it();
	f.limits.file_max = SIZE - 1;
	refuse_it(FAULT_TOO_LARGE, "1000002 (file_max)");
}

static void test_quota(void **state)
{
	(void)state;
	make_full(SIZE);
	for (int spooled = 1; spooled >= 0; spooled--) {
		uint64_t *max = spooled ? &f.limits.user_file_bytes
					: &f.limits.user_bytes,
			 *used = spooled ? &f.user->usage.file_bytes
					 : &f.user->usage.bytes;

		if (!spooled)
			without_spool();
		*max = SIZE;
		copy_it();
		*max = SIZE - 1;
		refuse_it(FAULT_QUOTA, spooled ? "(user_file_bytes)" : "(user_bytes)");
		*max = SIZE + 500;
		*used = 501;
		struct snapshot *s = run();

		check_failed(&s->filling, FAULT_QUOTA, "501 of 1000503 bytes");
		snapshot_free(s);
		wait_for(n_spooled() == 0);
		assert_int_equal(*used, 501);
		*used = 0;
	}
}

/* Not all file systems tell how much of a file is there; and one that is packed takes more
 * on our disk. */
static void test_quota_without_blocks(void **state)
{
	(void)state;
	says_no_blocks = true;
	make_full(SIZE);
	f.limits.user_file_bytes = SIZE;
	for (size_t i = 0; i < 3; i++) {
		use(methods[i]);
		copy_it();
	}
	f.limits.user_file_bytes = SIZE - 1;
	for (size_t i = 0; i < 3; i++) {
		use(methods[i]);
		refuse_it(FAULT_QUOTA, "(user_file_bytes)");
	}
}

static void test_durable(void **state)
{
	(void)state;
	make_full(SIZE);
	copy_it();
	assert_int_equal(syncing.n_calls, 0);
	durable = true;
	copy_it();
	assert_int_equal(syncing.n_calls, 1);
	let_fail(&syncing, 2, 1, EIO);
	refuse_it(FAULT_INTERNAL, "cannot be kept");
	let_fail(&syncing, 3, 1, ENOSPC);
	refuse_it(FAULT_NO_SPACE, "no space");
	without_spool();
	copy_it();
	assert_int_equal(syncing.n_calls, 3);
}

/* ---- files that change ---- */

static void test_changed_once(void **state)
{
	static const size_t some[] = { SIZE, SMALL };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
		make_full(some[i]);
		for (what_changes = 0; what_changes <= CTIME_CHANGES; what_changes++)
			for (digests.wanted = 0; digests.wanted < 2; digests.wanted++) {
				reset();
				changes_at[0] = 2;
				copy_it();
				assert_int_equal(looking.n_calls, 4);
			}
		drop_source();
	}
}

static void test_changed_twice(void **state)
{
	static const size_t some[] = { SIZE, SMALL };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
		make_full(some[i]);
		for (what_changes = 0; what_changes <= CTIME_CHANGES; what_changes++) {
			reset();
			changes_at[0] = 2;
			changes_at[1] = 4;
			refuse_it(FAULT_CHANGED, "changed while it was copied, twice");
		}
		drop_source();
	}
}

static void shrink(void)
{
	assert_int_equal(ftruncate(source, SIZE / 2), 0);
}

static void shrink_to_small(void)
{
	assert_int_equal(ftruncate(source, SMALL / 2), 0);
}

static void grow(void)
{
	fill(size_of(source), SIZE);
}

static void test_shrinks(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		make_full(SIZE);
		use(methods[i]);
		hook(methods[i], 3, shrink);
		methods[i]->take_max = 200000;
		copy_it();
		use(methods[i]);
		hook(methods[i], 2, shrink_to_small);
		copy_it();
		drop_source();
	}
	make_full(SMALL);
	reset();
	reading.take_max = 1000;
	hook(&reading, 4, shrink_to_small);
	copy_it();
}

static void test_grows(void **state)
{
	(void)state;
	make_full(SIZE);
	hook(&ranging, 3, grow);
	copy_it();
	drop_source();
	make_full(SMALL); /* beyond what goes into memory */
	hook(&reading, 1, grow);
	copy_it();
}

static void punch(void)
{
	assert_int_equal(fallocate(source, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   1 << 20, 65536),
			 0);
}

/* What was copied at first is not seen through a hole of the second time. */
static void test_hole_where_data_was(void **state)
{
	(void)state;
	make_sparse();
	changes_at[0] = 2;
	hook(&looking, 2, punch);
	copy_it();
	assert_int_equal(looking.n_calls, 4);
}

/* ---- given up ---- */

static void test_not_started(void **state)
{
	struct snapshot *s;
	int fd;

	(void)state;
	make_full(SIZE);
	fd = fcntl(source, F_DUPFD_CLOEXEC, 3);
	s = snapshot_new(&f.blobs, f.workers, f.user, &f.limits, fd, &digests);
	assert_non_null(s);
	assert_true(snapshot_waits(s));
	snapshot_free(s);
	wait_for(fcntl(fd, F_GETFD) < 0);
}

static void test_cancelled(void **state)
{
	struct fake *const at[] = { &looking, &ranging, &sending, &reading, &writing };

	(void)state;
	make_full(SIZE);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		struct snapshot *s;

		use(at[i]);
		hook(at[i], i ? 2 : 1, wait_at_gate);
		if (at[i] != &writing) /* all that was read is written */
			at[i]->take_max = 1000;
		s = start();
		wait_for(is_at_gate());
		assert_int_equal(n_spooled(), at[i] != &looking);
		snapshot_free(s);
		open_gate();
		wait_for(n_spooled() == 0 && f.user->refs == 1);
		assert_int_equal(n_done, 0);
		assert_true(at[i]->n_calls <= 3);
		assert_int_equal(usage(), 0);
	}
}

/* Its owner is told and has it no longer; what is left goes when it answers. */
static void test_hangs(void **state)
{
	(void)state;
	make_full(SIZE);
	f.limits.fd_deadline = 10;
	hook(&ranging, 2, wait_at_gate);
	start();
	wait_for(n_stalled);
	assert_int_equal(n_done, 0);
	open_gate();
	wait_for(n_spooled() == 0 && f.user->refs == 1);
	assert_int_equal(n_done, 0);
	assert_int_equal(n_stalled, 1);
}

/* It answers, and each answer is in time; but for the one disk that is ours. */
static void test_slow(void **state)
{
	(void)state;
	make_full(SLOW_SIZE);
	f.limits.fd_deadline = 200;
	slow = true;
	use(&ranging);
	copy_it();
	use(&sending);
	copy_it();
	reset();
	can_clone = true;
	copy_it();
	assert_int_equal(ranging.n_calls, 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_clone),
		TEST(test_methods),
		TEST(test_methods_that_see_the_end),
		TEST(test_short_and_interrupted),
		TEST(test_no_space),
		TEST(test_read_error),
		TEST(test_small),
		TEST(test_digests),
		TEST(test_not_a_file),
		TEST(test_holes),
		TEST(test_holes_of_what_was_before),
		TEST(test_holes_unknown),
		TEST(test_only_a_hole),
		TEST(test_turns),
		TEST(test_promised),
		TEST(test_file_max),
		TEST(test_quota),
		TEST(test_quota_without_blocks),
		TEST(test_durable),
		TEST(test_changed_once),
		TEST(test_changed_twice),
		TEST(test_shrinks),
		TEST(test_grows),
		TEST(test_hole_where_data_was),
		TEST(test_not_started),
		TEST(test_cancelled),
		TEST(test_hangs),
		TEST(test_slow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
