/* SPDX-License-Identifier: MIT */

/*
 * A body that is read while it is sent, cut into pieces.
 *
 * Between two pieces what comes in is handled, and where the body comes from a descriptor that
 * is waited for together with the socket: so a refusal, or the end of the connection, ends the
 * reading at once. A body of one piece goes as a whole frame.
 *
 * After a refusal the daemon drops what still comes, until a last piece: so there is one in any
 * case, and where nothing is to be sent it says `abort`.
 */

#include "client/file.h"

#include <limits.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

enum {
	IDLE_MS =
		60000, /* a piece that takes longer goes as it is: see pieces_deadline */
	TELL_MS = 250, /* how long without a word of how far it is */
};

struct reading {
	struct send *send;
	char *buffer; /* LIMIT_PIECE_MAX */
	size_t have;
	bool at_end;	     /* nothing more can be read */
	bool is_ended;	     /* the last piece is put */
	uint64_t done;	     /* bytes in the pieces so far */
	uint64_t piece_ns;   /* when the piece goes, however little is in it */
	uint64_t tell_ns;    /* when the next word is due */
	uint32_t connection; /* on which they went */
};

int send_tell_progress(struct ipc_client *client, const struct ipc_message *message,
		       uint64_t done, uint64_t total)
{
	if (!message->progress ||
	    !message->progress(done, total, message->progress_userdata))
		return 0;
	return client_error_set(&client->error, err_origin(-ECANCELED), "given up");
}

static bool is_begun(const struct send *send)
{
	return send->request->state != REQUEST_NEW;
}

/* Answered, or lost. */
static bool is_over(const struct send *send)
{
	return is_begun(send) && send->request->state != REQUEST_OPEN;
}

/* ---- how far it is ---- */

static int tell(struct reading *reading)
{
	const struct payload *payload = reading->send->payload;

	reading->tell_ns = deadline_after(clock_ns(CLOCK_MONOTONIC), TELL_MS);
	return err_trace(send_tell_progress(reading->send->request->client,
					    payload->message,
					    reading->done + reading->have,
					    payload->size ? payload->size : UINT64_MAX));
}

/* Also while nothing comes: whoever wants to give up shall not wait for that. */
static int tell_if_due(struct reading *reading)
{
	return client_ms_until(reading->tell_ns) ? 0 : err_trace(tell(reading));
}

/* ---- reading ---- */

/* Writes what is left, reads what has come, and waits a little for more of either or for
 * input of the body. */
static void wait_once(const struct send *send)
{
	struct ipc_client *client = send->request->client;
	struct pollfd p[2] = { { .fd = send->payload->fd, .events = POLLIN },
			       { .fd = client->stream.fd, .events = POLLIN } };
	uint64_t ms = IDLE_MS;

	if (client_write(client) == STREAM_E_AGAIN && !client->waits_with_fds)
		p[1].events |= POLLOUT;
	if (client->waits_with_fds)
		ms = CLIENT_FDS_RETRY_MS;
	else if (send->payload->message->progress)
		ms = TELL_MS;
	ms = min_u64(ms, client_ms_until(client_interruption_ns(client)));
	if (poll(p, 2, (int)ms) > 0 && p[1].revents & ~POLLOUT)
		/* what ends the client ends the request */
		(void)!client_read_available(client);
	client_end_overdue(client);
	client_run_callbacks(client);
}

/* Before the first piece there is no request that could be lost. Where the connection comes
 * again, so that one can be begun on it, that is as good. */
static int check_unbegun(const struct send *send)
{
	struct ipc_client *client = send->request->client;

	if (is_begun(send) || client_reconnects(client))
		return 0;
	return err_trace(client_check(client));
}

/* Until the body's descriptor has input. 1: it has, or all is over; 0: the piece has taken
 * long; or what ended the client. */
static int wait_for_input(struct reading *reading)
{
	const struct send *send = reading->send;
	struct pollfd p = { .fd = send->payload->fd, .events = POLLIN };
	int r = 0;

	while (!r && !is_over(send)) {
		if (is_begun(send) && !client_ms_until(reading->piece_ns))
			return 0;
		if (poll(&p, 1, 0))
			break;
		wait_once(send);
		r = check_unbegun(send);
		if (!r)
			r = tell_if_due(reading);
	}
	return r < 0 ? err_trace(r) : 1;
}

static int read_some(struct reading *reading)
{
	struct payload *payload = reading->send->payload;
	size_t room = LIMIT_PIECE_MAX - reading->have;
	ssize_t n;
	int r;

	reading->send->started = true;
	n = payload->read(reading->buffer + reading->have, room, payload->userdata);
	if (n >= 0 && (size_t)n <= room) {
		reading->have += (size_t)n;
		reading->at_end = !n;
		return err_trace(tell_if_due(reading));
	}
	r = n > 0 ? -EOVERFLOW : n < INT_MIN ? -EIO : (int)n;
	return client_error_set(&reading->send->request->client->error, err_origin(r),
				"the body cannot be read: %s", strerror(-r));
}

/* Fills the buffer, as far as that can be done in time. */
static int fill(struct reading *reading)
{
	const struct send *send = reading->send;
	int r = 1;

	reading->have = 0;
	reading->piece_ns = deadline_after(clock_ns(CLOCK_MONOTONIC), IDLE_MS);
	while (reading->have < LIMIT_PIECE_MAX && !reading->at_end) {
		if (send->payload->fd >= 0)
			r = wait_for_input(reading);
		if (r <= 0 || is_over(send))
			return err_trace(r < 0 ? r : 0);
		r = read_some(reading);
		if (r < 0)
			return err_trace(r);
		r = 1;
	}
	return 0;
}

/* ---- sending ---- */

static int put_first(struct reading *reading)
{
	struct send *send = reading->send;
	int r;

	if (reading->at_end) {
		send->payload->kind = PAYLOAD_BYTES;
		send->payload->file_size = reading->have;
	}
	r = send->begin(send, !reading->at_end);
	if (r < 0)
		return err_trace(r);
	return err_trace(request_put(send->request, reading->buffer, reading->have));
}

static int put_piece(struct reading *reading)
{
	struct ipc_request *request = reading->send->request;
	int r;

	if (!is_begun(reading->send))
		r = put_first(reading);
	else
		r = request_put_piece(request, reading->buffer, reading->have,
				      !reading->at_end);
	if (r < 0)
		return err_trace(r);
	reading->done += reading->have;
	reading->have = 0;
	reading->is_ended = reading->at_end;
	reading->connection = request->client->connection;
	/* one piece waits in the output while the next is read */
	return err_trace(client_write_until(request->client, LIMIT_PIECE_MAX,
					    client_deadline(request->client, 0)));
}

/* Ends what was begun. why: a negative errno, which stays the client's error. The daemon's
 * answer, unless there was none in time, is awaited: it says that nothing was queued. */
static int give_up(struct send *send, int why)
{
	struct ipc_request *request = send->request;
	struct ipc_client *client = request->client;
	struct client_error error = client->error;

	if (request->state != REQUEST_OPEN)
		return why;
	/* a daemon that is not told would wait for the rest */
	if (request_put_abort(request, "the sender has given up") < 0)
		client->output_broken = true;
	else if (why != -ETIMEDOUT)
		(void)!request_wait(request, client_deadline(client, 0));
	client->error = error;
	return why;
}

/* It was refused, or all is lost: which, the one who waits for the answer will say. */
static int end_early(struct reading *reading)
{
	struct ipc_client *client = reading->send->request->client;

	if (reading->is_ended || client->failure ||
	    client->connection != reading->connection)
		return 0;
	return err_trace(request_put_abort(reading->send->request, "refused"));
}

static int next_piece(struct reading *reading)
{
	struct send *send = reading->send;
	struct ipc_client *client = send->request->client;
	int r = fill(reading);

	if (is_over(send))
		return 0;
	if (r == 0)
		r = put_piece(reading);
	if (r < 0)
		return err_trace(give_up(send, r));
	if (reading->at_end)
		return 0;
	r = client_read_available(client);
	if (r < 0)
		return err_trace(r);
	client_end_overdue(client);
	client_run_callbacks(client);
	if (is_over(send))
		return 0;
	r = tell(reading);
	return r < 0 ? err_trace(give_up(send, r)) : 0;
}

int send_stream(struct send *send)
{
	_cleanup_free_ char *buffer = malloc(LIMIT_PIECE_MAX);
	struct reading reading = {
		.send = send,
		.buffer = buffer,
		.tell_ns = deadline_after(clock_ns(CLOCK_MONOTONIC), TELL_MS),
	};
	int r = 0;

	if (!buffer)
		return client_error_set(&send->request->client->error,
					err_origin(-ENOMEM), "no memory for a piece");
	while (!r && !reading.at_end && !is_over(send))
		r = next_piece(&reading);
	if (!r && is_over(send))
		r = end_early(&reading);
	return err_trace(r);
}
