/* SPDX-License-Identifier: MIT */
#ifndef UNIT_STORE_WORLD_H
#define UNIT_STORE_WORLD_H

/* A store with the real thread, on a disk that fails, and its owner, who notes what he is
 * told. */

#include "unit/alloc.h"
#include "unit/disk.h"

#include "base/clock.h"
#include "log.h"
#include "loop.h"
#include "store.h"
#include "worker.h"

enum { N = 40 };

static struct owner {
	struct loop loop;
	struct workers *workers;
	struct blobs blobs;
	struct blob *blob[N];
	struct store *store;
	bool there[N], storing[N];
	uint64_t next_number, dumps;
	bool worked_again;
	char told[2000]; /* in order: "5+" stored, "5-" not, "a0", "a-28" the end of a wait,
			    "a0r" of one whose receipt was sent */
	void (*on_dump)(void);
} o;

static struct store_wait waits[8];

/* ---- the owner ---- */

static void tell(const char *format, ...) PRINTF_LIKE(1, 2);
static void tell(const char *format, ...)
{
	size_t used = strlen(o.told);
	va_list args;

	va_start(args, format);
	vsnprintf(o.told + used, sizeof(o.told) - used, format, args);
	va_end(args);
}

static UNUSED void check_told(const char *text)
{
	assert_string_equal(o.told, text);
	*o.told = '\0';
}

static void on_stored(void *owner, uint64_t number, bool ok)
{
	(void)owner;
	o.storing[number] = false;
	if (!ok) {
		o.there[number] = false;
		o.blob[number] = blob_unref(o.blob[number]);
	}
	tell("%d%c ", (int)number, ok ? '+' : '-');
}

static void on_done(struct store_wait *wait, int result)
{
	bool sent = wait->receipt && !receipt_revoke(wait->receipt);

	tell("%c%d%s ", 'a' + (int)(wait - waits), result, sent ? "r" : "");
}

static struct message_record record(uint64_t number, uint64_t attempts)
{
	static char body[5000];

	if (o.blob[number])
		return (struct message_record){
			.number = number,
			.attempts = attempts,
			.meta = { "{}", 2 },
			.body_size = o.blob[number]->size,
			.blob = o.blob[number]->id,
			.blob_fd = o.blob[number]->fd,
			.blob_synced = o.blob[number]->synced,
		};
	return (struct message_record){ .number = number,
					.attempts = attempts,
					.meta = { "{}", 2 },
					.body = { body, number % 2 ? 5000 : 10 },
					.body_size = number % 2 ? 5000 : 10 };
}

static int on_dump(void *owner, uint64_t *cursor)
{
	(void)owner;
	o.dumps++;
	for (; *cursor < N; ++*cursor) {
		struct message_record m = record(*cursor, 0);

		if (o.there[*cursor] && !o.storing[*cursor])
			store_put_message_again(o.store, &m, NULL, o.blob[*cursor]);
		if (*cursor == N / 2 && o.on_dump) {
			o.on_dump();
			o.on_dump = NULL;
			++*cursor;
			return 0;
		}
	}
	return 1;
}

static uint64_t next_number(void *owner)
{
	(void)owner;
	return o.next_number;
}

static void on_works(void *owner)
{
	(void)owner;
	o.worked_again = true;
}

static const struct store_ops ops = {
	.stored = on_stored,
	.dump = on_dump,
	.next_number = next_number,
	.works = on_works,
};

/* ---- its acts ---- */

static UNUSED int put(uint64_t number)
{
	struct message_record m = record(number, 0);
	int r = store_put_message(o.store, &m, NULL, o.blob[number]);

	if (r == 0)
		o.there[number] = o.storing[number] = true;
	o.next_number = number + 1;
	return r;
}

static UNUSED void drop(uint64_t number)
{
	struct message_record m = record(number, 0);

	store_drop_message(o.store, number, o.blob[number] ? 0 : m.body_size,
			   o.blob[number]);
	o.there[number] = o.storing[number] = false;
	o.blob[number] = blob_unref(o.blob[number]);
}

static UNUSED void wait_as(int which, bool for_send)
{
	waits[which] = (struct store_wait){ .for_send = for_send, .done = on_done };
	store_wait(o.store, &waits[which]);
}

#define until(condition)                                         \
	do {                                                     \
		while (!(condition))                             \
			assert_int_equal(loop_pass(&o.loop), 0); \
	} while (0)

static UNUSED enum store_state state_of(void)
{
	struct store_report report;

	store_describe(o.store, &report);
	return report.state;
}

static UNUSED bool was_told(const char *text)
{
	return strstr(o.told, text) != NULL;
}

/* ---- opening and what is found ---- */

static bool found[N];

static int on_name(void *arg, const struct name_record *n)
{
	(void)arg;
	(void)n;
	return 0;
}

static int on_message(void *arg, const struct message_record *m)
{
	(void)arg;
	assert_in_range(m->number, 1, N - 1);
	found[m->number] = true;
	return 0;
}

static int on_dedup(void *arg, const struct dedup_record *d)
{
	(void)arg;
	(void)d;
	return 0;
}

static bool keeps_all(void *arg, uint64_t blob)
{
	(void)arg;
	(void)blob;
	return true;
}

static int open_store(void)
{
	int r = store_open(&o.store, disk_directory, &o.loop, &ops, &o);

	memset(found, 0, sizeof(found));
	if (r == 0)
		r = store_load(o.store, on_name, on_message, on_dedup, NULL);
	if (r == 0)
		r = store_judge(o.store);
	memcpy(o.there, found, sizeof(found));
	if (r == 0)
		r = store_start(o.store, keeps_all, NULL);
	return r;
}

/* Closes it, and opens it anew on a disk that works: all that is there is there. */
static UNUSED void check_reopened(void)
{
	bool there[N];
	struct store_report report;

	memcpy(there, o.there, sizeof(there));
	o.store = store_close(o.store, true);
	disk_works();
	assert_int_equal(open_store(), 0);
	assert_true(store_get_head(o.store)->next_number >= o.next_number);
	store_describe(o.store, &report);
	if (report.damage)
		fail_msg("%s", report.damage);
	for (int i = 0; i < N; i++)
		if (there[i] != found[i])
			fail_msg("message %d is %s", i, found[i] ? "there" : "lost");
}

static UNUSED int setup(void **state)
{
	disk_setup(state);
	log_set_level(LEVEL_ERROR);
	memset(&o, 0, sizeof(o));
	o.next_number = 1;
	assert_int_equal(loop_init(&o.loop), 0);
	assert_int_equal(open_store(), 0);
	return 0;
}

static UNUSED int teardown(void **state)
{
	disk_works();
	o.blobs.keep = true;
	o.store = store_close(o.store, true);
	for (int i = 0; i < N; i++)
		o.blob[i] = blob_unref(o.blob[i]);
	o.workers = workers_free(o.workers, 30000);
	if (o.blobs.workers)
		blobs_deinit(&o.blobs);
	loop_deinit(&o.loop);
	return disk_teardown(state);
}

#endif
