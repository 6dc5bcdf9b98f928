/* SPDX-License-Identifier: MIT */
#ifndef UNIT_MODEL_RESTART_H
#define UNIT_MODEL_RESTART_H

/* The broker of test_model.c comes and goes: in order, or as by kill -9. */

#include "unit/model.h"

/* What was sent is on the disk, in the order of the numbers. */
static void commit(void)
{
	if (!w.has_store)
		return;
	for (int i = 0; i < MESSAGES_MAX; i++) {
		struct model_message *m = &w.messages[i];

		if (!m->number || m->state != MESSAGE_STORING)
			continue;
		m->state = m->due_ns ? MESSAGE_DELAYED : MESSAGE_READY;
		m->due_ns = deadline_after(virtual_ns, m->due_ns);
	}
	check(store_flush(w.broker.store, UINT64_MAX));
	saved_commit();
}

static void lose_receivers(void)
{
	for (int i = 0; i < RECEIVERS; i++)
		if (w.receivers[i].used) {
			receiver_end(&w.receivers[i].real);
			receiver_lose(&w.receivers[i].real, 0, UINT64_MAX);
		}
}

static void open_queue(int i)
{
	const struct credentials root = { .uid = 0 };
	struct name_ref ref = { .size = 2 };
	struct fault fault;

	snprintf(ref.text, sizeof(ref.text), "q%d", i);
	assert_int_equal(queue_open(&w.broker, &ref, &root, RIGHT_WRITE, "send to",
				    &w.queue[i], &fault),
			 0);
	if (i == MEMORY_QUEUE && w.has_store) {
		w.queue[i]->settings.set |= SETTING_DURABLE;
		w.queue[i]->settings.durable = false;
		w.queue[i]->has_own_settings = true;
		journal_name(w.queue[i]);
	}
	cursor_init(&w.cursors[i]);
	cursor_init(&w.places[i]);
	cursor_open(&w.cursors[i], w.queue[i]);
	cursor_open_at_end(&w.places[i], w.queue[i]);
	w.seen[i] = 0;
}

static void build_up(void)
{
	assert_int_equal(loop_init(&w.loop), 0);
	assert_int_equal(users_init(&w.users, &w.loop, NULL), 0);
	assert_int_equal(
		broker_init(&w.broker, &w.loop, &w.users, &w.limits, &w.rules, true), 0);
	if (w.has_store)
		assert_int_equal(restore(&w.broker, disk_directory), 0);
	for (int i = 0; i < USERS; i++)
		assert_int_equal(user_get(&w.users, 1000 + (uid_t)i, &w.user[i]), 0);
	for (int i = 0; i < QUEUES; i++)
		open_queue(i);
}

static void tear_down(void)
{
	lose_receivers();
	w.broker.store = store_close(w.broker.store, true);
	broker_deinit(&w.broker);
	blobs_deinit(&w.broker.blobs);
	for (int i = 0; i < QUEUES; i++)
		check(!w.cursors[i].queue && !w.places[i].queue);
	for (int i = 0; i < USERS; i++) {
		assert_int_equal(w.user[i]->usage.messages, 0);
		assert_int_equal(w.user[i]->usage.bytes, 0);
		assert_int_equal(w.user[i]->usage.dedups, 0);
		assert_int_equal(w.user[i]->refs, 1);
		user_unref(w.user[i]);
	}
	users_deinit(&w.users);
	loop_deinit(&w.loop);
}

static void world_init(uint64_t seed, bool has_store)
{
	memset(&w, 0, sizeof(w));
	memset(&saved_journal, 0, sizeof(saved_journal));
	saved_commit();
	main_thread = pthread_self();
	virtual_ns = 1000000000 * (uint64_t)NS_PER_S; /* behind any real time */
	wall_ns = 0;
	w.seed = seed;
	w.has_store = has_store;
	chance_state = seed * 2654435761u + 88172645463325252u;
	w.limits = limits_default;
	w.limits.queue_messages = QUEUE_LIMIT;
	w.limits.max_attempts = ATTEMPTS_LIMIT;
	w.limits.lost_delay = LOST_DELAY_MS;
	w.limits.dedup_window = DEDUP_WINDOW_MS;
	w.from = bytes_new_copy("\"from\":{}", 9);
	build_up();
}

static void world_deinit(void)
{
	tear_down();
	bytes_unref(w.from);
}

/* Where nobody knows what was leased all is held back a little. */
static void model_restore(struct model_message *m, const struct saved *s, bool clean)
{
	uint64_t now_ms = virtual_ns / NS_PER_MS;
	uint64_t due_ms = s->due_ns / NS_PER_MS, expires_ms = s->expires_ns / NS_PER_MS;
	uint64_t delay_ms = due_ms > now_ms ? due_ms - now_ms : 0;

	if (!clean && delay_ms < LOST_DELAY_MS)
		delay_ms = LOST_DELAY_MS;
	*m = (struct model_message){
		.number = s->number,
		.queue = s->queue,
		.user = s->user,
		.priority = s->priority,
		.state = s->dead    ? MESSAGE_DEAD
			 : delay_ms ? MESSAGE_DELAYED
				    : MESSAGE_READY,
		.due_ns = deadline_after(virtual_ns, delay_ms),
		.expires_ns = UINT64_MAX,
		.attempts = s->attempts,
		.deliveries = s->deliveries,
		.in_hand = s->in_hand,
	};
	if (s->expires_ns != UINT64_MAX)
		m->expires_ns = deadline_after(
			virtual_ns, expires_ms > now_ms ? expires_ms - now_ms : 0);
}

static void model_restore_all(bool clean)
{
	int n = 0;

	memset(w.messages, 0, sizeof(w.messages));
	for (int i = 0; i < SAVED_MAX; i++) {
		struct saved *s = &saved_journal.messages[i];

		if (!s->number)
			continue;
		model_restore(&w.messages[n], s, clean);
		if (!is_durable(s->queue))
			s->number = 0; /* kept for this one start */
		if (w.messages[n].state == MESSAGE_READY &&
		    w.messages[n].attempts >= ATTEMPTS_LIMIT)
			model_die(&w.messages[n]);
		n++;
	}
	for (int i = 0; i < IDS_MAX; i++) { /* but for those of messages in memory */
		struct saved_id *id = &saved_journal.ids[i];
		const struct model_message *m = id->number ? find(id->number) : NULL;

		id->stored |= !m || is_durable(m->queue);
	}
	w.ended = 0 - (uint64_t)n; /* the counters begin anew */
	saved_commit();		   /* the start has one of its own */
}

/* The holders may still acknowledge what they have, and what is in memory is kept. */
static void end_in_order(void)
{
	commit();
	w.broker.stopping = true;
	for (int i = 0; i < MESSAGES_MAX; i++) {
		struct model_message *m = &w.messages[i];

		if (m->number && m->state == MESSAGE_LEASED) {
			m->attempts--;
			m->in_hand = true;
			m->state = MESSAGE_DELAYED;
			m->due_ns = deadline_after(virtual_ns, LOST_DELAY_MS);
			save(m);
		}
		if (m->number && !is_durable(m->queue))
			save_new(m);
	}
	lose_receivers();
	journal_keep_all(&w.broker);
	saved_commit();
	w.broker.store = store_close(w.broker.store, true);
}

/* From now on nothing reaches the disk. */
static void end_by_crash(void)
{
	saved_crash();
	disk_fail(1, UINT64_MAX, EIO);
	lose_receivers();
	w.broker.store = store_close(w.broker.store, true);
	disk_works();
}

static void step_restart(void)
{
	bool clean = chance(2);

	if (!w.has_store || chance(RESTART_EACH))
		return;
	w.restarts++;
	if (clean)
		end_in_order();
	else
		end_by_crash();
	tear_down();
	build_up();
	model_restore_all(clean);
}

#endif
