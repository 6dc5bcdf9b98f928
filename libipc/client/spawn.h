/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_SPAWN_H
#define CLIENT_SPAWN_H

/*
 * Running a daemon from inside somebody's program, unnoticed by it: no child that its
 * wait(2) could find, no SIGCHLD, nothing inherited but what is said here.
 */

#include "base/util.h"

enum { SPAWN_READY_FD = 3 };

struct spawn {
	const char *program;
	char *const *argv;
	char *const *envp;
	int log_fd; /* standard output and error; may be -1: /dev/null */
};

/* Runs the program in a session of its own, in "/", with umask 077, standard input
 * /dev/null, default signals, and no other descriptor but SPAWN_READY_FD: a pipe, whose
 * other end is *ret_fd. 0 or -errno. */
int spawn_daemon(const struct spawn *spawn, int *ret_fd) MUST_CHECK;

/* Waits until the daemon has written "READY" to its end. 0; -ETIMEDOUT; -ECHILD: it has
 * ended; or why the program could not be run. */
int spawn_wait_ready(int fd, uint64_t deadline_ns) MUST_CHECK;

#endif
