/* SPDX-License-Identifier: MIT */

/*
 * receive: deliveries from queues to a peer, each leased until it is settled, and peek. The
 * leases belong to the connection: they outlive the request that brought them.
 *
 * A delivery's header is the prefix that is its own (re, size, message, lease, attempt),
 * then what is made once: the sender's "from", the queue's name, the sender's meta. Clients
 * recognise one that has only that by its text, see libipc/wire/plain.h.
 */

#include "op_receive.h"

#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "log.h"
#include "op_name.h"
#include "ops.h"
#include "peek.h"

struct receive {
	struct request request; /* while open */
	struct list link;	/* peer->receives or peer->ended */
	struct list sending;	/* peer->sending, or unlinked */
	struct receiver receiver;
	bool open;
	bool starved;		   /* the peer's output was full since it was fed last */
	bool was_full;		   /* the window was, since it was hungry last */
	uint64_t wait_ms, last_ns; /* of idleness; the last delivery */
	struct timer idle;
};

/* ---- writing a delivery ---- */

static int put_header_rest(struct buf *out, const struct message *m)
{
	const struct buf *fragment = &m->share->queue->fragment;
	int r = buf_append(out, m->from->data, m->from->size);

	if (r == 0)
		r = buf_append(out, ",", 1);
	if (r == 0)
		r = buf_append(out, fragment->data, fragment->size);
	if (r == 0 && m->more && m->more->file) {
		r = buf_append(out, ",", 1);
		if (r == 0)
			r = buf_append(out, m->more->file, m->more->file_size);
	}
	if (r == 0 && m->meta_size) {
		r = buf_append_string(out, ",\"meta\":");
		if (r == 0)
			r = buf_append(out, m->data, m->meta_size);
	}
	if (r == 0)
		r = buf_append(out, "}", 1);
	return err_trace(r);
}

static void put_history(struct json_writer *w, const struct message_more *more)
{
	json_put_array(w, "history");
	json_put_raw(w, NULL, more->history, more->history_size);
	json_put_end(w);
}

/* How the body goes. */
struct way {
	bool fd;	      /* as a descriptor */
	uint64_t size, first; /* bytes; first: of the first piece */
};

static size_t format_lease(char out[static 32], const struct peer *peer,
			   const struct message *m)
{
	format_hex64(out, message_token(m, m->deliveries, peer->who.uid));
	return 16 + format_hex(out + 16, m->deliveries);
}

/* Most of them. */
static int begin_plain(struct peer *peer, uint64_t id, const struct message *m,
		       const struct way *way)
{
	struct buf *header = &peer->server->header;
	char lease[32];
	struct plain plain = { .re = id,
			       .size = way->size,
			       .message = m->number,
			       .attempt = m->attempts,
			       .lease = lease,
			       .lease_size = format_lease(lease, peer, m) };

	header->size = 0;
	return err_trace(plain_put_delivery(header, &plain));
}

static bool is_plain(const struct message *m, bool peek, const struct way *way)
{
	return !peek && !way->fd && way->first == way->size &&
	       m->priority == LIMIT_PRIORITY_DEFAULT;
}

static int begin_delivery(struct peer *peer, uint64_t id, const struct message *m,
			  bool peek, const struct way *way)
{
	struct json_writer *w;
	char lease[32];

	if (is_plain(m, peek, way))
		return err_trace(begin_plain(peer, id, m, way));
	w = peer_begin(peer, true, id);
	if (way->fd)
		json_put_u64(w, "fds", 1);
	else if (way->size != UINT64_MAX)
		json_put_u64(w, "size", way->first);
	if (way->first < way->size)
		json_put_bool(w, "more", true);
	json_put_u64(w, "message", m->number);
	if (peek) {
		json_put_text(w, "state", message_state_name(m->state));
		if (m->state == MESSAGE_DEAD && message_reason(m))
			json_put_text(w, "reason", message_reason(m));
		if (m->more && m->more->history_size)
			put_history(w, m->more);
	} else {
		json_put_string(w, "lease", lease, format_lease(lease, peer, m));
	}
	json_put_u64(w, "attempt", m->attempts);
	if (m->priority != LIMIT_PRIORITY_DEFAULT)
		json_put_u64(w, "priority", m->priority);
	return err_trace(json_writer_end_open(w));
}

static struct way choose_way(const struct peer *peer, const struct message *m, bool peek)
{
	const struct blob *blob = message_blob(m);
	struct way way = { .size = message_size(m) };

	if (blob && blob->live && peek)
		way.size = UINT64_MAX; /* it is only told of */
	else
		way.fd = blob && peer->fds;
	if (way.fd)
		way.size = 0;
	way.first = way.size;
	if (peer->pieces && way.size != UINT64_MAX && way.size > LIMIT_PIECE_MAX)
		way.first = LIMIT_PIECE_MAX;
	return way;
}

static int put_memory_body(struct peer *peer, uint64_t id, const struct message *m,
			   const struct way *way)
{
	struct body_view body = { .block = m->body,
				  .data = message_body(m),
				  .size = m->body_size };
	int r;

	if (m->body)
		r = stream_put_bytes(&peer->stream, m->body, 0, way->first);
	else
		r = stream_put(&peer->stream, body.data, body.size);
	if (r == 0 && way->first < way->size)
		r = peer_put_pieces(peer, id, &body, way->first);
	return err_trace(r);
}

/* Takes fd. */
static int put_file_body(struct peer *peer, uint64_t id, const struct message *m,
			 const struct way *way, int fd_taken)
{
	_cleanup_fd_ int fd = fd_taken;
	int more = -1, r;

	if (!way->first)
		return 0;
	if (way->first < way->size) {
		more = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (more < 0)
			return err_origin(-errno);
	}
	r = stream_put_file_take(&peer->stream, TAKE_FD(fd), 0, way->first);
	if (r == 0 && more >= 0)
		return err_trace(peer_put_flow_take(peer, id, m->number, more, way->first,
						    way->size));
	fd_close(more);
	return err_trace(r);
}

static void give_back(void *blob)
{
	blob_unref(blob);
}

/* One of our own, taken, or that of a live message, lent. */
static int attach(struct peer *peer, struct blob *blob, int fd_taken)
{
	int fd = blob->live ? blob->fd : fd_taken;
	struct fdset *fds = fdset_new(&fd, 1);

	if (!fds) {
		fd_close(fd_taken);
		return err_origin(-ENOMEM);
	}
	fds->quick = true;
	if (blob->live) {
		fds->give_back = give_back;
		fds->lender = blob_ref(blob);
	}
	stream_put_fds_take(&peer->stream, fds);
	return 0;
}

/* Takes fd, of a blob; -1: the body is in memory, live, or not shown. */
static int put_delivery(struct peer *peer, uint64_t id, const struct message *m,
			bool peek, const struct way *way, int fd_taken)
{
	_cleanup_fd_ int fd = fd_taken;
	struct server *server = peer->server;
	int r = begin_delivery(peer, id, m, peek, way);

	if (r == 0)
		r = put_header_rest(&server->header, m);
	if (r == 0 && way->fd)
		r = attach(peer, message_blob(m), TAKE_FD(fd));
	if (r == 0)
		r = stream_put_header(&peer->stream, server->header.data,
				      server->header.size);
	if (r < 0 || way->fd || way->size == UINT64_MAX)
		return err_trace(r);
	if (fd >= 0)
		return err_trace(put_file_body(peer, id, m, way, TAKE_FD(fd)));
	return err_trace(put_memory_body(peer, id, m, way));
}

/* A body that cannot be had is no fault of the peer's: OP_RECEIVE_NO_BODY. */
static int open_body(const struct peer *peer, const struct message *m,
		     const struct way *way)
{
	const struct blob *blob = message_blob(m);
	int fd;

	if (!blob || blob->live || way->size == UINT64_MAX)
		return -1;
	fd = blob_open(blob);
	if (fd >= 0)
		return fd;
	if (peer_may_log(peer)) /* there may be many, and all of them come again */
		log_error("the body of message %llu cannot be opened: %s",
			  (unsigned long long)m->number, strerror(-fd));
	return fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM ? OP_RECEIVE_NO_FD
							       : OP_RECEIVE_NO_BODY;
}

int op_receive_write(struct peer *peer, uint64_t id, const struct message *m, bool peek)
{
	struct way way = choose_way(peer, m, peek);
	int fd = open_body(peer, m, &way), r;

	if (fd < -1 && !peek)
		return fd;
	if (fd < -1) { /* it is told of all the same */
		way = (struct way){ .size = UINT64_MAX, .first = UINT64_MAX };
		fd = -1;
	}
	if (!stream_pending(&peer->stream))
		peer->sent_ns = peer->server->loop.now_ns;
	r = put_delivery(peer, id, m, peek, &way, fd);
	if (r < 0)
		peer_fail(peer, r);
	else if (fd >= 0 || way.fd)
		peer_charge_outgoing(peer);
	else if (m->body)
		peer_charge_bodies(peer);
	peer_flush_later(peer);
	return r;
}

/* ---- the receiver's side ---- */

static struct receive *receive_of(struct receiver *receiver)
{
	return CONTAINER_OF(receiver, struct receive, receiver);
}

/* There is something to be done for it when output was sent: the others, which may be many, are
 * not looked at then. */
static void await_sent(struct receive *receive)
{
	if (!list_is_linked(&receive->sending))
		list_add_tail(&receive->request.peer->sending, &receive->sending);
}

static bool has_room(struct receiver *receiver)
{
	struct receive *receive = receive_of(receiver);

	if (peer_has_room(receive->request.peer) &&
	    !peer_has_flow(receive->request.peer, receive->request.id))
		return true;
	receive->starved = true;
	await_sent(receive);
	return false;
}

static enum delivery deliver(struct receiver *receiver, struct message *m)
{
	struct receive *receive = receive_of(receiver);
	struct peer *peer = receive->request.peer;
	unsigned int n_flows = peer_n_flows(peer);
	int r = op_receive_write(peer, receive->request.id, m, false);

	if (r == OP_RECEIVE_NO_FD)
		return DELIVERY_LATER;
	if (r == OP_RECEIVE_NO_BODY)
		return DELIVERY_BAD;
	receive->last_ns = peer->server->loop.now_ns;
	receive->was_full |= receiver->n_leased >= receiver->window;
	if (receiver->n_unsent)
		await_sent(receive);
	if (r == 0 && peer_n_flows(peer) == n_flows)
		m->out_end =
			peer->stream.queued_bytes; /* else when its last piece is put */
	return DELIVERY_DONE;
}

void op_receive_write_end(struct peer *peer, uint64_t id, const char *why)
{
	struct json_writer *w;

	if (!strcmp(why, "cancelled")) /* answered at once, and then its id is free */
		peer_abort_flows(peer, &id, why);
	if (peer_end_after_flows(peer, id, why))
		return;
	w = peer_begin(peer, true, id);
	json_put_text(w, "end", why);
	peer_end(peer);
}

/* Nothing more is to be done for it when something was sent: there may be as many of these as
 * there are messages. */
static void put_aside_if_sent(struct receive *receive)
{
	if (receive->open || receive->receiver.n_unsent)
		return;
	list_remove(&receive->sending);
	list_remove(&receive->link);
	list_add_tail(&receive->request.peer->ended, &receive->link);
}

/* The request is answered for good; the leases go on. */
static void receive_end(struct receive *receive, const char *why)
{
	struct peer *peer = receive->request.peer;

	if (!receive->open)
		return;
	receive->open = false;
	timer_cancel(&peer->server->loop, &receive->idle);
	if (why)
		op_receive_write_end(peer, receive->request.id, why);
	request_close(&receive->request);
	peer->user->usage.request_bytes += sizeof(*receive); /* until it is done */
	put_aside_if_sent(receive);
	receiver_end(&receive->receiver);
}

/* While the last body is on its way in pieces the request is open, so that it can be
 * cancelled or refused: op_receive_sent() ends it then. */
static void complete(struct receiver *receiver)
{
	struct receive *receive = receive_of(receiver);

	if (peer_has_flow(receive->request.peer, receive->request.id))
		await_sent(receive);
	else
		receive_end(receive, "max");
}

static void deserted(struct receiver *receiver)
{
	receive_end(receive_of(receiver), receiver->left ? "deleted" : "max");
}

static void done(struct receiver *receiver)
{
	struct receive *receive = receive_of(receiver);
	struct peer *peer = receive->request.peer;

	peer->user->usage.request_bytes -= sizeof(*receive);
	timer_cancel(receiver->broker->loop, &receive->idle);
	receiver_deinit(receiver);
	list_remove(&receive->sending);
	list_remove(&receive->link);
	free(receive);
}

static void on_end(struct request *request, const char *why)
{
	receive_end(CONTAINER_OF(request, struct receive, request), why);
}

/* wait_ms runs while there is credit and nothing to take; it begins anew with each delivery,
 * and when there is credit again. The timer is not moved for each: when it is due it looks
 * when it was last hungry. */
static void on_idle(struct timer *timer)
{
	struct receive *receive = CONTAINER_OF(timer, struct receive, idle);
	struct loop *loop = &receive->request.peer->server->loop;
	uint64_t at = deadline_after(receive->last_ns, receive->wait_ms);

	/* there may be room, too, that it has not used yet */
	if (receive->starved || !receiver_can_take(&receive->receiver))
		return; /* not idle: set again when it is hungry */
	if (at <= clock_ns(CLOCK_MONOTONIC) || timer_set(loop, timer, at) < 0)
		receive_end(receive, "timeout");
}

static void hungry(struct receiver *receiver)
{
	struct receive *receive = receive_of(receiver);
	struct loop *loop = receiver->broker->loop;

	if (receive->was_full || !timer_is_set(&receive->idle))
		receive->last_ns = loop->now_ns;
	receive->was_full = receive->starved = false;
	if (receive->wait_ms == 0) {
		receive_end(receive, "timeout");
		return;
	}
	if (receive->wait_ms != UINT64_MAX && !timer_is_set(&receive->idle) &&
	    timer_set(loop, &receive->idle,
		      deadline_after(loop->now_ns, receive->wait_ms)) < 0)
		receive_end(receive, "timeout");
}

/* Rights may have changed. */
static void recheck(struct receiver *receiver, const struct queue *queue)
{
	struct receive *receive = receive_of(receiver);
	struct peer *peer = receive->request.peer;
	struct fault *fault = &peer->server->fault;
	uint64_t id = receive->request.id;

	if (!receive->open || name_check(&queue->name, &peer->who, RIGHT_READ,
					 "receive any longer from", fault) == 0)
		return;
	receive_end(receive, NULL); /* first: it takes nothing of what comes back */
	peer_abort_flows(peer, &id, fault->text);
	peer_refuse(peer, true, id, "receive", fault);
}

static const struct receiver_ops receiver_ops = {
	.has_room = has_room,
	.deliver = deliver,
	.hungry = hungry,
	.deserted = deserted,
	.complete = complete,
	.done = done,
	.recheck = recheck,
};

void op_receive_end_all(struct peer *peer)
{
	LIST_FOREACH_SAFE(link, &peer->receives)
		receive_end(LIST_ENTRY(link, struct receive, link), NULL);
}

static uint64_t lose(struct list *receives, uint64_t sent_bytes, uint64_t max)
{
	uint64_t n = 0;

	while (n < max && !list_is_empty(receives)) {
		struct receive *r = LIST_FIRST(receives, struct receive, link);

		n += receiver_lose(&r->receiver, sent_bytes, max - n);
	}
	return n;
}

bool op_receive_lose(struct peer *peer, uint64_t sent_bytes, uint64_t max)
{
	uint64_t n = lose(&peer->ended, sent_bytes, max);

	lose(&peer->receives, sent_bytes, max - n);
	return !list_is_empty(&peer->ended) || !list_is_empty(&peer->receives);
}

void op_receive_sent(struct peer *peer)
{
	peek_resume(peer);
	LIST_FOREACH_SAFE(link, &peer->sending) {
		struct receive *receive = LIST_ENTRY(link, struct receive, sending);

		receiver_sent(&receive->receiver, peer->stream.sent_bytes);
		if (!receive->open) {
			put_aside_if_sent(receive);
			continue;
		}
		if (!receive->receiver.left) {
			complete(&receive->receiver); /* it may be gone after this */
			continue;
		}
		if (receive->starved && has_room(&receive->receiver)) {
			receive->starved = false;
			receiver_feed_later(&receive->receiver);
		}
		if (!receive->starved && !receive->receiver.n_unsent)
			list_remove(&receive->sending);
	}
}

bool op_receive_holds(const struct peer *peer, const struct message *m)
{
	return m->state == MESSAGE_LEASED && receive_of(m->holder)->request.peer == peer;
}

bool op_receive_is_held(const struct message *m)
{
	return m->state == MESSAGE_LEASED &&
	       receive_of(m->holder)->request.peer->state != PEER_CLOSED;
}

bool op_receive_is_under_way(const struct peer *peer, uint64_t id,
			     const struct message *m)
{
	return op_receive_holds(peer, m) && receive_of(m->holder)->request.id == id;
}

void op_receive_follow_fds(struct peer *peer)
{
	LIST_FOREACH(link, &peer->receives)
		receiver_set_takes_live(&LIST_ENTRY(link, struct receive, link)->receiver,
					peer->fds);
}

static uint64_t count_leases(const struct list *receives)
{
	uint64_t n = 0;

	LIST_FOREACH(link, receives)
		n += LIST_ENTRY(link, struct receive, link)->receiver.n_leased;
	return n;
}

uint64_t op_receive_leases(const struct peer *peer)
{
	return count_leases(&peer->receives) + count_leases(&peer->ended);
}

/* ---- the request ---- */

struct receive_options {
	uint64_t max, window, wait_ms, ack_wait_ms;
	bool peek, dead;
	struct filter *filter; /* with these only */
};

static int get_options(struct call *call, struct receive_options *o)
{
	const struct header *h = call->header;

	*o = (struct receive_options){ .max = 1, .window = 1, .ack_wait_ms = UINT64_MAX };
	if (header_get_u64(h, KEY_MAX, 0, LIMIT_NUMBER_MAX, &o->max, call->fault) < 0 ||
	    header_get_u64(h, KEY_WINDOW, 1, LIMIT_WINDOW_MAX, &o->window, call->fault) <
		    0 ||
	    header_get_ms(h, KEY_WAIT_MS, true, &o->wait_ms, call->fault) < 0 ||
	    header_get_ms(h, KEY_ACK_WAIT_MS, true, &o->ack_wait_ms, call->fault) < 0 ||
	    header_get_bool(h, KEY_PEEK, &o->peek, call->fault) < 0 ||
	    header_get_bool(h, KEY_DEAD, &o->dead, call->fault) < 0)
		return FAULT;
	if (header_has(h, KEY_FILTER) && !o->peek && !o->dead)
		return fault_set(
			call->fault, FAULT_BAD_REQUEST,
			"\"filter\" goes with \"peek\" or \"dead\" only: messages are taken "
			"in their order; move those of a filter to another queue and take "
			"them there");
	return filter_get(h, &o->filter, call->fault);
}

struct queue_list {
	struct subscription *subscriptions;
	unsigned int n;
};

static int check_open(struct call *call, const struct name_ref *ref,
		      struct queue **ret_queue)
{
	bool durable;

	return err_trace(queue_check_open(&call->server->broker, ref, &call->peer->who,
					  call->op->right, call->op->verb, ret_queue,
					  &durable, call->fault));
}

/* What is only looked at is not made for that. */
static int add_queue(struct call *call, const struct name_ref *ref, bool look,
		     struct queue_list *list)
{
	struct queue *queue;
	int r;

	if (look)
		r = check_open(call, ref, &queue);
	else
		r = queue_open(&call->server->broker, ref, &call->peer->who,
			       call->op->right, call->op->verb, &queue, call->fault);
	if (r == 0 && queue)
		list->subscriptions[list->n++].queue = queue;
	return err_trace(r);
}

static int get_one_queue(struct call *call, bool look, struct queue_list *list)
{
	struct name_ref ref;
	int r;

	if (!header_has(call->header, KEY_QUEUE))
		return call_missing(call, KEY_QUEUES);
	r = op_name_get(call, KEY_QUEUE, &ref);
	return err_trace(r ? r : add_queue(call, &ref, look, list));
}

static int check_name(struct call *call, const struct name_ref *refs, uint32_t n)
{
	struct queue *queue;

	for (uint32_t i = 0; i < n; i++)
		if (!strcmp(refs[i].text, refs[n].text))
			return fault_set(call->fault, FAULT_BAD_REQUEST,
					 "%s stands twice in \"queues\"", refs[n].text);
	return err_trace(check_open(call, &refs[n], &queue));
}

/* All names first: a request that is refused, or has to wait for the name service, has no
 * effect yet. */
static int get_names(struct call *call, uint32_t at, uint32_t n, struct name_ref *refs)
{
	const struct json *json = call->header->json;

	for (uint32_t i = 0; i < n; i++, at = json_at(json, at)->next) {
		const struct json_value *v = json_at(json, at);
		int r;

		if (v->type != JSON_STRING)
			return fault_set(call->fault, FAULT_BAD_REQUEST,
					 "\"queues\" must have strings, not %s",
					 json_type_name(v->type));
		r = call_parse_name(call, json_text(json, v), v->size, &refs[i]);
		if (r == 0)
			r = check_name(call, refs, i);
		if (r)
			return err_trace(r);
	}
	return 0;
}

static int get_queues(struct call *call, bool look, struct queue_list *list)
{
	_cleanup_free_ struct name_ref *refs = NULL;
	uint32_t at, n;
	int r = header_get_array(call->header, KEY_QUEUES, LIMIT_QUEUES_MAX, &at, &n,
				 call->fault);

	if (r < 0)
		return FAULT;
	if (r && header_has(call->header, KEY_QUEUE))
		return fault_set(call->fault, FAULT_BAD_REQUEST,
				 "either \"queue\" or \"queues\", not both");
	list->subscriptions = calloc(r ? n : 1, sizeof(*list->subscriptions));
	if (!list->subscriptions)
		return err_origin(-ENOMEM);
	if (r == 0)
		return err_trace(get_one_queue(call, look, list));
	refs = calloc(n, sizeof(*refs));
	if (!refs)
		return err_origin(-ENOMEM);
	r = get_names(call, at, n, refs);
	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = add_queue(call, &refs[i], look, list);
	return err_trace(r);
}

/* Takes the subscriptions. */
static int receive_start(struct call *call, struct queue_list *list,
			 const struct receive_options *o)
{
	size_t cost = sizeof(struct receive) + list->n * sizeof(list->subscriptions[0]);
	struct receive *receive = calloc(1, sizeof(*receive));
	struct peer *peer = call->peer;
	int r;

	if (!receive)
		return err_origin(-ENOMEM);
	timer_init(&receive->idle, TIMER_MONOTONIC, on_idle);
	list_init(&receive->sending);
	receive->wait_ms = o->wait_ms;
	r = request_open_charged(&receive->request, peer, call->id, cost, on_end,
				 call->fault);
	if (r) {
		free(receive);
		return err_trace(r);
	}
	receiver_init(&receive->receiver, &receiver_ops, &call->server->broker,
		      peer->who.uid, TAKE_PTR(list->subscriptions), list->n);
	receive->receiver.pid = peer->pid;
	receive->receiver.takes_live = peer->fds;
	receive->receiver.window = o->window;
	receive->receiver.left = o->max ? o->max : UINT64_MAX;
	receive->receiver.ack_wait_ms = o->ack_wait_ms;
	receive->open = true;
	list_add_tail(&peer->receives, &receive->link);
	receiver_feed(&receive->receiver);
	return 0;
}

static int start_peek(struct call *call, const struct queue_list *list,
		      struct receive_options *o)
{
	const struct peek_options peek = {
		.max = o->max ? o->max : UINT64_MAX,
		.dead = o->dead,
		.filter = TAKE_PTR(o->filter),
	};

	return err_trace(peek_start(call, list->subscriptions, list->n, &peek));
}

int op_receive(struct call *call)
{
	struct receive_options options;
	struct queue_list list = { NULL, 0 };
	int r = get_options(call, &options);

	if (r == 0)
		r = get_queues(call, options.peek || options.dead, &list);
	if (r == 0 && (options.peek || options.dead))
		r = start_peek(call, &list, &options);
	else if (r == 0)
		r = receive_start(call, &list, &options);
	free(list.subscriptions);
	filter_free(options.filter);
	return err_trace(r);
}
