/* SPDX-License-Identifier: MIT */
#ifndef UNIT_CLIENT_FAKE_H
#define UNIT_CLIENT_FAKE_H

/*
 * A daemon for the tests of the client: the test itself. A thread greets the client; then
 * the test holds the daemon's end of the connection, says in advance what the client will
 * read (ids count from 2), and looks at what it has written.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include <ipc/ipc.h>

#include "unit/count_fds.h"

#define UNUSED __attribute__((unused))

struct fake {
	char dir[64], path[96];
	int listener, fd; /* fd: the daemon's end */
	pthread_t greeter;
	struct ipc_client *client;
	char header[65537]; /* heard last, NUL-ended */
	char *body;
	size_t body_size;
	bool has_fd;
	int body_fd; /* that came with it, if has_fd */
};

static UNUSED struct ipc_message *new_message(void)
{
	struct ipc_message *m;

	assert_int_equal(ipc_message_new(&m), 0);
	return m;
}

/* Does it say so to those that come? */
static UNUSED bool fake_takes_files;

static UNUSED void fake_write(int fd, const void *data, size_t size)
{
	const char *p = data;

	while (size) {
		ssize_t n = send(fd, p, size, MSG_NOSIGNAL);

		if (n < 0)
			return; /* the test sees what is missing */
		p += n;
		size -= (size_t)n;
	}
}

static UNUSED bool fake_read(int fd, void *data, size_t size)
{
	char *p = data;

	while (size) {
		ssize_t n = read(fd, p, size);

		if (n <= 0)
			return false;
		p += n;
		size -= (size_t)n;
	}
	return true;
}

/* One frame; header has its size already. */
static UNUSED void fake_say_body(struct fake *f, const char *header, const void *body,
				 size_t size)
{
	uint32_t length = (uint32_t)strlen(header);
	char *frame = malloc(4 + length + size);

	memcpy(frame, &length, 4);
	memcpy(frame + 4, header, length);
	if (size)
		memcpy(frame + 4 + length, body, size);
	fake_write(f->fd, frame, 4 + length + size);
	free(frame);
}

/* One frame with a descriptor. */
static UNUSED void fake_say_fd(struct fake *f, const char *header, int fd)
{
	uint32_t length = (uint32_t)strlen(header);
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov[2] = { { &length, 4 }, { (void *)(uintptr_t)header, length } };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };
	struct cmsghdr *c;

	message.msg_control = control.space;
	message.msg_controllen = sizeof(control.space);
	c = CMSG_FIRSTHDR(&message);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	assert_int_equal(sendmsg(f->fd, &message, MSG_NOSIGNAL), 4 + length);
}

static UNUSED __attribute__((format(printf, 2, 3))) void fake_say(struct fake *f,
								  const char *format, ...)
{
	char header[65537];
	va_list args;

	va_start(args, format);
	vsnprintf(header, sizeof(header), format, args);
	va_end(args);
	fake_say_body(f, header, NULL, 0);
}

/* The length in front of a frame, with the descriptor that comes with it. */
static UNUSED bool fake_read_length(struct fake *f, uint32_t *length)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { length, 4 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	ssize_t n;

	message.msg_control = control.space;
	message.msg_controllen = sizeof(control.space);
	n = recvmsg(f->fd, &message, MSG_CMSG_CLOEXEC);
	c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	f->has_fd = c;
	if (c)
		memcpy(&f->body_fd, CMSG_DATA(c), sizeof(int));
	return n > 0 && fake_read(f->fd, (char *)length + n, (size_t)(4 - n));
}

static UNUSED void fake_forget(struct fake *f)
{
	free(f->body);
	f->body = NULL;
	if (f->has_fd)
		close(f->body_fd);
	f->has_fd = false;
}

/* The next frame of the client's, into f->header, f->body and f->body_fd. */
static UNUSED bool fake_hear(struct fake *f)
{
	uint32_t length;
	const char *size;

	fake_forget(f);
	if (!fake_read_length(f, &length) || length > 65536 ||
	    !fake_read(f->fd, f->header, length))
		return false;
	f->header[length] = '\0';
	size = strstr(f->header, "\"size\":");
	f->body_size = size ? (size_t)atoll(size + 7) : 0;
	f->body = malloc(f->body_size + 1);
	return fake_read(f->fd, f->body, f->body_size);
}

#define fake_expect(f, text)                            \
	do {                                            \
		assert_true(fake_hear(f));              \
		assert_string_equal((f)->header, text); \
	} while (0)

/* Has the client written nothing more? */
static UNUSED void fake_expect_silence(const struct fake *f)
{
	char byte;

	assert_int_equal(recv(f->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK), -1);
	assert_int_equal(errno, EAGAIN);
}

static UNUSED void fake_hang_up(struct fake *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

static UNUSED void *fake_greet(void *userdata)
{
	struct fake *f = userdata;

	f->fd = accept(f->listener, NULL, NULL);
	if (f->fd >= 0 && fake_hear(f))
		fake_say(f,
			 "{\"re\":1,\"version\":1,\"server\":\"fake 1.0\","
			 "\"epoch\":\"0123456789abcdef\",\"peer\":12,\"limits\":{%s}}",
			 fake_takes_files ? "\"file_max\":1099511627776" : "");
	return NULL;
}

static UNUSED int fake_bind(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

/* Listens, with the greeter waiting for a client. */
static UNUSED void fake_listen(struct fake *f)
{
	*f = (struct fake){ .fd = -1 };
	snprintf(f->dir, sizeof(f->dir), "/tmp/ipc-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/socket", f->dir);
	f->listener = fake_bind(f->path);
	assert_int_equal(pthread_create(&f->greeter, NULL, fake_greet, f), 0);
}

static UNUSED void fake_open(struct fake *f)
{
	fake_listen(f);
	assert_int_equal(ipc_client_open(f->path, 0, &f->client), 0);
	pthread_join(f->greeter, NULL);
}

static UNUSED void fake_close(struct fake *f)
{
	f->client = ipc_client_close(f->client);
	fake_hang_up(f);
	close(f->listener);
	fake_forget(f);
	unlink(f->path);
	rmdir(f->dir);
}

static UNUSED int fake_setup(void **state)
{
	*state = malloc(sizeof(struct fake));
	fake_open(*state);
	return 0;
}

static UNUSED int fake_files_setup(void **state)
{
	fake_takes_files = true;
	return fake_setup(state);
}

static UNUSED int fake_teardown(void **state)
{
	fake_close(*state);
	free(*state);
	fake_takes_files = false;
	return 0;
}

#define fake_test(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
#define fake_files_test(name) \
	cmocka_unit_test_setup_teardown(name, fake_files_setup, fake_teardown)

#endif
