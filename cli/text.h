/* SPDX-License-Identifier: MIT */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

/* What a terminal may be given: UTF-8, escapes, and how wide a text is there. Pure functions. */

#include <stdbool.h>
#include <stddef.h>

/* Length of the well-formed UTF-8 sequence at the start, 0 if there is none. size > 0. */
size_t text_utf8_length(const unsigned char *s, size_t size);

typedef void (*text_sink_fn)(void *to, const void *data, size_t size);

/* Hands the bytes to sink; control characters (but newline and tab), C1 controls and what is
 * not UTF-8 as \x1b. In JSON, where what is not harmless can only stand in strings and be one
 * of U+007F to U+009F, it stays JSON: \u009b. */
void text_escape(const void *data, size_t size, bool json, text_sink_fn sink, void *to);

/* A name (of a file) on one line: newline, tab and the characters that turn the direction of
 * what follows are escaped as well. NULL: no memory; the caller frees it. */
char *text_escape_name(const char *name);

/* How many columns a text without control characters takes; never less than it really does. */
size_t text_width(const char *text);

/* How many bytes of it fit into so many columns. */
size_t text_fit(const char *text, size_t columns);

#endif
