/* SPDX-License-Identifier: MIT */
#ifndef CLI_PACK_H
#define CLI_PACK_H

/*
 * A directory as a tar (pax, where ustar does not do), made as it is read: there is no
 * temporary file, and no more in memory than one piece.
 *
 * All names in it begin with that of the directory, which is in it itself, so that tar(1)
 * makes that directory, too; they are kept byte for byte. Kept are files with their holes,
 * directories, symbolic links as links, hard links among them, permission bits (not setuid and
 * the like) and the time of last change in whole seconds; not owners. Sockets, pipes and
 * devices are left out.
 */

#include <sys/types.h>

#include "cli.h"

struct pack;

/* Is told what is left out, and what it is. Here and below a PATH is relative to the
 * directory. */
typedef void (*pack_note_fn)(const char *path, const char *what, void *userdata);

/* name: that of the directory in the archive, not empty, without '/'. 0, -ENOMEM, -ELIBACC
 * (libarchive_load() says why) or why the directory cannot be read; dirfd stays the caller's. */
int pack_new(int dirfd, const char *name, pack_note_fn note, void *userdata,
	     struct pack **ret);
struct pack *pack_free(struct pack *pack);

/* As ipc_read_fn. After a failure pack_get_error() has more to say. */
ssize_t pack_read(void *buffer, size_t size, void *pack);

/* Why, for a person; NULL: no failure. *ret_path: of what in it; "" of the directory itself. */
const char *pack_get_error(const struct pack *pack, const char **ret_path);

#endif
