/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_LISTENER_H
#define DAEMON_LISTENER_H

/*
 * A listening socket. One that we bind ourselves has a lock file beside it (PATH.lock): a
 * second daemon refuses to start, and only who holds the lock replaces a stale socket. One
 * that a service manager has bound stays the manager's: it has no lock, and at the end its
 * file and the connections that nobody has accepted are left to the next daemon.
 *
 * When the process is out of descriptors, a reserve is given up for a moment to take a
 * connection, tell it so by an error frame and close it: a client that merely waited would
 * not know what for. Where even that fails, connections wait in the kernel's queue.
 */

#include <sys/un.h>

#include "loop.h"

/* unix(7): a NUL must fit behind it. */
enum { SOCKET_PATH_MAX = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1 };

struct listener {
	struct source source;
	struct timer resume; /* after the process ran out of descriptors */
	int lock_fd;
	int reserve_fd; /* -1: it could not be had again yet */
	char *path;	/* to remove at the end; NULL: not ours */
	/* A connection; the fd is the callee's. */
	void (*accepted)(void *owner, int fd);
	void *owner;
	bool refusing_said; /* and not yet that it is over */
	uint64_t said_ns;
};

void listener_init(struct listener *l, void (*accepted)(void *owner, int fd),
		   void *owner);

/* mode: who may connect. 0 or -errno, the reason is in the log. */
int listener_open(struct listener *l, struct loop *loop, const char *path,
		  mode_t mode) MUST_CHECK;

/* Serves a non-blocking socket that listens already; the fd is ours if this succeeds. */
int listener_adopt(struct listener *l, struct loop *loop, int fd) MUST_CHECK;

/* Stops listening and removes the socket if it is ours, so that nobody new comes. */
void listener_close(struct listener *l);

#endif
