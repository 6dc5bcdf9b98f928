/* SPDX-License-Identifier: MIT */
#ifndef BASE_MAP_H
#define BASE_MAP_H

/*
 * Intrusive hash map: the element embeds a map_node, so that removal allocates nothing
 * and insertion only now and then. Keys are 64-bit hashes made by the caller: map_u64()
 * for numbers, hash_bytes() for strings; with strings the caller walks equal hashes by
 * map_next() and compares. Power-of-two buckets with chains, grown at load 1, shrunk at
 * 1/8, so that memory goes back when a flood is over.
 */

#include "base/util.h"

struct map_node {
	struct map_node *next;
	uint64_t hash;
};

struct map {
	struct map_node **buckets; /* NULL while empty and small */
	size_t n_buckets, n;
};

void map_init(struct map *m);

/* Frees the buckets; the elements are the caller's and should be gone before. */
void map_deinit(struct map *m);

/* Makes room for one more, so that the next map_add() cannot fail. 0 or -ENOMEM. */
int map_reserve(struct map *m) MUST_CHECK;

/* Adds node under hash. Needs a map_reserve() since the last map_add(). */
void map_add(struct map *m, struct map_node *node, uint64_t hash);
void map_remove(struct map *m, struct map_node *node);

/* First node with this hash, and the further ones; NULL when there is none. */
struct map_node *map_find(const struct map *m, uint64_t hash);
struct map_node *map_next(const struct map_node *node);

/* Any node, to empty a map or walk it: map_first() starts, map_after() goes on. The map
 * must not change in between (removing the node just returned is safe when the walk is
 * begun anew). */
struct map_node *map_first(const struct map *m);
struct map_node *map_after(const struct map *m, const struct map_node *node);

/* For who empties a map: any node, NULL when there is none. Begins with a place of zeros. */
struct map_place {
	size_t n_buckets, at;
};
struct map_node *map_first_from(const struct map *m, struct map_place *place);

/* Spreads a number over 64 bits (a bijection: equal hashes are equal numbers). */
static inline uint64_t map_u64(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93u;
	x ^= x >> 32;
	return x;
}

/* For many numbers that are given out one after the other: eight neighbours have their
 * buckets in one line of the cache. Should only every eighth of them stay, chains have eight
 * elements, but never more. No two numbers have the same hash, as with map_u64(). */
static inline uint64_t map_sequential(uint64_t x)
{
	uint64_t block = (x >> 3) * 0xd6e8feb86659fd93u & UINT64_MAX >> 3;

	block ^= block >> 32;
	return block << 3 | (x & 7);
}

#endif
