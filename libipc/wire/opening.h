/* SPDX-License-Identifier: MIT */
#ifndef WIRE_OPENING_H
#define WIRE_OPENING_H

/*
 * How the two headers begin that there are most of, written and recognised without yajl:
 *
 *	{"re":7,"message":41}
 *	{"re":4,["size":5,]"message":41,"lease":"09d1…","attempt":1,"from":{…
 *
 * ipc-protocol(7) promises that order, and that what changes how a frame is to be read
 * (fds, more, error, end, what is known of a file) stands in front of "from". So a client, who
 * trusts the daemon, knows by this where the frame ends, whose it is, and what acknowledges
 * it. All that differs in a single byte is no such opening, and is parsed.
 *
 * The two requests that there are most of are written in the same way. The daemon, who trusts
 * nobody, parses all requests.
 */

#include "base/buf.h"

enum opening_kind {
	OPENING_NONE,
	OPENING_SENT,	  /* the answer to a send: nothing follows */
	OPENING_DELIVERY, /* the rest of the header is not looked at */
};

struct opening {
	enum opening_kind kind;
	uint64_t re, size, message, attempt;
	const char *lease; /* hexadecimal; not NUL-ended */
	size_t lease_size; /* at most OPENING_LEASE_MAX where it is to be written */
};

enum { OPENING_LEASE_MAX = 64 };

struct opening opening_scan(const char *header, size_t size);

/* Appends the whole answer to a send, or what comes in front of "from" in a delivery. 0 or
 * -ENOMEM. */
int opening_put(struct buf *out, const struct opening *opening) MUST_CHECK;

/* Is it made of bytes that a name may have? Not whether it is a good one. */
bool opening_is_name(const char *text, size_t size);

/* The whole header of a send without options; the queue as above, of LIMIT_NAME_MAX bytes at
 * most. 0 or -ENOMEM. */
int opening_put_send(struct buf *out, uint64_t id, const char *queue, size_t queue_size,
		     uint64_t body_size) MUST_CHECK;

/* The whole header of an ack by number. 0 or -ENOMEM. */
int opening_put_ack(struct buf *out, uint64_t message) MUST_CHECK;

#endif
