/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_LISTENER_H
#define DAEMON_LISTENER_H

/*
 * The listening socket. One that we bind ourselves has a lock file beside it (PATH.lock): a
 * second daemon refuses to start, and only who holds the lock replaces a stale socket.
 */

#include "loop.h"

struct listener {
	struct source source;
	struct timer resume; /* after the process ran out of descriptors */
	int lock_fd;
	char *path;
	/* A connection; the fd is the callee's. */
	void (*accepted)(struct listener *listener, int fd);
	bool paused_said;
};

/* mode: who may connect. 0 or -errno, the reason is in the log. */
int listener_open(struct listener *l, struct loop *loop, const char *path, mode_t mode,
		  void (*accepted)(struct listener *, int)) MUST_CHECK;

/* Stops listening and removes the socket, so that nobody new comes. */
void listener_close(struct listener *l);

#endif
