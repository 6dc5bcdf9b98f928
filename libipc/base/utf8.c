/* SPDX-License-Identifier: MIT */

#include "base/utf8.h"

#include <string.h>

#include "base/err.h"

/* Length of the valid sequence at p (1..4) and its code point, 0 if there is none. */
static size_t utf8_decode(const unsigned char *p, size_t left, uint32_t *ret_point)
{
	uint32_t point;
	size_t n;

	if (p[0] < 0x80) {
		*ret_point = p[0];
		return 1;
	}
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		n = 2, point = p[0] & 0x1fu;
	else if ((p[0] & 0xf0) == 0xe0)
		n = 3, point = p[0] & 0x0fu;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		n = 4, point = p[0] & 0x07u;
	else
		return 0;
	if (left < n)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (p[i] & 0x3fu);
	}
	if (n == 3 && (point < 0x800 || (point >= 0xd800 && point <= 0xdfff)))
		return 0;
	if (n == 4 && (point < 0x10000 || point > 0x10ffff))
		return 0;
	*ret_point = point;
	return n;
}

bool utf8_is_valid(const void *data, size_t size)
{
	const unsigned char *p = data, *end = p + size;
	uint64_t word;
	uint32_t point;

	while (p < end) {
		size_t n;

		if (end - p >= 8) {
			memcpy(&word, p, 8);
			if (!(word & 0x8080808080808080u)) {
				p += 8;
				continue;
			}
		}
		n = utf8_decode(p, (size_t)(end - p), &point);
		if (!n)
			return false;
		p += n;
	}
	return true;
}

static bool is_unsafe(uint32_t point)
{
	return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == '\\' ||
	       point == 0x200e || point == 0x200f || point == 0x061c ||
	       (point >= 0x2028 && point <= 0x202e) ||
	       (point >= 0x2066 && point <= 0x2069);
}

int utf8_append_escaped(struct buf *out, const void *data, size_t size)
{
	const unsigned char *p = data, *end = p + size;

	while (p < end) {
		uint32_t point;
		size_t n = utf8_decode(p, (size_t)(end - p), &point);
		int r;

		if (!n)
			n = 1, r = buf_printf(out, "\\x%02x", p[0]);
		else if (!is_unsafe(point))
			r = buf_append(out, p, n);
		else if (point == '\n')
			r = buf_append_string(out, "\\n");
		else if (point == '\t')
			r = buf_append_string(out, "\\t");
		else if (point == '\\')
			r = buf_append_string(out, "\\\\");
		else if (point < 0x100)
			r = buf_printf(out, "\\x%02x", point);
		else
			r = buf_printf(out, "\\u{%04x}", point);
		if (r < 0)
			return err_trace(r);
		p += n;
	}
	return 0;
}
