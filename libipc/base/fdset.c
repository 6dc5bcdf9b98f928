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
	set->give_back = NULL;
	memcpy(set->fds, fds, n * sizeof(int));
	return set;
}

struct fdset *fdset_free(struct fdset *set)
{
	if (!set)
		return NULL;
	if (set->give_back)
		set->give_back(set->lender);
	else
		for (unsigned int i = 0; i < set->n; i++)
			fd_close(set->fds[i]);
	free(set);
	return NULL;
}

bool fdset_is_empty(const struct fdset *set)
{
	for (unsigned int i = 0; i < set->n; i++)
		if (set->fds[i] >= 0)
			return false;
	return true;
}
