/* SPDX-License-Identifier: MIT */
#ifndef UNIT_CLIENT_SEND_H
#define UNIT_CLIENT_SEND_H

/* What the tests of sending files share. Link with --wrap=memfd_create. */

#include "unit/client_fake.h"

#include <poll.h>
#include <sys/mman.h>

enum { PIECE = 262144, SMALL = 65536, LARGE = PIECE + 1 };

#define MTIME "\"mtime\":1000000000,\"mtime_ns\":5"
#define SENT(n) "{\"re\":2,\"message\":" #n "}"

static bool no_memfd; /* memfd_create() fails */

int __real_memfd_create(const char *name, unsigned int flags);
int __wrap_memfd_create(const char *name, unsigned int flags);
int __wrap_memfd_create(const char *name, unsigned int flags)
{
	if (no_memfd) {
		errno = ENOSYS;
		return -1;
	}
	return __real_memfd_create(name, flags);
}

/* What is sent: bytes that tell their place. */
static char large[3 * PIECE];

static UNUSED int new_file(size_t size)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 1000000000, 5 } };
	int fd = __real_memfd_create("test", MFD_CLOEXEC);

	for (size_t i = 0; i < sizeof(large); i++)
		large[i] = (char)(i % 251);
	assert_int_equal(write(fd, large, size), size);
	assert_int_equal(fchmod(fd, 04640), 0);
	assert_int_equal(futimens(fd, times), 0);
	return fd;
}

static UNUSED struct ipc_message *new_file_message(int fd, const char *name,
						   unsigned int flags)
{
	struct ipc_message *m = new_message();

	assert_int_equal(ipc_message_set_file(m, fd, name, flags), 0);
	return m;
}

/* Sends what the fake has answered already. */
static UNUSED int send_it(struct fake *f, const struct ipc_message *m)
{
	return ipc_send_message(f->client, "q", m, 0, 0, NULL);
}

struct progress {
	unsigned int n, stop_at;
	uint64_t done, total;
};

static UNUSED int note_progress(uint64_t done, uint64_t total, void *userdata)
{
	struct progress *p = userdata;

	p->done = done;
	p->total = total;
	return ++p->n == p->stop_at;
}

#endif
