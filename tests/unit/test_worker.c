/* SPDX-License-Identifier: MIT */

/* Whose job runs when, what becomes of one that hangs, and who is told. */

#include "unit/worker_world.h"

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
