/* SPDX-License-Identifier: MIT */

#include "storage_thread.h"

#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

enum {
	ANNOUNCE_ENTRIES = 16,	/* with so many more the thread is woken, if it sleeps */
	WATCH_NS = 15000,	/* it waits awake for the loop before it sleeps; … */
	WATCH_TASK_NS = 100000, /* … behind a task, for the next one, … */
	WATCH_TOLD_MAX = 4,	/* … where at most so many peers were told of it */
	WATCH_SKIP_MAX = 63,	/* after failures only behind one in so many */
	PREEMPTED_NS = 20000,	/* between two looks at the clock */
	IDLE_MS = 1000,		/* behind the last task, before space is given back … */
	IDLE_STEP_MS = 20,	/* … in steps */
	STACK_BYTES = 512 * 1024,
};

/* ---- the thread's side ---- */

/* The loop adds the next records, or closes the batch, within microseconds, mostly; waking
 * who sleeps takes longer, on both sides. */
static bool watch_loop(const struct storage_thread *t, const struct batch *batch)
{
	uint64_t until = clock_ns(CLOCK_MONOTONIC) + WATCH_NS;

	if (!t->watches)
		return false;
	while (t->open && !storage_is_behind(t->storage, batch))
		if (clock_ns(CLOCK_MONOTONIC) >= until)
			return false;
	return true;
}

/* What is there, and what comes, until the batch is closed. */
static void write_ahead(struct storage_thread *t)
{
	const struct batch *batch = LIST_FIRST(&t->batches, struct batch, link);

	while (t->open) {
		storage_write_ahead(t->storage, batch);
		if (watch_loop(t, batch))
			continue;
		pthread_mutex_lock(&t->mutex);
		if (t->open)
			pthread_cond_wait(&t->change, &t->mutex);
		pthread_mutex_unlock(&t->mutex);
	}
}

static void send_receipts(struct storage_thread *t)
{
	t->committed = true;
	LIST_FOREACH(link, &t->batches)
		t->n_told +=
			receipts_send(LIST_ENTRY(link, struct batch, link)->receipts);
}

static void write_batches(struct storage_thread *t)
{
	struct storage *s = t->storage;

	write_ahead(t);
	s->head.next_number = t->order.next_number;
	s->head.clean = t->order.clean;
	t->result.outcome = storage_write(s, &t->batches);
	if (t->order.prompt && t->result.outcome == STORAGE_WRITTEN)
		send_receipts(t);
	storage_after_write(s);
	if (t->order.reserve && t->result.outcome == STORAGE_WRITTEN)
		storage_reserve(s);
}

static void do_task(struct storage_thread *t)
{
	t->n_told = 0;
	switch (t->result.task) {
	case TASK_WRITE:
		write_batches(t);
		break;
	case TASK_BEGIN_ANEW:
		t->result.result = storage_begin_anew(t->storage);
		break;
	case TASK_FINISH_ANEW:
		t->result.result = storage_finish_anew(t->storage);
		break;
	case TASK_NONE:
	case TASK_END:
		break;
	}
}

/* Waits for a task; if none comes for idle_ms (0: for ever) does what there is to do while
 * nobody needs the thread. Returns the next idle_ms. */
static uint64_t be_idle(struct storage_thread *t, uint64_t idle_ms)
{
	struct timespec until;
	uint64_t at = deadline_after(clock_ns(CLOCK_MONOTONIC), idle_ms);
	bool more;

	if (!idle_ms) {
		pthread_cond_wait(&t->change, &t->mutex);
		return 0;
	}
	until = (struct timespec){ (time_t)(at / NS_PER_S), (long)(at % NS_PER_S) };
	if (pthread_cond_timedwait(&t->change, &t->mutex, &until) == 0)
		return idle_ms;
	pthread_mutex_unlock(&t->mutex);
	more = storage_idle(t->storage);
	pthread_mutex_lock(&t->mutex);
	return more ? IDLE_STEP_MS : 0;
}

/* Who sends one message after the other sends the next one when it is told, and that is here
 * before this thread would be asleep, and woken again. Where many were told they need the
 * processor themselves. Each time that nothing comes, or that others need the processor, it
 * is tried half as often. */
static void watch_for_task(struct storage_thread *t)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC), until = now + WATCH_TASK_NS, last;
	bool posted;

	if (!t->watches || !t->n_told || t->n_told > WATCH_TOLD_MAX)
		return;
	if (t->n_skip) {
		t->n_skip--;
		return;
	}
	do {
		posted = t->posted;
		last = now;
		now = clock_ns(CLOCK_MONOTONIC);
		if (now >= until || now - last > PREEMPTED_NS) {
			t->skip = t->n_skip = min_u64(2 * t->skip + 1, WATCH_SKIP_MAX);
			return;
		}
	} while (!posted);
	t->skip /= 4;
}

static void *thread_main(void *arg)
{
	struct storage_thread *t = arg;
	uint64_t one = 1;
	uint64_t idle_ms = 0;

	prctl(PR_SET_NAME, "ipcd-store");
	pthread_mutex_lock(&t->mutex);
	while (t->result.task != TASK_END) {
		if (!t->posted) {
			idle_ms = be_idle(t, idle_ms);
			continue;
		}
		t->posted = false;
		pthread_mutex_unlock(&t->mutex);
		do_task(t);
		idle_ms = IDLE_MS;
		pthread_mutex_lock(&t->mutex);
		t->done = true;
		pthread_mutex_unlock(&t->mutex);
		pthread_cond_broadcast(&t->change);
		(void)!write(t->source.fd, &one, sizeof(one));
		watch_for_task(t);
		pthread_mutex_lock(&t->mutex);
	}
	pthread_mutex_unlock(&t->mutex);
	return NULL;
}

/* ---- the loop's side ---- */

static void begin(struct storage_thread *t, enum storage_task task,
		  const struct storage_order *order, bool open)
{
	pthread_mutex_lock(&t->mutex);
	t->result.task = task;
	if (order)
		t->order = *order;
	t->open = open;
	t->done = false;
	t->posted = true;
	pthread_mutex_unlock(&t->mutex);
	pthread_cond_broadcast(&t->change);
}

void storage_thread_begin(struct storage_thread *t, enum storage_task task,
			  const struct storage_order *order)
{
	begin(t, task, order, false);
}

void storage_thread_open(struct storage_thread *t)
{
	t->n_announced = LIST_FIRST(&t->batches, struct batch, link)->n;
	begin(t, TASK_WRITE, NULL, true);
}

void storage_thread_announce(struct storage_thread *t)
{
	size_t n = LIST_FIRST(&t->batches, struct batch, link)->n;

	if (n - t->n_announced < ANNOUNCE_ENTRIES)
		return;
	t->n_announced = n;
	pthread_cond_broadcast(&t->change);
}

void storage_thread_close(struct storage_thread *t, const struct storage_order *order)
{
	pthread_mutex_lock(&t->mutex);
	t->order = *order;
	t->open = false;
	pthread_mutex_unlock(&t->mutex);
	pthread_cond_broadcast(&t->change);
}

bool storage_thread_has_committed(struct storage_thread *t)
{
	if (!atomic_load_explicit(&t->committed, memory_order_acquire))
		return false;
	t->committed = false;
	return true;
}

bool storage_thread_fetch(struct storage_thread *t, struct storage_result *ret_result)
{
	bool done;

	pthread_mutex_lock(&t->mutex);
	done = t->done; /* else the result is the thread's */
	if (done) {
		*ret_result = t->result;
		t->result.task = TASK_NONE;
		t->done = t->committed = false;
	}
	pthread_mutex_unlock(&t->mutex);
	return done;
}

bool storage_thread_wait(struct storage_thread *t, uint64_t until_ns)
{
	struct timespec until = { (time_t)(until_ns / NS_PER_S),
				  (long)(until_ns % NS_PER_S) };
	int r = 0;

	pthread_mutex_lock(&t->mutex);
	while (!t->done && r == 0)
		r = pthread_cond_timedwait(&t->change, &t->mutex, &until);
	pthread_mutex_unlock(&t->mutex);
	return r == 0;
}

/* ---- life ---- */

static void on_done(struct source *source, uint32_t events)
{
	struct storage_thread *t = CONTAINER_OF(source, struct storage_thread, source);

	(void)events;
	t->ended(t);
}

static int init_sync(struct storage_thread *t)
{
	pthread_condattr_t attr;
	int r = pthread_condattr_init(&attr);

	if (r)
		return err_origin(-r);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&t->mutex, NULL); /* these cannot fail on Linux */
	pthread_cond_init(&t->change, &attr);
	pthread_condattr_destroy(&attr);
	return 0;
}

static void deinit_sync(struct storage_thread *t)
{
	pthread_mutex_destroy(&t->mutex);
	pthread_cond_destroy(&t->change);
}

int storage_thread_init(struct storage_thread *t, struct storage *storage,
			struct loop *loop, void (*ended)(struct storage_thread *thread))
{
	_cleanup_fd_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r;

	if (fd < 0)
		return err_origin(-errno);
	*t = (struct storage_thread){ .storage = storage, .ended = ended };
	list_init(&t->batches);
	r = init_sync(t);
	if (r < 0)
		return err_trace(r);
	r = source_add(&t->source, loop, NULL, fd, EPOLLIN | EPOLLET, on_done);
	if (r < 0) {
		deinit_sync(t);
		return err_trace(r);
	}
	TAKE_FD(fd);
	return 0;
}

static bool has_two_processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 1;
}

int storage_thread_start(struct storage_thread *t)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int r = pthread_attr_init(&attr);

	if (r)
		return err_origin(-r);
	t->watches = has_two_processors();
	sigfillset(&all);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&t->thread, &attr, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	t->runs = r == 0;
	return r ? err_origin(-r) : 0;
}

void storage_thread_deinit(struct storage_thread *t)
{
	if (t->runs) {
		storage_thread_begin(t, TASK_END, NULL);
		pthread_join(t->thread, NULL);
	}
	source_remove(&t->source);
	fd_close(t->source.fd);
	deinit_sync(t);
}
