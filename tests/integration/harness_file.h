/* SPDX-License-Identifier: MIT */
#ifndef INTEGRATION_HARNESS_FILE_H
#define INTEGRATION_HARNESS_FILE_H

/*
 * Files handed over: what tests of them share.
 *
 * Bodies are a pattern that does not repeat at any block size, so that a byte in the wrong
 * place is seen. SMALL lies in memory, LARGE is a blob; what they hash to is known from
 * md5sum(1), sha256sum(1) and xxhsum(1) -H2.
 */

#include "integration/harness.h"

enum { SMALL = 5, LARGE = 300000 };

/* The bytes of a pattern from offset on; a kept copy of its first size bytes. */
void pattern_fill(void *data, size_t size, uint64_t offset);
const char *pattern(size_t size);

/* ---- files of a test ------------------------------------------------------------------ */

/* A file of the test's directory with a pattern in it, open for reading and writing; kept. */
int make_file(size_t size);

/* As long as that, without a byte on the disk. */
int make_sparse(size_t size);

/* With a pattern; sealed against all changes or not at all. */
int make_memfd(size_t size, bool sealed);

/* The ends of a pipe, both kept. */
struct pipe_ends {
	int read, write;
};
struct pipe_ends make_pipe(void);

/* The same open file for reading only, or as flags say; kept. */
int reopen(int fd, int flags);

/* How many files lie in the spool of server.state. */
int spool_count(void);

/* No name, no byte in memory, no file in the spool. */
void check_nothing_remains(void);

/* ---- requests ------------------------------------------------------------------------- */

/* Said hello with "fds":true; with "pieces":true. */
struct client *connect_with_fds(void);
struct client *connect_with_pieces(void);

/* How a body goes in, and for whom it comes out: peers that say fds, nothing, pieces. */
enum way { BY_FD, BY_FRAME, BY_PIECES, N_WAYS };

const char *way_name(enum way way);
struct client *connect_for(enum way way);

/* A frame that brings a descriptor (borrowed); the format as for say(), with 'fds':1. */
#define say_fd(c, fd, ...) client_say_fd(HERE, c, fd, __VA_ARGS__)
void client_say_fd(struct place at, struct client *c, int fd, const char *format, ...)
	PRINTF_LIKE(4, 5);

/* send of a pattern, in a frame, in two pieces and one of a byte, or as a file made for it;
 * keys as "'queue':'q','filename':'x'". */
#define say_file(c, id, way, size, keys) client_say_file(HERE, c, id, way, size, keys)
void client_say_file(struct place at, struct client *c, uint64_t id, enum way way,
		     size_t size, const char *keys);

/* The same, which must succeed; the message's number. */
#define send_file(c, way, size, keys) client_send_file(HERE, c, way, size, keys)
uint64_t client_send_file(struct place at, struct client *c, enum way way, size_t size,
			  const char *keys);

/* send of a descriptor; keys as above. */
#define send_fd(c, fd, keys) client_send_fd(HERE, c, fd, keys)
uint64_t client_send_fd(struct place at, struct client *c, int fd, const char *keys);

/* The same must fail so. */
#define send_fd_fails(c, fd, keys, word) client_send_fd_fails(HERE, c, fd, keys, word)
struct frame *client_send_fd_fails(struct place at, struct client *c, int fd,
				   const char *keys, const char *word);
#define send_file_fails(c, way, size, keys, word) \
	client_send_file_fails(HERE, c, way, size, keys, word)
struct frame *client_send_file_fails(struct place at, struct client *c, enum way way,
				     size_t size, const char *keys, const char *word);

/* ---- deliveries ----------------------------------------------------------------------- */

/* A delivery whose body is this pattern, whether it comes as a descriptor, in a frame or in
 * pieces. Its first frame; body and fd of it as they came. */
#define hear_file(c, id, size) client_hear_file(HERE, c, id, size)
struct frame *client_hear_file(struct place at, struct client *c, uint64_t id,
			       size_t size);

/* receive of one message whose body is this pattern, and the end. */
#define take_file(c, queue, size) client_take_file(HERE, c, queue, size)
struct frame *client_take_file(struct place at, struct client *c, const char *queue,
			       size_t size);

/* receive of one live message. */
#define take_live(c, queue) client_take_live(HERE, c, queue)
struct frame *client_take_live(struct place at, struct client *c, const char *queue);

/* Has the file behind fd this pattern, and nothing more? The offset is not touched. */
bool fd_has_pattern(int fd, size_t size);

/* "xxh3", "sha256", "md5" of pattern(SMALL) and pattern(LARGE). */
const char *digest_of(const char *algorithm, size_t size);

#endif
