/* SPDX-License-Identifier: MIT */

#include "send_body.h"

#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "file_text.h"
#include "log.h"
#include "room.h"

enum { PROGRESS_MS = 100 };

static struct peer *peer_of(const struct send_body *b)
{
	return b->send->request.peer;
}

/* ---- order ---- */

static bool same_queue(const struct name_ref *a, const struct name_ref *b)
{
	return a->size == b->size && !memcmp(a->text, b->text, a->size);
}

bool send_body_must_wait(const struct peer *peer, const struct name_ref *queue)
{
	LIST_FOREACH(link, &peer->preparing)
		if (same_queue(&LIST_ENTRY(link, struct send_body, link)->queue, queue))
			return true;
	return false;
}

static bool is_first(const struct send_body *b)
{
	LIST_FOREACH(link, &peer_of(b)->preparing) {
		const struct send_body *other = LIST_ENTRY(link, struct send_body, link);

		if (other == b)
			return true;
		if (same_queue(&other->queue, &b->queue))
			return false;
	}
	return true;
}

/* ---- into the queue ---- */

/* What is in memory; a blob is held by the request. */
static int charge(struct send_body *b, const struct message *m, struct fault *fault)
{
	struct peer *peer = peer_of(b);
	struct waiting_charge cost = {
		sizeof(*b) + sizeof(*b->send) + sizeof(*m) + m->meta_size +
			(uint64_t)m->body_size,
		message_is_live(m),
	};
	int r = room_to_wait(peer->user, &peer->server->limits, &cost, fault);

	if (r)
		return r;
	b->charge = cost;
	user_charge_waiting(peer->user, &cost);
	return 0;
}

static void uncharge(struct send_body *b)
{
	user_uncharge_waiting(peer_of(b)->user, &b->charge);
}

static void leave_line(struct send_body *b)
{
	uncharge(b);
	list_remove(&b->link);
	peer_of(b)->n_preparing--;
}

static int find_queue(const struct send_body *b, struct queue **ret_queue, bool *ret_made,
		      struct fault *fault)
{
	struct peer *peer = peer_of(b);
	struct broker *broker = &peer->server->broker;
	struct name *name = name_find(broker, &b->queue);

	*ret_made = !name;
	if (!b->queue_id)
		return err_trace(queue_open(broker, &b->queue, &peer->who, RIGHT_WRITE,
					    "send to", ret_queue, fault));
	if (!name || queue_of_name(name)->id != b->queue_id)
		return fault_set(fault, FAULT_NOT_FOUND,
				 "the queue was deleted while the body was copied");
	*ret_queue = queue_of_name(name);
	return name_check(name, &peer->who, RIGHT_WRITE, "send to", fault);
}

/* Rights and room are looked at anew: copying took its time. */
static void submit(struct send_body *b)
{
	struct send_request *send = b->send;
	struct peer *peer = send->request.peer;
	struct call call = {
		.server = peer->server,
		.peer = peer,
		.has_id = send->request.has_id,
		.id = send->request.id,
		.fault = &peer->server->fault,
	};
	struct message *m = TAKE_PTR(b->message);
	struct queue *queue = NULL;
	bool made;
	int r = find_queue(b, &queue, &made, call.fault);

	leave_line(b);
	send->body = send_body_free(b);
	if (r == 0)
		r = send_message(&call, send, queue, m, &send->options);
	if (r)
		message_free(m);
	if (r && queue && made)
		queue_delete(queue);
	if (r == FAULT)
		send_request_refuse(send);
	else if (r < 0)
		peer_fail(peer, r);
}

static struct send_body *next_ready(const struct peer *peer)
{
	LIST_FOREACH(link, &peer->preparing) {
		struct send_body *b = LIST_ENTRY(link, struct send_body, link);

		if (b->ready && is_first(b))
			return b;
	}
	return NULL;
}

static void run_line(struct peer *peer)
{
	struct send_body *b;

	/* at a stop all are refused: none may get in behind one that is */
	while (!peer->server->stopping && (b = next_ready(peer)))
		submit(b);
	peer_flush_later(peer); /* it may have waited for the last of them */
}

struct send_body *send_body_free(struct send_body *b)
{
	struct peer *peer = b ? peer_of(b) : NULL;
	bool in_line = b && list_is_linked(&b->link);

	if (!b)
		return NULL;
	if (in_line)
		leave_line(b);
	uncharge(b);
	timer_cancel(&peer->server->loop, &b->progress);
	timer_cancel(&peer->server->loop, &b->watch);
	snapshot_free(b->snapshot);
	upload_free(b->upload);
	message_free(b->message);
	buf_deinit(&b->file);
	free(b);
	if (in_line && peer->state < PEER_CLOSED)
		run_line(peer);
	return NULL;
}

/* ---- when the body is there ---- */

static int check_digests(const struct send_body *b, const struct filling *f,
			 struct fault *fault)
{
	for (unsigned int kind = 0; kind < DIGEST_N; kind++)
		if (f->hex[kind][0] &&
		    digests_check(&b->digests, kind, f->hex[kind], fault))
			return FAULT;
	return 0;
}

static int set_body(struct send_body *b, struct filling *f)
{
	struct peer *peer = peer_of(b);
	_cleanup_buf_ struct buf text = BUF_INIT;
	int r = file_text_complete(peer->server->writer, &b->file, f->size, f->hex, false,
				   &text);

	if (r < 0)
		return err_trace(r);
	if (!f->block)
		blob_adopt_take(f->blob, TAKE_FD(f->fd), f->size, f->disk);
	return err_trace(message_set_body(b->message, f->block ? NULL : f->blob, f->block,
					  text.data, text.size));
}

static int complete(struct send_body *b, struct filling *f, struct fault *fault)
{
	int r = filling_check(f, fault);

	if (r == 0)
		r = check_digests(b, f, fault);
	if (r == 0)
		r = set_body(b, f);
	filling_uncharge(f);
	if (r == 0 && !f->block)
		send_request_hold(b->send, f->disk);
	if (r == 0 && !is_first(b))
		r = charge(b, b->message, fault);
	return err_trace(r);
}

static void finish(struct send_body *b, struct filling *f)
{
	struct peer *peer = peer_of(b);
	int r = complete(b, f, &peer->server->fault);

	b->snapshot = snapshot_free(b->snapshot);
	b->upload = upload_free(b->upload);
	b->ready = r == 0;
	if (r == FAULT)
		send_request_refuse(b->send);
	else if (r < 0)
		peer_fail(peer, r);
	else
		run_line(peer);
}

static void on_snapshot_done(struct snapshot *s)
{
	finish(s->owner, &s->filling);
}

int send_refuse_stuck(struct fault *fault)
{
	return fault_set(fault, FAULT_BAD_FD,
			 "an earlier descriptor of this user does not answer: until it "
			 "does no further ones are taken");
}

static void on_snapshot_stalled(struct snapshot *s)
{
	struct send_body *b = s->owner;
	struct peer *peer = peer_of(b);
	struct server *server = peer->server;

	b->snapshot = NULL;
	log_warning(
		"%s: the file system of a descriptor does not answer; no further ones "
		"of this user are taken until it does",
		peer_describe(peer));
	fault_set(&server->fault, FAULT_TIMEOUT,
		  "the descriptor's file system has not answered for %llu ms "
		  "(fd_deadline); further descriptors of this user are refused until it "
		  "does",
		  (unsigned long long)server->limits.fd_deadline);
	send_request_refuse(b->send);
}

static void watch(struct send_body *b);

static uint64_t count_copied(const struct send_body *b)
{
	return __atomic_load_n(&b->snapshot->copied, __ATOMIC_RELAXED);
}

/* A copy that nobody begins or goes on with, for other descriptors hang, would wait for
 * ever. */
static void on_watch(struct timer *timer)
{
	struct send_body *b = CONTAINER_OF(timer, struct send_body, watch);
	struct peer *peer = peer_of(b);
	struct server *server = peer->server;

	if (!b->snapshot)
		return;
	if (!snapshot_waits(b->snapshot) || count_copied(b) != b->copied ||
	    !workers_is_stuck(server->workers, peer->user->uid)) {
		watch(b);
		return;
	}
	send_refuse_stuck(&server->fault);
	send_request_refuse(b->send);
}

static void watch(struct send_body *b)
{
	struct server *server = peer_of(b)->server;

	b->copied = count_copied(b);
	/* without memory it waits */
	(void)!timer_set(&server->loop, &b->watch,
			 deadline_after(server->loop.now_ns, server->limits.fd_deadline));
}

/* ---- progress: also while a slow disk is waited for, so that it is known that we live ---- */

static void tell_progress(struct send_body *b)
{
	struct json_writer *w = peer_begin(peer_of(b), true, b->send->request.id);

	json_put_u64(w, "progress", b->snapshot ? count_copied(b) : b->size);
	if (b->size != UINT64_MAX)
		json_put_u64(w, "file_size", b->size);
	peer_end(peer_of(b));
}

static void set_progress_timer(struct send_body *b)
{
	struct loop *loop = &peer_of(b)->server->loop;

	/* without memory nothing is told */
	(void)!timer_set(loop, &b->progress, deadline_after(loop->now_ns, PROGRESS_MS));
}

static void on_progress(struct timer *timer)
{
	struct send_body *b = CONTAINER_OF(timer, struct send_body, progress);

	if (b->ready)
		return;
	tell_progress(b);
	set_progress_timer(b);
}

static void on_upload_done(struct upload *u)
{
	finish(u->owner, &u->filling);
}

/* ---- the start ---- */

static int start_snapshot(struct call *call, struct send_body *b,
			  const struct send_source *source)
{
	struct server *server = call->server;
	struct snapshot *s;

	if (room_for_body(call->peer->user, &server->limits, call->fault))
		return FAULT;
	s = snapshot_new(&server->broker.blobs, server->workers, call->peer->user,
			 &server->limits, source->fd, &b->digests);
	if (!s)
		return err_origin(-ENOMEM);
	s->promised = source->promised;
	s->durable = source->durable;
	s->done = on_snapshot_done;
	s->stalled = on_snapshot_stalled;
	s->owner = b;
	if (source->size > LIMIT_PIECE_MAX &&
	    filling_charge(&s->filling, source->disk, call->fault)) {
		s->fd = -1; /* it is the caller's still */
		snapshot_free(s);
		return FAULT;
	}
	b->snapshot = s;
	snapshot_start(s);
	watch(b);
	return 0;
}

static struct send_body *body_new(struct call *call, const struct send_options *options,
				  const struct name_ref *queue)
{
	struct send_body *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	list_init(&b->link);
	timer_init(&b->progress, TIMER_MONOTONIC, on_progress);
	timer_init(&b->watch, TIMER_MONOTONIC, on_watch);
	b->queue = *queue;
	b->send = send_request_new(call, options);
	if (!b->send) {
		free(b);
		return NULL;
	}
	b->send->body = b;
	return b;
}

int send_body_start(struct call *call, const struct send_options *options,
		    const struct name_ref *ref, const struct queue *queue,
		    struct message *message, struct buf *file,
		    const struct digests *digests, const struct send_source *source)
{
	struct peer *peer = call->peer;
	struct send_body *b;
	int r = 0;

	if (peer->n_preparing == LIMIT_WAITING_SENDS_MAX)
		return fault_set(call->fault, FAULT_FULL,
				 "%d sends of this connection wait for files that are "
				 "being copied already (waiting_sends_max)",
				 LIMIT_WAITING_SENDS_MAX);
	b = body_new(call, options, ref);
	if (!b)
		return err_origin(-ENOMEM);
	b->queue_id = queue ? queue->id : 0;
	b->digests = *digests;
	b->size = source->size;
	if (source->fd >= 0)
		r = start_snapshot(call, b, source);
	else if (!source->upload)
		r = charge(b, message, call->fault);
	if (r) {
		send_request_free(b->send);
		return err_trace(r);
	}
	b->message = message;
	b->file = *file;
	*file = (struct buf)BUF_INIT;
	list_add_tail(&peer->preparing, &b->link);
	peer->n_preparing++;
	b->upload = source->upload;
	b->ready = source->fd < 0 && !b->upload;
	if (source->progress && call->has_id && !b->ready)
		set_progress_timer(b);
	if (b->upload)
		b->upload->filling.late_kinds = digests->wanted;
	if (b->upload)
		upload_finish(b->upload, call->server->workers, source->durable,
			      on_upload_done, b);
	return 0;
}
