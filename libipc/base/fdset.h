/* SPDX-License-Identifier: MIT */
#ifndef BASE_FDSET_H
#define BASE_FDSET_H

/* A handful of file descriptors that travel together and are owned together. */

#include "base/util.h"

struct fdset {
	unsigned int n;
	bool quick;			 /* closing them never blocks */
	void (*give_back)(void *lender); /* not NULL: is done in place of closing them */
	void *lender;
	int fds[]; /* -1 once taken */
};

/* Takes the n fds. NULL without memory: then the caller still owns them. */
struct fdset *fdset_new(const int *fds, unsigned int n);

/* Closes what was not taken, or gives it back. Blocks if a foreign fd's close blocks. Returns NULL. */
struct fdset *fdset_free(struct fdset *set);
DEFINE_CLEANUP(struct fdset *, fdset_free);
#define _cleanup_fdset_ CLEANUP(fdset_freep)

/* Are all taken? */
bool fdset_is_empty(const struct fdset *set);

/* Gives fd i away. */
static inline int fdset_steal(struct fdset *set, unsigned int i)
{
	return TAKE_FD(set->fds[i]);
}

#endif
