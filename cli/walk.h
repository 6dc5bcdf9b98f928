/* SPDX-License-Identifier: MIT */
#ifndef CLI_WALK_H
#define CLI_WALK_H

/*
 * All that is in a directory, one entry after the other: first "." itself, each directory
 * before what is in it. Symbolic links are never followed: every step is relative to the
 * descriptor of the directory it is in, and what has become something else meanwhile, or a
 * directory that has changed when its end is reached, is an error.
 */

#include <sys/stat.h>

#include "cli.h"

struct walk;

struct walk_entry {
	const char *path; /* relative to the directory; "." for itself */
	const char *name; /* its last part, in dirfd */
	int dirfd;
	int fd; /* of a regular file, open for reading; else -1. The walk's */
	struct stat st;
};

/* dirfd stays the caller's; it is not used after this. 0 or a negative errno. */
int walk_new(int dirfd, struct walk **ret);
struct walk *walk_free(struct walk *walk);

/* 1 and an entry, valid until the next call; 0 at the end; a negative errno, see
 * walk_get_path(). WALK_CHANGED: it is not what it was. */
enum { WALK_CHANGED = -0x10000 };
int walk_next(struct walk *walk, struct walk_entry *ret);

/* What the last call was about. */
const char *walk_get_path(const struct walk *walk);

/* Is it still what st says it was, and nobody has written to it? */
bool walk_is_unchanged(int fd, const struct stat *st);

/* Removes name, a file or a directory with all that is in it, as far as possible. */
int walk_remove(int dirfd, const char *name);

#endif
