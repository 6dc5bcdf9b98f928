/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_RECEIVER_H
#define DAEMON_RECEIVER_H

/*
 * One open `receive`: queues in order of preference, credit, leases. How a delivery reaches
 * its peer is the embedder's: receiver_ops.
 *
 * A receiver may end while its leases go on: then it takes nothing more and is done when
 * the last lease is settled.
 */

#include "queue.h"

struct receiver;

enum delivery {
	DELIVERY_DONE,	/* or the peer is to be ended */
	DELIVERY_LATER, /* not now, for lack of descriptors */
	DELIVERY_BAD,	/* its body cannot be had */
};

struct receiver_ops {
	/* May more be written to the peer now? receiver_feed() is called when that changes. */
	bool (*has_room)(struct receiver *receiver);
	/* Writes the delivery; sets message->out_end. On failure the peer is to be ended and
	 * out_end must say that nothing left. */
	enum delivery (*deliver)(struct receiver *receiver, struct message *message);
	/* It could take more, and there is nothing. The receiver may be ended here. */
	void (*hungry)(struct receiver *receiver);
	/* The last of its queues was deleted: to be ended. */
	void (*deserted)(struct receiver *receiver);
	/* max is reached. */
	void (*complete)(struct receiver *receiver);
	/* It has ended and the last lease is gone: may be freed. */
	void (*done)(struct receiver *receiver);
	/* Rights to one of its queues have changed: may be ended here. */
	void (*recheck)(struct receiver *receiver, const struct queue *queue);
};

struct subscription {
	struct list in_queue; /* queue->subscriptions */
	struct list hungry;   /* queue->hungry */
	uint64_t hungry_since;
	struct queue *queue;
	struct receiver *receiver;
};

struct receiver {
	const struct receiver_ops *ops;
	struct broker *broker;
	uid_t uid;
	pid_t pid;	 /* for people; 0: unknown */
	bool takes_live; /* descriptors that are passed on as they are */
	struct subscription *subscriptions;
	unsigned int n_subscriptions;
	uint64_t window, n_leased;
	uint64_t left;	      /* until max; UINT64_MAX: for ever */
	uint64_t ack_wait_ms; /* UINT64_MAX: none */
	struct list leases;   /* messages, in order of delivery (or touch) */
	unsigned int
		n_unsent; /* of those, not yet all in the kernel; with ack_wait_ms only */
	struct timer ack_timer;
	struct deferred feed;
	struct deferred look_again; /* when what is over has gone */
	bool ended;
};

/* Takes subscriptions (malloc'ed, queue set in each). */
void receiver_init(struct receiver *r, const struct receiver_ops *ops,
		   struct broker *broker, uid_t uid, struct subscription *subscriptions,
		   unsigned int n);

/* Takes what is there, as far as credit and room allow, then waits hungrily. */
void receiver_feed(struct receiver *r);
void receiver_feed_later(struct receiver *r);

/* From now on it takes live descriptors, or does not. */
void receiver_set_takes_live(struct receiver *r, bool takes_live);

/* No more deliveries. */
void receiver_end(struct receiver *r);

/* The peer is gone, and r has ended: max of its leases end, or all there are; with the last one
 * done() is called. sent_bytes: how much of the peer's output went to the kernel. How many it
 * were. */
uint64_t receiver_lose(struct receiver *r, uint64_t sent_bytes, uint64_t max);
void receiver_deinit(struct receiver *r);

/* More output has gone to the kernel: clocks of leases start. */
void receiver_sent(struct receiver *r, uint64_t sent_bytes);

/* The lease's clock starts anew. */
void receiver_touch(struct receiver *r, struct message *m);

/* ---- for message.c and queue.c ---- */

/* May it take one more message right now? */
bool receiver_can_take(const struct receiver *r);
void receiver_take(struct receiver *r, struct message *m);

/* The queue of one of its subscriptions goes away. */
void receiver_forget(struct receiver *r, struct subscription *s);

/* A lease of it has ended. */
void receiver_unlease(struct receiver *r, struct message *m);

#endif
