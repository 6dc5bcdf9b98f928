/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_STORAGE_H
#define DAEMON_STORAGE_H

/*
 * The storage thread's side of the store: blocking writes of whole batches, and what becomes
 * of a file that is damaged or can no longer be trusted. One thread at a time: the main one
 * at start and stop, the storage thread between.
 *
 * `reserve` is a file that takes up space. When the disk is full it is given up, so that the
 * log can still take what ends messages, and made again when there is space.
 */

#include "batch.h"
#include "database.h"
#include "spool.h"

struct storage {
	char *directory;
	int lock_fd; /* borrowed, see state.h; -1: none */
	struct spool *spool;
	struct database *db; /* NULL: none is open, the next attempt opens a new one */
	struct store_head head;
	int64_t clock_base_ms; /* of the store's clock, see record.h; on CLOCK_BOOTTIME */
	struct database_losses losses;
	bool has_reserve;
	bool no_room;		/* so little that it could not be opened again */
	uint64_t lost_bodies;	/* of a new file: their files are gone */
	uint64_t live, commits; /* rows of messages, and commits, as of the last one */
	bool written;		/* storage_after_write() has something to do */
	bool ahead; /* a transaction has been begun, see storage_write_ahead() */
	int ahead_result;
	const struct batch_entry *ahead_entry; /* the last one in it */
	bool anew;	/* a new file is being written beside the old one */
	bool set_aside; /* the old one is damaged: kept as ipcd.db.bad when it is replaced */
	bool is_aside;	 /* it was, at start; what is replaced is an empty one */
	char *options;	 /* see database_describe_options() */
	char *damage;	 /* for a person: what was found at start; NULL: nothing */
	int failure;	 /* the last one: -ENOSPC, -ENOMEM, or another */
	char error[200]; /* the same for a person */
	uint64_t last_commit_us, longest_commit_us;
};

enum storage_outcome {
	STORAGE_WRITTEN,
	STORAGE_REST_WRITTEN, /* no room (see failure): all but the sends */
	STORAGE_FULL,	      /* no room: nothing, the file is as it was */
	STORAGE_LOST,	      /* what is in the file is not known */
};

/* Opens what is there, or an empty file where that is damaged beyond reading. 0 or -errno,
 * the reason is in the log. */
int storage_open(struct storage *s, const char *directory) MUST_CHECK;
void storage_close(struct storage *s);

/* 0 or what a function returned. Damage is noted in losses. */
int storage_load(struct storage *s,
		 int (*name)(void *arg, const struct name_record *name),
		 int (*message)(void *arg, const struct message_record *m),
		 int (*dedup)(void *arg, const struct dedup_record *dedup),
		 void *arg) MUST_CHECK;

/* After loading: says in the log, and in s->damage, what is lost. True: the file is damaged
 * and has to be written anew. */
bool storage_judge(struct storage *s);

/* The path of a damaged file that was put aside, which the caller frees; NULL: none. */
char *storage_find_bad(const struct storage *s);

/* Drops the spool's files that keep() does not know; it is asked for each there is. While a
 * damaged file is kept they all stay, for what that one has may need them. */
void storage_sweep(struct storage *s, bool (*keep)(void *arg, uint64_t blob), void *arg);

/* Begins the transaction of a batch to which another thread still adds entries, with those
 * that are there. When all are, storage_write() must follow, which says what came of it. */
void storage_write_ahead(struct storage *s, const struct batch *batch);

/* Has the batch entries that storage_write_ahead() would write now? */
bool storage_is_behind(const struct storage *s, const struct batch *batch);

/* One transaction of all batches (struct batch.link) in their order. */
enum storage_outcome storage_write(struct storage *s, struct list *batches);

/* After each: what nobody has to wait for. */
void storage_after_write(struct storage *s);

/* A new, empty file, in the directory that is there now; storage_write() then writes to it.
 * 0 or -errno. */
int storage_begin_anew(struct storage *s) MUST_CHECK;

/* It is complete and takes the place of the old one. 0 or -errno. */
int storage_finish_anew(struct storage *s) MUST_CHECK;

/* Makes the reserve if it is not there. */
bool storage_reserve(struct storage *s);

/* Nobody needs the disk just now: gives some space back. True: there is more. */
bool storage_idle(struct storage *s);

#endif
