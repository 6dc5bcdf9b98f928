/* SPDX-License-Identifier: MIT */

/* Bodies that come from a connection: by the loop's buffer, and by a worker on the socket. */

#include "unit/filling_world.h"

#include <sys/socket.h>

#include "upload.h"
#include "wire/stream.h"

enum { SIZE = 60000, BIG = 6000000 /* two threads */, KINDS = (1u << DIGEST_N) - 1 };

static int near, far;
static struct fake receiving, threading;
static unsigned int n_done;
static struct digests digests;
static char *body;

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
	if (fails_now(&receiving))
		return -1;
	message->msg_iov->iov_len = cut(&receiving, message->msg_iov->iov_len);
	return __real_recvmsg(fd, message, flags);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*run)(void *), void *arg)
{
	return fails_now(&threading) ? errno
				     : __real_pthread_create(thread, attr, run, arg);
}

static int setup(void **state)
{
	int pair[2], r = filling_setup(state);

	if (r || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	near = pair[0];
	far = pair[1];
	receiving = threading = (struct fake){ 0 };
	memset(&digests, 0, sizeof(digests));
	body = malloc(BIG);
	for (size_t i = 0; i < BIG; i++)
		body[i] = (char)(i * 7 % 251);
	return 0;
}

static int teardown(void **state)
{
	free(body);
	fd_close(near);
	fd_close(far);
	return filling_teardown(state);
}

/* ---- uploads ---- */

static struct upload *begin(void)
{
	struct upload *u = upload_new(&f.blobs, f.user, &f.limits, &digests);

	assert_non_null(u);
	n_done = 0;
	return u;
}

static void on_done(struct upload *u)
{
	(void)u;
	n_done++;
}

static void far_write(size_t from, size_t size)
{
	assert_int_equal(send(far, body + from, size, MSG_NOSIGNAL | MSG_DONTWAIT), size);
}

/* A turn, with left bytes of the body to be read. */
static void read_on(struct upload *u, uint64_t left, int end, uint64_t got)
{
	n_done = 0;
	upload_run(u, f.workers, near, left, on_done, &near);
	assert_int_equal(u->used > 0, u->buffer != NULL);
	wait_for(n_done);
	assert_int_equal(n_done, 1);
	assert_false(u->filling.failed);
	assert_int_equal(u->end, end);
	assert_int_equal(u->got, got);
	assert_int_equal(u->used, 0);
}

static void finish(struct upload *u, bool durable)
{
	n_done = 0;
	upload_finish(u, f.workers, durable, on_done, &near);
	wait_for(n_done);
	assert_int_equal(n_done, 1);
}

static void check_upload(const struct upload *u, size_t size, unsigned int kinds)
{
	const struct filling *filling = &u->filling;
	_cleanup_free_ char *there = load(filling->fd, size);

	if (filling->failed)
		fail_msg("%s", filling->fault.text);
	assert_int_equal(filling->size, size);
	assert_int_equal(u->received, size);
	assert_memory_equal(there, body, size);
	check_digests(filling, kinds, body, size);
	assert_int_equal(filling->disk, disk_of(filling->fd));
	assert_int_equal(n_spooled(), f.blobs.directory >= 0);
}

static void end(struct upload *u)
{
	assert_null(upload_free(u));
	wait_for(n_spooled() == 0 && f.user->refs == 1);
}

static void add(struct upload *u, size_t from, size_t size)
{
	assert_int_equal(upload_add(u, body + from, size), 0);
}

/* ---- the buffer ---- */

static void test_buffer(void **state)
{
	struct upload *u = begin();
	size_t room = upload_room(u), at = 0;

	(void)state;
	assert_true(room > 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(upload_room(u), room);
		add(u, at, room - 1);
		assert_false(upload_is_full(u));
		add(u, at + room - 1, 1);
		assert_true(upload_is_full(u));
		assert_int_equal(upload_room(u), 0);
		at += room;
		assert_int_equal(u->received, at);
		n_done = 0;
		upload_run(u, f.workers, -1, 0, on_done, &near);
		wait_for(n_done);
		assert_int_equal(u->filling.size, at);
		assert_int_equal(u->end, 0);
	}
	add(u, at, 5);
	finish(u, false);
	check_upload(u, at + 5, 1u << DIGEST_XXH3);
	end(u);
}

/* On some file systems only later: what was written is charged. */
static void test_without_blocks(void **state)
{
	struct upload *u = begin();

	(void)state;
	says_no_blocks = true;
	add(u, 0, 1000);
	finish(u, false);
	check_upload(u, 1000, 1u << DIGEST_XXH3);
	end(u);
}

static void test_empty(void **state)
{
	struct upload *u = begin();

	(void)state;
	finish(u, true);
	check_upload(u, 0, 1u << DIGEST_XXH3);
	end(u);
}

/* ---- from the socket ---- */

static void test_as_it_comes(void **state)
{
	(void)state;
	for (int spooled = 1; spooled >= 0; spooled--) {
		struct upload *u;

		if (!spooled)
			without_spool();
		u = begin();
		add(u, 0, 1000);
		read_on(u, SIZE - 1000, STREAM_E_AGAIN, 0);
		far_write(1000, 1);
		read_on(u, SIZE - 1000, STREAM_E_AGAIN, 1);
		far_write(1001, 20000);
		read_on(u, SIZE - 1001, STREAM_E_AGAIN, 20000);
		far_write(21001, SIZE - 21001);
		read_on(u, SIZE - 21001, 0, SIZE - 21001);
		finish(u, true);
		check_upload(u, SIZE, 1u << DIGEST_XXH3);
		assert_int_equal(syncing.n_calls, 1);
		assert_int_equal(u->filling.blob->synced, spooled);
		end(u);
	}
}

/* size bytes of the body, and a descriptor that goes with them. */
static void far_write_with_fd(size_t size)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .space = { 0 } };
	struct iovec iov = { body, size };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control.space,
				  .msg_controllen = sizeof(control.space) };

	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.align), &far, sizeof(int));
	assert_int_equal(sendmsg(far, &message, 0), size);
}

/* How many descriptors come with the bytes that are there. */
static size_t read_fds(size_t size)
{
	struct reader *reader;
	struct stream stream;
	bool drained;
	size_t n;

	assert_int_equal(reader_new(&reader), 0);
	stream_init(&stream, dup(near), 0);
	assert_int_equal(stream_read(&stream, reader, MSG_DONTWAIT, &drained), 0);
	assert_int_equal(reader->size, size);
	n = stream.n_batches;
	stream_deinit(&stream);
	reader_free(reader);
	return n;
}

/* It stops at the body's last byte: what is behind it is of the next frame, and so are the
 * descriptors there. */
static void test_end_of_the_body(void **state)
{
	struct upload *u = begin();

	(void)state;
	far_write(0, SIZE);
	far_write_with_fd(4);
	read_on(u, SIZE, 0, SIZE);
	finish(u, false);
	check_upload(u, SIZE, 1u << DIGEST_XXH3);
	end(u);
	assert_int_equal(read_fds(4), 1);

	u = begin(); /* also within one write of the sender's */
	far_write(0, SIZE + 5);
	read_on(u, SIZE, 0, SIZE);
	end(u);
	assert_int_equal(read_fds(5), 0);
}

static void test_descriptors_in_the_middle(void **state)
{
	struct upload *u = begin();

	(void)state;
	far_write(0, 50);
	far_write_with_fd(100);
	n_done = 0;
	upload_run(u, f.workers, near, SIZE, on_done, &near);
	wait_for(n_done);
	assert_int_equal(u->end, -EPROTO);
	end(u);
}

static void test_end_of_file_in_the_middle(void **state)
{
	struct upload *u = begin();

	(void)state;
	far_write(0, 1000);
	far = fd_close(far);
	read_on(u, SIZE, STREAM_E_EOF, 1000);
	assert_int_equal(n_spooled(), 1);
	end(u);
}

static void test_reset_in_the_middle(void **state)
{
	struct upload *u = begin();

	(void)state;
	assert_int_equal(send(near, "unread", 6, 0), 6);
	far_write(0, 1000);
	far = fd_close(far);
	read_on(u, SIZE, -ECONNRESET, 1000);
	end(u);
	u = begin();
	let_fail(&receiving, 1 + receiving.n_calls, 1, EIO);
	read_on(u, SIZE, -EIO, 0);
	end(u);
}

/* More than a socket holds: in as many turns as it takes, or until it fails. */
static void feed(struct upload *u)
{
	size_t sent = 0;

	while (u->received < BIG && !u->filling.failed) {
		n_done = 0;
		upload_run(u, f.workers, near, BIG - u->received, on_done, &near);
		while (!n_done) {
			ssize_t n = send(far, body + sent, BIG - sent,
					 MSG_NOSIGNAL | MSG_DONTWAIT);

			sent += n > 0 ? (size_t)n : 0;
			turn();
		}
		assert_true(u->end == 0 || u->end == STREAM_E_AGAIN);
		assert_true(u->filling.failed || u->filling.size == u->received);
	}
}

/* Cut and interrupted everywhere. */
static void send_big(size_t take_max, unsigned int interrupted_at)
{
	struct upload *u = begin();

	receiving = writing = (struct fake){ .take_max = take_max };
	let_fail(&receiving, interrupted_at, 2, EINTR);
	let_fail(&writing, interrupted_at, 2, EINTR);
	feed(u);
	assert_false(u->filling.failed);
	finish(u, false);
	check_upload(u, BIG, digests.wanted | 1u << DIGEST_XXH3);
	end(u);
}

static void test_big(void **state)
{
	(void)state;
	digests.wanted = KINDS;
	send_big(0, 0);
	send_big(7001, 2);
	without_spool();
	send_big(40000, 1);
}

static void test_no_second_thread(void **state)
{
	(void)state;
	let_fail(&threading, 2, 1000, EAGAIN); /* the worker's own is the first */
	send_big(0, 0);
	assert_true(threading.n_calls > 1);
}

/* While the other thread reads on. */
static void test_writing_fails_behind(void **state)
{
	static char rest[65536];

	(void)state;
	for (unsigned int at = 1; at <= 20; at += 3) {
		struct upload *u = begin();

		writing = (struct fake){ .take_max = 100000 };
		let_fail(&writing, at, 1000, ENOSPC);
		feed(u);
		assert_true(u->filling.failed);
		assert_int_equal(u->filling.fault.word, FAULT_NO_SPACE);
		end(u);
		/* what is left in the socket is of that body */
		while (recv(near, rest, sizeof(rest), MSG_DONTWAIT) > 0)
			;
	}
}

/* ---- digests ---- */

static void test_digests(void **state)
{
	(void)state;
	for (unsigned int early = 0; early <= KINDS; early++)
		for (unsigned int late = 0; late <= KINDS; late++) {
			struct upload *u;

			digests.wanted = early;
			u = begin();
			add(u, 0, 1000);
			far_write(1000, SIZE - 1000);
			read_on(u, SIZE - 1000, 0, SIZE - 1000);
			u->filling.late_kinds = late;
			finish(u, false);
			check_upload(u, SIZE, early | late | 1u << DIGEST_XXH3);
			end(u);
		}
}

static void test_late_digest_that_cannot_be_made(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct upload *u = begin();

		add(u, 0, 1000);
		u->filling.late_kinds = 1u << DIGEST_SHA256;
		reading.n_calls = 0;
		let_fail(&reading, i ? 1 : 0, 1, EIO);
		reading.take_max = i ? 0 : 300; /* short reads do not matter */
		finish(u, false);
		if (i)
			check_failed(&u->filling, FAULT_INTERNAL, "cannot be read back");
		else
			check_upload(u, 1000, 1u << DIGEST_SHA256 | 1u << DIGEST_XXH3);
		end(u);
	}
}

/* ---- failures ---- */

static void test_no_space(void **state)
{
	static const int errors[] = { ENOSPC, EDQUOT, EIO };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		struct upload *u = begin();

		writing = (struct fake){ .take_max = 700 };
		let_fail(&writing, 3, UINT32_MAX, errors[i]);
		add(u, 0, 1000);
		far_write(1000, 5000);
		n_done = 0;
		upload_run(u, f.workers, near, SIZE, on_done, &near);
		wait_for(n_done);
		check_failed(
			&u->filling, errors[i] == EIO ? FAULT_INTERNAL : FAULT_NO_SPACE,
			errors[i] == EIO ? "cannot be kept: Input/output" : "no space");
		writing = (struct fake){ 0 };
		finish(u, true); /* nothing is done any more */
		assert_true(u->filling.failed);
		assert_int_equal(writing.n_calls, 0);
		assert_int_equal(syncing.n_calls, 0);
		end(u);
		while (recv(near, (char[1000]){ 0 }, 1000, MSG_DONTWAIT) > 0)
			;
	}
}

static void test_sync_fails(void **state)
{
	static const int errors[] = { EIO, ENOSPC };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		struct upload *u = begin();

		syncing.n_calls = 0;
		let_fail(&syncing, 1, 1, errors[i]);
		add(u, 0, 1000);
		finish(u, true);
		check_failed(&u->filling, i ? FAULT_NO_SPACE : FAULT_INTERNAL, "");
		assert_false(u->filling.blob->synced);
		end(u);
	}
}

static void test_no_descriptor(void **state)
{
	struct upload *u = begin();

	(void)state;
	n_done = 0;
	upload_run(u, f.workers, 100000, SIZE, on_done, &near);
	wait_for(n_done);
	check_failed(&u->filling, FAULT_INTERNAL, "cannot be read");
	assert_int_equal(n_spooled(), 0);
	end(u);
}

/* The connection is gone while a worker writes: it is freed when that is through. */
static void test_freed_while_it_runs(void **state)
{
	struct upload *u = begin();

	(void)state;
	add(u, 0, 1000);
	hook(&writing, 1, wait_at_gate);
	n_done = 0;
	upload_run(u, f.workers, near, SIZE, on_done, &near);
	near = fd_close(near);
	wait_for(is_at_gate());
	assert_null(upload_free(u));
	assert_int_equal(n_spooled(), 1);
	open_gate();
	wait_for(n_spooled() == 0 && f.user->refs == 1);
	assert_int_equal(n_done, 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_buffer),
		TEST(test_without_blocks),
		TEST(test_empty),
		TEST(test_as_it_comes),
		TEST(test_end_of_the_body),
		TEST(test_descriptors_in_the_middle),
		TEST(test_end_of_file_in_the_middle),
		TEST(test_reset_in_the_middle),
		TEST(test_big),
		TEST(test_no_second_thread),
		TEST(test_writing_fails_behind),
		TEST(test_digests),
		TEST(test_late_digest_that_cannot_be_made),
		TEST(test_no_space),
		TEST(test_sync_fails),
		TEST(test_no_descriptor),
		TEST(test_freed_while_it_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
