/* SPDX-License-Identifier: MIT */

#include "store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "log.h"
#include "storage_thread.h"

enum {
	LAZY_MS = 20,	      /* records for which nobody waits gather so long … */
	LAZY_ENTRIES = 10000, /* … or until there are so many */
	AHEAD_FIRST = 4,      /* with so many, if somebody waits, the thread begins */
	RETRY_MS = 1000,      /* after a failure */
};

struct store {
	struct storage storage; /* the thread's while that is not idle */
	struct storage_thread thread;
	struct loop *loop;
	const struct store_ops *ops;
	void *owner;
	enum store_state state;
	struct batch *gathering; /* the thread's first one while that is open */
	struct list
		carried; /* batches whose rest is still to be written: the disk is full */
	struct list spare; /* batches */
	struct list crowd; /* deferred, of those who wait for room in gathering */
	struct list held;  /* who waits for the new file to be complete */
	uint64_t mark;	   /* records so far */
	uint64_t cursor;   /* of the dump into a new file */
	bool found_clean, damaged, dumping, dumped, must_renew;
	bool clean;		  /* the next commit is the last one */
	bool reserve;		  /* to be made again, if there is space */
	bool telling;		  /* what came of a task: none is begun by who is told */
	struct batch *following;  /* what gathers when the open batch is closed */
	struct blob **held_blobs; /* until the new file is complete */
	size_t n_held_blobs, held_blobs_capacity;
	uint64_t commits, last_commit_us, longest_commit_us;
	char error[200];
	const char *file_system, *warning;
	struct deferred submit;
	struct timer lazy, retry;
};

const char *store_state_name(enum store_state state)
{
	static const char *const names[] = {
		[STORE_WORKS] = "works", [STORE_FULL] = "full", [STORE_BROKEN] = "broken"
	};

	return names[state];
}

static bool is_busy(const struct store *store)
{
	return !storage_thread_is_idle(&store->thread);
}

static bool is_open(const struct store *store)
{
	return storage_thread_is_open(&store->thread);
}

/* ---- batches ---- */

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
	list_add_tail(&store->thread.batches, &store->gathering->link);
	storage_thread_open(&store->thread);
}

/* Everything that is waiting to be written, as one transaction. */
static void write_now(struct store *store)
{
	struct storage_order order;
	struct batch *next;
	bool open = is_open(store);

	if (!open &&
	    (is_busy(store) || (store->state == STORE_BROKEN && !store->dumping)))
		return;
	next = open ? TAKE_PTR(store->following) : get_batch(store);
	if (!next) {
		be_lazy(store); /* it gathers on */
		return;
	}
	timer_cancel(store->loop, &store->lazy);
	if (!open) {
		list_splice_tail(&store->thread.batches, &store->carried);
		list_add_tail(&store->thread.batches, &store->gathering->link);
	}
	store->gathering = next;
	relieve(store);
	order = (struct storage_order){
		.next_number = store->ops->next_number(store->owner),
		.clean = store->clean,
		.prompt = !store->dumping && !store->must_renew,
		.reserve = store->reserve,
	};
	if (open)
		storage_thread_close(&store->thread, &order);
	else
		storage_thread_begin(&store->thread, TASK_WRITE, &order);
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
	storage_thread_begin(&store->thread, TASK_BEGIN_ANEW, NULL);
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
		storage_thread_begin(&store->thread, TASK_FINISH_ANEW, NULL);
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

	list_splice_tail(&written, &store->thread.batches);
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

static void say_lost_bodies(const struct store *store)
{
	const struct storage *s = &store->storage;

	if (s->lost_bodies)
		log_error("the bodies of %" PRIu64 " messages are lost: they are not in "
			  "%s/spool any more",
			  s->lost_bodies, s->directory);
}

static void after_anew(struct store *store, enum storage_task task, int result)
{
	if (result < 0) {
		anew_failed(store);
	} else if (task == TASK_BEGIN_ANEW) {
		store->dumping = true;
		dump_more(store);
	} else {
		say_lost_bodies(store);
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
	struct storage_result result;
	bool failed;

	if (!storage_thread_fetch(&store->thread, &result))
		return;
	failed = result.task == TASK_WRITE ? result.outcome != STORAGE_WRITTEN
					   : result.result < 0;
	if (failed)
		memcpy(store->error, store->storage.error, sizeof(store->error));
	note_commits(store);
	store->telling = true;
	if (result.task == TASK_WRITE) {
		tell_written(store, result.outcome);
		after_write(store, result.outcome);
	} else {
		after_anew(store, result.task, result.result);
	}
	store->telling = false;
	write_soon(store);
	if (!list_is_empty(&store->gathering->waits))
		loop_defer_until_idle(store->loop, &store->submit);
	else if (!is_busy(store) && has_work(store))
		be_lazy(store);
}

static void on_ended(struct storage_thread *thread)
{
	fetch_result(CONTAINER_OF(thread, struct store, thread));
}

void store_catch_up(struct store *store)
{
	if (storage_thread_is_done(&store->thread)) {
		fetch_result(store);
		return;
	}
	if (!storage_thread_has_committed(&store->thread))
		return;
	note_commits(store);
	LIST_FOREACH(link, &store->thread.batches) {
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
	if (is_open(store))
		storage_thread_announce(&store->thread);
	else
		write_soon(store);
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

static void renew(struct store *store, int error)
{
	store->mark++;
	store->must_renew = true;
	snprintf(store->error, sizeof(store->error), "%s", strerror(error));
	loop_defer(store->loop, &store->submit);
}

/* Without memory for a record the file no longer tells the truth. */
void store_renew(struct store *store)
{
	renew(store, ENOMEM);
}

void store_spool_gone(struct store *store)
{
	if (store->state == STORE_WORKS)
		renew(store, ENOENT);
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
	storage_thread_deinit(&store->thread);
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
	free(store);
}

int store_open(struct store **ret_store, const char *directory, struct loop *loop,
	       const struct store_ops *ops, void *owner)
{
	struct store *store = calloc(1, sizeof(*store));
	int r;

	if (!store)
		return err_origin(-ENOMEM);
	r = storage_thread_init(&store->thread, &store->storage, loop, on_ended);
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
	deferred_init(&store->submit, on_submit);
	timer_init(&store->lazy, TIMER_MONOTONIC, on_lazy);
	timer_init(&store->retry, TIMER_MONOTONIC, on_retry);
	store->gathering = get_batch(store);
	r = store->gathering ? 0 : err_origin(-ENOMEM);
	if (r == 0)
		r = storage_open(&store->storage, directory);
	if (r < 0) {
		store_free(store);
		return err_trace(r);
	}
	store->found_clean = store->storage.head.clean;
	look_at_file_system(store);
	*ret_store = store;
	return 0;
}

void store_set_lock(struct store *store, int lock_fd)
{
	store->storage.lock_fd = lock_fd;
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

/* False: not within the time. */
static bool wait_for_task(struct store *store, uint64_t until_ns)
{
	if (!storage_thread_wait(&store->thread, until_ns))
		return false;
	fetch_result(store);
	return true;
}

bool store_flush(struct store *store, uint64_t wait_ms)
{
	uint64_t until = deadline_after(clock_ns(CLOCK_MONOTONIC), wait_ms);

	if (store->state == STORE_BROKEN && !is_busy(store)) /* not later: see retry */
		begin_anew(store);
	while (is_busy(store) || (has_work(store) && store->state != STORE_BROKEN)) {
		if (!is_busy(store) || is_open(store))
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
	r = storage_thread_start(&store->thread);
	if (r < 0)
		return err_trace(r);
	write_start(store);
	return 0;
}

enum { CLOSE_WAIT_MS = 30000 };

int64_t store_clock_base_ms(const struct store *store)
{
	return store->storage.clock_base_ms;
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
	if (store->thread.runs) {
		store->clean = in_order;
		written = store_flush(store, CLOSE_WAIT_MS);
		if (written && !is_busy(store)) {
			write_now(store); /* the head, clean */
			written = store_flush(store, CLOSE_WAIT_MS);
		}
		if (!written)
			log_error("the store in %s could not be written: %s",
				  store->storage.directory,
				  is_busy(store) ? "the disk does not answer"
						 : store->error);
		if (is_busy(store))
			return NULL; /* it hangs: the thread ends with the process */
	}
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
	bool is_there = statvfs(store->storage.directory, &fs) == 0;

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
		.is_there = is_there,
	};
}
