/* SPDX-License-Identifier: MIT */

/* What a peer is told: frames into its output, see peer.h. It is flushed by peer.c. */

#include "base/err.h"
#include "peer.h"

static bool may_write(struct peer *peer)
{
	if (peer->state >= PEER_LINGERING || peer->output_dead)
		return false;
	if (!stream_pending(&peer->stream))
		peer->sent_ns = peer->server->loop.now_ns;
	return true;
}

static int put_header(struct peer *peer)
{
	const struct buf *header = &peer->server->header;

	return err_trace(stream_put_header(&peer->stream, header->data, header->size));
}

/* The frame's header lies in server->header. */
static void write_header(struct peer *peer)
{
	int r;

	if (!may_write(peer))
		return;
	r = put_header(peer);
	if (r < 0)
		peer_fail(peer, r);
	peer_flush_later(peer);
}

static int put_piece(struct peer *peer, uint64_t id, const struct body_view *body,
		     size_t offset, size_t size)
{
	struct json_writer *w = peer_begin(peer, true, id);
	int r;

	json_put_u64(w, "size", size);
	if (body->more || offset + size < body->size)
		json_put_bool(w, "more", true);
	r = json_writer_end(w);
	if (r == 0)
		r = put_header(peer);
	if (r < 0)
		return err_trace(r);
	if (body->block && body->own)
		return err_trace(
			stream_put_own_bytes(&peer->stream, body->block, offset, size));
	if (body->block)
		return err_trace(
			stream_put_bytes(&peer->stream, body->block, offset, size));
	return err_trace(stream_put(&peer->stream, body->data + offset, size));
}

int peer_put_pieces(struct peer *peer, uint64_t id, const struct body_view *body,
		    size_t offset)
{
	size_t max = peer->pieces ? LIMIT_PIECE_MAX : SIZE_MAX;
	int r;

	do {
		size_t size = min_size(body->size - offset, max);

		r = put_piece(peer, id, body, offset, size);
		offset += size;
	} while (r == 0 && offset < body->size);
	return err_trace(r);
}

void peer_reply_body(struct peer *peer, uint64_t id, const struct body_view *body)
{
	int r;

	if (!may_write(peer))
		return;
	r = peer_put_pieces(peer, id, body, 0);
	if (r < 0)
		peer_fail(peer, r);
	peer_flush_later(peer);
}

struct json_writer *peer_begin(struct peer *peer, bool has_id, uint64_t id)
{
	struct server *server = peer->server;

	server->header.size = 0;
	json_writer_begin(server->writer, &server->header);
	if (has_id)
		json_put_u64(server->writer, "re", id);
	return server->writer;
}

void peer_put_made(struct peer *peer, int r)
{
	if (r < 0)
		peer_fail(peer, r);
	else
		write_header(peer);
}

void peer_end(struct peer *peer)
{
	peer_put_made(peer, json_writer_end(peer->server->writer));
}

void peer_put(struct peer *peer, const char *header, size_t size)
{
	struct buf *out = &peer->server->header;

	out->size = 0;
	peer_put_made(peer, buf_append(out, header, size));
}

void peer_refuse(struct peer *peer, bool has_id, uint64_t id, const char *op,
		 const struct fault *fault)
{
	struct json_writer *w = peer_begin(peer, has_id, id);

	json_put_text(w, "error", fault_word_name(fault->word));
	if (!has_id && op)
		json_put_text(w, "op", op);
	json_put_text(w, "message", fault->text);
	peer_end(peer);
}
