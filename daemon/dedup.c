/* SPDX-License-Identifier: MIT */

#include "dedup.h"

#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "journal.h"
#include "queue.h"

static uint64_t hash_of(const struct queue *queue, uid_t uid, const char *id, size_t size)
{
	uint64_t hash = hash_bytes(&queue->broker->name_key, id, size);

	return hash ^ map_u64(queue->id << 32 ^ uid);
}

struct dedup *dedup_new(const char *id, size_t size)
{
	struct dedup *d = calloc(1, sizeof(*d) + size);

	if (!d)
		return NULL;
	list_init(&d->in_queue);
	list_init(&d->in_all);
	d->size = size;
	memcpy(d->id, id, size);
	return d;
}

const struct dedup *dedup_find(const struct queue *queue, const struct user *user,
			       const char *id, size_t size)
{
	uint64_t hash = hash_of(queue, user->uid, id, size);

	for (struct map_node *node = map_find(&queue->broker->dedups, hash); node;
	     node = map_next(node)) {
		const struct dedup *d = CONTAINER_OF(node, struct dedup, node);

		if (d->queue == queue && d->user == user && d->size == size &&
		    !memcmp(d->id, id, size))
			return d;
	}
	return NULL;
}

static void forget(struct dedup *d)
{
	struct broker *broker = d->queue->broker;

	journal_drop_dedup(d);
	map_remove(&broker->dedups, &d->node);
	list_remove(&d->in_queue);
	list_remove(&d->in_all);
	d->queue->n_dedups--;
	d->user->usage.dedups--;
	user_unref(d->user);
	if (d->message)
		d->message->more->dedup = NULL;
	free(d);
}

/* ---- the window ---- */

static int64_t now_ms(void)
{
	return (int64_t)(clock_ns(CLOCK_BOOTTIME) / NS_PER_MS);
}

/* How much of the window is left to it. */
static uint64_t left_ms(const struct dedup *d)
{
	uint64_t age_ms = (uint64_t)(now_ms() - d->sent_ms);
	uint64_t window_ms = d->queue->broker->limits->dedup_window;

	return window_ms > age_ms ? window_ms - age_ms : 0;
}

static void arm_timer(struct broker *broker)
{
	struct dedup *d = LIST_FIRST(&broker->all_dedups, struct dedup, in_all);

	if (d) /* without memory the next id tries again */
		(void)!timer_set(broker->loop, &broker->dedup_timer,
				 deadline_after(clock_ns(CLOCK_BOOTTIME), left_ms(d)));
}

static void on_timer(struct timer *timer)
{
	struct broker *broker = CONTAINER_OF(timer, struct broker, dedup_timer);
	struct dedup *d;

	while ((d = LIST_FIRST(&broker->all_dedups, struct dedup, in_all)) && !left_ms(d))
		forget(d);
	arm_timer(broker);
}

void dedup_init(struct broker *broker)
{
	map_init(&broker->dedups);
	list_init(&broker->all_dedups);
	timer_init(&broker->dedup_timer, TIMER_BOOTTIME, on_timer);
}

void dedup_deinit(struct broker *broker)
{
	timer_cancel(broker->loop, &broker->dedup_timer);
	map_deinit(&broker->dedups);
}

/* ---- life ---- */

int dedup_check(const struct broker *broker, const struct user *user,
		const struct message *m, struct fault *fault)
{
	uint64_t max = broker->limits->dedup_ids_per_user;

	if (!m->more || !m->more->dedup || user->usage.dedups < max)
		return 0;
	return fault_set(fault, FAULT_QUOTA,
			 "%llu ids of this user's sends are remembered already "
			 "(dedup_ids_per_user); wait until the oldest is older than "
			 "dedup_window, or send without dedup_id",
			 (unsigned long long)max);
}

int dedup_add(struct dedup *d, struct queue *queue, struct user *user, uint64_t number,
	      uint64_t age_ms)
{
	struct broker *broker = queue->broker;
	int r = map_reserve(&broker->dedups);

	if (r < 0)
		return err_trace(r);
	d->queue = queue;
	d->user = user_ref(user);
	d->number = number;
	d->sent_ms = now_ms() - (int64_t)age_ms;
	user->usage.dedups++;
	map_add(&broker->dedups, &d->node, hash_of(queue, user->uid, d->id, d->size));
	list_add_tail(&broker->all_dedups, &d->in_all);
	list_add_tail(&queue->dedups, &d->in_queue);
	if (++queue->n_dedups > broker->limits->dedup_ids)
		forget(LIST_FIRST(&queue->dedups, struct dedup, in_queue));
	if (!timer_is_set(&broker->dedup_timer))
		arm_timer(broker);
	return 0;
}

void dedup_settle(struct dedup *d, bool ok)
{
	if (!ok) {
		d->stored = false; /* it is not in the store, as its message is not */
		forget(d);
		return;
	}
	d->message->more->dedup = NULL;
	d->message = NULL;
}

void dedup_abandon(struct dedup *d)
{
	if (!d)
		return;
	if (d->queue)
		d->message = NULL;
	else
		free(d);
}

void dedup_forget_queue(struct queue *queue)
{
	struct dedup *d;

	while ((d = LIST_FIRST(&queue->dedups, struct dedup, in_queue)))
		forget(d);
}

void dedup_trim(struct broker *broker)
{
	LIST_FOREACH(link, &broker->all_names) {
		struct queue *q = queue_of_name(LIST_ENTRY(link, struct name, link));

		while (q->n_dedups > broker->limits->dedup_ids)
			forget(LIST_FIRST(&q->dedups, struct dedup, in_queue));
	}
	on_timer(&broker->dedup_timer);
}

void dedup_keep_all(struct broker *broker)
{
	LIST_FOREACH(link, &broker->all_dedups)
		journal_keep_dedup(LIST_ENTRY(link, struct dedup, in_all));
}
