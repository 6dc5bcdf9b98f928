/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_FOREIGN_FD_H
#define DAEMON_FOREIGN_FD_H

/*
 * Looks at a descriptor that a peer has handed over, by calls that never block, whatever it
 * is: F_GETFL, statx(2) with AT_STATX_DONT_SYNC, and of sockets their addresses.
 */

#include "wire/fault.h"

struct server;

struct foreign_fd {
	uint64_t size; /* of a regular file, as far as it is known here; else UINT64_MAX */
	uint64_t disk; /* what it takes: less, where it has holes; 0 if it is no file */
	bool sealed;   /* a memfd that nobody can change any more */
	bool quick;    /* live: of a kind whose close(2) never blocks */
};

/* To be copied. 0 or FAULT (bad-fd, with what it is). */
int foreign_fd_check_file(int fd, struct foreign_fd *ret, struct fault *fault) MUST_CHECK;

/* To be passed on as it is. */
int foreign_fd_check_live(const struct server *server, int fd, struct foreign_fd *ret,
			  struct fault *fault) MUST_CHECK;

#endif
