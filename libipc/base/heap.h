/* SPDX-License-Identifier: MIT */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

/* Binary heap of embedded nodes, smallest key first; a node knows its place, so that it can
 * leave from anywhere. Equal keys leave in no particular order. */

#include "base/util.h"

struct heap_node {
	uint64_t key;
	uint32_t place; /* 1-based; 0: in no heap */
};

struct heap {
	struct heap_node **nodes;
	uint32_t n, capacity;
};

void heap_init(struct heap *h);
void heap_deinit(struct heap *h);

/* 0 or -ENOMEM. The node must be in no heap. */
int heap_add(struct heap *h, struct heap_node *node, uint64_t key) MUST_CHECK;
void heap_remove(struct heap *h, struct heap_node *node);

static inline bool heap_has(const struct heap_node *node)
{
	return node->place != 0;
}

static inline struct heap_node *heap_first(const struct heap *h)
{
	return h->n ? h->nodes[0] : NULL;
}

/* For who looks through it: behind nodes[i] are those at heap_behind(i) and the next place, as
 * far as there are so many, none of which has a smaller key. */
static inline uint32_t heap_behind(uint32_t i)
{
	return 2 * i + 1;
}

#endif
