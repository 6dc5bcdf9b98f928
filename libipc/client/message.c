/* SPDX-License-Identifier: MIT */

/* Messages as the user sees them: one kind of object, to be sent or received. */

#include "client/file.h"

#include <string.h>

#include "base/err.h"
#include "base/utf8.h"

void client_message_init(struct ipc_message *message)
{
	*message = (struct ipc_message){
		.body = "",
		.priority = LIMIT_PRIORITY_DEFAULT,
		.ttl_ms = IPC_FOREVER,
		.lease = "",
		.queue = "",
		.user = "",
		.state = "",
		.reason = "",
	};
	list_init(&message->link);
}

int ipc_message_new(struct ipc_message **ret_message)
{
	struct ipc_message *message = malloc(sizeof(*message));

	if (!message)
		return err_origin(-ENOMEM);
	client_message_init(message);
	*ret_message = message;
	return 0;
}

struct ipc_message *ipc_message_free(struct ipc_message *message)
{
	if (message) {
		list_remove(&message->link);
		bytes_unref(message->block);
		message_file_free(message->file);
		free(message->joined);
		free(message->own_meta);
		free(message->dedup_id);
		free(message);
	}
	return NULL;
}

/* ---- to be sent ---- */

/* The daemon would have to end the connection for what is no JSON, and meta of two members
 * would be further members of the request: so it is parsed as it will stand there. */
static int check_meta(const char *json, size_t size)
{
	CLEANUP(json_freep) struct json *parser = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT;
	const struct json_value *v;
	int r = buf_printf(&text, "{\"meta\":%s}", json);

	if (!r)
		r = json_new(&parser, text.size, false);
	if (!r)
		r = json_parse(parser, text.data, text.size);
	if (r < 0)
		return err_trace(r == -EBADMSG ? -EINVAL : r);
	v = json_at(parser, json_member(parser, 0, "meta"));
	if (json_at(parser, 0)->n_members != 1 || v->type != JSON_OBJECT)
		return err_origin(-EINVAL);
	return 0;
}

int ipc_message_set_meta(struct ipc_message *message, const char *json)
{
	size_t size = json ? strlen(json) : 0;
	char *copy = NULL;
	int r;

	if (size > LIMIT_META_MAX)
		return err_origin(-EMSGSIZE);
	if (json) {
		r = check_meta(json, size);
		if (r < 0)
			return err_trace(r);
		copy = strdup(json);
		if (!copy)
			return err_origin(-ENOMEM);
	}
	free(message->own_meta);
	message->meta = message->own_meta = copy;
	return 0;
}

int ipc_message_set_dedup_id(struct ipc_message *message, const char *id)
{
	size_t size = id ? strlen(id) : 0;
	char *copy = NULL;

	if (size > LIMIT_DEDUP_ID_MAX)
		return err_origin(-EMSGSIZE);
	if (id) {
		if (!size || !utf8_is_valid(id, size))
			return err_origin(-EINVAL);
		copy = strdup(id);
		if (!copy)
			return err_origin(-ENOMEM);
	}
	free(message->dedup_id);
	message->dedup_id = copy;
	return 0;
}

int ipc_message_set_priority(struct ipc_message *message, unsigned int priority)
{
	if (priority > LIMIT_PRIORITY_MAX)
		return err_origin(-EINVAL);
	message->priority = priority;
	return 0;
}

int ipc_message_set_delay(struct ipc_message *message, int64_t delay_ms)
{
	if (!client_ms_is_valid(delay_ms))
		return err_origin(-EINVAL);
	message->delay_ms = delay_ms;
	return 0;
}

int ipc_message_set_ttl(struct ipc_message *message, int64_t ttl_ms)
{
	if (ttl_ms != IPC_FOREVER && (!ttl_ms || !client_ms_is_valid(ttl_ms)))
		return err_origin(-EINVAL);
	message->ttl_ms = ttl_ms;
	return 0;
}

/* ---- received ---- */

uint64_t ipc_message_get_number(const struct ipc_message *message)
{
	return message->number;
}

const char *ipc_message_get_lease(const struct ipc_message *message)
{
	return message->lease;
}

uint64_t ipc_message_get_attempt(const struct ipc_message *message)
{
	return message->attempt;
}

const char *ipc_message_get_queue(const struct ipc_message *message)
{
	return message->queue;
}

unsigned int ipc_message_get_priority(const struct ipc_message *message)
{
	return message->priority;
}

const char *ipc_message_get_meta(const struct ipc_message *message)
{
	return message->meta;
}

const char *ipc_message_get_state(const struct ipc_message *message)
{
	return message->state;
}

const char *ipc_message_get_reason(const struct ipc_message *message)
{
	return message->reason;
}

const char *ipc_message_get_history(const struct ipc_message *message)
{
	return message->history;
}

const char *ipc_message_get_from(const struct ipc_message *message, uid_t *ret_uid,
				 gid_t *ret_gid, pid_t *ret_pid)
{
	if (ret_uid)
		*ret_uid = message->uid;
	if (ret_gid)
		*ret_gid = message->gid;
	if (ret_pid)
		*ret_pid = message->pid;
	return message->user;
}
