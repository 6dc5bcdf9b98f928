/* SPDX-License-Identifier: MIT */
#ifndef CLI_PARSE_H
#define CLI_PARSE_H

/* Numbers and times as people write them; nothing before or behind. */

#include <stdbool.h>
#include <stdint.h>

/* Decimal digits only, at most max; else false. */
bool parse_number(const char *text, uint64_t max, uint64_t *ret_value);

/* "500ms", "2s", "5m", "2h", "1d", or bare seconds; with a fraction as "0.5". Rounded up to
 * whole milliseconds. 0; -EINVAL; -ERANGE: more than TIME_MAX. */
#define TIME_MAX "365000d"
int parse_time(const char *text, int64_t *ret_ms);

#endif
