/* SPDX-License-Identifier: MIT */
#ifndef CLI_PARSE_H
#define CLI_PARSE_H

/* Numbers and times as people write them. All are false for what is not exactly one. */

#include <stdbool.h>
#include <stdint.h>

/* Decimal digits only, at most max. */
bool parse_number(const char *text, uint64_t max, uint64_t *ret_value);

/* "500ms", "2s", "5m", "2h", "1d", or bare seconds; with a fraction as "0.5". Rounded up to
 * whole milliseconds, at most 1000 years. */
bool parse_time(const char *text, int64_t *ret_ms);

#endif
