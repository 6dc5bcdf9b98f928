/* SPDX-License-Identifier: MIT */

/*
 * Lists: the daemon answers with one JSON object a line. All lines are checked when the
 * list is opened, which also makes all memory: so ipc_list_next() cannot fail.
 */

#include "client/client_internal.h"

#include <locale.h>
#include <string.h>

#include "base/err.h"

struct ipc_record {
	const struct json *json;
	const char *line; /* NUL-ended */
	char *strings;	  /* all of it, keys too, in their order, each NUL-ended */
};

struct ipc_list {
	struct json *json;
	char *data; /* the lines, each NUL-ended */
	size_t size, at;
	struct ipc_record record; /* the one ipc_list_next() gave last */
};

struct ipc_list *ipc_list_free(struct ipc_list *list)
{
	if (list) {
		json_free(list->json);
		free(list->data);
		free(list->record.strings);
		free(list);
	}
	return NULL;
}
DEFINE_CLEANUP(struct ipc_list *, ipc_list_free);

/* Parses each line once: they are valid, and the parser has room for any of them. */
static int check_lines(struct client_error *error, struct ipc_list *list)
{
	size_t at = 0;

	while (at < list->size) {
		size_t size = strlen(list->data + at);
		int r = json_parse(list->json, list->data + at, size);

		if (r == -EBADMSG)
			return client_error_set(
				error, err_origin(-EPROTO),
				"a list with a line that is no JSON object: %s",
				json_error(list->json));
		if (r < 0)
			return err_trace(r);
		at += size + 1;
	}
	return 0;
}

/* Ends each line with NUL instead of newline; returns the longest one's size. */
static size_t split_lines(struct ipc_list *list)
{
	size_t longest = 0, begin = 0;

	for (size_t i = 0; i <= list->size; i++) {
		if (i < list->size && list->data[i] != '\n')
			continue;
		list->data[i] = '\0';
		if (i - begin > longest)
			longest = i - begin;
		begin = i + 1;
	}
	return longest;
}

/* Takes the body's memory. */
static int fill_list(struct client_error *error, struct ipc_list *list, struct buf *body)
{
	size_t longest;
	int r = buf_terminate(body);

	if (r < 0)
		return err_trace(r);
	list->size = body->size;
	list->data = buf_steal(body);
	if (memchr(list->data, '\0', list->size))
		return client_error_set(error, err_origin(-EPROTO),
					"a list with a NUL in it");
	longest = split_lines(list);
	/* decoded texts are never longer than their JSON, and have lost two quotes each */
	list->record.strings = malloc(longest + 1);
	if (!list->record.strings)
		return err_origin(-ENOMEM);
	r = json_new(&list->json, longest + 1, false);
	return err_trace(r < 0 ? r : check_lines(error, list));
}

static int check_name(struct ipc_client *client, enum ipc_list_kind kind,
		      const char *name)
{
	if (kind != IPC_LIST_NAMES && kind != IPC_LIST_PEERS && kind != IPC_LIST_STATS)
		return client_error_set(&client->error, err_origin(-EINVAL),
					"unknown kind of list");
	if (!name)
		return 0;
	if (kind != IPC_LIST_NAMES)
		return client_error_set(&client->error, err_origin(-EINVAL),
					"this list takes no name");
	return err_trace(client_check_text(client, "the name", name, LIMIT_NAME_MAX));
}

static int begin_list(struct ipc_request *request, enum ipc_list_kind kind,
		      const char *name)
{
	static const char *const ops[] = {
		[IPC_LIST_NAMES] = "names",
		[IPC_LIST_PEERS] = "peers",
		[IPC_LIST_STATS] = "stats",
	};
	int r = check_name(request->client, kind, name);

	if (!r)
		r = request_begin(request, ops[kind]);
	if (r < 0)
		return err_trace(r);
	request->decode = client_decode_list;
	if (name)
		json_put_text(request->client->writer, "name", name);
	return 0;
}

int client_decode_list(struct ipc_request *request, const struct header *header)
{
	struct client_error *error = &request->client->error;
	CLEANUP(ipc_list_freep) struct ipc_list *list = calloc(1, sizeof(*list));
	int r = list ? fill_list(error, list, &request->body) : err_origin(-ENOMEM);

	(void)header;
	if (r == -ENOMEM) {
		request->reply.error = r; /* of this request, not of the connection */
		request->reply.text = strdup("no memory for a list");
		return 0;
	}
	if (r < 0)
		return err_trace(r);
	request->reply.list = TAKE_PTR(list);
	return 0;
}

int ipc_list_open(struct ipc_client *client, enum ipc_list_kind kind, const char *name,
		  struct ipc_list **ret_list)
{
	_cleanup_request_ struct ipc_request request;
	int r;

	request_init(&request, client, &request_call_ops);
	r = begin_list(&request, kind, name);
	if (!r)
		r = request_call(&request, NULL, 0);
	if (r < 0)
		return err_trace(r);
	*ret_list = TAKE_PTR(request.reply.list);
	return 0;
}

int ipc_list_async(struct ipc_client *client, enum ipc_list_kind kind, const char *name,
		   ipc_reply_fn callback, void *userdata,
		   struct ipc_request **ret_request)
{
	_cleanup_request_ptr_ struct ipc_request *request = NULL;
	int r = request_new(client, callback, userdata, &request);

	if (!r)
		r = client_check_output(client);
	if (!r)
		r = begin_list(request, kind, name);
	return err_trace(r < 0 ? r : request_put_async(&request, NULL, 0, ret_request));
}

/* ---- records ---- */

/* Copies the strings of the line just parsed. */
static void copy_strings(struct ipc_record *record)
{
	const struct json *json = record->json;
	char *p = record->strings;

	for (uint32_t i = 1; i < json_at(json, 0)->next; i++) {
		const struct json_value *v = json_at(json, i);

		if (v->type != JSON_STRING)
			continue;
		memcpy(p, json_text(json, v), v->size);
		p[v->size] = '\0';
		p += v->size + 1;
	}
}

const struct ipc_record *ipc_list_next(struct ipc_list *list)
{
	const char *line = list->data + list->at;
	size_t size;

	if (list->at >= list->size)
		return NULL;
	size = strlen(line);
	list->at += size + 1;
	if (json_parse(list->json, line, size) < 0)
		return NULL; /* not after check_lines() */
	list->record.json = list->json;
	list->record.line = line;
	copy_strings(&list->record);
	return &list->record;
}

/* Is the key of the value behind it the first part of path? */
static bool is_key(const struct json *json, uint32_t at, const char *path, size_t size)
{
	const struct json_value *v = json_at(json, at);

	return v->size == size && !memcmp(json_text(json, v), path, size);
}

static uint32_t find_member(const struct json *json, uint32_t object, const char *key,
			    size_t size)
{
	uint32_t at = object + 1;

	for (uint32_t n = json_at(json, object)->n_members; n; n--) {
		if (is_key(json, at, key, size))
			return at + 1;
		at = json_at(json, at + 1)->next;
	}
	return 0;
}

/* "key", or "key.key" for a member of an object; 0 if there is none. */
static uint32_t find(const struct ipc_record *record, const char *path)
{
	uint32_t at = 0;

	for (;;) {
		size_t size = strcspn(path, ".");

		at = find_member(record->json, at, path, size);
		if (!at || !path[size])
			return at;
		if (json_at(record->json, at)->type != JSON_OBJECT)
			return 0;
		path += size + 1;
	}
}

const char *ipc_record_get_string(const struct ipc_record *record, const char *key)
{
	const struct json *json = record->json;
	const char *p = record->strings;
	uint32_t wanted = find(record, key);

	if (!wanted || json_at(json, wanted)->type != JSON_STRING)
		return NULL;
	for (uint32_t i = 1; i < wanted; i++)
		if (json_at(json, i)->type == JSON_STRING)
			p += json_at(json, i)->size + 1;
	return p;
}

int64_t ipc_record_get_integer(const struct ipc_record *record, const char *key)
{
	uint32_t at = find(record, key);

	if (!at || json_at(record->json, at)->type != JSON_INTEGER)
		return -1;
	return json_at(record->json, at)->integer;
}

double ipc_record_get_number(const struct ipc_record *record, const char *key)
{
	uint32_t at = find(record, key);
	const struct json_value *v = json_at(record->json, at);
	locale_t plain; /* the program's may have another decimal point */
	double value;

	if (!at || (v->type != JSON_INTEGER && v->type != JSON_NUMBER) || !v->size)
		return -1;
	plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (!plain)
		return -1;
	value = strtod_l(json_text(record->json, v), NULL, plain);
	freelocale(plain);
	return value;
}

bool ipc_record_get_bool(const struct ipc_record *record, const char *key)
{
	uint32_t at = find(record, key);

	return at && json_at(record->json, at)->type == JSON_TRUE;
}

const char *ipc_record_get_json(const struct ipc_record *record)
{
	return record->line;
}

int ipc_disconnect(struct ipc_client *client, uint64_t peer)
{
	_cleanup_request_ struct ipc_request request;
	int r;

	request_init(&request, client, &request_call_ops);
	if (!peer || peer > LIMIT_NUMBER_MAX)
		return client_error_set(&client->error, err_origin(-EINVAL),
					"a connection's number is from 1 to %lld",
					(long long)LIMIT_NUMBER_MAX);
	r = request_begin(&request, "disconnect");
	if (r < 0)
		return err_trace(r);
	json_put_u64(client->writer, "peer", peer);
	return err_trace(request_call(&request, NULL, 0));
}
