/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

/*
 * Threads for what may block: name service, file work, and whatever touches a descriptor
 * that a peer has handed over. A job is handed over whole: run() is called on some thread
 * and touches nothing but the job, done() is called on the loop's thread afterwards. Threads
 * are made when needed and end when idle.
 *
 * Turns. Uids take turns, and within a uid jobs go in the order they came. A uid has at most
 * JOBS_PER_UID jobs running, all together RUNNING_MAX. A long job is a chain: it does a part,
 * and its done() submits it again, behind the others.
 *
 * Hanging. On a foreign descriptor each system call may hang for ever, fstat(2) and close(2)
 * too, fuse(4). Such jobs are marked `foreign` and run on FOREIGN_MAX threads at most, so
 * that some are left for our own work. A foreign job says by worker_note_progress() that it
 * gets on. When it has not for stall_ms, it is told once by stalled(), and given up:
 * its thread is no longer counted and another takes its place. It still counts among its
 * uid's foreign jobs, so that two hung descriptors are all that a uid can have. Should it
 * return after all, then done() is called as ever.
 *
 *	queued --> running ----------------> finished --> done()
 *	              |                         ^
 *	              +--> stalled() --(hangs)--+
 */

#include "base/fdset.h"
#include "loop.h"

enum {
	JOBS_PER_UID = 2,
	RUNNING_MAX = 8,   /* threads at work, without those that hang */
	FOREIGN_MAX = 6,   /* of these */
	STALLED_MAX = 64,  /* threads that hang: with so many no foreign job is begun */
	CLOGGED_JOBS = 64, /* see workers_is_clogged() */
	CLOSE_STALL_MS = 10000,
};

/* The daemon's own: as many jobs of it run as there are threads. */
#define WORKER_UID_OWN ((uid_t)-1)

struct job {
	uid_t uid; /* on whose behalf */
	bool foreign;
	uint32_t stall_ms; /* of a foreign job; 0: it may take as long as it does */
	void (*run)(struct job *job);
	void (*stalled)(struct job *job); /* on the loop; may be NULL */
	void (*done)(struct job *job);	  /* on the loop; may free or submit it */

	/* the workers' */
	struct list link, behind; /* behind: others of its uid, while it is their first */
	unsigned int n_behind;
	uint32_t progress_ms; /* atomic; CLOCK_MONOTONIC, wraps */
	bool has_stalled;
};

struct workers;

int workers_new(struct workers **ret_workers, struct loop *loop) MUST_CHECK;

/* How long a close may take before it is given up; CLOSE_STALL_MS at first. */
void workers_set_close_stall(struct workers *w, uint32_t stall_ms);

/* Waits up to wait_ms for what is queued or running, but not for what has stalled; jobs not
 * begun by then are done() without having run. What hangs even then is left behind with its
 * thread, and the descriptors still to be closed are left to exit(3), where a signal helps.
 * Returns NULL. */
struct workers *workers_free(struct workers *w, unsigned int wait_ms);

/* The job is the workers' until done(). Without any thread our own jobs run here and now,
 * foreign ones wait until there is one. */
void workers_submit(struct workers *w, struct job *job);

/* By run(): the descriptor answers. */
void worker_note_progress(struct job *job);

/* By run(): until it notes progress it waits for what is ours, and is not given up. */
void worker_may_take_time(struct job *job);

/* Does a job of this uid hang? */
bool workers_is_stuck(const struct workers *w, uid_t uid);

/* Do CLOGGED_JOBS or more foreign jobs of this uid wait? Then its descriptors come in faster
 * than they can be closed. */
bool workers_is_clogged(const struct workers *w, uid_t uid);

/* Closes descriptors that came from a peer of this uid, by a foreign job. Takes them.
 * Without memory, or before workers_new(), they are closed here and now. */
void workers_close_fds(uid_t uid, struct fdset *fds);
void workers_close_fd(uid_t uid, int fd);

#endif
