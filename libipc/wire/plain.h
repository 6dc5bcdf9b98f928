/* SPDX-License-Identifier: MIT */
#ifndef WIRE_PLAIN_H
#define WIRE_PLAIN_H

/*
 * The headers that there are most of, written and recognised without yajl:
 *
 *	{"op":"send","id":7,"queue":"jobs","size":5}
 *	{"re":7,"message":41}
 *	{"re":4,"size":5,"message":41,"lease":"09d1…","attempt":1,
 *	 "from":{"uid":1000,"gid":1000,"pid":4711,"user":"ann"},"queue":"jobs"}
 *	{"op":"ack","message":41}
 *
 * These texts, as ipcd writes them and in one line, with numbers and with strings of bytes that
 * JSON does not escape, and nothing more. What differs from that in a byte (white space, another
 * key or order, an escape) is none of them, and is parsed: recognising is a shorter way to the
 * same result. Only clients recognise. The daemon, to whom any text may come, parses all
 * requests.
 */

#include "base/buf.h"

enum plain_kind {
	PLAIN_NONE,
	PLAIN_SENT,	/* re, message */
	PLAIN_DELIVERY, /* all */
};

/* Texts lie in the header, and are not NUL-ended. */
struct plain {
	enum plain_kind kind;
	uint64_t re, size, message, attempt, uid, gid, pid;
	const char *lease, *user, *queue;
	size_t lease_size, user_size, queue_size;
};

struct plain plain_scan(const char *header, size_t size);

/* The functions below append to out. 0 or -ENOMEM. */

int plain_put_sent(struct buf *out, uint64_t re, uint64_t message) MUST_CHECK;

/* What stands in front of "from". The lease has no byte that JSON escapes, and as the names
 * below LIMIT_NAME_MAX bytes at most. */
int plain_put_delivery(struct buf *out, const struct plain *delivery) MUST_CHECK;

/* Is it made of bytes that a name may have? Not whether it is a good one. */
bool plain_is_name(const char *text, size_t size);

/* A send without options to such a name. */
int plain_put_send(struct buf *out, uint64_t id, const char *queue, size_t queue_size,
		   uint64_t body_size) MUST_CHECK;

int plain_put_ack(struct buf *out, uint64_t message) MUST_CHECK;

#endif
