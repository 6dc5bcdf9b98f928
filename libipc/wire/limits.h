/* SPDX-License-Identifier: MIT */
#ifndef WIRE_LIMITS_H
#define WIRE_LIMITS_H

/*
 * Every limit, deadline and default, once. LIMITS_FIXED are part of the protocol and hold
 * for everybody; LIMITS_SETTABLE are the daemon's, changed by `ipcd --limit key=value`.
 * Error texts, `ipcd --limits`, the hello reply and the manual pages take them from here.
 *
 * FIXED(name, key, value, unit, what)
 * SETTABLE(key, default, min, max, unit, what)
 */

#include "base/util.h"

/* clang-format off */
#define LIMITS_FIXED(X)                                                                    \
	X(HEADER_MIN, header_min, 2, "bytes", "a header, at least: {}")                    \
	X(HEADER_MAX, header_max, 65536, "bytes", "a header, at most")                     \
	X(META_MAX, meta_max, 32768, "bytes", "the text of `meta`")                        \
	X(JSON_DEPTH_MAX, json_depth_max, 32, "levels", "objects and arrays in each other") \
	X(NUMBER_MAX, number_max, 9007199254740991, "", "ids, message numbers, sequences")  \
	X(NAME_MAX, name_max, 200, "bytes", "a name")                                      \
	X(PIECE_MAX, piece_max, 262144, "bytes", "a body or piece that ipcd sends to a peer with pieces") \
	X(CUT_BODIES_MAX, cut_bodies_max, 8, "bodies", "bodies in pieces under way at one peer") \
	X(FDS_MAX, fds_max, 16, "descriptors", "file descriptors of one frame")            \
	X(WAITING_SENDS_MAX, waiting_sends_max, 64, "requests", "sends of one connection that wait for room") \
	X(ERROR_TEXT_MAX, error_text_max, 1024, "bytes", "`message` of an error")          \
	X(REASON_MAX, reason_max, 1024, "bytes", "`reason` of nack and reject")            \
	X(DEDUP_ID_MAX, dedup_id_max, 255, "bytes", "`dedup_id`")                          \
	X(STORING_MAX, storing_max, 1024, "requests", "requests of one connection that wait for the disk, before it is not read from") \
	X(LABEL_MAX, label_max, 64, "bytes", "`label` of hello")                           \
	X(QUEUES_MAX, queues_max, 64, "names", "`queues` of one receive")                  \
	X(MESSAGES_MAX, messages_max, 1024, "numbers", "`messages` of one ack, nack, reject or touch") \
	X(FILTER_META_MAX, filter_meta_max, 16, "members", "`meta` of a `filter`")          \
	X(WINDOW_MAX, window_max, 65536, "messages", "`window` of one receive")            \
	X(WAIT_MAX, wait_max, 31536000000000, "ms", "any time of a request (1000 years)")  \
	X(PRIORITY_MAX, priority_max, 9, "", "`priority`: 0 first, 9 last")                \
	X(PRIORITY_DEFAULT, priority_default, 4, "", "`priority` where none is said")

#define LIMITS_SETTABLE(X)                                                                 \
	X(body_max, 16777216, 1024, 1073741824, "bytes", "the body of a request, but for `send`") \
	X(connections, 16384, 1, 1000000, "connections", "all connections")                \
	X(connections_per_user, 12288, 1, 1000000, "connections", "connections of one uid (root: no limit but the total)") \
	X(requests_per_connection, 4096, 1, 65536, "requests", "open requests of one connection") \
	X(file_max, 1099511627776, 1024, 9007199254740991, "bytes", "a file, or the body of one `send`") \
	X(buffer_per_connection, 4194304, 65536, 1073741824, "bytes", "what waits to be read by one connection, before it is not read from") \
	X(buffer_per_user, 268435456, 65536, 68719476736, "bytes", "unfinished input of all connections of one uid, and what waits to be read by them; and, by themselves, what its sends wait with and what its other open requests take") \
	X(names_per_user, 100000, 1, 10000000, "names", "names that one uid has made")     \
	X(queue_messages, 1000000, 1, 1000000000, "messages", "messages in one queue")     \
	X(queue_bytes, 1073741824, 1024, 1099511627776, "bytes", "of memory in one queue: headers, and bodies up to piece_max") \
	X(queue_file_bytes, 68719476736, 1024, 9007199254740991, "bytes", "files and larger bodies in one queue, on the disk of the state directory; without one they are in memory and count there") \
	X(user_messages, 4000000, 4, 1000000000, "messages", "messages that one uid has in all queues (a quarter of it in one foreign queue)") \
	X(user_bytes, 2147483648, 4096, 1099511627776, "bytes", "the same in bytes")       \
	X(user_file_bytes, 137438953472, 4096, 9007199254740991, "bytes", "files and larger bodies that one uid has in all queues, or is sending (a quarter of it in one foreign queue)") \
	X(live_per_user, 64, 0, 65536, "descriptors", "live descriptors of one uid in all queues, or with those in sends that wait") \
	X(bodies_per_user, 1024, 1, 1000000, "bodies", "files and bodies beyond piece_max that one uid is sending, and, by themselves, those on their way to it, for each of which ipcd has descriptors open (root: no limit)") \
	X(inbox_messages_per_sender, 1000, 1, 1000000, "messages", "messages of one uid in one foreign inbox") \
	X(inbox_bytes_per_sender, 67108864, 1024, 1099511627776, "bytes", "the same in bytes") \
	X(inbox_file_bytes_per_sender, 1073741824, 1024, 9007199254740991, "bytes", "files and larger bodies of one uid in one foreign inbox") \
	X(store_buffer, 33554432, 262144, 68719476736, "bytes", "records that wait for the disk, before clients are not read from") \
	X(dedup_window, 3600000, 1, 604800000, "ms", "in which a repeated `dedup_id` is known") \
	X(dedup_ids, 100000, 1, 100000000, "ids", "`dedup_id`s that one queue remembers") \
	X(dedup_ids_per_user, 1000000, 1, 1000000000, "ids", "`dedup_id`s of one uid that are remembered") \
	X(max_attempts, 5, 1, 1000000000, "attempts", "deliveries of one message before it is dead") \
	X(lost_delay, 5000, 0, 86400000, "ms", "before a message whose connection was lost is handed out again") \
	X(header_deadline, 10000, 10, 3600000, "ms", "from the first byte of a frame to the end of its header") \
	X(body_deadline, 60000, 10, 3600000, "ms", "without a byte of an unfinished body")  \
	X(pieces_deadline, 600000, 10, 86400000, "ms", "between two pieces of a body")      \
	X(live_deadline, 600000, 10, 86400000, "ms", "before a live descriptor that nobody has taken is closed") \
	X(fd_deadline, 10000, 10, 3600000, "ms", "without progress while a descriptor is copied, before its file system is taken to hang") \
	X(stalled_deadline, 60000, 10, 86400000, "ms", "with output that the peer does not read, before it is cut") \
	X(shutdown_deadline, 5000, 0, 600000, "ms", "for output still to be read when ipcd stops")
/* clang-format on */

enum {
#define X(name, key, value, unit, what) LIMIT_##name = value,
	LIMITS_FIXED(X)
#undef X
};

struct limits {
#define X(key, value, min, max, unit, what) uint64_t key;
	LIMITS_SETTABLE(X)
#undef X
};

struct limit_info {
	const char *key, *unit, *what;
	uint64_t value, min, max;
	size_t offset; /* in struct limits; SIZE_MAX for the protocol's own */
};

extern const struct limits limits_default;
extern const struct limit_info limits_table[];
extern const size_t limits_table_size;

/* Delays of nack without delay_ms, by attempt; the last one stays. */
extern const uint32_t limits_backoff_ms[4];

/* One that can be set, by its key; NULL if there is none. */
const struct limit_info *limits_find(const char *key);

/* Sets one by "key=value". 0, -ENOENT for an unknown key, -ERANGE beyond min or max (then
 * *ret_info is set), -EINVAL for what is no number. */
int limits_set(struct limits *limits, const char *assignment,
	       const struct limit_info **ret_info) MUST_CHECK;

#endif
