/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_LOOP_H
#define DAEMON_LOOP_H

/*
 * The main loop: descriptors, timers, deferred work. It knows nothing of peers.
 *
 * A pass: epoll_wait, due timers (not more than some), then turns of the ready sources, then
 * deferred work (what is flushed or freed once per pass; what waits for a quiet moment, in
 * one without turns).
 *
 * Sources are grouped: turns go round the groups, and within a group round its sources, so
 * that a group with a hundred busy sources gets no more turns than a group with one. After
 * TURNS_PER_PASS turns, or some that took long, the kernel is asked again, so that nobody
 * newly ready waits behind a long line.
 *
 * Sources are edge-triggered or level-triggered as registered. An edge-triggered source
 * that has more to do calls source_again(). Removing a source is safe at any time; its
 * memory, and its group's, may be freed as the last thing in its own turn, from deferred work,
 * or later.
 */

#include <sys/epoll.h>

#include "base/heap.h"
#include "base/list.h"

struct loop;

/* So many small things (messages, leases, timers) are done one after the other where there may be
 * any number of them; then others have a turn. */
enum { LOOP_AT_ONCE = 500 };

struct source_group {
	struct list ready; /* sources */
	struct list link;  /* in the loop's ready groups */
};

struct source {
	struct loop *loop; /* NULL: not registered */
	struct source_group *group;
	struct list link; /* in group->ready */
	uint32_t pending; /* events since the last turn */
	int fd;		  /* or -1 */
	void (*turn)(struct source *source, uint32_t events);
};

enum timer_clock {
	TIMER_MONOTONIC, /* stands still while the machine sleeps */
	TIMER_BOOTTIME,	 /* goes on */
	TIMER_N_CLOCKS,
};

struct timer {
	struct heap_node node; /* key: deadline in ns */
	enum timer_clock clock;
	void (*due)(struct timer *timer);
};

struct deferred {
	struct list link;
	void (*run)(struct deferred *deferred);
};

struct loop {
	int epoll_fd;
	struct list groups; /* ready */
	struct source_group own_group;
	struct heap timers[TIMER_N_CLOCKS];
	uint64_t ran_ns[TIMER_N_CLOCKS]; /* what is set is due later, see timer_set() */
	struct source boottime_source;	 /* a timerfd */
	uint64_t boottime_armed_ns;
	struct list deferred;
	struct list idle; /* deferred work that waits until nothing is ready */
	unsigned int passes_until_idle;
	uint64_t now_ns; /* CLOCK_MONOTONIC at the start of the pass */
	bool stopped;
};

int loop_init(struct loop *loop) MUST_CHECK;
void loop_deinit(struct loop *loop);

/* One pass; waits for the first event or timer. 0 or -errno of epoll_wait. */
int loop_pass(struct loop *loop) MUST_CHECK;

/* Passes until loop_stop(). */
int loop_run(struct loop *loop) MUST_CHECK;
void loop_stop(struct loop *loop);

void source_group_init(struct source_group *group);

/* group NULL: the loop's own. events as for epoll_ctl(2). The fd stays the caller's. */
int source_add(struct source *source, struct loop *loop, struct source_group *group,
	       int fd, uint32_t events,
	       void (*turn)(struct source *, uint32_t)) MUST_CHECK;

/* Without a descriptor: it has turns by source_again() only. */
void source_init(struct source *source, struct loop *loop, struct source_group *group,
		 void (*turn)(struct source *, uint32_t));
void source_remove(struct source *source);

/* Other events from now on. What is there already comes anew, edge-triggered or not. */
int source_want(struct source *source, uint32_t events) MUST_CHECK;

/* One more turn, with no events, even if the kernel has nothing new. */
void source_again(struct source *source);

void timer_init(struct timer *timer, enum timer_clock clock, void (*due)(struct timer *));

/* Sets or moves. What is due already is due in the next pass: so a timer that has more to do
 * than others can wait for sets itself anew. 0 or -ENOMEM. */
int timer_set(struct loop *loop, struct timer *timer, uint64_t deadline_ns) MUST_CHECK;
void timer_cancel(struct loop *loop, struct timer *timer);
static inline bool timer_is_set(const struct timer *timer)
{
	return heap_has(&timer->node);
}

void deferred_init(struct deferred *deferred, void (*run)(struct deferred *));

/* Runs once at the end of this pass, or of the next if none is under way; again until then
 * changes nothing. */
void loop_defer(struct loop *loop, struct deferred *deferred);
void deferred_cancel(struct deferred *deferred);

/* Runs once, as soon as the kernel has nothing that is ready: what more can be gathered is
 * gathered first. But not later than after some passes. */
void loop_defer_until_idle(struct loop *loop, struct deferred *deferred);

#endif
