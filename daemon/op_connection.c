/* SPDX-License-Identifier: MIT */

/* hello, ping, cancel: about the connection itself. */

#include <string.h>

#include "base/err.h"
#include "op_receive.h"
#include "ops.h"

enum { PROTOCOL_VERSION = 1 };

void op_put_limits(struct json_writer *w, const struct limits *limits)
{
	json_put_object(w, "limits");
	for (size_t i = 0; i < limits_table_size; i++) {
		const struct limit_info *info = &limits_table[i];
		uint64_t value = info->value;

		if (info->offset != SIZE_MAX)
			memcpy(&value, (const char *)limits + info->offset,
			       sizeof(value));
		json_put_u64(w, info->key, value);
	}
	json_put_end(w);
}

static void reply_hello(struct call *call)
{
	struct server *server = call->server;
	struct json_writer *w = peer_begin(call->peer, true, call->id);
	char epoch[16];

	format_hex64(epoch, server->epoch);
	json_put_u64(w, "version", PROTOCOL_VERSION);
	json_put_text(w, "server", "ipcd " IPCD_VERSION);
	json_put_string(w, "epoch", epoch, sizeof(epoch));
	json_put_u64(w, "peer", call->peer->number);
	json_put_text(w, "user", call->peer->user->name);
	op_put_limits(w, &server->limits);
	peer_end(call->peer);
}

int op_hello(struct call *call)
{
	const struct header *h = call->header;
	struct peer *peer = call->peer;
	uint64_t version = PROTOCOL_VERSION;
	bool fds = peer->fds, pieces = peer->pieces;
	const char *label = "";
	size_t size = 0;
	int has_label;

	if (header_get_u64(h, KEY_VERSION, PROTOCOL_VERSION, PROTOCOL_VERSION, &version,
			   call->fault) < 0 ||
	    header_get_bool(h, KEY_FDS, &fds, call->fault) < 0 ||
	    header_get_bool(h, KEY_PIECES, &pieces, call->fault) < 0)
		return FAULT;
	has_label = header_get_string(h, KEY_LABEL, 0, LIMIT_LABEL_MAX, &label, &size,
				      call->fault);
	if (has_label < 0)
		return FAULT;
	if (has_label) {
		char *copy = strndup(label, size);

		if (!copy)
			return err_origin(-ENOMEM);
		free(peer->label);
		peer->label = copy;
	}
	peer->fds = fds;
	peer->pieces = pieces;
	op_receive_follow_fds(peer);
	reply_hello(call);
	return 0;
}

int op_ping(struct call *call)
{
	struct body_view body = { .block = call->body_block,
				  .data = call->body,
				  .size = call->body_size,
				  .own = true };

	peer_reply_body(call->peer, call->id, &body);
	return 0;
}

int op_cancel(struct call *call)
{
	struct request *request;
	uint64_t id;
	int r = header_get_u64(call->header, KEY_REQUEST, 0, LIMIT_NUMBER_MAX, &id,
			       call->fault);

	if (r < 0)
		return FAULT;
	if (r == 0)
		return call_missing(call, KEY_REQUEST);
	request = peer_claim_request(call->peer, id);
	if (!request)
		return fault_set(call->fault, FAULT_NOT_FOUND,
				 "no request with id %llu is open on this connection",
				 (unsigned long long)id);
	request->end(request, "cancelled");
	return call_done(call);
}
