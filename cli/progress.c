/* SPDX-License-Identifier: MIT */

/*
 * The library tells how far it is by calling progress_update() now and then, but not while
 * nothing moves, and that is when "stalled" must be said. So a thread of its own draws the
 * line: it sleeps while there is no file under way, and otherwise wakes each DRAW_MS. What
 * both know is under the lock. There is no such thread where nothing is to be drawn.
 */

#include "progress.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "out.h"
#include "progress_line.h"
#include "text.h"

enum {
	DRAW_MS = 100,
	SHORT_MS = 500, /* what is over by then is not shown */
	EVENT_MS = 500,
};

struct progress {
	bool events, draws;
	pthread_t thread; /* if draws */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool idle; /* the thread sleeps until there is a file */
	bool ending;

	char *name;  /* of the file under way, as it is; NULL: none */
	char *shown; /* its name as it is drawn */
	uint64_t index, count;
	uint64_t total;
	struct meter meter;
	uint64_t burst_ms;   /* since when files have followed each other */
	uint64_t ended_ms;   /* when the last one has ended */
	uint64_t event_ms;   /* when the last event was printed */
	uint64_t event_done; /* what it told */
	bool hidden;
	size_t drawn; /* columns of the line that stands there; 0: none does */
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- the terminal ---- */

static bool in_foreground(void)
{
	return tcgetpgrp(STDERR_FILENO) == getpgrp();
}

/* Asked for at each drawing, as the window may have been resized. */
static size_t terminal_width(void)
{
	struct winsize size;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0
		       ? size.ws_col
		       : 80;
}

/* Puts a line over the one that stands there, in one write: with blanks, not with escape
 * sequences, so that it works on any terminal. */
static void put_line(struct progress *p, const char *line, size_t width)
{
	char text[PROGRESS_LINE_MAX + 1024 + 2], *end = text;
	size_t columns = text_width(line), blanks = 0;

	if (p->drawn > columns)
		blanks = (p->drawn < width ? p->drawn : width - 1) - columns;
	blanks = blanks < 1024 ? blanks : 1024;
	*end++ = '\r';
	end = stpcpy(end, line);
	end = (char *)memset(end, ' ', blanks) + blanks;
	if (columns == 0)
		*end++ = '\r';
	p->drawn = columns;
	(void)!write(STDERR_FILENO, text, (size_t)(end - text));
}

static void erase(struct progress *p)
{
	if (p->drawn > 0 && in_foreground())
		put_line(p, "", terminal_width());
	p->drawn = 0;
}

static void draw(struct progress *p)
{
	uint64_t now = now_ms();
	size_t width = terminal_width();
	char text[PROGRESS_LINE_MAX];
	struct progress_line line = {
		.name = p->shown,
		.done = p->meter.done,
		.total = p->total,
		.index = p->index,
		.count = p->count,
		.stalled = meter_is_stalled(&p->meter, now),
	};

	if (p->hidden || now - p->burst_ms < SHORT_MS || !in_foreground())
		return;
	meter_update(&p->meter, now, p->meter.done); /* it may be slower now */
	line.rate = p->meter.rate;
	progress_format(&line, width, text);
	put_line(p, text, width);
}

static void wait_for_next(struct progress *p)
{
	struct timespec until;

	p->idle = !p->name && p->drawn == 0;
	if (p->idle) {
		pthread_cond_wait(&p->changed, &p->lock);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += DRAW_MS * 1000000L;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_cond_timedwait(&p->changed, &p->lock, &until);
}

static void *run(void *userdata)
{
	struct progress *p = userdata;

	pthread_mutex_lock(&p->lock);
	while (!p->ending) {
		if (p->name)
			draw(p);
		else if (p->drawn > 0 && now_ms() - p->ended_ms >= SHORT_MS)
			erase(p);
		wait_for_next(p);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* ---- events ---- */

static void print_event(struct progress *p)
{
	out_print("{\"event\":\"progress\",\"filename\":");
	out_json_string(p->name);
	out_print(",\"done\":%llu,\"total\":", (unsigned long long)p->meter.done);
	if (p->total == UINT64_MAX)
		out_print("null}\n");
	else
		out_print("%llu}\n", (unsigned long long)p->total);
	/* That it failed is kept, and told by the flush at the file's end. */
	(void)!out_flush(false);
}

static void tell(struct progress *p, uint64_t now)
{
	if (!p->events || now - p->event_ms < EVENT_MS || p->meter.done == p->event_done)
		return;
	p->event_ms = now;
	p->event_done = p->meter.done;
	print_event(p);
}

/* ---- from outside ---- */

/* Before anything else is printed; the line comes back with the next update. */
static void hide(void *userdata)
{
	struct progress *p = userdata;

	pthread_mutex_lock(&p->lock);
	p->hidden = true;
	erase(p);
	pthread_mutex_unlock(&p->lock);
}

static void init_lock(struct progress *p)
{
	pthread_condattr_t attributes;

	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &attributes);
	pthread_condattr_destroy(&attributes);
}

/* The thread gets no signals: they are for the one that works. */
static bool start_thread(struct progress *p)
{
	sigset_t all, old;
	bool started;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	started = pthread_create(&p->thread, NULL, run, p) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return started;
}

struct progress *progress_new(const struct cli *cli)
{
	struct progress *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	init_lock(p);
	p->events = cli->json && !cli->quiet;
	p->draws = !cli->json && !cli->quiet && isatty(STDERR_FILENO) && start_thread(p);
	if (p->draws)
		out_set_guard(hide, p);
	return p;
}

struct progress *progress_free(struct progress *p)
{
	if (!p)
		return NULL;
	if (p->draws) {
		out_set_guard(NULL, NULL);
		pthread_mutex_lock(&p->lock);
		p->ending = true;
		pthread_cond_signal(&p->changed);
		pthread_mutex_unlock(&p->lock);
		pthread_join(p->thread, NULL);
	}
	erase(p);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p->name);
	free(p->shown);
	free(p);
	return NULL;
}

void progress_begin(struct progress *p, const char *name, uint64_t index, uint64_t count)
{
	uint64_t now = now_ms();

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	free(p->name);
	free(p->shown);
	p->name = strdup(name);
	p->shown = text_escape_name(name);
	if (!p->shown) { /* then this file has no line */
		free(p->name);
		p->name = NULL;
	}
	p->index = index;
	p->count = count;
	p->total = UINT64_MAX;
	meter_start(&p->meter, now);
	if (p->ended_ms == 0 || now - p->ended_ms >= SHORT_MS)
		p->burst_ms = now;
	p->event_ms = now;
	p->event_done = UINT64_MAX;
	p->hidden = false;
	if (p->idle) /* else it wakes soon enough: many small files are one line, too */
		pthread_cond_signal(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

int progress_update(uint64_t done, uint64_t total, void *progress)
{
	struct progress *p = progress;
	uint64_t now = now_ms();

	if (!p)
		return 0;
	pthread_mutex_lock(&p->lock);
	p->total = total;
	meter_update(&p->meter, now, done);
	p->hidden = false;
	if (p->name)
		tell(p, now);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

void progress_end(struct progress *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	free(p->name);
	free(p->shown);
	p->name = p->shown = NULL;
	p->ended_ms = now_ms();
	pthread_mutex_unlock(&p->lock);
}
