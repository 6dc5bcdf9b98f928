/* SPDX-License-Identifier: MIT */

/* Large bodies on their way from a peer into an upload, see peer.h. */

#include "base/err.h"
#include "peer.h"

/* ---- failures: the request is answered, the rest of its body is dropped as it comes ---- */

static uint64_t id_of_lent(struct peer *peer, bool *ret_has_id)
{
	struct reader *reader = peer->server->reader;
	struct stream *s = &peer->stream;
	uint64_t id = 0;

	/* nothing else is parsed meanwhile, and it was parsed before */
	if (header_parse(&reader->header, reader->json, s->partial + 4, s->header_size) <
	    0)
		return 0;
	*ret_has_id = header_get_u64(&reader->header, KEY_ID, 0, LIMIT_NUMBER_MAX, &id,
				     &peer->server->fault) == 1;
	return id;
}

static void refuse(struct peer *peer, struct upload *u, const struct fault *fault)
{
	struct assembly *assembly = assemblies_find_upload(&peer->assemblies, u);
	bool has_id = true;
	uint64_t id = assembly ? assembly->id : id_of_lent(peer, &has_id);

	peer_refuse(peer, has_id, id, "send", fault);
	if (peer->lent == u) {
		peer->lent = NULL;
		/* never fails where nothing is to be allocated */
		(void)!stream_decide_body(&peer->stream, STREAM_BODY_SKIP);
		peer->body_refused = !assembly;
	}
	if (assembly)
		assembly_drop(&peer->assemblies, assembly);
	else
		upload_free(u);
}

/* What it has grown to is the user's. */
static int check_charge(struct upload *u, struct fault *fault)
{
	int r = filling_check(&u->filling, fault);

	return r ? r : filling_charge(&u->filling, u->received, fault);
}

/* ---- turns ---- */

static void go_on(struct peer *peer, const struct upload *u)
{
	if (u->end == STREAM_E_EOF || (u->end < 0 && u->end != -EPROTO)) {
		peer_end_input(peer);
		return;
	}
	if (u->end == -EPROTO) {
		fault_set(&peer->server->fault, FAULT_BAD_FRAME,
			  "file descriptors came in the middle of a body");
		peer_break_off(peer, u->end, &peer->server->fault);
		return;
	}
	if (u->end != STREAM_E_AGAIN) /* else there is an event when more has come */
		peer->readable = true;
	source_again(&peer->source);
}

static void on_turn_done(struct upload *u)
{
	struct peer *peer = u->owner;
	struct fault *fault = &peer->server->fault;

	peer->uploading = peer->paused = false;
	peer->turn = NULL;
	peer_ask_for_events(peer);
	if (u->got) {
		stream_add_lent(&peer->stream, u->got);
		peer->read_ns = peer->server->loop.now_ns;
	}
	if (peer->state > PEER_OPEN)
		return;
	if (!stream_lent_left(&peer->stream)) /* its frame is complete */
		peer->unread = true;
	if (check_charge(u, fault)) {
		peer->readable = true;
		refuse(peer, u, fault);
		source_again(&peer->source);
		return;
	}
	go_on(peer, u);
}

static void run_turn(struct peer *peer, struct upload *u, int socket, uint64_t left)
{
	peer->uploading = true;
	peer->turn = u;
	peer_ask_for_events(peer);
	upload_run(u, peer->server->workers, socket, left, on_turn_done, peer);
}

void peer_write_upload(struct peer *peer, struct upload *u)
{
	run_turn(peer, u, -1, 0);
}

void peer_feed_upload(struct peer *peer)
{
	struct stream *s = &peer->stream;
	struct upload *u = peer->lent;
	const char *data;
	size_t n = stream_take_lent(s, peer->server->reader, upload_room(u), &data);

	if (n && upload_add(u, data, n) < 0) {
		peer_fail(peer, -ENOMEM);
		return;
	}
	if (!stream_lent_left(s)) /* all of it was there */
		return;
	if (upload_is_full(u)) {
		peer_write_upload(peer, u);
		return;
	}
	/* what has not been read when the turn ends is an event then */
	peer->readable = false;
	run_turn(peer, u, s->fd, stream_lent_left(s));
}

void peer_drop_upload(struct peer *peer)
{
	if (peer->turn)
		peer->turn->owner = NULL;
	if (peer->lent && !assemblies_find_upload(&peer->assemblies, peer->lent))
		upload_free(peer->lent);
	peer->lent = NULL;
}
