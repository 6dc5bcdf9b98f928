/* SPDX-License-Identifier: MIT */

/* Input that is put aside, resumed, put back, or left behind in the shared reader. */

#include "unit/stream.h"

static void test_hold_after_every_frame(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct frame frame;

	put_mixed_frames(&b);
	for (size_t extra = 0; extra < 7; extra += 3) {
		far_write(b.data, b.size);
		far_write(b.data, extra); /* the beginning of one more frame */
		assert_int_equal(read_some(), 0);
		for (unsigned int id = 0; id < 6; id++) {
			if (id) {
				assert_true(stream_is_held(&stream));
				memset(reader->scratch, '#', sizeof(reader->scratch));
				stream_resume(&stream, reader);
				assert_false(stream_is_held(&stream));
				assert_int_equal(stream.held_size, 0);
			}
			assert_int_equal(next(&frame), STREAM_E_FRAME);
			check_mixed_frame(&frame, id);
			assert_int_equal(stream_hold(&stream, reader), 0);
			assert_int_equal(reader->size, 0);
		}
		assert_int_equal(stream_is_held(&stream), extra > 0);
		if (extra) {
			stream_resume(&stream, reader);
			assert_int_equal(next(&frame), 0);
			assert_null(reader->held);
			stream_anew();
		}
	}
}

/* A stream is given up in the middle of its frames, held before or not: what it left in
 * the reader is not mixed with the input of the next one. */
static void test_reader_left_in_the_middle(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct frame frame;

	put_mixed_frames(&b);
	for (int held = 0; held < 2; held++) {
		far_write(b.data, b.size);
		assert_int_equal(read_some(), 0);
		assert_int_equal(next(&frame), STREAM_E_FRAME);
		if (held) {
			assert_int_equal(stream_hold(&stream, reader), 0);
			stream_resume(&stream, reader);
			assert_int_equal(next(&frame), STREAM_E_FRAME);
		}
		stream_anew();
		assert_int_equal(read_some(), STREAM_E_AGAIN);
		assert_int_equal(next(&frame), 0);
		far_write(b.data, b.size);
		assert_int_equal(read_some(), 0);
		for (unsigned int id = 0; id < 6; id++) {
			assert_int_equal(next(&frame), STREAM_E_FRAME);
			check_mixed_frame(&frame, id);
			assert_int_equal(stream_hold(&stream, reader), 0);
			if (stream_is_held(&stream))
				stream_resume(&stream, reader);
		}
		expect_idle();
	}
}

/* Frame 1 is given again and again; in between the reader may serve other streams. */
static void read_over(const struct frame *first, size_t size)
{
	struct frame frame = *first;

	for (int i = 0; i < 3; i++) {
		stream_unread(&stream, reader, &frame);
		if (i == 1) {
			assert_int_equal(stream_hold(&stream, reader), 0);
			memset(reader->scratch, '#', STREAM_SCRATCH);
			if (stream_is_held(&stream))
				stream_resume(&stream, reader);
		}
		assert_int_equal(next(&frame), STREAM_E_FRAME);
		assert_int_equal(frame_id(&frame), 1);
		assert_int_equal(frame.body_size, size);
		if (size <= BODY_MAX)
			check_body(&frame, 1, size);
		else
			assert_true(!frame.body && !frame.body_block);
	}
}

/* Writes the first bytes, then more, until there is a frame; returns how many. */
static size_t feed_until_frame(const struct buf *b, size_t first, struct frame *ret_frame)
{
	size_t at = 0, n = first;

	do {
		assert_true(at < b->size);
		n = min_size(n, b->size - at);
		far_write(b->data + at, n);
		at += n;
		n = 60000;
		assert_int_equal(read_some(), 0);
	} while (next(ret_frame) != STREAM_E_FRAME);
	return at;
}

static void test_unread(void **state)
{
	static const size_t edges[] = { 0, 1, 1000, 32768, 60000, BODY_MAX + 1 };

	for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
		for (size_t first = 1; first < 40; first += 3) {
			_cleanup_buf_ struct buf b = BUF_INIT;
			struct frame frame;
			size_t fed;

			put_body_frame(&b, 1, edges[i]);
			put_frame(&b, "{\"id\":2}");
			fed = feed_until_frame(&b, first, &frame);
			read_over(&frame, edges[i]);
			far_write(b.data + fed, b.size - fed);
			expect_id(2);
			expect_idle();
		}
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stream_open, stream_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_hold_after_every_frame),
		TEST(test_reader_left_in_the_middle),
		TEST(test_unread),
	};

	return cmocka_run_group_tests_name("stream_hold", tests, NULL, NULL);
}
