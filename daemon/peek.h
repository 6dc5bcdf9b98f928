/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_PEEK_H
#define DAEMON_PEEK_H

/*
 * `receive` with `peek` or `dead`: shows the messages that are in the queues when it is asked,
 * or the dead ones of them, once and without leases. As much as the peer's output has room for
 * is written at a time; a message that goes away meanwhile is not shown.
 */

#include "dispatch.h"
#include "filter.h"
#include "receiver.h"

struct peek_options {
	uint64_t max;
	bool dead; /* only those */
	struct filter *filter;
};

/* Takes the filter, also if it fails. 0; FAULT: too much is open already; -ENOMEM. */
int peek_start(struct call *call, const struct subscription *queues, unsigned int n,
	       const struct peek_options *o) MUST_CHECK;

/* The peer has read: the one of its peeks that waited for room goes on. */
void peek_resume(struct peer *peer);

#endif
