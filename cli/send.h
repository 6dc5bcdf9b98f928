/* SPDX-License-Identifier: MIT */
#ifndef CLI_SEND_H
#define CLI_SEND_H

/* What the two files of `ipc send` share. */

#include "cli.h"

struct send {
	struct cli *cli;
	const char *name;
	const char *text;	     /* -m, or NULL: standard input */
	struct ipc_message *message; /* with the options; the body is set for each */
	int64_t wait_ms;
	unsigned int flags;
	const char *dedup; /* --dedup, or NULL */
	bool lines, verbose;
};

/* Each line of standard input is a message. */
int send_lines(const struct send *send);

/* The queue stayed full for the time of --wait: that is a timeout, and told as one. */
bool send_in_vain(const struct send *send, int error);
#define SEND_IN_VAIN "the queue is full, and there was no room in the time of --wait"

/* Prints the number of a message that was sent, if that was asked for; sent: IPC_SENT_*. */
void send_tell(const struct send *send, uint64_t line, uint64_t number,
	       unsigned int sent);

/* Gives the message the id of --dedup; of a line (from 1) ID-LINE. 0 or what libipc says. */
int send_set_dedup(const struct send *send, uint64_t line);

#endif
