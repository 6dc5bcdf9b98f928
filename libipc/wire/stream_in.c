/* SPDX-License-Identifier: MIT */

/* The input half of stream.h: bytes and descriptors in, frames out. */

#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/err.h"
#include "wire/stream.h"

enum { SCM_FDS_MAX = 253 /* unix(7): the kernel passes no more in one message */ };

/* ---- the reader ---- */

int reader_new(struct reader **ret_reader)
{
	struct reader *r = malloc(sizeof(*r));
	int result;

	if (!r)
		return err_origin(-ENOMEM);
	r->data = r->scratch;
	r->size = 0;
	r->held = NULL;
	result = json_new(&r->json, LIMIT_HEADER_MAX, false);
	if (result < 0) {
		free(r);
		return err_trace(result);
	}
	*ret_reader = r;
	return 0;
}

struct reader *reader_free(struct reader *r)
{
	if (r) {
		json_free(r->json);
		free(r->held);
		free(r);
	}
	return NULL;
}

static void reader_clear(struct reader *r)
{
	free(r->held);
	r->held = NULL;
	r->data = r->scratch;
	r->size = 0;
}

/* ---- input: bytes ---- */

static int add_batch(struct stream *s, const int *fds, unsigned int n, bool truncated)
{
	struct stream_batch *grown =
		realloc(s->batches, (s->n_batches + 1) * sizeof(*s->batches));
	struct fdset *set;

	if (grown)
		s->batches = grown;
	set = grown ? fdset_new(fds, n) : NULL;
	if (!set) {
		for (unsigned int i = 0; i < n; i++)
			fd_close(fds[i]);
		return err_origin(-ENOMEM);
	}
	if (n > LIMIT_FDS_MAX) /* no frame has so many: they do not wait for its end */
		set = stream_close_fds(s, set);
	s->batches[s->n_batches++] = (struct stream_batch){ set, truncated || !set };
	return 0;
}

static int take_control(struct stream *s, struct msghdr *message)
{
	int fds[SCM_FDS_MAX];
	unsigned int n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			n = (unsigned int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			memcpy(fds, CMSG_DATA(c), n * sizeof(int));
		}
	}
	if (!n && !(message->msg_flags & MSG_CTRUNC))
		return 0; /* control data that is not ours */
	return err_trace(add_batch(s, fds, n, message->msg_flags & MSG_CTRUNC));
}

/* How many bytes of the frame under way are missing in partial for its next stage. */
static size_t partial_want(const struct stream *s)
{
	size_t whole = 4;

	if (s->header_size)
		whole += s->header_size;
	if (s->body_known)
		whole += (size_t)s->body_size;
	return whole - s->partial_size;
}

static int reserve_partial(struct stream *s, size_t n)
{
	size_t need = s->partial_size + n;
	char *grown;

	if (need <= s->partial_capacity)
		return 0;
	grown = realloc(s->partial, need);
	if (!grown)
		return err_origin(-ENOMEM);
	s->partial = grown;
	s->partial_capacity = (uint32_t)need;
	return 0;
}

int stream_read(struct stream *s, struct reader *r, int flags, bool *ret_drained)
{
	union {
		char space[CMSG_SPACE(SCM_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov[2];
	struct msghdr message = { .msg_iov = iov,
				  .msg_control = control.space,
				  .msg_controllen = sizeof(control.space) };
	size_t direct = 0, n;
	ssize_t got;
	bool has_fds;
	int result;

	assert(!s->held);
	reader_clear(r); /* of what a stream left that was ended by an error */
	if (s->body) {
		direct = (size_t)(s->body_size - s->body_have);
		iov[message.msg_iovlen++] =
			(struct iovec){ s->body->data + s->body_have, direct };
	}
	iov[message.msg_iovlen++] = (struct iovec){ r->scratch, sizeof(r->scratch) };

	do
		got = recvmsg(s->fd, &message, flags | MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR && (flags & MSG_DONTWAIT));
	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return STREAM_E_AGAIN;
	if (got < 0)
		return err_origin(-errno);
	if (got == 0) {
		s->eof = true;
		return STREAM_E_EOF;
	}
	has_fds = message.msg_controllen || (message.msg_flags & MSG_CTRUNC);
	result = has_fds ? take_control(s, &message) : 0;
	if (result < 0)
		return err_trace(result);

	n = (size_t)got;
	/* a short read means an empty socket, unless it stopped behind file descriptors */
	*ret_drained = n < direct + sizeof(r->scratch) && !has_fds;
	if (direct) {
		size_t into_body = min_size(n, direct);

		s->body_have += into_body;
		n -= into_body;
	}
	r->data = r->scratch;
	r->size = n;
	return 0;
}

static int hold_copy(struct stream *s, const struct reader *r)
{
	s->held = malloc(r->size);
	if (!s->held)
		return err_origin(-ENOMEM);
	memcpy(s->held, r->data, r->size);
	s->held_offset = 0;
	s->held_size = r->size;
	return 0;
}

int stream_hold(struct stream *s, struct reader *r)
{
	int result = 0;

	if (r->size && r->held) { /* it was held before: it stays where it is */
		s->held_offset = (size_t)(r->data - r->held);
		s->held_size = r->size;
		s->held = TAKE_PTR(r->held);
	} else if (r->size) {
		result = hold_copy(s, r);
	}
	reader_clear(r);
	return err_trace(result);
}

void stream_resume(struct stream *s, struct reader *r)
{
	assert(s->held);
	reader_clear(r);
	r->held = TAKE_PTR(s->held);
	r->data = r->held + s->held_offset;
	r->size = s->held_size;
	s->held_size = 0;
}

/* ---- input: frames ---- */

static int bad_length(uint32_t length, const char *bytes, struct fault *fault)
{
	char text[5] = "????";

	for (int i = 0; i < 4; i++)
		if (bytes[i] >= 0x20 && bytes[i] < 0x7f)
			text[i] = bytes[i];
	fault_set(fault, FAULT_BAD_FRAME,
		  "a frame begins with the length of its header, %d to %d, as 4 bytes "
		  "little-endian; got %u (\"%s\")",
		  LIMIT_HEADER_MIN, LIMIT_HEADER_MAX, length, text);
	return err_origin(-EBADMSG);
}

static int decode_length(const char *bytes, uint32_t *ret_length, struct fault *fault)
{
	const unsigned char *b = (const unsigned char *)bytes;
	uint32_t length = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
			  (uint32_t)b[3] << 24;

	if (length < LIMIT_HEADER_MIN || length > LIMIT_HEADER_MAX)
		return bad_length(length, bytes, fault);
	*ret_length = length;
	return 0;
}

/* Parses a complete header and gives the size of the body behind it. */
static int parse_header(struct reader *r, const char *text, uint32_t size,
			uint64_t *ret_body_size, struct fault *fault)
{
	uint64_t body_size = 0;
	int result = header_parse(&r->header, r->json, text, size);

	if (result == -EBADMSG) {
		fault_set(fault, FAULT_BAD_JSON,
			  "the header is no strict JSON object: %s", json_error(r->json));
		return err_trace(result);
	}
	if (result < 0)
		return err_trace(result);
	/* without the size it is not known where the next frame begins */
	if (header_get_u64(&r->header, KEY_SIZE, 0, INT64_MAX, &body_size, fault) < 0)
		return err_origin(-EBADMSG);
	*ret_body_size = body_size;
	return 0;
}

/* `fds` is a count in every frame but hello, where it is true or false. */
static int claim_fds(struct stream *s, const struct header *header,
		     struct fdset **ret_fds, bool *ret_lost, struct fault *fault)
{
	const struct json_value *v;
	struct stream_batch batch;

	if (!header_has(header, KEY_FDS))
		return 0;
	v = json_at(header->json, header->at[KEY_FDS]);
	if (v->type != JSON_INTEGER || v->integer == 0)
		return 0;
	if (!s->n_batches) {
		fault_set(fault, FAULT_BAD_FRAME,
			  "the header says \"fds\" but no file descriptors came with it");
		return err_origin(-EPROTO);
	}
	batch = s->batches[0];
	s->n_batches--;
	memmove(s->batches, s->batches + 1, s->n_batches * sizeof(*s->batches));
	*ret_lost = batch.lost || v->integer != (int64_t)batch.fds->n ||
		    batch.fds->n > LIMIT_FDS_MAX;
	*ret_fds = *ret_lost ? stream_close_fds(s, batch.fds) : batch.fds;
	return 0;
}

/* Between frames no batch may be left; one may be waiting for the header under way. */
static int check_batches(const struct stream *s, struct fault *fault)
{
	bool header_under_way = s->partial_size && !s->body_known;

	if (s->n_batches <= (header_under_way ? 1u : 0u))
		return 0;
	fault_set(fault, FAULT_BAD_FRAME,
		  "file descriptors came with a frame that does not say \"fds\"");
	return err_origin(-EPROTO);
}

int stream_parse_header(struct reader *r, struct frame *frame, struct fault *fault)
{
	uint64_t body_size;
	int result = parse_header(r, frame->header_text, (uint32_t)frame->header_size,
				  &body_size, fault);

	frame->header = &r->header;
	return err_trace(result);
}

/* A frame that lies whole in the reader. */
static int next_in_place(struct stream *s, struct reader *r, struct frame *frame,
			 struct fault *fault)
{
	struct plain plain = { .kind = PLAIN_NONE };
	uint32_t header_size;
	uint64_t body_size;
	int result;

	if (r->size < 4)
		return 0;
	result = decode_length(r->data, &header_size, fault);
	if (result < 0)
		return err_trace(result);
	if (r->size < 4 + (size_t)header_size)
		return 0;
	if (s->scans)
		plain = plain_scan(r->data + 4, header_size);
	body_size = plain.size;
	if (!plain.kind)
		result = parse_header(r, r->data + 4, header_size, &body_size, fault);
	if (result < 0)
		return err_trace(result);
	if (body_size > r->size - 4 - header_size)
		return 0;
	*frame = (struct frame){
		.header = plain.kind ? NULL : &r->header,
		.plain = plain,
		.header_text = r->data + 4,
		.header_size = header_size,
		.body = body_size ? r->data + 4 + header_size : NULL,
		.body_size = (size_t)body_size,
	};
	r->data += 4 + header_size + body_size;
	r->size -= 4 + header_size + body_size;
	if (body_size > s->body_max)
		frame->body = NULL;
	if (frame->header)
		result = claim_fds(s, &r->header, &s->frame_fds, &frame->fds_lost, fault);
	frame->fds = s->frame_fds;
	return result < 0 ? err_trace(result) : STREAM_E_FRAME;
}

int stream_decide_body(struct stream *s, enum stream_body what)
{
	uint64_t body_size = s->body_size;

	s->undecided = s->lent = false;
	if (what == STREAM_BODY_LEND) {
		s->lent = true;
	} else if (what == STREAM_BODY_SKIP || body_size > s->body_max) {
		s->skipping = true;
	} else if (body_size >= STREAM_BODY_DIRECT) {
		s->body = bytes_new((size_t)body_size);
		if (!s->body)
			return err_origin(-ENOMEM);
	}
	return 0;
}

static int begin_body(struct stream *s, uint64_t body_size)
{
	s->body_known = true;
	s->body_size = body_size;
	s->body_have = 0;
	s->undecided = s->lend_from && body_size > s->lend_from;
	return s->undecided ? 0 : err_trace(stream_decide_body(s, STREAM_BODY_KEEP));
}

/* Copies from the reader what partial wants to reach its next stage, or what there is. */
static int fill_partial(struct stream *s, struct reader *r, size_t want)
{
	size_t n = min_size(want, r->size);
	int result = reserve_partial(s, min_size(want, r->size + 64));

	if (result < 0)
		return err_trace(result);
	if (n)
		memcpy(s->partial + s->partial_size, r->data, n);
	s->partial_size += (uint32_t)n;
	r->data += n;
	r->size -= n;
	return 0;
}

static void fill_body(struct stream *s, struct reader *r)
{
	size_t n = (size_t)min_u64(s->body_size - s->body_have, r->size);

	if (s->body)
		memcpy(s->body->data + s->body_have, r->data, n);
	s->body_have += n;
	r->data += n;
	r->size -= n;
}

/* The frame collected in partial, parsing its header once more: the parser may have served
 * others since. */
static int show_partial(struct stream *s, struct reader *r, struct frame *frame,
			struct fault *fault)
{
	uint64_t body_size;
	int result = parse_header(r, s->partial + 4, s->header_size, &body_size, fault);

	*frame = (struct frame){
		.header = &r->header,
		.header_text = s->partial + 4,
		.header_size = s->header_size,
		.body_size = (size_t)body_size,
		.body_block = s->body,
		.lent = s->lent,
	};
	return err_trace(result);
}

static int announce_body(struct stream *s, struct reader *r, struct frame *frame,
			 struct fault *fault)
{
	int result = show_partial(s, r, frame, fault);

	frame->fds = s->claimed_fds;
	frame->fds_lost = s->claimed_lost;
	return result < 0 ? err_trace(result) : STREAM_E_BODY;
}

/* Hands it out, with its body. */
static int finish_partial(struct stream *s, struct reader *r, struct frame *frame,
			  struct fault *fault)
{
	int result = show_partial(s, r, frame, fault);

	if (result < 0)
		return err_trace(result);
	if (frame->body_size && !s->body && !s->skipping && !s->lent)
		frame->body = s->partial + 4 + s->header_size;
	s->frame_body = TAKE_PTR(s->body);
	s->frame_fds = frame->fds = TAKE_PTR(s->claimed_fds);
	frame->fds_lost = s->claimed_lost;
	s->claimed_lost = false;
	s->header_size = 0;
	s->partial_size = 0; /* its memory stays until the next call */
	s->body_known = s->skipping = s->lent = false;
	return STREAM_E_FRAME;
}

/* The frame under way, one stage after the other. */
static int next_partial(struct stream *s, struct reader *r, struct frame *frame,
			struct fault *fault)
{
	uint64_t body_size;
	int result;

	for (;;) {
		if (s->undecided)
			return announce_body(s, r, frame, fault);
		if (s->lent)
			return s->body_have < s->body_size
				       ? 0
				       : finish_partial(s, r, frame, fault);
		if (s->body || s->skipping) {
			fill_body(s, r);
			if (s->body_have < s->body_size)
				return 0;
			return finish_partial(s, r, frame, fault);
		}
		result = fill_partial(s, r, partial_want(s));
		if (result < 0)
			return err_trace(result);
		if (partial_want(s))
			return 0;
		if (s->body_known)
			return finish_partial(s, r, frame, fault);
		if (!s->header_size) {
			result = decode_length(s->partial, &s->header_size, fault);
			if (result < 0)
				return err_trace(result);
			continue;
		}
		result = parse_header(r, s->partial + 4, s->header_size, &body_size,
				      fault);
		if (!result)
			result = claim_fds(s, &r->header, &s->claimed_fds,
					   &s->claimed_lost, fault);
		if (!result)
			result = begin_body(s, body_size);
		if (result < 0)
			return err_trace(result);
	}
}

static void drop_frame(struct stream *s)
{
	s->frame_body = bytes_unref(s->frame_body);
	s->frame_fds = stream_close_fds(s, s->frame_fds);
}

int stream_next(struct stream *s, struct reader *r, struct frame *ret_frame,
		struct fault *fault)
{
	int result = 0;

	drop_frame(s);
	if (!s->partial_size) {
		free(s->partial);
		s->partial = NULL;
		s->partial_capacity = 0;
		result = next_in_place(s, r, ret_frame, fault);
	}
	if (!result && (r->size || s->body_known))
		result = next_partial(s, r, ret_frame, fault);
	if (result > 0)
		return result;
	if (!result && s->lent)
		return 0; /* what the reader has is the caller's */
	reader_clear(r);
	return err_trace(result < 0 ? result : check_batches(s, fault));
}

size_t stream_take_lent(struct stream *s, struct reader *r, size_t max,
			const char **ret_data)
{
	size_t n = (size_t)min_u64(stream_lent_left(s), min_size(r->size, max));

	*ret_data = r->data;
	r->data += n;
	r->size -= n;
	s->body_have += n;
	return n;
}

void stream_add_lent(struct stream *s, uint64_t size)
{
	assert(size <= stream_lent_left(s));
	s->body_have += size;
}

static void unread_fds(struct stream *s, const struct frame *frame)
{
	struct stream_batch batch = { TAKE_PTR(s->frame_fds), frame->fds_lost };

	if (!batch.fds && !frame->fds_lost)
		return;
	/* the place it was taken from is still there */
	memmove(s->batches + 1, s->batches, s->n_batches * sizeof(*s->batches));
	s->batches[0] = batch;
	s->n_batches++;
}

static void unread_partial(struct stream *s, const struct frame *frame)
{
	bool in_partial = frame->body != NULL;

	s->header_size = (uint32_t)frame->header_size;
	s->partial_size = 4 + s->header_size;
	if (in_partial)
		s->partial_size += (uint32_t)frame->body_size;
	s->body_known = true;
	s->body_size = s->body_have = frame->body_size;
	s->body = TAKE_PTR(s->frame_body);
	s->lent = frame->lent;
	s->skipping = frame->body_size && !in_partial && !s->body && !s->lent;
	s->claimed_fds = TAKE_PTR(s->frame_fds);
	s->claimed_lost = frame->fds_lost;
}

void stream_unread(struct stream *s, struct reader *r, const struct frame *frame)
{
	if (s->partial && frame->header_text == s->partial + 4) {
		unread_partial(s, frame);
		return;
	}
	unread_fds(s, frame);
	r->data = frame->header_text - 4;
	r->size += 4 + frame->header_size + frame->body_size;
}

unsigned int stream_n_unfinished_fds(const struct stream *s)
{
	unsigned int n = s->claimed_fds ? s->claimed_fds->n : 0;

	for (unsigned int i = 0; i < s->n_batches; i++)
		n += s->batches[i].fds ? s->batches[i].fds->n : 0;
	return n;
}

struct bytes *stream_steal_body(struct stream *s)
{
	return TAKE_PTR(s->frame_body);
}

struct fdset *stream_steal_fds(struct stream *s)
{
	return TAKE_PTR(s->frame_fds);
}

void stream_deinit_input(struct stream *s)
{
	drop_frame(s);
	for (unsigned int i = 0; i < s->n_batches; i++)
		stream_close_fds(s, s->batches[i].fds);
	free(s->batches);
	free(s->held);
	free(s->partial);
	bytes_unref(s->body);
	stream_close_fds(s, s->claimed_fds);
}
