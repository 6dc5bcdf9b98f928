/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_MESSAGE_H
#define DAEMON_MESSAGE_H

/*
 * A message in a queue, and the ways it can go:
 *
 *	            send
 *	             |   durable: STORING until it is on the disk
 *	             |   (delay_ms) .-----------.
 *	             |------------->|  DELAYED  |<-------------.
 *	             v              '-----------'              |
 *	       .-----------.  due     |                        |
 *	  .--->|   READY   |<---------'                        |
 *	  |    '-----------'                                   |
 *	  |          | handed to a receiver                    |
 *	  |          v                                         |
 *	  |    .-----------.  nack; connection lost            |
 *	  |    |  LEASED   |-----------------------------------'
 *	  |    '-----------'
 *	  |       |  |   | reject; attempts used up   .--------.
 *	  '-------'  |   '--------------------------->|  DEAD  |
 *	  never left |                                '--------'
 *	  us, or its | ack                                 | (revived, deleted)
 *	  time is up v
 *	           gone          (also from READY and DELAYED by the end of its ttl)
 *
 * message_set_state() is the one door between them. A lease is known by a token: a MAC over
 * number and time of the message, delivery and uid, checked without a row, also after a
 * restart. When a lease has ended the message is only due again: until it is handed out anew
 * the old token still settles it.
 */

#include "base/bytes.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "wire/fault.h"

struct broker;
struct dedup;
struct queue;
struct receiver;
struct share;

enum message_state {
	MESSAGE_NEW,	 /* in no queue yet */
	MESSAGE_STORING, /* in its queue, but not yet on the disk: nobody sees it */
	MESSAGE_READY,
	MESSAGE_DELAYED,
	MESSAGE_LEASED,
	MESSAGE_DEAD,
	MESSAGE_N_STATES,
};

/* What few messages have. */
struct message_more {
	struct message *message;
	struct heap_node expiry; /* in broker->expiring */
	char *history;		 /* how its attempts ended, see history.h; or NULL */
	size_t history_size;
	bool holder_known; /* whose the last attempt was, that ended */
	uid_t holder_uid;
	pid_t holder_pid;    /* 0: unknown */
	char *reason;	     /* why it came back or died, or NULL */
	struct dedup *dedup; /* NEW, STORING: its dedup_id */
	struct blob *blob;   /* a body beyond LIMIT_PIECE_MAX, or a descriptor; or NULL */
	char *file; /* "filename":…,"file_size":…: what deliveries say of a file; or NULL */
	size_t file_size; /* of that text */
};

struct message {
	struct map_node by_number;
	struct list in_queue; /* queue->all */
	union {
		struct list link;	/* fresh in the queue, or leases of the holder */
		struct heap_node place; /* in_heap: delayed (by time) or returned (by
					   priority and number) */
	};
	struct share *share;	   /* queue and sender, where it is charged */
	struct bytes *from;	   /* "from":{…}, of the sender's connection */
	struct bytes *body;	   /* a large one; small ones lie behind meta */
	struct message_more *more; /* or NULL */
	struct receiver *holder;   /* LEASED */
	uint64_t sent_ms;	   /* when it entered its queue, CLOCK_REALTIME */
	uint64_t number;
	uint64_t deliveries; /* grows each time it is handed out or given back: part of
				the token */
	uint64_t attempts;   /* how many of them count */
	union {
		uint64_t out_end; /* LEASED: where its last byte stands in the holder's output */
		uint64_t delay_ms; /* NEW, STORING */
	};
	union {
		uint64_t leased_ns; /* LEASED: since when its clock runs; 0: not yet */
		uint64_t ttl_ms;    /* NEW; UINT64_MAX: none */
	};
	uint32_t body_size, meta_size; /* body: in memory; of a blob's message 0 */
	uint8_t state, priority;
	bool in_heap; /* `place` is in use, not `link` */
	bool confirm; /* somebody in broker->confirms waits for the outcome */
	bool expired; /* its ttl ended while it was leased, or not yet on the disk */
	bool stored;  /* the store has it, or will have */
	bool in_hand; /* since the daemon was stopped: its last attempt is not in attempts */
	char data[]; /* meta, then a small body */
};

/* Who waits for the outcome of a message. Of those that wait for the same one, which may be many
 * where a send is repeated, the first is in broker->confirms. */
struct confirm {
	struct map_node node;
	struct list others;
	bool is_first;
	bool stored; /* the outcome is on its way to the disk, too */
	void (*settled)(struct confirm *confirm, uint64_t number, const char *outcome);
};

/* Needs a map_reserve() of broker->confirms since the last one. */
void confirm_add(struct confirm *confirm, struct message *m);

/* No longer waits. */
void confirm_remove(struct confirm *confirm, struct broker *broker);

enum { MESSAGE_INLINE_MAX = 4096 };

struct message_content {
	const char *meta;
	size_t meta_size;
	const char *body;	  /* copied, unless it is large and … */
	struct bytes *body_block; /* … lies in a block: then referenced */
	size_t body_size;
	struct bytes *from; /* referenced */
	unsigned int priority;
	struct blob *blob; /* the body instead; referenced */
	const char *file;  /* see struct message_more; NULL: none */
	size_t file_size;
	uint64_t delay_ms, ttl_ms;
	const char *dedup_id; /* NULL: none */
	size_t dedup_size;
};

/* NULL without memory. */
struct message *message_new(const struct message_content *content);

/* One that is in no queue. Returns NULL. */
struct message *message_free(struct message *m);

/* What it costs its queue and sender: bytes of memory, and of the disk for a body in the
 * spool. */
uint64_t message_cost(const struct message *m);
uint64_t message_file_cost(const struct message *m);

/* NULL: the body is in memory. */
static inline struct blob *message_blob(const struct message *m)
{
	return m->more ? m->more->blob : NULL;
}

/* A descriptor that is passed on as it is? */
bool message_is_live(const struct message *m);

/* What came at last, for one that is in no queue yet: a blob or a block (both NULL: an empty
 * body), each referenced, and the text about a file (copied). 0 or -ENOMEM. */
int message_set_body(struct message *m, struct blob *blob, struct bytes *block,
		     const char *file, size_t file_size) MUST_CHECK;

/* The body's bytes, wherever it lies; UINT64_MAX: not known (a live descriptor). */
uint64_t message_size(const struct message *m);

static inline const char *message_body(const struct message *m)
{
	return m->body ? m->body->data : m->data + m->meta_size;
}

/* Why it came back or died, or NULL. */
static inline const char *message_reason(const struct message *m)
{
	return m->more ? m->more->reason : NULL;
}

const char *message_state_name(enum message_state state);

/* READY, DELAYED (delay_ms from now), DEAD. LEASED is receiver.c's alone. Never fails: where
 * memory runs out a delay is lost, never a message. */
void message_set_state(struct message *m, enum message_state state, uint64_t delay_ms);

/* Its ttl begins; ttl_ms UINT64_MAX: it has none. 0 or -ENOMEM. */
int message_start_ttl(struct message *m, struct broker *broker,
		      uint64_t ttl_ms) MUST_CHECK;

void message_end_ttl(struct message *m);

/* For queue_move(): out of its state (then it is NEW), and ready again with no attempts. */
void message_leave(struct message *m);
void message_revive(struct message *m);

struct message *message_find(const struct broker *broker, uint64_t number);

/* A MAC that says that this delivery of the message went to uid. */
uint64_t message_token(const struct message *m, uint64_t delivery, uid_t uid);

/* What waited for the disk is there, or (the message ends) never will be. */
void message_stored(struct message *m, bool ok);

/* Takes reason. A lost reason is better than a lost message; a long one for which there is no room
 * is lost, too. */
void message_set_reason(struct message *m, char *reason);

/* For one that comes from the store, before it is in its queue. 0 or -ENOMEM. */
int message_set_history(struct message *m, const char *text, size_t size) MUST_CHECK;

/* ---- the outcomes; each ends a lease, if there is one ---- */

void message_ack(struct message *m);

/* delay_ms UINT64_MAX: the backoff. Dead when its attempts are used up. reason is taken. */
void message_nack(struct message *m, uint64_t delay_ms, bool count, char *reason);
void message_reject(struct message *m, char *reason);

/* The holder is gone. left: the whole delivery had gone to the kernel. */
void message_lost(struct message *m, bool left);

/* It could not be handed out now; the attempt does not count. */
void message_put_back(struct message *m, uint64_t delay_ms);

/* No attempt is left to it: then it is dead. */
bool message_die_if_used_up(struct message *m);

/* Its body is lost. */
void message_spoil(struct message *m);

/* ack_wait_ms is over. */
void message_overdue(struct message *m);

/* Out of its queue and freed; outcome is told to the one who waits. */
void message_end(struct message *m, const char *outcome);

/* Its time to live has ended: it is about to go, and not handed out any more. */
bool message_is_over(const struct message *m);

/* The two timers of the broker. */
void message_delayed_due(struct broker *broker);
void message_expiring_due(struct broker *broker);

#endif
