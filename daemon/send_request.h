/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SEND_REQUEST_H
#define DAEMON_SEND_REQUEST_H

/*
 * A send that is not answered at once: its body is still being copied (send_body.c), it waits
 * for room (wait_ms), for the disk, or for the outcome (confirm "acked").
 */

#include "dispatch.h"
#include "store.h"

struct send_body;

struct send_options {
	uint64_t wait_ms; /* UINT64_MAX: for ever */
	bool wants_outcome;
};

struct send_request {
	struct request request;
	struct send_request *next_spare;
	struct send_options options;
	bool waits;    /* for room */
	bool confirms; /* registered for the outcome */
	bool answered; /* by its receipt, see request_begin_storing() */
	bool unstored; /* the outcome came before the message was known to be stored, and is
			  itself on its way to the disk */
	bool duplicate;
	uint64_t number;
	const char *outcome;
	uint64_t failures; /* of the store, when it began to wait for it */
	struct waiting_send waiting;
	struct confirm confirm;
	struct store_wait stored;
	struct timer timer;
	struct waiting_charge charge; /* of its own, for others to act */
	uint64_t held; /* bytes of its large body, charged until its queue has it */
	struct send_body
		*body; /* that is being copied, or waits for one before it; or NULL */
};

/* NULL without memory. */
struct send_request *send_request_new(struct call *call,
				      const struct send_options *options);
void send_request_free(struct send_request *s);

/* At the end of the daemon. */
void send_requests_drop_spare(struct server *server);

/* Its large body is there, and takes so much. */
void send_request_hold(struct send_request *s, uint64_t bytes);

/* Answers with server->fault, and frees. */
void send_request_refuse(struct send_request *s);

/* Puts the message, which is taken on success, into the queue, or lets it wait for that. s:
 * the open request, or NULL: it is opened where that is needed. 0; FAULT or -ENOMEM: s is
 * still the caller's. */
int send_message(struct call *call, struct send_request *s, struct queue *queue,
		 struct message *m, const struct send_options *options) MUST_CHECK;

#endif
