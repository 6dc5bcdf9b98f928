/* SPDX-License-Identifier: MIT */

#include "message.h"

#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "dedup.h"
#include "history.h"
#include "journal.h"
#include "queue.h"
#include "receiver.h"
#include "share.h"

enum { SHORT_REASON = 64 }; /* all of our own are */

/* ---- what few messages have ---- */

/* NULL without memory. */
static struct message_more *more_get(struct message *m)
{
	if (!m->more)
		m->more = calloc(1, sizeof(*m->more));
	if (m->more)
		m->more->message = m;
	return m->more;
}

static bool set_dedup(struct message *m, const struct message_content *content)
{
	struct message_more *more = more_get(m);

	if (more)
		more->dedup = dedup_new(content->dedup_id, content->dedup_size);
	return more && more->dedup;
}

int message_set_body(struct message *m, struct blob *blob, struct bytes *block,
		     const char *file, size_t file_size)
{
	struct message_more *more = more_get(m);
	char *copy = file_size ? malloc(file_size) : NULL;

	if (!more || (file_size && !copy)) {
		free(copy);
		return err_origin(-ENOMEM);
	}
	if (file_size)
		memcpy(copy, file, file_size);
	more->file = copy;
	more->file_size = file_size;
	if (blob)
		more->blob = blob_ref(blob);
	if (block) {
		m->body = bytes_ref(block);
		m->body_size = (uint32_t)block->size;
	}
	return 0;
}

/* ---- life ---- */

struct message *message_new(const struct message_content *content)
{
	bool block = content->body_size > MESSAGE_INLINE_MAX;
	struct bytes *body = NULL;
	struct message *m;

	if (block && content->body_block)
		body = bytes_ref(content->body_block);
	else if (block)
		body = bytes_new_copy(content->body, content->body_size);
	if (block && !body)
		return NULL;
	m = malloc(sizeof(*m) + content->meta_size + (block ? 0 : content->body_size));
	if (!m) {
		bytes_unref(body);
		return NULL;
	}
	*m = (struct message){
		.from = bytes_ref(content->from),
		.body = body,
		.delay_ms = content->delay_ms,
		.ttl_ms = content->ttl_ms,
		.body_size = (uint32_t)content->body_size,
		.meta_size = (uint32_t)content->meta_size,
		.priority = (uint8_t)content->priority,
	};
	list_init(&m->in_queue);
	list_init(&m->link);
	if (content->dedup_id && !set_dedup(m, content))
		return message_free(m);
	if ((content->blob || content->file_size) &&
	    message_set_body(m, content->blob, NULL, content->file, content->file_size) <
		    0)
		return message_free(m);
	if (content->meta_size)
		memcpy(m->data, content->meta, content->meta_size);
	if (!block && content->body_size)
		memcpy(m->data + m->meta_size,
		       content->body_block ? content->body_block->data : content->body,
		       content->body_size);
	return m;
}

struct message *message_free(struct message *m)
{
	if (m) {
		bytes_unref(m->from);
		bytes_unref(m->body);
		if (m->more) {
			free(m->more->reason);
			dedup_abandon(m->more->dedup);
			free(m->more->history);
			free(m->more->file);
			blob_unref(m->more->blob);
		}
		free(m->more);
		free(m);
	}
	return NULL;
}

uint64_t message_cost(const struct message *m)
{
	const struct message_more *more = m->more;
	uint64_t cost = sizeof(*m) + m->meta_size + (uint64_t)m->body_size;

	if (more)
		cost += more->history_size + more->file_size +
			(more->reason ? strlen(more->reason) : 0);
	/* one that is all holes is a descriptor of ours, too */
	if (more && more->blob && blob_is_in_memory(more->blob))
		cost += max_u64(more->blob->disk, LIMIT_PIECE_MAX);
	return cost;
}

uint64_t message_file_cost(const struct message *m)
{
	const struct blob *b = message_blob(m);

	return b && b->fd < 0 ? b->disk : 0;
}

uint64_t message_size(const struct message *m)
{
	const struct blob *b = message_blob(m);

	return b ? b->size : m->body_size;
}

const char *message_state_name(enum message_state state)
{
	static const char *const names[] = {
		[MESSAGE_NEW] = "new",	     [MESSAGE_STORING] = "storing",
		[MESSAGE_READY] = "ready",   [MESSAGE_DELAYED] = "delayed",
		[MESSAGE_LEASED] = "leased", [MESSAGE_DEAD] = "dead",
	};

	return names[state];
}

struct message *message_find(const struct broker *broker, uint64_t number)
{
	struct map_node *node = map_find(&broker->messages, map_sequential(number));

	return node ? CONTAINER_OF(node, struct message, by_number) : NULL;
}

uint64_t message_token(const struct message *m, uint64_t delivery, uid_t uid)
{
	/* when it was sent: where a backup was put back numbers come once more */
	const uint64_t words[] = { m->number, delivery, uid, m->sent_ms };

	return hash_bytes(&m->share->queue->broker->lease_key, words, sizeof(words));
}

int message_set_history(struct message *m, const char *text, size_t size)
{
	struct message_more *more = more_get(m);

	if (!more)
		return err_origin(-ENOMEM);
	more->history = malloc(size);
	if (!more->history)
		return err_origin(-ENOMEM);
	memcpy(more->history, text, size);
	more->history_size = size;
	return 0;
}

/* It may be long, and is not the sender's: it takes no room that there is not. */
static bool has_room_for_reason(const struct message *m, const char *reason)
{
	size_t size = strlen(reason);

	return size <= SHORT_REASON || !m->share || share_has_room_for_more(m, size);
}

static void replace_reason(struct message *m, char *reason)
{
	uint64_t cost = message_cost(m);

	free(m->more->reason);
	m->more->reason = reason;
	if (m->share)
		share_recharge(m, cost);
}

void message_set_reason(struct message *m, char *reason)
{
	struct message_more *more = reason ? more_get(m) : m->more;

	if (!more) {
		free(reason);
		return;
	}
	replace_reason(m, NULL);
	if (reason && has_room_for_reason(m, reason))
		replace_reason(m, reason);
	else
		free(reason);
}

int message_start_ttl(struct message *m, struct broker *broker, uint64_t ttl_ms)
{
	struct message_more *more;
	int r;

	if (ttl_ms == UINT64_MAX)
		return 0;
	more = more_get(m);
	if (!more)
		return err_origin(-ENOMEM);
	r = heap_add(&broker->expiring, &more->expiry,
		     deadline_after(clock_ns(CLOCK_BOOTTIME), ttl_ms));
	if (r == 0)
		broker_arm_timers(broker);
	return err_trace(r);
}

void message_end_ttl(struct message *m)
{
	struct broker *broker = m->share->queue->broker;

	if (!m->more || !heap_has(&m->more->expiry))
		return;
	heap_remove(&broker->expiring, &m->more->expiry);
	broker_arm_timers(broker);
}

/* ---- the door between the states ---- */

static void leave_heap(struct message *m, struct heap *heap)
{
	heap_remove(heap, &m->place);
	m->in_heap = false;
	list_init(&m->link);
}

static int enter_heap(struct message *m, struct heap *heap, uint64_t key)
{
	int r;

	m->place = (struct heap_node){ 0 };
	r = heap_add(heap, &m->place, key);
	m->in_heap = r == 0;
	if (r < 0)
		list_init(&m->link);
	return err_trace(r);
}

static void leave_state(struct message *m)
{
	struct queue *q = m->share->queue;

	switch ((enum message_state)m->state) {
	case MESSAGE_READY:
		if (m->in_heap) {
			leave_heap(m, &q->returned);
		} else {
			list_remove(&m->link);
			if (list_is_empty(&q->fresh[m->priority]))
				q->fresh_priorities &= (uint16_t) ~(1u << m->priority);
		}
		break;
	case MESSAGE_DELAYED:
		leave_heap(m, &q->broker->delayed);
		break;
	case MESSAGE_LEASED:
		receiver_unlease(m->holder, m);
		m->holder = NULL;
		break;
	case MESSAGE_NEW:
	case MESSAGE_STORING:
	case MESSAGE_DEAD:
	case MESSAGE_N_STATES:
		break;
	}
	q->n_in_state[m->state]--;
}

/* Fresh lists are in order of numbers: what is older than the last one goes to the heap. */
static void enter_ready(struct message *m)
{
	struct queue *q = m->share->queue;
	struct list *fresh = &q->fresh[m->priority];
	const struct message *last = LIST_ENTRY(fresh->prev, struct message, link);
	uint64_t key = (uint64_t)m->priority << 56 | m->number;

	if (list_is_empty(fresh) || last->number < m->number)
		list_add_tail(fresh, &m->link);
	else if (enter_heap(m, &q->returned, key) == 0)
		return;
	else /* no memory for the heap: out of order, but not lost */
		list_add_head(fresh, &m->link);
	q->fresh_priorities |= (uint16_t)(1u << m->priority);
}

static bool enter_delayed(struct message *m, uint64_t delay_ms)
{
	struct broker *broker = m->share->queue->broker;
	uint64_t due = deadline_after(clock_ns(CLOCK_BOOTTIME), delay_ms);

	if (enter_heap(m, &broker->delayed, due) < 0)
		return false;
	broker_arm_timers(broker);
	return true;
}

void message_set_state(struct message *m, enum message_state state, uint64_t delay_ms)
{
	struct queue *q = m->share->queue;
	if (m->state != MESSAGE_NEW)
		leave_state(m);
	if (state == MESSAGE_DELAYED && (!delay_ms || !enter_delayed(m, delay_ms)))
		state = MESSAGE_READY;
	if (state == MESSAGE_READY)
		enter_ready(m);
	m->state = (uint8_t)state;
	q->n_in_state[state]++;
	if (state == MESSAGE_READY)
		queue_work_later(q);
}

void message_leave(struct message *m)
{
	leave_state(m);
	m->state = MESSAGE_NEW;
}

void message_revive(struct message *m)
{
	m->attempts = 0;
	if (m->state != MESSAGE_NEW)
		message_leave(m);
	message_set_reason(m, NULL);
	queue_note_alive(m->share->queue, m);
	message_set_state(m, MESSAGE_READY, 0);
	journal_set(m);
}

/* ---- outcomes ---- */

static struct confirm *first_confirm(const struct message *m)
{
	struct map_node *node =
		map_find(&m->share->queue->broker->confirms, map_u64(m->number));

	return node ? CONTAINER_OF(node, struct confirm, node) : NULL;
}

static void be_first(struct confirm *confirm, struct broker *broker, uint64_t hash)
{
	confirm->is_first = true;
	map_add(&broker->confirms, &confirm->node, hash);
}

void confirm_add(struct confirm *confirm, struct message *m)
{
	struct confirm *first = m->confirm ? first_confirm(m) : NULL;

	m->confirm = true;
	confirm->is_first = false;
	list_init(&confirm->others);
	if (first)
		list_add_tail(&first->others, &confirm->others);
	else
		be_first(confirm, m->share->queue->broker, map_u64(m->number));
}

void confirm_remove(struct confirm *confirm, struct broker *broker)
{
	struct confirm *next = LIST_FIRST(&confirm->others, struct confirm, others);

	list_remove(&confirm->others);
	if (!confirm->is_first)
		return;
	map_remove(&broker->confirms, &confirm->node);
	if (next)
		be_first(next, broker, confirm->node.hash);
}

static void tell_outcome(struct message *m, const char *outcome)
{
	struct broker *broker = m->share->queue->broker;
	struct confirm *confirm;

	m->confirm = false;
	while ((confirm = first_confirm(m))) {
		confirm_remove(confirm, broker);
		confirm->stored = m->stored;
		confirm->settled(confirm, m->number, outcome);
	}
}

void message_end(struct message *m, const char *outcome)
{
	struct broker *broker = m->share->queue->broker;

	leave_state(m);
	if (m->confirm)
		tell_outcome(m, outcome);
	message_end_ttl(m);
	journal_drop(m);
	cursors_unlist(m->share->queue, m);
	map_remove(&broker->messages, &m->by_number);
	share_uncharge(m);
	message_free(m);
}

void message_ack(struct message *m)
{
	m->share->queue->counters.acked++;
	m->share->queue->broker->counters.acked++;
	rate_count(&m->share->queue->acked_rate, m->share->queue->broker->loop->now_ns);
	message_end(m, "acked");
}

bool message_is_live(const struct message *m)
{
	return m->more && m->more->blob && m->more->blob->live;
}

/* It is to be kept, also one whose time was up in the hands of its receiver. */
static void end_ttl_for_good(struct message *m)
{
	m->expired = false;
	message_end_ttl(m);
}

static void message_die(struct message *m, const char *outcome, char *reason)
{
	struct queue *q = m->share->queue;

	q->counters.died++;
	q->broker->counters.died++;
	if (message_is_live(m)) { /* nothing is left to be looked at */
		free(reason);
		message_end(m, outcome);
		return;
	}
	if (m->confirm)
		tell_outcome(m, outcome);
	message_set_state(m, MESSAGE_DEAD, 0);
	message_set_reason(m, reason);
	end_ttl_for_good(m);
	journal_set(m);
}

static void message_expire(struct message *m)
{
	struct queue *q = m->share->queue;

	q->counters.expired++;
	q->broker->counters.expired++;
	queue_work_later(q); /* it may have stood before others, see queue_first_for() */
	message_end(m, "expired");
}

void message_stored(struct message *m, bool ok)
{
	uint64_t delay_ms = m->delay_ms;

	if (m->state != MESSAGE_STORING)
		return;
	if (m->more && m->more->dedup)
		dedup_settle(m->more->dedup, ok);
	if (!ok) {
		m->stored = false;
		m->share->queue->counters.sent--;
		m->share->queue->broker->counters.sent--;
		message_end(m, "lost");
		return;
	}
	if (m->expired) {
		message_expire(m);
		return;
	}
	m->out_end = m->leased_ns = 0;
	message_set_state(m, delay_ms ? MESSAGE_DELAYED : MESSAGE_READY, delay_ms);
}

/* The one place that notes how an attempt ended: before it is anything else. */
static void end_attempt(struct message *m, const char *reason)
{
	struct message_more *more = m->expired ? NULL : more_get(m);
	bool noted = m->state != MESSAGE_LEASED && !m->in_hand;

	if (more)
		history_note(m, more, reason, noted);
}

static bool is_used_up(const struct message *m)
{
	return m->attempts >= queue_max_attempts(m->share->queue);
}

/* reason is taken. */
static void put_off(struct message *m, uint64_t delay_ms, char *reason)
{
	message_set_state(m, MESSAGE_DELAYED, delay_ms);
	message_set_reason(m, reason);
	journal_set(m);
}

/* Due again after delay_ms, or dead if that was the last attempt. reason is taken. */
static void message_return(struct message *m, uint64_t delay_ms, char *reason)
{
	if (m->expired) {
		free(reason);
		message_expire(m);
		return;
	}
	if (is_used_up(m))
		message_die(m, "dead", reason);
	else
		put_off(m, delay_ms, reason);
}

bool message_die_if_used_up(struct message *m)
{
	const char *reason = message_reason(m);

	if (!is_used_up(m))
		return false;
	message_die(m, "dead", reason ? strdup(reason) : NULL);
	return true;
}

/* A verdict on what was in hand when the daemon ended: that was an attempt after all. */
static void resume_attempt(struct message *m)
{
	if (m->in_hand)
		m->attempts++;
}

void message_nack(struct message *m, uint64_t delay_ms, bool count, char *reason)
{
	struct queue *q = m->share->queue;

	resume_attempt(m);
	q->counters.nacked++;
	q->broker->counters.nacked++;
	if (count || reason) /* what does not count is noted only if something was said */
		end_attempt(m, reason);
	m->in_hand = false;
	if (!count && m->attempts)
		m->attempts--;
	if (delay_ms == UINT64_MAX)
		delay_ms = queue_backoff_ms(q, m->attempts);
	m->deliveries++; /* a verdict, so the old token is used up */
	message_return(m, delay_ms, reason);
}

void message_reject(struct message *m, char *reason)
{
	struct queue *q = m->share->queue;

	resume_attempt(m);
	q->counters.rejected++;
	q->broker->counters.rejected++;
	end_ttl_for_good(m);
	end_attempt(m, reason);
	m->in_hand = false;
	m->deliveries++; /* as for nack: it may be revived */
	message_die(m, "rejected", reason);
}

void message_lost(struct message *m, bool left)
{
	static const char lost[] = "the receiver's connection ended";
	struct queue *q = m->share->queue;

	if (q->broker->stopping) { /* whoever has it may acknowledge it after the start */
		m->attempts--;
		m->in_hand = true;
		message_set_state(m, MESSAGE_DELAYED, queue_lost_delay_ms(q));
		journal_set(m);
		return;
	}
	if (!left) {
		m->attempts--;
		if (m->expired)
			message_expire(m);
		else
			message_set_state(m, MESSAGE_READY, 0);
		return;
	}
	q->counters.lost++;
	q->broker->counters.lost++;
	if (message_is_live(m)) { /* whoever had it may have used it */
		message_end(m, "lost");
		return;
	}
	end_attempt(m, lost);
	if (m->expired || !queue_lost_delay_ms(q))
		message_return(m, 0, strdup(lost));
	else /* also if that was the last attempt: whoever had it may come back */
		put_off(m, queue_lost_delay_ms(q), strdup(lost));
}

void message_put_back(struct message *m, uint64_t delay_ms)
{
	m->attempts--;
	if (m->expired)
		message_expire(m);
	else
		message_set_state(m, MESSAGE_DELAYED, delay_ms);
}

void message_spoil(struct message *m)
{
	static const char spoiled[] = "its body cannot be read any more";

	end_ttl_for_good(m);
	end_attempt(m, spoiled);
	message_die(m, "dead", strdup(spoiled));
}

void message_overdue(struct message *m)
{
	static const char overdue[] = "not acknowledged within ack_wait_ms";
	struct queue *q = m->share->queue;

	q->counters.lost++;
	q->broker->counters.lost++;
	if (message_is_live(m)) { /* whoever has it may still use it */
		message_end(m, "lost");
		return;
	}
	end_attempt(m, overdue);
	message_return(m, 0, strdup(overdue));
}

/* ---- timers ---- */

bool message_is_over(const struct message *m)
{
	return m->more && heap_has(&m->more->expiry) &&
	       m->more->expiry.key <= clock_ns(CLOCK_BOOTTIME);
}

static struct heap_node *first_due(const struct heap *heap, uint64_t now_ns, int *left)
{
	struct heap_node *first = heap_first(heap);

	return first && first->key <= now_ns && (*left)-- ? first : NULL;
}

void message_delayed_due(struct broker *broker)
{
	uint64_t now = clock_ns(CLOCK_BOOTTIME);
	int left = LOOP_AT_ONCE;
	struct heap_node *node;

	while ((node = first_due(&broker->delayed, now, &left))) {
		struct message *m = CONTAINER_OF(node, struct message, place);

		if (!m->attempts || !message_die_if_used_up(m))
			message_set_state(m, MESSAGE_READY, 0);
	}
	broker_arm_timers(broker);
}

void message_expiring_due(struct broker *broker)
{
	uint64_t now = clock_ns(CLOCK_BOOTTIME);
	int left = LOOP_AT_ONCE;
	struct heap_node *node;

	while ((node = first_due(&broker->expiring, now, &left))) {
		struct message *m =
			CONTAINER_OF(node, struct message_more, expiry)->message;

		heap_remove(&broker->expiring, node);
		/* who has it in hand may finish; should it come back it ends then. And what
		 * is on its way to the disk may not come there */
		if (m->state == MESSAGE_LEASED || m->state == MESSAGE_STORING) {
			m->expired = true;
			continue;
		}
		message_expire(m);
	}
	broker_arm_timers(broker);
}
