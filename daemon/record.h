/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_RECORD_H
#define DAEMON_RECORD_H

/*
 * What the store keeps, as plain values: the loop fills them in, the storage thread writes
 * them, and at start they come back. Texts are borrowed.
 *
 * Times are of the wall clock, in ms since 1970, for only that one goes on while the machine
 * is off.
 */

#include "base/hash.h"

struct slice {
	const char *data; /* NULL: there is none */
	size_t size;
};

/*
 * Times are by the store's own clock. While ipcd runs it goes on as CLOCK_BOOTTIME does, and
 * over a restart by what the wall clock says of the time between. So it is about the time
 * since 1970, but nobody sets it, as somebody may set the wall clock.
 */

/* A message. What is below `queue` changes in its life. */
struct message_record {
	uint64_t number;
	uid_t uid; /* the sender's */
	unsigned int priority;
	uint64_t sent_ms; /* by the wall clock: for people, and filters */
	struct slice from, meta;
	struct slice file; /* what deliveries say of a file, see struct message_more */
	struct slice body; /* body_size bytes, up to LIMIT_PIECE_MAX; else … */
	uint64_t body_size;
	uint64_t blob; /* … this is the name of its file in the spool; 0: none */
	int blob_fd;   /* to be stored: a memfd to copy it from; -1: the file is there */
	uint64_t blob_disk; /* read: what the file takes, less where it has holes */
	bool blob_synced;   /* to be stored: the file's content is on the disk */

	uint64_t queue; /* struct name_record.id */
	bool dead;
	bool kept;    /* of a memory queue, saved at an orderly stop */
	bool in_hand; /* see struct message */
	uint64_t attempts, deliveries;
	uint64_t due_ms;     /* 0: now */
	uint64_t expires_ms; /* 0: never; who dies once, and is revived, has no end */
	struct slice reason, history;
};

/* The column `kept`. */
static inline uint64_t message_record_flags(const struct message_record *m)
{
	return (uint64_t)m->kept | (uint64_t)m->in_hand << 1;
}

struct name_record {
	uint64_t id;
	struct slice name;     /* canonical */
	struct slice settings; /* a JSON object */
};

/* An id by which a repeated send is known. */
struct dedup_record {
	uint64_t number; /* of the message that was first */
	uint64_t queue;
	uid_t uid;
	uint64_t sent_ms;
	struct slice id;
};

/* The store as a whole. */
struct store_head {
	uint64_t generation; /* starts of the daemon */
	uint64_t commits;
	uint64_t next_number;
	uint64_t live;	     /* rows of messages */
	uint64_t written_ms; /* the last commit, by the wall clock of that time … */
	uint64_t clock_ms; /* … and by the store's; 0: not known. In `commits` alone */
	bool clean;	   /* stopped in order: leases are known */
	struct hash_key lease_key;
};

#endif
