/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_LISTING_H
#define DAEMON_LISTING_H

/*
 * The answer to a request for a list of all names or peers: made some lines at a time, in
 * turns of the peer that asks, so that a hundred thousand of them hold up nobody else. What
 * comes after it was begun is not in it, and neither is what goes before it is reached.
 * Nothing is read from the peer meanwhile.
 *
 * To a peer that takes pieces they go as they are made, and there is no turn while what it does
 * not read fills its buffers. For others the whole list is made first, since its size is said
 * before it: it is limited by buffer_per_user.
 */

#include "dispatch.h"

struct listing {
	struct request request;
	/* The next lines, of at most n. 1: there may be more; 0; -ENOMEM. */
	int (*put_some)(struct listing *listing, unsigned int n);
	struct buf body;      /* what has not been put */
	bool in_pieces;	      /* some have been */
	uint64_t at, last;    /* of the numbers these have: was looked at, is the end */
	struct name_ref name; /* with the number `at` */
};

/* As a handler. */
int listing_start(struct call *call, uint64_t last,
		  int (*put_some)(struct listing *, unsigned int)) MUST_CHECK;

/* The turn of a peer that has one. */
void listing_go_on(struct peer *peer);

/* Its peer is gone. */
void listing_drop(struct peer *peer);

#endif
