/* SPDX-License-Identifier: MIT */

#include "base/heap.h"

#include "base/err.h"

enum { HEAP_MIN = 16 };

void heap_init(struct heap *h)
{
	*h = (struct heap){ 0 };
}

void heap_deinit(struct heap *h)
{
	free(h->nodes);
	heap_init(h);
}

static void heap_put(struct heap *h, uint32_t i, struct heap_node *node)
{
	h->nodes[i] = node;
	node->place = i + 1;
}

static void sift_up(struct heap *h, uint32_t i, struct heap_node *node)
{
	while (i && h->nodes[(i - 1) / 2]->key > node->key) {
		heap_put(h, i, h->nodes[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_put(h, i, node);
}

static void sift_down(struct heap *h, uint32_t i, struct heap_node *node)
{
	uint32_t child;

	while ((child = 2 * i + 1) < h->n) {
		if (child + 1 < h->n && h->nodes[child + 1]->key < h->nodes[child]->key)
			child++;
		if (h->nodes[child]->key >= node->key)
			break;
		heap_put(h, i, h->nodes[child]);
		i = child;
	}
	heap_put(h, i, node);
}

int heap_add(struct heap *h, struct heap_node *node, uint64_t key)
{
	if (h->n == h->capacity) {
		uint32_t capacity = h->capacity ? h->capacity * 2 : HEAP_MIN;
		struct heap_node **grown =
			realloc(h->nodes, capacity * sizeof(struct heap_node *));

		if (!grown)
			return err_origin(-ENOMEM);
		h->nodes = grown;
		h->capacity = capacity;
	}
	node->key = key;
	h->n++;
	sift_up(h, h->n - 1, node);
	return 0;
}

/* Memory goes back when a flood is over. */
static void heap_shrink(struct heap *h)
{
	struct heap_node **nodes;

	if (h->capacity <= HEAP_MIN || h->n >= h->capacity / 8)
		return;
	nodes = realloc(h->nodes, h->capacity / 2 * sizeof(struct heap_node *));
	if (!nodes)
		return;
	h->nodes = nodes;
	h->capacity /= 2;
}

void heap_remove(struct heap *h, struct heap_node *node)
{
	uint32_t i = node->place - 1;
	struct heap_node *last = h->nodes[--h->n];

	node->place = 0;
	if (last != node) {
		if (i && h->nodes[(i - 1) / 2]->key > last->key)
			sift_up(h, i, last);
		else
			sift_down(h, i, last);
	}
	heap_shrink(h);
}
