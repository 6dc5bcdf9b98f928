/* SPDX-License-Identifier: MIT */

/*
 * What the owner of a name does with it. Users and groups have names here and numbers in
 * the protocol; see settings.c.
 */

#include "client/client_internal.h"

#include <grp.h>
#include <string.h>

#include "base/err.h"
#include "client/filter.h"
#include "client/settings.h"

/* Begins a request about a name; request_call() ends it. */
static int begin_name(struct ipc_request *request, struct ipc_client *client,
		      const char *op, const char *name)
{
	int r;

	request_init(request, client, &request_call_ops);
	r = client_check_text(client, "the name", name, LIMIT_NAME_MAX);
	if (!r)
		r = request_begin(request, op);
	if (r < 0)
		return err_trace(r);
	json_put_text(client->writer, "name", name);
	return 0;
}

static int put_settings(struct ipc_client *client, const char *op, const char *name,
			const char *const *settings, size_t n_settings)
{
	_cleanup_settings_ struct settings parsed = { 0 };
	_cleanup_request_ struct ipc_request request;
	int r;

	request_init(&request, client, &request_call_ops);
	r = settings_parse(&parsed, settings, n_settings, &client->error);
	if (!r)
		r = begin_name(&request, client, op, name);
	if (r < 0)
		return err_trace(r);
	settings_put(&parsed, client->writer);
	return err_trace(request_call(&request, NULL, 0));
}

int ipc_name_create(struct ipc_client *client, const char *name,
		    const char *const *settings, size_t n_settings)
{
	return err_trace(put_settings(client, "create", name, settings, n_settings));
}

int ipc_name_set(struct ipc_client *client, const char *name, const char *const *settings,
		 size_t n_settings)
{
	return err_trace(put_settings(client, "set", name, settings, n_settings));
}

int ipc_name_delete(struct ipc_client *client, const char *name)
{
	_cleanup_request_ struct ipc_request request;
	int r = begin_name(&request, client, "delete", name);

	return err_trace(r < 0 ? r : request_call(&request, NULL, 0));
}

/* ---- many messages ---- */

struct sweep {
	const char *op, *count_key;
	const char *name, *to, *state, *filter; /* to, state, filter: or NULL */
};

static int put_member(struct ipc_client *client, const char *key, const char *text)
{
	int r = text ? client_check_text(client, key, text, LIMIT_NAME_MAX) : 0;

	if (!r && text)
		json_put_text(client->writer, key, text);
	return err_trace(r);
}

static int call_counting(struct ipc_request *request, const char *count_key,
			 uint64_t *ret_n)
{
	int r;

	request->count_key = count_key;
	r = request_call(request, NULL, 0);
	if (ret_n)
		*ret_n = request->reply.number;
	return err_trace(r);
}

/* The filter is read first: that may wait for the name service, and fail. */
static int sweep(struct ipc_client *client, const struct sweep *s, uint64_t *ret_n)
{
	_cleanup_request_ struct ipc_request request;
	_cleanup_buf_ struct buf filter = BUF_INIT;
	int r;

	request_init(&request, client, &request_call_ops);
	r = s->filter ? filter_to_json(s->filter, &filter, &client->error) : 0;
	if (!r)
		r = begin_name(&request, client, s->op, s->name);
	if (!r)
		r = put_member(client, "to", s->to);
	if (!r)
		r = put_member(client, "state", s->state);
	if (r < 0)
		return err_trace(r);
	if (s->filter)
		json_put_raw(client->writer, "filter", filter.data, filter.size);
	return err_trace(call_counting(&request, s->count_key, ret_n));
}

int ipc_name_purge(struct ipc_client *client, const char *name, const char *state,
		   const char *filter, uint64_t *ret_n)
{
	const struct sweep s = {
		.op = "purge",
		.count_key = "purged",
		.name = name,
		.state = state,
		.filter = filter,
	};

	return err_trace(sweep(client, &s, ret_n));
}

int ipc_name_move(struct ipc_client *client, const char *name, const char *to,
		  const char *state, const char *filter, uint64_t *ret_n)
{
	const struct sweep s = {
		.op = "move",
		.count_key = "moved",
		.name = name,
		.to = to,
		.state = state,
		.filter = filter,
	};

	return err_trace(sweep(client, &s, ret_n));
}

/* ---- who may ---- */

enum { GROUPS_MAX = 1024 };

/* One whom the user database does not know is in no group. */
static int put_user(struct ipc_client *client, const struct settings_user *user)
{
	struct json_writer *w = client->writer;
	_cleanup_free_ gid_t *gids = NULL;
	int n = GROUPS_MAX;

	json_put_u64(w, "uid", user->uid);
	if (!user->name)
		return 0;
	gids = calloc(GROUPS_MAX, sizeof(*gids));
	if (!gids)
		return client_error_set(&client->error, err_origin(-ENOMEM),
					"no memory for groups");
	if (getgrouplist(user->name, user->gid, gids, &n) < 0)
		return client_error_set(&client->error, err_origin(-E2BIG),
					"%s is in %d groups, the limit is %d", user->name,
					n, GROUPS_MAX);
	json_put_array(w, "gids");
	for (int i = 0; i < n; i++)
		json_put_u64(w, NULL, gids[i]);
	json_put_end(w);
	return 0;
}

static int call_explain(struct ipc_client *client, const char *name,
			const struct settings_user *user, struct ipc_list **ret_list)
{
	_cleanup_request_ struct ipc_request request;
	int r = begin_name(&request, client, "explain", name);

	if (!r && user)
		r = put_user(client, user);
	if (r < 0)
		return err_trace(r);
	request.decode = client_decode_list;
	r = request_call(&request, NULL, 0);
	if (r < 0)
		return err_trace(r);
	*ret_list = TAKE_PTR(request.reply.list);
	return 0;
}

int ipc_name_explain(struct ipc_client *client, const char *name, const char *user,
		     struct ipc_list **ret_list)
{
	_cleanup_settings_user_ struct settings_user found = { 0 };
	int r;

	if (!user)
		return err_trace(call_explain(client, name, NULL, ret_list));
	r = settings_find_user(user, &found);
	if (r < 0)
		return client_error_set(&client->error, r, "%s: %s", user,
					r == -ENOENT ? "there is no such user"
						     : strerror(-r));
	return err_trace(call_explain(client, name, &found, ret_list));
}
