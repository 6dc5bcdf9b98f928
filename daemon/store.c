/* SPDX-License-Identifier: MIT */

#include "store.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "log.h"
#include "storage.h"

enum {
	LAZY_MS = 20,	      /* records for which nobody waits gather so long … */
	LAZY_ENTRIES = 10000, /* … or until there are so many */
	AHEAD_FIRST = 4,      /* with so many, if somebody waits, the thread begins … */
	AHEAD_MORE = 16,      /* … and with so many more it is woken, if it sleeps */
	WATCH_NS = 15000,     /* it waits awake for the loop before it sleeps */
	RETRY_MS = 1000,      /* after a failure */
	IDLE_MS = 1000,	      /* behind the last task, before space is given back … */
	IDLE_STEP_MS = 20,    /* … in steps */
	STACK_BYTES = 512 * 1024,
};

enum task {
	TASK_NONE,
	TASK_WRITE,
	TASK_BEGIN_ANEW,
	TASK_FINISH_ANEW,
	TASK_END,
};

struct store {
	/* The thread's while it has a task; but from `committed` on it leaves alone what
	 * note_commits() reads. */
	struct storage storage;
	struct loop *loop;
	const struct store_ops *ops;
	void *owner;
	enum store_state state;
	struct batch *gathering; /* the thread's as well while it is open */
	struct list
		carried; /* batches whose rest is still to be written: the disk is full */
	struct list spare;	/* batches */
	struct list crowd;	/* deferred, of those who wait for room in gathering */
	struct list held;	/* who waits for the new file to be complete */
	uint64_t mark;		/* records so far */
	uint64_t cursor;	/* of the dump into a new file */
	uint64_t last_write_ms; /* before this start */
	bool found_clean, damaged, dumping, dumped, must_renew;
	bool telling;	    /* what came of a task: none is begun by who is told */
	size_t n_announced; /* entries of the open batch, when the thread was last woken */
	struct batch *following;  /* what gathers when the open batch is closed */
	struct blob **held_blobs; /* until the new file is complete */
	size_t n_held_blobs, held_blobs_capacity;
	uint64_t commits, last_commit_us, longest_commit_us;
	char error[200];
	const char *file_system, *warning;
	struct deferred submit;
	struct timer lazy, retry;
	struct source source; /* an eventfd, which is never read: the task is done */

	pthread_t thread;
	bool has_thread;
	pthread_mutex_t mutex;
	pthread_cond_t change;
	enum task task; /* what follows is handed over under the mutex, or by `open` */
	atomic_bool
		committed; /* what is being written is on the disk, see store_catch_up() */
	atomic_bool done;  /* the task has ended, its result is to be fetched */
	bool prompt; /* receipts are sent: it is not a file that is still incomplete */
	atomic_bool open; /* more is still added to what is being written */
	bool watches;	  /* waiting awake takes no processor from the loop */
	struct list writing;
	uint64_t next_number;
	bool clean;   /* this is the last one */
	bool reserve; /* to be made again, if there is space */
	enum storage_outcome outcome;
	int result;
};

const char *store_state_name(enum store_state state)
{
	static const char *const names[] = {
		[STORE_WORKS] = "works", [STORE_FULL] = "full", [STORE_BROKEN] = "broken"
	};

	return names[state];
}

/* ---- the thread ---- */

/* The loop adds the next records, or closes the batch, within microseconds, mostly; waking
 * who sleeps takes longer, on both sides. */
static bool watch_loop(const struct store *store, const struct batch *batch)
{
	uint64_t until = clock_ns(CLOCK_MONOTONIC) + WATCH_NS;

	if (!store->watches)
		return false;
	while (store->open && !storage_is_behind(&store->storage, batch))
		if (clock_ns(CLOCK_MONOTONIC) >= until)
			return false;
	return true;
}

/* What is there, and what comes, until the batch is closed. */
static void write_ahead(struct store *store)
{
	const struct batch *batch = LIST_FIRST(&store->writing, struct batch, link);

	while (store->open) {
		storage_write_ahead(&store->storage, batch);
		if (watch_loop(store, batch))
			continue;
		pthread_mutex_lock(&store->mutex);
		if (store->open)
			pthread_cond_wait(&store->change, &store->mutex);
		pthread_mutex_unlock(&store->mutex);
	}
}

static void send_receipts(struct store *store)
{
	if (!store->prompt || store->outcome != STORAGE_WRITTEN)
		return;
	store->committed = true;
	LIST_FOREACH(link, &store->writing)
		receipts_send(LIST_ENTRY(link, struct batch, link)->receipts);
}

static void do_task(struct store *store, enum task task)
{
	struct storage *s = &store->storage;

	switch (task) {
	case TASK_WRITE:
		write_ahead(store);
		s->head.next_number = store->next_number;
		s->head.clean = store->clean;
		store->outcome = storage_write(s, &store->writing);
		send_receipts(store);
		storage_after_write(s);
		if (store->reserve && store->outcome == STORAGE_WRITTEN)
			storage_reserve(s);
		break;
	case TASK_BEGIN_ANEW:
		store->result = storage_begin_anew(s);
		break;
	case TASK_FINISH_ANEW:
		store->result = storage_finish_anew(s);
		break;
	case TASK_NONE:
	case TASK_END:
		break;
	}
}

/* Waits for a task; if none comes for idle_ms (0: for ever) does what there is to do while
 * nobody needs the thread. Returns the next idle_ms. */
static uint64_t be_idle(struct store *store, uint64_t idle_ms)
{
	struct timespec until;
	uint64_t at = deadline_after(clock_ns(CLOCK_MONOTONIC), idle_ms);
	bool more;

	if (!idle_ms) {
		pthread_cond_wait(&store->change, &store->mutex);
		return 0;
	}
	until = (struct timespec){ (time_t)(at / NS_PER_S), (long)(at % NS_PER_S) };
	if (pthread_cond_timedwait(&store->change, &store->mutex, &until) == 0)
		return idle_ms;
	pthread_mutex_unlock(&store->mutex);
	more = storage_idle(&store->storage);
	pthread_mutex_lock(&store->mutex);
	return more ? IDLE_STEP_MS : 0;
}

static void *thread_main(void *arg)
{
	struct store *store = arg;
	uint64_t one = 1;
	uint64_t idle_ms = 0;

	prctl(PR_SET_NAME, "ipcd-store");
	pthread_mutex_lock(&store->mutex);
	while (store->task != TASK_END) {
		enum task task = store->task;

		if (task == TASK_NONE || store->done) {
			idle_ms = be_idle(store, idle_ms);
			continue;
		}
		pthread_mutex_unlock(&store->mutex);
		do_task(store, task);
		idle_ms = IDLE_MS;
		pthread_mutex_lock(&store->mutex);
		store->done = true;
		pthread_mutex_unlock(&store->mutex);
		pthread_cond_broadcast(&store->change);
		(void)!write(store->source.fd, &one, sizeof(one));
		pthread_mutex_lock(&store->mutex);
	}
	pthread_mutex_unlock(&store->mutex);
	return NULL;
}

/* ---- tasks, on the loop's side ---- */

static bool is_busy(const struct store *store)
{
	return store->task != TASK_NONE;
}

/* The thread is idle. */
static void begin_task(struct store *store, enum task task)
{
	pthread_mutex_lock(&store->mutex);
	store->task = task;
	store->done = false;
	pthread_mutex_unlock(&store->mutex);
	pthread_cond_broadcast(&store->change);
}

/* Nothing is added any more to what is being written. */
static void close_batch(struct store *store)
{
	pthread_mutex_lock(&store->mutex);
	store->open = false;
	pthread_mutex_unlock(&store->mutex);
	pthread_cond_broadcast(&store->change);
}

/* NULL without memory. */
static struct batch *get_batch(struct store *store)
{
	struct batch *batch = LIST_FIRST(&store->spare, struct batch, link);

	if (batch) {
		list_remove(&batch->link);
		return batch;
	}
	batch = malloc(sizeof(*batch));
	if (batch)
		batch_init(batch);
	return batch;
}

/* One is enough; more are only made while the disk is full. */
static void put_batch(struct store *store, struct batch *batch)
{
	if (list_is_empty(&store->spare)) {
		batch_clear(batch);
		list_add_tail(&store->spare, &batch->link);
		return;
	}
	batch_deinit(batch);
	free(batch);
}

static void be_lazy(struct store *store)
{
	uint64_t at;

	if (timer_is_set(&store->lazy))
		return;
	at = deadline_after(clock_ns(CLOCK_MONOTONIC), LAZY_MS);
	if (timer_set(store->loop, &store->lazy, at) < 0)
		loop_defer(store->loop, &store->submit);
}

static void relieve(struct store *store)
{
	list_splice_tail(&store->loop->deferred, &store->crowd);
}

/* More of what is open. */
static void announce(struct store *store)
{
	store->n_announced = store->gathering->n;
	pthread_cond_broadcast(&store->change);
}

/* What has gathered: the thread begins with it while the loop adds more. */
static void write_soon(struct store *store)
{
	if (is_busy(store) || store->telling || store->state != STORE_WORKS ||
	    store->must_renew || store->gathering->n < AHEAD_FIRST ||
	    !list_is_empty(&store->carried) || list_is_empty(&store->gathering->waits))
		return;
	store->following = get_batch(store);
	if (!store->following)
		return;
	store->open = true;
	store->n_announced = store->gathering->n;
	list_add_tail(&store->writing, &store->gathering->link);
	begin_task(store, TASK_WRITE);
}

/* Everything that is waiting to be written, as one transaction. */
static void write_now(struct store *store)
{
	struct batch *next;

	if (!store->open &&
	    (is_busy(store) || (store->state == STORE_BROKEN && !store->dumping)))
		return;
	next = store->open ? TAKE_PTR(store->following) : get_batch(store);
	if (!next) {
		be_lazy(store); /* it gathers on */
		return;
	}
	timer_cancel(store->loop, &store->lazy);
	if (!store->open) {
		list_splice_tail(&store->writing, &store->carried);
		list_add_tail(&store->writing, &store->gathering->link);
	}
	store->gathering = next;
	relieve(store);
	store->next_number = store->ops->next_number(store->owner);
	store->prompt = !store->dumping && !store->must_renew;
	if (store->open)
		close_batch(store);
	else
		begin_task(store, TASK_WRITE);
}

static bool has_work(const struct store *store)
{
	return store->gathering->n || !list_is_empty(&store->gathering->waits) ||
	       store->must_renew;
}

static void on_submit(struct deferred *deferred)
{
	struct store *store = CONTAINER_OF(deferred, struct store, submit);

	if (has_work(store))
		write_now(store);
}

static void on_lazy(struct timer *timer)
{
	write_now(CONTAINER_OF(timer, struct store, lazy));
}

static void retry_later(struct store *store)
{
	uint64_t at = deadline_after(clock_ns(CLOCK_MONOTONIC), RETRY_MS);

	if (timer_set(store->loop, &store->retry, at) < 0)
		log_error("no memory for the timer of the store");
}

static void set_state(struct store *store, enum store_state state)
{
	if (state == store->state)
		return;
	store->state = state;
	if (state == STORE_WORKS) {
		log_notice("the store in %s works again", store->storage.directory);
		store->ops->works(store->owner);
	} else {
		log_error("the store in %s: %s; durable queues take no messages until it "
			  "works again%s",
			  store->storage.directory, store->error,
			  state == STORE_FULL ? ", what is there can be received" : "");
	}
}

/* ---- who is told ---- */

static void tell_all(struct list *waits, int result, int result_of_sends)
{
	struct list told = LIST_INIT(told);
	struct store_wait *wait;

	list_splice_tail(&told, waits);
	while ((wait = LIST_FIRST(&told, struct store_wait, link))) {
		list_remove(&wait->link);
		wait->done(wait, wait->for_send ? result_of_sends : result);
	}
}

/* Those of sends that will not come to the disk; the others go on waiting. */
static void tell_sends(struct list *waits)
{
	LIST_FOREACH_SAFE(link, waits) {
		struct store_wait *wait = LIST_ENTRY(link, struct store_wait, link);

		if (!wait->for_send)
			continue;
		list_remove(&wait->link);
		wait->done(wait, -EIO);
	}
}

/* They go on waiting when what they wait in is gone: for the new file to be complete. */
static void hold_waits(struct store *store, struct list *waits)
{
	LIST_FOREACH_SAFE(link, waits) {
		struct store_wait *wait = LIST_ENTRY(link, struct store_wait, link);

		if (wait->receipt && receipt_is_sent(wait->receipt))
			continue;
		wait->receipt = NULL;
		list_remove(&wait->link);
		list_add_tail(&store->held, &wait->link);
	}
}

static void tell_stored(struct store *store, const struct batch *batch, bool ok)
{
	if (batch->without_sends)
		return;
	for (const struct batch_entry *e = batch->first; e; e = e->next)
		if (e->kind == BATCH_PUT_MESSAGE && !e->again)
			store->ops->stored(store->owner, e->message.number, ok);
}

/* ---- blobs ---- */

/* A row of the old file may name it: it stays until a new file is in its place, should a stop
 * come before. The reference is taken. */
static void hold_blob_take(struct store *store, struct blob *blob)
{
	size_t capacity = store->held_blobs_capacity;
	struct blob **grown;

	if (store->n_held_blobs == capacity) {
		capacity = capacity ? capacity * 2 : 16;
		grown = realloc(store->held_blobs, capacity * sizeof(struct blob *));
		if (!grown) { /* its file is dropped at the next start */
			blob->made = false;
			blob_unref(blob);
			return;
		}
		store->held_blobs = grown;
		store->held_blobs_capacity = capacity;
	}
	store->held_blobs[store->n_held_blobs++] = blob;
}

/* Not those of messages that are there: they are in the new file, too. */
static void hold_blobs(struct store *store, struct batch *batch)
{
	for (struct batch_entry *e = batch->first; e; e = e->next) {
		if (!e->blob || (e->kind == BATCH_PUT_MESSAGE && e->again))
			continue;
		hold_blob_take(store, e->blob);
		e->blob = NULL;
	}
}

static void release_blobs(struct store *store)
{
	for (size_t i = 0; i < store->n_held_blobs; i++)
		blob_unref(store->held_blobs[i]);
	free(store->held_blobs);
	store->held_blobs = NULL;
	store->n_held_blobs = store->held_blobs_capacity = 0;
}

static void note_synced(const struct batch *batch, bool sends)
{
	for (const struct batch_entry *e = batch->first; e; e = e->next)
		if (e->blob && e->kind == BATCH_PUT_MESSAGE && (sends || e->again))
			e->blob->synced = true;
}

/* ---- a new file ---- */

/* What has been gathered is in memory, and so will be in the new file: who waits for it
 * waits for that. */
static void begin_anew(struct store *store)
{
	struct batch *batch;

	tell_stored(store, store->gathering, false);
	tell_sends(&store->gathering->waits);
	hold_waits(store, &store->gathering->waits);
	hold_blobs(store, store->gathering);
	batch_clear(store->gathering);
	relieve(store);
	while ((batch = LIST_FIRST(&store->carried, struct batch, link))) {
		list_remove(&batch->link);
		hold_blobs(store, batch);
		put_batch(store, batch);
	}
	store->must_renew = store->dumping = store->dumped = false;
	store->cursor = 0;
	begin_task(store, TASK_BEGIN_ANEW);
}

static void anew_failed(struct store *store)
{
	store->dumping = false;
	tell_all(&store->held, -EIO, -EIO);
	tell_all(&store->gathering->waits, -EIO, -EIO);
	retry_later(store);
}

/* The next part goes out with what has changed meanwhile. */
static void dump_more(struct store *store)
{
	int r = 0;

	if (store->dumped) {
		store->dumping = false;
		begin_task(store, TASK_FINISH_ANEW);
		return;
	}
	while (r == 0 && store->gathering->n < LAZY_ENTRIES)
		r = store->ops->dump(store->owner, &store->cursor);
	if (r < 0) {
		anew_failed(store);
		return;
	}
	store->dumped = r == 1;
	write_now(store);
}

static void on_retry(struct timer *timer)
{
	struct store *store = CONTAINER_OF(timer, struct store, retry);

	if (is_busy(store)) {
		retry_later(store);
	} else if (store->state == STORE_BROKEN) {
		begin_anew(store);
	} else if (store->state == STORE_FULL) {
		store->reserve = true;
		write_now(store);
		retry_later(store);
	}
}

/* ---- what came of a task ---- */

static void tell_batch(struct store *store, struct batch *batch,
		       enum storage_outcome outcome)
{
	if (outcome == STORAGE_WRITTEN || outcome == STORAGE_REST_WRITTEN)
		note_synced(batch, outcome == STORAGE_WRITTEN && !batch->without_sends);
	if (outcome == STORAGE_LOST || store->dumping) /* the old file has other rows */
		hold_blobs(store, batch);
	if (!batch->told)
		tell_stored(store, batch, outcome == STORAGE_WRITTEN);
	switch (outcome) {
	case STORAGE_WRITTEN:
		if (store->dumping || store->must_renew) /* this file is not the last */
			hold_waits(store, &batch->waits);
		tell_all(&batch->waits, 0, 0);
		break;
	case STORAGE_REST_WRITTEN:
		tell_all(&batch->waits, 0, store->storage.failure);
		break;
	case STORAGE_FULL:
		tell_all(&batch->waits, store->storage.failure, store->storage.failure);
		break;
	case STORAGE_LOST:
		tell_all(&batch->waits, -EIO, -EIO);
		break;
	}
}

static void tell_written(struct store *store, enum storage_outcome outcome)
{
	struct list written = LIST_INIT(written);
	struct batch *batch;

	list_splice_tail(&written, &store->writing);
	while ((batch = LIST_FIRST(&written, struct batch, link))) {
		list_remove(&batch->link);
		tell_batch(store, batch, outcome);
		if (outcome == STORAGE_FULL && batch->n) {
			batch_give_up_sends(batch);
			list_add_tail(&store->carried, &batch->link);
		} else {
			put_batch(store, batch);
		}
	}
}

static void after_write(struct store *store, enum storage_outcome outcome)
{
	if (outcome == STORAGE_LOST || store->must_renew ||
	    (outcome != STORAGE_WRITTEN && store->dumping)) {
		set_state(store, STORE_BROKEN);
		if (store->dumping)
			anew_failed(store);
		else
			begin_anew(store);
	} else if (outcome != STORAGE_WRITTEN && store->storage.failure == -ENOMEM) {
		if (!list_is_empty(&store->carried))
			be_lazy(store);
	} else if (outcome != STORAGE_WRITTEN) {
		if (store->state == STORE_WORKS)
			retry_later(store);
		set_state(store, STORE_FULL);
	} else if (store->dumping) {
		dump_more(store);
	} else if (store->state == STORE_FULL && store->storage.has_reserve) {
		store->reserve = false;
		set_state(store, STORE_WORKS);
	}
}

static void after_anew(struct store *store, enum task task, int result)
{
	if (result < 0) {
		anew_failed(store);
	} else if (task == TASK_BEGIN_ANEW) {
		store->dumping = true;
		dump_more(store);
	} else {
		set_state(store, STORE_WORKS);
		if (!store->must_renew)
			release_blobs(store);
		tell_all(&store->held, 0, 0);
	}
}

static void note_commits(struct store *store)
{
	store->commits = store->storage.head.commits;
	store->last_commit_us = store->storage.last_commit_us;
	store->longest_commit_us = store->storage.longest_commit_us;
}

/* The thread has ended its task, if it has. */
static void fetch_result(struct store *store)
{
	enum storage_outcome outcome = STORAGE_LOST;
	enum task task = TASK_NONE;
	int result = 0;

	pthread_mutex_lock(&store->mutex);
	if (store->done) { /* else these are the thread's */
		task = store->task;
		store->task = TASK_NONE;
		store->done = store->committed = false;
		outcome = store->outcome;
		result = store->result;
	}
	pthread_mutex_unlock(&store->mutex);
	if (task == TASK_NONE)
		return;
	if (task == TASK_WRITE ? outcome != STORAGE_WRITTEN : result < 0)
		memcpy(store->error, store->storage.error, sizeof(store->error));
	note_commits(store);
	store->telling = true;
	if (task == TASK_WRITE) {
		tell_written(store, outcome);
		after_write(store, outcome);
	} else {
		after_anew(store, task, result);
	}
	store->telling = false;
	write_soon(store);
	if (!list_is_empty(&store->gathering->waits))
		loop_defer_until_idle(store->loop, &store->submit);
	else if (!is_busy(store) && has_work(store))
		be_lazy(store);
}

static void on_done(struct source *source, uint32_t events)
{
	(void)events;
	fetch_result(CONTAINER_OF(source, struct store, source));
}

void store_catch_up(struct store *store)
{
	if (store->done) {
		fetch_result(store);
		return;
	}
	if (!atomic_load_explicit(&store->committed, memory_order_acquire))
		return;
	store->committed = false;
	note_commits(store);
	LIST_FOREACH(link, &store->writing) {
		struct batch *batch = LIST_ENTRY(link, struct batch, link);

		note_synced(batch, !batch->without_sends);
		tell_stored(store, batch, true);
		batch->told = true;
	}
}

/* ---- records ---- */

int store_check(const struct store *store, struct fault *fault)
{
	if (store->state == STORE_WORKS)
		return 0;
	if (store->state == STORE_FULL)
		return fault_set(
			fault, FAULT_NO_SPACE,
			"the store cannot be written: %s; make room on the disk of "
			"%s, or send to a queue with durable=false",
			store->error, store->storage.directory);
	return fault_set(
		fault, FAULT_INTERNAL,
		"the store cannot be written: %s; ipcd writes %s anew, try again "
		"later",
		store->error, store->storage.directory);
}

bool store_keeps_promises(const struct store *store)
{
	return !store->warning;
}

bool store_is_crowded(const struct store *store)
{
	return store->gathering->bytes > store->ops->buffer_max(store->owner);
}

void store_await_room(struct store *store, struct deferred *resume)
{
	if (!list_is_linked(&resume->link))
		list_add_tail(&store->crowd, &resume->link);
}

uint64_t store_mark(const struct store *store)
{
	return store->mark;
}

static void added(struct store *store)
{
	store->mark++;
	if (store->gathering->n >= LAZY_ENTRIES)
		loop_defer(store->loop, &store->submit);
	else
		be_lazy(store);
	if (!store->open)
		write_soon(store);
	else if (store->gathering->n - store->n_announced >= AHEAD_MORE)
		announce(store);
}

void store_wait(struct store *store, struct store_wait *wait)
{
	list_add_tail(&store->gathering->waits, &wait->link);
	loop_defer_until_idle(store->loop, &store->submit);
}

void store_add_receipt(struct store *store, struct store_wait *wait,
		       struct outlet *outlet, struct slice header)
{
	wait->receipt = batch_add_receipt(store->gathering, outlet, header);
}

/* Without memory for a record the file no longer tells the truth. */
void store_renew(struct store *store)
{
	store->mark++;
	store->must_renew = true;
	snprintf(store->error, sizeof(store->error), "%s", strerror(ENOMEM));
	loop_defer(store->loop, &store->submit);
}

/* The records below never fail: without memory the file is written anew. */
static void added_or_renew(struct store *store, int r)
{
	if (r < 0)
		store_renew(store);
	else
		added(store);
}

int store_put_message(struct store *store, const struct message_record *m,
		      struct bytes *block, struct blob *blob)
{
	int r = batch_add_message(store->gathering, BATCH_PUT_MESSAGE, false, m, block,
				  blob);

	if (r == 0)
		added(store);
	return err_trace(r);
}

void store_put_message_again(struct store *store, const struct message_record *m,
			     struct bytes *block, struct blob *blob)
{
	added_or_renew(store, batch_add_message(store->gathering, BATCH_PUT_MESSAGE, true,
						m, block, blob));
}

void store_set_message(struct store *store, const struct message_record *m)
{
	struct message_record state = *m;

	state.from = state.meta = state.file = state.body = (struct slice){ NULL, 0 };
	added_or_renew(store, batch_add_message(store->gathering, BATCH_SET_MESSAGE, true,
						&state, NULL, NULL));
}

void store_drop_message(struct store *store, uint64_t number, uint64_t body_size,
			struct blob *blob)
{
	int r = batch_add_drop(store->gathering, BATCH_DROP_MESSAGE, number, body_size,
			       blob);

	if (r < 0 && blob)
		hold_blob_take(store, blob_ref(blob));
	added_or_renew(store, r);
}

void store_put_name(struct store *store, const struct name_record *name)
{
	added_or_renew(store, batch_add_name(store->gathering, name));
}

void store_drop_name(struct store *store, uint64_t id)
{
	added_or_renew(store,
		       batch_add_drop(store->gathering, BATCH_DROP_NAME, id, 0, NULL));
}

void store_put_dedup(struct store *store, const struct dedup_record *dedup, bool again)
{
	added_or_renew(store, batch_add_dedup(store->gathering, dedup, again));
}

void store_drop_dedup(struct store *store, uint64_t number)
{
	added_or_renew(store, batch_add_drop(store->gathering, BATCH_DROP_DEDUP, number,
					     0, NULL));
}

/* ---- life ---- */

static void look_at_file_system(struct store *store)
{
	static const struct {
		long magic;
		const char *name, *warning;
	} kinds[] = {
		{ 0xef53, "ext4", NULL },
		{ 0x58465342, "xfs", NULL },
		{ 0x9123683e, "btrfs", NULL },
		{ 0xf2f52010, "f2fs", NULL },
		{ 0x2fc12fc1, "zfs", NULL },
		{ 0x01021994, "tmpfs", "memory: what is there ends with the machine" },
		{ 0x858458f6, "ramfs", "memory: what is there ends with the machine" },
		{ 0x794c7630, "overlay",
		  "a container's layer: it may end with the container" },
		{ 0x6969, "nfs", "another machine: it decides what is kept" },
		{ 0x65735546, "fuse", "another program: it decides what is kept" },
	};
	struct statfs fs;

	store->file_system = "unknown";
	if (statfs(store->storage.directory, &fs) < 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (kinds[i].magic == fs.f_type) {
			store->file_system = kinds[i].name;
			store->warning = kinds[i].warning;
		}
	}
	if (store->warning)
		log_warning("the state directory %s is on %s, %s",
			    store->storage.directory, store->file_system, store->warning);
}

static void store_free(struct store *store)
{
	struct batch *batch;

	timer_cancel(store->loop, &store->lazy);
	timer_cancel(store->loop, &store->retry);
	deferred_cancel(&store->submit);
	if (store->source.fd >= 0) {
		source_remove(&store->source);
		fd_close(store->source.fd);
	}
	storage_close(&store->storage);
	while ((batch = LIST_FIRST(&store->carried, struct batch, link))) {
		list_remove(&batch->link);
		put_batch(store, batch);
	}
	while ((batch = LIST_FIRST(&store->spare, struct batch, link))) {
		list_remove(&batch->link);
		batch_deinit(batch);
		free(batch);
	}
	if (store->gathering)
		batch_deinit(store->gathering);
	free(store->gathering);
	release_blobs(store);
	pthread_mutex_destroy(&store->mutex);
	pthread_cond_destroy(&store->change);
	free(store);
}

static int init_sync(struct store *store)
{
	pthread_condattr_t attr;
	int r = pthread_condattr_init(&attr);

	if (r)
		return err_origin(-r);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&store->mutex, NULL); /* these cannot fail on Linux */
	pthread_cond_init(&store->change, &attr);
	pthread_condattr_destroy(&attr);
	return 0;
}

static int watch_thread(struct store *store)
{
	_cleanup_fd_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r;

	if (fd < 0)
		return err_origin(-errno);
	r = source_add(&store->source, store->loop, NULL, fd, EPOLLIN | EPOLLET, on_done);
	if (r == 0)
		TAKE_FD(fd);
	else
		store->source.fd = -1;
	return err_trace(r);
}

int store_open(struct store **ret_store, const char *directory, struct loop *loop,
	       const struct store_ops *ops, void *owner)
{
	struct store *store = calloc(1, sizeof(*store));
	int r;

	if (!store)
		return err_origin(-ENOMEM);
	r = init_sync(store);
	if (r < 0) {
		free(store);
		return err_trace(r);
	}
	store->loop = loop;
	store->ops = ops;
	store->owner = owner;
	list_init(&store->carried);
	list_init(&store->crowd);
	list_init(&store->spare);
	list_init(&store->held);
	list_init(&store->writing);
	deferred_init(&store->submit, on_submit);
	timer_init(&store->lazy, TIMER_MONOTONIC, on_lazy);
	timer_init(&store->retry, TIMER_MONOTONIC, on_retry);
	store->source.fd = -1;
	store->gathering = get_batch(store);
	r = store->gathering ? watch_thread(store) : -ENOMEM;
	if (r == 0)
		r = storage_open(&store->storage, directory);
	if (r < 0) {
		store_free(store);
		return err_trace(r);
	}
	store->found_clean = store->storage.head.clean;
	store->last_write_ms = storage_last_write_ms(&store->storage);
	look_at_file_system(store);
	*ret_store = store;
	return 0;
}

int store_load(struct store *store,
	       int (*name)(void *arg, const struct name_record *name),
	       int (*message)(void *arg, const struct message_record *m),
	       int (*dedup)(void *arg, const struct dedup_record *dedup), void *arg)
{
	return err_trace(storage_load(&store->storage, name, message, dedup, arg));
}

const struct store_head *store_get_head(const struct store *store)
{
	return &store->storage.head;
}

static bool has_two_processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 1;
}

static int start_thread(struct store *store)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int r = pthread_attr_init(&attr);

	if (r)
		return err_origin(-r);
	store->watches = has_two_processors();
	sigfillset(&all);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&store->thread, &attr, thread_main, store);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	store->has_thread = r == 0;
	return r ? err_origin(-r) : 0;
}

/* False: not within the time. */
static bool wait_for_task(struct store *store, uint64_t until_ns)
{
	struct timespec until = { (time_t)(until_ns / NS_PER_S),
				  (long)(until_ns % NS_PER_S) };
	int r = 0;

	pthread_mutex_lock(&store->mutex);
	while (store->task != TASK_NONE && !store->done && r == 0)
		r = pthread_cond_timedwait(&store->change, &store->mutex, &until);
	pthread_mutex_unlock(&store->mutex);
	if (r)
		return false;
	fetch_result(store);
	return true;
}

bool store_flush(struct store *store, uint64_t wait_ms)
{
	uint64_t until = deadline_after(clock_ns(CLOCK_MONOTONIC), wait_ms);

	while (is_busy(store) || (has_work(store) && store->state != STORE_BROKEN)) {
		if (!is_busy(store) || store->open)
			write_now(store);
		if (!is_busy(store) || !wait_for_task(store, until))
			return false;
		if (store->state == STORE_FULL && !is_busy(store))
			return list_is_empty(&store->carried);
	}
	return store->state != STORE_BROKEN;
}

/* The head of this start is on the disk before anybody is served, and a damaged file is
 * replaced; a full disk stops nobody from receiving. */
static void write_start(struct store *store)
{
	if (store->damaged) {
		snprintf(store->error, sizeof(store->error), "it is damaged");
		store->state = STORE_BROKEN;
		begin_anew(store);
	} else {
		write_now(store);
	}
	while (is_busy(store))
		(void)!wait_for_task(store, UINT64_MAX);
}

int store_judge(struct store *store)
{
	struct storage *s = &store->storage;

	store->damaged = storage_judge(s);
	s->head.generation++;
	return s->head.lease_key.k0 ? 0 : err_trace(hash_key_random(&s->head.lease_key));
}

int store_start(struct store *store, bool (*keeps)(void *arg, uint64_t blob), void *arg)
{
	struct storage *s = &store->storage;
	int r;

	storage_sweep(s, keeps, arg);
	storage_reserve(s);
	r = start_thread(store);
	if (r < 0)
		return err_trace(r);
	write_start(store);
	return 0;
}

static void end_thread(struct store *store)
{
	if (!store->has_thread)
		return;
	begin_task(store, TASK_END);
	pthread_join(store->thread, NULL);
}

enum { CLOSE_WAIT_MS = 30000 };

uint64_t store_last_write_ms(const struct store *store)
{
	return store->last_write_ms;
}

bool store_found_clean(const struct store *store)
{
	return store->found_clean;
}

struct store *store_close(struct store *store, bool in_order)
{
	bool written;

	if (!store)
		return NULL;
	if (store->has_thread) {
		store->clean = in_order;
		written = store_flush(store, CLOSE_WAIT_MS);
		if (written && !is_busy(store)) {
			write_now(store); /* the head, clean */
			written = store_flush(store, CLOSE_WAIT_MS);
		}
		if (!written)
			log_error("the store in %s could not be written: %s",
				  store->storage.directory, store->error);
		if (is_busy(store))
			return NULL; /* it hangs: the thread ends with the process */
	}
	end_thread(store);
	store_free(store);
	return NULL;
}

static uint64_t file_size(const struct store *store, const char *name)
{
	_cleanup_free_ char *path = NULL;
	struct stat st;

	if (asprintf(&path, "%s/%s", store->storage.directory, name) < 0) {
		path = NULL;
		return 0;
	}
	return stat(path, &st) < 0 ? 0 : (uint64_t)st.st_size;
}

void store_describe(struct store *store, struct store_report *ret_report)
{
	struct statvfs fs = { 0 };

	(void)!statvfs(store->storage.directory, &fs);
	*ret_report = (struct store_report){
		.state = store->state,
		.directory = store->storage.directory,
		.file_system = store->file_system,
		.warning = store->warning,
		.error = store->state == STORE_WORKS ? NULL : store->error,
		.options = store->storage.options,
		.damage = store->storage.damage,
		.set_aside = storage_find_bad(&store->storage),
		.commits = store->commits,
		.last_commit_us = store->last_commit_us,
		.longest_commit_us = store->longest_commit_us,
		.file_bytes = file_size(store, "ipcd.db"),
		.log_bytes = file_size(store, "ipcd.db-wal"),
		.disk_free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize,
	};
}
