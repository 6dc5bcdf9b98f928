/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SNAPSHOT_H
#define DAEMON_SNAPSHOT_H

/*
 * A copy of the file behind a descriptor that a peer has handed over, as it is now: by
 * FICLONE where the file system can, else copy_file_range(2), sendfile(2), or read and
 * write; holes stay holes. The descriptor is hostile: whatever is called on it may hang, so
 * nothing of this happens on the loop, and a copy that makes no progress is given up.
 *
 * A file that changes meanwhile is copied once more, then refused.
 */

#include <sys/types.h>

#include "filling.h"
#include "worker.h"

struct file_state {
	mode_t mode;
	off_t size, disk; /* disk: what it takes, less where it has holes */
	int64_t mtime_s, ctime_s;
	uint32_t mtime_ns, ctime_ns;
};

struct snapshot {
	struct job job;
	struct filling filling;
	struct workers *workers;
	int fd;		   /* the source */
	uint64_t promised; /* its size; UINT64_MAX: nothing was said */
	bool durable;
	bool cancelled;	 /* atomic: the loop tells the worker */
	bool taken_up;	 /* atomic: by a worker, this turn of it */
	uint64_t copied; /* atomic: bytes so far, for whoever tells progress */

	/* the worker's */
	bool begun, again;
	bool whole, settled; /* all is copied; and on our disk, with its digests */
	bool sparse;	     /* it has holes, and they can be found */
	int map_fd;	     /* for that; -1 */
	int method;
	struct file_state st; /* at the start */
	off_t at;	      /* copied so far */
	char *buffer;

	/* All is there, or it has failed: filling.failed. */
	void (*done)(struct snapshot *snapshot);
	/* Its file system does not answer. It is not the owner's any more. */
	void (*stalled)(struct snapshot *snapshot);
	void *owner; /* NULL: nobody needs it any more */
};

/* Takes fd on success. NULL without memory. */
struct snapshot *snapshot_new(struct blobs *blobs, struct workers *workers,
			      struct user *user, const struct limits *limits,
			      int fd_taken, const struct digests *digests);

/* Does it wait for a worker to go on with its descriptor? */
bool snapshot_waits(const struct snapshot *s);

/* done() is called, unless it is freed before. */
void snapshot_start(struct snapshot *s);

/* Freed now, or when its worker is through with it. Returns NULL. */
struct snapshot *snapshot_free(struct snapshot *s);

#endif
