/* SPDX-License-Identifier: MIT */

/*
 * Sending: ipc_send() and ipc_send_message() wait for the answer, ipc_send_async() only
 * puts the request into the output.
 *
 * Nothing is ever sent twice, but for one case: ipc_send_message() of a message with a
 * dedup id, when the connection was lost before the answer and comes again. The daemon then
 * knows whether it had the message, see dedup_id in ipc-protocol(7).
 */

#include "client/file.h"

#include <string.h>

#include "base/clock.h"
#include "base/err.h"

static int check_flags(struct ipc_client *client, unsigned int flags)
{
	if (!(flags & ~(unsigned int)(IPC_SEND_WAIT_ACKED | IPC_SEND_TELL)))
		return 0;
	return client_error_set(&client->error, err_origin(-EINVAL), "unknown flags 0x%x",
				flags);
}

static int check_arguments(struct ipc_client *client, const char *queue, int64_t wait_ms,
			   unsigned int flags)
{
	int r = client_check_text(client, "the queue's name", queue, LIMIT_NAME_MAX);

	if (!r)
		r = client_check_wait(client, wait_ms);
	return err_trace(r ? r : check_flags(client, flags));
}

static bool is_plain(const struct payload *payload, int64_t wait_ms, unsigned int flags)
{
	const struct ipc_message *message = payload->message;

	return payload->kind == PAYLOAD_BYTES && !message->file && !wait_ms &&
	       !(flags & IPC_SEND_WAIT_ACKED) &&
	       message->priority == LIMIT_PRIORITY_DEFAULT && !message->delay_ms &&
	       message->ttl_ms == IPC_FOREVER && !message->dedup_id && !message->meta;
}

/* Most of them. */
static int begin_plain(struct ipc_request *request, const char *queue, size_t queue_size,
		       const struct payload *payload)
{
	struct ipc_client *client = request->client;
	int r = request_begin_whole(request);

	if (r < 0)
		return err_trace(r);
	r = plain_put_send(&client->header, request->id, queue, queue_size,
			   payload->size);
	if (r < 0)
		return client_error_set(&client->error, r, "no memory for a request");
	return 0;
}

/* Begins the request; one of request_put() and request_put_fds() ends it. */
static int begin_send(struct ipc_request *request, const char *queue,
		      const struct payload *payload, int64_t wait_ms, unsigned int flags)
{
	const struct ipc_message *message = payload->message;
	struct json_writer *w = request->client->writer;
	size_t queue_size = strlen(queue);
	int r;

	request->is_send = true;
	if (is_plain(payload, wait_ms, flags) && plain_is_name(queue, queue_size))
		return err_trace(begin_plain(request, queue, queue_size, payload));
	r = request_begin(request, "send");
	if (r < 0)
		return err_trace(r);
	json_put_text(w, "queue", queue);
	if (message->priority != LIMIT_PRIORITY_DEFAULT)
		json_put_u64(w, "priority", message->priority);
	if (message->delay_ms)
		json_put_i64(w, "delay_ms", message->delay_ms);
	if (message->ttl_ms != IPC_FOREVER)
		json_put_i64(w, "ttl_ms", message->ttl_ms);
	if (wait_ms)
		json_put_i64(w, "wait_ms", wait_ms);
	if (flags & IPC_SEND_WAIT_ACKED)
		json_put_text(w, "confirm", "acked");
	if (message->dedup_id)
		json_put_text(w, "dedup_id", message->dedup_id);
	if (message->meta)
		json_put_raw(w, "meta", message->meta, strlen(message->meta));
	payload_put_keys(payload, w);
	return 0;
}

struct attempts {
	const char *queue;
	const struct ipc_message *message;
	int64_t wait_ms; /* for room, in the attempt that comes */
	uint64_t room_ns, deadline_ns;
	unsigned int flags;
	uint32_t connection; /* on which the last attempt went */
	bool spent;	     /* the body was read, and cannot be again */
};

/* An attempt under way. */
struct attempt {
	struct send send;
	struct attempts *all;
};

/* How long from now on. Files take their time, as long as there is news of them. */
static void begin_time(struct ipc_client *client, struct attempts *a)
{
	uint64_t deadline_ns = client_deadline(
		client, a->flags & IPC_SEND_WAIT_ACKED ? IPC_FOREVER : a->wait_ms);

	a->deadline_ns = max_u64(a->deadline_ns, deadline_ns);
}

static int begin(struct ipc_request *request, struct attempts *a,
		 const struct payload *payload)
{
	int r = begin_send(request, a->queue, payload, a->wait_ms, a->flags);

	a->connection = request->client->connection;
	return err_trace(r);
}

static int begin_stream(struct send *send, bool more)
{
	struct attempt *attempt = CONTAINER_OF(send, struct attempt, send);
	int r = begin(send->request, attempt->all, send->payload);

	if (!r && more)
		json_put_bool(send->request->client->writer, "more", true);
	return err_trace(r);
}

static int put_stream(struct ipc_request *request, struct attempts *a,
		      struct payload *payload)
{
	struct attempt attempt = {
		.send = { .request = request, .payload = payload, .begin = begin_stream },
		.all = a,
	};
	int r = send_stream(&attempt.send);

	a->spent = payload->once && attempt.send.started;
	begin_time(request->client, a);
	return err_trace(r);
}

static int put(struct ipc_request *request, struct attempts *a, struct payload *payload)
{
	int r;

	if (payload->kind == PAYLOAD_STREAM)
		return err_trace(put_stream(request, a, payload));
	r = begin(request, a, payload);
	if (r < 0)
		return err_trace(r);
	if (payload->kind == PAYLOAD_FD)
		return err_trace(request_put_fds(request, &payload->fds));
	return err_trace(request_put(request, payload->data, payload->size));
}

/* Of what goes in pieces, this side knows better how far it has come. */
static int tell_news(const struct ipc_request *request, const struct payload *payload)
{
	if (payload->kind != PAYLOAD_FD)
		return 0;
	return err_trace(send_tell_progress(request->client, payload->message,
					    request->done, request->total));
}

/* What was given up may have been done before the daemon heard of it: its answer says. */
static int wait_for_answer(struct ipc_request *request, struct attempts *a,
			   const struct payload *payload)
{
	struct ipc_client *client = request->client;
	int r, given_up = 0;

	while ((r = request_wait_news(request, a->deadline_ns)) == 1) {
		begin_time(client, a);
		if (given_up)
			continue;
		given_up = tell_news(request, payload);
		if (given_up && request->state == REQUEST_OPEN)
			r = request_put_cancel(request);
		if (r < 0)
			return err_trace(r);
	}
	if (r < 0 && given_up)
		return client_error_set(&client->error, given_up, "given up");
	return err_trace(r);
}

static int attempt(struct ipc_client *client, struct attempts *a,
		   struct ipc_reply *ret_reply)
{
	_cleanup_payload_ struct payload payload = { 0 };
	_cleanup_request_ struct ipc_request request;
	int r;

	request_init(&request, client, &request_call_ops);
	r = client_await(client, a->deadline_ns);
	if (r >= 0)
		r = client_write_until(client, CLIENT_OUTPUT_MAX, a->deadline_ns);
	if (r >= 0)
		r = payload_prepare(client, a->message, true, &payload);
	if (r >= 0)
		r = put(&request, a, &payload);
	if (r >= 0)
		r = wait_for_answer(&request, a, &payload);
	ret_reply->number = request.reply.number;
	ret_reply->sent = request.reply.sent;
	return err_trace(r);
}

/* It may have come again already: callbacks can wait for that. */
static bool is_lost(const struct ipc_client *client, const struct attempts *a)
{
	return client->failure || client->connection != a->connection;
}

/* A daemon that is stopping has refused it, and is going to close. */
static void wait_for_end(struct ipc_client *client, const struct attempts *a)
{
	while (!is_lost(client, a) && client_step(client, a->deadline_ns) >= 0)
		client_run_callbacks(client);
}

/* Was it lost on the way, and may it go again? */
static bool may_repeat(struct ipc_client *client, struct attempts *a, int r)
{
	struct client_error why = client->error;

	if (!a->message->dedup_id || a->spent || !client_reconnects(client) ||
	    (r != -ECONNRESET && r != -ESHUTDOWN))
		return false;
	if (r == -ESHUTDOWN)
		wait_for_end(client, a);
	client->error = why;
	if ((r == -ESHUTDOWN && !is_lost(client, a)) || !client_ms_until(a->deadline_ns))
		return false;
	if (a->wait_ms > 0)
		a->wait_ms = (int64_t)client_ms_until(a->room_ns);
	return true;
}

int ipc_send_message(struct ipc_client *client, const char *queue,
		     const struct ipc_message *message, int64_t wait_ms,
		     unsigned int flags, uint64_t *ret_number)
{
	struct attempts a = {
		.queue = queue,
		.message = message,
		.wait_ms = wait_ms,
		.flags = flags,
	};
	struct ipc_reply reply = { 0 };
	int r = check_arguments(client, queue, wait_ms, flags);

	if (r < 0)
		return err_trace(r);
	begin_time(client, &a);
	if (wait_ms > 0)
		a.room_ns = deadline_after(clock_ns(CLOCK_MONOTONIC), (uint64_t)wait_ms);
	do
		r = attempt(client, &a, &reply);
	while (r < 0 && may_repeat(client, &a, r));
	if (r < 0)
		return err_trace(r);
	if (ret_number)
		*ret_number = reply.number;
	return flags & IPC_SEND_TELL ? (int)reply.sent : 0;
}

int ipc_send(struct ipc_client *client, const char *queue, const void *data, size_t size,
	     uint64_t *ret_number)
{
	struct ipc_message message;

	client_message_init(&message);
	ipc_message_set_body(&message, data, size);
	return err_trace(ipc_send_message(client, queue, &message, 0, 0, ret_number));
}

int ipc_send_async(struct ipc_client *client, const char *queue,
		   const struct ipc_message *message, int64_t wait_ms, unsigned int flags,
		   ipc_reply_fn callback, void *userdata,
		   struct ipc_request **ret_request)
{
	_cleanup_request_ptr_ struct ipc_request *request = NULL;
	_cleanup_payload_ struct payload payload = { 0 };
	int r = check_arguments(client, queue, wait_ms, flags);

	if (!r)
		r = client_check_output(client);
	if (!r)
		r = payload_prepare(client, message, false, &payload);
	if (!r)
		r = request_new(client, callback, userdata, &request);
	if (!r)
		r = begin_send(request, queue, &payload, wait_ms, flags);
	if (r < 0)
		return err_trace(r);
	if (payload.kind == PAYLOAD_FD)
		return err_trace(
			request_put_fds_async(&request, &payload.fds, ret_request));
	return err_trace(
		request_put_async(&request, payload.data, payload.size, ret_request));
}
