/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_RESTORE_H
#define DAEMON_RESTORE_H

/* At start: what the store has becomes names, messages and ids again. */

#include "broker.h"

/* Opens the store of directory, fills the broker from it, and begins to write. 0 or -errno,
 * the reason is in the log. */
int restore(struct broker *broker, const char *directory) MUST_CHECK;

#endif
