/* SPDX-License-Identifier: MIT */

/* The life of a receiver, and what the daemon sends it. */

#include "client/receiver.h"

#include <string.h>

#include "base/err.h"

enum { PIECES_AT_ONCE = 4 };

/* ---- life ---- */

static void drop_partial(struct ipc_receiver *receiver)
{
	receiver->partial = ipc_message_free(receiver->partial);
	buf_deinit(&receiver->joined);
}

struct ipc_message *receiver_pop(struct ipc_receiver *receiver)
{
	struct ipc_message *message =
		LIST_FIRST(&receiver->messages, struct ipc_message, link);

	if (message) {
		list_remove(&message->link);
		receiver->n_messages--;
	}
	return message;
}

struct ipc_message *receiver_fetch(struct ipc_receiver *receiver)
{
	struct ipc_message *message = receiver_pop(receiver);

	if (message) {
		receiver->n_fetched++;
		leases_hold(&receiver->request.client->reconnect.leases, message->number);
	}
	return message;
}

static void destroy(struct ipc_receiver *receiver)
{
	struct ipc_message *message;

	while ((message = receiver_pop(receiver)))
		ipc_message_free(message);
	drop_partial(receiver);
	buf_deinit(&receiver->filter);
	for (unsigned int i = 0; i < receiver->n_queues; i++)
		free(receiver->queues[i]);
	list_remove(&receiver->link);
	list_remove(&receiver->ready);
	request_deinit(&receiver->request);
	free(receiver);
}

void receiver_release(struct ipc_receiver *receiver)
{
	if (receiver->freed && !receiver->n_waiting &&
	    receiver->request.state != REQUEST_OPEN)
		destroy(receiver);
}

void client_free_receivers(struct ipc_client *client)
{
	struct ipc_receiver *receiver;

	while ((receiver = LIST_FIRST(&client->receivers, struct ipc_receiver, link)))
		destroy(receiver);
}

/* ---- frames ---- */

static int put_nack(struct ipc_client *client, const struct ipc_message *message,
		    uint64_t delay_ms)
{
	if (!*message->lease)
		return 0;
	leases_end(&client->reconnect.leases, message->number);
	client_begin(client, "nack");
	json_put_u64(client->writer, "message", message->number);
	if (message->connection != client->connection)
		json_put_text(client->writer, "lease", message->lease);
	json_put_u64(client->writer, "delay_ms", delay_ms);
	json_put_bool(client->writer, "count", false);
	return err_trace(client_put(client, NULL, 0));
}

int client_give_back(struct ipc_client *client, const struct ipc_message *message)
{
	return err_trace(put_nack(client, message, 0));
}

/* Its descriptor got lost since this process has no room for more, which may pass. */
static int refuse_lost(struct ipc_receiver *receiver, struct ipc_message *message)
{
	struct ipc_client *client = receiver->request.client;
	int r = put_nack(client, message, RECEIVER_LOST_FDS_MS);

	ipc_message_free(message);
	receiver->refused = true;
	receiver->n_lost_fds++;
	client_count_handled(client);
	return err_trace(r);
}

static int note_lease(struct ipc_client *client, const struct ipc_message *message)
{
	if (!client_reconnects(client) || !*message->lease)
		return 0;
	return err_trace(leases_add(&client->reconnect.leases, message->number));
}

/* Takes the message. */
static int queue_message(struct ipc_receiver *receiver, struct ipc_message *message)
{
	struct ipc_client *client = receiver->request.client;
	int r;

	if (receiver->freed) {
		r = client_give_back(client, message);
		ipc_message_free(message);
		return err_trace(r);
	}
	r = note_lease(client, message);
	list_add_tail(&receiver->messages, &message->link);
	receiver->n_messages++;
	client_count_handled(client);
	receiver_set_ready(receiver);
	if (r < 0)
		return err_trace(r);
	if (receiver->n_messages > receiver->n_ahead + receiver->window &&
	    !receiver_only_looks(receiver))
		return client_error_set(&client->error, err_origin(-EPROTO),
					"more messages than the window of %u",
					receiver->window);
	return 0;
}

/* Where there is no memory to make it smaller it stays as it is. */
static char *shrink(char *data, size_t size)
{
	char *small = size ? realloc(data, size) : NULL;

	return small ? small : data;
}

static int finish_partial(struct ipc_receiver *receiver)
{
	struct ipc_message *message = TAKE_PTR(receiver->partial);

	message->body_size = receiver->joined.size;
	message->joined = shrink(buf_steal(&receiver->joined), message->body_size);
	if (message->body_size)
		message->body = message->joined;
	return err_trace(queue_message(receiver, message));
}

static int add_piece(struct ipc_receiver *receiver, const struct frame *frame)
{
	const char *body = frame->body_block ? frame->body_block->data : frame->body;

	return err_trace(buf_append(&receiver->joined, body, frame->body_size));
}

/* Room for some more pieces of this size at once, or a large body is copied each time its
 * memory grows. */
static int add_first_piece(struct ipc_receiver *receiver, const struct frame *frame)
{
	int r = buf_reserve(&receiver->joined, PIECES_AT_ONCE * frame->body_size);

	return err_trace(r < 0 ? r : add_piece(receiver, frame));
}

/* The first frame of a delivery, mostly the only one. */
static int begin_message(struct ipc_receiver *receiver, const struct frame *frame,
			 bool more)
{
	struct ipc_message *message;
	int r = more ? add_first_piece(receiver, frame) : 0;

	if (!r)
		r = client_message_decode(receiver->request.client, frame, !more,
					  &message);
	if (r < 0)
		return err_trace(r);
	receiver->n_received++;
	if (frame->fds_lost)
		return err_trace(refuse_lost(receiver, message));
	if (!more)
		return err_trace(queue_message(receiver, message));
	receiver->partial = message;
	return 0;
}

static int continue_message(struct ipc_receiver *receiver, const struct frame *frame,
			    bool more)
{
	int r;

	if (header_has(frame->header, KEY_ABORT)) {
		drop_partial(receiver);
		return 0;
	}
	r = add_piece(receiver, frame);
	return err_trace(r < 0 || more ? r : finish_partial(receiver));
}

static void end_receiver(struct ipc_receiver *receiver, const char *why, size_t size)
{
	request_end(&receiver->request);
	size = min_size(size, RECEIVER_END_MAX);
	memcpy(receiver->end, why, size);
	receiver->end[size] = '\0';
	drop_partial(receiver);
	receiver->suspended = false;
	if (!receiver->freed)
		client_count_handled(receiver->request.client);
	receiver_set_ready(receiver);
	receiver_release(receiver);
}

static uint64_t n_had(const struct ipc_receiver *receiver)
{
	return receiver->n_fetched + receiver->n_messages;
}

static bool has_all(const struct ipc_receiver *receiver)
{
	return receiver->max && receiver->n_fetched >= receiver->max;
}

/* It has done what it was asked for, but the program has not seen that yet. */
static bool is_ahead(const struct ipc_receiver *receiver)
{
	return receiver->n_messages && !receiver->request.reply.error &&
	       (!strcmp(receiver->end, "max") || !strcmp(receiver->end, "timeout"));
}

/* It will be wanted on the next connection, as it is or as far as it had come. */
static bool is_resumable(const struct ipc_receiver *receiver)
{
	if (!client_reconnects(receiver->request.client) || !receiver->started ||
	    receiver->freed || receiver->once || receiver_only_looks(receiver) ||
	    has_all(receiver))
		return false;
	return receiver_is_running(receiver) || is_ahead(receiver);
}

static void suspend(struct ipc_receiver *receiver)
{
	request_end(&receiver->request);
	drop_partial(receiver);
	receiver->end[0] = '\0';
	receiver->suspended = true;
}

/* A daemon that stops says so before it closes, which is no end for who waits for the next. */
static bool is_stop(const struct ipc_receiver *receiver, const char *why, size_t size)
{
	return size == strlen("shutting-down") && !memcmp(why, "shutting-down", size) &&
	       is_resumable(receiver);
}

/* The daemon has counted what was refused, the program has not. */
static bool is_short(const struct ipc_receiver *receiver, const char *why, size_t size)
{
	return size == strlen("max") && !memcmp(why, "max", size) && receiver->refused &&
	       n_had(receiver) < receiver->max && !receiver->freed && !receiver->once &&
	       !receiver_only_looks(receiver);
}

static int on_end(struct ipc_receiver *receiver, const char *why, size_t size)
{
	if (is_short(receiver, why, size)) {
		request_end(&receiver->request);
		return err_trace(receiver_put_request(receiver));
	}
	if (is_stop(receiver, why, size))
		suspend(receiver);
	else
		end_receiver(receiver, why, size);
	return 0;
}

static int on_parsed(struct ipc_request *request, const struct frame *frame)
{
	struct ipc_receiver *receiver =
		CONTAINER_OF(request, struct ipc_receiver, request);
	struct ipc_client *client = request->client;
	const char *why;
	size_t size;
	bool more = false;
	struct fault fault;
	int r = request_decode_error(client, frame->header, &request->reply);

	if (r > 0) {
		end_receiver(receiver, request->reply.word, strlen(request->reply.word));
		return 0;
	}
	if (r < 0)
		return err_trace(r);
	r = header_get_string(frame->header, KEY_END, 1, LIMIT_HEADER_MAX, &why, &size,
			      &fault);
	if (r > 0)
		return err_trace(on_end(receiver, why, size));
	if (r < 0 || header_get_bool(frame->header, KEY_MORE, &more, &fault) < 0)
		return client_error_set(&client->error, err_origin(-EPROTO), "%s",
					fault.text);
	if (receiver->partial)
		return err_trace(continue_message(receiver, frame, more));
	return err_trace(begin_message(receiver, frame, more));
}

static int receiver_on_frame(struct ipc_request *request, const struct frame *frame)
{
	struct ipc_receiver *receiver =
		CONTAINER_OF(request, struct ipc_receiver, request);

	if (frame->header)
		return err_trace(on_parsed(request, frame));
	if (receiver->partial)
		return client_error_set(&request->client->error, err_origin(-EPROTO),
					"a message in the middle of another");
	return err_trace(begin_message(receiver, frame, false));
}

static void receiver_on_lost(struct ipc_request *request, int error)
{
	struct ipc_receiver *receiver =
		CONTAINER_OF(request, struct ipc_receiver, request);

	request->reply.error = error;
	end_receiver(receiver, "lost", strlen("lost"));
}

static const struct request_ops receiver_ops = { receiver_on_frame, receiver_on_lost,
						 PLAIN_DELIVERY };

int receiver_put_request(struct ipc_receiver *receiver)
{
	struct ipc_request *request = &receiver->request;
	struct json_writer *w = request->client->writer;
	int r = request_begin(request, "receive");

	if (r < 0)
		return err_trace(r);
	receiver->n_received = n_had(receiver);
	receiver->n_ahead = receiver->n_messages;
	receiver->refused = false;
	json_put_array(w, "queues");
	for (unsigned int i = 0; i < receiver->n_queues; i++)
		json_put_text(w, NULL, receiver->queues[i]);
	json_put_end(w);
	json_put_u64(w, "max", receiver->max ? receiver->max - n_had(receiver) : 0);
	json_put_u64(w, "window", receiver->window);
	json_put_i64(w, "wait_ms", receiver->wait_ms);
	if (receiver->ack_wait_ms != IPC_FOREVER)
		json_put_i64(w, "ack_wait_ms", receiver->ack_wait_ms);
	if (receiver->peek)
		json_put_bool(w, "peek", true);
	if (receiver->dead)
		json_put_bool(w, "dead", true);
	if (receiver->filter.size)
		json_put_raw(w, "filter", receiver->filter.data, receiver->filter.size);
	return err_trace(request_put(request, NULL, 0));
}

/* ---- another connection, or none ---- */

/* It has come to its end, but what it brought was not fetched, and is lost with its leases. */
static void note_loss(struct ipc_receiver *receiver, int error)
{
	if (!receiver->n_messages || receiver_is_running(receiver) ||
	    receiver_only_looks(receiver))
		return;
	receiver->request.reply.error = error;
	strcpy(receiver->end, "lost");
}

void client_lose_messages(struct ipc_client *client, int error)
{
	LIST_FOREACH(link, &client->receivers)
		note_loss(LIST_ENTRY(link, struct ipc_receiver, link), error);
}

static void put_aside(struct ipc_receiver *receiver)
{
	struct list *given_back = &receiver->request.client->reconnect.given_back;
	struct ipc_message *message;

	if (receiver_only_looks(receiver))
		return;
	while ((message = receiver_pop(receiver)))
		list_add_tail(given_back, &message->link);
}

void client_suspend_receivers(struct ipc_client *client)
{
	LIST_FOREACH_SAFE(link, &client->receivers) {
		struct ipc_receiver *receiver =
			LIST_ENTRY(link, struct ipc_receiver, link);
		bool resumable = is_resumable(receiver);

		if (!resumable)
			note_loss(receiver, -ECONNRESET);
		put_aside(receiver);
		if (resumable)
			suspend(receiver);
		else if (receiver_is_running(receiver) && has_all(receiver))
			end_receiver(receiver, "max", strlen("max"));
	}
}

int client_resume_receivers(struct ipc_client *client)
{
	int r = 0;

	LIST_FOREACH(link, &client->receivers) {
		struct ipc_receiver *receiver =
			LIST_ENTRY(link, struct ipc_receiver, link);

		if (!receiver->suspended)
			continue;
		r = receiver_put_request(receiver);
		if (r < 0)
			break;
		receiver->suspended = false;
	}
	return err_trace(r);
}

/* ---- callbacks ---- */

/* The leases went with the connection: others have these messages now. */
static void drop_lost(struct ipc_receiver *receiver)
{
	struct ipc_message *message;

	if (!receiver->request.client->failure || receiver_only_looks(receiver))
		return;
	while ((message = receiver_pop(receiver)))
		ipc_message_free(message);
}

static bool has_end_to_tell(const struct ipc_receiver *receiver)
{
	return receiver->started && !receiver_is_running(receiver) &&
	       !receiver->end_is_told;
}

void receiver_set_ready(struct ipc_receiver *receiver)
{
	if (!receiver->callback || receiver->freed || list_is_linked(&receiver->ready))
		return;
	if (receiver->n_messages || has_end_to_tell(receiver))
		list_add_tail(&receiver->request.client->ready, &receiver->ready);
}

/* One that has nothing any more has its turn all the same. */
uint64_t client_n_ready(const struct ipc_client *client)
{
	uint64_t n = 0;

	LIST_FOREACH(link, &client->ready) {
		const struct ipc_receiver *receiver =
			LIST_ENTRY(link, struct ipc_receiver, ready);
		uint64_t own = receiver->n_messages + has_end_to_tell(receiver);

		n += own ? own : 1;
	}
	return n;
}

/* One message, or the end; the others that are ready have their turn before the next. */
bool client_run_receiver(struct ipc_client *client)
{
	struct ipc_receiver *receiver =
		LIST_FIRST(&client->ready, struct ipc_receiver, ready);
	struct ipc_message *message;

	if (!receiver)
		return false;
	list_remove(&receiver->ready);
	drop_lost(receiver);
	message = receiver_fetch(receiver);
	if (!message && !has_end_to_tell(receiver))
		return true; /* fetched, or put aside meanwhile */
	receiver->end_is_told = !message;
	receiver_set_ready(receiver);
	receiver->n_waiting++;
	receiver->callback(client, receiver, message, receiver->userdata);
	receiver->n_waiting--;
	receiver_release(receiver);
	return true;
}

void client_end_receivers(struct ipc_client *client, int error)
{
	LIST_FOREACH_SAFE(link, &client->receivers) {
		struct ipc_receiver *receiver =
			LIST_ENTRY(link, struct ipc_receiver, link);

		if (receiver->suspended)
			receiver_on_lost(&receiver->request, error);
	}
}

/* ---- its begin and its end ---- */

struct ipc_receiver *receiver_new(struct ipc_client *client)
{
	struct ipc_receiver *receiver = calloc(1, sizeof(*receiver));

	if (!receiver) {
		client_error_set(&client->error, -ENOMEM, "no memory for a receiver");
		return NULL;
	}
	request_init(&receiver->request, client, &receiver_ops);
	list_init(&receiver->messages);
	list_init(&receiver->ready);
	list_add_tail(&client->receivers, &receiver->link);
	receiver->window = 1;
	receiver->wait_ms = IPC_FOREVER;
	receiver->ack_wait_ms = IPC_FOREVER;
	return receiver;
}

/* Puts the cancel first, or what is given back would come again at once. */
static void stop(struct ipc_receiver *receiver)
{
	struct ipc_client *client = receiver->request.client;
	struct ipc_message *message;
	/* after the last message its end is on the way */
	bool ending = receiver->max && receiver->n_received == receiver->max;
	int r = 0;

	receiver->suspended = false;
	if (receiver->request.state == REQUEST_OPEN && !ending)
		r = request_put_cancel(&receiver->request);
	while ((message = receiver_pop(receiver))) {
		if (!r && !client->failure)
			r = client_give_back(client, message);
		ipc_message_free(message);
	}
	/* without memory the client ends now, and the messages become due by that */
	if (r < 0)
		client->output_broken = true;
	if (!client->failure)
		(void)!client_write(client);
}

struct ipc_receiver *ipc_receiver_free(struct ipc_receiver *receiver)
{
	if (receiver && !receiver->freed) {
		receiver->freed = true;
		receiver->n_waiting++; /* stopping may end the client, and so the request */
		stop(receiver);
		receiver->n_waiting--;
		receiver_release(receiver);
	}
	return NULL;
}
