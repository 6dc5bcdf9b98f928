/* SPDX-License-Identifier: MIT */

#include "base/err.h"

#include <stdio.h>
#include <string.h>

static _Thread_local struct {
	char text[256];
	size_t used;
} trail;

int err_note(int r, const char *file, int line, bool origin)
{
	const char *name = strrchr(file, '/');
	size_t room;
	int n;

	if (origin)
		trail.used = 0;
	room = sizeof(trail.text) - trail.used;
	n = snprintf(trail.text + trail.used, room, "%s%s:%d", trail.used ? " < " : "",
		     name ? name + 1 : file, line);
	if (n > 0 && (size_t)n < room)
		trail.used += (size_t)n;
	else /* a long way up: the origin is what counts */
		trail.text[trail.used] = '\0';
	return r;
}

const char *err_trail(void)
{
	return trail.text;
}
