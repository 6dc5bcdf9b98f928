/* SPDX-License-Identifier: MIT */

/*
 * Who runs is decided in one place, schedule(), by whoever holds the mutex: the loop when a
 * job comes or has stalled, a thread when it is through with one. A job is granted only
 * together with an idle thread, so "granted" never waits behind a job that hangs.
 *
 * Timers are the loop's. What a thread grants is watched nevertheless: it has finished a job
 * before that, so the loop comes to advance().
 */

#include "worker.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "wire/digest.h"

enum {
	IDLE_MS = 2000,
	RETRY_MS = 100, /* to make a thread */
	STACK_BYTES = 256 * 1024,
};

struct workers {
	pthread_mutex_t mutex;
	pthread_cond_t work;   /* a job was granted, or we stop */
	pthread_cond_t change; /* a thread ended */
	struct list turns;     /* by link: of each uid and kind the first queued job */
	struct list granted;   /* by behind: those running that no thread has begun yet */
	struct list running, stalled, finished;	      /* by link */
	unsigned int n_granted, n_running, n_stalled; /* n_running: without n_stalled */
	unsigned int n_threads, n_idle; /* n_idle: some of them have a job granted */
	bool stopping;			/* threads end when nothing is granted */
	bool closed;			/* nothing is begun any more */
	bool abandoned;			/* the last thread frees this */
	struct loop *loop;
	struct source source; /* an eventfd: jobs have finished */
	struct timer watch;   /* set while a job that can stall runs */
	uint32_t close_stall_ms;
	struct workers *next_left; /* see left_behind */
};

/* For workers_close_fds(), which is called without context. */
static struct workers *closer;
static bool leave_open; /* threads were left behind: the next close may hang, too */
/* Those with jobs that returned when nobody was there any more to call done(). They stay in
 * sight until the process ends. */
static struct workers *left_behind;

/* ---- progress ---- */

static uint32_t now_ms(void)
{
	return (uint32_t)(clock_ns(CLOCK_MONOTONIC) / NS_PER_MS);
}

void worker_note_progress(struct job *job)
{
	__atomic_store_n(&job->progress_ms, now_ms(), __ATOMIC_RELAXED);
}

/* As if it was noted in the future: see time_left_ms(). */
void worker_may_take_time(struct job *job)
{
	__atomic_store_n(&job->progress_ms, now_ms() + INT32_MAX / 2, __ATOMIC_RELAXED);
}

/* ---- jobs that close ---- */

struct close_job {
	struct job job;
	struct fdset *fds;
};

static void close_run(struct job *job)
{
	struct close_job *c = CONTAINER_OF(job, struct close_job, job);

	for (unsigned int i = 0; i < c->fds->n; i++) {
		fd_close(fdset_steal(c->fds, i));
		worker_note_progress(job);
	}
}

static void close_forget(struct job *job)
{
	struct close_job *c = CONTAINER_OF(job, struct close_job, job);

	free(c->fds); /* all are closed */
	free(c);
}

/* ---- the queue ---- */

static bool is_same_turn(const struct job *a, const struct job *b)
{
	return a->uid == b->uid && a->foreign == b->foreign;
}

static struct job *find_turn(const struct workers *w, uid_t uid, bool foreign)
{
	const struct job wanted = { .uid = uid, .foreign = foreign };

	LIST_FOREACH(link, &w->turns) {
		struct job *first = LIST_ENTRY(link, struct job, link);

		if (is_same_turn(first, &wanted))
			return first;
	}
	return NULL;
}

static void enqueue(struct workers *w, struct job *job)
{
	struct job *first = find_turn(w, job->uid, job->foreign);

	list_init(&job->link);
	list_init(&job->behind);
	job->n_behind = 0;
	job->has_stalled = false;
	if (first) {
		list_add_tail(&first->behind, &job->behind);
		first->n_behind++;
	} else {
		list_add_tail(&w->turns, &job->link);
	}
}

/* The first of a turn; the others of it have their next one behind all other turns. */
static void dequeue(struct workers *w, struct job *job)
{
	struct job *next = LIST_FIRST(&job->behind, struct job, behind);

	list_remove(&job->link);
	if (!next)
		return;
	next->n_behind = job->n_behind - 1;
	list_remove(&job->behind); /* what is left is the ring of the next one */
	list_add_tail(&w->turns, &next->link);
}

static unsigned int count_uid(const struct list *jobs, uid_t uid)
{
	unsigned int n = 0;

	LIST_FOREACH(link, jobs)
		n += LIST_ENTRY(link, struct job, link)->uid == uid;
	return n;
}

static unsigned int count_foreign(const struct list *jobs)
{
	unsigned int n = 0;

	LIST_FOREACH(link, jobs)
		n += LIST_ENTRY(link, struct job, link)->foreign;
	return n;
}

static bool may_run(const struct workers *w, const struct job *job)
{
	unsigned int n_of_uid = count_uid(&w->running, job->uid);
	unsigned int n_foreign;

	if (w->closed || w->n_running >= RUNNING_MAX)
		return false;
	/* its own hung files do not keep a user from the rest of the service */
	if (job->foreign)
		n_of_uid += count_uid(&w->stalled, job->uid);
	if (job->uid != WORKER_UID_OWN && n_of_uid >= JOBS_PER_UID)
		return false;
	if (!job->foreign)
		return true;
	n_foreign = count_foreign(&w->running);
	return n_foreign < FOREIGN_MAX && n_foreign + w->n_stalled < STALLED_MAX;
}

static struct job *find_next(const struct workers *w, bool foreign_too)
{
	LIST_FOREACH(link, &w->turns) {
		struct job *job = LIST_ENTRY(link, struct job, link);

		if ((foreign_too || !job->foreign) && may_run(w, job))
			return job;
	}
	return NULL;
}

/* ---- jobs on threads ---- */

static void begin(struct workers *w, struct job *job)
{
	dequeue(w, job);
	worker_note_progress(job);
	list_add_tail(&w->running, &job->link);
	w->n_running++;
}

static void end(struct workers *w, struct job *job)
{
	uint64_t one = 1;

	if (job->has_stalled)
		w->n_stalled--;
	else
		w->n_running--;
	list_remove(&job->link);
	list_add_tail(&w->finished, &job->link);
	if (!w->abandoned)
		(void)!write(w->source.fd, &one, sizeof(one)); /* full: it is readable */
}

static void run_job(struct workers *w, struct job *job)
{
	pthread_mutex_unlock(&w->mutex);
	job->run(job);
	pthread_mutex_lock(&w->mutex);
	end(w, job);
}

static void *thread_main(void *ctx);

/* With all signals blocked: they are the loop's. */
static int start_thread(struct workers *w)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&thread, &attr, thread_main, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (r == 0) {
		w->n_threads++;
		w->n_idle++;
	}
	return -r;
}

static void schedule(struct workers *w)
{
	struct job *job;

	while ((job = find_next(w, true))) {
		if (w->n_idle == w->n_granted && start_thread(w) < 0)
			return;
		begin(w, job);
		list_add_tail(&w->granted, &job->behind);
		w->n_granted++;
		pthread_cond_signal(&w->work);
	}
}

static bool wait_for_work(struct workers *w)
{
	uint64_t at = deadline_after(clock_ns(CLOCK_MONOTONIC), IDLE_MS);
	struct timespec until = { (time_t)(at / NS_PER_S), (long)(at % NS_PER_S) };

	return pthread_cond_timedwait(&w->work, &w->mutex, &until) == 0;
}

/* NULL: the thread is not needed. */
static struct job *await_job(struct workers *w)
{
	bool in_time = true;
	struct job *job;

	while (!(job = LIST_FIRST(&w->granted, struct job, behind)) && in_time &&
	       !w->stopping)
		in_time = wait_for_work(w);
	return job;
}

/* Nobody is there to call done() for what returns after workers_free(). */
static void forget_closed(struct workers *w)
{
	LIST_FOREACH_SAFE(link, &w->finished) {
		struct job *job = LIST_ENTRY(link, struct job, link);

		if (job->run != close_run)
			continue;
		list_remove(&job->link);
		close_forget(job);
	}
}

static void destroy(struct workers *w)
{
	pthread_mutex_destroy(&w->mutex);
	pthread_cond_destroy(&w->work);
	pthread_cond_destroy(&w->change);
	forget_closed(w);
	if (list_is_empty(&w->finished)) {
		free(w);
	} else {
		w->next_left = left_behind;
		left_behind = w;
	}
}

static void *thread_main(void *ctx)
{
	struct workers *w = ctx;
	struct job *job;
	bool is_last;

	pthread_mutex_lock(&w->mutex);
	while ((job = await_job(w))) {
		list_remove(&job->behind);
		w->n_granted--;
		w->n_idle--;
		run_job(w, job);
		w->n_idle++;
		schedule(w);
	}
	digest_end_thread();
	w->n_idle--;
	w->n_threads--;
	is_last = w->abandoned && !w->n_threads;
	pthread_cond_signal(&w->change);
	pthread_mutex_unlock(&w->mutex);
	if (is_last)
		destroy(w);
	return NULL;
}

/* ---- on the loop ---- */

/* How long until it counts as stalled; 0: it does. */
static uint32_t time_left_ms(const struct job *job, uint32_t now)
{
	uint32_t since = __atomic_load_n(&job->progress_ms, __ATOMIC_RELAXED);
	int32_t age = (int32_t)(now - since); /* below 0: noted after now was read */

	if (age <= 0)
		return job->stall_ms;
	return (uint32_t)age < job->stall_ms ? job->stall_ms - (uint32_t)age : 0;
}

static bool can_stall(const struct job *job)
{
	return job->foreign && job->stall_ms;
}

/* For the timer. UINT32_MAX: it is not needed. */
static uint32_t next_look_ms(const struct workers *w)
{
	uint32_t now = now_ms(), least = UINT32_MAX;

	LIST_FOREACH(link, &w->running) {
		const struct job *job = LIST_ENTRY(link, struct job, link);
		uint32_t left = can_stall(job) ? time_left_ms(job, now) : UINT32_MAX;

		least = left < least ? left : least;
	}
	if (least > RETRY_MS && find_next(w, true)) /* it has no thread */
		least = RETRY_MS;
	return least;
}

static void set_watch(struct workers *w, uint32_t in_ms)
{
	uint64_t at = deadline_after(clock_ns(CLOCK_MONOTONIC), in_ms);

	if (in_ms == UINT32_MAX)
		timer_cancel(w->loop, &w->watch);
	else if (!timer_is_set(&w->watch) || at < w->watch.node.key)
		(void)!timer_set(w->loop, &w->watch, at); /* or with the next job */
}

/* What may begin begins. */
static void advance(struct workers *w)
{
	struct job *job;
	uint32_t in_ms;

	pthread_mutex_lock(&w->mutex);
	schedule(w);
	/* no thread can be had: then here, unless it could hang */
	while (w->n_threads == w->n_stalled && (job = find_next(w, false))) {
		begin(w, job);
		run_job(w, job);
	}
	in_ms = next_look_ms(w);
	pthread_mutex_unlock(&w->mutex);
	set_watch(w, in_ms);
}

static struct job *give_up_one(struct workers *w)
{
	struct job *stalled = NULL;
	uint32_t now = now_ms();

	pthread_mutex_lock(&w->mutex);
	LIST_FOREACH(link, &w->running) {
		struct job *job = LIST_ENTRY(link, struct job, link);

		if (can_stall(job) && !time_left_ms(job, now)) {
			stalled = job;
			break;
		}
	}
	if (stalled) {
		stalled->has_stalled = true;
		list_remove(&stalled->link);
		list_add_tail(&w->stalled, &stalled->link);
		w->n_running--;
		w->n_stalled++;
	}
	pthread_mutex_unlock(&w->mutex);
	return stalled;
}

static void on_watch(struct timer *timer)
{
	struct workers *w = CONTAINER_OF(timer, struct workers, watch);
	struct job *job;

	/* it may have returned by now, but it is there: done() is called by the loop only */
	while ((job = give_up_one(w)))
		if (job->stalled)
			job->stalled(job);
	advance(w);
}

static void finish_jobs(struct workers *w)
{
	struct list finished = LIST_INIT(finished);
	struct job *job;

	pthread_mutex_lock(&w->mutex);
	list_splice_tail(&finished, &w->finished);
	pthread_mutex_unlock(&w->mutex);
	while ((job = LIST_FIRST(&finished, struct job, link))) {
		list_remove(&job->link);
		job->done(job);
	}
}

static void on_finished(struct source *source, uint32_t events)
{
	struct workers *w = CONTAINER_OF(source, struct workers, source);
	uint64_t n;

	(void)events;
	(void)!read(source->fd, &n, sizeof(n));
	finish_jobs(w);
	advance(w);
}

/* At the end, by a done(). Our own work is done still. */
static void submit_late(struct workers *w, struct job *job)
{
	if (!job->foreign)
		job->run(job);
	pthread_mutex_lock(&w->mutex);
	list_init(&job->link);
	list_add_tail(&w->finished, &job->link);
	pthread_mutex_unlock(&w->mutex);
}

void workers_submit(struct workers *w, struct job *job)
{
	bool late;

	pthread_mutex_lock(&w->mutex);
	late = w->closed;
	if (!late)
		enqueue(w, job);
	pthread_mutex_unlock(&w->mutex);
	if (late)
		submit_late(w, job);
	else
		advance(w);
}

bool workers_is_stuck(const struct workers *w, uid_t uid)
{
	pthread_mutex_t *mutex = (pthread_mutex_t *)(uintptr_t)&w->mutex;
	bool is_stuck;

	pthread_mutex_lock(mutex);
	is_stuck = count_uid(&w->stalled, uid) > 0;
	pthread_mutex_unlock(mutex);
	return is_stuck;
}

bool workers_is_clogged(const struct workers *w, uid_t uid)
{
	pthread_mutex_t *mutex = (pthread_mutex_t *)(uintptr_t)&w->mutex;
	const struct job *first;
	bool is_clogged;

	pthread_mutex_lock(mutex);
	first = find_turn(w, uid, true);
	is_clogged = first && first->n_behind + 1 >= CLOGGED_JOBS;
	pthread_mutex_unlock(mutex);
	return is_clogged;
}

/* ---- start and end ---- */

static int init_sync(struct workers *w)
{
	pthread_condattr_t attr;
	int r;

	r = pthread_condattr_init(&attr);
	if (r)
		return err_origin(-r);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&w->mutex, NULL); /* these three cannot fail on Linux */
	pthread_cond_init(&w->work, &attr);
	pthread_cond_init(&w->change, &attr);
	pthread_condattr_destroy(&attr);
	return 0;
}

int workers_new(struct workers **ret_workers, struct loop *loop)
{
	_cleanup_free_ struct workers *w = calloc(1, sizeof(*w));
	_cleanup_fd_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r;

	if (!w)
		return err_origin(-ENOMEM);
	if (fd < 0)
		return err_origin(-errno);
	list_init(&w->turns);
	list_init(&w->granted);
	list_init(&w->running);
	list_init(&w->stalled);
	list_init(&w->finished);
	timer_init(&w->watch, TIMER_MONOTONIC, on_watch);
	w->loop = loop;
	w->close_stall_ms = CLOSE_STALL_MS;
	r = init_sync(w);
	if (r < 0)
		return err_trace(r);
	r = source_add(&w->source, loop, NULL, fd, EPOLLIN, on_finished);
	if (r < 0)
		return err_trace(r);
	TAKE_FD(fd);
	closer = w;
	leave_open = false;
	*ret_workers = TAKE_PTR(w);
	return 0;
}

/* What no thread has begun. */
static void take_back(struct workers *w)
{
	struct job *job;

	while ((job = LIST_FIRST(&w->turns, struct job, link))) {
		dequeue(w, job);
		list_add_tail(&w->finished, &job->link);
	}
	while ((job = LIST_FIRST(&w->granted, struct job, behind))) {
		list_remove(&job->behind);
		w->n_granted--;
		end(w, job);
	}
}

/* True when no thread is left. */
static bool join_threads(struct workers *w, unsigned int wait_ms)
{
	uint64_t at = deadline_after(clock_ns(CLOCK_MONOTONIC), wait_ms);
	struct timespec until = { (time_t)(at / NS_PER_S), (long)(at % NS_PER_S) };
	bool gone;
	int r = 0;

	pthread_mutex_lock(&w->mutex);
	w->stopping = true;
	pthread_cond_broadcast(&w->work);
	while (w->n_threads > w->n_stalled && r == 0)
		r = pthread_cond_timedwait(&w->change, &w->mutex, &until);
	w->closed = true;
	take_back(w);
	gone = w->n_threads == 0;
	pthread_mutex_unlock(&w->mutex);
	return gone;
}

/* Leaves it to its threads, unless they have brought something meanwhile. */
static bool abandon(struct workers *w, bool *ret_is_gone)
{
	bool is_over;

	pthread_mutex_lock(&w->mutex);
	is_over = w->abandoned = list_is_empty(&w->finished);
	*ret_is_gone = w->n_threads == 0;
	pthread_mutex_unlock(&w->mutex);
	return is_over;
}

struct workers *workers_free(struct workers *w, unsigned int wait_ms)
{
	bool is_gone;
	int fd;

	if (!w)
		return NULL;
	leave_open = !join_threads(w, wait_ms);
	closer = NULL;
	fd = w->source.fd;
	timer_cancel(w->loop, &w->watch);
	source_remove(&w->source);
	do
		finish_jobs(w);
	while (!abandon(w, &is_gone));
	fd_close(fd);
	if (is_gone)
		destroy(w);
	return NULL;
}

/* ---- closing ---- */

void workers_set_close_stall(struct workers *w, uint32_t stall_ms)
{
	w->close_stall_ms = stall_ms;
}

static void close_here(struct fdset *fds)
{
	if (leave_open)
		free(fds);
	else
		fdset_free(fds);
}

static void close_done(struct job *job)
{
	struct close_job *c = CONTAINER_OF(job, struct close_job, job);

	close_here(c->fds); /* all are still there if it never ran */
	free(c);
}

void workers_close_fds(uid_t uid, struct fdset *fds)
{
	struct close_job *c = closer && fds ? malloc(sizeof(*c)) : NULL;

	if (!c) {
		close_here(fds);
		return;
	}
	*c = (struct close_job){ .job = { .uid = uid,
					  .foreign = true,
					  .stall_ms = closer->close_stall_ms,
					  .run = close_run,
					  .done = close_done },
				 .fds = fds };
	workers_submit(closer, &c->job);
}

void workers_close_fd(uid_t uid, int fd)
{
	struct fdset *set = fd < 0 ? NULL : fdset_new(&fd, 1);

	if (set)
		workers_close_fds(uid, set);
	else if (!leave_open)
		fd_close(fd);
}
