/* SPDX-License-Identifier: MIT */
#ifndef UNIT_CLIENT_SAVE_H
#define UNIT_CLIENT_SAVE_H

/* A directory in which messages become files, and a system that is less able or fails when
 * the test says so: see SAVE_WRAPS in tests/module.mk. */

#include "unit/client_fake.h"

#include <dirent.h>

enum { BIG = 1000000 };

#define LEASE "\"message\":1,\"lease\":\"l\""
#define MD5_ABC "\"md5\":\"900150983cd24fb0d6963f7d28e17f72\""
#define MD5_OTHER "\"md5\":\"00000000000000000000000000000000\""

/* ---- what can fail ---- */

static bool no_tmpfile, no_noreplace, no_copy_range;
static int fsync_error, write_error, link_error;
static unsigned int fsyncs_until_error, n_copies, n_clones;
static size_t write_most; /* at once; 0: all */

int __real_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	if (no_tmpfile && (flags & O_TMPFILE) == O_TMPFILE) {
		errno = EOPNOTSUPP;
		return -1;
	}
	va_start(args, flags);
	mode = va_arg(args, mode_t);
	va_end(args);
	return __real_openat(dir, path, flags, mode);
}

int __real_renameat2(int from, const char *a, int to, const char *b, unsigned int flags);
int __wrap_renameat2(int from, const char *a, int to, const char *b, unsigned int flags);
int __wrap_renameat2(int from, const char *a, int to, const char *b, unsigned int flags)
{
	if (no_noreplace) {
		errno = EINVAL;
		return -1;
	}
	return __real_renameat2(from, a, to, b, flags);
}

int __real_linkat(int from, const char *a, int to, const char *b, int flags);
int __wrap_linkat(int from, const char *a, int to, const char *b, int flags);
int __wrap_linkat(int from, const char *a, int to, const char *b, int flags)
{
	if (link_error) {
		errno = link_error;
		return -1;
	}
	return __real_linkat(from, a, to, b, flags);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	if (fsync_error && !fsyncs_until_error--) {
		errno = fsync_error;
		return -1;
	}
	return __real_fsync(fd);
}

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size)
{
	static bool interrupted;

	interrupted = write_most && !interrupted;
	if (write_error || interrupted) {
		errno = interrupted ? EINTR : write_error;
		return -1;
	}
	return __real_write(fd, data,
			    write_most && size > write_most ? write_most : size);
}

ssize_t __real_copy_file_range(int in, off_t *at, int out, off_t *to, size_t size,
			       unsigned int flags);
ssize_t __wrap_copy_file_range(int in, off_t *at, int out, off_t *to, size_t size,
			       unsigned int flags);
ssize_t __wrap_copy_file_range(int in, off_t *at, int out, off_t *to, size_t size,
			       unsigned int flags)
{
	if (no_copy_range) {
		errno = EXDEV;
		return -1;
	}
	n_copies++;
	return __real_copy_file_range(in, at, out, to, size, flags);
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	long argument;

	va_start(args, request);
	argument = va_arg(args, long);
	va_end(args);
	n_clones++;
	return __real_ioctl(fd, request, argument);
}

/* ---- the directory ---- */

struct world {
	struct fake f;
	char path[64];
	int dir;
};

static UNUSED int set_up(void **state)
{
	struct world *w = *state = calloc(1, sizeof(*w));

	fake_open(&w->f);
	snprintf(w->path, sizeof(w->path), "/tmp/ipc-save-XXXXXX");
	assert_non_null(mkdtemp(w->path));
	w->dir = open(w->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	umask(022);
	return 0;
}

static UNUSED unsigned int count_files(const struct world *w)
{
	DIR *d = opendir(w->path);
	unsigned int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static UNUSED int tear_down(void **state)
{
	struct world *w = *state;
	DIR *d = opendir(w->path);
	struct dirent *entry;

	no_tmpfile = no_noreplace = no_copy_range = false;
	fsync_error = write_error = link_error = 0;
	write_most = fsyncs_until_error = n_copies = n_clones = 0;
	while ((entry = readdir(d)))
		unlinkat(w->dir, entry->d_name, 0);
	closedir(d);
	rmdir(w->path);
	close(w->dir);
	fake_close(&w->f);
	free(w);
	return 0;
}

#define save_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static UNUSED void make(const struct world *w, const char *name, const char *data)
{
	int fd = __real_openat(w->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
			       0600);

	assert_true(fd >= 0);
	assert_int_equal(__real_write(fd, data, strlen(data)), strlen(data));
	close(fd);
}

static UNUSED void expect_file(const struct world *w, const char *name, const char *data)
{
	char got[256] = "";
	int fd = __real_openat(w->dir, name, O_RDONLY | O_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, got, sizeof(got) - 1), strlen(data));
	assert_string_equal(got, data);
	close(fd);
}

/* The first request of a client. */
static UNUSED struct ipc_message *receive(struct world *w, const char *keys, int fd,
					  const char *body)
{
	struct ipc_message *m;
	char header[1024];

	snprintf(header, sizeof(header), "{\"re\":2," LEASE "%s%s", *keys ? "," : "",
		 keys);
	if (fd >= 0) {
		strcat(header, ",\"fds\":1}");
		fake_say_fd(&w->f, header, fd);
	} else {
		sprintf(header + strlen(header), ",\"size\":%zu}", strlen(body));
		fake_say_body(&w->f, header, body, strlen(body));
	}
	assert_int_equal(ipc_receive(w->f.client, "q", 0, &m), 0);
	return m;
}

/* A further message needs a further client. */
static UNUSED struct ipc_message *receive_anew(struct world *w, const char *keys, int fd)
{
	fake_close(&w->f);
	fake_open(&w->f);
	return receive(w, keys, fd, NULL);
}

static UNUSED struct ipc_message *receive_abc(struct world *w)
{
	return receive(w, "\"filename\":\"x.txt\",\"file_size\":3," MD5_ABC, -1, "abc");
}

/* A file of the disk, without a name. */
static UNUSED int new_file(const struct world *w, const char *data, size_t size)
{
	int fd = __real_openat(w->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(__real_write(fd, data, size), size);
	return fd;
}

static UNUSED void expect_failure(struct world *w, struct ipc_message *m,
				  unsigned int flags, int error)
{
	for (int way = 0; way < 2; way++) {
		no_tmpfile = way;
		make(w, "old", "old");
		assert_int_equal(ipc_message_save(m, w->dir, "old", flags, NULL),
				 flags ? error : -EEXIST);
		expect_file(w, "old", "old");
		assert_int_equal(ipc_message_save(m, w->dir, "new", flags, NULL), error);
		assert_int_equal(count_files(w), 1);
		assert_int_equal(unlinkat(w->dir, "old", 0), 0);
	}
}

#endif
