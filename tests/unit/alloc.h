/* SPDX-License-Identifier: MIT */
#ifndef UNIT_ALLOC_H
#define UNIT_ALLOC_H

/*
 * The n-th allocation fails. Link with WRAP_MEMORY of tests/module.mk. A test runs its
 * scenario with alloc_fail_at = 1, 2, 3 … until alloc_failed stays false: then it has gone
 * through every place that can run out of memory.
 */

#include "unit/base.h"
#include "unit/wrap_memory.h"

static unsigned long alloc_fail_at; /* counts down; 0: none fails */
static bool alloc_failed;

static bool alloc_fails_now(void)
{
	if (!alloc_fail_at || --alloc_fail_at)
		return false;
	alloc_failed = true;
	return true;
}

static UNUSED void fail_allocation(unsigned long n)
{
	alloc_fail_at = n;
	alloc_failed = false;
}

/* Ends the failing; was there a failure? */
static UNUSED bool allocation_failed(void)
{
	alloc_fail_at = 0;
	return alloc_failed;
}

#endif
