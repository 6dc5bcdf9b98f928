/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_RECEIVER_H
#define CLIENT_RECEIVER_H

/*
 * A receiver: a request that stays open, and the messages that came for it and were not
 * fetched yet. The daemon sends no more than the window, so that is what can be queued;
 * only what is peeked at has no such bound.
 *
 * A receiver that is freed while its request is open stays until the daemon has ended it:
 * what is still on its way is then given back. One that is freed by a callback, while
 * ipc_receiver_next() waits for it further up the stack, stays until that has returned.
 * receiver_release() is the one place that decides.
 */

#include "client/client_internal.h"

enum { RECEIVER_END_MAX = 31 };

struct ipc_receiver {
	struct ipc_request request;
	struct list link; /* in client->receivers */

	char *queues[LIMIT_QUEUES_MAX];
	unsigned int n_queues, window;
	uint64_t max;
	int64_t wait_ms, ack_wait_ms;
	bool peek;

	struct list messages; /* not fetched yet */
	uint64_t n_messages, n_received;
	struct ipc_message *partial; /* its last piece has not come yet */
	struct buf joined;	     /* the body of partial */

	unsigned int n_waiting; /* ipc_receiver_next() on the stack */
	bool freed;
	char end[RECEIVER_END_MAX + 1];
};

/* NULL without memory, with the client's error set. */
struct ipc_receiver *receiver_new(struct ipc_client *client);

/* Frees it if nobody needs it any more: call after n_waiting went down. */
void receiver_release(struct ipc_receiver *receiver);

/* The oldest message, now the caller's; or NULL. */
struct ipc_message *receiver_pop(struct ipc_receiver *receiver);

#endif
