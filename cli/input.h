/* SPDX-License-Identifier: MIT */
#ifndef CLI_INPUT_H
#define CLI_INPUT_H

/*
 * Standard input, line by line. What was read and not yet taken stands in one
 * growing buffer; nothing is bounded but by INPUT_MAX.
 */

#include <stdbool.h>
#include <stddef.h>

/* The most a daemon can be told to take as one body (ipcd --limits: body_max). */
#define INPUT_MAX ((size_t)1 << 30)

struct input {
	char *data;
	size_t begin, end, allocated;
	size_t scanned; /* bytes after begin that are known to hold no newline */
	bool eof;
};

void input_deinit(struct input *input);

/* Reads once. 0; -EAGAIN if nothing is there (only on a non-blocking input); -EMSGSIZE if
 * INPUT_MAX bytes wait already; or what read(2) says. At the end of the input sets eof. */
int input_read(struct input *input);

/* Takes the next line, without its newline; at the end of the input also one without a
 * newline. The bytes are valid until the next read. False if there is none yet. */
bool input_take_line(struct input *input, const char **ret_line, size_t *ret_size);

#endif
