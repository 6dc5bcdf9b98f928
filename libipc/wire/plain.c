/* SPDX-License-Identifier: MIT */

#include "wire/plain.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "wire/limits.h"

/* ---- reading ---- */

struct scan {
	const char *at, *end;
};

static bool skip(struct scan *s, const char *text, size_t size)
{
	if ((size_t)(s->end - s->at) < size || memcmp(s->at, text, size) != 0)
		return false;
	s->at += size;
	return true;
}

#define SKIP(s, text) skip(s, text, sizeof(text) - 1)

/* min .. max, which is below 10^16, as JSON has it: no zero in front. */
static bool take_number(struct scan *s, uint64_t min, uint64_t max, uint64_t *ret_number)
{
	enum { DIGITS_MAX = 16 };
	const char *begin = s->at;
	uint64_t number = 0;

	while (s->at < s->end && *s->at >= '0' && *s->at <= '9' &&
	       s->at - begin < DIGITS_MAX)
		number = number * 10 + (uint64_t)(*s->at++ - '0');
	if (s->at == begin || (*begin == '0' && s->at - begin > 1) || number < min ||
	    number > max)
		return false;
	*ret_number = number;
	return true;
}

/* Up to the quote that ends it, which is taken, too. Bytes beyond ASCII would have to be
 * checked. */
static bool take_text(struct scan *s, const char **ret_text, size_t *ret_size)
{
	const char *begin = s->at;

	while (s->at < s->end && *s->at >= ' ' && *s->at < 0x7f && *s->at != '"' &&
	       *s->at != '\\')
		s->at++;
	*ret_text = begin;
	*ret_size = (size_t)(s->at - begin);
	return SKIP(s, "\"");
}

static bool take_from(struct scan *s, struct plain *p)
{
	return SKIP(s, ",\"from\":{\"uid\":") && take_number(s, 0, UINT32_MAX, &p->uid) &&
	       SKIP(s, ",\"gid\":") && take_number(s, 0, UINT32_MAX, &p->gid) &&
	       SKIP(s, ",\"pid\":") && take_number(s, 0, INT32_MAX, &p->pid) &&
	       SKIP(s, ",\"user\":\"") && take_text(s, &p->user, &p->user_size) &&
	       SKIP(s, "}");
}

static bool take_delivery(struct scan *s, struct plain *p)
{
	return SKIP(s, ",\"size\":") && take_number(s, 0, LIMIT_NUMBER_MAX, &p->size) &&
	       SKIP(s, ",\"message\":") &&
	       take_number(s, 1, LIMIT_NUMBER_MAX, &p->message) &&
	       SKIP(s, ",\"lease\":\"") && take_text(s, &p->lease, &p->lease_size) &&
	       SKIP(s, ",\"attempt\":") &&
	       take_number(s, 0, LIMIT_NUMBER_MAX, &p->attempt) && take_from(s, p) &&
	       SKIP(s, ",\"queue\":\"") && take_text(s, &p->queue, &p->queue_size);
}

static bool take_sent(struct scan *s, struct plain *p)
{
	return SKIP(s, ",\"message\":") &&
	       take_number(s, 1, LIMIT_NUMBER_MAX, &p->message);
}

static bool is_at_end(const struct scan *s)
{
	return s->end - s->at == 1 && *s->at == '}';
}

struct plain plain_scan(const char *header, size_t size)
{
	struct scan s = { header, header + size }, start;
	struct plain p = { .kind = PLAIN_NONE };

	if (!SKIP(&s, "{\"re\":") || !take_number(&s, 1, LIMIT_NUMBER_MAX, &p.re))
		return p;
	start = s;
	if (take_sent(&s, &p) && is_at_end(&s)) {
		p.kind = PLAIN_SENT;
		return p;
	}
	s = start;
	if (take_delivery(&s, &p) && is_at_end(&s))
		p.kind = PLAIN_DELIVERY;
	return p;
}

/* ---- writing ---- */

enum {
	TEXTS_MAX = 64, /* all that are not given */
	NUMBERS_MAX = 4 * 20,
	PUT_MAX = TEXTS_MAX + NUMBERS_MAX + LIMIT_NAME_MAX, /* or a lease */
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

/* Where it is to be written, with room; NULL without memory. */
static char *begin_put(struct buf *out)
{
	return buf_reserve(out, PUT_MAX) < 0 ? NULL : out->data + out->size;
}

static int end_put(struct buf *out, const char *at)
{
	out->size = (size_t)(at - out->data);
	return 0;
}

int plain_put_sent(struct buf *out, uint64_t re, uint64_t message)
{
	char *at = begin_put(out);

	if (!at)
		return err_origin(-ENOMEM);
	at = put_number(PUT(at, "{\"re\":"), re);
	at = put_number(PUT(at, ",\"message\":"), message);
	return end_put(out, PUT(at, "}"));
}

int plain_put_delivery(struct buf *out, const struct plain *delivery)
{
	char *at = begin_put(out);

	assert(delivery->lease_size <= LIMIT_NAME_MAX);
	if (!at)
		return err_origin(-ENOMEM);
	at = put_number(PUT(at, "{\"re\":"), delivery->re);
	at = put_number(PUT(at, ",\"size\":"), delivery->size);
	at = put_number(PUT(at, ",\"message\":"), delivery->message);
	at = put(PUT(at, ",\"lease\":\""), delivery->lease, delivery->lease_size);
	at = put_number(PUT(at, "\",\"attempt\":"), delivery->attempt);
	return end_put(out, PUT(at, ","));
}

bool plain_is_name(const char *text, size_t size)
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

int plain_put_send(struct buf *out, uint64_t id, const char *queue, size_t queue_size,
		   uint64_t body_size)
{
	char *at = begin_put(out);

	assert(queue_size <= LIMIT_NAME_MAX);
	if (!at)
		return err_origin(-ENOMEM);
	at = put_number(PUT(at, "{\"op\":\"send\",\"id\":"), id);
	at = PUT(put(PUT(at, ",\"queue\":\""), queue, queue_size), "\"");
	if (body_size)
		at = put_number(PUT(at, ",\"size\":"), body_size);
	return end_put(out, PUT(at, "}"));
}

int plain_put_ack(struct buf *out, uint64_t message)
{
	char *at = begin_put(out);

	if (!at)
		return err_origin(-ENOMEM);
	at = put_number(PUT(at, "{\"op\":\"ack\",\"message\":"), message);
	return end_put(out, PUT(at, "}"));
}
