/* SPDX-License-Identifier: MIT */
#ifndef BASE_HASH_H
#define BASE_HASH_H

/*
 * SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF"), 64-bit result:
 * a keyed function that is cheap for short input. It guards hash tables against chosen
 * keys and makes lease tokens that cannot be guessed.
 */

#include "base/util.h"

struct hash_key {
	uint64_t k0, k1;
};

uint64_t hash_bytes(const struct hash_key *key, const void *data, size_t size);

/* Fills key from the kernel's random source. 0 or -errno. */
int hash_key_random(struct hash_key *ret_key) MUST_CHECK;

#endif
