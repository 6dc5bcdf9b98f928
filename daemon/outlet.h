/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_OUTLET_H
#define DAEMON_OUTLET_H

/*
 * What another thread than the loop's may write to a peer: answers that were made before, and
 * only while the loop has nothing to write to it itself.
 *
 * A receipt is the answer to a request that waits for the disk. The storage thread, which
 * knows first, sends it; so the peer goes on while the loop does what else follows from a
 * commit. One that cannot be sent (the peer does not read, the loop has more for it, or the
 * commit has failed) stays WAITING, and the loop answers itself. Each is answered once:
 *
 *	WAITING --> SENT     by receipts_send()
 *	        \-> REVOKED  by receipt_revoke()
 *
 * Except for receipts_send() all of this is the loop's.
 */

#include "base/util.h"

struct outlet;

enum { RECEIPT_MAX = 4096 }; /* bytes of a frame */

enum receipt_state {
	RECEIPT_WAITING,
	RECEIPT_SENT,
	RECEIPT_REVOKED,
};

/* It lies in a batch's memory, see batch.h. */
struct receipt {
	struct receipt *next;	  /* of the same batch */
	struct outlet *outlet;	  /* a reference */
	enum receipt_state state; /* under the outlet's mutex */
	size_t size;
	char frame[];
};

/* The fd stays the caller's. taken: see outlet_take(). NULL without memory. */
struct outlet *outlet_new(int fd, bool taken) MUST_CHECK;
struct outlet *outlet_ref(struct outlet *outlet);
struct outlet *outlet_unref(struct outlet *outlet); /* returns NULL */

/* Before fd is closed: nobody writes to it any more. */
void outlet_close(struct outlet *outlet);

/* The loop is going to write, and nobody else does until outlet_give(). */
void outlet_take(struct outlet *outlet);
void outlet_give(struct outlet *outlet);

/* Receipts that were sent, and for which receipt_revoke() has not yet been called. */
size_t outlet_n_sent(struct outlet *outlet);

bool receipt_is_sent(struct receipt *receipt);

/* Called once. False: it has been sent. */
bool receipt_revoke(struct receipt *receipt);

/* On the storage thread: all from the first on, in their order. Returns the number of writes,
 * one for each peer as a rule. */
size_t receipts_send(struct receipt *first);

#endif
