/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_PEER_H
#define DAEMON_PEER_H

/*
 * One connected client.
 *
 *	NAMING --> OPEN --> DRAINING --.
 *	   |        |  \-> LINGERING --+--> CLOSED (freed at the end of the pass)
 *	   '--------+------------------'
 *
 *	NAMING     the user's name is being asked for; nothing is read yet
 *	OPEN       requests are read
 *	DRAINING   the peer said no more (end of file); what it asked for goes on
 *	LINGERING  we said our last word (a broken frame, a cut, a stop); it is written out
 *	CLOSED     nothing more happens
 *
 * peer_set_state() is the one door. All of it may be called in any callback of the peer's:
 * nothing is freed before the end of the pass.
 *
 * Input stops while too much output waits to be read by the peer (throttled), while a frame
 * waits for the name service (paused), and while very many requests wait for the disk; never
 * because of a request that waits for somebody else.
 */

#include "assembly.h"
#include "name.h"
#include "server.h"

enum peer_state {
	PEER_NAMING,
	PEER_OPEN,
	PEER_DRAINING,
	PEER_LINGERING,
	PEER_CLOSED,
};

struct peer {
	struct source source;
	struct stream stream;
	struct server *server;
	struct user *user;
	struct credentials who;
	struct list link;	   /* server->peers */
	struct map_node by_number; /* server->peers_by_number */
	uint64_t number;
	pid_t pid;
	uint8_t state;
	bool fds, pieces; /* said in hello */
	bool readable, throttled, paused, eof_due, hung_up, output_dead, unread, cut_said;
	bool wants_room; /* of the kernel, in the socket */
	uint16_t n_waiting_sends;
	uint32_t n_storing; /* requests that wait for the disk */
	char *label;
	struct map requests;  /* open ones, by id */
	struct list peeks;    /* struct peek */
	struct list nameless; /* open ones without id */
	struct list receives; /* struct receive: open, or with leases */
	struct assemblies assemblies;
	struct bytes *from; /* "from":{…}, made when first needed */
	struct user_waiter name_waiter;
	struct deferred flush, reap, resume;
	struct timer deadline;
	uint64_t partial_since_ns, read_ns, sent_ns, linger_ns, accepted_ns;
	uint64_t buffer_charged; /* bytes of unfinished input, charged to the user */
};

/* An open request of a peer, embedded by the op that keeps it open. */
struct request {
	struct map_node node; /* with an id: in peer->requests */
	struct list link;     /* without: in peer->nameless */
	struct peer *peer;
	bool has_id;
	uint64_t id;
	/* Told to end: why is "cancelled", "shutting-down", or NULL when the peer is gone and
	 * nothing can be said. Removes and frees the request. */
	void (*end)(struct request *request, const char *why);
};

/* A body to be written: a block, which is referenced, or bytes, which are copied. */
struct body_view {
	struct bytes *block;
	const char *data; /* without block */
	size_t size;
};

/* Takes fd. Failure closes it and is said in the log. */
void peer_accept(struct server *server, int fd);

/* The last words were queued: write them, then close. */
void peer_linger(struct peer *peer);

/* Now, without last words. */
void peer_close(struct peer *peer);

/* The daemon stops: open requests are told, then the peer lingers. */
void peer_say_goodbye(struct peer *peer);

/* At the end of the daemon, outside the loop: closed and freed at once. */
void peer_drop(struct peer *peer);

/* A local failure (no memory) while serving this peer: ends it, with a line in the log. */
void peer_fail(struct peer *peer, int error);

/* Ends the peer with an error frame that names the limit, and tells the log. */
void peer_cut(struct peer *peer, enum fault_word word, const char *why, const char *key,
	      uint64_t limit);

/* "peer 7 (uid 1000, pid 4711, python3)"; static, valid until the next call. */
const char *peer_describe(const struct peer *peer);

/* The command's name by the kernel's word, "" if it is gone. */
void peer_read_command(const struct peer *peer, char command[static 32]);

/* "from":{…} of this peer, one reference more. NULL without memory. */
struct bytes *peer_get_from(struct peer *peer);

/* ---- requests ---- */

struct request *peer_find_request(const struct peer *peer, uint64_t id);
int request_open(struct request *request, struct peer *peer, bool has_id, uint64_t id,
		 void (*end)(struct request *, const char *)) MUST_CHECK;
void request_close(struct request *request);

struct store_wait;

/* The request waits for the disk, and no longer. Who has too many of them is not read from
 * until some are answered. */
void peer_begin_storing(struct peer *peer, struct store_wait *wait);
void peer_end_storing(struct peer *peer, struct store_wait *wait);

/* ---- writing: a failure ends the peer, so there is nothing to check ---- */

/* {"re":id,"size":…} and the body; in pieces for a peer that takes them. */
void peer_reply_body(struct peer *peer, uint64_t id, const struct body_view *body);

/* The frames from offset on, for who has written the first himself. 0 or -ENOMEM: then the
 * peer is to be ended. */
int peer_put_pieces(struct peer *peer, uint64_t id, const struct body_view *body,
		    size_t offset) MUST_CHECK;

/* server->writer begun with {"re":id — or without, for has_id false. */
struct json_writer *peer_begin(struct peer *peer, bool has_id, uint64_t id);

/* Ends what peer_begin() began and writes the frame. */
void peer_end(struct peer *peer);

/* A frame without body, whose header was made before. */
void peer_put(struct peer *peer, const char *header, size_t size);

/* {"re":id,"error":…,"message":…}; without id {"error":…,"op":…,"message":…}. */
void peer_refuse(struct peer *peer, bool has_id, uint64_t id, const char *op,
		 const struct fault *fault);

/* Is there room for deliveries? */
bool peer_has_room(const struct peer *peer);

/* Something was put into peer->stream: flushed at the end of the pass. */
void peer_flush_later(struct peer *peer);

#endif
