/* SPDX-License-Identifier: MIT */

/* Queues over a store that is full or broken for a while; and what a start makes of bodies
 * that are blobs. */

#include "unit/alloc.h"
#include "unit/disk.h"
#include "unit/queue_world.h"

#include "journal.h"
#include "log.h"
#include "restore.h"
#include "store.h"
#include "worker.h"

#define until(condition)                                         \
	do {                                                     \
		while (!(condition))                             \
			assert_int_equal(loop_pass(&w.loop), 0); \
	} while (0)

static int setup(void **state)
{
	disk_setup(state);
	log_set_level(LEVEL_ERROR);
	world_setup(state);
	w.limits.queue_messages = 2;
	assert_int_equal(restore(&w.broker, disk_directory), 0);
	return 0;
}

static int teardown(void **state)
{
	disk_works();
	w.broker.store = store_close(w.broker.store, true);
	world_teardown(state);
	blobs_deinit(&w.broker.blobs);
	return disk_teardown(state);
}

static enum store_state state_of(void)
{
	struct store_report report;

	store_describe(w.broker.store, &report);
	return report.state;
}

static struct waiting_send waiting;
static uint64_t admitted;

static void on_admitted(struct waiting_send *s, uint64_t number, bool duplicate)
{
	(void)s;
	assert_false(duplicate);
	admitted = number;
}

static void on_refused(struct waiting_send *s, enum fault_word word, const char *why)
{
	(void)word;
	(void)why;
	waiting_send_cancel(s);
}

static void wait_for_room(void)
{
	struct message_content content = { .from = w.from, .ttl_ms = UINT64_MAX };

	admitted = 0;
	waiting = (struct waiting_send){ .admitted = on_admitted, .refused = on_refused };
	assert_int_equal(queue_wait(w.queue, w.user, &waiting, message_new(&content)), 0);
}

static void fill_queue(void)
{
	struct message *m[2] = { send_one(NULL), send_one("{}") };

	until(m[0]->state == MESSAGE_READY && m[1]->state == MESSAGE_READY);
}

/* There is room again while nothing can be written: it goes on when the store does. */
static void room_while(int error, enum store_state expected)
{
	fill_queue();
	wait_for_room();
	disk_fail(1, error == EIO ? 2 : UINT32_MAX, error);
	journal_name(w.queue);
	until(state_of() == expected);
	message_ack(queue_first(w.queue));
	pass();
	assert_int_equal(admitted, 0);
	assert_int_equal(waiting_send_why(&waiting),
			 error == EIO ? FAULT_INTERNAL : FAULT_NO_SPACE);
	disk_works();
	until(admitted);
	until(message_find(&w.broker, admitted)->state == MESSAGE_READY);
	assert_int_equal(state_of(), STORE_WORKS);
}

static void test_room_while_the_disk_is_full(void **state)
{
	room_while(ENOSPC, STORE_FULL);
}

static void test_room_while_the_file_is_written_anew(void **state)
{
	room_while(EIO, STORE_BROKEN);
}

/* With the first message of a file the log gets its length, for which a failure does not matter. */
static void lengthen_log(void)
{
	struct message_content content = { .from = w.from, .ttl_ms = UINT64_MAX };
	struct fault fault;
	uint64_t number;

	assert_int_equal(
		queue_send(w.queue, w.user, message_new(&content), &number, &fault), 0);
	assert_true(store_flush(w.broker.store, 30000));
	message_end(message_find(&w.broker, number), "deleted");
	assert_true(store_flush(w.broker.store, 30000));
	w.queue->counters.sent = 0;
}

/* A send that fails leaves nothing, a place in the queue least of all; also if its time is up
 * before that. */
static void test_a_send_that_fails(void **state)
{
	struct message *m = send_one(NULL);
	struct fault fault;

	until(m->state == MESSAGE_READY);
	message_ack(m);
	assert_true(store_flush(w.broker.store, 30000));
	w.queue->counters.sent = 0;
	for (int i = 0; i < 4; i++) {
		struct message_content content = { .from = w.from,
						   .ttl_ms = i < 2 ? UINT64_MAX : 1,
						   .dedup_id = "id",
						   .dedup_size = 2 };
		uint64_t number;

		lengthen_log();
		disk_fail(1, 1, i % 2 ? EIO : ENOSPC);
		assert_int_equal(queue_send(w.queue, w.user, message_new(&content),
					    &number, &fault),
				 0);
		while (i >= 2 && heap_first(&w.broker.expiring))
			message_expiring_due(&w.broker);
		until(!message_find(&w.broker, number));
		assert_int_equal(w.queue->messages, 0);
		assert_int_equal(w.queue->n_dedups, 0);
		assert_int_equal(w.user->usage.messages, 0);
		assert_int_equal(w.queue->counters.sent, 0);
		assert_int_equal(w.queue->counters.expired, 0);
		until(state_of() == STORE_WORKS);
	}
}

/* ---- blobs ---- */

static struct workers *workers;
static const char body[] = "a body that is large", file[] = "\"filename\":\"\xc3\xa4\"";

static int world_without_restore(void **state)
{
	log_set_level(LEVEL_ERROR);
	world_setup(state);
	assert_int_equal(workers_new(&workers, &w.loop), 0);
	w.broker.blobs.workers = workers;
	return 0;
}

static int setup_blobs(void **state)
{
	disk_setup(state);
	world_without_restore(state);
	assert_int_equal(restore(&w.broker, disk_directory), 0);
	return 0;
}

/* As server.c does it. */
static void end_world(void **state, bool in_order)
{
	if (in_order)
		journal_keep_all(&w.broker);
	w.broker.blobs.keep = true;
	w.broker.store = store_close(w.broker.store, in_order);
	broker_deinit(&w.broker);
	blobs_deinit(&w.broker.blobs);
	workers = workers_free(workers, 30000);
	user_unref(w.user);
	bytes_unref(w.from);
	users_deinit(&w.users);
	loop_deinit(&w.loop);
}

static int teardown_blobs(void **state)
{
	end_world(state, true);
	return disk_teardown(state);
}

static void begin_again(void **state, bool in_order)
{
	end_world(state, in_order);
	world_without_restore(state);
	assert_int_equal(restore(&w.broker, disk_directory), 0);
	assert_true(w.broker.blobs.next_id >> 32 >=
		    store_get_head(w.broker.store)->generation);
}

static struct message *send_blob(struct queue *queue, struct blob *blob)
{
	struct message_content content = { .from = w.from,
					   .ttl_ms = UINT64_MAX,
					   .blob = blob,
					   .file = file,
					   .file_size = strlen(file) };
	struct message *m = message_new(&content);
	struct fault fault;
	uint64_t number;

	assert_int_equal(queue_send(queue, w.user, m, &number, &fault), 0);
	blob_unref(blob);
	return m;
}

static struct blob *new_blob(void)
{
	struct blob *b = blob_new(&w.broker.blobs);
	int fd = blob_create(b);

	assert_int_equal(write(fd, body, sizeof(body)), sizeof(body));
	blob_adopt_take(b, fd, sizeof(body), sizeof(body));
	return b;
}

static struct queue *memory_queue(void)
{
	const struct credentials root = { .uid = 0 };
	struct name_ref ref = { .text = "memory", .size = 6 };
	struct queue *queue;
	struct fault fault;

	assert_int_equal(queue_open(&w.broker, &ref, &root, RIGHT_WRITE, "send to",
				    &queue, &fault),
			 0);
	queue->settings.set |= SETTING_DURABLE;
	queue->settings.durable = false;
	queue->has_own_settings = true;
	journal_name(queue);
	return queue;
}

static const char *path_of(uint64_t id)
{
	static char name[40];

	snprintf(name, sizeof(name), "spool/%llu", (unsigned long long)id);
	return name;
}

static void test_blobs_come_back(void **state)
{
	struct blob *b = new_blob(), *found;
	uint64_t number, id = b->id;
	struct message *m = send_blob(w.queue, b);

	assert_true(store_flush(w.broker.store, 30000));
	assert_int_equal(m->state, MESSAGE_READY);
	number = m->number;
	for (int i = 0; i < 2; i++) {
		begin_again(state, i == 0);
		m = message_find(&w.broker, number);
		assert_non_null(m);
		found = message_blob(m);
		assert_int_equal(found->id, id);
		assert_int_equal(found->refs, 1);
		assert_int_equal(message_size(m), sizeof(body));
		assert_int_equal(m->body_size, 0);
		assert_int_equal(m->more->file_size, strlen(file));
		assert_memory_equal(m->more->file, file, strlen(file));
		assert_true(w.broker.blobs.next_id > id);
	}
	b = blob_ref(found);
	message_end(m, "deleted");
	assert_int_equal(b->refs, 2); /* its record has one until it is on the disk */
	blob_unref(b);
	assert_true(store_flush(w.broker.store, 30000));
	until(!disk_has(path_of(id)));
}

/* Ids of this start do not meet those of files that are there, whosever they are. */
static void test_ids_of_left_over_files(void **state)
{
	uint64_t id = (7ull << 32) + 9;

	disk_put(path_of(id), "x", 1);
	disk_put("ipcd.db.bad", "x", 1);
	begin_again(state, true);
	assert_true(disk_has(path_of(id))); /* what was put aside may need it */
	assert_int_equal(w.broker.blobs.next_id, id + 1);
	assert_int_equal(unlink(disk_path("ipcd.db.bad")), 0);
	begin_again(state, true);
	assert_false(disk_has(path_of(id)));
}

/* Rows may share a body. */
static void test_one_blob_of_several_messages(void **state)
{
	struct blob *b = new_blob();
	uint64_t first, second, id = b->id;

	first = send_blob(w.queue, blob_ref(b))->number;
	second = send_blob(w.queue, b)->number;
	assert_true(store_flush(w.broker.store, 30000));
	begin_again(state, true);
	b = message_blob(message_find(&w.broker, first));
	assert_ptr_equal(message_blob(message_find(&w.broker, second)), b);
	message_end(message_find(&w.broker, first), "deleted");
	assert_true(store_flush(w.broker.store, 30000));
	assert_int_equal(b->refs, 1);
	begin_again(state, false);
	assert_true(disk_has(path_of(id)));
	assert_non_null(message_find(&w.broker, second));
}

static void test_a_live_descriptor_is_not_stored(void **state)
{
	struct queue *memory = memory_queue();
	struct store_report report;
	int ends[2];
	struct message *m;
	uint64_t number;

	assert_int_equal(pipe(ends), 0);
	m = send_blob(memory, blob_new_fd(&w.broker.blobs, 1000, ends[0], UINT64_MAX, 0,
					  true, true));
	number = m->number;
	journal_adopt(m);
	assert_false(m->stored);
	begin_again(state, true);
	assert_null(message_find(&w.broker, number));
	store_describe(w.broker.store, &report);
	assert_null(report.damage);
	close(ends[1]);
}

/* What there is stays as it is. */
static void test_a_start_that_fails(void **state)
{
	struct blob *b = new_blob();
	uint64_t number, id = b->id;
	bool failed = true;
	unsigned long n;

	number = send_blob(w.queue, b)->number;
	assert_true(store_flush(w.broker.store, 30000));
	for (n = 1; failed; n++) {
		int r;

		end_world(state, false);
		world_without_restore(state);
		fail_allocation(n);
		r = restore(&w.broker, disk_directory);
		failed = allocation_failed();
		if (!failed)
			assert_int_equal(r, 0);
		if (r < 0 && w.broker.store)
			assert_true(w.broker.blobs.keep);
		pass();
		assert_true(disk_has(path_of(id)));
		if (r == 0)
			assert_non_null(message_find(&w.broker, number));
	}
	print_message("%lu allocations\n", n - 2);
	assert_true(n > 20);
}

#define it(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define with_blobs(test) \
	cmocka_unit_test_setup_teardown(test, setup_blobs, teardown_blobs)

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_room_while_the_disk_is_full),
		it(test_room_while_the_file_is_written_anew),
		it(test_a_send_that_fails),
		with_blobs(test_blobs_come_back),
		with_blobs(test_ids_of_left_over_files),
		with_blobs(test_one_blob_of_several_messages),
		with_blobs(test_a_live_descriptor_is_not_stored),
		with_blobs(test_a_start_that_fails),
	};

	return cmocka_run_group_tests_name("store_broker", tests, NULL, NULL);
}
