/* SPDX-License-Identifier: MIT */
#ifndef CLI_SPAWN_H
#define CLI_SPAWN_H

/*
 * Runs a command for a message.
 *
 * The body stands in a sealed memfd, or in the descriptor that it came in, and that is the
 * command's standard input: there is no pipe to feed, a command that does not read costs
 * nothing, and nobody can change it. What the sender says reaches the command there and in
 * the environment, never on a command line.
 */

#include <signal.h>
#include <sys/types.h>

#include "cli.h"

struct spawn {
	char **command;	    /* NULL-ended; the program is looked for in $PATH */
	const char *socket; /* for IPC_SOCKET */
	sigset_t mask;	    /* blocked in the command */
	bool own_group;	    /* in a process group of its own */
};

/* file: for IPC_FILE, or NULL. 0, or a negative errno: then no command runs. */
int spawn_command(const struct spawn *spawn, const struct ipc_message *message,
		  const char *file, pid_t *ret_pid);

#endif
