/* SPDX-License-Identifier: MIT */

#include "base/err.h"

#include <stdio.h>
#include <string.h>

enum { PLACES = 8 };

/* Only noted here: many a failure is an ordinary answer that nobody prints. */
static _Thread_local struct {
	struct {
		const char *file; /* of __FILE__: lives for ever */
		int line;
	} places[PLACES];
	unsigned int n;
	char text[256];
} trail;

int err_note(int r, const char *file, int line, bool origin)
{
	if (origin)
		trail.n = 0;
	if (trail.n < PLACES) { /* a long way up: the origin is what counts */
		trail.places[trail.n].file = file;
		trail.places[trail.n++].line = line;
	}
	return r;
}

const char *err_trail(void)
{
	size_t used = 0;

	trail.text[0] = '\0';
	for (unsigned int i = 0; i < trail.n; i++) {
		const char *name = strrchr(trail.places[i].file, '/');
		size_t room = sizeof(trail.text) - used;
		int n = snprintf(trail.text + used, room, "%s%s:%d", i ? " < " : "",
				 name ? name + 1 : trail.places[i].file,
				 trail.places[i].line);

		if (n < 0 || (size_t)n >= room) {
			trail.text[used] = '\0';
			break;
		}
		used += (size_t)n;
	}
	return trail.text;
}
