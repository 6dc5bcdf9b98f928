/* SPDX-License-Identifier: MIT */

/*
 * Queues against a model: random sends, deliveries, verdicts, losses and the passing of
 * (virtual) time, done to the real broker and to a small reference that knows only what a
 * message's state must be. After every step both must agree.
 *
 * Once without a store, and once with one: there the broker is also torn down, in order or
 * as by kill -9, and must come back with what the last commit had. It commits only where
 * the model says so: results come by a descriptor, and epoll_wait(2) never reports one.
 *
 * IPC_TEST_SEED and IPC_TEST_STEPS repeat or prolong a run; the seed is printed.
 */

#include "unit/model_restart.h"

/* ---- steps ---- */

static uint64_t count_in(int queue)
{
	uint64_t n = 0;

	for (int i = 0; i < MESSAGES_MAX; i++)
		n += w.messages[i].number && w.messages[i].queue == queue;
	return n;
}

/* Nobody sees it before it is on the disk; its delay begins then, and in the file now. */
static void save_sent(struct model_message *m, uint64_t delay_ms)
{
	struct model_message sent = *m;

	m->due_ns = delay_ms;
	sent.state = delay_ms ? MESSAGE_DELAYED : MESSAGE_READY;
	save_new(&sent);
}

static void step_send(void)
{
	struct model_message *place = find(0);
	struct message_content content = { .body = "body",
					   .body_size = chance(5),
					   .from = w.from,
					   .ttl_ms = UINT64_MAX };
	int queue = (int)chance(QUEUES), user = (int)chance(USERS);
	int id = chance(3) ? -1 : (int)chance(IDS);
	const struct saved_id *known = id < 0 ? NULL : id_find(queue, user, id);
	uint64_t number = 0, in_queue = count_in(queue);
	char id_text[16];
	struct message *m;
	struct fault fault;
	int r;

	if (!place)
		return;
	content.priority = chance(3) ? LIMIT_PRIORITY_DEFAULT : (unsigned int)chance(10);
	content.delay_ms = chance(4) ? 0 : 1 + chance(100);
	content.ttl_ms = chance(4) ? UINT64_MAX : 1 + chance(200);
	snprintf(id_text, sizeof(id_text), "id%d", id);
	if (id >= 0) {
		content.dedup_id = id_text;
		content.dedup_size = strlen(id_text);
	}
	m = message_new(&content);
	assert_non_null(m);
	if (known) {
		check(queue_send(w.queue[queue], w.user[user], m, &number, &fault) ==
		      QUEUE_DUPLICATE);
		check(number == known->number);
		w.duplicates++;
		return;
	}
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
	if (is_durable(queue))
		place->state = MESSAGE_STORING;
	r = queue_send(w.queue[queue], w.user[user], m, &number, &fault);
	check((r == 0) == (in_queue < QUEUE_LIMIT));
	if (r == 0 && is_durable(queue))
		save_sent(place, content.delay_ms);
	if (r == 0 && id >= 0)
		check(id_add(queue, user, id, number, virtual_ns / NS_PER_MS,
			     is_durable(queue)));
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
		if (m->expired)
			gone(m);
		else /* the last attempt, too: its holder may come back */
			model_put_off(m, LOST_DELAY_MS);
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
	receiver_end(&model->real);
	while (receiver_lose(&model->real, sent, 1 + chance(3)))
		;
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
		m->attempts += m->in_hand;
		m->attempts -= !count && m->attempts;
		m->in_hand = false;
		m->deliveries++;
		model_return(m, delay_ms);
		message_nack(real, delay_ms, count, strdup("no"));
		break;
	default:
		m->attempts += m->in_hand;
		m->in_hand = false;
		m->deliveries++;
		model_die(m);
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

	if (!m->number || m->state == MESSAGE_LEASED || m->state == MESSAGE_STORING)
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
	if (!is_durable(to))
		saved_drop(m->number);
	else if (saved_find(m->number))
		save(m);
	else
		save_new(m);
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
	commit();
	/* always in the same part of a millisecond: the store rounds down to one */
	virtual_ns = virtual_ns / NS_PER_MS * NS_PER_MS + (1 + chance(30)) * NS_PER_MS +
		     NS_PER_MS / 10;
	for (int i = 0; i < MESSAGES_MAX; i++) {
		struct model_message *m = &w.messages[i];

		if (!m->number || m->state != MESSAGE_DELAYED || m->due_ns > virtual_ns)
			continue;
		if (m->attempts >= ATTEMPTS_LIMIT)
			model_die(m);
		else
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
	ids_forget_old(virtual_ns / NS_PER_MS);
	w.broker.dedup_timer.due(&w.broker.dedup_timer);
}

/* Somebody sets the wall clock, by up to a year: nothing follows it. What is written then
 * tells the next start. */
static void step_set_clock(void)
{
	enum { YEAR_S = 365 * 86400 };

	if (chance(CLOCK_EACH))
		return;
	wall_ns = chance(YEAR_S) * NS_PER_S;
	if (w.has_store)
		journal_name(w.queue[0]);
	commit();
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
		for (int s = MESSAGE_STORING; s < MESSAGE_N_STATES; s++)
			check(w.queue[q]->n_in_state[s] == n[q][s]);
}

/* Also one that is about to go is handed to nobody, and what is behind it when it has gone. */
static bool has_ready(int queue)
{
	const struct model_message *m = first_ready(queue);

	return m && m->expires_ns > virtual_ns;
}

/* Nobody with credit and room waits beside a ready message. */
static void compare_receivers(void)
{
	for (int i = 0; i < RECEIVERS; i++) {
		const struct model_receiver *r = &w.receivers[i];

		if (!r->open || !r->room || r->real.n_leased >= r->window || !r->left)
			continue;
		for (int q = 0; q < QUEUES; q++)
			check(!r->reads[q] || !has_ready(q));
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
		if (oldest && oldest->state == MESSAGE_STORING)
			oldest = NULL; /* nobody sees it yet */
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
	step_set_clock();
	step_restart();
	assert_int_equal(loop_pass(&w.loop), 0); /* timers, then deferred work */
	compare_messages();
	compare_receivers();
	compare_order();
}

/* ---- the test ---- */

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

static void run(bool has_store, uint64_t steps)
{
	uint64_t seed = from_environment("IPC_TEST_SEED", (uint64_t)getpid());

	steps = from_environment("IPC_TEST_STEPS", steps);
	print_message("seed %" PRIu64 ", %" PRIu64 " steps\n", seed, steps);
	world_init(seed, has_store);
	for (w.step = 0; w.step < steps; w.step++)
		one_step();
	print_message("%" PRIu64 " numbers, %" PRIu64 " duplicates, %" PRIu64
		      " restarts\n",
		      w.broker.next_number, w.duplicates, w.restarts);
	world_deinit();
}

static void test_model(void **state)
{
	(void)state;
	run(false, STEPS);
}

static void test_model_with_store(void **state)
{
	(void)state;
	log_set_level(LEVEL_ERROR);
	run(true, STEPS_WITH_STORE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test_setup_teardown(test_model_with_store, disk_setup,
						disk_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
