/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_STORE_H
#define DAEMON_STORE_H

/*
 * The store: the journal of what the loop has in memory, which is the truth.
 *
 * The loop adds records to a batch and goes on. One thread writes one batch after the other,
 * each in one transaction: while a commit runs, the next batch gathers, so that many senders
 * share one wait for the disk. Who needs to know that a thing is on the disk waits for it
 * (store_wait()); if nobody waits, records gather for a little while. What is to be told a
 * peer then can be left with the thread (store_add_receipt()), which does so at once.
 *
 *	          disk full
 *	WORKS  ------------->  FULL     no sends; what ends messages is still written, into
 *	  ^  <----------------          space that was reserved for it
 *	  |     space again
 *	  |
 *	  |    any other failure
 *	  '-------------------> BROKEN  no sends; what is on the disk is not known, so a new
 *	        file complete           file is written from memory, again and again if need
 *	                                be, and takes the place of the old one
 *
 * Nothing here knows messages or queues: what is told back goes through store_ops.
 */

#include "batch.h"
#include "database.h"
#include "loop.h"
#include "wire/fault.h"

struct store;

enum store_state {
	STORE_WORKS,
	STORE_FULL,
	STORE_BROKEN,
};

struct store_ops {
	/* A message put by store_put_message() is on the disk, or will never be. In order. */
	void (*stored)(void *owner, uint64_t number, bool ok);
	/* Adds the next part of all there is, from *cursor on (at first 0), by
	 * store_put_name() and so on. 1: that was the last part; 0; -ENOMEM. */
	int (*dump)(void *owner, uint64_t *cursor);
	/* The number that the next message will have. */
	uint64_t (*next_number)(void *owner);
	/* How many bytes may gather while the disk is waited for. */
	uint64_t (*buffer_max)(void *owner);
	/* Messages are taken again. */
	void (*works)(void *owner);
};

/* Embedded by the one who waits. */
struct store_wait {
	struct list link;
	bool for_send; /* it is a message that must be there; else what became of one */
	struct receipt *receipt; /* or NULL, see store_add_receipt() */
	/* 0: all that was added before is on the disk. -ENOSPC: it is not, for the disk is
	 * full. Any other: that is not known. */
	void (*done)(struct store_wait *wait, int result);
};

/* What a look at the store shows, see op_status.c and ipc-protocol(7). */
struct store_report {
	enum store_state state;
	const char *directory, *file_system,
		*warning;    /* warning NULL: keeps its promises */
	const char *error;   /* NULL: none */
	const char *options; /* NULL: not known */
	const char *damage;  /* of this start, NULL: none */
	char *set_aside; /* where a damaged file lies, of this start or an earlier one; the
			    caller frees it; NULL: there is none */
	uint64_t commits, last_commit_us, longest_commit_us;
	uint64_t file_bytes, log_bytes, disk_free_bytes;
	bool is_there; /* the directory, or else nothing is known of the disk */
};

/* Opens directory, which exists and is locked. -errno, the reason is in the log. */
int store_open(struct store **ret_store, const char *directory, struct loop *loop,
	       const struct store_ops *ops, void *owner) MUST_CHECK;

/* First thing: all there is, see database.h. */
int store_load(struct store *store,
	       int (*name)(void *arg, const struct name_record *name),
	       int (*message)(void *arg, const struct message_record *m),
	       int (*dedup)(void *arg, const struct dedup_record *dedup),
	       void *arg) MUST_CHECK;

/* Then: says what is lost, and counts this start. 0 or -errno. */
int store_judge(struct store *store) MUST_CHECK;

/* Then: all is in memory. Drops the spool's files that nothing needs: keeps() is asked for
 * each there is, whether it is then dropped or not. Writes what has changed meanwhile, or a
 * new file if this one is damaged, and waits for that. A full disk is no failure. */
int store_start(struct store *store, bool (*keeps)(void *arg, uint64_t blob),
		void *arg) MUST_CHECK;

/* Then, or never: lock_fd is the directory's, see state.h, and stays the caller's until the
 * store is closed. If the directory is deleted and made again, that one is locked as well. */
void store_set_lock(struct store *store, int lock_fd);

/* Lease key and generation (after store_judge()), next number, whether it was stopped in
 * order (before). */
const struct store_head *store_get_head(const struct store *store);

/* Writes all, and waits for it up to wait_ms; who waits is told. While the store is broken a
 * new file is tried once. False: it took longer, or failed. */
bool store_flush(struct store *store, uint64_t wait_ms);

/* What the store's clock, see record.h, is ahead of CLOCK_BOOTTIME, in this start. */
int64_t store_clock_base_ms(const struct store *store);

/* Was it stopped in order the last time? */
bool store_found_clean(const struct store *store);

/* The end. in_order: leases are known, which is noted for the next start. Returns NULL. */
struct store *store_close(struct store *store, bool in_order);

/* ---- records; texts are copied, a block is referenced, and a blob until the record is on
 * the disk: so its file is there as long as a row may name it ---- */

/* May a message be put now? 0, or FAULT with the reason. */
int store_check(const struct store *store, struct fault *fault) MUST_CHECK;

/* 0 or -ENOMEM. */
int store_put_message(struct store *store, const struct message_record *m,
		      struct bytes *block, struct blob *blob) MUST_CHECK;

/* The same for one that has been sent long since; stored() is not called. These never fail:
 * without memory the file is written anew. */
void store_put_message_again(struct store *store, const struct message_record *m,
			     struct bytes *block, struct blob *blob);
void store_set_message(struct store *store, const struct message_record *m);

/* body_size: of a body that is no blob. */
void store_drop_message(struct store *store, uint64_t number, uint64_t body_size,
			struct blob *blob);
void store_put_name(struct store *store, const struct name_record *name);
void store_drop_name(struct store *store, uint64_t id);
void store_put_dedup(struct store *store, const struct dedup_record *dedup, bool again);
void store_drop_dedup(struct store *store, uint64_t number);

/* A record could not be made for lack of memory: the file is written anew. */
void store_renew(struct store *store);

/* There is no directory for large bodies any more: it is made again, and the file as well. */
void store_spool_gone(struct store *store);

/* Grows with each record: have any been added meanwhile? */
uint64_t store_mark(const struct store *store);

/* So much has gathered, for the disk does not answer, that who makes more of it should not be
 * listened to. resume is run when there is room again; deferred_cancel() ends that. */
bool store_is_crowded(const struct store *store);
void store_await_room(struct store *store, struct deferred *resume);

/* wait->done() is called when all that was added so far is on the disk, or failed. To wait
 * no longer: list_remove(&wait->link). */
void store_wait(struct store *store, struct store_wait *wait);

/* To what waits, if it is to be told a peer: the header of the answer. It is sent if all goes
 * well: who waits no longer, in done() at the latest, learns from receipt_revoke() whether it
 * was. If not, and where there is no receipt for lack of memory or because it would be too
 * large, he answers himself. */
void store_add_receipt(struct store *store, struct store_wait *wait,
		       struct outlet *outlet, struct slice header);

/* A receipt may have been sent just now, and what is read next may follow from it: what was
 * stored with it is told now, if that is still to come. */
void store_catch_up(struct store *store);

/* False: the file system of the directory may end with the machine or the container. */
bool store_keeps_promises(const struct store *store);

const char *store_state_name(enum store_state state);
void store_describe(struct store *store, struct store_report *ret_report);

#endif
