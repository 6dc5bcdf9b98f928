/* SPDX-License-Identifier: MIT */

/* The names on the modelled disk, see powercut_disk.c. What is removed or replaced moves to
 * a directory of graves until the removal is synced. */

#include "integration/powercut_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void disk_new_path(char out[static PATH_MAX])
{
	static unsigned int n;

	snprintf(out, PATH_MAX, "%.*s/%d-%u", PATH_MAX - 32, disk.graves, (int)getpid(),
		 n++);
}

bool disk_name(struct disk_name *ret_name, int dir, const char *path)
{
	char parent[PATH_MAX], link[64];
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	struct stat st;
	ssize_t n = -1;
	int fd, error = errno;

	snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(base - path) : 1,
		 slash ? path : ".");
	fd = (int)syscall(SYS_openat, dir, parent, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd >= 0 && fstat(fd, &st) == 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, parent, sizeof(parent) - 1);
	}
	if (fd >= 0)
		close(fd);
	errno = error;
	if (n <= 0 || (size_t)n + strlen(base) + 2 > PATH_MAX)
		return false;
	memcpy(ret_name->path, parent, (size_t)n);
	snprintf(ret_name->path + n, PATH_MAX - (size_t)n, "/%s", base);
	ret_name->dev = st.st_dev;
	ret_name->ino = st.st_ino;
	return disk_has(ret_name->path);
}

/* ---- the log ---- */

struct name_undo *disk_note_name(uint64_t change, enum name_change kind)
{
	struct name_undo *u = calloc(1, sizeof(*u));

	if (!u) {
		disk_break("no memory");
		abort();
	}
	u->change = change;
	u->kind = kind;
	list_add_tail(&disk.names, &u->link);
	return u;
}

static struct name_undo *note(const struct disk_name *name, enum name_change kind)
{
	struct name_undo *u = disk_note_name(++disk.change, kind);

	u->dev = name->dev;
	u->ino = name->ino;
	memcpy(u->path, name->path, sizeof(u->path));
	return u;
}

/* Of what has gone for good. */
static void forget_file(const char *grave)
{
	LIST_FOREACH(link, &disk.files) {
		struct disk_file *f = LIST_ENTRY(link, struct disk_file, link);

		if (!strcmp(f->path, grave)) {
			disk_file_free(f);
			return;
		}
	}
}

void disk_forget_names(dev_t dev, ino_t ino, uint64_t until)
{
	struct list *next;

	for (struct list *link = disk.names.next; link != &disk.names; link = next) {
		struct name_undo *u = LIST_ENTRY(link, struct name_undo, link);

		next = link->next;
		if (u->dev != dev || u->ino != ino || u->change > until)
			continue;
		if (u->grave[0]) {
			syscall(SYS_unlinkat, AT_FDCWD, u->grave, 0);
			forget_file(u->grave);
		}
		list_remove(link);
		free(u);
	}
}

/* ---- changes ---- */

/* Files keep their logs wherever they go. */
static void follow(const char *from, const char *to)
{
	size_t size = strlen(from);

	LIST_FOREACH(link, &disk.files) {
		struct disk_file *f = LIST_ENTRY(link, struct disk_file, link);
		char path[PATH_MAX];

		if (strncmp(f->path, from, size) != 0 ||
		    (f->path[size] && f->path[size] != '/'))
			continue;
		if (snprintf(path, sizeof(path), "%s%s", to, f->path + size) < PATH_MAX)
			memcpy(f->path, path, sizeof(path));
	}
}

static int move(const char *from, const char *to)
{
	int r = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);

	if (r == 0)
		follow(from, to);
	return r;
}

/* Its room is free at once. */
static int bury(const char *path, char grave[static PATH_MAX])
{
	struct stat st;

	disk_new_path(grave);
	if (lstat(path, &st) < 0 || move(path, grave) < 0)
		return -1;
	if (S_ISREG(st.st_mode))
		disk_room_give(st.st_size);
	return 0;
}

void disk_made(const struct disk_name *name)
{
	note(name, NAME_MADE);
	disk_changed();
}

int disk_remove(const struct disk_name *name, bool directory)
{
	char grave[PATH_MAX] = "";
	struct name_undo *u;
	struct stat st;

	if (lstat(name->path, &st) < 0)
		return -1;
	if (S_ISDIR(st.st_mode) != directory) {
		errno = directory ? ENOTDIR : EISDIR;
		return -1;
	}
	if (directory) {
		if (syscall(SYS_unlinkat, AT_FDCWD, name->path, AT_REMOVEDIR) < 0)
			return -1;
	} else if (bury(name->path, grave) < 0) {
		return -1;
	}
	u = note(name, NAME_REMOVED);
	memcpy(u->grave, grave, sizeof(grave));
	disk_changed();
	return 0;
}

int disk_rename(const struct disk_name *from, const struct disk_name *to,
		bool may_replace)
{
	char grave[PATH_MAX] = "";
	struct name_undo *u;
	struct stat st, replaced;

	if (lstat(from->path, &st) < 0)
		return -1;
	if (lstat(to->path, &replaced) == 0) {
		if (!may_replace || S_ISDIR(replaced.st_mode)) {
			errno = EEXIST;
			return -1;
		}
		if (replaced.st_ino == st.st_ino)
			return 0;
		if (bury(to->path, grave) < 0)
			return -1;
	}
	if (move(from->path, to->path) < 0)
		return -1;
	u = note(to, NAME_RENAMED);
	memcpy(u->path, from->path, sizeof(u->path));
	memcpy(u->to, to->path, sizeof(u->to));
	memcpy(u->grave, grave, sizeof(grave));
	disk_changed();
	return 0;
}
