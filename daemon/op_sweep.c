/* SPDX-License-Identifier: MIT */

/* purge, move: many messages of a queue at once. */

#include <string.h>

#include "base/err.h"
#include "op_name.h"
#include "ops.h"
#include "scan.h"
#include "store.h"

/* Messages of a queue in some states. */
struct sweep {
	struct request request;
	struct user_turn turn;
	struct scan scan;
	struct cursor place; /* of a move: in the queue it goes to */
	bool moves;
	uint64_t done;
	bool changed, failed;
	struct fault fault; /* failed: why it ended early */
	struct store_wait stored;
};

/* What is leased is somebody's. */
enum { SWEEPABLE = 1 << MESSAGE_READY | 1 << MESSAGE_DELAYED | 1 << MESSAGE_DEAD };

static void sweep_free(struct sweep *s)
{
	request_end_storing(&s->request);
	list_remove(&s->turn.link);
	request_close(&s->request);
	scan_deinit(&s->scan);
	cursor_close(&s->place);
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
	else
		*fault = s->fault;
	sweep_reply(s, result < 0 || s->failed ? fault : NULL);
}

/* What was done is told when it is on the disk. */
static void sweep_finish(struct sweep *s, const struct fault *fault)
{
	struct store *store = s->request.peer->server->broker.store;

	if (!store || !s->changed) {
		sweep_reply(s, fault);
		return;
	}
	s->failed = fault != NULL;
	if (fault)
		s->fault = *fault;
	s->stored = (struct store_wait){ .done = on_stored };
	request_begin_storing(&s->request, &s->stored, false);
}

/* A place far away in a long queue takes more than a turn. */
static bool can_move_now(struct sweep *s, struct message *m)
{
	struct queue *to = s->place.queue;

	if (!s->moves || to == s->scan.cursor.queue ||
	    queue_seek(to, &s->place, m->number, &s->scan.left))
		return true;
	scan_put_back(&s->scan, m);
	return false;
}

static int sweep_one(struct sweep *s, struct message *m, struct fault *fault)
{
	int r = 0;

	s->changed |= m->stored || (s->moves && queue_is_durable(s->place.queue));
	if (s->moves)
		r = queue_move(m, s->place.queue, &s->place, fault);
	else
		message_end(m, "deleted");
	s->done += r == 0;
	return r;
}

/* Rights may have changed between two turns. */
static int check_rights(const struct sweep *s, struct fault *fault)
{
	const struct credentials *who = &s->request.peer->who;
	const struct queue *from = s->scan.cursor.queue, *to = s->place.queue;

	if (!name_is_owner(&from->name, who))
		return fault_set(fault, FAULT_DENIED, "%s belongs to somebody else now",
				 from->name.text);
	return from == to ? 0
			  : name_check(&to->name, who, RIGHT_WRITE, "send any longer to",
				       fault);
}

/* SCAN_END, SCAN_PAUSE, or -1 with the fault said. */
static int sweep_turn(struct sweep *s, struct fault *fault)
{
	struct message *m;
	int r, failed = 0;

	if (!scan_is_open(&s->scan) || !s->place.queue) {
		fault_set(fault, FAULT_NOT_FOUND, "the queue was deleted meanwhile");
		return -1;
	}
	if (check_rights(s, fault))
		return -1;
	scan_begin_turn(&s->scan);
	while (!failed && (r = scan_next(&s->scan, &m)) == SCAN_FOUND) {
		if (!can_move_now(s, m))
			return SCAN_PAUSE;
		failed = sweep_one(s, m, fault);
	}
	if (r < 0 || failed < 0)
		fault_set(fault, FAULT_INTERNAL, "no memory");
	return failed ? -1 : r;
}

static void sweep_some(struct sweep *s)
{
	struct peer *peer = s->request.peer;
	struct fault *fault = &peer->server->fault;
	int r = sweep_turn(s, fault);

	if (r == SCAN_PAUSE)
		user_go_on(peer->user, &s->turn);
	else
		sweep_finish(s, r < 0 ? fault : NULL);
}

static void on_turn(struct user_turn *turn)
{
	sweep_some(CONTAINER_OF(turn, struct sweep, turn));
}

static void on_end(struct request *request, const char *why)
{
	struct sweep *s = CONTAINER_OF(request, struct sweep, request);
	struct fault *fault = &request->peer->server->fault;

	if (!why) {
		sweep_free(s);
	} else if (request->storing) { /* it is all over but for that */
		fault_unstored_end(fault, why);
		sweep_reply(s, fault);
	} else { /* at once: the answer to cancel comes behind this one */
		bool cancelled = !strcmp(why, "cancelled");

		fault_set(fault, cancelled ? FAULT_TIMEOUT : FAULT_SHUTTING_DOWN,
			  "%s; what was done stays done%s",
			  cancelled ? why : "the daemon is stopping",
			  s->changed ? ", but was not yet on the disk" : "");
		sweep_reply(s, fault);
	}
}

struct sweep_options {
	uint16_t states; /* bits of enum message_state */
	bool moves;
	struct queue *from, *to;
	struct filter *filter;
};

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

static int sweep_start(struct call *call, struct sweep_options *o)
{
	size_t cost = sizeof(struct sweep) + filter_size(o->filter);
	struct sweep *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_origin(-ENOMEM);
	user_turn_init(&s->turn, on_turn);
	scan_init(&s->scan, o->states, TAKE_PTR(o->filter),
		  call->server->broker.next_number - 1);
	cursor_init(&s->place);
	s->moves = o->moves;
	r = request_open_charged(&s->request, call->peer, call->id, cost, on_end,
				 call->fault);
	if (r) {
		scan_deinit(&s->scan);
		free(s);
		return err_trace(r);
	}
	scan_open(&s->scan, o->from);
	cursor_open_at_end(&s->place, o->to);
	if (user_has_line(call->peer->user))
		user_line_up(call->peer->user, &s->turn);
	else
		sweep_some(s);
	return 0;
}

/* The caller's own queue, and which of its messages. */
static int get_options(struct call *call, struct sweep_options *o)
{
	struct name *name;
	int r = op_name_find_own(call, &name);

	if (r == 0)
		r = get_states(call, &o->states);
	if (r == 0)
		r = filter_get(call->header, &o->filter, call->fault);
	if (r)
		return err_trace(r);
	o->from = o->to = queue_of_name(name);
	return 0;
}

int op_purge(struct call *call)
{
	struct sweep_options o = { .states = 1 << MESSAGE_READY | 1 << MESSAGE_DELAYED };
	int r = get_options(call, &o);

	if (r == 0)
		r = sweep_start(call, &o);
	filter_free(o.filter);
	return err_trace(r);
}

int op_move(struct call *call)
{
	struct sweep_options o = { .states = 1 << MESSAGE_DEAD, .moves = true };
	struct name_ref to;
	int r = get_options(call, &o);

	if (r == 0 && header_has(call->header, KEY_TO)) {
		r = op_name_get(call, KEY_TO, &to);
		if (r == 0)
			r = queue_open(&call->server->broker, &to, &call->peer->who,
				       RIGHT_WRITE, "send to", &o.to, call->fault);
	}
	if (r == 0)
		r = sweep_start(call, &o);
	filter_free(o.filter);
	return err_trace(r);
}
