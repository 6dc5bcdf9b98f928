/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_ASSEMBLY_H
#define DAEMON_ASSEMBLY_H

/*
 * Requests whose body comes in pieces. The first piece's header is kept and the bodies are
 * joined; the request takes its place when the last piece is there. One that was answered
 * early (too large, aborted) drops what still comes.
 *
 * The body of a send that becomes larger than LIMIT_PIECE_MAX goes on as an upload.
 */

#include "base/bytes.h"
#include "base/list.h"
#include "upload.h"
#include "wire/fault.h"
#include "wire/stream.h"

struct assemblies {
	struct list list;
	unsigned int n;
	uint64_t bytes; /* of headers, and of bodies that are no uploads */
};

struct assembly {
	struct list link;
	uint64_t id;
	uint64_t last_ns;		      /* the last piece, CLOCK_MONOTONIC */
	bool is_send, begun, dropping, whole; /* begun: its first piece is there */
	struct bytes *body;		      /* unless it is an upload */
	struct upload *upload;
	uint64_t have;
	struct digests digests; /* said with the last piece */
	size_t header_size;
	char header[];
};

enum {
	ASSEMBLY_NONE = 200, /* the frame is no piece: handle it as it is */
	ASSEMBLY_MORE,	     /* taken, more is to come */
	ASSEMBLY_WHOLE,	     /* *ret_assembly is the whole request: assembly_free() it */
	ASSEMBLY_LARGE, /* *ret_assembly needs an upload, then take the frame again */
	ASSEMBLY_FULL,	/* its upload has to be written first, likewise */
};

void assemblies_init(struct assemblies *a);
void assemblies_deinit(struct assemblies *a);

/* One of the above; FAULT: refuse the request `id`, the rest of it will be dropped;
 * -ENOMEM; -EPROTO with *fault: ends the connection. */
int assemblies_take(struct assemblies *a, const struct frame *frame, bool has_id,
		    uint64_t id, const struct limits *limits, uint64_t now_ns,
		    struct assembly **ret_assembly, struct fault *fault) MUST_CHECK;

/* The one that a frame belongs to whose body is still to come: begun if it is a first piece.
 * 0: *ret_assembly, NULL if the frame is no piece; else as above. */
int assemblies_open(struct assemblies *a, const struct frame *frame, bool has_id,
		    uint64_t id, uint64_t now_ns, struct assembly **ret_assembly,
		    struct fault *fault) MUST_CHECK;

/* Goes on as this upload, which is taken with what is there already. 0 or -ENOMEM: then it is
 * not taken. */
int assembly_set_upload(struct assemblies *a, struct assembly *assembly,
			struct upload *upload) MUST_CHECK;

/* It was answered: what still comes is dropped. Returns FAULT. */
int assembly_drop(struct assemblies *a, struct assembly *assembly);

/* Does this upload belong to one of them? NULL: no. */
struct assembly *assemblies_find_upload(const struct assemblies *a,
					const struct upload *upload);

/* Of which the body may be large. */
bool assembly_is_send(const struct header *h);

/* Bytes of memory. */
uint64_t assemblies_buffered(const struct assemblies *a);
bool assemblies_has(const struct assemblies *a, uint64_t id);

/* When the oldest silent one was last heard of; UINT64_MAX without any. */
uint64_t assemblies_oldest_ns(const struct assemblies *a);

struct assembly *assembly_free(struct assemblies *a, struct assembly *assembly);

#endif
