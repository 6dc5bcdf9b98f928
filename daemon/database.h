/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_DATABASE_H
#define DAEMON_DATABASE_H

/*
 * The file behind the store: SQLite, which only this module and log_file.h know. In the state
 * directory
 *
 *	ipcd.db, ipcd.db-wal	tables head, names, messages, bodies, dedup
 *	spool/ID		bodies that are blobs, see spool.h
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
struct spool;

enum {
	DATABASE_FORMAT = 2,
	BODY_ROW_MIN = 4097, /* bytes from which a body has a row of its own, so that an
				   attempt more does not write it again */
};

/* What was not readable. */
struct database_losses {
	uint64_t names, messages,
		dedups; /* rows whose checksum was wrong, or whose body is lost */
	bool damaged;	/* and what of it could not be counted */
};

/* Opens or makes DIRECTORY/FILE, whose large bodies are in spool, which must outlive it.
 * -EUCLEAN: it is no database, or *ret_other, which is else 0, is the format in which another
 * version has written it. */
int database_open(struct database **ret_db, const char *directory, const char *file,
		  struct spool *spool, unsigned int *ret_other) MUST_CHECK;

/* How SQLite says that it writes, as "journal_mode=wal synchronous=full …"; the caller frees
 * it. NULL without memory. */
char *database_describe_options(struct database *db);

/* All is in the one file afterwards, unless that failed. Returns NULL. */
struct database *database_close(struct database *db);

/* A transaction with sends, or one that only ends messages. While the log does not fit into
 * the file there are no more sends, so that the reserve is enough for it. */
int database_begin(struct database *db, bool sends) MUST_CHECK;

/* With the head as it shall be; its commits and live are counted here. It is not always
 * written: each message has the number of the commit that put it. */
int database_commit(struct database *db, struct store_head *head) MUST_CHECK;

/* Then, and before the next one: what nobody has to wait for. It can take some milliseconds. */
void database_after_commit(struct database *db);
void database_rollback(struct database *db);

/* For a person: what SQLite or the system said last. Valid until the next call. */
const char *database_error(struct database *db);

/* The same for a file that is not trusted: it stays as it is. */
struct database *database_abandon(struct database *db);

/* All of the log is in the file itself. */
int database_checkpoint(struct database *db) MUST_CHECK;

/* After an end without order. What an fsync(2) that failed has left can be read, but is not on
 * the disk, and no later fsync brings it there. So what the log has is written once more, into
 * the file: what follows must not build on it as it is. */
void database_write_again(struct database *db);

/* Has it messages of a later commit than this one? Then that had failed, and is there all the
 * same, as where what was not written is what the log had before. */
bool database_is_ahead(struct database *db, uint64_t commits);

/* A file that takes over from another one goes on with its counts. */
void database_go_on(struct database *db, uint64_t commits, uint64_t live);

/* It is not yet in the place of another file: what is known of the commits of that one
 * stays. */
void database_stand_beside(struct database *db);

/* ---- within a transaction ---- */

/* New, or again. */
int database_put_name(struct database *db, const struct name_record *name) MUST_CHECK;
int database_drop_name(struct database *db, uint64_t id) MUST_CHECK;

/* A blob's file is checked, or made, and on the disk. again: it has been sent long since, and
 * is there whatever has become of that file: nothing else may be held up by it. */
int database_put_message(struct database *db, const struct message_record *m,
			 bool again) MUST_CHECK;

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

/* Messages put again whose blob is gone. */
uint64_t database_lost_bodies(const struct database *db);

/* Behind the last message that was read or put. */
uint64_t database_next_number(const struct database *db);

/* The head as the file `commits` has it, see commits.h. False: there is none. */
bool database_read_commits(struct database *db, struct store_head *ret_head);

/* Gives space that is no longer needed back to the file system, a little at a time. True:
 * there is more of it. */
bool database_shrink(struct database *db);

#endif
