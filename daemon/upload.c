/* SPDX-License-Identifier: MIT */

#include "upload.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"
#include "wire/stream.h"
#include "write_behind.h"

enum {
	BUFFER_BYTES = 256 * 1024,
	WRITE_BYTES = 128 * 1024,      /* as much as a socket holds, or about that */
	TURN_BYTES = 64 * 1024 * 1024, /* then others have a turn */
	BEHIND_FROM = 4 * 1024 * 1024, /* another thread is worth its start */
	WAIT_MS = 2, /* for more, which saves a way through the loop … */
	WAIT_MAX_NS = 16 * NS_PER_MS, /* … so long in one turn */
};

struct upload *upload_new(struct blobs *blobs, struct user *user,
			  const struct limits *limits, const struct digests *digests)
{
	struct upload *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	filling_init(&u->filling, blobs, user, limits);
	u->job.uid = user->uid;
	u->filling.kinds = digests->wanted | 1u << DIGEST_XXH3;
	u->filling.blob = blob_new(blobs);
	u->socket = -1;
	if (!u->filling.blob)
		return upload_free(u);
	return u;
}

struct upload *upload_free(struct upload *u)
{
	if (u && u->running) {
		u->owner = NULL;
	} else if (u) {
		filling_deinit(&u->filling);
		free(u->buffer);
		free(u);
	}
	return NULL;
}

/* ---- the buffer ---- */

size_t upload_room(const struct upload *u)
{
	return BUFFER_BYTES - u->used;
}

bool upload_is_full(const struct upload *u)
{
	return u->used == BUFFER_BYTES;
}

int upload_add(struct upload *u, const char *data, size_t size)
{
	if (!u->buffer)
		u->buffer = malloc(BUFFER_BYTES);
	if (!u->buffer)
		return err_origin(-ENOMEM);
	memcpy(u->buffer + u->used, data, size);
	u->used += size;
	u->received += size;
	return 0;
}

static bool write_buffer(struct upload *u)
{
	struct filling *f = &u->filling;

	if (f->fd < 0 && !filling_begin(f, f->kinds))
		return false;
	return !u->used || filling_write(f, u->buffer, u->used);
}

/* ---- from the socket ---- */

struct turn {
	struct upload *upload;
	struct write_behind *writer;
	uint64_t waited_ns;
};

/* Into data, of which *size bytes are used. u->end says why there is nothing more. */
static bool read_some(struct upload *u, char *data, size_t *size)
{
	struct iovec iov = { data + *size, (size_t)min_u64(WRITE_BEHIND_BYTES - *size,
							   u->left - u->got) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	do
		n = recvmsg(u->socket, &message, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	u->end = 0;
	if (n < 0)
		u->end = errno == EAGAIN ? STREAM_E_AGAIN : -errno;
	else if (n == 0)
		u->end = STREAM_E_EOF;
	else if (message.msg_flags & MSG_CTRUNC)
		u->end =
			-EPROTO; /* the kernel had no room for descriptors: it closed them */
	if (u->end)
		return false;
	*size += (size_t)n;
	u->got += (uint64_t)n;
	return true;
}

static bool wait_for_more(struct turn *t)
{
	struct pollfd p = { .fd = t->upload->socket, .events = POLLIN };
	uint64_t begun = clock_ns(CLOCK_MONOTONIC);
	bool more;

	write_behind_flush(t->writer);
	more = t->waited_ns < WAIT_MAX_NS && poll(&p, 1, WAIT_MS) == 1;
	t->waited_ns += clock_ns(CLOCK_MONOTONIC) - begun;
	return more;
}

/* While what has come is written the socket fills again: so it is better to write too soon
 * than to sleep for each bit. False: the turn is over. */
static bool read_buffer(struct turn *t)
{
	struct upload *u = t->upload;
	char *data = write_behind_get(t->writer);
	bool more = data != NULL;
	size_t size = 0;

	while (more && size < WRITE_BEHIND_BYTES && u->got < u->left) {
		if (read_some(u, data, &size))
			continue;
		if (u->end == STREAM_E_AGAIN && size >= WRITE_BYTES)
			break;
		more = u->end == STREAM_E_AGAIN && wait_for_more(t);
	}
	if (size && !write_behind_put(t->writer, size))
		return false;
	return more && u->got < u->left && u->got < TURN_BYTES;
}

static void read_socket(struct upload *u)
{
	struct turn turn = { .upload = u };

	if (write_behind_new(&turn.writer, &u->filling, u->left >= BEHIND_FROM) < 0) {
		filling_fail_errno(&u->filling, ENOMEM, "the body cannot be read");
		return;
	}
	while (read_buffer(&turn))
		;
	write_behind_free(turn.writer);
}

/* ---- turns ---- */

static void run(struct job *job)
{
	struct upload *u = CONTAINER_OF(job, struct upload, job);

	if (u->filling.failed || !write_buffer(u))
		return;
	if (u->socket >= 0)
		read_socket(u);
	if (u->finishing && !u->filling.failed)
		filling_end(&u->filling, u->durable);
}

static void on_done(struct job *job)
{
	struct upload *u = CONTAINER_OF(job, struct upload, job);

	u->running = false;
	u->used = 0;
	u->socket = fd_close(u->socket);
	u->received += u->got;
	if (!u->owner) {
		upload_free(u);
		return;
	}
	free(u->buffer);
	u->buffer = NULL;
	u->done(u);
}

static void submit(struct upload *u, struct workers *workers,
		   void (*done)(struct upload *upload), void *owner)
{
	u->running = true;
	u->got = 0;
	u->end = 0;
	u->done = done;
	u->owner = owner;
	u->job.run = run;
	u->job.done = on_done;
	workers_submit(workers, &u->job);
}

void upload_run(struct upload *u, struct workers *workers, int socket, uint64_t left,
		void (*done)(struct upload *upload), void *owner)
{
	/* the connection may be closed meanwhile */
	u->socket = socket < 0 ? -1 : fcntl(socket, F_DUPFD_CLOEXEC, 3);
	u->left = left;
	if (socket >= 0 && u->socket < 0)
		filling_fail_errno(&u->filling, errno, "the body cannot be read");
	submit(u, workers, done, owner);
}

void upload_finish(struct upload *u, struct workers *workers, bool durable,
		   void (*done)(struct upload *upload), void *owner)
{
	u->socket = -1;
	u->finishing = true;
	u->durable = durable;
	submit(u, workers, done, owner);
}
