/* SPDX-License-Identifier: MIT */
#ifndef CLI_SEND_H
#define CLI_SEND_H

/* What the files of `ipc send` share. */

#include "cli.h"
#include "progress.h"

struct send {
	struct cli *cli;
	const char *name;
	const char *text; /* -m, or NULL */
	char **files;	  /* else these; "-" is standard input */
	size_t n_files;
	struct ipc_message *message; /* with the options; the body is set for each */
	int64_t wait_ms;
	unsigned int flags;
	const char *dedup;	 /* --dedup, or NULL */
	const char *filename;	 /* --as, or NULL */
	unsigned int file_flags; /* IPC_FILE_*: --live, --digest */
	bool lines, verbose;
};

/* Each FILE is a message. */
int send_files(const struct send *send);

/* Each line of standard input is a message. */
int send_lines(const struct send *send);

/* The queue stayed full, or its user had too much in queues, for the time of --wait: that is
 * a timeout, and told as one. */
bool send_in_vain(const struct send *send, int error);

/* Which of the two it was; text: the daemon's. */
const char *send_why_in_vain(int error, const char *text);

/* Prints the number of a message that was sent, if that was asked for; sent: IPC_SENT_*. With
 * --lines line is told, too, else filename if it is not NULL. */
void send_tell(const struct send *send, uint64_t line, const char *filename,
	       uint64_t number, unsigned int sent);

/* Gives the message the id of --dedup; of a line, or one of several files, (from 1) ID-INDEX.
 * 0 or what libipc says. */
int send_set_dedup(const struct send *send, uint64_t index);

#endif
