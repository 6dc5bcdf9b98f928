/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SCAN_H
#define DAEMON_SCAN_H

/*
 * Looking through a queue for some of its messages, as purge, move and peek do: a turn at a
 * time, so that a million of them hold up nobody, and while the queue is in use. What comes
 * after the scan was begun is not seen, and neither is what leaves before it is reached.
 */

#include "cursor.h"
#include "filter.h"

enum {
	SCAN_END = 0,	/* seen all, or the queue is gone */
	SCAN_FOUND = 1, /* *ret_message */
	SCAN_PAUSE = 2, /* enough for this turn of the loop */
};

struct scan {
	struct cursor cursor;
	uint16_t states; /* bits of enum message_state: a state not named is not seen */
	uint64_t last;	 /* the newest message there was at the start */
	struct filter *filter; /* or NULL */
	unsigned int left;     /* to be looked at in this turn */
};

/* Takes the filter. */
void scan_init(struct scan *scan, uint16_t states, struct filter *filter, uint64_t last);
void scan_deinit(struct scan *scan);

/* From the first message of this queue on. */
void scan_open(struct scan *scan, struct queue *queue);
void scan_close(struct scan *scan);

/* Is it at work in a queue that is still there? */
static inline bool scan_is_open(const struct scan *scan)
{
	return scan->cursor.queue != NULL;
}

/* Another turn. After a pause it comes by the user's line, see user_go_on(). */
void scan_begin_turn(struct scan *scan);

/* What was found last is to be found again, if it is still there, in the next turn. */
void scan_put_back(struct scan *scan, struct message *message);

/* What is found may be removed. An enum above, or -ENOMEM. */
int scan_next(struct scan *scan, struct message **ret_message) MUST_CHECK;

#endif
