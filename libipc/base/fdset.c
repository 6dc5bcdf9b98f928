/* SPDX-License-Identifier: MIT */

#include "base/fdset.h"

#include <string.h>

struct fdset *fdset_new(const int *fds, unsigned int n)
{
	struct fdset *set = malloc(sizeof(*set) + n * sizeof(int));

	if (!set)
		return NULL;
	set->n = n;
	set->quick = false;
	set->uid = (uid_t)-1;
	memcpy(set->fds, fds, n * sizeof(int));
	return set;
}

struct fdset *fdset_free(struct fdset *set)
{
	if (set) {
		for (unsigned int i = 0; i < set->n; i++)
			fd_close(set->fds[i]);
		free(set);
	}
	return NULL;
}

bool fdset_is_empty(const struct fdset *set)
{
	for (unsigned int i = 0; i < set->n; i++)
		if (set->fds[i] >= 0)
			return false;
	return true;
}
