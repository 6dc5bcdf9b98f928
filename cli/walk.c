/* SPDX-License-Identifier: MIT */

#include "walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct level {
	DIR *dir;
	struct stat st;
	size_t path_size; /* of its path with the slash; 0 for the first */
};

struct walk {
	struct level *levels;
	size_t n_levels, allocated;
	char *path;
	size_t path_allocated;
	int fd;	      /* of the entry that was given last */
	bool started; /* "." was given */
};

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	       (a->st_mode & S_IFMT) == (b->st_mode & S_IFMT);
}

static bool is_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool walk_is_unchanged(int fd, const struct stat *st)
{
	struct stat now;

	return fstat(fd, &now) == 0 && is_same(st, &now) && st->st_size == now.st_size &&
	       is_time(st->st_mtim, now.st_mtim) && is_time(st->st_ctim, now.st_ctim);
}

/* ---- levels ---- */

static int push(struct walk *walk, int fd, size_t path_size)
{
	struct level level = { .path_size = path_size };

	if (walk->n_levels == walk->allocated) {
		size_t n = walk->allocated ? 2 * walk->allocated : 16;
		struct level *grown = reallocarray(walk->levels, n, sizeof(*grown));

		if (!grown) {
			close(fd);
			return -ENOMEM;
		}
		walk->levels = grown;
		walk->allocated = n;
	}
	if (fstat(fd, &level.st) == 0)
		level.dir = fdopendir(fd);
	if (!level.dir) {
		int error = errno;

		close(fd);
		return -error;
	}
	walk->levels[walk->n_levels++] = level;
	return 0;
}

static void pop(struct walk *walk)
{
	closedir(walk->levels[--walk->n_levels].dir);
}

static int set_path(struct walk *walk, size_t at, const char *name)
{
	size_t size = strlen(name) + 1;

	if (at + size + 1 > walk->path_allocated) {
		size_t n = 2 * (at + size + 1);
		char *grown = realloc(walk->path, n);

		if (!grown)
			return -ENOMEM;
		walk->path = grown;
		walk->path_allocated = n;
	}
	memcpy(walk->path + at, name, size);
	return 0;
}

int walk_new(int dirfd, struct walk **ret)
{
	struct walk *walk = calloc(1, sizeof(*walk));
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : 0;

	if (walk)
		walk->fd = -1;
	if (r == 0)
		r = walk ? set_path(walk, 0, ".") : -ENOMEM;
	if (r == 0)
		r = push(walk, fd, 0);
	else if (fd >= 0)
		close(fd);
	if (r < 0) {
		walk_free(walk);
		return r;
	}
	*ret = walk;
	return 0;
}

struct walk *walk_free(struct walk *walk)
{
	if (!walk)
		return NULL;
	while (walk->n_levels > 0)
		pop(walk);
	if (walk->fd >= 0)
		close(walk->fd);
	free(walk->levels);
	free(walk->path);
	free(walk);
	return NULL;
}

const char *walk_get_path(const struct walk *walk)
{
	return walk->path;
}

/* ---- entries ---- */

/* Opens a regular file or enters a directory, if that is what was seen there. */
static int open_entry(struct walk *walk, const struct walk_entry *entry)
{
	const bool is_dir = S_ISDIR(entry->st.st_mode);
	int fd = openat(entry->dirfd, entry->name,
			O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC |
				(is_dir ? O_DIRECTORY : 0));
	struct stat st;

	if (fd < 0) /* another has put something else in its place */
		return errno == ELOOP || errno == ENOTDIR || errno == ENOENT
			       ? WALK_CHANGED
			       : -errno;
	if (fstat(fd, &st) < 0 || !is_same(&entry->st, &st)) {
		close(fd);
		return WALK_CHANGED;
	}
	if (!is_dir) {
		walk->fd = fd;
		return 0;
	}
	return push(walk, fd, strlen(walk->path) + 1);
}

static int give(struct walk *walk, struct walk_entry *entry)
{
	int r = 0;

	if (S_ISREG(entry->st.st_mode) || S_ISDIR(entry->st.st_mode))
		r = open_entry(walk, entry);
	if (S_ISREG(entry->st.st_mode) && r == 0 && fstat(walk->fd, &entry->st) < 0)
		r = -errno;
	if (r < 0)
		return r;
	entry->path = walk->path;
	entry->fd = walk->fd;
	return 1;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Back to the directory itself. */
static void cut_path(struct walk *walk, const struct level *level)
{
	if (level->path_size > 0)
		walk->path[level->path_size - 1] = 0;
	else
		strcpy(walk->path, ".");
}

/* The next name of the innermost directory; at its end back to the one around it. */
static int next_name(struct walk *walk, const char **ret_name)
{
	struct level *level;
	struct dirent *dirent;

	while (walk->n_levels > 0) {
		level = &walk->levels[walk->n_levels - 1];
		errno = 0;
		dirent = readdir(level->dir);
		if (dirent && is_dots(dirent->d_name))
			continue;
		if (dirent) {
			*ret_name = dirent->d_name;
			return 1;
		}
		if (errno)
			return -errno;
		cut_path(walk, level);
		if (!walk_is_unchanged(dirfd(level->dir), &level->st))
			return WALK_CHANGED;
		pop(walk);
	}
	return 0;
}

int walk_next(struct walk *walk, struct walk_entry *ret)
{
	const char *name = NULL;
	struct level *level = walk->levels;
	int r;

	if (walk->fd >= 0)
		close(walk->fd);
	walk->fd = -1;
	if (!walk->started) {
		walk->started = true;
		*ret = (struct walk_entry){ walk->path, ".", dirfd(level->dir), -1,
					    level->st };
		return 1;
	}
	r = next_name(walk, &name);
	if (r <= 0)
		return r;
	level = &walk->levels[walk->n_levels - 1];
	if (level->path_size > 0)
		walk->path[level->path_size - 1] = '/';
	r = set_path(walk, level->path_size, name);
	if (r < 0)
		return r;
	ret->name = walk->path + level->path_size;
	ret->dirfd = dirfd(level->dir);
	if (fstatat(ret->dirfd, ret->name, &ret->st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? WALK_CHANGED : -errno;
	return give(walk, ret);
}

/* ---- removing: each level that is entered takes a descriptor, so what is deeper than
 * LEVELS_MAX is moved up first ---- */

enum { LEVELS_MAX = 50 };

struct removal {
	int top;
	unsigned int next; /* name there */
	bool moved;
};

/* What is in it can be removed then. */
static int open_directory(int dirfd, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dirfd, name, flags);

	if (fd < 0 && errno == EACCES &&
	    fchmodat(dirfd, name, 0700, AT_SYMLINK_NOFOLLOW) == 0)
		fd = openat(dirfd, name, flags);
	if (fd < 0)
		return -errno;
	(void)!fchmod(fd, 0700); /* else it may not let go of what is in it */
	return fd;
}

static int move_up(struct removal *removal, int dirfd, const char *name)
{
	int fd = open_directory(dirfd, name), r;
	char to[32];

	if (fd < 0)
		return fd;
	close(fd);
	do { /* an empty one it takes the place of would go, too */
		snprintf(to, sizeof(to), "moved-%u", removal->next++);
		r = renameat(dirfd, name, removal->top, to);
	} while (r < 0 && (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR));
	removal->moved |= r == 0;
	return r < 0 ? -errno : 0;
}

static int remove_in(struct removal *removal, int fd, unsigned int level);

static int remove_directory(struct removal *removal, int dirfd, const char *name,
			    unsigned int level)
{
	int fd, r;

	if (level == LEVELS_MAX)
		return move_up(removal, dirfd, name);
	fd = open_directory(dirfd, name);
	if (fd < 0)
		return fd;
	r = remove_in(removal, fd, level);
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && r == 0)
		r = -errno;
	return r;
}

static int remove_entry(struct removal *removal, int dirfd, const char *name,
			unsigned int level)
{
	if (unlinkat(dirfd, name, 0) == 0)
		return 0;
	return errno == EISDIR || errno == EPERM
		       ? remove_directory(removal, dirfd, name, level)
		       : -errno;
}

/* Takes the descriptor. */
static int remove_in(struct removal *removal, int fd, unsigned int level)
{
	DIR *dir = fdopendir(fd);
	struct dirent *dirent;
	int r = 0, error;

	if (!dir) {
		error = errno;
		close(fd);
		return -error;
	}
	while ((dirent = readdir(dir))) {
		error = is_dots(dirent->d_name)
				? 0
				: remove_entry(removal, fd, dirent->d_name, level + 1);
		r = r ? r : error;
	}
	closedir(dir);
	return r;
}

/* As long as something is moved up there is something to do. */
static int remove_all(struct removal *removal)
{
	int fd, r;

	do {
		removal->moved = false;
		fd = openat(removal->top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = fd < 0 ? -errno : remove_in(removal, fd, 0);
	} while (removal->moved);
	return r;
}

int walk_remove(int dirfd, const char *name)
{
	struct removal removal = { 0 };
	int r;

	if (unlinkat(dirfd, name, 0) == 0)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	removal.top = open_directory(dirfd, name);
	if (removal.top < 0)
		return removal.top;
	r = remove_all(&removal);
	close(removal.top);
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && r == 0)
		r = -errno;
	return r;
}
