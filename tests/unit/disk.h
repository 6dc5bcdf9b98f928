/* SPDX-License-Identifier: MIT */
#ifndef UNIT_DISK_H
#define UNIT_DISK_H

/*
 * A private directory, and a disk that fails or stops at the n-th call. What a program
 * defines goes before the C library, for SQLite as for our own code: so each call that
 * changes a file passes here.
 */

#include "unit/base.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* ---- the directory ---- */

static char disk_directory[200];

static int disk_remove_entry(const char *path, const struct stat *st, int type,
			     struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static UNUSED void disk_remove(void)
{
	if (*disk_directory)
		nftw(disk_directory, disk_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	*disk_directory = '\0';
}

/* In memory where that is possible: nothing here waits for a real disk. */
static UNUSED const char *disk_base(void)
{
	const char *base = getenv("TMPDIR");

	if (base && *base)
		return base;
	return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

/* An empty one. */
static UNUSED void disk_make(void)
{
	disk_remove();
	snprintf(disk_directory, sizeof(disk_directory), "%s/ipcd-disk.XXXXXX",
		 disk_base());
	assert_non_null(mkdtemp(disk_directory));
}

static UNUSED int disk_setup(void **state)
{
	(void)state;
	disk_make();
	return 0;
}

static UNUSED int disk_teardown(void **state)
{
	(void)state;
	disk_remove();
	return 0;
}

/* Of a file in the directory; the last ones stay valid. */
static UNUSED const char *disk_path(const char *name)
{
	static char paths[4][300];
	static unsigned int n;

	n = (n + 1) % 4;
	snprintf(paths[n], sizeof(paths[n]), "%s/%s", disk_directory, name);
	return paths[n];
}

static UNUSED bool disk_has(const char *name)
{
	return access(disk_path(name), F_OK) == 0;
}

/* Made or replaced, without a chance to fail. */
static UNUSED void disk_put(const char *name, const void *data, size_t size)
{
	int fd = open(disk_path(name), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(syscall(SYS_pwrite64, fd, data, size, 0), size);
	close(fd);
}

static UNUSED void disk_check(const char *name, const void *data, size_t size)
{
	char *found = malloc(size + 1);
	int fd = open(disk_path(name), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, found, size + 1, 0), size);
	assert_memory_equal(found, data, size);
	close(fd);
	free(found);
}

/* ---- its failures ---- */

static struct {
	_Atomic unsigned long calls;   /* so far */
	_Atomic unsigned long fail_at; /* this one; 0: none */
	_Atomic unsigned long fail_to; /* and all until this one */
	_Atomic unsigned long stop_at; /* here the process ends, as by kill -9 */
	_Atomic int error;
	_Atomic bool failed;
} disk;

/* Calls of this thread and the storage thread may meet: then the count is off by one. */
static bool disk_fails_now(void)
{
	unsigned long n = ++disk.calls;

	if (n == disk.stop_at)
		_exit(0);
	if (!disk.fail_at || n < disk.fail_at || n > disk.fail_to)
		return false;
	disk.failed = true;
	errno = disk.error;
	return true;
}

static UNUSED void disk_fail(unsigned long from, unsigned long to, int error)
{
	disk.calls = 0;
	disk.fail_at = from;
	disk.fail_to = to;
	disk.error = error;
	disk.failed = false;
}

static UNUSED void disk_works(void)
{
	disk.fail_at = disk.stop_at = 0;
}

static bool is_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

ssize_t write(int fd, const void *data, size_t size)
{
	if (is_file(fd) && fd > 2 && disk_fails_now())
		return -1;
	return syscall(SYS_write, fd, data, size);
}

/* The log of the database is made long by writing zeros: many calls, for nothing here. */
static bool is_filling(const char *data, size_t size)
{
	static const char zeros[64];

	return size == 65536 && !memcmp(data, zeros, sizeof(zeros));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
	if (is_filling(data, size))
		return syscall(SYS_ftruncate, fd, at + (off64_t)size) < 0 ? -1
									  : (ssize_t)size;
	return disk_fails_now() ? -1 : syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
	return pwrite64(fd, data, size, at);
}

int fsync(int fd)
{
	(void)fd;
	return disk_fails_now() ? -1 : 0; /* only a machine that stops tells */
}

int fdatasync(int fd)
{
	return fsync(fd);
}

int ftruncate64(int fd, off64_t size)
{
	return disk_fails_now() ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size)
{
	return ftruncate64(fd, size);
}

int posix_fallocate(int fd, off_t at, off_t size)
{
	if (disk_fails_now())
		return errno;
	return syscall(SYS_fallocate, fd, 0, at, size) < 0 ? errno : 0;
}

int rename(const char *from, const char *to)
{
	return disk_fails_now()
		       ? -1
		       : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	return disk_fails_now()
		       ? -1
		       : (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int unlinkat(int fd, const char *path, int flags)
{
	return disk_fails_now() ? -1 : (int)syscall(SYS_unlinkat, fd, path, flags);
}

int unlink(const char *path)
{
	return disk_fails_now() ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

#endif
