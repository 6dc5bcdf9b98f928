/* SPDX-License-Identifier: MIT */
#ifndef CLI_EXEC_FILE_H
#define CLI_EXEC_FILE_H

/* The file of a message, for a command of `ipc receive --exec`: in a directory of its own below
 * $TMPDIR, under the name its sender gave it. */

#include "cli.h"

struct exec_file {
	char *directory; /* NULL: the message has no file */
	char *path;
};

/* Where: $TMPDIR or /tmp. */
const char *exec_file_place(void);

/* Nothing if the message has no filename, or is live. 0; -EBADMSG its size or digest is not
 * what it should be; or what the file system says. */
int exec_file_make(struct exec_file *file, struct ipc_message *message);

/* With all that the command has put beside it. */
void exec_file_remove(struct exec_file *file);

#endif
