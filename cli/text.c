/* SPDX-License-Identifier: MIT */

#include "text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static uint32_t decode(const unsigned char *s, size_t length)
{
	uint32_t code = length == 1 ? *s : *s & (0xffu >> (length + 1));

	for (size_t i = 1; i < length; i++)
		code = code << 6 | (s[i] & 0x3f);
	return code;
}

size_t text_utf8_length(const unsigned char *s, size_t size)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t length = *s < 0x80 ? 1 : *s < 0xc0 ? 0 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : 4;
	uint32_t code;

	if (length <= 1)
		return length;
	if (length > size || *s > 0xf4)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	code = decode(s, length);
	return code >= least[length] && code <= 0x10ffff &&
			       (code < 0xd800 || code > 0xdfff)
		       ? length
		       : 0;
}

/* ---- escaping ---- */

/* How many bytes a terminal may get as they are. */
static size_t harmless(const unsigned char *s, size_t size)
{
	size_t i = 0, n;

	for (; i < size; i += n) {
		n = text_utf8_length(s + i, size - i);
		if (n == 0 || (s[i] < 0x20 && s[i] != '\n' && s[i] != '\t') ||
		    s[i] == 0x7f || (s[i] == 0xc2 && s[i + 1] < 0xa0))
			break;
	}
	return i;
}

static const char hex[] = "0123456789abcdef";

void text_escape(const void *data, size_t size, bool json, text_sink_fn sink, void *to)
{
	const unsigned char *s = data;

	while (size > 0) {
		size_t n = harmless(s, size);

		sink(to, s, n);
		if (n < size) {
			bool two_bytes = json && s[n] == 0xc2 && n + 1 < size;
			unsigned char c = s[two_bytes ? n + 1 : n];
			char digits[] = { hex[c >> 4], hex[c & 15] };

			sink(to, json ? "\\u00" : "\\x", json ? 4 : 2);
			sink(to, digits, sizeof(digits));
			n += two_bytes ? 2 : 1;
		}
		s += n;
		size -= n;
	}
}

/* Unicode's marks, embeddings, overrides and isolates of direction, and its line ends. */
static bool is_steering(uint32_t code)
{
	return code == 0x200e || code == 0x200f || (code >= 0x2028 && code <= 0x202e) ||
	       (code >= 0x2066 && code <= 0x2069);
}

/* Bytes at the start that stay as they are in a name; 0: the first one is to be escaped. */
static size_t plain_in_name(const unsigned char *s, size_t size)
{
	size_t n = text_utf8_length(s, size);
	uint32_t code = n ? decode(s, n) : 0;

	return code < 0x20 || (code >= 0x7f && code < 0xa0) || is_steering(code) ? 0 : n;
}

char *text_escape_name(const char *name)
{
	const unsigned char *s = (const unsigned char *)name;
	size_t size = strlen(name), n;
	char *text = malloc(4 * size + 1), *end = text;

	if (!text)
		return NULL;
	for (; size > 0; s += n, size -= n) {
		n = plain_in_name(s, size);
		if (n > 0) {
			end = mempcpy(end, s, n);
			continue;
		}
		end = mempcpy(end, "\\x", 2);
		*end++ = hex[*s >> 4];
		*end++ = hex[*s & 15];
		n = 1;
	}
	*end = 0;
	return text;
}

/* ---- columns ---- */

/* Two for what may be wide (East Asian scripts, emoji), one for all else: also for marks that
 * take none. So a line is never longer than it is held to be, whatever the locale. */
static size_t columns_of(uint32_t code)
{
	static const struct {
		uint32_t first, last;
	} wide[] = {
		{ 0x1100, 0x115f },   { 0x231a, 0x231b },   { 0x23e9, 0x23f3 },
		{ 0x25fd, 0x25fe },   { 0x2614, 0x2615 },   { 0x2648, 0x27bf },
		{ 0x2b1b, 0x2b55 },   { 0x2e80, 0xa4cf },   { 0xa960, 0xa97f },
		{ 0xac00, 0xd7a3 },   { 0xf900, 0xfaff },   { 0xfe10, 0xfe6f },
		{ 0xff00, 0xff60 },   { 0xffe0, 0xffe6 },   { 0x16fe0, 0x18cff },
		{ 0x1aff0, 0x1b2ff }, { 0x1f000, 0x1faff }, { 0x20000, 0x3ffff },
	};

	for (size_t i = 0; i < sizeof(wide) / sizeof(*wide); i++)
		if (code >= wide[i].first && code <= wide[i].last)
			return 2;
	return 1;
}

/* Takes characters as far as they fit; tells their bytes and columns. */
static size_t measure(const char *text, size_t columns, size_t *ret_columns)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t size = strlen(text), i = 0, used = 0;

	while (i < size) {
		size_t n = text_utf8_length(s + i, size - i);
		size_t width = n ? columns_of(decode(s + i, n)) : 1;

		if (width > columns - used)
			break;
		used += width;
		i += n ? n : 1;
	}
	*ret_columns = used;
	return i;
}

size_t text_width(const char *text)
{
	size_t columns;

	measure(text, SIZE_MAX, &columns);
	return columns;
}

size_t text_fit(const char *text, size_t columns)
{
	size_t used;

	return measure(text, columns, &used);
}
