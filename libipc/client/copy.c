/* SPDX-License-Identifier: MIT */

/*
 * From a message's body into a file. Where there are digests the bytes are read once, and
 * digested as they pass; else the kernel copies: by FICLONE, which shares the blocks, or by
 * copy_file_range(2), which does not show them to us. Holes stay holes; to a digest they are
 * zeros. Without a file to write to this only verifies.
 */

#include "client/file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"

enum { TELL_MS = 250 }; /* how long without a word of how far it is */

struct copy {
	const struct ipc_message *message;
	int in, out;   /* out: -1 if there is none */
	uint64_t size; /* or FILE_SIZE_UNKNOWN */
	uint64_t done;
	struct digest *digest; /* or NULL */
	bool by_kernel;	       /* may be tried */
	char *buffer;	       /* FILE_BUFFER */
};

static void copy_deinit(struct copy *c)
{
	digest_free(c->digest);
	free(c->buffer);
}
#define _cleanup_copy_ CLEANUP(copy_deinit)

static int advance(struct copy *c, uint64_t n)
{
	const struct ipc_message *m = c->message;

	c->done += n;
	if (!m->progress || !m->progress(c->done, c->size, m->progress_userdata))
		return 0;
	return err_origin(-ECANCELED);
}

/* ---- bytes through here ---- */

int file_write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno != EINTR)
			return err_origin(-errno);
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		}
	}
	return 0;
}

static int put_bytes(struct copy *c, const char *data, size_t size)
{
	int r = 0;

	if (c->digest)
		digest_update(c->digest, data, size);
	if (c->out >= 0)
		r = file_write_all(c->out, data, size);
	return err_trace(r < 0 ? r : advance(c, size));
}

static int copy_memory(struct copy *c)
{
	const struct message_file *file = c->message->file;
	const char *data = c->message->body;

	if (file && file->size != FILE_SIZE_UNKNOWN && file->size != c->size)
		return err_origin(-EBADMSG);
	while (c->done < c->size) {
		size_t n = (size_t)min_u64(c->size - c->done, FILE_BUFFER);
		int r = put_bytes(c, data + c->done, n);

		if (r < 0)
			return err_trace(r);
	}
	return 0;
}

/* Up to size bytes, from where the copy is. 0: there are no more. */
static ssize_t get_bytes(const struct copy *c, uint64_t size)
{
	ssize_t n;

	do
		n = pread(c->in, c->buffer, (size_t)min_u64(size, FILE_BUFFER),
			  (off_t)c->done);
	while (n < 0 && errno == EINTR);
	return n < 0 ? err_origin(-errno) : n;
}

static int copy_by_hand(struct copy *c, uint64_t until)
{
	while (c->done < until) {
		ssize_t n = get_bytes(c, until - c->done);
		int r = n < 0 ? (int)n : put_bytes(c, c->buffer, (size_t)n);

		if (!n)
			return err_origin(-EBADMSG); /* it is shorter than was said */
		if (r < 0)
			return err_trace(r);
	}
	return 0;
}

/* ---- by the kernel ---- */

/* 1: not between these two files, and nothing was done. */
static int copy_by_kernel(struct copy *c, uint64_t until)
{
	while (c->done < until) {
		off_t at = (off_t)c->done;
		ssize_t n = copy_file_range(
			c->in, &at, c->out, NULL,
			(size_t)min_u64(until - c->done, FILE_COPY_MAX), 0);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		/* an old kernel copies nothing of a file that it makes up */
		if (n <= 0)
			return 1;
		r = advance(c, (uint64_t)n);
		if (r < 0)
			return err_trace(r);
	}
	return 0;
}

static int copy_data(struct copy *c, uint64_t until)
{
	int r = 1;

	if (c->by_kernel)
		r = copy_by_kernel(c, until);
	if (r == 1) {
		/* if it is an error that stays, this runs into it too */
		c->by_kernel = false;
		r = copy_by_hand(c, until);
	}
	return err_trace(r);
}

/* ---- holes ---- */

static int digest_hole(struct copy *c, uint64_t until)
{
	memset(c->buffer, 0, FILE_BUFFER);
	while (c->done < until) {
		uint64_t n = min_u64(until - c->done, FILE_BUFFER);
		int r;

		digest_update(c->digest, c->buffer, (size_t)n);
		r = advance(c, n);
		if (r < 0)
			return err_trace(r);
	}
	return 0;
}

static int copy_hole(struct copy *c, uint64_t until)
{
	uint64_t n = until - c->done;

	if (c->out >= 0 && lseek(c->out, (off_t)n, SEEK_CUR) < 0)
		return err_origin(-errno);
	return err_trace(c->digest ? digest_hole(c, until) : advance(c, n));
}

/* Where the hole at, or the data from, this place ends. Without such knowledge all is data:
 * as where lseek(2) would move the offset under somebody else's feet. */
static uint64_t end_of(const struct copy *c, int whence)
{
	off_t end = -1;

	errno = EINVAL;
	if (!message_is_live(c->message))
		end = lseek(c->in, (off_t)c->done, whence);
	if (end < 0)
		return whence == SEEK_DATA && errno != ENXIO ? c->done : c->size;
	return min_u64((uint64_t)end, c->size);
}

static int copy_extents(struct copy *c)
{
	int r = 0;

	while (!r && c->done < c->size) {
		uint64_t data = end_of(c, SEEK_DATA);

		if (data > c->done)
			r = copy_hole(c, data);
		if (!r && c->done < c->size)
			r = copy_data(c, end_of(c, SEEK_HOLE));
	}
	/* a hole at the end is not there yet */
	if (!r && c->out >= 0 && ftruncate(c->out, (off_t)c->size) < 0)
		r = err_origin(-errno);
	return err_trace(r);
}

/* ---- which way ---- */

static int copy_regular(struct copy *c)
{
	off_t offset = lseek(c->in, 0, SEEK_CUR);
	int r;

	if (c->by_kernel && ioctl(c->out, FICLONE, c->in) == 0)
		return err_trace(advance(c, c->size));
	r = copy_extents(c);
	if (offset >= 0 && !message_is_live(c->message))
		(void)lseek(c->in, offset, SEEK_SET);
	return err_trace(r);
}

/* Until there is something, or the end. While there is not it is told that nothing comes:
 * else nobody could give up what is waited for in vain. */
static int wait_for_input(struct copy *c)
{
	struct pollfd p = { .fd = c->in, .events = POLLIN };
	int r = 0;

	while (!r && poll(&p, 1, c->message->progress ? TELL_MS : -1) <= 0)
		r = advance(c, 0);
	return err_trace(r);
}

/* What is live may be of those descriptors that do not wait, or be read by others, too. */
static ssize_t read_waiting(struct copy *c)
{
	for (;;) {
		int r = wait_for_input(c);
		ssize_t n = r < 0 ? r : read(c->in, c->buffer, FILE_BUFFER);

		if (r < 0 || n >= 0)
			return n;
		if (errno != EAGAIN && errno != EINTR)
			return err_origin(-errno);
	}
}

static int copy_to_end(struct copy *c)
{
	int mode = fcntl(c->in, F_GETFL);

	if (mode < 0)
		return err_origin(-errno);
	/* poll(2) waits for ever for input of the end of a pipe that is for writing */
	if ((mode & O_ACCMODE) == O_WRONLY)
		return err_origin(-EBADF);
	for (;;) {
		ssize_t n = read_waiting(c);
		int r = n > 0 ? put_bytes(c, c->buffer, (size_t)n) : (int)n;

		if (n <= 0 || r < 0)
			return err_trace(r);
	}
}

static int copy_fd(struct copy *c)
{
	struct stat st;

	if (fstat(c->in, &st) < 0)
		return err_origin(-errno);
	if (!S_ISREG(st.st_mode) && c->out < 0)
		return err_origin(-EOPNOTSUPP);
	if (!S_ISREG(st.st_mode))
		return err_trace(copy_to_end(c));
	/* what is live is as large as it is */
	if (c->size == FILE_SIZE_UNKNOWN || message_is_live(c->message))
		c->size = (uint64_t)st.st_size;
	if ((uint64_t)st.st_size != c->size)
		return err_origin(-EBADMSG);
	if (c->out < 0 && !c->digest) /* its size is all there is to look at */
		return 0;
	return err_trace(copy_regular(c));
}

static int verify(const struct copy *c)
{
	const struct message_file *file = c->message->file;
	char hex[DIGEST_HEX_MAX + 1];

	for (enum digest_kind kind = 0; c->digest && kind < DIGEST_N; kind++) {
		if (!*file->digests[kind])
			continue;
		digest_final(c->digest, kind, hex);
		if (strcmp(hex, file->digests[kind]) != 0)
			return err_origin(-EBADMSG);
	}
	return 0;
}

static unsigned int digests_of(const struct ipc_message *message)
{
	unsigned int kinds = 0;

	for (enum digest_kind kind = 0; message->file && kind < DIGEST_N; kind++)
		if (*message->file->digests[kind])
			kinds |= 1u << kind;
	return kinds;
}

static int prepare(struct copy *c)
{
	unsigned int kinds = digests_of(c->message);
	int r = kinds ? digest_new(kinds, &c->digest) : 0;

	if (r < 0)
		return err_trace(r);
	c->by_kernel = !kinds && c->out >= 0;
	c->buffer = malloc(FILE_BUFFER);
	return c->buffer ? 0 : err_origin(-ENOMEM);
}

int message_copy(const struct ipc_message *message, int out_fd)
{
	_cleanup_copy_ struct copy c = {
		.message = message,
		.in = message_has_fd(message) ? message->file->fd : -1,
		.out = out_fd,
		.size = ipc_message_get_size(message),
	};
	int r = prepare(&c);

	if (r < 0)
		return err_trace(r);
	if (!message_has_fd(message))
		r = copy_memory(&c);
	else if (c.in < 0)
		r = err_origin(-EBADF);
	else
		r = copy_fd(&c);
	return err_trace(r < 0 ? r : verify(&c));
}

int ipc_message_verify(const struct ipc_message *message)
{
	if (!message_can_be_copied(message))
		return err_origin(-EINVAL);
	return err_trace(message_copy(message, -1));
}
