/* SPDX-License-Identifier: MIT */

/* purge, move: many messages of a queue at once. */

#include <string.h>

#include "base/err.h"
#include "op_name.h"
#include "ops.h"
#include "store.h"

/* Messages of a queue in some states, a few at a time, so that a million of them hold up
 * nobody. The queue is looked up anew each time: it may be deleted meanwhile. */
struct sweep {
	struct request request;
	struct timer again;
	struct name_ref from, to;
	bool moves;
	uint16_t states;     /* bits of enum message_state */
	uint64_t next, last; /* message numbers still to be looked at */
	uint64_t done;
	bool changed, storing;
	struct store_wait stored;
};

/* What is leased is somebody's. */
enum { SWEEPABLE = 1 << MESSAGE_READY | 1 << MESSAGE_DELAYED | 1 << MESSAGE_DEAD };

enum { SWEEP_AT_ONCE = 2000 };

static void sweep_free(struct sweep *s)
{
	if (s->storing)
		peer_end_storing(s->request.peer, &s->stored);
	timer_cancel(&s->request.peer->server->loop, &s->again);
	request_close(&s->request);
	free(s);
}

static void sweep_reply(struct sweep *s, const struct fault *fault)
{
	struct peer *peer = s->request.peer;
	struct json_writer *w = peer_begin(peer, true, s->request.id);

	if (fault) {
		json_put_text(w, "error", fault_word_name(fault->word));
		json_put_text(w, "message", fault->text);
	}
	json_put_u64(w, s->moves ? "moved" : "purged", s->done);
	peer_end(peer);
	sweep_free(s);
}

static void on_stored(struct store_wait *wait, int result)
{
	struct sweep *s = CONTAINER_OF(wait, struct sweep, stored);
	struct fault *fault = &s->request.peer->server->fault;

	if (result < 0)
		fault_not_stored(fault, result);
	sweep_reply(s, result < 0 ? fault : NULL);
}

/* What was done is told when it is on the disk. */
static void sweep_finish(struct sweep *s, const struct fault *fault)
{
	struct store *store = s->request.peer->server->broker.store;

	if (fault || !store || !s->changed) {
		sweep_reply(s, fault);
		return;
	}
	s->storing = true;
	s->stored = (struct store_wait){ .done = on_stored };
	peer_begin_storing(s->request.peer, &s->stored);
}

static struct queue *sweep_queue(const struct sweep *s, const struct name_ref *ref)
{
	struct name *name = name_find(&s->request.peer->server->broker, ref);

	return name ? queue_of_name(name) : NULL;
}

static int sweep_one(struct sweep *s, struct message *m, struct queue *to,
		     struct list **place, struct fault *fault)
{
	int r = 0;

	if (!(s->states >> m->state & 1))
		return 0;
	s->changed |= m->stored || queue_is_durable(to);
	if (s->moves)
		r = queue_move(m, to, place, fault);
	else
		message_end(m, "deleted");
	s->done += r == 0;
	return r;
}

static void sweep_some(struct sweep *s)
{
	struct server *server = s->request.peer->server;
	struct queue *from = sweep_queue(s, &s->from);
	struct queue *to = s->moves ? sweep_queue(s, &s->to) : from;
	struct fault *fault = &server->fault;
	struct list *place = NULL;
	unsigned int n = 0;
	int r = 0;

	if (!from || !to) {
		fault_set(fault, FAULT_NOT_FOUND, "the queue was deleted meanwhile");
		sweep_finish(s, fault);
		return;
	}
	LIST_FOREACH_SAFE(link, &from->all) {
		struct message *m = LIST_ENTRY(link, struct message, in_queue);

		if (m->number < s->next)
			continue;
		if (m->number > s->last)
			break;
		if (n++ == SWEEP_AT_ONCE) {
			s->next = m->number;
			r = timer_set(&server->loop, &s->again, server->loop.now_ns);
			break;
		}
		r = sweep_one(s, m, to, &place, fault);
		if (r)
			break;
	}
	if (r < 0)
		r = fault_set(fault, FAULT_INTERNAL, "no memory");
	if (r || !timer_is_set(&s->again))
		sweep_finish(s, r ? fault : NULL);
}

static void on_again(struct timer *timer)
{
	sweep_some(CONTAINER_OF(timer, struct sweep, again));
}

static void on_end(struct request *request, const char *why)
{
	struct sweep *s = CONTAINER_OF(request, struct sweep, request);
	struct fault *fault = &request->peer->server->fault;

	if (!why) {
		sweep_free(s);
		return;
	}
	fault_set(fault, strcmp(why, "cancelled") ? FAULT_SHUTTING_DOWN : FAULT_TIMEOUT,
		  "%s; what was done stays done", why);
	sweep_finish(s, fault);
}

static int get_states(struct call *call, uint16_t *states)
{
	const char *text;
	size_t size;
	int r = header_get_string(call->header, KEY_STATE, 1, 16, &text, &size,
				  call->fault);

	if (r <= 0)
		return r < 0 ? FAULT : 0;
	if (size == 3 && !memcmp(text, "all", 3)) {
		*states = SWEEPABLE;
		return 0;
	}
	for (enum message_state i = MESSAGE_READY; i < MESSAGE_N_STATES; i++) {
		const char *name = message_state_name(i);

		if (SWEEPABLE >> i & 1 && strlen(name) == size &&
		    !memcmp(name, text, size)) {
			*states = (uint16_t)(1u << i);
			return 0;
		}
	}
	return fault_set(
		call->fault, FAULT_BAD_REQUEST,
		"\"state\" must be \"ready\", \"delayed\", \"dead\" or \"all\" (leased "
		"messages are somebody's)");
}

static int sweep_start(struct call *call, struct sweep *s)
{
	struct sweep *heap = malloc(sizeof(*heap));

	if (!heap)
		return err_origin(-ENOMEM);
	*heap = *s;
	timer_init(&heap->again, TIMER_MONOTONIC, on_again);
	heap->last = call->server->broker.next_number - 1;
	if (request_open(&heap->request, call->peer, true, call->id, on_end) < 0) {
		free(heap);
		return err_origin(-ENOMEM);
	}
	sweep_some(heap);
	return 0;
}

/* The caller's own queue, and which of its messages. */
static int sweep_prepare(struct call *call, struct sweep *s)
{
	struct name *name;
	int r = op_name_find_own(call, &name);

	if (r == 0)
		r = get_states(call, &s->states);
	if (r)
		return err_trace(r);
	s->from = (struct name_ref){ .size = name->size };
	memcpy(s->from.text, name->text, name->size + 1);
	s->to = s->from;
	return 0;
}

int op_purge(struct call *call)
{
	struct sweep s = { .states = 1 << MESSAGE_READY | 1 << MESSAGE_DELAYED };
	int r = sweep_prepare(call, &s);

	return err_trace(r ? r : sweep_start(call, &s));
}

int op_move(struct call *call)
{
	struct sweep s = { .states = 1 << MESSAGE_DEAD, .moves = true };
	struct queue *to;
	int r = sweep_prepare(call, &s);

	if (r == 0 && header_has(call->header, KEY_TO)) {
		r = op_name_get(call, KEY_TO, &s.to);
		if (r == 0)
			r = queue_open(&call->server->broker, &s.to, &call->peer->who,
				       RIGHT_WRITE, "send to", &to, call->fault);
	}
	return err_trace(r ? r : sweep_start(call, &s));
}
