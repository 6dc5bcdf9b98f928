/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

/*
 * Threads for what may block: name service, close of foreign descriptors, file work. A job
 * is handed over whole: run() is called on some thread and touches nothing but the job,
 * done() is called on the loop's thread afterwards. Threads are made when needed and end
 * when idle. Jobs of one uid take at most JOBS_PER_UID threads, so that one user's hung file
 * system does not hold up the others.
 */

#include "base/fdset.h"
#include "loop.h"

struct job {
	struct list link;
	uid_t uid; /* on whose behalf */
	void (*run)(struct job *job);
	void (*done)(struct job *job); /* frees it */
};

struct workers;

int workers_new(struct workers **ret_workers, struct loop *loop) MUST_CHECK;

/* Waits up to wait_ms for what is under way; jobs not begun are done() without having run.
 * What hangs even then is left behind with its thread. Returns NULL. */
struct workers *workers_free(struct workers *w, unsigned int wait_ms);

/* The job is the workers' until done(). */
void workers_submit(struct workers *w, struct job *job);

/* Closes descriptors that came from a peer: close(2) can block on them, fuse(4). Without
 * memory or before workers_new() they are closed here and now. */
void workers_close_fds(struct fdset *fds);

#endif
