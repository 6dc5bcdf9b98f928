/* SPDX-License-Identifier: MIT */
#ifndef INTEGRATION_HARNESS_LOAD_H
#define INTEGRATION_HARNESS_LOAD_H

/*
 * Producers and consumers of one queue whose daemon may end at any moment, and the account of
 * what it has promised:
 *
 * - a message whose send was answered is there until its ack or reject was answered, and
 *   is delivered with the very bytes that were sent;
 * - one whose ack or reject was answered does not come again;
 * - nothing comes that was not sent; of a send with dedup_id that was repeated, one message;
 * - no number is given twice;
 * - what one producer has sent comes in that order.
 *
 * What was not answered may have happened or not. Half of the producers give dedup_ids, and
 * repeat what was not answered.
 */

#include "integration/harness.h"

#define LOAD_QUEUE "jobs"

/* A new account. */
void load_begin(uint64_t seed);
void load_end(void);

/* All clients connect to the daemon, which has just started. False: it has gone already. */
bool load_connect(void);

/* Says and hears what there is to say and hear. False: the daemon has closed all connections,
 * and all it had said has been heard. */
bool load_turn(void);

/* Is anything new to be sent? At first, yes. Quiet is when all sends have been answered. */
void load_produce(bool on);
bool load_is_quiet(void);

/* Errors with this word are to be expected now, beside shutting-down; NULL: no more. A
 * send, ack or reject that fails with "internal" may have happened or not, with another word
 * it has not. */
void load_expect(const char *word);

/* Since load_begin(). */
struct load_counts {
	uint64_t heard; /* replies and deliveries */
	uint64_t sends, acks;
	uint64_t refused_sends, refused_acks;
	int left; /* answered sends without an answered ack or reject */
};
const struct load_counts *load_counts(void);

void load_disconnect(void);

/* Takes all that is left from a daemon that lives, and checks the account. */
void load_settle(void);

/* The content of message n. */
size_t load_body_size(uint64_t n);
const char *load_body(uint64_t n);

#endif
