/* SPDX-License-Identifier: MIT */
#ifndef CLI_UNPACK_H
#define CLI_UNPACK_H

/*
 * A tar of somebody else's, of a directory, into a directory.
 *
 * All names in it begin with the same one, that of the directory, whatever it is ("." too);
 * it is left away.
 *
 * What is taken: files, directories, symbolic links (as they are, wherever they lead) and hard
 * links to what the archive itself has brought; permission bits without setuid, setgid and
 * sticky, less the umask; times. No owner, no extended attributes. Pipes, sockets and devices
 * are left out. An archive that wants to write outside of the directory, by "..", an absolute
 * name or through a symbolic link, is refused as a whole; so is one of more than
 * UNPACK_ENTRIES_MAX entries, directories on the way to one included. There is no compression,
 * so no more data comes out than went in; holes take no room.
 */

#include "cli.h"

enum { UNPACK_ENTRIES_MAX = 1000000 };

struct unpack {
	int fd; /* the tar, read from its start; -1: it is in memory: */
	const void *data;
	uint64_t size;	      /* of either */
	uint64_t entries_max; /* 0: UNPACK_ENTRIES_MAX */

	ipc_progress_fn progress; /* may be NULL; nonzero gives up: -ECANCELED */
	void (*note)(const char *path, const char *what, void *userdata); /* left out */
	void *userdata;							  /* of both */

	char *error; /* after a failure why, for a person; the caller frees it */
};

/* dirfd: an empty directory that nobody else writes to; after a failure what has come so far
 * is in it. 0; -EBADMSG the archive is damaged, or one to refuse; -ECANCELED; -ELIBACC without
 * libarchive; or what the file system says. The working directory is another one meanwhile. */
int unpack_into(struct unpack *unpack, int dirfd);

#endif
