/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SEND_BODY_H
#define DAEMON_SEND_BODY_H

/*
 * Sends whose body is not there yet: a file being copied from a descriptor, or an upload to
 * be brought to its end. Later sends of the same connection to the same queue line up behind
 * it, for one sender's messages arrive in the order in which they were sent.
 */

#include "filling.h"
#include "snapshot.h"
#include "upload.h"
#include "send_request.h"

struct send_body {
	struct list link; /* peer->preparing */
	struct send_request *send;
	struct name_ref queue;
	uint64_t queue_id; /* its name may be another's in the end; 0: it was not there */
	struct message *message; /* in no queue yet */
	struct buf file; /* what is known of the file before it is there, see file_text.h */
	struct digests digests;
	struct snapshot *snapshot; /* while one of them is at work */
	struct upload *upload;
	bool ready;		      /* only waits for those before it */
	uint64_t size;		      /* as far as it is known; UINT64_MAX */
	struct waiting_charge charge; /* while it waits in line */
	uint64_t copied;	      /* when watch was set */
	struct timer progress, watch;
};

/* What a body is to be made of: one of them, taken, or none if it is in the message. */
struct send_source {
	int fd; /* -1 */
	struct upload *upload;
	uint64_t promised; /* UINT64_MAX: no size was said */
	uint64_t size;	   /* as far as it is known; UINT64_MAX */
	uint64_t disk;	   /* of a descriptor: what its file takes */
	bool durable, progress;
};

/* Does an earlier send of this connection to this queue wait? */
bool send_body_must_wait(const struct peer *peer, const struct name_ref *queue);

/* queue: NULL if there is none of that name. Takes message, file and what is in source on
 * success. 0; FAULT; -ENOMEM. */
int send_body_start(struct call *call, const struct send_options *options,
		    const struct name_ref *ref, const struct queue *queue,
		    struct message *message, struct buf *file,
		    const struct digests *digests,
		    const struct send_source *source) MUST_CHECK;

/* The user has a descriptor that hangs. Returns FAULT. */
int send_refuse_stuck(struct fault *fault);

/* It was answered, or its peer is gone. Returns NULL. */
struct send_body *send_body_free(struct send_body *b);

#endif
