/* SPDX-License-Identifier: MIT */
#ifndef BASE_BUF_H
#define BASE_BUF_H

/* A growing byte buffer. */

#include "base/util.h"

struct buf {
	char *data;
	size_t size, capacity;
};

/* clang-format off */
#define BUF_INIT { NULL, 0, 0 }
/* clang-format on */

void buf_deinit(struct buf *b);
#define _cleanup_buf_ CLEANUP(buf_deinit)

/* Room for n more bytes at data + size. 0 or -ENOMEM. */
int buf_reserve(struct buf *b, size_t n) MUST_CHECK;
int buf_append(struct buf *b, const void *data, size_t n) MUST_CHECK;
int buf_append_string(struct buf *b, const char *text) MUST_CHECK;
int buf_printf(struct buf *b, const char *format, ...) MUST_CHECK PRINTF_LIKE(2, 3);

/* Puts a NUL behind the data (not counted in size). */
int buf_terminate(struct buf *b) MUST_CHECK;

/* Drops n bytes at the front. */
void buf_consume(struct buf *b, size_t n);

/* Gives the memory away; the buffer is empty afterwards. */
char *buf_steal(struct buf *b);

#endif
