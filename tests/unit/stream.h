/* SPDX-License-Identifier: MIT */
#ifndef UNIT_STREAM_H
#define UNIT_STREAM_H

/*
 * A stream under test on one end of a socketpair; the test holds the other end (`far`).
 * stream_open() and stream_close() are a test's setup and teardown: the latter checks that
 * no descriptor was leaked.
 */

#include "unit/base.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "wire/stream.h"

enum { BODY_MAX = 200000 };

static struct stream stream;
static struct reader *reader;
static struct fault fault;
static int far, n_fds_before;

static UNUSED int stream_connect(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	far = pair[1];
	stream_init(&stream, pair[0], BODY_MAX);
	return 0;
}

static UNUSED int stream_open(void **state)
{
	n_fds_before = count_fds();
	return stream_connect() || reader_new(&reader);
}

static UNUSED void close_far(void)
{
	far = fd_close(far);
}

static UNUSED int stream_close(void **state)
{
	stream_deinit(&stream);
	reader = reader_free(reader);
	close_far();
	return count_fds() == n_fds_before ? 0 : -1;
}

/* Ends the stream and begins another one with the same reader. */
static UNUSED void stream_anew(void)
{
	stream_deinit(&stream);
	close_far();
	assert_int_equal(count_fds(), n_fds_before);
	assert_int_equal(stream_connect(), 0);
}

/* ---- frames, as bytes ---- */

static UNUSED void put_raw_frame(struct buf *b, const char *header, size_t header_size,
				 const void *body, size_t body_size)
{
	char length[4];

	frame_encode_length(length, header_size);
	assert_int_equal(buf_append(b, length, 4), 0);
	assert_int_equal(buf_append(b, header, header_size), 0);
	assert_int_equal(buf_append(b, body, body_size), 0);
}

static UNUSED void put_frame(struct buf *b, const char *header)
{
	put_raw_frame(b, header, strlen(header), NULL, 0);
}

/* The byte at place i of body number id. */
static UNUSED char body_byte(unsigned int id, size_t i)
{
	return (char)(i * 7 + (i >> 8) + id);
}

static UNUSED void put_body_frame(struct buf *b, unsigned int id, size_t size)
{
	char header[64];
	char *body = malloc(size + 1);

	for (size_t i = 0; i < size; i++)
		body[i] = body_byte(id, i);
	snprintf(header, sizeof(header), "{\"id\":%u,\"size\":%zu}", id, size);
	put_raw_frame(b, header, strlen(header), body, size);
	free(body);
}

/* Six frames: five with bodies of these sizes, one without. */
static const size_t mixed_sizes[] = { 0, 1, 2, 100, 5000 };

static UNUSED void put_mixed_frames(struct buf *b)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(mixed_sizes); i++)
		put_body_frame(b, i, mixed_sizes[i]);
	put_frame(b, "{\"id\":5,\"meta\":{\"\\u0061\":[1,2,3]},\"size\":0}");
}

/* ---- the far end ---- */

static UNUSED void far_write(const void *data, size_t size)
{
	assert_int_equal(send(far, data, size, MSG_NOSIGNAL), size);
}

/* One sendmsg with n copies of fd, which make one batch. */
static UNUSED void far_write_fds(const void *data, size_t size, int fd, unsigned int n)
{
	union {
		char space[CMSG_SPACE(253 * sizeof(int))];
		struct cmsghdr align;
	} control = { .space = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)data, size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n) {
		message.msg_control = control.space;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(n * sizeof(int));
		for (unsigned int i = 0; i < n; i++)
			memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &fd,
			       sizeof(fd));
	}
	assert_int_equal(sendmsg(far, &message, MSG_NOSIGNAL), size);
}

/* ---- the stream ---- */

static UNUSED int read_some(void)
{
	bool drained;

	return stream_read(&stream, reader, MSG_DONTWAIT, &drained);
}

static UNUSED int next(struct frame *ret_frame)
{
	return stream_next(&stream, reader, ret_frame, &fault);
}

/* The frame's id, or 0. */
static UNUSED uint64_t frame_id(const struct frame *frame)
{
	uint64_t id = 0;

	assert_true(header_get_u64(frame->header, KEY_ID, 0, INT64_MAX, &id, &fault) >=
		    0);
	return id;
}

static UNUSED void check_body(const struct frame *frame, unsigned int id, size_t size)
{
	const char *body = frame->body_block ? frame->body_block->data : frame->body;

	assert_int_equal(frame->body_size, size);
	if (frame->body_block)
		assert_int_equal(frame->body_block->size, size);
	for (size_t i = 0; i < size; i++)
		if (body[i] != body_byte(id, i))
			fail_msg("body %u differs at %zu", id, i);
}

static UNUSED void check_mixed_frame(const struct frame *frame, unsigned int id)
{
	assert_int_equal(frame_id(frame), id);
	check_body(frame, id, id < ARRAY_SIZE(mixed_sizes) ? mixed_sizes[id] : 0);
	assert_null(frame->fds);
	assert_false(frame->fds_lost);
}

/* Reads until the next frame; it must come. */
static UNUSED void expect_frame(struct frame *ret_frame)
{
	int r;

	while (!(r = next(ret_frame)))
		assert_int_equal(read_some(), 0);
	if (r != STREAM_E_FRAME)
		fail_msg("%d: %s", r, fault.text);
}

static UNUSED void expect_id(uint64_t id)
{
	struct frame frame;

	expect_frame(&frame);
	assert_int_equal(frame_id(&frame), id);
}

/* Nothing more is there, and nothing is unfinished. */
static UNUSED void expect_idle(void)
{
	struct frame frame;
	bool in_body;

	assert_int_equal(next(&frame), 0);
	assert_int_equal(read_some(), STREAM_E_AGAIN);
	assert_false(stream_is_partial(&stream, &in_body));
	assert_null(stream.partial);
}

/* Reads until the stream refuses to go on. */
static UNUSED void expect_end(int error, enum fault_word word, const char *why)
{
	struct frame frame;
	int r;

	fault.text[0] = '\0';
	while (!(r = next(&frame)))
		assert_int_equal(read_some(), 0);
	assert_int_equal(r, error);
	assert_int_equal(fault.word, word);
	if (!strstr(fault.text, why))
		fail_msg("%s, expected: %s", fault.text, why);
}

#endif
