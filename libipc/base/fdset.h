/* SPDX-License-Identifier: MIT */
#ifndef BASE_FDSET_H
#define BASE_FDSET_H

/* A handful of file descriptors that travel together and are owned together. */

#include <sys/types.h>

#include "base/util.h"

struct fdset {
	unsigned int n;
	bool quick; /* closing them never blocks */
	uid_t uid;  /* whose they are; (uid_t)-1: of the one at the other end */
	int fds[];  /* -1 once taken */
};

/* Takes the n fds. NULL without memory: then the caller still owns them. */
struct fdset *fdset_new(const int *fds, unsigned int n);

/* Closes what was not taken. Blocks if a foreign fd's close blocks. Returns NULL. */
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
