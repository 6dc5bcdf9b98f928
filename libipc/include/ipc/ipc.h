/* SPDX-License-Identifier: MIT */
#ifndef IPC_IPC_H
#define IPC_IPC_H

/*
 * libipc: messages handed from process to process, through the queues of ipcd(8).
 *
 * Results. Functions that return int give 0 (or a documented positive value) on success
 * and a negative errno on failure. After a failure ipc_client_get_error() has a sentence
 * for a person, and ipc_client_get_error_word() the daemon's error word (ipc-protocol(7))
 * if it was the daemon that refused. Besides what a function lists, every function that
 * talks to the daemon may return
 *	-ENOMEM      no memory
 *	-ECONNRESET  the daemon has closed the connection: the client is dead, close it, or
 *	             see ipc_client_set_reconnect()
 *	-EPROTO      the daemon said something that is no answer (the same)
 *	-ETIMEDOUT   no answer in time, see ipc_client_set_timeout()
 *	-EIO         the daemon failed inside ("internal"), or its disk did: whether it was
 *	             done is not known
 *	-ENOSPC      the disk of its state directory is full ("no-space"): it was not done
 *	-ESHUTDOWN   the daemon is stopping
 *
 * Threads. A client and all that was made from it belong to one thread at a time; different
 * clients are independent. Nothing here installs signal handlers or exits; SIGPIPE is never
 * raised by the connection; all descriptors are close-on-exec. After fork(2) only the
 * process that opened a client may use it. Nothing is printed, but with IPC_DEBUG=1 in the
 * environment (not of set-user-ID programs) when a client is opened, each frame it sends
 * and receives is a line on standard error.
 *
 * Ownership. Functions named _new and _open give an object that the caller ends with _free
 * or _close; these accept NULL and return NULL. Strings and bodies that getters return
 * belong to the object and live as long as it does, unless said otherwise.
 *
 * Times are milliseconds; IPC_FOREVER means without limit.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define IPC_PUBLIC __attribute__((visibility("default")))
#define IPC_MUST_CHECK __attribute__((warn_unused_result))
#else
#define IPC_PUBLIC
#define IPC_MUST_CHECK
#endif

#define IPC_FOREVER ((int64_t)-1)

struct timespec; /* <time.h> of plain C99 has none */

struct ipc_client;   /* one connection to the daemon */
struct ipc_message;  /* a message to send, or one that was received */
struct ipc_receiver; /* messages coming from queues */
struct ipc_request;  /* an asynchronous request under way */
struct ipc_reply;    /* how it ended */
struct ipc_list;     /* what a listing request returned */
struct ipc_record;   /* one entry of it */

/* ------------------------------------------------------------------ the connection --- */

/* Flags of ipc_client_open() and ipc_socket_path(). */
enum ipc_open_flags {
	IPC_OPEN_SYSTEM = 1 << 0,    /* the system's daemon */
	IPC_OPEN_USER = 1 << 1,	     /* the daemon of this user */
	IPC_OPEN_AUTOSTART = 1 << 2, /* start the user's daemon if none runs */
};

/**
 * ipc_socket_path - which daemon a client talks to by default
 * @flags: 0, or one of IPC_OPEN_SYSTEM and IPC_OPEN_USER; others are ignored
 * @ret_path: the socket's path; the caller frees it with free(3)
 *
 * Without flags: $IPC_SOCKET if set; else the system's /run/ipcd/socket if it exists; else
 * the user's: $XDG_RUNTIME_DIR/ipcd/socket, /run/user/UID/ipcd/socket or, without such a
 * directory, $XDG_STATE_HOME/ipcd/socket or ~/.local/state/ipcd/socket. Set-user-ID programs
 * ignore the environment.
 *
 * Returns: 0; -EINVAL both flags; -ENOENT no place for a user's socket can be found; -ENOMEM
 * Blocking: no (looks at the file system). Threads: any. Since: 0.1. Source: ipc(1)
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_socket_path(unsigned int flags, char **ret_path);

/**
 * ipc_client_open - connect to a daemon
 * @socket: path of its socket, at most 107 bytes; NULL: as ipc_socket_path() says
 * @flags: 0 or IPC_OPEN_* joined by |; looked at only where @socket is NULL, but for
 *	IPC_OPEN_AUTOSTART, which is ignored with a path
 * @ret_client: the client; also set when an error is returned and memory allows, so that
 *	ipc_client_get_error() can be asked; end it with ipc_client_close() in any case
 *
 * The listener must be root, this user, or the owner of the socket in a directory of
 * root's; the directory must not be writable by others.
 *
 * Returns: 0; -ENOENT no socket there; -ENOTSOCK another file is there; -ENOTDIR what should
 * be its directory is none; -ECONNREFUSED nobody listens; -EACCES may not connect; -EPERM the
 * directory or the listener is not to be trusted; -ENAMETOOLONG; -EINVAL flags; -EMFILE;
 * -ECHILD with IPC_OPEN_AUTOSTART: the daemon could not be started; otherwise as at the top
 * Blocking: until connected and greeted, at most the default timeout. Threads: any.
 * Since: 0.1. Source: ipc-protocol(7) hello
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_client_open(const char *socket, unsigned int flags,
					      struct ipc_client **ret_client);

/**
 * ipc_client_close - end a connection and all that belongs to it
 * @client: NULL does nothing; requests under way end with -ECANCELED
 *
 * Messages received and not acknowledged become due again for other receivers. Messages
 * (struct ipc_message) stay valid; receivers and requests do not.
 *
 * Returns: NULL
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC struct ipc_client *ipc_client_close(struct ipc_client *client);

/**
 * ipc_client_set_timeout - how long blocking calls wait for the daemon's answer
 * @client: the client
 * @timeout_ms: 0 or more, or IPC_FOREVER; the default is 30000. Time that a call was asked
 *	to wait (for room, for a message) comes on top.
 *
 * Returns: 0; -EINVAL out of range
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_client_set_timeout(struct ipc_client *client,
						     int64_t timeout_ms);

/**
 * ipc_client_get_error - what went wrong last, for a person
 * @client: the client, may be NULL (no memory)
 *
 * Returns: one line without newline, never NULL; empty if nothing failed yet. Valid until
 * the next call with this client
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC const char *ipc_client_get_error(const struct ipc_client *client);

/**
 * ipc_client_get_error_word - what went wrong last, for a program
 * @client: the client, may be NULL
 *
 * Returns: the daemon's error word ("denied", "full" …), or "" if the failure was local
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7), errors
 */
IPC_PUBLIC const char *ipc_client_get_error_word(const struct ipc_client *client);

/**
 * ipc_client_get_socket - the path this client is connected to
 * @client: the client
 *
 * Returns: the path, never NULL
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC const char *ipc_client_get_socket(const struct ipc_client *client);

/**
 * ipc_client_get_server - the daemon's name and version, as "ipcd 0.1.0"
 * @client: the client
 *
 * Returns: the text, never NULL
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) hello
 */
IPC_PUBLIC const char *ipc_client_get_server(const struct ipc_client *client);

/**
 * ipc_client_get_peer - this connection's number at the daemon
 * @client: the client
 *
 * Returns: the number that `ipc peers` shows, 1 or more
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) hello
 */
IPC_PUBLIC uint64_t ipc_client_get_peer(const struct ipc_client *client);

/**
 * ipc_client_get_fd - the descriptor to poll
 * @client: the client; it keeps the descriptor
 *
 * It changes only where ipc_client_set_reconnect() was called: ask before each poll(2); for
 * epoll(7) and main loops compare it after ipc_client_process() with the one that is
 * registered. A new descriptor never has the number that this function told last.
 *
 * Returns: the descriptor, or -ECONNRESET while the connection is lost
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC int ipc_client_get_fd(const struct ipc_client *client);

/**
 * ipc_client_get_events - what to poll the descriptor for, now
 * @client: the client; ask before each poll(2)
 *
 * Returns: POLLIN, with POLLOUT where something waits to be written
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC int ipc_client_get_events(const struct ipc_client *client);

/**
 * ipc_client_get_timeout - when to call ipc_client_process() at the latest
 * @client: the client; ask before each poll(2)
 *
 * That is when an asynchronous request is too late, or when a lost connection is tried
 * again.
 *
 * Returns: milliseconds from now; 0 if there is work already, as messages that came during
 * a blocking call; -1 without limit
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC int ipc_client_get_timeout(const struct ipc_client *client);

/**
 * ipc_client_process - read, write and run callbacks, as far as possible now
 * @client: the client
 *
 * Callbacks may call anything but ipc_client_close() and ipc_client_process(), also what
 * blocks; further callbacks wait until they return. Those that become due by that are left to
 * the next time, which ipc_client_get_timeout() says is now.
 *
 * Returns: how many replies and messages were handled since the last time, 0 or more; or
 * the error that ended the connection (not with ipc_client_set_reconnect()); -EBUSY inside
 * a callback
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_client_process(struct ipc_client *client);

/**
 * ipc_client_flush - write out everything, then return
 * @client: the client
 *
 * Returns: 0; otherwise as at the top
 * Blocking: until the kernel has it all. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_client_flush(struct ipc_client *client);

/**
 * ipc_client_get_pending - what waits to be written
 * @client: the client
 *
 * Who sends much by ipc_send_async() pauses while this is above some bound, such as
 * 1 MiB: after ipc_client_process(), which writes as the socket takes it, it goes on.
 *
 * Returns: bytes, at most 64 MiB and what was put last
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC uint64_t ipc_client_get_pending(const struct ipc_client *client);

/**
 * ipc_reconnect_fn - is told that there is a connection again, by a function that processes
 *	the client
 * @client: the client
 * @restarted: the daemon is another one than before
 * @n_held: messages that were received and neither acknowledged nor refused when the
 *	connection was lost: they will come again, unless the first delivery is settled before
 * @userdata: as given with ipc_client_set_reconnect()
 */
typedef void (*ipc_reconnect_fn)(struct ipc_client *client, bool restarted,
				 uint64_t n_held, void *userdata);

/**
 * ipc_client_set_reconnect - do not end with the connection
 * @client: the client; best before anything is received
 * @callback: told after each new connection
 * @userdata: handed to it
 *
 * When the connection is lost, requests under way end with -ECONNRESET, and nothing of them
 * is repeated: whether the daemon has done it is unknown. The one exception is
 * ipc_send_message() of a message with a dedup id, which goes on. The client connects
 * to the same socket again, at once and then after growing pauses of up to 5 s, as often as
 * needed. Attempts are made by ipc_client_process() and by calls that wait for an answer:
 * these first wait for the connection, no longer than for their answer. ipc_ack() and
 * asynchronous requests do not wait and fail with -ECONNRESET meanwhile.
 *
 * Receivers that run go on, with the same queues, window, and what is left of max, as do those
 * whose end has come, but was not seen yet for the messages before it; messages not fetched yet
 * are given back and come again. Those that peek, and ipc_receive(), end.
 * Messages that were fetched stay valid, and are settled by their lease from now on: that
 * succeeds unless they were handed out anew before. No daemon is started.
 *
 * Returns: 0; -EINVAL without a callback; -ECONNRESET lost already
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_client_set_reconnect(struct ipc_client *client,
						       ipc_reconnect_fn callback,
						       void *userdata);

/* ------------------------------------------------------------------------ requests --- */

/**
 * ipc_reply_fn - is told how an asynchronous request ended; called exactly once unless it is
 *	cancelled, by a function that processes the client
 * @client: the client
 * @reply: valid during the call
 * @userdata: as given with the request
 */
typedef void (*ipc_reply_fn)(struct ipc_client *client, const struct ipc_reply *reply,
			     void *userdata);

/**
 * ipc_request_set_timeout - when an answer is of no use any more
 * @request: under way
 * @timeout_ms: from now; 0 or more, or IPC_FOREVER (as it is at first)
 *
 * Then its callback is told -ETIMEDOUT, and the daemon that nobody waits: a send that waits
 * for room is taken back, what is done already stays done.
 *
 * Returns: 0; -EINVAL out of range; -ENOMEM
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) cancel
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_request_set_timeout(struct ipc_request *request,
						      int64_t timeout_ms);

/**
 * ipc_request_cancel - no longer wait for an answer
 * @request: under way; it must not be used afterwards
 *
 * A send that waits for room is taken back if it still waits. The callback is not called.
 *
 * Returns: 0; -ENOMEM; -ECONNRESET
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) cancel
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_request_cancel(struct ipc_request *request);

/**
 * ipc_reply_get_error - did it succeed?
 * @reply: the reply
 *
 * Returns: 0, or the error that the blocking form would have returned
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC int ipc_reply_get_error(const struct ipc_reply *reply);

/**
 * ipc_reply_get_error_text - why not, for a person
 * @reply: the reply
 *
 * Returns: one line, never NULL; "" on success
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC const char *ipc_reply_get_error_text(const struct ipc_reply *reply);

/**
 * ipc_reply_get_error_word - why not, for a program
 * @reply: the reply
 *
 * Returns: the daemon's error word, or "" on success and if the failure was local
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7), errors
 */
IPC_PUBLIC const char *ipc_reply_get_error_word(const struct ipc_reply *reply);

/**
 * ipc_reply_get_number - the number of the message that was sent
 * @reply: the reply
 *
 * Returns: 1 or more; 0 if there is none
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC uint64_t ipc_reply_get_number(const struct ipc_reply *reply);

/**
 * ipc_reply_get_sent - what else the daemon has said of a message that was sent
 * @reply: the reply to ipc_send_async()
 *
 * Returns: 0, or IPC_SENT_* joined by |
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC unsigned int ipc_reply_get_sent(const struct ipc_reply *reply);

/**
 * ipc_reply_get_list - what ipc_list_async() asked for
 * @reply: the reply
 *
 * Returns: the list, the reply's; NULL if there is none
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) names, peers, stats
 */
IPC_PUBLIC struct ipc_list *ipc_reply_get_list(const struct ipc_reply *reply);

/* ------------------------------------------------------------------------ messages --- */

/**
 * ipc_message_new - an empty message, to be sent
 * @ret_message: the message; end it with ipc_message_free()
 *
 * Returns: 0; -ENOMEM
 * Blocking: no. Threads: any. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_message_new(struct ipc_message **ret_message);

/**
 * ipc_message_free - end a message
 * @message: NULL does nothing. A received message is not acknowledged by this.
 *
 * Returns: NULL
 * Blocking: no. Threads: any. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC struct ipc_message *ipc_message_free(struct ipc_message *message);

/**
 * ipc_message_set_body - what the message carries
 * @message: a message to be sent
 * @data: borrowed: must stay as it is until the message was sent or freed
 * @size: 0 to the daemon's file_max bytes
 *
 * It takes the place of a body, file or reader that was set before.
 *
 * Returns: nothing
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC void ipc_message_set_body(struct ipc_message *message, const void *data,
				     size_t size);

/**
 * ipc_message_set_meta - a JSON object of the sender's, passed on byte for byte
 * @message: a message to be sent
 * @json: the object's text, copied, at most 32768 bytes and 31 levels; NULL: none
 *
 * Returns: 0; -EINVAL it is no strict JSON object; -ENOMEM; -EMSGSIZE
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_message_set_meta(struct ipc_message *message,
						   const char *json);

/**
 * ipc_message_set_priority - who goes first
 * @message: a message to be sent
 * @priority: 0 (first) to 9 (last); the default is 4
 *
 * Returns: 0; -EINVAL out of range
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_message_set_priority(struct ipc_message *message,
						       unsigned int priority);

/**
 * ipc_message_set_delay - not before
 * @message: a message to be sent
 * @delay_ms: it is handed out no sooner than this after it was sent; 0 or more
 *
 * Returns: 0; -EINVAL out of range
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_message_set_delay(struct ipc_message *message,
						    int64_t delay_ms);

/**
 * ipc_message_set_ttl - not after
 * @message: a message to be sent
 * @ttl_ms: it vanishes when nobody has taken it by then; 1 or more, or IPC_FOREVER
 *
 * Returns: 0; -EINVAL out of range
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_message_set_ttl(struct ipc_message *message,
						  int64_t ttl_ms);

/**
 * ipc_message_set_dedup_id - so that it can be sent again without being there twice
 * @message: a message to be sent
 * @id: text of 1 to 255 bytes, copied; NULL: none
 *
 * Who does not know whether a send was taken sends the message again with the same id: the
 * queue takes the first one of an id and a sender, also after a restart of the daemon, and
 * answers the others with its number, see IPC_SENT_DUPLICATE. An id is known for the daemon's
 * dedup_window (1 h), as long as the queue has at most dedup_ids newer ones. It must be new
 * for each new message, whatever the body.
 *
 * Returns: 0; -EINVAL it is empty or no UTF-8; -EMSGSIZE; -ENOMEM
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_message_set_dedup_id(struct ipc_message *message,
						       const char *id);

/**
 * ipc_message_get_body - what the message carries
 * @message: the message
 * @ret_size: bytes; may be NULL
 *
 * A body of more than 256 KiB comes as a descriptor, and is mapped by the first call: for
 * reading only. For large ones read(2) or ipc_message_save() may serve better.
 *
 * Returns: the bytes, not NUL-ended; NULL, with errno set, only where they came as a
 * descriptor: EOPNOTSUPP it is live, EBADF it was stolen, EBADMSG it has another size, or
 * as mmap(2) fails
 * Blocking: no, but what is mapped may have to be read. Threads: any, one at a time.
 * Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC const void *ipc_message_get_body(const struct ipc_message *message,
					    size_t *ret_size);

/**
 * ipc_message_get_number - the message's number at the daemon
 * @message: a received message
 *
 * Returns: 1 or more; 0 if it was not received
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC uint64_t ipc_message_get_number(const struct ipc_message *message);

/**
 * ipc_message_get_lease - the token that settles this delivery from any connection
 * @message: a received message
 *
 * Returns: the token; "" if there is none (peek)
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC const char *ipc_message_get_lease(const struct ipc_message *message);

/**
 * ipc_message_get_attempt - how often it has been delivered, this time included
 * @message: a received message
 *
 * Returns: 1 or more; when peeking, the deliveries so far
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC uint64_t ipc_message_get_attempt(const struct ipc_message *message);

/**
 * ipc_message_get_queue - the queue it came from
 * @message: a received message
 *
 * Returns: the name, never NULL
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC const char *ipc_message_get_queue(const struct ipc_message *message);

/**
 * ipc_message_get_priority - its priority
 * @message: the message
 *
 * Returns: 0 to 9
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC unsigned int ipc_message_get_priority(const struct ipc_message *message);

/**
 * ipc_message_get_meta - the sender's JSON object
 * @message: the message
 *
 * Returns: its text as it was sent, or NULL if there is none
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC const char *ipc_message_get_meta(const struct ipc_message *message);

/**
 * ipc_message_get_state - what is going on with it
 * @message: a message that was looked at, see ipc_receiver_set_peek()
 *
 * Returns: "ready", "delayed", "leased" or "dead"; "" if it was received
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC const char *ipc_message_get_state(const struct ipc_message *message);

/**
 * ipc_message_get_reason - why it is dead
 * @message: a message that was looked at, see ipc_receiver_set_dead()
 *
 * Returns: what ipc_nack() or ipc_reject() was given, or the daemon's reason; "" if there is
 * none
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC const char *ipc_message_get_reason(const struct ipc_message *message);

/**
 * ipc_message_get_history - how its attempts ended
 * @message: a message that was looked at, see ipc_receiver_set_peek()
 *
 * Returns: a JSON array, oldest first and at most the last 8, of objects with attempt, at_ms
 * (since 1970), uid and pid (0 if unknown) of the receiver, and reason ("" if none was given);
 * NULL if there were none
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC const char *ipc_message_get_history(const struct ipc_message *message);

/**
 * ipc_message_get_from - who sent it, by the kernel's word
 * @message: a received message
 * @ret_uid: user ID; may be NULL
 * @ret_gid: group ID; may be NULL
 * @ret_pid: process ID when it connected, 0 if unknown: for people only; may be NULL
 *
 * Returns: the user's name (decimal uid if it has none), never NULL
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7), from
 */
IPC_PUBLIC const char *ipc_message_get_from(const struct ipc_message *message,
					    uid_t *ret_uid, gid_t *ret_gid,
					    pid_t *ret_pid);

/**
 * ipc_message_to_json - a received message as one line of JSON
 * @message: a received message
 * @with_body: also "body" (a string), or "body_base64" where it is not UTF-8 text; without
 *	effect on one that is live
 * @ret_json: the line, NUL-ended, without newline; the caller frees it with free(3)
 *
 * Returns: 0; -ENOMEM; with the body also as ipc_message_get_body() fails
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc(1) --json
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_message_to_json(const struct ipc_message *message,
						  bool with_body, char **ret_json);

/* --------------------------------------------------------------------------- files --- */

/* Flags of ipc_message_set_file() and ipc_message_set_reader(). */
enum ipc_file_flags {
	IPC_FILE_LIVE = 1 << 0,	  /* the open file itself, not what is in it */
	IPC_FILE_XXH3 = 1 << 1,	  /* the daemon makes this digest of the body, and */
	IPC_FILE_SHA256 = 1 << 2, /* tells the receiver */
	IPC_FILE_MD5 = 1 << 3,
};

/**
 * ipc_message_set_file - the message carries a file
 * @message: a message to be sent
 * @fd: borrowed until the message was sent or freed
 * @filename: its name for the receiver, copied: 1 to 255 bytes of UTF-8 without '/', not "."
 *	or ".."; NULL: none
 * @flags: 0 or IPC_FILE_* joined by |; IPC_FILE_LIVE with no other
 *
 * It takes the place of a body, file or reader that was set before.
 *
 * Of a regular file the daemon makes a copy of its own while it is sent: all of it, whatever
 * the offset of @fd, which stays as it is. The message then has also the file's permission
 * bits and time. What is no regular file (a pipe, a socket, a terminal) is read to its end.
 *
 * With IPC_FILE_LIVE the receiver gets @fd itself, of whatever kind but directories: offset
 * and flags of the open file stay shared. Such a message goes only through queues in memory
 * (durable=false), and is handed out once.
 *
 * The descriptor is duplicated for sending and closed again, by which this process loses its
 * record locks on the file (F_SETLK, see fcntl(2)); those of flock(2) and F_OFD_SETLK stay.
 *
 * Returns: 0; -EINVAL @filename or @flags; -EMSGSIZE @filename is too long; -EBADF not open,
 * or not for reading; -EISDIR; -ENOMEM. After a failure the message is as before
 * Blocking: as fstat(2). Threads: any. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_message_set_file(struct ipc_message *message, int fd,
						   const char *filename,
						   unsigned int flags);

/**
 * ipc_read_fn - gives the bytes of a body, by ipc_send_message()
 * @buffer: where to
 * @size: how many at most, 1 or more
 * @userdata: as given with ipc_message_set_reader()
 *
 * Returns: how many; 0 at the end; or a negative errno to give up: then nothing is queued, and
 * ipc_send_message() returns it
 */
typedef ssize_t (*ipc_read_fn)(void *buffer, size_t size, void *userdata);

/**
 * ipc_message_set_reader - the body comes from a function, its size need not be known
 * @message: a message to be sent, only by ipc_send_message()
 * @reader: called until it returns 0. It may take its time, but the daemon gives up after ten
 *	minutes without a byte. It may use the client, but not close it.
 * @userdata: handed to it
 * @filename: as ipc_message_set_file()
 * @flags: 0 or IPC_FILE_* joined by |, without IPC_FILE_LIVE
 *
 * It takes the place of a body, file or reader that was set before. The message can be sent
 * once, also where it has a dedup id.
 *
 * Returns: 0; -EINVAL no reader, @filename or @flags; -EMSGSIZE @filename is too long; -ENOMEM
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7), pieces
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_message_set_reader(struct ipc_message *message,
						     ipc_read_fn reader, void *userdata,
						     const char *filename,
						     unsigned int flags);

/**
 * ipc_message_set_archive - the body is a directory, packed
 * @message: a message to be sent
 * @format: "tar"; NULL: it is none. Its filename is that of the directory and ".tar", and
 *	all names in it begin with that of the directory, or with "."
 *
 * Returns: 0; -EINVAL another format; -ENOMEM
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_message_set_archive(struct ipc_message *message,
						      const char *format);

/**
 * ipc_progress_fn - is told now and then how far it has come
 * @done: bytes
 * @total: bytes; UINT64_MAX: not known
 * @userdata: as given with ipc_message_set_progress()
 *
 * Returns: 0 to go on, else to give up
 */
typedef int (*ipc_progress_fn)(uint64_t done, uint64_t total, void *userdata);

/**
 * ipc_message_set_progress - be told how far it has come
 * @message: to be sent by ipc_send_message(), to be saved by ipc_message_save() or looked at
 *	by ipc_message_verify(). Short bodies may be sent without a word.
 * @progress: called several times a second, also while a pipe or socket is waited for;
 *	NULL: nobody is told
 * @userdata: handed to it
 *
 * Returns: nothing
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC void ipc_message_set_progress(struct ipc_message *message,
					 ipc_progress_fn progress, void *userdata);

/**
 * ipc_message_get_filename - the name that the sender has given it
 * @message: the message
 *
 * Returns: 1 to 255 bytes of UTF-8 without '/', not "." or "..", but perhaps with control
 * characters; NULL if there is none
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC const char *ipc_message_get_filename(const struct ipc_message *message);

/**
 * ipc_message_get_size - how large the body is
 * @message: a received message
 *
 * Returns: bytes; UINT64_MAX if nobody knows, as of a pipe
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC uint64_t ipc_message_get_size(const struct ipc_message *message);

/**
 * ipc_message_get_mode - the permission bits of the file that was sent
 * @message: a received message
 *
 * Returns: 0 to 0777; -1 if there are none
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC int ipc_message_get_mode(const struct ipc_message *message);

/**
 * ipc_message_get_mtime - when the file that was sent was changed last
 * @message: a received message
 * @ret_mtime: the time, since 1970 and perhaps before; may be NULL
 *
 * Returns: whether it is known
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC bool ipc_message_get_mtime(const struct ipc_message *message,
				      struct timespec *ret_mtime);

/**
 * ipc_message_get_digest - a digest of the body
 * @message: a received message
 * @algorithm: "xxh3" (XXH3 with 128 bits, as `xxhsum -H2`), "sha256" or "md5"
 *
 * The daemon vouches that the body had it when it was sent; ipc_message_save() and
 * ipc_message_verify() look whether it still has.
 *
 * Returns: its hex digits in lower case; NULL if there is none
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC const char *ipc_message_get_digest(const struct ipc_message *message,
					      const char *algorithm);

/**
 * ipc_message_get_archive - is the body a directory, packed?
 * @message: the message
 *
 * Returns: "tar", or NULL if it is none
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC const char *ipc_message_get_archive(const struct ipc_message *message);

/**
 * ipc_message_is_live - is the body an open file of the sender's?
 * @message: a received message
 *
 * Returns: whether it was sent with IPC_FILE_LIVE
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC bool ipc_message_is_live(const struct ipc_message *message);

/**
 * ipc_message_get_fd - the descriptor that came with the message
 * @message: a received message
 *
 * It is open for reading only, at offset 0; with ipc_message_is_live() it is as its giver has
 * it.
 *
 * Returns: the descriptor, which stays the message's; -1 if the body is in memory
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC int ipc_message_get_fd(const struct ipc_message *message);

/**
 * ipc_message_steal_fd - the descriptor that came with the message, to keep
 * @message: a received message; it has no body any more, unless that was mapped already by
 *	ipc_message_get_body()
 *
 * Returns: the descriptor, which is the caller's now; -1 if there is none
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC int ipc_message_steal_fd(struct ipc_message *message);

/* Flags of ipc_message_save(). */
enum ipc_save_flags {
	IPC_SAVE_REPLACE = 1 << 0, /* a file that has the name is replaced */
	IPC_SAVE_RENAME = 1 << 1,  /* "x (1).txt" where "x.txt" is taken */
};

/**
 * ipc_message_save - write the body as a file
 * @message: a received message
 * @dirfd: the directory, open in whatever way; AT_FDCWD: the current one
 * @name: the file's name, without '/'; NULL: the message's filename
 * @flags: 0, IPC_SAVE_REPLACE or IPC_SAVE_RENAME
 * @ret_name: the name it has got, the caller frees it with free(3); may be NULL
 *
 * The name appears when the file is whole, its size and digests are right and it is on the
 * disk; until then it has none (on file systems without O_TMPFILE: one that begins with
 * ".ipc-"). Holes are kept, and the time and permission bits that were sent, without those of
 * the umask. Where there is no digest to be verified the file may share its blocks with that
 * of the daemon (FICLONE). A live pipe or socket is read to its end.
 *
 * Returns: 0; -EEXIST the name is taken, and nothing was touched; -EINVAL no name, or not a
 * plain one; @flags; a message that was not received; -EBADMSG size or digest differ;
 * -EBADF the descriptor was stolen, or cannot be read; -ECANCELED the progress function gave
 * up; -ENOMEM; otherwise as open(2), write(2), fsync(2) and link(2) fail. After a failure
 * nothing was replaced, and no part of the file is left; only where the directory could not
 * be written to the disk in the end the file is there, whole
 * Blocking: yes. Threads: any. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_message_save(struct ipc_message *message, int dirfd,
					       const char *name, unsigned int flags,
					       char **ret_name);

/**
 * ipc_message_verify - is the body as it was sent?
 * @message: a received message, of which the bytes are to be used without saving them
 *
 * All digests that came with it are made again; the descriptor's offset stays as it is.
 *
 * Returns: 0, also if there is no digest; -EBADMSG size or digest differ; -EBADF the descriptor
 * was stolen; -EOPNOTSUPP it is a live pipe or socket; -EINVAL a message that was not received;
 * -ECANCELED the progress function gave up; -ENOMEM; otherwise as read(2) fails
 * Blocking: while it reads. Threads: any. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_message_verify(const struct ipc_message *message);

/* ------------------------------------------------------------------------- sending --- */

/* Flags of ipc_send_message() and ipc_send_async(). */
enum ipc_send_flags {
	IPC_SEND_WAIT_ACKED = 1 << 0, /* answered when a receiver has acknowledged */
	IPC_SEND_TELL = 1 << 1,	      /* ipc_send_message() returns IPC_SENT_* */
};

/* What the answer to a send may say besides that the queue has the message. */
enum ipc_sent {
	IPC_SENT_DUPLICATE = 1 << 0,   /* its dedup id is known: the first one counts */
	IPC_SENT_NOT_DURABLE = 1 << 1, /* the daemon's file system keeps no promises */
};

/**
 * ipc_send - hand a message to a queue
 * @client: the client
 * @queue: name of the queue; it is made if it is not there and rights allow
 * @data: the body, may be NULL if @size is 0
 * @size: its bytes, at most the daemon's file_max
 * @ret_number: the message's number; may be NULL
 *
 * Returns: 0 when the queue has it, a durable one on the disk; -EAGAIN the queue is full, or
 * too many requests of this connection are not answered yet; -EDQUOT this user has too much in
 * queues, or has made too many; -EACCES; -EINVAL bad name; -ENOENT no such user as the name
 * says, or the queue was deleted meanwhile; -EMSGSIZE; otherwise as at the top
 * Blocking: until answered. Threads: owner. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_send(struct ipc_client *client, const char *queue,
				       const void *data, size_t size,
				       uint64_t *ret_number);

/**
 * ipc_send_message - hand a message to a queue, with all options
 * @client: the client
 * @queue: as ipc_send()
 * @message: stays the caller's
 * @wait_ms: how long to wait for room in a full queue; 0: not at all
 * @flags: 0 or, joined by |, IPC_SEND_WAIT_ACKED: wait (without limit) until it was
 *	acknowledged; IPC_SEND_TELL: return more than 0
 * @ret_number: the message's number, or that of the first one with its dedup id; may be NULL
 *
 * A message with a dedup id is sent again where ipc_client_set_reconnect() was called and the
 * connection is lost, or the daemon stops, before the answer: until there is one, or the
 * time is over. Not so where the body comes from a function, a pipe or the like, for that
 * has been read.
 *
 * While a file is copied the time begins anew with each word of the daemon's that it goes on.
 *
 * Returns: as ipc_send(); of a file also -EBADF the daemon does not take such a descriptor;
 * -EBUSY the file was changed meanwhile; -EILSEQ the body has not the digest it had;
 * -ECANCELED the progress function gave up; -EMFILE; -EOPNOTSUPP this daemon takes no files;
 * what the reader returned, or read(2) failed with. With IPC_SEND_TELL instead of 0 also
 * IPC_SENT_* joined by |;
 * with IPC_SEND_WAIT_ACKED also -ECANCELED it was refused, died or expired, see
 * ipc_client_get_error(); -EALREADY the first one with its dedup id has ended, how is not
 * known
 * Blocking: until answered. Threads: owner. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_send_message(struct ipc_client *client,
					       const char *queue,
					       const struct ipc_message *message,
					       int64_t wait_ms, unsigned int flags,
					       uint64_t *ret_number);

/**
 * ipc_send_async - hand a message to a queue without waiting
 * @client: the client; what is sent goes out with ipc_client_process(), ipc_client_flush()
 *	or any blocking call, so several are written together
 * @queue: as ipc_send()
 * @message: stays the caller's; its body is copied, and of a file the descriptor, unless it
 *	is small. The progress function is not called.
 * @wait_ms: as ipc_send_message()
 * @flags: as ipc_send_message()
 * @callback: told the outcome
 * @userdata: handed to it
 * @ret_request: for ipc_request_cancel() and ipc_request_set_timeout(), valid until the
 *	callback has returned; may be NULL
 *
 * Returns: 0; -EINVAL, also without a callback; -ENOMEM; -ENOBUFS 64 MiB wait to be written
 * already, see ipc_client_get_pending(); -ECONNRESET; -EOPNOTSUPP the body comes from a
 * function, a pipe or the like, or this daemon takes no files; of a file also -EMFILE and
 * -EBUSY as ipc_send_message(), -EBADF it is not open any more, and what read(2) of a small one
 * failed with
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) send
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_send_async(struct ipc_client *client, const char *queue,
					     const struct ipc_message *message,
					     int64_t wait_ms, unsigned int flags,
					     ipc_reply_fn callback, void *userdata,
					     struct ipc_request **ret_request);

/* ----------------------------------------------------------------------- receiving --- */

/**
 * ipc_receive - take one message from a queue
 * @client: the client
 * @queue: its name
 * @wait_ms: how long to wait for one; 0: not at all
 * @ret_message: the message, leased to this connection until ipc_ack() and the like
 *
 * Returns: 0; -ETIMEDOUT there was none; -EACCES; -EINVAL bad name; -ENOENT no such user as the
 * name says; -EDQUOT it would be made, and this user has made too many; -EAGAIN too many
 * requests of this connection are not answered yet; -ECANCELED the queue was deleted; -EMFILE
 * as ipc_receiver_next(); otherwise as at the top
 * Blocking: at most @wait_ms and the timeout. Threads: owner. Since: 0.1.
 * Source: ipc-protocol(7) receive
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_receive(struct ipc_client *client, const char *queue,
					  int64_t wait_ms,
					  struct ipc_message **ret_message);

/**
 * ipc_receiver_new - prepare to take messages from queues, one after the other
 * @client: the client, must outlive the receiver
 * @ret_receiver: end it with ipc_receiver_free()
 *
 * Defaults: no queue, window 1, max 0 (for ever), wait IPC_FOREVER, no callback. Nothing is
 * asked of the daemon before ipc_receiver_start() or the first ipc_receiver_next().
 *
 * Returns: 0; -ENOMEM
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_receiver_new(struct ipc_client *client,
					       struct ipc_receiver **ret_receiver);

/**
 * ipc_receiver_free - stop receiving
 * @receiver: NULL does nothing. Messages that came and were not fetched become due again;
 *	those fetched stay leased to the client.
 *
 * Returns: NULL
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) cancel
 */
IPC_PUBLIC struct ipc_receiver *ipc_receiver_free(struct ipc_receiver *receiver);

/**
 * ipc_receiver_add_queue - one more queue, after those added before in preference
 * @receiver: not yet started
 * @queue: its name, copied; at most 64 queues
 *
 * Returns: 0; -EINVAL the name is too long or no UTF-8; -ENOMEM; -E2BIG; -EBUSY already
 * started
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_receiver_add_queue(struct ipc_receiver *receiver,
						     const char *queue);

/**
 * ipc_receiver_set_window - how many unacknowledged messages may be out at once
 * @receiver: not yet started
 * @window: 1 to 65536; more than one keeps the next messages at hand
 *
 * Returns: 0; -EINVAL; -EBUSY already started
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_receiver_set_window(struct ipc_receiver *receiver,
						      unsigned int window);

/**
 * ipc_receiver_set_max - end after so many messages
 * @receiver: not yet started
 * @max: 1 or more; 0: never
 *
 * Returns: 0; -EBUSY already started
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_receiver_set_max(struct ipc_receiver *receiver,
						   uint64_t max);

/**
 * ipc_receiver_set_wait - end when nothing has come for so long
 * @receiver: not yet started
 * @wait_ms: 0 (take what is there) or more, or IPC_FOREVER
 *
 * Returns: 0; -EINVAL; -EBUSY already started
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_receiver_set_wait(struct ipc_receiver *receiver,
						    int64_t wait_ms);

/**
 * ipc_receiver_set_ack_wait - a deadline for each message
 * @receiver: not yet started
 * @ack_wait_ms: a message neither settled nor touched for so long is due again; 1 or more,
 *	or IPC_FOREVER (the default: only the end of the connection ends a lease)
 *
 * Returns: 0; -EINVAL; -EBUSY already started
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_receiver_set_ack_wait(struct ipc_receiver *receiver,
							int64_t ack_wait_ms);

/**
 * ipc_receiver_set_peek - look at the messages and leave them where they are
 * @receiver: not yet started
 * @peek: true: what is in the queues now is shown once, without leases, then it ends
 *
 * Returns: 0; -EBUSY already started
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_receiver_set_peek(struct ipc_receiver *receiver,
						    bool peek);

/**
 * ipc_receiver_set_dead - look at the dead messages only
 * @receiver: not yet started
 * @dead: true: as ipc_receiver_set_peek(), but only what is dead: rejected, or handed out
 *	too often. ipc_name_move() revives them, ipc_name_purge() ends them.
 *
 * Returns: 0; -EBUSY already started
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_receiver_set_dead(struct ipc_receiver *receiver,
						    bool dead);

/**
 * ipc_receiver_set_filter - look at some of the messages only
 * @receiver: not yet started, with ipc_receiver_set_peek() or ipc_receiver_set_dead()
 * @filter: what must all hold, read at once; NULL: no filter
 *
 * Conditions, with blanks or commas between them:
 *	age>1h age<30s (since it was sent; ms, s, m, h, d; without unit seconds)
 *	sender=ann (a user, by name or number)
 *	attempt>=3 attempt<2 attempt=1 (also > and <=)
 *	priority>=5 priority=0 (likewise)
 *	meta.kind=thumb meta.n=3 meta.title="two words" (a member of the sender's JSON object
 *	that is this integer, true, false, null, or else this text; in quotes a text as in JSON)
 *
 * Messages are taken from a queue in their order, so a receiver that does not peek is
 * refused by the daemon: move those of a filter to another queue with ipc_name_move().
 *
 * Returns: 0; -EINVAL, ipc_client_get_error() names the word; -ENOENT no such user; -EBUSY
 * already started; -ENOMEM
 * Blocking: while users are looked up. Threads: owner. Since: 0.1. Source: ipc(1) FILTERS
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_receiver_set_filter(struct ipc_receiver *receiver,
						      const char *filter);

/**
 * ipc_message_fn - is given a message, by a function that processes the client
 * @client: the client
 * @receiver: may be freed here
 * @message: the callee settles it (unless peeking) and frees it; NULL: the receiver has
 *	ended, which is told once, see ipc_receiver_get_error() and ipc_receiver_get_end()
 * @userdata: as given with ipc_receiver_set_callback()
 */
typedef void (*ipc_message_fn)(struct ipc_client *client, struct ipc_receiver *receiver,
			       struct ipc_message *message, void *userdata);

/**
 * ipc_receiver_set_callback - have messages brought instead of fetching them
 * @receiver: not yet started
 * @callback: given each message and the end; NULL: none, use ipc_receiver_next()
 * @userdata: handed to it
 *
 * It is also told the end by ipc_client_close(), but not by ipc_receiver_free(). Messages for
 * whose descriptor there was no room (-EMFILE of ipc_receiver_next()) come again, or when
 * peeking are left out, without a word.
 *
 * Returns: 0; -EBUSY already started
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_receiver_set_callback(struct ipc_receiver *receiver,
							ipc_message_fn callback,
							void *userdata);

/**
 * ipc_receiver_start - ask the daemon for messages
 * @receiver: with at least one queue
 *
 * Returns: 0; -EINVAL no queue; -EBUSY already started; -EMSGSIZE its filter is too long for a
 * header of 64 KiB; -ENOMEM; -ECONNRESET
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_receiver_start(struct ipc_receiver *receiver);

/**
 * ipc_receiver_next - the next message
 * @receiver: with at least one queue and no callback; the first call starts it
 * @timeout_ms: how long to wait here; 0: take what has come; IPC_FOREVER
 * @ret_message: the message; the caller settles it (unless peeking) and frees it
 *
 * Returns: 1 with a message; 0 the receiver has ended, see ipc_receiver_get_end();
 * -ETIMEDOUT nothing within @timeout_ms (the receiver goes on); -EMFILE a message came whose
 * descriptor this process had no room for, and was given back: it comes again after a second
 * (the receiver goes on, and max does not count it), or when peeking is left out; -EACCES;
 * -EINVAL; -ENOENT, -EDQUOT and -EAGAIN as ipc_receive(); -EMSGSIZE as ipc_receiver_start();
 * -EBUSY it has a callback; -ECANCELED a callback has freed the receiver; otherwise as at the
 * top
 * Blocking: at most @timeout_ms. Threads: owner. Since: 0.1.
 * Source: ipc-protocol(7) receive
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_receiver_next(struct ipc_receiver *receiver,
						int64_t timeout_ms,
						struct ipc_message **ret_message);

/**
 * ipc_receiver_get_end - why it ended
 * @receiver: the receiver
 *
 * Returns: "max", "timeout" (nothing came for the time set), "cancelled", "shutting-down" …;
 * "" while it goes on
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) receive
 */
IPC_PUBLIC const char *ipc_receiver_get_end(const struct ipc_receiver *receiver);

/**
 * ipc_receiver_get_error - did it end by a failure?
 * @receiver: the receiver
 *
 * Returns: 0; -EACCES; -EINVAL; -ENOENT, -EDQUOT and -EAGAIN as ipc_receive(); -ECONNRESET the
 * connection was lost;
 * -ECANCELED the client is being closed; otherwise as at the top
 * Blocking: no. Threads: owner. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC int ipc_receiver_get_error(const struct ipc_receiver *receiver);

/* ------------------------------------------------------------------------ settling --- */

/**
 * ipc_ack - the message is done: it leaves its queue
 * @client: the client that received it
 * @message: received, not settled before
 *
 * The daemon is told at once and not waited for: when the connection breaks first, the
 * message comes again. Where that matters use ipc_settle().
 *
 * Returns: 0; -EINVAL not a leased message; otherwise as at the top
 * Blocking: only while the socket is full. Threads: owner. Since: 0.1.
 * Source: ipc-protocol(7) ack
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_ack(struct ipc_client *client,
				      const struct ipc_message *message);

/**
 * ipc_ack_many - several messages are done, told in one write
 * @client: the client that received them
 * @messages: received, not settled before
 * @n_messages: 0 or more
 *
 * Returns: as ipc_ack()
 * Blocking: as ipc_ack(). Threads: owner. Since: 0.1. Source: ipc-protocol(7) ack
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_ack_many(struct ipc_client *client,
					   struct ipc_message *const *messages,
					   size_t n_messages);

/**
 * ipc_nack - the message could not be handled: hand it out again later
 * @client: the client that received it
 * @message: received, not settled before
 * @delay_ms: not before; -1: the queue's backoff by attempts
 * @reason: shown to people who look at the queue, at most 1024 bytes; NULL: none
 *
 * Returns: 0; -ESTALE the lease was lost; -EINVAL; otherwise as at the top
 * Blocking: until answered. Threads: owner. Since: 0.1. Source: ipc-protocol(7) nack
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_nack(struct ipc_client *client,
				       const struct ipc_message *message,
				       int64_t delay_ms, const char *reason);

/**
 * ipc_reject - nobody can handle the message: it is dead, and kept aside in its queue
 * @client: the client that received it
 * @message: received, not settled before
 * @reason: as ipc_nack()
 *
 * Returns: as ipc_nack()
 * Blocking: until answered. Threads: owner. Since: 0.1. Source: ipc-protocol(7) reject
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_reject(struct ipc_client *client,
					 const struct ipc_message *message,
					 const char *reason);

/**
 * ipc_touch - still at it: the lease's clock starts anew
 * @client: the client that received it
 * @message: received, not settled before
 *
 * Returns: as ipc_nack()
 * Blocking: until answered. Threads: owner. Since: 0.1. Source: ipc-protocol(7) touch
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_touch(struct ipc_client *client,
					const struct ipc_message *message);

/* What ipc_settle() does. */
enum ipc_verdict {
	IPC_VERDICT_ACK,
	IPC_VERDICT_NACK,
	IPC_VERDICT_REJECT,
	IPC_VERDICT_TOUCH,
};

/**
 * ipc_settle - settle a delivery by number and lease, from any connection of the same user
 * @client: any client of the user that received it
 * @verdict: IPC_VERDICT_*
 * @number: of the message
 * @lease: its token; NULL only on the connection that received it
 * @delay_ms: with IPC_VERDICT_NACK as ipc_nack(); else -1
 * @uncounted: with IPC_VERDICT_NACK: this attempt does not count
 * @reason: with IPC_VERDICT_NACK and IPC_VERDICT_REJECT as ipc_nack(); else NULL
 *
 * Returns: 0 when it is done; -ESTALE the lease was lost (settled before, or handed out
 * anew); -EINVAL; otherwise as at the top
 * Blocking: until answered. Threads: owner. Since: 0.1. Source: ipc-protocol(7) ack
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_settle(struct ipc_client *client,
					 enum ipc_verdict verdict, uint64_t number,
					 const char *lease, int64_t delay_ms,
					 bool uncounted, const char *reason);

/**
 * ipc_settle_async - the same without waiting
 * @client: as ipc_settle(), as all up to @reason
 * @verdict: IPC_VERDICT_*
 * @number: of the message
 * @lease: its token
 * @delay_ms: or -1
 * @uncounted: this attempt does not count
 * @reason: or NULL
 * @callback: told the outcome
 * @userdata: handed to it
 * @ret_request: as ipc_send_async()
 *
 * Returns: 0; -EINVAL, also without a callback; -ENOMEM; -ENOBUFS as ipc_send_async();
 * -ECONNRESET
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) ack
 */
IPC_PUBLIC IPC_MUST_CHECK int
ipc_settle_async(struct ipc_client *client, enum ipc_verdict verdict, uint64_t number,
		 const char *lease, int64_t delay_ms, bool uncounted, const char *reason,
		 ipc_reply_fn callback, void *userdata, struct ipc_request **ret_request);

/* ------------------------------------------------------------------------- looking --- */

/* What ipc_list_open() and ipc_list_async() ask for. */
enum ipc_list_kind {
	IPC_LIST_NAMES, /* queues one may see: name, kind, owner, mode, counts */
	IPC_LIST_PEERS, /* connections one may see */
	IPC_LIST_STATS, /* the daemon itself: one record */
};

/**
 * ipc_list_open - ask the daemon for a list
 * @client: the client
 * @kind: IPC_LIST_*
 * @name: of one queue, only with IPC_LIST_NAMES; NULL: all that one may see
 * @ret_list: end it with ipc_list_free(); independent of the client
 *
 * Returns: 0; -ENOENT no such name; -EINVAL; otherwise as at the top
 * Blocking: until answered. Threads: owner. Since: 0.1.
 * Source: ipc-protocol(7) names, peers, stats
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_list_open(struct ipc_client *client,
					    enum ipc_list_kind kind, const char *name,
					    struct ipc_list **ret_list);

/**
 * ipc_list_async - ask the daemon for a list without waiting
 * @client: the client
 * @kind: IPC_LIST_*
 * @name: as ipc_list_open()
 * @callback: told the outcome, and by ipc_reply_get_list() the list
 * @userdata: handed to it
 * @ret_request: as ipc_send_async()
 *
 * Returns: 0; -EINVAL, also without a callback; -ENOMEM; -ENOBUFS as ipc_send_async();
 * -ECONNRESET
 * Blocking: no. Threads: owner. Since: 0.1.
 * Source: ipc-protocol(7) names, peers, stats
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_list_async(struct ipc_client *client,
					     enum ipc_list_kind kind, const char *name,
					     ipc_reply_fn callback, void *userdata,
					     struct ipc_request **ret_request);

/**
 * ipc_list_free - end a list and its records
 * @list: NULL does nothing; not that of a reply
 *
 * Returns: NULL
 * Blocking: no. Threads: any. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC struct ipc_list *ipc_list_free(struct ipc_list *list);

/**
 * ipc_list_next - the next record
 * @list: the list
 *
 * Returns: the record, valid until the next call or the list's end; NULL after the last
 * Blocking: no. Threads: any. Since: 0.1. Source: libipc(3)
 */
IPC_PUBLIC const struct ipc_record *ipc_list_next(struct ipc_list *list);

/**
 * ipc_record_get_string - a text of a record
 * @record: the record
 * @key: its key, as "peers"; of a member of an object as "store.state"
 *
 * Returns: the text, NUL-ended; NULL if there is none of that name and type
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) names, peers, stats
 */
IPC_PUBLIC const char *ipc_record_get_string(const struct ipc_record *record,
					     const char *key);

/**
 * ipc_record_get_integer - a number of a record
 * @record: the record
 * @key: its key, as "peers"; of a member of an object as "store.state"
 *
 * Returns: the number; -1 if there is none of that name and type (no record has negative
 * numbers)
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) names, peers, stats
 */
IPC_PUBLIC int64_t ipc_record_get_integer(const struct ipc_record *record,
					  const char *key);

/**
 * ipc_record_get_number - a number of a record, also one with a fraction
 * @record: the record
 * @key: its key, as "peers"; of a member of an object as "store.state"
 *
 * Returns: the number, whatever the program's locale; -1 if there is none of that name and
 * type (no record has negative numbers)
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) names, peers, stats
 */
IPC_PUBLIC double ipc_record_get_number(const struct ipc_record *record, const char *key);

/**
 * ipc_record_get_bool - a yes or no of a record
 * @record: the record
 * @key: its key, as "peers"; of a member of an object as "store.state"
 *
 * Returns: whether it is there and true
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) names, explain
 */
IPC_PUBLIC bool ipc_record_get_bool(const struct ipc_record *record, const char *key);

/**
 * ipc_record_get_json - the whole record
 * @record: the record
 *
 * Returns: its JSON text in one line, NUL-ended, without newline
 * Blocking: no. Threads: any. Since: 0.1. Source: ipc-protocol(7) names, peers, stats
 */
IPC_PUBLIC const char *ipc_record_get_json(const struct ipc_record *record);

/**
 * ipc_disconnect - cut a connection
 * @client: the client; root, the daemon's user, or the user of that connection
 * @peer: its number, as IPC_LIST_PEERS shows
 *
 * Returns: 0; -ENOENT no such connection; -EINVAL there can be none of that number; -EACCES;
 * otherwise as at the top
 * Blocking: until answered. Threads: owner. Since: 0.1. Source: ipc-protocol(7) disconnect
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_disconnect(struct ipc_client *client, uint64_t peer);

/**
 * ipc_ping - ask the daemon for an echo
 * @client: the client
 * @data: any bytes, may be NULL if @size is 0
 * @size: how many, at most the daemon's body_max
 *
 * Returns: 0 when the same bytes came back; -EMSGSIZE; otherwise as at the top
 * Blocking: yes. Threads: owner. Since: 0.1. Source: ipc-protocol(7) ping
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_ping(struct ipc_client *client, const void *data,
				       size_t size);

/**
 * ipc_ping_async - ask the daemon whether it is there
 * @client: the client
 * @callback: told when it has answered, or that it has not
 * @userdata: handed to it
 * @ret_request: as ipc_send_async(); give it a deadline
 *
 * Returns: 0; -EINVAL, also without a callback; -ENOMEM; -ENOBUFS as ipc_send_async();
 * -ECONNRESET
 * Blocking: no. Threads: owner. Since: 0.1. Source: ipc-protocol(7) ping
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_ping_async(struct ipc_client *client,
					     ipc_reply_fn callback, void *userdata,
					     struct ipc_request **ret_request);

/* --------------------------------------------------------------------------- names --- */

/**
 * ipc_name_create - make a queue
 * @client: the client
 * @name: its name
 * @settings: "key=value", borrowed; NULL if @n_settings is 0
 * @n_settings: how many
 *
 * The keys, as far as the daemon's rules for the name do not say otherwise already:
 *	owner=USER group=GROUP mode=0660 (read 4, write 2; names or numbers)
 *	queue_messages=N queue_bytes=N queue_file_bytes=N (what it holds at most; the last:
 *	of files and bodies over 256 KiB)
 *	max_attempts=N (deliveries of one message before it is dead)
 *	backoff=MS,MS... (delays of nack, by attempt; the last one stays)
 *	lost_delay=MS (before a message whose connection was lost comes again)
 *	durable=true|false (what is sent from now on is kept on the disk)
 *
 * Returns: 0; -EEXIST; -EACCES; -EDQUOT this user has made too many names; -EINVAL bad name,
 * unknown key, bad value; -ENOENT no such user or group (ipc_client_get_error() names the
 * key); -EMSGSIZE the settings are too long for a header of 64 KiB; otherwise as at the top
 * Blocking: until answered, and while users are looked up. Threads: owner. Since: 0.1.
 * Source: ipc-protocol(7) create
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_name_create(struct ipc_client *client, const char *name,
					      const char *const *settings,
					      size_t n_settings);

/**
 * ipc_name_set - change the settings of a name
 * @client: the client, of the name's owner
 * @name: its name
 * @settings: as ipc_name_create(); what is not named stays as it is
 * @n_settings: how many
 *
 * Returns: 0; -ENOENT no such name, user or group; -EACCES; -EINVAL; -EMSGSIZE as
 * ipc_name_create(); otherwise as at the top
 * Blocking: as ipc_name_create(). Threads: owner. Since: 0.1. Source: ipc-protocol(7) set
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_name_set(struct ipc_client *client, const char *name,
					   const char *const *settings,
					   size_t n_settings);

/**
 * ipc_name_delete - end a name, with all messages in it
 * @client: the client, of the name's owner
 * @name: its name
 *
 * Returns: 0; -ENOENT; -EACCES; -EINVAL; otherwise as at the top
 * Blocking: until answered. Threads: owner. Since: 0.1. Source: ipc-protocol(7) delete
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_name_delete(struct ipc_client *client,
					      const char *name);

/**
 * ipc_name_purge - throw messages away
 * @client: the client, of the queue's owner
 * @name: the queue
 * @state: "ready", "delayed", "dead" or "all" of these; NULL: ready and delayed. What is
 *	leased stays.
 * @filter: only those, as ipc_receiver_set_filter(); NULL: all
 * @ret_n: how many, also of what was done before a failure; may be NULL
 *
 * Returns: 0; -ENOENT no such name or user; -EACCES; -EINVAL; -EMSGSIZE as
 * ipc_receiver_start(); otherwise as at the top
 * Blocking: until answered, and while users are looked up. Threads: owner. Since: 0.1.
 * Source: ipc-protocol(7) purge
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_name_purge(struct ipc_client *client, const char *name,
					     const char *state, const char *filter,
					     uint64_t *ret_n);

/**
 * ipc_name_move - put messages into another queue, or dead ones back into theirs
 * @client: the client, of the queue's owner
 * @name: the queue they are in
 * @to: the queue they go to; NULL: the same
 * @state: as ipc_name_purge(); NULL: dead
 * @filter: as ipc_name_purge()
 * @ret_n: as ipc_name_purge()
 *
 * Returns: 0; -ENOENT; -EACCES; -EINVAL; -EAGAIN the other queue is full; -EDQUOT; -EMSGSIZE
 * as ipc_receiver_start(); otherwise as at the top
 * Blocking: as ipc_name_purge(). Threads: owner. Since: 0.1. Source: ipc-protocol(7) move
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_name_move(struct ipc_client *client, const char *name,
					    const char *to, const char *state,
					    const char *filter, uint64_t *ret_n);

/**
 * ipc_name_explain - who may do what with a name, and why
 * @client: the client
 * @name: its name; it need not exist
 * @user: name or number of a user (others than oneself only as root); NULL: oneself
 * @ret_list: one record with name, exists, uid, read, write, create, owner_uid, group, mode,
 *	rule (what has decided); the last four may be left out of one that is not shown to
 *	oneself, ipcd(8); end it with ipc_list_free()
 *
 * Returns: 0; -ENOENT no such user; -E2BIG the user is in more than 1024 groups; -EACCES;
 * -EINVAL; otherwise as at the top
 * Blocking: as ipc_name_create(). Threads: owner. Since: 0.1.
 * Source: ipc-protocol(7) explain
 */
IPC_PUBLIC IPC_MUST_CHECK int ipc_name_explain(struct ipc_client *client,
					       const char *name, const char *user,
					       struct ipc_list **ret_list);

#ifdef __cplusplus
}
#endif

#endif
