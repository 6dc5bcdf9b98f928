/* SPDX-License-Identifier: MIT */

#include "dispatch.h"

#include <string.h>

#include "base/err.h"
#include "ops.h"
#include "room.h"
#include "store.h"

static const struct operation operations[] = {
	/* name, handler, right, verb, needs an id, takes a body, may stay open, takes a
	 * descriptor; the busiest first */
	{ "send", op_send, RIGHT_WRITE, "send to", false, true, true, true },
	{ "ack", op_ack, RIGHT_NONE, NULL, false, false, false, false },
	{ "receive", op_receive, RIGHT_READ, "receive from", true, false, true, false },
	{ "ping", op_ping, RIGHT_NONE, NULL, true, true, false, false },
	{ "hello", op_hello, RIGHT_NONE, NULL, true, false, false, false },
	{ "nack", op_nack, RIGHT_NONE, NULL, false, false, false, false },
	{ "reject", op_reject, RIGHT_NONE, NULL, false, false, false, false },
	{ "touch", op_touch, RIGHT_NONE, NULL, false, false, false, false },
	{ "cancel", op_cancel, RIGHT_NONE, NULL, false, false, false, false },
	{ "names", op_names, RIGHT_NONE, NULL, true, false, false, false },
	{ "stats", op_stats, RIGHT_NONE, NULL, true, false, false, false },
	{ "peers", op_peers, RIGHT_NONE, NULL, true, false, false, false },
	{ "disconnect", op_disconnect, RIGHT_NONE, NULL, true, false, false, false },
	/* of the owner, or of who may do all: they check it themselves */
	{ "create", op_create, RIGHT_NONE, NULL, true, false, false, false },
	{ "set", op_set, RIGHT_NONE, NULL, true, false, false, false },
	{ "delete", op_delete, RIGHT_NONE, NULL, true, false, false, false },
	{ "purge", op_purge, RIGHT_NONE, NULL, true, false, true, false },
	{ "move", op_move, RIGHT_NONE, NULL, true, false, true, false },
	{ "explain", op_explain, RIGHT_NONE, NULL, true, false, false, false },
};

static const struct operation *find_operation(const char *name, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
		if (!strncmp(operations[i].name, name, size) && !operations[i].name[size])
			return &operations[i];
	return NULL;
}

/* ---- for the handlers ---- */

int call_missing(struct call *call, enum header_key key)
{
	return fault_set(call->fault, FAULT_BAD_REQUEST, "%s needs \"%s\"",
			 call->op->name, header_key_name(key));
}

/* An answer that waits until what was done is on the disk. */
struct stored_reply {
	struct request request;
	struct store_wait stored;
	size_t size;
	char header[];
};

static void stored_reply_free(struct stored_reply *s)
{
	request_end_storing(&s->request);
	request_close(&s->request);
	free(s);
}

static void on_stored(struct store_wait *wait, int result)
{
	struct stored_reply *s = CONTAINER_OF(wait, struct stored_reply, stored);
	struct peer *peer = s->request.peer;

	if (request_end_storing(&s->request)) {
		stored_reply_free(s);
		return;
	}
	if (result == 0) {
		peer_put(peer, s->header, s->size);
	} else {
		fault_not_stored(&peer->server->fault, result);
		peer_refuse(peer, true, s->request.id, NULL, &peer->server->fault);
	}
	stored_reply_free(s);
}

static void on_stored_reply_end(struct request *request, const char *why)
{
	struct stored_reply *s = CONTAINER_OF(request, struct stored_reply, request);
	bool answered = request_end_storing(request);

	if (why && !answered) {
		fault_unstored_end(&request->peer->server->fault, why);
		peer_refuse(request->peer, true, request->id, NULL,
			    &request->peer->server->fault);
	}
	stored_reply_free(s);
}

void fault_not_stored(struct fault *fault, int result)
{
	/* not no-space: that says that nothing was done */
	fault_set(fault, FAULT_INTERNAL,
		  "it is done, but could not be written to the disk%s: ipcd tries again; "
		  "should it end before, it is as if it had not been done",
		  result == -ENOSPC ? ", which is full" : "");
}

void fault_unstored_end(struct fault *fault, const char *why)
{
	if (!strcmp(why, "cancelled"))
		fault_set(fault, FAULT_TIMEOUT,
			  "cancelled; it is done, but was not yet on the disk");
	else
		fault_set(
			fault, FAULT_INTERNAL,
			"the daemon is stopping, and the disk does not answer: it is "
			"done, but whether it is still so after the start is not known");
}

static bool is_stored(const struct call *call)
{
	const struct store *store = call->server->broker.store;

	return !store || store_mark(store) == call->store_mark;
}

/* The answer's header lies in server->header. */
static int reply_when_stored(struct call *call)
{
	const struct buf *header = &call->server->header;
	struct stored_reply *s = malloc(sizeof(*s) + header->size);

	if (!s)
		return err_origin(-ENOMEM);
	*s = (struct stored_reply){ .stored.done = on_stored, .size = header->size };
	memcpy(s->header, header->data, header->size);
	if (request_open(&s->request, call->peer, true, call->id, on_stored_reply_end) <
	    0) {
		free(s);
		return err_origin(-ENOMEM);
	}
	request_begin_storing(&s->request, &s->stored, true);
	return 0;
}

int call_answer(struct call *call)
{
	int r;

	if (!call->has_id || is_stored(call)) {
		peer_end(call->peer);
		return 0;
	}
	r = json_writer_end(call->server->writer);
	return err_trace(r < 0 ? r : reply_when_stored(call));
}

int call_done(struct call *call)
{
	if (!call->has_id)
		return 0;
	peer_begin(call->peer, true, call->id);
	return err_trace(call_answer(call));
}

int call_reply_body(struct call *call, const struct buf *lines)
{
	struct body_view body = { .data = lines->data, .size = lines->size };

	peer_reply_body(call->peer, call->id, &body);
	return 0;
}

int call_parse_name(struct call *call, const char *text, size_t size,
		    struct name_ref *ret_ref)
{
	struct peer *peer = call->peer;

	return err_trace(name_parse(&call->server->broker, text, size, peer->who.uid,
				    &peer->name_waiter, ret_ref, call->fault));
}

/* ---- checks before a handler ---- */

/* In hello it is no count. */
static int check_count(struct call *call)
{
	uint64_t n = 0;

	if (call->op->handle == op_hello)
		return 0;
	if (header_get_u64(call->header, KEY_FDS, 1, LIMIT_NUMBER_MAX, &n, call->fault) <
	    0)
		return FAULT;
	if (n > LIMIT_FDS_MAX)
		return fault_set(call->fault, FAULT_BAD_REQUEST,
				 "a frame has at most %d file descriptors (fds_max), not "
				 "%llu; they were closed",
				 LIMIT_FDS_MAX, (unsigned long long)n);
	return 0;
}

static int check_descriptors(struct call *call, const struct frame *frame)
{
	if (check_count(call))
		return FAULT;
	if (frame->fds_lost)
		return fault_set(
			call->fault, FAULT_FDS_LOST,
			"not all file descriptors of the frame arrived, or it says "
			"another number of them; send it again");
	if (!frame->fds)
		return 0;
	if (call->op->takes_fd && frame->fds->n == 1)
		return header_has(call->header, KEY_SIZE)
			       ? fault_set(call->fault, FAULT_BAD_REQUEST,
					   "either \"fds\" or \"size\", not both")
			       : 0;
	if (call->op->takes_fd)
		return fault_set(call->fault, FAULT_BAD_REQUEST,
				 "%s takes one file descriptor, not %u; they were closed",
				 call->op->name, frame->fds->n);
	return fault_set(call->fault, FAULT_BAD_REQUEST,
			 "%s takes no file descriptors; they were closed",
			 call->op->name);
}

static int check_body(struct call *call, const struct frame *frame)
{
	bool file = call->op->handle == op_send;
	uint64_t max = file ? call->server->limits.file_max
			    : call->server->limits.body_max;
	bool skipped = frame->body_size && !call->body && !call->body_block &&
		       !call->upload;

	if (frame->body_size > max || skipped)
		return fault_set(call->fault, FAULT_TOO_LARGE,
				 "the body has %zu bytes, the limit is %llu (%s)",
				 frame->body_size, (unsigned long long)max,
				 file ? "file_max" : "body_max");
	if (frame->body_size && !call->op->takes_body)
		return fault_set(call->fault, FAULT_BAD_REQUEST, "%s takes no body",
				 call->op->name);
	return 0;
}

static int check_state(struct call *call)
{
	if (call->op->needs_id && !call->has_id)
		return call_missing(call, KEY_ID);
	/* what frees room, such as ack and cancel, always goes through */
	if (call->op->may_wait &&
	    call->peer->requests.n >=
		    call->peer->n_storing + call->server->limits.requests_per_connection)
		return fault_set(
			call->fault, FAULT_FULL,
			"%zu requests are open on this connection "
			"(requests_per_connection); wait for answers or cancel some",
			call->peer->requests.n);
	return 0;
}

static int handle(struct call *call, const struct frame *frame)
{
	const char *name = "";
	size_t size = 0;
	int r = header_get_string(call->header, KEY_OP, 0, LIMIT_NAME_MAX, &name, &size,
				  call->fault);

	if (r < 0)
		return FAULT;
	call->op = find_operation(name, size);
	if (r == 0)
		return fault_set(call->fault, FAULT_BAD_REQUEST,
				 "a request needs \"op\"");
	if (!call->op)
		return fault_set(call->fault, FAULT_UNKNOWN_OP,
				 "there is no operation \"%.*s\" in this version",
				 (int)size, name);
	r = check_descriptors(call, frame);
	if (r == 0)
		r = check_body(call, frame);
	if (r == 0)
		r = check_state(call);
	return r ? r : err_trace(call->op->handle(call));
}

static void call_init(struct call *call, struct peer *peer, const struct header *header,
		      bool has_id, uint64_t id)
{
	struct server *server = peer->server;

	*call = (struct call){
		.server = server,
		.peer = peer,
		.header = header,
		.has_id = has_id,
		.id = id,
		.fault = &server->fault,
		.store_mark = server->broker.store ? store_mark(server->broker.store) : 0,
	};
}

/* *upload is set to NULL if it was taken. */
static int run(struct peer *peer, const struct frame *frame, bool has_id, uint64_t id,
	       struct upload **upload, const struct digests *digests)
{
	struct call call;
	int r;

	call_init(&call, peer, frame->header, has_id, id);
	call.body = frame->body_block ? frame->body_block->data : frame->body;
	call.body_size = frame->body_size;
	call.body_block = frame->body_block;
	call.upload = *upload;
	call.fds = frame->fds;
	call.digests = digests;
	r = handle(&call, frame);
	*upload = call.upload;
	if (r == FAULT) {
		peer_refuse(peer, has_id, id, call.op ? call.op->name : NULL, call.fault);
		return 0;
	}
	if (r < 0) {
		/* its own failure, not a broken protocol: ends the peer and nobody else */
		peer_fail(peer, r);
		return 0;
	}
	return r;
}

/* One whose body is there, or was read by an upload. */
static int run_frame(struct peer *peer, const struct frame *frame, bool has_id,
		     uint64_t id)
{
	struct upload *none = NULL, **upload = frame->lent ? &peer->lent : &none;
	int r;

	if (peer->body_refused && frame->body_size && !frame->body &&
	    !frame->body_block) { /* and said so, when its header came */
		peer->body_refused = false;
		return 0;
	}
	r = run(peer, frame, has_id, id, upload, NULL);
	if (r != DISPATCH_WAIT)
		*upload = upload_free(*upload);
	return err_trace(r);
}

/* A request that came in pieces: its header is parsed once more, its body is joined. */
static int run_assembly(struct peer *peer, struct assembly *assembly)
{
	struct reader *reader = peer->server->reader;
	struct frame frame = {
		.header = &reader->header,
		.header_text = assembly->header,
		.header_size = assembly->header_size,
		.body_size = assembly->have,
		.body_block = assembly->body,
	};
	int r = header_parse(&reader->header, reader->json, assembly->header,
			     assembly->header_size);

	if (r == 0)
		r = run(peer, &frame, true, assembly->id, &assembly->upload,
			&assembly->digests);
	if (r == DISPATCH_WAIT)
		return r;
	assembly_free(&peer->assemblies, assembly);
	return err_trace(r);
}

static int get_id(const struct frame *frame, bool *ret_has_id, uint64_t *ret_id,
		  struct fault *fault)
{
	int r = header_get_u64(frame->header, KEY_ID, 0, LIMIT_NUMBER_MAX, ret_id, fault);

	*ret_has_id = r == 1;
	return r < 0 ? FAULT : 0;
}

/* ---- bodies too large for memory ---- */

/* size: of the body, UINT64_MAX if it comes in pieces. 0; FAULT; DISPATCH_WAIT; -ENOMEM. */
static int begin_upload(struct peer *peer, const struct header *header, bool has_id,
			uint64_t id, uint64_t size, struct upload **ret_upload)
{
	struct server *server = peer->server;
	struct digests digests = { 0 };
	struct upload *upload;
	struct call call;
	int r;

	call_init(&call, peer, header, has_id, id);
	call.op = find_operation("send", 4);
	r = check_state(&call);
	if (r == 0)
		r = digests_get(header, &digests, call.fault);
	if (r == 0)
		r = op_send_check(&call, &size);
	if (r == 0)
		r = room_for_body(peer->user, &server->limits, call.fault);
	if (r)
		return err_trace(r);
	upload = upload_new(&server->broker.blobs, peer->user, &server->limits, &digests);
	if (!upload)
		return err_origin(-ENOMEM);
	if (size != UINT64_MAX && filling_charge(&upload->filling, size, call.fault)) {
		upload_free(upload);
		return FAULT;
	}
	upload->filling.expected = size != UINT64_MAX ? size : 0;
	*ret_upload = upload;
	return 0;
}

/* Of a body in pieces; the parser then has the header of the first one. */
static int begin_assembly_upload(struct peer *peer, struct assembly *assembly)
{
	struct reader *reader = peer->server->reader;
	struct upload *upload;
	int r = header_parse(&reader->header, reader->json, assembly->header,
			     assembly->header_size);

	if (r == 0)
		r = begin_upload(peer, &reader->header, true, assembly->id, UINT64_MAX,
				 &upload);
	if (r)
		return err_trace(r);
	r = assembly_set_upload(&peer->assemblies, assembly, upload);
	if (r < 0)
		upload_free(upload);
	return err_trace(r);
}

static int check_piece(struct peer *peer, const struct assembly *assembly, uint64_t size)
{
	uint64_t max = peer->server->limits.file_max;

	if (assembly->have <= max && size <= max - assembly->have)
		return 0;
	return fault_set(&peer->server->fault, FAULT_TOO_LARGE,
			 "the body has more than %llu bytes (file_max)",
			 (unsigned long long)max);
}

/* A large piece. */
static int lend_piece(struct peer *peer, struct assembly *assembly, uint64_t size,
		      enum stream_body *ret_what)
{
	uint64_t id = assembly->id;
	int r = 0;

	*ret_what = assembly->is_send ? STREAM_BODY_SKIP : STREAM_BODY_KEEP;
	if (assembly->dropping || !assembly->is_send)
		return 0;
	r = check_piece(peer, assembly, size);
	if (r == 0 && !assembly->upload)
		r = begin_assembly_upload(peer, assembly);
	if (r == FAULT) {
		peer_refuse(peer, true, id, "send", &peer->server->fault);
		assembly_drop(&peer->assemblies, assembly);
		return 0;
	}
	if (r)
		return err_trace(r);
	peer->lent = assembly->upload;
	*ret_what = STREAM_BODY_LEND;
	return 0;
}

/* The body of a whole frame. */
static int lend_frame(struct peer *peer, const struct frame *frame, bool has_id,
		      uint64_t id, enum stream_body *ret_what)
{
	int r;

	*ret_what = STREAM_BODY_KEEP;
	if (!assembly_is_send(frame->header) || frame->fds || frame->fds_lost)
		return 0;
	r = begin_upload(peer, frame->header, has_id, id, frame->body_size, &peer->lent);
	if (r == FAULT) {
		peer_refuse(peer, has_id, id, "send", &peer->server->fault);
		peer->body_refused = true;
	}
	if (r == 0 || r == FAULT)
		*ret_what = r ? STREAM_BODY_SKIP : STREAM_BODY_LEND;
	return r == FAULT ? 0 : err_trace(r);
}

int dispatch_body(struct peer *peer, const struct frame *frame,
		  enum stream_body *ret_what)
{
	struct server *server = peer->server;
	struct assembly *assembly;
	uint64_t id = 0;
	bool has_id;
	int r = get_id(frame, &has_id, &id, &server->fault);

	*ret_what = STREAM_BODY_KEEP;
	if (r) /* told when all of it is there */
		return 0;
	if (has_id && peer_claim_request(peer, id)) {
		fault_set(&server->fault, FAULT_BAD_REQUEST, "id %llu is still in use",
			  (unsigned long long)id);
		return err_origin(-EPROTO);
	}
	r = assemblies_open(&peer->assemblies, frame, has_id, id, server->loop.now_ns,
			    &assembly, &server->fault);
	if (r)
		return r == FAULT ? 0 : err_trace(r);
	if (assembly)
		r = lend_piece(peer, assembly, frame->body_size, ret_what);
	else
		r = lend_frame(peer, frame, has_id, id, ret_what);
	if (r == -ENOMEM) {
		peer_fail(peer, r);
		return 0;
	}
	return err_trace(r);
}

/* The frame is a piece. 0, DISPATCH_WAIT, -errno. */
static int take_piece(struct peer *peer, const struct frame *frame, uint64_t id, int r,
		      struct assembly *assembly)
{
	if (r == ASSEMBLY_FULL) {
		peer_write_upload(peer, assembly->upload);
		return DISPATCH_WAIT;
	}
	if (r == ASSEMBLY_WHOLE)
		return err_trace(run_assembly(peer, assembly));
	if (r == FAULT)
		peer_refuse(peer, true, id, NULL, &peer->server->fault);
	return r < 0 ? err_trace(r) : 0;
}

/* A body in pieces has become too large for memory: the frame comes again. */
static int enlarge(struct peer *peer, struct assembly *assembly)
{
	uint64_t id = assembly->id;
	int r = begin_assembly_upload(peer, assembly);

	if (r == FAULT) {
		peer_refuse(peer, true, id, "send", &peer->server->fault);
		assembly_drop(&peer->assemblies, assembly);
		r = 0;
	}
	return r == 0 ? DISPATCH_AGAIN : err_trace(r);
}

int dispatch_frame(struct peer *peer, const struct frame *frame)
{
	struct server *server = peer->server;
	struct assembly *assembly = NULL;
	uint64_t id = 0;
	bool has_id;
	int r = get_id(frame, &has_id, &id, &server->fault);

	if (r) {
		peer_refuse(peer, false, 0, NULL, &server->fault);
		return 0;
	}
	if (has_id && peer_claim_request(peer, id)) {
		fault_set(&server->fault, FAULT_BAD_REQUEST, "id %llu is still in use",
			  (unsigned long long)id);
		return err_origin(-EPROTO);
	}
	if (frame->fds && (header_has(frame->header, KEY_MORE) ||
			   (has_id && assemblies_has(&peer->assemblies, id)))) {
		fault_set(&server->fault, FAULT_BAD_REQUEST,
			  "a body in pieces comes without file descriptors");
		return err_origin(-EPROTO);
	}
	r = assemblies_take(&peer->assemblies, frame, has_id, id, &server->limits,
			    server->loop.now_ns, &assembly, &server->fault);
	if (r == ASSEMBLY_NONE)
		return err_trace(run_frame(peer, frame, has_id, id));
	if (frame->lent) /* all of the piece is in its assembly's upload */
		peer->lent = NULL;
	if (r == ASSEMBLY_LARGE)
		return err_trace(enlarge(peer, assembly));
	return err_trace(take_piece(peer, frame, id, r, assembly));
}
