/* SPDX-License-Identifier: MIT */

#include "queue.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "receiver.h"

/* ---- life ---- */

static void run_admission(struct deferred *deferred);

static int build_fragment(struct queue *queue)
{
	int r = buf_append_string(&queue->fragment, "\"queue\":\"");

	if (r == 0)
		r = name_append_display(&queue->name, &queue->fragment);
	if (r == 0)
		r = buf_append_string(&queue->fragment, "\"");
	return err_trace(r);
}

static void queue_init(struct queue *queue, struct broker *broker)
{
	*queue = (struct queue){ .broker = broker };
	for (size_t i = 0; i < ARRAY_SIZE(queue->fresh); i++)
		list_init(&queue->fresh[i]);
	heap_init(&queue->returned);
	list_init(&queue->all);
	map_init(&queue->shares);
	list_init(&queue->hungry);
	list_init(&queue->waiting);
	deferred_init(&queue->admit, run_admission);
}

static int queue_new(struct broker *broker, const struct name_ref *ref,
		     const struct credentials *who, struct queue **ret_queue,
		     struct fault *fault)
{
	_cleanup_free_ struct queue *queue = malloc(sizeof(*queue));
	int r;

	if (!queue)
		return err_origin(-ENOMEM);
	queue_init(queue, broker);
	r = name_init(&queue->name, broker, ref, who, fault);
	if (r)
		return r;
	r = build_fragment(queue);
	if (r < 0) {
		queue_free(TAKE_PTR(queue));
		return err_trace(r);
	}
	*ret_queue = TAKE_PTR(queue);
	return 0;
}

int queue_open(struct broker *broker, const struct name_ref *ref,
	       const struct credentials *who, enum right right, const char *verb,
	       struct queue **ret_queue, struct fault *fault)
{
	struct name *name = name_find(broker, ref);
	struct queue *made = NULL;
	int r;

	if (!name) {
		r = queue_new(broker, ref, who, &made, fault);
		if (r)
			return r;
		name = &made->name;
	}
	r = name_check(name, who, right, verb, fault);
	if (r) {
		/* a stranger may make bob's inbox by sending to it, not by reading it */
		if (made)
			queue_free(made);
		return r;
	}
	*ret_queue = queue_of_name(name);
	return 0;
}

struct queue *queue_free(struct queue *queue)
{
	struct message *m;

	while ((m = LIST_FIRST(&queue->all, struct message, in_queue)))
		message_end(m, "deleted");
	deferred_cancel(&queue->admit);
	heap_deinit(&queue->returned);
	map_deinit(&queue->shares);
	name_deinit(&queue->name);
	buf_deinit(&queue->fragment);
	free(queue);
	return NULL;
}

/* ---- shares and room ---- */

static int share_get(struct queue *queue, struct user *user, struct share **ret_share)
{
	struct map_node *node = map_find(&queue->shares, map_u64(user->uid));
	struct share *share;
	int r;

	if (node) {
		*ret_share = CONTAINER_OF(node, struct share, node);
		return 0;
	}
	r = map_reserve(&queue->shares);
	if (r < 0)
		return err_trace(r);
	share = calloc(1, sizeof(*share));
	if (!share)
		return err_origin(-ENOMEM);
	share->queue = queue;
	share->user = user_ref(user);
	map_add(&queue->shares, &share->node, map_u64(user->uid));
	*ret_share = share;
	return 0;
}

static void share_put(struct share *share)
{
	if (share->messages || share->n_waiting)
		return;
	map_remove(&share->queue->shares, &share->node);
	user_unref(share->user);
	free(share);
}

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

static int check_queue_room(const struct queue *q, uint64_t cost, struct fault *fault)
{
	const struct limits *l = q->broker->limits;
	struct room room = { q->messages, q->bytes, l->queue_messages, l->queue_bytes };

	if (room_for(&room, cost))
		return 0;
	return no_room(FAULT_FULL, "the queue is full", &room, cost, "queue_messages",
		       "queue_bytes", "receive from it, or send with wait_ms", fault);
}

/* What one user may have in all queues together, and in this one if it is another's. */
static int check_user_room(const struct share *share, uint64_t cost, struct fault *fault)
{
	const struct queue *q = share->queue;
	const struct limits *l = q->broker->limits;
	const struct usage *u = &share->user->usage;
	struct room room = { u->messages, u->bytes, l->user_messages, l->user_bytes };

	if (!room_for(&room, cost))
		return no_room(FAULT_QUOTA, "this user has too much in queues", &room,
			       cost, "user_messages", "user_bytes",
			       "wait until it is received, or send with wait_ms", fault);
	if (name_may_all(q->broker, share->user->uid) ||
	    q->name.owner->uid == share->user->uid)
		return 0;
	room = (struct room){ share->messages, share->bytes, l->user_messages / 4,
			      l->user_bytes / 4 };
	if (!room_for(&room, cost))
		return no_room(FAULT_QUOTA,
			       "this user has too much in a queue of another", &room,
			       cost, "a quarter of user_messages",
			       "a quarter of user_bytes",
			       "wait until it is received, or send with wait_ms", fault);
	if (q->name.text[0] != '@' || strchr(q->name.text, '.'))
		return 0;
	room.max_messages = l->inbox_messages_per_sender;
	room.max_bytes = l->inbox_bytes_per_sender;
	if (!room_for(&room, cost))
		return no_room(FAULT_QUOTA, "this user has too much in the inbox", &room,
			       cost, "inbox_messages_per_sender",
			       "inbox_bytes_per_sender",
			       "wait until it is received, or send with wait_ms", fault);
	return 0;
}

static void charge(struct share *share, struct message *m, uint64_t cost)
{
	struct queue *q = share->queue;

	m->share = share;
	share->messages++;
	share->bytes += cost;
	q->messages++;
	q->bytes += cost;
	q->broker->message_bytes += cost;
	share->user->usage.messages++;
	share->user->usage.bytes += cost;
}

void queue_uncharge(struct message *m)
{
	struct share *share = m->share;
	struct queue *q = share->queue;
	struct user *user = share->user;
	uint64_t cost = message_cost(m);

	share->messages--;
	share->bytes -= cost;
	q->messages--;
	q->bytes -= cost;
	q->broker->message_bytes -= cost;
	user->usage.messages--;
	user->usage.bytes -= cost;
	if (!list_is_empty(&q->waiting))
		loop_defer(q->broker->loop, &q->admit);
	LIST_FOREACH(link, &user->waiting_sends)
	{
		struct waiting_send *w = LIST_ENTRY(link, struct waiting_send, in_user);

		loop_defer(q->broker->loop, &w->share->queue->admit);
	}
	share_put(share);
}

/* ---- sending ---- */

static int register_message(struct queue *q, struct message *m)
{
	struct broker *broker = q->broker;
	uint64_t ttl_ms = m->ttl_ms;
	int r = map_reserve(&broker->messages);

	if (r == 0 && ttl_ms != UINT64_MAX) {
		r = heap_add(&broker->expiring, &m->expiry,
			     deadline_after(clock_ns(CLOCK_BOOTTIME), ttl_ms));
		if (r == 0)
			broker_arm_timers(broker);
	}
	if (r < 0)
		return err_trace(r);
	m->number = broker->next_number++;
	map_add(&broker->messages, &m->by_number, map_u64(m->number));
	list_add_tail(&q->all, &m->in_queue);
	return 0;
}

/* There is room: number it, charge it, hand it out. */
static int enter(struct share *share, struct message *m, uint64_t *ret_number)
{
	struct queue *q = share->queue;
	uint64_t delay_ms = m->delay_ms;
	int r = register_message(q, m);

	if (r < 0)
		return err_trace(r);
	m->holder = NULL;
	m->leased_ns = m->out_end = 0;
	charge(share, m, message_cost(m));
	q->counters.sent++;
	q->broker->counters.sent++;
	*ret_number = m->number;
	message_set_state(m, delay_ms ? MESSAGE_DELAYED : MESSAGE_READY, delay_ms);
	return 0;
}

/* A send behind waiting ones must not overtake them. */
static int check_turn(const struct share *share, struct fault *fault)
{
	if (!share->n_waiting && !share->queue->blocked)
		return 0;
	return fault_set(fault, FAULT_FULL,
			 "earlier sends wait for room in the queue; send with wait_ms");
}

int queue_send(struct queue *queue, struct user *sender, struct message *message,
	       uint64_t *ret_number, struct fault *fault)
{
	uint64_t cost = message_cost(message);
	struct share *share;
	int r = share_get(queue, sender, &share);

	if (r < 0)
		return err_trace(r);
	r = check_queue_room(queue, cost, fault);
	if (r == 0)
		r = check_user_room(share, cost, fault);
	if (r == 0)
		r = check_turn(share, fault);
	if (r == 0)
		r = enter(share, message, ret_number);
	if (r)
		share_put(share);
	return r < 0 ? err_trace(r) : r;
}

int queue_wait(struct queue *queue, struct user *sender, struct waiting_send *waiting,
	       struct message *message)
{
	struct fault fault;
	int r = share_get(queue, sender, &waiting->share);

	if (r < 0)
		return err_trace(r);
	if (check_queue_room(queue, message_cost(message), &fault))
		queue->blocked = true; /* nobody overtakes before the next round */
	waiting->message = message;
	waiting->share->n_waiting++;
	list_add_tail(&queue->waiting, &waiting->in_queue);
	list_add_tail(&sender->waiting_sends, &waiting->in_user);
	loop_defer(queue->broker->loop, &queue->admit);
	return 0;
}

static void waiting_send_remove(struct waiting_send *w)
{
	list_remove(&w->in_queue);
	list_remove(&w->in_user);
	w->share->n_waiting--;
	if (list_is_empty(&w->share->queue->waiting))
		w->share->queue->blocked = false;
}

void waiting_send_cancel(struct waiting_send *w)
{
	struct queue *q = w->share->queue;

	waiting_send_remove(w);
	w->message = message_free(w->message);
	share_put(w->share);
	if (!list_is_empty(&q->waiting))
		loop_defer(q->broker->loop, &q->admit);
}

/* Waiting sends enter in order. Where the queue is full all wait; where only a user's share
 * is used up, that user's sends are passed over. */
static void run_admission(struct deferred *deferred)
{
	struct queue *q = CONTAINER_OF(deferred, struct queue, admit);
	struct fault fault;
	uint64_t number;

	q->blocked = false;
	q->admission_round++;
	LIST_FOREACH_SAFE(link, &q->waiting)
	{
		struct waiting_send *w = LIST_ENTRY(link, struct waiting_send, in_queue);
		struct share *share = w->share;
		uint64_t cost = message_cost(w->message);

		if (share->skipped_in == q->admission_round)
			continue;
		if (check_queue_room(q, cost, &fault)) {
			q->blocked = true;
			break;
		}
		if (check_user_room(share, cost, &fault)) {
			share->skipped_in = q->admission_round;
			continue;
		}
		if (enter(share, w->message, &number) < 0)
			break; /* no memory: they go on waiting */
		waiting_send_remove(w);
		w->admitted(w, number);
	}
}

/* ---- handing out ---- */

struct message *queue_first(const struct queue *q)
{
	const struct heap_node *returned = heap_first(&q->returned);
	struct message *fresh = NULL;

	if (q->fresh_priorities) {
		int priority = __builtin_ctz(q->fresh_priorities);

		fresh = LIST_FIRST(&q->fresh[priority], struct message, link);
	}
	if (!returned)
		return fresh;
	if (!fresh || returned->key < ((uint64_t)fresh->priority << 56 | fresh->number))
		return CONTAINER_OF((struct heap_node *)(uintptr_t)returned,
				    struct message, place);
	return fresh;
}

void queue_dispatch(struct queue *q)
{
	struct subscription *s;
	struct message *m;

	while ((s = LIST_FIRST(&q->hungry, struct subscription, hungry)) &&
	       (m = queue_first(q))) {
		struct receiver *r = s->receiver;

		if (!receiver_can_take(r)) {
			list_remove(
				&s->hungry); /* fed again when it has credit and room */
			continue;
		}
		list_remove(&s->hungry);
		list_add_tail(&q->hungry, &s->hungry);
		receiver_take(r, m);
	}
}
