/* SPDX-License-Identifier: MIT */

/*
 * Any bytes into a stream, over a socketpair, cut into writes where the input says:
 *
 *	input = mode { size flags byte{size} }
 *
 * mode chooses body_max. Each write carries as many descriptors as its flags say; other
 * flags put the stream's input aside, or a frame back. Without descriptors the same bytes
 * in one piece must give the same frames. No descriptor may be left open.
 */

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hash.h"
#include "wire/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                        \
		}                                                                       \
	} while (0)

enum {
	FLAG_FDS = 0x1f,
	FLAG_HOLD = 0x20,
	FLAG_UNREAD = 0x40,
	FLAG_LAZY = 0x80, /* the other end reads only after a later write */
	INPUT_MAX = 60000,
};

struct run {
	struct stream stream;
	struct reader *reader;
	int far;
	int result;	 /* of the stream: 0 as long as it lives */
	uint64_t digest; /* of all frames */
};

/* ---- frames ---- */

static void digest(struct run *run, const void *data, size_t size)
{
	const struct hash_key key = { run->digest, size };

	run->digest = hash_bytes(&key, data, size);
}

static void check_frame(struct run *run, const struct frame *frame)
{
	const char *body = frame->body_block ? frame->body_block->data : frame->body;
	bool skipped = frame->body_size > run->stream.body_max;

	CHECK(frame->header_size >= LIMIT_HEADER_MIN);
	CHECK(!frame->body || !frame->body_block);
	CHECK((body != NULL) == (frame->body_size && !skipped));
	CHECK(!frame->body_block || frame->body_block->size == frame->body_size);
	CHECK(!frame->fds ||
	      (!frame->fds_lost && frame->fds->n >= 1 && frame->fds->n <= LIMIT_FDS_MAX));
	digest(run, frame->header_text, frame->header_size);
	digest(run, &frame->body_size, sizeof(frame->body_size));
	if (body)
		digest(run, body, frame->body_size);
}

static void put_aside(struct run *run)
{
	CHECK(stream_hold(&run->stream, run->reader) == 0);
	memset(run->reader->scratch, '#', sizeof(run->reader->scratch));
	if (stream_is_held(&run->stream))
		stream_resume(&run->stream, run->reader);
}

static void put_back(struct run *run, struct frame *frame, struct fault *fault)
{
	struct frame before = *frame;

	stream_unread(&run->stream, run->reader, frame);
	put_aside(run);
	CHECK(stream_next(&run->stream, run->reader, frame, fault) == STREAM_E_FRAME);
	CHECK(frame->header_size == before.header_size);
	CHECK(frame->body_size == before.body_size);
	CHECK(frame->fds == before.fds && frame->fds_lost == before.fds_lost);
}

/* All frames that can be had. */
static void take_frames(struct run *run, uint8_t flags)
{
	struct fault fault = { 0 };
	struct frame frame;
	bool drained;
	int r = 0;

	while (!run->result &&
	       stream_read(&run->stream, run->reader, MSG_DONTWAIT, &drained) == 0) {
		for (;;) {
			r = stream_next(&run->stream, run->reader, &frame, &fault);
			if (r != STREAM_E_FRAME)
				break;
			if (flags & FLAG_UNREAD)
				put_back(run, &frame, &fault);
			check_frame(run, &frame);
			if (flags & FLAG_HOLD)
				put_aside(run);
		}
		CHECK(r == 0 || r == -EBADMSG || r == -EPROTO);
		CHECK(r == 0 || *fault.text);
		run->result = r;
	}
}

/* ---- one run ---- */

static void begin(struct run *run, uint8_t mode)
{
	static const uint64_t body_max[] = { 1 << 20, 40000, 100, 0 };
	int pair[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	*run = (struct run){ .far = pair[1] };
	stream_init(&run->stream, pair[0], body_max[mode % 4]);
}

static void end(struct run *run)
{
	stream_deinit(&run->stream);
	close(run->far);
}

static void write_with_fds(int far, const uint8_t *data, size_t size, unsigned int n)
{
	union {
		char space[CMSG_SPACE(FLAG_FDS * sizeof(int))];
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
			memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &far,
			       sizeof(far));
	}
	CHECK(sendmsg(far, &message, MSG_NOSIGNAL) == (ssize_t)size);
}

/* The script; *ret_all gets its bytes. Returns how many descriptors were sent. */
static unsigned int run_script(struct run *run, const uint8_t *data, size_t size,
			       struct buf *ret_all)
{
	unsigned int n_fds = 0;

	while (size > 2 && !run->result) {
		size_t n = min_size(data[0], size - 2);
		uint8_t flags = data[1];

		if (n) {
			write_with_fds(run->far, data + 2, n, flags & FLAG_FDS);
			n_fds += flags & FLAG_FDS;
			CHECK(buf_append(ret_all, data + 2, n) == 0);
			if (!(flags & FLAG_LAZY))
				take_frames(run, flags);
		}
		data += 2 + n;
		size -= 2 + n;
	}
	take_frames(run, 0);
	return n_fds;
}

/* One whole piece, read by a reader that never saw anything else. */
static void check_in_one_piece(const struct run *run, uint8_t mode, const struct buf *all)
{
	struct run whole;

	begin(&whole, mode);
	CHECK(reader_new(&whole.reader) == 0);
	if (all->size)
		write_with_fds(whole.far, (const uint8_t *)all->data, all->size, 0);
	take_frames(&whole, 0);
	CHECK(whole.result == run->result);
	CHECK(whole.digest == run->digest);
	end(&whole);
	reader_free(whole.reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct reader *reader;
	_cleanup_buf_ struct buf all = BUF_INIT;
	int free_fd = dup(2);
	struct run run;
	unsigned int n_fds;

	CHECK(free_fd >= 0);
	close(free_fd);
	if (!reader)
		CHECK(reader_new(&reader) == 0);
	if (!size || size > INPUT_MAX)
		return 0;
	begin(&run, data[0]);
	run.reader = reader;
	n_fds = run_script(&run, data + 1, size - 1, &all);
	if (!n_fds)
		check_in_one_piece(&run, data[0], &all);
	end(&run);

	CHECK(dup(2) ==
	      free_fd); /* the lowest free number is the same: none was leaked */
	close(free_fd);
	return 0;
}
