/* SPDX-License-Identifier: MIT */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

/* SIGINT, SIGTERM and SIGHUP wait while something half done could be left behind. */

#include <stdbool.h>

/* From now on they are only noted. Those that our starter had us ignore stay ignored. */
void interrupt_hold(void);
bool interrupt_is_pending(void);

/* They act again, and one that was noted does so now: then this does not return. */
void interrupt_release(void);

#endif
