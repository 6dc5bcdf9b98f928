/* SPDX-License-Identifier: MIT */

/*
 * Each pack_read() lets libarchive take the next step (an entry's header, or a piece of a
 * file) until there are bytes to give: they go into the reader's buffer, and what has no room
 * there is kept for the next one.
 *
 * A file has the size that its header has said, or the archive ends with an error: one that
 * is written to meanwhile would be neither the old nor the new one.
 */

#include "pack.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "libarchive.h"
#include "walk.h"

enum {
	CHUNK = 65536,
	EXTENTS_MAX =
		10000, /* of one file; with more of them the rest is taken as data */
};

struct pack {
	char *name;
	struct walk *walk;
	struct archive *archive;
	struct archive_entry_linkresolver *links;
	locale_t locale;
	pack_note_fn note;
	void *userdata;

	struct walk_entry file; /* being read; fd -1: none */
	off_t offset;		/* how far it was read */
	bool has_holes;

	char *room; /* the reader's buffer, and what of it is free */
	size_t room_size;
	char *kept; /* what found no room */
	size_t kept_begin, kept_end, kept_allocated;

	bool ended, closing;
	int failure;
	char *error, *error_path;
	char data[CHUNK];
};

static int fail(struct pack *pack, int error, const char *what)
{
	const char *path = walk_get_path(pack->walk);

	pack->failure = error;
	pack->error = strdup(what);
	pack->error_path = strdup(strcmp(path, ".") == 0 ? "" : path);
	return error;
}

static int fail_walk(struct pack *pack, int error)
{
	if (error == WALK_CHANGED)
		return fail(pack, -ESTALE, "changed while it was read");
	return fail(pack, error, strerror(-error));
}

static int fail_archive(struct pack *pack)
{
	const char *text = la.archive_error_string(pack->archive);
	int error = la.archive_errno(pack->archive);

	return fail(pack, error > 0 ? -error : -EIO, text ? text : "cannot be archived");
}

/* ---- what libarchive writes ---- */

static bool keep(struct pack *pack, const char *data, size_t size)
{
	size_t used = pack->kept_end - pack->kept_begin, n = 2 * (used + size) + CHUNK;

	if (pack->kept_begin > 0)
		memmove(pack->kept, pack->kept + pack->kept_begin, used);
	pack->kept_begin = 0;
	pack->kept_end = used;
	if (used + size > pack->kept_allocated) {
		char *grown = realloc(pack->kept, n);

		if (!grown)
			return false;
		pack->kept = grown;
		pack->kept_allocated = n;
	}
	memcpy(pack->kept + used, data, size);
	pack->kept_end += size;
	return true;
}

static ssize_t on_write(struct archive *archive, void *userdata, const void *data,
			size_t size)
{
	struct pack *pack = userdata;
	size_t n = size < pack->room_size ? size : pack->room_size;

	/* libarchive would fill up the rest of a file that nobody reads any more. */
	if (pack->closing)
		return -1;
	memcpy(pack->room, data, n);
	pack->room += n;
	pack->room_size -= n;
	if (n < size && !keep(pack, (const char *)data + n, size - n)) {
		la.archive_set_error(archive, ENOMEM, "no memory");
		return -1;
	}
	return (ssize_t)size;
}

static void give_kept(struct pack *pack)
{
	size_t kept = pack->kept_end - pack->kept_begin;
	size_t n = kept < pack->room_size ? kept : pack->room_size;

	if (n == 0)
		return;
	memcpy(pack->room, pack->kept + pack->kept_begin, n);
	pack->kept_begin += n;
	pack->room += n;
	pack->room_size -= n;
}

/* ---- a file's bytes ---- */

/* Where its data is, if there are holes. */
static void add_holes(const struct walk_entry *file, struct archive_entry *entry)
{
	off_t size = file->st.st_size, at = 0;

	for (int i = 0; i < EXTENTS_MAX; i++) {
		off_t data = lseek(file->fd, at, SEEK_DATA);

		if (data < 0 || data >= size)
			break;
		at = i + 1 < EXTENTS_MAX ? lseek(file->fd, data, SEEK_HOLE) : size;
		if (at < 0 || at > size)
			at = size;
		la.archive_entry_sparse_add_entry(entry, data, at - data);
		if (at == size)
			return;
	}
	/* A hole at the end: an empty extent tells how far it goes. */
	la.archive_entry_sparse_add_entry(entry, size, 0);
}

/* libarchive leaves the bytes of holes out by itself, whatever they are, but wants them: zeros
 * that are not read cost nothing, even for a file of a terabyte. */
static ssize_t read_chunk(const struct pack *pack, char *data, const char **ret)
{
	static const char zeros[1 << 20];
	off_t left = pack->file.st.st_size - pack->offset, next = -1;
	size_t size = left < CHUNK ? (size_t)left : CHUNK;

	if (pack->has_holes) {
		next = lseek(pack->file.fd, pack->offset, SEEK_DATA);
		if (next < 0 && errno == ENXIO)
			next = pack->file.st.st_size;
	}
	if (next - pack->offset >= (off_t)sizeof(zeros)) {
		*ret = zeros;
		return sizeof(zeros);
	}
	*ret = data;
	return pread(pack->file.fd, data, size, pack->offset);
}

static int end_file(struct pack *pack)
{
	int fd = pack->file.fd;

	pack->file.fd = -1;
	if (!walk_is_unchanged(fd, &pack->file.st))
		return fail_walk(pack, WALK_CHANGED);
	if (la.archive_write_finish_entry(pack->archive) < ARCHIVE_WARN)
		return fail_archive(pack);
	return 0;
}

static int step_file(struct pack *pack)
{
	const char *data;
	ssize_t n;

	if (pack->offset == pack->file.st.st_size)
		return end_file(pack);
	n = read_chunk(pack, pack->data, &data);
	if (n < 0 && errno == EINTR)
		return 0;
	if (n <= 0) /* it became shorter */
		return fail_walk(pack, n < 0 ? -errno : WALK_CHANGED);
	pack->offset += n;
	return la.archive_write_data(pack->archive, data, (size_t)n) < n
		       ? fail_archive(pack)
		       : 0;
}

/* ---- entries ---- */

static int set_symlink(struct pack *pack, const struct walk_entry *from,
		       struct archive_entry *entry)
{
	/* A link that becomes longer meanwhile is cut, and has no room for its NUL. */
	size_t size = (size_t)from->st.st_size + 1;
	_cleanup_free_ char *target = malloc(size + 1);
	ssize_t n;

	if (!target)
		return fail(pack, -ENOMEM, "no memory");
	n = readlinkat(from->dirfd, from->name, target, size);
	if (n < 0)
		return fail_walk(pack, errno == EINVAL ? WALK_CHANGED : -errno);
	if (n != from->st.st_size)
		return fail_walk(pack, WALK_CHANGED);
	target[n] = 0;
	la.archive_entry_copy_symlink(entry, target);
	return 0;
}

/* Makes it a hard link if another name of it was there before. Only what has several names
 * is looked up, and remembered. */
static void resolve_link(struct pack *pack, const struct stat *st,
			 struct archive_entry **entry)
{
	struct archive_entry *spare = NULL;

	if (!S_ISREG(st->st_mode) || st->st_nlink < 2)
		return;
	la.archive_entry_set_dev(*entry, st->st_dev);
	la.archive_entry_set_ino(*entry, (la_int64_t)st->st_ino);
	la.archive_entry_set_nlink(*entry, (unsigned int)st->st_nlink);
	la.archive_entry_linkify(pack->links, entry, &spare);
	if (la.archive_entry_hardlink(*entry))
		la.archive_entry_sparse_clear(*entry);
}

static int write_header(struct pack *pack, struct archive_entry *entry)
{
	/* The names go into pax headers as UTF-8, as they are, if they are that in this
	 * locale; else as bytes, with a warning. Nothing else is to depend on it. */
	locale_t old = pack->locale ? uselocale(pack->locale) : NULL;
	int r = la.archive_write_header(pack->archive, entry);

	if (old)
		uselocale(old);
	return r < ARCHIVE_WARN ? fail_archive(pack) : 0;
}

static int set_path(const struct pack *pack, const char *path,
		    struct archive_entry *entry)
{
	_cleanup_free_ char *both = NULL;

	if (strcmp(path, ".") == 0) {
		la.archive_entry_copy_pathname(entry, pack->name);
		return 0;
	}
	if (asprintf(&both, "%s/%s", pack->name, path) < 0)
		return -ENOMEM;
	la.archive_entry_copy_pathname(entry, both);
	return 0;
}

static int fill_entry(struct pack *pack, const struct walk_entry *from,
		      struct archive_entry *entry)
{
	const struct stat *st = &from->st;

	if (set_path(pack, from->path, entry) < 0)
		return fail(pack, -ENOMEM, "no memory");
	la.archive_entry_set_filetype(entry, st->st_mode & S_IFMT);
	la.archive_entry_set_perm(entry, st->st_mode & 0777);
	la.archive_entry_set_mtime(entry, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	la.archive_entry_set_size(entry, S_ISREG(st->st_mode) ? st->st_size : 0);
	pack->has_holes = S_ISREG(st->st_mode) && st->st_blocks * 512 < st->st_size;
	if (pack->has_holes)
		add_holes(from, entry);
	return S_ISLNK(st->st_mode) ? set_symlink(pack, from, entry) : 0;
}

static int add_entry(struct pack *pack, const struct walk_entry *from)
{
	struct archive_entry *entry = la.archive_entry_new();
	int r = entry ? fill_entry(pack, from, entry) : fail(pack, -ENOMEM, "no memory");

	if (r == 0) {
		resolve_link(pack, &from->st, &entry);
		r = write_header(pack, entry);
	}
	if (r == 0 && S_ISREG(from->st.st_mode) && !la.archive_entry_hardlink(entry)) {
		pack->file = *from;
		pack->offset = 0;
	}
	la.archive_entry_free(entry);
	return r;
}

static const char *what_is(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFSOCK:
		return "a socket";
	case S_IFIFO:
		return "a pipe";
	case S_IFBLK:
	case S_IFCHR:
		return "a device";
	default:
		return NULL;
	}
}

static int step_entry(struct pack *pack)
{
	struct walk_entry entry;
	int r = walk_next(pack->walk, &entry);

	if (r < 0)
		return fail_walk(pack, r);
	if (r == 0) {
		pack->ended = true;
		return la.archive_write_close(pack->archive) < ARCHIVE_WARN
			       ? fail_archive(pack)
			       : 0;
	}
	if (what_is(entry.st.st_mode)) {
		if (pack->note)
			pack->note(entry.path, what_is(entry.st.st_mode), pack->userdata);
		return 0;
	}
	return add_entry(pack, &entry);
}

ssize_t pack_read(void *buffer, size_t size, void *userdata)
{
	struct pack *pack = userdata;
	int r = pack->failure;

	pack->room = buffer;
	pack->room_size = size;
	give_kept(pack);
	while (r == 0 && !pack->ended && pack->room_size > 0)
		r = pack->file.fd >= 0 ? step_file(pack) : step_entry(pack);
	size -= pack->room_size;
	pack->room_size = 0; /* closing writes, too */
	return r < 0 ? r : (ssize_t)size;
}

/* ---- the whole ---- */

static int open_archive(struct pack *pack)
{
	struct archive *archive;

	if (libarchive_load())
		return -ELIBACC;
	archive = la.archive_write_new();
	pack->archive = archive;
	pack->links = la.archive_entry_linkresolver_new();
	if (!archive || !pack->links)
		return -ENOMEM;
	la.archive_entry_linkresolver_set_strategy(pack->links,
						   ARCHIVE_FORMAT_TAR_PAX_RESTRICTED);
	if (la.archive_write_set_format_pax_restricted(archive) < ARCHIVE_WARN ||
	    la.archive_write_set_bytes_per_block(archive, 0) < ARCHIVE_WARN ||
	    la.archive_write_set_bytes_in_last_block(archive, 1) < ARCHIVE_WARN ||
	    la.archive_write_open(archive, pack, NULL, on_write, NULL) < ARCHIVE_WARN)
		return -ENOMEM;
	return 0;
}

int pack_new(int dirfd, const char *name, pack_note_fn note, void *userdata,
	     struct pack **ret)
{
	struct pack *pack = calloc(1, sizeof(*pack));
	int r;

	if (!pack)
		return -ENOMEM;
	pack->note = note;
	pack->userdata = userdata;
	pack->file.fd = -1;
	pack->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
	pack->name = strdup(name);
	r = pack->name ? walk_new(dirfd, &pack->walk) : -ENOMEM;
	if (r == 0)
		r = open_archive(pack);
	if (r < 0) {
		pack_free(pack);
		return r;
	}
	*ret = pack;
	return 0;
}

struct pack *pack_free(struct pack *pack)
{
	if (!pack)
		return NULL;
	pack->closing = true;
	if (pack->archive)
		la.archive_write_free(pack->archive);
	if (pack->links)
		la.archive_entry_linkresolver_free(pack->links);
	walk_free(pack->walk);
	if (pack->locale)
		freelocale(pack->locale);
	free(pack->kept);
	free(pack->error);
	free(pack->error_path);
	free(pack->name);
	free(pack);
	return NULL;
}

const char *pack_get_error(const struct pack *pack, const char **ret_path)
{
	if (!pack->failure)
		return NULL;
	*ret_path = pack->error_path ? pack->error_path : "";
	return pack->error ? pack->error : strerror(ENOMEM);
}
