/* SPDX-License-Identifier: MIT */

#include "worker.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

enum {
	THREADS_MAX = 4,
	JOBS_PER_UID = 2,
	IDLE_MS = 2000,
	STACK_BYTES = 256 * 1024,
};

struct workers {
	pthread_mutex_t mutex;
	pthread_cond_t work;   /* a job was queued, or we stop */
	pthread_cond_t change; /* a thread ended */
	struct list queued, finished;
	uid_t running[THREADS_MAX]; /* on whose behalf */
	unsigned int n_threads, n_idle, n_running;
	bool stopping, abandoned;
	struct loop *loop;
	struct source source; /* an eventfd: jobs have finished */
};

/* For workers_close_fds(), which streams call without context. */
static struct workers *closer;

static unsigned int n_running_for(const struct workers *w, uid_t uid)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < w->n_running; i++)
		n += w->running[i] == uid;
	return n;
}

static struct job *next_job(struct workers *w)
{
	LIST_FOREACH(link, &w->queued) {
		struct job *job = LIST_ENTRY(link, struct job, link);

		if (n_running_for(w, job->uid) < JOBS_PER_UID)
			return job;
	}
	return NULL;
}

static void forget_running(struct workers *w, uid_t uid)
{
	for (unsigned int i = 0; i < w->n_running; i++) {
		if (w->running[i] == uid) {
			w->running[i] = w->running[--w->n_running];
			return;
		}
	}
}

static void run_job(struct workers *w, struct job *job)
{
	uint64_t one = 1;

	list_remove(&job->link);
	w->running[w->n_running++] = job->uid;
	pthread_mutex_unlock(&w->mutex);
	job->run(job);
	pthread_mutex_lock(&w->mutex);
	forget_running(w, job->uid);
	list_add_tail(&w->finished, &job->link);
	pthread_cond_signal(&w->work); /* another of this uid may go now */
	if (!w->abandoned)
		(void)!write(w->source.fd, &one, sizeof(one)); /* full: it is readable */
}

static bool wait_for_work(struct workers *w)
{
	struct timespec until;
	uint64_t at = clock_ns(CLOCK_MONOTONIC) + IDLE_MS * (uint64_t)NS_PER_MS;
	int r;

	until = (struct timespec){ (time_t)(at / NS_PER_S), (long)(at % NS_PER_S) };
	w->n_idle++;
	r = pthread_cond_timedwait(&w->work, &w->mutex, &until);
	w->n_idle--;
	return r == 0;
}

static void *thread_main(void *ctx)
{
	struct workers *w = ctx;
	struct job *job;

	pthread_mutex_lock(&w->mutex);
	for (;;) {
		job = w->abandoned ? NULL : next_job(w);
		if (job)
			run_job(w, job);
		else if (w->stopping || !wait_for_work(w))
			break;
	}
	w->n_threads--;
	pthread_cond_signal(&w->change);
	pthread_mutex_unlock(&w->mutex);
	return NULL;
}

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
	if (r == 0)
		w->n_threads++;
	return -r;
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
	uint64_t n;

	(void)events;
	(void)!read(source->fd, &n, sizeof(n));
	finish_jobs(CONTAINER_OF(source, struct workers, source));
}

void workers_submit(struct workers *w, struct job *job)
{
	int r = 0;

	pthread_mutex_lock(&w->mutex);
	list_add_tail(&w->queued, &job->link);
	if (w->n_idle)
		pthread_cond_signal(&w->work);
	else if (w->n_threads < THREADS_MAX)
		r = start_thread(w);
	/* not one thread can be had: then here, blocking or not */
	if (r < 0 && !w->n_threads)
		run_job(w, job);
	pthread_mutex_unlock(&w->mutex);
}

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
	list_init(&w->queued);
	list_init(&w->finished);
	w->loop = loop;
	r = init_sync(w);
	if (r < 0)
		return err_trace(r);
	r = source_add(&w->source, loop, NULL, fd, EPOLLIN, on_finished);
	if (r < 0)
		return err_trace(r);
	TAKE_FD(fd);
	closer = w;
	*ret_workers = TAKE_PTR(w);
	return 0;
}

/* True when all threads are gone. */
static bool join_threads(struct workers *w, unsigned int wait_ms)
{
	uint64_t at = deadline_after(clock_ns(CLOCK_MONOTONIC), wait_ms);
	struct timespec until = { (time_t)(at / NS_PER_S), (long)(at % NS_PER_S) };
	int r = 0;
	bool gone;

	pthread_mutex_lock(&w->mutex);
	w->stopping = true;
	pthread_cond_broadcast(&w->work);
	while (w->n_threads && r == 0)
		r = pthread_cond_timedwait(&w->change, &w->mutex, &until);
	gone = w->n_threads == 0;
	w->abandoned = !gone;
	list_splice_tail(&w->finished, &w->queued);
	pthread_mutex_unlock(&w->mutex);
	return gone;
}

struct workers *workers_free(struct workers *w, unsigned int wait_ms)
{
	bool gone;

	if (!w)
		return NULL;
	closer = NULL;
	gone = join_threads(w, wait_ms);
	finish_jobs(w);
	source_remove(&w->source);
	fd_close(w->source.fd);
	if (gone) {
		pthread_mutex_destroy(&w->mutex);
		pthread_cond_destroy(&w->work);
		pthread_cond_destroy(&w->change);
		free(w);
	}
	return NULL;
}

struct close_job {
	struct job job;
	struct fdset *fds;
};

static void close_run(struct job *job)
{
	struct close_job *c = CONTAINER_OF(job, struct close_job, job);

	c->fds = fdset_free(c->fds);
}

static void close_done(struct job *job)
{
	struct close_job *c = CONTAINER_OF(job, struct close_job, job);

	fdset_free(c->fds); /* still there if it never ran */
	free(c);
}

void workers_close_fds(struct fdset *fds)
{
	struct close_job *c = closer && fds ? malloc(sizeof(*c)) : NULL;

	if (!c) {
		fdset_free(fds);
		return;
	}
	/* The closing thread serves all uids: jobs are short unless a file system hangs. */
	*c = (struct close_job){
		.job = { .uid = (uid_t)-1, .run = close_run, .done = close_done },
		.fds = fds
	};
	workers_submit(closer, &c->job);
}
