/* SPDX-License-Identifier: MIT */
#ifndef UNIT_CLIENT_MEMORY_H
#define UNIT_CLIENT_MEMORY_H

/* The n-th allocation of the thread that runs a scenario with a client fails, for every n.
 * Link with WRAP_MEMORY of tests/module.mk. */

#include "unit/client_fake.h"
#include "unit/wrap_memory.h"

static long fail_at; /* counts down; 0: none fails */
static pthread_t failing;

static bool alloc_fails_now(void)
{
	return fail_at && pthread_equal(pthread_self(), failing) && --fail_at == 0;
}

static UNUSED bool is_expected(int r)
{
	return r == 0 || r == -ENOMEM || r == -ECONNRESET;
}

/* Runs scenario with each allocation failing in turn, until there are no more. */
static UNUSED void sweep(int (*scenario)(struct fake *f), void (*say)(struct fake *f))
{
	for (long n = 1;; n++) {
		struct fake f;
		bool all_done;
		int r;

		assert_true(n < 1000);
		fake_open(&f);
		say(&f);
		failing = pthread_self();
		fail_at = n;
		r = scenario(&f);
		all_done = fail_at > 0;
		fail_at = 0;
		assert_true(is_expected(r));
		if (all_done)
			assert_int_equal(r, 0);
		fake_close(&f);
		if (all_done)
			break;
	}
}

#endif
