/* SPDX-License-Identifier: MIT */

/* The reading half of json.h. What yajl lets pass and we do not, is found before it runs
 * (bad UTF-8, lone surrogates, odd white space) or after it (text behind the object). */

#include "wire/json.h"

#include <stdio.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "base/err.h"
#include "base/utf8.h"
#include "wire/json_arena.h"
#include "wire/limits.h"

enum { STRINGS_MIN = 256, TAPE_MIN = 64, YAJL_OVERHEAD = 16384 };

struct json {
	yajl_handle yajl; /* of the parse under way */
	struct arena arena;
	bool allow_comments;
	size_t text_max;

	const char *text;
	size_t text_size;
	struct json_value *tape;
	uint32_t n, capacity;
	struct buf strings; /* decoded strings, one after the other */
	uint32_t open[LIMIT_JSON_DEPTH_MAX];
	unsigned int depth;
	uint32_t *sorted; /* scratch of the check for duplicate keys */
	size_t sorted_capacity;
	int failure;	 /* -errno of a callback that stopped the parse */
	size_t error_at; /* SIZE_MAX: nowhere in particular */
	char error[160];
};

static void json_fail(struct json *j, int failure, const char *why)
{
	j->failure = failure;
	if (!j->error[0])
		snprintf(j->error, sizeof(j->error), "%s", why);
}

static struct json_value *json_add(struct json *j, enum json_type type)
{
	struct json_value *v;

	if (!j->depth && type != JSON_OBJECT) {
		json_fail(j, -EBADMSG, "it is not an object");
		return NULL;
	}
	if (j->n == j->capacity) {
		uint32_t capacity = j->capacity ? j->capacity * 2 : TAPE_MIN;

		v = realloc(j->tape, capacity * sizeof(*v));
		if (!v) {
			json_fail(j, -ENOMEM, "no memory");
			return NULL;
		}
		j->tape = v;
		j->capacity = capacity;
	}
	if (j->depth && j->tape[j->open[j->depth - 1]].type == JSON_ARRAY)
		j->tape[j->open[j->depth - 1]].n_members++;
	v = &j->tape[j->n++];
	*v = (struct json_value){ .type = (uint8_t)type, .next = j->n };
	return v;
}

static int on_null(void *ctx)
{
	return json_add(ctx, JSON_NULL) != NULL;
}

static int on_boolean(void *ctx, int value)
{
	return json_add(ctx, value ? JSON_TRUE : JSON_FALSE) != NULL;
}

static bool parse_int64(const char *text, size_t size, int64_t *ret_value)
{
	enum { DIGITS_MAX = 19 }; /* and none in front that is zero: 64 bits are enough */
	bool negative = size && text[0] == '-';
	uint64_t value = 0;

	if (size - negative > DIGITS_MAX)
		return false;
	for (size_t i = negative; i < size; i++) {
		unsigned int digit = (unsigned char)text[i] - (unsigned int)'0';

		if (digit > 9)
			return false;
		value = value * 10 + digit;
	}
	if (value > (uint64_t)INT64_MAX + negative)
		return false;
	*ret_value = (int64_t)(negative ? 0 - value : value);
	return true;
}

static int on_number(void *ctx, const char *text, size_t size)
{
	struct json *j = ctx;
	struct json_value *v = json_add(j, JSON_NUMBER);

	if (!v)
		return 0;
	if (text >= j->text && text < j->text + j->text_size) {
		v->offset = (uint32_t)(text - j->text);
		v->size = (uint32_t)size;
	}
	if (parse_int64(text, size, &v->integer))
		v->type = JSON_INTEGER;
	return 1;
}

static int on_string(void *ctx, const unsigned char *text, size_t size)
{
	struct json *j = ctx;
	struct json_value *v = json_add(j, JSON_STRING);
	const char *p = (const char *)text;

	if (!v)
		return 0;
	v->size = (uint32_t)size;
	if (p >= j->text && p < j->text + j->text_size) {
		v->offset = (uint32_t)(p - j->text);
		return 1;
	}
	v->decoded = true;
	v->offset = (uint32_t)j->strings.size;
	if (buf_append(&j->strings, p, size) < 0) {
		json_fail(j, -ENOMEM, "no memory");
		return 0;
	}
	return 1;
}

static int on_key(void *ctx, const unsigned char *text, size_t size)
{
	struct json *j = ctx;

	if (!on_string(ctx, text, size))
		return 0;
	j->tape[j->open[j->depth - 1]].n_members++;
	return 1;
}

static int on_open(struct json *j, enum json_type type)
{
	struct json_value *v;

	if (j->depth == LIMIT_JSON_DEPTH_MAX) {
		char why[64];

		snprintf(why, sizeof(why), "it is nested deeper than %d levels",
			 LIMIT_JSON_DEPTH_MAX);
		json_fail(j, -EBADMSG, why);
		return 0;
	}
	v = json_add(j, type);
	if (!v)
		return 0;
	v->offset = (uint32_t)yajl_get_bytes_consumed(j->yajl) - 1;
	j->open[j->depth++] = j->n - 1;
	return 1;
}

static int compare_strings(const struct json *j, uint32_t a, uint32_t b)
{
	const struct json_value *x = &j->tape[a], *y = &j->tape[b];
	int c = memcmp(json_text(j, x), json_text(j, y), min_size(x->size, y->size));

	return c ? c : (x->size > y->size) - (x->size < y->size);
}

static int compare_keys(const void *a, const void *b, void *ctx)
{
	return compare_strings(ctx, *(const uint32_t *)a, *(const uint32_t *)b);
}

/* The text goes into one line of a log or a reply: it names the key if that is short. */
static void fail_twice(struct json *j, const struct json_value *key)
{
	enum { SHORT = 64 };
	char why[SHORT + 64];

	if (key->size > SHORT)
		snprintf(why, sizeof(why), "a key stands twice in one object");
	else
		snprintf(why, sizeof(why), "the key \"%.*s\" stands twice in one object",
			 (int)key->size, json_text(j, key));
	json_fail(j, -EBADMSG, why);
}

/* Few keys are compared each with each, many are sorted: never quadratic in the text. */
static bool keys_are_unique(struct json *j, const struct json_value *object)
{
	enum { FEW = 8 };
	uint32_t n = object->n_members, at = (uint32_t)(object - j->tape) + 1;
	uint32_t few[FEW], *keys = few;

	if (n > FEW) {
		if (n > j->sorted_capacity) {
			uint32_t *grown = realloc(j->sorted, n * sizeof(*grown));

			if (!grown) {
				json_fail(j, -ENOMEM, "no memory");
				return false;
			}
			j->sorted = grown;
			j->sorted_capacity = n;
		}
		keys = j->sorted;
	}
	for (uint32_t i = 0; i < n; i++) {
		keys[i] = at;
		at = j->tape[at + 1].next;
	}
	if (n > FEW)
		qsort_r(keys, n, sizeof(*keys), compare_keys, j);
	for (uint32_t i = 1; i < n; i++)
		for (uint32_t k = n > FEW ? i - 1 : 0; k < i; k++)
			if (j->tape[keys[i]].size == j->tape[keys[k]].size &&
			    !compare_strings(j, keys[i], keys[k])) {
				fail_twice(j, &j->tape[keys[i]]);
				return false;
			}
	return true;
}

static int on_close(void *ctx)
{
	struct json *j = ctx;
	struct json_value *v = &j->tape[j->open[--j->depth]];

	v->size = (uint32_t)yajl_get_bytes_consumed(j->yajl) - v->offset;
	v->next = j->n;
	return v->type == JSON_ARRAY || keys_are_unique(j, v);
}

static int on_open_object(void *ctx)
{
	return on_open(ctx, JSON_OBJECT);
}

static int on_open_array(void *ctx)
{
	return on_open(ctx, JSON_ARRAY);
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_boolean,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_open_object,
	.yajl_map_key = on_key,
	.yajl_end_map = on_close,
	.yajl_start_array = on_open_array,
	.yajl_end_array = on_close,
};

int json_new(struct json **ret_json, size_t text_max, bool allow_comments)
{
	CLEANUP(json_freep) struct json *j = calloc(1, sizeof(*j));

	if (!j)
		return err_origin(-ENOMEM);
	j->allow_comments = allow_comments;
	j->text_max = text_max;
	/* yajl doubles its growing buffers: all their sizes together stay under 8 texts;
	 * untouched pages of this cost nothing */
	j->arena.size = YAJL_OVERHEAD + 8 * text_max;
	j->arena.base = malloc(j->arena.size);
	if (!j->arena.base || buf_reserve(&j->strings, STRINGS_MIN) < 0)
		return err_origin(-ENOMEM);
	*ret_json = TAKE_PTR(j);
	return 0;
}

struct json *json_free(struct json *j)
{
	if (j) {
		free(j->arena.base);
		free(j->tape);
		free(j->sorted);
		buf_deinit(&j->strings);
		free(j);
	}
	return NULL;
}

static bool parse_hex4(const char *p, const char *end, unsigned int *ret_unit)
{
	unsigned int unit = 0;

	if (end - p < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		char c = p[i];

		if (c >= '0' && c <= '9')
			unit = unit << 4 | (unsigned int)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			unit = unit << 4 | (unsigned int)((c | 0x20) - 'a' + 10);
		else
			return false;
	}
	*ret_unit = unit;
	return true;
}

/* The end of the comment that begins at p; NULL if none does, or it does not end. */
static const char *skip_comment(const char *p, const char *end)
{
	const char *last;

	if (end - p < 2 || p[0] != '/')
		return NULL;
	if (p[1] == '/') {
		last = memchr(p, '\n', (size_t)(end - p));
		return last ? last + 1 : end;
	}
	if (p[1] != '*')
		return NULL;
	last = memmem(p + 2, (size_t)(end - p) - 2, "*/", 2);
	return last ? last + 2 : NULL;
}

/* The next backslash of a string. Elsewhere yajl refuses one, but not in a comment. */
static const char *next_escape(const struct json *j, const char *p, const char *end,
			       bool *in_string)
{
	if (!j->allow_comments)
		return memchr(p, '\\', (size_t)(end - p));
	while (p && p < end) {
		if (*in_string && *p == '\\')
			return p;
		if (!*in_string && *p == '/') {
			p = skip_comment(p, end);
			continue;
		}
		if (*p == '"')
			*in_string = !*in_string;
		p++;
	}
	return NULL;
}

/* yajl lets lone surrogates and \u0000 pass. */
static const char *find_bad_escape(struct json *j)
{
	const char *p = j->text, *end = p + j->text_size;
	bool in_string = false;

	while ((p = next_escape(j, p, end, &in_string))) {
		unsigned int unit;

		j->error_at = (size_t)(p - j->text);
		if (end - p < 2 || p[1] != 'u') {
			p += min_size(2, (size_t)(end - p));
			continue;
		}
		if (!parse_hex4(p + 2, end, &unit))
			return "a \\u escape needs four hex digits";
		p += 6;
		if (unit == 0)
			return "\\u0000 is not allowed in a string";
		if (unit < 0xd800 || unit > 0xdfff)
			continue;
		if (unit >= 0xdc00 || end - p < 2 || p[0] != '\\' || p[1] != 'u' ||
		    !parse_hex4(p + 2, end, &unit) || unit < 0xdc00 || unit > 0xdfff)
			return "a lone surrogate is not allowed in a string";
		p += 6;
	}
	return NULL;
}

/* The first such byte, if there is one. */
static bool find_byte(struct json *j, char byte)
{
	const char *at = memchr(j->text, byte, j->text_size);

	if (at)
		j->error_at = (size_t)(at - j->text);
	return at != NULL;
}

/* No character goes on behind the end of a line. */
static void note_bad_utf8(struct json *j)
{
	const char *p = j->text, *end = p + j->text_size, *next;

	for (; p < end; p = next) {
		next = memchr(p, '\n', (size_t)(end - p));
		next = next ? next + 1 : end;
		if (!utf8_is_valid(p, (size_t)(next - p)))
			break;
	}
	j->error_at = (size_t)(p - j->text);
}

/* What yajl would let pass; NULL if there is nothing of it. */
static const char *find_bad_text(struct json *j)
{
	if (!j->text_size)
		return "it is empty";
	if (j->text_size > j->text_max)
		return "it is too long";
	if (!utf8_is_valid(j->text, j->text_size)) {
		note_bad_utf8(j);
		return "it is not valid UTF-8";
	}
	if (find_byte(j, '\v') || find_byte(j, '\f'))
		return "there is a control character in it";
	return find_bad_escape(j);
}

/* A token behind the object that the end of the text cuts (a number, an open string) is
 * never seen by yajl. */
static bool rest_is_blank(const struct json *j)
{
	const char *p = j->text + j->tape[0].offset + j->tape[0].size;
	const char *end = j->text + j->text_size;

	while (p && p < end) {
		if (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
			p++;
		else
			p = j->allow_comments ? skip_comment(p, end) : NULL;
	}
	return p != NULL;
}

static void note_yajl_error(struct json *j)
{
	/* freed with the arena */
	unsigned char *why = yajl_get_error(j->yajl, 0, NULL, 0);
	size_t at = yajl_get_bytes_consumed(j->yajl);

	why[strcspn((char *)why, "\n")] = '\0';
	j->error_at = at;
	snprintf(j->error, sizeof(j->error), "%.100s near byte %zu", (char *)why, at);
	j->failure = -EBADMSG;
}

/* Each text gets a yajl of its own: what one leaves behind must not meet the next, which
 * may be another peer's. In the arena this costs next to nothing. */
static yajl_status run_yajl(struct json *j)
{
	yajl_alloc_funcs funcs = arena_funcs(&j->arena);

	j->arena.used = 0;
	j->yajl = yajl_alloc(&callbacks, &funcs, j);
	yajl_config(j->yajl, yajl_allow_comments, j->allow_comments ? 1 : 0);
	/* ours is stricter: utf8.h */
	yajl_config(j->yajl, yajl_dont_validate_strings, 1);
	return yajl_parse(j->yajl, (const unsigned char *)j->text, j->text_size);
}

int json_parse(struct json *j, const char *text, size_t size)
{
	const char *why;

	j->text = text;
	j->text_size = size;
	j->n = j->depth = 0;
	j->strings.size = 0;
	j->failure = 0;
	j->error[0] = '\0';
	j->error_at = SIZE_MAX;

	why = find_bad_text(j);
	if (why) {
		json_fail(j, -EBADMSG, why);
		return err_origin(-EBADMSG);
	}
	switch (run_yajl(j)) {
	case yajl_status_ok:
		j->error_at = j->text_size;
		if (!j->n || j->depth) {
			json_fail(j, -EBADMSG, "it ends too early");
		} else if (!rest_is_blank(j)) {
			j->error_at = j->tape[0].offset + j->tape[0].size;
			json_fail(j, -EBADMSG, "something follows the object");
		}
		break;
	case yajl_status_error:
		note_yajl_error(j);
		break;
	case yajl_status_client_canceled: /* json_fail() was called */
		j->error_at = yajl_get_bytes_consumed(j->yajl);
		break;
	}
	return err_origin(j->failure);
}

const char *json_error(const struct json *j)
{
	return j->error;
}

static size_t line_of(const struct json *j, size_t offset)
{
	size_t line = 1;

	for (size_t i = 0; i < offset && i < j->text_size; i++)
		line += j->text[i] == '\n';
	return line;
}

size_t json_error_line(const struct json *j)
{
	size_t at = j->error_at;

	if (at == SIZE_MAX)
		return 0;
	/* at the end of the text: its last line, not the empty one behind it */
	at -= at == j->text_size && at && j->text[at - 1] == '\n';
	return line_of(j, at);
}

/* Numbers, words and decoded strings do not know their place: what stands before them does. */
size_t json_line(const struct json *j, uint32_t i)
{
	while (i && (j->tape[i].type < JSON_STRING || j->tape[i].decoded))
		i--;
	return line_of(j, j->tape[i].offset);
}

const struct json_value *json_at(const struct json *j, uint32_t i)
{
	return &j->tape[i];
}

const char *json_text(const struct json *j, const struct json_value *v)
{
	return (v->decoded ? j->strings.data : j->text) + v->offset;
}

uint32_t json_member(const struct json *j, uint32_t object, const char *key)
{
	size_t size = strlen(key);
	uint32_t at = object + 1;

	for (uint32_t i = 0; i < j->tape[object].n_members; i++) {
		const struct json_value *v = &j->tape[at];

		if (v->size == size && !memcmp(json_text(j, v), key, size))
			return at + 1;
		at = j->tape[at + 1].next;
	}
	return 0;
}

const char *json_type_name(enum json_type type)
{
	static const char *const names[] = {
		[JSON_NULL] = "null",
		[JSON_FALSE] = "false",
		[JSON_TRUE] = "true",
		[JSON_INTEGER] = "an integer",
		[JSON_NUMBER] = "a number that is no exact 64-bit integer",
		[JSON_STRING] = "a string",
		[JSON_OBJECT] = "an object",
		[JSON_ARRAY] = "an array",
	};

	return names[type];
}
