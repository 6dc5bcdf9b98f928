/* SPDX-License-Identifier: MIT */

#include "base/bytes.h"

#include <string.h>

struct bytes *bytes_new(size_t size)
{
	struct bytes *b;

	if (size > SIZE_MAX - sizeof(*b))
		return NULL;
	b = malloc(sizeof(*b) + size);
	if (!b)
		return NULL;
	b->refs = 1;
	b->size = size;
	return b;
}

struct bytes *bytes_new_copy(const void *data, size_t size)
{
	struct bytes *b = bytes_new(size);

	if (b && size)
		memcpy(b->data, data, size);
	return b;
}

struct bytes *bytes_unref(struct bytes *b)
{
	if (b && --b->refs == 0)
		free(b);
	return NULL;
}
