/* SPDX-License-Identifier: MIT */

#include "log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/utf8.h"

/* poll(2) says "writable" of a pipe when this much fits, pipe(7): no more in one line. */
enum { LINE_MAX_BYTES = 4096, TEXT_MAX_BYTES = 2048 };

static enum log_level current = LEVEL_INFO;
static unsigned long n_dropped;
static bool torn; /* a full disk took the beginning of a line only */

static const char *const names[] = {
	[LEVEL_ERROR] = "error", [LEVEL_WARNING] = "warning", [LEVEL_NOTICE] = "notice",
	[LEVEL_INFO] = "info",	 [LEVEL_DEBUG] = "debug",
};

void log_set_level(enum log_level level)
{
	current = level;
}

enum log_level log_get_level(void)
{
	return current;
}

const char *log_level_name(enum log_level level)
{
	return names[level];
}

bool log_level_parse(const char *name, enum log_level *ret_level)
{
	for (enum log_level i = LEVEL_ERROR; i <= LEVEL_DEBUG; i++) {
		if (!strcmp(name, names[i])) {
			*ret_level = i;
			return true;
		}
	}
	return false;
}

/* The journal stamps its lines itself. */
static size_t print_prefix(char *out, size_t size, enum log_level level)
{
	struct timespec now;
	struct tm tm;
	int n = snprintf(out, size, "<%d>", level);

	if (!getenv("JOURNAL_STREAM")) {
		clock_gettime(CLOCK_REALTIME, &now);
		gmtime_r(&now.tv_sec, &tm);
		n += (int)strftime(out + n, size - (size_t)n, "%FT%T", &tm);
		n += snprintf(out + n, size - (size_t)n, ".%03ldZ ",
			      now.tv_nsec / 1000000);
	}
	return (size_t)n;
}

static bool write_line(const char *line, size_t size)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
	ssize_t n = -1;

	if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT))
		n = write(STDERR_FILENO, line, size);
	if (n > 0)
		torn = n != (ssize_t)size;
	return n == (ssize_t)size;
}

/* False: it is not written, or not the whole of it. */
static bool print_line(enum log_level level, const char *text)
{
	_cleanup_buf_ struct buf escaped = BUF_INIT;
	char line[LINE_MAX_BYTES];
	size_t n = 0, size;

	if (torn)
		line[n++] = '\n';
	n += print_prefix(line + n, sizeof(line) - n, level);
	if (utf8_append_escaped(&escaped, text, strlen(text)) < 0)
		return false;
	size = min_size(escaped.size, sizeof(line) - n - 1);
	while (size < escaped.size && size && !utf8_is_valid(escaped.data, size))
		size--;
	if (size)
		memcpy(line + n, escaped.data, size);
	line[n + size] = '\n';
	return write_line(line, n + size + 1);
}

static bool print_dropped(void)
{
	char text[96];

	snprintf(text, sizeof(text),
		 "%lu log lines were dropped: nobody read them, or there was no room",
		 n_dropped);
	return print_line(LEVEL_WARNING, text);
}

void log_print(enum log_level level, const char *format, ...)
{
	char text[TEXT_MAX_BYTES];
	va_list args;

	if (level > current)
		return;
	if (n_dropped && !print_dropped()) {
		n_dropped++;
		return;
	}
	n_dropped = 0;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (!print_line(level, text))
		n_dropped++;
}
