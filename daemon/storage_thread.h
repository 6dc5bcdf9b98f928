/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_STORAGE_THREAD_H
#define DAEMON_STORAGE_THREAD_H

/*
 * The storage thread: it does one task after the other for the loop, which goes on meanwhile.
 *
 *	storage_thread_begin() ---------------------.
 *	                                             v
 *	IDLE -- storage_thread_open() --> OPEN --> BUSY --> (done) --> IDLE
 *	             storage_thread_close() ----^            ^-- storage_thread_fetch()
 *
 * While it is OPEN the thread writes what is in the first batch already, and the loop adds
 * to it. In all but IDLE the storage is the thread's, with one exception: once the batches
 * are on the disk it leaves alone what says so (storage.head.commits, and how long commits
 * take), for the loop to read behind storage_thread_has_committed().
 */

#include <pthread.h>
#include <stdatomic.h>

#include "loop.h"
#include "storage.h"

enum storage_task {
	TASK_NONE,
	TASK_WRITE, /* all batches, as one transaction */
	TASK_BEGIN_ANEW,
	TASK_FINISH_ANEW,
	TASK_END, /* of the thread */
};

/* What TASK_WRITE has to know beside the batches, when they are complete. */
struct storage_order {
	uint64_t next_number; /* of the next message */
	bool clean;	      /* this is the last one */
	bool prompt;  /* receipts are sent: it is not a file that is still incomplete */
	bool reserve; /* to be made again, if there is space */
};

struct storage_result {
	enum storage_task task;
	enum storage_outcome outcome; /* of TASK_WRITE */
	int result;		      /* of another: 0 or -errno */
};

struct storage_thread {
	struct storage *storage;
	struct list batches; /* struct batch.link: what is, or has just been, written */
	void (*ended)(struct storage_thread *thread);
	bool runs; /* it was started */

	/* its own */
	struct source source; /* an eventfd, which is never read: a task is done */
	size_t n_announced; /* entries of the open batch, when the thread was last woken */
	pthread_t thread;
	bool watches; /* waiting awake takes no processor from the loop */
	pthread_mutex_t mutex;
	pthread_cond_t change;
	/* The thread's. */
	size_t n_told;	 /* writes with the receipts of the last task */
	uint64_t skip;	 /* tasks behind which it does not watch, after a failure … */
	uint64_t n_skip; /* … and how many of them are left */
	/* Under the mutex, or handed over by one of the atomic ones. */
	struct storage_order order;
	struct storage_result result;
	atomic_bool posted;    /* a task that the thread has not yet begun */
	atomic_bool open;      /* more is still added to the first batch */
	atomic_bool committed; /* the batches are on the disk */
	atomic_bool done;      /* the task has ended */
};

/* ended() is called on the loop's thread: there may be something to fetch. The storage is
 * not yet open. 0 or -errno, then there is nothing to deinit. */
int storage_thread_init(struct storage_thread *t, struct storage *storage,
			struct loop *loop,
			void (*ended)(struct storage_thread *thread)) MUST_CHECK;

/* Until then the storage is the caller's. 0 or -errno. */
int storage_thread_start(struct storage_thread *t) MUST_CHECK;

/* It is IDLE, or was never started. */
void storage_thread_deinit(struct storage_thread *t);

static inline bool storage_thread_is_idle(const struct storage_thread *t)
{
	return t->result.task == TASK_NONE;
}

static inline bool storage_thread_is_open(const struct storage_thread *t)
{
	return t->open;
}

/* It is IDLE. order: for TASK_WRITE, else NULL. */
void storage_thread_begin(struct storage_thread *t, enum storage_task task,
			  const struct storage_order *order);

/* It is IDLE, and t->batches is one: begins with what that has. */
void storage_thread_open(struct storage_thread *t);

/* It is OPEN, and something was added: with enough of that the thread is woken. */
void storage_thread_announce(struct storage_thread *t);

/* It is OPEN: nothing is added any more. */
void storage_thread_close(struct storage_thread *t, const struct storage_order *order);

/* Once for each time that batches come to the disk: they have, the result is still to come. */
bool storage_thread_has_committed(struct storage_thread *t);

/* False: the task has not yet ended, or there is none. Then it is IDLE. */
bool storage_thread_fetch(struct storage_thread *t, struct storage_result *ret_result);

/* Could it be fetched? */
static inline bool storage_thread_is_done(const struct storage_thread *t)
{
	return t->done;
}

/* It is BUSY: waits until the task has ended. until_ns: of CLOCK_MONOTONIC. False: it takes
 * longer. */
bool storage_thread_wait(struct storage_thread *t, uint64_t until_ns);

#endif
