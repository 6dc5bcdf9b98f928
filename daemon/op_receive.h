/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_OP_RECEIVE_H
#define DAEMON_OP_RECEIVE_H

#include "peer.h"
#include "receiver.h"

/* The peer is gone: its receives end, and what is left of them are their leases. */
void op_receive_end_all(struct peer *peer);

/* Then up to max of these go back; what had left is told by sent_bytes of the peer's output.
 * Are there more? */
bool op_receive_lose(struct peer *peer, uint64_t sent_bytes, uint64_t max);

/* Some of the peer's output has gone to the kernel. */
void op_receive_sent(struct peer *peer);

/* op_receive_write(): the peer goes on. */
enum {
	OP_RECEIVE_NO_FD = -2000,   /* no descriptor is free: later */
	OP_RECEIVE_NO_BODY = -2001, /* the body cannot be opened */
};

/* One delivery, or what peek shows. 0, one of the above, or -errno, which ends the peer. */
int op_receive_write(struct peer *peer, uint64_t id, const struct message *m,
		     bool peek) MUST_CHECK;
void op_receive_write_end(struct peer *peer, uint64_t id, const char *why);

/* Does this peer hold the lease? */
bool op_receive_holds(const struct peer *peer, const struct message *m);

/* Is it leased, by a connection that is still there and not only its leases? */
bool op_receive_is_held(const struct message *m);

/* Is it a delivery of this request, and not settled? */
bool op_receive_is_under_way(const struct peer *peer, uint64_t id,
			     const struct message *m);

/* hello has changed whether it takes descriptors. */
void op_receive_follow_fds(struct peer *peer);

/* How many leases it holds. */
uint64_t op_receive_leases(const struct peer *peer);

#endif
