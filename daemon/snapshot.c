/* SPDX-License-Identifier: MIT */

#include "snapshot.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

enum {
	STEP_BYTES = 256 * 1024,       /* soon enough also where that is slow … */
	TURN_BYTES = 64 * 1024 * 1024, /* … then others have a turn, … */
	TURN_NS = 500 * NS_PER_MS,     /* … and after so long */
	BUFFER_BYTES = STEP_BYTES,
	ALIGNMENT = 4096, /* of what is read with O_DIRECT: enough for any disk */
};

enum method { BY_CLONE, BY_RANGE, BY_SENDFILE, BY_READING };

struct snapshot *snapshot_new(struct blobs *blobs, struct workers *workers,
			      struct user *user, const struct limits *limits,
			      int fd_taken, const struct digests *digests)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	filling_init(&s->filling, blobs, user, limits);
	s->filling.kinds = digests->wanted;
	s->filling.blob = blob_new(blobs);
	s->workers = workers;
	s->fd = s->map_fd = -1;
	s->promised = UINT64_MAX;
	if (!s->filling.blob)
		return snapshot_free(s);
	s->fd = fd_taken;
	s->job.uid = user->uid;
	s->job.foreign = true;
	s->job.stall_ms = (uint32_t)limits->fd_deadline;
	return s;
}

static void release(struct snapshot *s)
{
	if (s->fd >= 0)
		workers_close_fd(s->job.uid, s->fd);
	if (s->map_fd >= 0)
		workers_close_fd(s->job.uid, s->map_fd);
	filling_deinit(&s->filling);
	free(s->buffer);
	free(s);
}

struct snapshot *snapshot_free(struct snapshot *s)
{
	if (!s)
		return NULL;
	s->owner = NULL;
	if (s->job.run) /* a worker has it, or will have */
		__atomic_store_n(&s->cancelled, true, __ATOMIC_RELAXED);
	else
		release(s);
	return NULL;
}

/* ---- on a worker ---- */

static bool is_small(const struct snapshot *s)
{
	return s->st.size <= LIMIT_PIECE_MAX;
}

static bool is_cancelled(const struct snapshot *s)
{
	return __atomic_load_n(&s->cancelled, __ATOMIC_RELAXED);
}

static bool source_failed(struct snapshot *s, int error)
{
	return filling_fail(&s->filling, FAULT_BAD_FD, "the file cannot be read: %s",
			    strerror(error));
}

/* As it is now, not as a cache has it. */
static int look(int fd, struct file_state *ret)
{
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &stx) <
	    0)
		return err_origin(-errno);
	*ret = (struct file_state){
		.mode = stx.stx_mode,
		.size = (off_t)stx.stx_size,
		.disk = (off_t)min_u64(stx.stx_size, stx.stx_blocks * 512),
		.mtime_s = stx.stx_mtime.tv_sec,
		.ctime_s = stx.stx_ctime.tv_sec,
		.mtime_ns = stx.stx_mtime.tv_nsec,
		.ctime_ns = stx.stx_ctime.tv_nsec,
	};
	return 0;
}

static bool check_size(struct snapshot *s)
{
	uint64_t size = (uint64_t)s->st.size, max = s->filling.limits->file_max;

	if (!S_ISREG(s->st.mode))
		return filling_fail(&s->filling, FAULT_BAD_FD,
				    "the descriptor is not of a regular file");
	if (s->promised != UINT64_MAX && size != s->promised)
		return filling_fail(
			&s->filling, FAULT_CHANGED,
			"the file has %llu bytes, not the %llu that \"file_size\" says",
			(unsigned long long)size, (unsigned long long)s->promised);
	if (size > max)
		return filling_fail(&s->filling, FAULT_TOO_LARGE,
				    "the file has %llu bytes, the limit is %llu "
				    "(file_max)",
				    (unsigned long long)size, (unsigned long long)max);
	return true;
}

static bool get_buffer(struct snapshot *s)
{
	if (!s->buffer)
		s->buffer = aligned_alloc(ALIGNMENT, BUFFER_BYTES);
	return s->buffer ||
	       filling_fail_errno(&s->filling, ENOMEM, "the file cannot be read");
}

/* With O_DIRECT only whole blocks are read, to where memory is aligned, see open(2). */
static ssize_t read_aligned(struct snapshot *s, char *to, size_t size)
{
	size_t whole = (min_size(size, BUFFER_BYTES) + ALIGNMENT - 1) & ~(ALIGNMENT - 1u);
	ssize_t n = pread(s->fd, s->buffer, whole, s->at);

	if (n > (ssize_t)size)
		n = (ssize_t)size;
	if (n > 0 && to != s->buffer)
		memcpy(to, s->buffer, (size_t)n);
	return n;
}

/* Some of what is at s->at; -1 and errno, or the filling has failed. */
static ssize_t read_source(struct snapshot *s, char *to, size_t size)
{
	ssize_t n;

	do
		n = pread(s->fd, to, size, s->at);
	while (n < 0 && errno == EINTR);
	if (n >= 0 || errno != EINVAL || !(fcntl(s->fd, F_GETFL) & O_DIRECT))
		return n;
	return get_buffer(s) ? read_aligned(s, to, size) : -1;
}

static bool read_failed(struct snapshot *s)
{
	return s->filling.failed ? false : source_failed(s, errno);
}

/* Small files go into memory. */
static bool read_small(struct snapshot *s)
{
	struct filling *f = &s->filling;
	size_t size = (size_t)s->st.size;
	ssize_t n;

	if (!f->block)
		f->block = bytes_new(size);
	if (!f->block)
		return filling_fail_errno(f, ENOMEM, "the body cannot be kept");
	while ((size_t)s->at < size) {
		n = read_source(s, f->block->data + s->at, size - (size_t)s->at);
		if (n < 0)
			return read_failed(s);
		if (n == 0) { /* it has shrunk: see is_same() */
			s->st.size = -1;
			return true;
		}
		s->at += n;
	}
	digest_update(f->digest, f->block->data, size);
	f->size = size;
	return true;
}

/* ---- holes: lseek(2) on the source would move the sender's offset ---- */

static void look_for_holes(struct snapshot *s)
{
	bool sparse = s->st.disk < s->st.size;

	s->sparse = sparse && !is_small(s);
	if (s->sparse && s->map_fd < 0)
		s->map_fd = fd_reopen(s->fd, O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

/* Data from `from` on, by lseek(2). False: that is not known. */
static bool seek_data(const struct snapshot *s, off_t from, off_t *ret_begin,
		      off_t *ret_end)
{
	off_t begin, end;

	if (s->map_fd < 0)
		return false;
	begin = lseek(s->map_fd, from, SEEK_DATA);
	if (begin < 0 && errno == ENXIO) /* only a hole is left */
		begin = s->st.size;
	end = begin < 0 ? -1 : lseek(s->map_fd, begin, SEEK_HOLE);
	if (begin < 0)
		return false;
	*ret_begin = begin;
	*ret_end = end < 0 ? s->st.size : end;
	return true;
}

/* The same by FIEMAP, for files that may not be opened again. */
static bool map_data(const struct snapshot *s, off_t from, off_t *ret_begin,
		     off_t *ret_end)
{
	union {
		struct fiemap map;
		char space[sizeof(struct fiemap) + sizeof(struct fiemap_extent)];
	} u = { .map = { .fm_start = (uint64_t)from,
			 .fm_length = (uint64_t)(s->st.size - from),
			 .fm_extent_count = 1 } };
	const struct fiemap_extent *extent = u.map.fm_extents;

	if (ioctl(s->fd, FS_IOC_FIEMAP, &u.map) < 0)
		return false;
	*ret_begin = *ret_end = s->st.size;
	if (u.map.fm_mapped_extents) {
		*ret_begin = (off_t)extent->fe_logical;
		*ret_end = (off_t)(extent->fe_logical + extent->fe_length);
	}
	return true;
}

/* ---- copying ---- */

static bool begin(struct snapshot *s)
{
	struct filling *f = &s->filling;
	unsigned int kinds = f->kinds;
	int r;

	if (look(s->fd, &s->st) < 0)
		return source_failed(s, errno);
	worker_note_progress(&s->job);
	if (is_cancelled(s) || !check_size(s)) /* the limits may be gone, too */
		return false;
	s->begun = true;
	look_for_holes(s);
	s->method = kinds ? BY_READING : BY_CLONE;
	if (kinds) /* its bytes pass through us */
		kinds |= 1u << DIGEST_XXH3;
	if (!is_small(s))
		return f->fd >= 0 ? filling_restart(f) : filling_begin(f, kinds);
	f->digest = digest_free(f->digest);
	f->kinds = kinds | 1u << DIGEST_XXH3; /* its bytes pass through us */
	r = digest_new(f->kinds, &f->digest);
	return r == 0 || filling_fail_errno(f, -r, "the digest cannot be made");
}

/* The next stretch of data, no more than a step, or none; what is before it is a hole. */
static bool next_extent(struct snapshot *s, off_t *ret_begin, size_t *ret_size)
{
	off_t begin = s->at, end = s->st.size;

	if (s->sparse && !seek_data(s, s->at, &begin, &end) &&
	    !map_data(s, s->at, &begin, &end))
		s->sparse = false; /* nothing tells: all is data */
	begin = (off_t)max_u64((uint64_t)begin, (uint64_t)s->at);
	if (begin == s->at && end <= begin) /* of what was before, as btrfs may: go on */
		end = begin + ALIGNMENT;
	begin = (off_t)min_u64((uint64_t)begin, (uint64_t)s->st.size);
	end = (off_t)min_u64((uint64_t)end, (uint64_t)s->st.size);
	if (s->filling.digest && begin - s->at > STEP_BYTES) /* hashing takes its time */
		begin = end = s->at + STEP_BYTES;
	*ret_begin = begin;
	*ret_size = end > begin ? (size_t)min_u64((uint64_t)(end - begin), STEP_BYTES)
				: 0;
	return *ret_size > 0;
}

static bool hash_hole(struct snapshot *s, uint64_t size)
{
	static const char zeros[65536];

	while (s->filling.digest && size) {
		size_t n = (size_t)min_u64(size, sizeof(zeros));

		digest_update(s->filling.digest, zeros, n);
		size -= n;
	}
	return true;
}

static ssize_t copy_by_reading(struct snapshot *s, size_t size)
{
	struct filling *f = &s->filling;
	ssize_t n;

	if (!get_buffer(s))
		return -1;
	n = read_source(s, s->buffer, min_size(size, BUFFER_BYTES));
	if (n <= 0)
		return n;
	if (lseek(f->fd, s->at, SEEK_SET) < 0) {
		filling_fail_errno(f, errno, "the body cannot be kept");
		return -1;
	}
	return filling_write(f, s->buffer, (size_t)n) ? n : -1;
}

static ssize_t copy_by_kernel(struct snapshot *s, size_t size)
{
	off_t in = s->at, out = s->at;

	if (s->method == BY_RANGE)
		return copy_file_range(s->fd, &in, s->filling.fd, &out, size, 0);
	if (lseek(s->filling.fd, out, SEEK_SET) < 0)
		return -1;
	return sendfile(s->filling.fd, s->fd, &in, size);
}

static bool is_unable(int error)
{
	return error == EXDEV || error == EINVAL || error == EOPNOTSUPP ||
	       error == ENOSYS || error == ETXTBSY;
}

/* One step of data at s->at, by the best method that works here. */
static bool copy_step(struct snapshot *s, size_t size)
{
	ssize_t n;

	for (;;) {
		n = s->method == BY_READING ? copy_by_reading(s, size)
					    : copy_by_kernel(s, size);
		if (s->filling.failed)
			return false;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && s->method < BY_READING && is_unable(errno)) {
			s->method++;
			continue;
		}
		if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
			return filling_fail_errno(&s->filling, errno,
						  "the body cannot be kept");
		if (n < 0)
			return source_failed(s, errno);
		if (n == 0 && s->method < BY_READING) { /* a file system that cannot */
			s->method = BY_READING;
			continue;
		}
		if (n == 0) /* it has shrunk: see is_same() */
			s->st.size = -1;
		s->at += n;
		if (s->method != BY_READING)
			s->filling.written += (uint64_t)n;
		return true;
	}
}

static void note_copied(struct snapshot *s)
{
	worker_note_progress(&s->job);
	__atomic_store_n(&s->copied, (uint64_t)s->at, __ATOMIC_RELAXED);
}

/* Only between files of one file system is anything done at all, so this is our disk, which
 * may take its time: to write first what is not on it yet. */
static bool clone_whole(struct snapshot *s)
{
	if (s->method != BY_CLONE)
		return false;
	worker_may_take_time(&s->job);
	if (ioctl(s->filling.fd, FICLONE, s->fd) == 0)
		s->at = s->st.size;
	else
		s->method = BY_RANGE;
	worker_note_progress(&s->job);
	return s->method == BY_CLONE;
}

/* Up to a turn's worth. */
static bool copy_some(struct snapshot *s)
{
	off_t end = s->at + TURN_BYTES, begin;
	uint64_t until = clock_ns(CLOCK_MONOTONIC) + TURN_NS;
	size_t size;

	if (clone_whole(s))
		return true;
	while (s->at < s->st.size && s->at < end && !is_cancelled(s) &&
	       clock_ns(CLOCK_MONOTONIC) < until) {
		bool data = next_extent(s, &begin, &size);

		hash_hole(s, (uint64_t)(begin - s->at));
		s->at = begin;
		if (data && !copy_step(s, size))
			return false;
		note_copied(s);
	}
	return true;
}

/* Is it, after all was copied, the file that it was at the start? */
static bool is_same(struct snapshot *s)
{
	struct file_state now;

	if (look(s->fd, &now) < 0)
		return source_failed(s, errno);
	return now.size == s->st.size && now.mtime_s == s->st.mtime_s &&
	       now.mtime_ns == s->st.mtime_ns && now.ctime_s == s->st.ctime_s &&
	       now.ctime_ns == s->st.ctime_ns;
}

/* As those of proc(5) may have, whose bytes are made when they are read. */
static ssize_t read_behind_nothing(struct snapshot *s)
{
	char byte;

	return s->st.size == 0 ? read_source(s, &byte, 1) : 0;
}

static void finish(struct snapshot *s)
{
	struct filling *f = &s->filling;
	ssize_t more = read_behind_nothing(s);

	if (more < 0) {
		read_failed(s);
		return;
	}
	if (!is_same(s)) {
		if (s->again)
			filling_fail(f, FAULT_CHANGED,
				     "the file changed while it was copied, twice; send "
				     "it when nobody writes to it");
		s->again = true;
		s->begun = false;
		s->at = 0;
		f->written = 0;
		f->block = bytes_unref(f->block);
		return;
	}
	if (more) {
		filling_fail(f, FAULT_BAD_FD,
			     "the file's size is not known: it says 0, but there is "
			     "something in it; send its bytes");
		return;
	}
	s->whole = true;
	if (f->block)
		s->settled = filling_end(f, false);
}

/* In a job of its own: here our disk may take its time, the descriptor is needed no more. */
static void settle(struct snapshot *s)
{
	struct filling *f = &s->filling;

	f->size = (uint64_t)s->st.size;
	if (ftruncate(f->fd, s->st.size) < 0) /* a hole at its end */
		filling_fail_errno(f, errno, "the body cannot be kept");
	else
		s->settled = filling_end(f, s->durable);
}

static void run(struct job *job)
{
	struct snapshot *s = CONTAINER_OF(job, struct snapshot, job);

	__atomic_store_n(&s->taken_up, true, __ATOMIC_RELAXED);
	if (is_cancelled(s) || s->filling.failed)
		return;
	if (s->whole) {
		settle(s);
		return;
	}
	if (!s->begun && !begin(s))
		return;
	if (!(is_small(s) && s->st.size >= 0 ? read_small(s) : copy_some(s)))
		return;
	if (is_cancelled(s))
		return;
	if (s->at >= s->st.size)
		finish(s);
}

/* ---- on the loop ---- */

static void on_done(struct job *job)
{
	struct snapshot *s = CONTAINER_OF(job, struct snapshot, job);
	struct filling *f = &s->filling;

	s->job.run = NULL;
	if (!s->owner) {
		release(s);
		return;
	}
	if (!f->failed && s->begun && !is_small(s) &&
	    filling_charge(f, max_u64((uint64_t)s->st.disk, f->written), &f->fault))
		f->failed = true;
	if (f->failed || s->settled) {
		s->done(s);
		return;
	}
	s->job.foreign = !s->whole;
	snapshot_start(s);
}

/* It hangs: its owner is told, the thread is left to it. */
static void on_stalled(struct job *job)
{
	struct snapshot *s = CONTAINER_OF(job, struct snapshot, job);

	if (!s->owner)
		return;
	__atomic_store_n(&s->cancelled, true, __ATOMIC_RELAXED);
	s->stalled(s);
	s->owner = NULL;
}

bool snapshot_waits(const struct snapshot *s)
{
	return s->job.foreign && !__atomic_load_n(&s->taken_up, __ATOMIC_RELAXED);
}

void snapshot_start(struct snapshot *s)
{
	__atomic_store_n(&s->taken_up, false, __ATOMIC_RELAXED);
	s->job.run = run;
	s->job.done = on_done;
	s->job.stalled = on_stalled;
	workers_submit(s->workers, &s->job);
}
