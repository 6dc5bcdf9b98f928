/* SPDX-License-Identifier: MIT */

/* One value out of a JSON text, see harness.h. */

#include "integration/harness.h"

#include <stdio.h>

#include "wire/json.h"
#include "wire/limits.h"

static struct json *parser(const char *text)
{
	static struct json *json;

	if (!json && json_new(&json, LIMIT_HEADER_MAX, false) < 0)
		fail_at(HERE, "no memory");
	if (json_parse(json, text, strlen(text)) < 0)
		fail_at(HERE, "%s: %s", json_error(json), text);
	return json;
}

/* NULL if there is no such member. */
static const struct json_value *find(struct json *json, const char *path)
{
	char key[64];
	uint32_t at = 0;

	for (;;) {
		size_t size = strcspn(path, ".");

		if (json_at(json, at)->type != JSON_OBJECT)
			return NULL;
		snprintf(key, sizeof(key), "%.*s", (int)size, path);
		at = json_member(json, at, key);
		if (!at)
			return NULL;
		if (!path[size])
			return json_at(json, at);
		path += size + 1;
	}
}

bool json_has(const char *text, const char *path)
{
	return find(parser(text), path) != NULL;
}

static const struct json_value *get(struct json *json, const char *text, const char *path,
				    enum json_type type)
{
	const struct json_value *v = find(json, path);

	if (!v || v->type != type)
		fail_at(HERE, "\"%s\" is not %s in %s", path, json_type_name(type), text);
	return v;
}

int64_t json_int(const char *text, const char *path)
{
	return get(parser(text), text, path, JSON_INTEGER)->integer;
}

const char *json_string(const char *text, const char *path)
{
	struct json *json = parser(text);
	const struct json_value *v = get(json, text, path, JSON_STRING);

	return keep_printf("%.*s", (int)v->size, json_text(json, v));
}
