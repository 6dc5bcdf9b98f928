/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_ROOM_H
#define DAEMON_ROOM_H

/*
 * Is there room? A queue is limited, what one user may have in a queue of another is (more
 * so in an inbox), and what a user may have everywhere; each in messages, in bytes of
 * memory, and in bytes of the disk for bodies in the spool.
 *
 * All return 0, or FAULT with the limit, its key, its value, and what helps: FAULT_FULL and
 * FAULT_QUOTA pass when messages are received, FAULT_TOO_LARGE does not.
 */

#include "queue.h"

int room_in_queue(const struct queue *q, uint64_t cost, struct fault *fault) MUST_CHECK;

/* What one user may have in a queue of another. */
int room_in_share(const struct share *share, uint64_t cost,
		  struct fault *fault) MUST_CHECK;

/* What one user may have in all queues together, and in this one. */
int room_for_user(const struct share *share, uint64_t cost,
		  struct fault *fault) MUST_CHECK;

/* The same for bytes of the disk. */
int room_in_queue_for_file(const struct queue *q, uint64_t cost,
			   struct fault *fault) MUST_CHECK;
int room_in_share_for_file(const struct share *share, uint64_t cost,
			   struct fault *fault) MUST_CHECK;
int room_for_user_file(const struct share *share, uint64_t cost,
		       struct fault *fault) MUST_CHECK;

/* For one more send that waits, for room or behind a copy: by the memory that it takes, and
 * live descriptors by their number with those in queues. */
int room_to_wait(const struct user *user, const struct limits *limits,
		 const struct waiting_charge *charge, struct fault *fault) MUST_CHECK;

/* For one more request that is open as long as its sender likes: by the memory that it takes. By
 * itself, as what makes room for sends must not be refused for those that wait. */
int room_for_request(const struct user *user, const struct limits *limits, size_t cost,
		     struct fault *fault) MUST_CHECK;

/* One more body on its way into a blob: what its bytes come by, and what they go into, are
 * descriptors. Root has no limit. */
int room_for_body(const struct user *user, const struct limits *limits,
		  struct fault *fault) MUST_CHECK;

/* One live descriptor more. */
int room_for_live(const struct share *share, struct fault *fault) MUST_CHECK;

#endif
