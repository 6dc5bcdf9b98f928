/* SPDX-License-Identifier: MIT */

#include "spool.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

struct spool {
	int fd;
	bool unsynced;
};

static const char half_written[] = "new"; /* no number */

static int failure(void)
{
	return errno == ENOSPC || errno == EDQUOT ? -ENOSPC : -EIO;
}

static void name_file(char name[static 24], uint64_t number)
{
	snprintf(name, 24, "%" PRIu64, number);
}

int spool_open(struct spool **ret_spool, const char *directory)
{
	_cleanup_free_ struct spool *spool = calloc(1, sizeof(*spool));
	_cleanup_free_ char *path = NULL;

	if (!spool || asprintf(&path, "%s/spool", directory) < 0)
		return err_origin(-ENOMEM);
	if (mkdir(path, 0700) == 0)
		spool->unsynced = true;
	else if (errno != EEXIST)
		return err_origin(failure());
	spool->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (spool->fd < 0)
		return err_origin(failure());
	*ret_spool = TAKE_PTR(spool);
	return 0;
}

struct spool *spool_close(struct spool *spool)
{
	if (spool)
		fd_close(spool->fd);
	free(spool);
	return NULL;
}

static int write_all(int fd, struct slice body)
{
	while (body.size) {
		ssize_t n = write(fd, body.data, body.size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_origin(failure());
		body.data += n;
		body.size -= (size_t)n;
	}
	return 0;
}

static int create_file(const struct spool *spool, const char *name, int how)
{
	return openat(spool->fd, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | how,
		      0600);
}

/* One that is there may belong to a row that is there: it is replaced whole. */
int spool_put(struct spool *spool, uint64_t number, struct slice body, bool *ret_new)
{
	_cleanup_fd_ int fd = -1;
	char name[24];
	int r;

	name_file(name, number);
	fd = create_file(spool, name, O_EXCL);
	*ret_new = fd >= 0;
	if (fd < 0 && errno == EEXIST)
		fd = create_file(spool, half_written, O_TRUNC);
	if (fd < 0)
		return err_origin(failure());
	spool->unsynced = true;
	r = write_all(fd, body);
	if (r == 0 && fdatasync(fd) < 0)
		r = err_origin(failure());
	if (r == 0 && !*ret_new && renameat(spool->fd, half_written, spool->fd, name) < 0)
		r = err_origin(failure());
	return err_trace(r);
}

int spool_sync(struct spool *spool)
{
	if (!spool->unsynced)
		return 0;
	if (fsync(spool->fd) < 0)
		return err_origin(failure());
	spool->unsynced = false;
	return 0;
}

void spool_drop(struct spool *spool, uint64_t number)
{
	char name[24];

	name_file(name, number);
	(void)!unlinkat(spool->fd, name, 0); /* what stays is found at the next start */
}

int spool_get(struct spool *spool, uint64_t number, uint64_t size, struct buf *body)
{
	_cleanup_fd_ int fd = -1;
	struct stat st;
	char name[24];
	int r;

	name_file(name, number);
	fd = openat(spool->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) /* ELOOP: a link in its place */
		return err_origin(errno == ELOOP ? -ENOENT : -errno);
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != size)
		return err_origin(-ENOENT);
	r = buf_reserve(body, size);
	if (r < 0)
		return err_trace(r);
	while (body->size < size) {
		ssize_t n = read(fd, body->data + body->size, size - body->size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_origin(-EIO);
		body->size += (size_t)n;
	}
	return 0;
}

void spool_sweep(struct spool *spool, bool (*keep)(void *arg, uint64_t number), void *arg)
{
	int fd = openat(spool->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	uint64_t number;

	if (!dir) {
		fd_close(fd);
		return;
	}
	(void)!unlinkat(spool->fd, half_written, 0);
	while ((entry = readdir(dir)))
		if (parse_u64(entry->d_name, INT64_MAX, &number) && !keep(arg, number))
			spool_drop(spool, number);
	closedir(dir);
}
