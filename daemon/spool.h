/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SPOOL_H
#define DAEMON_SPOOL_H

/*
 * The directory `spool` of the state directory: one file, named by the message's number, for
 * each large body. Whoever puts a file syncs before its row is committed; a file whose row
 * is gone is dropped, at the next start if not before.
 */

#include "base/buf.h"
#include "record.h"

struct spool;

/* Makes the directory if it is not there. -ENOSPC, -EIO, -ENOMEM. */
int spool_open(struct spool **ret_spool, const char *directory) MUST_CHECK;
struct spool *spool_close(struct spool *spool);

/* Writes and syncs a file, but not yet its name. *ret_new false: there was one of this
 * number, which is whole until this one takes its place. -ENOSPC, -EIO. */
int spool_put(struct spool *spool, uint64_t number, struct slice body,
	      bool *ret_new) MUST_CHECK;

/* The names too, if there are new ones. */
int spool_sync(struct spool *spool) MUST_CHECK;
void spool_drop(struct spool *spool, uint64_t number);

/* -ENOENT, also where it has another size; -EIO; -ENOMEM, -EMFILE and the like. */
int spool_get(struct spool *spool, uint64_t number, uint64_t size,
	      struct buf *body) MUST_CHECK;

/* Drops the files that keep() does not know, and what a stop has left half-written. */
void spool_sweep(struct spool *spool, bool (*keep)(void *arg, uint64_t number),
		 void *arg);

#endif
