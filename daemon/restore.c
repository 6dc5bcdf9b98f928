/* SPDX-License-Identifier: MIT */

#include "restore.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "dedup.h"
#include "journal.h"
#include "log.h"
#include "queue_settings.h"
#include "store.h"

enum { SENDERS = 64, GENERATION_SHIFT = 24 };

/* One that a row has named. Several may name the same one. */
struct known_blob {
	struct map_node by_id;
	struct blob *blob;
};

struct restoration {
	struct broker *broker;
	struct map blobs;      /* struct known_blob */
	struct queue **queues; /* by id */
	size_t n_queues;
	struct bytes *senders[SENDERS]; /* "from" of some messages: many have the same */
	bool clean;
	uint64_t now_ms, n_messages;
};

/* ---- names ---- */

static struct queue *find_queue(const struct restoration *re, uint64_t id)
{
	size_t low = 0, high = re->n_queues;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (re->queues[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < re->n_queues && re->queues[low]->id == id ? re->queues[low] : NULL;
}

/* Names come in the order of their ids, a stray one in its place. */
static int note_queue(struct restoration *re, struct queue *queue)
{
	struct queue **grown;
	size_t at = re->n_queues;

	grown = realloc(re->queues, (re->n_queues + 1) * sizeof(struct queue *));
	if (!grown)
		return err_origin(-ENOMEM);
	re->queues = grown;
	for (; at && grown[at - 1]->id > queue->id; at--)
		grown[at] = grown[at - 1];
	grown[at] = queue;
	re->n_queues++;
	re->broker->next_queue_id = max_u64(re->broker->next_queue_id, queue->id + 1);
	return 0;
}

/* Deliveries show the name as "@ann.x". *ret_user NULL: it is not of a user. */
static int resolve_owner(const struct restoration *re, const char *text,
			 struct user **ret_user)
{
	int r;

	if (text[0] != '@')
		return 0;
	r = user_get(re->broker->users, (uid_t)strtoul(text + 1, NULL, 10), ret_user);
	if (r == 0)
		user_resolve(*ret_user);
	return err_trace(r);
}

static int make_queue(struct restoration *re, uint64_t id, struct slice name,
		      const struct kept_settings *kept, struct queue **ret_queue)
{
	struct broker *broker = re->broker;
	struct name_ref ref = { .size = name.size };
	struct user *user = NULL;
	struct queue *queue;
	int r;

	memcpy(ref.text, name.data, name.size);
	r = resolve_owner(re, ref.text, &user);
	if (r == 0)
		r = queue_new(broker, &ref, &kept->policy, &queue, NULL);
	user_unref(user);
	if (r < 0)
		return err_trace(r);
	queue->id = id;
	queue->settings = kept->settings;
	queue->has_own_settings = kept->own;
	r = queue_apply_rules(queue); /* they may have changed */
	if (r == 0)
		r = note_queue(re, queue);
	*ret_queue = queue;
	return err_trace(r);
}

/* What holds where a name's settings are lost: nobody but the daemon's user has a right. */
static void default_settings(const struct restoration *re, struct kept_settings *kept)
{
	*kept = (struct kept_settings){
		.policy = { .owner = re->broker->owner_uid,
			    .gid = (gid_t)-1,
			    .mode = 0600,
			    .plain_owner = re->broker->owner_uid,
			    .plain_gid = (gid_t)-1 },
	};
}

static int on_name(void *arg, const struct name_record *n)
{
	struct restoration *re = arg;
	struct kept_settings kept;
	struct queue *queue;
	int r;

	if (!n->name.size || n->name.size > NAME_CANONICAL_MAX)
		return 0;
	default_settings(re, &kept);
	r = n->settings.data
		    ? queue_settings_read(n->settings.data, n->settings.size, &kept)
		    : 0;
	if (r == -ENOMEM)
		return err_trace(r);
	return err_trace(make_queue(re, n->id, n->name, &kept, &queue));
}

/* Its name is lost, its messages are not. */
static int make_stray(struct restoration *re, uint64_t id, struct queue **ret_queue)
{
	struct kept_settings kept;
	char text[64];
	int n = snprintf(text, sizeof(text), "lost-and-found.%" PRIu64, id);

	default_settings(re, &kept);
	kept.policy.source = NAME_BY_SET;
	log_error("the name of a queue is lost: its messages are in %s", text);
	return err_trace(
		make_queue(re, id, (struct slice){ text, (size_t)n }, &kept, ret_queue));
}

/* ---- messages ---- */

/* A block with this text; NULL without memory. */
static struct bytes *share_sender(struct restoration *re, struct slice from)
{
	uint64_t hash = hash_bytes(&re->broker->name_key, from.data, from.size);
	struct bytes **place = &re->senders[hash % SENDERS];
	struct bytes *b = *place;

	if (!b || b->size != from.size || memcmp(b->data, from.data, from.size) != 0) {
		b = bytes_new_copy(from.data, from.size);
		if (!b)
			return NULL;
		bytes_unref(*place);
		*place = b;
	}
	return bytes_ref(b);
}

/* Borrowed; NULL without memory. */
static struct blob *get_blob(struct restoration *re, const struct message_record *m)
{
	struct map_node *node = map_find(&re->blobs, map_u64(m->blob));
	struct known_blob *known;

	if (node)
		return CONTAINER_OF(node, struct known_blob, by_id)->blob;
	if (map_reserve(&re->blobs) < 0)
		return NULL;
	known = malloc(sizeof(*known));
	if (!known)
		return NULL;
	known->blob =
		blob_new_stored(&re->broker->blobs, m->blob, m->body_size, m->blob_disk);
	if (!known->blob) {
		free(known);
		return NULL;
	}
	map_add(&re->blobs, &known->by_id, map_u64(m->blob));
	return known->blob;
}

static void forget_blobs(struct restoration *re)
{
	struct map_node *node;

	while ((node = map_first(&re->blobs))) {
		struct known_blob *known = CONTAINER_OF(node, struct known_blob, by_id);

		map_remove(&re->blobs, node);
		blob_unref(known->blob);
		free(known);
	}
	map_deinit(&re->blobs);
}

/* Ids of files that are there are not given again, whatever is known of earlier starts. */
static bool keeps_blob(void *arg, uint64_t id)
{
	struct restoration *re = arg;
	struct blobs *blobs = &re->broker->blobs;

	blobs->next_id = max_u64(blobs->next_id, id + 1);
	return map_find(&re->blobs, map_u64(id)) != NULL;
}

static struct message *make_message(struct restoration *re,
				    const struct message_record *r)
{
	struct message_content content = {
		.meta = r->meta.data,
		.meta_size = r->meta.size,
		.body = r->body.data,
		.body_size = r->body.size,
		.blob = r->blob ? get_blob(re, r) : NULL,
		.file = r->file.data,
		.file_size = r->file.size,
		.priority = min_u64(r->priority, LIMIT_PRIORITY_MAX),
		.ttl_ms = UINT64_MAX,
	};
	struct message *m;

	if (r->blob && !content.blob)
		return NULL;
	content.from = share_sender(re, r->from);
	m = content.from ? message_new(&content) : NULL;
	bytes_unref(content.from);
	if (!m)
		return NULL;
	m->number = r->number;
	m->sent_ms = r->sent_ms;
	m->attempts = r->attempts;
	m->deliveries = r->deliveries;
	m->in_hand = r->in_hand;
	m->stored = true;
	if (r->history.size &&
	    message_set_history(m, r->history.data, r->history.size) < 0)
		return message_free(m);
	return m;
}

static uint64_t left_ms(const struct restoration *re, uint64_t at_ms)
{
	return at_ms > re->now_ms ? at_ms - re->now_ms : 0;
}

/* After an end without order nobody knows what was leased: who has a message in hand gets
 * the time to come back and acknowledge it. */
static void enter_state(struct restoration *re, struct message *m,
			const struct message_record *r)
{
	uint64_t delay_ms = left_ms(re, r->due_ms);

	if (!re->clean)
		delay_ms = max_u64(delay_ms, queue_lost_delay_ms(m->share->queue));
	m->out_end = m->leased_ns = 0;
	if (r->reason.data)
		message_set_reason(m, strndup(r->reason.data, r->reason.size));
	message_set_state(m, r->dead ? MESSAGE_DEAD : MESSAGE_DELAYED, delay_ms);
}

/* Those of a memory queue were kept for this one start. */
static void settle_kept(struct message *m, bool kept)
{
	if (!kept)
		return;
	if (queue_is_durable(m->share->queue))
		journal_set(m);
	else
		journal_drop(m);
}

static int on_message(void *arg, const struct message_record *record)
{
	struct restoration *re = arg;
	struct queue *queue = find_queue(re, record->queue);
	struct message *m;
	int r = queue ? 0 : make_stray(re, record->queue, &queue);

	if (r < 0)
		return err_trace(r);
	m = make_message(re, record);
	if (!m)
		return err_origin(-ENOMEM);
	r = queue_restore(queue, record->uid, m);
	if (r < 0) {
		message_free(m);
		return err_trace(r);
	}
	re->broker->next_number = max_u64(re->broker->next_number, m->number + 1);
	re->n_messages++;
	enter_state(re, m, record);
	if (record->expires_ms)
		r = message_start_ttl(m, re->broker, left_ms(re, record->expires_ms));
	if (r < 0)
		return err_trace(r);
	settle_kept(m, record->kept);
	if (m->state == MESSAGE_READY) /* whoever had it had the time to come back */
		(void)message_die_if_used_up(m);
	return 0;
}

/* ---- ids of sends ---- */

/* With its message, of a memory queue; see settle_kept(). Where that is over, the id is to
 * be known also after an end without order. */
static bool is_kept(const struct restoration *re, const struct queue *queue,
		    uint64_t number)
{
	const struct message *m = message_find(re->broker, number);

	return !queue_is_durable(queue) && m && !m->stored;
}

static int on_dedup(void *arg, const struct dedup_record *record)
{
	struct restoration *re = arg;
	struct queue *queue = find_queue(re, record->queue);
	struct dedup *d;
	struct user *user;
	int r;

	if (!queue)
		return 0;
	d = dedup_new(record->id.data ? record->id.data : "", record->id.size);
	if (!d)
		return err_origin(-ENOMEM);
	r = user_get(re->broker->users, record->uid, &user);
	if (r < 0) {
		free(d);
		return err_trace(r);
	}
	d->stored = true;
	r = dedup_add(d, queue, user, record->number,
		      re->now_ms > record->sent_ms ? re->now_ms - record->sent_ms : 0);
	if (r < 0)
		free(d);
	else if (is_kept(re, queue, record->number))
		journal_drop_dedup(d);
	user_unref(user);
	return err_trace(r);
}

/* ---- the whole ---- */

static void on_stored(void *owner, uint64_t number, bool ok)
{
	struct broker *broker = owner;
	struct message *m = message_find(broker, number);

	broker->store_failures += !ok;
	if (m)
		message_stored(m, ok);
}

static int on_dump(void *owner, uint64_t *cursor)
{
	return journal_dump(owner, cursor);
}

static uint64_t get_next_number(void *owner)
{
	return ((struct broker *)owner)->next_number;
}

/* Without the spool the next large body fails, and it is tried again. */
static void follow_spool(struct blobs *blobs)
{
	int r = blobs_open_again(blobs);

	if (r < 0)
		log_error("cannot open %s/spool: %s", blobs->state, strerror(-r));
}

static void on_spool_gone(struct blobs *blobs)
{
	struct store *store = CONTAINER_OF(blobs, struct broker, blobs)->store;

	if (store)
		store_spool_gone(store);
}

/* Sends that have waited for room may enter. */
static void on_works(void *owner)
{
	struct broker *broker = owner;

	follow_spool(&broker->blobs);
	LIST_FOREACH(link, &broker->all_names) {
		struct queue *q = queue_of_name(LIST_ENTRY(link, struct name, link));

		if (!list_is_empty(&q->waiting))
			queue_work_later(q);
	}
}

static uint64_t get_buffer_max(void *owner)
{
	return ((struct broker *)owner)->limits->store_buffer;
}

static const struct store_ops store_ops = {
	.stored = on_stored,
	.dump = on_dump,
	.next_number = get_next_number,
	.buffer_max = get_buffer_max,
	.works = on_works,
};

static void say_restored(const struct restoration *re, const char *directory)
{
	log_info("%s has %" PRIu64 " messages in %zu queues%s", directory, re->n_messages,
		 re->n_queues,
		 re->clean || !re->n_messages
			 ? ""
			 : "; ipcd was not stopped in order, so they are held back for "
			   "lost_delay");
}

/* Should it be stopped before, nobody knows any better what is in somebody's hands. */
static void note_held_back(const struct restoration *re)
{
	uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);

	if (re->clean)
		return;
	for (size_t i = 0; i < re->n_queues; i++)
		re->broker->held_until_ns = max_u64(
			re->broker->held_until_ns,
			deadline_after(now_ns, queue_lost_delay_ms(re->queues[i])));
}

static int load(struct restoration *re, const char *directory)
{
	struct broker *broker = re->broker;
	const struct store_head *head = store_get_head(broker->store);
	int r;

	re->clean = head->clean;
	re->now_ms = journal_clock_ms(broker, clock_ns(CLOCK_BOOTTIME));
	r = store_load(broker->store, on_name, on_message, on_dedup, re);
	if (r < 0) {
		log_error("cannot load the store in %s: %s (%s)", directory, strerror(-r),
			  err_trail());
		return err_trace(r);
	}
	note_held_back(re);
	r = store_judge(broker->store);
	if (r < 0)
		return err_trace(r);
	broker->next_number = max_u64(broker->next_number, head->next_number);
	broker->lease_key = head->lease_key;
	broker->delivery_base = head->generation << GENERATION_SHIFT;
	blobs_begin(&broker->blobs, head->generation);
	return err_trace(store_start(broker->store, keeps_blob, re));
}

static int open_store(struct broker *broker, const char *directory)
{
	int r = blobs_open(&broker->blobs, directory);

	if (r < 0) {
		log_error("cannot open %s/spool: %s", directory, strerror(-r));
		return err_trace(r);
	}
	broker->blobs.gone = on_spool_gone;
	return err_trace(
		store_open(&broker->store, directory, broker->loop, &store_ops, broker));
}

int restore(struct broker *broker, const char *directory)
{
	struct restoration re = { .broker = broker };
	int r = open_store(broker, directory);

	if (r < 0)
		return err_trace(r);
	map_init(&re.blobs);
	r = load(&re, directory);
	if (r == 0)
		say_restored(&re, directory);
	else
		broker->blobs.keep = true; /* all stays as it was */
	forget_blobs(&re);
	for (size_t i = 0; i < SENDERS; i++)
		bytes_unref(re.senders[i]);
	free(re.queues);
	return err_trace(r);
}
