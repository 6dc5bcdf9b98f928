/* SPDX-License-Identifier: MIT */

/* File descriptors that come with frames: each with its own, or lost; none leaked. Every
 * test's teardown counts them. */

#include "unit/stream.h"

#include <sys/mman.h>
#include <sys/resource.h>

/* ---- recvmsg may be interrupted ---- */

static unsigned int n_interrupts;

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
	if (n_interrupts) {
		n_interrupts--;
		errno = EINTR;
		return -1;
	}
	return __real_recvmsg(fd, message, flags);
}

/* ---- files that can be told apart ---- */

enum { N_FILES = 3 };
static int files[N_FILES];

static int open_files(void **state)
{
	for (int i = 0; i < N_FILES; i++)
		files[i] = memfd_create("file", MFD_CLOEXEC);
	return stream_open(state);
}

static int close_files(void **state)
{
	int r = stream_close(state);

	for (int i = 0; i < N_FILES; i++)
		fd_close(files[i]);
	return r;
}

static void check_is_file(int fd, int file)
{
	struct stat a, b;

	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(fstat(files[file], &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

/* ---- scripts: frames with and without descriptors ---- */

/* A frame of a script: 0 none, 1..N_FILES: one descriptor of that file; body_size bytes. */
struct step {
	int file;
	size_t body_size;
};

static void put_step(struct buf *b, const struct step *step, unsigned int id)
{
	char header[64];
	char *body = calloc(1, step->body_size + 1);

	snprintf(header, sizeof(header), "{\"id\":%u%s,\"size\":%zu}", id,
		 step->file ? ",\"fds\":1" : "", step->body_size);
	put_raw_frame(b, header, strlen(header), body, step->body_size);
	free(body);
}

static void check_step(const struct frame *frame, const struct step *step,
		       unsigned int id)
{
	assert_int_equal(frame_id(frame), id);
	assert_int_equal(frame->body_size, step->body_size);
	assert_false(frame->fds_lost);
	if (step->file) {
		assert_non_null(frame->fds);
		assert_int_equal(frame->fds->n, 1);
		check_is_file(frame->fds->fds[0], step->file - 1);
	} else {
		assert_null(frame->fds);
	}
}

static void take_steps(const struct step *steps, unsigned int *n_taken)
{
	struct frame frame;
	int r;

	while ((r = next(&frame)) == STREAM_E_FRAME) {
		check_step(&frame, &steps[*n_taken], *n_taken);
		++*n_taken;
	}
	if (r)
		fail_msg("%d: %s", r, fault.text);
}

/* Writes the script as a proper sender does: a sendmsg begins with each frame that has
 * descriptors, and here also at byte `split`. The other end reads after each write, or
 * (lazily) only when all is written. */
static void run_script(const struct step *steps, unsigned int n, size_t split,
		       bool lazily)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	unsigned int n_taken = 0;
	size_t begin[8], at = 0;

	for (unsigned int i = 0; i < n; i++) {
		begin[i] = b.size;
		put_step(&b, &steps[i], i);
	}
	while (at < b.size) {
		size_t end = split > at ? min_size(split, b.size) : b.size;
		int file = 0;

		for (unsigned int i = 0; i < n; i++) {
			if (begin[i] == at)
				file = steps[i].file;
			if (begin[i] > at && steps[i].file)
				end = min_size(end, begin[i]);
		}
		far_write_fds(b.data + at, end - at, file ? files[file - 1] : -1,
			      file != 0);
		at = end;
		if (!lazily) {
			assert_int_equal(read_some(), 0);
			take_steps(steps, &n_taken);
		}
	}
	while (!read_some())
		take_steps(steps, &n_taken);
	assert_int_equal(n_taken, n);
	expect_idle();
}

static void run_everywhere(const struct step *steps, unsigned int n)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	for (unsigned int i = 0; i < n; i++)
		put_step(&b, &steps[i], i);
	for (size_t split = 0; split < min_size(b.size, 400); split++) {
		run_script(steps, n, split, false);
		run_script(steps, n, split, true);
	}
}

static void test_back_to_back(void **state)
{
	static const struct step plain_first[] = { { 0, 0 }, { 1, 0 } };
	static const struct step fds_first[] = { { 1, 0 }, { 0, 0 } };
	static const struct step both[] = { { 1, 0 }, { 2, 0 }, { 3, 0 } };
	static const struct step mixed[] = { { 0, 5 }, { 1, 7 }, { 0, 0 }, { 0, 3 },
					     { 2, 0 }, { 3, 9 }, { 0, 1 } };

	run_everywhere(plain_first, 2);
	run_everywhere(fds_first, 2);
	run_everywhere(both, 3);
	run_everywhere(mixed, 7);
}

static void test_with_large_bodies(void **state)
{
	static const struct step large[] = { { 0, 40000 }, { 1, 40000 }, { 2, 3 } };
	static const struct step skipped[] = {
		{ 1, 40000 }, { 2, 40000 }, { 0, 3 }, { 3, 0 }
	};

	run_everywhere(large, 3);
	stream.body_max = 1000;
	run_everywhere(skipped, 4);
}

/* ---- counts ---- */

/* Frame 1 says `said` and comes with `sent`; frame 2 has one that must be its own. */
static void check_counts(const char *said, unsigned int sent, unsigned int expected,
			 bool lost)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct step second = { 2, 0 };
	struct frame frame;
	char header[64];

	snprintf(header, sizeof(header), "{\"id\":1,\"fds\":%s}", said);
	put_frame(&b, header);
	far_write_fds(b.data, b.size, files[0], sent);
	b.size = 0;
	put_step(&b, &second, 2);
	far_write_fds(b.data, b.size, files[1], 1);

	expect_frame(&frame);
	assert_int_equal(frame_id(&frame), 1);
	assert_int_equal(frame.fds_lost, lost);
	assert_int_equal(frame.fds ? frame.fds->n : 0, expected);
	for (unsigned int i = 0; i < expected; i++)
		check_is_file(frame.fds->fds[i], 0);
	expect_frame(&frame);
	check_step(&frame, &second, 2);
	expect_idle();
}

static void test_counts(void **state)
{
	check_counts("0", 0, 0, false);
	check_counts("true", 0, 0, false); /* hello */
	check_counts("false", 0, 0, false);
	check_counts("1", 1, 1, false);
	check_counts("2", 2, 2, false);
	check_counts("16", 16, 16, false);
	check_counts("17", 17, 0, true); /* more than fds_max */
	check_counts("253", 253, 0, true);
	check_counts("1", 2, 0, true);
	check_counts("2", 1, 0, true);
	check_counts("17", 1, 0, true);
	check_counts("-1", 1, 0, true);
	check_counts("9223372036854775807", 1, 0, true);
}

static void test_announced_and_not_sent(void **state)
{
	static const size_t splits[] = { 0, 3, 20 };

	for (size_t i = 0; i < ARRAY_SIZE(splits); i++) {
		_cleanup_buf_ struct buf b = BUF_INIT;
		struct frame frame;

		put_frame(&b, "{\"id\":1,\"fds\":1,\"size\":0}");
		if (splits[i]) {
			far_write(b.data, splits[i]);
			assert_int_equal(read_some(), 0);
			assert_int_equal(next(&frame), 0);
		}
		far_write(b.data + splits[i], b.size - splits[i]);
		expect_end(-EPROTO, FAULT_BAD_FRAME, "no file descriptors came");
		stream_anew();
	}
}

static void test_sent_and_not_announced(void **state)
{
	static const char *const headers[] = { "{}", "{\"fds\":0}", "{\"fds\":true}",
					       "{\"fds\":\"1\"}", "{\"fds\":1.0}" };

	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		_cleanup_buf_ struct buf b = BUF_INIT;
		struct frame frame;

		put_frame(&b, headers[i]);
		far_write_fds(b.data, b.size, files[0], 1);
		expect_frame(&frame);
		assert_null(frame.fds);
		expect_end(-EPROTO, FAULT_BAD_FRAME, "does not say");
		stream_anew();
	}
}

/* The next frame says `fds`, but sends none: it must not get what came before it. */
static void test_next_frame_gets_no_foreign_one(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct frame frame;

	put_frame(&b, "{\"id\":1}");
	far_write_fds(b.data, b.size, files[0], 1);
	b.size = 0;
	put_frame(&b, "{\"id\":2,\"fds\":1}");
	far_write(b.data, b.size);
	expect_frame(&frame);
	assert_int_equal(frame_id(&frame), 1);
	expect_end(-EPROTO, FAULT_BAD_FRAME, "does not say");
}

#define DELIVERY                                                                      \
	"{\"re\":4,\"size\":0,\"message\":9,\"lease\":\"0\",\"attempt\":1,\"from\":{" \
	"\"uid\":1,\"gid\":2,\"pid\":3,\"user\":\"ann\"},\"queue\":\"q\"}"

/* Plain headers have none, and take none that belong to others. */
static void test_among_plain_ones(void **state)
{
	_cleanup_buf_ struct buf plain = BUF_INIT, with = BUF_INIT;
	struct frame frame;

	stream.scans = true;
	put_frame(&plain, DELIVERY);
	put_frame(&with, "{\"id\":1,\"fds\":1}");
	far_write(plain.data, plain.size);
	far_write_fds(with.data, with.size, files[0], 1);
	far_write(plain.data, plain.size);
	expect_frame(&frame);
	assert_int_equal(frame.plain.kind, PLAIN_DELIVERY);
	assert_null(frame.fds);
	expect_frame(&frame);
	assert_int_equal(frame.fds->n, 1);
	expect_frame(&frame);
	assert_int_equal(frame.plain.kind, PLAIN_DELIVERY);
	assert_null(frame.fds);

	far_write_fds(plain.data, plain.size, files[0], 1);
	expect_frame(&frame);
	assert_null(frame.fds);
	expect_end(-EPROTO, FAULT_BAD_FRAME, "does not say");
}

static void test_descriptors_in_a_body(void **state)
{
	static const size_t body_sizes[] = { 10, 40000, BODY_MAX + 1 };

	for (size_t i = 0; i < ARRAY_SIZE(body_sizes); i++) {
		_cleanup_buf_ struct buf b = BUF_INIT;
		struct frame frame;

		size_t at;

		put_body_frame(&b, 1, body_sizes[i]);
		at = b.size - body_sizes[i] + 2;
		far_write(b.data, at);
		assert_int_equal(read_some(), 0);
		assert_int_equal(next(&frame), 0);
		far_write_fds(b.data + at, 1, files[0], 1);
		expect_end(-EPROTO, FAULT_BAD_FRAME, "does not say");
		stream_anew();
	}
}

/* One batch may wait for its header; a second one cannot be meant. */
static void test_two_batches_in_a_header(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct frame frame;

	put_frame(&b, "{\"id\":1,\"fds\":1}");
	far_write(b.data, 2);
	assert_int_equal(read_some(), 0);
	assert_int_equal(next(&frame), 0);
	far_write_fds(b.data + 2, 6, files[0], 1);
	assert_int_equal(read_some(), 0);
	assert_int_equal(next(&frame), 0);
	far_write_fds(b.data + 8, 1, files[0], 1);
	expect_end(-EPROTO, FAULT_BAD_FRAME, "does not say");
}

/* ---- this process is out of descriptors ---- */

/* The lowest free descriptor numbers, so many, stay usable. */
static void leave_free(unsigned int n, struct rlimit *ret_before)
{
	struct rlimit limit;
	int free_fd = dup(far);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, ret_before), 0);
	limit = *ret_before;
	close(free_fd);
	limit.rlim_cur = (rlim_t)free_fd + n;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void check_cut_batch(unsigned int n_sent, unsigned int n_free)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct step second = { 2, 0 };
	struct frame frame;
	struct rlimit before;
	char header[64];
	bool drained = true;

	snprintf(header, sizeof(header), "{\"id\":1,\"fds\":%u}", n_sent);
	put_frame(&b, header);
	far_write_fds(b.data, b.size, files[0], n_sent);
	b.size = 0;
	put_step(&b, &second, 2);
	far_write_fds(b.data, b.size, files[1], 1);

	leave_free(n_free, &before);
	assert_int_equal(stream_read(&stream, reader, MSG_DONTWAIT, &drained), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_false(drained); /* frame 2 is waiting */
	assert_int_equal(next(&frame), STREAM_E_FRAME);
	assert_int_equal(frame_id(&frame), 1);
	assert_true(frame.fds_lost);
	assert_null(frame.fds);
	expect_frame(&frame);
	check_step(&frame, &second, 2);
	expect_idle();
}

static void test_no_free_descriptors(void **state)
{
	check_cut_batch(1, 0);
	check_cut_batch(2, 0);
	check_cut_batch(2, 1);
	check_cut_batch(16, 7);
	check_cut_batch(16, 15);
}

/* ---- who owns them ---- */

static void send_with_fds(unsigned int n)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	char header[64];

	snprintf(header, sizeof(header), "{\"id\":1,\"fds\":%u}", n);
	put_frame(&b, header);
	far_write_fds(b.data, b.size, files[0], n);
}

static void test_stolen_and_dropped(void **state)
{
	int before = count_fds();
	struct frame frame;
	struct fdset *set;

	send_with_fds(3);
	expect_frame(&frame);
	assert_int_equal(count_fds(), before + 3);
	set = stream_steal_fds(&stream);
	assert_ptr_equal(set, frame.fds);
	assert_null(stream_steal_fds(&stream));
	expect_idle();
	assert_int_equal(count_fds(), before + 3);
	fdset_free(set);

	send_with_fds(3);
	expect_frame(&frame);
	expect_idle(); /* nobody took them: the next call closes them */
	assert_int_equal(count_fds(), before);
}

/* At every stage of a frame the stream may end. */
static void test_stream_ends_with_descriptors(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct frame frame;

	put_frame(&b, "{\"id\":1,\"fds\":2,\"size\":5}");
	assert_int_equal(buf_append_string(&b, "hello"), 0);
	for (size_t size = 1; size <= b.size; size++) {
		for (int parse = 0; parse < 2; parse++) {
			far_write_fds(b.data, size, files[0], 2);
			assert_int_equal(read_some(), 0);
			if (parse)
				assert_int_equal(next(&frame),
						 size < b.size ? 0 : STREAM_E_FRAME);
			stream_anew(); /* counts them */
		}
	}
}

static unsigned int n_given;

static void give_away(const struct stream *s, struct fdset *set)
{
	assert_ptr_equal(s, &stream);
	n_given += set->n;
	fdset_free(set);
}

/* close() of foreign descriptors can block: all of them go the way that was set. */
static void test_close_fds(void **state)
{
	struct frame frame;

	n_given = 0;
	stream.close_fds = give_away;
	send_with_fds(1); /* not taken */
	expect_frame(&frame);
	expect_idle();
	assert_int_equal(n_given, 1);
	send_with_fds(17); /* lost */
	expect_frame(&frame);
	assert_int_equal(n_given, 18);
	send_with_fds(2); /* never parsed */
	assert_int_equal(read_some(), 0);
	stream_deinit(&stream);
	assert_int_equal(n_given, 20);
}

/* ---- put aside and put back ---- */

static void unread_once(struct frame *frame)
{
	stream_unread(&stream, reader, frame);
	assert_int_equal(stream_hold(&stream, reader), 0);
	if (stream_is_held(&stream))
		stream_resume(&stream, reader);
	assert_int_equal(next(frame), STREAM_E_FRAME);
}

static void test_unread(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct step steps[] = { { 1, 6 }, { 2, 0 } };
	size_t first_size;

	put_step(&b, &steps[0], 0);
	first_size = b.size;
	put_step(&b, &steps[1], 1);
	for (size_t split = 0; split < first_size; split++) {
		struct frame frame;

		far_write_fds(b.data, split ? split : first_size, files[0], 1);
		if (split) {
			assert_int_equal(read_some(), 0);
			assert_int_equal(next(&frame), 0);
			far_write(b.data + split, first_size - split);
		}
		far_write_fds(b.data + first_size, b.size - first_size, files[1], 1);
		expect_frame(&frame);
		unread_once(&frame);
		unread_once(&frame);
		check_step(&frame, &steps[0], 0);
		expect_frame(&frame);
		unread_once(&frame);
		check_step(&frame, &steps[1], 1);
		expect_idle();
	}
}

static void test_unread_of_a_loss(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT, plain = BUF_INIT;
	struct frame frame;

	put_frame(&b, "{\"id\":1,\"fds\":2}");
	put_frame(&plain, "{\"id\":2}");
	for (size_t split = 1; split <= b.size; split++) {
		far_write_fds(b.data, split, files[0], 1);
		if (split < b.size) {
			assert_int_equal(read_some(), 0);
			assert_int_equal(next(&frame), 0);
			far_write(b.data + split, b.size - split);
		}
		expect_frame(&frame);
		for (int i = 0; i < 3; i++) {
			assert_true(frame.fds_lost);
			assert_null(frame.fds);
			unread_once(&frame);
		}
		/* the next frame, cut at the same place, has lost nothing */
		far_write(plain.data, min_size(split, plain.size));
		assert_int_equal(read_some(), 0);
		if (next(&frame) == 0) {
			far_write(plain.data + split, plain.size - split);
			expect_frame(&frame);
		}
		assert_int_equal(frame_id(&frame), 2);
		assert_false(frame.fds_lost);
		expect_idle();
	}
}

/* ---- interrupted ---- */

static void test_interrupted_read(void **state)
{
	bool drained;

	send_with_fds(1);
	n_interrupts = 1;
	assert_int_equal(stream_read(&stream, reader, 0, &drained), -EINTR);
	n_interrupts = 3;
	assert_int_equal(stream_read(&stream, reader, MSG_DONTWAIT, &drained), 0);
	assert_int_equal(n_interrupts, 0);
	expect_id(1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_files, close_files)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_back_to_back),
		TEST(test_with_large_bodies),
		TEST(test_counts),
		TEST(test_announced_and_not_sent),
		TEST(test_sent_and_not_announced),
		TEST(test_next_frame_gets_no_foreign_one),
		TEST(test_among_plain_ones),
		TEST(test_descriptors_in_a_body),
		TEST(test_two_batches_in_a_header),
		TEST(test_no_free_descriptors),
		TEST(test_stolen_and_dropped),
		TEST(test_stream_ends_with_descriptors),
		TEST(test_close_fds),
		TEST(test_unread),
		TEST(test_unread_of_a_loss),
		TEST(test_interrupted_read),
	};

	return cmocka_run_group_tests_name("stream_fds", tests, NULL, NULL);
}
