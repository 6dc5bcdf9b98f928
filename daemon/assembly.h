/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_ASSEMBLY_H
#define DAEMON_ASSEMBLY_H

/*
 * Requests whose body comes in pieces. The first piece's header is kept and the bodies are
 * joined; the request takes its place when the last piece is there. One that was answered
 * early (too large, aborted) drops what still comes.
 */

#include "base/bytes.h"
#include "base/list.h"
#include "wire/fault.h"
#include "wire/stream.h"

struct assemblies {
	struct list list;
	unsigned int n;
	uint64_t bytes;
};

struct assembly {
	struct list link;
	uint64_t id;
	uint64_t last_ns; /* the last piece, CLOCK_MONOTONIC */
	bool dropping, whole;
	struct bytes *body;
	size_t have, header_size;
	char header[];
};

enum {
	ASSEMBLY_NONE = 200, /* the frame is no piece: handle it as it is */
	ASSEMBLY_MORE,	     /* taken, more is to come */
	ASSEMBLY_WHOLE,	     /* *ret_assembly is the whole request: assembly_free() it */
};

void assemblies_init(struct assemblies *a);
void assemblies_deinit(struct assemblies *a);

/* One of the above; FAULT: refuse the request `id`, the rest of it will be dropped;
 * -ENOMEM; -EPROTO with *fault: ends the connection. */
int assemblies_take(struct assemblies *a, const struct frame *frame, bool has_id,
		    uint64_t id, uint64_t body_max, uint64_t now_ns,
		    struct assembly **ret_assembly, struct fault *fault) MUST_CHECK;
bool assemblies_has(const struct assemblies *a, uint64_t id);

/* When the oldest silent one was last heard of; UINT64_MAX without any. */
uint64_t assemblies_oldest_ns(const struct assemblies *a);

struct assembly *assembly_free(struct assemblies *a, struct assembly *assembly);

#endif
