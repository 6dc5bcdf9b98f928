/* SPDX-License-Identifier: MIT */

#include "input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 65536 };

void input_deinit(struct input *input)
{
	free(input->data);
}

static int make_room(struct input *input)
{
	size_t used = input->end - input->begin;
	size_t wanted = 2 * used + CHUNK;
	char *grown;

	if (input->allocated - input->end >= CHUNK)
		return 0;
	/* Moved only when what is left is the smaller part: each byte moves but a few times. */
	if (input->begin >= used && input->begin >= CHUNK) {
		memmove(input->data, input->data + input->begin, used);
		input->begin = 0;
		input->end = used;
		return 0;
	}
	wanted += input->begin;
	grown = realloc(input->data, wanted);
	if (!grown)
		return -ENOMEM;
	input->data = grown;
	input->allocated = wanted;
	return 0;
}

int input_read(struct input *input)
{
	ssize_t n;
	int r;

	if (input->end - input->begin > INPUT_MAX)
		return -EMSGSIZE;
	r = make_room(input);
	if (r < 0)
		return r;
	do
		n = read(STDIN_FILENO, input->data + input->end,
			 input->allocated - input->end);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	input->eof = n == 0;
	input->end += (size_t)n;
	return 0;
}

bool input_take_line(struct input *input, const char **ret_line, size_t *ret_size)
{
	size_t size = input->end - input->begin;
	char *begin, *newline;

	if (size == 0)
		return false;
	begin = input->data + input->begin;
	newline = memchr(begin + input->scanned, '\n', size - input->scanned);
	input->scanned = size;
	if (!newline && !input->eof)
		return false;
	*ret_line = begin;
	*ret_size = newline ? (size_t)(newline - begin) : size;
	input->begin += *ret_size + (newline ? 1 : 0);
	input->scanned = 0;
	return true;
}
