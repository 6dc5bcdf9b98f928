/* SPDX-License-Identifier: MIT */

/*
 * libarchive's archive_write_disk(3) does the work, relative to the working directory, with
 * its checks for "..", absolute names and symbolic links on the way; names are checked here,
 * too, before. Since nobody else can write to the directory, what was checked stays so.
 *
 * This program has no locale, and so libarchive hands on names as the bytes that they are.
 */

#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "libarchive.h"

enum { CHUNK = 262144 };

struct state {
	struct unpack *unpack;
	struct archive *from, *to;
	char *top; /* with which all names begin; NULL before the first */
	size_t top_size;
	uint64_t n_entries;
	uint64_t written; /* bytes of files */
	uint64_t read;	  /* bytes of the archive */
	mode_t mask;	  /* what of the permission bits is kept */
	bool has_top;	  /* "." was in it */
	char data[CHUNK];
};

static int fail(struct state *state, int error, const char *path, const char *what)
{
	struct unpack *unpack = state->unpack;

	free(unpack->error);
	if (asprintf(&unpack->error, "%s%s%s", path ? path : "", path ? ": " : "", what) <
	    0)
		unpack->error = NULL;
	return error;
}

/* ---- whose fault it is ---- */

static bool is_local(int error)
{
	static const int local[] = { ENOSPC, EDQUOT, EACCES, EPERM,  EIO,   EROFS,
				     EMFILE, ENFILE, ENOMEM, EMLINK, EFBIG, EINTR };

	for (size_t i = 0; i < ARRAY_SIZE(local); i++)
		if (error == local[i])
			return true;
	return false;
}

static int fail_archive(struct state *state, struct archive *archive, const char *path)
{
	const char *text = la.archive_error_string(archive);
	int error = la.archive_errno(archive);

	if (state->unpack->progress && error == ECANCELED)
		return -ECANCELED;
	return fail(state, is_local(error) ? -error : -EBADMSG, path,
		    text ? text : "the archive is damaged");
}

/* ---- reading ---- */

static la_ssize_t on_read(struct archive *archive, void *userdata, const void **ret)
{
	struct state *state = userdata;
	struct unpack *unpack = state->unpack;
	uint64_t left = unpack->size - state->read;
	size_t size = left < CHUNK ? (size_t)left : CHUNK;
	ssize_t n = (ssize_t)size;

	if (unpack->progress &&
	    unpack->progress(state->read, unpack->size, unpack->userdata) != 0) {
		la.archive_set_error(archive, ECANCELED, "cancelled");
		return -1;
	}
	*ret = unpack->fd < 0 ? (const char *)unpack->data + state->read : state->data;
	if (unpack->fd >= 0)
		n = TEMP_FAILURE_RETRY(
			pread(unpack->fd, state->data, size, (off_t)state->read));
	if (n < 0) {
		la.archive_set_error(archive, errno, "%s", strerror(errno));
		return -1;
	}
	state->read += (uint64_t)n;
	return n;
}

/* ---- what is allowed ---- */

static bool is_safe(const char *path)
{
	if (!*path || *path == '/' || strlen(path) >= PATH_MAX)
		return false;
	for (const char *part = path; part; part = strchr(part, '/')) {
		part += *part == '/';
		if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || !part[2]))
			return false;
	}
	return true;
}

static const char *what_is(mode_t type)
{
	switch (type) {
	case AE_IFREG:
	case AE_IFDIR:
	case AE_IFLNK:
		return NULL;
	case AE_IFSOCK:
		return "a socket";
	case AE_IFIFO:
		return "a pipe";
	case AE_IFBLK:
	case AE_IFCHR:
		return "a device";
	default:
		return "of an unknown kind";
	}
}

/* What is behind the directory's name; "." for itself, NULL if it is not in it. */
static const char *behind_top(const struct state *state, const char *path)
{
	if (strncmp(path, state->top, state->top_size) != 0 ||
	    (path[state->top_size] && path[state->top_size] != '/'))
		return NULL;
	path += state->top_size;
	path += strspn(path, "/");
	return *path ? path : ".";
}

static int set_top(struct state *state, const char *path)
{
	if (state->top)
		return 0;
	state->top_size = strcspn(path, "/");
	state->top = strndup(path, state->top_size);
	return state->top ? 0 : fail(state, -ENOMEM, NULL, "no memory");
}

/* What no file system makes for anybody is no fault of this one. */
static bool is_directory(const char *path)
{
	struct stat st;

	return fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISDIR(st.st_mode);
}

/* Names as they are in the directory. */
static int take_names(struct state *state, struct archive_entry *entry)
{
	const char *path = la.archive_entry_pathname(entry);
	const char *hard_link = la.archive_entry_hardlink(entry);
	_cleanup_free_ char *from = NULL, *to = NULL;
	int r = set_top(state, path);

	if (r < 0)
		return r;
	path = behind_top(state, path);
	if (!path ||
	    (strcmp(path, ".") == 0 && la.archive_entry_filetype(entry) != AE_IFDIR))
		return fail(state, -EBADMSG, la.archive_entry_pathname(entry),
			    "is not in the directory");
	if (hard_link) {
		hard_link = behind_top(state, hard_link);
		if (!hard_link || strcmp(hard_link, ".") == 0)
			return fail(state, -EBADMSG, path, "is a link that leads out");
		if (is_directory(hard_link))
			return fail(state, -EBADMSG, path, "is a link to a directory");
		to = strdup(hard_link);
	}
	from = strdup(path);
	if (!from || (hard_link && !to))
		return fail(state, -ENOMEM, NULL, "no memory");
	la.archive_entry_copy_pathname(entry, from);
	if (to)
		la.archive_entry_copy_hardlink(entry, to);
	return 0;
}

/* Directories on the way that are made besides, as none has told of them. */
static uint64_t count_missing(const char *path)
{
	size_t size = strlen(path);
	char above[PATH_MAX];
	uint64_t n = 0;
	char *slash;

	while (size > 0 && path[size - 1] == '/')
		size--;
	snprintf(above, sizeof(above), "%.*s", (int)size, path);
	while ((slash = strrchr(above, '/'))) {
		*slash = '\0';
		if (faccessat(AT_FDCWD, above, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			break;
		n++;
	}
	return n;
}

static int count(struct state *state, uint64_t n, const char *path)
{
	uint64_t max = state->unpack->entries_max ? state->unpack->entries_max
						  : UNPACK_ENTRIES_MAX;

	state->n_entries += n;
	return state->n_entries > max
		       ? fail(state, -EBADMSG, path, "is an entry too many")
		       : 0;
}

static int check(struct state *state, struct archive_entry *entry)
{
	const char *path = la.archive_entry_pathname(entry);
	const char *hard_link = la.archive_entry_hardlink(entry);
	int r = count(state, 1, path);

	if (r < 0)
		return r;
	if (!path)
		return fail(state, -EBADMSG, NULL, "an entry has no name");
	if (!is_safe(path))
		return fail(state, -EBADMSG, path, "is a name that leads out");
	if (hard_link && !is_safe(hard_link))
		return fail(state, -EBADMSG, path, "is a link that leads out");
	r = take_names(state, entry);
	if (r < 0)
		return r;
	path = la.archive_entry_pathname(entry);
	return count(state, count_missing(path), path);
}

/* What a file system may hold at all is its own affair; no bytes come out of nothing. */
static int write_data(struct state *state, const char *path)
{
	const void *data;
	size_t size;
	la_int64_t offset;
	int r;

	while ((r = la.archive_read_data_block(state->from, &data, &size, &offset)) !=
	       ARCHIVE_EOF) {
		if (r < ARCHIVE_WARN)
			return fail_archive(state, state->from, path);
		state->written += size;
		if (state->written > state->unpack->size)
			return fail(state, -EBADMSG, path, "is larger than the archive");
		if (la.archive_write_data_block(state->to, data, size, offset) <
		    ARCHIVE_WARN)
			return fail_archive(state, state->to, path);
	}
	return 0;
}

static int take_entry(struct state *state, struct archive_entry *entry)
{
	const char *path = la.archive_entry_pathname(entry);
	bool is_link = la.archive_entry_hardlink(entry);
	int r;

	/* The bytes of a link are those of what it is linked to. */
	if (is_link)
		la.archive_entry_unset_size(entry);
	la.archive_entry_set_perm(entry, la.archive_entry_perm(entry) & state->mask);
	if (la.archive_entry_filetype(entry) == AE_IFDIR && path[strspn(path, "./")] == 0)
		state->has_top = true;
	if (la.archive_write_header(state->to, entry) < ARCHIVE_WARN)
		return fail_archive(state, state->to, path);
	r = is_link || la.archive_entry_filetype(entry) != AE_IFREG
		    ? 0
		    : write_data(state, path);
	if (r < 0)
		return r;
	return la.archive_write_finish_entry(state->to) < ARCHIVE_WARN
		       ? fail_archive(state, state->to, path)
		       : 0;
}

static int step(struct state *state)
{
	struct archive_entry *entry;
	int r = la.archive_read_next_header(state->from, &entry);
	const char *what;

	if (r == ARCHIVE_EOF)
		return 0;
	if (r < ARCHIVE_WARN)
		return fail_archive(state, state->from, NULL);
	r = check(state, entry);
	if (r < 0)
		return r;
	what = la.archive_entry_hardlink(entry)
		       ? NULL
		       : what_is(la.archive_entry_filetype(entry));
	if (!what)
		r = take_entry(state, entry);
	else if (state->unpack->note)
		state->unpack->note(la.archive_entry_pathname(entry), what,
				    state->unpack->userdata);
	return r < 0 ? r : 1;
}

/* ---- the whole ---- */

static int open_both(struct state *state)
{
	state->from = la.archive_read_new();
	state->to = la.archive_write_disk_new();
	if (!state->from || !state->to)
		return fail(state, -ENOMEM, NULL, "no memory");
	la.archive_write_disk_set_options(
		state->to, ARCHIVE_EXTRACT_SECURE_SYMLINKS |
				   ARCHIVE_EXTRACT_SECURE_NODOTDOT |
				   ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS |
				   ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_PERM);
	if (la.archive_read_support_format_tar(state->from) < ARCHIVE_WARN ||
	    la.archive_read_open(state->from, state, NULL, on_read, NULL) < ARCHIVE_WARN)
		return fail_archive(state, state->from, NULL);
	return 0;
}

static int unpack_all(struct state *state)
{
	const char *why = libarchive_load();
	int r;

	if (why)
		return fail(state, -ELIBACC, NULL, why);
	r = open_both(state);
	if (r == 0)
		do
			r = step(state);
		while (r > 0);
	/* Permissions and times of directories are set at the end. */
	if (r == 0 && la.archive_write_close(state->to) < ARCHIVE_WARN)
		r = fail_archive(state, state->to, NULL);
	if (r == 0 && !state->has_top && chmod(".", state->mask) < 0)
		r = fail(state, -errno, NULL, strerror(errno));
	la.archive_read_free(state->from);
	la.archive_write_free(state->to);
	return r;
}

static int check_room(struct state *state, int dirfd)
{
	struct statvfs fs;

	if (fstatvfs(dirfd, &fs) < 0 ||
	    fs.f_bavail >= state->unpack->size / (fs.f_frsize ? fs.f_frsize : 1))
		return 0;
	return fail(state, -ENOSPC, NULL, strerror(ENOSPC));
}

static mode_t ask_umask(void)
{
	mode_t mask = umask(0);

	umask(mask);
	return mask;
}

/* Who is where one may not be, as after sudo(8), cannot come back, and has no use for it. */
static int go_back(int here)
{
	int r = here < 0 ? chdir("/") : fchdir(here);

	return r < 0 ? -errno : 0;
}

int unpack_into(struct unpack *unpack, int dirfd)
{
	struct state *state = calloc(1, sizeof(*state));
	int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), r;

	unpack->error = NULL;
	if (!state) {
		r = -ENOMEM;
	} else if ((here < 0 && errno != EACCES) || fchdir(dirfd) < 0) {
		r = -errno;
	} else {
		int back;

		state->unpack = unpack;
		state->mask = 0777 & ~ask_umask();
		r = check_room(state, dirfd);
		if (r == 0)
			r = unpack_all(state);
		back = go_back(here);
		r = r == 0 ? back : r;
	}
	if (here >= 0)
		close(here);
	if (state)
		free(state->top);
	free(state);
	return r;
}
