/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SHARE_H
#define DAEMON_SHARE_H

/*
 * What a message costs is counted four times: for its sender in its queue (the share), for
 * the queue, for its sender everywhere, and for the daemon. Each changes here only, and all
 * of them together.
 */

#include "queue.h"

/* The user's share in this queue, made if it is the first. 0 or -ENOMEM. */
int share_get(struct queue *queue, struct user *user,
	      struct share **ret_share) MUST_CHECK;

/* It ends when it counts nothing. */
void share_put(struct share *share);

/* The message is in the share's queue from now on. */
void share_charge(struct share *share, struct message *message);

/* It is no longer; who waits for room is looked at later. */
void share_uncharge(struct message *message);

/* Is there room for so many bytes more of it, in the queue and for its sender? */
bool share_has_room_for_more(const struct message *message, uint64_t bytes);

/* It costs another amount than cost_before, with which it was charged. */
void share_recharge(struct message *message, uint64_t cost_before);

#endif
