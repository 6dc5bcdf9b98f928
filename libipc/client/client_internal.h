/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_CLIENT_INTERNAL_H
#define CLIENT_CLIENT_INTERNAL_H

/*
 * What the files of the client share.
 *
 *	public calls   client.c  send.c  receive*.c  settle.c  list.c  name.c  message*.c
 *	               file*.c  save.c
 *	requests       request.c  one open `id`: its answer, and waiting for it
 *	               async.c    its callback, its deadline, and cancelling it
 *	bytes          io.c       the only file that reads, writes and hands frames on
 *	               trace.c    IPC_DEBUG
 *	again          reconnect.c  leases.c  when the connection was lost
 *	the way there  place.c (which socket)  connect.c (whom to trust)  autostart.c  spawn.c
 *
 * Everything is asynchronous inside. A request is put into the output, kept by id, and told
 * each frame that answers it; a blocking call is a request and a loop of client_step().
 *
 * No code of the user's runs while frames are handled: answers with a callback wait in
 * client->done, messages on their receiver. client_run_callbacks() comes after, and only
 * at the outermost level: a callback may itself make blocking calls, which read further
 * frames, and their callbacks wait until it has returned. So nothing here is re-entered,
 * and the stack does not grow with the number of answers.
 *
 * A client is alive until client_die(): then the socket is closed, the reason is kept, and
 * every open request has been told. Where the program has asked for it, the client comes to
 * life again: see reconnect.c.
 */

#include <limits.h>

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "wire/stream.h"

#include <ipc/ipc.h>

#define CLIENT_NEVER UINT64_MAX /* a deadline that does not come */

enum {
	CLIENT_TIMEOUT_MS = 30000,
	CLIENT_WRITE_SOON = 65536, /* bytes of output from which it is written unasked */
	CLIENT_OUTPUT_MAX = 67108864, /* bytes of output from which nothing is added */
	CLIENT_BODY_MAX = 1073741824, /* what body_max of a daemon can be at most */
	CLIENT_FDS_RETRY_MS = 5,      /* before descriptors are tried again, see io.c */
	CLIENT_WORD_MAX = 31,
	CLIENT_ERROR_MAX =
		LIMIT_ERROR_TEXT_MAX + 128, /* the daemon's text, and what led to it */
};

/* ---- errors (error.c) ---- */

struct client_error {
	char word[CLIENT_WORD_MAX + 1];
	char text[CLIENT_ERROR_MAX + 1]; /* one line */
};

/* What went wrong on this side, so without a word of the daemon's. Returns r. */
int client_error_set(struct client_error *error, int r, const char *format, ...)
	PRINTF_LIKE(3, 4);

/* What the daemon said. */
void client_error_set_answer(struct client_error *error, const char *word,
			     const char *text);

/* Makes blanks of its control characters. */
void client_make_line(char *text);

/* Copies at most CLIENT_WORD_MAX bytes of a word. */
void client_copy_word(char out[static CLIENT_WORD_MAX + 1], const char *word,
		      size_t size);

/* ---- requests (request.c) ---- */

struct ipc_reply {
	int error; /* 0 or -errno */
	uint64_t number;
	unsigned int sent; /* IPC_SENT_* */
	char word[CLIENT_WORD_MAX + 1];
	char *text;	       /* of an error; NULL where there was no memory for it */
	struct ipc_list *list; /* or NULL */
};

struct ipc_request;

struct request_ops {
	/* A frame with its id, whose header is parsed unless it is of the kind below. 0, or
	 * the error that ends the client. */
	int (*on_frame)(struct ipc_request *request, const struct frame *frame);
	/* The client has ended; the request is not open any more. */
	void (*on_lost)(struct ipc_request *request, int error);
	enum plain_kind plain;
};

enum request_state {
	REQUEST_NEW,
	REQUEST_OPEN,	 /* in client->requests and client->open */
	REQUEST_ENDED,	 /* answered; in client->done if a callback is to be told */
	REQUEST_RUNNING, /* its callback runs */
};

struct ipc_request {
	struct ipc_client *client;
	const struct request_ops *ops;
	enum request_state state;
	uint64_t id;
	bool is_whole; /* its header is made without the writer */
	struct map_node node;
	struct list link;
	struct heap_node timeout; /* in client->timeouts, if it has a deadline */

	/* of requests with one answer */
	struct ipc_reply reply;
	struct buf body; /* of the answer, its pieces joined */
	int (*decode)(struct ipc_request *request,
		      const struct header *header); /* or NULL */
	const char *count_key; /* of what becomes reply.number; NULL: "message" */
	bool is_send;	       /* that "message" must be there */
	ipc_reply_fn callback;
	void *userdata;

	/* what it was told of how far it has come, before the answer */
	bool has_news;
	uint64_t done, total; /* bytes; UINT64_MAX: unknown */
};

/* For requests with one answer. */
extern const struct request_ops request_call_ops;

/* Need the header of this frame not be parsed for it? */
static inline bool request_knows_plain(const struct ipc_request *request,
				       const struct frame *frame)
{
	return frame->plain.kind == request->ops->plain && !request->decode &&
	       !request->count_key;
}

void request_init(struct ipc_request *request, struct ipc_client *client,
		  const struct request_ops *ops);
void request_deinit(struct ipc_request *request);
#define _cleanup_request_ CLEANUP(request_deinit)

/* Gives it an id and begins its header; the caller adds members by client->writer. One
 * without a callback first waits for the connection, where it comes again. 0, -ENOMEM or
 * -ECONNRESET. Without request_put() it must be ended again. */
int request_begin(struct ipc_request *request, const char *op) MUST_CHECK;

/* The same for one whose header the caller makes in client->header, and which is_whole. */
int request_begin_whole(struct ipc_request *request) MUST_CHECK;

/* Ends the header and puts it and the body into the output. Ends the request if it fails. */
int request_put(struct ipc_request *request, const void *body,
		size_t body_size) MUST_CHECK;

/* The same with descriptors, which are taken if it succeeds, and without a body. */
int request_put_fds(struct ipc_request *request, struct fdset **fds) MUST_CHECK;

/* A further piece of the body of an open request; more: not the last. */
int request_put_piece(struct ipc_request *request, const void *data, size_t size,
		      bool more) MUST_CHECK;

/* No further piece will come. */
int request_put_abort(struct ipc_request *request, const char *why) MUST_CHECK;

/* Waits for the answer; returns its error, which then is the client's too. */
int request_wait(struct ipc_request *request, uint64_t deadline_ns) MUST_CHECK;

/* The same, and returns 1 with each word of how far it has come. */
int request_wait_news(struct ipc_request *request, uint64_t deadline_ns) MUST_CHECK;

/* request_put() and request_wait() with the client's timeout. */
int request_call(struct ipc_request *request, const void *body,
		 size_t body_size) MUST_CHECK;

/* No frame will be given to it any more. */
void request_end(struct ipc_request *request);

/* Asks the daemon to end the open request, without an answer. */
int request_put_cancel(const struct ipc_request *request) MUST_CHECK;

/* 1: it is an error and *ret_reply says which; 0: it is none; -EPROTO. */
int request_decode_error(struct ipc_client *client, const struct header *header,
			 struct ipc_reply *ret_reply) MUST_CHECK;

/* The answer is there: it is no longer open, and its callback is due. */
void request_finish(struct ipc_request *request);

/* ---- callbacks and deadlines (async.c) ---- */

/* A request on the heap, whose answer is told to callback. 0; -EINVAL without one; -ENOMEM. */
int request_new(struct ipc_client *client, ipc_reply_fn callback, void *userdata,
		struct ipc_request **ret_request) MUST_CHECK;
struct ipc_request *request_free(struct ipc_request *request);
DEFINE_CLEANUP(struct ipc_request *, request_free);
#define _cleanup_request_ptr_ CLEANUP(request_freep)

/* Puts a request of request_new() into the output, where many are written together. On
 * success it is the client's, and *ret_request is set if that is not NULL. */
int request_put_async(struct ipc_request **request, const void *body, size_t body_size,
		      struct ipc_request **ret_request) MUST_CHECK;

/* The same for one that carries fds, taken if it succeeds. */
int request_put_fds_async(struct ipc_request **request, struct fdset **fds,
			  struct ipc_request **ret_request) MUST_CHECK;

/* May more be put into the output? 0 or -ENOBUFS. */
int client_check_output(struct ipc_client *client) MUST_CHECK;

/* Runs the callbacks that are due, unless one is running. Some may be due after that. */
void client_run_callbacks(struct ipc_client *client);

/* Has it something to do? */
bool client_has_callbacks(const struct ipc_client *client);

/* When client_end_overdue() has something to do; CLIENT_NEVER. */
uint64_t client_next_timeout(const struct ipc_client *client);

/* Ends the requests whose deadline has passed. */
void client_end_overdue(struct ipc_client *client);

/* ---- after a loss (reconnect.c, leases.c) ---- */

/* Leases of this connection; kept only where the program wants to hear of a loss. */
struct leases {
	struct map map;	 /* struct lease, by the message's number */
	uint64_t n_held; /* those whose message the program has */
};

int leases_add(struct leases *leases, uint64_t number) MUST_CHECK;
void leases_hold(struct leases *leases, uint64_t number);
void leases_end(struct leases *leases, uint64_t number);
void leases_deinit(struct leases *leases);

struct reconnect {
	ipc_reconnect_fn callback; /* NULL: a lost connection is the end */
	void *userdata;
	unsigned int n_failed; /* attempts since the last connection that lasted */
	uint64_t next_ns;      /* of the next attempt, while lost */
	uint64_t connected_ns; /* when the last connection was made */
	int old_fd;	/* keeps its number taken, so that a new descriptor has another */
	bool restarted; /* to be told, as the next */
	uint64_t n_held;
	struct leases leases;
	struct list given_back; /* messages nobody has fetched */
};

/* When the connection is lost: keeps what is wanted later, and sets the time. */
void reconnect_prepare(struct ipc_client *client);

/* Tries if it is time, else waits until then or the deadline. 0: look again; -ETIMEDOUT;
 * -ECONNRESET where there is nothing to wait for. */
int reconnect_step(struct ipc_client *client, uint64_t deadline_ns) MUST_CHECK;

/* Until connected. 0, or -ECONNRESET with the error set. */
int client_await(struct ipc_client *client, uint64_t deadline_ns) MUST_CHECK;

/* Tries if it is time, without waiting. */
void reconnect_try(struct ipc_client *client);

void reconnect_deinit(struct ipc_client *client);

/* ---- IPC_DEBUG (trace.c) ---- */

bool trace_is_wanted(void);

enum trace_direction {
	TRACE_IN,
	TRACE_OUT,
};

void trace_frame(const struct ipc_client *client, enum trace_direction direction,
		 const char *header, size_t header_size, uint64_t body_size);

/* ---- the connection (client.c, io.c) ---- */

struct ipc_client {
	struct stream stream;
	struct reader *reader;
	struct json_writer *writer;
	struct buf header; /* being written */

	struct map requests;  /* open ones by id */
	struct list open;     /* the same, oldest first */
	struct list done;     /* answered or lost, callback not run yet */
	struct heap timeouts; /* of open requests */
	struct list receivers;
	struct list ready; /* receivers with something for their callback */
	uint64_t next_id;
	bool in_callback;
	int n_handled; /* answers and messages since ipc_client_process() */

	int failure;		  /* why it is dead; 0: alive */
	struct client_error last; /* the same for people */
	bool parted;		  /* the daemon said why it closes */
	struct client_error parting;
	uint64_t write_tried_at; /* bytes queued then, see ipc_send_async() */
	bool output_broken;	 /* no memory in the middle of a frame */
	bool write_failed;	 /* only reading the daemon's last words */
	/* The frame that is to be written next has descriptors, and the stream keeps it back
	 * until the one before was read, or the kernel until it has room for descriptors:
	 * neither is told by POLLOUT. */
	bool waits_with_fds;
	bool takes_files; /* the daemon does: it has a limit for them */

	int64_t timeout_ms; /* or IPC_FOREVER */

	uint32_t connection; /* counts from 1 */
	int told_fd; /* by ipc_client_get_fd(), last; another descriptor has another */
	struct reconnect reconnect;
	bool traced;

	char *socket, *server;
	uint64_t peer, epoch;
	struct client_error error;
};

static inline bool client_reconnects(const struct ipc_client *client)
{
	return client->reconnect.callback != NULL;
}

static inline void client_count_handled(struct ipc_client *client)
{
	if (client->n_handled < INT_MAX) /* a program may never ask */
		client->n_handled++;
}

static inline void client_init_stream(struct ipc_client *client, int fd)
{
	stream_init(&client->stream, fd, CLIENT_BODY_MAX);
	client->stream.scans = true;
}

/* 0, or -ECONNRESET with the error set where the client is dead. */
int client_check(struct ipc_client *client) MUST_CHECK;

/* When a call ends that may wait for wait_ms (or IPC_FOREVER) and the client's timeout. */
uint64_t client_deadline(const struct ipc_client *client, int64_t wait_ms);

/* Puts the request that greets. */
int client_put_hello(struct ipc_request *request) MUST_CHECK;

/* Rounded up, so that 0 means "passed". UINT64_MAX for CLIENT_NEVER. */
uint64_t client_ms_until(uint64_t deadline_ns);

/* A header without an id, for what is not answered; members go to client->writer. */
void client_begin(struct ipc_client *client, const char *op);
int client_put(struct ipc_client *client, const void *body, size_t body_size) MUST_CHECK;

/* The same with a header that is complete in client->header. */
int client_put_whole(struct ipc_client *client, const void *body,
		     size_t body_size) MUST_CHECK;

/* The same for a frame that carries fds, taken if it succeeds. */
int client_put_fds(struct ipc_client *client, struct fdset **fds) MUST_CHECK;

/* A header of a frame that is no request: members go to client->writer. */
void client_begin_piece(struct ipc_client *client);

/* Writes what the kernel takes now. 0: all; STREAM_E_AGAIN; or what ended the client. */
int client_write(struct ipc_client *client) MUST_CHECK;

/* Writes until at most so many bytes are left. 0, -ETIMEDOUT, or what ended the client. */
int client_write_until(struct ipc_client *client, uint64_t left,
		       uint64_t deadline_ns) MUST_CHECK;

/* When who waits has something else to do: at once if callbacks are due, or when a request is
 * too late. */
uint64_t client_interruption_ns(const struct ipc_client *client);

/* Writes, waits for input until the deadline and handles it: one send, one poll and one
 * recvmsg where nothing is in the way. Callbacks are the caller's. 0: look again; -ETIMEDOUT
 * (input may have come all the same); or what ended the client, unless it comes to life
 * again. */
int client_step(struct ipc_client *client, uint64_t deadline_ns) MUST_CHECK;

/* Handles the input that is there, without waiting. 0, or what ended the client. */
int client_read_available(struct ipc_client *client) MUST_CHECK;

/* Ends the client, and with it all open requests. Returns r. */
int client_die(struct ipc_client *client, int r, const char *format, ...)
	PRINTF_LIKE(3, 4);

/* Ends all open requests with error, and receivers with what nobody has fetched. */
void client_lose_requests(struct ipc_client *client, int error);

static inline bool client_ms_is_valid(int64_t ms)
{
	return ms >= 0 && (uint64_t)ms <= LIMIT_WAIT_MAX;
}

/* Arguments: 0, or -EINVAL with the error set. */
int client_check_text(struct ipc_client *client, const char *what, const char *text,
		      size_t max) MUST_CHECK;
int client_check_wait(struct ipc_client *client, int64_t wait_ms) MUST_CHECK;

/* ---- receivers (receiver.c) ---- */

/* One callback that is due; false: none is. */
bool client_run_receiver(struct ipc_client *client);

/* How many are due, at least. */
uint64_t client_n_ready(const struct ipc_client *client);

/* The connection is lost: receivers that have ended, but of which messages were not fetched,
 * have failed. */
void client_lose_messages(struct ipc_client *client, int error);

/* The connection is lost and will come again: receivers that run wait for it, and what
 * nobody has fetched is put aside, to be given back. */
void client_suspend_receivers(struct ipc_client *client);

/* Asks for what they still want. 0, or what ended the client. */
int client_resume_receivers(struct ipc_client *client) MUST_CHECK;

/* Tells those with callbacks that it is over. */
void client_end_receivers(struct ipc_client *client, int error);

/* Frees all receivers of a client that is dead. */
void client_free_receivers(struct ipc_client *client);

/* ---- lists (list.c) ---- */

/* As request->decode: makes reply.list of the answer's body. */
int client_decode_list(struct ipc_request *request,
		       const struct header *header) MUST_CHECK;

/* ---- messages (message.c, message_decode.c) ---- */

struct message_file;

struct ipc_message {
	struct list link; /* on its receiver until fetched */
	const char *body; /* in block, in joined, behind text, or the caller's */
	size_t body_size;
	struct bytes *block;
	char *joined;

	uint64_t number, attempt;
	uint32_t connection; /* on which it came */
	unsigned int priority;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	/* Only meta and history may be NULL. They lie in text; meta of one to be sent in own_meta. */
	const char *lease, *queue, *user, *state, *reason, *meta, *history;

	struct message_file *file; /* see file.h; NULL: nothing of a file */
	ipc_progress_fn progress;  /* or NULL */
	void *progress_userdata;

	int64_t delay_ms, ttl_ms;
	char *own_meta, *dedup_id; /* of one to be sent, or NULL */
	char text[];
};

void client_message_init(struct ipc_message *message);

/* Makes a message of a delivery. with_body: also its body, where a large one is stolen from
 * the stream, as is a descriptor. 0, -ENOMEM, or -EPROTO with client->error saying why. */
int client_message_decode(struct ipc_client *client, const struct frame *frame,
			  bool with_body, struct ipc_message **ret_message) MUST_CHECK;

/* Puts a nack: it was not handled, but that is nobody's fault. */
int client_give_back(struct ipc_client *client,
		     const struct ipc_message *message) MUST_CHECK;

DEFINE_CLEANUP(struct ipc_message *, ipc_message_free);
#define _cleanup_message_ CLEANUP(ipc_message_freep)

#endif
