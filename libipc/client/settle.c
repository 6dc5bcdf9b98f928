/* SPDX-License-Identifier: MIT */

/*
 * Telling the daemon what has become of a delivery. ipc_ack() is told and not answered;
 * by number alone, for the connection that acks is the one that holds the lease. All else
 * is answered, and names the lease.
 */

#include "client/client_internal.h"

#include <string.h>

#include "base/err.h"

static const char *const verdicts[] = {
	[IPC_VERDICT_ACK] = "ack",
	[IPC_VERDICT_NACK] = "nack",
	[IPC_VERDICT_REJECT] = "reject",
	[IPC_VERDICT_TOUCH] = "touch",
};

static int check_leased(struct ipc_client *client, const struct ipc_message *message)
{
	if (message->number && *message->lease)
		return 0;
	return client_error_set(&client->error, err_origin(-EINVAL),
				"the message was not received to be settled");
}

/* An ack is not worth waiting for a daemon that is away: the message comes again. */
static int check_connected(struct ipc_client *client)
{
	reconnect_try(client);
	return err_trace(client_check(client));
}

static int write_now(struct ipc_client *client)
{
	int r = client_write_until(client, 0, client_deadline(client, 0));

	client_run_callbacks(client);
	return err_trace(r);
}

static bool is_of_this_connection(const struct ipc_client *client,
				  const struct ipc_message *message)
{
	return message->connection == client->connection;
}

static int put_plain_ack(struct ipc_client *client, const struct ipc_message *message)
{
	int r;

	client->header.size = 0;
	r = plain_put_ack(&client->header, message->number);
	if (r < 0)
		return client_error_set(&client->error, r, "no memory for a request");
	return err_trace(client_put_whole(client, NULL, 0));
}

static int put_ack(struct ipc_client *client, const struct ipc_message *message)
{
	leases_end(&client->reconnect.leases, message->number);
	if (is_of_this_connection(client, message))
		return err_trace(put_plain_ack(client, message));
	client_begin(client, verdicts[IPC_VERDICT_ACK]);
	json_put_u64(client->writer, "message", message->number);
	json_put_text(client->writer, "lease", message->lease);
	return err_trace(client_put(client, NULL, 0));
}

int ipc_ack(struct ipc_client *client, const struct ipc_message *message)
{
	int r = check_leased(client, message);

	if (!r)
		r = check_connected(client);
	if (!r)
		r = put_ack(client, message);
	return err_trace(r < 0 ? r : write_now(client));
}

/* Those of this connection in one frame; the others have leases to be named. */
static int put_acks(struct ipc_client *client, struct ipc_message *const *messages,
		    size_t n)
{
	size_t n_others = 0;
	int r = 0;

	client_begin(client, verdicts[IPC_VERDICT_ACK]);
	json_put_array(client->writer, "messages");
	for (size_t i = 0; i < n; i++) {
		if (!is_of_this_connection(client, messages[i])) {
			n_others++;
			continue;
		}
		leases_end(&client->reconnect.leases, messages[i]->number);
		json_put_u64(client->writer, NULL, messages[i]->number);
	}
	json_put_end(client->writer);
	if (n_others < n)
		r = client_put(client, NULL, 0);
	for (size_t i = 0; !r && n_others && i < n; i++)
		if (!is_of_this_connection(client, messages[i]))
			r = put_ack(client, messages[i]);
	return err_trace(r);
}

int ipc_ack_many(struct ipc_client *client, struct ipc_message *const *messages,
		 size_t n_messages)
{
	int r = check_connected(client);

	for (size_t i = 0; !r && i < n_messages; i++)
		r = check_leased(client, messages[i]);
	for (size_t i = 0; !r && i < n_messages; i += LIMIT_MESSAGES_MAX)
		r = put_acks(client, messages + i,
			     min_size(n_messages - i, LIMIT_MESSAGES_MAX));
	return err_trace(r < 0 ? r : write_now(client));
}

static int check_settle(struct ipc_client *client, enum ipc_verdict verdict,
			uint64_t number, const char *lease, int64_t delay_ms,
			bool uncounted, const char *reason)
{
	const char *why = NULL;
	int r = 0;

	if ((unsigned int)verdict >= ARRAY_SIZE(verdicts))
		why = "unknown verdict";
	else if (!number || number > LIMIT_NUMBER_MAX)
		why = "the message's number is out of range";
	else if (delay_ms != -1 && !client_ms_is_valid(delay_ms))
		why = "the delay is out of range";
	else if (verdict != IPC_VERDICT_NACK && (delay_ms >= 0 || uncounted))
		why = "only nack takes a delay, or does not count";
	else if (reason && verdict != IPC_VERDICT_NACK && verdict != IPC_VERDICT_REJECT)
		why = "only nack and reject take a reason";
	if (why)
		return client_error_set(&client->error, err_origin(-EINVAL), "%s", why);
	if (lease)
		r = client_check_text(client, "the lease", lease, LIMIT_NAME_MAX);
	if (!r && reason)
		r = client_check_text(client, "the reason", reason, LIMIT_REASON_MAX);
	return err_trace(r);
}

/* Begins the request; request_put() ends it. */
static int begin_settle(struct ipc_request *request, enum ipc_verdict verdict,
			uint64_t number, const char *lease, int64_t delay_ms,
			bool uncounted, const char *reason)
{
	struct ipc_client *client = request->client;
	int r = check_settle(client, verdict, number, lease, delay_ms, uncounted, reason);

	if (!r)
		r = request_begin(request, verdicts[verdict]);
	if (r < 0)
		return err_trace(r);
	if (verdict != IPC_VERDICT_TOUCH)
		leases_end(&client->reconnect.leases, number);
	json_put_u64(client->writer, "message", number);
	if (lease)
		json_put_text(client->writer, "lease", lease);
	if (delay_ms >= 0)
		json_put_i64(client->writer, "delay_ms", delay_ms);
	if (uncounted)
		json_put_bool(client->writer, "count", false);
	if (reason)
		json_put_text(client->writer, "reason", reason);
	return 0;
}

int ipc_settle(struct ipc_client *client, enum ipc_verdict verdict, uint64_t number,
	       const char *lease, int64_t delay_ms, bool uncounted, const char *reason)
{
	_cleanup_request_ struct ipc_request request;
	int r;

	request_init(&request, client, &request_call_ops);
	r = begin_settle(&request, verdict, number, lease, delay_ms, uncounted, reason);
	return err_trace(r < 0 ? r : request_call(&request, NULL, 0));
}

int ipc_settle_async(struct ipc_client *client, enum ipc_verdict verdict, uint64_t number,
		     const char *lease, int64_t delay_ms, bool uncounted,
		     const char *reason, ipc_reply_fn callback, void *userdata,
		     struct ipc_request **ret_request)
{
	_cleanup_request_ptr_ struct ipc_request *request = NULL;
	int r = request_new(client, callback, userdata, &request);

	if (!r)
		r = client_check_output(client);
	if (!r)
		r = begin_settle(request, verdict, number, lease, delay_ms, uncounted,
				 reason);
	return err_trace(r < 0 ? r : request_put_async(&request, NULL, 0, ret_request));
}

static int settle_message(struct ipc_client *client, enum ipc_verdict verdict,
			  const struct ipc_message *message, int64_t delay_ms,
			  const char *reason)
{
	int r = check_leased(client, message);

	return err_trace(r < 0 ? r
			       : ipc_settle(client, verdict, message->number,
					    message->lease, delay_ms, false, reason));
}

int ipc_nack(struct ipc_client *client, const struct ipc_message *message,
	     int64_t delay_ms, const char *reason)
{
	return err_trace(
		settle_message(client, IPC_VERDICT_NACK, message, delay_ms, reason));
}

int ipc_reject(struct ipc_client *client, const struct ipc_message *message,
	       const char *reason)
{
	return err_trace(settle_message(client, IPC_VERDICT_REJECT, message, -1, reason));
}

int ipc_touch(struct ipc_client *client, const struct ipc_message *message)
{
	return err_trace(settle_message(client, IPC_VERDICT_TOUCH, message, -1, NULL));
}
