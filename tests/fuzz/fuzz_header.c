/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as a header. The parser is held against a second one, written here in the
 * plainest way from RFC 8259 and the protocol: both accept the same texts. What is accepted
 * is read the same by a parser that was used before and by a fresh one, and written out and
 * read again is the same. A plain one says what the parser says.
 */

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "wire/header.h"
#include "wire/plain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                        \
		}                                                                       \
	} while (0)

/* ---- the plain parser: does it accept? ---- */

struct text {
	const char *p, *end;
	int depth;
};

static bool take(struct text *t, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(t->end - t->p) < n || memcmp(t->p, word, n) != 0)
		return false;
	t->p += n;
	return true;
}

static void skip_blank(struct text *t)
{
	while (t->p < t->end &&
	       (*t->p == ' ' || *t->p == '\t' || *t->p == '\n' || *t->p == '\r'))
		t->p++;
}

static bool take_digits(struct text *t)
{
	const char *begin = t->p;

	while (t->p < t->end && *t->p >= '0' && *t->p <= '9')
		t->p++;
	return t->p > begin;
}

static bool take_number(struct text *t)
{
	take(t, "-");
	if (!take(t, "0") && !take_digits(t))
		return false;
	if (take(t, ".") && !take_digits(t))
		return false;
	if (take(t, "e") || take(t, "E")) {
		if (!take(t, "+"))
			take(t, "-");
		return take_digits(t);
	}
	return true;
}

/* The four digits of a \u, or -1. */
static int take_unit(struct text *t)
{
	int unit = 0;

	if (!take(t, "\\u") || t->end - t->p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		const char *digits = "0123456789abcdefABCDEF";
		const char *d = *t->p ? strchr(digits, *t->p++) : NULL;

		if (!d)
			return -1;
		unit = unit * 16 + (int)(d - digits < 16 ? d - digits : d - digits - 6);
	}
	return unit;
}

static void put_point(struct buf *out, int c)
{
	char t[4];
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (size_t i = n - 1; i; i--, c >>= 6)
		t[i] = (char)(0x80 | (c & 0x3f));
	t[0] = (char)(n == 1 ? c : (0xf00 >> n & 0xff) | c);
	CHECK(buf_append(out, t, n) == 0);
}

static bool take_escape(struct text *t, struct buf *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *known = t->end - t->p > 1 && t->p[1] ? strchr(from, t->p[1]) : NULL;
	int unit, low;

	if (known) {
		t->p += 2;
		put_point(out, to[known - from]);
		return true;
	}
	unit = take_unit(t);
	if (unit <= 0 || (unit >= 0xdc00 && unit <= 0xdfff))
		return false;
	if (unit >= 0xd800 && unit <= 0xdbff) {
		low = take_unit(t);
		if (low < 0xdc00 || low > 0xdfff)
			return false;
		unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
	}
	put_point(out, unit);
	return true;
}

static bool take_string(struct text *t, struct buf *out)
{
	if (!take(t, "\""))
		return false;
	while (t->p < t->end && *t->p != '"') {
		if ((unsigned char)*t->p < 0x20)
			return false;
		if (*t->p == '\\') {
			if (!take_escape(t, out))
				return false;
		} else {
			CHECK(buf_append(out, t->p++, 1) == 0);
		}
	}
	return take(t, "\"");
}

static bool take_value(struct text *t);

/* Keys lie in one buffer, each with its size in front. */
static bool is_known_key(const struct buf *keys, const struct buf *key)
{
	size_t size;

	for (size_t at = 0; at < keys->size; at += sizeof(size) + size) {
		memcpy(&size, keys->data + at, sizeof(size));
		if (size == key->size &&
		    (!size || !memcmp(keys->data + at + sizeof(size), key->data, size)))
			return true;
	}
	return false;
}

static bool take_member(struct text *t, struct buf *keys)
{
	_cleanup_buf_ struct buf key = BUF_INIT;

	skip_blank(t);
	if (!take_string(t, &key) || is_known_key(keys, &key))
		return false;
	CHECK(buf_append(keys, &key.size, sizeof(key.size)) == 0);
	CHECK(buf_append(keys, key.data, key.size) == 0);
	skip_blank(t);
	return take(t, ":") && take_value(t);
}

/* What stands between the brackets, which are taken, too. */
static bool take_list(struct text *t, const char *close, bool object)
{
	_cleanup_buf_ struct buf keys = BUF_INIT;

	skip_blank(t);
	if (take(t, close))
		return true;
	for (;;) {
		if (object ? !take_member(t, &keys) : !take_value(t))
			return false;
		skip_blank(t);
		if (take(t, close))
			return true;
		if (!take(t, ","))
			return false;
	}
}

static bool take_value(struct text *t)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	bool good;

	skip_blank(t);
	if (t->p < t->end && *t->p == '"')
		return take_string(t, &text);
	if (take(t, "{") || take(t, "[")) {
		bool object = t->p[-1] == '{';

		if (t->depth == LIMIT_JSON_DEPTH_MAX)
			return false;
		t->depth++;
		good = take_list(t, object ? "}" : "]", object);
		t->depth--;
		return good;
	}
	return take(t, "true") || take(t, "false") || take(t, "null") || take_number(t);
}

static bool plain_accepts(const char *text, size_t size)
{
	struct text t = { text, text + size, 0 };

	if (!utf8_is_valid(text, size))
		return false;
	skip_blank(&t);
	if (t.p == t.end || *t.p != '{' || !take_value(&t))
		return false;
	skip_blank(&t);
	return t.p == t.end;
}

/* ---- two tapes are the same ---- */

static void check_same_value(const struct json *a, const struct json_value *x,
			     const struct json *b, const struct json_value *y, bool raw)
{
	CHECK(x->type == y->type && x->next == y->next);
	switch (x->type) {
	case JSON_INTEGER:
		CHECK(x->integer == y->integer);
		break;
	case JSON_OBJECT:
	case JSON_ARRAY:
		CHECK(x->n_members == y->n_members);
		if (!raw)
			break;
		/* fall through */
	case JSON_STRING:
		CHECK(x->size == y->size);
		CHECK(!x->size || !memcmp(json_text(a, x), json_text(b, y), x->size));
		break;
	default:
		break;
	}
}

/* raw: also the text of containers, white space and all */
static void check_same(const struct json *a, const struct json *b, bool raw)
{
	uint32_t n = json_at(a, 0)->next;

	for (uint32_t i = 0; i < n; i++)
		check_same_value(a, json_at(a, i), b, json_at(b, i), raw);
}

static void check_tape(const struct json *j, const char *text, size_t size)
{
	uint32_t n = json_at(j, 0)->next;

	for (uint32_t i = 0; i < n; i++) {
		const struct json_value *v = json_at(j, i);

		CHECK(v->next > i && v->next <= n);
		if (v->type == JSON_STRING) {
			CHECK(utf8_is_valid(json_text(j, v), v->size));
			CHECK(!memchr(json_text(j, v), '\0', v->size));
		}
		if (v->type == JSON_OBJECT || v->type == JSON_ARRAY) {
			const char *raw = json_text(j, v);

			CHECK(raw >= text && raw + v->size <= text + size &&
			      v->size >= 2);
			CHECK(raw[0] == (v->type == JSON_OBJECT ? '{' : '['));
			CHECK(raw[v->size - 1] == (v->type == JSON_OBJECT ? '}' : ']'));
		}
	}
}

/* ---- written and read again ---- */

static uint32_t write_value(struct json_writer *w, const struct json *j, uint32_t i,
			    const char *key);

static uint32_t write_members(struct json_writer *w, const struct json *j, uint32_t i)
{
	const struct json_value *v = json_at(j, i);
	uint32_t at = i + 1;

	for (uint32_t k = 0; k < v->n_members; k++) {
		if (v->type == JSON_OBJECT) {
			const struct json_value *name = json_at(j, at);
			char *key = strndup(json_text(j, name), name->size);

			CHECK(key);
			at = write_value(w, j, at + 1, key);
			free(key);
		} else {
			at = write_value(w, j, at, NULL);
		}
	}
	return at;
}

static uint32_t write_value(struct json_writer *w, const struct json *j, uint32_t i,
			    const char *key)
{
	const struct json_value *v = json_at(j, i);

	if (v->type == JSON_STRING)
		json_put_string(w, key, json_text(j, v), v->size);
	else if (v->type == JSON_INTEGER)
		json_put_i64(w, key, v->integer);
	else if (v->type == JSON_TRUE || v->type == JSON_FALSE)
		json_put_bool(w, key, v->type == JSON_TRUE);
	else if (v->type == JSON_NUMBER)
		json_put_raw(w, key, "0.5", 3);
	else if (v->type == JSON_NULL)
		json_put_raw(w, key, "null", 4);
	if (v->type != JSON_OBJECT && v->type != JSON_ARRAY)
		return i + 1;
	if (v->type == JSON_OBJECT)
		json_put_object(w, key);
	else
		json_put_array(w, key);
	i = write_members(w, j, i);
	json_put_end(w);
	return i;
}

static void check_round_trip(const struct json *j, struct json *other)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct json_writer *w;

	CHECK(json_writer_new(&w) == 0);
	json_writer_begin(w, &out);
	write_members(w, j, 0);
	CHECK(json_writer_end(w) == 0);
	json_writer_free(w);
	CHECK(json_parse(other, out.data, out.size) == 0);
	check_same(j, other, false);
}

/* ---- the getters ---- */

static void ask_all(const struct header *h)
{
	for (int i = 0; i < KEY_N; i++) {
		enum header_key key = (enum header_key)i;
		struct fault fault;
		uint64_t number = 7;
		bool truth;
		const char *text;
		size_t size;
		uint32_t index, n;

		int r = header_get_u64(h, key, 1, 1000, &number, &fault);

		CHECK(r == 1 ? number >= 1 && number <= 1000 : number == 7);
		CHECK((r == 0) == !header_has(h, key));
		r = header_get_string(h, key, 1, 10, &text, &size, &fault);
		CHECK(r != 1 || (size >= 1 && size <= 10 && utf8_is_valid(text, size)));
		r = header_get_object(h, key, 100, &text, &size, &fault);
		CHECK(r != 1 || (size <= 100 && plain_accepts(text, size)));
		r = header_get_array(h, key, 5, &index, &n, &fault);
		CHECK(r != 1 || (n >= 1 && n <= 5));
		CHECK(header_get_ms(h, key, true, &number, &fault) <= 1);
		CHECK(header_get_bool(h, key, &truth, &fault) <= 1);
		if (r < 0)
			CHECK(utf8_is_valid(fault.text, strlen(fault.text)));
	}
}

static void check_number(const struct header *h, enum header_key key, uint64_t expected)
{
	struct fault fault;
	uint64_t number = 0;

	CHECK(header_get_u64(h, key, 0, LIMIT_NUMBER_MAX, &number, &fault) >= 0);
	CHECK(number == expected);
}

static void check_string(const struct header *h, enum header_key key, const char *text,
			 size_t size)
{
	const char *found = NULL;
	size_t found_size = 0;
	struct fault fault;

	CHECK(header_get_string(h, key, 0, LIMIT_HEADER_MAX, &found, &found_size,
				&fault) == 1);
	CHECK(found_size == size && (!size || !memcmp(found, text, size)));
}

static void check_plain(const struct header *h, const struct plain *p)
{
	check_number(h, KEY_RE, p->re);
	check_number(h, KEY_SIZE, p->size);
	check_number(h, KEY_MESSAGE, p->message);
	check_number(h, KEY_ATTEMPT, p->attempt);
	CHECK(json_at(h->json, 0)->n_members == (p->kind == PLAIN_SENT ? 2 : 7));
	if (p->kind == PLAIN_SENT)
		return;
	check_string(h, KEY_LEASE, p->lease, p->lease_size);
	check_string(h, KEY_QUEUE, p->queue, p->queue_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct json *used, *commented;
	const char *text = (const char *)data;
	struct plain plain;
	struct header header;
	struct json *fresh;
	int r;

	if (!used)
		CHECK(!json_new(&used, LIMIT_HEADER_MAX, false) &&
		      !json_new(&commented, LIMIT_HEADER_MAX, true));
	if (size > LIMIT_HEADER_MAX)
		return 0;
	CHECK(json_new(&fresh, LIMIT_HEADER_MAX, false) == 0);

	r = header_parse(&header, used, text, size);
	CHECK(r == 0 || r == -EBADMSG);
	CHECK(json_parse(fresh, text, size) == r);
	CHECK(!strcmp(json_error(used), json_error(fresh)));
	CHECK((r == 0) == plain_accepts(text, size));
	plain = plain_scan(text, size);
	CHECK(r == 0 || !plain.kind);
	if (plain.kind)
		check_plain(&header, &plain);
	if (r == 0) {
		check_tape(used, text, size);
		check_same(used, fresh, true);
		ask_all(&header);
		CHECK(json_parse(commented, text, size) == 0);
		check_same(used, commented, true);
		check_round_trip(used, fresh);
	} else if (json_parse(commented, text, size) == 0) {
		check_tape(commented, text, size);
	}
	json_free(fresh);
	return 0;
}
