/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_DATABASE_H
#define DAEMON_DATABASE_H

/*
 * The file behind the store: SQLite, and only this module knows it. In the state directory
 *
 *	ipcd.db, ipcd.db-wal	tables head, names, messages, bodies, dedup
 *	spool/NUMBER		bodies beyond SPOOL_MIN bytes, see spool.h
 *	commits			how far the commits had come, written after each
 *
 * Every row has a checksum, for SQLite sees neither a flipped bit in a row nor that the end
 * of its log is missing. What a row's checksum does not agree with is left out and counted.
 *
 * All is blocking: the storage thread's, and at start and stop the main thread's. Failures:
 *
 *	-ENOSPC		the disk, or a quota on it, is full; the transaction is undone
 *	-EUCLEAN	the file is damaged
 *	-ENOMEM		no memory; the transaction is undone
 *	-EIO		anything else; what is on the disk is not known
 */

#include "record.h"

struct database;

enum {
	BODY_ROW_MIN = 4097, /* bytes from which a body has a row of its own, so that an
				   attempt more does not write it again */
	SPOOL_MIN = 262145,  /* bytes from which a body has a file */
};

/* What was not readable. */
struct database_losses {
	uint64_t names, messages,
		dedups; /* rows whose checksum was wrong, or without body */
	bool damaged;	/* and what of it could not be counted */
};

/* Opens or makes DIRECTORY/FILE. -EUCLEAN: it is no database, or of a later version
 * (*ret_later). */
int database_open(struct database **ret_db, const char *directory, const char *file,
		  bool *ret_later) MUST_CHECK;

/* How SQLite says that it writes, as "journal_mode=wal synchronous=full …"; the caller frees
 * it. NULL without memory. */
char *database_describe_options(struct database *db);

/* All is in the one file afterwards, unless that failed. Returns NULL. */
struct database *database_close(struct database *db);

int database_begin(struct database *db) MUST_CHECK;

/* With the head as it shall be; its commits and live are counted here. It is not always
 * written: each message has the number of the commit that put it. */
int database_commit(struct database *db, struct store_head *head) MUST_CHECK;
void database_rollback(struct database *db);

/* For a person: what SQLite or the system said last. Valid until the next call. */
const char *database_error(struct database *db);

/* The same for a file that is not trusted: it stays as it is. */
struct database *database_abandon(struct database *db);

/* All of the log is in the file itself. */
int database_checkpoint(struct database *db) MUST_CHECK;

/* A file that takes over from another one goes on with its counts. */
void database_go_on(struct database *db, uint64_t commits, uint64_t live);

/* It is not yet in the place of another file: what that one has in the spool stays there,
 * until the next start if need be, and so does what is known of its commits. */
void database_stand_beside(struct database *db);

/* ---- within a transaction ---- */

/* New, or again. */
int database_put_name(struct database *db, const struct name_record *name) MUST_CHECK;
int database_drop_name(struct database *db, uint64_t id) MUST_CHECK;

/* The body's file, if it has one, is there already. */
int database_put_message(struct database *db, const struct message_record *m) MUST_CHECK;

/* What changes in a message's life. */
int database_set_message(struct database *db, const struct message_record *m) MUST_CHECK;
int database_drop_message(struct database *db, uint64_t number,
			  uint64_t body_size) MUST_CHECK;
int database_put_dedup(struct database *db, const struct dedup_record *dedup) MUST_CHECK;
int database_drop_dedup(struct database *db, uint64_t number) MUST_CHECK;

/* ---- at start ---- */

/* 1, or 0 where there is none yet or it is not readable. Its commits, live and next_number
 * may be older than the rows, see database_commit(). */
int database_read_head(struct database *db, struct store_head *ret_head) MUST_CHECK;

/* Each row in the order of its number, until fn returns other than 0, which is returned.
 * Damage is counted, and ends the walk only where no way goes round it. */
int database_each_name(struct database *db,
		       int (*fn)(void *arg, const struct name_record *name), void *arg,
		       struct database_losses *losses) MUST_CHECK;
int database_each_message(struct database *db,
			  int (*fn)(void *arg, const struct message_record *m), void *arg,
			  struct database_losses *losses) MUST_CHECK;
int database_each_dedup(struct database *db,
			int (*fn)(void *arg, const struct dedup_record *dedup), void *arg,
			struct database_losses *losses) MUST_CHECK;

/* How many rows of messages there are, readable ones and others. */
uint64_t database_live(const struct database *db);

/* The number of the last commit that is in the file, after all has been read. */
uint64_t database_commits(const struct database *db);

/* Behind the last message that was read or put. */
uint64_t database_next_number(const struct database *db);

/* The head as the file `commits` has it, see commits.h. False: there is none. */
bool database_read_commits(struct database *db, struct store_head *ret_head);

/* Drops the bodies' files that exists() does not know. */
void database_sweep(struct database *db, bool (*exists)(void *arg, uint64_t number),
		    void *arg);

/* Gives space that is no longer needed back to the file system, a little at a time. True:
 * there is more of it. */
bool database_shrink(struct database *db);

#endif
