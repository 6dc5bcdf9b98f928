/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_JOURNAL_H
#define DAEMON_JOURNAL_H

/*
 * What the broker tells the store: names, messages, ids of sends. Where there is no store,
 * or a message is not in it, nothing happens.
 */

#include "base/util.h"

struct broker;
struct dedup;
struct message;
struct queue;

/* A time of CLOCK_BOOTTIME by the store's clock, see record.h; never 0, which means none. */
uint64_t journal_clock_ms(const struct broker *broker, uint64_t boottime_ns);

/* A send into a durable queue, numbered, in state STORING. 0 or -ENOMEM. */
int journal_send(struct message *m) MUST_CHECK;

/* Into the store without a wait: a message that comes from a memory queue. A live descriptor
 * is in no store. */
void journal_adopt(struct message *m);

/* Its state has changed. */
void journal_set(struct message *m);
void journal_drop(struct message *m);

/* Made or changed. */
void journal_name(struct queue *queue);
void journal_drop_name(struct queue *queue);

void journal_dedup(struct dedup *dedup);
void journal_drop_dedup(struct dedup *dedup);
void journal_keep_dedup(struct dedup *dedup);

/* At an orderly stop: what is in memory queues. */
void journal_keep_all(struct broker *broker);

/* For store_ops.dump. */
int journal_dump(struct broker *broker, uint64_t *cursor) MUST_CHECK;

#endif
