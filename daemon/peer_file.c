/* SPDX-License-Identifier: MIT */

/*
 * Files on their way to a peer without descriptors, see peer.h. A worker sends a part of a
 * file when it has its turn in the output, and the output is not flushed meanwhile.
 *
 * For a peer that takes pieces each file is a flow, of which the next piece is put when the
 * output is empty: so other frames go between, and flows take turns.
 */

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "log.h"
#include "op_receive.h"
#include "peer.h"

enum {
	STEP_BYTES = 1024 * 1024,
	TURN_BYTES = 64 * 1024 * 1024, /* then others have a turn */
	WAIT_MS = 2,		       /* for the peer to read, which saves a way through
					 the loop … */
	WAITS_MAX = 8,		       /* … so often in one turn */
	BUFFER_BYTES = 65536,
};

/* A worker's turn. */
struct file_turn {
	struct job job;
	struct peer *peer; /* NULL: it is gone */
	int socket, fd;	   /* duplicates */
	off_t offset;
	uint64_t left, sent;
	int end; /* 0; STREAM_E_AGAIN; -errno of the socket; FILE_BAD */
};

enum { FILE_BAD = 1000 };

struct file_flow {
	struct list link;
	uint64_t id, message;
	int fd;
	uint64_t offset, size;
	const char *end; /* the request's end, which comes after it; or NULL */
};

struct peer_output {
	struct file_turn *turn;
	struct list flows;
	unsigned int n_flows;
};

static struct peer_output *get_output(struct peer *peer)
{
	struct peer_output *o = peer->output;

	if (o)
		return o;
	o = peer->output = calloc(1, sizeof(*o));
	if (o)
		list_init(&o->flows);
	return o;
}

/* ---- on a worker ---- */

/* Where the kernel cannot do it by itself. */
static ssize_t send_copy(const struct file_turn *t, size_t size)
{
	char buffer[BUFFER_BYTES];
	ssize_t n = pread(t->fd, buffer, min_size(size, sizeof(buffer)), t->offset);

	if (n <= 0)
		return 0;
	return send(t->socket, buffer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t send_step(struct file_turn *t)
{
	size_t size = (size_t)min_u64(t->left - t->sent, STEP_BYTES);
	off_t offset = t->offset;
	ssize_t n = sendfile(t->socket, t->fd, &offset, size);

	if (n < 0 && (errno == EINVAL || errno == ENOSYS))
		n = send_copy(t, size);
	return n;
}

static bool wait_for_room(const struct file_turn *t, int *n_waits)
{
	struct pollfd p = { .fd = t->socket, .events = POLLOUT };

	return (*n_waits)++ < WAITS_MAX && poll(&p, 1, WAIT_MS) == 1;
}

static void run(struct job *job)
{
	struct file_turn *t = CONTAINER_OF(job, struct file_turn, job);
	int n_waits = 0;
	ssize_t n;

	while (t->sent < t->left && t->sent < TURN_BYTES) {
		n = send_step(t);
		if (n > 0) {
			t->offset += n;
			t->sent += (uint64_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN && wait_for_room(t, &n_waits))
			continue;
		if (n == 0 || errno == EIO)
			t->end = FILE_BAD;
		else
			t->end = errno == EAGAIN ? STREAM_E_AGAIN : -errno;
		return;
	}
}

/* ---- turns ---- */

static void turn_free(struct file_turn *t)
{
	fd_close(t->socket);
	fd_close(t->fd);
	free(t);
}

static void go_on(struct peer *peer, const struct file_turn *t)
{
	if (t->end == FILE_BAD) {
		log_error(
			"a file for %s cannot be read to its end: the connection is closed",
			peer_describe(peer));
		peer_close(peer);
	} else if (t->end < 0) {
		peer_output_failed(peer);
	} else if (t->end == STREAM_E_AGAIN) {
		peer_await_room(peer);
	} else {
		peer_flush_later(peer);
	}
}

static void on_done(struct job *job)
{
	struct file_turn *t = CONTAINER_OF(job, struct file_turn, job);
	struct peer *peer = t->peer;

	if (peer) {
		peer->output->turn = NULL;
		if (t->sent)
			stream_file_sent(&peer->stream, t->sent);
		if (peer->state != PEER_CLOSED) {
			go_on(peer, t);
			peer_note_sent(peer, t->sent);
		}
	}
	turn_free(t);
}

void peer_send_file(struct peer *peer)
{
	struct peer_output *o = get_output(peer);
	struct file_turn *t = o ? calloc(1, sizeof(*t)) : NULL;
	struct stream_file file;

	if (!t) {
		peer_fail(peer, -ENOMEM);
		return;
	}
	stream_file_peek(&peer->stream, &file, &t->left);
	t->job = (struct job){ .uid = peer->who.uid, .run = run, .done = on_done };
	t->peer = peer;
	t->offset = file.offset;
	t->socket = fcntl(peer->stream.fd, F_DUPFD_CLOEXEC, 3);
	t->fd = fcntl(file.fd, F_DUPFD_CLOEXEC, 3);
	if (t->socket < 0 || t->fd < 0) {
		peer_fail(peer, -errno);
		turn_free(t);
		return;
	}
	o->turn = t;
	workers_submit(peer->server->workers, &t->job);
}

bool peer_is_sending_file(const struct peer *peer)
{
	return peer->output && peer->output->turn;
}

/* ---- flows ---- */

unsigned int peer_n_flows(const struct peer *peer)
{
	return peer->output ? peer->output->n_flows : 0;
}

bool peer_has_flow(const struct peer *peer, uint64_t id)
{
	if (!peer_n_flows(peer))
		return false;
	LIST_FOREACH(link, &peer->output->flows)
		if (LIST_ENTRY(link, struct file_flow, link)->id == id)
			return true;
	return false;
}

static void flow_free(struct peer_output *o, struct file_flow *flow)
{
	list_remove(&flow->link);
	o->n_flows--;
	fd_close(flow->fd);
	free(flow);
}

int peer_put_flow_take(struct peer *peer, uint64_t id, uint64_t message, int fd,
		       uint64_t offset, uint64_t size)
{
	struct peer_output *o = get_output(peer);
	struct file_flow *flow = o ? malloc(sizeof(*flow)) : NULL;

	if (!flow) {
		fd_close(fd);
		return err_origin(-ENOMEM);
	}
	*flow = (struct file_flow){
		.id = id, .message = message, .fd = fd, .offset = offset, .size = size
	};
	list_add_tail(&o->flows, &flow->link);
	o->n_flows++;
	return 0;
}

bool peer_end_after_flows(struct peer *peer, uint64_t id, const char *why)
{
	if (!peer->output)
		return false;
	for (struct list *link = peer->output->flows.prev; link != &peer->output->flows;
	     link = link->prev) {
		struct file_flow *flow = LIST_ENTRY(link, struct file_flow, link);

		if (flow->id == id) {
			flow->end = why;
			return true;
		}
	}
	return false;
}

static int put_piece(struct peer *peer, const struct file_flow *flow, uint64_t size)
{
	struct json_writer *w = peer_begin(peer, true, flow->id);
	const struct buf *header = &peer->server->header;
	int fd, r;

	json_put_u64(w, "size", size);
	if (flow->offset + size < flow->size)
		json_put_bool(w, "more", true);
	r = json_writer_end(w);
	if (r == 0)
		r = stream_put_header(&peer->stream, header->data, header->size);
	if (r < 0)
		return err_trace(r);
	fd = fcntl(flow->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return err_origin(-errno);
	return err_trace(
		stream_put_file_take(&peer->stream, fd, (off_t)flow->offset, size));
}

/* The last piece is in the output. */
static void flow_ends(struct peer *peer, struct file_flow *flow)
{
	struct message *m = message_find(&peer->server->broker, flow->message);
	const char *end = flow->end;
	uint64_t id = flow->id;

	if (m && op_receive_is_under_way(peer, id, m))
		m->out_end = peer->stream.queued_bytes;
	flow_free(peer->output, flow);
	if (end)
		op_receive_write_end(peer, id, end);
	op_receive_sent(peer); /* the request may go on */
}

/* What has been put of it is no body: its message goes back as one that was not delivered. */
static void abort_flow(struct peer *peer, struct file_flow *flow, const char *why)
{
	struct json_writer *w = peer_begin(peer, true, flow->id);
	struct message *m = message_find(&peer->server->broker, flow->message);
	const char *end = flow->end;
	uint64_t id = flow->id;

	json_put_text(w, "abort", why);
	peer_end(peer);
	flow_free(peer->output, flow);
	if (m && op_receive_is_under_way(peer, id, m))
		message_lost(m, false);
	if (end)
		op_receive_write_end(peer, id, end);
}

void peer_abort_flows(struct peer *peer, const uint64_t *id, const char *why)
{
	if (!peer->output)
		return;
	LIST_FOREACH_SAFE(link, &peer->output->flows) {
		struct file_flow *flow = LIST_ENTRY(link, struct file_flow, link);

		if (!id || flow->id == *id)
			abort_flow(peer, flow, why);
	}
}

bool peer_put_flows(struct peer *peer)
{
	struct file_flow *flow;
	uint64_t size;
	int r;

	if (!peer_n_flows(peer) || peer->state > PEER_DRAINING || peer->output_dead)
		return false;
	flow = LIST_FIRST(&peer->output->flows, struct file_flow, link);
	size = min_u64(flow->size - flow->offset, LIMIT_PIECE_MAX);
	r = put_piece(peer, flow, size);
	if (r < 0) {
		peer_fail(peer, r);
		return false;
	}
	flow->offset += size;
	list_remove(&flow->link);
	list_add_tail(&peer->output->flows, &flow->link);
	if (flow->offset == flow->size)
		flow_ends(peer, flow);
	return true;
}

void peer_drop_output(struct peer *peer)
{
	struct peer_output *o = peer->output;
	struct file_flow *flow;

	if (!o)
		return;
	if (o->turn)
		o->turn->peer = NULL;
	while ((flow = LIST_FIRST(&o->flows, struct file_flow, link)))
		flow_free(o, flow);
	free(o);
	peer->output = NULL;
}
