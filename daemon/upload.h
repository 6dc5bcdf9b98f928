/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_UPLOAD_H
#define DAEMON_UPLOAD_H

/*
 * The bytes of a large body, as they come from a connection, into a blob. What the loop has
 * read is gathered in a buffer; a worker writes it out and then reads on from the socket by
 * itself, as long as bytes come, and has it written behind it (write_behind.h). While it
 * does, the connection is not read by the loop.
 */

#include "filling.h"
#include "worker.h"

struct upload {
	struct job job;
	struct filling filling;
	char *buffer;
	size_t used;
	uint64_t received; /* all that was given to it or read by it */

	/* a worker's turn */
	bool running, finishing;
	int socket;    /* -1: only the buffer is written */
	uint64_t left; /* bytes of the body that may be read from the socket */
	uint64_t got;  /* so many of them were */
	int end; /* 0; STREAM_E_EOF; STREAM_E_AGAIN: no more for now; -errno; -EPROTO:
			  descriptors came in the middle of it */
	bool durable;
	/* The turn is over. */
	void (*done)(struct upload *upload);
	void *owner; /* NULL: nobody needs it any more, it is to be freed */
};

/* NULL without memory. expected: the size, as far as it is known. FAULT is for the caller to
 * see by filling_charge(). */
struct upload *upload_new(struct blobs *blobs, struct user *user,
			  const struct limits *limits, const struct digests *digests);

/* Freed now, or when its worker is through with it. Returns NULL. */
struct upload *upload_free(struct upload *u);

/* Room in the buffer. 0: it must be written first. */
size_t upload_room(const struct upload *u);
bool upload_is_full(const struct upload *u);

/* size is at most the room. 0 or -ENOMEM. */
int upload_add(struct upload *u, const char *data, size_t size) MUST_CHECK;

/* A worker's turn. socket: -1, or what is read from, a duplicate of it; left: see above. */
void upload_run(struct upload *u, struct workers *workers, int socket, uint64_t left,
		void (*done)(struct upload *upload), void *owner);

/* The last one: the rest of the buffer, and digests. */
void upload_finish(struct upload *u, struct workers *workers, bool durable,
		   void (*done)(struct upload *upload), void *owner);

#endif
