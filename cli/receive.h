/* SPDX-License-Identifier: MIT */
#ifndef CLI_RECEIVE_H
#define CLI_RECEIVE_H

/*
 * What the files of `ipc receive` share: cmd_receive.c reads the options and asks the daemon,
 * receive_print.c prints the messages, receive_exec.c runs a command for each.
 */

#include "cli.h"

struct receive {
	struct cli *cli;
	char **names;
	size_t n_names;
	char *subject; /* the names, for reports */

	uint64_t count;	       /* -n; 0: no limit */
	const char *wait_text; /* -w as it was given, or NULL */
	int64_t wait_ms;
	int64_t ack_wait_ms;
	unsigned int window; /* -W or -j; 0: not given */
	bool forever, no_ack, lines;
	bool peek, dead;    /* dead: peek as well */
	const char *filter; /* --filter, or NULL */
	char **exec;	    /* --exec, NULL-ended; or NULL */

	struct ipc_client *client;
	struct ipc_receiver *receiver;
	uint64_t taken;
};

/* Both take messages until there is no more to take and return the exit status. */
int receive_print(struct receive *receive);
int receive_exec(struct receive *receive);

/* The next message if one has come. STATUS_OK with a message, or with NULL if there is none
 * yet or the receiver has ended; then *ret_ended tells which. */
int receive_next(struct receive *receive, struct ipc_message **ret_message,
		 bool *ret_ended);

/* Hands a message back at no cost: this attempt does not count. delay_ms as ipc_nack(). */
void receive_give_back(const struct receive *receive, const struct ipc_message *message,
		       int64_t delay_ms, const char *reason);

/* When nothing more comes: was it what was asked for? */
int receive_status(const struct receive *receive);

#endif
