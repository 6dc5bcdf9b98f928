/* SPDX-License-Identifier: MIT */

#include "rate.h"

#include <string.h>

#define SLOT_NS ((uint64_t)RATE_SLOT_S * NS_PER_S)

void rate_turn(struct rate *rate, uint64_t now_ns)
{
	uint64_t n;

	if (now_ns < rate->end_ns)
		return;
	n = (now_ns - rate->end_ns) / SLOT_NS + 1;
	if (!rate->end_ns || n > RATE_SLOTS) {
		*rate = (struct rate){ .end_ns = now_ns + SLOT_NS };
		return;
	}
	memmove(rate->past + n, rate->past, (RATE_SLOTS - n) * sizeof(rate->past[0]));
	memset(rate->past, 0, n * sizeof(rate->past[0]));
	rate->past[n - 1] = rate->now;
	rate->now = 0;
	rate->end_ns += n * SLOT_NS;
}

uint64_t rate_per_100s(struct rate *rate, uint64_t now_ns)
{
	uint64_t sum, time_ns;

	if (!rate->end_ns)
		return 0;
	rate_turn(rate, now_ns);
	sum = rate->now;
	for (int i = 0; i < RATE_SLOTS; i++)
		sum += rate->past[i];
	time_ns = RATE_SLOTS * SLOT_NS + (SLOT_NS - (rate->end_ns - now_ns));
	return sum * 100000 / (time_ns / NS_PER_MS);
}
