/* SPDX-License-Identifier: MIT */

#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

void buf_deinit(struct buf *b)
{
	free(b->data);
	*b = (struct buf)BUF_INIT;
}

int buf_reserve(struct buf *b, size_t n)
{
	size_t need, capacity = b->capacity ? b->capacity : 64;
	char *data;

	if (b->capacity - b->size >= n)
		return 0;
	if (__builtin_add_overflow(b->size, n, &need) || need > SIZE_MAX / 2)
		return err_origin(-ENOMEM);
	while (capacity < need)
		capacity *= 2;
	data = realloc(b->data, capacity);
	if (!data)
		return err_origin(-ENOMEM);
	b->data = data;
	b->capacity = capacity;
	return 0;
}

int buf_append(struct buf *b, const void *data, size_t n)
{
	int r = buf_reserve(b, n);

	if (r < 0)
		return err_trace(r);
	if (n)
		memcpy(b->data + b->size, data, n);
	b->size += n;
	return 0;
}

int buf_append_string(struct buf *b, const char *text)
{
	return err_trace(buf_append(b, text, strlen(text)));
}

int buf_printf(struct buf *b, const char *format, ...)
{
	va_list args;
	int n, r;

	va_start(args, format);
	n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (n < 0)
		return err_origin(-EINVAL);
	r = buf_reserve(b, (size_t)n + 1);
	if (r < 0)
		return err_trace(r);
	va_start(args, format);
	vsnprintf(b->data + b->size, (size_t)n + 1, format, args);
	va_end(args);
	b->size += (size_t)n;
	return 0;
}

int buf_terminate(struct buf *b)
{
	int r = buf_reserve(b, 1);

	if (r < 0)
		return err_trace(r);
	b->data[b->size] = '\0';
	return 0;
}

void buf_consume(struct buf *b, size_t n)
{
	b->size -= n;
	if (b->size)
		memmove(b->data, b->data + n, b->size);
}

char *buf_steal(struct buf *b)
{
	char *data = b->data;

	*b = (struct buf)BUF_INIT;
	return data;
}
