/* SPDX-License-Identifier: MIT */

/* Bytes into a stream, frames out of it. */

#include "unit/stream.h"

/* ---- what is no frame ---- */

static void test_length_out_of_range(void **state)
{
	static const uint32_t lengths[] = { 0, 1, 65537, 1u << 31, UINT32_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		char bytes[4], named[16];

		frame_encode_length(bytes, lengths[i]);
		far_write(bytes, 4);
		snprintf(named, sizeof(named), "got %u ", lengths[i]);
		expect_end(-EBADMSG, FAULT_BAD_FRAME, named);
		stream_anew();
	}
}

static void test_length_at_the_limits(void **state)
{
	static char header[LIMIT_HEADER_MAX];
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct frame frame;

	memset(header, ' ', sizeof(header));
	memcpy(header, "{}", 2);
	put_raw_frame(&b, header, 2, NULL, 0);
	put_raw_frame(&b, header, LIMIT_HEADER_MAX, NULL, 0);
	put_frame(&b, "{\"id\":3}");
	far_write(b.data, b.size);
	expect_frame(&frame);
	assert_int_equal(frame.header_size, 2);
	expect_frame(&frame);
	assert_int_equal(frame.header_size, LIMIT_HEADER_MAX);
	assert_memory_equal(frame.header_text, header, LIMIT_HEADER_MAX);
	expect_id(3);
	expect_idle();
}

static void test_stray_text(void **state)
{
	static const char *const texts[] = { "GET / HTTP/1.1\r\n", "/home/ann\n",
					     "hello\n", "{\"op\":\"ping\"}\n" };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		char named[16];

		far_write(texts[i], strlen(texts[i]));
		snprintf(named, sizeof(named), "(\"%.4s\")", texts[i]);
		expect_end(-EBADMSG, FAULT_BAD_FRAME, named);
		stream_anew();
	}
	far_write("\x7f\n\xff\xfe",
		  4); /* what is not printed does not reach a terminal */
	expect_end(-EBADMSG, FAULT_BAD_FRAME, "(\"????\")");
}

static void test_header_is_no_object(void **state)
{
	static const char *const headers[] = {
		"[]",
		"12",
		"\"op\"",
		"true",
		"{]",
		"{} {}",
		"{}12",
		"{\"a\":1,\"a\":2}",
		"{\"a\":\"\\u0000\"}",
		"{\"a\":\"\xff\"}",
		"  ",
	};

	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		for (size_t split = 0; split < 6; split += 5) {
			_cleanup_buf_ struct buf b = BUF_INIT;
			struct frame frame;

			put_frame(&b, headers[i]);
			put_frame(&b, "{}");
			far_write(b.data, split);
			if (split)
				assert_int_equal(read_some(), 0);
			assert_int_equal(next(&frame), 0);
			far_write(b.data + split, b.size - split);
			expect_end(-EBADMSG, FAULT_BAD_JSON, "no strict JSON object: ");
			stream_anew();
		}
	}
}

static void test_bad_size(void **state)
{
	static const char *const sizes[] = { "-1",
					     "1.0",
					     "1e3",
					     "\"5\"",
					     "null",
					     "true",
					     "[]",
					     "{}",
					     "9223372036854775808",
					     "-9223372036854775808" };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		_cleanup_buf_ struct buf b = BUF_INIT;
		char header[64];

		snprintf(header, sizeof(header), "{\"size\":%s}", sizes[i]);
		put_frame(&b, header);
		far_write(b.data, b.size);
		expect_end(-EBADMSG, FAULT_BAD_REQUEST, "\"size\"");
		stream_anew();
	}
}

/* A reader that met an error serves the next stream as if nothing had been. */
static void test_reader_after_an_error(void **state)
{
	_cleanup_buf_ struct buf bad = BUF_INIT, good = BUF_INIT;

	put_frame(&bad, "{\"id\":1} \"open");
	put_frame(&bad, "{\"id\":2}");
	put_frame(&good, "{\"id\":3}");
	for (int i = 0; i < 3; i++) {
		far_write(bad.data, bad.size);
		expect_end(-EBADMSG, FAULT_BAD_JSON, "follows the object");
		stream_anew();
		far_write(good.data, good.size);
		expect_id(3);
		expect_idle();
	}
}

/* ---- splits ---- */

static void take_mixed_frames(unsigned int *id)
{
	struct frame frame;
	int r;

	while ((r = next(&frame)) == STREAM_E_FRAME)
		check_mixed_frame(&frame, (*id)++);
	assert_int_equal(r, 0);
}

static void test_several_frames_in_one_read(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	unsigned int id = 0;

	put_mixed_frames(&b);
	far_write(b.data, b.size);
	assert_int_equal(read_some(), 0);
	take_mixed_frames(&id);
	assert_int_equal(id, 6);
	expect_idle();
}

static void test_split_at_every_byte(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	put_mixed_frames(&b);
	for (size_t split = 1; split < b.size; split++) {
		unsigned int id = 0;

		far_write(b.data, split);
		assert_int_equal(read_some(), 0);
		take_mixed_frames(&id);
		far_write(b.data + split, b.size - split);
		assert_int_equal(read_some(), 0);
		take_mixed_frames(&id);
		assert_int_equal(id, 6);
	}
	expect_idle();
}

static void test_byte_by_byte(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	unsigned int id = 0;

	put_mixed_frames(&b);
	for (size_t i = 0; i < b.size; i++) {
		far_write(b.data + i, 1);
		assert_int_equal(read_some(), 0);
		take_mixed_frames(&id);
	}
	assert_int_equal(id, 6);
	expect_idle();
}

/* ---- plain headers ---- */

#define PLAIN_FORMAT                                                                      \
	"{\"re\":4,\"size\":%zu,\"message\":%u,\"lease\":\"0a\",\"attempt\":1,\"from\":{" \
	"\"uid\":1,\"gid\":2,\"pid\":3,\"user\":\"ann\"},\"queue\":\"q\"}"

/* Deliveries and an answer, one of them with a space in it. */
static void put_plain_frames(struct buf *b)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(mixed_sizes); i++) {
		char header[200], body[5000];

		for (size_t k = 0; k < mixed_sizes[i]; k++)
			body[k] = body_byte(i + 1, k);
		snprintf(header, sizeof(header), PLAIN_FORMAT, mixed_sizes[i], i + 1);
		if (i == 2)
			strcpy(header + strlen(header) - 1, " }");
		put_raw_frame(b, header, strlen(header), body, mixed_sizes[i]);
	}
	put_frame(b, "{\"re\":4,\"message\":6}");
}

/* Whether it was recognised or parsed. */
static void check_plain_frame(struct frame *frame, unsigned int number)
{
	uint64_t message = frame->plain.message;

	if (frame->header) {
		assert_int_equal(frame->plain.kind, PLAIN_NONE);
		assert_int_equal(header_get_u64(frame->header, KEY_MESSAGE, 1, 100,
						&message, &fault),
				 1);
	} else {
		assert_int_equal(frame->plain.kind,
				 number == 6 ? PLAIN_SENT : PLAIN_DELIVERY);
		assert_int_equal(stream_parse_header(reader, frame, &fault), 0);
		assert_int_equal(header_has(frame->header, KEY_LEASE), number != 6);
	}
	assert_int_equal(message, number);
	check_body(frame, number, number == 6 ? 0 : mixed_sizes[number - 1]);
}

static unsigned int n_recognised;

static void take_plain_frames(unsigned int *number)
{
	struct frame frame;
	int r;

	while ((r = next(&frame)) == STREAM_E_FRAME) {
		n_recognised += !frame.header;
		check_plain_frame(&frame, ++*number);
	}
	assert_int_equal(r, 0);
}

static void test_plain(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	put_plain_frames(&b);
	for (int scans = 0; scans < 2; scans++) {
		unsigned int number = 0;

		stream.scans = scans;
		n_recognised = 0;
		far_write(b.data, b.size);
		assert_int_equal(read_some(), 0);
		take_plain_frames(&number);
		assert_int_equal(number, 6);
		assert_int_equal(n_recognised, scans ? 5 : 0);
	}
	for (size_t split = 1; split < b.size; split++) {
		unsigned int number = 0;

		far_write(b.data, split);
		assert_int_equal(read_some(), 0);
		take_plain_frames(&number);
		far_write(b.data + split, b.size - split);
		assert_int_equal(read_some(), 0);
		take_plain_frames(&number);
		assert_int_equal(number, 6);
	}
	expect_idle();
}

/* A body beyond the limit is skipped, as it is with a header that is parsed. */
static void test_plain_body_too_large(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct frame frame;
	char header[200], body[100] = "";

	stream.scans = true;
	snprintf(header, sizeof(header), PLAIN_FORMAT, (size_t)100, 1u);
	stream.body_max = 99;
	put_raw_frame(&b, header, strlen(header), body, 100);
	put_frame(&b, "{\"id\":3}");
	far_write(b.data, b.size);
	expect_frame(&frame);
	assert_int_equal(frame.plain.kind, PLAIN_DELIVERY);
	assert_int_equal(frame.body_size, 100);
	assert_null(frame.body);
	expect_id(3);
	expect_idle();
}

/* ---- what is under way ---- */

static void test_is_partial(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	size_t header_end;

	put_body_frame(&b, 1, 10);
	header_end = b.size - 10;
	for (size_t i = 0; i < b.size - 1; i++) {
		struct frame frame;
		bool in_body;

		far_write(b.data + i, 1);
		assert_int_equal(read_some(), 0);
		assert_int_equal(next(&frame), 0);
		assert_true(stream_is_partial(&stream, &in_body));
		assert_int_equal(in_body, i + 1 >= header_end);
	}
	far_write(b.data + b.size - 1, 1);
	expect_id(1);
	expect_idle();
}

/* ---- bodies ---- */

/* Frame 1 has a body of this size, frame 2 one of 3 bytes. */
static void take_two(size_t size, unsigned int *n_taken)
{
	struct frame frame;

	do {
		while (next(&frame) == STREAM_E_FRAME) {
			++*n_taken;
			assert_int_equal(frame_id(&frame), *n_taken);
			check_body(&frame, *n_taken, *n_taken == 1 ? size : 3);
		}
	} while (read_some() == 0);
}

static void feed_two(size_t size, size_t piece_max)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	unsigned int n_taken = 0;
	uint32_t seed = 5;

	put_body_frame(&b, 1, size);
	put_body_frame(&b, 2, 3);
	for (size_t at = 0, n; at < b.size; at += n) {
		n = min_size(b.size - at, 1 + next_random(&seed) % piece_max);
		far_write(b.data + at, n);
		take_two(size, &n_taken);
	}
	assert_int_equal(n_taken, 2);
	expect_idle();
}

/* Around the size from which bodies get a block, and that of a read; in any pieces. */
static void test_body_sizes(void **state)
{
	static const size_t edges[] = { 0,	 1,	32767, 32768,  32769,
					65500,	 65536, 65537, 131072, BODY_MAX - 1,
					BODY_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
		feed_two(edges[i], 1000);
		feed_two(edges[i], 20000);
		feed_two(edges[i], 100000);
	}
}

static void test_large_body_goes_into_a_block(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct frame frame;
	struct bytes *body;

	put_body_frame(&b, 1, 100000);
	far_write(b.data, 30);
	assert_int_equal(read_some(), 0);
	assert_int_equal(next(&frame), 0);
	far_write(b.data + 30, b.size - 30);
	expect_frame(&frame);
	assert_non_null(frame.body_block);
	assert_null(frame.body);
	check_body(&frame, 1, 100000);
	body = stream_steal_body(&stream);
	assert_ptr_equal(body, frame.body_block);
	assert_null(stream_steal_body(&stream));
	expect_idle();
	assert_int_equal((unsigned char)body->data[99999],
			 (unsigned char)body_byte(1, 99999));
	bytes_unref(body);
}

static void check_body_max(size_t size, size_t split)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct frame frame;

	put_body_frame(&b, 1, size);
	put_frame(&b, "{\"id\":2}");
	split = min_size(split, b.size - 1);
	far_write(b.data, split);
	assert_int_equal(read_some(), 0);
	if (next(&frame) != STREAM_E_FRAME) {
		far_write(b.data + split, b.size - split);
		expect_frame(&frame);
		split = b.size;
	}
	assert_int_equal(frame_id(&frame), 1);
	assert_int_equal(frame.body_size, size);
	if (size > stream.body_max) {
		assert_null(frame.body);
		assert_null(frame.body_block);
	} else {
		check_body(&frame, 1, size);
	}
	far_write(b.data + split, b.size - split);
	expect_id(2);
	expect_idle();
}

/* Above body_max the frame comes without its body, and the next one is right. */
static void test_body_too_large(void **state)
{
	static const size_t limits[] = { 0, 10, 40000 };

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		stream.body_max = limits[i];
		for (size_t split = 1; split < 70; split++) {
			check_body_max(limits[i], split);
			check_body_max(limits[i] + 1, split);
			check_body_max(100000, split);
		}
	}
}

static void test_huge_body_is_skipped_without_memory(void **state)
{
	static char zeros[60000];
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct frame frame;
	bool in_body;

	put_frame(&b, "{\"size\":9223372036854775807}");
	far_write(b.data, b.size);
	for (int i = 0; i < 100; i++) {
		far_write(zeros, sizeof(zeros));
		assert_int_equal(read_some(), 0);
		assert_int_equal(next(&frame), 0);
		assert_true(stream_is_partial(&stream, &in_body));
		assert_true(in_body);
		assert_true(stream.partial_capacity < 200);
		assert_null(stream.body);
	}
}

/* ---- the end ---- */

static void test_end_of_file(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct frame frame;
	bool in_body;

	put_body_frame(&b, 1, 40000);
	for (size_t size = 0; size < b.size; size += size < 40 ? 1 : 9999) {
		far_write(b.data, size);
		shutdown(far, SHUT_WR);
		while (!next(&frame))
			if (read_some() == STREAM_E_EOF)
				break;
		assert_int_equal(read_some(), STREAM_E_EOF);
		assert_int_equal(stream_is_partial(&stream, &in_body), size > 0);
		stream_anew();
	}
	far_write(b.data, b.size);
	close_far();
	expect_id(1);
	assert_int_equal(next(&frame), 0);
	assert_int_equal(read_some(), STREAM_E_EOF);
}

static void test_drained(void **state)
{
	static char zeros[STREAM_SCRATCH];
	bool drained = false;

	far_write(zeros, 100);
	assert_int_equal(stream_read(&stream, reader, MSG_DONTWAIT, &drained), 0);
	assert_true(drained);
	far_write(zeros, sizeof(zeros));
	far_write(zeros, 1);
	assert_int_equal(stream_read(&stream, reader, MSG_DONTWAIT, &drained), 0);
	assert_false(drained);
	assert_int_equal(stream_read(&stream, reader, MSG_DONTWAIT, &drained), 0);
	assert_true(drained);
	assert_int_equal(stream_read(&stream, reader, MSG_DONTWAIT, &drained),
			 STREAM_E_AGAIN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stream_open, stream_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_length_out_of_range),
		TEST(test_length_at_the_limits),
		TEST(test_stray_text),
		TEST(test_header_is_no_object),
		TEST(test_bad_size),
		TEST(test_reader_after_an_error),
		TEST(test_several_frames_in_one_read),
		TEST(test_split_at_every_byte),
		TEST(test_byte_by_byte),
		TEST(test_plain),
		TEST(test_plain_body_too_large),
		TEST(test_is_partial),
		TEST(test_body_sizes),
		TEST(test_large_body_goes_into_a_block),
		TEST(test_body_too_large),
		TEST(test_huge_body_is_skipped_without_memory),
		TEST(test_end_of_file),
		TEST(test_drained),
	};

	return cmocka_run_group_tests_name("stream_in", tests, NULL, NULL);
}
