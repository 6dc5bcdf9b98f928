/* SPDX-License-Identifier: MIT */
#ifndef UNIT_WRAP_MEMORY_H
#define UNIT_WRAP_MEMORY_H

/* Allocations that fail when whoever includes this says so. Link with WRAP_MEMORY of
 * tests/module.mk. */

#include <stdbool.h>
#include <stddef.h>

static bool alloc_fails_now(void);

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
	return alloc_fails_now() ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
	return alloc_fails_now() ? NULL : __real_calloc(n, size);
}

void *__real_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size)
{
	return alloc_fails_now() ? NULL : __real_realloc(block, size);
}

#endif
