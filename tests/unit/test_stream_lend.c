/* SPDX-License-Identifier: MIT */

/*
 * Bodies whose bytes pass beside the stream: those that are lent to the caller on their way
 * in, and files that the caller sends on their way out.
 */

#include "unit/alloc.h"
#include "unit/stream.h"

#include <sys/mman.h>

enum { LEND_FROM = 50, BODY = 100 };

static int setup(void **state)
{
	int r = stream_open(state);

	stream.lend_from = LEND_FROM;
	return r;
}

static void anew(void)
{
	stream_anew();
	stream.lend_from = LEND_FROM;
}

/* ---- input: one that takes whatever comes ---- */

static struct {
	enum stream_body what;
	size_t at_once;	  /* lent bytes that are taken in one call */
	size_t skip_from; /* a lent body is skipped when so much has come; 0: never */
	bool holds, unreads;

	unsigned int n_frames, n_announced;
	uint64_t lent; /* bytes that came beside the stream */
	size_t n_held;
} taker;

static void take_with(enum stream_body what, size_t at_once)
{
	memset(&taker, 0, sizeof(taker));
	taker.what = what;
	taker.at_once = at_once;
}

static const size_t sizes[] = { 2, BODY, 3 };

static void hold_and_resume(void)
{
	if (!taker.holds)
		return;
	assert_int_equal(stream_hold(&stream, reader), 0);
	assert_int_equal(reader->size, 0);
	memset(reader->scratch, '#', sizeof(reader->scratch)); /* it serves another */
	if (!stream_is_held(&stream))
		return;
	taker.n_held++;
	stream_resume(&stream, reader);
}

static void check_lent_bytes(const char *data, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal(data[i], body_byte(1, taker.lent + i));
	taker.lent += n;
	assert_int_equal(stream.body_have, taker.lent);
	assert_int_equal(stream_lent_left(&stream), stream.body_size - taker.lent);
}

/* False: nothing is there now. */
static bool take_lent(void)
{
	char bytes[STREAM_SCRATCH];
	const char *data;
	size_t n = stream_take_lent(&stream, reader, taker.at_once, &data);
	ssize_t got;

	assert_true(n <= taker.at_once);
	if (n) {
		check_lent_bytes(data, n);
		return true;
	}
	got = recv(stream.fd, bytes,
		   min_size(taker.at_once, (size_t)stream_lent_left(&stream)),
		   MSG_DONTWAIT);
	if (got < 0)
		return false;
	stream_add_lent(&stream, (uint64_t)got);
	check_lent_bytes(bytes, (size_t)got);
	return true;
}

static void check_announced(const struct frame *frame)
{
	assert_int_equal(frame_id(frame), 1);
	assert_int_equal(frame->body_size, BODY);
	assert_null(frame->body);
	assert_null(frame->body_block);
	assert_false(frame->lent);
	assert_false(frame->fds_lost);
}

static void decide(void)
{
	struct frame frame;
	bool in_body;

	for (int i = 0; i < 2; i++) { /* again and again */
		hold_and_resume();
		assert_int_equal(next(&frame), STREAM_E_BODY);
		check_announced(&frame);
		assert_int_equal(stream_lent_left(&stream), 0);
		assert_true(stream_is_partial(&stream, &in_body));
		assert_true(in_body);
	}
	taker.n_announced++;
	assert_int_equal(stream_decide_body(&stream, taker.what), 0);
}

static void take_frame(struct frame *frame)
{
	unsigned int id = taker.n_frames;
	bool announced = id == 1 && taker.n_announced;

	if (taker.unreads) {
		stream_unread(&stream, reader, frame);
		hold_and_resume();
		assert_int_equal(next(frame), STREAM_E_FRAME);
	}
	assert_int_equal(frame_id(frame), id);
	assert_int_equal(frame->lent,
			 announced && taker.what == STREAM_BODY_LEND && !taker.skip_from);
	if (announced && taker.what != STREAM_BODY_KEEP) {
		assert_int_equal(frame->body_size, sizes[id]);
		assert_null(frame->body);
		assert_null(frame->body_block);
	} else {
		check_body(frame, id, sizes[id]);
	}
	taker.n_frames++;
}

/* All that has come. */
static void take_all(void)
{
	struct frame frame;
	int r;

	for (;;) {
		hold_and_resume();
		r = next(&frame);
		assert_true(r >= 0);
		if (r == STREAM_E_BODY) {
			decide();
		} else if (r == STREAM_E_FRAME) {
			take_frame(&frame);
		} else if (stream_lent_left(&stream)) {
			if (taker.skip_from && taker.lent >= taker.skip_from)
				assert_int_equal(
					stream_decide_body(&stream, STREAM_BODY_SKIP), 0);
			else if (!take_lent())
				return;
		} else if (read_some() == STREAM_E_AGAIN) {
			return;
		}
	}
}

static void put_three(struct buf *b, size_t *ret_begin, size_t *ret_end)
{
	put_body_frame(b, 0, sizes[0]);
	*ret_begin = b->size;
	put_body_frame(b, 1, sizes[1]);
	*ret_end = b->size;
	put_body_frame(b, 2, sizes[2]);
}

/* The body is announced if it did not come whole, and the frame behind it is right there. */
static void check_split(const struct buf *b, size_t at, bool announced)
{
	far_write(b->data, at);
	take_all();
	far_write(b->data + at, b->size - at);
	take_all();
	assert_int_equal(taker.n_frames, 3);
	assert_int_equal(taker.n_announced, announced);
	if (announced && taker.what == STREAM_BODY_LEND && !taker.skip_from)
		assert_int_equal(taker.lent, BODY);
	else if (!taker.skip_from)
		assert_int_equal(taker.lent, 0);
	expect_idle();
}

static void split_everywhere(enum stream_body what, size_t at_once, size_t skip_from,
			     bool holds, bool unreads)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	size_t begin, end;

	put_three(&b, &begin, &end);
	for (size_t at = 1; at < b.size; at++) {
		take_with(what, at_once);
		taker.skip_from = skip_from;
		taker.holds = holds;
		taker.unreads = unreads;
		check_split(&b, at, at > begin && at < end);
		if (holds && at > begin && at < end)
			assert_true(taker.n_held > 0);
	}
}

static void test_split_everywhere(void **state)
{
	static const size_t at_once[] = { 1, 7, BODY, STREAM_SCRATCH };

	(void)state;
	for (int how = 0; how < 4; how++) {
		split_everywhere(STREAM_BODY_KEEP, 1, 0, how & 1, how & 2);
		split_everywhere(STREAM_BODY_SKIP, 1, 0, how & 1, how & 2);
		for (size_t i = 0; i < ARRAY_SIZE(at_once); i++)
			split_everywhere(STREAM_BODY_LEND, at_once[i], 0, how & 1,
					 how & 2);
	}
}

static void test_skip_from_the_middle(void **state)
{
	(void)state;
	for (int holds = 0; holds < 2; holds++) {
		split_everywhere(STREAM_BODY_LEND, 1, 1, holds, false);
		split_everywhere(STREAM_BODY_LEND, 7, 30, holds, false);
		split_everywhere(STREAM_BODY_LEND, 1, BODY - 1, holds, false);
	}
}

/* ---- input: limits, descriptors ---- */

/* Header of frame 1, and n bytes of its body of so many. */
static void far_write_begin(size_t size, size_t n)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	put_body_frame(&b, 1, size);
	far_write(b.data, b.size - size + n);
}

static void far_write_body(size_t from, size_t n)
{
	char *body = malloc(n);

	for (size_t i = 0; i < n; i++)
		body[i] = body_byte(1, from + i);
	far_write(body, n);
	free(body);
}

static void expect_announced(size_t size)
{
	struct frame frame;

	assert_int_equal(read_some(), 0);
	assert_int_equal(next(&frame), STREAM_E_BODY);
	assert_int_equal(frame.body_size, size);
}

static void test_from_which_size(void **state)
{
	struct frame frame;

	(void)state;
	far_write_begin(LEND_FROM, 1); /* not beyond it */
	assert_int_equal(read_some(), 0);
	assert_int_equal(next(&frame), 0);
	far_write_body(1, LEND_FROM - 1);
	expect_frame(&frame);
	check_body(&frame, 1, LEND_FROM);
	far_write_begin(LEND_FROM + 1, 1);
	expect_announced(LEND_FROM + 1);
	anew();
	stream.lend_from = 0; /* no body is lent */
	far_write_begin(BODY_MAX + 1, 1);
	assert_int_equal(read_some(), 0);
	assert_int_equal(next(&frame), 0);
}

/* One that is kept has body_max, one that is lent has not. */
static void test_beyond_body_max(void **state)
{
	struct frame frame;
	const char *data;

	(void)state;
	stream.body_max = BODY - 1;
	far_write_begin(BODY, 10);
	expect_announced(BODY);
	assert_int_equal(stream_decide_body(&stream, STREAM_BODY_KEEP), 0);
	far_write_body(10, BODY - 10);
	expect_frame(&frame);
	assert_int_equal(frame.body_size, BODY);
	assert_null(frame.body);
	far_write_begin(BODY, 10);
	expect_announced(BODY);
	assert_int_equal(stream_decide_body(&stream, STREAM_BODY_LEND), 0);
	assert_int_equal(stream_take_lent(&stream, reader, 1000, &data), 10);
	stream_add_lent(&stream, BODY - 10);
	assert_int_equal(next(&frame), STREAM_E_FRAME);
	assert_true(frame.lent);
	assert_int_equal(frame.body_size, BODY);
}

static void test_kept_in_a_block(void **state)
{
	struct frame frame;
	struct bytes *block;

	(void)state;
	far_write_begin(STREAM_BODY_DIRECT, 5);
	expect_announced(STREAM_BODY_DIRECT);
	fail_allocation(1);
	assert_int_equal(stream_decide_body(&stream, STREAM_BODY_KEEP), -ENOMEM);
	assert_true(allocation_failed());
	anew();
	far_write_begin(STREAM_BODY_DIRECT, 5);
	expect_announced(STREAM_BODY_DIRECT);
	assert_int_equal(stream_decide_body(&stream, STREAM_BODY_KEEP), 0);
	far_write_body(5, STREAM_BODY_DIRECT - 5);
	expect_frame(&frame);
	check_body(&frame, 1, STREAM_BODY_DIRECT);
	block = stream_steal_body(&stream);
	assert_non_null(block);
	bytes_unref(block);
	expect_idle();
}

static const char next_frame[] = "{\"id\":2,\"fds\":2}";

static void far_write_next_frame(void)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	put_frame(&b, next_frame);
	far_write_fds(b.data, b.size, far, 2);
}

/* Its descriptors come with the body's last bytes, or behind them. */
static void test_descriptors_of_the_next_frame(void **state)
{
	struct frame frame;
	const char *data;

	(void)state;
	for (int by_reader = 0; by_reader < 2; by_reader++) {
		far_write_begin(BODY, 10);
		expect_announced(BODY);
		assert_int_equal(stream_decide_body(&stream, STREAM_BODY_LEND), 0);
		assert_int_equal(stream_take_lent(&stream, reader, 1000, &data), 10);
		assert_int_equal(next(&frame), 0);
		far_write_body(10, BODY - 10);
		far_write_next_frame();
		if (by_reader) {
			assert_int_equal(read_some(), 0);
			assert_int_equal(next(&frame), 0);
			assert_int_equal(stream_hold(&stream, reader), 0);
			stream_resume(&stream, reader);
			assert_int_equal(stream_take_lent(&stream, reader, 1000, &data),
					 BODY - 10);
		} else {
			char bytes[BODY - 10];

			assert_int_equal(recv(stream.fd, bytes, sizeof(bytes), 0),
					 sizeof(bytes));
			stream_add_lent(&stream, sizeof(bytes));
		}
		assert_int_equal(next(&frame), STREAM_E_FRAME);
		assert_true(frame.lent);
		assert_null(frame.fds);
		expect_frame(&frame);
		assert_int_equal(frame_id(&frame), 2);
		assert_non_null(frame.fds);
		assert_int_equal(frame.fds->n, 2);
		expect_idle();
	}
}

/* Header of a frame with descriptors, and one byte of its body. */
static void far_write_begin_with_fds(unsigned int says, unsigned int n)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	char header[64];

	snprintf(header, sizeof(header), "{\"id\":1,\"size\":%d,\"fds\":%u}", BODY, says);
	put_frame(&b, header);
	assert_int_equal(buf_append(&b, "x", 1), 0);
	far_write_fds(b.data, b.size, far, n);
}

static void test_descriptors_of_its_own(void **state)
{
	struct frame frame;
	const char *data;

	(void)state;
	for (unsigned int n = 2; n < 4; n++) {
		far_write_begin_with_fds(2, n);
		assert_int_equal(read_some(), 0);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(next(&frame), STREAM_E_BODY);
			assert_int_equal(frame.fds_lost, n != 2);
			assert_int_equal(frame.fds != NULL, n == 2);
		}
		assert_int_equal(stream_decide_body(&stream, STREAM_BODY_LEND), 0);
		assert_int_equal(stream_take_lent(&stream, reader, 1000, &data), 1);
		stream_add_lent(&stream, BODY - 1);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(next(&frame), STREAM_E_FRAME);
			assert_true(frame.lent);
			assert_int_equal(frame.fds_lost, n != 2);
			assert_int_equal(frame.fds != NULL, n == 2);
			if (i < 2)
				stream_unread(&stream, reader, &frame);
		}
		expect_idle();
	}
}

/* Descriptors in the middle of a lent body belong to no frame. */
static void test_descriptors_without_frame(void **state)
{
	const char *data;

	(void)state;
	far_write_begin(BODY, 10);
	expect_announced(BODY);
	assert_int_equal(stream_decide_body(&stream, STREAM_BODY_LEND), 0);
	assert_int_equal(stream_take_lent(&stream, reader, 1000, &data), 10);
	far_write_fds("0123456789", 10, far, 1);
	assert_int_equal(read_some(), 0);
	assert_int_equal(stream_take_lent(&stream, reader, 1000, &data), 10);
	stream_add_lent(&stream, BODY - 20);
	expect_id(1);
	expect_end(-EPROTO, FAULT_BAD_FRAME, "does not say \"fds\"");
}

/* Ended in each state; teardown and the sanitizer see what is left. */
static void test_ended_anywhere(void **state)
{
	struct frame frame;
	const char *data;

	(void)state;
	for (int at = 0; at < 7; at++) {
		far_write_begin_with_fds(1, 1);
		assert_int_equal(read_some(), 0);
		assert_int_equal(next(&frame), STREAM_E_BODY);
		if (at == 1)
			assert_int_equal(stream_hold(&stream, reader), 0);
		if (at == 2)
			assert_int_equal(stream_decide_body(&stream, STREAM_BODY_KEEP),
					 0);
		if (at == 3)
			assert_int_equal(stream_decide_body(&stream, STREAM_BODY_SKIP),
					 0);
		if (at >= 4)
			assert_int_equal(stream_decide_body(&stream, STREAM_BODY_LEND),
					 0);
		if (at >= 5)
			assert_int_equal(stream_take_lent(&stream, reader, 9, &data), 1);
		if (at == 6) {
			stream_add_lent(&stream, BODY - 1);
			assert_int_equal(next(&frame), STREAM_E_FRAME);
		}
		anew();
	}
}

/* ---- output ---- */

static char got[64];

/* What has come at the far end. */
static const char *far_read(void)
{
	ssize_t n = recv(far, got, sizeof(got) - 1, MSG_DONTWAIT);

	got[n < 0 ? 0 : n] = '\0';
	return got;
}

static int new_file(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static int flush(void)
{
	return stream_flush(&stream, MSG_DONTWAIT);
}

static void expect_file(int fd, off_t offset, uint64_t size)
{
	struct stream_file file;
	uint64_t left;

	assert_int_equal(flush(), STREAM_E_FILE);
	stream_file_peek(&stream, &file, &left);
	assert_int_equal(file.fd, fd);
	assert_int_equal(file.offset, offset);
	assert_int_equal(left, size);
}

/* What is before a file goes out, what is behind it waits until all of it was sent. */
static void test_file_in_its_order(void **state)
{
	int fd = new_file(), another = new_file();

	(void)state;
	assert_int_equal(stream_put(&stream, "before", 6), 0);
	assert_int_equal(stream_put_file_take(&stream, fd, 1000, 50), 0);
	assert_int_equal(stream_put(&stream, "be", 2), 0);
	assert_int_equal(stream_put(&stream, "hind", 4), 0);
	assert_int_equal(stream_put_file_take(&stream, another, 0, 1), 0);
	assert_int_equal(stream.n_attached, 2);
	assert_int_equal(stream_pending(&stream), 6 + 50 + 6 + 1);
	assert_int_equal(stream_pending_memory(&stream), 12);

	expect_file(fd, 1000, 50);
	assert_string_equal(far_read(), "before");
	assert_int_equal(stream.sent_bytes, 6);
	assert_int_equal(stream_pending_memory(&stream), 6);
	expect_file(fd, 1000, 50);
	stream_file_sent(&stream, 49);
	assert_int_equal(stream_pending(&stream), 1 + 6 + 1);
	assert_int_equal(stream_pending_memory(&stream), 6);
	expect_file(fd, 1049, 1);
	assert_string_equal(far_read(), "");
	assert_true(fcntl(fd, F_GETFD) >= 0);
	stream_file_sent(&stream, 1);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(stream.n_attached, 1);
	assert_int_equal(stream.sent_bytes, 56);

	expect_file(another, 0, 1);
	assert_string_equal(far_read(), "behind");
	stream_file_sent(&stream, 1);
	assert_int_equal(flush(), 0);
	assert_int_equal(stream.n_attached, 0);
	assert_int_equal(stream_pending(&stream), 0);
	assert_int_equal(stream_pending_memory(&stream), 0);
	assert_null(stream.segments);
}

/* The ring turns round with files in it. */
static void test_many_files(void **state)
{
	enum { FILES = 40 };
	char text[8];
	int fds[FILES];

	(void)state;
	for (unsigned int i = 0; i < FILES; i++) {
		fds[i] = new_file();
		snprintf(text, sizeof(text), "%u", i);
		assert_int_equal(stream_put_header(&stream, text, strlen(text)), 0);
		assert_int_equal(stream_put_file_take(&stream, fds[i], i, i + 1), 0);
		if (i % 3 != 2)
			continue;
		assert_int_equal(flush(), STREAM_E_FILE);
		stream_file_sent(&stream, stream.segments[stream.first].size);
	}
	assert_int_equal(stream.n_attached, FILES - FILES / 3);
	for (unsigned int i = FILES / 3; i < FILES; i++) {
		expect_file(fds[i], i, i + 1);
		stream_file_sent(&stream, i + 1);
		assert_int_equal(stream.n_attached, FILES - 1 - i);
	}
	assert_int_equal(flush(), 0);
}

/* Descriptors that go along count as well, a file between them does not take them. */
static void test_files_and_descriptors(void **state)
{
	int fd = new_file(), fds[] = { new_file() };
	struct fdset *set = fdset_new(fds, 1);

	(void)state;
	assert_non_null(set);
	assert_int_equal(stream_put_file_take(&stream, fd, 0, 5), 0);
	stream_put_fds_take(&stream, set);
	assert_int_equal(stream_put(&stream, "x", 1), 0);
	assert_int_equal(stream.n_attached, 2);
	expect_file(fd, 0, 5);
	stream_file_sent(&stream, 5);
	assert_int_equal(stream.n_attached, 1);
	assert_int_equal(flush(), 0);
	assert_int_equal(stream.n_attached, 0);
	assert_string_equal(far_read(), "x");
}

static void test_ended_with_files(void **state)
{
	(void)state;
	assert_int_equal(stream_put(&stream, "x", 1), 0);
	assert_int_equal(stream_put_file_take(&stream, new_file(), 0, 5), 0);
	assert_int_equal(stream_put_file_take(&stream, new_file(), 0, 5), 0);
	assert_int_equal(flush(), STREAM_E_FILE);
	stream_file_sent(&stream, 3);
	anew();
}

/* The descriptor is taken all the same, and nothing is counted. */
static void test_file_without_memory(void **state)
{
	int r, fd, n = 0;

	(void)state;
	for (unsigned long at = 1;; at++, n++) {
		anew();
		fd = new_file();
		fail_allocation(at);
		r = stream_put_file_take(&stream, fd, 0, 5);
		if (!allocation_failed())
			break;
		assert_int_equal(r, -ENOMEM);
		assert_int_equal(fcntl(fd, F_GETFD), -1);
		assert_int_equal(stream.n_attached, 0);
		assert_int_equal(stream_pending(&stream), 0);
		assert_int_equal(stream.file_bytes, 0);
	}
	assert_int_equal(r, 0);
	assert_int_equal(n, 2);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, stream_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_split_everywhere),
		TEST(test_skip_from_the_middle),
		TEST(test_from_which_size),
		TEST(test_beyond_body_max),
		TEST(test_kept_in_a_block),
		TEST(test_descriptors_of_the_next_frame),
		TEST(test_descriptors_of_its_own),
		TEST(test_descriptors_without_frame),
		TEST(test_ended_anywhere),
		TEST(test_file_in_its_order),
		TEST(test_many_files),
		TEST(test_files_and_descriptors),
		TEST(test_ended_with_files),
		TEST(test_file_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
