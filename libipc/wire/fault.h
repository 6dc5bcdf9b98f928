/* SPDX-License-Identifier: MIT */
#ifndef WIRE_FAULT_H
#define WIRE_FAULT_H

/*
 * A refusal: one of the protocol's error words and a sentence for a person, which says
 * what was wrong, which limit, its value, and what helps. A function that can refuse
 * returns FAULT (positive) after fault_set(), 0 on success, -errno on a local failure.
 */

#include "base/util.h"
#include "wire/limits.h"

/* X(NAME, word, errno as libipc returns it) */
/* clang-format off */
#define FAULT_WORDS(X)                                \
	X(BAD_FRAME, "bad-frame", EBADMSG)            \
	X(BAD_JSON, "bad-json", EBADMSG)              \
	X(BAD_REQUEST, "bad-request", EINVAL)         \
	X(UNKNOWN_OP, "unknown-op", EOPNOTSUPP)       \
	X(BAD_NAME, "bad-name", EINVAL)               \
	X(NOT_FOUND, "not-found", ENOENT)             \
	X(EXISTS, "exists", EEXIST)                   \
	X(DENIED, "denied", EACCES)                   \
	X(FULL, "full", EAGAIN)                       \
	X(QUOTA, "quota", EDQUOT)                     \
	X(TOO_LARGE, "too-large", EMSGSIZE)           \
	X(TIMEOUT, "timeout", ETIMEDOUT)              \
	X(NO_SERVICE, "no-service", EHOSTUNREACH)     \
	X(SERVICE, "service", EREMOTEIO)              \
	X(PEER_GONE, "peer-gone", ECONNRESET)         \
	X(LEASE_LOST, "lease-lost", ESTALE)           \
	X(FDS_LOST, "fds-lost", EMFILE)               \
	X(BAD_FD, "bad-fd", EBADF)                    \
	X(CHANGED, "changed", EBUSY)                  \
	X(INTEGRITY, "integrity", EILSEQ)             \
	X(NO_SPACE, "no-space", ENOSPC)               \
	X(SLOW, "slow", ECOMM)                        \
	X(SHUTTING_DOWN, "shutting-down", ESHUTDOWN)  \
	X(INTERNAL, "internal", EIO)

enum fault_word {
#define X(name, word, errnum) FAULT_##name,
	FAULT_WORDS(X)
#undef X
	FAULT_N_WORDS,
};
/* clang-format on */

enum { FAULT = 1 };

struct fault {
	enum fault_word word;
	char text[LIMIT_ERROR_TEXT_MAX + 1]; /* valid UTF-8, cut at a character's end */
};

const char *fault_word_name(enum fault_word word);

/* Positive errno of a word; EPROTO for one that is unknown. */
int fault_word_errno(const char *word, size_t length);

/* Returns FAULT. */
int fault_set(struct fault *fault, enum fault_word word, const char *format, ...)
	PRINTF_LIKE(3, 4);

#endif
