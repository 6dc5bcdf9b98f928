/* SPDX-License-Identifier: MIT */

#include "peek.h"

#include <string.h>

#include "base/err.h"
#include "op_receive.h"

struct peek {
	struct request request;
	struct list link; /* peer->peeks */
	uint64_t left;	  /* until max */
	uint64_t next;	  /* message number to go on with, in queue i */
	uint64_t last;	  /* the newest there was at the start */
	unsigned int i, n;
	struct name_ref names[]; /* looked up anew: a queue may be deleted meanwhile */
};

static void peek_free(struct peek *p)
{
	list_remove(&p->link);
	request_close(&p->request);
	free(p);
}

static void peek_end(struct peek *p, const char *why)
{
	op_receive_write_end(p->request.peer, p->request.id, why);
	peek_free(p);
}

/* False: the output is full (or the peer ended), p->next is where to go on. */
static bool show_queue(struct peek *p, const struct queue *queue)
{
	struct peer *peer = p->request.peer;

	LIST_FOREACH(link, &queue->all) {
		const struct message *m = LIST_ENTRY(link, struct message, in_queue);

		if (m->number < p->next)
			continue;
		if (m->number > p->last || !p->left)
			break;
		p->next = m->number;
		if (!peer_has_room(peer) ||
		    op_receive_write(peer, p->request.id, m, true) < 0)
			return false;
		p->next++;
		p->left--;
	}
	return true;
}

static void peek_some(struct peek *p)
{
	for (; p->i < p->n && p->left; p->i++, p->next = 0) {
		struct name *name =
			name_find(&p->request.peer->server->broker, &p->names[p->i]);

		if (name && !show_queue(p, queue_of_name(name)))
			return;
	}
	peek_end(p, "peeked");
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
	       uint64_t max)
{
	struct peek *p = calloc(1, sizeof(*p) + n * sizeof(p->names[0]));

	if (!p)
		return err_origin(-ENOMEM);
	p->left = max;
	p->last = call->server->broker.next_number - 1;
	p->n = n;
	for (unsigned int i = 0; i < n; i++) {
		const struct name *name = &queues[i].queue->name;

		p->names[i].size = name->size;
		memcpy(p->names[i].text, name->text, name->size + 1);
	}
	if (request_open(&p->request, call->peer, true, call->id, on_end) < 0) {
		free(p);
		return err_origin(-ENOMEM);
	}
	list_add_tail(&call->peer->peeks, &p->link);
	peek_some(p);
	return 0;
}

void peek_resume(struct peer *peer)
{
	LIST_FOREACH_SAFE(link, &peer->peeks) {
		if (!peer_has_room(peer))
			return;
		peek_some(LIST_ENTRY(link, struct peek, link));
	}
}
