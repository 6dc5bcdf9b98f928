/* SPDX-License-Identifier: MIT */

/*
 * Requests: open by id until their last frame has come.
 *
 *	NEW ──begin──► OPEN ──answer, lost, given up──► ENDED ──callback──► RUNNING ──► freed
 *
 * Ids are never used twice, so a frame for an id that is not open any more belongs to a
 * request that was cancelled, and is dropped.
 */

#include "client/client_internal.h"

#include <string.h>

#include "base/err.h"

void request_init(struct ipc_request *request, struct ipc_client *client,
		  const struct request_ops *ops)
{
	*request = (struct ipc_request){ .client = client, .ops = ops };
	list_init(&request->link);
}

void request_deinit(struct ipc_request *request)
{
	request_end(request);
	list_remove(&request->link);
	free(request->reply.text);
	request->reply.text = NULL;
	request->reply.list = ipc_list_free(request->reply.list);
	buf_deinit(&request->body);
}

int request_begin_whole(struct ipc_request *request)
{
	struct ipc_client *client = request->client;
	int r = request->callback || !client->failure
			? client_check(client)
			: client_await(client, client_deadline(client, 0));

	if (r < 0)
		return err_trace(r);
	r = map_reserve(&client->requests);
	if (r < 0)
		return client_error_set(&client->error, err_trace(r),
					"no memory for a request");
	request->id = client->next_id++;
	map_add(&client->requests, &request->node, map_u64(request->id));
	list_add_tail(&client->open, &request->link);
	request->state = REQUEST_OPEN;
	request->is_whole = true;
	client->header.size = 0;
	return 0;
}

int request_begin(struct ipc_request *request, const char *op)
{
	int r = request_begin_whole(request);

	if (r < 0)
		return err_trace(r);
	request->is_whole = false;
	client_begin(request->client, op);
	json_put_u64(request->client->writer, "id", request->id);
	return 0;
}

int request_put(struct ipc_request *request, const void *body, size_t body_size)
{
	struct ipc_client *client = request->client;
	int r = request->is_whole ? client_put_whole(client, body, body_size)
				  : client_put(client, body, body_size);

	if (r < 0)
		request_end(request);
	return err_trace(r);
}

int request_put_fds(struct ipc_request *request, struct fdset **fds)
{
	int r = client_put_fds(request->client, fds);

	if (r < 0)
		request_end(request);
	return err_trace(r);
}

int request_put_piece(struct ipc_request *request, const void *data, size_t size,
		      bool more)
{
	struct ipc_client *client = request->client;

	client_begin_piece(client);
	json_put_u64(client->writer, "id", request->id);
	if (more)
		json_put_bool(client->writer, "more", true);
	return err_trace(client_put(client, data, size));
}

int request_put_abort(struct ipc_request *request, const char *why)
{
	struct ipc_client *client = request->client;

	client_begin_piece(client);
	json_put_u64(client->writer, "id", request->id);
	json_put_text(client->writer, "abort", why);
	return err_trace(client_put(client, NULL, 0));
}

void request_end(struct ipc_request *request)
{
	if (request->state != REQUEST_OPEN)
		return;
	map_remove(&request->client->requests, &request->node);
	if (heap_has(&request->timeout))
		heap_remove(&request->client->timeouts, &request->timeout);
	list_remove(&request->link);
	request->state = REQUEST_ENDED;
}

int request_put_cancel(const struct ipc_request *request)
{
	client_begin(request->client, "cancel");
	json_put_u64(request->client->writer, "request", request->id);
	return err_trace(client_put(request->client, NULL, 0));
}

/* ---- answers ---- */

void request_finish(struct ipc_request *request)
{
	request_end(request);
	if (request->reply.text)
		client_make_line(request->reply.text);
	if (request->callback) {
		list_add_tail(&request->client->done, &request->link);
		client_count_handled(request->client);
	}
}

static void call_on_lost(struct ipc_request *request, int error)
{
	request->reply.error = error;
	request->reply.text = strdup(error == -ECANCELED ? "the client was closed"
							 : request->client->last.text);
	request_finish(request);
}

int request_decode_error(struct ipc_client *client, const struct header *header,
			 struct ipc_reply *ret_reply)
{
	const char *word = NULL, *text = NULL;
	size_t word_size = 0, size = 0;
	struct fault fault;
	int r = header_get_string(header, KEY_ERROR, 1, LIMIT_HEADER_MAX, &word,
				  &word_size, &fault);

	if (r > 0 && header_get_string(header, KEY_MESSAGE, 0, LIMIT_HEADER_MAX, &text,
				       &size, &fault) < 0)
		r = -EINVAL;
	if (r < 0)
		return client_error_set(&client->error, err_origin(-EPROTO), "%s",
					fault.text);
	if (!r)
		return 0;
	ret_reply->error = -fault_word_errno(word, word_size);
	client_copy_word(ret_reply->word, word, word_size);
	ret_reply->text = text ? strndup(text, size) : strdup(ret_reply->word);
	return 1;
}

static bool is_word(const struct header *header, const struct json_value *v,
		    const char *word)
{
	return v->size == strlen(word) &&
	       !memcmp(json_text(header->json, v), word, v->size);
}

static int put_outcome(const struct ipc_request *request, const struct header *header,
		       const struct json_value *v, struct buf *text)
{
	unsigned long long number = request->reply.number;

	if (request->reply.error == -EALREADY)
		return err_trace(
			buf_printf(text,
				   "it was sent before, as message %llu, and that "
				   "has ended: whether it was acknowledged is not "
				   "known any more",
				   number));
	return err_trace(buf_printf(text, "message %llu was not acknowledged: %.*s",
				    number, (int)v->size, json_text(header->json, v)));
}

/* A message sent with confirm "acked": what has become of it? */
static void decode_outcome(struct ipc_request *request, const struct header *header)
{
	uint32_t at = json_member(header->json, 0, "outcome");
	const struct json_value *v = json_at(header->json, at);
	_cleanup_buf_ struct buf text = BUF_INIT;

	if (!at || v->type != JSON_STRING || is_word(header, v, "acked"))
		return;
	request->reply.error = is_word(header, v, "gone") ? -EALREADY : -ECANCELED;
	if (put_outcome(request, header, v, &text) < 0 || buf_terminate(&text) < 0)
		return; /* an error without its text */
	request->reply.text = buf_steal(&text);
}

/* A send: is it a repeated one, and will it be kept? */
static void decode_sent(struct ipc_request *request, const struct header *header)
{
	const struct json *json = header->json;
	uint32_t duplicate = json_member(json, 0, "duplicate"),
		 durable = json_member(json, 0, "durable");

	if (duplicate && json_at(json, duplicate)->type == JSON_TRUE)
		request->reply.sent |= IPC_SENT_DUPLICATE;
	if (durable && json_at(json, durable)->type == JSON_FALSE)
		request->reply.sent |= IPC_SENT_NOT_DURABLE;
	decode_outcome(request, header);
}

/* How far it came; there may be such a number in an error, too. */
static int decode_count(struct ipc_request *request, const struct header *header)
{
	const struct json_value *v;
	uint32_t at = 0;

	if (request->count_key)
		at = json_member(header->json, 0, request->count_key);
	if (!at)
		return 0;
	v = json_at(header->json, at);
	if (v->type != JSON_INTEGER || v->integer < 0)
		return client_error_set(&request->client->error, err_origin(-EPROTO),
					"\"%s\" is no count", request->count_key);
	request->reply.number = (uint64_t)v->integer;
	return 0;
}

static int decode_answer(struct ipc_request *request, const struct header *header)
{
	struct ipc_client *client = request->client;
	struct fault fault;

	if (request->count_key)
		return err_trace(decode_count(request, header));
	if (header_get_u64(header, KEY_MESSAGE, 1, LIMIT_NUMBER_MAX,
			   &request->reply.number, &fault) < 0)
		return client_error_set(&client->error, err_origin(-EPROTO), "%s",
					fault.text);
	if (request->is_send && !request->reply.number)
		return client_error_set(&client->error, err_origin(-EPROTO),
					"the answer to a send without \"message\"");
	if (request->decode)
		return err_trace(request->decode(request, header));
	if (request->reply.number && json_at(header->json, 0)->n_members > 2)
		decode_sent(request, header);
	return 0;
}

/* The daemon could not go on in the middle of a body. */
static void decode_abort(struct ipc_request *request, const struct header *header)
{
	const char *why = "";
	size_t size = 0;
	struct fault fault;

	(void)!header_get_string(header, KEY_ABORT, 0, LIMIT_HEADER_MAX, &why, &size,
				 &fault);
	request->reply.error = -EIO;
	request->reply.text = strndup(why, size);
}

/* How far it has come: not the answer yet. */
static int decode_news(struct ipc_request *request, const struct header *header)
{
	struct fault fault;

	request->total = UINT64_MAX;
	if (header_get_u64(header, KEY_PROGRESS, 0, INT64_MAX, &request->done, &fault) <
		    0 ||
	    header_get_u64(header, KEY_FILE_SIZE, 0, INT64_MAX, &request->total, &fault) <
		    0)
		return client_error_set(&request->client->error, err_origin(-EPROTO),
					"%s", fault.text);
	request->has_news = true;
	return 0;
}

static int call_on_parsed(struct ipc_request *request, const struct frame *frame)
{
	struct ipc_client *client = request->client;
	const char *body = frame->body_block ? frame->body_block->data : frame->body;
	struct fault fault;
	bool more = false;
	int r = request_decode_error(client, frame->header, &request->reply);

	if (r > 0) {
		r = decode_count(request, frame->header);
		if (r < 0)
			return err_trace(r);
		request_finish(request);
		return 0;
	}
	if (r < 0)
		return err_trace(r);
	if (header_has(frame->header, KEY_PROGRESS))
		return err_trace(decode_news(request, frame->header));
	if (header_get_bool(frame->header, KEY_MORE, &more, &fault) < 0)
		return client_error_set(&client->error, err_origin(-EPROTO), "%s",
					fault.text);
	r = buf_append(&request->body, body, frame->body_size);
	if (r < 0 || more)
		return err_trace(r);
	if (header_has(frame->header, KEY_ABORT))
		decode_abort(request, frame->header);
	else
		r = decode_answer(request, frame->header);
	if (r < 0)
		return err_trace(r);
	request_finish(request);
	return 0;
}

static int call_on_frame(struct ipc_request *request, const struct frame *frame)
{
	if (frame->header)
		return err_trace(call_on_parsed(request, frame));
	request->reply.number = frame->plain.message;
	request_finish(request);
	return 0;
}

const struct request_ops request_call_ops = { call_on_frame, call_on_lost, PLAIN_SENT };

/* ---- waiting ---- */

static int result_of(const struct ipc_request *request)
{
	const struct ipc_reply *reply = &request->reply;

	if (reply->error)
		client_error_set_answer(&request->client->error, reply->word,
					reply->text ? reply->text
						    : strerror(-reply->error));
	return reply->error;
}

/* The answer, or no answer. r: how the last round of waiting ended. */
static int end_waiting(struct ipc_request *request, int r)
{
	struct ipc_client *client = request->client;

	if (request->state == REQUEST_OPEN) {
		r = request_put_cancel(request);
		request_end(request);
		return r < 0 ? err_trace(r)
			     : client_error_set(&client->error, err_origin(-ETIMEDOUT),
						"the daemon did not answer in time");
	}
	/* lost: why is the business of the one who was waiting */
	if (r < 0 && r != -ETIMEDOUT && request->reply.error == -ECONNRESET) {
		client->error = client->last;
		return err_trace(r);
	}
	return result_of(request);
}

int request_wait_news(struct ipc_request *request, uint64_t deadline_ns)
{
	int r = 0;

	request->has_news = false;
	while (request->state == REQUEST_OPEN && !request->has_news && r >= 0) {
		r = client_step(request->client, deadline_ns);
		client_run_callbacks(request->client);
	}
	if (request->state == REQUEST_OPEN && request->has_news)
		return 1;
	return err_trace(end_waiting(request, r));
}

int request_wait(struct ipc_request *request, uint64_t deadline_ns)
{
	int r;

	do
		r = request_wait_news(request, deadline_ns);
	while (r == 1);
	return err_trace(r);
}

int request_call(struct ipc_request *request, const void *body, size_t body_size)
{
	uint64_t deadline = client_deadline(request->client, 0);
	int r = request_put(request, body, body_size);

	return err_trace(r < 0 ? r : request_wait(request, deadline));
}
