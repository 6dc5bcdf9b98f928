/* SPDX-License-Identifier: MIT */

#include "wire/opening.h"

#include <string.h>

#include "base/err.h"
#include "wire/limits.h"

/* ---- reading ---- */

struct scan {
	const char *at, *end;
};

static bool skip(struct scan *s, const char *text, size_t size)
{
	if ((size_t)(s->end - s->at) < size || memcmp(s->at, text, size))
		return false;
	s->at += size;
	return true;
}

#define SKIP(s, text) skip(s, text, sizeof(text) - 1)

/* 1 .. LIMIT_NUMBER_MAX, or 0 .. where zero is allowed, as JSON has it: no zero in front. */
static bool take_number(struct scan *s, bool allow_zero, uint64_t *ret_number)
{
	const char *begin = s->at;
	uint64_t number = 0;

	while (s->at < s->end && *s->at >= '0' && *s->at <= '9' && s->at - begin < 16)
		number = number * 10 + (uint64_t)(*s->at++ - '0');
	if (s->at == begin || (*begin == '0' && s->at - begin > 1) ||
	    number > LIMIT_NUMBER_MAX || (!number && !allow_zero))
		return false;
	*ret_number = number;
	return true;
}

static bool take_hex(struct scan *s, struct opening *opening)
{
	opening->lease = s->at;
	while (s->at < s->end &&
	       ((*s->at >= '0' && *s->at <= '9') || (*s->at >= 'a' && *s->at <= 'f')))
		s->at++;
	opening->lease_size = (size_t)(s->at - opening->lease);
	return opening->lease_size > 0;
}

static bool take_delivery(struct scan *s, struct opening *opening)
{
	return SKIP(s, ",\"lease\":\"") && take_hex(s, opening) &&
	       SKIP(s, "\",\"attempt\":") && take_number(s, true, &opening->attempt) &&
	       SKIP(s, ",\"from\":{");
}

struct opening opening_scan(const char *header, size_t size)
{
	struct scan s = { header, header + size };
	struct opening opening = { OPENING_NONE };
	bool has_size;

	if (!SKIP(&s, "{\"re\":") || !take_number(&s, false, &opening.re))
		return opening;
	has_size = SKIP(&s, ",\"size\":");
	if (has_size && !take_number(&s, true, &opening.size))
		return opening;
	if (!SKIP(&s, ",\"message\":") || !take_number(&s, false, &opening.message))
		return opening;
	if (!has_size && s.end - s.at == 1 && *s.at == '}')
		opening.kind = OPENING_SENT;
	else if (take_delivery(&s, &opening))
		opening.kind = OPENING_DELIVERY;
	return opening;
}

/* ---- writing ---- */

enum {
	TEXTS_MAX = 64, /* all that are not given */
	NUMBERS_MAX = 4 * 20,
	PUT_MAX = TEXTS_MAX + NUMBERS_MAX +
		  LIMIT_NAME_MAX, /* or a lease, which is shorter */
};

static char *put(char *at, const char *text, size_t size)
{
	memcpy(at, text, size);
	return at + size;
}

#define PUT(at, text) put(at, text, sizeof(text) - 1)

static char *put_number(char *at, uint64_t number)
{
	return at + format_u64(at, number);
}

static char *put_delivery(char *at, const struct opening *opening)
{
	at = put_number(PUT(at, ",\"size\":"), opening->size);
	at = put_number(PUT(at, ",\"message\":"), opening->message);
	at = put(PUT(at, ",\"lease\":\""), opening->lease, opening->lease_size);
	return PUT(put_number(PUT(at, "\",\"attempt\":"), opening->attempt), ",");
}

static char *put_sent(char *at, const struct opening *opening)
{
	return PUT(put_number(PUT(at, ",\"message\":"), opening->message), "}");
}

int opening_put(struct buf *out, const struct opening *opening)
{
	int r = buf_reserve(out, PUT_MAX);
	char *at;

	if (r < 0)
		return err_trace(r);
	at = put_number(PUT(out->data + out->size, "{\"re\":"), opening->re);
	at = opening->kind == OPENING_SENT ? put_sent(at, opening)
					   : put_delivery(at, opening);
	out->size = (size_t)(at - out->data);
	return 0;
}

bool opening_is_name(const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		char c = text[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		      (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' ||
		      c == '@'))
			return false;
	}
	return true;
}

int opening_put_send(struct buf *out, uint64_t id, const char *queue, size_t queue_size,
		     uint64_t body_size)
{
	int r = buf_reserve(out, PUT_MAX);
	char *at;

	if (r < 0)
		return err_trace(r);
	at = put_number(PUT(out->data + out->size, "{\"op\":\"send\",\"id\":"), id);
	at = PUT(put(PUT(at, ",\"queue\":\""), queue, queue_size), "\"");
	if (body_size)
		at = put_number(PUT(at, ",\"size\":"), body_size);
	at = PUT(at, "}");
	out->size = (size_t)(at - out->data);
	return 0;
}

int opening_put_ack(struct buf *out, uint64_t message)
{
	int r = buf_reserve(out, PUT_MAX);
	char *at;

	if (r < 0)
		return err_trace(r);
	at = put_number(PUT(out->data + out->size, "{\"op\":\"ack\",\"message\":"),
			message);
	out->size = (size_t)(PUT(at, "}") - out->data);
	return 0;
}
