/* SPDX-License-Identifier: MIT */
#ifndef CLI_PROGRESS_LINE_H
#define CLI_PROGRESS_LINE_H

/* What a line of progress says: pure functions of what is known and of the time. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PROGRESS_STALLED_MS = 5000, /* without a byte */
	PROGRESS_LINE_MAX = 2048,   /* bytes of a line, its NUL included */
};

/* How fast it goes: the mean of the last seconds. */
struct meter {
	uint64_t done;	     /* bytes */
	uint64_t moved_ms;   /* when the last of them came */
	uint64_t sampled_ms; /* when rate was last taken, and what was done then */
	uint64_t sampled_done;
	double rate; /* bytes a second; 0: not known yet */
};

void meter_start(struct meter *meter, uint64_t now_ms);
void meter_update(struct meter *meter, uint64_t now_ms, uint64_t done);
bool meter_is_stalled(const struct meter *meter, uint64_t now_ms);

struct progress_line {
	const char *name;     /* as text_escape_name() */
	uint64_t done, total; /* bytes; total UINT64_MAX: not known */
	double rate;	      /* bytes a second; 0: not known */
	uint64_t index,
		count; /* this file is number index (from 1) of count; 0: not known */
	bool stalled;
};

/* "NAME  45%  1.2G of 2.6G  310M/s  0:04  3/17" in less than width columns: what has no room
 * is left out, the least important first, and the name is cut. */
void progress_format(const struct progress_line *line, size_t width,
		     char text[static PROGRESS_LINE_MAX]);

#endif
