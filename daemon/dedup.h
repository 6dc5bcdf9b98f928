/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_DEDUP_H
#define DAEMON_DEDUP_H

/*
 * Ids by which a repeated send is known: of one queue and one sender, for dedup_window or
 * until the queue has dedup_ids newer ones. They outlive their message.
 */

#include "base/list.h"
#include "base/map.h"
#include "wire/fault.h"

struct broker;
struct message;
struct queue;
struct user;

struct dedup {
	struct map_node node;	      /* in broker->dedups; in it, if queue is set */
	struct list in_queue, in_all; /* the oldest first */
	struct queue *queue;
	struct user *user;
	struct message *message; /* while that is not yet on the disk */
	uint64_t number;
	int64_t sent_ms; /* CLOCK_BOOTTIME; below 0: before it began */
	bool stored;
	size_t size;
	char id[];
};

void dedup_init(struct broker *broker);
void dedup_deinit(struct broker *broker);

/* Not yet known. NULL without memory. */
struct dedup *dedup_new(const char *id, size_t size);

/* The one with this id, of the same sender in the same queue; NULL. */
const struct dedup *dedup_find(const struct queue *queue, const struct user *user,
			       const char *id, size_t size);

/* Is there room for the id of this user's message, if it has one? 0 or FAULT. */
int dedup_check(const struct broker *broker, const struct user *user,
		const struct message *m, struct fault *fault) MUST_CHECK;

/* Known from now on, as that of the message; age_ms: since that was sent. 0 or -ENOMEM. */
int dedup_add(struct dedup *dedup, struct queue *queue, struct user *user,
	      uint64_t number, uint64_t age_ms) MUST_CHECK;

/* Its message is on the disk; or not, then the id is forgotten. */
void dedup_settle(struct dedup *dedup, bool ok);

/* Its message goes: frees it if it was never added. NULL is fine. */
void dedup_abandon(struct dedup *dedup);

/* The queue is deleted. */
void dedup_forget_queue(struct queue *queue);

/* The limits have changed, and may be lower now. */
void dedup_trim(struct broker *broker);

/* At an orderly stop: those of memory queues are kept too. */
void dedup_keep_all(struct broker *broker);

#endif
