/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_CONNECT_H
#define CLIENT_CONNECT_H

/*
 * From a path to a connected socket, behind which is a daemon that is to be trusted: the
 * directory is root's or one's own and not writable by others, and the listener is root,
 * oneself, or the socket's owner in a directory of root's.
 */

#include "client/client_internal.h"
#include "client/place.h"

/* socket and flags as for ipc_client_open(). *ret_path is set as soon as it is known, also
 * if it then fails. 0, or -errno with the error set. */
int connect_daemon(const char *socket, unsigned int flags, uint64_t deadline_ns,
		   struct client_error *error, char **ret_path, int *ret_fd) MUST_CHECK;

/* -ENOENT and -ECONNREFUSED: no daemon there. */
int connect_path(const char *path, uint64_t deadline_ns, struct client_error *error,
		 int *ret_fd) MUST_CHECK;

/* Nobody listens at a user's place: connects to the socket that the lock of the user's state
 * names, and makes that the place. 0; -ESRCH: it names no other; -ENOENT, -ECONNREFUSED:
 * there is no daemon either. */
int connect_by_state(const struct place_env *env, struct place *place,
		     uint64_t deadline_ns, int *ret_fd) MUST_CHECK;

/* 0, -ENOENT, -ENOTDIR, -EACCES, -EPERM: not to be trusted. */
int connect_check_directory(const char *path, struct client_error *error) MUST_CHECK;

/* The part of path before the last slash, "." without any. NULL without memory. */
char *connect_directory_of(const char *path);

#endif
