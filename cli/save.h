/* SPDX-License-Identifier: MIT */
#ifndef CLI_SAVE_H
#define CLI_SAVE_H

/*
 * A received message as a file in a directory, or, if it is an archive, as a directory in it.
 * What is not complete and on the disk has no name there; what is there already is replaced
 * only if that was asked for, and a directory with something in it never.
 */

#include "cli.h"

struct save {
	int dirfd;
	unsigned int flags; /* IPC_SAVE_* */
	bool unpack;	    /* archives; else they are files like any other */

	ipc_progress_fn progress; /* may be NULL; nonzero gives up: -ECANCELED */
	void (*note)(const char *path, const char *what, void *userdata); /* left out */
	void *userdata;							  /* of both */
};

/* Under which name, before one is chosen that is not taken. NULL: no memory; the caller frees
 * it. */
char *save_name(const struct save *save, const struct ipc_message *message);

/* The n-th other name: "x (1).txt", of a directory "x (1)". Likewise. */
char *save_other_name(const char *name, unsigned int n, bool is_directory);

/* What keeps the name from being replaced, of whatever is there already: 0 nothing, or as
 * save_message() says it with IPC_SAVE_REPLACE. */
int save_check_replace(const struct save *save, const struct ipc_message *message,
		       const char *name);

/* Is this one to be unpacked? */
bool save_is_archive(const struct save *save, const struct ipc_message *message);

/* 0 and the name it got; -EEXIST; with IPC_SAVE_REPLACE -EISDIR, -ENOTDIR or -ENOTEMPTY:
 * a directory would be replaced by a file, or the other way round, or one with something in it
 * by another; -EBADMSG it is not what it should be; -ECANCELED; or what the file system says.
 * *ret_why may tell more (set or NULL after a failure, the caller frees it). */
int save_message(const struct save *save, struct ipc_message *message, char **ret_name,
		 char **ret_why);

#endif
