/* SPDX-License-Identifier: MIT */
#ifndef BASE_UTIL_H
#define BASE_UTIL_H

/*
 * Small things that every file may use: ownership helpers, sizes, saturating sums.
 * Nothing here allocates behind the caller's back or touches global state.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Frees when the variable leaves its scope; TAKE_PTR/TAKE_FD give the value away first. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define DEFINE_CLEANUP(type, fn)              \
	static inline void fn##p(type *value) \
	{                                     \
		if (*value)                   \
			fn(*value);           \
	}                                     \
	struct base_unused_##fn /* swallows the semicolon */

#define TAKE_PTR(p)                               \
	({                                        \
		__typeof__(p) *take_p_ = &(p);    \
		__typeof__(p) take_v_ = *take_p_; \
		*take_p_ = NULL;                  \
		take_v_;                          \
	})

static inline int take_fd(int *fd)
{
	int value = *fd;

	*fd = -1;
	return value;
}
#define TAKE_FD(fd) take_fd(&(fd))

/* close(2) of an fd of our own. Foreign fds can block in close: see daemon/worker.h. */
int fd_close(int fd);
static inline void fd_closep(int *fd)
{
	fd_close(*fd);
}
#define _cleanup_fd_ CLEANUP(fd_closep)

/* The same file opened once more, with an offset of its own; flags: O_RDONLY and the like, as
 * far as we may. It needs /proc. -errno. */
int fd_reopen(int fd, int flags) MUST_CHECK;

static inline void freep(void *ptr)
{
	free(*(void **)ptr);
}
#define _cleanup_free_ CLEANUP(freep)

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline uint64_t add_saturating(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

/* Writes the decimal digits of value, without NUL; returns how many (at most 20). */
size_t format_u64(char out[static 20], uint64_t value);

/* Writes 16 lower-case hex digits, without NUL. */
void format_hex64(char out[static 16], uint64_t value);

/* Writes the hex digits of value, without leading zeros or NUL; returns how many. */
size_t format_hex(char out[static 16], uint64_t value);

/* Reads 1 to 16 lower-case hex digits; false for anything else. */
bool parse_hex(const char *text, size_t length, uint64_t *ret_value);

/* Reads decimal digits only, no sign or blank; false also beyond max. */
bool parse_u64(const char *text, uint64_t max, uint64_t *ret_value);

#endif
