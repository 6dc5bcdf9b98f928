/* SPDX-License-Identifier: MIT */

#include "base/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

/* Accepts -1, keeps errno, returns -1 so that `fd = fd_close(fd)` reads well. */
int fd_close(int fd)
{
	if (fd >= 0) {
		int saved = errno;

		close(fd); /* EINTR on Linux: the fd is gone all the same, close(2) */
		errno = saved;
	}
	return -1;
}

/* What proc(5) has under this name is no ordinary link. */
int fd_reopen(int fd, int flags)
{
	char path[40];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	return again < 0 ? err_origin(-errno) : again;
}

size_t format_u64(char out[static 20], uint64_t value)
{
	static const char pairs[] = "00010203040506070809101112131415161718192021222324"
				    "25262728293031323334353637383940414243444546474849"
				    "50515253545556575859606162636465666768697071727374"
				    "75767778798081828384858687888990919293949596979899";
	char digits[20], *at = digits + sizeof(digits);
	size_t n;

	for (; value >= 100; value /= 100)
		memcpy(at -= 2, pairs + value % 100 * 2, 2);
	if (value >= 10)
		memcpy(at -= 2, pairs + value * 2, 2);
	else
		*--at = (char)('0' + value);
	n = (size_t)(digits + sizeof(digits) - at);
	memcpy(out, at, n);
	return n;
}

static void put_hex(char *out, size_t n, uint64_t value)
{
	static const char hex[] = "0123456789abcdef";

	for (; n; value >>= 4)
		out[--n] = hex[value & 15];
}

void format_hex64(char out[static 16], uint64_t value)
{
	put_hex(out, 16, value);
}

size_t format_hex(char out[static 16], uint64_t value)
{
	size_t n = 1;

	while (n < 16 && value >> 4 * n)
		n++;
	put_hex(out, n, value);
	return n;
}

bool parse_hex(const char *text, size_t length, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (!length || length > 16)
		return false;
	for (size_t i = 0; i < length; i++) {
		char c = text[i];
		unsigned int digit;

		if (c >= '0' && c <= '9')
			digit = (unsigned int)(c - '0');
		else if (c >= 'a' && c <= 'f')
			digit = (unsigned int)(c - 'a' + 10);
		else
			return false;
		value = value << 4 | digit;
	}
	*ret_value = value;
	return true;
}

bool parse_u64(const char *text, uint64_t max, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return false;
	}
	if (value > max)
		return false;
	*ret_value = value;
	return true;
}
