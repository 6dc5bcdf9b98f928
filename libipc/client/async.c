/* SPDX-License-Identifier: MIT */

/*
 * Requests that are not waited for: their callbacks, their deadlines, cancelling them.
 *
 * A request that is answered, lost or too late goes to client->done, a receiver with
 * messages to client->ready; client_run_callbacks() empties both.
 */

#include "client/client_internal.h"

#include <string.h>

#include "base/clock.h"
#include "base/err.h"

int request_new(struct ipc_client *client, ipc_reply_fn callback, void *userdata,
		struct ipc_request **ret_request)
{
	struct ipc_request *request;

	if (!callback)
		return client_error_set(&client->error, err_origin(-EINVAL),
					"nobody to be told of an answer");
	request = malloc(sizeof(*request));
	if (!request)
		return client_error_set(&client->error, err_origin(-ENOMEM),
					"no memory for a request");
	request_init(request, client, &request_call_ops);
	request->callback = callback;
	request->userdata = userdata;
	*ret_request = request;
	return 0;
}

struct ipc_request *request_free(struct ipc_request *request)
{
	request_deinit(request);
	free(request);
	return NULL;
}

/* ---- output ---- */

int client_check_output(struct ipc_client *client)
{
	if (stream_pending(&client->stream) <= CLIENT_OUTPUT_MAX)
		return 0;
	return client_error_set(
		&client->error, err_origin(-ENOBUFS),
		"%llu bytes wait to be written, the limit is %d: flush first",
		(unsigned long long)stream_pending(&client->stream), CLIENT_OUTPUT_MAX);
}

/* Not for each message, since the socket may be full; a failure is told by callbacks. */
static void write_soon(struct ipc_client *client)
{
	uint64_t queued = client->stream.queued_bytes;

	if (queued - client->write_tried_at < CLIENT_WRITE_SOON ||
	    stream_pending(&client->stream) < CLIENT_WRITE_SOON)
		return;
	client->write_tried_at = queued;
	(void)!client_write(client);
}

static int is_put(struct ipc_request **request, int r, struct ipc_request **ret_request)
{
	if (r < 0)
		return err_trace(r);
	write_soon((*request)->client);
	if (ret_request)
		*ret_request = *request;
	*request = NULL;
	return 0;
}

int request_put_async(struct ipc_request **request, const void *body, size_t body_size,
		      struct ipc_request **ret_request)
{
	return err_trace(
		is_put(request, request_put(*request, body, body_size), ret_request));
}

int request_put_fds_async(struct ipc_request **request, struct fdset **fds,
			  struct ipc_request **ret_request)
{
	return err_trace(is_put(request, request_put_fds(*request, fds), ret_request));
}

uint64_t ipc_client_get_pending(const struct ipc_client *client)
{
	return stream_pending(&client->stream);
}

/* ---- callbacks ---- */

static bool run_request(struct ipc_client *client)
{
	struct ipc_request *request = LIST_FIRST(&client->done, struct ipc_request, link);

	if (!request)
		return false;
	list_remove(&request->link);
	request->state = REQUEST_RUNNING;
	request->callback(client, &request->reply, request->userdata);
	request_free(request);
	return true;
}

static uint64_t n_due(const struct ipc_client *client)
{
	uint64_t n = client_n_ready(client);

	LIST_FOREACH(link, &client->done)
		n++;
	return n;
}

bool client_has_callbacks(const struct ipc_client *client)
{
	return !client->in_callback &&
	       (!list_is_empty(&client->done) || !list_is_empty(&client->ready));
}

/* What becomes due meanwhile, since callbacks may wait for the daemon, has its turn the next
 * time: else there might be no end. */
void client_run_callbacks(struct ipc_client *client)
{
	uint64_t n;

	if (!client_has_callbacks(client))
		return;
	client->in_callback = true;
	for (n = n_due(client); n; n--)
		if (!run_request(client) && !client_run_receiver(client))
			break;
	client->in_callback = false;
}

int ipc_reply_get_error(const struct ipc_reply *reply)
{
	return reply->error;
}

const char *ipc_reply_get_error_text(const struct ipc_reply *reply)
{
	if (!reply->error)
		return "";
	return reply->text ? reply->text : strerror(-reply->error);
}

const char *ipc_reply_get_error_word(const struct ipc_reply *reply)
{
	return reply->word;
}

uint64_t ipc_reply_get_number(const struct ipc_reply *reply)
{
	return reply->number;
}

unsigned int ipc_reply_get_sent(const struct ipc_reply *reply)
{
	return reply->sent;
}

struct ipc_list *ipc_reply_get_list(const struct ipc_reply *reply)
{
	return reply->list;
}

/* ---- deadlines ---- */

uint64_t client_next_timeout(const struct ipc_client *client)
{
	const struct heap_node *first = heap_first(&client->timeouts);

	return first ? first->key : CLIENT_NEVER;
}

/* A daemon that could not be told goes on working for nobody, so the client ends. */
static void give_up(struct ipc_request *request)
{
	if (request_put_cancel(request) < 0)
		request->client->output_broken = true;
}

static void end_late(struct ipc_request *request)
{
	give_up(request);
	request->reply.error = -ETIMEDOUT;
	request->reply.text = strdup("the daemon did not answer in time");
	request_finish(request);
}

void client_end_overdue(struct ipc_client *client)
{
	struct heap_node *first;

	if (!client->timeouts.n)
		return;
	while ((first = heap_first(&client->timeouts)) &&
	       first->key <= clock_ns(CLOCK_MONOTONIC))
		end_late(CONTAINER_OF(first, struct ipc_request, timeout));
}

int ipc_request_set_timeout(struct ipc_request *request, int64_t timeout_ms)
{
	struct ipc_client *client = request->client;
	int r = client_check_wait(client, timeout_ms);

	if (r < 0)
		return err_trace(r);
	if (request->state != REQUEST_OPEN)
		return 0; /* it has been answered, and the callback will say so */
	if (heap_has(&request->timeout))
		heap_remove(&client->timeouts, &request->timeout);
	if (timeout_ms == IPC_FOREVER)
		return 0;
	r = heap_add(&client->timeouts, &request->timeout,
		     deadline_after(clock_ns(CLOCK_MONOTONIC), (uint64_t)timeout_ms));
	if (r < 0)
		client_error_set(&client->error, r, "no memory for a deadline");
	return err_trace(r);
}

/* ---- cancelling ---- */

int ipc_request_cancel(struct ipc_request *request)
{
	struct ipc_client *client = request->client;
	bool open = request->state == REQUEST_OPEN;
	int r = 0;

	if (request->state == REQUEST_RUNNING)
		return 0; /* in its own callback, which comes to an end by itself */
	if (open)
		r = request_put_cancel(request);
	request_free(request);
	if (r >= 0)
		r = client_check(client);
	if (r >= 0)
		r = client_write(client);
	return r < 0 ? err_trace(r) : 0;
}
