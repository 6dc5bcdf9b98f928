/* SPDX-License-Identifier: MIT */
#ifndef UNIT_QUEUE_WORLD_H
#define UNIT_QUEUE_WORLD_H

/* A broker without peers, with one queue and one user, for tests of what is in a queue. */

#include "unit/base.h"

#include "broker.h"
#include "queue.h"
#include "receiver.h"

static struct world {
	struct loop loop;
	struct users users;
	struct limits limits;
	struct rules rules;
	struct broker broker;
	struct user *user;
	struct queue *queue;
	struct bytes *from;
} w;

static UNUSED int world_setup(void **state)
{
	const struct credentials root = { .uid = 0 };
	struct name_ref ref = { .text = "q", .size = 1 };
	struct fault fault;

	(void)state;
	memset(&w, 0, sizeof(w));
	w.limits = limits_default;
	assert_int_equal(loop_init(&w.loop), 0);
	assert_int_equal(users_init(&w.users, &w.loop, NULL), 0);
	assert_int_equal(
		broker_init(&w.broker, &w.loop, &w.users, &w.limits, &w.rules, true), 0);
	w.from = bytes_new_copy("\"from\":{}", 9);
	assert_int_equal(user_get(&w.users, 1000, &w.user), 0);
	assert_int_equal(queue_open(&w.broker, &ref, &root, RIGHT_WRITE, "send to",
				    &w.queue, &fault),
			 0);
	return 0;
}

static UNUSED int world_teardown(void **state)
{
	(void)state;
	broker_deinit(&w.broker);
	user_unref(w.user);
	bytes_unref(w.from);
	users_deinit(&w.users);
	loop_deinit(&w.loop);
	return 0;
}

static UNUSED void ignore_timer(struct timer *timer)
{
	(void)timer;
}

/* One that does not wait. */
static UNUSED void pass(void)
{
	struct timer due;

	timer_init(&due, TIMER_MONOTONIC, ignore_timer);
	assert_int_equal(timer_set(&w.loop, &due, 1), 0);
	assert_int_equal(loop_pass(&w.loop), 0);
}

static UNUSED struct message *send_one(const char *meta)
{
	struct message_content content = { .from = w.from,
					   .ttl_ms = UINT64_MAX,
					   .meta = meta,
					   .meta_size = meta ? strlen(meta) : 0,
					   .priority = LIMIT_PRIORITY_DEFAULT };
	struct message *m = message_new(&content);
	struct fault fault;
	uint64_t number;

	assert_int_equal(queue_send(w.queue, w.user, m, &number, &fault), 0);
	return m;
}

/* ---- a receiver ---- */

static UNUSED bool world_has_room(struct receiver *r)
{
	(void)r;
	return true;
}

static UNUSED enum delivery world_deliver(struct receiver *r, struct message *m)
{
	(void)r;
	m->out_end = 0;
	return DELIVERY_DONE;
}

static UNUSED int world_n_hungry;

static UNUSED void world_note_hungry(struct receiver *r)
{
	(void)r;
	world_n_hungry++;
}

static UNUSED void world_ignore(struct receiver *r)
{
	(void)r;
}

/* Takes whatever comes, ten at a time and in all, once it is fed. */
static UNUSED void world_open_receiver(struct receiver *r, uid_t uid)
{
	static const struct receiver_ops ops = { .has_room = world_has_room,
						 .deliver = world_deliver,
						 .hungry = world_note_hungry,
						 .deserted = world_ignore,
						 .complete = world_ignore,
						 .done = world_ignore };
	struct subscription *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->queue = w.queue;
	receiver_init(r, &ops, &w.broker, uid, s, 1);
	r->window = r->left = 10;
}

#endif
