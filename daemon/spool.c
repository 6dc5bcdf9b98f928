/* SPDX-License-Identifier: MIT */

#include "spool.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "state.h"

enum { COPY_BYTES = 64 * 1024 };

struct spool {
	int fd;
	bool unsynced; /* there may be names that are not on the disk */
	bool distrust; /* fdatasync(2) has failed: a second one may succeed without the data,
			  so what is not yet on the disk is written once more */
};

static const char half_written[] = "new"; /* no id */

static int failure(void)
{
	return errno == ENOSPC || errno == EDQUOT ? -ENOSPC : -EIO;
}

static void name_file(char name[static 24], uint64_t id)
{
	snprintf(name, 24, "%" PRIu64, id);
}

/* A descriptor, or a failure. */
static int open_directory(const char *directory)
{
	int fd = state_open_spool(directory);

	if (fd >= 0 || fd == -ENOMEM)
		return fd;
	errno = -fd;
	return err_origin(failure());
}

int spool_open(struct spool **ret_spool, const char *directory)
{
	_cleanup_free_ struct spool *spool = calloc(1, sizeof(*spool));

	if (!spool)
		return err_origin(-ENOMEM);
	spool->fd = open_directory(directory);
	if (spool->fd < 0)
		return err_trace(spool->fd);
	*ret_spool = TAKE_PTR(spool);
	return 0;
}

int spool_open_again(struct spool *spool, const char *directory)
{
	int fd = open_directory(directory);

	if (fd < 0)
		return err_trace(fd);
	fd_close(spool->fd);
	spool->fd = fd;
	return 0;
}

struct spool *spool_close(struct spool *spool)
{
	if (spool)
		fd_close(spool->fd);
	free(spool);
	return NULL;
}

int spool_check(const struct spool *spool, uint64_t id, uint64_t size, uint64_t *ret_disk)
{
	struct stat st;
	char name[24];

	name_file(name, id);
	if (fstatat(spool->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT || errno == EIO ? 0 : err_origin(-errno);
	*ret_disk = min_u64(size, (uint64_t)st.st_blocks * 512);
	return S_ISREG(st.st_mode) && (uint64_t)st.st_size == size;
}

/* ---- putting ---- */

static int write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_origin(failure());
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

/* Others may use the offset of `from`. */
static int copy_content(int to, int from, uint64_t size)
{
	char piece[COPY_BYTES];
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < size;) {
		ssize_t n = pread(from, piece, sizeof(piece), (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_origin(-ENOENT);
		r = write_all(to, piece, (size_t)n);
		at += (uint64_t)n;
	}
	return err_trace(r);
}

static int sync_content(struct spool *spool, int fd)
{
	if (fdatasync(fd) == 0)
		return 0;
	spool->distrust = true;
	return err_origin(failure());
}

/* What has this name is whole, or it is not there. */
static int copy_file(struct spool *spool, const char *name, int from, uint64_t size)
{
	_cleanup_fd_ int fd =
		openat(spool->fd, half_written,
		       O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return err_origin(failure());
	r = copy_content(fd, from, size);
	if (r == 0)
		r = sync_content(spool, fd);
	if (r == 0 && renameat(spool->fd, half_written, spool->fd, name) < 0)
		r = err_origin(failure());
	if (r < 0) /* the disk may be full */
		(void)!unlinkat(spool->fd, half_written, 0);
	return err_trace(r);
}

static int settle_file(struct spool *spool, const char *name, uint64_t size)
{
	_cleanup_fd_ int fd = openat(spool->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return err_origin(-EIO);
	if (spool->distrust)
		return err_trace(copy_file(spool, name, fd, size));
	return err_trace(sync_content(spool, fd));
}

int spool_put(struct spool *spool, const struct message_record *m)
{
	uint64_t disk;
	int is_there = spool_check(spool, m->blob, m->body_size, &disk);
	char name[24];

	if (is_there < 0)
		return err_origin(-EIO);
	name_file(name, m->blob);
	spool->unsynced = true; /* whoever made the name */
	if (is_there && (m->blob_synced || m->blob_fd >= 0))
		return 0;
	if (m->blob_fd >= 0)
		return err_trace(copy_file(spool, name, m->blob_fd, m->body_size));
	if (!is_there)
		return err_origin(-ENOENT);
	return err_trace(settle_file(spool, name, m->body_size));
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

/* ---- at start ---- */

void spool_sweep(struct spool *spool, bool drop, bool (*keep)(void *arg, uint64_t id),
		 void *arg)
{
	int fd = openat(spool->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	uint64_t id;

	if (!dir) {
		fd_close(fd);
		return;
	}
	(void)!unlinkat(spool->fd, half_written, 0);
	while ((entry = readdir(dir)))
		if (parse_u64(entry->d_name, INT64_MAX, &id) && !keep(arg, id) && drop)
			(void)!unlinkat(spool->fd, entry->d_name, 0);
	closedir(dir);
}
