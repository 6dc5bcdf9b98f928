/* SPDX-License-Identifier: MIT */

#include "receiver.h"

#include "base/clock.h"
#include "base/err.h"
#include "journal.h"

enum { NO_FD_DELAY_MS = 1000 };

static void on_ack_timer(struct timer *timer);
static void on_feed(struct deferred *deferred);
static void on_look_again(struct deferred *deferred);

void receiver_init(struct receiver *r, const struct receiver_ops *ops,
		   struct broker *broker, uid_t uid, struct subscription *subscriptions,
		   unsigned int n)
{
	*r = (struct receiver){
		.ops = ops,
		.broker = broker,
		.uid = uid,
		.subscriptions = subscriptions,
		.n_subscriptions = n,
		.window = 1,
		.left = 1,
		.ack_wait_ms = UINT64_MAX,
	};
	list_init(&r->leases);
	timer_init(&r->ack_timer, TIMER_MONOTONIC, on_ack_timer);
	deferred_init(&r->feed, on_feed);
	deferred_init(&r->look_again, on_look_again);
	for (unsigned int i = 0; i < n; i++) {
		subscriptions[i].receiver = r;
		list_init(&subscriptions[i].hungry);
		list_add_tail(&subscriptions[i].queue->subscriptions,
			      &subscriptions[i].in_queue);
		subscriptions[i].queue->n_receivers++;
	}
}

/* ---- taking ---- */

bool receiver_can_take(const struct receiver *r)
{
	return !r->ended && r->left && r->n_leased < r->window &&
	       r->ops->has_room((struct receiver *)(uintptr_t)r);
}

static void be_hungry(struct receiver *r)
{
	for (unsigned int i = 0; i < r->n_subscriptions; i++) {
		struct subscription *s = &r->subscriptions[i];

		if (s->queue && !list_is_linked(&s->hungry))
			queue_add_hungry(s->queue, s);
	}
}

static void be_sated(struct receiver *r)
{
	for (unsigned int i = 0; i < r->n_subscriptions; i++)
		list_remove(&r->subscriptions[i].hungry);
}

static struct message *first_in_preference(struct receiver *r)
{
	for (unsigned int i = 0; i < r->n_subscriptions; i++) {
		struct queue *q = r->subscriptions[i].queue;
		struct message *m = q ? queue_first_for(q, r) : NULL;

		if (m)
			return m;
	}
	return NULL;
}

void receiver_take(struct receiver *r, struct message *m)
{
	struct queue *q = m->share->queue;
	bool again = m->deliveries > 0;

	message_set_state(m, MESSAGE_LEASED, 0);
	m->holder = r;
	m->deliveries = max_u64(m->deliveries, r->broker->delivery_base) + 1;
	m->attempts++;
	m->in_hand = false;
	if (again) /* so that after a crash, too, no older token is good */
		journal_set(m);
	m->leased_ns = 0;
	m->out_end = UINT64_MAX;
	list_add_tail(&r->leases, &m->link);
	r->n_leased++;
	if (r->ack_wait_ms != UINT64_MAX)
		r->n_unsent++;
	switch (r->ops->deliver(r, m)) {
	case DELIVERY_LATER:
		message_put_back(m, NO_FD_DELAY_MS);
		return;
	case DELIVERY_BAD:
		message_spoil(m);
		return;
	case DELIVERY_DONE:
		break;
	}
	q->counters.delivered++;
	q->broker->counters.delivered++;
	if (r->left != UINT64_MAX)
		r->left--;
	if (!r->left)
		r->ops->complete(r);
}

/* In one of its queues something is about to go, and what is behind it is not known yet. */
static bool has_some_over(const struct receiver *r)
{
	for (unsigned int i = 0; i < r->n_subscriptions; i++) {
		const struct queue *q = r->subscriptions[i].queue;

		if (q && queue_is_over_for(q, r))
			return true;
	}
	return false;
}

void receiver_feed(struct receiver *r)
{
	struct message *m;

	deferred_cancel(&r->feed);
	deferred_cancel(&r->look_again);
	while (receiver_can_take(r) && (m = first_in_preference(r)))
		receiver_take(r, m);
	if (!receiver_can_take(r)) {
		be_sated(r);
		return;
	}
	be_hungry(r);
	if (has_some_over(r)) /* what is there when that has gone? */
		loop_defer_until_idle(r->broker->loop, &r->look_again);
	else
		r->ops->hungry(r); /* r may be gone after this */
}

static void on_feed(struct deferred *deferred)
{
	receiver_feed(CONTAINER_OF(deferred, struct receiver, feed));
}

static void on_look_again(struct deferred *deferred)
{
	receiver_feed(CONTAINER_OF(deferred, struct receiver, look_again));
}

void receiver_feed_later(struct receiver *r)
{
	if (!r->ended)
		loop_defer(r->broker->loop, &r->feed);
}

void receiver_set_takes_live(struct receiver *r, bool takes_live)
{
	if (r->takes_live == takes_live)
		return;
	be_sated(r); /* it stands in another line from now on */
	r->takes_live = takes_live;
	receiver_feed_later(r);
}

/* ---- leases ---- */

void receiver_unlease(struct receiver *r, struct message *m)
{
	list_remove(&m->link);
	r->n_leased--;
	if (r->ack_wait_ms != UINT64_MAX && !m->leased_ns)
		r->n_unsent--;
	if (!r->ended)
		receiver_feed_later(r);
	else if (!r->n_leased)
		r->ops->done(r);
}

static void arm_ack_timer(struct receiver *r)
{
	LIST_FOREACH(link, &r->leases) {
		struct message *m = LIST_ENTRY(link, struct message, link);

		if (m->leased_ns) {
			/* without memory the next change tries again */
			(void)!timer_set(r->broker->loop, &r->ack_timer,
					 deadline_after(m->leased_ns, r->ack_wait_ms));
			return;
		}
	}
}

void receiver_sent(struct receiver *r, uint64_t sent_bytes)
{
	unsigned int seen = 0, n = r->n_unsent;

	if (!n)
		return;
	/* the unsent ones are the newest, but for touched ones between them */
	for (struct list *link = r->leases.prev; seen < n && link != &r->leases;
	     link = link->prev) {
		struct message *m = LIST_ENTRY(link, struct message, link);

		if (m->leased_ns)
			continue;
		seen++;
		if (m->out_end <= sent_bytes) {
			m->leased_ns = r->broker->loop->now_ns;
			r->n_unsent--;
		}
	}
	if (!timer_is_set(&r->ack_timer))
		arm_ack_timer(r);
}

void receiver_touch(struct receiver *r, struct message *m)
{
	if (r->ack_wait_ms == UINT64_MAX || !m->leased_ns)
		return;
	m->leased_ns = r->broker->loop->now_ns;
	list_remove(&m->link);
	list_add_tail(&r->leases, &m->link);
}

/* Set for the oldest lease there was when it was armed: looks again at each call. */
static void on_ack_timer(struct timer *timer)
{
	struct receiver *r = CONTAINER_OF(timer, struct receiver, ack_timer);
	uint64_t now = clock_ns(CLOCK_MONOTONIC);
	struct list overdue = LIST_INIT(overdue);
	int n = 0;

	LIST_FOREACH_SAFE(link, &r->leases) {
		struct message *m = LIST_ENTRY(link, struct message, link);

		if (!m->leased_ns)
			continue;
		if (n++ == LOOP_AT_ONCE ||
		    deadline_after(m->leased_ns, r->ack_wait_ms) > now)
			break;
		list_remove(&m->link);
		list_add_tail(&overdue, &m->link);
	}
	arm_ack_timer(r);
	/* ending the last lease of an ended receiver frees it: r is not used after this */
	while (!list_is_empty(&overdue))
		message_overdue(LIST_FIRST(&overdue, struct message, link));
}

/* ---- the end ---- */

static void unsubscribe(struct subscription *s)
{
	if (!s->queue)
		return;
	list_remove(&s->hungry);
	list_remove(&s->in_queue);
	s->queue->n_receivers--;
	s->queue = NULL;
}

void receiver_forget(struct receiver *r, struct subscription *s)
{
	unsubscribe(s);
	for (unsigned int i = 0; i < r->n_subscriptions; i++)
		if (r->subscriptions[i].queue)
			return;
	r->ops->deserted(r);
}

static void stop_taking(struct receiver *r)
{
	r->ended = true;
	be_sated(r);
	deferred_cancel(&r->feed);
	deferred_cancel(&r->look_again);
	for (unsigned int i = 0; i < r->n_subscriptions; i++)
		unsubscribe(&r->subscriptions[i]);
	free(r->subscriptions);
	r->subscriptions = NULL;
	r->n_subscriptions = 0;
}

void receiver_end(struct receiver *r)
{
	if (r->ended)
		return;
	stop_taking(r);
	if (!r->n_leased)
		r->ops->done(r);
}

uint64_t receiver_lose(struct receiver *r, uint64_t sent_bytes, uint64_t max)
{
	uint64_t n = min_u64(r->n_leased, max);

	/* with the last one r is done and may be gone */
	for (uint64_t i = 0; i < n; i++) {
		struct message *m = LIST_FIRST(&r->leases, struct message, link);

		message_lost(m, m->out_end <= sent_bytes);
	}
	return n;
}

void receiver_deinit(struct receiver *r)
{
	timer_cancel(r->broker->loop, &r->ack_timer);
	deferred_cancel(&r->feed);
	deferred_cancel(&r->look_again);
	free(r->subscriptions);
}
