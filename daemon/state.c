/* SPDX-License-Identifier: MIT */

#include "state.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "log.h"

static void say_holder(const char *directory, int fd)
{
	char socket[256];
	ssize_t n = pread(fd, socket, sizeof(socket) - 1, 0);

	socket[n > 0 ? n : 0] = '\0';
	socket[strcspn(socket, "\n")] = '\0';
	log_error("another ipcd keeps its state in %s; its socket is %s", directory,
		  socket);
}

/* A directory that was just made, perhaps by an ipcd that died at once, shall still be there
 * when the power has gone. Whose parent cannot be read was made by somebody else. */
static int sync_parent(const char *directory)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_fd_ int fd = -1;

	if (asprintf(&path, "%s/..", directory) < 0) {
		path = NULL;
		return err_origin(-ENOMEM);
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && fsync(fd) < 0 && errno != EINVAL) /* EINVAL: it cannot be synced */
		return err_origin(-errno);
	return 0;
}

/* One that somebody else has made. */
static void look_at_mode(const char *directory)
{
	struct stat st;

	if (stat(directory, &st) == 0 && (st.st_mode & 077))
		log_warning(
			"the state directory %s has mode %04o: others can see into it; "
			"chmod 700 keeps them out",
			directory, (unsigned int)st.st_mode & 07777);
}

static int open_lock(const char *directory)
{
	_cleanup_free_ char *path = NULL;
	int fd;

	if (asprintf(&path, "%s/lock", directory) < 0) {
		path = NULL;
		return err_origin(-ENOMEM);
	}
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? err_origin(-errno) : fd;
}

int state_lock(const char *directory, const char *socket, int *ret_lock_fd)
{
	_cleanup_fd_ int fd = -1;
	int r;

	r = mkdir(directory, 0700) < 0 && errno != EEXIST ? err_origin(-errno)
							  : sync_parent(directory);
	if (r < 0) {
		log_error("cannot make the state directory %s: %s", directory,
			  strerror(-r));
		return err_trace(r);
	}
	look_at_mode(directory);
	fd = open_lock(directory);
	if (fd < 0) {
		log_error("cannot open %s/lock: %s", directory, strerror(-fd));
		return err_trace(fd);
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		say_holder(directory, fd);
		return err_origin(-EADDRINUSE);
	}
	if (ftruncate(fd, 0) < 0 || dprintf(fd, "%s\n", socket) < 0) {
		r = -errno;
		log_error("cannot write %s/lock: %s", directory, strerror(-r));
		return err_origin(r);
	}
	*ret_lock_fd = TAKE_FD(fd);
	return 0;
}

static bool is_same_file(int a, int b)
{
	struct stat one, other;

	return fstat(a, &one) == 0 && fstat(b, &other) == 0 &&
	       one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

/* Which socket is in use. */
static int copy_text(int from, int to)
{
	char text[256];
	ssize_t n = pread(from, text, sizeof(text), 0);

	if (n < 0 || ftruncate(to, 0) < 0 || pwrite(to, text, (size_t)n, 0) < 0)
		return err_origin(-errno);
	return 0;
}

int state_lock_again(const char *directory, int lock_fd)
{
	_cleanup_fd_ int fd = open_lock(directory);
	int r;

	if (fd < 0)
		return err_trace(fd);
	if (is_same_file(fd, lock_fd))
		return 0;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_origin(errno == EWOULDBLOCK ? -EADDRINUSE : -errno);
	look_at_mode(directory);
	r = copy_text(lock_fd, fd);
	if (r == 0)
		r = sync_parent(directory);
	if (r < 0)
		return err_trace(r);
	return dup3(fd, lock_fd, O_CLOEXEC) < 0 ? err_origin(-errno) : 1;
}

int state_open_spool(const char *directory)
{
	_cleanup_free_ char *path = NULL;
	int fd;

	if (asprintf(&path, "%s/spool", directory) < 0) {
		path = NULL;
		return err_origin(-ENOMEM);
	}
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_origin(-errno);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? err_origin(-errno) : fd;
}
