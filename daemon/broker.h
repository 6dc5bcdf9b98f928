/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_BROKER_H
#define DAEMON_BROKER_H

/*
 * What all nouns (names, queues, messages, receivers) share: registries, clocks, limits,
 * counters. It knows no socket and no peer.
 */

#include "base/hash.h"
#include "base/heap.h"
#include "base/map.h"
#include "blob.h"
#include "loop.h"
#include "rules.h"
#include "user.h"
#include "wire/json.h"

struct counters {
	uint64_t sent, delivered, acked, nacked, rejected, died, expired, lost;
};

struct broker {
	struct loop *loop;
	const struct limits *limits;
	struct users *users;
	const struct rules *rules;
	bool system_mode;   /* false: everything is owner_uid's */
	uid_t owner_uid;    /* the daemon's */
	uid_t overflow_uid; /* these stand for all that a container does not map */
	gid_t overflow_gid;

	struct map names; /* struct name */
	struct list all_names;
	struct map messages;  /* struct message, by number */
	struct map confirms;  /* struct confirm, by message number */
	struct heap delayed;  /* messages, by due time (CLOCK_BOOTTIME) */
	struct heap expiring; /* messages, by the end of their ttl (CLOCK_BOOTTIME) */
	struct timer delayed_timer, expiring_timer;
	struct hash_key name_key, lease_key;
	struct json *meta_parser;	    /* of filters; made when one first needs it */
	struct json_writer *history_writer; /* likewise */
	uint64_t next_number;
	uint64_t message_bytes;
	uint64_t peak_bytes; /* of message_bytes since memory was given back last */
	struct counters counters;

	struct blobs blobs;
	struct store *store;	/* NULL: nothing outlives the daemon */
	uint64_t delivery_base; /* deliveries of this start begin above it */
	uint64_t held_until_ns; /* CLOCK_MONOTONIC: after an end without order all is
				   held back until then */
	uint64_t next_queue_id;
	uint64_t store_failures; /* messages that did not come to the disk */
	struct map dedups;
	struct list all_dedups; /* the oldest first */
	struct timer dedup_timer;
	uint64_t *dump_numbers; /* of messages, while the store is written anew */
	size_t n_dump_numbers;
	bool stopping;
	bool keeps_all; /* the store has, or is to have, what is in memory queues, too */
};

int broker_init(struct broker *broker, struct loop *loop, struct users *users,
		const struct limits *limits, const struct rules *rules,
		bool system_mode) MUST_CHECK;

/* Frees all queues and messages; broker->blobs is left to the owner, for jobs that still run. */
void broker_deinit(struct broker *broker);

/* Bytes of messages came or went. After a flood the memory goes back to the system. */
void broker_count_bytes(struct broker *broker, int64_t change);

/* Sets both timers to the heads of their heaps. Never fails: without memory the next
 * change tries again. */
void broker_arm_timers(struct broker *broker);

#endif
