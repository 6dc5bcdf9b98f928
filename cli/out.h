/* SPDX-License-Identifier: MIT */
#ifndef CLI_OUT_H
#define CLI_OUT_H

/*
 * Standard output and standard error.
 *
 * What goes to standard output is collected and written by out_flush(): once for a listing,
 * once for each message. The first failure is kept; everything after it is dropped, so only
 * out_flush() needs to be looked at. Where standard output is a terminal, bytes that could
 * steer it (control characters, C1 controls, what is not UTF-8) are shown escaped, as \x1b;
 * everywhere else they pass as they are.
 */

#include <stdbool.h>
#include <stddef.h>

#include "cli.h"

void out_write(const void *data, size_t size);
void out_print(const char *format, ...) PRINTF_LIKE(1, 2);

/* A line of JSON, for programs: the same everywhere, and harmless on a terminal. */
void out_json(const char *json);

/* A text as a string of JSON, in quotes; what is not UTF-8 in it becomes U+FFFD. */
void out_json_string(const char *text);

/* The name of a file: its bytes, on a terminal all on one line. */
void out_name(const char *name);

/* A message's body: exactly its bytes. On a terminal escaped, and with a newline at its end
 * so that the next one, or the prompt, begins a line. */
void out_body(const void *data, size_t size, bool newline);

/* A part of a body: the same, without a newline. */
void out_part(const void *data, size_t size);

/* Writes what was collected; durable: and waits for the disk if it is a regular file. 0, or
 * the negative errno of the first failure so far, which the caller reports. */
int out_flush(bool durable);

/* The last flush, for main(): reports a failure that out_flush() has not returned (but not
 * that nobody reads any more) and makes the status STATUS_LOCAL if it was STATUS_OK. */
int out_finish(const struct cli *cli, int status);

/* One line on standard error, escaped, written at once. */
void out_error(const char *line);

/* Is called before anything is written to standard error or to a terminal, by this file. NULL:
 * nothing. */
void out_set_guard(void (*guard)(void *userdata), void *userdata);

/* ---- tables for people: what is collected is aligned and printed by table_print() ------- */

struct table {
	size_t n_columns;
	const char *alignment; /* one of '<' and '>' for each column */
	char **cells;
	size_t n_cells;
	bool no_memory;
};

void table_init(struct table *table, const char *alignment);
void table_add(struct table *table, const char *format, ...) PRINTF_LIKE(2, 3);
/* By the last column; the first rows, as a head, stay where they are. */
void table_sort(struct table *table, size_t n_fixed_rows);
/* Prints all rows and frees the cells; -ENOMEM if one could not be kept. */
int table_print(struct table *table);

#endif
