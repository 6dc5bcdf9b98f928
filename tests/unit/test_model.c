/* SPDX-License-Identifier: MIT */

/*
 * Queues against a model: random sends, deliveries, verdicts, losses and the passing of
 * (virtual) time, done to the real broker and to a small reference that knows only what a
 * message's state must be. After every step both must agree.
 *
 * IPC_TEST_SEED and IPC_TEST_STEPS repeat or prolong a run; the seed is printed.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "broker.h"
#include "queue.h"
#include "receiver.h"

enum {
	STEPS = 150000,
	QUEUES = 3,
	USERS = 3,
	RECEIVERS = 5,
	MESSAGES_MAX = 60, /* in the model at once */
	TOKENS_MAX = 200,
	QUEUE_LIMIT = 15,
	ATTEMPTS_LIMIT = 3,
	LOST_DELAY_MS = 50,
};

/* ---- the virtual clock ---- */

static uint64_t virtual_ns;

int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	(void)clock;
	virtual_ns += 1; /* two looks never see the same time */
	t->tv_sec = (time_t)(virtual_ns / NS_PER_S);
	t->tv_nsec = (long)(virtual_ns % NS_PER_S);
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
	bool expired;
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

static void gone(struct model_message *m)
{
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
static void model_return(struct model_message *m, uint64_t delay_ms)
{
	if (m->expired) {
		gone(m);
	} else if (m->attempts >= ATTEMPTS_LIMIT) {
		m->state = MESSAGE_DEAD;
		m->expires_ns = UINT64_MAX;
	} else {
		m->state = delay_ms ? MESSAGE_DELAYED : MESSAGE_READY;
		m->due_ns = deadline_after(virtual_ns, delay_ms);
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
	return message_token(m->share->queue->broker, m->number, m->deliveries, uid);
}

static void deliver(struct receiver *r, struct message *m)
{
	struct model_receiver *model = receiver_model(r);
	struct model_message *expected = find(m->number);

	check(expected);
	check(model->open && model->room && model->reads[expected->queue]);
	check(expected->state == MESSAGE_READY);
	check(expected == first_ready(expected->queue));
	check(model->left > 0);
	model->left -= model->left != UINT64_MAX;
	expected->state = MESSAGE_LEASED;
	expected->holder = (int)(model - w.receivers);
	expected->attempts++;
	expected->deliveries++;
	m->out_end = model->queued += 100;
	w.tokens[w.n_tokens++ % TOKENS_MAX] =
		(struct token){ m->number, token_of(m, r->uid), expected->deliveries };
}

static void hungry(struct receiver *r)
{
	(void)r;
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

/* ---- steps ---- */

static uint64_t count_in(int queue)
{
	uint64_t n = 0;

	for (int i = 0; i < MESSAGES_MAX; i++)
		n += w.messages[i].number && w.messages[i].queue == queue;
	return n;
}

static void step_send(void)
{
	struct model_message *place = find(0);
	struct message_content content = { .body = "body",
					   .body_size = chance(5),
					   .from = w.from,
					   .ttl_ms = UINT64_MAX };
	int queue = (int)chance(QUEUES), user = (int)chance(USERS);
	uint64_t number = 0, in_queue = count_in(queue);
	struct message *m;
	struct fault fault;
	int r;

	if (!place)
		return;
	content.priority = chance(3) ? LIMIT_PRIORITY_DEFAULT : (unsigned int)chance(10);
	content.delay_ms = chance(4) ? 0 : 1 + chance(100);
	content.ttl_ms = chance(4) ? UINT64_MAX : 1 + chance(200);
	m = message_new(&content);
	assert_non_null(m);
	/* the model first: handing out may happen within the call */
	*place = (struct model_message){
		.number = w.broker.next_number,
		.queue = queue,
		.user = user,
		.priority = (int)content.priority,
		.state = content.delay_ms ? MESSAGE_DELAYED : MESSAGE_READY,
		.due_ns = deadline_after(virtual_ns, content.delay_ms),
		.expires_ns = deadline_after(virtual_ns, content.ttl_ms),
	};
	r = queue_send(w.queue[queue], w.user[user], m, &number, &fault);
	check((r == 0) == (in_queue < QUEUE_LIMIT));
	if (r) {
		check(r == FAULT && fault.word == FAULT_FULL);
		place->number = 0;
		message_free(m);
		return;
	}
	check(number == w.broker.next_number - 1);
}

static struct model_receiver *free_receiver(void)
{
	for (int i = 0; i < RECEIVERS; i++)
		if (!w.receivers[i].used)
			return &w.receivers[i];
	return NULL;
}

static void step_open(void)
{
	struct model_receiver *model = free_receiver();
	struct subscription *subscriptions;
	unsigned int n = 0;

	if (!model)
		return;
	subscriptions = calloc(QUEUES, sizeof(*subscriptions));
	*model = (struct model_receiver){ .used = true, .open = true, .room = true };
	model->reads[chance(QUEUES)] = true;
	model->reads[chance(QUEUES)] = true;
	for (int i = 0; i < QUEUES; i++)
		if (model->reads[i])
			subscriptions[n++].queue = w.queue[i];
	receiver_init(&model->real, &ops, &w.broker, 0, subscriptions, n);
	model->window = model->real.window = 1 + chance(4);
	model->left = model->real.left = chance(3) ? UINT64_MAX : 1 + chance(5);
	receiver_feed(&model->real);
}

static struct model_receiver *any_receiver(void)
{
	struct model_receiver *model = &w.receivers[chance(RECEIVERS)];

	return model->used ? model : NULL;
}

static void step_end(void)
{
	struct model_receiver *model = any_receiver();

	if (model && model->open) {
		model->open = false;
		receiver_end(&model->real);
	}
}

/* What never left the daemon comes back as if nothing had been. */
static void model_lose(struct model_message *m, uint64_t sent)
{
	if (message_find(&w.broker, m->number)->out_end <= sent) {
		model_return(m, LOST_DELAY_MS);
		return;
	}
	m->attempts--;
	if (m->expired)
		gone(m);
	else
		m->state = MESSAGE_READY;
}

static void step_lose(void)
{
	struct model_receiver *model = any_receiver();
	uint64_t sent;

	if (!model)
		return;
	sent = chance(model->queued + 1);
	model->open = false;
	for (int i = 0; i < MESSAGES_MAX; i++) {
		struct model_message *m = &w.messages[i];

		if (m->number && m->state == MESSAGE_LEASED &&
		    &w.receivers[m->holder] == model)
			model_lose(m, sent);
	}
	receiver_lose(&model->real, sent);
	check(!model->used);
}

static void step_room(void)
{
	struct model_receiver *model = any_receiver();

	if (!model || !model->open)
		return;
	model->room = !model->room;
	if (model->room)
		receiver_feed_later(&model->real);
}

static void give_verdict(struct message *real, struct model_message *m)
{
	uint64_t delay_ms = chance(3) ? 1 + chance(60) : 0;
	bool count;

	switch (chance(4)) {
	case 0:
	case 1:
		gone(m);
		message_ack(real);
		break;
	case 2:
		count = chance(3);
		m->attempts -= !count && m->attempts;
		m->deliveries++;
		model_return(m, delay_ms);
		message_nack(real, delay_ms, count, strdup("no"));
		break;
	default:
		m->state = MESSAGE_DEAD;
		m->expires_ns = UINT64_MAX;
		message_reject(real, strdup("never"));
	}
}

/* Any token ever given, also of leases that are gone: valid exactly when the model says. */
static void step_settle(void)
{
	unsigned int n = w.n_tokens < TOKENS_MAX ? w.n_tokens : TOKENS_MAX;
	const struct token *t = n ? &w.tokens[chance(n)] : NULL;
	struct model_message *m = t ? find(t->number) : NULL;
	struct message *real;
	bool valid;

	if (!t)
		return;
	real = message_find(&w.broker, t->number);
	check(!m == !real);
	if (!m)
		return;
	valid = m->state != MESSAGE_DEAD && m->deliveries == t->deliveries;
	check(valid == (real->state != MESSAGE_DEAD && token_of(real, 0) == t->token));
	if (valid)
		give_verdict(real, m);
}

/* Into any queue: in its own it only becomes ready again. */
static void step_move(void)
{
	struct model_message *m = &w.messages[chance(MESSAGES_MAX)];
	int to = (int)chance(QUEUES), r;
	struct fault fault;
	bool full;

	if (!m->number || m->state == MESSAGE_LEASED)
		return;
	full = to != m->queue && count_in(to) >= QUEUE_LIMIT;
	r = queue_move(message_find(&w.broker, m->number), w.queue[to], &w.places[to],
		       &fault);
	check(r == (full ? FAULT : 0));
	if (r)
		return;
	m->queue = to;
	m->state = MESSAGE_READY;
	m->attempts = 0;
}

/* Who looks through a queue sees the numbers rise, and begins anew at the end. */
static void step_look(void)
{
	int queue = (int)chance(QUEUES);
	struct cursor *cursor = &w.cursors[queue];
	const struct message *m = cursor_next(cursor);

	check(!m || m->number > w.seen[queue]);
	w.seen[queue] = m ? m->number : 0;
	if (!m)
		cursor_open(cursor, w.queue[queue]);
}

static void step_delete(void)
{
	struct model_message *m = &w.messages[chance(MESSAGES_MAX)];
	struct message *real = m->number ? message_find(&w.broker, m->number) : NULL;

	if (!real || m->state == MESSAGE_LEASED)
		return;
	gone(m);
	message_end(real, "deleted");
}

/* Due times in the model differ from the real ones by the looks at the clock in between:
 * less than a microsecond, and time passes in milliseconds. */
static void step_time(void)
{
	virtual_ns += (1 + chance(30)) * NS_PER_MS;
	for (int i = 0; i < MESSAGES_MAX; i++) {
		struct model_message *m = &w.messages[i];

		if (m->number && m->state == MESSAGE_DELAYED && m->due_ns <= virtual_ns)
			m->state = MESSAGE_READY;
	}
	message_delayed_due(&w.broker);
	for (int i = 0; i < MESSAGES_MAX; i++) {
		struct model_message *m = &w.messages[i];

		if (!m->number || m->expires_ns > virtual_ns)
			continue;
		m->expires_ns = UINT64_MAX;
		if (m->state == MESSAGE_LEASED)
			m->expired = true;
		else
			gone(m);
	}
	message_expiring_due(&w.broker);
}

/* ---- agreement ---- */

static void compare_message(const struct model_message *m)
{
	const struct message *real = message_find(&w.broker, m->number);

	check(real);
	check(real->state == m->state);
	check(real->attempts == m->attempts);
	check(real->priority == m->priority);
	if (m->state == MESSAGE_LEASED)
		check(real->holder == &w.receivers[m->holder].real);
}

static void compare_messages(void)
{
	uint64_t n[QUEUES][MESSAGE_N_STATES] = { { 0 } }, total = 0;

	for (int i = 0; i < MESSAGES_MAX; i++) {
		const struct model_message *m = &w.messages[i];

		if (m->number) {
			compare_message(m);
			n[m->queue][m->state]++;
			total++;
		}
	}
	check(w.broker.messages.n == total);
	check(w.broker.counters.sent == total + w.ended);
	for (int q = 0; q < QUEUES; q++)
		for (int s = MESSAGE_READY; s < MESSAGE_N_STATES; s++)
			check(w.queue[q]->n_in_state[s] == n[q][s]);
}

/* Nobody with credit and room waits beside a ready message. */
static void compare_receivers(void)
{
	for (int i = 0; i < RECEIVERS; i++) {
		const struct model_receiver *r = &w.receivers[i];

		if (!r->open || !r->room || r->real.n_leased >= r->window || !r->left)
			continue;
		for (int q = 0; q < QUEUES; q++)
			check(!r->reads[q] || !first_ready(q));
	}
}

/* A place is one of a message that is there, or the end. */
static void check_cursor(const struct cursor *cursor)
{
	const struct list *at = &cursor->queue->all;

	while (at != cursor->at) {
		at = at->next;
		check(at != &cursor->queue->all);
	}
}

/* All that a queue has, in the order of the numbers. */
static void compare_order(void)
{
	for (int q = 0; q < QUEUES; q++) {
		const struct message *oldest = NULL;
		uint64_t last = 0, n = 0;

		LIST_FOREACH(link, &w.queue[q]->all) {
			const struct message *m =
				LIST_ENTRY(link, struct message, in_queue);

			check(m->number > last);
			last = m->number;
			n++;
			if (!oldest && m->state != MESSAGE_DEAD)
				oldest = m;
		}
		check(n == count_in(q));
		check(queue_oldest(w.queue[q]) == oldest);
		check_cursor(&w.cursors[q]);
		check_cursor(&w.places[q]);
	}
}

static void one_step(void)
{
	static void (*const steps[])(void) = {
		step_send,   step_send,	  step_send, step_send, step_settle,
		step_settle, step_settle, step_time, step_time, step_open,
		step_end,    step_lose,	  step_room, step_move, step_delete,
		step_delete, step_look,	  step_look,
	};

	steps[chance(ARRAY_SIZE(steps))]();
	assert_int_equal(loop_pass(&w.loop), 0); /* timers, then deferred work */
	compare_messages();
	compare_receivers();
	compare_order();
}

/* ---- the test ---- */

static void world_init(uint64_t seed)
{
	const struct credentials root = { .uid = 0 };
	struct fault fault;

	memset(&w, 0, sizeof(w));
	virtual_ns = 1000 * (uint64_t)NS_PER_S;
	w.seed = seed;
	chance_state = seed * 2654435761u + 88172645463325252u;
	w.limits = limits_default;
	w.limits.queue_messages = QUEUE_LIMIT;
	w.limits.max_attempts = ATTEMPTS_LIMIT;
	w.limits.lost_delay = LOST_DELAY_MS;
	assert_int_equal(loop_init(&w.loop), 0);
	assert_int_equal(users_init(&w.users, &w.loop, NULL), 0);
	assert_int_equal(
		broker_init(&w.broker, &w.loop, &w.users, &w.limits, &w.rules, true), 0);
	w.from = bytes_new_copy("\"from\":{}", 9);
	for (int i = 0; i < USERS; i++)
		assert_int_equal(user_get(&w.users, 1000 + (uid_t)i, &w.user[i]), 0);
	for (int i = 0; i < QUEUES; i++) {
		struct name_ref ref = { .size = 2 };

		snprintf(ref.text, sizeof(ref.text), "q%d", i);
		assert_int_equal(queue_open(&w.broker, &ref, &root, RIGHT_WRITE,
					    "send to", &w.queue[i], &fault),
				 0);
		cursor_init(&w.cursors[i]);
		cursor_init(&w.places[i]);
		cursor_open(&w.cursors[i], w.queue[i]);
		cursor_open_at_end(&w.places[i], w.queue[i]);
	}
}

static void world_deinit(void)
{
	for (int i = 0; i < RECEIVERS; i++)
		if (w.receivers[i].used)
			receiver_lose(&w.receivers[i].real, 0);
	broker_deinit(&w.broker);
	for (int i = 0; i < QUEUES; i++)
		check(!w.cursors[i].queue && !w.places[i].queue);
	for (int i = 0; i < USERS; i++) {
		assert_int_equal(w.user[i]->usage.messages, 0);
		assert_int_equal(w.user[i]->usage.bytes, 0);
		assert_int_equal(w.user[i]->refs, 1);
		user_unref(w.user[i]);
	}
	bytes_unref(w.from);
	users_deinit(&w.users);
	loop_deinit(&w.loop);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

static void test_model(void **state)
{
	uint64_t seed = from_environment("IPC_TEST_SEED", (uint64_t)getpid());
	uint64_t steps = from_environment("IPC_TEST_STEPS", STEPS);

	(void)state;
	print_message("seed %" PRIu64 ", %" PRIu64 " steps\n", seed, steps);
	world_init(seed);
	for (w.step = 0; w.step < steps; w.step++)
		one_step();
	print_message("%" PRIu64 " messages sent, %" PRIu64 " handed out, %" PRIu64
		      " died\n",
		      w.broker.counters.sent, w.broker.counters.delivered,
		      w.broker.counters.died);
	world_deinit();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_model) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
