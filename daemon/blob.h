/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_BLOB_H
#define DAEMON_BLOB_H

/*
 * A body or file beyond LIMIT_PIECE_MAX, held once, whoever needs it: a file of the spool,
 * named by the blob's id, or without a state directory a memfd. Also what a peer has handed
 * over and is passed on as it is: a sealed memfd, or a live descriptor.
 *
 * Whoever needs it holds a reference: its message, each record of it that is on the way to
 * the disk (also the one that says that the message has ended), who is just sending it. With
 * the last one a worker unlinks the file: so it is there as long as a row could name it.
 * What a stop without order leaves behind is found at the next start.
 *
 * References live on the loop's thread; blob_create() and blob_open() may be called on any
 * thread while somebody holds one.
 */

#include "base/map.h"
#include "base/util.h"

struct workers;

struct blobs {
	struct workers *workers;
	int directory; /* the spool; -1: there is none */
	char *state;   /* the directory in which it is */
	/* A file could not be made, for the spool was deleted; NULL: nobody needs to know. */
	void (*gone)(struct blobs *blobs);
	uint64_t next_id;
	bool keep;	      /* the daemon ends: no file is unlinked any more */
	uint64_t no_space_ns; /* until then a full disk is not told in the log again */
};

struct blob {
	struct blobs *blobs;
	unsigned int refs;
	uint64_t id;   /* the file's name; 0: none */
	int fd;	       /* of a memfd or live; else -1 */
	uint64_t size; /* UINT64_MAX: not known (live) */
	uint64_t disk; /* what it takes: less, where it has holes */
	bool live;
	uid_t uid;   /* live: whose descriptor it is */
	bool quick;  /* live: closing it never blocks */
	bool made;   /* there is a file, or will be */
	bool gone;   /* there is no directory for it any more */
	bool synced; /* the file's content is on the disk */
};

void blobs_init(struct blobs *blobs, struct workers *workers);

/* The spool of this state directory, which is made if need be. -errno. */
int blobs_open(struct blobs *blobs, const char *state) MUST_CHECK;

/* The same once more: somebody may have deleted it. -errno: nothing has changed. */
int blobs_open_again(struct blobs *blobs) MUST_CHECK;

/* Ids of this start do not meet those of earlier ones. */
void blobs_begin(struct blobs *blobs, uint64_t generation);
void blobs_deinit(struct blobs *blobs);

/* One whose content is still to come, see blob_create(). NULL without memory. */
struct blob *blob_new(struct blobs *blobs);

/* One that the store knows. NULL without memory. */
struct blob *blob_new_stored(struct blobs *blobs, uint64_t id, uint64_t size,
			     uint64_t disk);

/* A descriptor of uid's, which is taken on success. NULL without memory. */
struct blob *blob_new_fd(struct blobs *blobs, uid_t uid, int fd, uint64_t size,
			 uint64_t disk, bool live, bool quick);

static inline struct blob *blob_ref(struct blob *b)
{
	b->refs++;
	return b;
}

/* NULL is nothing. Returns NULL. */
struct blob *blob_unref(struct blob *b);

/* A memfd that is to be stored gets a name for that. */
void blob_name(struct blob *b);

/* Makes its file or memfd: a descriptor for reading and writing, the caller's; a memfd is
 * blob_adopt()ed afterwards. -errno. */
int blob_create(struct blob *b) MUST_CHECK;

/* The content has come. fd is what blob_create() gave, and taken: kept if it is a memfd,
 * else closed. */
void blob_adopt_take(struct blob *b, int fd, uint64_t size, uint64_t disk);

/* Not of a live one. For one delivery: read-only with an offset of its own. -errno. */
int blob_open(const struct blob *b) MUST_CHECK;

/* Does it take memory, and not the disk? */
static inline bool blob_is_in_memory(const struct blob *b)
{
	return !b->live && b->fd >= 0;
}

#endif
