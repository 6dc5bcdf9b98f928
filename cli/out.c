/* SPDX-License-Identifier: MIT */

#include "out.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "text.h"

enum { CHUNK = 65536 };

/* The one state of this file: standard output is one, too. */
static struct {
	char chunk[CHUNK];
	size_t size;
	int error;
	bool told; /* out_flush() has returned the error: it is the caller's to report */
	void (*guard)(void *userdata);
	void *guarded;
} out;

void out_set_guard(void (*guard)(void *userdata), void *userdata)
{
	out.guard = guard;
	out.guarded = userdata;
}

/* ---- bytes ---- */

static bool on_terminal(void)
{
	static int answer = -1;

	if (answer < 0)
		answer = isatty(STDOUT_FILENO);
	return answer;
}

/* Somebody else may have made our standard output non-blocking. */
static void wait_writable(void)
{
	struct pollfd fd = { .fd = STDOUT_FILENO, .events = POLLOUT };

	poll(&fd, 1, -1);
}

static void write_all(const char *data, size_t size)
{
	if (size > 0 && out.guard && on_terminal())
		out.guard(out.guarded);
	while (size > 0 && !out.error) {
		ssize_t n = write(STDOUT_FILENO, data, size);

		if (n >= 0) {
			data += n;
			size -= (size_t)n;
		} else if (errno == EAGAIN) {
			wait_writable();
		} else if (errno != EINTR) {
			out.error = -errno;
		}
	}
}

static void write_chunk(void)
{
	size_t size = out.size;

	out.size = 0;
	write_all(out.chunk, size);
}

void out_write(const void *data, size_t size)
{
	if (size > CHUNK - out.size)
		write_chunk();
	if (size > CHUNK) {
		write_all(data, size);
	} else if (size > 0) {
		memcpy(out.chunk + out.size, data, size);
		out.size += size;
	}
}

static bool is_file(void)
{
	static int answer = -1;
	struct stat st;

	if (answer < 0)
		answer = fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode);
	return answer;
}

int out_flush(bool durable)
{
	write_chunk();
	if (durable && !out.error && is_file() && fsync(STDOUT_FILENO) < 0)
		out.error = -errno;
	out.told = out.error;
	return out.error;
}

int out_finish(const struct cli *cli, int status)
{
	write_chunk();
	if (!out.error)
		return status;
	if (!out.told && out.error != -EPIPE)
		cli_say(cli, NULL, "cannot write: %s", strerror(-out.error));
	return status ? status : STATUS_LOCAL;
}

/* ---- text ---- */

static void sink_out(void *to, const void *data, size_t size)
{
	out_write(data, size);
}

void out_part(const void *data, size_t size)
{
	if (on_terminal())
		text_escape(data, size, false, sink_out, NULL);
	else
		out_write(data, size);
}

void out_body(const void *data, size_t size, bool newline)
{
	out_part(data, size);
	if (newline ||
	    (on_terminal() && size > 0 && ((const char *)data)[size - 1] != '\n'))
		out_write("\n", 1);
}

void out_json(const char *json)
{
	text_escape(json, strlen(json), true, sink_out, NULL);
	out_write("\n", 1);
}

void out_json_string(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t size = strlen(text), n;

	out_write("\"", 1);
	for (; size > 0; s += n, size -= n) {
		n = text_utf8_length(s, size);
		if (n == 0)
			out_write("\\ufffd", 6);
		else if (*s == '"' || *s == '\\')
			out_print("\\%c", *s);
		else if (*s < 0x20 || *s == 0x7f || (*s == 0xc2 && s[1] < 0xa0))
			out_print("\\u%04x", n == 2 ? s[1] : *s);
		else
			out_write(s, n);
		n = n ? n : 1;
	}
	out_write("\"", 1);
}

void out_name(const char *name)
{
	_cleanup_free_ char *text = on_terminal() ? text_escape_name(name) : NULL;

	if (on_terminal() && !text)
		out.error = out.error ? out.error : -ENOMEM;
	else
		out_write(text ? text : name, strlen(text ? text : name));
}

void out_print(const char *format, ...)
{
	char *text;
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (n < 0) {
		out.error = out.error ? out.error : -ENOMEM;
		return;
	}
	if (on_terminal())
		text_escape(text, (size_t)n, false, sink_out, NULL);
	else
		out_write(text, (size_t)n);
	free(text);
}

/* ---- standard error ---- */

/* In one write, so that the lines of several processes do not mix. */
void out_error(const char *line)
{
	_cleanup_free_ char *text = text_escape_name(line);
	size_t size = text ? strlen(text) : 0;

	if (!text)
		return;
	text[size++] = '\n'; /* in the place of its NUL */
	if (out.guard)
		out.guard(out.guarded);
	(void)!write(STDERR_FILENO, text, size);
}

/* ---- tables ---- */

void table_init(struct table *table, const char *alignment)
{
	*table = (struct table){ .n_columns = strlen(alignment), .alignment = alignment };
}

/* Room for one more cell. */
static bool table_grow(struct table *table)
{
	size_t n = table->n_cells;
	char **grown;

	if (n & (n - 1)) /* grows at each power of two */
		return true;
	grown = reallocarray(table->cells, n ? 2 * n : 1, sizeof(*grown));
	if (grown)
		table->cells = grown;
	return grown;
}

void table_add(struct table *table, const char *format, ...)
{
	char *cell = NULL;
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vasprintf(&cell, format, arguments);
	va_end(arguments);
	if (n < 0)
		cell = NULL;
	if (!cell || table->no_memory || !table_grow(table)) {
		free(cell);
		table->no_memory = true;
		return;
	}
	table->cells[table->n_cells++] = cell;
}

static int compare_rows(const void *a, const void *b, void *n_columns)
{
	size_t last = *(const size_t *)n_columns - 1;

	return strcmp(((char *const *)a)[last], ((char *const *)b)[last]);
}

void table_sort(struct table *table, size_t n_fixed_rows)
{
	size_t n = table->n_columns, first = n_fixed_rows * n;

	if (!table->no_memory && table->n_cells > first)
		qsort_r(table->cells + first, (table->n_cells - first) / n,
			n * sizeof(*table->cells), compare_rows, &table->n_columns);
}

static int column_width(const struct table *table, size_t column)
{
	size_t width = 0;

	for (size_t i = column; i < table->n_cells; i += table->n_columns) {
		size_t n = strlen(table->cells[i]);

		width = n > width ? n : width;
	}
	return (int)width;
}

static void print_rows(const struct table *table, const int *widths)
{
	for (size_t i = 0; i < table->n_cells; i++) {
		size_t column = i % table->n_columns;
		bool last = column + 1 == table->n_columns;

		out_print("%*s%s", widths[column], table->cells[i], last ? "\n" : "  ");
	}
}

int table_print(struct table *table)
{
	int *widths = calloc(table->n_columns, sizeof(*widths));

	for (size_t c = 0; widths && c < table->n_columns; c++) {
		widths[c] = column_width(table, c);
		if (table->alignment[c] == '<') /* no blanks at a line's end */
			widths[c] = c + 1 == table->n_columns ? 0 : -widths[c];
	}
	if (widths && !table->no_memory)
		print_rows(table, widths);
	for (size_t i = 0; i < table->n_cells; i++)
		free(table->cells[i]);
	free(table->cells);
	if (widths && !table->no_memory) {
		free(widths);
		return 0;
	}
	free(widths);
	return -ENOMEM;
}
