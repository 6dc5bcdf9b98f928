/* SPDX-License-Identifier: MIT */

#include "peer.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "dispatch.h"
#include "listing.h"
#include "log.h"
#include "op_receive.h"
#include "store.h"

enum {
	OUTGOING_MAX = 16, /* files and descriptors that wait in one peer's output */
	FDS_RETRY_MS = 5,
	LEASES_FIRST = 16, /* many connections may end in one pass */
};

/* ---- states ---- */

static bool is_crowded(const struct peer *peer)
{
	const struct store *store = peer->server->broker.store;

	return store && store_is_crowded(store);
}

/* Are requests taken from it now? */
static bool is_read(const struct peer *peer)
{
	return peer->state == PEER_OPEN && !peer->paused && !peer->throttled &&
	       !peer->uploading && !peer->listing &&
	       peer->n_storing < LIMIT_STORING_MAX && !is_crowded(peer);
}

/* All but its leases and what they are known by. */
static void peer_release(struct peer *peer)
{
	struct server *server = peer->server;

	peer->is_released = true;
	source_remove(&peer->source);
	timer_cancel(&server->loop, &peer->deadline);
	deferred_cancel(&peer->flush);
	deferred_cancel(&peer->reap);
	deferred_cancel(&peer->resume);
	list_remove(&peer->name_waiter.link);
	peer_drop_upload(peer);
	peer_drop_output(peer);
	peer_drop_outlet(peer);
	assemblies_deinit(&peer->assemblies);
	map_deinit(&peer->requests);
	peer->sent_bytes = peer->stream.sent_bytes;
	stream_deinit(&peer->stream);
	peer->from = bytes_unref(peer->from);
	free(peer->label);
	peer->label = NULL;
	peer->user->usage.buffer_bytes -= peer->buffer_charged;
	peer->user->usage.outgoing -= peer->outgoing_charged;
	peer->user->usage.outgoing_bytes -= peer->outgoing_bytes_charged;
	peer->user->usage.bodies -= peer->incoming_charged;
}

static void peer_free(struct peer *peer)
{
	struct server *server = peer->server;

	list_remove(&peer->losing.link);
	list_remove(&peer->link);
	map_remove(&server->peers_by_number, &peer->by_number);
	peer->user->usage.connections--;
	user_unref(peer->user);
	server->n_peers--;
	free(peer);
	server_peer_gone(server);
}

static void end_requests(struct peer *peer, const char *why)
{
	struct map_place place = { 0 };
	struct request *nameless;
	struct map_node *node;

	while ((node = map_first_from(&peer->requests, &place))) {
		struct request *request = CONTAINER_OF(node, struct request, node);

		request->end(request, why);
	}
	while ((nameless = LIST_FIRST(&peer->nameless, struct request, link)))
		nameless->end(nameless, why);
}

/* Nothing comes or goes any more; but its leases are still its own. */
static void let_go(struct peer *peer)
{
	peer->state = PEER_CLOSED; /* nothing is delivered to it any more */
	op_receive_end_all(peer);
	end_requests(peer, NULL);
	peer_release(peer);
}

void peer_drop(struct peer *peer)
{
	if (!peer->is_released)
		let_go(peer);
	(void)op_receive_lose(peer, peer->sent_bytes, UINT64_MAX);
	peer_free(peer);
}

/* There may be as many as there are messages. */
static void lose_some(struct user_turn *turn)
{
	struct peer *peer = CONTAINER_OF(turn, struct peer, losing);

	if (op_receive_lose(peer, peer->sent_bytes, LOOP_AT_ONCE))
		user_go_on(peer->user, turn);
	else
		peer_free(peer);
}

static void on_reap(struct deferred *deferred)
{
	struct peer *peer = CONTAINER_OF(deferred, struct peer, reap);

	let_go(peer);
	if (op_receive_lose(peer, peer->sent_bytes, LEASES_FIRST))
		user_line_up(peer->user, &peer->losing);
	else
		peer_free(peer);
}

static void peer_set_state(struct peer *peer, enum peer_state state)
{
	if (peer->state == PEER_CLOSED || peer->state == state)
		return;
	peer->state = (uint8_t)state;
	if (state == PEER_CLOSED) {
		source_remove(&peer->source);
		loop_defer(&peer->server->loop, &peer->reap);
	} else if (state == PEER_LINGERING) {
		peer->linger_ns = peer->server->loop.now_ns;
		timer_cancel(&peer->server->loop,
			     &peer->deadline); /* it was a later one */
		peer_flush_later(peer);
	}
}

void peer_close(struct peer *peer)
{
	peer_set_state(peer, PEER_CLOSED);
}

void peer_linger(struct peer *peer)
{
	peer_set_state(peer, PEER_LINGERING);
}

void peer_say_goodbye(struct peer *peer)
{
	if (peer->state >= PEER_LINGERING)
		return;
	end_requests(peer, "shutting-down");
	peer_abort_flows(peer, NULL, "shutting-down");
	peer_linger(peer);
}

void peer_fail(struct peer *peer, int error)
{
	if (peer->state == PEER_CLOSED)
		return;
	if (peer_may_log(peer))
		log_error("%s is ended: %s (%s)", peer_describe(peer), strerror(-error),
			  err_trail());
	peer_close(peer);
}

void peer_cut(struct peer *peer, enum fault_word word, const char *why, const char *key,
	      uint64_t limit)
{
	struct fault *fault = &peer->server->fault;

	if (peer->state >= PEER_LINGERING)
		return;
	fault_set(fault, word, "%s (%s is %llu)", why, key, (unsigned long long)limit);
	if (peer_may_log(peer))
		log_warning("%s is cut: %s", peer_describe(peer), fault->text);
	peer_refuse(peer, false, 0, NULL, fault);
	peer_linger(peer);
}

/* Half-closed, all answered and written: nothing is left to do. */
static void check_drained(struct peer *peer)
{
	bool open = peer->requests.n > 0 || !list_is_empty(&peer->nameless);
	bool waits = (open && !peer->hung_up && !peer->output_dead) || peer->n_preparing;

	if (peer->state == PEER_DRAINING && !waits &&
	    (!stream_pending(&peer->stream) || peer->hung_up || peer->output_dead))
		peer_close(peer);
	if (peer->state == PEER_LINGERING &&
	    (!stream_pending(&peer->stream) || peer->output_dead))
		peer_close(peer);
}

/* ---- deadlines: one timer, set while anything can be late, looking when it is due ---- */

struct late {
	uint64_t at; /* UINT64_MAX: nothing can be late */
	uint64_t limit_ms;
	const char *key, *what;
	enum fault_word word;
};

static void consider(struct late *late, uint64_t since_ns, uint64_t limit_ms,
		     const char *key, const char *what, enum fault_word word)
{
	uint64_t at = deadline_after(since_ns, limit_ms);

	if (at < late->at)
		*late = (struct late){ at, limit_ms, key, what, word };
}

static struct late earliest_deadline(const struct peer *peer)
{
	const struct limits *l = &peer->server->limits;
	struct late late = { .at = UINT64_MAX };
	bool in_body, reading = is_read(peer);
	bool partial = reading && stream_is_partial(&peer->stream, &in_body);

	if (peer->state == PEER_LINGERING) {
		late.at = deadline_after(peer->linger_ns, l->shutdown_deadline);
		return late;
	}
	if (partial && in_body)
		consider(&late, peer->read_ns, l->body_deadline, "body_deadline",
			 "no byte of an unfinished body came in time", FAULT_TIMEOUT);
	else if (partial)
		consider(&late, peer->partial_since_ns, l->header_deadline,
			 "header_deadline",
			 "a frame was begun and its header not finished in time",
			 FAULT_TIMEOUT);
	if (reading && peer->assemblies.n)
		consider(&late, assemblies_oldest_ns(&peer->assemblies),
			 l->pieces_deadline, "pieces_deadline",
			 "the next piece of a body did not come in time", FAULT_TIMEOUT);
	if (stream_pending(&peer->stream) && peer->fds_refused)
		consider(&late, peer->sent_ns, l->stalled_deadline, "stalled_deadline",
			 "as many descriptors as ipcd may have open lie in sockets, and "
			 "nobody reads them: none can be sent to it",
			 FAULT_FULL);
	else if (stream_pending(&peer->stream))
		consider(&late, peer->sent_ns, l->stalled_deadline, "stalled_deadline",
			 "it does not read what is sent to it", FAULT_SLOW);
	return late;
}

static void set_deadline(struct peer *peer, uint64_t at)
{
	if (timer_set(&peer->server->loop, &peer->deadline, at) < 0)
		peer_fail(peer, -ENOMEM);
}

static void arm_deadline(struct peer *peer)
{
	uint64_t at;

	if (peer->state == PEER_CLOSED)
		return;
	at = earliest_deadline(peer).at;
	if (peer->fds_refused)
		at = min_u64(at, deadline_after(peer->server->loop.now_ns, FDS_RETRY_MS));
	/* a later one stays: it looks when it is due */
	if (at != UINT64_MAX &&
	    (!timer_is_set(&peer->deadline) || at < peer->deadline.node.key))
		set_deadline(peer, at);
}

static void on_deadline(struct timer *timer)
{
	struct peer *peer = CONTAINER_OF(timer, struct peer, deadline);
	struct late late = earliest_deadline(peer);

	if (peer->fds_refused)
		peer_flush_later(peer);
	if (late.at > clock_ns(CLOCK_MONOTONIC)) {
		if (late.at != UINT64_MAX)
			set_deadline(peer, late.at);
		return;
	}
	if (peer->state == PEER_LINGERING) {
		peer_close(peer);
		return;
	}
	peer_cut(peer, late.word, late.what, late.key, late.limit_ms);
}

/* ---- what lies in buffers is the connection's, and so its user's ---- */

/* One that belongs to no body in pieces. */
static bool has_own_upload(const struct peer *peer)
{
	return peer->lent && !assemblies_find_upload(&peer->assemblies, peer->lent);
}

/* And what is made of it. */
static uint64_t unfinished_input(const struct peer *peer)
{
	const struct stream *s = &peer->stream;

	return s->partial_capacity + s->held_size +
	       (peer->listing ? peer->listing->body.capacity : 0) +
	       assemblies_buffered(&peer->assemblies) +
	       (has_own_upload(peer) ? peer->lent->used : 0) +
	       (s->body ? s->body_have : 0);
}

/* blame: what it could do with less of. The others of its user are not cut for it. */
static void charge_buffers(struct peer *peer, uint64_t input, uint64_t blame,
			   const char *why)
{
	uint64_t now = input + stream_memory_own(&peer->stream);
	uint64_t *total = &peer->user->usage.buffer_bytes;

	*total = *total - peer->buffer_charged + now;
	peer->buffer_charged = now;
	if (blame && *total > peer->server->limits.buffer_per_user)
		peer_cut(peer, FAULT_QUOTA, why, "buffer_per_user",
			 peer->server->limits.buffer_per_user);
}

/* Each is one of ours until the end of its frame comes. Who may not hand over so many is cut;
 * but not for what waits for us. */
static void charge_incoming(struct peer *peer)
{
	unsigned int now = stream_n_unfinished_fds(&peer->stream);
	const struct user *user = peer->user;
	uint64_t max = peer->server->limits.bodies_per_user;

	peer->user->usage.bodies += (uint64_t)now - peer->incoming_charged;
	peer->incoming_charged = now;
	if (now && !peer->paused && user->uid != 0 && user->usage.bodies > max)
		peer_cut(peer, FAULT_QUOTA,
			 "descriptors of frames that this user does not finish, and what "
			 "it is sending else, are too many",
			 "bodies_per_user", max);
}

static void charge_input(struct peer *peer)
{
	uint64_t input = unfinished_input(peer);

	charge_incoming(peer);
	charge_buffers(peer, input, input,
		       "unfinished input of this user fills the buffers");
}

/* After a flush: who reads what it is sent has nothing left. */
static void charge_output(struct peer *peer)
{
	uint64_t output = stream_memory_own(&peer->stream);

	if (output || peer->buffer_charged)
		charge_buffers(
			peer, unfinished_input(peer), output,
			"what this user's connections do not read fills the buffers");
}

static unsigned int n_outgoing(const struct peer *peer)
{
	return peer->stream.n_attached + peer_n_flows(peer);
}

void peer_charge_outgoing(struct peer *peer)
{
	uint64_t *total = &peer->user->usage.outgoing;
	unsigned int now = n_outgoing(peer);

	*total = *total - peer->outgoing_charged + now;
	peer->outgoing_charged = now;
}

/* They count in their queue, too, but may have left it. */
void peer_charge_bodies(struct peer *peer)
{
	uint64_t now = stream_memory_shared(&peer->stream);

	peer->user->usage.outgoing_bytes += now - peer->outgoing_bytes_charged;
	peer->outgoing_bytes_charged = now;
}

/* ---- output ---- */

/* So much of its user's lies in buffers that one thing after the other has to do for each of
 * its connections: the rest is for those that cannot be stopped before they are read. */
static bool is_user_crowded(const struct peer *peer)
{
	return peer->user->usage.buffer_bytes > peer->server->limits.buffer_per_user / 2;
}

/* Too much waits to be read by it, for one more request. */
static bool is_choked(const struct peer *peer)
{
	return stream_pending_memory(&peer->stream) >
		       peer->server->limits.buffer_per_connection ||
	       (stream_pending_own(&peer->stream) && is_user_crowded(peer));
}

static void throttle(struct peer *peer)
{
	if (!peer->output_dead && is_choked(peer))
		peer->throttled = true;
}

/* One file after the other for each of its user's connections, too: so many are on their way. */
static bool has_room_for_file(const struct peer *peer)
{
	const struct user *user = peer->user;
	unsigned int n = n_outgoing(peer);

	return !n || (n < OUTGOING_MAX &&
		      (user->uid == 0 ||
		       user->usage.outgoing < peer->server->limits.bodies_per_user));
}

/* Likewise of bodies in memory. */
static bool has_room_for_body(const struct peer *peer)
{
	return !peer->stream.shared_bytes ||
	       peer->user->usage.outgoing_bytes <=
		       peer->server->limits.buffer_per_user / 2;
}

bool peer_has_room(const struct peer *peer)
{
	return peer->state <= PEER_DRAINING && !peer->output_dead && !peer->hung_up &&
	       stream_pending_memory(&peer->stream) <
		       peer->server->limits.buffer_per_connection &&
	       (!stream_pending_own(&peer->stream) || !is_user_crowded(peer)) &&
	       has_room_for_body(peer) && has_room_for_file(peer);
}

void peer_flush_later(struct peer *peer)
{
	if (peer->state == PEER_CLOSED)
		return;
	peer_take_outlet(peer);
	loop_defer(&peer->server->loop, &peer->flush);
}

void peer_note_sent(struct peer *peer, uint64_t size)
{
	if (!size)
		return;
	peer->sent_ns = peer->server->loop.now_ns;
	op_receive_sent(peer);
	if (peer->throttled && !is_choked(peer) &&
	    stream_pending_memory(&peer->stream) <
		    peer->server->limits.buffer_per_connection / 2) {
		peer->throttled = false;
		source_again(&peer->source);
	}
}

/* Only what is news: room while there is output, and input or room not while a worker moves a
 * body, or each bit of it would be an event. What has come meanwhile is one when it is asked
 * for again. */
static uint32_t wanted_events(const struct peer *peer)
{
	uint32_t events = EPOLLRDHUP | EPOLLET;

	if (!peer->uploading)
		events |= EPOLLIN;
	if (stream_pending(&peer->stream) && !peer->fds_refused &&
	    !peer_is_sending_file(peer))
		events |= EPOLLOUT;
	return events;
}

void peer_ask_for_events(struct peer *peer)
{
	uint32_t events = wanted_events(peer);
	int r;

	if (peer->events == events || peer->state == PEER_CLOSED)
		return;
	peer->events = events;
	r = source_want(&peer->source, events);
	if (r < 0)
		peer_fail(peer, r);
}

/* It no longer reads, but what it sent before still counts. */
static void note_output_dead(struct peer *peer)
{
	peer->output_dead = true;
	peer->throttled = false;
	source_again(&peer->source);
}

void peer_await_room(struct peer *peer)
{
	peer_ask_for_events(peer);
	check_drained(peer);
	arm_deadline(peer);
}

void peer_output_failed(struct peer *peer)
{
	note_output_dead(peer);
	peer_await_room(peer);
}

static void flush(struct peer *peer)
{
	int r;

	do
		r = stream_flush(&peer->stream, MSG_DONTWAIT);
	while (r == 0 && peer_put_flows(peer));
	peer->fds_refused = r == -ETOOMANYREFS;
	if (r == STREAM_E_FILE)
		peer_send_file(peer);
	else if (r < 0 && !peer->fds_refused)
		note_output_dead(peer);
}

static void on_flush(struct deferred *deferred)
{
	struct peer *peer = CONTAINER_OF(deferred, struct peer, flush);
	uint64_t before = peer->stream.sent_bytes;

	if (!peer->output_dead && !peer_is_sending_file(peer))
		flush(peer);
	peer_ask_for_events(peer);
	if (peer->outgoing_charged)
		peer_charge_outgoing(peer);
	if (peer->outgoing_bytes_charged)
		peer_charge_bodies(peer);
	peer_note_sent(peer, peer->stream.sent_bytes - before);
	charge_output(peer);
	check_drained(peer);
	arm_deadline(peer);
	if (!stream_pending(&peer->stream))
		peer_give_outlet(peer);
}

/* ---- input ---- */

/* The stream is no longer understood: one error frame, then the end. */
void peer_break_off(struct peer *peer, int error, const struct fault *fault)
{
	if (error == -ENOMEM) {
		peer_fail(peer, error);
		return;
	}
	if (peer_may_log(peer))
		log_warning("%s broke the protocol: %s", peer_describe(peer),
			    fault->text);
	peer_refuse(peer, false, 0, NULL, fault);
	peer_linger(peer);
}

static void pause_with(struct peer *peer, const struct frame *frame)
{
	stream_unread(&peer->stream, peer->server->reader, frame);
	peer->paused = peer->unread = true;
}

/* Descriptors come in faster than those before can be closed. */
static bool is_clogged(struct peer *peer)
{
	if (!workers_is_clogged(peer->server->workers, peer->who.uid))
		return false;
	peer_cut(
		peer, FAULT_BAD_FD,
		"earlier descriptors of this user wait to be closed, for one of them does "
		"not answer",
		"fd_deadline", peer->server->limits.fd_deadline);
	return true;
}

static int take_frame(struct peer *peer, const struct frame *frame)
{
	int r;

	if (frame->fds && is_clogged(peer))
		return 0;
	if (peer->incoming_charged) /* it is finished */
		charge_incoming(peer);
	r = dispatch_frame(peer, frame);

	if (r == DISPATCH_WAIT)
		pause_with(peer, frame);
	else if (r == DISPATCH_AGAIN)
		stream_unread(&peer->stream, peer->server->reader, frame);
	return err_trace(r);
}

/* The header of a large body, which is announced again where it has to wait. */
static int take_announcement(struct peer *peer, const struct frame *frame)
{
	enum stream_body what;
	int r = dispatch_body(peer, frame, &what);

	if (r == DISPATCH_WAIT)
		peer->paused = peer->unread = true;
	return r ? err_trace(r) : err_trace(stream_decide_body(&peer->stream, what));
}

/* Frames until the input is used up, or reading has to stop. */
static int take_frames(struct peer *peer, unsigned int *n_frames)
{
	struct server *server = peer->server;
	struct fault *fault = &server->fault;
	struct frame frame;
	int r;

	while (is_read(peer)) {
		r = stream_next(&peer->stream, server->reader, &frame, fault);
		if (r == 0 && !stream_lent_left(&peer->stream))
			return 0;
		if (r == 0) {
			peer_feed_upload(peer);
		} else if (r == STREAM_E_FRAME) {
			(*n_frames)++;
			r = take_frame(peer, &frame);
		} else if (r == STREAM_E_BODY) {
			r = take_announcement(peer, &frame);
		}
		if (r == DISPATCH_WAIT)
			break;
		if (r < 0) {
			peer_break_off(peer, r, fault);
			break;
		}
		throttle(peer);
	}
	return err_trace(stream_hold(&peer->stream, server->reader));
}

void peer_end_input(struct peer *peer)
{
	peer->readable = false;
	peer_drop_upload(peer); /* half a body is dropped */
	assemblies_deinit(&peer->assemblies);
	peer_set_state(peer, PEER_DRAINING);
	check_drained(peer);
}

/* One read, or what was put aside by an earlier one. False: there is nothing to parse. */
static bool get_input(struct peer *peer)
{
	struct reader *reader = peer->server->reader;
	bool drained;
	int r;

	if (stream_is_held(&peer->stream)) {
		stream_resume(&peer->stream, reader);
		return true;
	}
	if (peer->unread)
		return true;
	if (!peer->readable)
		return false;
	if (stream_lent_left(&peer->stream)) /* a worker reads it */
		return true;
	r = stream_read(&peer->stream, reader, MSG_DONTWAIT, &drained);
	if (r == 0) {
		peer->read_ns = peer->server->loop.now_ns;
		/* a short read may have stopped before the end of file */
		peer->readable = !drained || peer->eof_due;
		return true;
	}
	if (r == STREAM_E_AGAIN)
		peer->readable = false;
	else if (r == -ENOMEM)
		peer_fail(peer, r);
	else
		peer_end_input(peer); /* end of file, or ECONNRESET: the same to us */
	return false;
}

static void read_turn(struct peer *peer)
{
	bool in_body, was_partial = stream_is_partial(&peer->stream, &in_body);
	unsigned int n_frames = 0;
	int r;

	if (!get_input(peer)) {
		if (stream_lent_left(&peer->stream)) /* a worker read some */
			arm_deadline(peer);
		return;
	}
	if (peer->server->broker.store) /* it may know of a commit what we do not yet */
		store_catch_up(peer->server->broker.store);
	peer->unread = false;
	r = take_frames(peer, &n_frames);
	if (r < 0)
		peer_fail(peer, r);
	if (!was_partial || n_frames)
		peer->partial_since_ns = peer->read_ns;
	charge_input(peer);
	arm_deadline(peer);
	if (peer->readable || stream_is_held(&peer->stream) || peer->unread)
		source_again(&peer->source);
}

static void listing_turn(struct peer *peer)
{
	listing_go_on(peer);
	throttle(peer);
	charge_input(peer);
	arm_deadline(peer);
}

static void on_turn(struct source *source, uint32_t events)
{
	struct peer *peer = CONTAINER_OF(source, struct peer, source);

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		peer->readable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		peer->eof_due = true;
	if (events & (EPOLLHUP | EPOLLERR))
		peer->hung_up = true;
	if (events & EPOLLOUT && stream_pending(&peer->stream))
		peer_flush_later(peer);
	if (peer->listing && peer->hung_up)
		listing_drop(peer);
	if (peer->listing && peer->state == PEER_OPEN && !peer->throttled)
		listing_turn(peer);
	else if (is_read(peer))
		read_turn(peer);
	else if (events & EPOLLHUP)
		check_drained(peer);
	if (peer->state == PEER_OPEN && is_crowded(peer))
		store_await_room(peer->server->broker.store, &peer->resume);
}

static void on_resume(struct deferred *deferred)
{
	source_again(&CONTAINER_OF(deferred, struct peer, resume)->source);
}

/* ---- arrival ---- */

static void on_name_known(struct user_waiter *waiter)
{
	struct peer *peer = CONTAINER_OF(waiter, struct peer, name_waiter);

	if (peer->state == PEER_NAMING)
		peer_set_state(peer, PEER_OPEN);
	peer->paused = false;
	source_again(&peer->source);
}

static void refuse_connection(int fd, const char *why, const char *key, uint64_t limit)
{
	char frame[512];
	int n = snprintf(
		frame + 4, sizeof(frame) - 4,
		"{\"error\":\"full\",\"message\":\"%s %llu (%s); try again later\"}", why,
		(unsigned long long)limit, key);

	frame_encode_length(frame, (size_t)n);
	(void)!send(fd, frame, (size_t)n + 4, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool is_welcome(struct server *server, const struct user *user, int fd)
{
	const struct limits *l = &server->limits;

	if (server->n_peers >= l->connections) {
		refuse_connection(fd, "too many connections, at most", "connections",
				  l->connections);
	} else if (user->uid != 0 && user->usage.connections >= l->connections_per_user) {
		refuse_connection(fd, "too many connections of this user, at most",
				  "connections_per_user", l->connections_per_user);
	} else if (workers_is_clogged(server->workers, user->uid)) {
		refuse_connection(fd,
				  "descriptors of this user wait to be closed, for one "
				  "does not answer; it has, in ms",
				  "fd_deadline", l->fd_deadline);
	} else {
		return true;
	}
	if (log_limit_admits(&server->log_limit, user->uid))
		log_warning("refused a connection of uid %u", user->uid);
	return false;
}

static void close_fds(const struct stream *s, struct fdset *fds)
{
	const struct peer *peer =
		CONTAINER_OF((struct stream *)(uintptr_t)s, struct peer, stream);

	if (fds->quick || fdset_is_empty(fds))
		fdset_free(fds);
	else
		workers_close_fds(peer->who.uid, fds);
}

/* More than that is not kept with its frame. */
static uint64_t largest_body(const struct server *server)
{
	return max_u64(server->limits.body_max, LIMIT_PIECE_MAX);
}

void peer_follow_limits(struct peer *peer)
{
	peer->stream.body_max = largest_body(peer->server);
}

static int peer_new(struct server *server, int fd, const struct ucred *cred,
		    struct user *user, struct peer **ret_peer)
{
	_cleanup_free_ struct peer *peer = calloc(1, sizeof(*peer));
	int r;

	if (!peer)
		return err_origin(-ENOMEM);
	peer->events = wanted_events(peer);
	r = map_reserve(&server->peers_by_number);
	if (r == 0)
		r = source_add(&peer->source, &server->loop, &user->turns, fd,
			       peer->events, on_turn);
	if (r < 0)
		return err_trace(r);
	stream_init(&peer->stream, fd, largest_body(server));
	peer->stream.lend_from = LIMIT_PIECE_MAX;
	peer->stream.close_fds = close_fds;
	peer->server = server;
	peer->user = user;
	peer->who = (struct credentials){ cred->uid, cred->gid, user, peer_has_group };
	peer->pid = cred->pid;
	peer->number = server->next_peer++;
	peer->accepted_ns = peer->sent_ns = server->loop.now_ns;
	map_init(&peer->requests);
	list_init(&peer->peeks);
	list_init(&peer->nameless);
	list_init(&peer->receives);
	list_init(&peer->sending);
	list_init(&peer->ended);
	list_init(&peer->preparing);
	assemblies_init(&peer->assemblies);
	list_init(&peer->name_waiter.link);
	peer->name_waiter.known = on_name_known;
	deferred_init(&peer->flush, on_flush);
	deferred_init(&peer->reap, on_reap);
	user_turn_init(&peer->losing, lose_some);
	deferred_init(&peer->resume, on_resume);
	timer_init(&peer->deadline, TIMER_MONOTONIC, on_deadline);
	list_add_tail(&server->peers, &peer->link);
	map_add(&server->peers_by_number, &peer->by_number, map_u64(peer->number));
	user->usage.connections++;
	server->n_peers++;
	*ret_peer = TAKE_PTR(peer);
	return 0;
}

void peer_accept(struct server *server, int fd_taken)
{
	_cleanup_fd_ int fd = fd_taken;
	struct user *user = NULL;
	struct ucred cred;
	struct peer *peer = NULL;
	int r;

	r = peer_read_credentials(fd, &cred);
	if (r == 0)
		r = user_get(&server->users, cred.uid, &user);
	if (r < 0) {
		log_error("cannot take a connection: %s", strerror(-r));
		return;
	}
	if (!is_welcome(server, user, fd)) {
		user_unref(user);
		return;
	}
	r = peer_new(server, fd, &cred, user, &peer);
	if (r < 0) {
		log_error("cannot take a connection: %s (%s)", strerror(-r), err_trail());
		user_unref(user);
		return;
	}
	TAKE_FD(fd);
	log_debug("%s connected", peer_describe(peer));
	if (user_name_wait(user, &peer->name_waiter))
		peer_set_state(peer, PEER_OPEN);
}
