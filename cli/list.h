/* SPDX-License-Identifier: MIT */
#ifndef CLI_LIST_H
#define CLI_LIST_H

/* What the verbs that show the daemon's lists (names, peers, stats) have in common. */

#include <stdio.h>

#include "out.h"

/* "-" where the record has no such text. */
const char *list_text(const struct ipc_record *record, const char *key);

/* Cells of a table: a number, bytes as "1.5M", a time as "2h 5m"; "-" if there is none. */
void list_add_number(struct table *table, const struct ipc_record *record,
		     const char *key);
void list_add_size(struct table *table, const struct ipc_record *record, const char *key);
void list_add_time(struct table *table, const struct ipc_record *record, const char *key);

/* A time in one word, as "2h5m". */
void list_add_age(struct table *table, const struct ipc_record *record, const char *key);

/* The same as text; room for any value. */
enum { LIST_TEXT = 40 };
const char *list_format_size(char text[static LIST_TEXT], int64_t bytes);
const char *list_format_time(char text[static LIST_TEXT], int64_t ms);

/* Whose a name is, "ann" or "1000": the daemon may know a number only. Valid until the next
 * call. */
const char *list_owner(const struct ipc_record *record);

/* "staff" or "50", "-" for none; text is for a number. Valid until the next call. */
const char *list_group(char text[static LIST_TEXT], const struct ipc_record *record);

/* All records, one a line. Returns STATUS_OK. */
int list_print_json(struct ipc_list *list);

#endif
