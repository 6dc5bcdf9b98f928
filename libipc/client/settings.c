/* SPDX-License-Identifier: MIT */

#include "client/settings.h"

#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "base/err.h"
#include "base/utf8.h"

enum {
	ENTRY_SIZE_MIN = 4096,
	ENTRY_SIZE_MAX = 16777216, /* a group's members all stand in its entry */
};

void settings_deinit(struct settings *settings)
{
	for (size_t i = 0; i < settings->n; i++)
		free(settings->all[i].json);
	settings->n = 0;
}

void settings_user_deinit(struct settings_user *user)
{
	free(user->name);
}

/* ---- users and groups ---- */

/* The lookups say ERANGE as long as there is too little room, getpwnam_r(3). */
static int find_by(int (*look)(const char *text, char *room, size_t size, void *ret),
		   const char *text, void *ret)
{
	int r = ERANGE;

	for (size_t size = ENTRY_SIZE_MIN; r == ERANGE && size <= ENTRY_SIZE_MAX;
	     size *= 4) {
		_cleanup_free_ char *room = malloc(size);

		if (!room)
			return err_origin(-ENOMEM);
		r = look(text, room, size, ret);
	}
	return err_origin(-r);
}

static int take_user(const struct passwd *found, struct settings_user *user)
{
	user->name = strdup(found->pw_name);
	user->uid = found->pw_uid;
	user->gid = found->pw_gid;
	return user->name ? 0 : ENOMEM;
}

static int look_for_user(const char *text, char *room, size_t size, void *ret)
{
	struct passwd entry, *found = NULL;
	int r = getpwnam_r(text, &entry, room, size, &found);

	if (r)
		return r;
	return found ? take_user(found, ret) : ENOENT;
}

static int look_for_uid(const char *text, char *room, size_t size, void *ret)
{
	struct passwd entry, *found = NULL;
	struct settings_user *user = ret;
	uint64_t uid = 0;
	int r;

	if (!parse_u64(text, UINT32_MAX - 1, &uid))
		return ENOENT;
	user->uid = (uid_t)uid;
	r = getpwuid_r(user->uid, &entry, room, size, &found);
	return r || !found ? r : take_user(found, user);
}

static int look_for_group(const char *text, char *room, size_t size, void *ret)
{
	struct group entry, *found = NULL;
	uint64_t *gid = ret;
	int r = getgrnam_r(text, &entry, room, size, &found);

	if (r)
		return r;
	if (found)
		*gid = found->gr_gid;
	return found ? 0 : ENOENT;
}

int settings_find_user(const char *text, struct settings_user *ret_user)
{
	int r = find_by(look_for_user, text, ret_user);

	if (r == -ENOENT)
		r = find_by(look_for_uid, text, ret_user);
	return err_trace(r);
}

static int find_owner(const char *text, uint64_t *ret_uid)
{
	_cleanup_settings_user_ struct settings_user user = { 0 };
	int r = settings_find_user(text, &user);

	*ret_uid = user.uid;
	return err_trace(r);
}

static int find_group(const char *text, uint64_t *ret_gid)
{
	int r = find_by(look_for_group, text, ret_gid);

	if (r == -ENOENT && parse_u64(text, UINT32_MAX - 1, ret_gid))
		return 0;
	return err_trace(r);
}

/* ---- values: each appends JSON ---- */

static int add_owner(struct buf *json, const char *value)
{
	uint64_t uid = 0;
	int r = find_owner(value, &uid);

	if (!r)
		r = buf_printf(json, "%llu", (unsigned long long)uid);
	return err_trace(r);
}

static int add_group(struct buf *json, const char *value)
{
	uint64_t gid = 0;
	int r = find_group(value, &gid);

	if (!r)
		r = buf_printf(json, "%llu", (unsigned long long)gid);
	return err_trace(r);
}

/* Written as chmod(1) takes it; the daemon sends it back so, too. */
static int add_mode(struct buf *json, const char *value)
{
	size_t size = strlen(value);

	if (size < 3 || size > 4 || strspn(value, "01234567") != size)
		return err_origin(-EINVAL);
	return err_trace(buf_printf(json, "\"%s\"", value));
}

static int add_number(struct buf *json, const char *value)
{
	uint64_t number;

	if (!parse_u64(value, LIMIT_NUMBER_MAX, &number)) {
		bool large = *value && !value[strspn(value, "0123456789")];

		return err_origin(large ? -EOVERFLOW : -EINVAL);
	}
	return err_trace(buf_printf(json, "%llu", (unsigned long long)number));
}

/* "1000,5000" */
static int add_numbers(struct buf *json, const char *value)
{
	_cleanup_free_ char *copy = strdup(value);
	char *rest = copy, *one;
	int r = copy ? buf_append(json, "[", 1) : err_origin(-ENOMEM);

	while (!r && (one = strsep(&rest, ","))) {
		r = add_number(json, one);
		if (!r)
			r = buf_append(json, rest ? "," : "]", 1);
	}
	return err_trace(r);
}

static int add_bool(struct buf *json, const char *value)
{
	if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
		return err_origin(-EINVAL);
	return err_trace(buf_append(json, value, strlen(value)));
}

static const struct {
	const char *key;
	int (*add)(struct buf *json, const char *value);
	const char *expected;
} known[] = {
	{ "mode", add_mode, "an octal mode, as 0660, is expected" },
	{ "owner", add_owner, "there is no such user" },
	{ "group", add_group, "there is no such group" },
	{ "queue_messages", add_number, "a number is expected" },
	{ "queue_bytes", add_number, "a number of bytes is expected" },
	{ "queue_file_bytes", add_number, "a number of bytes is expected" },
	{ "max_attempts", add_number, "a number is expected" },
	{ "lost_delay", add_number, "a number of milliseconds is expected" },
	{ "backoff", add_numbers, "milliseconds, as 1000,5000, are expected" },
	{ "durable", add_bool, "true or false is expected" },
};
_Static_assert(ARRAY_SIZE(known) <= SETTINGS_MAX, "one place for each key");

/* ---- all of them ---- */

static int find_key(const char *text, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strlen(known[i].key) == size && !memcmp(known[i].key, text, size))
			return (int)i;
	return -1;
}

static bool has_key(const struct settings *settings, const char *key)
{
	for (size_t i = 0; i < settings->n; i++)
		if (settings->all[i].key == key)
			return true;
	return false;
}

static int unknown_key(const char *text, size_t size, struct client_error *error)
{
	_cleanup_buf_ struct buf list = BUF_INIT;
	int r = 0;

	for (size_t i = 0; !r && i < ARRAY_SIZE(known); i++)
		r = buf_printf(&list, "%s%s", i ? ", " : "", known[i].key);
	if (!r)
		r = buf_terminate(&list);
	return client_error_set(error, err_origin(-EINVAL),
				"unknown setting %.*s; there are %s", (int)size, text,
				r < 0 ? "others" : list.data);
}

_Static_assert(LIMIT_NUMBER_MAX == 9007199254740991, "bad_value() says so");

static int bad_value(int i, const char *value, int r, struct client_error *error)
{
	const char *why = r == -EINVAL || r == -ENOENT ? known[i].expected : strerror(-r);

	if (r == -EOVERFLOW) {
		why = "out of range: it is at most 9007199254740991";
		r = err_origin(-EINVAL);
	}
	return client_error_set(error, r, "%s=%s: %s", known[i].key, value, why);
}

static int parse_one(struct settings *settings, const char *text,
		     struct client_error *error)
{
	_cleanup_buf_ struct buf json = BUF_INIT;
	size_t size = strcspn(text, "=");
	int i = find_key(text, size);
	int r;

	if (!utf8_is_valid(text, strlen(text)))
		return client_error_set(error, err_origin(-EINVAL),
					"a setting is not valid UTF-8");
	if (i < 0)
		return err_trace(unknown_key(text, size, error));
	if (!text[size])
		return client_error_set(error, err_origin(-EINVAL),
					"%s: no value; KEY=VALUE is expected", text);
	if (has_key(settings, known[i].key))
		return client_error_set(error, err_origin(-EINVAL), "%s is set twice",
					known[i].key);
	r = known[i].add(&json, text + size + 1);
	if (r < 0)
		return err_trace(bad_value(i, text + size + 1, r, error));
	settings->all[settings->n++] =
		(struct setting){ known[i].key, json.data, json.size };
	json = (struct buf)BUF_INIT;
	return 0;
}

int settings_parse(struct settings *settings, const char *const *texts, size_t n_texts,
		   struct client_error *error)
{
	int r = 0;

	for (size_t i = 0; !r && i < n_texts; i++)
		r = parse_one(settings, texts[i], error);
	return err_trace(r);
}

void settings_put(const struct settings *settings, struct json_writer *w)
{
	for (size_t i = 0; i < settings->n; i++)
		json_put_raw(w, settings->all[i].key, settings->all[i].json,
			     settings->all[i].size);
}
