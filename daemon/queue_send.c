/* SPDX-License-Identifier: MIT */

/* How messages get into a queue, at once or when there is room, see queue.h. */

#include "base/clock.h"
#include "base/err.h"
#include "dedup.h"
#include "journal.h"
#include "queue.h"
#include "room.h"
#include "share.h"
#include "store.h"

static int register_message(struct queue *q, struct message *m)
{
	struct broker *broker = q->broker;
	int r = map_reserve(&broker->messages);

	if (r == 0)
		r = message_start_ttl(m, broker, m->ttl_ms);
	if (r < 0)
		return err_trace(r);
	m->sent_ms = clock_ns(CLOCK_REALTIME_COARSE) / NS_PER_MS;
	m->number = broker->next_number++;
	map_add(&broker->messages, &m->by_number, map_sequential(m->number));
	list_add_tail(&q->all, &m->in_queue);
	return 0;
}

static void unregister_message(struct message *m)
{
	message_end_ttl(m);
	journal_drop(m);
	map_remove(&m->share->queue->broker->messages, &m->by_number);
	cursors_unlist(m->share->queue, m);
	m->share = NULL;
	m->state = MESSAGE_NEW;
}

/* Its dedup_id is known from now on. */
static int enter_dedup(struct message *m)
{
	struct dedup *d = m->more ? m->more->dedup : NULL;
	int r;

	if (!d)
		return 0;
	r = dedup_add(d, m->share->queue, m->share->user, m->number, 0);
	if (r < 0)
		return err_trace(r);
	if (m->stored) {
		d->message = m;
		journal_dedup(d);
	} else {
		m->more->dedup = NULL;
	}
	return 0;
}

/* In a durable queue nobody sees it before it is on the disk. */
static void enter_state(struct message *m)
{
	struct queue *q = m->share->queue;
	uint64_t delay_ms = m->delay_ms;

	q->n_in_state[MESSAGE_STORING]++;
	if (m->stored)
		return;
	m->leased_ns = m->out_end = 0;
	message_set_state(m, delay_ms ? MESSAGE_DELAYED : MESSAGE_READY, delay_ms);
	queue_dispatch(q); /* not later: it saves a round through the deferred work */
}

/* Also if it is durable no longer: nothing overtakes what is still on its way there. */
static bool goes_to_disk(const struct queue *q)
{
	return queue_is_durable(q) || q->n_in_state[MESSAGE_STORING];
}

/* There is room: number it, charge it, hand it out. */
static int enter(struct share *share, struct message *m, uint64_t *ret_number)
{
	struct queue *q = share->queue;
	int r;

	m->share = share;
	r = register_message(q, m);
	if (r < 0) {
		m->share = NULL;
		return err_trace(r);
	}
	m->state = MESSAGE_STORING;
	r = goes_to_disk(q) && !message_is_live(m) ? journal_send(m) : 0;
	if (r == 0)
		r = enter_dedup(m);
	if (r < 0) {
		unregister_message(m);
		return err_trace(r);
	}
	share_charge(share, m);
	q->counters.sent++;
	q->broker->counters.sent++;
	rate_count(&q->sent_rate, q->broker->loop->now_ns);
	*ret_number = m->number;
	enter_state(m);
	return 0;
}

/* A live descriptor ends with this process. */
static int check_live(const struct share *share, const struct message *m,
		      struct fault *fault)
{
	if (!message_is_live(m))
		return 0;
	if (queue_is_durable(share->queue))
		return queue_refuse_live(fault);
	return room_for_live(share, fault);
}

/* Has it been sent before? */
static bool is_known(const struct share *share, const struct message *m,
		     uint64_t *ret_number)
{
	const struct dedup *own = m->more ? m->more->dedup : NULL;
	const struct dedup *d =
		own ? dedup_find(share->queue, share->user, own->id, own->size) : NULL;

	if (d)
		*ret_number = d->number;
	return d != NULL;
}

static int check_store(const struct queue *q, struct fault *fault)
{
	return goes_to_disk(q) ? store_check(q->broker->store, fault) : 0;
}

/* A send behind waiting ones must not overtake them. */
static int check_turn(const struct share *share, struct fault *fault)
{
	if (list_is_empty(&share->waiting) && !share->queue->blocked)
		return 0;
	return fault_set(
		fault, FAULT_FULL,
		"earlier sends wait for room in the queue; send with wait_ms (ipc: --wait)");
}

static int check_room(const struct share *share, uint64_t cost, uint64_t file_cost,
		      struct fault *fault)
{
	int r = room_in_queue(share->queue, cost, fault);

	if (r == 0)
		r = room_in_queue_for_file(share->queue, file_cost, fault);
	if (r == 0)
		r = room_for_user(share, cost, fault);
	return r ? r : room_for_user_file(share, file_cost, fault);
}

int queue_check_room(struct queue *queue, struct user *sender, uint64_t bytes,
		     uint64_t file_bytes, struct fault *fault)
{
	struct share *share;
	int r = share_get(queue, sender, &share);

	if (r < 0)
		return err_trace(r);
	r = check_room(share, bytes, file_bytes, fault);
	if (r == 0)
		r = check_turn(share, fault);
	share_put(share);
	return r;
}

int queue_send(struct queue *queue, struct user *sender, struct message *message,
	       uint64_t *ret_number, struct fault *fault)
{
	struct share *share;
	int r = share_get(queue, sender, &share);

	if (r < 0)
		return err_trace(r);
	if (is_known(share, message, ret_number)) {
		message_free(message);
		share_put(share);
		return QUEUE_DUPLICATE;
	}
	r = check_room(share, message_cost(message), message_file_cost(message), fault);
	if (r == 0)
		r = check_turn(share, fault);
	if (r == 0)
		r = check_live(share, message, fault);
	if (r == 0)
		r = check_store(queue, fault);
	if (r == 0)
		r = dedup_check(queue->broker, sender, message, fault);
	if (r == 0)
		r = enter(share, message, ret_number);
	if (r)
		share_put(share);
	return r < 0 ? err_trace(r) : r;
}

enum { QUEUES_AT_ONCE = 100 };

/* Where its sends wait there may be room now. In turn; true: not yet everywhere. */
static bool admit_some(struct user *user)
{
	for (int i = 0; i < QUEUES_AT_ONCE && user->n_to_admit; i++) {
		struct share *share = LIST_FIRST(&user->waiting, struct share, in_user);

		list_remove(&share->in_user);
		list_add_tail(&user->waiting, &share->in_user);
		queue_work_later(share->queue);
		user->n_to_admit--;
	}
	return user->n_to_admit > 0;
}

static void admit_user(struct deferred *deferred)
{
	struct user *user = CONTAINER_OF(deferred, struct user, admit);

	user->n_to_admit = user->n_waiting;
	if (admit_some(user) && !list_is_linked(&user->admit_on.link))
		user_line_up(user, &user->admit_on);
}

static void on_admit_on(struct user_turn *turn)
{
	struct user *user = CONTAINER_OF(turn, struct user, admit_on);

	if (admit_some(user))
		user_go_on(user, turn);
}

int queue_wait(struct queue *queue, struct user *sender, struct waiting_send *waiting,
	       struct message *message)
{
	struct fault fault;
	int r = share_get(queue, sender, &waiting->share);

	if (r < 0)
		return err_trace(r);
	if (room_in_queue(queue, message_cost(message), &fault) ||
	    room_in_queue_for_file(queue, message_file_cost(message), &fault))
		queue->blocked = true; /* nobody overtakes before the next round */
	waiting->message = message;
	waiting->charge = (struct waiting_charge){ message_cost(message),
						   message_is_live(message) };
	user_charge_waiting(sender, &waiting->charge);
	if (list_is_empty(&sender->waiting)) {
		deferred_init(&sender->admit, admit_user);
		user_turn_init(&sender->admit_on, on_admit_on);
	}
	if (list_is_empty(&waiting->share->waiting)) {
		list_add_tail(&queue->waiting, &waiting->share->in_queue);
		list_add_tail(&sender->waiting, &waiting->share->in_user);
		sender->n_waiting++;
	}
	list_add_tail(&waiting->share->waiting, &waiting->link);
	waiting->order = queue->next_wait++;
	queue->n_waiting++;
	loop_defer(queue->broker->loop, &queue->work);
	return 0;
}

static void waiting_send_remove(struct waiting_send *w)
{
	struct share *share = w->share;
	struct user *user = share->user;

	list_remove(&w->link);
	share->queue->n_waiting--;
	user_uncharge_waiting(share->user, &w->charge);
	if (!list_is_empty(&share->waiting))
		return;
	list_remove(&share->in_queue);
	list_remove(&share->in_user);
	user->n_waiting--;
	user->n_to_admit = min_u64(user->n_to_admit, user->n_waiting);
	if (!user->n_waiting) {
		deferred_cancel(&user->admit);
		list_remove(&user->admit_on.link);
	}
	if (list_is_empty(&share->queue->waiting))
		share->queue->blocked = false;
}

void waiting_send_cancel(struct waiting_send *w)
{
	struct queue *q = w->share->queue;

	waiting_send_remove(w);
	w->message = message_free(w->message);
	share_put(w->share);
	if (!list_is_empty(&q->waiting))
		loop_defer(q->broker->loop, &q->work);
}

/* While it waited the same was sent once more, and had room. */
static void admit_known(struct waiting_send *w, uint64_t number)
{
	struct share *share = w->share;

	waiting_send_remove(w);
	w->message = message_free(w->message);
	share_put(share);
	w->admitted(w, number, true);
}

/* Not of those that were passed over in this round. */
struct waiting_send *queue_first_waiting(const struct queue *q)
{
	struct waiting_send *first = NULL;

	LIST_FOREACH(link, &q->waiting) {
		struct share *share = LIST_ENTRY(link, struct share, in_queue);
		struct waiting_send *w =
			LIST_FIRST(&share->waiting, struct waiting_send, link);

		if (share->skipped_in != q->admission_round &&
		    (!first || w->order < first->order))
			first = w;
	}
	return first;
}

enum chance { CHANCE_NOW, CHANCE_LATER, CHANCE_NONE };

/* None: what holds was changed while it waited. */
static enum chance chance_of(const struct waiting_send *w, struct fault *fault)
{
	const struct share *share = w->share;
	const struct message *m = w->message;

	if (dedup_check(share->queue->broker, share->user, m, fault))
		return CHANCE_NONE;
	if (!check_live(share, m, fault) &&
	    !check_room(share, message_cost(m), message_file_cost(m), fault))
		return CHANCE_NOW;
	return fault->word == FAULT_FULL || fault->word == FAULT_QUOTA ? CHANCE_LATER
								       : CHANCE_NONE;
}

enum fault_word waiting_send_why(const struct waiting_send *w)
{
	struct fault fault;

	if (chance_of(w, &fault) == CHANCE_LATER)
		return fault.word;
	return check_store(w->share->queue, &fault) ? fault.word : FAULT_FULL;
}

/* Waiting sends enter in order. Where the queue is full all wait; where only a user's share
 * is used up, that user's sends are passed over. */
void queue_admit(struct queue *q)
{
	struct waiting_send *w;
	struct fault fault;
	uint64_t number;

	q->blocked = false;
	q->admission_round++;
	while ((w = queue_first_waiting(q))) {
		struct share *share = w->share;
		enum chance chance;

		if (is_known(share, w->message, &number)) {
			admit_known(w, number);
			continue;
		}
		chance = chance_of(w, &fault);
		if (chance == CHANCE_NONE) {
			w->refused(w, fault.word, fault.text);
			continue;
		}
		if (chance == CHANCE_LATER && fault.word == FAULT_QUOTA) {
			share->skipped_in = q->admission_round;
			continue;
		}
		if (chance == CHANCE_LATER) {
			q->blocked = true;
			break;
		}
		if (check_store(q, &fault) || enter(share, w->message, &number) < 0)
			break; /* no memory, or no disk: they go on waiting */
		waiting_send_remove(w);
		w->admitted(w, number, false);
	}
}
