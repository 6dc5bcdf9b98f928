/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_HISTORY_H
#define DAEMON_HISTORY_H

/*
 * How the attempts of a message ended, for people who ask why it is dead: JSON text, the
 * elements of an array with commas between them, oldest first:
 *
 *	{"attempt":2,"at_ms":1764191042123,"uid":1000,"pid":4711,"reason":"no picture"},{…
 *
 * It is bounded in entries and in bytes, the oldest go first, so that it fits into a header
 * beside all else that may stand in one. It is charged as the message itself is.
 */

#include "message.h"

enum {
	HISTORY_ENTRIES_MAX = 8,
	/* one entry always fits: its reason has at most 1 KiB, and escaping makes that six
	 * times as long at most */
	HISTORY_SIZE_MAX = 8192,
};

struct json_writer;

struct history_entry {
	uint64_t attempt, at_ms;
	bool has_uid; /* it is known whose attempt it was */
	uid_t uid;
	pid_t pid;	    /* 0: unknown */
	const char *reason; /* UTF-8; NULL: none was given */
};

/* One entry more: the text, malloc'ed, becomes another one. 0 or -ENOMEM. */
int history_append(char **text, size_t *size, struct json_writer *writer,
		   const struct history_entry *entry) MUST_CHECK;

/* An attempt of the message has ended; its holder, if it has one, is still known. noted: that
 * its lease ended was, and what comes now takes the place of that. Where there is no memory,
 * or no room in the queue or for the sender, nothing is noted. */
void history_note(struct message *m, struct message_more *more, const char *reason,
		  bool noted);

#endif
