/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_STATE_H
#define DAEMON_STATE_H

/* The state directory: made if it is not there, and held by one daemon at a time. */

#include "base/util.h"

/* 0 with *ret_lock_fd, closed to let go; -errno, the reason is in the log. The lock file
 * tells others the socket in use. */
int state_lock(const char *directory, const char *socket, int *ret_lock_fd) MUST_CHECK;

#endif
