/* SPDX-License-Identifier: MIT */

/* Open requests of a peer, see peer.h. */

#include "base/err.h"
#include "batch.h"
#include "peer.h"
#include "room.h"
#include "store.h"

struct request *peer_claim_request(const struct peer *peer, uint64_t id)
{
	struct map_node *node = map_find(&peer->requests, map_u64(id));
	struct request *request = node ? CONTAINER_OF(node, struct request, node) : NULL;

	if (!request || request_claim(request))
		return request;
	request->end(request, NULL);
	return NULL;
}

int request_open(struct request *request, struct peer *peer, bool has_id, uint64_t id,
		 void (*end)(struct request *, const char *))
{
	int r = has_id ? map_reserve(&peer->requests) : 0;

	if (r < 0)
		return err_trace(r);
	request->peer = peer;
	request->has_id = has_id;
	request->cost = 0;
	request->id = id;
	request->end = end;
	if (has_id)
		map_add(&peer->requests, &request->node, map_u64(id));
	else
		list_add_tail(&peer->nameless, &request->link);
	return 0;
}

int request_open_charged(struct request *request, struct peer *peer, uint64_t id,
			 size_t cost, void (*end)(struct request *, const char *),
			 struct fault *fault)
{
	int r = room_for_request(peer->user, &peer->server->limits, cost, fault);

	if (r == 0)
		r = request_open(request, peer, true, id, end);
	if (r)
		return err_trace(r);
	request->cost = (uint32_t)cost;
	peer->user->usage.request_bytes += cost;
	return 0;
}

void request_close(struct request *request)
{
	request->peer->user->usage.request_bytes -= request->cost;
	if (request->has_id)
		map_remove(&request->peer->requests, &request->node);
	else
		list_remove(&request->link);
	if (request->peer->state == PEER_DRAINING)
		peer_flush_later(request->peer); /* it may have been the last one */
}

/* ---- that wait for the disk ---- */

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
