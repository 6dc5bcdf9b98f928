/* SPDX-License-Identifier: MIT */

/* Sending: ipc_send() and ipc_send_message() wait for the answer, ipc_send_async() only
 * puts the request into the output. */

#include "client/client_internal.h"

#include <string.h>

#include "base/err.h"

static int check_flags(struct ipc_client *client, unsigned int flags)
{
	if (!(flags & ~(unsigned int)IPC_SEND_WAIT_ACKED))
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
	if (message->meta)
		json_put_raw(w, "meta", message->meta, strlen(message->meta));
	return 0;
}

int ipc_send_message(struct ipc_client *client, const char *queue,
		     const struct ipc_message *message, int64_t wait_ms,
		     unsigned int flags, uint64_t *ret_number)
{
	_cleanup_request_ struct ipc_request request;
	uint64_t deadline;
	int r;

	request_init(&request, client, &request_call_ops);
	r = check_arguments(client, queue, wait_ms, flags);
	if (r < 0)
		return err_trace(r);
	deadline = client_deadline(client,
				   flags & IPC_SEND_WAIT_ACKED ? IPC_FOREVER : wait_ms);
	r = client_await(client, deadline);
	if (r >= 0)
		r = client_write_until(client, CLIENT_OUTPUT_MAX, deadline);
	if (r >= 0)
		r = begin_send(&request, queue, message, wait_ms, flags);
	if (r >= 0)
		r = request_put(&request, message->body, message->body_size);
	if (r >= 0)
		r = request_wait(&request, deadline);
	if (r >= 0 && ret_number)
		*ret_number = request.reply.number;
	return err_trace(r);
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
