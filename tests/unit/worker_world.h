/* SPDX-License-Identifier: MIT */
#ifndef UNIT_WORKER_WORLD_H
#define UNIT_WORKER_WORLD_H

/*
 * Jobs on real threads. A job that hangs reads from a pipe until the test lets it go, and so
 * does a close(2) that hangs. Time is the real one plus what a test adds to it, so nothing
 * waits for a stall. Link with WORKER_WRAPS of tests/module.mk.
 */

#include "worker.h"

#include <pthread.h>

#include "base/clock.h"
#include "unit/turns.h"

enum { STALL_MS = 5000 };

static struct workers *workers;
static int fds_before;
static unsigned int n_threads; /* atomic */
static uint64_t skipped_ns;    /* atomic */
static unsigned int n_begun;   /* atomic */
static unsigned int n_late;    /* jobs of a done() */
static bool no_threads;

/* ---- replaced functions ---- */

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
	int r = __real_clock_gettime(clock, time);
	uint64_t ns = (uint64_t)time->tv_sec * NS_PER_S + (uint64_t)time->tv_nsec +
		      __atomic_load_n(&skipped_ns, __ATOMIC_RELAXED);

	*time = (struct timespec){ (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) };
	return r;
}

static UNUSED void skip_ms(uint64_t ms)
{
	__atomic_add_fetch(&skipped_ns, ms * NS_PER_MS, __ATOMIC_RELAXED);
}

static void *(*thread_start)(void *);

static UNUSED unsigned int count_threads(void)
{
	return __atomic_load_n(&n_threads, __ATOMIC_ACQUIRE);
}

static UNUSED void *counted_start(void *ctx)
{
	void *result = __atomic_load_n(&thread_start, __ATOMIC_RELAXED)(ctx);

	__atomic_sub_fetch(&n_threads, 1, __ATOMIC_RELEASE);
	return result;
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*start)(void *), void *ctx);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*start)(void *), void *ctx);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*start)(void *), void *ctx)
{
	int r;

	if (no_threads)
		return EAGAIN;
	__atomic_store_n(&thread_start, start, __ATOMIC_RELAXED); /* always the same */
	__atomic_add_fetch(&n_threads, 1, __ATOMIC_RELAXED);
	r = __real_pthread_create(thread, attr, counted_start, ctx);
	if (r)
		__atomic_sub_fetch(&n_threads, 1, __ATOMIC_RELAXED);
	return r;
}

/* A descriptor of which close(2) hangs: the reading end of a pipe. */
static bool hangs[256]; /* atomic */
static int gates[256];	/* the other ends */

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
	char c;

	if (fd >= 0 && fd < (int)ARRAY_SIZE(hangs) &&
	    __atomic_load_n(&hangs[fd], __ATOMIC_RELAXED)) {
		assert_int_equal(read(fd, &c, 1), 1);
		__atomic_store_n(&hangs[fd], false, __ATOMIC_RELAXED);
	}
	return __real_close(fd);
}

/* ---- probes ---- */

struct probe {
	struct job job;
	int gate[2];
	bool is_gated, ends, submits_late;
	unsigned int begun;	 /* atomic: the how-manieth */
	unsigned int n_progress; /* atomic */
	unsigned int n_done, n_stalled, parts;
	pthread_t ran_on, done_on, stalled_on;
};

static UNUSED void probe_run(struct job *job)
{
	struct probe *p = CONTAINER_OF(job, struct probe, job);
	char c = 'q';

	p->ran_on = pthread_self();
	__atomic_store_n(&p->begun, __atomic_add_fetch(&n_begun, 1, __ATOMIC_RELAXED),
			 __ATOMIC_RELEASE);
	while (p->is_gated && read(p->gate[0], &c, 1) == 1 && c == 'p') {
		worker_note_progress(job);
		__atomic_add_fetch(&p->n_progress, 1, __ATOMIC_RELEASE);
	}
}

static UNUSED void late_run(struct job *job)
{
	(void)job;
	n_late++;
}

static UNUSED void late_done(struct job *job)
{
	n_late++;
	free(job);
}

static UNUSED void submit_late(void)
{
	for (int foreign = 0; foreign < 2; foreign++) {
		struct job *job = calloc(1, sizeof(*job));

		assert_non_null(job);
		*job = (struct job){ .foreign = foreign,
				     .run = late_run,
				     .done = late_done };
		workers_submit(workers, job);
	}
}

static UNUSED void probe_done(struct job *job)
{
	struct probe *p = CONTAINER_OF(job, struct probe, job);

	p->done_on = pthread_self();
	p->n_done++;
	if (p->submits_late)
		submit_late();
	if (p->parts && --p->parts)
		workers_submit(workers, job);
}

static UNUSED void probe_stalled(struct job *job)
{
	struct probe *p = CONTAINER_OF(job, struct probe, job);

	p->stalled_on = pthread_self();
	p->n_stalled++;
}

static struct probe probes[160];
static unsigned int n_probes;

static UNUSED struct probe *probe_new(uid_t uid, bool foreign, bool is_gated)
{
	struct probe *p = &probes[n_probes++];

	assert_true(n_probes <= ARRAY_SIZE(probes));
	*p = (struct probe){
		.job = { .uid = uid,
			 .foreign = foreign,
			 .stall_ms = foreign ? STALL_MS : 0,
			 .run = probe_run,
			 .stalled = probe_stalled,
			 .done = probe_done },
		.gate = { -1, -1 },
		.is_gated = is_gated,
	};
	if (is_gated)
		assert_int_equal(pipe2(p->gate, O_CLOEXEC), 0);
	return p;
}

static UNUSED struct probe *submit(struct probe *p)
{
	workers_submit(workers, &p->job);
	return p;
}

static UNUSED struct probe *quick(uid_t uid)
{
	return submit(probe_new(uid, false, false));
}

static UNUSED struct probe *quick_foreign(uid_t uid)
{
	return submit(probe_new(uid, true, false));
}

static UNUSED struct probe *hung(uid_t uid)
{
	return submit(probe_new(uid, false, true));
}

static UNUSED struct probe *hung_foreign(uid_t uid)
{
	return submit(probe_new(uid, true, true));
}

static UNUSED void let_go(struct probe *p)
{
	assert_int_equal(write(p->gate[1], "q", 1), 1);
	p->ends = true;
}

static UNUSED unsigned int begun(const struct probe *p)
{
	return __atomic_load_n(&p->begun, __ATOMIC_ACQUIRE);
}

static UNUSED unsigned int all_begun(void)
{
	return __atomic_load_n(&n_begun, __ATOMIC_RELAXED);
}

/* ---- time ---- */

/* Time for what must not happen. */
static UNUSED void settle(void)
{
	for (int i = 0; i < 20; i++)
		turn();
}

static UNUSED uint32_t n_timers(void)
{
	return loop.timers[TIMER_MONOTONIC].n;
}

static UNUSED int setup(void **state)
{
	(void)state;
	fds_before = count_fds();
	skipped_ns = 0;
	n_begun = n_late = n_probes = 0;
	no_threads = false;
	turns_begin();
	return workers_new(&workers, &loop) < 0;
}

/* Whatever still hangs is let go; all must have been done. */
static UNUSED int teardown(void **state)
{
	bool was_freed = !workers;

	(void)state;
	for (unsigned int i = 0; i < n_probes; i++)
		if (probes[i].is_gated && !probes[i].ends)
			let_go(&probes[i]);
	for (size_t i = 0; i < ARRAY_SIZE(hangs); i++)
		if (__atomic_load_n(&hangs[i], __ATOMIC_RELAXED))
			(void)!write(gates[i], "q", 1); /* the test has failed */
	for (unsigned int i = 0; !was_freed && i < n_probes; i++)
		wait_for(probes[i].n_done);
	workers = workers_free(workers, 30000);
	while (count_threads()) /* also those left behind */
		usleep(1000);
	loop_deinit(&loop);
	for (unsigned int i = 0; i < n_probes; i++) {
		if (!probes[i].is_gated)
			continue;
		close(probes[i].gate[0]);
		close(probes[i].gate[1]);
	}
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
