/* SPDX-License-Identifier: MIT */

/* The connection: open, greet, close; its place in a main loop. */

#include "client/client_internal.h"

#include <limits.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/utf8.h"
#include "client/connect.h"

/* ---- open ---- */

static struct ipc_client *client_new(void)
{
	struct ipc_client *client = calloc(1, sizeof(*client));

	if (!client)
		return NULL;
	client_init_stream(client, -1);
	map_init(&client->requests);
	list_init(&client->open);
	list_init(&client->done);
	list_init(&client->receivers);
	list_init(&client->ready);
	heap_init(&client->timeouts);
	map_init(&client->reconnect.leases.map);
	list_init(&client->reconnect.given_back);
	client->reconnect.old_fd = -1;
	client->connection = 1;
	client->told_fd = -1;
	client->traced = trace_is_wanted();
	client->next_id = 1;
	client->timeout_ms = CLIENT_TIMEOUT_MS;
	client->failure = client_error_set(&client->last, -ENOTCONN, "not connected");
	return client;
}

/* Another instance of the daemon has another epoch. */
static void set_epoch(struct ipc_client *client, const char *text, size_t size)
{
	uint64_t epoch;

	if (size != 16 || !parse_hex(text, size, &epoch))
		return;
	client->reconnect.restarted |= client->connection > 1 && client->epoch != epoch;
	client->epoch = epoch;
}

/* One that knows of no files has no limit for them. */
static void note_limits(struct ipc_client *client, const struct json *json)
{
	uint32_t limits = json_member(json, 0, "limits");

	client->takes_files = limits && json_at(json, limits)->type == JSON_OBJECT &&
			      json_member(json, limits, "file_max");
}

static int decode_hello(struct ipc_request *request, const struct header *header)
{
	struct ipc_client *client = request->client;
	const char *server, *epoch = "";
	size_t size, epoch_size = 0;
	struct fault fault = { .text = "hello without server and peer" };

	if (header_get_string(header, KEY_SERVER, 1, LIMIT_HEADER_MAX, &server, &size,
			      &fault) <= 0 ||
	    header_get_u64(header, KEY_PEER, 1, LIMIT_NUMBER_MAX, &client->peer,
			   &fault) <= 0 ||
	    header_get_string(header, KEY_EPOCH, 0, LIMIT_HEADER_MAX, &epoch, &epoch_size,
			      &fault) < 0)
		return client_error_set(&client->error, err_origin(-EPROTO), "%s",
					fault.text);
	set_epoch(client, epoch, epoch_size);
	note_limits(client, header->json);
	free(client->server);
	client->server = strndup(server, size);
	return client->server ? 0 : err_origin(-ENOMEM);
}

/* What `ipc peers` shows: this program's name, as far as it is text. */
static void put_label(struct ipc_client *client)
{
	const char *name = program_invocation_short_name;
	size_t size = strnlen(name, LIMIT_LABEL_MAX);

	while (size && !utf8_is_valid(name, size))
		size--;
	if (size)
		json_put_string(client->writer, "label", name, size);
}

int client_put_hello(struct ipc_request *request)
{
	struct ipc_client *client = request->client;
	int r = request_begin(request, "hello");

	if (r < 0)
		return err_trace(r);
	request->decode = decode_hello;
	json_put_u64(client->writer, "version", 1);
	json_put_bool(client->writer, "pieces", true);
	json_put_bool(client->writer, "fds", true);
	put_label(client);
	return 0;
}

static int greet(struct ipc_client *client)
{
	_cleanup_request_ struct ipc_request request;
	int r;

	request_init(&request, client, &request_call_ops);
	r = client_put_hello(&request);
	if (!r)
		r = request_call(&request, NULL, 0);
	return err_trace(r);
}

static int client_connect(struct ipc_client *client, const char *socket,
			  unsigned int flags)
{
	uint64_t deadline = client_deadline(client, 0);
	int fd, r;

	r = reader_new(&client->reader);
	if (!r)
		r = json_writer_new(&client->writer);
	if (r < 0)
		return client_error_set(&client->error, err_trace(r), "no memory");
	r = connect_daemon(socket, flags, deadline, &client->error, &client->socket, &fd);
	if (r < 0)
		return err_trace(r);
	client->stream.fd = fd;
	client->reconnect.connected_ns = clock_ns(CLOCK_MONOTONIC);
	client->failure = 0;
	return err_trace(greet(client));
}

int ipc_client_open(const char *socket, unsigned int flags,
		    struct ipc_client **ret_client)
{
	struct ipc_client *client = *ret_client = client_new();
	int r;

	if (!client)
		return err_origin(-ENOMEM);
	r = client_connect(client, socket, flags);
	if (r < 0 && !client->failure) {
		struct client_error why = client->error;

		client_die(client, r, "%s", why.text);
		client->error = client->last = why;
	}
	return err_trace(r);
}

/* ---- close ---- */

struct ipc_client *ipc_client_close(struct ipc_client *client)
{
	if (!client)
		return NULL;
	client->reconnect.callback = NULL;
	if (!client->failure)
		(void)!client_write(client);
	if (!client->failure) {
		client->failure = client_error_set(&client->last, -ECANCELED,
						   "the client was closed");
		stream_deinit(&client->stream);
		client_lose_requests(client, -ECANCELED);
	}
	client_end_receivers(client, -ECANCELED);
	while (client_has_callbacks(client))
		client_run_callbacks(client);
	client_free_receivers(client);
	reconnect_deinit(client);
	heap_deinit(&client->timeouts);
	map_deinit(&client->requests);
	buf_deinit(&client->header);
	reader_free(client->reader);
	json_writer_free(client->writer);
	free(client->socket);
	free(client->server);
	free(client);
	return NULL;
}

/* ---- what it is ---- */

int ipc_client_set_timeout(struct ipc_client *client, int64_t timeout_ms)
{
	int r = client_check_wait(client, timeout_ms);

	if (r < 0)
		return err_trace(r);
	client->timeout_ms = timeout_ms;
	return 0;
}

const char *ipc_client_get_socket(const struct ipc_client *client)
{
	return client->socket ? client->socket : "";
}

const char *ipc_client_get_server(const struct ipc_client *client)
{
	return client->server ? client->server : "";
}

uint64_t ipc_client_get_peer(const struct ipc_client *client)
{
	return client->peer;
}

/* ---- in a main loop ---- */

int ipc_client_get_fd(const struct ipc_client *client)
{
	/* to the caller nothing has changed by asking */
	struct ipc_client *asked = (struct ipc_client *)(uintptr_t)client;

	if (client->failure)
		return -ECONNRESET;
	asked->told_fd = client->stream.fd;
	return client->stream.fd;
}

int ipc_client_get_events(const struct ipc_client *client)
{
	bool wants_out = stream_pending(&client->stream) && !client->waits_with_fds;

	return POLLIN | (wants_out ? POLLOUT : 0);
}

int ipc_client_get_timeout(const struct ipc_client *client)
{
	uint64_t next = client_next_timeout(client), ms;

	if (client->n_handled || !list_is_empty(&client->done) ||
	    !list_is_empty(&client->ready))
		return 0;
	if (client->failure && !client_reconnects(client))
		return 0;
	if (client->failure)
		next = min_u64(next, client->reconnect.next_ns);
	ms = client_ms_until(next);
	if (client->waits_with_fds)
		ms = min_u64(ms, CLIENT_FDS_RETRY_MS);
	return ms == UINT64_MAX ? -1 : (int)min_u64(ms, INT_MAX);
}

static int transfer(struct ipc_client *client)
{
	int r = client_check(client);

	if (r >= 0)
		r = client_write(client);
	if (r >= 0)
		r = client_read_available(client);
	client_end_overdue(client);
	return err_trace(r);
}

int ipc_client_process(struct ipc_client *client)
{
	int r, n;

	if (client->in_callback)
		return client_error_set(&client->error, err_origin(-EBUSY),
					"ipc_client_process() inside a callback");
	reconnect_try(client);
	r = transfer(client);
	client_run_callbacks(client);
	n = client->n_handled;
	client->n_handled = 0;
	if (r >= 0 && !client->failure)
		r = client_write(client); /* what callbacks have put */
	return r < 0 && !client_reconnects(client) ? err_trace(r) : n;
}

int ipc_client_flush(struct ipc_client *client)
{
	int r = client_write_until(client, 0, client_deadline(client, 0));

	client_run_callbacks(client);
	return err_trace(r);
}

int ipc_ping(struct ipc_client *client, const void *data, size_t size)
{
	_cleanup_request_ struct ipc_request request;
	int r;

	request_init(&request, client, &request_call_ops);
	r = request_begin(&request, "ping");
	if (r >= 0)
		r = request_call(&request, data, size);
	if (r < 0)
		return err_trace(r);
	if (request.body.size != size ||
	    (size && memcmp(request.body.data, data, size) != 0))
		return client_die(client, err_origin(-EPROTO),
				  "the daemon returned other bytes than it was sent");
	return 0;
}

int ipc_ping_async(struct ipc_client *client, ipc_reply_fn callback, void *userdata,
		   struct ipc_request **ret_request)
{
	_cleanup_request_ptr_ struct ipc_request *request = NULL;
	int r = request_new(client, callback, userdata, &request);

	if (!r)
		r = client_check_output(client);
	if (!r)
		r = request_begin(request, "ping");
	return err_trace(r < 0 ? r : request_put_async(&request, NULL, 0, ret_request));
}
