/* SPDX-License-Identifier: MIT */

/*
 * Sending: ipc_send() and ipc_send_message() wait for the answer, ipc_send_async() only
 * puts the request into the output.
 *
 * Nothing is ever sent twice, but for one case: ipc_send_message() of a message with a
 * dedup id, when the connection was lost before the answer and comes again. The daemon then
 * knows whether it had the message, see dedup_id in ipc-protocol(7).
 */

#include "client/client_internal.h"

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

/* Begins the request; request_put() with the message's body ends it. */
static int begin_send(struct ipc_request *request, const char *queue,
		      const struct ipc_message *message, int64_t wait_ms,
		      unsigned int flags)
{
	struct json_writer *w = request->client->writer;
	int r = request_begin(request, "send");

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
	return 0;
}

struct attempts {
	const char *queue;
	const struct ipc_message *message;
	int64_t wait_ms; /* for room, in the attempt that comes */
	uint64_t room_ns, deadline_ns;
	unsigned int flags;
};

static int attempt(struct ipc_client *client, const struct attempts *a,
		   struct ipc_reply *ret_reply)
{
	const struct ipc_message *message = a->message;
	_cleanup_request_ struct ipc_request request;
	int r;

	request_init(&request, client, &request_call_ops);
	r = client_await(client, a->deadline_ns);
	if (r >= 0)
		r = client_write_until(client, CLIENT_OUTPUT_MAX, a->deadline_ns);
	if (r >= 0)
		r = begin_send(&request, a->queue, message, a->wait_ms, a->flags);
	if (r >= 0)
		r = request_put(&request, message->body, message->body_size);
	if (r >= 0)
		r = request_wait(&request, a->deadline_ns);
	ret_reply->number = request.reply.number;
	ret_reply->sent = request.reply.sent;
	return err_trace(r);
}

/* A daemon that is stopping has refused it, and is going to close. */
static void wait_for_end(struct ipc_client *client, uint64_t deadline_ns)
{
	while (!client->failure && client_step(client, deadline_ns) >= 0)
		client_run_callbacks(client);
}

/* Was it lost on the way, and may it go again? */
static bool may_repeat(struct ipc_client *client, struct attempts *a, int r)
{
	struct client_error why = client->error;

	if (!a->message->dedup_id || !client_reconnects(client) ||
	    (r != -ECONNRESET && r != -ESHUTDOWN))
		return false;
	if (r == -ESHUTDOWN)
		wait_for_end(client, a->deadline_ns);
	client->error = why;
	if ((r == -ESHUTDOWN && !client->failure) || !client_ms_until(a->deadline_ns))
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
	a.deadline_ns = client_deadline(client, flags & IPC_SEND_WAIT_ACKED ? IPC_FOREVER
									    : wait_ms);
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
	int r = check_arguments(client, queue, wait_ms, flags);

	if (!r)
		r = client_check_output(client);
	if (!r)
		r = request_new(client, callback, userdata, &request);
	if (!r)
		r = begin_send(request, queue, message, wait_ms, flags);
	if (r < 0)
		return err_trace(r);
	return err_trace(request_put_async(&request, message->body, message->body_size,
					   ret_request));
}
