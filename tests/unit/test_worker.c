/* SPDX-License-Identifier: MIT */

/*
 * Jobs on real threads. A job that hangs reads from a pipe until the test lets it go, and so
 * does a close(2) that hangs. Time is the real one plus what a test adds to it, so nothing
 * waits for a stall.
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

static void skip_ms(uint64_t ms)
{
	__atomic_add_fetch(&skipped_ns, ms * NS_PER_MS, __ATOMIC_RELAXED);
}

static void *(*thread_start)(void *);

static unsigned int count_threads(void)
{
	return __atomic_load_n(&n_threads, __ATOMIC_ACQUIRE);
}

static void *counted_start(void *ctx)
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

static void probe_run(struct job *job)
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

static void late_run(struct job *job)
{
	(void)job;
	n_late++;
}

static void late_done(struct job *job)
{
	n_late++;
	free(job);
}

static void submit_late(void)
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

static void probe_done(struct job *job)
{
	struct probe *p = CONTAINER_OF(job, struct probe, job);

	p->done_on = pthread_self();
	p->n_done++;
	if (p->submits_late)
		submit_late();
	if (p->parts && --p->parts)
		workers_submit(workers, job);
}

static void probe_stalled(struct job *job)
{
	struct probe *p = CONTAINER_OF(job, struct probe, job);

	p->stalled_on = pthread_self();
	p->n_stalled++;
}

static struct probe probes[160];
static unsigned int n_probes;

static struct probe *probe_new(uid_t uid, bool foreign, bool is_gated)
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

static struct probe *submit(struct probe *p)
{
	workers_submit(workers, &p->job);
	return p;
}

static struct probe *quick(uid_t uid)
{
	return submit(probe_new(uid, false, false));
}

static struct probe *quick_foreign(uid_t uid)
{
	return submit(probe_new(uid, true, false));
}

static struct probe *hung(uid_t uid)
{
	return submit(probe_new(uid, false, true));
}

static struct probe *hung_foreign(uid_t uid)
{
	return submit(probe_new(uid, true, true));
}

static void let_go(struct probe *p)
{
	assert_int_equal(write(p->gate[1], "q", 1), 1);
	p->ends = true;
}

static unsigned int begun(const struct probe *p)
{
	return __atomic_load_n(&p->begun, __ATOMIC_ACQUIRE);
}

static unsigned int all_begun(void)
{
	return __atomic_load_n(&n_begun, __ATOMIC_RELAXED);
}

/* ---- time ---- */

/* Time for what must not happen. */
static void settle(void)
{
	for (int i = 0; i < 20; i++)
		turn();
}

static uint32_t n_timers(void)
{
	return loop.timers[TIMER_MONOTONIC].n;
}

static int setup(void **state)
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
static int teardown(void **state)
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

/* ---- turns and limits ---- */

static void test_threads(void **state)
{
	struct probe *p = quick(1);

	(void)state;
	wait_for(p->n_done);
	assert_false(pthread_equal(p->ran_on, pthread_self()));
	assert_true(pthread_equal(p->done_on, pthread_self()));
	assert_int_equal(p->n_stalled, 0);
	settle();
	assert_int_equal(p->n_done, 1);
}

/* A thread that is idle is not counted on twice. */
static void test_each_has_its_thread(void **state)
{
	(void)state;
	for (uid_t i = 0; i < 20; i++) {
		struct probe *first = quick(1), *second, *third;

		wait_for(first->n_done);
		first = hung(2);
		second = quick(3);
		third = quick(4);
		wait_for(second->n_done && third->n_done);
		let_go(first);
		wait_for(first->n_done);
	}
}

static void test_limit_of_a_uid(void **state)
{
	struct probe *a = hung(1), *b = hung_foreign(1), *c = hung(1),
		     *d = quick_foreign(1), *other = quick(2);

	(void)state;
	wait_for(begun(a) && begun(b) && other->n_done);
	settle();
	assert_false(begun(c));
	assert_false(begun(d));
	let_go(b);
	wait_for(b->n_done && begun(c) + begun(d));
	let_go(a);
	wait_for(begun(c) && d->n_done);
}

static void test_own_uid_has_no_limit(void **state)
{
	struct probe *p[RUNNING_MAX + 1];

	(void)state;
	for (int i = 0; i < RUNNING_MAX + 1; i++)
		p[i] = hung(WORKER_UID_OWN);
	for (int i = 0; i < RUNNING_MAX; i++)
		wait_for(begun(p[i]));
	settle();
	assert_false(begun(p[RUNNING_MAX]));
	let_go(p[3]);
	wait_for(begun(p[RUNNING_MAX]));
}

/* All but one of the threads are taken; so jobs begin one by one. */
static void take_all_but_one(void)
{
	struct probe *p[RUNNING_MAX - 1];

	for (uid_t i = 0; i < RUNNING_MAX - 1; i++)
		p[i] = hung(100 + i);
	for (int i = 0; i < RUNNING_MAX - 1; i++)
		wait_for(begun(p[i]));
}

static void test_uids_take_turns(void **state)
{
	struct probe *blocker, *many[6], *second, *third;

	(void)state;
	take_all_but_one();
	blocker = hung(99);
	for (int i = 0; i < 6; i++)
		many[i] = quick(1);
	second = quick(2);
	third = quick(3);
	wait_for(begun(blocker));
	let_go(blocker);
	for (int i = 0; i < 6; i++)
		wait_for(many[i]->n_done);
	assert_int_equal(begun(many[0]), RUNNING_MAX + 1);
	assert_int_equal(begun(second), RUNNING_MAX + 2);
	assert_int_equal(begun(third), RUNNING_MAX + 3);
	for (unsigned int i = 1; i < 6; i++)
		assert_int_equal(begun(many[i]), RUNNING_MAX + 3 + i);
}

/* A chain of jobs goes behind others with each part. */
static void test_chain(void **state)
{
	struct probe *blocker, *chain, *same, *other;

	(void)state;
	take_all_but_one();
	blocker = hung(99);
	chain = probe_new(1, false, false);
	chain->parts = 3;
	submit(chain);
	same = quick(1);
	other = quick(2);
	wait_for(begun(blocker));
	let_go(blocker);
	wait_for(chain->n_done == 3 && same->n_done && other->n_done);
	assert_int_equal(begun(other), RUNNING_MAX + 2);
	assert_int_equal(n_begun, RUNNING_MAX + 5);
	assert_int_equal(begun(chain), RUNNING_MAX + 5);
}

static void test_foreign_leave_some_threads(void **state)
{
	struct probe *foreign[FOREIGN_MAX], *next, *same, *last;
	struct probe *own[RUNNING_MAX - FOREIGN_MAX];

	(void)state;
	for (uid_t i = 0; i < FOREIGN_MAX; i++) {
		foreign[i] = hung_foreign(1 + i / 2);
		foreign[i]->job.stall_ms = 0;
	}
	next = quick_foreign(50);
	for (int i = 0; i < FOREIGN_MAX; i++)
		wait_for(begun(foreign[i]));
	same = quick(50);
	wait_for(same->n_done); /* though another of its uid waits */
	for (int i = 0; i < RUNNING_MAX - FOREIGN_MAX; i++)
		own[i] = hung(WORKER_UID_OWN);
	for (int i = 0; i < RUNNING_MAX - FOREIGN_MAX; i++)
		wait_for(begun(own[i]));
	last = quick(WORKER_UID_OWN);
	settle();
	assert_false(begun(next));
	assert_false(begun(last));
	let_go(own[0]);
	wait_for(last->n_done);
	assert_false(begun(next));
	let_go(foreign[0]);
	wait_for(next->n_done);
}

/* ---- what hangs ---- */

static void test_stalled(void **state)
{
	struct probe *p = hung_foreign(1);

	(void)state;
	wait_for(begun(p));
	assert_false(workers_is_stuck(workers, 1));
	skip_ms(STALL_MS - 1000);
	settle();
	assert_int_equal(p->n_stalled, 0);
	skip_ms(1000);
	wait_for(p->n_stalled);
	assert_true(pthread_equal(p->stalled_on, pthread_self()));
	assert_true(workers_is_stuck(workers, 1));
	assert_false(workers_is_stuck(workers, 2));
	skip_ms(10 * (uint64_t)STALL_MS);
	settle();
	assert_int_equal(p->n_stalled, 1);
	assert_int_equal(p->n_done, 0);
	let_go(p);
	wait_for(p->n_done);
	assert_false(workers_is_stuck(workers, 1));
	settle();
	assert_int_equal(p->n_done, 1);
	assert_int_equal(p->n_stalled, 1);
	submit(p); /* anew, and again until it hangs */
	p->ends = false;
	skip_ms(STALL_MS);
	wait_for(p->n_stalled == 2);
}

static void test_progress(void **state)
{
	struct probe *p = hung_foreign(1);

	(void)state;
	wait_for(begun(p));
	for (unsigned int i = 1; i < 10; i++) {
		skip_ms(STALL_MS - 1000);
		assert_int_equal(write(p->gate[1], "p", 1), 1);
		wait_for(__atomic_load_n(&p->n_progress, __ATOMIC_ACQUIRE) == i);
		settle();
		assert_int_equal(p->n_stalled, 0);
	}
	skip_ms(STALL_MS);
	wait_for(p->n_stalled);
}

static void test_not_to_be_told(void **state)
{
	struct probe *mute = probe_new(1, true, true),
		     *patient = probe_new(2, true, true),
		     *own = probe_new(3, false, true);

	(void)state;
	mute->job.stalled = NULL;
	patient->job.stall_ms = 0;
	own->job.stall_ms = STALL_MS; /* not foreign: it is not watched */
	submit(mute);
	submit(patient);
	submit(own);
	wait_for(begun(mute) && begun(patient) && begun(own));
	skip_ms(STALL_MS);
	wait_for(workers_is_stuck(workers, 1));
	settle();
	assert_false(workers_is_stuck(workers, 2));
	assert_int_equal(patient->n_stalled + own->n_stalled, 0);
}

/* Others take the places of those who hang; a uid has hung twice and no more. */
static void test_others_go_on(void **state)
{
	struct probe *p[FOREIGN_MAX], *next, *third, *own[2], *waits;

	(void)state;
	for (uid_t i = 0; i < FOREIGN_MAX; i++)
		p[i] = hung_foreign(1 + i / 2);
	third = quick_foreign(1);
	next = quick_foreign(50);
	for (int i = 0; i < FOREIGN_MAX; i++)
		wait_for(begun(p[i]));
	settle();
	assert_false(begun(next));
	skip_ms(STALL_MS);
	wait_for(next->n_done);
	for (int i = 0; i < FOREIGN_MAX; i++)
		assert_int_equal(p[i]->n_stalled, 1);
	/* what is no descriptor of it goes on for this uid, too, as ever two at a time */
	own[0] = hung(1);
	own[1] = hung(1);
	waits = quick(1);
	wait_for(begun(own[0]) && begun(own[1]));
	settle();
	assert_false(begun(third));
	assert_false(begun(waits));
	let_go(own[0]);
	wait_for(waits->n_done);
	let_go(own[1]);
	let_go(p[0]);
	wait_for(third->n_done);
	assert_true(workers_is_stuck(workers, 1)); /* the other one still */
	let_go(p[1]);
	wait_for(p[1]->n_done);
	assert_false(workers_is_stuck(workers, 1));
}

static void test_limit_of_the_stalled(void **state)
{
	struct probe *p[STALLED_MAX], *next;
	struct probe *own;

	(void)state;
	for (uid_t i = 0; i < STALLED_MAX; i++)
		p[i] = hung_foreign(1 + i / 2);
	for (unsigned int n = 0; n < STALLED_MAX;) {
		n = n + FOREIGN_MAX < STALLED_MAX ? n + FOREIGN_MAX : STALLED_MAX;
		wait_for(all_begun() == n);
		skip_ms(STALL_MS);
	}
	for (int i = 0; i < STALLED_MAX; i++)
		wait_for(p[i]->n_stalled);
	next = quick_foreign(1000);
	own = quick(1);
	wait_for(own->n_done);
	settle();
	assert_false(begun(next));
	let_go(p[7]);
	wait_for(next->n_done);
}

/* ---- timers and threads ---- */

static void test_no_timer_while_idle(void **state)
{
	struct probe *p = hung_foreign(1), *q;

	(void)state;
	assert_int_equal(n_timers(), 1);
	q = hung(2);
	let_go(p);
	wait_for(p->n_done && begun(q));
	assert_int_equal(n_timers(), 0);
	p = probe_new(1, true, true);
	p->job.stall_ms = 0;
	submit(p);
	assert_int_equal(n_timers(), 0);
	q = hung_foreign(3);
	assert_int_equal(n_timers(), 1);
	wait_for(begun(q));
	skip_ms(STALL_MS);
	wait_for(q->n_stalled);
	assert_int_equal(n_timers(), 0);
}

/* A thread begins the next job by itself; the loop hears of it. */
static void test_watched_from_a_thread(void **state)
{
	struct probe *a = hung(1), *b = hung(1), *c = hung_foreign(1);

	(void)state;
	wait_for(begun(a) && begun(b));
	assert_int_equal(n_timers(), 0);
	let_go(a);
	wait_for(begun(c) && a->n_done);
	wait_for(n_timers() == 1);
	skip_ms(STALL_MS);
	wait_for(c->n_stalled);
}

static void test_without_threads(void **state)
{
	struct probe *own, *foreign, *stuck;

	(void)state;
	no_threads = true;
	foreign = quick_foreign(1);
	own = quick(1);
	wait_for(own->n_done);
	assert_true(pthread_equal(own->ran_on, pthread_self()));
	settle();
	assert_false(begun(foreign));
	no_threads = false;
	wait_for(foreign->n_done); /* it is tried again */
	assert_false(pthread_equal(foreign->ran_on, pthread_self()));
	assert_int_equal(n_timers(), 0);

	stuck = hung_foreign(1);
	wait_for(begun(stuck));
	no_threads = true;
	own = quick(2);
	foreign = quick_foreign(2);
	skip_ms(STALL_MS);
	wait_for(own->n_done && foreign->n_done + (unsigned int)(n_timers() > 0));
	no_threads = false;
	wait_for(foreign->n_done);
}

/* ---- closing ---- */

static int hanging_fd(int *ret_let_go)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_true(fds[0] < (int)ARRAY_SIZE(hangs));
	__atomic_store_n(&hangs[fds[0]], true, __ATOMIC_RELAXED);
	gates[fds[0]] = *ret_let_go = fds[1];
	return fds[0];
}

static int plain_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void test_closing(void **state)
{
	int hanging, plain = plain_fd(), go, fds[] = { plain_fd(), -1, plain_fd() };
	struct fdset *set;

	(void)state;
	hanging = hanging_fd(&go);
	fds[1] = hanging;
	set = fdset_new(fds, 3);
	assert_non_null(set);
	workers_close_fds(1, set);
	wait_for(!is_open(fds[0]));
	workers_close_fd(1, plain);
	wait_for(!is_open(plain)); /* by the other thread of this uid */
	settle();
	assert_true(is_open(fds[2]));
	assert_false(workers_is_stuck(workers, 1));
	skip_ms(CLOSE_STALL_MS);
	wait_for(workers_is_stuck(workers, 1));
	assert_int_equal(write(go, "q", 1), 1);
	wait_for(!is_open(hanging) && !is_open(fds[2]));
	wait_for(!workers_is_stuck(workers, 1));
	close(go);
	workers_close_fds(1, NULL);
	workers_close_fd(1, -1);
}

static void let_close(int go)
{
	assert_int_equal(write(go, "q", 1), 1);
	close(go);
}

/* Slow, but it gets on. */
static void test_closing_slowly(void **state)
{
	int go[2], fds[2];

	(void)state;
	for (int i = 0; i < 2; i++)
		fds[i] = hanging_fd(&go[i]);
	workers_close_fds(1, fdset_new(fds, 2));
	settle();
	for (int i = 0; i < 2; i++) {
		skip_ms(CLOSE_STALL_MS - 1000);
		settle();
		assert_false(workers_is_stuck(workers, 1));
		let_close(go[i]);
		wait_for(!is_open(fds[i]));
		settle();
	}
}

/* Descriptors of one uid do not close: those of others do, and it can be seen. */
static void test_closing_by_uid(void **state)
{
	int go[3], other = plain_fd(), third, waiting[CLOGGED_JOBS];

	(void)state;
	for (int i = 0; i < 2; i++)
		workers_close_fd(1, hanging_fd(&go[i]));
	third = hanging_fd(&go[2]);
	workers_close_fd(1, third);
	for (int i = 0; i < CLOGGED_JOBS; i++) {
		assert_int_equal(workers_is_clogged(workers, 1), i == CLOGGED_JOBS - 1);
		waiting[i] = plain_fd();
		workers_close_fd(1, waiting[i]);
	}
	assert_false(workers_is_clogged(workers, 2));
	workers_close_fd(2, other);
	wait_for(!is_open(other));
	settle();
	assert_true(is_open(waiting[0]));
	let_close(go[0]); /* then the third hangs, and all of these wait still */
	settle();
	assert_true(is_open(third));
	assert_true(is_open(waiting[0]));
	assert_true(workers_is_clogged(workers, 1));
	let_close(go[2]);
	for (int i = 0; i < CLOGGED_JOBS; i++)
		wait_for(!is_open(waiting[i]));
	assert_false(workers_is_clogged(workers, 1));
	let_close(go[1]);
}

/* ---- the end ---- */

static void free_workers(unsigned int wait_ms)
{
	workers_free(workers, wait_ms);
	workers = NULL;
}

static void test_free_waits(void **state)
{
	struct probe *p[20];

	(void)state;
	for (uid_t i = 0; i < 20; i++)
		p[i] = i % 2 ? quick(i / 4) : quick_foreign(i / 4);
	free_workers(30000);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(p[i]->n_done, 1);
		assert_true(begun(p[i]));
	}
}

static void test_free_leaves_what_hangs(void **state)
{
	struct probe *a = hung_foreign(1), *b = hung(1), *waits = quick_foreign(1),
		     *other = quick(2);

	(void)state;
	waits->submits_late = true;
	wait_for(begun(a) && begun(b));
	free_workers(20);
	assert_int_equal(a->n_done + b->n_done, 0);
	assert_int_equal(waits->n_done, 1);
	assert_false(begun(waits));
	assert_int_equal(other->n_done, 1);
	assert_true(begun(other));
	assert_int_equal(n_timers(), 0);
	assert_int_equal(count_threads(), 2);
	let_go(a);
	let_go(b);
}

/* What the last done() submits is run if it is our own work, and done in any case. */
static void test_submitted_at_the_end(void **state)
{
	struct probe *p = quick_foreign(1);

	(void)state;
	p->submits_late = true;
	while (!begun(p))
		usleep(1000);
	free_workers(30000);
	assert_int_equal(p->n_done, 1);
	assert_int_equal(n_late, 3);
}

/* What is known to hang is not waited for: TEST_TIMEOUT is less. */
static void test_free_does_not_wait_for_the_stalled(void **state)
{
	struct probe *p = hung_foreign(1), *waits;

	(void)state;
	wait_for(begun(p));
	skip_ms(STALL_MS);
	wait_for(p->n_stalled);
	waits = quick(2);
	free_workers(3600 * 1000);
	assert_int_equal(p->n_done, 0);
	assert_true(begun(waits));
	assert_int_equal(waits->n_done, 1);
}

/* No descriptor of which close could hang is closed by the loop. */
static void test_free_closes_nothing_that_hangs(void **state)
{
	int go[3], fd[3], later = plain_fd();

	(void)state;
	for (int i = 0; i < 3; i++) {
		fd[i] = hanging_fd(&go[i]);
		workers_close_fd(1, fd[i]);
	}
	settle();
	free_workers(20);
	workers_close_fd(1, later);
	for (int i = 0; i < 3; i++)
		assert_true(is_open(fd[i]));
	assert_true(is_open(later));
	for (int i = 0; i < 3; i++)
		assert_int_equal(write(go[i], "q", 1), 1);
	while (is_open(fd[0]) || is_open(fd[1]))
		usleep(1000);
	close(fd[2]);
	close(later);
	for (int i = 0; i < 3; i++)
		close(go[i]);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_threads),
		TEST(test_each_has_its_thread),
		TEST(test_limit_of_a_uid),
		TEST(test_own_uid_has_no_limit),
		TEST(test_uids_take_turns),
		TEST(test_chain),
		TEST(test_foreign_leave_some_threads),
		TEST(test_stalled),
		TEST(test_progress),
		TEST(test_not_to_be_told),
		TEST(test_others_go_on),
		TEST(test_limit_of_the_stalled),
		TEST(test_no_timer_while_idle),
		TEST(test_watched_from_a_thread),
		TEST(test_without_threads),
		TEST(test_closing),
		TEST(test_closing_slowly),
		TEST(test_closing_by_uid),
		TEST(test_free_waits),
		TEST(test_free_leaves_what_hangs),
		TEST(test_submitted_at_the_end),
		TEST(test_free_does_not_wait_for_the_stalled),
		TEST(test_free_closes_nothing_that_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
