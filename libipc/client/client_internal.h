/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_CLIENT_INTERNAL_H
#define CLIENT_CLIENT_INTERNAL_H

/*
 * What the files of the client share.
 *
 *	public calls   client.c  send.c  receive*.c  settle.c  list.c  message*.c
 *	requests       request.c  one open `id`: its answer, its callback, waiting for it
 *	bytes          io.c       the only file that reads, writes and hands frames on
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
 * every open request has been told.
 */

#include <limits.h>

#include "base/list.h"
#include "base/map.h"
#include "wire/stream.h"

#include <ipc/ipc.h>

#define CLIENT_NEVER UINT64_MAX /* a deadline that does not come */

enum {
	CLIENT_TIMEOUT_MS = 30000,
	CLIENT_WRITE_SOON = 65536, /* bytes of output from which it is written unasked */
	CLIENT_OUTPUT_MAX = 67108864, /* bytes of output from which nothing is added */
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

/* Copies at most CLIENT_WORD_MAX bytes of a word. */
void client_copy_word(char out[static CLIENT_WORD_MAX + 1], const char *word,
		      size_t size);

/* ---- requests (request.c) ---- */

struct ipc_reply {
	int error; /* 0 or -errno */
	uint64_t number;
	char word[CLIENT_WORD_MAX + 1];
	char *text; /* of an error; NULL where there was no memory for it */
};

struct ipc_request;

struct request_ops {
	/* A frame with its id. 0, or the error that ends the client. */
	int (*on_frame)(struct ipc_request *request, const struct frame *frame);
	/* The client has ended; the request is not open any more. */
	void (*on_lost)(struct ipc_request *request, int error);
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
	struct map_node node;
	struct list link;

	/* of requests with one answer */
	struct ipc_reply reply;
	struct buf body; /* of the answer, its pieces joined */
	int (*decode)(struct ipc_request *request,
		      const struct header *header); /* or NULL */
	ipc_reply_fn callback;
	void *userdata;
};

/* For requests with one answer. */
extern const struct request_ops request_call_ops;

void request_init(struct ipc_request *request, struct ipc_client *client,
		  const struct request_ops *ops);
void request_deinit(struct ipc_request *request);
#define _cleanup_request_ CLEANUP(request_deinit)

/* Gives it an id and begins its header; the caller adds members by client->writer. 0,
 * -ENOMEM or -ECONNRESET. Without request_put() it must be ended again. */
int request_begin(struct ipc_request *request, const char *op) MUST_CHECK;

/* Ends the header and puts it and the body into the output. Ends the request if it fails. */
int request_put(struct ipc_request *request, const void *body,
		size_t body_size) MUST_CHECK;

/* Waits for the answer; returns its error, which then is the client's too. */
int request_wait(struct ipc_request *request, uint64_t deadline_ns) MUST_CHECK;

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

/* Runs the callbacks of client->done, unless one is running. */
void client_run_callbacks(struct ipc_client *client);

/* ---- the connection (client.c, io.c) ---- */

struct ipc_client {
	struct stream stream;
	struct reader *reader;
	struct json_writer *writer;
	struct buf header; /* being written */

	struct map requests; /* open ones by id */
	struct list open;    /* the same, oldest first */
	struct list done;    /* answered, callback not run yet */
	struct list receivers;
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

	int64_t timeout_ms;	     /* or IPC_FOREVER */
	uint64_t receive_timeout_ms; /* SO_RCVTIMEO as it is set; 0: none */

	char *socket, *server;
	uint64_t peer;
	struct client_error error;
};

static inline void client_count_handled(struct ipc_client *client)
{
	if (client->n_handled < INT_MAX) /* a program may never ask */
		client->n_handled++;
}

/* 0, or -ECONNRESET with the error set where the client is dead. */
int client_check(struct ipc_client *client) MUST_CHECK;

/* When a call ends that may wait for wait_ms (or IPC_FOREVER) and the client's timeout. */
uint64_t client_deadline(const struct ipc_client *client, int64_t wait_ms);

/* A header without an id, for what is not answered; members go to client->writer. */
void client_begin(struct ipc_client *client, const char *op);
int client_put(struct ipc_client *client, const void *body, size_t body_size) MUST_CHECK;

/* Writes what the kernel takes now. 0: all; STREAM_E_AGAIN; or what ended the client. */
int client_write(struct ipc_client *client) MUST_CHECK;

/* Writes until at most so many bytes are left. 0, -ETIMEDOUT, or what ended the client. */
int client_write_until(struct ipc_client *client, uint64_t left,
		       uint64_t deadline_ns) MUST_CHECK;

/* Writes, waits for input until the deadline and handles it: one sendmsg and one recvmsg
 * where nothing is in the way. Callbacks are the caller's. 0: look again; -ETIMEDOUT
 * (input may have come all the same); or what ended the client. */
int client_step(struct ipc_client *client, uint64_t deadline_ns) MUST_CHECK;

/* Handles the input that is there, without waiting. 0, or what ended the client. */
int client_read_available(struct ipc_client *client) MUST_CHECK;

/* Ends the client, and with it all open requests. Returns r. */
int client_die(struct ipc_client *client, int r, const char *format, ...)
	PRINTF_LIKE(3, 4);

/* Ends all open requests with error. */
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

/* Frees all receivers of a client that is dead. */
void client_free_receivers(struct ipc_client *client);

/* ---- messages (message.c, message_decode.c) ---- */

struct ipc_message {
	struct list link; /* on its receiver until fetched */
	const char *body; /* in block, in joined, behind text, or the caller's */
	size_t body_size;
	struct bytes *block;
	char *joined;

	uint64_t number, attempt;
	unsigned int priority;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	/* Only meta may be NULL. They lie in text; meta of one to be sent in own_meta. */
	const char *lease, *queue, *user, *state, *reason, *meta;

	int64_t delay_ms, ttl_ms;
	char *own_meta;
	char text[];
};

void client_message_init(struct ipc_message *message);

/* Makes a message of a delivery. with_body: also its body, where a large one is stolen from
 * the stream. 0, -ENOMEM, or -EPROTO with client->error saying why. */
int client_message_decode(struct ipc_client *client, const struct frame *frame,
			  bool with_body, struct ipc_message **ret_message) MUST_CHECK;

DEFINE_CLEANUP(struct ipc_message *, ipc_message_free);
#define _cleanup_message_ CLEANUP(ipc_message_freep)

#endif
