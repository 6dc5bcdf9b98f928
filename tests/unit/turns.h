/* SPDX-License-Identifier: MIT */
#ifndef UNIT_TURNS_H
#define UNIT_TURNS_H

/* A loop that goes round until what workers do elsewhere has come about. */

#include "unit/base.h"

#include "base/clock.h"
#include "loop.h"

enum { TURNS_MAX = 30000 };

static struct loop loop;
static struct timer tick;

static void on_tick(struct timer *timer)
{
	(void)timer;
}

static UNUSED void turns_begin(void)
{
	timer_init(&tick, TIMER_MONOTONIC, on_tick);
	assert_int_equal(loop_init(&loop), 0);
}

/* Once, for a millisecond at most. */
static void turn(void)
{
	uint64_t at = deadline_after(clock_ns(CLOCK_MONOTONIC), 1);

	assert_int_equal(timer_set(&loop, &tick, at), 0);
	assert_int_equal(loop_pass(&loop), 0);
	timer_cancel(&loop, &tick);
}

#define wait_for(condition)                                                  \
	do {                                                                 \
		int turns_ = 0;                                              \
		while (!(condition)) {                                       \
			if (turns_++ > TURNS_MAX)                            \
				fail_msg("never came true: %s", #condition); \
			turn();                                              \
		}                                                            \
	} while (0)

#endif
