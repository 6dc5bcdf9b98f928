/* SPDX-License-Identifier: MIT */

#include "room.h"

#include <string.h>

/* ---- what is in memory ---- */

struct room {
	uint64_t messages, bytes; /* in use */
	uint64_t max_messages, max_bytes;
};

static bool room_for(const struct room *room, uint64_t cost)
{
	return room->messages < room->max_messages &&
	       room->bytes + cost <= room->max_bytes;
}

static int no_room(enum fault_word word, const char *what, const struct room *room,
		   uint64_t cost, const char *key_messages, const char *key_bytes,
		   const char *helps, struct fault *fault)
{
	if (cost > room->max_bytes)
		return fault_set(
			fault, FAULT_TOO_LARGE,
			"the message takes %llu bytes, there is never room for more than "
			"%llu (%s)",
			(unsigned long long)cost, (unsigned long long)room->max_bytes,
			key_bytes);
	return fault_set(fault, word,
			 "%s: %llu of %llu messages (%s), %llu of %llu bytes (%s); %s",
			 what, (unsigned long long)room->messages,
			 (unsigned long long)room->max_messages, key_messages,
			 (unsigned long long)room->bytes,
			 (unsigned long long)room->max_bytes, key_bytes, helps);
}

int room_in_queue(const struct queue *q, uint64_t cost, struct fault *fault)
{
	struct room room = { q->messages, q->bytes, queue_max_messages(q),
			     queue_max_bytes(q) };

	if (room_for(&room, cost))
		return 0;
	return no_room(FAULT_FULL, "the queue is full", &room, cost, "queue_messages",
		       "queue_bytes",
		       "receive from it, or send with wait_ms (ipc: --wait)", fault);
}

/* Is it the user's own queue? */
static bool is_at_home(const struct share *share)
{
	const struct queue *q = share->queue;

	return name_may_all(q->broker, share->user->uid) ||
	       q->name.owner->uid == share->user->uid;
}

static bool is_inbox(const struct queue *q)
{
	return q->name.text[0] == '@' && !strchr(q->name.text, '.');
}

int room_in_share(const struct share *share, uint64_t cost, struct fault *fault)
{
	const struct queue *q = share->queue;
	const struct limits *l = q->broker->limits;
	struct room room;

	if (is_at_home(share))
		return 0;
	room = (struct room){ share->messages, share->bytes, l->user_messages / 4,
			      l->user_bytes / 4 };
	if (!room_for(&room, cost))
		return no_room(
			FAULT_QUOTA, "the sender has too much in a queue of another",
			&room, cost, "a quarter of user_messages",
			"a quarter of user_bytes",
			"wait until it is received, or send with wait_ms (ipc: --wait)",
			fault);
	if (!is_inbox(q))
		return 0;
	room.max_messages = l->inbox_messages_per_sender;
	room.max_bytes = l->inbox_bytes_per_sender;
	if (!room_for(&room, cost))
		return no_room(
			FAULT_QUOTA, "the sender has too much in the inbox", &room, cost,
			"inbox_messages_per_sender", "inbox_bytes_per_sender",
			"wait until it is received, or send with wait_ms (ipc: --wait)",
			fault);
	return 0;
}

int room_for_user(const struct share *share, uint64_t cost, struct fault *fault)
{
	const struct limits *l = share->queue->broker->limits;
	const struct usage *u = &share->user->usage;
	struct room room = { u->messages, u->bytes, l->user_messages, l->user_bytes };

	if (!room_for(&room, cost))
		return no_room(
			FAULT_QUOTA, "this user has too much in queues", &room, cost,
			"user_messages", "user_bytes",
			"wait until it is received, or send with wait_ms (ipc: --wait)",
			fault);
	return room_in_share(share, cost, fault);
}

/* ---- bodies on the disk ---- */

static int no_file_room(enum fault_word word, const char *what, uint64_t used,
			uint64_t cost, uint64_t max, const char *key, struct fault *fault)
{
	if (cost > max)
		return fault_set(fault, FAULT_TOO_LARGE,
				 "the body has %llu bytes, there is never room for more "
				 "than %llu (%s)",
				 (unsigned long long)cost, (unsigned long long)max, key);
	return fault_set(
		fault, word,
		"%s: %llu of %llu bytes of files (%s), and this one has %llu; "
		"wait until some is received, or send with wait_ms (ipc: --wait)",
		what, (unsigned long long)used, (unsigned long long)max, key,
		(unsigned long long)cost);
}

static bool fits(uint64_t used, uint64_t cost, uint64_t max)
{
	return cost <= max && used <= max - cost;
}

int room_in_queue_for_file(const struct queue *q, uint64_t cost, struct fault *fault)
{
	uint64_t max = queue_max_file_bytes(q);

	if (!cost || fits(q->file_bytes, cost, max))
		return 0;
	return no_file_room(FAULT_FULL, "the queue is full", q->file_bytes, cost, max,
			    "queue_file_bytes", fault);
}

int room_in_share_for_file(const struct share *share, uint64_t cost, struct fault *fault)
{
	const struct limits *l = share->queue->broker->limits;
	uint64_t used = share->file_bytes;

	if (!cost || is_at_home(share))
		return 0;
	if (!fits(used, cost, l->user_file_bytes / 4))
		return no_file_room(FAULT_QUOTA,
				    "the sender has too much in a queue of another", used,
				    cost, l->user_file_bytes / 4,
				    "a quarter of user_file_bytes", fault);
	if (is_inbox(share->queue) && !fits(used, cost, l->inbox_file_bytes_per_sender))
		return no_file_room(FAULT_QUOTA, "the sender has too much in the inbox",
				    used, cost, l->inbox_file_bytes_per_sender,
				    "inbox_file_bytes_per_sender", fault);
	return 0;
}

int room_for_user_file(const struct share *share, uint64_t cost, struct fault *fault)
{
	const struct limits *l = share->queue->broker->limits;
	uint64_t used = share->user->usage.file_bytes;

	if (cost && !fits(used, cost, l->user_file_bytes))
		return no_file_room(FAULT_QUOTA, "this user has too much in queues", used,
				    cost, l->user_file_bytes, "user_file_bytes", fault);
	return room_in_share_for_file(share, cost, fault);
}

int room_for_live(const struct share *share, struct fault *fault)
{
	uint64_t max = share->queue->broker->limits->live_per_user;

	if (share->user->usage.live < max)
		return 0;
	return fault_set(fault, FAULT_QUOTA,
			 "this user has %llu live descriptors in queues already "
			 "(live_per_user); wait until some are received",
			 (unsigned long long)max);
}

int room_for_body(const struct user *user, const struct limits *limits,
		  struct fault *fault)
{
	if (user->uid == 0 || user->usage.bodies < limits->bodies_per_user)
		return 0;
	return fault_set(fault, FAULT_QUOTA,
			 "this user is sending %llu files and large bodies already "
			 "(bodies_per_user); send it when some of them are there, and "
			 "do not begin more than can be finished",
			 (unsigned long long)limits->bodies_per_user);
}

int room_for_request(const struct user *user, const struct limits *limits, size_t cost,
		     struct fault *fault)
{
	if (fits(user->usage.request_bytes, cost, limits->buffer_per_user))
		return 0;
	return fault_set(fault, FAULT_QUOTA,
			 "the open requests of this user's connections take %llu bytes "
			 "(buffer_per_user); cancel some, or wait for their end",
			 (unsigned long long)limits->buffer_per_user);
}

int room_to_wait(const struct user *user, const struct limits *limits,
		 const struct waiting_charge *charge, struct fault *fault)
{
	const struct usage *u = &user->usage;

	if (!fits(u->waiting_bytes, charge->bytes, limits->buffer_per_user))
		return fault_set(fault, FAULT_QUOTA,
				 "what this user's connections wait with fills %llu "
				 "bytes (buffer_per_user); wait for answers",
				 (unsigned long long)limits->buffer_per_user);
	/* a descriptor that waits is kept by us as any other */
	if (charge->live && u->live + u->live_waiting >= limits->live_per_user)
		return fault_set(fault, FAULT_QUOTA,
				 "this user has %llu live descriptors in queues or "
				 "waiting already (live_per_user); wait until some are "
				 "received",
				 (unsigned long long)limits->live_per_user);
	return 0;
}
