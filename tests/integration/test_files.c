/* SPDX-License-Identifier: MIT */

/* Bodies that are files: each way in, each way out, and what is handed over of a file. */

#include "integration/harness_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "integration/durable.h"
#include "wire/limits.h"

/* What a receiver of this kind gets of a body of this size. */
static void check_way_out(const struct frame *f, enum way out, size_t size)
{
	bool large = size > LIMIT_PIECE_MAX;

	if ((f->fd >= 0) != (out == BY_FD && large) ||
	    json_has(f->header, "more") != (out == BY_PIECES && large) ||
	    (f->fd < 0 && !json_has(f->header, "more") && f->body_size != size))
		fail_at(HERE, "%zu bytes for %s: %s", size, way_name(out), f->header);
	if (f->fd < 0)
		return;
	assert_int_equal(fcntl(f->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(lseek(f->fd, 0, SEEK_CUR), 0);
}

static void check_all_ways(const char *queue)
{
	static const size_t sizes[] = { 0, SMALL, LIMIT_PIECE_MAX, LIMIT_PIECE_MAX + 1,
					LARGE };
	struct client *c = client_connect();
	const char *keys = keep_printf("'queue':'%s','filename':'a.b'", queue);

	for (enum way out = 0; out < N_WAYS; out++) {
		struct client *receiver = connect_for(out);

		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
			for (enum way in = 0; in < N_WAYS; in++) {
				struct frame *f;

				send_file(c, in, sizes[i], keys);
				f = take_file(receiver, queue, sizes[i]);
				check_way_out(f, out, sizes[i]);
				assert_string_equal(json_string(f->header, "filename"),
						    "a.b");
				assert_int_equal(json_int(f->header, "file_size"),
						 sizes[i]);
				settle(receiver, "ack", f, "");
			}
	}
	assert_int_equal(queue_count(queue, "bytes"), 0);
}

static void test_all_ways_without_state(void **state)
{
	start();
	check_all_ways("q");
}

static void test_all_ways_in_a_durable_queue(void **state)
{
	start_durable();
	check_all_ways("q");
	wait_for(spool_count() == 0);
}

static void test_all_ways_in_a_memory_queue(void **state)
{
	start_durable();
	create_volatile(client_connect(), "q");
	check_all_ways("q");
	wait_for(spool_count() == 0);
}

/* A large body is a body as any, with or without a name. */
static void test_without_a_name(void **state)
{
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	for (enum way in = 0; in < N_WAYS; in++) {
		send_file(c, in, LARGE, "'queue':'q'");
		f = take_file(c, "q", LARGE);
		assert_false(json_has(f->header, "filename"));
	}
	say(c, "{'op':'delete','id':1,'name':'q'}");
	hear_reply(c, 1);
}

/* ---- the sender's file ---- */

/* What is done to the file after the answer does not change the message; the descriptor of
 * the sender's is left as it was. */
static void check_snapshot(const char *queue)
{
	struct client *c = client_connect(), *receiver = connect_with_fds();
	int fd = make_file(LARGE);
	struct frame *f;

	assert_int_equal(lseek(fd, 1234, SEEK_SET), 1234);
	send_fd(c, fd, keep_printf("'queue':'%s'", queue));
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 1234);
	assert_int_equal(pwrite(fd, "changed", 7, 100), 7);
	f = take_file(receiver, queue, LARGE);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_true(fd_has_pattern(f->fd, LARGE));
	settle(receiver, "ack", f, "");
	assert_true(fd_has_pattern(f->fd, LARGE)); /* what was handed over stays */
}

static void test_a_snapshot(void **state)
{
	start_durable();
	create_volatile(client_connect(), "memory");
	check_snapshot("durable");
	check_snapshot("memory");
	stop();
	start();
	check_snapshot("volatile");
}

/* For reading only, for both, and without a name in any directory. */
static void test_how_it_was_opened(void **state)
{
	struct client *c;
	int fd;

	start();
	c = client_connect();
	fd = make_file(LARGE);
	send_fd(c, reopen(fd, O_RDONLY), "'queue':'q'");
	send_fd(c, reopen(fd, O_RDWR | O_APPEND | O_NONBLOCK), "'queue':'q'");
	fd = keep_fd(open(server.dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
	assert_int_equal(write(fd, pattern(LARGE), LARGE), LARGE);
	send_fd(c, fd, "'queue':'q'");
	for (int i = 0; i < 3; i++)
		settle(c, "ack", take_file(c, "q", LARGE), "");
}

/* Only whole blocks can be read, to where memory is aligned. */
static void test_opened_for_direct_reading(void **state)
{
	static const size_t sizes[] = {
		0, 1, 4095, 8192, LIMIT_PIECE_MAX, LARGE, (3 << 20) + 7
	};
	struct client *c;

	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		char path[32];
		int fd;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", make_file(sizes[i]));
		fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
		if (fd < 0) /* not on every file system */
			skip();
		keep_fd(fd);
		send_fd(c, fd, "'queue':'q'");
		send_fd(c, fd, "'queue':'q','md5':true");
		for (int n = 0; n < 2; n++)
			settle(c, "ack", take_file(c, "q", sizes[i]), "");
	}
}

static void check_memfds(const char *queue)
{
	const char *keys = keep_printf("'queue':'%s'", queue);
	struct client *c = client_connect();

	for (int sealed = 0; sealed <= 1; sealed++)
		for (enum way out = 0; out < N_WAYS; out++) {
			struct client *receiver = connect_for(out);
			int fd = make_memfd(LARGE, sealed);
			struct frame *f;

			send_fd(c, fd, keys);
			if (!sealed)
				assert_int_equal(ftruncate(fd, 0), 0);
			f = take_file(receiver, queue, LARGE);
			if (f->fd >= 0) {
				assert_int_equal(pwrite(f->fd, "x", 1, 0), -1);
				assert_int_equal(lseek(f->fd, 0, SEEK_CUR), 0);
			}
			settle(receiver, "ack", f, "");
		}
}

static void test_memfds(void **state)
{
	start_durable();
	create_volatile(client_connect(), "memory");
	check_memfds("durable");
	check_memfds("memory");
	stop();
	start();
	check_memfds("volatile");
}

/* Not all seals: what could still change is copied. */
static void test_a_memfd_with_some_seals(void **state)
{
	struct client *c, *receiver;
	struct frame *f;
	int fd;

	start();
	c = client_connect();
	receiver = connect_with_fds();
	fd = make_memfd(LARGE, false);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	send_fd(c, fd, "'queue':'q'");
	assert_int_equal(pwrite(fd, "changed", 7, 0), 7);
	f = take_file(receiver, "q", LARGE);
	settle(receiver, "ack", f, "");
}

static int64_t bytes_on_disk(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (int64_t)st.st_blocks * 512;
}

/* Half a terabyte with three bytes in it: as little to copy, and on the disk. */
static void check_holes(const char *queue)
{
	static const int64_t size = 1ll << 39;
	static const int64_t places[] = { 0, 1ll << 33, (1ll << 39) - 1 };
	struct client *c = client_connect(), *receiver = connect_with_fds();
	int fd = make_sparse((size_t)size);
	struct frame *f;
	char byte;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		assert_int_equal(pwrite(fd, "x", 1, places[i]), 1);
	send_fd(c, fd, keep_printf("'queue':'%s','filename':'holes'", queue));
	say(receiver, "{'op':'receive','id':1,'queue':'%s','wait_ms':30000}", queue);
	f = hear_reply(receiver, 1);
	hear_end(receiver, 1, "max");
	assert_int_equal(json_int(f->header, "file_size"), size);
	assert_int_equal(lseek(f->fd, 0, SEEK_END), size);
	assert_in_range(bytes_on_disk(f->fd), 3, 1 << 20);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		assert_int_equal(pread(f->fd, &byte, 1, places[i]), 1);
		assert_int_equal(byte, 'x');
	}
	settle(receiver, "ack", f, "");
}

#define ROOM "--limit", "queue_bytes=1099511627776", "--limit", "user_bytes=1099511627776"

static void test_holes_are_kept(void **state)
{
	start_durable(ROOM);
	check_holes("q");
	stop();
	start(ROOM);
	check_holes("q");
}

/* ---- deliveries ---- */

static void test_each_delivery_has_its_own_offset(void **state)
{
	struct client *c;
	struct frame *first, *second;
	char data[1000];

	start_durable();
	c = connect_with_fds();
	send_file(c, BY_FRAME, LARGE, "'queue':'q'");
	first = take_file(c, "q", LARGE);
	assert_int_equal(read(first->fd, data, sizeof(data)), sizeof(data));
	settle(c, "nack", first, ",'delay_ms':0");
	second = take_file(c, "q", LARGE);
	assert_int_equal(lseek(second->fd, 0, SEEK_CUR), 0);
	assert_int_equal(lseek(first->fd, 0, SEEK_CUR), sizeof(data));
	assert_int_equal(json_int(second->header, "attempt"), 2);
}

/* Nor by way of the mapping. */
static void test_a_receiver_cannot_change_it(void **state)
{
	struct client *c;
	struct frame *f;

	start_durable();
	c = connect_with_fds();
	send_file(c, BY_FD, LARGE, "'queue':'q'");
	f = take_file(c, "q", LARGE);
	assert_int_equal(pwrite(f->fd, "x", 1, 0), -1);
	assert_int_equal(ftruncate(f->fd, 0), -1);
	assert_true(mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0) ==
		    MAP_FAILED);
	settle(c, "nack", f, ",'delay_ms':0");
	take_file(c, "q", LARGE);
}

static void test_peek(void **state)
{
	struct client *c;

	start_durable();
	c = client_connect();
	send_file(c, BY_FD, LARGE, "'queue':'q','filename':'large'");
	send_file(c, BY_FD, SMALL, "'queue':'q','filename':'small'");
	for (enum way out = 0; out < N_WAYS; out++) {
		struct client *receiver = connect_for(out);
		struct frame *f;

		for (int i = 0; i < 2; i++) {
			say(receiver,
			    "{'op':'receive','id':1,'queue':'q','peek':true,'max':0}");
			f = hear_file(receiver, 1, LARGE);
			check_way_out(f, out, LARGE);
			assert_string_equal(json_string(f->header, "state"), "ready");
			f = hear_file(receiver, 1, SMALL);
			check_way_out(f, out, SMALL);
			hear_end(receiver, 1, "peeked");
		}
	}
	settle(c, "ack", take_file(c, "q", LARGE), "");
	settle(c, "ack", take_file(c, "q", SMALL), "");
}

/* Many at once for one receiver: each frame has its own descriptor, small ones between. */
static void test_many_deliveries(void **state)
{
	enum { N = 100 };
	struct client *c, *receiver;

	start_durable();
	c = client_connect();
	receiver = connect_with_fds();
	for (int i = 0; i < N; i++)
		say_file(c, (uint64_t)i, i % 3 ? BY_FD : BY_FRAME,
			 (size_t)(i % 2 ? i : LARGE + i), "'queue':'q'");
	for (int i = 0; i < N; i++)
		hear(c);
	say(receiver, "{'op':'receive','id':1,'queue':'q','max':%d,'window':%d}", N, N);
	for (int i = 0; i < N; i++) {
		struct frame *f = hear_file(receiver, 1, (size_t)(i % 2 ? i : LARGE + i));

		if (f->fd >= 0)
			close_kept(f->fd);
	}
	hear_end(receiver, 1, "max");
}

/* ---- order ---- */

/* While a file is copied, later messages of its sender wait behind it. */
static void test_order_behind_a_copy(void **state)
{
	enum { N = 20, SIZE = 4 << 20 };
	struct client *c, *receiver;
	int fd;

	start_durable();
	c = client_connect();
	receiver = connect_with_fds();
	fd = make_file(SIZE);
	for (uint64_t i = 0; i < N; i += 2) {
		say_fd(c, fd, "{'op':'send','id':%d,'fds':1,'queue':'q','md5':true}",
		       (int)i);
		say_text(c, keep_printf("%d", (int)i),
			 "{'op':'send','id':%d,'queue':'q'}", (int)i + 1);
	}
	for (int i = 0; i < N; i++)
		assert_false(json_has(hear(c)->header, "error"));
	for (int i = 0; i < N; i += 2) {
		struct frame *f = take_file(receiver, "q", SIZE);

		settle(receiver, "ack", f, "");
		close_kept(f->fd);
		settle(receiver, "ack", take(receiver, "q", keep_printf("%d", i)), "");
	}
}

/* Interim answers of a send say how far it is, then comes the answer. */
static void test_progress(void **state)
{
	enum { SIZE = 64 << 20 };
	struct client *c;
	struct frame *f;
	int64_t last = 0;

	start_durable();
	c = client_connect();
	say_fd(c, make_file(SIZE),
	       "{'op':'send','id':1,'fds':1,'queue':'q','progress':true,'sha256':true}");
	while (json_has((f = hear_reply(c, 1))->header, "progress")) {
		assert_int_equal(json_int(f->header, "file_size"), SIZE);
		assert_in_range(json_int(f->header, "progress"), last, SIZE);
		assert_false(json_has(f->header, "message"));
		last = json_int(f->header, "progress");
	}
	assert_true(json_has(f->header, "message"));
	hear_nothing(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_all_ways_without_state),
		it(test_all_ways_in_a_durable_queue),
		it(test_all_ways_in_a_memory_queue),
		it(test_without_a_name),
		it(test_a_snapshot),
		it(test_how_it_was_opened),
		it(test_opened_for_direct_reading),
		it(test_memfds),
		it(test_a_memfd_with_some_seals),
		it(test_holes_are_kept),
		it(test_each_delivery_has_its_own_offset),
		it(test_a_receiver_cannot_change_it),
		it(test_peek),
		it(test_many_deliveries),
		it(test_order_behind_a_copy),
		it(test_progress),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
