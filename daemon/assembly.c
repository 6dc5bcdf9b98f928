/* SPDX-License-Identifier: MIT */

#include "assembly.h"

#include <string.h>

#include "base/err.h"

void assemblies_init(struct assemblies *a)
{
	*a = (struct assemblies){ 0 };
	list_init(&a->list);
}

void assemblies_deinit(struct assemblies *a)
{
	struct assembly *assembly;

	while ((assembly = LIST_FIRST(&a->list, struct assembly, link)))
		assembly_free(a, assembly);
}

struct assembly *assembly_free(struct assemblies *a, struct assembly *assembly)
{
	list_remove(&assembly->link);
	a->n--;
	a->bytes -= assembly->header_size;
	a->bytes -= assembly->body ? assembly->body->size : 0;
	bytes_unref(assembly->body);
	upload_free(assembly->upload);
	free(assembly);
	return NULL;
}

static struct assembly *find(const struct assemblies *a, uint64_t id)
{
	LIST_FOREACH(link, &a->list) {
		struct assembly *assembly = LIST_ENTRY(link, struct assembly, link);

		if (assembly->id == id)
			return assembly;
	}
	return NULL;
}

uint64_t assemblies_buffered(const struct assemblies *a)
{
	uint64_t bytes = a->bytes;

	LIST_FOREACH(link, &a->list) {
		const struct upload *u = LIST_ENTRY(link, struct assembly, link)->upload;

		bytes += u ? u->used : 0;
	}
	return bytes;
}

bool assemblies_has(const struct assemblies *a, uint64_t id)
{
	return find(a, id) != NULL;
}

uint64_t assemblies_oldest_ns(const struct assemblies *a)
{
	uint64_t oldest = UINT64_MAX;

	LIST_FOREACH(link, &a->list)
		oldest =
			min_u64(oldest, LIST_ENTRY(link, struct assembly, link)->last_ns);
	return oldest;
}

bool assembly_is_send(const struct header *h)
{
	const struct json_value *v = json_at(h->json, h->at[KEY_OP]);

	return header_has(h, KEY_OP) && v->type == JSON_STRING && v->size == 4 &&
	       !memcmp(json_text(h->json, v), "send", 4);
}

/* It is opened when its body is still to come, and again when it is there. */
static bool is_first(const struct assembly *assembly, const struct frame *frame)
{
	return !assembly->begun && frame->header_size == assembly->header_size;
}

static int begin(struct assemblies *a, const struct frame *frame, uint64_t id,
		 struct assembly **ret_assembly, struct fault *fault)
{
	struct assembly *assembly;

	if (a->n == LIMIT_CUT_BODIES_MAX) {
		fault_set(
			fault, FAULT_BAD_REQUEST,
			"at most %d bodies may be under way in pieces at once (cut_bodies_max)",
			LIMIT_CUT_BODIES_MAX);
		return err_origin(-EPROTO);
	}
	assembly = malloc(sizeof(*assembly) + frame->header_size);
	if (!assembly)
		return err_origin(-ENOMEM);
	*assembly = (struct assembly){ .id = id,
				       .is_send = assembly_is_send(frame->header),
				       .header_size = frame->header_size };
	memcpy(assembly->header, frame->header_text, frame->header_size);
	list_add_tail(&a->list, &assembly->link);
	a->n++;
	a->bytes += assembly->header_size;
	*ret_assembly = assembly;
	return 0;
}

int assembly_drop(struct assemblies *a, struct assembly *assembly)
{
	a->bytes -= assembly->body ? assembly->body->size : 0;
	assembly->body = bytes_unref(assembly->body);
	assembly->upload = upload_free(assembly->upload);
	assembly->have = 0;
	assembly->dropping = true;
	return FAULT;
}

static int join(struct assemblies *a, struct assembly *assembly,
		const struct frame *frame)
{
	const char *piece = frame->body_block ? frame->body_block->data : frame->body;
	size_t size = assembly->body ? assembly->body->size : 0;
	size_t need = assembly->have + frame->body_size;
	struct bytes *grown;

	if (need > size) {
		size_t room = need > size * 2 ? need : size * 2;

		grown = realloc(assembly->body, sizeof(*grown) + room);
		if (!grown)
			return err_origin(-ENOMEM);
		grown->refs = 1;
		grown->size = room;
		assembly->body = grown;
		a->bytes += room - size;
	}
	if (frame->body_size)
		memcpy(assembly->body->data + assembly->have, piece, frame->body_size);
	assembly->have = need;
	return 0;
}

/* The room kept for further pieces is given back. */
static void shrink(struct assemblies *a, struct assembly *assembly)
{
	struct bytes *fitting;

	if (!assembly->body || assembly->body->size == assembly->have)
		return;
	a->bytes -= assembly->body->size - assembly->have;
	fitting = realloc(assembly->body, sizeof(*fitting) + assembly->have);
	if (fitting)
		assembly->body = fitting;
	assembly->body->size = assembly->have;
}

static int check_abort(const struct frame *frame, struct fault *fault)
{
	const char *why = "";
	size_t size = 0;

	if (!header_has(frame->header, KEY_ABORT))
		return 0;
	if (header_get_string(frame->header, KEY_ABORT, 0, LIMIT_REASON_MAX, &why, &size,
			      fault) < 0)
		return FAULT;
	return fault_set(fault, FAULT_BAD_REQUEST, "aborted by the sender: %.*s",
			 (int)size, why);
}

static int check_size(const struct assembly *assembly, const struct frame *frame,
		      const struct limits *limits, struct fault *fault)
{
	uint64_t max = assembly->is_send ? limits->file_max : limits->body_max;
	bool skipped = frame->body_size && !frame->body && !frame->body_block &&
		       !frame->lent;

	if (!skipped && assembly->have <= max && frame->body_size <= max - assembly->have)
		return 0;
	return fault_set(fault, FAULT_TOO_LARGE, "the body has more than %llu bytes (%s)",
			 (unsigned long long)max,
			 assembly->is_send ? "file_max" : "body_max");
}

static int add_to_upload(struct assembly *assembly, const struct frame *frame)
{
	const char *piece = frame->body_block ? frame->body_block->data : frame->body;
	int r = 0;

	if (!frame->lent && upload_room(assembly->upload) < frame->body_size)
		return ASSEMBLY_FULL;
	if (!frame->lent && frame->body_size)
		r = upload_add(assembly->upload, piece, frame->body_size);
	assembly->have += frame->body_size;
	return err_trace(r);
}

/* 0; FAULT; ASSEMBLY_LARGE, ASSEMBLY_FULL; -ENOMEM. */
static int take_piece(struct assemblies *a, struct assembly *assembly,
		      const struct frame *frame, const struct limits *limits,
		      struct fault *fault)
{
	int r;

	if (assembly->dropping)
		return 0;
	r = check_abort(frame, fault);
	if (r == 0)
		r = check_size(assembly, frame, limits, fault);
	if (r == 0)
		r = digests_get(frame->header, &assembly->digests, fault);
	if (r)
		return assembly_drop(a, assembly);
	if (assembly->upload)
		return add_to_upload(assembly, frame);
	if (assembly->is_send && assembly->have + frame->body_size > LIMIT_PIECE_MAX)
		return ASSEMBLY_LARGE;
	return err_trace(join(a, assembly, frame));
}

int assembly_set_upload(struct assemblies *a, struct assembly *assembly,
			struct upload *upload)
{
	const struct bytes *body = assembly->body;
	int r = body ? upload_add(upload, body->data, assembly->have) : 0;

	if (r < 0)
		return err_trace(r);
	a->bytes -= body ? body->size : 0;
	assembly->body = bytes_unref(assembly->body);
	assembly->upload = upload;
	return 0;
}

struct assembly *assemblies_find_upload(const struct assemblies *a,
					const struct upload *upload)
{
	LIST_FOREACH(link, &a->list) {
		struct assembly *assembly = LIST_ENTRY(link, struct assembly, link);

		if (assembly->upload == upload)
			return assembly;
	}
	return NULL;
}

int assemblies_open(struct assemblies *a, const struct frame *frame, bool has_id,
		    uint64_t id, uint64_t now_ns, struct assembly **ret_assembly,
		    struct fault *fault)
{
	struct assembly *assembly = has_id && a->n ? find(a, id) : NULL;
	bool more = false, begins = !assembly;
	int r;

	*ret_assembly = assembly;
	if (header_get_bool(frame->header, KEY_MORE, &more, fault) < 0) {
		/* is more to come? not known: the pieces cannot be told apart from requests */
		return assembly ? err_origin(-EPROTO) : FAULT;
	}
	if (!assembly && !more)
		return 0;
	if (!has_id) {
		fault_set(fault, FAULT_BAD_REQUEST, "a body in pieces needs an \"id\"");
		return err_origin(-EPROTO);
	}
	if (!assembly) {
		r = begin(a, frame, id, &assembly, fault);
		if (r < 0)
			return err_trace(r);
	}
	if (!begins && header_has(frame->header, KEY_OP) && !is_first(assembly, frame)) {
		fault_set(fault, FAULT_BAD_REQUEST,
			  "id %llu is still in use: its body comes in pieces",
			  (unsigned long long)id);
		return err_origin(-EPROTO);
	}
	assembly->last_ns = now_ns;
	*ret_assembly = assembly;
	return 0;
}

int assemblies_take(struct assemblies *a, const struct frame *frame, bool has_id,
		    uint64_t id, const struct limits *limits, uint64_t now_ns,
		    struct assembly **ret_assembly, struct fault *fault)
{
	struct assembly *assembly;
	bool more = false, last;
	int r = assemblies_open(a, frame, has_id, id, now_ns, &assembly, fault);

	if (r || !assembly)
		return r ? r : ASSEMBLY_NONE;
	*ret_assembly = assembly;
	if (assembly->whole) /* its last frame again: it had to wait */
		return ASSEMBLY_WHOLE;
	if (header_get_bool(frame->header, KEY_MORE, &more, fault) < 0)
		return err_origin(-EPROTO);
	last = !more || header_has(frame->header, KEY_ABORT);
	r = take_piece(a, assembly, frame, limits, fault);
	if (r < 0 || r == ASSEMBLY_LARGE || r == ASSEMBLY_FULL)
		return r < 0 ? err_trace(r) : r;
	assembly->begun = true;
	if (last && (r || assembly->dropping)) {
		assembly_free(a, assembly);
		return r ? r : ASSEMBLY_MORE;
	}
	if (r || !last)
		return r ? r : ASSEMBLY_MORE;
	shrink(a, assembly);
	assembly->whole = true;
	return ASSEMBLY_WHOLE;
}
