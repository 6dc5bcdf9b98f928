/* SPDX-License-Identifier: MIT */

/*
 * A delivery becomes a message: one block of memory has the struct, its texts, each ended
 * by NUL, and a small body. A large body is a block of the stream's, which is taken over.
 *
 * Where the header has an opening that tells enough, it is kept as it came, and parsed when
 * somebody asks for more: parsing costs more than all else a client does with a message. All
 * memory for that is there before, so that it cannot fail; a daemon whose JSON is wrong
 * behind a right opening has said nothing.
 */

#include "client/file.h"

#include <string.h>

#include "base/err.h"

struct slice {
	const char *data;
	size_t size;
};

/* What a delivery's header says, still in the parser. */
struct delivery {
	struct slice lease, queue, user, state, reason, meta, history, body;
	uint64_t number, attempt, priority, uid, gid, pid;
};

static int get_text(const struct header *h, enum header_key key, struct slice *ret,
		    struct fault *fault)
{
	return header_get_string(h, key, 0, LIMIT_HEADER_MAX, &ret->data, &ret->size,
				 fault);
}

/* Members that are no keys of requests. Of another type is as good as not there. */
static void get_member_text(const struct json *json, uint32_t object, const char *key,
			    struct slice *ret)
{
	uint32_t at = json_member(json, object, key);
	const struct json_value *v = json_at(json, at);

	if (at && v->type == JSON_STRING)
		*ret = (struct slice){ json_text(json, v), v->size };
}

static void get_member_u64(const struct json *json, uint32_t object, const char *key,
			   uint64_t max, uint64_t *ret)
{
	uint32_t at = json_member(json, object, key);
	const struct json_value *v = json_at(json, at);

	if (at && v->type == JSON_INTEGER && v->integer >= 0 &&
	    (uint64_t)v->integer <= max)
		*ret = (uint64_t)v->integer;
}

static void get_from(const struct header *h, struct delivery *d)
{
	uint32_t from = h->at[KEY_FROM];

	if (!from || json_at(h->json, from)->type != JSON_OBJECT)
		return;
	get_member_u64(h->json, from, "uid", UINT32_MAX, &d->uid);
	get_member_u64(h->json, from, "gid", UINT32_MAX, &d->gid);
	get_member_u64(h->json, from, "pid", INT32_MAX, &d->pid);
	get_member_text(h->json, from, "user", &d->user);
}

/* Only what was looked at has a state, and perhaps a history. */
static void get_looked_at(const struct json *json, struct delivery *d)
{
	uint32_t at = json_member(json, 0, "history");
	const struct json_value *v = json_at(json, at);

	get_member_text(json, 0, "state", &d->state);
	if (at && v->type == JSON_ARRAY)
		d->history = (struct slice){ json_text(json, v), v->size };
}

static int get_delivery(const struct header *h, struct delivery *d, struct fault *fault)
{
	int r = header_get_u64(h, KEY_MESSAGE, 1, LIMIT_NUMBER_MAX, &d->number, fault);

	if (!r)
		fault_set(fault, FAULT_BAD_REQUEST, "a delivery without \"message\"");
	if (r <= 0 ||
	    header_get_u64(h, KEY_ATTEMPT, 0, LIMIT_NUMBER_MAX, &d->attempt, fault) < 0 ||
	    header_get_u64(h, KEY_PRIORITY, 0, LIMIT_PRIORITY_MAX, &d->priority, fault) <
		    0 ||
	    get_text(h, KEY_LEASE, &d->lease, fault) < 0 ||
	    get_text(h, KEY_QUEUE, &d->queue, fault) < 0 ||
	    get_text(h, KEY_REASON, &d->reason, fault) < 0 ||
	    header_get_object(h, KEY_META, LIMIT_HEADER_MAX, &d->meta.data, &d->meta.size,
			      fault) < 0)
		return -EINVAL;
	if (!header_has(h, KEY_LEASE))
		get_looked_at(h->json, d);
	get_from(h, d);
	return 0;
}

/* Copies s to *p with a NUL behind it, and moves *p on. */
static const char *put_slice(char **p, struct slice s)
{
	char *at = *p;

	if (s.size)
		memcpy(at, s.data, s.size);
	at[s.size] = '\0';
	*p += s.size + 1;
	return at;
}

static void set_from(struct ipc_message *m, const struct delivery *d)
{
	m->priority = (unsigned int)d->priority;
	m->uid = (uid_t)d->uid;
	m->gid = (gid_t)d->gid;
	m->pid = (pid_t)d->pid;
}

static struct ipc_message *message_of(const struct delivery *d)
{
	size_t size = d->lease.size + d->queue.size + d->user.size + d->state.size +
		      d->reason.size + d->meta.size + d->history.size + d->body.size + 8;
	struct ipc_message *m = malloc(sizeof(*m) + size);
	char *p;

	if (!m)
		return NULL;
	client_message_init(m);
	m->number = d->number;
	m->attempt = d->attempt;
	set_from(m, d);
	p = m->text;
	m->lease = put_slice(&p, d->lease);
	m->queue = put_slice(&p, d->queue);
	m->user = put_slice(&p, d->user);
	m->state = put_slice(&p, d->state);
	m->reason = put_slice(&p, d->reason);
	if (d->meta.data)
		m->meta = put_slice(&p, d->meta);
	if (d->history.data)
		m->history = put_slice(&p, d->history);
	m->body = put_slice(&p, d->body);
	m->body_size = d->body.size;
	return m;
}

/* ---- a header that is read later ---- */

struct message_parser *message_parser_unref(struct message_parser *parser)
{
	if (parser && !--parser->n_refs) {
		json_free(parser->json);
		free(parser);
	}
	return NULL;
}

/* The client's, able to parse so much without memory. 0 or -ENOMEM. */
static int get_parser(struct ipc_client *client, size_t header_size)
{
	struct message_parser *parser = client->parser;
	int r = 0;

	if (!parser) {
		parser = calloc(1, sizeof(*parser));
		if (!parser)
			return err_origin(-ENOMEM);
		r = json_new(&parser->json, LIMIT_HEADER_MAX, false);
		parser->n_refs = 1;
		client->parser = parser;
	}
	if (!r)
		r = json_reserve(parser->json, header_size);
	if (r < 0)
		client->parser = message_parser_unref(parser);
	return err_trace(r);
}

static const struct delivery nothing_known = { .priority = LIMIT_PRIORITY_DEFAULT,
					       .uid = (uid_t)-1,
					       .gid = (gid_t)-1 };

/* Room for what message_read_header() will put there: queue, user and meta. */
static size_t room_for_texts(const struct frame *frame)
{
	return frame->header_size + 3;
}

static struct ipc_message *message_of_opening(const struct frame *frame)
{
	const struct opening *opening = &frame->opening;
	size_t size =
		opening->lease_size + 1 + frame->header_size + room_for_texts(frame) + 1;
	struct ipc_message *m;
	char *p;

	if (frame->body)
		size += frame->body_size;
	m = malloc(sizeof(*m) + size);
	if (!m)
		return NULL;
	client_message_init(m);
	set_from(m, &nothing_known);
	m->number = opening->message;
	m->attempt = opening->attempt;
	p = m->text;
	m->lease = put_slice(&p, (struct slice){ opening->lease, opening->lease_size });
	m->header = p;
	m->header_size = frame->header_size;
	memcpy(p, frame->header_text, frame->header_size);
	p += frame->header_size + room_for_texts(frame);
	m->body = p;
	if (frame->body) {
		m->body = put_slice(&p, (struct slice){ frame->body, frame->body_size });
		m->body_size = frame->body_size;
	}
	return m;
}

/* The message is complete when this returns, whatever the header says. */
void message_read_header(struct ipc_message *m)
{
	struct message_parser *parser = TAKE_PTR(m->parser);
	struct delivery d = nothing_known;
	char *p = m->text + (m->header - m->text) + m->header_size;
	struct header header;
	struct fault fault;

	if (header_parse(&header, parser->json, m->header, m->header_size) == 0 &&
	    get_delivery(&header, &d, &fault) == 0) {
		set_from(m, &d);
		m->queue = put_slice(&p, d.queue);
		m->user = put_slice(&p, d.user);
		if (d.meta.data)
			m->meta = put_slice(&p, d.meta);
	}
	message_parser_unref(parser);
}

/* ---- deliveries ---- */

/* The message keeps the first descriptor; a delivery has only one. */
static void take_fds(struct ipc_client *client, struct message_file *file)
{
	_cleanup_fdset_ struct fdset *fds = stream_steal_fds(&client->stream);

	if (!fds)
		return;
	file->fd = fdset_steal(fds, 0);
	file->fd_is_owned = true;
}

static void take_body(struct ipc_client *client, const struct frame *frame,
		      struct ipc_message *message)
{
	if (!frame->body_block)
		return;
	message->block = stream_steal_body(&client->stream);
	message->body = message->block->data;
	message->body_size = frame->body_size;
}

static int decode_parsed(struct ipc_client *client, const struct frame *frame,
			 bool with_body, struct ipc_message **ret_message)
{
	_cleanup_message_file_ struct message_file *file = NULL;
	struct delivery d = nothing_known;
	struct ipc_message *message;
	struct fault fault;
	int r = get_delivery(frame->header, &d, &fault);

	if (!r)
		r = message_file_decode(frame, &file, &fault);
	if (r == -ENOMEM)
		return err_trace(r);
	if (r < 0)
		return client_error_set(&client->error, err_origin(-EPROTO), "%s",
					fault.text);
	if (with_body && frame->body)
		d.body = (struct slice){ frame->body, frame->body_size };
	message = message_of(&d);
	if (!message)
		return err_origin(-ENOMEM);
	if (with_body)
		take_body(client, frame, message);
	if (file)
		take_fds(client, file);
	message->file = TAKE_PTR(file);
	*ret_message = message;
	return 0;
}

static int decode_opening(struct ipc_client *client, const struct frame *frame,
			  struct ipc_message **ret_message)
{
	struct ipc_message *message;
	int r = get_parser(client, frame->header_size);

	if (r < 0)
		return err_trace(r);
	message = message_of_opening(frame);
	if (!message)
		return err_origin(-ENOMEM);
	message->parser = client->parser;
	message->parser->n_refs++;
	*ret_message = message;
	return 0;
}

int client_message_decode(struct ipc_client *client, const struct frame *frame,
			  bool with_body, struct ipc_message **ret_message)
{
	int r = frame->header ? decode_parsed(client, frame, with_body, ret_message)
			      : decode_opening(client, frame, ret_message);

	if (r == 0)
		(*ret_message)->connection = client->connection;
	return err_trace(r);
}
