/* SPDX-License-Identifier: MIT */

#include "queue.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "dedup.h"
#include "journal.h"
#include "receiver.h"
#include "room.h"
#include "store.h"

/* ---- life ---- */

static void run_work(struct deferred *deferred);

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
	list_init(&queue->cursors);
	map_init(&queue->shares);
	list_init(&queue->subscriptions);
	list_init(&queue->hungry);
	list_init(&queue->waiting);
	list_init(&queue->dedups);
	deferred_init(&queue->work, run_work);
}

int queue_new(struct broker *broker, const struct name_ref *ref,
	      const struct name_policy *policy, struct queue **ret_queue,
	      struct fault *fault)
{
	_cleanup_free_ struct queue *queue = malloc(sizeof(*queue));
	int r;

	if (!queue)
		return err_origin(-ENOMEM);
	queue_init(queue, broker);
	r = name_init(&queue->name, broker, ref, policy, fault);
	if (r)
		return r;
	if (policy->rule)
		queue->settings = policy->rule->settings;
	r = build_fragment(queue);
	if (r < 0) {
		queue_free(TAKE_PTR(queue));
		return err_trace(r);
	}
	queue->id = broker->next_queue_id++;
	*ret_queue = TAKE_PTR(queue);
	return 0;
}

static bool is_durable_with(const struct broker *broker, const struct queue_settings *s)
{
	return broker->store && (s->set & SETTING_DURABLE ? s->durable : true);
}

/* The queue, or (*ret_queue NULL) the policy with which it may be made. */
static int look_up(struct broker *broker, const struct name_ref *ref,
		   const struct credentials *who, enum right right, const char *verb,
		   struct queue **ret_queue, struct name_policy *ret_policy,
		   struct fault *fault)
{
	struct name *name = name_find(broker, ref);
	int r;

	*ret_queue = name ? queue_of_name(name) : NULL;
	if (name)
		return name_check(name, who, right, verb, fault);
	name_decide(broker, ref, who, ret_policy);
	r = name_check_create(broker, ref, ret_policy, who, fault);
	/* a stranger may make bob's inbox by sending to it, not by reading it */
	return r ? r
		 : err_trace(policy_check(broker, ref, ret_policy, who, right, verb,
					  fault));
}

int queue_check_open(struct broker *broker, const struct name_ref *ref,
		     const struct credentials *who, enum right right, const char *verb,
		     struct queue **ret_queue, bool *ret_durable, struct fault *fault)
{
	static const struct queue_settings none = { 0 };
	struct name_policy policy;
	int r = look_up(broker, ref, who, right, verb, ret_queue, &policy, fault);

	if (r)
		return err_trace(r);
	if (*ret_queue)
		*ret_durable = queue_is_durable(*ret_queue);
	else
		*ret_durable = is_durable_with(
			broker, policy.rule ? &policy.rule->settings : &none);
	return 0;
}

int queue_open(struct broker *broker, const struct name_ref *ref,
	       const struct credentials *who, enum right right, const char *verb,
	       struct queue **ret_queue, struct fault *fault)
{
	struct name_policy policy;
	int r = look_up(broker, ref, who, right, verb, ret_queue, &policy, fault);

	if (r || *ret_queue)
		return err_trace(r);
	r = queue_new(broker, ref, &policy, ret_queue, fault);
	if (r == 0)
		journal_name(*ret_queue);
	return err_trace(r);
}

/* Of the memory alone: the store keeps them. */
static void free_dedups(struct queue *queue)
{
	LIST_FOREACH(link, &queue->dedups)
		LIST_ENTRY(link, struct dedup, in_queue)->stored = false;
	dedup_forget_queue(queue);
}

struct queue *queue_free(struct queue *queue)
{
	struct message *m;

	while ((m = LIST_FIRST(&queue->all, struct message, in_queue))) {
		m->stored = false; /* the store keeps it: this is not the message's end */
		message_end(m, "deleted");
	}
	free_dedups(queue);
	deferred_cancel(&queue->work);
	heap_deinit(&queue->returned);
	map_deinit(&queue->shares);
	cursors_close_all(queue);
	name_deinit(&queue->name);
	buf_deinit(&queue->fragment);
	free(queue);
	return NULL;
}

struct queue *queue_delete(struct queue *queue)
{
	struct waiting_send *w;
	struct subscription *s;
	struct message *m;

	while ((w = LIST_FIRST(&queue->waiting, struct waiting_send, in_queue)))
		w->refused(w, FAULT_NOT_FOUND, "the queue was deleted");
	/* the messages first: a receiver that ends has no lease in this queue any more */
	while ((m = LIST_FIRST(&queue->all, struct message, in_queue)))
		message_end(m, "deleted");
	while ((s = LIST_FIRST(&queue->subscriptions, struct subscription, in_queue)))
		receiver_forget(s->receiver, s);
	dedup_forget_queue(queue);
	journal_drop_name(queue);
	return queue_free(queue);
}

void queue_recheck(struct queue *queue)
{
	struct fault fault;

	LIST_FOREACH_SAFE(link, &queue->waiting) {
		struct waiting_send *w = LIST_ENTRY(link, struct waiting_send, in_queue);

		if (name_check(&queue->name, w->who, RIGHT_WRITE, "send any longer to",
			       &fault))
			w->refused(w, FAULT_DENIED, fault.text);
	}
}

int queue_apply_rules(struct queue *queue)
{
	struct name *name = &queue->name;
	const struct rule *rule = rules_find(queue->broker->rules, name->text);
	bool inbox = name->text[0] == '@' && !strchr(name->text, '.');
	struct name_policy policy = {
		.owner = name->plain_owner,
		.gid = name->plain_gid,
		.mode = queue->broker->system_mode && inbox ? 0622 : 0600,
	};

	policy_follow(&policy, rule);
	if (!queue->has_own_settings)
		queue->settings = rule ? rule->settings : (struct queue_settings){ 0 };
	return name->source == NAME_BY_SET ? 0 : err_trace(name_apply(name, &policy));
}

/* ---- settings ---- */

uint64_t queue_max_messages(const struct queue *q)
{
	return q->settings.set & SETTING_MAX_MESSAGES ? q->settings.max_messages
						      : q->broker->limits->queue_messages;
}

uint64_t queue_max_bytes(const struct queue *q)
{
	return q->settings.set & SETTING_MAX_BYTES ? q->settings.max_bytes
						   : q->broker->limits->queue_bytes;
}

uint64_t queue_max_file_bytes(const struct queue *q)
{
	return q->settings.set & SETTING_MAX_FILE_BYTES
		       ? q->settings.max_file_bytes
		       : q->broker->limits->queue_file_bytes;
}

uint64_t queue_max_attempts(const struct queue *q)
{
	return q->settings.set & SETTING_MAX_ATTEMPTS ? q->settings.max_attempts
						      : q->broker->limits->max_attempts;
}

uint64_t queue_lost_delay_ms(const struct queue *q)
{
	return q->settings.set & SETTING_LOST_DELAY ? q->settings.lost_delay_ms
						    : q->broker->limits->lost_delay;
}

uint64_t queue_backoff_ms(const struct queue *q, uint64_t attempts)
{
	size_t step = attempts ? (size_t)min_u64(attempts - 1, BACKOFF_STEPS_MAX) : 0;

	if (q->settings.set & SETTING_BACKOFF)
		return q->settings.backoff_ms[min_size(step, q->settings.n_backoff - 1)];
	return limits_backoff_ms[min_size(step, ARRAY_SIZE(limits_backoff_ms) - 1)];
}

bool queue_is_durable(const struct queue *q)
{
	return is_durable_with(q->broker, &q->settings);
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

/* sign: 1 or -1. */
static void charge_file(struct share *share, const struct message *m, int sign)
{
	uint64_t cost = message_file_cost(m), change = sign > 0 ? cost : -cost;

	share->file_bytes += change;
	share->queue->file_bytes += change;
	share->user->usage.file_bytes += change;
	if (message_is_live(m))
		share->user->usage.live += (uint64_t)sign;
}

static void charge(struct share *share, struct message *m, uint64_t cost)
{
	struct queue *q = share->queue;

	m->share = share;
	share->messages++;
	share->bytes += cost;
	q->messages++;
	q->bytes += cost;
	broker_count_bytes(q->broker, (int64_t)cost);
	share->user->usage.messages++;
	share->user->usage.bytes += cost;
	charge_file(share, m, 1);
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
	broker_count_bytes(q->broker, -(int64_t)cost);
	user->usage.messages--;
	user->usage.bytes -= cost;
	charge_file(share, m, -1);
	if (!list_is_empty(&q->waiting))
		loop_defer(q->broker->loop, &q->work);
	LIST_FOREACH(link, &user->waiting_sends) {
		struct waiting_send *w = LIST_ENTRY(link, struct waiting_send, in_user);

		loop_defer(q->broker->loop, &w->share->queue->work);
	}
	share_put(share);
}

bool queue_has_room_for_more(const struct message *m, uint64_t bytes)
{
	const struct queue *q = m->share->queue;

	return q->bytes + bytes <= queue_max_bytes(q) &&
	       m->share->user->usage.bytes + bytes <= q->broker->limits->user_bytes;
}

void queue_recharge(struct message *m, uint64_t cost_before)
{
	struct share *share = m->share;
	uint64_t change = message_cost(m) - cost_before; /* it may be less, too */

	share->bytes += change;
	share->queue->bytes += change;
	share->user->usage.bytes += change;
	broker_count_bytes(share->queue->broker, (int64_t)change);
}

int queue_refuse_live(struct fault *fault)
{
	return fault_set(
		fault, FAULT_BAD_REQUEST,
		"a live descriptor cannot be kept on the disk: send it to a queue "
		"with durable=false, or send a copy");
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

static uint64_t number_at(struct list *link)
{
	return LIST_ENTRY(link, struct message, in_queue)->number;
}

/* `all` is in the order of the numbers, also where a message comes from another queue. */
static void insert_by_number(struct queue *q, struct message *m, struct cursor *place)
{
	struct list *at = place->at == &q->all ? q->all.prev : place->at;

	while (at != &q->all && number_at(at) > m->number)
		at = at->prev;
	while (at->next != &q->all && number_at(at->next) < m->number)
		at = at->next;
	list_add_tail(at->next, &m->in_queue); /* that is behind at */
	place->at = &m->in_queue;
}

/* Each dead message is passed once: what is revived before it is gone back to. */
const struct message *queue_oldest(struct queue *q)
{
	enum { ALIVE = 1 << MESSAGE_READY | 1 << MESSAGE_DELAYED | 1 << MESSAGE_LEASED };
	struct list *at = q->oldest ? q->oldest : q->all.next;
	const struct message *m = NULL;

	for (; at != &q->all; at = at->next) {
		m = LIST_ENTRY(at, struct message, in_queue);
		if (m->state != MESSAGE_DEAD)
			break;
	}
	if (at != &q->all)
		q->oldest = at;
	else
		q->oldest = list_is_empty(&q->all) ? NULL : q->all.prev;
	return at != &q->all && ALIVE >> m->state & 1 ? m : NULL;
}

void queue_note_alive(struct queue *q, struct message *m)
{
	if (q->oldest && number_at(q->oldest) > m->number)
		q->oldest = &m->in_queue;
}

int queue_move(struct message *m, struct queue *to, struct cursor *place,
	       struct fault *fault)
{
	uint64_t cost = message_cost(m);
	struct share *share;
	int r;

	if (to == m->share->queue) {
		message_revive(m);
		return 0;
	}
	r = share_get(to, m->share->user, &share);
	if (r < 0)
		return err_trace(r);
	r = room_in_queue(to, cost, fault);
	if (r == 0)
		r = room_in_queue_for_file(to, message_file_cost(m), fault);
	if (r == 0)
		r = room_in_share(share, cost, fault);
	if (r == 0)
		r = room_in_share_for_file(share, message_file_cost(m), fault);
	if (r == 0 && message_is_live(m) && queue_is_durable(to))
		r = check_live(share, m, fault);
	if (r) {
		share_put(share);
		return r;
	}
	message_leave(m);
	cursors_unlist(m->share->queue, m);
	queue_uncharge(m);
	charge(share, m, cost);
	insert_by_number(to, m, place);
	if (!queue_is_durable(to))
		journal_drop(m);
	message_revive(m);
	if (queue_is_durable(to))
		journal_adopt(m);
	return 0;
}

/* ---- sending ---- */

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
	map_add(&broker->messages, &m->by_number, map_u64(m->number));
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
	r = dedup_add(d, m->share->queue, m->share->user, m->number, m->sent_ms);
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
	charge(share, m, message_cost(m));
	q->counters.sent++;
	q->broker->counters.sent++;
	rate_count(&q->sent_rate, q->broker->loop->now_ns);
	*ret_number = m->number;
	enter_state(m);
	return 0;
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
	if (!share->n_waiting && !share->queue->blocked)
		return 0;
	return fault_set(fault, FAULT_FULL,
			 "earlier sends wait for room in the queue; send with wait_ms");
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
	if (r == 0 && message->more && message->more->dedup)
		r = dedup_check(queue->broker, sender, fault);
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
	if (room_in_queue(queue, message_cost(message), &fault) ||
	    room_in_queue_for_file(queue, message_file_cost(message), &fault))
		queue->blocked = true; /* nobody overtakes before the next round */
	waiting->message = message;
	waiting->charge = (struct waiting_charge){ message_cost(message),
						   message_is_live(message) };
	user_charge_waiting(sender, &waiting->charge);
	waiting->share->n_waiting++;
	list_add_tail(&queue->waiting, &waiting->in_queue);
	list_add_tail(&sender->waiting_sends, &waiting->in_user);
	loop_defer(queue->broker->loop, &queue->work);
	return 0;
}

static void waiting_send_remove(struct waiting_send *w)
{
	list_remove(&w->in_queue);
	list_remove(&w->in_user);
	w->share->n_waiting--;
	user_uncharge_waiting(w->share->user, &w->charge);
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

/* Waiting sends enter in order. Where the queue is full all wait; where only a user's share
 * is used up, that user's sends are passed over. */
static void run_admission(struct queue *q)
{
	struct fault fault;
	uint64_t number, file_cost;

	q->blocked = false;
	q->admission_round++;
	LIST_FOREACH_SAFE(link, &q->waiting) {
		struct waiting_send *w = LIST_ENTRY(link, struct waiting_send, in_queue);
		struct share *share = w->share;
		uint64_t cost = message_cost(w->message);

		if (share->skipped_in == q->admission_round)
			continue;
		if (is_known(share, w->message, &number)) {
			admit_known(w, number);
			continue;
		}
		if (message_is_live(w->message) && queue_is_durable(q)) {
			queue_refuse_live(&fault); /* it was made durable meanwhile */
			w->refused(w, fault.word, fault.text);
			continue;
		}
		file_cost = message_file_cost(w->message);
		if (room_in_queue(q, cost, &fault) ||
		    room_in_queue_for_file(q, file_cost, &fault)) {
			q->blocked = true;
			break;
		}
		if (room_for_user(share, cost, &fault) ||
		    room_for_user_file(share, file_cost, &fault) ||
		    (message_is_live(w->message) && room_for_live(share, &fault))) {
			share->skipped_in = q->admission_round;
			continue;
		}
		if (check_store(q, &fault) || enter(share, w->message, &number) < 0)
			break; /* no memory, or no disk: they go on waiting */
		waiting_send_remove(w);
		w->admitted(w, number, false);
	}
}

/* ---- back from the store ---- */

int queue_restore(struct queue *q, uid_t sender, struct message *m)
{
	struct broker *broker = q->broker;
	struct user *user;
	int r = map_reserve(&broker->messages);

	if (r == 0)
		r = user_get(broker->users, sender, &user);
	if (r < 0)
		return err_trace(r);
	r = share_get(q, user, &m->share);
	user_unref(user);
	if (r < 0)
		return err_trace(r);
	map_add(&broker->messages, &m->by_number, map_u64(m->number));
	list_add_tail(&q->all, &m->in_queue);
	charge(m->share, m, message_cost(m));
	return 0;
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

static bool goes_before(const struct message *a, const struct message *b)
{
	return a->priority != b->priority ? a->priority < b->priority
					  : a->number < b->number;
}

/* Of the messages that are no live descriptors: few are, at most live_per_user. */
static struct message *first_not_live(const struct queue *q)
{
	struct message *best = NULL;

	for (unsigned int p = 0; p <= LIMIT_PRIORITY_MAX && !best; p++) {
		LIST_FOREACH(link, &q->fresh[p]) {
			best = LIST_ENTRY(link, struct message, link);
			if (!message_is_live(best))
				break;
			best = NULL;
		}
	}
	for (size_t i = 0; i < q->returned.n; i++) {
		struct message *m =
			CONTAINER_OF(q->returned.nodes[i], struct message, place);

		if (!message_is_live(m) && (!best || goes_before(m, best)))
			best = m;
	}
	return best;
}

struct message *queue_first_for(const struct queue *q, const struct receiver *r)
{
	struct message *m = queue_first(q);

	return m && !r->takes_live && message_is_live(m) ? first_not_live(q) : m;
}

void queue_dispatch(struct queue *q)
{
	struct list *end = &q->hungry;
	struct message *m;

	while (!list_is_empty(&q->hungry) && queue_first(q)) {
		struct subscription *s =
			LIST_FIRST(&q->hungry, struct subscription, hungry);
		struct receiver *r = s->receiver;

		if (&s->hungry == end) /* all that are left were passed over */
			return;
		list_remove(&s->hungry);
		if (!receiver_can_take(r)) /* fed again when it has credit and room */
			continue;
		list_add_tail(&q->hungry, &s->hungry);
		m = queue_first_for(q, r);
		if (m) {
			end = &q->hungry;
			receiver_take(r, m);
		} else if (end == &q->hungry) {
			end = &s->hungry;
		}
	}
}

void queue_work_later(struct queue *q)
{
	loop_defer(q->broker->loop, &q->work);
}

static void run_work(struct deferred *deferred)
{
	struct queue *q = CONTAINER_OF(deferred, struct queue, work);

	queue_dispatch(q);
	if (!list_is_empty(&q->waiting))
		run_admission(q);
}
