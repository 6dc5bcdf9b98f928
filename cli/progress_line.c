/* SPDX-License-Identifier: MIT */

#include "progress_line.h"

#include <stdio.h>
#include <string.h>

#include "list.h"
#include "text.h"

/* ---- the rate ---- */

enum { SAMPLE_MS = 250 };

void meter_start(struct meter *meter, uint64_t now_ms)
{
	*meter = (struct meter){ .moved_ms = now_ms, .sampled_ms = now_ms };
}

/* Each second of new measurement takes the place of about a third of the old mean. */
static void take_sample(struct meter *meter, uint64_t now_ms)
{
	double seconds = (double)(now_ms - meter->sampled_ms) / 1e3;
	double rate = (double)(meter->done - meter->sampled_done) / seconds;
	double weight = seconds / (seconds + 2);

	meter->rate = meter->rate > 0 ? meter->rate + (rate - meter->rate) * weight
				      : rate;
	meter->sampled_ms = now_ms;
	meter->sampled_done = meter->done;
}

void meter_update(struct meter *meter, uint64_t now_ms, uint64_t done)
{
	if (done < meter->done) { /* it has begun anew */
		meter_start(meter, now_ms);
		meter->done = meter->sampled_done = done;
		return;
	}
	/* The pause of a stall is no part of the rate afterwards. */
	if (done > meter->done && meter_is_stalled(meter, now_ms)) {
		meter->rate = 0;
		meter->sampled_ms = now_ms;
		meter->sampled_done = done;
	}
	if (done > meter->done)
		meter->moved_ms = now_ms;
	meter->done = done;
	if (now_ms - meter->sampled_ms >= SAMPLE_MS)
		take_sample(meter, now_ms);
}

bool meter_is_stalled(const struct meter *meter, uint64_t now_ms)
{
	return now_ms - meter->moved_ms >= PROGRESS_STALLED_MS;
}

/* ---- the line ---- */

enum field { PERCENT, BYTES, RATE, REST, FILES, N_FIELDS };
enum {
	FIELD_MAX = 100,
	NAME_MIN = 12,	/* columns: fewer only if a name has fewer */
	NAME_MAX = 300, /* a column is at most four bytes */
};

static const char *size_text(char text[static LIST_TEXT], double bytes)
{
	return list_format_size(text, bytes < 9e18 ? (int64_t)bytes : INT64_MAX);
}

static void format_bytes(char *field, const struct progress_line *line)
{
	char done[LIST_TEXT], total[LIST_TEXT];

	size_text(done, (double)line->done);
	if (line->total == UINT64_MAX)
		snprintf(field, FIELD_MAX, "%6s", done);
	else
		snprintf(field, FIELD_MAX, "%6s of %s", done,
			 size_text(total, (double)line->total));
}

static void format_rate(char *field, const struct progress_line *line)
{
	char rate[LIST_TEXT];

	if (line->done == line->total) /* for the disk, or for who is to acknowledge */
		snprintf(field, FIELD_MAX, "waiting");
	else if (line->stalled)
		snprintf(field, FIELD_MAX, "stalled");
	else if (line->rate > 0)
		snprintf(field, FIELD_MAX, "%6s/s", size_text(rate, line->rate));
}

/* The time that is left at this rate. */
static void format_rest(char *field, const struct progress_line *line)
{
	double seconds;
	unsigned int s;

	if (line->stalled || line->rate < 1 || line->total == UINT64_MAX ||
	    line->total <= line->done)
		return;
	seconds = (double)(line->total - line->done) / line->rate + 0.5;
	if (seconds >= 360000) /* more than 99 hours are no forecast */
		return;
	s = (unsigned int)seconds;
	if (s < 3600)
		snprintf(field, FIELD_MAX, "%u:%02u", s / 60, s % 60);
	else
		snprintf(field, FIELD_MAX, "%u:%02u:%02u", s / 3600, s / 60 % 60, s % 60);
}

/* 100% only when all is done. */
static void format_percent(char *field, const struct progress_line *line)
{
	double percent;

	if (line->total == UINT64_MAX || line->done > line->total)
		return;
	percent = line->total ? (double)line->done / (double)line->total * 100 : 100;
	if (percent > 99 && line->done < line->total)
		percent = 99;
	snprintf(field, FIELD_MAX, "%3u%%", (unsigned int)percent);
}

static void format_files(char *field, const struct progress_line *line)
{
	if (line->count > 1)
		snprintf(field, FIELD_MAX, "%llu/%llu", (unsigned long long)line->index,
			 (unsigned long long)line->count);
}

static size_t columns_of(char fields[N_FIELDS][FIELD_MAX])
{
	size_t columns = 0;

	for (int i = 0; i < N_FIELDS; i++)
		if (*fields[i])
			columns += 2 + strlen(fields[i]);
	return columns;
}

/* Leaves fields out until they have room beside a name's beginning. */
static void drop_fields(char fields[N_FIELDS][FIELD_MAX], size_t room)
{
	static const enum field least_first[] = { BYTES, REST, RATE, FILES, PERCENT };

	for (size_t i = 0; i < sizeof(least_first) / sizeof(*least_first); i++)
		if (columns_of(fields) > room)
			*fields[least_first[i]] = 0;
}

/* The name, cut if need be; "..." tells that. Returns the end of the text. */
static char *put_name(char *text, const char *name, size_t room)
{
	size_t n;

	room = room < NAME_MAX ? room : NAME_MAX;
	if (text_width(name) <= room)
		return stpcpy(text, name);
	n = text_fit(name, room > 3 ? room - 3 : 0);
	text = mempcpy(text, name, n);
	return mempcpy(text, "...", room < 3 ? room : 3);
}

void progress_format(const struct progress_line *line, size_t width,
		     char text[static PROGRESS_LINE_MAX])
{
	char fields[N_FIELDS][FIELD_MAX] = { 0 };
	size_t room = width > 1 ? width - 1 : 0, least = text_width(line->name);

	least = least < NAME_MIN ? least : NAME_MIN;
	format_percent(fields[PERCENT], line);
	format_bytes(fields[BYTES], line);
	format_rate(fields[RATE], line);
	format_rest(fields[REST], line);
	format_files(fields[FILES], line);
	drop_fields(fields, room > least ? room - least : 0);

	text = put_name(text, line->name, room - columns_of(fields));
	for (int i = 0; i < N_FIELDS; i++) {
		if (!*fields[i])
			continue;
		text = mempcpy(text, "  ", 2);
		text = stpcpy(text, fields[i]);
	}
	*text = 0;
}
