/* SPDX-License-Identifier: MIT */

/* Requests that wait for the disk, see peer.h. */

#include "batch.h"
#include "peer.h"
#include "store.h"

/* NULL without memory: then the loop answers. */
static struct outlet *get_outlet(struct peer *peer)
{
	if (!peer->outlet)
		peer->outlet = outlet_new(peer->stream.fd, stream_pending(&peer->stream));
	return peer->outlet;
}

static void add_receipt(struct peer *peer, struct store_wait *wait)
{
	const struct buf *header = &peer->server->header;
	struct outlet *outlet = get_outlet(peer);

	if (outlet)
		store_add_receipt(peer->server->broker.store, wait, outlet,
				  (struct slice){ header->data, header->size });
}

void request_begin_storing(struct request *request, struct store_wait *wait,
			   bool with_header)
{
	struct peer *peer = request->peer;

	request->storing = wait;
	peer->n_storing++;
	store_wait(peer->server->broker.store, wait);
	if (with_header)
		add_receipt(peer, wait);
}

bool request_claim(struct request *request)
{
	struct store_wait *wait = request->storing;

	return !wait || !wait->receipt || receipt_revoke(TAKE_PTR(wait->receipt));
}

bool request_end_storing(struct request *request)
{
	struct peer *peer = request->peer;
	struct store_wait *wait = request->storing;
	bool answered = !request_claim(request);

	if (!wait)
		return false;
	request->storing = NULL;
	list_remove(&wait->link);
	if (peer->n_storing-- == LIMIT_STORING_MAX)
		source_again(&peer->source);
	return answered;
}

size_t peer_n_requests(const struct peer *peer)
{
	return peer->requests.n - (peer->outlet ? outlet_n_sent(peer->outlet) : 0) -
	       (peer->listing != NULL);
}

/* ---- the outlet ---- */

void peer_take_outlet(struct peer *peer)
{
	if (peer->outlet)
		outlet_take(peer->outlet);
}

/* Not behind its last words. */
void peer_give_outlet(struct peer *peer)
{
	if (peer->outlet && peer->state <= PEER_DRAINING)
		outlet_give(peer->outlet);
}

void peer_drop_outlet(struct peer *peer)
{
	if (peer->outlet)
		outlet_close(peer->outlet);
	peer->outlet = outlet_unref(peer->outlet);
}
