/* SPDX-License-Identifier: MIT */

/* Each limit to the last message and byte; and live descriptors before receivers that take
 * none. */

#include "unit/queue_world.h"

#include "room.h"

static struct share share;
static struct queue *inbox, *no_inbox;
static struct fault fault;

static struct queue *open_queue(const char *name, bool is_inbox)
{
	const struct credentials root = { .uid = 0 };
	struct name_ref ref = {
		.size = strlen(name), .of_user = true, .inbox = is_inbox, .uid = 2000
	};
	struct queue *q;

	snprintf(ref.text, sizeof(ref.text), "%s", name);
	assert_int_equal(queue_open(&w.broker, &ref, &root, RIGHT_WRITE, "send to", &q,
				    &fault),
			 0);
	return q;
}

static int setup(void **state)
{
	world_setup(state);
	w.broker.owner_uid = 0;
	inbox = open_queue("@2000", true);
	no_inbox = open_queue("@2000.x", false);
	share = (struct share){ .queue = w.queue, .user = w.user };
	return 0;
}

static int teardown(void **state)
{
	w.user->usage.file_bytes = w.user->usage.live = 0;
	return world_teardown(state);
}

/* ---- limits ---- */

typedef int (*room_check)(uint64_t cost);

static int in_queue(uint64_t cost)
{
	return room_in_queue(share.queue, cost, &fault);
}

static int in_share(uint64_t cost)
{
	return room_in_share(&share, cost, &fault);
}

static int for_user(uint64_t cost)
{
	return room_for_user(&share, cost, &fault);
}

static int in_queue_for_file(uint64_t cost)
{
	return room_in_queue_for_file(share.queue, cost, &fault);
}

static int in_share_for_file(uint64_t cost)
{
	return room_in_share_for_file(&share, cost, &fault);
}

static int for_user_file(uint64_t cost)
{
	return room_for_user_file(&share, cost, &fault);
}

static void expect_refused(int r, enum fault_word word, const char *key, uint64_t value)
{
	char number[32];

	assert_int_equal(r, FAULT);
	snprintf(number, sizeof(number), " %llu ", (unsigned long long)value);
	if (fault.word != word || !strstr(fault.text, key) || !strstr(fault.text, number))
		fail_msg("%s: %s, expected: %s with %s and%s",
			 fault_word_name(fault.word), fault.text, fault_word_name(word),
			 key, number);
}

/* *used counts messages, of which there may be max. */
static void check_messages(room_check check, uint64_t *used, uint64_t max,
			   enum fault_word word, const char *key)
{
	*used = max - 1;
	assert_int_equal(check(1), 0);
	*used = max;
	expect_refused(check(1), word, key, max);
	*used = max + 1;
	expect_refused(check(0), word, key, max);
	*used = 0;
	assert_int_equal(check(1), 0);
}

/* *used counts bytes. */
static void check_bytes(room_check check, uint64_t *used, uint64_t max,
			enum fault_word word, const char *key)
{
	*used = max - 10;
	assert_int_equal(check(9), 0);
	assert_int_equal(check(10), 0);
	expect_refused(check(11), word, key, max);
	*used = max - 1;
	assert_int_equal(check(1), 0);
	*used = max;
	expect_refused(check(1), word, key, max);
	*used = 1;
	expect_refused(check(max), word, key, max);
	*used = 0;
	assert_int_equal(check(max), 0);
	assert_int_equal(check(max + 1), FAULT);
	assert_int_equal(fault.word, FAULT_TOO_LARGE); /* no waiting helps */
	assert_non_null(strstr(fault.text, key));
}

static void test_queue(void **state)
{
	(void)state;
	w.limits.queue_messages = 40;
	w.limits.queue_bytes = 5000;
	w.limits.queue_file_bytes = 70000;
	for (int own = 0; own < 2; own++) {
		check_messages(in_queue, &w.queue->messages, own ? 7 : 40, FAULT_FULL,
			       "(queue_messages)");
		check_bytes(in_queue, &w.queue->bytes, own ? 700 : 5000, FAULT_FULL,
			    "(queue_bytes)");
		check_bytes(in_queue_for_file, &w.queue->file_bytes, own ? 7000 : 70000,
			    FAULT_FULL, "(queue_file_bytes)");
		w.queue->settings.set = SETTING_MAX_MESSAGES | SETTING_MAX_BYTES |
					SETTING_MAX_FILE_BYTES;
		w.queue->settings.max_messages = 7;
		w.queue->settings.max_bytes = 700;
		w.queue->settings.max_file_bytes = 7000;
	}
}

static void test_user(void **state)
{
	const struct name_policy own = { .owner = 1000, .mode = 0600 };
	struct usage *u = &w.user->usage;

	(void)state;
	w.limits.user_messages = 400;
	w.limits.user_bytes = 50000;
	w.limits.user_file_bytes = 700000;
	assert_int_equal(name_apply(&w.queue->name, &own), 0); /* no share counts */
	check_messages(for_user, &u->messages, 400, FAULT_QUOTA, "(user_messages)");
	check_bytes(for_user, &u->bytes, 50000, FAULT_QUOTA, "(user_bytes)");
	check_bytes(for_user_file, &u->file_bytes, 700000, FAULT_QUOTA,
		    "(user_file_bytes)");
}

static void test_quarter(void **state)
{
	static const room_check memory[] = { in_share, for_user },
				file[] = { in_share_for_file, for_user_file };

	(void)state;
	w.limits.user_messages = 400;
	w.limits.user_bytes = 40000;
	w.limits.user_file_bytes = 400000;
	for (size_t i = 0; i < 2; i++) {
		check_messages(memory[i], &share.messages, 100, FAULT_QUOTA,
			       "(a quarter of user_messages)");
		check_bytes(memory[i], &share.bytes, 10000, FAULT_QUOTA,
			    "(a quarter of user_bytes)");
		check_bytes(file[i], &share.file_bytes, 100000, FAULT_QUOTA,
			    "(a quarter of user_file_bytes)");
	}
}

static void test_inbox(void **state)
{
	(void)state;
	w.limits.inbox_messages_per_sender = 9;
	w.limits.inbox_bytes_per_sender = 3000;
	w.limits.inbox_file_bytes_per_sender = 60000;
	share.messages = 9;
	share.bytes = 3000;
	share.file_bytes = 60000;
	assert_int_equal(for_user(1), 0); /* the other one is no inbox */
	assert_int_equal(for_user_file(1), 0);
	share.queue = no_inbox;
	assert_int_equal(for_user(1), 0);
	assert_int_equal(for_user_file(1), 0);
	share = (struct share){ .queue = inbox, .user = w.user };
	check_messages(in_share, &share.messages, 9, FAULT_QUOTA,
		       "(inbox_messages_per_sender)");
	check_bytes(in_share, &share.bytes, 3000, FAULT_QUOTA,
		    "(inbox_bytes_per_sender)");
	check_bytes(in_share_for_file, &share.file_bytes, 60000, FAULT_QUOTA,
		    "(inbox_file_bytes_per_sender)");
}

/* In one's own queue, and for root, there is no share. */
static void test_at_home(void **state)
{
	struct user *root;

	(void)state;
	w.limits.user_messages = w.limits.user_bytes = w.limits.user_file_bytes = 4;
	share.messages = share.bytes = share.file_bytes = 4;
	assert_int_equal(in_share(0), FAULT);
	assert_int_equal(in_share_for_file(1), FAULT);
	assert_int_equal(user_get(&w.users, 0, &root), 0);
	share.user = root;
	assert_int_equal(in_share(100), 0);
	assert_int_equal(in_share_for_file(100), 0);
	user_unref(root);
	share.queue = inbox;
	share.user = inbox->name.owner;
	assert_int_equal(share.user->uid, 2000);
	assert_int_equal(in_share(100), 0);
	assert_int_equal(in_share_for_file(100), 0);
}

/* A message without a file goes where files are full. */
static void test_no_file(void **state)
{
	(void)state;
	w.queue->file_bytes = share.file_bytes = w.user->usage.file_bytes = UINT64_MAX;
	assert_int_equal(in_queue_for_file(0), 0);
	assert_int_equal(in_share_for_file(0), 0);
	assert_int_equal(for_user_file(0), 0);
	assert_int_equal(in_queue_for_file(1), FAULT);
	assert_int_equal(in_share_for_file(1), FAULT);
	assert_int_equal(for_user_file(1), FAULT);
	w.queue->file_bytes = 0;
	assert_int_equal(in_queue_for_file(UINT64_MAX), FAULT);
	assert_int_equal(fault.word, FAULT_TOO_LARGE);
}

static void test_live_limit(void **state)
{
	(void)state;
	w.limits.live_per_user = 3;
	for (uint64_t n = 2; n <= 4; n++) {
		w.user->usage.live = n;
		if (n < 3)
			assert_int_equal(room_for_live(&share, &fault), 0);
		else
			expect_refused(room_for_live(&share, &fault), FAULT_QUOTA,
				       "(live_per_user)", 3);
	}
	w.limits.live_per_user = w.user->usage.live = 0;
	assert_int_equal(room_for_live(&share, &fault), FAULT);
}

static void test_bodies_limit(void **state)
{
	(void)state;
	w.limits.bodies_per_user = 3;
	for (uint64_t n = 2; n <= 4; n++) {
		w.user->usage.bodies = n;
		if (n < 3)
			assert_int_equal(room_for_body(w.user, &w.limits, &fault), 0);
		else
			expect_refused(room_for_body(w.user, &w.limits, &fault),
				       FAULT_QUOTA, "(bodies_per_user)", 3);
	}
	w.user->uid = 0;
	assert_int_equal(room_for_body(w.user, &w.limits, &fault), 0);
	w.user->uid = 1000;
	w.user->usage.bodies = 0;
}

/* ---- messages in a queue ---- */

static int try_send(unsigned int priority, bool live, struct message **ret_message)
{
	int fd = live ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
	struct blob *blob =
		live ? blob_new_fd(&w.broker.blobs, 1000, fd, UINT64_MAX, 0, true, true)
		     : NULL;
	struct message_content content = {
		.from = w.from, .ttl_ms = UINT64_MAX, .priority = priority, .blob = blob
	};
	struct message *m = message_new(&content);
	uint64_t number;
	int r = queue_send(w.queue, w.user, m, &number, &fault);

	blob_unref(blob);
	if (r)
		message_free(m);
	else
		*ret_message = m;
	return r;
}

static struct message *send_it(unsigned int priority, bool live)
{
	struct message *m = NULL;

	assert_int_equal(try_send(priority, live, &m), 0);
	return m;
}

/* What the limits are for: one more is not taken, and is when one has gone. */
static void test_full(void **state)
{
	struct message *m[3], *more;

	(void)state;
	w.limits.queue_messages = 3;
	w.limits.live_per_user = 2;
	for (int i = 0; i < 2; i++)
		m[i] = send_it(4, true);
	assert_int_equal(w.user->usage.live, 2);
	expect_refused(try_send(4, true, &more), FAULT_QUOTA, "(live_per_user)", 2);
	m[2] = send_it(4, false);
	expect_refused(try_send(4, false, &more), FAULT_FULL, "(queue_messages)", 3);
	message_end(m[0], "deleted");
	assert_int_equal(w.user->usage.live, 1);
	assert_int_equal(try_send(4, true, &more), 0);
	assert_int_equal(try_send(4, false, &more), FAULT);
}

/* ---- receivers that take no live descriptors ---- */

static const struct receiver takes_none = { .takes_live = false },
			     takes_all = { .takes_live = true };

static void expect_first(const struct message *first, const struct message *plain)
{
	assert_ptr_equal(queue_first(w.queue), first);
	assert_ptr_equal(queue_first_for(w.queue, &takes_all), first);
	assert_ptr_equal(queue_first_for(w.queue, &takes_none), plain);
}

static void give_back(struct message *m)
{
	message_set_state(m, MESSAGE_DEAD, 0);
	message_set_state(m, MESSAGE_READY, 0);
}

static void test_fresh_are_passed_over(void **state)
{
	(void)state;
	for (unsigned int p = 0; p <= LIMIT_PRIORITY_MAX; p++)
		for (unsigned int q = p; q <= LIMIT_PRIORITY_MAX; q++) {
			struct message *live[2] = { send_it(p, true), send_it(p, true) },
				       *plain;

			expect_first(live[0], NULL);
			plain = send_it(q, false);
			send_it(LIMIT_PRIORITY_MAX, false);
			expect_first(live[0], plain);
			message_end(live[0], "deleted");
			expect_first(live[1], plain);
			message_end(live[1], "deleted");
			expect_first(plain, plain);
			while (queue_first(w.queue))
				message_end(queue_first(w.queue), "deleted");
		}
}

/* Of those that came back and those that did not the smaller one goes first. */
static void test_returned_are_passed_over(void **state)
{
	struct message *m[6];

	(void)state;
	for (int i = 0; i < 6; i++)
		m[i] = send_it(4, i == 0 || i == 2);
	/* to the heap: 2 (live), 1, 0 (live); fresh: 3, 4, 5 */
	give_back(m[2]);
	give_back(m[1]);
	give_back(m[0]);
	assert_int_equal(w.queue->returned.n, 3);
	expect_first(m[0], m[1]);
	message_end(m[1], "deleted");
	expect_first(m[0], m[3]);
	give_back(m[4]);
	expect_first(m[0], m[3]);
	message_end(m[3], "deleted");
	expect_first(m[0], m[4]);
	m[1] = send_it(3, true);
	expect_first(m[1], m[4]);
	m[3] = send_it(3, false);
	expect_first(m[1], m[3]);
	message_end(m[4], "deleted");
	message_end(m[3], "deleted");
	expect_first(m[1], m[5]);
	message_end(m[5], "deleted");
	expect_first(m[1], NULL);
}

static struct receiver receivers[4];

static void open_receivers(unsigned int n_taking)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(receivers); i++) {
		world_open_receiver(&receivers[i], 7);
		receivers[i].takes_live = i >= ARRAY_SIZE(receivers) - n_taking;
		receiver_feed(&receivers[i]);
	}
}

static void close_receivers(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(receivers); i++) {
		receiver_end(&receivers[i]);
		receiver_lose(&receivers[i], 0, UINT64_MAX);
		receiver_deinit(&receivers[i]);
	}
}

static void test_hungry_are_passed_over(void **state)
{
	uint64_t n_plain = 0;

	(void)state;
	open_receivers(1);
	for (unsigned int i = 0; i < 6; i++) {
		struct message *live = send_it(4, true);

		assert_ptr_equal(live->holder, &receivers[3]);
		message_ack(live);
	}
	for (unsigned int i = 0; i < 8; i++)
		send_it(4, false);
	for (unsigned int i = 0; i < ARRAY_SIZE(receivers); i++) {
		assert_int_equal(receivers[i].n_leased, 2); /* in turns */
		n_plain += receivers[i].n_leased;
	}
	assert_int_equal(n_plain, 8);
	close_receivers();
}

/* Several at once for the only one who takes them. */
static void test_one_takes_them(void **state)
{
	struct message *live[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		live[i] = send_it(4, true);
		message_set_state(live[i], MESSAGE_DEAD, 0);
	}
	open_receivers(1);
	for (int i = 0; i < 3; i++)
		message_set_state(live[i], MESSAGE_READY, 0);
	queue_dispatch(w.queue);
	for (int i = 0; i < 3; i++)
		assert_ptr_equal(live[i]->holder, &receivers[3]);
	close_receivers();
}

/* Nobody takes it: it waits, and nothing waits behind it. */
static void test_nobody_takes_it(void **state)
{
	struct message *live, *plain;

	(void)state;
	open_receivers(0);
	live = send_it(0, true);
	assert_int_equal(live->state, MESSAGE_READY);
	for (unsigned int i = 0; i < 8; i++) {
		plain = send_it(9, false);
		assert_int_equal(plain->state, MESSAGE_LEASED);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(receivers); i++)
		assert_int_equal(receivers[i].n_leased, 2);
	pass();
	assert_int_equal(live->state, MESSAGE_READY);
	receiver_set_takes_live(&receivers[2], true);
	pass();
	assert_ptr_equal(live->holder, &receivers[2]);
	close_receivers();
}

/* However many came back: only what lies behind a live one is looked at. */
static void test_few_are_looked_at(void **state)
{
	enum { N = 1000, N_LIVE = 4, SEEN_MAX = (2 << N_LIVE) - 1 };
	struct heap *heap = &w.queue->returned;
	struct message *messages[N];
	struct heap_node *hidden[N];

	(void)state;
	w.limits.live_per_user = N_LIVE;
	for (unsigned int i = 0; i < N; i++)
		messages[i] = send_it(i < N_LIVE ? 0 : 1 + i % 9, i < N_LIVE);
	for (unsigned int p = 0; p <= LIMIT_PRIORITY_MAX; p++)
		send_it(p, false); /* so that none of those is fresh again */
	for (unsigned int i = 0; i < N; i++)
		give_back(messages[i]);
	message_end(LIST_FIRST(&w.queue->fresh[0], struct message, link), "deleted");
	assert_int_equal(heap->n, N);
	memcpy(hidden, heap->nodes, sizeof(hidden));
	for (unsigned int i = SEEN_MAX; i < N; i++)
		heap->nodes[i] = NULL;
	expect_first(messages[0], messages[9]);
	memcpy(heap->nodes, hidden, sizeof(hidden));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define TEST_IN_QUEUE(test) cmocka_unit_test_setup_teardown(test, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_queue),
		TEST(test_user),
		TEST(test_quarter),
		TEST(test_inbox),
		TEST(test_at_home),
		TEST(test_no_file),
		TEST(test_live_limit),
		TEST(test_bodies_limit),
		TEST_IN_QUEUE(test_full),
		TEST_IN_QUEUE(test_fresh_are_passed_over),
		TEST_IN_QUEUE(test_returned_are_passed_over),
		TEST_IN_QUEUE(test_few_are_looked_at),
		TEST_IN_QUEUE(test_hungry_are_passed_over),
		TEST_IN_QUEUE(test_one_takes_them),
		TEST_IN_QUEUE(test_nobody_takes_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
