/* SPDX-License-Identifier: MIT */

/* The output queue of a stream, towards a kernel that takes little, nothing, or fails. */

#include "unit/stream.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* ---- sendmsg, send and SIOCOUTQ as the test wants them ---- */

static struct {
	size_t take_max;	/* bytes of one call; 0: no limit */
	unsigned int n_allowed; /* calls before EAGAIN; 0: no limit */
	int errors[4];		/* of the next calls, ended by 0 */
	unsigned int n_calls, n_iov_max, n_with_fds;
	int flags;
	int still_counted; /* by SIOCOUTQ, though all is read; 0: what there is */
} kernel;

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);

static ssize_t send_some(int fd, const struct msghdr *message, int flags)
{
	struct iovec iov[1024];
	struct msghdr cut = *message;
	size_t left = kernel.take_max;

	cut.msg_iov = iov;
	cut.msg_iovlen = 0;
	for (size_t i = 0; i < message->msg_iovlen && left; i++) {
		iov[i] = message->msg_iov[i];
		iov[i].iov_len = min_size(iov[i].iov_len, left);
		left -= iov[i].iov_len;
		cut.msg_iovlen++;
	}
	return __real_sendmsg(fd, &cut, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (fd == far)
		return __real_sendmsg(fd, message, flags);
	kernel.n_calls++;
	kernel.flags = flags;
	kernel.n_iov_max = (unsigned int)message->msg_iovlen > kernel.n_iov_max
				   ? (unsigned int)message->msg_iovlen
				   : kernel.n_iov_max;
	kernel.n_with_fds += message->msg_controllen > 0;
	if (kernel.errors[0]) {
		errno = kernel.errors[0];
		memmove(kernel.errors, kernel.errors + 1,
			sizeof(kernel.errors) - sizeof(int));
		kernel.errors[ARRAY_SIZE(kernel.errors) - 1] = 0;
		return -1;
	}
	if (kernel.n_allowed && !--kernel.n_allowed) {
		errno = EAGAIN;
		return -1;
	}
	return kernel.take_max ? send_some(fd, message, flags)
			       : __real_sendmsg(fd, message, flags);
}

ssize_t __wrap_send(int fd, const void *data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags)
{
	struct iovec iov = { (void *)(uintptr_t)data, size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	return __wrap_sendmsg(fd, &message, flags);
}

int __real_ioctl(int fd, unsigned long request, int *arg);
int __wrap_ioctl(int fd, unsigned long request, int *arg);
int __wrap_ioctl(int fd, unsigned long request, int *arg)
{
	if (request != SIOCOUTQ || !kernel.still_counted)
		return __real_ioctl(fd, request, arg);
	*arg = kernel.still_counted;
	return 0;
}

static void kernel_anew(void)
{
	memset(&kernel, 0, sizeof(kernel));
}

static int open_all(void **state)
{
	kernel_anew();
	return stream_open(state);
}

/* ---- the far end ---- */

static struct buf received = BUF_INIT;
static unsigned int n_received_fds;

/* Everything that is there now; returns how many descriptors came with it. */
static unsigned int far_read(void)
{
	union {
		char space[CMSG_SPACE(16 * sizeof(int))];
		struct cmsghdr align;
	} control;
	unsigned int n_fds = 0;
	ssize_t n;

	do {
		struct iovec iov;
		struct msghdr message = { .msg_iov = &iov,
					  .msg_iovlen = 1,
					  .msg_control = control.space,
					  .msg_controllen = sizeof(control.space) };

		assert_int_equal(buf_reserve(&received, 65536), 0);
		iov = (struct iovec){ received.data + received.size, 65536 };
		n = recvmsg(far, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n > 0)
			received.size += (size_t)n;
		if (n > 0 && message.msg_controllen) {
			size_t size = control.align.cmsg_len - CMSG_LEN(0);

			for (size_t i = 0; i < size / sizeof(int); i++, n_fds++)
				close(((int *)(void *)CMSG_DATA(&control.align))[i]);
		}
	} while (n > 0);
	return n_fds;
}

static int close_all(void **state)
{
	buf_deinit(&received);
	return stream_close(state);
}

/* Flushes and reads in turn until all is out. */
static void drain(void)
{
	int r;

	n_received_fds = 0;
	do {
		r = stream_flush(&stream, MSG_DONTWAIT);
		assert_true(r == 0 || r == STREAM_E_AGAIN);
		n_received_fds += far_read();
	} while (r);
	assert_int_equal(stream_pending(&stream), 0);
	assert_int_equal(stream.sent_bytes, received.size);
	assert_null(stream.segments);
	assert_null(stream.chunk);
}

static void check_received(const struct buf *expected)
{
	assert_int_equal(received.size, expected->size);
	assert_memory_equal(received.data, expected->data, expected->size);
}

/* ---- what is put ---- */

static void put(struct buf *expected, const char *text, size_t size)
{
	assert_int_equal(buf_append(expected, text, size), 0);
	assert_int_equal(stream_put(&stream, text, size), 0);
}

static void put_block(struct buf *expected, struct bytes *block, size_t offset,
		      size_t size)
{
	assert_int_equal(buf_append(expected, block->data + offset, size), 0);
	assert_int_equal(stream_put_bytes(&stream, block, offset, size), 0);
}

static struct bytes *new_block(size_t size)
{
	struct bytes *block = bytes_new(size);

	for (size_t i = 0; i < size; i++)
		block->data[i] = body_byte(9, i);
	return block;
}

static struct fdset *some_fds(unsigned int n)
{
	int fds[LIMIT_FDS_MAX];

	for (unsigned int i = 0; i < n; i++)
		fds[i] = memfd_create("file", MFD_CLOEXEC);
	return fdset_new(fds, n);
}

static void test_nothing(void **state)
{
	assert_int_equal(stream_put(&stream, "", 0), 0);
	assert_int_equal(stream_pending(&stream), 0);
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), 0);
	assert_int_equal(kernel.n_calls, 0);
}

static void test_header(void **state)
{
	assert_int_equal(stream_put_header(&stream, "{\"re\":1}", 8), 0);
	drain();
	assert_int_equal(received.size, 12);
	assert_memory_equal(received.data, "\x08\0\0\0{\"re\":1}", 12);
	assert_int_equal(kernel.n_calls, 1);
	assert_true(kernel.flags & MSG_NOSIGNAL);
}

static void test_length_is_little_endian(void **state)
{
	char length[4];

	frame_encode_length(length, 0x010203);
	assert_memory_equal(length, "\x03\x02\x01\x00", 4);
}

/* Small things and references, in any order and size, against a plain buffer. */
static void test_order(void **state)
{
	_cleanup_bytes_ struct bytes *block = new_block(100000);
	uint32_t seed = 6;

	for (int round = 0; round < 30; round++) {
		_cleanup_buf_ struct buf expected = BUF_INIT;

		received.size = 0;
		kernel.take_max = round % 3 ? next_random(&seed) % 5000 + 1 : 0;
		for (int i = 0; i < 200; i++) {
			size_t size = next_random(&seed) % (i % 10 ? 100 : 10000);
			size_t offset = next_random(&seed) % 90000;

			if (next_random(&seed) % 2)
				put(&expected, block->data + offset, size);
			else
				put_block(&expected, block, offset, size);
			if (next_random(&seed) % 16 == 0)
				assert_true(stream_flush(&stream, MSG_DONTWAIT) >= 0);
			assert_int_equal(stream.queued_bytes, expected.size);
		}
		drain();
		check_received(&expected);
		assert_int_equal(block->refs, 1);
		stream_anew();
	}
}

static void test_large_ones_are_not_copied(void **state)
{
	struct bytes *block = new_block(50000);
	_cleanup_buf_ struct buf expected = BUF_INIT;

	put_block(&expected, block, 0, 4096);
	assert_int_equal(block->refs, 1); /* small: copied */
	put_block(&expected, block, 1, 4097);
	put_block(&expected, block, 0, 50000);
	assert_int_equal(block->refs, 3);
	bytes_unref(block);
	drain();
	check_received(&expected);
}

static void test_small_ones_are_gathered(void **state)
{
	_cleanup_buf_ struct buf expected = BUF_INIT;

	for (int i = 0; i < 1000; i++)
		put(&expected, "0123456789abcdef", 16);
	drain();
	check_received(&expected);
	assert_int_equal(kernel.n_calls, 1);
	assert_in_range(kernel.n_iov_max, 1, 8);
}

static void test_many_iovecs(void **state)
{
	_cleanup_bytes_ struct bytes *block = new_block(10000);
	_cleanup_buf_ struct buf expected = BUF_INIT;

	for (int i = 0; i < 1500; i++) {
		put(&expected, "x", 1);
		put_block(&expected, block, (size_t)i, 5000);
	}
	assert_int_equal(block->refs, 1501);
	drain();
	check_received(&expected);
	assert_int_equal(block->refs, 1);
	assert_in_range(kernel.n_iov_max, 100, 1024 /* UIO_MAXIOV, sendmsg(2) */);
}

/* One byte is taken by each call, at each place of the queue. */
static void test_byte_by_byte(void **state)
{
	_cleanup_bytes_ struct bytes *block = new_block(5000);
	_cleanup_buf_ struct buf expected = BUF_INIT;

	kernel.take_max = 1;
	put(&expected, "abc", 3);
	put_block(&expected, block, 3, 4200);
	put(&expected, "def", 3);
	drain();
	check_received(&expected);
	assert_true(kernel.n_calls >= expected.size);
}

/* What is put behind a half-sent segment joins it without harm. */
static void test_put_behind_a_partial_write(void **state)
{
	_cleanup_buf_ struct buf expected = BUF_INIT;

	kernel.take_max = 3;
	for (int i = 0; i < 2000; i++) {
		put(&expected, "abcde", 5);
		kernel.n_allowed = 2;
		assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), STREAM_E_AGAIN);
		assert_int_equal(stream.sent_bytes, 3 * (i + 1));
		far_read();
	}
	kernel_anew();
	drain();
	check_received(&expected);
}

/* ---- errors ---- */

static void test_again(void **state)
{
	_cleanup_bytes_ struct bytes *block = new_block(1000000);
	_cleanup_buf_ struct buf expected = BUF_INIT;

	put_block(&expected, block, 0, 1000000);
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), STREAM_E_AGAIN);
	assert_in_range(stream.sent_bytes, 1, 999999);
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), STREAM_E_AGAIN);
	drain();
	check_received(&expected);
}

static void test_interrupted(void **state)
{
	_cleanup_buf_ struct buf expected = BUF_INIT;

	put(&expected, "text", 4);
	kernel.errors[0] = EINTR;
	assert_int_equal(stream_flush(&stream, 0), -EINTR); /* who blocks, must know */
	assert_int_equal(stream_pending(&stream), 4);
	kernel.errors[0] = kernel.errors[1] = EINTR;
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), 0);
	far_read();
	check_received(&expected);
}

static void test_broken_pipe(void **state)
{
	assert_int_equal(stream_put(&stream, "text", 4), 0);
	close_far();
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), -EPIPE);
	assert_int_equal(stream_pending(&stream), 4);
}

static void test_references_go_with_the_stream(void **state)
{
	_cleanup_bytes_ struct bytes *block = new_block(10000);
	int before = count_fds();

	for (int i = 0; i < 20; i++) {
		stream_put_fds_take(&stream, some_fds(2));
		assert_int_equal(stream_put_bytes(&stream, block, 0, 10000), 0);
	}
	stream_put_fds_take(&stream, some_fds(1)); /* without a byte */
	assert_int_equal(block->refs, 21);
	stream_deinit(&stream);
	assert_int_equal(block->refs, 1);
	assert_int_equal(count_fds(), before - 1);
}

/* ---- descriptors ---- */

/* A frame with n descriptors as the stream sends it. */
static void put_fds_frame(unsigned int id, unsigned int n)
{
	char header[64];

	snprintf(header, sizeof(header), n ? "{\"id\":%u,\"fds\":%u}" : "{\"id\":%u}", id,
		 n);
	if (n)
		stream_put_fds_take(&stream, some_fds(n));
	assert_int_equal(stream_put_header(&stream, header, strlen(header)), 0);
}

/* Read by another stream: each frame has its own. */
static void check_frames_at(struct stream *other, const unsigned int *counts,
			    unsigned int n)
{
	unsigned int id = 0;
	bool drained;

	while (id < n) {
		struct frame frame;
		int r = stream_flush(&stream, MSG_DONTWAIT);

		assert_true(r == 0 || r == STREAM_E_AGAIN);
		assert_int_equal(stream_read(other, reader, MSG_DONTWAIT, &drained), 0);
		while ((r = stream_next(other, reader, &frame, &fault)) ==
		       STREAM_E_FRAME) {
			assert_int_equal(frame_id(&frame), id);
			assert_false(frame.fds_lost);
			assert_int_equal(frame.fds ? frame.fds->n : 0, counts[id]);
			id++;
		}
		assert_int_equal(r, 0);
	}
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), 0);
}

static void test_frames_with_descriptors(void **state)
{
	static const unsigned int counts[] = { 0, 1, 0, 0, 16, 3, 0, 2, 1, 1, 0 };
	static const size_t takes[] = { 0, 1, 3, 20, 1000 };
	struct stream other;

	for (size_t i = 0; i < ARRAY_SIZE(takes); i++) {
		kernel_anew();
		kernel.take_max = takes[i];
		stream_init(&other, far, BODY_MAX);
		for (unsigned int id = 0; id < ARRAY_SIZE(counts); id++)
			put_fds_frame(id, counts[id]);
		check_frames_at(&other, counts, ARRAY_SIZE(counts));
		assert_int_equal(kernel.n_with_fds, 6);
		stream_deinit(&other);
		far = -1;
		stream_anew();
	}
}

/* Ours are closed as soon as the kernel has them, and not before. */
static void test_closed_when_sent(void **state)
{
	int before = count_fds();

	put_fds_frame(1, 3);
	assert_int_equal(count_fds(), before + 3);
	kernel.errors[0] = EAGAIN;
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), STREAM_E_AGAIN);
	kernel.errors[0] = ETOOMANYREFS;
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), -ETOOMANYREFS);
	assert_int_equal(count_fds(), before + 3);
	assert_true(stream_pending(&stream) > 0);
	kernel.take_max = 1;
	kernel.errors[0] = 0;
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), 0);
	assert_int_equal(count_fds(), before);
	assert_int_equal(kernel.n_with_fds, 3); /* two failures, one success */
	assert_int_equal(far_read(), 3);
}

/* At most one batch waits in the receiver's socket. */
static void test_one_batch_in_the_kernel(void **state)
{
	put_fds_frame(1, 1);
	put_fds_frame(2, 0);
	put_fds_frame(3, 2);
	put_fds_frame(4, 0);
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), STREAM_E_AGAIN);
	assert_int_equal(kernel.n_with_fds, 1);
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), STREAM_E_AGAIN);
	assert_int_equal(kernel.n_with_fds, 1);
	assert_int_equal(far_read(), 1);
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), 0);
	assert_int_equal(far_read(), 2);
	assert_int_equal(stream_pending(&stream), 0);
}

/* No event would come any more to try again by, see may_send_fds(). */
static void test_a_batch_that_is_being_freed(void **state)
{
	put_fds_frame(1, 1);
	put_fds_frame(2, 1);
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), STREAM_E_AGAIN);
	assert_int_equal(far_read(), 1);
	kernel.still_counted = 2; /* by two threads that read */
	assert_int_equal(stream_flush(&stream, MSG_DONTWAIT), 0);
	assert_int_equal(far_read(), 1);
}

static void test_replaced_before_use(void **state)
{
	int before = count_fds();

	stream_put_fds_take(&stream, some_fds(2));
	stream_put_fds_take(&stream, some_fds(1));
	assert_int_equal(count_fds(), before + 1);
	assert_int_equal(stream_put(&stream, "x", 1), 0);
	drain();
	assert_int_equal(n_received_fds, 1);
	assert_int_equal(count_fds(), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nothing),
		TEST(test_header),
		TEST(test_length_is_little_endian),
		TEST(test_order),
		TEST(test_large_ones_are_not_copied),
		TEST(test_small_ones_are_gathered),
		TEST(test_many_iovecs),
		TEST(test_byte_by_byte),
		TEST(test_put_behind_a_partial_write),
		TEST(test_again),
		TEST(test_interrupted),
		TEST(test_broken_pipe),
		TEST(test_references_go_with_the_stream),
		TEST(test_frames_with_descriptors),
		TEST(test_closed_when_sent),
		TEST(test_one_batch_in_the_kernel),
		TEST(test_a_batch_that_is_being_freed),
		TEST(test_replaced_before_use),
	};

	return cmocka_run_group_tests_name("stream_out", tests, NULL, NULL);
}
