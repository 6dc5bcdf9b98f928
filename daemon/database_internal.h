/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_DATABASE_INTERNAL_H
#define DAEMON_DATABASE_INTERNAL_H

/* What database.c (opening, writing) and database_read.c share. */

#include <sqlite3.h>

#include "database.h"

enum statement {
	BEGIN,
	COMMIT,
	ROLLBACK,
	PUT_HEAD,
	PUT_NAME,
	DROP_NAME,
	PUT_MESSAGE,
	SET_MESSAGE,
	DROP_MESSAGE,
	PUT_BODY,
	DROP_BODY,
	GET_BODY,
	PUT_DEDUP,
	DROP_DEDUP,
	N_STATEMENTS,
};

struct database {
	sqlite3 *sqlite;
	sqlite3_stmt *statements[N_STATEMENTS];
	struct spool *spool; /* borrowed */
	char *path;
	int commits_fd;	       /* the file `commits` */
	int file_fd;	       /* the database's, only to be looked at (O_PATH) */
	uint64_t live, before; /* rows of messages, and at the start of the transaction */
	uint64_t commits;
	uint64_t next_number;  /* behind the messages that were read or put */
	bool beside;	       /* another file has the file `commits` */
	uint64_t put;	       /* the last message put in this transaction; 0: none */
	struct store_head had; /* the head as it was written last */
	uint64_t lost_bodies;
	bool log_is_long;
	int log_pages;	 /* after the last commit */
	bool shrinks;	 /* space is being given back, a little at a time */
	int last;	 /* SQLite's result of the last failure … */
	int spool_error; /* … which was the spool's, if this is not 0 */
	int background;	 /* the last failure of what nobody waits for */
	bool full;	 /* there was no space to bring in the log */
};

/* 0 for a result of SQLite that is none of failure, else one of those in database.h; noted
 * for database_error(). */
int database_failed(struct database *db, int rc) MUST_CHECK;

#endif
