/* SPDX-License-Identifier: MIT */
#ifndef WIRE_HEADER_H
#define WIRE_HEADER_H

/*
 * A frame's header: which of the protocol's keys it has, and getters that check type and
 * range and refuse by name. Unknown keys are ignored; the value of a known key is looked at
 * by the one who asks for it. A getter returns 1 and sets *ret_value, 0 if the key is not
 * there (*ret_value untouched, so that the caller's default stays), or -EINVAL with *fault
 * saying what is wrong. Strings point into the parser, see json.h.
 */

#include "wire/fault.h"
#include "wire/json.h"

/* X(NAME, "key") */
/* clang-format off */
#define HEADER_KEYS(X)                                                                 \
	X(OP, "op") X(ID, "id") X(RE, "re") X(SIZE, "size") X(MORE, "more")            \
	X(ABORT, "abort") X(FDS, "fds") X(VERSION, "version") X(PIECES, "pieces")      \
	X(LABEL, "label") X(QUEUE, "queue") X(QUEUES, "queues") X(PRIORITY, "priority") \
	X(DELAY_MS, "delay_ms") X(TTL_MS, "ttl_ms") X(DEDUP_ID, "dedup_id")            \
	X(WAIT_MS, "wait_ms") X(CONFIRM, "confirm") X(FILENAME, "filename")            \
	X(FILE_SIZE, "file_size") X(MODE, "mode") X(MTIME, "mtime") X(XXH3, "xxh3")    \
	X(SHA256, "sha256") X(MD5, "md5") X(LIVE, "live") X(META, "meta") X(MAX, "max") \
	X(WINDOW, "window") X(ACK_WAIT_MS, "ack_wait_ms") X(PEEK, "peek")              \
	X(DEAD, "dead") X(FILTER, "filter") X(MESSAGE, "message")                      \
	X(MESSAGES, "messages") X(LEASE, "lease") X(COUNT, "count")                    \
	X(REASON, "reason") X(REQUEST, "request") X(PEER, "peer") X(NAME, "name")      \
	X(END, "end") X(ERROR, "error") X(FROM, "from") X(ATTEMPT, "attempt")          \
	X(DUPLICATE, "duplicate") X(SERVER, "server") X(EPOCH, "epoch")                \
	X(LIMITS, "limits") X(OWNER, "owner") X(GROUP, "group") X(TO, "to")           \
	X(STATE, "state") X(UID, "uid") X(GIDS, "gids")                                \
	X(QUEUE_MESSAGES, "queue_messages") X(QUEUE_BYTES, "queue_bytes")              \
	X(QUEUE_FILE_BYTES, "queue_file_bytes")                                    \
	X(MAX_ATTEMPTS, "max_attempts") X(LOST_DELAY, "lost_delay")                    \
	X(BACKOFF, "backoff") X(DURABLE, "durable") X(MTIME_NS, "mtime_ns")            \
	X(ARCHIVE, "archive") X(PROGRESS, "progress")

enum header_key {
#define X(name, key) KEY_##name,
	HEADER_KEYS(X)
#undef X
	KEY_N,
};
/* clang-format on */

struct header {
	const struct json *json;
	uint32_t at[KEY_N]; /* index on the parser's tape, 0 if not there */
};

/* 0, -EBADMSG (see json_error()) or -ENOMEM. text must live as long as the header. */
int header_parse(struct header *h, struct json *json, const char *text,
		 size_t size) MUST_CHECK;

const char *header_key_name(enum header_key key);

static inline bool header_has(const struct header *h, enum header_key key)
{
	return h->at[key] != 0;
}

/* An integer from min to max (both below 2^63). */
int header_get_u64(const struct header *h, enum header_key key, uint64_t min,
		   uint64_t max, uint64_t *ret_value, struct fault *fault) MUST_CHECK;

/* A time in ms, 0..LIMIT_WAIT_MAX; where allow_forever also -1, given as UINT64_MAX. */
int header_get_ms(const struct header *h, enum header_key key, bool allow_forever,
		  uint64_t *ret_ms, struct fault *fault) MUST_CHECK;
int header_get_bool(const struct header *h, enum header_key key, bool *ret_value,
		    struct fault *fault) MUST_CHECK;

/* A string of min to max bytes; not NUL-ended. */
int header_get_string(const struct header *h, enum header_key key, size_t min, size_t max,
		      const char **ret_text, size_t *ret_size,
		      struct fault *fault) MUST_CHECK;

/* The raw text of an object of at most max bytes. */
int header_get_object(const struct header *h, enum header_key key, size_t max,
		      const char **ret_text, size_t *ret_size,
		      struct fault *fault) MUST_CHECK;

/* An array of 1 to max elements: *ret_index is the first one's place on the tape, follow
 * json_at(h->json, i)->next to walk them. */
int header_get_array(const struct header *h, enum header_key key, size_t max,
		     uint32_t *ret_index, uint32_t *ret_n,
		     struct fault *fault) MUST_CHECK;

#endif
