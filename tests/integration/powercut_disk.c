/* SPDX-License-Identifier: MIT */

/*
 * powercut_shim.so is preloaded into a program and models a disk below one directory that
 * loses, in a power cut, what was not synced. This file has its files.
 *
 * The model. What the program reads is what it wrote, as in the page cache. Beside it there
 * is a log of how to undo each change since the last sync: for a file the bytes and the
 * size before, for a directory the names. fsync(2) or fdatasync(2) of a file forgets the
 * changes of the file that were complete when it began, that of a directory the changes of
 * its names, and nothing else does: a new file that was synced, but whose directory was not,
 * may vanish; sync_file_range(2) promises nothing. A sync takes a moment, in which other
 * threads go on.
 *
 * A cut undoes some of what is in the log, drawn by a seed, and kills the program:
 *
 * - A sector of 512 bytes is then as it was after one of the writes to it since the last
 *   sync, whatever became of other sectors (LOSS_SECTORS: torn writes), or as far as
 *   possible of the sectors of the same write (LOSS_WRITES), or of all writes before and
 *   after (LOSS_ORDERED). Writes to different sectors reach the disk in any order.
 * - The size is one of those since the last sync. Where the size was kept and the bytes
 *   were not, there are zeros.
 * - The changes of one directory reach the disk in order: some latest ones are undone.
 *   Replacing by rename(2) is one change.
 *
 * A failed sync drops its writes, as Linux does: a later sync does not bring them to the
 * disk, a cut undoes them for certain, unless their page was written anew before.
 *
 * A full disk: only what makes a file longer takes room, what makes it shorter or removes
 * it gives room back. Overwriting works. A write that fits in part is short.
 *
 * A process that is only killed loses nothing, but nothing becomes safer by that either:
 * its log is kept for the next process (powercut_keep.c).
 *
 * After many unsynced changes of one file its oldest reach the disk by themselves, as they
 * do after half a minute.
 *
 * Not seen are writes by stdio and other functions of libc that call the kernel on their
 * own. Changes that are not modelled at all (a writable mapping, sendfile(2), a hole punched
 * …) are noted in control->broken, which a test has to look at.
 */

#include "integration/powercut_disk.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { N_UNDO_MAX = 8192 };

struct disk disk = { .files = LIST_INIT(disk.files), .names = LIST_INIT(disk.names) };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void disk_lock(void)
{
	pthread_mutex_lock(&mutex);
}

void disk_unlock(void)
{
	pthread_mutex_unlock(&mutex);
}

void disk_break(const char *why)
{
	if (!disk.control->broken[0])
		snprintf(disk.control->broken, sizeof(disk.control->broken), "%s: %s",
			 why, strerror(errno));
}

uint64_t disk_hash(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t h = a;

	for (int i = 0; i < 3; i++) {
		h += i == 0 ? b : i == 1 ? c : 0x9e3779b97f4a7c15u;
		h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
		h = (h ^ h >> 29) * 0xa0761d6478bd642fu;
		h ^= h >> 32;
	}
	return h;
}

/* ---- files ---- */

bool disk_has(const char *path)
{
	size_t size = strlen(disk.root);

	return !strncmp(path, disk.root, size) && (!path[size] || path[size] == '/');
}

struct disk_file *disk_find_stat(const struct stat *st)
{
	LIST_FOREACH(link, &disk.files) {
		struct disk_file *f = LIST_ENTRY(link, struct disk_file, link);

		if (f->ino == st->st_ino && f->dev == st->st_dev)
			return f;
	}
	return NULL;
}

struct disk_file *disk_find(int fd)
{
	struct stat st;

	if (!disk.active || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	return disk_find_stat(&st);
}

void disk_forget(struct disk_file *f, struct undo *u)
{
	list_remove(&u->link);
	f->n_undo--;
	free(u);
}

void disk_file_free(struct disk_file *f)
{
	while (!list_is_empty(&f->undo))
		disk_forget(f, LIST_ENTRY(f->undo.next, struct undo, link));
	list_remove(&f->link);
	free(f);
}

struct disk_file *disk_add(const struct stat *st, const char *path)
{
	struct disk_file *f = calloc(1, sizeof(*f));

	if (!f) {
		disk_break("no memory");
		return NULL;
	}
	f->dev = st->st_dev;
	f->ino = st->st_ino;
	snprintf(f->path, sizeof(f->path), "%s", path);
	list_init(&f->undo);
	list_add_head(&disk.files, &f->link);
	return f;
}

void disk_opened(int fd, bool made)
{
	char path[PATH_MAX], link[64];
	struct disk_name name;
	struct stat st;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	path[n] = '\0';
	if (!disk_has(path))
		return;
	if (!disk_find(fd))
		disk_add(&st, path);
	if (made && disk_name(&name, AT_FDCWD, path))
		disk_made(&name);
}

/* ---- the log of one file ---- */

struct undo *disk_note(struct disk_file *f, uint64_t change, size_t old_size)
{
	struct undo *u = calloc(1, sizeof(*u) + old_size);

	if (!u) {
		disk_break("no memory");
		abort();
	}
	u->change = change;
	u->size = old_size;
	list_add_tail(&f->undo, &u->link);
	f->n_undo++;
	return u;
}

static void note_size(struct disk_file *f, off_t old_size)
{
	struct undo *u = disk_note(f, disk.change, 0);

	u->kind = UNDO_SIZE;
	u->offset = old_size;
}

/* The page is dirty again: the next sync will take all of it along. */
static void revive_page(struct disk_file *f, off_t page)
{
	if (!f->has_doomed)
		return;
	LIST_FOREACH(link, &f->undo) {
		struct undo *u = LIST_ENTRY(link, struct undo, link);

		if (u->kind != UNDO_SIZE && u->offset / PAGE == page)
			u->doomed = 0;
	}
}

/* The bytes as they are now, zeros behind the end. */
static void note_bytes(struct disk_file *f, int fd, off_t from, off_t to, int kind)
{
	while (from < to) {
		off_t page = from / PAGE, end = (page + 1) * PAGE;
		struct undo *u;

		if (end > to)
			end = to;
		revive_page(f, page);
		u = disk_note(f, disk.change, (size_t)(end - from));
		u->kind = kind;
		u->offset = from;
		if (pread(fd, u->old, u->size, from) < 0)
			disk_break("what is to be overwritten cannot be read");
		from = end;
	}
}

/* POSIX locks end when any fd of a file is closed (fcntl(2)), so a second one is opened only
 * for a file that cannot be read by the first: SQLite's can. */
static void note_old(struct disk_file *f, int fd, off_t from, off_t to, int kind)
{
	char path[64];
	int own;

	if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY) {
		note_bytes(f, fd, from, to, kind);
		return;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	note_bytes(f, own, from, to, kind);
	close(own);
}

static void write_back_oldest(struct disk_file *f)
{
	struct list *next;

	if (f->n_undo < N_UNDO_MAX)
		return;
	for (struct list *link = f->undo.next; link != &f->undo; link = next) {
		struct undo *u = LIST_ENTRY(link, struct undo, link);

		next = link->next;
		if (!u->doomed)
			disk_forget(f, u);
		if (f->n_undo < N_UNDO_MAX / 2)
			break;
	}
}

static void changed(struct disk_file *f)
{
	write_back_oldest(f);
	disk_changed();
}

/* ---- room ---- */

void disk_room_give(off_t size)
{
	disk.control->room += size;
}

/* How far the file may become longer, at most to wanted. */
static off_t room_take(struct disk_file *f, off_t size, off_t wanted)
{
	off_t now = size > f->reserved ? size : f->reserved, more = wanted - now;

	if (more <= 0)
		return wanted;
	if (disk.control->is_limited && more > disk.control->room) {
		disk.control->refusals++;
		more = disk.control->room > 0 ? disk.control->room : 0;
	}
	disk.control->room -= more;
	return now + more;
}

/* ---- changes ---- */

static ssize_t write_all(int fd, const struct iovec *iov, int n, off_t at, off_t end)
{
	off_t start = at;

	for (int i = 0; i < n && at < end; i++) {
		size_t size = iov[i].iov_len;
		ssize_t r;

		if ((off_t)size > end - at)
			size = (size_t)(end - at);
		r = syscall(SYS_pwrite64, fd, iov[i].iov_base, size, at);
		if (r < 0)
			return at > start ? at - start : r;
		at += r;
		if ((size_t)r < size)
			break;
	}
	return at - start;
}

ssize_t disk_write(struct disk_file *f, int fd, const struct iovec *iov, int n,
		   off_t offset)
{
	off_t at = offset, end;
	struct stat st;
	ssize_t r;

	if (fstat(fd, &st) < 0)
		return -1;
	if (fcntl(fd, F_GETFL) & O_APPEND)
		at = st.st_size;
	else if (offset < 0)
		at = lseek(fd, 0, SEEK_CUR);
	end = at;
	for (int i = 0; i < n; i++)
		end += (off_t)iov[i].iov_len;
	if (end == at)
		return 0;
	end = room_take(f, st.st_size, end);
	if (end <= at) {
		errno = ENOSPC;
		return -1;
	}
	disk.change++;
	note_old(f, fd, at, end, UNDO_BYTES);
	r = write_all(fd, iov, n, at, end);
	if (r < 0)
		disk_break("write");
	else if (offset < 0)
		lseek(fd, at + r, SEEK_SET);
	if (r > 0 && at + r > st.st_size)
		note_size(f, st.st_size);
	changed(f);
	return r;
}

int disk_resize(struct disk_file *f, int fd, off_t size)
{
	struct stat st;
	off_t had;

	if (fstat(fd, &st) < 0)
		return -1;
	had = st.st_size > f->reserved ? st.st_size : f->reserved;
	if (size > st.st_size && room_take(f, st.st_size, size) < size) {
		errno = ENOSPC;
		return -1;
	}
	disk.change++;
	if (size < st.st_size)
		note_old(f, fd, size, st.st_size, UNDO_TAIL);
	if (syscall(SYS_ftruncate, fd, size) < 0)
		return -1;
	if (size < had) {
		f->reserved = 0;
		disk_room_give(had - size);
	}
	if (size != st.st_size)
		note_size(f, st.st_size);
	changed(f);
	return 0;
}

int disk_allocate(struct disk_file *f, int fd, int mode, off_t offset, off_t size)
{
	off_t end = offset + size, had;
	struct stat st;

	if (mode & ~FALLOC_FL_KEEP_SIZE) {
		errno = EOPNOTSUPP;
		disk_break("fallocate with a mode that is not modelled");
		return -1;
	}
	if (fstat(fd, &st) < 0)
		return -1;
	had = st.st_size > f->reserved ? st.st_size : f->reserved;
	if (end > had && disk.control->is_limited && end - had > disk.control->room) {
		disk.control->refusals++;
		errno = ENOSPC;
		return -1;
	}
	if (syscall(SYS_fallocate, fd, mode, offset, size) < 0)
		return -1;
	room_take(f, st.st_size, end);
	if (mode)
		f->reserved = end > had ? end : had;
	disk.change++;
	if (!mode && end > st.st_size)
		note_size(f, st.st_size);
	changed(f);
	return 0;
}
