/* SPDX-License-Identifier: MIT */

#include "send_request.h"

#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "dedup.h"
#include "room.h"
#include "send_body.h"

/* Durable sends come and go in bursts, each beside its message, which stays: freed one by one
 * they would leave holes between messages that nothing fits. So some are kept. */
enum { SPARE_MAX = 256 };

static struct send_request *get_memory(struct server *server)
{
	struct send_request *s = server->spare_sends;

	if (!s)
		return calloc(1, sizeof(*s));
	server->spare_sends = s->next_spare;
	server->n_spare_sends--;
	*s = (struct send_request){ 0 };
	return s;
}

static void put_memory(struct server *server, struct send_request *s)
{
	if (server->n_spare_sends == SPARE_MAX) {
		free(s);
		return;
	}
	s->next_spare = server->spare_sends;
	server->spare_sends = s;
	server->n_spare_sends++;
}

void send_requests_drop_spare(struct server *server)
{
	while (server->spare_sends) {
		struct send_request *s = server->spare_sends;

		server->spare_sends = s->next_spare;
		free(s);
	}
}

/* ---- answers ---- */

/* In server->header. 0 or -ENOMEM. */
static int make_answer(struct peer *peer, uint64_t id, uint64_t number, bool duplicate,
		       const char *outcome)
{
	const struct store *store = peer->server->broker.store;
	bool promised = !store || store_keeps_promises(store);
	struct buf *header = &peer->server->header;
	struct json_writer *w;

	if (!duplicate && !outcome && promised) {
		header->size = 0;
		return err_trace(plain_put_sent(header, id, number));
	}
	w = peer_begin(peer, true, id);
	json_put_u64(w, "message", number);
	if (duplicate)
		json_put_bool(w, "duplicate", true);
	if (outcome)
		json_put_text(w, "outcome", outcome);
	if (!promised)
		json_put_bool(w, "durable", false);
	return err_trace(json_writer_end(w));
}

static void stop_storing(struct send_request *s)
{
	s->answered |= request_end_storing(&s->request);
}

void send_request_hold(struct send_request *s, uint64_t bytes)
{
	s->request.peer->user->usage.held_bytes += bytes - s->held;
	s->held = bytes;
}

/* It may wait for others as long as its sender likes. */
static void charge(struct send_request *s)
{
	if (s->charge.bytes)
		return;
	s->charge.bytes = sizeof(*s);
	user_charge_waiting(s->request.peer->user, &s->charge);
}

void send_request_free(struct send_request *s)
{
	struct server *server = s->request.peer->server;

	send_request_hold(s, 0);
	user_uncharge_waiting(s->request.peer->user, &s->charge);
	timer_cancel(&server->loop, &s->timer);
	if (s->waits) {
		s->request.peer->n_waiting_sends--;
		waiting_send_cancel(&s->waiting);
	}
	stop_storing(s);
	if (s->confirms)
		confirm_remove(&s->confirm, &server->broker);
	request_close(&s->request);
	s->body = send_body_free(s->body);
	put_memory(server, s);
}

void send_request_refuse(struct send_request *s)
{
	stop_storing(s);
	if (!s->answered)
		peer_refuse(s->request.peer, s->request.has_id, s->request.id, "send",
			    &s->request.peer->server->fault);
	send_request_free(s);
}

static void refuse_and_free(struct send_request *s, enum fault_word word,
			    const char *text)
{
	fault_set(&s->request.peer->server->fault, word, "%s", text);
	send_request_refuse(s);
}

/* If all that it waits for is there. */
static void answer(struct send_request *s)
{
	if (s->request.storing || (s->options.wants_outcome && !s->outcome))
		return;
	if (s->request.has_id && !s->answered)
		peer_put_made(s->request.peer,
			      make_answer(s->request.peer, s->request.id, s->number,
					  s->duplicate, s->outcome));
	send_request_free(s);
}

static void on_stored(struct store_wait *wait, int result);

/* When it is known now already what the answer will be, if all goes well. */
static bool foresee_answer(const struct send_request *s, bool for_send)
{
	if (!s->request.has_id || !for_send || s->duplicate || s->options.wants_outcome)
		return false;
	return make_answer(s->request.peer, s->request.id, s->number, false, NULL) == 0;
}

static void await_disk(struct send_request *s, bool for_send)
{
	s->failures = s->request.peer->server->broker.store_failures;
	s->stored = (struct store_wait){ .for_send = for_send, .done = on_stored };
	request_begin_storing(&s->request, &s->stored, foresee_answer(s, for_send));
}

/* Told when it is on the disk: what was told to be over does not come again. */
static void on_settled(struct confirm *confirm, uint64_t number, const char *outcome)
{
	struct send_request *s = CONTAINER_OF(confirm, struct send_request, confirm);

	(void)number;
	s->confirms = false;
	s->outcome = outcome;
	s->unstored = confirm->stored && s->request.storing;
	if (confirm->stored && !s->request.storing)
		await_disk(s, false);
	answer(s);
}

static void refuse_unstored_outcome(struct send_request *s, int result)
{
	fault_not_stored(&s->request.peer->server->fault, result);
	send_request_refuse(s);
}

static void on_stored(struct store_wait *wait, int result)
{
	struct send_request *s = CONTAINER_OF(wait, struct send_request, stored);
	uint64_t failures = s->request.peer->server->broker.store_failures;

	stop_storing(s);
	if (result == 0 && s->unstored) {
		s->unstored = false;
		await_disk(s, false);
		return;
	}
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

	if (!m || m->state == MESSAGE_DEAD) { /* a repeated send, too late to be told */
		s->outcome = m ? "dead" : "gone";
		return 0;
	}
	r = map_reserve(confirms);
	if (r < 0)
		return err_trace(r);
	s->confirms = true;
	s->confirm.settled = on_settled;
	confirm_add(&s->confirm, m);
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
	send_request_hold(s, 0);
	timer_cancel(&peer->server->loop, &s->timer);
	if (s->options.wants_outcome && await_outcome(s, m) < 0) {
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
	if (!s->options.wants_outcome)
		user_uncharge_waiting(s->request.peer->user, &s->charge);
	accepted(s, number, duplicate);
}

static void on_refused(struct waiting_send *waiting, enum fault_word word,
		       const char *why)
{
	refuse_and_free(CONTAINER_OF(waiting, struct send_request, waiting), word, why);
}

static void on_timeout(struct timer *timer)
{
	struct send_request *s = CONTAINER_OF(timer, struct send_request, timer);
	enum fault_word word = waiting_send_why(&s->waiting);
	const char *why = "there was no room in the queue within wait_ms";

	if (word == FAULT_QUOTA)
		why = "this user had too much in queues for all of wait_ms";
	else if (word != FAULT_FULL)
		why = "there is room in the queue, but the disk takes nothing: the "
		      "message was not taken";
	refuse_and_free(s, word, why);
}

static void on_end(struct request *request, const char *why)
{
	struct send_request *s = CONTAINER_OF(request, struct send_request, request);

	if (!why)
		send_request_free(s);
	else if (!strcmp(why, "cancelled"))
		refuse_and_free(s, FAULT_TIMEOUT,
				s->body ? "cancelled while its body was copied: it was "
					  "not sent"
				: s->waits ? "cancelled while it waited for room"
				: s->request.storing
					? "cancelled while the disk was waited for: "
					  "whether it is there is not known"
					: "cancelled; the message stays in the queue");
	else if (s->request.storing) /* it may be found after the start */
		refuse_and_free(s, FAULT_INTERNAL,
				"the daemon is stopping, and the disk does not answer: "
				"whether the message was taken is not known; send it "
				"again, with the same dedup_id");
	else
		refuse_and_free(s, FAULT_SHUTTING_DOWN,
				s->confirms ? "the daemon is stopping; the message stays "
					      "in the queue"
					    : "the daemon is stopping: the message was "
					      "not taken");
}

/* ---- the beginning ---- */

struct send_request *send_request_new(struct call *call,
				      const struct send_options *options)
{
	struct send_request *s = get_memory(call->server);

	if (!s)
		return NULL;
	s->options = *options;
	timer_init(&s->timer, TIMER_MONOTONIC, on_timeout);
	if (request_open(&s->request, call->peer, call->has_id, call->id, on_end) < 0) {
		put_memory(call->server, s);
		return NULL;
	}
	return s;
}

/* Takes m on success. */
static int wait_for_room(struct call *call, struct send_request *opened,
			 struct queue *queue, struct message *m,
			 const struct send_options *options)
{
	struct peer *peer = call->peer;
	const struct waiting_charge cost = { message_cost(m) + sizeof(*opened),
					     message_is_live(m) };
	struct send_request *s = opened;
	int r = room_to_wait(peer->user, &call->server->limits, &cost, call->fault);

	if (r == 0) /* receiving makes no room for one more id */
		r = dedup_check(&call->server->broker, peer->user, m, call->fault);
	if (r)
		return r;
	if (peer->n_waiting_sends == LIMIT_WAITING_SENDS_MAX)
		return fault_set(call->fault, FAULT_FULL,
				 "%d sends of this connection wait for room already "
				 "(waiting_sends_max)",
				 LIMIT_WAITING_SENDS_MAX);
	if (!s)
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
		if (s != opened)
			send_request_free(s);
		return err_trace(r);
	}
	s->waits = true;
	peer->n_waiting_sends++;
	charge(s);
	return 0;
}

/* Also where its message is there already, see dedup_id: so many may wait for one. */
static int check_outcome(struct call *call, const struct send_options *options)
{
	const struct waiting_charge cost = { .bytes = sizeof(struct send_request) };

	if (!options->wants_outcome)
		return 0;
	return err_trace(room_to_wait(call->peer->user, &call->server->limits, &cost,
				      call->fault));
}

/* What passes when messages are received. */
static bool may_wait_for(enum fault_word word)
{
	return word == FAULT_FULL || word == FAULT_QUOTA;
}

int send_message(struct call *call, struct send_request *opened, struct queue *queue,
		 struct message *m, const struct send_options *options)
{
	struct send_request *s = opened;
	uint64_t number;
	int r = check_outcome(call, options);

	if (r)
		return r;
	if (!s && (options->wants_outcome || queue_is_durable(queue)))
		s = send_request_new(call, options);
	/* before the queue has it: a failure must have no effect */
	if (s && map_reserve(&call->server->broker.confirms) < 0)
		r = err_origin(-ENOMEM);
	else if (!s && (options->wants_outcome || queue_is_durable(queue)))
		r = err_origin(-ENOMEM);
	else
		r = queue_send(queue, call->peer->user, m, &number, call->fault);
	if (r != 0 && r != QUEUE_DUPLICATE) {
		if (s && s != opened)
			send_request_free(s);
		if (r == FAULT && options->wait_ms && may_wait_for(call->fault->word))
			r = wait_for_room(call, opened, queue, m, options);
		return err_trace(r);
	}
	if (s && options->wants_outcome)
		charge(s);
	if (s)
		accepted(s, number, r == QUEUE_DUPLICATE);
	else if (call->has_id)
		peer_put_made(call->peer, make_answer(call->peer, call->id, number,
						      r == QUEUE_DUPLICATE, NULL));
	return 0;
}
