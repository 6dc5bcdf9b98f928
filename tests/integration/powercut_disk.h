/* SPDX-License-Identifier: MIT */
#ifndef INTEGRATION_POWERCUT_DISK_H
#define INTEGRATION_POWERCUT_DISK_H

/* Between the parts of powercut_shim.so: the model of the disk, see powercut_disk.c. */

#include <limits.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/list.h"
#include "integration/powercut.h"

#pragma GCC visibility push(hidden)

enum { SECTOR = 512, PAGE = 4096 };

/* How one change is undone, as far as it concerns one page, or the size. */
struct undo {
	struct list link; /* in its file, newest last */
	uint64_t change;
	enum { UNDO_BYTES, UNDO_TAIL, UNDO_SIZE } kind;
	bool doomed;  /* was dropped by a failed sync */
	off_t offset; /* the old size, for UNDO_SIZE */
	size_t size;
	char old[];
};

struct disk_file {
	struct list link;
	dev_t dev;
	ino_t ino;
	off_t reserved; /* room taken beyond the size */
	size_t n_undo;
	bool has_doomed; /* perhaps */
	struct list undo;
	char path[PATH_MAX];
};

enum name_change { NAME_MADE, NAME_REMOVED, NAME_RENAMED };

/* A change of a directory, and how it is undone. */
struct name_undo {
	struct list link; /* newest last */
	uint64_t change;
	enum name_change kind;
	dev_t dev; /* the directory, for a rename the new one */
	ino_t ino;
	char path[PATH_MAX], to[PATH_MAX];
	char grave[PATH_MAX]; /* what is to come back; "" for a removed directory, or if
			       * nothing was replaced */
};

/* A name, and the directory that it is in. */
struct disk_name {
	char path[PATH_MAX];
	dev_t dev;
	ino_t ino;
};

struct disk {
	bool active; /* else all goes to the kernel */
	struct powercut_control *control;
	char root[PATH_MAX], graves[PATH_MAX];
	uint64_t change; /* the last one */
	struct list files, names;
};
extern struct disk disk;

int disk_init(const char *control_path, const char *root);

/* All below is called with the lock held. */
void disk_lock(void);
void disk_unlock(void);

/* The file behind an fd, NULL if it is none of this disk. */
struct disk_file *disk_find(int fd);
struct disk_file *disk_find_stat(const struct stat *st);
bool disk_has(const char *path);

/* A file was opened; made: by this open(2). */
void disk_opened(int fd, bool made);

/* These do the thing and return as the system call does. offset -1: at the position. */
ssize_t disk_write(struct disk_file *f, int fd, const struct iovec *iov, int n,
		   off_t offset);
int disk_resize(struct disk_file *f, int fd, off_t size);
int disk_allocate(struct disk_file *f, int fd, int mode, off_t offset, off_t size);

/* The same for any fd, or for names anywhere. disk_sync() lets the lock go meanwhile. */
int disk_sync(int fd);
void disk_sync_all(void);
bool disk_name(struct disk_name *ret_name, int dir, const char *path);
int disk_rename(const struct disk_name *from, const struct disk_name *to,
		bool may_replace);
int disk_remove(const struct disk_name *name, bool directory);
void disk_made(const struct disk_name *name);

/* Helpers of the files of the model. */
void disk_break(const char *why);
void disk_changed(void);
void disk_new_path(char out[static PATH_MAX]);
struct disk_file *disk_add(const struct stat *st, const char *path);
void disk_file_free(struct disk_file *f);
void disk_forget(struct disk_file *f, struct undo *u);
struct undo *disk_note(struct disk_file *f, uint64_t change, size_t old_size);
struct name_undo *disk_note_name(uint64_t change, enum name_change kind);
uint64_t disk_hash(uint64_t a, uint64_t b, uint64_t c);
void disk_forget_names(dev_t dev, ino_t ino, uint64_t until);
void disk_room_give(off_t size);

/* powercut_cut.c: does not return. */
void disk_cut(void) __attribute__((noreturn));

/* powercut_keep.c: the log outlives a process that was only killed. */
void disk_keep(void);
void disk_load(void);

#pragma GCC visibility pop

#endif
