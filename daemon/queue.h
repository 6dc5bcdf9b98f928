/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_QUEUE_H
#define DAEMON_QUEUE_H

/*
 * Queues, and what is in them, who waits for room, who waits for messages.
 *
 * A queue keeps each message until one receiver has acknowledged it. Ready messages lie in
 * one list for each priority, in order of their numbers; those that were out and came back
 * lie in a heap by priority and number, and the smaller head of the two goes first. So the
 * order of one sender holds within a priority, and all is O(1) but for what came back.
 *
 * Receivers with credit and nothing to do are `hungry` and linked to their queues; a sent
 * message goes to the first of them, who then goes to the end of the line. A receiver that
 * gets credit back looks through its queues in order of preference.
 *
 * Room: a queue is limited, and so is what one user may have in it and everywhere (its
 * share). Where there is no room a send fails or waits; waiting sends enter in order, no
 * send overtakes an earlier one of the same user in the same queue.
 */

#include "base/bytes.h"
#include "cursor.h"
#include "message.h"
#include "name.h"
#include "rate.h"

struct subscription;

/* What one user has in one queue. Lives while it counts anything. */
struct share {
	struct map_node node; /* in queue->shares, by uid */
	struct queue *queue;
	struct user *user;
	uint64_t messages, bytes, file_bytes;
	struct list waiting;	       /* struct waiting_send, the oldest first */
	struct list in_queue, in_user; /* linked while that has any */
	uint64_t skipped_in; /* the admission round that found no room for this user */
};

struct queue {
	struct name name;
	uint64_t id; /* in the store */
	struct broker *broker;
	struct list fresh[LIMIT_PRIORITY_MAX + 1]; /* messages, by number */
	struct heap returned;			   /* messages, by priority and number */
	uint16_t fresh_priorities;		   /* bit p: fresh[p] is not empty */
	struct list all;			   /* messages, by number */
	struct list
		*oldest; /* in `all`, where queue_oldest() goes on; NULL: at its first */
	struct list cursors; /* those that stand in `all` */
	struct list cursors_at_end;
	uint64_t n_in_state[MESSAGE_N_STATES];
	uint64_t messages, bytes, file_bytes;
	struct map shares;
	struct list subscriptions;
	struct list hungry[2]; /* those of them that could take a message; 1: also a live
				  descriptor */
	uint64_t next_hungry;  /* their common order */
	unsigned int n_receivers;
	struct list waiting; /* struct share, those with waiting sends */
	uint64_t n_waiting, next_wait;
	bool blocked; /* the first waiting send found the queue itself full */
	uint64_t admission_round;
	struct deferred work; /* dispatch and admission, once a pass */
	struct counters counters;
	struct rate sent_rate, acked_rate;
	struct queue_settings settings;
	bool has_own_settings; /* set for it: no rule changes them any more */
	struct list dedups;    /* the oldest first */
	uint64_t n_dedups;
	struct buf fragment; /* "queue":"name", as deliveries show it */
};

/* A send that waits for room; embedded by the one who waits. */
struct waiting_send {
	struct list link; /* in the share */
	struct share *share;
	uint64_t order; /* of those that wait for the same queue */
	struct message *message;
	struct waiting_charge charge;
	void (*admitted)(struct waiting_send *waiting, uint64_t number, bool duplicate);
	/* The queue goes away, the right to send to it, or that it takes live descriptors:
	 * to be cancelled. */
	void (*refused)(struct waiting_send *waiting, enum fault_word word,
			const char *why);
	const struct credentials *who;
};

/* Finds or creates, checking the right. 0, FAULT, -ENOMEM. */
int queue_open(struct broker *broker, const struct name_ref *ref,
	       const struct credentials *who, enum right right, const char *verb,
	       struct queue **ret_queue, struct fault *fault) MUST_CHECK;

/* Would queue_open() succeed? Nothing is made: *ret_queue is NULL where it would be.
 * *ret_durable: would its messages be kept on the disk? 0, FAULT, -ENOMEM. */
int queue_check_open(struct broker *broker, const struct name_ref *ref,
		     const struct credentials *who, enum right right, const char *verb,
		     struct queue **ret_queue, bool *ret_durable,
		     struct fault *fault) MUST_CHECK;

int queue_new(struct broker *broker, const struct name_ref *ref,
	      const struct name_policy *policy, struct queue **ret_queue,
	      struct fault *fault) MUST_CHECK;

/* Owner, mode and settings by the rules there are now, unless they were set for it. */
int queue_apply_rules(struct queue *queue) MUST_CHECK;

/* What holds for this queue: its own setting, or the daemon's limit. */
uint64_t queue_max_messages(const struct queue *q);
uint64_t queue_max_bytes(const struct queue *q);
uint64_t queue_max_file_bytes(const struct queue *q);
uint64_t queue_max_attempts(const struct queue *q);
uint64_t queue_lost_delay_ms(const struct queue *q);
uint64_t queue_backoff_ms(const struct queue *q, uint64_t attempts);

/* Is what is sent to it kept on the disk? */
bool queue_is_durable(const struct queue *q);

/* Ends everything that is there, tells who receives or waits. Returns NULL. */
struct queue *queue_delete(struct queue *queue);

/* Takes place, a cursor in the queue, to where a message of this number belongs, by at most
 * *left steps, which it counts down. True: it is there, and not all steps were needed. */
bool queue_seek(struct queue *queue, struct cursor *place, uint64_t number,
		unsigned int *left);

/* Takes a message that is not leased into another queue (or the same), ready and with no
 * attempts counted. place is as for queue_seek(), which may have brought it there before.
 * 0; FAULT: no room there; -ENOMEM. */
int queue_move(struct message *message, struct queue *to, struct cursor *place,
	       struct fault *fault) MUST_CHECK;

/* The oldest message that is alive: ready, delayed or leased; NULL if there is none. */
const struct message *queue_oldest(struct queue *queue);

/* A dead message is going to be alive: it may be the oldest one. */
void queue_note_alive(struct queue *queue, struct message *message);

/* Rights have changed: who receives, or waits to send, and may no longer is told. */
void queue_recheck(struct queue *queue);

/* Drops all messages. Nobody may be subscribed or waiting. */
struct queue *queue_free(struct queue *queue);

static inline struct queue *queue_of_name(struct name *name)
{
	return CONTAINER_OF(name, struct queue, name);
}

enum { QUEUE_DUPLICATE = 300 };

/* Puts the message into the queue and takes it; *ret_number is its number. FAULT (full,
 * quota, too-large, no-space): there is no room, the message is still the caller's. -ENOMEM
 * likewise. QUEUE_DUPLICATE: the dedup_id is known, *ret_number is the number of the first
 * one; the message is freed. */
int queue_send(struct queue *queue, struct user *sender, struct message *message,
	       uint64_t *ret_number, struct fault *fault) MUST_CHECK;

/* A live descriptor was to be kept on the disk. Returns FAULT. */
int queue_refuse_live(struct fault *fault);

/* Would one be taken that costs so much? 0 or FAULT, as queue_send(). */
int queue_check_room(struct queue *queue, struct user *sender, uint64_t bytes,
		     uint64_t file_bytes, struct fault *fault) MUST_CHECK;

/* Lets the message wait for room, and takes it. -ENOMEM: not taken. */
int queue_wait(struct queue *queue, struct user *sender, struct waiting_send *waiting,
	       struct message *message) MUST_CHECK;

/* Why it waits: FAULT_QUOTA where its user has too much in queues, FAULT_NO_SPACE or
 * FAULT_INTERNAL where there is room but the store takes nothing, else FAULT_FULL. */
enum fault_word waiting_send_why(const struct waiting_send *waiting);

/* No longer waits; the message is freed. */
void waiting_send_cancel(struct waiting_send *waiting);

/* The oldest of those that wait, but for those passed over in this round; NULL: none. */
struct waiting_send *queue_first_waiting(const struct queue *queue);

/* ---- for message.c and receiver.c ---- */

/* The ready message that goes first, or NULL; and of those that this receiver can take,
 * where those that have no attempt left are dead. */
struct message *queue_first(const struct queue *queue);
struct message *queue_first_for(struct queue *queue, const struct receiver *r);

/* The first one's time is over: queue_first_for() has none until it and its like are gone. */
bool queue_is_over_for(const struct queue *queue, const struct receiver *r);

/* To the end of the line. */
void queue_add_hungry(struct queue *queue, struct subscription *s);

/* Hands ready messages to hungry receivers, in their order. */
void queue_dispatch(struct queue *queue);

/* At the end of the pass: dispatch what became ready, let in who waits for room. Where
 * several become ready at once all are there before the first is handed out. */
void queue_work_later(struct queue *queue);

/* One that is back from the store, with its number; in no state yet. 0 or -ENOMEM. */
int queue_restore(struct queue *queue, uid_t sender, struct message *message) MUST_CHECK;

/* Lets in who waits, as far as there is room. */
void queue_admit(struct queue *queue);

#endif
