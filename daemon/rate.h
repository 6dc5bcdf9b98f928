/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_RATE_H
#define DAEMON_RATE_H

/*
 * How often something happens: counted in slots of ten seconds, of which the last minute is
 * told. It costs an increment and a look at the clock of the loop each time, and nothing when
 * nothing happens.
 */

#include "base/clock.h"

enum { RATE_SLOTS = 6, RATE_SLOT_S = 10 };

struct rate {
	uint64_t end_ns;	   /* of the slot that is being counted; 0: none yet */
	uint32_t now;		   /* in it */
	uint32_t past[RATE_SLOTS]; /* in those before it, the latest first */
};

/* Goes on to the slot of now_ns. */
void rate_turn(struct rate *rate, uint64_t now_ns);

static inline void rate_count(struct rate *rate, uint64_t now_ns)
{
	if (now_ns >= rate->end_ns)
		rate_turn(rate, now_ns);
	rate->now++;
}

/* How many in a hundred seconds, by the last minute or up to ten seconds more. */
uint64_t rate_per_100s(struct rate *rate, uint64_t now_ns);

#endif
