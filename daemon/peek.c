/* SPDX-License-Identifier: MIT */

#include "peek.h"

#include <string.h>

#include "base/err.h"
#include "op_receive.h"
#include "scan.h"

enum {
	PEEKABLE = 1 << MESSAGE_READY | 1 << MESSAGE_DELAYED | 1 << MESSAGE_LEASED |
		   1 << MESSAGE_DEAD,
};

struct peek {
	struct request request;
	struct list link; /* peer->peeks */
	struct user_turn turn;
	struct scan scan;
	uint64_t left;		 /* until max */
	bool more;		 /* there is, beyond max */
	unsigned int i, n;	 /* queue i is being shown, or is the next */
	bool starved;		 /* the peer's output is full */
	struct name_ref names[]; /* looked up when it is their turn: one may be gone then */
};

static void peek_free(struct peek *p)
{
	list_remove(&p->turn.link);
	scan_deinit(&p->scan);
	list_remove(&p->link);
	request_close(&p->request);
	free(p);
}

static struct peek *first_of(struct peer *peer)
{
	return LIST_FIRST(&peer->peeks, struct peek, link);
}

/* A connection's peeks come one after the other: so many of them that are not read do not
 * stand in a queue that others use, where each message that leaves looks for who stands at it. */
static void begin_next(struct peer *peer)
{
	struct peek *p = first_of(peer);

	if (p && !list_is_linked(&p->turn.link))
		user_line_up(peer->user, &p->turn);
}

static void peek_end(struct peek *p, const char *why)
{
	struct peer *peer = p->request.peer;

	op_receive_write_end(peer, p->request.id, why);
	peek_free(p);
	begin_next(peer);
}

/* SCAN_END; SCAN_PAUSE, also when the output is full; or why the peer is to be ended. */
static int show_queue(struct peek *p)
{
	struct peer *peer = p->request.peer;
	struct message *m;
	int r;

	for (;;) {
		/* also behind the last: it is open until its body is on its way */
		p->starved = (p->left && !peer_has_room(peer)) ||
			     peer_has_flow(peer, p->request.id);
		if (p->starved)
			return SCAN_PAUSE;
		r = scan_next(&p->scan, &m);
		if (r != SCAN_FOUND)
			return r;
		p->more = !p->left;
		if (p->more)
			return SCAN_END;
		r = op_receive_write(peer, p->request.id, m, true);
		if (r < 0)
			return err_trace(r);
		p->left--;
	}
}

/* The next queue that is still there. */
static bool open_queue(struct peek *p)
{
	struct broker *broker = &p->request.peer->server->broker;
	struct name *name = NULL;

	while (!name && p->i < p->n)
		name = name_find(broker, &p->names[p->i++]);
	if (name)
		scan_open(&p->scan, queue_of_name(name));
	return name;
}

/* Rights may have changed between two turns. False: it was refused, and is gone. */
static bool may_still_read(struct peek *p)
{
	struct peer *peer = p->request.peer;
	struct fault *fault = &peer->server->fault;
	uint64_t id = p->request.id;
	const struct name *name;

	if (!scan_is_open(&p->scan))
		return true;
	name = &p->scan.cursor.queue->name;
	if (name_check(name, &peer->who, RIGHT_READ, "receive any longer from", fault) ==
	    0)
		return true;
	peer_abort_flows(peer, &id, fault->text);
	peer_refuse(peer, true, id, "receive", fault);
	peek_free(p);
	begin_next(peer);
	return false;
}

static void peek_some(struct peek *p)
{
	struct peer *peer = p->request.peer;
	int r = SCAN_END;

	scan_begin_turn(&p->scan);
	while (r == SCAN_END && !p->more && (scan_is_open(&p->scan) || open_queue(p))) {
		if (!may_still_read(p))
			return;
		r = show_queue(p);
		if (r == SCAN_END)
			scan_close(&p->scan);
	}
	if (r < 0)
		peer_fail(peer, r);
	else if (r == SCAN_PAUSE && !p->starved)
		user_go_on(peer->user, &p->turn);
	else if (r == SCAN_END)
		peek_end(p, p->more ? "max" : "peeked");
}

static void on_turn(struct user_turn *turn)
{
	peek_some(CONTAINER_OF(turn, struct peek, turn));
}

static void on_end(struct request *request, const char *why)
{
	struct peek *p = CONTAINER_OF(request, struct peek, request);

	if (why)
		peek_end(p, why);
	else
		peek_free(p);
}

int peek_start(struct call *call, const struct subscription *queues, unsigned int n,
	       const struct peek_options *o)
{
	size_t size = sizeof(struct peek) + n * sizeof(struct name_ref);
	struct peek *p = calloc(1, size);
	struct peer *peer = call->peer;
	int r;

	if (!p) {
		filter_free(o->filter);
		return err_origin(-ENOMEM);
	}
	user_turn_init(&p->turn, on_turn);
	scan_init(&p->scan, o->dead ? 1 << MESSAGE_DEAD : PEEKABLE, o->filter,
		  call->server->broker.next_number - 1);
	p->left = o->max;
	p->n = n;
	for (unsigned int i = 0; i < n; i++) {
		const struct name *name = &queues[i].queue->name;

		p->names[i].size = name->size;
		memcpy(p->names[i].text, name->text, name->size + 1);
	}
	r = request_open_charged(&p->request, peer, call->id,
				 size + filter_size(o->filter), on_end, call->fault);
	if (r) {
		scan_deinit(&p->scan);
		free(p);
		return err_trace(r);
	}
	list_add_tail(&peer->peeks, &p->link);
	if (first_of(peer) == p) {
		if (user_has_line(peer->user))
			user_line_up(peer->user, &p->turn);
		else
			peek_some(p);
	}
	return 0;
}

void peek_resume(struct peer *peer)
{
	struct peek *p = first_of(peer);

	if (p && p->starved && peer_has_room(peer)) {
		p->starved = false;
		begin_next(peer);
	}
}
