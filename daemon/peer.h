/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_PEER_H
#define DAEMON_PEER_H

/*
 * One connected client.
 *
 *	NAMING --> OPEN --> DRAINING --.
 *	   |        |  \-> LINGERING --+--> CLOSED (let go at the end of the pass)
 *	   '--------+------------------'
 *
 *	NAMING     the user's name is being asked for; nothing is read yet
 *	OPEN       requests are read
 *	DRAINING   the peer said no more (end of file); what it asked for goes on
 *	LINGERING  we said our last word (a broken frame, a cut, a stop); it is written out
 *	CLOSED     nothing more happens; should it hold many leases it is freed when they have
 *	           gone back, in parts, and has nothing but them until then (is_released)
 *
 * peer_set_state() is the one door. All of it may be called in any callback of the peer's:
 * nothing is freed before the end of the pass.
 *
 * Input stops while too much output waits to be read by the peer (throttled), while a frame
 * waits for the name service (paused), while a worker reads or writes a large body of its
 * (uploading), while a list is made for it, and while very many requests wait for the disk;
 * never because of a request that waits for somebody else.
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
	bool is_released; /* closed, and only here for its leases */
	bool uploading;	  /* a worker has peer->lent or the upload of an assembly */
	bool body_refused; /* the large body that comes now: it is dropped, and was answered */
	bool fds_refused; /* by the kernel, for the moment: ETOOMANYREFS */
	uint16_t n_waiting_sends;
	uint32_t events;    /* asked of the kernel */
	uint32_t n_storing; /* requests that wait for the disk */
	char *label;
	struct map requests;	 /* open ones, by id */
	struct list peeks;	 /* struct peek */
	struct list nameless;	 /* open ones without id */
	struct listing *listing; /* being made for it, or NULL; see listing.h */
	struct list receives;	 /* struct receive: open, or with something unsent */
	struct list sending;	 /* those of them for which something waits to be sent */
	struct list ended;	 /* struct receive: of which only leases are left */
	struct assemblies assemblies;
	struct upload *lent;	    /* where the large body goes that comes now */
	struct upload *turn;	    /* the upload a worker has while uploading */
	struct peer_output *output; /* files being sent to it, see peer_file.c; or NULL */
	struct outlet *outlet;	    /* made when it first waits for the disk, or NULL */
	struct list
		preparing; /* struct send_request: bodies being copied, see send_file.h */
	unsigned int n_preparing;
	struct bytes *from; /* "from":{…}, made when first needed */
	struct user_waiter name_waiter;
	struct deferred flush, reap, resume;
	struct timer deadline;
	uint64_t partial_since_ns, read_ns, sent_ns, linger_ns, accepted_ns;
	uint64_t sent_bytes;	 /* in all, when it was closed */
	struct user_turn losing; /* closed, and leases still to be given back */
	uint64_t buffer_charged; /* bytes of its input and output, charged to the user */
	unsigned int outgoing_charged; /* files and descriptors in its output, likewise */
	uint64_t outgoing_bytes_charged; /* bodies of messages there, likewise */
	unsigned int incoming_charged;	 /* descriptors of a frame that is not finished */
};

/* An open request of a peer, embedded by the op that keeps it open. */
struct request {
	struct map_node node; /* with an id: in peer->requests */
	struct list link;     /* without: in peer->nameless */
	struct peer *peer;
	struct store_wait *storing; /* it waits for the disk, or NULL */
	bool has_id;
	uint32_t cost; /* bytes, see request_open_charged() */
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
	bool own;  /* nobody else will hold the block */
	bool more; /* it is not the last of what comes for this request, in pieces */
};

/* Takes fd. Failure closes it and is said in the log. */
void peer_accept(struct server *server, int fd);

/* The limits have changed. */
void peer_follow_limits(struct peer *peer);

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

/* May one more line about it be written to the log? Ask once for each. */
static inline bool peer_may_log(const struct peer *peer)
{
	return log_limit_admits(&peer->server->log_limit, peer->who.uid);
}

/* ---- who it is (peer_who.c) ---- */

/* Of the other end of fd, when it connected. 0 or -errno. */
int peer_read_credentials(int fd, struct ucred *ret_cred) MUST_CHECK;

/* Also by its supplementary groups at that time. */
bool peer_has_group(const struct credentials *who, gid_t gid);

/* "peer 7 (uid 1000, pid 4711, python3)"; static, valid until the next call. */
const char *peer_describe(const struct peer *peer);

/* The command's name by the kernel's word, "" if it is gone. */
void peer_read_command(const struct peer *peer, char command[static 32]);

/* "from":{…} of this peer, one reference more. NULL without memory. */
struct bytes *peer_get_from(struct peer *peer);

/* ---- requests (peer_request.c) ---- */

/* The open one with this id, which is claimed, see request_claim(). NULL: there is none, also
 * when it had been answered: then it is ended by this. */
struct request *peer_claim_request(const struct peer *peer, uint64_t id);

/* Those that have not been answered; but for a list that is made, which they are to be in. */
size_t peer_n_requests(const struct peer *peer);
int request_open(struct request *request, struct peer *peer, bool has_id, uint64_t id,
		 void (*end)(struct request *, const char *)) MUST_CHECK;

/* cost: bytes of memory that it takes while it is open, for as long as its sender likes. They
 * are charged to the user. 0; FAULT: too much waits already; -ENOMEM. */
int request_open_charged(struct request *request, struct peer *peer, uint64_t id,
			 size_t cost, void (*end)(struct request *, const char *),
			 struct fault *fault) MUST_CHECK;
void request_close(struct request *request);

/* ---- requests that wait for the disk (peer_request.c) ---- */

struct store_wait;

/* Who has too many of them is not read from until some are answered. with_header: what is to
 * be answered then lies in server->header. */
void request_begin_storing(struct request *request, struct store_wait *wait,
			   bool with_header);

/* From now on nobody but the loop answers it. False: it has been answered, and is to be ended
 * without a word; this is said once. */
bool request_claim(struct request *request);

/* It waits no longer, if it did. True: it has been answered, with that header. */
bool request_end_storing(struct request *request);

/* Before the loop writes to it, and when it has nothing more to write. */
void peer_take_outlet(struct peer *peer);
void peer_give_outlet(struct peer *peer);
void peer_drop_outlet(struct peer *peer);

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

/* The frame of the header in server->header, or the end where r says that it failed. */
void peer_put_made(struct peer *peer, int r);

/* A frame without body, whose header was made before. */
void peer_put(struct peer *peer, const char *header, size_t size);

/* {"re":id,"error":…,"message":…}; without id {"error":…,"op":…,"message":…}. */
void peer_refuse(struct peer *peer, bool has_id, uint64_t id, const char *op,
		 const struct fault *fault);

/* Is there room for deliveries? */
bool peer_has_room(const struct peer *peer);

/* A file or a descriptor was put into its output. */
void peer_charge_outgoing(struct peer *peer);

/* The body of a message, of which the block is referenced. */
void peer_charge_bodies(struct peer *peer);

/* ---- large bodies (peer_upload.c): the peer is read on when a worker is through ---- */

/* What was read of the lent body goes to its upload; a worker reads the rest. */
void peer_feed_upload(struct peer *peer);

/* The upload's buffer is full. */
void peer_write_upload(struct peer *peer, struct upload *upload);

/* No more of it will come. */
void peer_drop_upload(struct peer *peer);

/* ---- files to peers without descriptors (peer_file.c) ---- */

/* The part of a file that is next in the output. */
void peer_send_file(struct peer *peer);

/* Does a worker send one? Then the output is not flushed; it is when that is over. */
bool peer_is_sending_file(const struct peer *peer);

/* The rest of a delivery in pieces, from offset on. fd is taken, also on failure. 0; -ENOMEM. */
int peer_put_flow_take(struct peer *peer, uint64_t id, uint64_t message, int fd,
		       uint64_t offset, uint64_t size) MUST_CHECK;

/* One more piece, where there are flows. Call it when the output is empty. */
bool peer_put_flows(struct peer *peer);
unsigned int peer_n_flows(const struct peer *peer);

/* Are pieces for this request still to come? Then nothing else may be put for it. */
bool peer_has_flow(const struct peer *peer, uint64_t id);

/* True: the end of request id will be told when all of its pieces have been. why must last. */
bool peer_end_after_flows(struct peer *peer, uint64_t id, const char *why);

/* Those of this request (NULL: all) are given up: an `abort`, and the request's end. */
void peer_abort_flows(struct peer *peer, const uint64_t *id, const char *why);

void peer_drop_output(struct peer *peer);

/* Of peer.c, for it. */
void peer_note_sent(struct peer *peer, uint64_t size);
void peer_ask_for_events(struct peer *peer);
void peer_await_room(struct peer *peer);
void peer_output_failed(struct peer *peer);

/* The end of input, and of what is understood, for both (peer.c). */
void peer_end_input(struct peer *peer);
void peer_break_off(struct peer *peer, int error, const struct fault *fault);

/* Something was put into peer->stream: flushed at the end of the pass. */
void peer_flush_later(struct peer *peer);

#endif
