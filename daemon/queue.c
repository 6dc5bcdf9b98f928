/* SPDX-License-Identifier: MIT */

#include "queue.h"

#include <limits.h>
#include <string.h>

#include "base/err.h"
#include "dedup.h"
#include "journal.h"
#include "receiver.h"
#include "room.h"
#include "share.h"

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
	list_init(&queue->cursors_at_end);
	map_init(&queue->shares);
	list_init(&queue->subscriptions);
	list_init(&queue->hungry[0]);
	list_init(&queue->hungry[1]);
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
	int refused = name ? name_check(name, who, right, verb, fault) : 0;
	int r;

	*ret_queue = name ? queue_of_name(name) : NULL;
	if (name && (!refused || name_is_shown(name, who)))
		return refused;
	/* one that is not shown is refused as if it were not there, if that is refused */
	name_decide(broker, ref, who, ret_policy);
	r = name_check_create(broker, ref, ret_policy, who, fault);
	/* a stranger may make bob's inbox by sending to it, not by reading it */
	if (r == 0)
		r = policy_check(broker, ref, ret_policy, who, right, verb, fault);
	return r ? err_trace(r) : refused;
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

	queue->admission_round++; /* nobody is passed over */
	while ((w = queue_first_waiting(queue)))
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

	LIST_FOREACH_SAFE(link, &queue->subscriptions) {
		struct receiver *r =
			LIST_ENTRY(link, struct subscription, in_queue)->receiver;

		r->ops->recheck(r, queue);
	}
	LIST_FOREACH_SAFE(link, &queue->waiting) {
		struct share *share = LIST_ENTRY(link, struct share, in_queue);
		struct list *next = share->waiting.next;
		bool more = true;

		while (more) { /* the last one may end the share */
			struct waiting_send *w =
				LIST_ENTRY(next, struct waiting_send, link);

			next = next->next;
			more = next != &share->waiting;
			if (name_check(&queue->name, w->who, RIGHT_WRITE,
				       "send any longer to", &fault))
				w->refused(w, FAULT_DENIED, fault.text);
		}
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

/* ---- looking, and moving ---- */

int queue_refuse_live(struct fault *fault)
{
	return fault_set(
		fault, FAULT_BAD_REQUEST,
		"a live descriptor cannot be kept on the disk: send it to a queue "
		"with durable=false, or send a copy");
}

static uint64_t number_at(struct list *link)
{
	return LIST_ENTRY(link, struct message, in_queue)->number;
}

/* `all` is in the order of the numbers, also where a message comes from another queue. */
bool queue_seek(struct queue *q, struct cursor *place, uint64_t number,
		unsigned int *left)
{
	struct list *at = place->at;

	while (*left && at->prev != &q->all && number_at(at->prev) > number) {
		at = at->prev;
		(*left)--;
	}
	while (*left && at != &q->all && number_at(at) < number) {
		at = at->next;
		(*left)--;
	}
	if (at != place->at)
		cursor_set(place, at);
	return *left;
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
	unsigned int unlimited = UINT_MAX;
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
		r = queue_refuse_live(fault);
	if (r) {
		share_put(share);
		return r;
	}
	message_leave(m);
	cursors_unlist(m->share->queue, m);
	share_uncharge(m);
	share_charge(share, m);
	queue_seek(to, place, m->number, &unlimited);
	list_add_tail(place->at, &m->in_queue); /* before it */
	if (!queue_is_durable(to))
		journal_drop(m);
	message_revive(m);
	if (queue_is_durable(to))
		journal_adopt(m);
	return 0;
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
	map_add(&broker->messages, &m->by_number, map_sequential(m->number));
	list_add_tail(&q->all, &m->in_queue);
	share_charge(m->share, m);
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

/* The one that goes first; either may be NULL. */
static struct message *first_of(struct message *a, struct message *b)
{
	if (!a || !b)
		return a ? a : b;
	if (a->priority != b->priority)
		return a->priority < b->priority ? a : b;
	return a->number < b->number ? a : b;
}

/* From place i of the heap on. What is behind one that is no live descriptor goes after it,
 * and need not be looked at. */
static struct message *first_returned_not_live(const struct queue *q, uint32_t i)
{
	struct message *m;

	if (i >= q->returned.n)
		return NULL;
	m = CONTAINER_OF(q->returned.nodes[i], struct message, place);
	if (!message_is_live(m))
		return m;
	return first_of(first_returned_not_live(q, heap_behind(i)),
			first_returned_not_live(q, heap_behind(i) + 1));
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
	return first_of(best, first_returned_not_live(q, 0));
}

static struct message *first_for(const struct queue *q, const struct receiver *r)
{
	struct message *m = queue_first(q);

	return m && !r->takes_live && message_is_live(m) ? first_not_live(q) : m;
}

struct message *queue_first_for(struct queue *q, const struct receiver *r)
{
	struct message *m;

	/* fewer attempts may be allowed by now */
	while ((m = first_for(q, r)) && m->attempts && message_die_if_used_up(m))
		;
	/* many may be over, and then it goes on when this one has gone */
	return m && message_is_over(m) ? NULL : m;
}

bool queue_is_over_for(const struct queue *q, const struct receiver *r)
{
	const struct message *m = first_for(q, r);

	return m && message_is_over(m);
}

void queue_add_hungry(struct queue *q, struct subscription *s)
{
	s->hungry_since = q->next_hungry++;
	list_add_tail(&q->hungry[s->receiver->takes_live], &s->hungry);
}

/* Not of those that are passed over. */
static struct subscription *first_hungry(const struct queue *q, const bool passed[2])
{
	struct subscription *first = NULL;

	for (int i = 0; i < 2; i++) {
		struct subscription *s =
			LIST_FIRST(&q->hungry[i], struct subscription, hungry);

		if (s && !passed[i] && (!first || s->hungry_since < first->hungry_since))
			first = s;
	}
	return first;
}

/* Where one gets nothing all of its kind would not, and there may be very many. */
void queue_dispatch(struct queue *q)
{
	bool passed[2] = { false, false };
	struct subscription *s;

	while (queue_first(q) && (s = first_hungry(q, passed))) {
		struct receiver *r = s->receiver;
		struct message *m;

		if (!receiver_can_take(r)) { /* fed again when it has credit and room */
			list_remove(&s->hungry);
			continue;
		}
		m = queue_first_for(q, r);
		passed[r->takes_live] = !m;
		if (!m)
			continue;
		passed[!r->takes_live] = false;
		list_remove(&s->hungry);
		queue_add_hungry(q, s);
		receiver_take(r, m);
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
		queue_admit(q);
}
