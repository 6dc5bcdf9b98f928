/* SPDX-License-Identifier: MIT */

/* Descriptors that are closed by workers, and the end of the workers themselves. */

#include "unit/worker_world.h"

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

struct orphan {
	struct job job;
	int gate;
};

static void orphan_run(struct job *job)
{
	struct orphan *o = CONTAINER_OF(job, struct orphan, job);
	char c;

	assert_int_equal(read(o->gate, &c, 1), 0);
	close(o->gate);
}

static int submit_orphan(void)
{
	struct orphan *o = calloc(1, sizeof(*o));
	int ends[2];

	assert_non_null(o);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	o->gate = ends[0];
	o->job = (struct job){ .uid = 1, .run = orphan_run };
	workers_submit(workers, &o->job);
	return ends[1];
}

/* What returns later, and is nobody's any more, is no leak that a tool could report. */
static void test_orphans(void **state)
{
	int go = submit_orphan();

	(void)state;
	free_workers(20);
	assert_int_equal(count_threads(), 1);
	close(go);
	while (count_threads())
		usleep(1000);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_closing),
		TEST(test_closing_slowly),
		TEST(test_closing_by_uid),
		TEST(test_free_waits),
		TEST(test_free_leaves_what_hangs),
		TEST(test_orphans),
		TEST(test_submitted_at_the_end),
		TEST(test_free_does_not_wait_for_the_stalled),
		TEST(test_free_closes_nothing_that_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
