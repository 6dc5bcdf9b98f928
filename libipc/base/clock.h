/* SPDX-License-Identifier: MIT */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <time.h>

#include "base/util.h"

#define NS_PER_MS 1000000u
#define NS_PER_S 1000000000u

/* Nanoseconds of CLOCK_MONOTONIC (leases, timeouts: stands still in suspend),
 * CLOCK_BOOTTIME (delays, ttl: goes on in suspend) or CLOCK_REALTIME. */
static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static inline uint64_t ms_to_ns(uint64_t ms)
{
	return ms > UINT64_MAX / NS_PER_MS ? UINT64_MAX : ms * NS_PER_MS;
}

/* The deadline ms from now_ns; UINT64_MAX when it is beyond the clock. */
static inline uint64_t deadline_after(uint64_t now_ns, uint64_t ms)
{
	return add_saturating(now_ns, ms_to_ns(ms));
}

#endif
