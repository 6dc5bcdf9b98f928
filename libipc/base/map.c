/* SPDX-License-Identifier: MIT */

#include "base/map.h"

#include "base/err.h"

enum { MAP_MIN_BUCKETS = 16 };

void map_init(struct map *m)
{
	*m = (struct map){ 0 };
}

void map_deinit(struct map *m)
{
	free(m->buckets);
	map_init(m);
}

static struct map_node **bucket_of(const struct map *m, uint64_t hash)
{
	return &m->buckets[hash & (m->n_buckets - 1)];
}

static int map_resize(struct map *m, size_t n_buckets)
{
	struct map_node **buckets = calloc(n_buckets, sizeof(struct map_node *));
	struct map old = *m;

	if (!buckets)
		return err_origin(-ENOMEM);
	m->buckets = buckets;
	m->n_buckets = n_buckets;
	for (size_t i = 0; i < old.n_buckets; i++) {
		for (struct map_node *node = old.buckets[i], *next; node; node = next) {
			struct map_node **slot = bucket_of(m, node->hash);

			next = node->next;
			node->next = *slot;
			*slot = node;
		}
	}
	free(old.buckets);
	return 0;
}

int map_reserve(struct map *m)
{
	if (m->n < m->n_buckets)
		return 0;
	return err_trace(
		map_resize(m, m->n_buckets ? m->n_buckets * 2 : MAP_MIN_BUCKETS));
}

void map_add(struct map *m, struct map_node *node, uint64_t hash)
{
	struct map_node **slot = bucket_of(m, hash);

	node->hash = hash;
	node->next = *slot;
	*slot = node;
	m->n++;
}

void map_remove(struct map *m, struct map_node *node)
{
	struct map_node **slot = bucket_of(m, node->hash);

	while (*slot != node)
		slot = &(*slot)->next;
	*slot = node->next;
	m->n--;
	if (m->n_buckets > MAP_MIN_BUCKETS && m->n < m->n_buckets / 8)
		(void)!map_resize(m, m->n_buckets / 2); /* no memory: stays large */
}

struct map_node *map_find(const struct map *m, uint64_t hash)
{
	struct map_node *node = m->n ? *bucket_of(m, hash) : NULL;

	while (node && node->hash != hash)
		node = node->next;
	return node;
}

struct map_node *map_next(const struct map_node *node)
{
	struct map_node *next = node->next;

	while (next && next->hash != node->hash)
		next = next->next;
	return next;
}

static struct map_node *first_from(const struct map *m, size_t i)
{
	for (; i < m->n_buckets; i++)
		if (m->buckets[i])
			return m->buckets[i];
	return NULL;
}

struct map_node *map_first(const struct map *m)
{
	return first_from(m, 0);
}

struct map_node *map_after(const struct map *m, const struct map_node *node)
{
	if (node->next)
		return node->next;
	return first_from(m, (node->hash & (m->n_buckets - 1)) + 1);
}

/* The buckets before the place are empty, until there are fewer buckets. */
struct map_node *map_first_from(const struct map *m, struct map_place *place)
{
	if (place->n_buckets != m->n_buckets)
		*place = (struct map_place){ .n_buckets = m->n_buckets };
	while (place->at < m->n_buckets && !m->buckets[place->at])
		place->at++;
	return place->at < m->n_buckets ? m->buckets[place->at] : map_first(m);
}
