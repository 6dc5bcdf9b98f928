/* SPDX-License-Identifier: MIT */

/* Start, end and the output half of stream.h: a queue of iovecs towards the kernel. */

#include "wire/stream.h"

#include <assert.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/err.h"

enum {
	CHUNK_MIN = 1000, /* with its head still a block that malloc(3) keeps at hand */
	CHUNK_MAX = 32768,
	COPY_MAX = 4096, /* a copy of this much is cheaper than one more iovec */
	UNREAD_MIN = 64, /* no message counts less in SIOCOUTQ */
	RING_MIN = 4,
	IOV_BATCH = 256,
};

struct fdset *stream_close_fds(const struct stream *s, struct fdset *fds)
{
	if (fds && s->close_fds)
		s->close_fds(s, fds);
	else
		fdset_free(fds);
	return NULL;
}

void stream_init(struct stream *s, int fd, uint64_t body_max)
{
	*s = (struct stream){ .fd = fd, .body_max = body_max };
}

static struct stream_segment *segment_at(struct stream *s, uint32_t i)
{
	return &s->segments[(s->first + i) & (s->capacity - 1)];
}

static void drop_first_segment(struct stream *s)
{
	struct stream_segment *segment = segment_at(s, 0);

	bytes_unref(segment->owner);
	if (segment->fds || segment->file)
		s->n_attached--;
	stream_close_fds(s, segment->fds);
	if (segment->file)
		fd_close(segment->file->fd);
	free(segment->file);
	s->first = (s->first + 1) & (s->capacity - 1);
	s->n_segments--;
}

/* An idle stream keeps no output memory. */
static void drop_output_memory(struct stream *s)
{
	free(s->segments);
	s->segments = NULL;
	s->capacity = s->first = 0;
	s->chunk = bytes_unref(s->chunk);
}

void stream_deinit(struct stream *s)
{
	stream_deinit_input(s);
	while (s->n_segments)
		drop_first_segment(s);
	drop_output_memory(s);
	stream_close_fds(s, s->next_fds);
	fd_close(s->fd);
	*s = (struct stream){ .fd = -1 };
}

static int grow_segments(struct stream *s)
{
	uint32_t capacity = s->capacity ? s->capacity * 2 : RING_MIN;
	struct stream_segment *grown = malloc(capacity * sizeof(*grown));

	if (!grown)
		return err_origin(-ENOMEM);
	for (uint32_t i = 0; i < s->n_segments; i++)
		grown[i] = *segment_at(s, i);
	free(s->segments);
	s->segments = grown;
	s->capacity = capacity;
	s->first = 0;
	return 0;
}

/* Takes the reference to owner, also on failure. */
static int add_segment(struct stream *s, struct bytes *owner, const char *data,
		       size_t size)
{
	int r = s->n_segments == s->capacity ? grow_segments(s) : 0;

	if (r < 0) {
		bytes_unref(owner);
		return err_trace(r);
	}
	s->n_segments++;
	s->n_attached += s->next_fds != NULL;
	*segment_at(s, s->n_segments - 1) = (struct stream_segment){
		.data = data, .size = size, .owner = owner, .fds = TAKE_PTR(s->next_fds)
	};
	s->queued_bytes += size;
	return 0;
}

/* Does the last segment end where the chunk's free room begins? */
static bool can_extend(struct stream *s)
{
	struct stream_segment *last;

	if (!s->n_segments || s->next_fds)
		return false;
	last = segment_at(s, s->n_segments - 1);
	return !last->file && last->owner == s->chunk &&
	       last->data + last->size == s->chunk->data + s->chunk_used;
}

static int new_chunk(struct stream *s, size_t size)
{
	size_t room = s->chunk ? min_size(s->chunk->size * 2, CHUNK_MAX) : CHUNK_MIN;
	struct bytes *chunk = bytes_new(size > room ? size : room);

	if (!chunk)
		return err_origin(-ENOMEM);
	bytes_unref(s->chunk);
	s->chunk = chunk;
	s->chunk_used = 0;
	return 0;
}

int stream_put(struct stream *s, const void *data, size_t size)
{
	int r;

	if (!size)
		return 0;
	if (!s->chunk || s->chunk->size - s->chunk_used < size) {
		r = new_chunk(s, size);
		if (r < 0)
			return err_trace(r);
	}
	memcpy(s->chunk->data + s->chunk_used, data, size);
	if (can_extend(s)) {
		segment_at(s, s->n_segments - 1)->size += size;
		s->queued_bytes += size;
	} else {
		r = add_segment(s, bytes_ref(s->chunk), s->chunk->data + s->chunk_used,
				size);
		if (r < 0)
			return err_trace(r);
	}
	s->chunk_used += size;
	return 0;
}

int stream_put_own_bytes(struct stream *s, struct bytes *b, size_t offset, size_t size)
{
	if (size <= COPY_MAX)
		return err_trace(stream_put(s, b->data + offset, size));
	return err_trace(add_segment(s, bytes_ref(b), b->data + offset, size));
}

int stream_put_bytes(struct stream *s, struct bytes *b, size_t offset, size_t size)
{
	int r = stream_put_own_bytes(s, b, offset, size);

	if (r == 0 && size > COPY_MAX) {
		segment_at(s, s->n_segments - 1)->shared = true;
		s->shared_bytes += size;
	}
	return err_trace(r);
}

int stream_put_header(struct stream *s, const char *header, size_t size)
{
	char length[4];
	int r;

	frame_encode_length(length, size);
	r = stream_put(s, length, sizeof(length));
	return err_trace(r < 0 ? r : stream_put(s, header, size));
}

void stream_put_fds_take(struct stream *s, struct fdset *fds)
{
	assert(!fds || fds->n <= LIMIT_FDS_MAX);
	stream_close_fds(s, s->next_fds);
	s->next_fds = fds;
}

static struct stream_file *new_file(int fd, off_t offset)
{
	struct stream_file *file = malloc(sizeof(*file));

	if (file)
		*file = (struct stream_file){ fd, offset };
	else
		fd_close(fd);
	return file;
}

int stream_put_file_take(struct stream *s, int fd, off_t offset, uint64_t size)
{
	struct stream_file *file = new_file(fd, offset);
	int r;

	assert(!s->next_fds); /* they belong to a frame's first byte */
	if (!file)
		return err_origin(-ENOMEM);
	r = add_segment(s, NULL, NULL, size);
	if (r < 0) {
		fd_close(fd);
		free(file);
		return err_trace(r);
	}
	segment_at(s, s->n_segments - 1)->file = file;
	s->n_attached++;
	s->file_bytes += size;
	return 0;
}

void stream_file_peek(const struct stream *s, struct stream_file *ret_file,
		      uint64_t *ret_size)
{
	const struct stream_segment *segment = &s->segments[s->first];

	*ret_file = *segment->file;
	*ret_size = segment->size;
}

void stream_file_sent(struct stream *s, uint64_t size)
{
	struct stream_segment *segment = segment_at(s, 0);

	s->sent_bytes += size;
	s->file_bytes -= size;
	segment->file->offset += (off_t)size;
	segment->size -= size;
	if (!segment->size)
		drop_first_segment(s);
}

static void consume_output(struct stream *s, size_t n)
{
	s->sent_bytes += n;
	while (n) {
		struct stream_segment *segment = segment_at(s, 0);

		/* fds went with the first byte, unix(7) */
		if (segment->fds) {
			segment->fds = stream_close_fds(s, segment->fds);
			s->n_attached--;
		}
		if (segment->shared)
			s->shared_bytes -= min_size(n, segment->size);
		if (n < segment->size) {
			segment->data += n;
			segment->size -= n;
			return;
		}
		n -= segment->size;
		drop_first_segment(s);
	}
}

/* One batch of descriptors at a time waits in the receiver's socket: so a slow receiver
 * does not use up what its sender may have in flight (ETOOMANYREFS, unix(7)).
 *
 * For a moment after the last event that there is room, SIOCOUTQ still counts a byte for
 * each thread that reads: sock_wfree() in the kernel tells us first, and ends then. */
static bool may_send_fds(struct stream *s)
{
	int unread = 0;

	if (s->fds_in_kernel && ioctl(s->fd, SIOCOUTQ, &unread) == 0 &&
	    unread >= UNREAD_MIN)
		return false;
	s->fds_in_kernel = false;
	return true;
}

static void attach_fds(struct msghdr *message, const struct fdset *fds)
{
	struct cmsghdr *c = message->msg_control;

	message->msg_controllen = CMSG_SPACE(fds->n * sizeof(int));
	memset(c, 0, message->msg_controllen); /* there are gaps in it */
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(fds->n * sizeof(int));
	memcpy(CMSG_DATA(c), fds->fds, fds->n * sizeof(int));
}

/* send(2) has less to copy and to check, which is some per cent of a small message. */
static ssize_t send_message(int fd, const struct msghdr *message, int flags)
{
	if (message->msg_iovlen > 1 || message->msg_controllen)
		return sendmsg(fd, message, flags);
	return send(fd, message->msg_iov->iov_base, message->msg_iov->iov_len, flags);
}

static int flush_once(struct stream *s, int flags)
{
	union {
		char space[CMSG_SPACE(LIMIT_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov[IOV_BATCH];
	struct msghdr message = { .msg_iov = iov };
	ssize_t sent;

	if (segment_at(s, 0)->file)
		return STREAM_E_FILE;
	if (segment_at(s, 0)->fds) {
		if (!may_send_fds(s))
			return STREAM_E_AGAIN;
		message.msg_control = control.space;
		attach_fds(&message, segment_at(s, 0)->fds);
	}
	for (uint32_t i = 0; i < s->n_segments && i < IOV_BATCH; i++) {
		struct stream_segment *segment = segment_at(s, i);

		if (segment->file || (i && segment->fds))
			break;
		iov[message.msg_iovlen++] =
			(struct iovec){ (void *)(uintptr_t)segment->data, segment->size };
	}
	do
		sent = send_message(s->fd, &message, flags | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR && (flags & MSG_DONTWAIT));
	if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return STREAM_E_AGAIN;
	if (sent < 0)
		return err_origin(-errno);
	if (message.msg_controllen)
		s->fds_in_kernel = true;
	consume_output(s, (size_t)sent);
	return 0;
}

int stream_flush(struct stream *s, int flags)
{
	int r;

	while (s->n_segments) {
		r = flush_once(s, flags);
		if (r)
			return r < 0 ? err_trace(r) : r;
	}
	drop_output_memory(s);
	return 0;
}
