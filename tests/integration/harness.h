/* SPDX-License-Identifier: MIT */
#ifndef INTEGRATION_HARNESS_H
#define INTEGRATION_HARNESS_H

/*
 * A real ipcd in a private directory, and clients that speak the protocol byte by byte.
 *
 * A test calls start() with further options of ipcd, connects clients, says frames and hears
 * frames. Everything made here (clients, frames, strings, files) is the harness's and goes
 * away in the teardown: a failed assertion leaves a test by longjmp(3), so nothing may need
 * a clean-up of its own. The teardown also proves what no test should have to say:
 * the daemon ends by SIGTERM with status 0, its descriptors are as many as at the start,
 * ours too, its log is clean UTF-8 lines with a priority, and no sanitizer has spoken.
 *
 * Nothing sleeps. What is announced is waited for (a frame, readiness, the end of a process),
 * the rest is looked for again and again by wait_for(); both until one generous deadline,
 * behind which the test has failed. No test asserts how long something takes.
 *
 * IPC_TEST_DAEMON names the ipcd to test.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include <cmocka.h>

#include "base/util.h"

enum { DEADLINE_MS = 30000 };

/* One line of a group's table. */
#define it(test) cmocka_unit_test_setup_teardown(test, harness_setup, harness_teardown)

int harness_setup(void **state);
int harness_teardown(void **state);

/* Where a helper was called, so that its failure names the line of the test. */
struct place {
	const char *file;
	int line;
};
#define HERE ((struct place){ __FILE__, __LINE__ })

void fail_at(struct place at, const char *format, ...) PRINTF_LIKE(2, 3)
	__attribute__((noreturn));

/* Freed in the teardown; fails the test without memory. */
void *keep(void *allocated);
char *keep_printf(const char *format, ...) PRINTF_LIKE(1, 2);

/* Closed in the teardown, or by close_kept(); fails the test if it is none. */
#define keep_fd(fd) keep_fd_at(HERE, fd)
int keep_fd_at(struct place at, int fd);
void close_kept(int fd);

/* What was kept since the mark is freed at once, for tests that run for long. */
size_t keep_mark(void);
void keep_release(size_t mark);

/* ---- the daemon --------------------------------------------------------------------- */

struct server {
	char *dir;    /* private, mode 0755 */
	char *socket; /* dir/socket */
	char *state;  /* dir/state */
	char *log;    /* dir/log: what ipcd wrote to standard error */
	pid_t pid;    /* 0: not running */
	int n_fds;    /* open in it when it was ready */
};
extern struct server server;

/* Starts ipcd with more options and waits until it is ready. */
#define start(...)                                                                     \
	server_start(HERE, (const char *const[]){ "--volatile", "--log-level", "info", \
						  ##__VA_ARGS__, NULL })

/* With a store, in server.state: a send without id is in its queue only some time later. */
#define start_durable(...)                                                              \
	server_start(HERE, (const char *const[]){ "--log-level", "info", ##__VA_ARGS__, \
						  NULL })
void server_start(struct place at, const char *const *options);

/* Orderly stop; the exit status must be 0. */
#define stop() server_stop(HERE)
void server_stop(struct place at);

/* For what is no ordinary start: runs ipcd with exactly these arguments, its standard error
 * appended to log. *ret_ready, if not NULL: the pipe it reports readiness to. */
pid_t server_spawn(const char *const *arguments, const char *log, int *ret_ready);

/* Was "READY\n" and the end of file read before the deadline? Closes ready. */
bool server_wait_ready(int ready);

/* Waits for a process of ours: exit status, or 256 + signal. */
#define wait_exit(pid) wait_exit_at(HERE, pid)
int wait_exit_at(struct place at, pid_t pid);

/* fork(2); the child is killed in the teardown if it still runs. The child must not assert
 * and must end with _exit(2). */
pid_t fork_child(void);

const char *server_program(void);
bool server_is_sanitized(void);
int server_count_fds(void);

/* The log so far. */
char *server_read_log(void);
char *read_file(const char *path);

/* How many lines of the log contain the text. */
int log_count(const char *text);

#define wait_for(condition)                                                       \
	do {                                                                      \
		uint64_t wait_for_end_ = wait_deadline();                         \
		while (!(condition))                                              \
			if (!wait_again(wait_for_end_))                           \
				fail_at(HERE, "never came true: %s", #condition); \
	} while (0)
uint64_t wait_deadline(void);
bool wait_again(uint64_t deadline_ns);

/* ---- one value out of a JSON text ----------------------------------------------------- */

/* path: "attempt", or "from.uid" for a member of a member. The getters fail the test if it
 * is not there or of another type. */
bool json_has(const char *json, const char *path);
int64_t json_int(const char *json, const char *path);
const char *json_string(const char *json, const char *path);

/* ---- clients -------------------------------------------------------------------------- */

struct client;

struct frame {
	char *header; /* NUL-ended JSON */
	char *body;   /* NUL-ended too; "" without */
	size_t body_size;
	int fd; /* the one that came with it, kept; -1: none */
};

/* Connects to the server under test. */
struct client *client_connect(void);

void skip_unless_root(void);

/* As another user, whose group has the same number. Needs root. */
struct client *client_connect_as(uid_t uid);

/* 0 or -errno, for connections that may be refused. */
int client_try_connect(uid_t uid, struct client **ret_client);

int client_fd(const struct client *c);
void client_close(struct client *c);

/* An uid that is neither ours nor the overflow uid; n tells them apart. */
static inline uid_t stranger(unsigned int n)
{
	return 4000001u + n;
}

/* A copy with " for each ' in it. */
char *with_quotes(const char *text);

/* Frames to the daemon. ' in the format stands for " so that requests can be read; in the
 * arguments it stands for itself. say_body() adds "size". */
#define say(c, ...) client_say(HERE, c, NULL, 0, __VA_ARGS__)
#define say_body(c, body, size, ...) client_say(HERE, c, body, size, __VA_ARGS__)
#define say_text(c, text, ...) client_say(HERE, c, text, strlen(text), __VA_ARGS__)
void client_say(struct place at, struct client *c, const void *body, size_t size,
		const char *format, ...) PRINTF_LIKE(5, 6);

/* The bytes of such a frame, to be cut, doubled or spoiled. */
char *frame_encode(size_t *ret_size, const void *body, size_t size, const char *format,
		   ...) PRINTF_LIKE(4, 5);

/* Bytes as they are; all of them must be taken. */
#define say_bytes(c, data, size) client_say_bytes(HERE, c, data, size)
void client_say_bytes(struct place at, struct client *c, const void *data, size_t size);

/* In one sendmsg(2) with file descriptors (borrowed). */
#define say_bytes_fds(c, data, size, fds, n) \
	client_say_bytes_fds(HERE, c, data, size, fds, n)
void client_say_bytes_fds(struct place at, struct client *c, const void *data,
			  size_t size, const int *fds, unsigned int n);

/* The next frame; its form is checked. */
#define hear(c) client_hear(HERE, c)
struct frame *client_hear(struct place at, struct client *c);

/* The same, or NULL when the daemon has closed the connection. */
#define hear_or_eof(c) client_hear_or_eof(HERE, c)
struct frame *client_hear_or_eof(struct place at, struct client *c);

/* Only the header of the next frame; body_size is what the header says. The body is read by
 * client_read(), piece by piece, before anything else. */
#define hear_header(c) client_hear_header(HERE, c)
struct frame *client_hear_header(struct place at, struct client *c);

/* Fills the buffer. */
void client_read(struct place at, struct client *c, void *buffer, size_t size);

/* A frame that has come already, or NULL. */
struct frame *client_hear_now(struct client *c);

/* After client_hear_now() found nothing: will nothing come any more? */
bool client_has_ended(const struct client *c);

/* The next frame must be this reply: a success, an error with this word, the end of a
 * receive, a delivery with this body. */
#define hear_reply(c, id) client_hear_reply(HERE, c, id)
#define hear_error(c, id, word) client_hear_error(HERE, c, id, word)
#define hear_end(c, id, why) client_hear_end(HERE, c, id, why)
#define hear_delivery(c, id, text) client_hear_delivery(HERE, c, id, text)
struct frame *client_hear_reply(struct place at, struct client *c, uint64_t id);
struct frame *client_hear_error(struct place at, struct client *c, uint64_t id,
				const char *word);
void client_hear_end(struct place at, struct client *c, uint64_t id, const char *why);
struct frame *client_hear_delivery(struct place at, struct client *c, uint64_t id,
				   const char *text);

/* An error without "re", for a request without id or a broken frame. */
#define hear_notice(c, word) client_hear_notice(HERE, c, word)
struct frame *client_hear_notice(struct place at, struct client *c, const char *word);

/* Nothing more, the connection is closed. */
#define hear_eof(c) client_hear_eof(HERE, c)
void client_hear_eof(struct place at, struct client *c);

/* One error with that word, then the end. */
#define hear_last_words(c, word) client_hear_last_words(HERE, c, word)
struct frame *client_hear_last_words(struct place at, struct client *c, const char *word);

/* All said so far has been handled, and nothing but the echo of a ping came back. */
#define hear_nothing(c) client_hear_nothing(HERE, c)
void client_hear_nothing(struct place at, struct client *c);

/* ---- whole conversations, on a client with nothing else open ------------------------- */

/* send, returns the message's number. */
#define send_text(c, queue, text) client_send_text(HERE, c, queue, text)
uint64_t client_send_text(struct place at, struct client *c, const char *queue,
			  const char *text);

/* receive of one message, whose body is this text. */
#define take(c, queue, text) client_take(HERE, c, queue, text)
struct frame *client_take(struct place at, struct client *c, const char *queue,
			  const char *text);

/* receive with wait_ms 0 finds nothing. */
#define take_nothing(c, queue) client_take_nothing(HERE, c, queue)
void client_take_nothing(struct place at, struct client *c, const char *queue);

/* ack, nack, reject or touch of a delivery; further keys as ",'delay_ms':0" or "". */
#define settle(c, op, delivery, keys) client_settle(HERE, c, op, delivery, keys)
void client_settle(struct place at, struct client *c, const char *op,
		   const struct frame *delivery, const char *keys);
#define settle_fails(c, op, delivery, word) \
	client_settle_fails(HERE, c, op, delivery, word)
void client_settle_fails(struct place at, struct client *c, const char *op,
			 const struct frame *delivery, const char *word);

/* What a third connection sees of a queue ("ready", "leased" …) and of the daemon. */
int64_t queue_count(const char *queue, const char *key);

/* Waits until it is so: what was not answered may still be on its way to the disk. */
void wait_queue_count(const char *queue, const char *key, int64_t count);
int64_t stats_count(const char *key);

/* The lines of an NDJSON body, NULL behind the last. */
const char *frame_line(const struct frame *f, unsigned int n);

/* The reply to a listing request without further keys. */
#define list(c, op) client_list(HERE, c, op)
struct frame *client_list(struct place at, struct client *c, const char *op);

#endif
