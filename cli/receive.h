/* SPDX-License-Identifier: MIT */
#ifndef CLI_RECEIVE_H
#define CLI_RECEIVE_H

/*
 * What the files of `ipc receive` share: cmd_receive.c reads the options and asks the daemon,
 * receive_print.c takes the messages and prints them, receive_save.c saves them instead,
 * receive_exec.c runs a command for each.
 */

#include "cli.h"
#include "progress.h"

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

	const char *output; /* -o, or NULL */
	int output_fd;
	unsigned int save_flags; /* IPC_SAVE_* */
	bool no_unpack;
	struct progress *progress; /* with -o */
	bool rejected;		   /* a message was, as one that nobody can use */

	struct ipc_client *client;
	struct ipc_receiver *receiver;
	uint64_t taken;

	unsigned int n_acking; /* acknowledgements without an answer yet */
	int ack_status;	       /* of the first one that failed */
	bool late;	       /* a message was printed, but its lease was lost */
	bool lost;	       /* the connection, which was told */
};

/* Both take messages until there is no more to take and return the exit status. */
int receive_print(struct receive *receive);
int receive_exec(struct receive *receive);

/* Opens the directory of -o. */
int receive_open_output(struct receive *receive);

/* Saves a message in it. STATUS_OK, and whether it was saved: if not, it was rejected. Else it
 * was given back, and nothing more should be taken. Signals are held from then on, until
 * interrupt_release(). */
int receive_save(struct receive *receive, struct ipc_message *message, bool *ret_saved);

/* It is dead, as one that nobody can use, and we will end with STATUS_REFUSED. */
int receive_reject(struct receive *receive, const struct ipc_message *message,
		   const char *reason);
#define RECEIVE_DIFFERS "its size or digest is not what the sender said"

/* The next message if one has come. STATUS_OK with a message, or with NULL if there is none
 * yet or the receiver has ended; then *ret_ended tells which. */
int receive_next(struct receive *receive, struct ipc_message **ret_message,
		 bool *ret_ended);

/* Hands a message back at no cost: this attempt does not count. delay_ms as ipc_nack(). After
 * it nothing more is to be taken. */
void receive_give_back(struct receive *receive, const struct ipc_message *message,
		       int64_t delay_ms, const char *reason);

/* When nothing more comes: was it what was asked for, and all of it good? */
int receive_status(const struct receive *receive);

#endif
