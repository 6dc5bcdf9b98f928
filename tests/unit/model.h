/* SPDX-License-Identifier: MIT */
#ifndef UNIT_MODEL_H
#define UNIT_MODEL_H

/* The model of test_model.c: its clock, chance, what a message must be, what a receiver is
 * handed, and what the store is told. */

#include "unit/disk.h"

#include <inttypes.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

#include "broker.h"
#include "journal.h"
#include "log.h"
#include "queue.h"
#include "receiver.h"
#include "restore.h"
#include "store.h"
#include "unit/model_saved.h"

enum {
	STEPS = 150000,
	STEPS_WITH_STORE = 30000,
	RESTART_EACH = 150, /* steps, on average */
	CLOCK_EACH = 100,
	IDS = 4,
	QUEUES = 3,
	USERS = 3,
	RECEIVERS = 5,
	MESSAGES_MAX = 60, /* in the model at once */
	TOKENS_MAX = 200,
	QUEUE_LIMIT = 15,
	ATTEMPTS_LIMIT = 3,
	LOST_DELAY_MS = 50,
	MEMORY_QUEUE = 2, /* of the queues: that is not durable */
};

/* ---- the virtual clock ---- */

static _Atomic uint64_t virtual_ns;
static _Atomic uint64_t wall_ns; /* how far the wall clock is ahead of the others */
static pthread_t main_thread;

int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	bool wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
	uint64_t now;

	if (pthread_equal(pthread_self(), main_thread))
		virtual_ns += 1; /* two looks never see the same time */
	now = virtual_ns + (wall ? wall_ns : 0);
	t->tv_sec = (time_t)(now / NS_PER_S);
	t->tv_nsec = (long)(now % NS_PER_S);
	return 0;
}

int __wrap_epoll_wait(int fd, struct epoll_event *events, int n, int timeout);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
	(void)fd;
	(void)events;
	(void)n;
	(void)timeout;
	return 0;
}

int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *when,
			   struct itimerspec *before);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *when,
			   struct itimerspec *before)
{
	(void)fd;
	(void)flags;
	(void)when;
	(void)before;
	return 0;
}

/* ---- chance ---- */

static uint64_t chance_state;

static uint64_t chance(uint64_t below)
{
	chance_state ^= chance_state << 13;
	chance_state ^= chance_state >> 7;
	chance_state ^= chance_state << 17;
	return chance_state % below;
}

/* ---- the model ---- */

struct model_message {
	uint64_t number; /* 0: a free place */
	int queue, user, priority;
	enum message_state state;
	uint64_t due_ns, expires_ns; /* UINT64_MAX: never */
	uint64_t attempts, deliveries;
	int holder;
	bool expired, in_hand;
};

struct model_receiver {
	struct receiver real;
	bool used, open, room;
	uint64_t window, left, queued;
	bool reads[QUEUES];
};

struct token {
	uint64_t number, token, deliveries;
};

static struct world {
	struct loop loop;
	struct users users;
	struct limits limits;
	struct rules rules;
	struct broker broker;
	struct user *user[USERS];
	struct queue *queue[QUEUES];
	struct bytes *from;
	struct model_message messages[MESSAGES_MAX];
	struct model_receiver receivers[RECEIVERS];
	struct token tokens[TOKENS_MAX];
	unsigned int n_tokens;
	struct cursor cursors[QUEUES], places[QUEUES];
	uint64_t seen[QUEUES]; /* by the cursor */
	uint64_t seed, step;
	uint64_t ended; /* messages that have left */
	bool has_store;
	uint64_t restarts, duplicates;
} w;

#define check(condition)                                                            \
	do {                                                                        \
		if (!(condition))                                                   \
			fail_msg("seed %" PRIu64 " step %" PRIu64 ": %s (line %d)", \
				 w.seed, w.step, #condition, __LINE__);             \
	} while (0)

static struct model_message *find(uint64_t number)
{
	for (int i = 0; i < MESSAGES_MAX; i++)
		if (w.messages[i].number == number)
			return &w.messages[i];
	return NULL;
}

/* ---- what is journalled ---- */

static bool is_durable(int queue)
{
	return w.has_store && queue != MEMORY_QUEUE;
}

static void fill_saved(struct saved *s, const struct model_message *m)
{
	*s = (struct saved){
		.number = m->number,
		.queue = m->queue,
		.user = m->user,
		.priority = m->priority,
		.dead = m->state == MESSAGE_DEAD,
		.attempts = m->attempts - (m->state == MESSAGE_LEASED),
		.deliveries = m->deliveries,
		.in_hand = m->in_hand || m->state == MESSAGE_LEASED,
		.due_ns = m->state == MESSAGE_DELAYED ? m->due_ns : 0,
		.expires_ns = m->expired ? 1 : m->expires_ns,
	};
}

/* One that is new to the store. */
static void save_new(const struct model_message *m)
{
	struct saved *place = saved_find(0);

	check(place);
	fill_saved(place, m);
}

static void save(const struct model_message *m)
{
	struct saved *place = saved_find(m->number);

	if (place)
		fill_saved(place, m);
}

static void gone(struct model_message *m)
{
	saved_drop(m->number);
	m->number = 0;
	w.ended++;
}

static bool goes_before(const struct model_message *a, const struct model_message *b)
{
	return a->priority != b->priority ? a->priority < b->priority
					  : a->number < b->number;
}

static struct model_message *first_ready(int queue)
{
	struct model_message *first = NULL;

	for (int i = 0; i < MESSAGES_MAX; i++) {
		struct model_message *m = &w.messages[i];

		if (m->number && m->queue == queue && m->state == MESSAGE_READY &&
		    (!first || goes_before(m, first)))
			first = m;
	}
	return first;
}

/* What giving back does: due after delay, dead when the attempts are used up. */
static void model_put_off(struct model_message *m, uint64_t delay_ms)
{
	m->state = delay_ms ? MESSAGE_DELAYED : MESSAGE_READY;
	m->due_ns = deadline_after(virtual_ns, delay_ms);
	save(m);
}

static void model_die(struct model_message *m)
{
	m->state = MESSAGE_DEAD;
	m->expires_ns = UINT64_MAX;
	m->expired = false;
	save(m);
}

static void model_return(struct model_message *m, uint64_t delay_ms)
{
	if (m->expired) {
		gone(m);
	} else if (m->attempts >= ATTEMPTS_LIMIT) {
		model_die(m);
	} else {
		model_put_off(m, delay_ms);
	}
}

/* ---- the receivers' side ---- */

static struct model_receiver *receiver_model(struct receiver *r)
{
	return CONTAINER_OF(r, struct model_receiver, real);
}

static bool has_room(struct receiver *r)
{
	return receiver_model(r)->room;
}

/* The heart: what is handed out must be what the model would hand out. */
static uint64_t token_of(const struct message *m, uid_t uid)
{
	return message_token(m, m->deliveries, uid);
}

static enum delivery deliver(struct receiver *r, struct message *m)
{
	struct model_receiver *model = receiver_model(r);
	struct model_message *expected = find(m->number);
	bool again;

	check(expected);
	check(model->open && model->room && model->reads[expected->queue]);
	check(expected->state == MESSAGE_READY);
	check(expected == first_ready(expected->queue));
	check(model->left > 0);
	model->left -= model->left != UINT64_MAX;
	expected->state = MESSAGE_LEASED;
	expected->holder = (int)(model - w.receivers);
	expected->attempts++;
	again = expected->deliveries > 0;
	if (expected->deliveries < w.broker.delivery_base)
		expected->deliveries = w.broker.delivery_base;
	expected->deliveries++;
	expected->in_hand = false;
	if (again)
		save(expected);
	m->out_end = model->queued += 100;
	w.tokens[w.n_tokens++ % TOKENS_MAX] =
		(struct token){ m->number, token_of(m, r->uid), expected->deliveries };
	return DELIVERY_DONE;
}

/* Nothing is ready that it could have, not even behind what is about to go. */
static void hungry(struct receiver *r)
{
	for (int q = 0; q < QUEUES; q++)
		check(!receiver_model(r)->reads[q] || !first_ready(q));
}

static void complete(struct receiver *r)
{
	receiver_model(r)->open = false;
	receiver_end(r);
}

static void deserted(struct receiver *r)
{
	(void)r;
	check(!"a queue was deleted");
}

static void done(struct receiver *r)
{
	receiver_deinit(r);
	receiver_model(r)->used = receiver_model(r)->open = false;
}

static const struct receiver_ops ops = { .has_room = has_room,
					 .deliver = deliver,
					 .hungry = hungry,
					 .deserted = deserted,
					 .complete = complete,
					 .done = done };

#endif
