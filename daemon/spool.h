/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SPOOL_H
#define DAEMON_SPOOL_H

/*
 * The directory `spool` of the state directory as the store sees it: one file, named by the
 * blob's id, for each large body. Others write these files and drop them (blob.h); here they
 * are brought to the disk before the row that names them, and looked for at start. The store
 * only writes what is in a memfd, and drops only what a stop has left behind.
 */

#include "record.h"

struct spool;

/* Makes the directory if it is not there. -ENOSPC, -EIO, -ENOMEM. */
int spool_open(struct spool **ret_spool, const char *directory) MUST_CHECK;

/* The same, after the directory may have been deleted and made again by somebody. */
int spool_open_again(struct spool *spool, const char *directory) MUST_CHECK;
struct spool *spool_close(struct spool *spool);

/* The file of this record's blob is whole, and its content on the disk, but not yet its name.
 * It is made from blob_fd if it is not there. -ENOENT: it cannot be had whole; -ENOSPC; -EIO. */
int spool_put(struct spool *spool, const struct message_record *m) MUST_CHECK;

/* The names too, if any were put. -ENOSPC, -EIO. */
int spool_sync(struct spool *spool) MUST_CHECK;

/* Is there a file of this size? 1, and what it takes on the disk; 0: it is lost; or a failure
 * that will pass. */
int spool_check(const struct spool *spool, uint64_t id, uint64_t size,
		uint64_t *ret_disk) MUST_CHECK;

/* Asks keep() for each file, and drops (unless drop is false) those it does not know, and what
 * a stop has left half-written. */
void spool_sweep(struct spool *spool, bool drop, bool (*keep)(void *arg, uint64_t id),
		 void *arg);

#endif
