/* SPDX-License-Identifier: MIT */

/*
 * libipc/base and libipc/wire with the n-th allocation failing, for every n: no crash, no
 * leak (the sanitizer and the count of descriptors say), -ENOMEM to the caller, and what is
 * shared by many streams works afterwards.
 */

#include "unit/alloc.h"
#include "unit/stream.h"

#include <sys/mman.h>

enum { ATTEMPTS_MAX = 300 };

/* Runs scenario() with the n-th allocation failing until it needs fewer than n. */
static void run_failing(int (*scenario)(void))
{
	for (unsigned long n = 1; n < ATTEMPTS_MAX; n++) {
		int r;

		fail_allocation(n);
		r = scenario();
		if (!allocation_failed()) {
			assert_int_equal(r, 0);
			assert_true(n > 1);
			return;
		}
		if (r != -ENOMEM)
			fail_msg("allocation %lu failed, result %d", n, r);
	}
	fail_msg("it never ends");
}

/* ---- json ---- */

/* Needs a long tape, sorted keys and room for decoded strings. */
static const char *big_text(void)
{
	static char text[20000];
	char *end = text;

	if (*text)
		return text;
	end += sprintf(end, "{\"id\":1");
	for (int i = 0; i < 500; i++)
		end += sprintf(end, ",\"\\u006bey%d\":\"\\u00fcber\"", i);
	sprintf(end, "}");
	return text;
}

static void check_parser(struct json *j)
{
	struct header h;

	assert_int_equal(header_parse(&h, j, "{\"op\":\"ping\",\"id\":7}", 20), 0);
	assert_int_equal(json_at(j, h.at[KEY_ID])->integer, 7);
	assert_int_equal(header_parse(&h, j, "{\"a\":1,\"a\":2}", 13), -EBADMSG);
}

static int parse_anew(void)
{
	struct json *j;
	struct header h;
	int r = json_new(&j, LIMIT_HEADER_MAX, false);

	if (r < 0)
		return r;
	r = header_parse(&h, j, big_text(), strlen(big_text()));
	allocation_failed();
	check_parser(j);
	assert_int_equal(header_parse(&h, j, big_text(), strlen(big_text())), 0);
	assert_int_equal(json_at(j, 0)->n_members, 501);
	json_free(j);
	return r;
}

static void test_json(void **state)
{
	big_text();
	run_failing(parse_anew);
}

/* A parser that has grown to its texts allocates no more, and does not grow for ever. */
static void test_parser_settles(void **state)
{
	struct json *j;

	assert_int_equal(json_new(&j, LIMIT_HEADER_MAX, false), 0);
	for (int i = 0; i < 50; i++) {
		fail_allocation(i ? 1 : 0);
		assert_int_equal(json_parse(j, big_text(), strlen(big_text())), 0);
		assert_false(allocation_failed());
	}
	json_free(j);
}

static int write_anew(void)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct json_writer *w;
	int r = json_writer_new(&w);

	if (r < 0)
		return r;
	json_writer_begin(w, &out);
	for (int i = 0; i < 100; i++)
		json_put_text(w, "key", "a longer text with \"quotes\" in it");
	r = json_writer_end(w);
	allocation_failed();
	out.size = 0; /* the writer and the buffer are as good as before */
	json_writer_begin(w, &out);
	json_put_u64(w, "re", 1);
	assert_int_equal(json_writer_end(w), 0);
	assert_int_equal(out.size, 8);
	assert_memory_equal(out.data, "{\"re\":1}", 8);
	json_writer_free(w);
	return r;
}

static void test_writer(void **state)
{
	run_failing(write_anew);
}

static int reader_anew(void)
{
	struct reader *r;
	int result = reader_new(&r);

	if (result == 0)
		reader_free(r);
	return result;
}

static void test_reader(void **state)
{
	run_failing(reader_anew);
}

/* ---- input ---- */

static struct buf script = BUF_INIT;
static size_t fds_frame_end;

static void make_script(void)
{
	script.size = 0;
	put_frame(&script, "{\"id\":1,\"fds\":2,\"size\":0}");
	fds_frame_end = script.size;
	put_body_frame(&script, 2, 50000);
	put_body_frame(&script, 3, 300);
	put_frame(&script, "{\"id\":4}");
}

/* Takes what is in the reader, the rest put aside after each frame. */
static int take_frames(unsigned int *n_frames)
{
	struct frame frame;
	int r;

	while ((r = next(&frame)) == STREAM_E_FRAME) {
		++*n_frames;
		r = stream_hold(&stream, reader);
		if (r < 0)
			return r;
		if (stream_is_held(&stream))
			stream_resume(&stream, reader);
	}
	return r;
}

static int feed(const size_t *ends, size_t n_ends, unsigned int *n_frames)
{
	size_t at = 0;

	for (size_t i = 0; i < n_ends; i++) {
		int r;

		far_write_fds(script.data + at, ends[i] - at, far, at ? 0 : 2);
		at = ends[i];
		r = read_some();
		if (r < 0)
			return r;
		r = take_frames(n_frames);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The script in four pieces, cut inside a header, a large body and a small one. */
static int read_script(void)
{
	size_t ends[] = { 10, fds_frame_end + 100, script.size - 200, script.size };
	unsigned int n_frames = 0;
	int r = feed(ends, ARRAY_SIZE(ends), &n_frames);

	allocation_failed();
	if (r == 0)
		assert_int_equal(n_frames, 4);
	stream_anew(); /* counts descriptors */
	far_write(script.data + fds_frame_end, script.size - fds_frame_end);
	expect_id(2); /* the reader serves the next stream */
	expect_id(3);
	expect_id(4);
	expect_idle();
	return r;
}

static void test_input(void **state)
{
	make_script();
	run_failing(read_script);
	buf_deinit(&script);
}

/* ---- output ---- */

static struct bytes *block;

static struct fdset *new_fds(int *ret)
{
	int fds[2] = { dup(far), dup(far) };
	struct fdset *set = fdset_new(fds, 2);

	if (!set) {
		close(fds[0]);
		close(fds[1]);
		*ret = -ENOMEM;
	}
	return set;
}

static int put_script(void)
{
	int r = 0;

	for (int i = 0; i < 40 && r == 0; i++) {
		r = stream_put_header(&stream, "{\"id\":1,\"fds\":2}", 16);
		if (r == 0)
			r = stream_put_bytes(&stream, block, 0, block->size);
		if (r == 0 && i % 8 == 0)
			stream_put_fds_take(&stream, new_fds(&r));
	}
	return r;
}

static int write_script(void)
{
	int r = put_script();

	allocation_failed();
	stream_anew(); /* counts descriptors */
	assert_int_equal(block->refs, 1);
	return r;
}

static void test_output(void **state)
{
	block = bytes_new(5000);
	run_failing(write_script);
	bytes_unref(block);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stream_open, stream_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_parser_settles),
		cmocka_unit_test(test_writer),
		cmocka_unit_test(test_reader),
		TEST(test_input),
		TEST(test_output),
	};

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
