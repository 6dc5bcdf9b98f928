/* SPDX-License-Identifier: MIT */
#ifndef INTEGRATION_HARNESS_CRASH_H
#define INTEGRATION_HARNESS_CRASH_H

/* An ipcd that may end in any way and at any moment, and starts again on the same state. */

#include "integration/harness.h"

enum { KILLED = 256 + 9 };

/* Starts it, with the modelled disk if wanted; *ret_ready is for server_wait_ready(). */
void crash_spawn(bool on_model, int *ret_ready);

/* False if it ended before it was ready. */
bool crash_wait_ready(int ready);

/* Both; it must become ready. */
#define crash_start(on_model) crash_start_at(HERE, on_model)
void crash_start_at(struct place at, bool on_model);

/* It ends, or has, with this status. */
#define crash_expect(status) crash_expect_at(HERE, status)
void crash_expect_at(struct place at, int status);

/* On the modelled disk: the power goes, and everything that was not synced. */
#define crash_lose_all() crash_lose_all_at(HERE)
void crash_lose_all_at(struct place at);

/* Files in the state directory that were set aside as damaged. */
int crash_count_bad_files(void);

#endif
