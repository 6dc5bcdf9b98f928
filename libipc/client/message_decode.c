/* SPDX-License-Identifier: MIT */

/*
 * A delivery becomes a message: one block of memory has the struct, its texts, each ended
 * by NUL, and a small body. A large body is a block of the stream's, which is taken over.
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
	m->priority = (unsigned int)d->priority;
	m->uid = (uid_t)d->uid;
	m->gid = (gid_t)d->gid;
	m->pid = (pid_t)d->pid;
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

/* The message keeps the first descriptor; a delivery has only one. */
static void take_fds(struct ipc_client *client, struct message_file *file)
{
	_cleanup_fdset_ struct fdset *fds = stream_steal_fds(&client->stream);

	if (!fds)
		return;
	file->fd = fdset_steal(fds, 0);
	file->fd_is_owned = true;
}

static void get_plain(const struct plain *p, struct delivery *d)
{
	d->number = p->message;
	d->attempt = p->attempt;
	d->uid = p->uid;
	d->gid = p->gid;
	d->pid = p->pid;
	d->lease = (struct slice){ p->lease, p->lease_size };
	d->user = (struct slice){ p->user, p->user_size };
	d->queue = (struct slice){ p->queue, p->queue_size };
}

int client_message_decode(struct ipc_client *client, const struct frame *frame,
			  bool with_body, struct ipc_message **ret_message)
{
	_cleanup_message_file_ struct message_file *file = NULL;
	struct delivery d = { .priority = LIMIT_PRIORITY_DEFAULT,
			      .uid = (uid_t)-1,
			      .gid = (gid_t)-1 };
	struct ipc_message *message;
	struct fault fault;
	int r = 0;

	if (!frame->header) {
		get_plain(&frame->plain, &d);
	} else {
		r = get_delivery(frame->header, &d, &fault);
		if (!r)
			r = message_file_decode(frame, &file, &fault);
	}
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
	if (with_body && frame->body_block) {
		message->block = stream_steal_body(&client->stream);
		message->body = message->block->data;
		message->body_size = frame->body_size;
	}
	if (file)
		take_fds(client, file);
	message->file = TAKE_PTR(file);
	message->connection = client->connection;
	*ret_message = message;
	return 0;
}
