/* SPDX-License-Identifier: MIT */

#include "batch.h"

#include <string.h>

#include "base/err.h"
#include "wire/stream.h"

enum { CHUNK_BYTES = 128 * 1024, ALIGNMENT = 8, LENGTH_BYTES = 4 };

struct batch_chunk {
	struct batch_chunk *next;
	size_t used, capacity;
	char data[];
};

void batch_init(struct batch *batch)
{
	*batch =
		(struct batch){ .tail = &batch->first, .last_receipt = &batch->receipts };
	list_init(&batch->link);
	list_init(&batch->waits);
}

/* One chunk of the ordinary size stays for the next batch. */
static void free_chunks(struct batch *batch, bool all)
{
	struct batch_chunk *chunk = batch->chunks, *next, *kept = NULL;

	for (; chunk; chunk = next) {
		next = chunk->next;
		if (!all && !kept && chunk->capacity == CHUNK_BYTES) {
			kept = chunk;
			kept->next = NULL;
			kept->used = 0;
		} else {
			free(chunk);
		}
	}
	batch->chunks = kept;
	batch->bytes = kept ? CHUNK_BYTES : 0;
}

static void give_back(struct batch_entry *e)
{
	bytes_unref(e->block);
	e->block = NULL;
	e->blob = blob_unref(e->blob);
}

static void drop_entries(struct batch *batch)
{
	for (struct batch_entry *e = batch->first; e; e = e->next)
		give_back(e);
	batch->first = NULL;
	batch->tail = &batch->first;
	batch->n = 0;
}

static void drop_receipts(struct batch *batch)
{
	for (struct receipt *r = batch->receipts; r; r = r->next)
		outlet_unref(r->outlet);
	batch->receipts = NULL;
	batch->last_receipt = &batch->receipts;
}

void batch_clear(struct batch *batch)
{
	drop_entries(batch);
	drop_receipts(batch);
	free_chunks(batch, false);
	batch->without_sends = batch->told = false;
}

void batch_deinit(struct batch *batch)
{
	drop_entries(batch);
	drop_receipts(batch);
	free_chunks(batch, true);
}

void batch_give_up_sends(struct batch *batch)
{
	batch->without_sends = true;
	for (struct batch_entry *e = batch->first; e; e = e->next)
		if (e->kind == BATCH_PUT_MESSAGE && !e->again)
			give_back(e);
}

static void *take(struct batch *batch, size_t size)
{
	size_t rounded = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	struct batch_chunk *chunk = batch->chunks;

	if (!chunk || chunk->capacity - chunk->used < rounded) {
		size_t capacity = rounded > CHUNK_BYTES ? rounded : CHUNK_BYTES;

		chunk = malloc(sizeof(*chunk) + capacity);
		if (!chunk)
			return NULL;
		*chunk = (struct batch_chunk){ batch->chunks, 0, capacity };
		batch->chunks = chunk;
		batch->bytes += capacity;
	}
	chunk->used += rounded;
	return chunk->data + chunk->used - rounded;
}

static size_t size_of(enum batch_kind kind)
{
	struct batch_entry *e;
	size_t head = offsetof(struct batch_entry, message);

	switch (kind) {
	case BATCH_PUT_NAME:
		return head + sizeof(e->name);
	case BATCH_PUT_MESSAGE:
	case BATCH_SET_MESSAGE:
		return head + sizeof(e->message);
	case BATCH_PUT_DEDUP:
		return head + sizeof(e->dedup);
	case BATCH_DROP_NAME:
	case BATCH_DROP_MESSAGE:
	case BATCH_DROP_DEDUP:
		return head + sizeof(e->drop);
	}
	return sizeof(*e);
}

struct batch_entry *batch_new_entry(struct batch *batch, enum batch_kind kind)
{
	size_t size = size_of(kind);
	struct batch_entry *e = take(batch, size);

	if (!e)
		return NULL;
	memset(e, 0, size);
	e->kind = kind;
	return e;
}

void batch_put(struct batch *batch, struct batch_entry *entry)
{
	atomic_store_explicit(batch->tail, entry, memory_order_release);
	batch->tail = &entry->next;
	batch->n++;
}

int batch_copy(struct batch *batch, struct slice *text)
{
	char *copy;

	if (!text->data)
		return 0;
	copy = take(batch, text->size);
	if (!copy)
		return err_origin(-ENOMEM);
	if (text->size)
		memcpy(copy, text->data, text->size);
	text->data = copy;
	return 0;
}

/* ---- records ---- */

static int copy_message(struct batch *b, struct batch_entry *e, struct bytes *block,
			struct blob *blob)
{
	struct message_record *m = &e->message;
	int r = batch_copy(b, &m->from);

	if (r == 0)
		r = batch_copy(b, &m->meta);
	if (r == 0)
		r = batch_copy(b, &m->file);
	if (r == 0)
		r = batch_copy(b, &m->reason);
	if (r == 0)
		r = batch_copy(b, &m->history);
	if (r == 0 && !block)
		r = batch_copy(b, &m->body);
	if (r == 0 && block)
		e->block = bytes_ref(block);
	if (r == 0 && blob)
		e->blob = blob_ref(blob);
	return err_trace(r);
}

int batch_add_message(struct batch *batch, enum batch_kind kind, bool again,
		      const struct message_record *m, struct bytes *block,
		      struct blob *blob)
{
	struct batch_entry *e = batch_new_entry(batch, kind);
	int r;

	if (!e)
		return err_origin(-ENOMEM);
	e->again = again;
	e->message = *m;
	r = copy_message(batch, e, block, blob);
	if (r == 0)
		batch_put(batch, e);
	return err_trace(r);
}

int batch_add_name(struct batch *batch, const struct name_record *name)
{
	struct batch_entry *e = batch_new_entry(batch, BATCH_PUT_NAME);
	int r;

	if (!e)
		return err_origin(-ENOMEM);
	e->name = *name;
	r = batch_copy(batch, &e->name.name);
	if (r == 0)
		r = batch_copy(batch, &e->name.settings);
	if (r == 0)
		batch_put(batch, e);
	return err_trace(r);
}

int batch_add_dedup(struct batch *batch, const struct dedup_record *dedup, bool again)
{
	struct batch_entry *e = batch_new_entry(batch, BATCH_PUT_DEDUP);
	int r;

	if (!e)
		return err_origin(-ENOMEM);
	e->dedup = *dedup;
	e->again = again;
	r = batch_copy(batch, &e->dedup.id);
	if (r == 0)
		batch_put(batch, e);
	return err_trace(r);
}

int batch_add_drop(struct batch *batch, enum batch_kind kind, uint64_t number,
		   uint64_t body_size, struct blob *blob)
{
	struct batch_entry *e = batch_new_entry(batch, kind);

	if (!e)
		return err_origin(-ENOMEM);
	e->drop.number = number;
	e->drop.body_size = body_size;
	if (blob)
		e->blob = blob_ref(blob);
	batch_put(batch, e);
	return 0;
}

/* ---- receipts ---- */

struct receipt *batch_add_receipt(struct batch *batch, struct outlet *outlet,
				  struct slice header)
{
	size_t size = LENGTH_BYTES + header.size;
	struct receipt *r;

	if (size > RECEIPT_MAX)
		return NULL;
	r = take(batch, sizeof(*r) + size);
	if (!r)
		return NULL;
	*r = (struct receipt){ .outlet = outlet_ref(outlet), .size = size };
	frame_encode_length(r->frame, header.size);
	memcpy(r->frame + LENGTH_BYTES, header.data, header.size);
	*batch->last_receipt = r;
	batch->last_receipt = &r->next;
	return r;
}
