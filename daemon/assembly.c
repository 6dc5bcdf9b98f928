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
	a->bytes -= assembly->body ? assembly->body->size : 0;
	bytes_unref(assembly->body);
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
	*assembly = (struct assembly){ .id = id, .header_size = frame->header_size };
	memcpy(assembly->header, frame->header_text, frame->header_size);
	list_add_tail(&a->list, &assembly->link);
	a->n++;
	*ret_assembly = assembly;
	return 0;
}

static int drop(struct assemblies *a, struct assembly *assembly)
{
	a->bytes -= assembly->body ? assembly->body->size : 0;
	assembly->body = bytes_unref(assembly->body);
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

static int take_piece(struct assemblies *a, struct assembly *assembly,
		      const struct frame *frame, uint64_t body_max, struct fault *fault)
{
	int r;

	if (assembly->dropping)
		return 0;
	r = check_abort(frame, fault);
	if (r)
		return drop(a, assembly);
	if (frame->body_size > body_max - assembly->have) {
		fault_set(fault, FAULT_TOO_LARGE,
			  "the body has more than %llu bytes (body_max)",
			  (unsigned long long)body_max);
		return drop(a, assembly);
	}
	return err_trace(join(a, assembly, frame));
}

int assemblies_take(struct assemblies *a, const struct frame *frame, bool has_id,
		    uint64_t id, uint64_t body_max, uint64_t now_ns,
		    struct assembly **ret_assembly, struct fault *fault)
{
	struct assembly *assembly = has_id && a->n ? find(a, id) : NULL;
	bool more = false, last, begins = !assembly;
	int r;

	if (header_get_bool(frame->header, KEY_MORE, &more, fault) < 0) {
		/* is more to come? not known: the pieces cannot be told apart from requests */
		return assembly ? err_origin(-EPROTO) : FAULT;
	}
	if (!assembly && !more)
		return ASSEMBLY_NONE;
	if (!has_id) {
		fault_set(fault, FAULT_BAD_REQUEST, "a body in pieces needs an \"id\"");
		return err_origin(-EPROTO);
	}
	if (!assembly) {
		r = begin(a, frame, id, &assembly, fault);
		if (r < 0)
			return err_trace(r);
	}
	if (!begins && header_has(frame->header, KEY_OP)) {
		fault_set(fault, FAULT_BAD_REQUEST,
			  "id %llu is still in use: its body comes in pieces",
			  (unsigned long long)id);
		return err_origin(-EPROTO);
	}
	if (assembly->whole) { /* its last frame again: it had to wait */
		*ret_assembly = assembly;
		return ASSEMBLY_WHOLE;
	}
	assembly->last_ns = now_ns;
	last = !more || header_has(frame->header, KEY_ABORT);
	r = take_piece(a, assembly, frame, body_max, fault);
	if (r < 0)
		return err_trace(r);
	if (last && (r || assembly->dropping)) {
		assembly_free(a, assembly);
		return r ? r : ASSEMBLY_MORE;
	}
	if (r || !last)
		return r ? r : ASSEMBLY_MORE;
	shrink(a, assembly);
	assembly->whole = true;
	*ret_assembly = assembly;
	return ASSEMBLY_WHOLE;
}
