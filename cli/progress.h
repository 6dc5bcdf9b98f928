/* SPDX-License-Identifier: MIT */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

/*
 * How far a transfer has come: a line on a terminal, events for programs, or nothing.
 *
 * The line is drawn on standard error if that is a terminal and we are in its foreground, and
 * only when files have moved for half a second without a pause; it is one line, whatever the
 * number of files. With --json there is an event on standard output instead, at most one in
 * half a second; with --quiet nothing. Whatever else is printed makes it go away first.
 *
 * All functions take NULL, for a progress that there was no memory for.
 */

#include "cli.h"

struct progress;

/* NULL: no memory, which is no reason to do nothing else. */
struct progress *progress_new(const struct cli *cli);
struct progress *progress_free(struct progress *progress);

/* The next file: number index (from 1) of count (0: not known). */
void progress_begin(struct progress *progress, const char *name, uint64_t index,
		    uint64_t count);
/* It has ended, well or not. The line stays until the next one, or goes in half a second. */
void progress_end(struct progress *progress);

/* As ipc_progress_fn, for ipc_message_set_progress(). Returns 0. */
int progress_update(uint64_t done, uint64_t total, void *progress);

#endif
