/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_FILLING_H
#define DAEMON_FILLING_H

/*
 * A body on its way into a blob: what is written, hashed as it passes, and charged to its
 * sender meanwhile. upload.c gets the bytes from a connection, snapshot.c from a descriptor.
 *
 * The loop owns it between jobs, a worker while its job runs.
 */

#include "base/bytes.h"
#include "blob.h"
#include "user.h"
#include "wire/digest.h"
#include "wire/fault.h"
#include "wire/header.h"

/* What a header says of digests: which are to be made, and what they must be. */
struct digests {
	unsigned int wanted;			    /* 1 << DIGEST_... */
	char claimed[DIGEST_N][DIGEST_HEX_MAX + 1]; /* "": nothing */
};

/* 0 or FAULT. What the header does not mention stays as it is. */
int digests_get(const struct header *h, struct digests *d,
		struct fault *fault) MUST_CHECK;

/* What more says wins. */
void digests_add(struct digests *d, const struct digests *more);

/* 0, or FAULT: a body with this digest is another one than was claimed. */
int digests_check(const struct digests *d, enum digest_kind kind, const char *hex,
		  struct fault *fault) MUST_CHECK;

struct filling {
	struct blobs *blobs;
	struct user *user;
	const struct limits *limits;
	uint64_t charged; /* to user: bytes of the disk, or of memory without a spool */

	struct blob *blob;
	int fd;			 /* its file; -1: not yet made */
	uint64_t expected;	 /* bytes of the disk that it will take; 0: not known */
	struct digest *digest;	 /* NULL: none is made */
	unsigned int kinds;	 /* of digest */
	unsigned int late_kinds; /* asked for when the body had come */
	uint64_t size;		 /* so far, with holes … */
	uint64_t written;	 /* … and without: as data */
	uint64_t disk;		 /* what it takes, when all is there */
	struct bytes *block;	 /* a small body, instead of the blob */
	char hex[DIGEST_N][DIGEST_HEX_MAX + 1]; /* when all is there; "": not made */
	bool failed;
	struct fault fault; /* why */
};

/* Counts as one of the user's bodies that are under way, as long as it lives: whether there is
 * room for it, room_for_body() says. */
void filling_init(struct filling *f, struct blobs *blobs, struct user *user,
		  const struct limits *limits);

/* Drops what was not taken, and the charge. */
void filling_deinit(struct filling *f);

/* Charges up to size bytes. 0 or FAULT: the user has no room for so much. */
int filling_charge(struct filling *f, uint64_t size, struct fault *fault) MUST_CHECK;
void filling_uncharge(struct filling *f);

/* 0; FAULT: it has failed. A full disk is told in the log as well, from time to time, and the
 * blobs' owner that the spool is gone. */
int filling_check(const struct filling *f, struct fault *fault) MUST_CHECK;

/* ---- on any thread; false: it has failed, and fault says why ---- */

/* kinds: 1 << DIGEST_... joined by |. */
bool filling_begin(struct filling *f, unsigned int kinds);
bool filling_write(struct filling *f, const char *data, size_t size);
bool filling_fail(struct filling *f, enum fault_word word, const char *format, ...)
	PRINTF_LIKE(3, 4);

/* By an error of the system, while it did what. */
bool filling_fail_errno(struct filling *f, int error, const char *what);

/* Nothing was written. */
bool filling_restart(struct filling *f);

/* All is there. durable: it is on the disk afterwards. */
bool filling_end(struct filling *f, bool durable);

#endif
