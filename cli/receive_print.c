/* SPDX-License-Identifier: MIT */

/*
 * ipc receive without --exec: messages to standard output, or with -o into files.
 *
 * A message is acknowledged when its last byte was written, and is on disk where standard
 * output is a file; one that was saved, whatever becomes of the line that tells so. With a
 * window messages are printed as they come and acknowledged together, when nothing more is at
 * hand or half the window is used up. What could not be written goes back to its queue, and
 * the attempt does not count.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "interrupt.h"
#include "out.h"
#include "receive.h"

enum {
	PENDING_BYTES = 1 << 20,
	ACKS_MAX = 256, /* ipc-protocol(7): requests_per_connection is well above */
};

struct printer {
	struct receive *rx;
	struct ipc_message **pending; /* printed, not acknowledged; room for rx->window */
	size_t n_pending;
	size_t pending_bytes;
	bool unconfirmed; /* ipc_ack_many() was used, which does not wait */
	int watched_fd;	  /* standard output if its reader can go away, or -1 */
};

static void forget_pending(struct printer *p)
{
	for (size_t i = 0; i < p->n_pending; i++)
		ipc_message_free(p->pending[i]);
	p->n_pending = 0;
	p->pending_bytes = 0;
}

/* ---- acknowledging ---- */

static int reader_gone(const struct printer *p)
{
	for (size_t i = 0; i < p->n_pending; i++)
		receive_give_back(p->rx, p->pending[i], 0,
				  "the receiver's reader went away");
	return STATUS_LOCAL;
}

static int write_failed(const struct printer *p, int error)
{
	struct receive *rx = p->rx;

	if (error == -EPIPE)
		return reader_gone(p);
	for (size_t i = 0; i < p->n_pending; i++)
		receive_give_back(rx, p->pending[i], -1,
				  "the receiver could not write it");
	return cli_fail(
		rx->cli, rx->subject, "cannot write: %s%s", strerror(-error),
		rx->peek || p->n_pending == 0 ? "" : "; the message stays in the queue");
}

static int ack_one(struct receive *rx, const struct ipc_message *message)
{
	unsigned long long number = ipc_message_get_number(message);
	int r = ipc_settle(rx->client, IPC_VERDICT_ACK, number,
			   ipc_message_get_lease(message), -1, false, NULL);

	if (r < 0 && r != -ESTALE)
		return cli_fail_ipc(rx->cli, rx->subject, rx->client, r);
	if (r == -ESTALE) {
		cli_say(rx->cli, rx->subject, "message %llu: %s", number,
			ipc_client_get_error(rx->client));
		rx->late = true;
	}
	return STATUS_OK;
}

/* That the connection is lost is told by whoever waits, once. */
static void on_acked(struct ipc_client *client, const struct ipc_reply *reply,
		     void *userdata)
{
	struct receive *rx = userdata;
	int error = ipc_reply_get_error(reply);

	(void)client;
	rx->n_acking--;
	if (error == 0 || rx->lost || error == -ECONNRESET || error == -EPROTO)
		return;
	cli_say(rx->cli, rx->subject, "%s", ipc_reply_get_error_text(reply));
	if (error == -ESTALE)
		rx->late = true;
	else if (rx->ack_status == STATUS_OK)
		rx->ack_status = cli_status(error, true);
}

static int wait_acked(struct receive *rx)
{
	while (rx->n_acking > 0) {
		struct pollfd fd = { .fd = ipc_client_get_fd(rx->client),
				     .events = (short)ipc_client_get_events(rx->client) };
		int r;

		if (poll(&fd, 1, ipc_client_get_timeout(rx->client)) < 0)
			continue; /* interrupted */
		r = ipc_client_process(rx->client);
		if (r < 0) {
			rx->lost = true;
			return cli_fail_ipc(rx->cli, rx->subject, rx->client, r);
		}
	}
	return rx->ack_status;
}

/* By their leases, which may have run out: then they still count until somebody else is given
 * the message, and if that is so it is told. */
static int ack_leases(const struct printer *p)
{
	struct receive *rx = p->rx;

	for (size_t i = 0; i < p->n_pending; i++) {
		const struct ipc_message *m = p->pending[i];
		int r, status;

		r = ipc_settle_async(rx->client, IPC_VERDICT_ACK,
				     ipc_message_get_number(m), ipc_message_get_lease(m),
				     -1, false, NULL, on_acked, rx, NULL);
		if (r < 0) {
			rx->lost = true;
			return cli_fail_ipc(rx->cli, rx->subject, rx->client, r);
		}
		rx->n_acking++;
		status = rx->n_acking < ACKS_MAX ? STATUS_OK : wait_acked(rx);
		if (status != STATUS_OK)
			return status;
	}
	return wait_acked(rx);
}

static int ack_pending(struct printer *p)
{
	struct receive *rx = p->rx;
	int r;

	if (p->n_pending == 1)
		return ack_one(rx, p->pending[0]);
	if (rx->ack_wait_ms > 0)
		return ack_leases(p);
	p->unconfirmed = true;
	r = ipc_ack_many(rx->client, p->pending, p->n_pending);
	return r < 0 ? cli_fail_ipc(rx->cli, rx->subject, rx->client, r) : STATUS_OK;
}

/* Acknowledges what was saved, and writes what is told of it. */
static int settle_saved(struct printer *p, bool leave)
{
	int status = leave || p->n_pending == 0 ? STATUS_OK : ack_pending(p), r;

	forget_pending(p);
	r = out_flush(false);
	if (r == 0 || status != STATUS_OK)
		return status;
	return r == -EPIPE ? STATUS_LOCAL : write_failed(p, r);
}

/* Writes and acknowledges what was printed. */
static int settle(struct printer *p)
{
	const struct receive *rx = p->rx;
	bool leave = rx->peek || rx->no_ack;
	int r, status = STATUS_OK;

	if (rx->output)
		return settle_saved(p, leave);
	r = out_flush(!leave);
	if (r < 0)
		status = write_failed(p, r);
	else if (!leave && p->n_pending > 0)
		status = ack_pending(p);
	forget_pending(p);
	return status;
}

/* ipc_ack_many() does not wait; requests are handled in order, so an echo tells. */
static int confirm(const struct printer *p)
{
	int r = p->unconfirmed ? ipc_ping(p->rx->client, NULL, 0) : 0;

	return r < 0 ? cli_fail_ipc(p->rx->cli, p->rx->subject, p->rx->client, r)
		     : STATUS_OK;
}

/* ---- printing ---- */

static int cannot_read(struct receive *rx, const struct ipc_message *message, int error)
{
	receive_give_back(rx, message, -1, "the receiver could not read it");
	return cli_fail(rx->cli, rx->subject, "message %llu cannot be read: %s",
			(unsigned long long)ipc_message_get_number(message),
			strerror(error));
}

/* What comes out of a live one would have no end, and is gone when we end. */
static int cannot_be_json(struct receive *rx, const struct ipc_message *message)
{
	receive_give_back(rx, message, 0, "the receiver could not print it as JSON");
	return cli_fail(
		rx->cli, rx->subject,
		"message %llu is live, and its contents do not go into JSON: leave out "
		"--json, or save it with -o DIR",
		(unsigned long long)ipc_message_get_number(message));
}

/* Whoever looks at a queue does not want to read all of its files. */
static bool has_no_body(const struct receive *rx, const struct ipc_message *message)
{
	return rx->peek && rx->cli->json && ipc_message_get_fd(message) >= 0;
}

static int print_json(struct receive *rx, const struct ipc_message *message)
{
	_cleanup_free_ char *json = NULL;
	int r = ipc_message_to_json(message, !has_no_body(rx, message), &json);

	if (r < 0)
		return cannot_read(rx, message, -r);
	out_json(json);
	return STATUS_OK;
}

/* What comes out of an open file of the sender's, as it comes. */
static int print_live(struct receive *rx, const struct ipc_message *message)
{
	struct pollfd fd = { .fd = ipc_message_get_fd(message), .events = POLLIN };
	char chunk[65536];
	ssize_t n;

	while ((n = read(fd.fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno == EAGAIN)
			poll(&fd, 1, -1);
		else if (n < 0 && errno != EINTR)
			return cannot_read(rx, message, errno);
		if (n < 0)
			continue;
		out_part(chunk, (size_t)n);
		if (out_flush(false) < 0)
			break; /* settle() will say so */
	}
	if (rx->lines)
		out_write("\n", 1);
	return STATUS_OK;
}

/* *ret_printed: whether it was; else it was rejected. */
static int print(struct receive *rx, const struct ipc_message *message, bool *ret_printed)
{
	const void *body;
	size_t size;

	if (!ipc_message_is_live(message) && !has_no_body(rx, message) &&
	    ipc_message_verify(message) == -EBADMSG) {
		cli_say(rx->cli, rx->subject, "message %llu: " RECEIVE_DIFFERS,
			(unsigned long long)ipc_message_get_number(message));
		*ret_printed = false;
		return receive_reject(rx, message, RECEIVE_DIFFERS);
	}
	*ret_printed = true;
	if (rx->cli->json && ipc_message_is_live(message) && !rx->peek)
		return cannot_be_json(rx, message);
	if (rx->cli->json)
		return print_json(rx, message);
	if (ipc_message_is_live(message))
		return print_live(rx, message);
	body = ipc_message_get_body(message, &size);
	if (!body)
		return cannot_read(rx, message, errno);
	out_body(body, size, rx->lines);
	return STATUS_OK;
}

static void tell_lease(const struct receive *rx, const struct ipc_message *message)
{
	if (rx->no_ack && !rx->cli->json && !rx->cli->quiet)
		cli_say(rx->cli, rx->subject, "message %llu has lease %s",
			(unsigned long long)ipc_message_get_number(message),
			ipc_message_get_lease(message));
}

static void keep_pending(struct printer *p, struct ipc_message *message)
{
	uint64_t size = ipc_message_get_size(message);

	p->pending[p->n_pending++] = message;
	p->pending_bytes += size < PENDING_BYTES ? (size_t)size : PENDING_BYTES;
}

/* What goes from hand to hand cannot be looked at, only what is known of it. */
static bool is_out_of_sight(const struct receive *rx, const struct ipc_message *message)
{
	return ipc_message_is_live(message) && ipc_message_get_fd(message) < 0 &&
	       (rx->output || !rx->cli->json);
}

/* After a failure what was done before is still acknowledged. */
static int take(struct printer *p, struct ipc_message *message)
{
	struct receive *rx = p->rx;
	bool done;
	int status;

	if (is_out_of_sight(rx, message)) {
		cli_say(rx->cli, rx->subject,
			"message %llu is live: there is nothing to look at",
			(unsigned long long)ipc_message_get_number(message));
		ipc_message_free(message);
		return STATUS_OK;
	}
	status = rx->output ? receive_save(rx, message, &done)
			    : print(rx, message, &done);

	if (status != STATUS_OK || !done) {
		ipc_message_free(message);
	} else {
		keep_pending(p, message);
		tell_lease(rx, message);
	}
	if (status != STATUS_OK || interrupt_is_pending() ||
	    p->n_pending > rx->window / 2 || p->pending_bytes >= PENDING_BYTES) {
		int settled = settle(p);

		status = status == STATUS_OK ? settled : status;
	}
	if (rx->output)
		interrupt_release();
	return status;
}

/* ---- waiting ---- */

static int find_watched_fd(void)
{
	struct stat st;

	if (fstat(STDOUT_FILENO, &st) == 0 &&
	    (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
		return STDOUT_FILENO;
	return -1;
}

/* Waits for the daemon, or for the end of whoever reads what is printed. */
static int wait_for_more(const struct printer *p)
{
	const struct receive *rx = p->rx;
	struct pollfd fds[] = {
		{ .fd = ipc_client_get_fd(rx->client),
		  .events = (short)ipc_client_get_events(rx->client) },
		{ .fd = p->watched_fd },
	};
	int r;

	if (poll(fds, 2, ipc_client_get_timeout(rx->client)) < 0)
		return STATUS_OK; /* interrupted: look again */
	if (fds[1].revents & (POLLERR | POLLHUP))
		return reader_gone(p);
	r = ipc_client_process(rx->client);
	return r < 0 ? cli_fail_ipc(rx->cli, rx->subject, rx->client, r) : STATUS_OK;
}

static int print_all(struct printer *p)
{
	struct ipc_message *message;
	bool ended;
	int status;

	for (;;) {
		status = receive_next(p->rx, &message, &ended);
		if (status == STATUS_OK && message) {
			status = take(p, message);
		} else if (status == STATUS_OK) {
			status = settle(p);
			if (status == STATUS_OK && ended)
				break;
			if (status == STATUS_OK)
				status = wait_for_more(p);
		}
		if (status != STATUS_OK)
			return status;
	}
	return confirm(p);
}

int receive_print(struct receive *rx)
{
	struct printer p = { .rx = rx, .watched_fd = find_watched_fd() };
	int status;

	signal(SIGPIPE, SIG_IGN); /* a reader that went away is an error of write(2) */
	p.pending = calloc(rx->window, sizeof(struct ipc_message *));
	if (!p.pending)
		return cli_fail(rx->cli, rx->subject, "no memory");
	status = print_all(&p);
	forget_pending(&p);
	free(p.pending);
	return status == STATUS_OK ? receive_status(rx) : status;
}
