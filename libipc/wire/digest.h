/* SPDX-License-Identifier: MIT */
#ifndef WIRE_DIGEST_H
#define WIRE_DIGEST_H

/*
 * Digests of bodies and files, made as the bytes pass: some of them at once. In headers they
 * are hex under the names of digest_name(); lower case is what is written, both are read.
 */

#include "base/util.h"

enum digest_kind {
	DIGEST_XXH3,   /* XXH3 with 128 bits, as `xxhsum -H2` prints it */
	DIGEST_SHA256, /* FIPS 180-4 */
	DIGEST_MD5,    /* RFC 1321: finds accidents, proves nothing */
	DIGEST_N,
};

enum { DIGEST_HEX_MAX = 64 };

struct digest;

/* kinds: 1 << DIGEST_... joined by |. 0; -ENOMEM; -EOPNOTSUPP where the machine's rules for
 * cryptography forbid one. */
int digest_new(unsigned int kinds, struct digest **ret_digest) MUST_CHECK;
struct digest *digest_free(struct digest *digest);
DEFINE_CLEANUP(struct digest *, digest_free);
#define _cleanup_digest_ CLEANUP(digest_freep)

void digest_update(struct digest *digest, const void *data, size_t size);

/* Only of a kind that was asked for, once each, and after the last update; NUL-ended. */
void digest_final(struct digest *digest, enum digest_kind kind,
		  char hex[static DIGEST_HEX_MAX + 1]);

/* By a thread that has perhaps made digests, before anybody is told that it ends: frees what
 * libcrypto keeps for it, whose own destructor may come too late for the end of the process. */
void digest_end_thread(void);

/* The key in headers. */
const char *digest_name(enum digest_kind kind);

/* Of that name, or DIGEST_N. */
enum digest_kind digest_of_name(const char *name);

/* How many hex digits. */
size_t digest_hex_size(enum digest_kind kind);
bool digest_hex_is_valid(enum digest_kind kind, const char *hex, size_t size);

/* Both of size digits, in whatever case. */
bool digest_hex_is_equal(const char *a, const char *b, size_t size);

#endif
