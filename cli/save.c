/* SPDX-License-Identifier: MIT */

/*
 * A file is saved by the library. An archive is unpacked into a new directory beside its
 * target, whose name begins with TEMPORARY; when all is on the disk that gets the name.
 */

#include "save.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "unpack.h"
#include "walk.h"

#define TEMPORARY ".ipc-"
enum { OTHER_NAMES_MAX = 10000 };

/* ---- names ---- */

static char *number_name(const struct ipc_message *message)
{
	char *name;

	if (asprintf(&name, "message-%llu",
		     (unsigned long long)ipc_message_get_number(message)) < 0)
		return NULL;
	return name;
}

/* What is left without ".tar" must still be a name of its own. */
static char *archive_name(const struct ipc_message *message, const char *filename)
{
	size_t n = strlen(filename);
	char *name;

	if (n >= 4 && strcmp(filename + n - 4, ".tar") == 0)
		n -= 4;
	name = strndup(filename, n);
	if (!name || (*name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0))
		return name;
	free(name);
	return number_name(message);
}

bool save_is_archive(const struct save *save, const struct ipc_message *message)
{
	const char *archive = ipc_message_get_archive(message);

	return save->unpack && archive && strcmp(archive, "tar") == 0 &&
	       !ipc_message_is_live(message);
}

char *save_name(const struct save *save, const struct ipc_message *message)
{
	const char *filename = ipc_message_get_filename(message);

	if (!filename)
		return number_name(message);
	return save_is_archive(save, message) ? archive_name(message, filename)
					      : strdup(filename);
}

char *save_other_name(const char *name, unsigned int n, bool is_directory)
{
	const char *dot = is_directory ? NULL : strrchr(name, '.');
	size_t stem = dot && dot > name ? (size_t)(dot - name) : strlen(name);
	char *other;

	if (dot && stem > 4 && memcmp(dot - 4, ".tar", 4) == 0) /* as in "x.tar.gz" */
		stem -= 4;
	if (asprintf(&other, "%.*s (%u)%s", (int)stem, name, n, name + stem) < 0)
		return NULL;
	return other;
}

/* ---- into place ---- */

/* Never replaces anything. */
static int rename_new(int dirfd, const char *from, const char *to)
{
	struct stat st;

	if (renameat2(dirfd, from, dirfd, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* A file system without that: but a directory can take the place of nothing more
	 * than an empty one. */
	if (fstatat(dirfd, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return renameat(dirfd, from, dirfd, to) < 0 ? -errno : 0;
}

static int rename_numbered(const struct save *save, const char *from, char **name)
{
	for (unsigned int n = 1; n <= OTHER_NAMES_MAX; n++) {
		char *other = save_other_name(*name, n, true);
		int r = other ? rename_new(save->dirfd, from, other) : -ENOMEM;

		if (r == 0) {
			free(*name);
			*name = other;
			return 0;
		}
		free(other);
		if (r != -EEXIST)
			return r;
	}
	return -EEXIST;
}

static int put_in_place(const struct save *save, const char *from, char **name)
{
	int r = rename_new(save->dirfd, from, *name);

	if (r == -EEXIST && (save->flags & IPC_SAVE_RENAME))
		r = rename_numbered(save, from, name);
	else if (r == -EEXIST && (save->flags & IPC_SAVE_REPLACE))
		r = renameat(save->dirfd, from, save->dirfd, *name) < 0 ? -errno : 0;
	/* some file systems of others know no such thing as writing a directory */
	if (r == 0 && fsync(save->dirfd) < 0 && errno != EINVAL)
		r = -errno;
	return r;
}

/* One that cannot be looked into is not called empty. */
static bool is_empty(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	int n = 0;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (n < 3 && readdir(dir)) /* it has "." and ".." */
		n++;
	closedir(dir);
	return n < 3;
}

int save_check_replace(const struct save *save, const struct ipc_message *message,
		       const char *name)
{
	const bool is_archive = save_is_archive(save, message);
	struct stat st;

	if (fstatat(save->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (!S_ISDIR(st.st_mode))
		return is_archive ? -ENOTDIR : 0;
	if (!is_archive)
		return -EISDIR;
	return is_empty(save->dirfd, name) ? 0 : -ENOTEMPTY;
}

/* Before the work is done: would it be in vain? */
static int check_place(const struct save *save, const struct ipc_message *message,
		       const char *name)
{
	struct stat st;

	if (save->flags & IPC_SAVE_RENAME)
		return 0;
	if (save->flags & IPC_SAVE_REPLACE)
		return save_check_replace(save, message, name);
	return fstatat(save->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : -EEXIST;
}

/* ---- archives ---- */

static int make_temporary(int dirfd, char name[static 32])
{
	for (int i = 0; i < 100; i++) {
		uint64_t random;

		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			return -errno;
		snprintf(name, 32, TEMPORARY "%016llx", (unsigned long long)random);
		if (mkdirat(dirfd, name, 0700) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

static int unpack_message(const struct save *save, struct ipc_message *message, int fd,
			  char **ret_why)
{
	struct unpack unpack = {
		.fd = ipc_message_get_fd(message),
		.progress = save->progress,
		.note = save->note,
		.userdata = save->userdata,
	};
	size_t size = 0;
	int r;

	if (unpack.fd < 0)
		unpack.data = ipc_message_get_body(message, &size);
	unpack.size = unpack.fd < 0 ? size : ipc_message_get_size(message);
	r = unpack_into(&unpack, fd);
	*ret_why = unpack.error;
	/* One call for all of its files: each for itself would take as many as there are. */
	if (r == 0 && syncfs(fd) < 0)
		r = -errno;
	return r;
}

static int fill_temporary(const struct save *save, struct ipc_message *message,
			  const char *temporary, char **ret_why)
{
	int fd = openat(save->dirfd, temporary,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = unpack_message(save, message, fd, ret_why);
	close(fd);
	return r;
}

static int save_archive(const struct save *save, struct ipc_message *message, char **name,
			char **ret_why)
{
	char temporary[32];
	int r;

	/* A signal ends that, too. */
	ipc_message_set_progress(message, save->progress, save->userdata);
	r = ipc_message_verify(message);
	if (r == 0)
		r = make_temporary(save->dirfd, temporary);
	if (r < 0)
		return r;
	r = fill_temporary(save, message, temporary, ret_why);
	if (r == 0)
		r = put_in_place(save, temporary, name);
	if (r < 0)
		walk_remove(save->dirfd, temporary);
	return r;
}

/* ---- both ---- */

int save_message(const struct save *save, struct ipc_message *message, char **ret_name,
		 char **ret_why)
{
	_cleanup_free_ char *name = save_name(save, message);
	int r;

	*ret_why = NULL;
	if (!name)
		return -ENOMEM;
	r = check_place(save, message, name);
	if (r < 0)
		return r;
	if (!save_is_archive(save, message)) {
		ipc_message_set_progress(message, save->progress, save->userdata);
		return ipc_message_save(message, save->dirfd, name, save->flags,
					ret_name);
	}
	r = save_archive(save, message, &name, ret_why);
	if (r == 0) {
		*ret_name = name;
		name = NULL;
	}
	return r;
}
