/* SPDX-License-Identifier: MIT */
#ifndef CLI_PACK_H
#define CLI_PACK_H

/*
 * A directory as a tar (pax, where ustar does not do), made as it is read: there is no
 * temporary file, and no more in memory than one piece.
 *
 * Names are relative to the directory, which is in it itself, as "."; they are kept byte for
 * byte. Kept are files with their holes, directories, symbolic links as links, hard links
 * among them, permission bits (not setuid and the like) and the time of last change in whole
 * seconds; not owners. Sockets, pipes and devices are left out.
 */

#include <sys/types.h>

#include "cli.h"

struct pack;

/* Is told what is left out, and what it is. */
typedef void (*pack_note_fn)(const char *path, const char *what, void *userdata);

/* 0, -ENOMEM or why the directory cannot be read; dirfd stays the caller's. */
int pack_new(int dirfd, pack_note_fn note, void *userdata, struct pack **ret);
struct pack *pack_free(struct pack *pack);

/* As ipc_read_fn. After a failure pack_get_error() has more to say. */
ssize_t pack_read(void *buffer, size_t size, void *pack);

/* "PATH: why", for a person; NULL: no failure. */
const char *pack_get_error(const struct pack *pack);

#endif
