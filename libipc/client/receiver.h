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
 * ipc_receiver_next() waits for it or its own callback runs further up the stack, stays
 * until that has returned. receiver_release() is the one place that decides.
 *
 * Suspended it has no request, but is to be asked for again when there is a connection.
 */

#include "client/client_internal.h"

enum {
	RECEIVER_END_MAX = 31,
	RECEIVER_LOST_FDS_MS =
		1000, /* before a message whose descriptor was lost comes again */
};

struct ipc_receiver {
	struct ipc_request request;
	struct list link;  /* in client->receivers */
	struct list ready; /* in client->ready, if it has a callback */

	char *queues[LIMIT_QUEUES_MAX];
	unsigned int n_queues, window;
	uint64_t max;
	int64_t wait_ms, ack_wait_ms;
	bool peek, dead;
	struct buf filter; /* JSON; empty: none */

	struct list messages; /* not fetched yet */
	uint64_t n_messages, n_received, n_fetched;
	uint64_t n_ahead;	     /* messages from before the last request */
	uint64_t n_lost_fds;	     /* refused for that, and nobody was told yet */
	struct ipc_message *partial; /* its last piece has not come yet */
	struct buf joined;	     /* the body of partial */

	ipc_message_fn callback;
	void *userdata;

	unsigned int n_waiting; /* ipc_receiver_next() or its callback on the stack */
	bool started, suspended, freed, once, end_is_told;
	bool refused; /* something that the daemon has counted */
	char end[RECEIVER_END_MAX + 1];
};

/* NULL without memory, with the client's error set. */
struct ipc_receiver *receiver_new(struct ipc_client *client);

/* Frees it if nobody needs it any more: call after n_waiting went down. */
void receiver_release(struct ipc_receiver *receiver);

/* The oldest message, now the caller's; or NULL. */
struct ipc_message *receiver_pop(struct ipc_receiver *receiver);

/* The same for the program, which holds its lease now. */
struct ipc_message *receiver_fetch(struct ipc_receiver *receiver);

static inline bool receiver_is_running(const struct ipc_receiver *receiver)
{
	return receiver->suspended || receiver->request.state == REQUEST_OPEN;
}

/* Without leases: messages are shown, not taken. */
static inline bool receiver_only_looks(const struct ipc_receiver *receiver)
{
	return receiver->peek || receiver->dead;
}

/* Puts the request, for what has not come yet. */
int receiver_put_request(struct ipc_receiver *receiver) MUST_CHECK;

/* Is there a callback to be run? */
void receiver_set_ready(struct ipc_receiver *receiver);

#endif
