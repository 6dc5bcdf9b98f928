/* SPDX-License-Identifier: MIT */

#include "listing.h"

#include <string.h>

#include "base/err.h"

enum { LOOK_AT_ONCE = 64 };

/* ---- the end ---- */

static void listing_free(struct listing *listing)
{
	listing->request.peer->listing = NULL;
	request_close(&listing->request);
	buf_deinit(&listing->body);
	free(listing);
}

/* The end of a body of which there were pieces, and the answer to the request. */
static void refuse_rest(const struct request *request)
{
	struct json_writer *w = peer_begin(request->peer, true, request->id);

	json_put_text(w, "abort", fault_word_name(FAULT_SHUTTING_DOWN));
	json_put_text(w, "error", fault_word_name(FAULT_SHUTTING_DOWN));
	json_put_text(w, "message", "the daemon is stopping");
	peer_end(request->peer);
}

static void on_end(struct request *request, const char *why)
{
	struct listing *listing = CONTAINER_OF(request, struct listing, request);
	struct fault *fault = &request->peer->server->fault;

	if (why && listing->in_pieces) {
		refuse_rest(request);
	} else if (why) {
		fault_set(fault, FAULT_SHUTTING_DOWN, "the daemon is stopping");
		peer_refuse(request->peer, true, request->id, NULL, fault);
	}
	listing_free(listing);
}

/* ---- turns ---- */

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

/* What there is goes at once, where that is possible: so no list is too long. */
static void put_pieces(struct listing *listing)
{
	struct peer *peer = listing->request.peer;
	struct buf *body = &listing->body;
	struct body_view piece = { .size = LIMIT_PIECE_MAX, .more = true };

	while (peer->pieces && body->size > LIMIT_PIECE_MAX) {
		piece.data = body->data;
		peer_reply_body(peer, listing->request.id, &piece);
		body->size -= LIMIT_PIECE_MAX;
		memmove(body->data, body->data + LIMIT_PIECE_MAX, body->size);
		listing->in_pieces = true;
	}
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
	if (r > 0) {
		put_pieces(listing);
		return;
	}
	body = (struct body_view){ .data = listing->body.data,
				   .size = listing->body.size };
	peer_reply_body(peer, listing->request.id, &body);
	listing_free(listing);
}

void listing_drop(struct peer *peer)
{
	listing_free(peer->listing);
}
