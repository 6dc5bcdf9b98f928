/* SPDX-License-Identifier: MIT */

/* Queues over a store that is full or broken for a while. */

#include "unit/disk.h"
#include "unit/queue_world.h"

#include "journal.h"
#include "log.h"
#include "restore.h"
#include "store.h"

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

/* A send that fails leaves nothing, a place in the queue least of all. */
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

static void test_a_send_that_fails(void **state)
{
	struct message *m = send_one(NULL);
	struct fault fault;

	until(m->state == MESSAGE_READY);
	message_ack(m);
	assert_true(store_flush(w.broker.store, 30000));
	w.queue->counters.sent = 0;
	for (int i = 0; i < 2; i++) {
		struct message_content content = { .from = w.from,
						   .ttl_ms = UINT64_MAX,
						   .dedup_id = "id",
						   .dedup_size = 2 };
		uint64_t number;

		lengthen_log();
		disk_fail(1, 1, i % 2 ? EIO : ENOSPC);
		assert_int_equal(queue_send(w.queue, w.user, message_new(&content),
					    &number, &fault),
				 0);
		until(!message_find(&w.broker, number));
		assert_int_equal(w.queue->messages, 0);
		assert_int_equal(w.queue->n_dedups, 0);
		assert_int_equal(w.user->usage.messages, 0);
		assert_int_equal(w.queue->counters.sent, 0);
		until(state_of() == STORE_WORKS);
	}
}

#define it(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_room_while_the_disk_is_full),
		it(test_room_while_the_file_is_written_anew),
		it(test_a_send_that_fails),
	};

	return cmocka_run_group_tests_name("store_broker", tests, NULL, NULL);
}
