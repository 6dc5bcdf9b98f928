/* SPDX-License-Identifier: MIT */

/*
 * To be preloaded: stands before the functions of libc that change files or make them safe,
 * and hands those below the directory named by the environment to the model of the disk in
 * powercut_disk.c. All else goes to the kernel as it is.
 */

/* the checking inline versions of these functions would be in the way */
#undef _FORTIFY_SOURCE

#include "integration/powercut_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- set-up ---- */

/* Cuts when the test says so, even if the program does nothing. */
static void *watch(void *unused)
{
	while (!disk.control->now)
		syscall(SYS_futex, &disk.control->now, FUTEX_WAIT, 0, NULL, NULL, 0);
	disk_lock();
	disk_cut();
	return unused;
}

static void start_watching(void)
{
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&thread, NULL, watch, NULL) != 0)
		disk_break("pthread_create");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static struct powercut_control *map_control(const char *path)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
	void *map;

	if (fd < 0)
		return NULL;
	map = (void *)syscall(SYS_mmap, NULL, sizeof(struct powercut_control),
			      PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return map == MAP_FAILED ? NULL : map;
}

/* The root need not be there yet, its parent must. */
static bool find_root(const char *root)
{
	struct disk_name name;

	strcpy(disk.root, "/");
	disk_name(&name, AT_FDCWD, root);
	if (name.path[0] != '/')
		return false;
	memcpy(disk.root, name.path, sizeof(disk.root));
	return true;
}

__attribute__((constructor)) static void set_up(void)
{
	const char *path = getenv(POWERCUT_FILE_VARIABLE);
	const char *root = getenv(POWERCUT_ROOT_VARIABLE);
	struct powercut_control *control = path && root ? map_control(path) : NULL;

	/* what the program itself starts is none of this */
	unsetenv("LD_PRELOAD");
	if (!control)
		return;
	snprintf(disk.graves, sizeof(disk.graves), "%s.graves", path);
	syscall(SYS_mkdirat, AT_FDCWD, disk.graves, 0700);
	disk.control = control;
	if (!find_root(root))
		disk_break(root);
	disk_load();
	disk.active = true;
	start_watching();
}

/* The end of a program does not sync anything either. */
__attribute__((destructor)) static void tear_down(void)
{
	if (!disk.active)
		return;
	disk_lock();
	disk.active = false;
	disk_keep();
	disk_unlock();
}

/* ---- opening ---- */

/* The truncation is done by itself, so that it can be undone. Whether the file was made is
 * only known if it must not exist. */
static int open_file(int dir, const char *path, int flags, mode_t mode)
{
	int plain = flags & ~O_TRUNC, fd = -1;
	bool made = false;
	struct disk_file *f;

	if (!disk.active || (flags & O_ACCMODE) == O_RDONLY || (flags & O_PATH) ||
	    (flags & O_TMPFILE) == O_TMPFILE)
		return (int)syscall(SYS_openat, dir, path, flags, mode);
	disk_lock();
	if (flags & O_CREAT) {
		fd = (int)syscall(SYS_openat, dir, path, plain | O_EXCL, mode);
		made = fd >= 0;
	}
	if (fd < 0 && (!(flags & O_CREAT) || (!(flags & O_EXCL) && errno == EEXIST)))
		fd = (int)syscall(SYS_openat, dir, path, plain, mode);
	if (fd >= 0) {
		disk_opened(fd, made);
		f = disk_find(fd);
		if (f && (flags & O_TRUNC) && !made)
			disk_resize(f, fd, 0);
		else if (flags & O_TRUNC)
			syscall(SYS_ftruncate, fd, 0);
	}
	disk_unlock();
	return fd;
}

static mode_t mode_of(int flags, va_list args)
{
	return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(args, mode_t)
								   : 0;
}

#define OPEN(name)                                             \
	int name(const char *path, int flags, ...)             \
	{                                                      \
		va_list args;                                  \
		mode_t mode;                                   \
                                                               \
		va_start(args, flags);                         \
		mode = mode_of(flags, args);                   \
		va_end(args);                                  \
		return open_file(AT_FDCWD, path, flags, mode); \
	}
#define OPENAT(name)                                        \
	int name(int dir, const char *path, int flags, ...) \
	{                                                   \
		va_list args;                               \
		mode_t mode;                                \
                                                            \
		va_start(args, flags);                      \
		mode = mode_of(flags, args);                \
		va_end(args);                               \
		return open_file(dir, path, flags, mode);   \
	}

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* What the checking inline versions call. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

int __open_2(const char *path, int flags)
{
	return open_file(AT_FDCWD, path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
	return open_file(AT_FDCWD, path, flags, 0);
}

int __openat_2(int dir, const char *path, int flags)
{
	return open_file(dir, path, flags, 0);
}

int __openat64_2(int dir, const char *path, int flags)
{
	return open_file(dir, path, flags, 0);
}

int creat(const char *path, mode_t mode)
{
	return open_file(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *path, mode_t mode)
{
	return open_file(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* ---- writing ---- */

/* Locked if the fd is one of the modelled disk. */
static struct disk_file *lock_file(int fd)
{
	struct disk_file *f;

	if (!disk.active)
		return NULL;
	disk_lock();
	f = disk_find(fd);
	if (!f)
		disk_unlock();
	return f;
}

static ssize_t unlock(ssize_t result)
{
	disk_unlock();
	return result;
}

ssize_t write(int fd, const void *data, size_t size)
{
	struct iovec iov = { (void *)(uintptr_t)data, size };
	struct disk_file *f = lock_file(fd);

	return f ? unlock(disk_write(f, fd, &iov, 1, -1))
		 : syscall(SYS_write, fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
	struct iovec iov = { (void *)(uintptr_t)data, size };
	struct disk_file *f = lock_file(fd);

	return f ? unlock(disk_write(f, fd, &iov, 1, offset))
		 : syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
	return pwrite(fd, data, size, offset);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	struct disk_file *f = lock_file(fd);

	return f ? unlock(disk_write(f, fd, iov, n, -1))
		 : syscall(SYS_writev, fd, iov, n);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	struct disk_file *f = lock_file(fd);

	return f ? unlock(disk_write(f, fd, iov, n, offset))
		 : syscall(SYS_pwritev, fd, iov, n, offset, 0);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int n, off64_t offset)
{
	return pwritev(fd, iov, n, offset);
}

int ftruncate(int fd, off_t size)
{
	struct disk_file *f = lock_file(fd);

	return (int)(f ? unlock(disk_resize(f, fd, size))
		       : syscall(SYS_ftruncate, fd, size));
}

int ftruncate64(int fd, off64_t size)
{
	return ftruncate(fd, size);
}

int truncate(const char *path, off_t size)
{
	int fd = open_file(AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0), r;

	if (fd < 0)
		return -1;
	r = ftruncate(fd, size);
	close(fd);
	return r;
}

int truncate64(const char *path, off64_t size)
{
	return truncate(path, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
	struct disk_file *f = lock_file(fd);

	return (int)(f ? unlock(disk_allocate(f, fd, mode, offset, size))
		       : syscall(SYS_fallocate, fd, mode, offset, size));
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
	return fallocate(fd, mode, offset, size);
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
	int error = errno, r = fallocate(fd, 0, offset, size) < 0 ? errno : 0;

	errno = error;
	return r;
}

int posix_fallocate64(int fd, off64_t offset, off64_t size)
{
	return posix_fallocate(fd, offset, size);
}

/* ---- not modelled ---- */

static void break_if_ours(int fd, const char *what)
{
	if (!lock_file(fd))
		return;
	errno = EOPNOTSUPP;
	disk_break(what);
	disk_unlock();
}

void *mmap(void *at, size_t size, int access, int flags, int fd, off_t offset)
{
	if (fd >= 0 && (access & PROT_WRITE) && (flags & MAP_SHARED))
		break_if_ours(fd, "a writable mapping");
	return (void *)syscall(SYS_mmap, at, size, access, flags, fd, offset);
}

void *mmap64(void *at, size_t size, int access, int flags, int fd, off64_t offset)
{
	return mmap(at, size, access, flags, fd, offset);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	break_if_ours(fd, "pwritev2");
	return syscall(SYS_pwritev2, fd, iov, n, offset, 0, flags);
}

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size,
			unsigned int flags)
{
	break_if_ours(out, "copy_file_range");
	return syscall(SYS_copy_file_range, in, from, out, to, size, flags);
}

ssize_t sendfile(int out, int in, off_t *from, size_t size)
{
	break_if_ours(out, "sendfile");
	return syscall(SYS_sendfile, out, in, from, size);
}

ssize_t sendfile64(int out, int in, off64_t *from, size_t size)
{
	return sendfile(out, in, from, size);
}

ssize_t splice(int in, off64_t *from, int out, off64_t *to, size_t size,
	       unsigned int flags)
{
	break_if_ours(out, "splice");
	return syscall(SYS_splice, in, from, out, to, size, flags);
}

/* ---- syncing ---- */

static int sync_fd(int fd, long number)
{
	struct stat st;
	bool ours;
	int r;

	if (!disk.active || fstat(fd, &st) < 0)
		return (int)syscall(number, fd);
	disk_lock();
	ours = S_ISDIR(st.st_mode) || disk_find_stat(&st);
	r = ours ? disk_sync(fd) : 0;
	disk_unlock();
	return ours ? r : (int)syscall(number, fd);
}

int fsync(int fd)
{
	return sync_fd(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return sync_fd(fd, SYS_fdatasync);
}

int sync_file_range(int fd, off64_t offset, off64_t size, unsigned int flags)
{
	return 0;
}

void sync(void)
{
	if (!disk.active)
		return;
	disk_lock();
	disk_sync_all();
	disk_unlock();
}

int syncfs(int fd)
{
	sync();
	return 0;
}

/* ---- names ---- */

int renameat2(int from_dir, const char *from, int to_dir, const char *to,
	      unsigned int flags)
{
	struct disk_name a, b;
	int r;

	if (!disk.active || !disk_name(&a, from_dir, from) || !disk_name(&b, to_dir, to))
		return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
	disk_lock();
	if (flags & ~(unsigned int)RENAME_NOREPLACE)
		disk_break("renameat2 with flags");
	r = disk_rename(&a, &b, !flags);
	disk_unlock();
	return r;
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	return renameat2(from_dir, from, to_dir, to, 0);
}

int rename(const char *from, const char *to)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int dir, const char *path, int flags)
{
	struct disk_name name;
	int r;

	if (!disk.active || !disk_name(&name, dir, path))
		return (int)syscall(SYS_unlinkat, dir, path, flags);
	disk_lock();
	r = disk_remove(&name, flags & AT_REMOVEDIR);
	disk_unlock();
	return r;
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

/* A new name for what is there, or for a new directory. */
static int made(int r, int dir, const char *path)
{
	struct disk_name name;

	if (r < 0 || !disk.active || !disk_name(&name, dir, path))
		return r;
	disk_lock();
	disk_made(&name);
	disk_unlock();
	return r;
}

int mkdirat(int dir, const char *path, mode_t mode)
{
	return made((int)syscall(SYS_mkdirat, dir, path, mode), dir, path);
}

int mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	return made((int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags), to_dir,
		    to);
}

int link(const char *from, const char *to)
{
	return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int symlinkat(const char *target, int dir, const char *path)
{
	return made((int)syscall(SYS_symlinkat, target, dir, path), dir, path);
}

int symlink(const char *target, const char *path)
{
	return symlinkat(target, AT_FDCWD, path);
}
