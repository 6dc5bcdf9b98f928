/* SPDX-License-Identifier: MIT */

/*
 * ipc send --lines: each line of standard input is a message.
 *
 * Several are under way at once (at most WINDOW messages and WINDOW_BYTES), so that the
 * daemon answers many in one go; their order stays. Input and answers are waited for
 * together: a line that comes in slowly is sent at once. After the first failure nothing
 * more is sent, but the answers to what is under way are heard, so that the report can say
 * what was sent: a line after the failed one may have found room.
 */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "input.h"
#include "out.h"
#include "send.h"

enum {
	WINDOW = 64, /* ipc-protocol(7): no more sends may wait for room */
	WINDOW_BYTES = 8 << 20,
};

struct lines {
	const struct send *send;
	struct ipc_client *client;
	struct input input;
	uint64_t line;	   /* lines taken so far */
	uint64_t answered; /* of these */
	uint64_t sent;
	uint64_t unknown;     /* not answered when the connection was lost */
	size_t bytes;	      /* under way */
	uint64_t failed_line; /* the first, 0 if none; and why: */
	int status;
	char *why;
	bool lost;
	bool untold; /* what is told of each line cannot be written */
};

struct line {
	struct lines *lines;
	uint64_t number;
	size_t size;
};

/* ---- sending ---- */

static void line_failed(struct lines *lines, uint64_t number, int status, const char *why)
{
	if (lines->failed_line && lines->failed_line < number)
		return;
	free(lines->why);
	lines->why = strdup(why);
	lines->failed_line = number;
	lines->status = status;
}

static void on_reply(struct ipc_client *client, const struct ipc_reply *reply,
		     void *userdata)
{
	struct line *line = userdata;
	struct lines *lines = line->lines;
	int error = ipc_reply_get_error(reply);

	lines->answered++;
	lines->bytes -= line->size;
	if (error == 0) {
		lines->sent++;
		send_tell(lines->send, line->number, NULL, ipc_reply_get_number(reply),
			  ipc_reply_get_sent(reply));
	} else if (lines->lost || error == -ECONNRESET || error == -EPROTO) {
		lines->unknown++;
		line_failed(lines, line->number, STATUS_NO_DAEMON,
			    "the connection was lost");
	} else if (send_in_vain(lines->send, error)) {
		line_failed(lines, line->number, STATUS_TIMEOUT,
			    send_why_in_vain(error, ipc_reply_get_error_text(reply)));
	} else {
		line_failed(lines, line->number, cli_status(error, true),
			    ipc_reply_get_error_text(reply));
	}
	free(line);
}

static int send_line(struct lines *lines, const char *data, size_t size)
{
	const struct send *send = lines->send;
	struct line *line = malloc(sizeof(*line));
	int r = send_set_dedup(send, lines->line + 1);

	if (!line || r < 0) {
		free(line);
		return -ENOMEM; /* whatever else may be wrong with an id was checked */
	}
	*line = (struct line){ lines, lines->line + 1, size };
	ipc_message_set_body(send->message, data, size);
	r = ipc_send_async(lines->client, send->name, send->message, send->wait_ms,
			   send->flags, on_reply, line, NULL);
	if (r < 0) {
		free(line);
		return r;
	}
	lines->line++;
	lines->bytes += size;
	return 0;
}

static bool has_room(const struct lines *lines)
{
	return lines->line - lines->answered < WINDOW && lines->bytes < WINDOW_BYTES;
}

/* Sends what was read, as far as there is room. */
static void send_some(struct lines *lines)
{
	const char *data;
	size_t size;

	while (!lines->failed_line && has_room(lines) &&
	       input_take_line(&lines->input, &data, &size)) {
		int r = send_line(lines, data, size);

		if (r < 0)
			line_failed(lines, lines->line + 1, cli_status(r, false),
				    ipc_client_get_error(lines->client));
	}
}

/* ---- waiting ---- */

static void read_some(struct lines *lines)
{
	int r = input_read(&lines->input);

	if (r == -EMSGSIZE)
		line_failed(lines, lines->line + 1, STATUS_LOCAL,
			    "it is larger than any message (1 GiB)");
	else if (r < 0 && r != -EAGAIN)
		line_failed(lines, lines->line + 1, STATUS_LOCAL, strerror(-r));
}

static void connection_lost(struct lines *lines, int error)
{
	line_failed(lines, lines->line + 1, cli_status(error, false),
		    ipc_client_get_error(lines->client));
	lines->lost = true;
	/* Calls on_reply() for each line under way. */
	lines->client = ipc_client_close(lines->client);
}

/* Waits for input or answers and takes what has come. False: nothing more can come. */
static bool wait_and_process(struct lines *lines)
{
	bool wants_input = !lines->failed_line && !lines->input.eof && has_room(lines);
	struct pollfd fds[] = {
		{ .fd = ipc_client_get_fd(lines->client),
		  .events = (short)ipc_client_get_events(lines->client) },
		{ .fd = wants_input ? STDIN_FILENO : -1, .events = POLLIN },
	};
	int r;

	if (poll(fds, 2, ipc_client_get_timeout(lines->client)) < 0)
		return true; /* interrupted: look again */
	r = ipc_client_process(lines->client);
	if (r < 0) {
		connection_lost(lines, r);
		return false;
	}
	if (fds[1].revents)
		read_some(lines);
	return true;
}

static bool is_done(const struct lines *lines)
{
	const struct input *input = &lines->input;

	return lines->answered == lines->line &&
	       (lines->failed_line || (input->eof && input->begin == input->end));
}

/* ---- the whole ---- */

static int report(const struct lines *lines)
{
	const struct send *send = lines->send;
	unsigned long long number = lines->failed_line, unknown = lines->unknown;
	_cleanup_free_ char *more = NULL;

	if (lines->untold && number > lines->line) { /* no line is at fault */
		cli_say(send->cli, send->name, "%s (lines sent: %llu)",
			lines->why ? lines->why : "no memory",
			(unsigned long long)lines->sent);
		return lines->status;
	}
	if (unknown > 0 && asprintf(&more, ", perhaps %llu more", unknown) < 0)
		more = NULL;
	cli_say(send->cli, send->name,
		"line %llu: %s (sent: %llu before it, %llu after it%s)", number,
		lines->why ? lines->why : "no memory", number - 1,
		(unsigned long long)lines->sent - (number - 1), more ? more : "");
	return lines->status;
}

/* Then nothing more is sent, as after any failure. */
static void output_failed(struct lines *lines, int error)
{
	_cleanup_free_ char *why = NULL;

	if (asprintf(&why, "cannot write: %s", strerror(-error)) < 0)
		why = NULL;
	line_failed(lines, lines->line + 1, STATUS_LOCAL, why ? why : "cannot write");
	lines->untold = true;
}

static int send_all(struct lines *lines)
{
	bool goes_on = true;

	for (;;) {
		int r = out_flush(false);

		if (r == -EPIPE)
			return STATUS_LOCAL;
		if (r < 0)
			output_failed(lines, r);
		if (!goes_on || is_done(lines))
			break;
		send_some(lines);
		goes_on = is_done(lines) || wait_and_process(lines);
	}
	return lines->failed_line ? report(lines) : STATUS_OK;
}

int send_lines(const struct send *send)
{
	struct lines lines = { .send = send };
	int status = cli_connect(send->cli, &lines.client);

	if (status == STATUS_OK)
		status = send_all(&lines);
	lines.lost = true;
	ipc_client_close(lines.client);
	input_deinit(&lines.input);
	free(lines.why);
	return status;
}
