/* SPDX-License-Identifier: MIT */

#include "loop.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

enum {
	EVENTS_PER_WAIT = 128,
	TURNS_PER_PASS = 32,
	TURNS_MS = 1,	      /* those that begin within this, where they take long */
	BUSY_PASSES_MAX = 16, /* before idle work is done all the same */
};

static void on_boottime(struct source *source, uint32_t events);

/* When it is needed there may be no descriptor left. */
static int add_boottime(struct loop *loop)
{
	_cleanup_fd_ int fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	int r;

	if (fd < 0)
		return err_origin(-errno);
	r = source_add(&loop->boottime_source, loop, NULL, fd, EPOLLIN, on_boottime);
	if (r < 0) {
		loop->boottime_source.fd = -1;
		return err_trace(r);
	}
	TAKE_FD(fd);
	return 0;
}

int loop_init(struct loop *loop)
{
	int r;

	*loop = (struct loop){ .now_ns = clock_ns(CLOCK_MONOTONIC),
			       .boottime_source.fd = -1 };
	list_init(&loop->groups);
	list_init(&loop->deferred);
	list_init(&loop->idle);
	source_group_init(&loop->own_group);
	for (int i = 0; i < TIMER_N_CLOCKS; i++)
		heap_init(&loop->timers[i]);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return err_origin(-errno);
	r = add_boottime(loop);
	if (r < 0)
		loop->epoll_fd = fd_close(loop->epoll_fd);
	return err_trace(r);
}

void loop_deinit(struct loop *loop)
{
	source_remove(&loop->boottime_source);
	fd_close(loop->boottime_source.fd);
	for (int i = 0; i < TIMER_N_CLOCKS; i++)
		heap_deinit(&loop->timers[i]);
	loop->epoll_fd = fd_close(loop->epoll_fd);
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}

/* ---- sources ---- */

void source_group_init(struct source_group *group)
{
	list_init(&group->ready);
	list_init(&group->link);
}

void source_init(struct source *source, struct loop *loop, struct source_group *group,
		 void (*turn)(struct source *, uint32_t))
{
	*source = (struct source){ .loop = loop,
				   .group = group ? group : &loop->own_group,
				   .fd = -1,
				   .turn = turn };
	list_init(&source->link);
}

int source_add(struct source *source, struct loop *loop, struct source_group *group,
	       int fd, uint32_t events, void (*turn)(struct source *, uint32_t))
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return err_origin(-errno);
	source_init(source, loop, group, turn);
	source->fd = fd;
	return 0;
}

int source_want(struct source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	if (epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0)
		return err_origin(-errno);
	return 0;
}

static void source_unready(struct source *source)
{
	list_remove(&source->link);
	if (list_is_empty(&source->group->ready))
		list_remove(&source->group->link);
}

void source_remove(struct source *source)
{
	if (!source->loop)
		return;
	if (source->fd >= 0)
		epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	source_unready(source);
	source->loop = NULL;
}

void source_again(struct source *source)
{
	if (!source->loop || list_is_linked(&source->link))
		return;
	list_add_tail(&source->group->ready, &source->link);
	if (!list_is_linked(&source->group->link))
		list_add_tail(&source->loop->groups, &source->group->link);
}

/* One source of the first group; the group goes to the end of the line. */
static void take_turn(struct loop *loop)
{
	struct source_group *group = LIST_FIRST(&loop->groups, struct source_group, link);
	struct source *source = LIST_FIRST(&group->ready, struct source, link);
	uint32_t events = source->pending;

	list_remove(&source->link);
	list_remove(&group->link);
	if (!list_is_empty(&group->ready))
		list_add_tail(&loop->groups, &group->link);
	source->pending = 0;
	source->turn(source, events);
}

/* ---- timers ---- */

void timer_init(struct timer *timer, enum timer_clock clock, void (*due)(struct timer *))
{
	*timer = (struct timer){ .clock = clock, .due = due };
}

/* Only a timerfd wakes in time after the machine has slept: CLOCK_MONOTONIC, by which
 * epoll_wait(2) waits, stands still then. */
static int arm_boottime(struct loop *loop)
{
	struct heap_node *first = heap_first(&loop->timers[TIMER_BOOTTIME]);
	uint64_t at = first ? first->key : 0;
	struct itimerspec when = { .it_value = { (time_t)(at / NS_PER_S),
						 (long)(at % NS_PER_S) } };

	if (at == loop->boottime_armed_ns)
		return 0;
	/* one that is armed for earlier stays: when it is due it is looked what is next */
	if (loop->boottime_armed_ns && (!at || at > loop->boottime_armed_ns))
		return 0;
	if (timerfd_settime(loop->boottime_source.fd, TFD_TIMER_ABSTIME, &when, NULL) < 0)
		return err_origin(-errno);
	loop->boottime_armed_ns = at;
	return 0;
}

int timer_set(struct loop *loop, struct timer *timer, uint64_t deadline_ns)
{
	int r;

	if (heap_has(&timer->node))
		heap_remove(&loop->timers[timer->clock], &timer->node);
	r = heap_add(&loop->timers[timer->clock], &timer->node,
		     max_u64(deadline_ns, loop->ran_ns[timer->clock] + 1));
	if (r < 0)
		return err_trace(r);
	return timer->clock == TIMER_BOOTTIME ? err_trace(arm_boottime(loop)) : 0;
}

void timer_cancel(struct loop *loop, struct timer *timer)
{
	if (heap_has(&timer->node))
		heap_remove(&loop->timers[timer->clock], &timer->node);
}

/* Somebody may have let very many be due at once: the rest is for the next passes. */
static void run_timers(struct loop *loop, enum timer_clock clock, uint64_t now_ns)
{
	struct heap_node *node;
	int left = LOOP_AT_ONCE;

	loop->ran_ns[clock] = now_ns;
	while (left-- && (node = heap_first(&loop->timers[clock])) &&
	       node->key <= now_ns) {
		struct timer *timer = CONTAINER_OF(node, struct timer, node);

		heap_remove(&loop->timers[clock], node);
		timer->due(timer);
	}
}

static void on_boottime(struct source *source, uint32_t events)
{
	struct loop *loop = source->loop;
	uint64_t n;

	(void)events;
	if (read(source->fd, &n, sizeof(n)) == sizeof(n))
		loop->boottime_armed_ns = 0;
	run_timers(loop, TIMER_BOOTTIME, clock_ns(CLOCK_BOOTTIME));
	(void)!arm_boottime(loop); /* only a bad clock could fail */
}

static int wait_ms(const struct loop *loop)
{
	const struct heap_node *first = heap_first(&loop->timers[TIMER_MONOTONIC]);
	uint64_t now, ms;

	if (!list_is_empty(&loop->groups) || !list_is_empty(&loop->idle) ||
	    !list_is_empty(&loop->deferred))
		return 0;
	if (!first)
		return -1;
	now = clock_ns(CLOCK_MONOTONIC);
	if (first->key <= now)
		return 0;
	ms = (first->key - now + NS_PER_MS - 1) / NS_PER_MS;
	return ms > 3600000 ? 3600000 : (int)ms;
}

/* ---- deferred work ---- */

void deferred_init(struct deferred *deferred, void (*run)(struct deferred *))
{
	list_init(&deferred->link);
	deferred->run = run;
}

void loop_defer(struct loop *loop, struct deferred *deferred)
{
	if (!list_is_linked(&deferred->link))
		list_add_tail(&loop->deferred, &deferred->link);
}

void deferred_cancel(struct deferred *deferred)
{
	list_remove(&deferred->link);
}

void loop_defer_until_idle(struct loop *loop, struct deferred *deferred)
{
	if (list_is_linked(&deferred->link))
		return;
	if (list_is_empty(&loop->idle))
		loop->passes_until_idle = BUSY_PASSES_MAX;
	list_add_tail(&loop->idle, &deferred->link);
}

/* Into the line of the others, if nothing is ready. */
static void wake_idle(struct loop *loop)
{
	if (list_is_empty(&loop->idle))
		return;
	if (list_is_empty(&loop->groups) || !--loop->passes_until_idle)
		list_splice_tail(&loop->deferred, &loop->idle);
}

static void run_deferred(struct loop *loop)
{
	struct deferred *deferred;

	while ((deferred = LIST_FIRST(&loop->deferred, struct deferred, link))) {
		list_remove(&deferred->link);
		deferred->run(deferred);
	}
}

/* ---- the loop ---- */

static void take_turns(struct loop *loop)
{
	uint64_t until = clock_ns(CLOCK_MONOTONIC) + TURNS_MS * (uint64_t)NS_PER_MS;

	for (int i = 0; i < TURNS_PER_PASS && !list_is_empty(&loop->groups); i++) {
		if (i && clock_ns(CLOCK_MONOTONIC) >= until)
			return;
		take_turn(loop);
	}
}

int loop_pass(struct loop *loop)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	int n = epoll_wait(loop->epoll_fd, events, EVENTS_PER_WAIT, wait_ms(loop));

	if (n < 0 && errno != EINTR)
		return err_origin(-errno);
	loop->now_ns = clock_ns(CLOCK_MONOTONIC);
	for (int i = 0; i < n; i++) {
		struct source *source = events[i].data.ptr;

		source->pending |= events[i].events;
		source_again(source);
	}
	run_timers(loop, TIMER_MONOTONIC, loop->now_ns);
	wake_idle(loop);
	take_turns(loop);
	run_deferred(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	while (!loop->stopped) {
		int r = loop_pass(loop);

		if (r < 0)
			return err_trace(r);
	}
	return 0;
}
