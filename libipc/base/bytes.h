/* SPDX-License-Identifier: MIT */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

/* A reference-counted block of bytes: one body, any number of readers. Not thread-safe:
 * all references live on one thread. */

#include "base/util.h"

struct bytes {
	unsigned int refs;
	size_t size;
	char data[];
};

/* size bytes, not initialised, one reference. NULL without memory. */
struct bytes *bytes_new(size_t size);
struct bytes *bytes_new_copy(const void *data, size_t size);
struct bytes *bytes_unref(struct bytes *b);
DEFINE_CLEANUP(struct bytes *, bytes_unref);
#define _cleanup_bytes_ CLEANUP(bytes_unrefp)

static inline struct bytes *bytes_ref(struct bytes *b)
{
	b->refs++;
	return b;
}

#endif
