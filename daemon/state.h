/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_STATE_H
#define DAEMON_STATE_H

/* The state directory: made if it is not there, and held by one daemon at a time. */

#include "base/util.h"

/* 0 with *ret_lock_fd, closed to let go; -errno, the reason is in the log. The lock file
 * tells others the socket in use. */
int state_lock(const char *directory, const char *socket, int *ret_lock_fd) MUST_CHECK;

/* The directory may have been deleted, and made again by somebody: then lock_fd is the lock
 * of that one from now on. Any thread. 0: it is the same as ever; 1: another one, which is
 * held now; -EADDRINUSE: another daemon has been quicker; -errno. */
int state_lock_again(const char *directory, int lock_fd) MUST_CHECK;

/* The directory for large bodies in it, which is made if need be. A descriptor, or -errno. */
int state_open_spool(const char *directory) MUST_CHECK;

#endif
