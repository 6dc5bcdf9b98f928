/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_AUTOSTART_H
#define CLIENT_AUTOSTART_H

/* Starting the user's daemon when none runs. */

#include "client/client_internal.h"
#include "client/place.h"

/* Starts a daemon for this place, or waits for the one that somebody else is starting, and
 * connects to it (which may be at another place then). Called when nobody listened there:
 * error says so, and goes on to say why none is started where that may not be. */
int autostart(const struct place_env *env, struct place *place, uint64_t deadline_ns,
	      struct client_error *error, int *ret_fd) MUST_CHECK;

#endif
