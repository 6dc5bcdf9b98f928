/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_BATCH_H
#define DAEMON_BATCH_H

/*
 * What one commit writes: a list of records, with their texts, in memory of its own, so that
 * the storage thread can work on it while the loop goes on.
 */

#include <stdatomic.h>

#include "base/bytes.h"
#include "base/list.h"
#include "blob.h"
#include "outlet.h"
#include "record.h"

enum batch_kind {
	BATCH_PUT_NAME,
	BATCH_DROP_NAME,
	BATCH_PUT_MESSAGE, /* a send; with `again` a message that has been sent long since */
	BATCH_SET_MESSAGE,
	BATCH_DROP_MESSAGE,
	BATCH_PUT_DEDUP,
	BATCH_DROP_DEDUP,
};

struct batch_entry {
	struct batch_entry *_Atomic next; /* see batch_next() */
	enum batch_kind kind;
	bool again;
	struct bytes *block; /* the message's body, if it lies in one */
	struct blob *blob;   /* or this is it; also of one that is dropped */
	union {
		struct name_record name;
		struct message_record message;
		struct dedup_record dedup;
		struct {
			uint64_t number; /* of a message, an id's message, a name */
			uint64_t body_size;
		} drop;
	};
};

struct batch_chunk;

struct batch {
	struct list link;   /* in the line of those to be written */
	bool without_sends; /* they have failed: only the rest is to be written */
	bool told;	    /* that it is on the disk, see store_catch_up() */
	struct batch_chunk *chunks;
	struct batch_entry *_Atomic first, *_Atomic *tail;
	size_t n, bytes;   /* of memory */
	struct list waits; /* struct store_wait */
	struct receipt *receipts, **last_receipt;
};

void batch_init(struct batch *batch);

/* Forgets the entries; nobody may wait any more. On the loop's thread, where blobs live. */
void batch_clear(struct batch *batch);
void batch_deinit(struct batch *batch);

/* Its sends have failed, and are not tried again: what they hold is given back. */
void batch_give_up_sends(struct batch *batch);

/* One entry more; its texts are copied, a block and a blob are referenced. 0 or -ENOMEM. */
int batch_add_message(struct batch *batch, enum batch_kind kind, bool again,
		      const struct message_record *m, struct bytes *block,
		      struct blob *blob) MUST_CHECK;
int batch_add_name(struct batch *batch, const struct name_record *name) MUST_CHECK;
int batch_add_dedup(struct batch *batch, const struct dedup_record *dedup,
		    bool again) MUST_CHECK;
int batch_add_drop(struct batch *batch, enum batch_kind kind, uint64_t number,
		   uint64_t body_size, struct blob *blob) MUST_CHECK;

/* An answer that may be sent as soon as the batch is on the disk: a frame of this header. The
 * receipt is valid until the batch is cleared. NULL without memory, or if it is too large. */
struct receipt *batch_add_receipt(struct batch *batch, struct outlet *outlet,
				  struct slice header);

/* The entry behind, or the first one; NULL: none yet. Also while another thread adds some. */
static inline struct batch_entry *batch_next(const struct batch *batch,
					     const struct batch_entry *entry)
{
	return atomic_load_explicit(entry ? &entry->next : &batch->first,
				    memory_order_acquire);
}

/* ---- the steps of these ---- */

/* A new entry in the batch's memory, not yet in the batch. NULL without memory. */
struct batch_entry *batch_new_entry(struct batch *batch, enum batch_kind kind);
void batch_put(struct batch *batch, struct batch_entry *entry);

/* A copy in the batch's memory; a slice without data stays one. 0 or -ENOMEM. */
int batch_copy(struct batch *batch, struct slice *text) MUST_CHECK;

#endif
