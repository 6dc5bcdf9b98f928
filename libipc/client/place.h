/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_PLACE_H
#define CLIENT_PLACE_H

/*
 * Where daemons are. What the answer depends on is in struct place_env, so that tests need
 * not change the environment they run in.
 */

#include "base/util.h"

struct place_env {
	uid_t uid;		 /* effective */
	const char *socket;	 /* $IPC_SOCKET */
	const char *runtime_dir; /* $XDG_RUNTIME_DIR */
	const char *home;	/* $HOME if it is the user's, or from the user database */
	const char *state_home; /* $XDG_STATE_HOME, if it is not another user's */
	const char *config_home;   /* $XDG_CONFIG_HOME, likewise; only for the daemon */
	const char *system_socket; /* /run/ipcd/socket */
	const char *run_user;	   /* /run/user */
	char *database_home;
};

/* As this process is. A set-user-ID program's environment is ignored, secure_getenv(3). */
void place_env_init(struct place_env *env);
void place_env_deinit(struct place_env *env);
#define _cleanup_place_env_ CLEANUP(place_env_deinit)

enum place_kind {
	PLACE_GIVEN, /* by path, or by $IPC_SOCKET */
	PLACE_SYSTEM,
	PLACE_USER,
};

struct place {
	enum place_kind kind;
	char *path;	   /* of the socket */
	char *runtime_dir; /* in which a user's socket is, if it is not beside the state */
};

void place_deinit(struct place *place);
#define _cleanup_place_ CLEANUP(place_deinit)

/* flags as for ipc_socket_path(). 0, -EINVAL (both), -ENOENT (nowhere), -ENOMEM. */
int place_find(const struct place_env *env, unsigned int flags,
	       struct place *ret_place) MUST_CHECK;

/* Where a user's daemon keeps its state, unless its configuration says something else:
 * $XDG_STATE_HOME/ipcd or ~/.local/state/ipcd. -ENOENT without a home. */
int place_state_dir(const struct place_env *env, char **ret_path) MUST_CHECK;

/* A user has one daemon, wherever its socket is: the lock of its state names the socket.
 * The daemon may be gone. -ENOENT: there is no such lock. */
int place_of_state(const struct place_env *env, char **ret_socket) MUST_CHECK;

#endif
