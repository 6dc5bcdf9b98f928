/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_WRITE_BEHIND_H
#define DAEMON_WRITE_BEHIND_H

/*
 * One thread reads on while another one writes what was read, with its digests: copying into
 * the page cache takes as long as copying out of a socket.
 */

#include "filling.h"

enum { WRITE_BEHIND_BYTES = 256 * 1024 /* of one buffer; it stays in the cache */ };

struct write_behind;

/* For a worker. The filling is not to be touched until write_behind_free(). The other thread,
 * one more than the workers count, begins when the first half of a buffer or more is put; where
 * there is none to be had, or it is not `wanted`, the worker writes by itself. -ENOMEM. */
int write_behind_new(struct write_behind **ret_writer, struct filling *f,
		     bool wanted) MUST_CHECK;

/* Room for WRITE_BEHIND_BYTES, as soon as there is some. NULL: writing has failed. */
char *write_behind_get(struct write_behind *w);

/* So many bytes were put there. False: writing has failed. */
bool write_behind_put(struct write_behind *w, size_t size);

/* The worker will wait for more: what there is need not wait, too. */
void write_behind_flush(struct write_behind *w);

/* Waits until all is written. Returns NULL. */
struct write_behind *write_behind_free(struct write_behind *w);

#endif
