/* SPDX-License-Identifier: MIT */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/buf.h"

/* Strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. */
bool utf8_is_valid(const void *data, size_t size);

/* Appends text so that a terminal or a log line cannot be driven by it: control
 * characters (C0, DEL, C1), line and paragraph separators, bidirectional overrides,
 * backslash and invalid bytes become \n, \t, \\, \u{202e} or \x1b. 0 or -ENOMEM. */
int utf8_append_escaped(struct buf *out, const void *data, size_t size) MUST_CHECK;

#endif
