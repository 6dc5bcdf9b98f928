/* SPDX-License-Identifier: MIT */
#ifndef WIRE_STREAM_H
#define WIRE_STREAM_H

/*
 * One connected stream socket, spoken in frames.
 *
 *	frame  = length header body
 *	length = uint32, little-endian: the bytes of header
 *	header = one JSON object       body = exactly header["size"] raw bytes
 *
 * Input. stream_read() does one recvmsg into the reader's scratch buffer, which all streams
 * of a thread share; stream_next() then gives the frames in it, parsed in place. Only an
 * unfinished frame is kept by its stream. So all frames must be fetched (or put aside by
 * stream_hold()) before the reader is used for another stream, and a frame is valid until
 * the next call. A large body goes from the kernel straight into a block of its own.
 *
 * File descriptors come in batches, one per recvmsg that brought any. The sender starts a
 * sendmsg with each frame that has fds, and recvmsg(2) stops behind such a write, so the
 * oldest batch belongs to the first frame that says `fds`. A batch that the kernel cut
 * (MSG_CTRUNC: this process has no free descriptor), that has another count or more than
 * LIMIT_FDS_MAX is closed and makes that frame fds_lost. A batch without a frame, or `fds`
 * without a batch, is -EPROTO.
 *
 * A body beyond lend_from bytes is not read by itself: stream_next() gives its header and
 * leaves to the caller what becomes of it (stream_decide_body()). One that is lent is read
 * by the caller, from the reader what is there and the rest from the socket, also on another
 * thread; then the frame comes as any other, without its body.
 *
 * Output is a queue of iovecs: small things are copied into a chunk, large ones held by
 * reference. stream_flush() writes as much as the kernel takes. A part of a file is left to
 * the caller, who may send it on another thread. sent_bytes and queued_bytes count from the
 * start, so "has this left?" is one comparison.
 *
 * Results: 0, a positive STREAM_E_*, or -errno. Nothing here blocks unless told to.
 */

#include "base/bytes.h"
#include "base/fdset.h"
#include "wire/header.h"
#include "wire/plain.h"

enum {
	STREAM_E_AGAIN = 100, /* the kernel has nothing, or takes nothing, now */
	STREAM_E_EOF,	      /* the other end has closed or shut down */
	STREAM_E_FRAME,	      /* stream_next(): *ret_frame is set */
	STREAM_E_BODY,	      /* stream_next(): likewise, but its body is still to come */
	STREAM_E_FILE,	      /* stream_flush(): a file is next, see stream_file_peek() */
};

enum {
	STREAM_SCRATCH = 65536,	    /* one read, so also one turn */
	STREAM_BODY_DIRECT = 32768, /* bodies from this size get a block of their own */
};

/* Shared by all streams of one thread. */
struct reader {
	struct json *json;
	struct header header;
	const char *data; /* not yet parsed */
	size_t size;
	char *held; /* what data points into, if not scratch */
	char scratch[STREAM_SCRATCH];
};

int reader_new(struct reader **ret_reader) MUST_CHECK;
struct reader *reader_free(struct reader *r);

struct frame {
	const struct header *header; /* NULL: it is plain */
	struct plain plain;
	const char *header_text; /* raw */
	size_t header_size;
	const char *body; /* NULL if body_block is set or there is none */
	size_t body_size;
	struct bytes *body_block; /* a large body; the stream's until stolen */
	struct fdset *fds; /* the stream's until stolen; NULL without, or if lost */
	bool fds_lost;
	bool lent; /* its body was read by another */
};

/* What becomes of a body that stream_next() has announced. */
enum stream_body {
	STREAM_BODY_KEEP, /* comes with its frame, if it has no more than body_max */
	STREAM_BODY_SKIP, /* dropped as it comes; the frame comes without it */
	STREAM_BODY_LEND, /* the caller reads it */
};

struct stream_segment {
	const char *data;
	size_t size;
	struct bytes *owner;
	struct fdset *fds; /* go with the first byte, in a sendmsg that starts here */
	struct stream_file *file; /* instead of data */
	bool shared;		  /* lies in the memory of another, who counts it */
};

struct stream_file {
	int fd;
	off_t offset;
};

struct stream_batch {
	struct fdset *fds; /* NULL only if lost */
	bool lost;
};

struct stream {
	int fd;
	/* What a body may have at most: above, stream_next() gives the frame without its body
	 * and skips the bytes as they come (frame.body_size says how many). */
	uint64_t body_max;
	uint64_t lend_from; /* 0: all bodies come with their frames */
	/* A plain header is not parsed where its frame lies whole in the reader; but see
	 * stream_parse_header(). */
	bool scans;

	/* Closes descriptors that nobody took; NULL: fdset_free(). Theirs may block in close. */
	void (*close_fds)(const struct stream *s, struct fdset *fds);

	/* input */
	char *partial; /* length, header and small body of the frame under way */
	uint32_t partial_size, partial_capacity;
	uint32_t header_size; /* of the frame under way; 0: not known yet */
	struct bytes *body;   /* large body under way */
	uint64_t body_size;   /* of the frame under way, once its header is there */
	uint64_t body_have;   /* of a body in a block, or to be skipped */
	bool body_known, skipping, eof, claimed_lost;
	bool undecided, lent;	   /* of a body beyond lend_from */
	struct fdset *claimed_fds; /* of the frame under way */
	char *held;		   /* input put aside by stream_hold() */
	size_t held_offset, held_size;
	struct stream_batch *batches;
	unsigned int n_batches;
	struct bytes *frame_body; /* of the frame handed out last */
	struct fdset *frame_fds;

	/* output */
	struct stream_segment *segments; /* a ring */
	uint32_t first, n_segments, capacity;
	struct bytes *chunk; /* the block behind the last segment, with room */
	size_t chunk_used;
	struct fdset *next_fds;
	bool fds_in_kernel;
	uint64_t queued_bytes, sent_bytes;
	uint64_t file_bytes;	 /* of those not sent, what lies in files */
	uint64_t shared_bytes;	 /* likewise, in blocks of others */
	unsigned int n_attached; /* segments with a file or descriptors */
};

/* Takes fd, which must be connected. Nothing is allocated. */
void stream_init(struct stream *s, int fd, uint64_t body_max);

/* Closes the socket and drops everything. */
void stream_deinit(struct stream *s);

/* For the two halves of the stream only. */
void stream_deinit_input(struct stream *s);
struct fdset *stream_close_fds(const struct stream *s, struct fdset *fds);

/* One recvmsg; flags as for recvmsg(2), mostly MSG_DONTWAIT. *ret_drained: the kernel had
 * no more at that moment (a further call would give STREAM_E_AGAIN unless more has come). */
int stream_read(struct stream *s, struct reader *r, int flags,
		bool *ret_drained) MUST_CHECK;

/* STREAM_E_FRAME, or 0: all is parsed; the rest is kept. -EBADMSG: what came is no frame
 * (fault says why; the stream cannot go on). -EPROTO: file descriptors without frame, or the
 * reverse (same). With *fault set and STREAM_E_FRAME never. -ENOMEM. */
int stream_next(struct stream *s, struct reader *r, struct frame *ret_frame,
		struct fault *fault) MUST_CHECK;

/* Parses a plain header all the same. 0, -EBADMSG (fault says why) or -ENOMEM. */
int stream_parse_header(struct reader *r, struct frame *frame,
			struct fault *fault) MUST_CHECK;

/* After STREAM_E_BODY, which comes again until this is called. A lent body may be skipped
 * from where it is. 0 or -ENOMEM. */
int stream_decide_body(struct stream *s, enum stream_body what) MUST_CHECK;

/* Of a lent body: what the reader has of it, at most max bytes; *ret_data is valid until the
 * next call. */
size_t stream_take_lent(struct stream *s, struct reader *r, size_t max,
			const char **ret_data);

/* So much of it was read from the socket. */
void stream_add_lent(struct stream *s, uint64_t size);

static inline uint64_t stream_lent_left(const struct stream *s)
{
	return s->lent ? s->body_size - s->body_have : 0;
}

/* Puts unparsed input aside; stream_resume() gives it back instead of a read. */
int stream_hold(struct stream *s, struct reader *r) MUST_CHECK;
static inline bool stream_is_held(const struct stream *s)
{
	return s->held != NULL;
}
void stream_resume(struct stream *s, struct reader *r);

/* Puts the frame that stream_next() gave last back: the next call gives it again. For who
 * must wait for something before the frame can be handled; mostly followed by
 * stream_hold(). Nothing may have been stolen from it. */
void stream_unread(struct stream *s, struct reader *r, const struct frame *frame);

/* Is a frame begun and not finished? *ret_in_body: its header is complete. */
static inline bool stream_is_partial(const struct stream *s, bool *ret_in_body)
{
	*ret_in_body = s->body_known;
	return s->partial_size > 0 || s->body_known;
}

/* The descriptors of a frame that is not finished, or was put back. */
unsigned int stream_n_unfinished_fds(const struct stream *s);

/* The large body or fds of the last frame, for good. */
struct bytes *stream_steal_body(struct stream *s);
struct fdset *stream_steal_fds(struct stream *s);

/* ---- output: 0 or -ENOMEM (then the stream is of no more use) ---- */

/* The length in front of a header. */
static inline void frame_encode_length(char out[static 4], size_t header_size)
{
	out[0] = (char)header_size;
	out[1] = (char)(header_size >> 8);
	out[2] = (char)(header_size >> 16);
	out[3] = (char)(header_size >> 24);
}

int stream_put(struct stream *s, const void *data, size_t size) MUST_CHECK;

/* By reference, from offset on. Small ones are copied. The block is another's, or will be
 * the stream's alone. */
int stream_put_bytes(struct stream *s, struct bytes *b, size_t offset,
		     size_t size) MUST_CHECK;
int stream_put_own_bytes(struct stream *s, struct bytes *b, size_t offset,
			 size_t size) MUST_CHECK;

/* Length and header. */
int stream_put_header(struct stream *s, const char *header, size_t size) MUST_CHECK;

/* size bytes (at least one) of a file, from offset on. fd is taken, also on failure. */
int stream_put_file_take(struct stream *s, int fd, off_t offset,
			 uint64_t size) MUST_CHECK;

/* After STREAM_E_FILE: what is to be sent. The descriptor stays the stream's, until all of
 * it was sent or the stream ends. */
void stream_file_peek(const struct stream *s, struct stream_file *ret_file,
		      uint64_t *ret_size);
void stream_file_sent(struct stream *s, uint64_t size);

/* The next byte put starts a frame that carries these (at most LIMIT_FDS_MAX). */
void stream_put_fds_take(struct stream *s, struct fdset *fds);

static inline uint64_t stream_pending(const struct stream *s)
{
	return s->queued_bytes - s->sent_bytes;
}

/* The same without what lies in files, which takes no memory. */
static inline uint64_t stream_pending_memory(const struct stream *s)
{
	return stream_pending(s) - s->file_bytes;
}

/* Of these, what nobody else has in memory. */
static inline uint64_t stream_pending_own(const struct stream *s)
{
	return stream_pending_memory(s) - s->shared_bytes;
}

/* What that takes: a block of which the end is still to be sent is there as a whole. */
static inline uint64_t stream_memory_own(const struct stream *s)
{
	const struct stream_segment *first = s->n_segments ? s->segments + s->first
							   : NULL;
	bool is_own = first && first->owner && !first->shared;

	return stream_pending_own(s) +
	       (is_own ? (uint64_t)(first->data - first->owner->data) : 0);
}

/* The same of blocks of others, who may have let go of them. */
static inline uint64_t stream_memory_shared(const struct stream *s)
{
	const struct stream_segment *first = s->n_segments ? s->segments + s->first
							   : NULL;
	bool is_shared = first && first->shared;

	return s->shared_bytes +
	       (is_shared ? (uint64_t)(first->data - first->owner->data) : 0);
}

/* 0: all is in the kernel. STREAM_E_AGAIN: wait until writable. STREAM_E_FILE: a part of a
 * file has its turn, and so on after it. -ETOOMANYREFS: try again
 * when somebody has taken fds out of a socket. flags as for sendmsg(2). */
int stream_flush(struct stream *s, int flags) MUST_CHECK;

#endif
