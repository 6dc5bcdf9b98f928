/* SPDX-License-Identifier: MIT */

#include "parse.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define TIME_MAX_MS INT64_C(31536000000000) /* ipc-protocol(7): wait_max, TIME_MAX */

bool parse_number(const char *text, uint64_t max, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' ||
		    __builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return false;
	}
	if (value > max)
		return false;
	*ret_value = value;
	return true;
}

/* Milliseconds of a unit, 0 if there is none of that name. */
static int64_t unit_ms(const char *unit)
{
	static const struct {
		const char *name;
		int64_t ms;
	} units[] = { { "", 1000 },   { "ms", 1 },	{ "s", 1000 },
		      { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };

	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (strcmp(unit, units[i].name) == 0)
			return units[i].ms;
	return 0;
}

/* Integers all the way: 0.3 s is 300 ms, and no time is lost to rounding. */
int parse_time(const char *text, int64_t *ret_ms)
{
	const char *digits = "0123456789";
	size_t whole = strspn(text, digits), fraction = 0;
	const char *unit = text + whole;
	int64_t ms = 0, rest = 0, scale;

	if (*unit == '.') {
		fraction = strspn(unit + 1, digits);
		if (fraction == 0)
			return -EINVAL;
		unit += 1 + fraction;
	}
	scale = unit_ms(unit);
	if (whole + fraction == 0 || scale == 0)
		return -EINVAL;
	for (size_t i = 0; i < whole; i++) {
		ms = ms * 10 + (text[i] - '0') * scale;
		if (ms > TIME_MAX_MS)
			return -ERANGE;
	}
	/* From the last digit on, each rounding up: no digit is ever too far to count. */
	for (size_t i = fraction; i-- > 0;)
		rest = ((text[whole + 1 + i] - '0') * scale + rest + 9) / 10;
	ms += rest;
	if (ms > TIME_MAX_MS)
		return -ERANGE;
	*ret_ms = ms;
	return 0;
}
