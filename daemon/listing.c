/* SPDX-License-Identifier: MIT */

#include "listing.h"

#include "base/err.h"

enum { LOOK_AT_ONCE = 64 };

static void listing_free(struct listing *listing)
{
	listing->request.peer->listing = NULL;
	request_close(&listing->request);
	buf_deinit(&listing->body);
	free(listing);
}

static void on_end(struct request *request, const char *why)
{
	struct fault *fault = &request->peer->server->fault;

	if (why) {
		fault_set(fault, FAULT_SHUTTING_DOWN, "the daemon is stopping");
		peer_refuse(request->peer, true, request->id, NULL, fault);
	}
	listing_free(CONTAINER_OF(request, struct listing, request));
}

int listing_start(struct call *call, uint64_t last,
		  int (*put_some)(struct listing *, unsigned int))
{
	struct listing *listing = calloc(1, sizeof(*listing));

	if (!listing)
		return err_origin(-ENOMEM);
	listing->put_some = put_some;
	listing->last = last;
	if (request_open(&listing->request, call->peer, true, call->id, on_end) < 0) {
		free(listing);
		return err_origin(-ENOMEM);
	}
	call->peer->listing = listing;
	source_again(&call->peer->source);
	return 0;
}

void listing_go_on(struct peer *peer)
{
	struct listing *listing = peer->listing;
	struct body_view body;
	int r = listing->put_some(listing, LOOK_AT_ONCE);

	if (r < 0) {
		peer_fail(peer, r);
		return;
	}
	source_again(&peer->source);
	if (r > 0)
		return;
	body = (struct body_view){ .data = listing->body.data,
				   .size = listing->body.size };
	peer_reply_body(peer, listing->request.id, &body);
	listing_free(listing);
}

void listing_drop(struct peer *peer)
{
	listing_free(peer->listing);
}
