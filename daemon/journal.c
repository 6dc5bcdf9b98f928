/* SPDX-License-Identifier: MIT */

#include "journal.h"

#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "dedup.h"
#include "queue.h"
#include "queue_settings.h"
#include "store.h"

enum { DUMP_AT_ONCE = 2000 };

/* ---- messages ---- */

static uint64_t clock_of_ms(const struct broker *broker, int64_t boottime_ms)
{
	int64_t at = boottime_ms + store_clock_base_ms(broker->store);

	return at > 0 ? (uint64_t)at : 1;
}

uint64_t journal_clock_ms(const struct broker *broker, uint64_t boottime_ns)
{
	return clock_of_ms(broker, (int64_t)(boottime_ns / NS_PER_MS));
}

static uint64_t due_ms(const struct message *m)
{
	const struct broker *broker = m->share->queue->broker;

	if (m->state == MESSAGE_DELAYED)
		return journal_clock_ms(broker, m->place.key);
	if (m->state == MESSAGE_STORING && m->delay_ms)
		return journal_clock_ms(broker, deadline_after(clock_ns(CLOCK_BOOTTIME),
							       m->delay_ms));
	return 0;
}

/* One whose time was up in the hands of a receiver ends as soon as it comes back. */
static uint64_t expires_ms(const struct message *m)
{
	if (m->expired)
		return 1;
	if (!m->more || !heap_has(&m->more->expiry))
		return 0;
	return journal_clock_ms(m->share->queue->broker, m->more->expiry.key);
}

static struct slice text_slice(const char *text)
{
	return (struct slice){ text, text ? strlen(text) : 0 };
}

static struct message_record record_of(const struct message *m)
{
	const struct message_more *more = m->more;
	const struct blob *blob = message_blob(m);
	bool leased = m->state ==
		      MESSAGE_LEASED; /* the end of the daemon is no attempt */

	return (struct message_record){
		.number = m->number,
		.uid = m->share->user->uid,
		.priority = m->priority,
		.sent_ms = m->sent_ms,
		.expires_ms = expires_ms(m),
		.from = { m->from->data, m->from->size },
		.meta = { m->meta_size ? m->data : NULL, m->meta_size },
		.file = { more ? more->file : NULL, more ? more->file_size : 0 },
		.body = { blob ? NULL : message_body(m), m->body_size },
		.body_size = message_size(m),
		.blob = blob ? blob->id : 0,
		.blob_fd = blob ? blob->fd : -1,
		.blob_synced = blob && blob->synced,
		.queue = m->share->queue->id,
		.dead = m->state == MESSAGE_DEAD,
		.kept = !m->stored,
		.in_hand = m->in_hand || leased,
		.attempts = m->attempts - leased,
		.deliveries = m->deliveries,
		.due_ms = due_ms(m),
		.reason = text_slice(message_reason(m)),
		.history = { more ? more->history : NULL, more ? more->history_size : 0 },
	};
}

/* As it is to be put. */
static struct message_record new_record_of(struct message *m)
{
	if (message_blob(m))
		blob_name(message_blob(m));
	return record_of(m);
}

int journal_send(struct message *m)
{
	struct message_record record;
	int r;

	m->stored = true;
	record = new_record_of(m);
	r = store_put_message(m->share->queue->broker->store, &record, m->body,
			      message_blob(m));
	if (r < 0)
		m->stored = false;
	return err_trace(r);
}

static void put_again(struct message *m)
{
	struct message_record record = new_record_of(m);

	store_put_message_again(m->share->queue->broker->store, &record, m->body,
				message_blob(m));
}

void journal_adopt(struct message *m)
{
	if (m->stored || message_is_live(m))
		return;
	m->stored = true;
	put_again(m);
}

void journal_set(struct message *m)
{
	struct message_record record;

	if (!m->stored)
		return;
	record = record_of(m);
	store_set_message(m->share->queue->broker->store, &record);
}

void journal_drop(struct message *m)
{
	if (m->stored)
		store_drop_message(m->share->queue->broker->store, m->number,
				   m->body_size, message_blob(m));
	m->stored = false;
}

/* ---- names ---- */

void journal_name(struct queue *queue)
{
	struct broker *broker = queue->broker;
	_cleanup_buf_ struct buf settings = BUF_INIT;
	struct name_record record = {
		.id = queue->id,
		.name = { queue->name.text, queue->name.size },
	};

	if (!broker->store)
		return;
	if (queue_settings_write(queue, &settings) < 0) {
		store_renew(broker->store);
		return;
	}
	record.settings = (struct slice){ settings.data, settings.size };
	store_put_name(broker->store, &record);
}

void journal_drop_name(struct queue *queue)
{
	if (queue->broker->store)
		store_drop_name(queue->broker->store, queue->id);
}

/* ---- ids of sends ---- */

static void put_dedup(struct dedup *d, bool again)
{
	const struct dedup_record record = {
		.number = d->number,
		.queue = d->queue->id,
		.uid = d->user->uid,
		.sent_ms = clock_of_ms(d->queue->broker, d->sent_ms),
		.id = { d->id, d->size },
	};

	d->stored = true;
	store_put_dedup(d->queue->broker->store, &record, again);
}

void journal_dedup(struct dedup *d)
{
	put_dedup(d, false);
}

void journal_keep_dedup(struct dedup *d)
{
	if (!d->stored)
		put_dedup(d, true);
}

void journal_drop_dedup(struct dedup *d)
{
	if (d->stored)
		store_drop_dedup(d->queue->broker->store, d->number);
	d->stored = false;
}

/* ---- everything ---- */

/* Does the store have it, or is to have it? */
static bool is_kept(const struct message *m)
{
	return m->stored || (m->share->queue->broker->keeps_all && !message_is_live(m));
}

void journal_keep_all(struct broker *broker)
{
	if (!broker->store)
		return;
	broker->keeps_all = true;
	LIST_FOREACH(name_link, &broker->all_names) {
		struct queue *q = queue_of_name(LIST_ENTRY(name_link, struct name, link));

		LIST_FOREACH(link, &q->all) {
			struct message *m = LIST_ENTRY(link, struct message, in_queue);

			if (!m->stored && is_kept(m))
				put_again(m);
		}
	}
	dedup_keep_all(broker);
}

/* The numbers of all messages there are at the start of a dump. */
static int note_numbers(struct broker *broker)
{
	uint64_t *numbers = calloc(broker->messages.n + 1, sizeof(*numbers));
	size_t n = 0;

	if (!numbers)
		return err_origin(-ENOMEM);
	LIST_FOREACH(name_link, &broker->all_names) {
		struct queue *q = queue_of_name(LIST_ENTRY(name_link, struct name, link));

		LIST_FOREACH(link, &q->all)
			numbers[n++] = LIST_ENTRY(link, struct message, in_queue)->number;
	}
	free(broker->dump_numbers);
	broker->dump_numbers = numbers;
	broker->n_dump_numbers = n;
	return 0;
}

/* A message that is put, changed or dropped meanwhile goes into the file in that order. */
static int dump_messages(struct broker *broker, uint64_t *cursor)
{
	for (unsigned int n = 0; *cursor < broker->n_dump_numbers; (*cursor)++, n++) {
		struct message *m = message_find(broker, broker->dump_numbers[*cursor]);

		if (n == DUMP_AT_ONCE)
			return 0;
		if (m && is_kept(m) && m->state != MESSAGE_STORING)
			put_again(m);
	}
	free(broker->dump_numbers);
	broker->dump_numbers = NULL;
	return 1;
}

static void dump_names(struct broker *broker)
{
	LIST_FOREACH(link, &broker->all_names)
		journal_name(queue_of_name(LIST_ENTRY(link, struct name, link)));
	LIST_FOREACH(link, &broker->all_dedups) {
		struct dedup *d = LIST_ENTRY(link, struct dedup, in_all);

		if (d->stored)
			put_dedup(d, true);
	}
}

int journal_dump(struct broker *broker, uint64_t *cursor)
{
	int r = *cursor ? 0 : note_numbers(broker);

	if (r < 0)
		return err_trace(r);
	if (!*cursor)
		dump_names(broker);
	return dump_messages(broker, cursor);
}
