/* SPDX-License-Identifier: MIT */

/* The database: what goes in comes out, or is counted as lost. */

#include "unit/disk.h"

#include "database.h"
#include "spool.h"

static struct database *db;
static struct spool *spool;
static struct store_head head;
static struct database_losses losses;

static void open_it(void)
{
	unsigned int other;

	assert_int_equal(spool_open(&spool, disk_directory), 0);
	assert_int_equal(database_open(&db, disk_directory, "ipcd.db", spool, &other), 0);
	assert_int_equal(other, 0);
	memset(&losses, 0, sizeof(losses));
}

static void begin(void)
{
	assert_int_equal(database_begin(db, true), 0);
}

static void commit(void)
{
	assert_int_equal(database_commit(db, &head), 0);
	database_after_commit(db);
}

static void close_it(void)
{
	db = database_close(db);
	spool = spool_close(spool);
}

/* ---- records ---- */

static struct slice slice_of(const char *text)
{
	return (struct slice){ text, text ? strlen(text) : 0 };
}

static char pattern[300000];

enum { LARGE = 262145 };

/* The name of a blob that has message number's body. */
static const char *blob_name_of(uint64_t number)
{
	static char name[40];

	snprintf(name, sizeof(name), "spool/%llu", (unsigned long long)number + 1000);
	return name;
}

/* Each has other values in all its members. */
static struct message_record record(uint64_t number, size_t body_size)
{
	bool blob = body_size >= LARGE;

	return (struct message_record){
		.number = number,
		.uid = (uid_t)(4000000000u + number),
		.priority = (unsigned int)number % 10,
		.sent_ms = 1764000000000 + number,
		.expires_ms = number % 2 ? 1764000001000 + number : 0,
		.from = slice_of("\"from\":{\"uid\":1}"),
		.meta = slice_of(number % 2 ? "{\"a\":1}" : NULL),
		.file = slice_of(number % 2 ? NULL : "\"filename\":\"\xc3\xa4\""),
		.body = { blob ? NULL : pattern + number % 1000, blob ? 0 : body_size },
		.body_size = body_size,
		.blob = blob ? number + 1000 : 0,
		.blob_fd = -1,
		.queue = number + 7,
		.dead = number % 3 == 0,
		.kept = number % 4 == 0,
		.attempts = number * 3,
		.deliveries = (1ull << 40) + number,
		.due_ms = number % 5 ? 1764000002000 + number : 0,
		.reason = slice_of(number % 3 ? NULL : "why \xc3\xa4"),
		.history = slice_of(number % 3 == 1 ? "{\"attempt\":1}" : NULL),
	};
}

static void check_slice(struct slice a, struct slice b)
{
	assert_int_equal(a.size, b.size);
	assert_int_equal(a.data == NULL, b.data == NULL);
	if (a.size)
		assert_memory_equal(a.data, b.data, a.size);
}

static void check_message(const struct message_record *a, const struct message_record *b)
{
	assert_int_equal(a->number, b->number);
	assert_int_equal(a->uid, b->uid);
	assert_int_equal(a->priority, b->priority);
	assert_int_equal(a->sent_ms, b->sent_ms);
	assert_int_equal(a->expires_ms, b->expires_ms);
	check_slice(a->from, b->from);
	check_slice(a->meta, b->meta);
	assert_int_equal(a->body_size, b->body_size);
	assert_int_equal(a->body.size, b->body.size);
	if (b->body.size)
		assert_memory_equal(a->body.data, b->body.data, b->body.size);
	assert_int_equal(a->blob, b->blob);
	check_slice(a->file, b->file);
	assert_int_equal(a->queue, b->queue);
	assert_int_equal(a->dead, b->dead);
	assert_int_equal(a->kept, b->kept);
	assert_int_equal(a->attempts, b->attempts);
	assert_int_equal(a->deliveries, b->deliveries);
	assert_int_equal(a->due_ms, b->due_ms);
	check_slice(a->reason, b->reason);
	check_slice(a->history, b->history);
}

/* What comes must be these, in their order. */
static struct expectation {
	struct message_record messages[20];
	size_t n, seen;
} expected;

static void expect(const struct message_record *m)
{
	expected.messages[expected.n++] = *m;
}

static int on_message(void *arg, const struct message_record *m)
{
	(void)arg;
	assert_true(expected.seen < expected.n);
	check_message(m, &expected.messages[expected.seen++]);
	return 0;
}

static void check_messages(void)
{
	expected.seen = 0;
	assert_int_equal(database_each_message(db, on_message, NULL, &losses), 0);
	assert_int_equal(expected.seen, expected.n);
}

static void put_file(uint64_t number, size_t size)
{
	disk_put(blob_name_of(number), pattern + number % 1000, size);
}

static void put(const struct message_record *m)
{
	if (m->blob)
		put_file(m->number, m->body_size);
	assert_int_equal(database_put_message(db, m, false), 0);
}

/* ---- round trips ---- */

static const size_t sizes[] = { 0, 1, 4096, 4097, 262144, 262145 };

static void fill(void)
{
	begin();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct message_record m = record(i + 1, sizes[i]);

		put(&m);
		expect(&m);
	}
	commit();
}

static void test_messages(void **state)
{
	open_it();
	fill();
	for (int i = 0; i < 2; i++) {
		check_messages();
		assert_int_equal(losses.messages, 0);
		assert_false(losses.damaged);
		assert_int_equal(database_live(db), ARRAY_SIZE(sizes));
		assert_int_equal(database_next_number(db), ARRAY_SIZE(sizes) + 1);
		assert_int_equal(database_commits(db), 1);
		close_it();
		open_it();
	}
	close_it();
}

static void test_empty_texts_and_none(void **state)
{
	struct message_record none = record(2, 0), empty = record(4, 0);

	none.from = none.meta = none.file = none.reason = none.history = none.body =
		(struct slice){ NULL, 0 };
	empty.from = empty.meta = empty.file = empty.reason = empty.history =
		slice_of("");
	open_it();
	begin();
	put(&none);
	put(&empty);
	expect(&none);
	expect(&empty);
	commit();
	close_it();
	open_it();
	check_messages();
	assert_int_equal(losses.messages, 0);
	close_it();
}

static void test_largest_values(void **state)
{
	struct message_record m = record(INT64_MAX - 1, 5);

	m.file = slice_of("\"file_size\":9223372036854775807");
	m.uid = UINT32_MAX;
	m.sent_ms = m.expires_ms = m.due_ms = INT64_MAX;
	m.queue = m.attempts = m.deliveries = UINT64_MAX;
	open_it();
	begin();
	put(&m);
	expect(&m);
	commit();
	check_messages();
	assert_int_equal(losses.messages, 0);
	close_it();
}

static void test_set_and_drop(void **state)
{
	struct message_record changed;

	open_it();
	fill();
	begin();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		changed = record(i + 1, sizes[i]);
		changed.queue = 99;
		changed.dead = !changed.dead;
		changed.attempts++;
		changed.expires_ms = 5;
		changed.due_ms = 6;
		changed.reason = slice_of("another");
		changed.history = slice_of(i % 2 ? NULL : "changed");
		assert_int_equal(database_set_message(db, &changed), 0);
		expected.messages[i] = changed;
	}
	commit();
	check_messages();
	begin();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_int_equal(database_drop_message(db, i + 1,
						       sizes[i] < LARGE ? sizes[i] : 0),
				 0);
	commit();
	assert_true(disk_has(blob_name_of(6))); /* others know when it goes */
	expected.n = 0;
	check_messages();
	assert_int_equal(database_live(db), 0);
	assert_int_equal(head.live, 0);
	close_it();
}

static void test_rollback(void **state)
{
	struct message_record m = record(10, LARGE);

	open_it();
	fill();
	begin();
	put(&m);
	assert_int_equal(database_drop_message(db, 6, 0), 0);
	assert_int_equal(database_drop_message(db, 1, 0), 0);
	database_rollback(db);
	assert_true(disk_has(blob_name_of(6)));
	assert_int_equal(database_live(db), ARRAY_SIZE(sizes));
	check_messages();
	begin();
	commit();
	assert_int_equal(head.live, ARRAY_SIZE(sizes));
	close_it();
}

/* A message once more (moved between queues, or a new file) is still one. */
static void test_the_same_once_more(void **state)
{
	struct message_record m = record(1, 0);

	open_it();
	fill();
	begin();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		m = record(i + 1, sizes[i]);
		put(&m);
	}
	commit();
	assert_int_equal(head.live, ARRAY_SIZE(sizes));
	check_messages();
	begin();
	m = record(6, LARGE);
	put(&m);
	database_rollback(db);
	check_messages();
	assert_int_equal(losses.messages, 0);
	close_it();
}

/* A body that is a file is there as long as that has its size; it is not read. */
static void test_files(void **state)
{
	struct message_record m = record(6, LARGE);

	open_it();
	begin();
	put(&m);
	commit();
	expect(&m);
	disk_put(blob_name_of(6), pattern, LARGE);
	check_messages();
	assert_int_equal(losses.messages, 0);
	expected.n = 0;
	disk_put(blob_name_of(6), pattern, LARGE + 1);
	check_messages();
	assert_int_equal(losses.messages, 1);
	disk_put(blob_name_of(6), pattern, LARGE - 1);
	check_messages();
	assert_int_equal(losses.messages, 2);
	disk_put("elsewhere", pattern, LARGE);
	assert_int_equal(unlink(disk_path(blob_name_of(6))), 0);
	check_messages();
	assert_int_equal(losses.messages, 3);
	assert_int_equal(symlink("../elsewhere", disk_path(blob_name_of(6))), 0);
	check_messages();
	assert_int_equal(losses.messages, 4);
	assert_int_equal(unlink(disk_path(blob_name_of(6))), 0);
	assert_int_equal(mkdir(disk_path(blob_name_of(6)), 0700), 0);
	check_messages();
	assert_int_equal(losses.messages, 5);
	assert_int_equal(database_live(db), 1);
	close_it();
}

/* A send without its file is no send. But what has been sent does not hold up the others. */
static void test_a_file_that_is_not_there(void **state)
{
	struct message_record m = record(6, LARGE);

	open_it();
	begin();
	assert_int_equal(database_put_message(db, &m, false), -EIO);
	assert_string_equal(database_error(db), strerror(EIO));
	database_rollback(db);
	put_file(6, LARGE - 1);
	begin();
	assert_int_equal(database_put_message(db, &m, false), -EIO);
	database_rollback(db);
	begin();
	assert_int_equal(database_put_message(db, &m, true), 0);
	commit();
	check_messages();
	assert_int_equal(losses.messages, 1);
	close_it();
}

static int on_name(void *arg, const struct name_record *n)
{
	const struct name_record **names = arg, *e = *names;

	assert_int_equal(n->id, e->id);
	check_slice(n->name, e->name);
	check_slice(n->settings, e->settings);
	++*names;
	return 0;
}

static void test_names(void **state)
{
	struct name_record names[] = { { 1, slice_of("a.b"), slice_of("{\"own\":true}") },
				       { 2, slice_of("@1000"), slice_of(NULL) },
				       { 7, slice_of("c"), slice_of("") } };
	const struct name_record *at = names;

	open_it();
	begin();
	for (int i = 2; i >= 0; i--)
		assert_int_equal(database_put_name(db, &names[i]), 0);
	names[1].settings = slice_of("{}");
	assert_int_equal(database_put_name(db, &names[1]), 0);
	commit();
	assert_int_equal(database_each_name(db, on_name, &at, &losses), 0);
	assert_ptr_equal(at, names + 3);
	begin();
	assert_int_equal(database_drop_name(db, 1), 0);
	assert_int_equal(database_drop_name(db, 1), 0);
	commit();
	close_it();
	open_it();
	at = names + 1;
	assert_int_equal(database_each_name(db, on_name, &at, &losses), 0);
	assert_ptr_equal(at, names + 3);
	close_it();
}

static int on_dedup(void *arg, const struct dedup_record *d)
{
	const struct dedup_record **dedups = arg, *e = *dedups;

	assert_int_equal(d->number, e->number);
	assert_int_equal(d->queue, e->queue);
	assert_int_equal(d->uid, e->uid);
	assert_int_equal(d->sent_ms, e->sent_ms);
	check_slice(d->id, e->id);
	++*dedups;
	return 0;
}

static void test_dedups(void **state)
{
	struct dedup_record dedups[] = { { 1, 2, UINT32_MAX, 5, slice_of("id") },
					 { 8, 2, 0, 6, slice_of("\xc3\xa4") } };
	const struct dedup_record *at = dedups;

	open_it();
	begin();
	assert_int_equal(database_put_dedup(db, &dedups[1]), 0);
	assert_int_equal(database_put_dedup(db, &dedups[0]), 0);
	commit();
	assert_int_equal(database_each_dedup(db, on_dedup, &at, &losses), 0);
	assert_ptr_equal(at, dedups + 2);
	begin();
	assert_int_equal(database_drop_dedup(db, 1), 0);
	commit();
	at = dedups + 1;
	assert_int_equal(database_each_dedup(db, on_dedup, &at, &losses), 0);
	assert_ptr_equal(at, dedups + 2);
	close_it();
}

static void test_head(void **state)
{
	struct store_head read = { 0 };

	open_it();
	assert_int_equal(database_read_head(db, &read), 0);
	head = (struct store_head){ .generation = 4,
				    .next_number = 77,
				    .clean = true,
				    .lease_key = { 5, UINT64_MAX } };
	begin();
	commit();
	close_it();
	open_it();
	assert_int_equal(database_read_head(db, &read), 1);
	assert_int_equal(read.generation, 4);
	assert_int_equal(read.next_number, 77);
	assert_int_equal(read.commits, 1);
	assert_true(read.clean);
	assert_int_equal(read.lease_key.k1, UINT64_MAX);
	close_it();
}

static int ignore(void *arg, const struct message_record *m)
{
	(void)arg;
	(void)m;
	return 0;
}

/* The number of the last commit is found, whatever the commits have done. */
static void test_count_of_commits(void **state)
{
	struct store_head read;

	open_it();
	for (uint64_t i = 1; i <= 40; i++) {
		struct message_record m = record(i, 10);

		begin();
		if (i % 3)
			put(&m);
		if (i % 5 == 0)
			assert_int_equal(database_drop_message(db, i, 10), 0);
		if (i % 4 == 0)
			assert_int_equal(database_drop_message(db, i - 1, 10), 0);
		commit();
		assert_int_equal(head.commits, i);
		close_it();
		open_it();
		assert_true(database_read_head(db, &read) >= 0);
		assert_int_equal(database_each_message(db, ignore, NULL, &losses), 0);
		assert_int_equal(database_commits(db), i);
		assert_int_equal(database_live(db), head.live);
	}
	close_it();
}

#define on_disk(test) cmocka_unit_test_setup_teardown(test, setup, disk_teardown)

static int setup(void **state)
{
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (char)(i * 2654435761u >> 24);
	memset(&head, 0, sizeof(head));
	memset(&expected, 0, sizeof(expected));
	return disk_setup(state);
}

/* Not two calls for each page of the log, see log_file.h. */
static void test_calls_of_a_commit(void **state)
{
	unsigned long calls = 0;

	open_it();
	for (int round = 0; round < 2; round++) { /* the first makes the log longer */
		begin();
		for (uint64_t i = 1; i <= 64; i++) {
			struct message_record m = record((uint64_t)round * 64 + i, 100);

			assert_int_equal(database_put_message(db, &m, false), 0);
		}
		calls = disk.calls;
		commit();
	}
	assert_int_equal(disk.calls - calls, 3); /* the log, its sync, commits */
	close_it();
}

/* Giving space back does not take more of it meanwhile. */
static void test_space_is_given_back(void **state)
{
	enum { MANY = 12000, BODY = 4000 };
	const off_t most = 9 << 20; /* the log's usual length, and one step */
	struct stat st;
	off_t before;

	open_it();
	begin();
	for (uint64_t i = 1; i <= MANY; i++) {
		struct message_record m = record(i, BODY);

		assert_int_equal(database_put_message(db, &m, false), 0);
	}
	commit();
	begin();
	for (uint64_t i = 1; i <= MANY; i++)
		if (i % 4)
			assert_int_equal(database_drop_message(db, i, BODY), 0);
	commit();
	assert_int_equal(database_checkpoint(db), 0);
	assert_int_equal(stat(disk_path("ipcd.db"), &st), 0);
	before = st.st_size;
	while (database_shrink(db)) {
		assert_int_equal(stat(disk_path("ipcd.db-wal"), &st), 0);
		assert_true(st.st_size <= most);
	}
	assert_int_equal(stat(disk_path("ipcd.db"), &st), 0);
	assert_true(st.st_size < before / 2);
	close_it();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_disk(test_messages),
		on_disk(test_empty_texts_and_none),
		on_disk(test_largest_values),
		on_disk(test_set_and_drop),
		on_disk(test_rollback),
		on_disk(test_the_same_once_more),
		on_disk(test_names),
		on_disk(test_dedups),
		on_disk(test_head),
		on_disk(test_count_of_commits),
		on_disk(test_files),
		on_disk(test_a_file_that_is_not_there),
		on_disk(test_calls_of_a_commit),
		on_disk(test_space_is_given_back),
	};

	return cmocka_run_group_tests_name("store_database", tests, NULL, NULL);
}
