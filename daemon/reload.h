/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_RELOAD_H
#define DAEMON_RELOAD_H

/*
 * Reading the configuration anew in the living daemon. A worker reads it; what is wrong is
 * said and the old settings stay; what is right replaces limits and rules, and names,
 * receivers and waiting sends are looked at again in its light. Where to listen, the state
 * directory and the mode stay as they are until a restart.
 */

#include "base/util.h"

struct server;

/* One at a time: a further call while one is under way reads once more afterwards. */
void reload_start(struct server *server);

#endif
