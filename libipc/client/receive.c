/* SPDX-License-Identifier: MIT */

/* Receiving as the user sees it: options, the next message, one message. */

#include "client/receiver.h"

#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/filter.h"

enum { FETCH_NOTHING = 2 /* fetch(): look again later */ };

int ipc_receiver_new(struct ipc_client *client, struct ipc_receiver **ret_receiver)
{
	struct ipc_receiver *receiver = receiver_new(client);

	if (!receiver)
		return err_origin(-ENOMEM);
	*ret_receiver = receiver;
	return 0;
}

static int check_new(struct ipc_receiver *receiver)
{
	if (!receiver->started)
		return 0;
	return client_error_set(&receiver->request.client->error, err_origin(-EBUSY),
				"the receiver has been started");
}

int ipc_receiver_add_queue(struct ipc_receiver *receiver, const char *queue)
{
	struct client_error *error = &receiver->request.client->error;
	char *copy;
	int r = check_new(receiver);

	if (!r)
		r = client_check_text(receiver->request.client, "the queue's name", queue,
				      LIMIT_NAME_MAX);
	if (r < 0)
		return err_trace(r);
	if (receiver->n_queues == LIMIT_QUEUES_MAX)
		return client_error_set(error, err_origin(-E2BIG),
					"a receiver has at most %d queues",
					LIMIT_QUEUES_MAX);
	copy = strdup(queue);
	if (!copy)
		return client_error_set(error, err_origin(-ENOMEM),
					"no memory for a name");
	receiver->queues[receiver->n_queues++] = copy;
	return 0;
}

int ipc_receiver_set_window(struct ipc_receiver *receiver, unsigned int window)
{
	int r = check_new(receiver);

	if (r < 0)
		return err_trace(r);
	if (!window || window > LIMIT_WINDOW_MAX)
		return client_error_set(&receiver->request.client->error,
					err_origin(-EINVAL),
					"the window must be from 1 to %d, not %u",
					LIMIT_WINDOW_MAX, window);
	receiver->window = window;
	return 0;
}

int ipc_receiver_set_max(struct ipc_receiver *receiver, uint64_t max)
{
	int r = check_new(receiver);

	if (r < 0)
		return err_trace(r);
	receiver->max = min_u64(max, LIMIT_NUMBER_MAX); /* so many will never come */
	return 0;
}

int ipc_receiver_set_wait(struct ipc_receiver *receiver, int64_t wait_ms)
{
	int r = check_new(receiver);

	if (!r)
		r = client_check_wait(receiver->request.client, wait_ms);
	if (r < 0)
		return err_trace(r);
	receiver->wait_ms = wait_ms;
	return 0;
}

int ipc_receiver_set_ack_wait(struct ipc_receiver *receiver, int64_t ack_wait_ms)
{
	struct ipc_client *client = receiver->request.client;
	int r = check_new(receiver);

	if (!r)
		r = client_check_wait(client, ack_wait_ms);
	if (!r && !ack_wait_ms)
		r = client_error_set(&client->error, err_origin(-EINVAL),
				     "the time to acknowledge must be 1 ms or more");
	if (r < 0)
		return err_trace(r);
	receiver->ack_wait_ms = ack_wait_ms;
	return 0;
}

int ipc_receiver_set_peek(struct ipc_receiver *receiver, bool peek)
{
	int r = check_new(receiver);

	if (r < 0)
		return err_trace(r);
	receiver->peek = peek;
	return 0;
}

int ipc_receiver_set_dead(struct ipc_receiver *receiver, bool dead)
{
	int r = check_new(receiver);

	if (r < 0)
		return err_trace(r);
	receiver->dead = dead;
	return 0;
}

int ipc_receiver_set_filter(struct ipc_receiver *receiver, const char *filter)
{
	_cleanup_buf_ struct buf json = BUF_INIT;
	int r = check_new(receiver);

	if (!r && filter)
		r = filter_to_json(filter, &json, &receiver->request.client->error);
	if (r < 0)
		return err_trace(r);
	buf_deinit(&receiver->filter);
	receiver->filter = json;
	json = (struct buf)BUF_INIT;
	return 0;
}

int ipc_receiver_set_callback(struct ipc_receiver *receiver, ipc_message_fn callback,
			      void *userdata)
{
	int r = check_new(receiver);

	if (r < 0)
		return err_trace(r);
	receiver->callback = callback;
	receiver->userdata = userdata;
	return 0;
}

/* ---- taking messages ---- */

int ipc_receiver_start(struct ipc_receiver *receiver)
{
	struct ipc_client *client = receiver->request.client;
	int r = check_new(receiver);

	if (!r && !receiver->n_queues)
		r = client_error_set(&client->error, err_origin(-EINVAL),
				     "a receiver without a queue");
	if (!r && client->failure && client_reconnects(client) && !receiver->once)
		receiver->suspended = true; /* put when there is a connection again */
	else if (!r)
		r = receiver_put_request(receiver);
	if (r < 0)
		return err_trace(r);
	receiver->started = true;
	return 0;
}

static int ended(struct ipc_receiver *receiver)
{
	struct ipc_client *client = receiver->request.client;
	const struct ipc_reply *reply = &receiver->request.reply;

	if (reply->error == -ECONNRESET && client->failure)
		client->error = client->last;
	else if (reply->error)
		client_error_set_answer(&client->error, reply->word,
					reply->text ? reply->text
						    : strerror(-reply->error));
	return reply->error;
}

static int lost_fds(struct ipc_receiver *receiver)
{
	receiver->n_lost_fds = 0;
	return client_error_set(&receiver->request.client->error, err_origin(-EMFILE),
				"no room for the descriptor of a message: it %s",
				receiver_only_looks(receiver)
					? "is left out"
					: "was given back, and comes again");
}

/* 1: *ret_message is set; 0 or its error: it has ended; FETCH_NOTHING. */
static int fetch(struct ipc_receiver *receiver, struct ipc_message **ret_message)
{
	if (receiver->freed)
		return client_error_set(&receiver->request.client->error,
					err_origin(-ECANCELED), "the receiver was freed");
	if (receiver->n_lost_fds)
		return err_trace(lost_fds(receiver));
	/* the leases went with the connection: others have these messages now */
	if (list_is_empty(&receiver->messages) ||
	    (receiver->request.client->failure && !receiver_only_looks(receiver)))
		return receiver_is_running(receiver) ? FETCH_NOTHING : ended(receiver);
	*ret_message = receiver_fetch(receiver);
	return 1;
}

static int wait_for_message(struct ipc_receiver *receiver, uint64_t deadline_ns,
			    struct ipc_message **ret_message)
{
	struct ipc_client *client = receiver->request.client;
	int r, waited = 0;

	while ((r = fetch(receiver, ret_message)) == FETCH_NOTHING && waited >= 0) {
		waited = client_step(client, deadline_ns);
		client_run_callbacks(client);
	}
	if (r == FETCH_NOTHING)
		return client_error_set(&client->error, err_origin(-ETIMEDOUT),
					"no message came in time");
	if (r == -ECONNRESET && waited < 0 && waited != -ETIMEDOUT)
		return err_trace(waited); /* how it was lost */
	return err_trace(r);
}

static int next_until(struct ipc_receiver *receiver, uint64_t deadline_ns,
		      struct ipc_message **ret_message)
{
	int r = 0;

	if (!receiver->started)
		r = ipc_receiver_start(receiver);
	if (r < 0)
		return err_trace(r);
	receiver->n_waiting++;
	r = wait_for_message(receiver, deadline_ns, ret_message);
	receiver->n_waiting--;
	receiver_release(receiver);
	return err_trace(r);
}

int ipc_receiver_next(struct ipc_receiver *receiver, int64_t timeout_ms,
		      struct ipc_message **ret_message)
{
	uint64_t deadline = CLIENT_NEVER;
	int r = client_check_wait(receiver->request.client, timeout_ms);

	if (!r && receiver->callback)
		r = client_error_set(&receiver->request.client->error, err_origin(-EBUSY),
				     "the receiver has a callback");
	if (r < 0)
		return err_trace(r);
	if (timeout_ms != IPC_FOREVER)
		deadline =
			deadline_after(clock_ns(CLOCK_MONOTONIC), (uint64_t)timeout_ms);
	return err_trace(next_until(receiver, deadline, ret_message));
}

int ipc_receiver_get_error(const struct ipc_receiver *receiver)
{
	return receiver->request.reply.error;
}

const char *ipc_receiver_get_end(const struct ipc_receiver *receiver)
{
	return receiver->end;
}

/* ---- one message ---- */

/* An end without a message: what it is to the caller of ipc_receive(). */
static int error_of_end(struct ipc_client *client, const char *end, const char *queue)
{
	if (!strcmp(end, "timeout"))
		return client_error_set(&client->error, err_origin(-ETIMEDOUT),
					"no message in %s", queue);
	return client_error_set(&client->error,
				!strcmp(end, "shutting-down") ? -ESHUTDOWN : -ECANCELED,
				"receiving from %s has ended: %s", queue, end);
}

int ipc_receive(struct ipc_client *client, const char *queue, int64_t wait_ms,
		struct ipc_message **ret_message)
{
	struct ipc_receiver *receiver = receiver_new(client);
	int r;

	if (!receiver)
		return err_origin(-ENOMEM);
	receiver->max = 1;
	receiver->once = true;
	r = ipc_receiver_set_wait(receiver, wait_ms);
	if (!r)
		r = ipc_receiver_add_queue(receiver, queue);
	if (!r)
		r = next_until(receiver, client_deadline(client, wait_ms), ret_message);
	if (!r)
		r = error_of_end(client, receiver->end, queue);
	ipc_receiver_free(receiver);
	return r < 0 ? err_trace(r) : 0;
}
