/* SPDX-License-Identifier: MIT */

/*
 * The client's bytes: what goes into the output, when it is written, and which request a
 * frame that comes in belongs to.
 *
 * Nothing blocks but poll(2) in wait_for(): a call costs one send, one poll, one recvmsg.
 * Where output is left it waits for both directions: the daemon may be unable to read
 * because we do not.
 */

#include "client/client_internal.h"

#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"

enum {
	READS_MAX =
		64, /* of ipc_client_process(), so that others in the loop have a turn */
};

/* ---- the end ---- */

void client_lose_requests(struct ipc_client *client, int error)
{
	struct ipc_request *request;

	client_lose_messages(client, error);
	while ((request = LIST_FIRST(&client->open, struct ipc_request, link))) {
		request_end(request);
		request->ops->on_lost(request, error);
	}
}

/* The daemon's own words, if it had any, say more than the way the end was noticed. */
static void set_last(struct ipc_client *client, int r, const char *text)
{
	struct client_error *last = &client->last;

	if (client->parted) {
		client_error_set(last, r, "the daemon closed the connection: %s",
				 client->parting.text);
		client_copy_word(last->word, client->parting.word,
				 strlen(client->parting.word));
	} else {
		client_error_set(last, r, "%s", text);
	}
}

int client_die(struct ipc_client *client, int r, const char *format, ...)
{
	char text[CLIENT_ERROR_MAX + 1];
	va_list args;

	if (client->failure)
		return r;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	set_last(client, r, text);
	client->error = client->last;
	client->failure = r;
	if (client_reconnects(client))
		reconnect_prepare(client);
	stream_deinit(&client->stream);
	client_lose_requests(client, -ECONNRESET);
	return r;
}

int client_check(struct ipc_client *client)
{
	if (!client->failure)
		return 0;
	client->error = client->last;
	return err_origin(-ECONNRESET);
}

/* ---- output ---- */

void client_begin(struct ipc_client *client, const char *op)
{
	client->header.size = 0;
	json_writer_begin(client->writer, &client->header);
	json_put_text(client->writer, "op", op);
}

void client_begin_piece(struct ipc_client *client)
{
	client->header.size = 0;
	json_writer_begin(client->writer, &client->header);
}

static int put_frame(struct ipc_client *client, struct bytes *block, const void *body,
		     size_t body_size)
{
	struct stream *s = &client->stream;
	int r = stream_put_header(s, client->header.data, client->header.size);

	if (r < 0 || !body_size)
		return err_trace(r);
	if (block)
		return err_trace(stream_put_bytes(s, block, 0, body_size));
	return err_trace(stream_put(s, body, body_size));
}

static int end_header(struct ipc_client *client, size_t body_size)
{
	int r;

	if (body_size)
		json_put_u64(client->writer, "size", body_size);
	r = json_writer_end(client->writer);
	if (r < 0)
		return client_error_set(&client->error, r, "no memory for a request");
	if (client->header.size > LIMIT_HEADER_MAX)
		return client_error_set(
			&client->error, -EMSGSIZE,
			"the request's header has %zu bytes, the limit is %d",
			client->header.size, LIMIT_HEADER_MAX);
	return 0;
}

int client_put_whole(struct ipc_client *client, const void *body, size_t body_size)
{
	_cleanup_bytes_ struct bytes *block = NULL;
	int r = 0;

	trace_frame(client, TRACE_OUT, client->header.data, client->header.size,
		    body_size);
	if (body_size > STREAM_BODY_DIRECT) {
		block = bytes_new_copy(body, body_size);
		if (!block)
			r = err_origin(-ENOMEM);
	}
	if (r >= 0) {
		r = put_frame(client, block, body, body_size);
		client->output_broken |= r < 0;
	}
	if (r < 0)
		client_error_set(&client->error, r, "no memory for a request");
	return err_trace(r);
}

int client_put(struct ipc_client *client, const void *body, size_t body_size)
{
	int r = end_header(client, body_size);

	return err_trace(r < 0 ? r : client_put_whole(client, body, body_size));
}

int client_put_fds(struct ipc_client *client, struct fdset **fds)
{
	int r = end_header(client, 0);

	if (r < 0)
		return err_trace(r);
	stream_put_fds_take(&client->stream, TAKE_PTR(*fds));
	return err_trace(client_put_whole(client, NULL, 0));
}

static int read_once(struct ipc_client *client, int flags);

/* The daemon may have said why it closed, before it did. */
static int end_by_failed_write(struct ipc_client *client, int write_error)
{
	int r;

	client->write_failed = true;
	do
		r = read_once(client, MSG_DONTWAIT);
	while (!r);
	if (r < 0)
		return err_trace(r);
	if (write_error == -EPIPE || write_error == -ECONNRESET)
		return client_die(client, err_origin(-ECONNRESET),
				  "the daemon closed the connection");
	return client_die(client, err_origin(write_error),
			  "cannot write to the daemon: %s", strerror(-write_error));
}

static bool fds_are_next(const struct stream *s)
{
	return s->n_segments && s->segments[s->first].fds;
}

int client_write(struct ipc_client *client)
{
	int r;

	client->waits_with_fds = false;
	if (client->output_broken)
		return client_die(client, err_origin(-ENOMEM), "no memory for a request");
	if (client->write_failed || !stream_pending(&client->stream))
		return 0;
	r = stream_flush(&client->stream, MSG_DONTWAIT);
	/* as many descriptors of this user are in sockets as it may have open, unix(7) */
	if (r == -ETOOMANYREFS)
		r = STREAM_E_AGAIN;
	client->waits_with_fds = r == STREAM_E_AGAIN && fds_are_next(&client->stream);
	return r < 0 ? err_trace(end_by_failed_write(client, r)) : r;
}

/* ---- input ---- */

static int protocol_error(struct ipc_client *client, const char *why)
{
	return client_error_set(&client->error, err_origin(-EPROTO), "%s", why);
}

/* A failure of what was not to be answered, or the reason why the daemon will close. */
static int handle_notice(struct ipc_client *client, const struct frame *frame)
{
	struct ipc_reply reply = { 0 };
	const char *op;
	struct fault fault;
	size_t size;
	int r, has_op = header_get_string(frame->header, KEY_OP, 1, LIMIT_HEADER_MAX, &op,
					  &size, &fault);

	/* cancel may come too late, that is nothing */
	if (has_op > 0 && size == strlen("cancel") && !memcmp(op, "cancel", size))
		return 0;
	r = request_decode_error(client, frame->header, &reply);
	if (r < 0)
		return err_trace(r);
	if (!r)
		return protocol_error(client, "neither an answer nor an error");
	client_error_set_answer(&client->error, reply.word, reply.text ? reply.text : "");
	if (has_op <= 0) {
		client->parted = true;
		client->parting = client->error;
	}
	free(reply.text);
	return 0;
}

static int get_id(const struct frame *frame, uint64_t *ret_id, struct fault *fault)
{
	if (frame->header)
		return header_get_u64(frame->header, KEY_RE, 1, LIMIT_NUMBER_MAX, ret_id,
				      fault);
	*ret_id = frame->plain.re;
	return 1;
}

static int handle_frame(struct ipc_client *client, struct frame *frame)
{
	struct map_node *node;
	struct fault fault;
	uint64_t id = 0;
	int r = get_id(frame, &id, &fault);

	if (r < 0)
		return err_trace(protocol_error(client, fault.text));
	if (frame->body_size && !frame->body && !frame->body_block)
		return err_trace(protocol_error(client, "a body larger than any limit"));
	if (!r)
		return err_trace(handle_notice(client, frame));
	if (id >= client->next_id)
		return err_trace(protocol_error(client, "an answer to no request"));
	node = map_find(&client->requests, map_u64(id));
	if (!node)
		return 0; /* cancelled, or given up */
	struct ipc_request *request = CONTAINER_OF(node, struct ipc_request, node);
	if (!frame->header && !request_knows_plain(request, frame)) {
		r = stream_parse_header(client->reader, frame, &fault);
		if (r == -ENOMEM)
			return err_trace(r);
		if (r < 0)
			return err_trace(protocol_error(client, fault.text));
	}
	return err_trace(request->ops->on_frame(request, frame));
}

static int end_by_bad_input(struct ipc_client *client, int r)
{
	if (r == -ENOMEM)
		return client_die(client, r, "no memory for an answer");
	return client_die(client, -EPROTO, "this is no answer of a daemon's: %s",
			  client->error.text);
}

static int handle_input(struct ipc_client *client)
{
	uint64_t queued = client->stream.queued_bytes;
	struct fault fault;
	struct frame frame;
	int r;

	fault.text[0] = '\0';
	while ((r = stream_next(&client->stream, client->reader, &frame, &fault))) {
		if (r < 0 && r != -ENOMEM)
			protocol_error(client, fault.text);
		if (r == STREAM_E_FRAME) {
			trace_frame(client, TRACE_IN, frame.header_text,
				    frame.header_size, frame.body_size);
			r = handle_frame(client, &frame);
		}
		if (r < 0)
			return err_trace(end_by_bad_input(client, r));
	}
	/* what handlers have put need not wait for the next call */
	if (client->stream.queued_bytes != queued)
		r = client_write(client);
	return r < 0 ? err_trace(r) : 0;
}

/* 0, STREAM_E_AGAIN (also after a signal), or what ended the client. */
static int read_once(struct ipc_client *client, int flags)
{
	bool drained;
	int r = stream_read(&client->stream, client->reader, flags, &drained);

	if (r == STREAM_E_AGAIN || r == -EINTR)
		return STREAM_E_AGAIN;
	if (r == STREAM_E_EOF || r == -ECONNRESET)
		return client_die(client, err_origin(-ECONNRESET),
				  "the daemon closed the connection");
	if (r < 0)
		return client_die(client, err_trace(r), "cannot read from the daemon: %s",
				  strerror(-r));
	return err_trace(handle_input(client));
}

int client_read_available(struct ipc_client *client)
{
	int r = 0;

	for (int i = 0; !r && i < READS_MAX; i++)
		r = read_once(client, MSG_DONTWAIT);
	return r < 0 ? err_trace(r) : 0;
}

/* ---- waiting ---- */

uint64_t client_deadline(const struct ipc_client *client, int64_t wait_ms)
{
	if (wait_ms == IPC_FOREVER || client->timeout_ms == IPC_FOREVER)
		return CLIENT_NEVER;
	return deadline_after(clock_ns(CLOCK_MONOTONIC),
			      (uint64_t)wait_ms + (uint64_t)client->timeout_ms);
}

uint64_t client_ms_until(uint64_t deadline_ns)
{
	uint64_t now;

	if (deadline_ns == CLIENT_NEVER)
		return UINT64_MAX;
	now = clock_ns(CLOCK_MONOTONIC);
	return now >= deadline_ns ? 0 : (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS;
}

/* Until something has come, which is then handled, or the socket takes more if that is
 * waited for too. poll(2) and not a blocking recvmsg(2): the kernel wakes whoever sleeps in
 * recvmsg also when the other end has merely read something (unix_write_space), which with
 * each call is once too often; a third system call costs less than that. */
static int wait_for(struct ipc_client *client, short events, uint64_t ms)
{
	struct pollfd p = { .fd = client->stream.fd, .events = events };
	int r;

	if ((events & POLLOUT) && client->waits_with_fds) {
		p.events = POLLIN;
		ms = min_u64(ms, CLIENT_FDS_RETRY_MS);
	}
	r = poll(&p, 1, ms == UINT64_MAX ? -1 : (int)min_u64(ms, INT_MAX));
	if (r <= 0 || !(p.revents & ~POLLOUT))
		return 0; /* a failing poll(2) is a signal, or passes */
	return err_trace(read_once(client, MSG_DONTWAIT));
}

static int step(struct ipc_client *client, uint64_t deadline_ns)
{
	uint64_t ms;
	int r = client_write(client);

	if (r < 0)
		return err_trace(r);
	ms = client_ms_until(deadline_ns);
	if (!ms) {
		r = read_once(client, MSG_DONTWAIT);
		return r < 0 ? err_trace(r) : -ETIMEDOUT;
	}
	r = wait_for(client, r == STREAM_E_AGAIN ? POLLIN | POLLOUT : POLLIN, ms);
	return r < 0 ? err_trace(r) : 0;
}

uint64_t client_interruption_ns(const struct ipc_client *client)
{
	return client_has_callbacks(client) ? 0 : client_next_timeout(client);
}

int client_step(struct ipc_client *client, uint64_t deadline_ns)
{
	uint64_t until = min_u64(deadline_ns, client_interruption_ns(client));
	int r = client->failure ? reconnect_step(client, until) : step(client, until);

	client_end_overdue(client);
	if (r == -ETIMEDOUT)
		return client_ms_until(deadline_ns) ? 0 : r;
	return r < 0 && client_reconnects(client) ? 0 : r;
}

int client_write_until(struct ipc_client *client, uint64_t left, uint64_t deadline_ns)
{
	uint64_t ms;
	int r;

	for (;;) {
		r = client_check(client);
		if (r < 0 || stream_pending(&client->stream) <= left)
			return err_trace(r);
		r = client_write(client);
		if (r < 0)
			return err_trace(r);
		if (stream_pending(&client->stream) <= left)
			return 0;
		if (!client_ms_until(deadline_ns))
			return client_error_set(&client->error, err_origin(-ETIMEDOUT),
						"the daemon does not read");
		ms = client_ms_until(
			min_u64(deadline_ns, client_interruption_ns(client)));
		r = wait_for(client, POLLIN | POLLOUT, ms);
		if (r < 0)
			return err_trace(r);
		client_end_overdue(client);
		client_run_callbacks(client);
	}
}
