/* SPDX-License-Identifier: MIT */

#include "client/filter.h"

#include <string.h>

#include "base/err.h"
#include "base/utf8.h"
#include "client/settings.h"

enum { WORD_SHOWN = 200 };

enum member {
	OLDER_MS,
	NEWER_MS,
	UID,
	ATTEMPT_MIN,
	ATTEMPT_MAX,
	PRIORITY_MIN,
	PRIORITY_MAX,
	N_MEMBERS,
};

static const char *const member_keys[N_MEMBERS] = {
	"older_ms",    "newer_ms",     "uid",	       "attempt_min",
	"attempt_max", "priority_min", "priority_max",
};

struct parser {
	struct client_error *error;
	const char *word; /* the condition that is being read */
	char *name, *value;
	char op[3];
	uint64_t members[N_MEMBERS];
	bool has[N_MEMBERS];
	struct json_writer *writer; /* of meta */
	struct buf meta;
	char *keys[LIMIT_FILTER_META_MAX];
	unsigned int n_keys;
};

static void parser_deinit(struct parser *p)
{
	free(p->name);
	free(p->value);
	json_writer_free(p->writer);
	buf_deinit(&p->meta);
	for (unsigned int i = 0; i < p->n_keys; i++)
		free(p->keys[i]);
}

static int refuse(const struct parser *p, int r, const char *why)
{
	size_t size = min_size(strlen(p->word), WORD_SHOWN);

	while (size && ((unsigned char)p->word[size] & 0xc0) == 0x80)
		size--; /* whole characters */
	return client_error_set(p->error, err_origin(r), "filter: '%.*s': %s", (int)size,
				p->word, why);
}

static int refuse_unknown(const struct parser *p)
{
	return refuse(
		p, -EINVAL,
		"unknown; there are age>T age<T sender=USER attempt=N priority=N "
		"(these two also with < <= > >=) and meta.KEY=VALUE, without blanks "
		"within one");
}

static int set_member(struct parser *p, enum member member, uint64_t value)
{
	if (p->has[member])
		return refuse(p, -EINVAL, "that is said before already");
	p->has[member] = true;
	p->members[member] = value;
	return 0;
}

/* ---- age ---- */

/* Milliseconds of a unit, 0 if there is none of that name. */
static uint64_t scale_of(const char *unit)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} scales[] = { { "ms", 1 },    { "s", 1000 },	 { "", 1000 },
		       { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };

	for (size_t i = 0; i < ARRAY_SIZE(scales); i++)
		if (!strcmp(unit, scales[i].unit))
			return scales[i].ms;
	return 0;
}

/* "90", "1.5h": digits, perhaps a point and some more, and a unit. */
static bool parse_age(const char *text, uint64_t *ret_ms)
{
	uint64_t whole = 0, part = 0, parts = 1, scale;
	size_t n = strspn(text, "0123456789"), n_parts = 0;

	if (!n)
		return false;
	for (; n; n--, text++)
		whole = min_u64(whole * 10 + (uint64_t)(*text - '0'), LIMIT_WAIT_MAX + 1);
	if (*text == '.') {
		text++;
		for (; *text >= '0' && *text <= '9'; text++, n_parts++) {
			if (n_parts >= 9) /* far below a millisecond */
				continue;
			part = part * 10 + (uint64_t)(*text - '0');
			parts *= 10;
		}
		if (!n_parts)
			return false;
	}
	scale = scale_of(text);
	if (!scale || whole > LIMIT_WAIT_MAX / scale)
		return false;
	*ret_ms = whole * scale + part * scale / parts;
	return *ret_ms <= LIMIT_WAIT_MAX;
}

_Static_assert(LIMIT_WAIT_MAX == 365000 * INT64_C(86400000), "add_age() says so");

static int add_age(struct parser *p)
{
	bool older = !strcmp(p->op, ">"), newer = !strcmp(p->op, "<");
	uint64_t ms;

	if ((!older && !newer) || !parse_age(p->value, &ms))
		return refuse(p, -EINVAL,
			      "age goes as age>1h or age<30s, with a time in ms, s, m, "
			      "h or d, at most 365000d");
	return err_trace(set_member(p, older ? OLDER_MS : NEWER_MS, ms));
}

/* ---- sender ---- */

static int add_sender(struct parser *p)
{
	_cleanup_settings_user_ struct settings_user user = { 0 };
	int r;

	if (strcmp(p->op, "=") != 0 || !*p->value)
		return refuse(
			p, -EINVAL,
			"sender goes as sender=ann or sender=1000, a user's name or "
			"number");
	r = settings_find_user(p->value, &user);
	if (r < 0)
		return refuse(p, r,
			      r == -ENOENT ? "there is no such user" : strerror(-r));
	return err_trace(set_member(p, UID, user.uid));
}

/* ---- attempt, priority ---- */

/* The numbers from *min to *max that the operator lets through; false: none. */
static bool range_of(const char *op, uint64_t value, uint64_t *min, uint64_t *max)
{
	if (op[0] == '=' && !op[1])
		*min = *max = value;
	else if (!strcmp(op, ">="))
		*min = value;
	else if (!strcmp(op, "<="))
		*max = value;
	else if (!strcmp(op, ">") && value < *max)
		*min = value + 1;
	else if (!strcmp(op, "<") && value > *min)
		*max = value - 1;
	else
		return false;
	return true;
}

static int add_range(struct parser *p, enum member least, uint64_t most,
		     const char *expected)
{
	uint64_t min = 0, max = most, value;
	int r = 0;

	if (!parse_u64(p->value, most, &value) || !range_of(p->op, value, &min, &max))
		return refuse(p, -EINVAL, expected);
	if (min > 0 || p->op[0] != '<')
		r = set_member(p, least, min);
	if (!r && (max < most || p->op[0] != '>'))
		r = set_member(p, least + 1, max);
	return err_trace(r);
}

_Static_assert(LIMIT_NUMBER_MAX == 9007199254740991, "add_attempt() says so");

static int add_attempt(struct parser *p)
{
	return add_range(p, ATTEMPT_MIN, LIMIT_NUMBER_MAX,
			 "attempt goes as attempt>=3, attempt<2 or attempt=1, at most "
			 "9007199254740991");
}

static int add_priority(struct parser *p)
{
	return add_range(p, PRIORITY_MIN, LIMIT_PRIORITY_MAX,
			 "priority goes as priority>=5, priority<2 or priority=0, with a "
			 "number from 0 (first) to 9");
}

/* ---- meta ---- */

/* What the value is as JSON: JSON_ARRAY for what is none, or no scalar. -ENOMEM. */
static int json_type_of(const char *value)
{
	CLEANUP(json_freep) struct json *json = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT;
	int r = buf_printf(&text, "{\"v\":%s}", value);

	if (!r)
		r = json_new(&json, text.size, false);
	if (!r)
		r = json_parse(json, text.data, text.size);
	if (r == -EBADMSG)
		return JSON_ARRAY;
	if (r < 0)
		return err_trace(r);
	r = json_at(json, json_member(json, 0, "v"))->type;
	return r == JSON_OBJECT ? JSON_ARRAY : r;
}

static bool has_only_digits(const char *number)
{
	number += *number == '-';
	return !number[strspn(number, "0123456789")];
}

_Static_assert(LIMIT_FILTER_META_MAX == 16, "add_meta() says so");

static int put_value(struct parser *p, const char *key)
{
	int type = json_type_of(p->value);

	if (type < 0)
		return err_trace(type);
	if (type == JSON_NUMBER)
		return refuse(
			p, -EINVAL,
			has_only_digits(p->value)
				? "out of range: an integer has at most 64 bits; in "
				  "\"...\" it is a text"
				: "only integers can be compared; in \"...\" it is a "
				  "text");
	if (type == JSON_ARRAY && strchr(p->value, '"'))
		return refuse(
			p, -EINVAL,
			"quotes stand around the whole value, which is a text as in "
			"JSON then");
	if (type == JSON_ARRAY)
		json_put_text(p->writer, key, p->value);
	else
		json_put_raw(p->writer, key, p->value, strlen(p->value));
	return 0;
}

static int add_meta(struct parser *p)
{
	const char *key = p->name + strlen("meta.");

	if (strcmp(p->op, "=") != 0 || !*key || !*p->value)
		return refuse(p, -EINVAL,
			      "meta goes as meta.kind=thumb, meta.n=3 or "
			      "meta.title=\"two words\"; the empty text is \"\"");
	for (unsigned int i = 0; i < p->n_keys; i++)
		if (!strcmp(p->keys[i], key))
			return refuse(p, -EINVAL, "that is said before already");
	if (p->n_keys == LIMIT_FILTER_META_MAX)
		return refuse(p, -EINVAL, "too many of meta: 16 at most");
	p->keys[p->n_keys] = strdup(key);
	if (!p->keys[p->n_keys])
		return err_origin(-ENOMEM);
	p->n_keys++;
	return err_trace(put_value(p, key));
}

/* ---- words ---- */

static const struct {
	const char *name;
	int (*add)(struct parser *p);
} conditions[] = {
	{ "age", add_age },
	{ "sender", add_sender },
	{ "attempt", add_attempt },
	{ "priority", add_priority },
};

static int add_condition(struct parser *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(conditions); i++)
		if (!strcmp(p->name, conditions[i].name))
			return err_trace(conditions[i].add(p));
	if (!strncmp(p->name, "meta.", strlen("meta.")))
		return err_trace(add_meta(p));
	return refuse_unknown(p);
}

/* Cuts the word into name, operator and value. */
static int add_word(struct parser *p)
{
	size_t name_size = strcspn(p->word, "<>=!\"");
	const char *op = p->word + name_size;
	size_t op_size = strspn(op, "<>=!");

	if (!name_size || !op_size || op_size >= sizeof(p->op))
		return refuse_unknown(p);
	memcpy(p->op, op, op_size);
	p->op[op_size] = '\0';
	free(p->name);
	free(p->value);
	p->name = strndup(p->word, name_size);
	p->value = strdup(op + op_size);
	return p->name && p->value ? err_trace(add_condition(p)) : err_origin(-ENOMEM);
}

static bool is_separator(char c)
{
	return c == ' ' || c == ',' || c == '\t' || c == '\n' || c == '\r';
}

/* To the next separator that is not quoted; NULL if a quote is not closed. */
static const char *end_of_word(const char *text)
{
	bool quoted = false;

	for (; *text && (quoted || !is_separator(*text)); text++) {
		if (*text == '"')
			quoted = !quoted;
		else if (*text == '\\' && quoted && text[1])
			text++;
	}
	return quoted ? NULL : text;
}

static int add_words(struct parser *p, const char *text)
{
	int r = 0;

	while (!r) {
		_cleanup_free_ char *word = NULL;
		const char *end;

		while (is_separator(*text))
			text++;
		if (!*text)
			return 0;
		end = end_of_word(text);
		word = end ? strndup(text, (size_t)(end - text)) : strdup(text);
		if (!word)
			return err_origin(-ENOMEM);
		p->word = word;
		r = end ? add_word(p) : refuse(p, -EINVAL, "a quote is not closed");
		text = end ? end : text;
	}
	return err_trace(r);
}

/* ---- all of it ---- */

static int put_all(struct parser *p, struct buf *json)
{
	const char *separator = "{";
	int r = json_writer_end(p->writer);

	for (int i = 0; !r && i < N_MEMBERS; i++) {
		if (!p->has[i])
			continue;
		r = buf_printf(json, "%s\"%s\":%llu", separator, member_keys[i],
			       (unsigned long long)p->members[i]);
		separator = ",";
	}
	if (!r && p->n_keys)
		r = buf_printf(json, "%s\"meta\":%.*s", separator, (int)p->meta.size,
			       p->meta.data);
	return err_trace(r < 0 ? r : buf_append(json, "}", 1));
}

static bool is_empty(const struct parser *p)
{
	bool any = p->n_keys;

	for (int i = 0; i < N_MEMBERS; i++)
		any |= p->has[i];
	return !any;
}

static int parse(struct parser *p, const char *text)
{
	int r = json_writer_new(&p->writer);

	if (r < 0)
		return err_trace(r);
	json_writer_begin(p->writer, &p->meta);
	r = add_words(p, text);
	/* an empty one is a mistake, and would let everything through */
	if (!r && is_empty(p))
		r = client_error_set(
			p->error, err_origin(-EINVAL),
			"the filter is empty; as age>1h it lets some messages "
			"through");
	return err_trace(r);
}

int filter_to_json(const char *text, struct buf *json, struct client_error *error)
{
	CLEANUP(parser_deinit) struct parser p = { .error = error };
	int r;

	if (!utf8_is_valid(text, strlen(text)))
		return client_error_set(error, err_origin(-EINVAL),
					"the filter is not valid UTF-8");
	r = parse(&p, text);
	if (!r)
		r = put_all(&p, json);
	return r == -ENOMEM ? client_error_set(error, r, "no memory for a filter")
			    : err_trace(r);
}
