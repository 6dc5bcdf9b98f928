/* SPDX-License-Identifier: MIT */

/*
 * send: a message into a queue. A send is answered when the queue has the message, which in a
 * durable queue means on the disk.
 *
 * Its body is in the frame; or it was too large for that and is in an upload; or it is a
 * file, of which the descriptor was sent, to be copied or (live) passed on as it is.
 */

#include <fcntl.h>
#include <string.h>

#include "base/err.h"
#include "dedup.h"
#include "file_text.h"
#include "foreign_fd.h"
#include "op_name.h"
#include "ops.h"
#include "send_body.h"
#include "send_request.h"

/* All that a header says. */
struct send_parts {
	struct message_content content;
	struct send_options options;
	struct name_ref queue_ref;
	struct queue *queue; /* NULL: it is made when the message goes into it */
	bool durable;
	struct digests digests;
	uint64_t file_size; /* UINT64_MAX: not said */
	bool live, progress;
	struct buf file; /* what is said of the file */
};

/* ---- the header ---- */

static int get_confirm(struct call *call, bool *ret_outcome)
{
	const char *text;
	size_t size;
	int r = header_get_string(call->header, KEY_CONFIRM, 1, 16, &text, &size,
				  call->fault);

	if (r <= 0)
		return r < 0 ? FAULT : 0;
	*ret_outcome = size == 5 && !memcmp(text, "acked", 5);
	if (!*ret_outcome && (size != 6 || memcmp(text, "stored", 6) != 0))
		return fault_set(call->fault, FAULT_BAD_REQUEST,
				 "\"confirm\" must be \"stored\" or \"acked\"");
	if (*ret_outcome && !call->has_id)
		return fault_set(call->fault, FAULT_BAD_REQUEST,
				 "confirm \"acked\" needs an \"id\" to answer to");
	return 0;
}

static int get_content(struct call *call, struct send_parts *parts)
{
	const struct header *h = call->header;
	struct message_content *content = &parts->content;
	uint64_t priority = LIMIT_PRIORITY_DEFAULT;

	*content = (struct message_content){ .ttl_ms = UINT64_MAX };
	if (header_get_u64(h, KEY_PRIORITY, 0, LIMIT_PRIORITY_MAX, &priority,
			   call->fault) < 0 ||
	    header_get_ms(h, KEY_DELAY_MS, false, &content->delay_ms, call->fault) < 0 ||
	    header_get_ms(h, KEY_TTL_MS, true, &content->ttl_ms, call->fault) < 0 ||
	    header_get_ms(h, KEY_WAIT_MS, true, &parts->options.wait_ms, call->fault) <
		    0 ||
	    header_get_object(h, KEY_META, LIMIT_META_MAX, &content->meta,
			      &content->meta_size, call->fault) < 0 ||
	    header_get_string(h, KEY_DEDUP_ID, 1, LIMIT_DEDUP_ID_MAX, &content->dedup_id,
			      &content->dedup_size, call->fault) < 0)
		return FAULT;
	if (content->dedup_id &&
	    name_is_anybody(&call->server->broker, call->peer->who.uid))
		return fault_set(
			call->fault, FAULT_DENIED,
			"uid %u stands for users that ipcd cannot tell apart, and "
			"with \"dedup_id\" it would take the message of one for "
			"that of another: send without it",
			call->peer->who.uid);
	content->priority = (unsigned int)priority;
	return get_confirm(call, &parts->options.wants_outcome);
}

static int get_file(struct call *call, struct send_parts *parts)
{
	const struct header *h = call->header;

	if (header_get_u64(h, KEY_FILE_SIZE, 0, LIMIT_NUMBER_MAX, &parts->file_size,
			   call->fault) < 0 ||
	    header_get_bool(h, KEY_LIVE, &parts->live, call->fault) < 0 ||
	    header_get_bool(h, KEY_PROGRESS, &parts->progress, call->fault) < 0 ||
	    digests_get(h, &parts->digests, call->fault))
		return FAULT;
	return err_trace(
		file_text_get(h, call->server->writer, &parts->file, call->fault));
}

static int check_queue(struct call *call, struct send_parts *parts)
{
	int r = op_name_get(call, KEY_QUEUE, &parts->queue_ref);

	if (r)
		return err_trace(r);
	return err_trace(queue_check_open(&call->server->broker, &parts->queue_ref,
					  &call->peer->who, RIGHT_WRITE, "send to",
					  &parts->queue, &parts->durable, call->fault));
}

/* In pieces the sender could not know at first: bytes were lost, or it has miscounted. */
static int check_promise(struct call *call, const struct send_parts *parts, uint64_t size)
{
	if (parts->file_size == UINT64_MAX || parts->file_size == size)
		return 0;
	return fault_set(call->fault, call->digests ? FAULT_INTEGRITY : FAULT_BAD_REQUEST,
			 "\"file_size\" is %llu, but the body has %llu bytes",
			 (unsigned long long)parts->file_size, (unsigned long long)size);
}

/* What goes together, before a name is looked at or made. body_size: UINT64_MAX if it is not
 * known yet, or not told by the frame. */
static int check_shape(struct call *call, const struct send_parts *parts,
		       uint64_t body_size)
{
	if (parts->live && !call->fds)
		return fault_set(call->fault, FAULT_BAD_REQUEST,
				 "\"live\" needs a file descriptor: \"fds\":1");
	if (parts->live && parts->digests.wanted)
		return fault_set(
			call->fault, FAULT_BAD_REQUEST,
			"\"live\" and a digest do not go together: ipcd does not "
			"read a live descriptor");
	return body_size == UINT64_MAX ? 0 : check_promise(call, parts, body_size);
}

static int get_parts(struct call *call, uint64_t body_size, struct send_parts *parts)
{
	int r;

	*parts = (struct send_parts){ .file_size = UINT64_MAX, .file = BUF_INIT };
	r = get_content(call, parts);
	if (r == 0)
		r = get_file(call, parts);
	if (r == 0 && call->digests)
		digests_add(&parts->digests, call->digests);
	if (r == 0)
		r = check_shape(call, parts, body_size);
	return r ? err_trace(r) : err_trace(check_queue(call, parts));
}

static int message_new_for(struct call *call, struct send_parts *parts,
			   struct message **ret_message)
{
	parts->content.from = peer_get_from(call->peer);
	*ret_message = parts->content.from ? message_new(&parts->content) : NULL;
	bytes_unref(parts->content.from);
	return *ret_message ? 0 : err_origin(-ENOMEM);
}

/* ---- before a large body is there ---- */

static int check_max(struct call *call, uint64_t size)
{
	uint64_t max = call->server->limits.file_max;

	if (size == UINT64_MAX || size <= max)
		return 0;
	return fault_set(call->fault, FAULT_TOO_LARGE,
			 "the body has %llu bytes, the limit is %llu (file_max)",
			 (unsigned long long)size, (unsigned long long)max);
}

/* Who does not want to wait is told before the bytes come. What was sent before takes no
 * room: it is answered when it is there again. */
static int check_room(struct call *call, const struct send_parts *parts, uint64_t size)
{
	bool on_disk = call->server->broker.blobs.directory >= 0;
	const struct message_content *content = &parts->content;
	uint64_t memory = content->meta_size + parts->file.size;

	if (parts->options.wait_ms || !parts->queue)
		return 0;
	if (content->dedup_id && dedup_find(parts->queue, call->peer->user,
					    content->dedup_id, content->dedup_size))
		return 0;
	if (size == UINT64_MAX)
		size = 0;
	return err_trace(queue_check_room(parts->queue, call->peer->user,
					  memory + (on_disk ? 0 : size),
					  on_disk ? size : 0, call->fault));
}

int op_send_check(struct call *call, uint64_t *size)
{
	struct send_parts parts;
	int r = get_parts(call, *size, &parts);

	if (r == 0 && *size == UINT64_MAX)
		*size = parts.file_size;
	if (r == 0)
		r = check_max(call, *size);
	if (r == 0)
		r = check_room(call, &parts, *size);
	buf_deinit(&parts.file);
	return r;
}

/* ---- a body in memory ---- */

static int make_digests(struct call *call, const struct send_parts *parts,
			char hex[DIGEST_N][DIGEST_HEX_MAX + 1])
{
	unsigned int kinds = parts->digests.wanted | 1u << DIGEST_XXH3;
	struct digest *digest;
	int r = digest_new(kinds, &digest);

	if (r < 0)
		return err_trace(r);
	digest_update(digest, call->body, call->body_size);
	for (unsigned int kind = 0; kind < DIGEST_N && r == 0; kind++) {
		if (!(kinds & 1u << kind))
			continue;
		digest_final(digest, kind, hex[kind]);
		r = digests_check(&parts->digests, kind, hex[kind], call->fault);
	}
	digest_free(digest);
	return r;
}

/* Of a file that is small enough. The text is kept in text. */
static int describe_body(struct call *call, struct send_parts *parts, struct buf *text)
{
	char hex[DIGEST_N][DIGEST_HEX_MAX + 1] = { "" };
	int r;

	if (!parts->file.size && !parts->digests.wanted && parts->file_size == UINT64_MAX)
		return 0;
	r = make_digests(call, parts, hex);
	if (r == 0)
		r = file_text_complete(call->server->writer, &parts->file,
				       call->body_size, hex, false, text);
	parts->content.file = text->data;
	parts->content.file_size = text->size;
	return err_trace(r);
}

static int wait_in_line(struct call *call, struct send_parts *parts, struct message *m)
{
	const struct send_source nothing = { .fd = -1, .promised = UINT64_MAX };
	struct buf none = BUF_INIT;

	return err_trace(send_body_start(call, &parts->options, &parts->queue_ref,
					 parts->queue, m, &none, &parts->digests,
					 &nothing));
}

static int open_and_send(struct call *call, struct send_parts *parts, struct message *m)
{
	bool made = !parts->queue;
	int r = 0;

	if (made)
		r = queue_open(&call->server->broker, &parts->queue_ref, &call->peer->who,
			       RIGHT_WRITE, "send to", &parts->queue, call->fault);
	if (r)
		return err_trace(r);
	r = send_message(call, NULL, parts->queue, m, &parts->options);
	if (r && made)
		queue_delete(parts->queue);
	return err_trace(r);
}

static int send_now(struct call *call, struct send_parts *parts)
{
	struct message *m;
	int r = message_new_for(call, parts, &m);

	if (r < 0)
		return err_trace(r);
	if (call->peer->n_preparing && send_body_must_wait(call->peer, &parts->queue_ref))
		r = wait_in_line(call, parts, m);
	else
		r = open_and_send(call, parts, m);
	if (r)
		message_free(m);
	return err_trace(r);
}

static int send_memory(struct call *call, struct send_parts *parts)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	int r = describe_body(call, parts, &text);

	if (r)
		return err_trace(r);
	parts->content.body = call->body;
	parts->content.body_block = call->body_block;
	parts->content.body_size = call->body_size;
	return err_trace(send_now(call, parts));
}

/* ---- a body that is still to be copied ---- */

static int send_source(struct call *call, struct send_parts *parts,
		       struct send_source *source)
{
	struct message *m;
	int r = message_new_for(call, parts, &m);

	source->durable = parts->durable;
	source->progress = parts->progress;
	if (r == 0)
		r = send_body_start(call, &parts->options, &parts->queue_ref,
				    parts->queue, m, &parts->file, &parts->digests,
				    source);
	if (r && m)
		message_free(m);
	return err_trace(r);
}

static int send_upload(struct call *call, struct send_parts *parts)
{
	struct send_source source = {
		.fd = -1,
		.upload = call->upload,
		.promised = UINT64_MAX,
		.size = call->upload->received,
	};
	uint64_t size = source.size;
	int r;

	if (parts->file_size != UINT64_MAX && parts->file_size != size)
		return fault_set(call->fault, FAULT_INTEGRITY,
				 "\"file_size\" is %llu, but %llu bytes came",
				 (unsigned long long)parts->file_size,
				 (unsigned long long)size);
	r = filling_charge(&call->upload->filling, size, call->fault);
	if (r == 0)
		r = send_source(call, parts, &source);
	if (r == 0)
		call->upload = NULL;
	return err_trace(r);
}

static int send_copy(struct call *call, struct send_parts *parts,
		     const struct foreign_fd *fd)
{
	struct send_source source = { .promised = parts->file_size,
				      .size = fd->size,
				      .disk = fd->disk };
	int r = check_max(call, fd->size);

	if (r == 0)
		r = check_room(call, parts, fd->disk);
	if (r)
		return err_trace(r);
	source.fd = call->fds->fds[0];
	r = send_source(call, parts, &source);
	if (r == 0)
		fdset_steal(call->fds, 0);
	return err_trace(r);
}

/* ---- a descriptor that is passed on as it is ---- */

static int send_as_it_is(struct call *call, struct send_parts *parts,
			 const struct foreign_fd *fd)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct blob *blob = NULL;
	int r = file_text_complete(call->server->writer, &parts->file, fd->size, NULL,
				   parts->live, &text);

	if (r == 0)
		blob = blob_new_fd(&call->server->broker.blobs, call->peer->user->uid,
				   call->fds->fds[0], fd->size, fd->disk, parts->live,
				   fd->quick);
	if (!blob)
		return err_origin(-ENOMEM);
	fdset_steal(call->fds, 0);
	parts->content.file = text.data;
	parts->content.file_size = text.size;
	parts->content.blob = blob;
	if (parts->live)
		parts->content.ttl_ms = min_u64(parts->content.ttl_ms,
						call->server->limits.live_deadline);
	r = send_now(call, parts);
	blob_unref(blob);
	return err_trace(r);
}

/* It is opened anew for each delivery, which its owner may have made impossible. */
static bool can_be_opened(int fd)
{
	int again = fd_reopen(fd, O_RDONLY);

	fd_close(again);
	return again >= 0;
}

/* Not one with holes: each is a descriptor that we keep, and would cost next to nothing. */
static bool may_adopt(const struct send_parts *parts, const struct foreign_fd *fd)
{
	return fd->sealed && fd->size > LIMIT_PIECE_MAX && fd->disk == fd->size &&
	       !parts->digests.wanted && !parts->durable;
}

static int send_fd(struct call *call, struct send_parts *parts)
{
	const struct server *server = call->server;
	struct foreign_fd fd;
	int r;

	if (workers_is_stuck(server->workers, call->peer->user->uid))
		return send_refuse_stuck(call->fault);
	if (parts->live && parts->durable)
		return queue_refuse_live(call->fault);
	if (parts->live) {
		r = foreign_fd_check_live(server, call->fds->fds[0], &fd, call->fault);
		return r ? r : err_trace(send_as_it_is(call, parts, &fd));
	}
	r = foreign_fd_check_file(call->fds->fds[0], &fd, call->fault);
	if (r)
		return r;
	if (may_adopt(parts, &fd) && can_be_opened(call->fds->fds[0])) {
		r = parts->file_size == UINT64_MAX || parts->file_size == fd.size
			    ? check_max(call, fd.size)
			    : fault_set(call->fault, FAULT_CHANGED,
					"the file has %llu bytes, not the %llu that "
					"\"file_size\" says",
					(unsigned long long)fd.size,
					(unsigned long long)parts->file_size);
		return r ? r : err_trace(send_as_it_is(call, parts, &fd));
	}
	return err_trace(send_copy(call, parts, &fd));
}

int op_send(struct call *call)
{
	struct send_parts parts;
	bool told = !call->fds && !call->upload;
	int r = get_parts(call, told ? call->body_size : UINT64_MAX, &parts);

	if (r == 0 && call->fds)
		r = send_fd(call, &parts);
	else if (r == 0 && call->upload)
		r = send_upload(call, &parts);
	else if (r == 0)
		r = send_memory(call, &parts);
	buf_deinit(&parts.file);
	return err_trace(r);
}
