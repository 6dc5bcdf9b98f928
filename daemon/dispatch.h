/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_DISPATCH_H
#define DAEMON_DISPATCH_H

/*
 * From a frame to its handler: joins pieces, checks the id, finds the operation in one
 * table, which also names the right that is needed on the names of the request.
 *
 * A handler returns 0 (answered, or the request is open), FAULT with server->fault filled
 * (the refusal is sent for it), DISPATCH_WAIT before any effect (it is called again when
 * the name service has answered), or -errno, which ends the peer.
 */

#include "peer.h"
#include "queue.h"

enum {
	DISPATCH_WAIT = USER_WAIT,
	DISPATCH_AGAIN = 300, /* of dispatch_frame(): at once, but read anew */
};

struct operation;

struct call {
	const struct operation *op;
	struct server *server;
	struct peer *peer;
	const struct header *header;
	const char *body;
	size_t body_size;
	struct bytes *body_block; /* the body, if it is large; may be taken */
	struct upload *upload; /* the body, if it is too large for memory; may be taken */
	struct fdset *fds;     /* descriptors that came with it; may be taken from */
	const struct digests *digests; /* said behind a body in pieces, or NULL */
	bool has_id;
	uint64_t id;
	struct fault *fault;
	uint64_t store_mark; /* before it had any effect */
};

struct operation {
	const char *name;
	int (*handle)(struct call *call);
	enum right right; /* on the queues it names */
	const char *verb; /* "send to", for a refusal */
	bool needs_id, takes_body, may_wait, takes_fd;
};

/* 0, DISPATCH_WAIT, or -errno: the connection cannot go on (server->fault says why). */
int dispatch_frame(struct peer *peer, const struct frame *frame) MUST_CHECK;

/* The same before a large body is there: says what becomes of it. With STREAM_BODY_LEND
 * peer->lent is where it goes. */
int dispatch_body(struct peer *peer, const struct frame *frame,
		  enum stream_body *ret_what) MUST_CHECK;

/* Only checks the name and waits for the name service. */
int call_parse_name(struct call *call, const char *text, size_t size,
		    struct name_ref *ret_ref) MUST_CHECK;

/* A required key that is not there. Returns FAULT. */
int call_missing(struct call *call, enum header_key key);

/* {"re":id,"size":…} and the body. Returns 0. */
int call_reply_body(struct call *call, const struct buf *lines) MUST_CHECK;

/* For who waited for the disk in vain. */
void fault_not_stored(struct fault *fault, int result);

/* For who still waits for it, when the request is told to end; why is as for struct request. */
void fault_unstored_end(struct fault *fault, const char *why);

/* Ends what peer_begin() began, and writes it when all it has changed is on the disk. 0 or
 * -ENOMEM. */
int call_answer(struct call *call) MUST_CHECK;

/* {"re":id}, if an answer was asked for; when all it has changed is on the disk. 0 or
 * -ENOMEM. */
int call_done(struct call *call) MUST_CHECK;

#endif
