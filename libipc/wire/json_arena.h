/* SPDX-License-Identifier: MIT */
#ifndef WIRE_JSON_ARENA_H
#define WIRE_JSON_ARENA_H

/*
 * Memory for yajl, which does not check its allocations: a block that is large enough for
 * all it can ask for. Nothing is given back but everything at once, by used = 0.
 */

#include <string.h>
#include <yajl/yajl_common.h>

#include "base/util.h"

struct arena {
	char *base;
	size_t size, used;
};

/* Each block remembers its size, because yajl's realloc does not tell the old one. */
static inline void *arena_malloc(void *ctx, size_t size)
{
	struct arena *a = ctx;
	size_t need = (size + 15 + sizeof(size_t) * 2) & ~(size_t)15;
	char *block = a->base + a->used;

	if (need > a->size - a->used)
		abort(); /* the arena is sized for the largest text: a bug of ours */
	a->used += need;
	memcpy(block, &size, sizeof(size));
	return block + sizeof(size_t) * 2;
}

static inline void arena_free(void *ctx, void *block)
{
	(void)ctx;
	(void)block;
}

static inline void *arena_realloc(void *ctx, void *block, size_t size)
{
	void *fresh = arena_malloc(ctx, size);
	size_t old;

	if (block) {
		memcpy(&old, (char *)block - sizeof(size_t) * 2, sizeof(old));
		memcpy(fresh, block, min_size(old, size));
	}
	return fresh;
}

static inline yajl_alloc_funcs arena_funcs(struct arena *a)
{
	return (yajl_alloc_funcs){ arena_malloc, arena_realloc, arena_free, a };
}

#endif
