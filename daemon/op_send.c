/* SPDX-License-Identifier: MIT */

/*
 * send: a message into a queue. A send is answered when the queue has the message, which in a
 * durable queue means on the disk. One that waits for room (wait_ms), for the disk, or for
 * the outcome (confirm "acked") stays open meanwhile.
 */

#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "dedup.h"
#include "ops.h"
#include "store.h"

struct send_request {
	struct request request;
	bool wants_outcome; /* confirm "acked" */
	bool waits;	    /* for room */
	bool confirms;	    /* registered for the outcome */
	bool storing; /* the message, or the first one like it, is not yet on disk */
	bool duplicate;
	uint64_t number;
	const char *outcome;
	uint64_t failures; /* of the store, when it began to wait for it */
	struct waiting_send waiting;
	struct confirm confirm;
	struct store_wait stored;
	struct timer timer;
};

struct send_options {
	uint64_t wait_ms; /* UINT64_MAX: for ever */
	bool wants_outcome;
};

/* ---- answers ---- */

static void reply_number(struct peer *peer, uint64_t id, uint64_t number, bool duplicate,
			 const char *outcome)
{
	const struct broker *broker = &peer->server->broker;
	struct json_writer *w = peer_begin(peer, true, id);

	json_put_u64(w, "message", number);
	if (duplicate)
		json_put_bool(w, "duplicate", true);
	if (outcome)
		json_put_text(w, "outcome", outcome);
	if (broker->store && !store_keeps_promises(broker->store))
		json_put_bool(w, "durable", false);
	peer_end(peer);
}

static void stop_storing(struct send_request *s)
{
	if (s->storing)
		peer_end_storing(s->request.peer, &s->stored);
	s->storing = false;
}

static void send_request_free(struct send_request *s)
{
	timer_cancel(&s->request.peer->server->loop, &s->timer);
	if (s->waits) {
		s->request.peer->n_waiting_sends--;
		waiting_send_cancel(&s->waiting);
	}
	stop_storing(s);
	if (s->confirms)
		map_remove(&s->request.peer->server->broker.confirms, &s->confirm.node);
	request_close(&s->request);
	free(s);
}

static void refuse_and_free(struct send_request *s, enum fault_word word,
			    const char *text)
{
	struct fault *fault = &s->request.peer->server->fault;

	fault_set(fault, word, "%s", text);
	peer_refuse(s->request.peer, s->request.has_id, s->request.id, "send", fault);
	send_request_free(s);
}

/* If all that it waits for is there. */
static void answer(struct send_request *s)
{
	if (s->storing || (s->wants_outcome && !s->outcome))
		return;
	if (s->request.has_id)
		reply_number(s->request.peer, s->request.id, s->number, s->duplicate,
			     s->outcome);
	send_request_free(s);
}

static void on_stored(struct store_wait *wait, int result);

static void await_disk(struct send_request *s, bool for_send)
{
	struct peer *peer = s->request.peer;

	s->storing = true;
	s->failures = peer->server->broker.store_failures;
	s->stored = (struct store_wait){ .for_send = for_send, .done = on_stored };
	peer_begin_storing(peer, &s->stored);
}

/* Told when it is on the disk: what was told to be over does not come again. */
static void on_settled(struct confirm *confirm, uint64_t number, const char *outcome)
{
	struct send_request *s = CONTAINER_OF(confirm, struct send_request, confirm);

	(void)number;
	s->confirms = false;
	s->outcome = outcome;
	if (confirm->stored && !s->storing)
		await_disk(s, false);
	answer(s);
}

static void refuse_unstored_outcome(struct send_request *s, int result)
{
	struct fault *fault = &s->request.peer->server->fault;

	fault_not_stored(fault, result);
	peer_refuse(s->request.peer, s->request.has_id, s->request.id, "send", fault);
	send_request_free(s);
}

static void on_stored(struct store_wait *wait, int result)
{
	struct send_request *s = CONTAINER_OF(wait, struct send_request, stored);
	uint64_t failures = s->request.peer->server->broker.store_failures;

	stop_storing(s);
	if (result < 0 && !wait->for_send)
		refuse_unstored_outcome(s, result);
	else if (result == -ENOSPC)
		refuse_and_free(s, FAULT_NO_SPACE,
				"the disk of ipcd's state directory is full: the message "
				"was not taken");
	else if (result == -ENOMEM)
		refuse_and_free(s, FAULT_INTERNAL,
				"no memory to write the message to the disk: it was not "
				"taken");
	else if (result < 0 || (s->duplicate && s->failures != failures))
		refuse_and_free(s, FAULT_INTERNAL,
				"the message could not be written to the disk, or it is "
				"not known: send it again, with the same dedup_id");
	else
		answer(s);
}

/* -ENOMEM: the message is in the queue all the same. */
static int await_outcome(struct send_request *s, struct message *m)
{
	struct map *confirms = &s->request.peer->server->broker.confirms;
	int r;

	if (!m) { /* a repeated send, whose first message has ended */
		s->outcome = "gone";
		return 0;
	}
	r = map_reserve(confirms);
	if (r < 0)
		return err_trace(r);
	m->confirm = s->confirms = true;
	s->confirm.settled = on_settled;
	map_add(confirms, &s->confirm.node, map_u64(m->number));
	return 0;
}

/* The queue has it: answer, or go on waiting. */
static void accepted(struct send_request *s, uint64_t number, bool duplicate)
{
	struct peer *peer = s->request.peer;
	struct broker *broker = &peer->server->broker;
	struct message *m = message_find(broker, number);

	s->number = number;
	s->duplicate = duplicate;
	timer_cancel(&peer->server->loop, &s->timer);
	if (s->wants_outcome && await_outcome(s, m) < 0) {
		refuse_and_free(
			s, FAULT_INTERNAL,
			"no memory to wait for the outcome; the message is in the queue");
		return;
	}
	if (m && m->state == MESSAGE_STORING)
		await_disk(s, true);
	answer(s);
}

static void on_admitted(struct waiting_send *waiting, uint64_t number, bool duplicate)
{
	struct send_request *s = CONTAINER_OF(waiting, struct send_request, waiting);

	s->waits = false;
	s->request.peer->n_waiting_sends--;
	accepted(s, number, duplicate);
}

static void on_refused(struct waiting_send *waiting, enum fault_word word,
		       const char *why)
{
	refuse_and_free(CONTAINER_OF(waiting, struct send_request, waiting), word, why);
}

static void on_timeout(struct timer *timer)
{
	refuse_and_free(CONTAINER_OF(timer, struct send_request, timer), FAULT_FULL,
			"there was no room in the queue within wait_ms");
}

static void on_end(struct request *request, const char *why)
{
	struct send_request *s = CONTAINER_OF(request, struct send_request, request);

	if (!why)
		send_request_free(s);
	else if (!strcmp(why, "cancelled"))
		refuse_and_free(s, FAULT_TIMEOUT,
				s->waits ? "cancelled while it waited for room"
				: s->storing
					? "cancelled while the disk was waited for: "
					  "whether it is there is not known"
					: "cancelled; the message stays in the queue");
	else
		refuse_and_free(s, FAULT_SHUTTING_DOWN, "the daemon is stopping");
}

/* ---- the request ---- */

static int refuse_unbuilt(struct call *call)
{
	static const enum header_key keys[] = { KEY_FILENAME, KEY_FILE_SIZE, KEY_MODE,
						KEY_MTIME,    KEY_LIVE,	     KEY_XXH3,
						KEY_SHA256,   KEY_MD5 };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (header_has(call->header, keys[i]))
			return fault_set(
				call->fault, FAULT_BAD_REQUEST,
				"\"%s\" is not supported by this version of ipcd",
				header_key_name(keys[i]));
	return 0;
}

static int get_confirm(struct call *call, bool *ret_outcome)
{
	const char *text;
	size_t size;
	int r = header_get_string(call->header, KEY_CONFIRM, 1, 16, &text, &size,
				  call->fault);

	if (r <= 0)
		return r < 0 ? FAULT : 0;
	*ret_outcome = size == 5 && !memcmp(text, "acked", 5);
	if (!*ret_outcome && (size != 6 || memcmp(text, "stored", 6) != 0))
		return fault_set(call->fault, FAULT_BAD_REQUEST,
				 "\"confirm\" must be \"stored\" or \"acked\"");
	if (*ret_outcome && !call->has_id)
		return fault_set(call->fault, FAULT_BAD_REQUEST,
				 "confirm \"acked\" needs an \"id\" to answer to");
	return 0;
}

static int get_content(struct call *call, struct message_content *content,
		       struct send_options *options)
{
	const struct header *h = call->header;
	uint64_t priority = LIMIT_PRIORITY_DEFAULT;

	*content = (struct message_content){
		.body = call->body,
		.body_block = call->body_block,
		.body_size = call->body_size,
		.ttl_ms = UINT64_MAX,
	};
	if (header_get_u64(h, KEY_PRIORITY, 0, LIMIT_PRIORITY_MAX, &priority,
			   call->fault) < 0 ||
	    header_get_ms(h, KEY_DELAY_MS, false, &content->delay_ms, call->fault) < 0 ||
	    header_get_ms(h, KEY_TTL_MS, true, &content->ttl_ms, call->fault) < 0 ||
	    header_get_ms(h, KEY_WAIT_MS, true, &options->wait_ms, call->fault) < 0 ||
	    header_get_object(h, KEY_META, LIMIT_META_MAX, &content->meta,
			      &content->meta_size, call->fault) < 0 ||
	    header_get_string(h, KEY_DEDUP_ID, 1, LIMIT_DEDUP_ID_MAX, &content->dedup_id,
			      &content->dedup_size, call->fault) < 0)
		return FAULT;
	content->priority = (unsigned int)priority;
	return get_confirm(call, &options->wants_outcome);
}

static int open_queue(struct call *call, struct queue **ret_queue)
{
	const char *text;
	size_t size;
	int r = header_get_string(call->header, KEY_QUEUE, 0, LIMIT_HEADER_MAX, &text,
				  &size, call->fault);

	if (r < 0)
		return FAULT;
	if (r == 0)
		return call_missing(call, KEY_QUEUE);
	return err_trace(call_open_queue(call, text, size, ret_queue));
}

static struct send_request *send_request_new(struct call *call,
					     const struct send_options *options)
{
	struct send_request *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->wants_outcome = options->wants_outcome;
	timer_init(&s->timer, TIMER_MONOTONIC, on_timeout);
	if (request_open(&s->request, call->peer, call->has_id, call->id, on_end) < 0) {
		free(s);
		return NULL;
	}
	return s;
}

/* Takes m on success. */
static int wait_for_room(struct call *call, struct queue *queue, struct message *m,
			 const struct send_options *options)
{
	struct peer *peer = call->peer;
	uint64_t max = call->server->limits.buffer_per_user;
	struct send_request *s;
	int r = 0;

	if (peer->user->usage.waiting_bytes + message_cost(m) > max)
		return fault_set(
			call->fault, FAULT_QUOTA,
			"what this user's connections wait with fills %llu bytes "
			"(buffer_per_user); wait for answers",
			(unsigned long long)max);
	if (peer->n_waiting_sends == LIMIT_WAITING_SENDS_MAX)
		return fault_set(call->fault, FAULT_FULL,
				 "%d sends of this connection wait for room already "
				 "(waiting_sends_max)",
				 LIMIT_WAITING_SENDS_MAX);
	s = send_request_new(call, options);
	if (!s)
		return err_origin(-ENOMEM);
	if (options->wait_ms != UINT64_MAX)
		r = timer_set(&call->server->loop, &s->timer,
			      deadline_after(call->server->loop.now_ns,
					     options->wait_ms));
	s->waiting.admitted = on_admitted;
	s->waiting.refused = on_refused;
	s->waiting.who = &peer->who;
	if (r == 0)
		r = queue_wait(queue, peer->user, &s->waiting, m);
	if (r < 0) {
		send_request_free(s);
		return err_trace(r);
	}
	s->waits = true;
	peer->n_waiting_sends++;
	return 0;
}

/* What passes when messages are received. */
static bool may_wait_for(enum fault_word word)
{
	return word == FAULT_FULL || word == FAULT_QUOTA;
}

/* Takes m on success. */
static int send_message(struct call *call, struct queue *queue, struct message *m,
			const struct send_options *options)
{
	struct send_request *s = NULL;
	uint64_t number;
	int r;

	if (options->wants_outcome || queue_is_durable(queue)) {
		/* before the queue has it: a failure must have no effect */
		r = map_reserve(&call->server->broker.confirms);
		if (r < 0)
			return err_trace(r);
		s = send_request_new(call, options);
		if (!s)
			return err_origin(-ENOMEM);
	}
	r = queue_send(queue, call->peer->user, m, &number, call->fault);
	if (r != 0 && r != QUEUE_DUPLICATE) {
		if (s)
			send_request_free(s);
		if (r == FAULT && options->wait_ms && may_wait_for(call->fault->word))
			r = wait_for_room(call, queue, m, options);
		return err_trace(r);
	}
	if (s)
		accepted(s, number, r == QUEUE_DUPLICATE);
	else if (call->has_id)
		reply_number(call->peer, call->id, number, r == QUEUE_DUPLICATE, NULL);
	return 0;
}

int op_send(struct call *call)
{
	struct send_options options = { .wait_ms = 0 };
	struct message_content content;
	struct queue *queue;
	struct message *m;
	int r;

	r = refuse_unbuilt(call);
	if (r == 0)
		r = get_content(call, &content, &options);
	if (r == 0)
		r = open_queue(call, &queue);
	if (r)
		return err_trace(r);
	content.from = peer_get_from(call->peer);
	m = content.from ? message_new(&content) : NULL;
	bytes_unref(content.from);
	if (!m)
		return err_origin(-ENOMEM);
	r = send_message(call, queue, m, &options);
	if (r)
		message_free(m);
	return err_trace(r);
}
