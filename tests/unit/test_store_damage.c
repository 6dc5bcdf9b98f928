/* SPDX-License-Identifier: MIT */

/* A database that was spoiled: exactly what is wrong is counted as lost, the rest comes. */

#include "unit/disk.h"

#include <sqlite3.h>

#include "storage.h"

enum { N = 5 };

static const char text[] = "a text that is long enough";

static struct slice slice_of(const char *s)
{
	return (struct slice){ s, strlen(s) };
}

enum { LARGE = 300000 };

static struct message_record message(uint64_t number)
{
	static char body[LARGE];
	size_t size = number == 4 ? 5000 : number == 5 ? LARGE : 10;
	bool blob = number == 5;

	return (struct message_record){ .number = number,
					.from = slice_of(text),
					.meta = slice_of(text),
					.file = slice_of(text),
					.body = { blob ? NULL : body, blob ? 0 : size },
					.body_size = size,
					.blob = blob ? 77 : 0,
					.blob_fd = -1,
					.reason = slice_of(text),
					.history = slice_of(text) };
}

static void put_all(struct database *db)
{
	for (uint64_t i = 1; i <= N; i++) {
		struct message_record m = message(i);
		struct name_record n = { i, slice_of(text), slice_of(text) };
		struct dedup_record d = { i, i, 0, i, slice_of(text) };

		assert_int_equal(database_put_message(db, &m, false), 0);
		assert_int_equal(database_put_name(db, &n), 0);
		assert_int_equal(database_put_dedup(db, &d), 0);
	}
}

static int setup(void **state)
{
	struct store_head head = { .generation = 1, .next_number = N + 1 };
	struct database *db;
	struct spool *spool;
	unsigned int other;
	char *body = calloc(1, LARGE);

	disk_setup(state);
	assert_int_equal(spool_open(&spool, disk_directory), 0);
	disk_put("spool/77", body, LARGE);
	free(body);
	assert_int_equal(database_open(&db, disk_directory, "ipcd.db", spool, &other), 0);
	assert_int_equal(database_begin(db, true), 0);
	put_all(db);
	assert_int_equal(database_commit(db, &head), 0);
	database_after_commit(db);
	database_close(db);
	spool_close(spool);
	return 0;
}

static void run_sql(const char *format, ...) PRINTF_LIKE(1, 2);
static void run_sql(const char *format, ...)
{
	char sql[500];
	sqlite3 *db;
	va_list args;

	va_start(args, format);
	vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);
	assert_int_equal(sqlite3_open(disk_path("ipcd.db"), &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	sqlite3_close(db);
}

/* ---- what is there ---- */

static struct seen {
	bool names[N + 1], messages[N + 1], dedups[N + 1];
	uint64_t n;
} seen;

static int on_name(void *arg, const struct name_record *n)
{
	(void)arg;
	assert_in_range(n->id, 1, N);
	assert_int_equal(n->name.size, strlen(text));
	assert_memory_equal(n->name.data, text, strlen(text));
	seen.names[n->id] = true;
	seen.n++;
	return 0;
}

static int on_message(void *arg, const struct message_record *m)
{
	(void)arg;
	assert_in_range(m->number, 1, N);
	assert_int_equal(m->body_size, message(m->number).body_size);
	assert_int_equal(m->blob, message(m->number).blob);
	if (!m->blob)
		assert_memory_equal(m->body.data, message(m->number).body.data,
				    m->body_size);
	assert_int_equal(m->file.size, strlen(text));
	assert_memory_equal(m->file.data, text, strlen(text));
	seen.messages[m->number] = true;
	seen.n++;
	return 0;
}

static int on_dedup(void *arg, const struct dedup_record *d)
{
	(void)arg;
	assert_in_range(d->number, 1, N);
	seen.dedups[d->number] = true;
	seen.n++;
	return 0;
}

static struct storage storage;

/* Loads all; returns whether it is called damaged. */
static bool load(void)
{
	memset(&seen, 0, sizeof(seen));
	assert_int_equal(storage_open(&storage, disk_directory), 0);
	assert_int_equal(storage_load(&storage, on_name, on_message, on_dedup, NULL), 0);
	return storage_judge(&storage);
}

static void test_nothing_is_wrong(void **state)
{
	assert_false(load());
	assert_int_equal(seen.n, 3 * N);
	assert_null(storage.damage);
	assert_int_equal(storage.head.next_number, N + 1);
	storage_close(&storage);
}

/* ---- each column ---- */

/* Of another value, of the same kind. What SQLite cannot hold apart, as any number but 0 in
 * a flag, is no damage. */
static const char *spoil(const char *column)
{
	static char sql[300];

	if (!strcmp(column, "dead") || !strcmp(column, "kept"))
		snprintf(sql, sizeof(sql), "%s=NOT %s", column, column);
	else
		snprintf(sql, sizeof(sql),
			 "%s=CASE typeof(%s) WHEN 'integer' THEN %s+1 "
			 "WHEN 'null' THEN 'x' ELSE substr(%s,2)||'y' END",
			 column, column, column, column);
	return sql;
}

static void check_one_is_lost(const char *what, uint64_t names, uint64_t messages,
			      uint64_t dedups)
{
	const struct database_losses *l = &storage.losses;

	if (!load() || seen.n != 3 * N - 1 || l->names != names ||
	    l->messages != messages || l->dedups != dedups || !storage.damage)
		fail_msg("%s: %llu rows are there", what, (unsigned long long)seen.n);
	storage_close(&storage);
}

static void test_each_column_of_a_message(void **state)
{
	static const char *const columns[] = {
		"queue",    "dead",    "kept",	     "attempts",  "deliveries",
		"due_ms",   "reason",  "history",    "state_sum", "uid",
		"priority", "sent_ms", "expires_ms", "sender",	  "meta",
		"file",	    "blob",    "body_size",  "body",	  "commit_number",
		"sum",
	};

	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		setup(state);
		run_sql("UPDATE messages SET %s WHERE number=2", spoil(columns[i]));
		check_one_is_lost(columns[i], 0, 1, 0);
		assert_false(seen.messages[2]);
	}
}

static void test_each_column_of_others(void **state)
{
	static const struct {
		const char *table, *column;
		uint64_t names, dedups;
	} rows[] = {
		{ "names", "name", 1, 0 }, { "names", "settings", 1, 0 },
		{ "names", "sum", 1, 0 },  { "dedup", "queue", 0, 1 },
		{ "dedup", "uid", 0, 1 },  { "dedup", "sent_ms", 0, 1 },
		{ "dedup", "id", 0, 1 },   { "dedup", "sum", 0, 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		setup(state);
		run_sql("UPDATE %s SET %s WHERE rowid=2", rows[i].table,
			spoil(rows[i].column));
		check_one_is_lost(rows[i].column, rows[i].names, 0, rows[i].dedups);
	}
}

/* A row that has another one's number. */
static void test_numbers(void **state)
{
	setup(state);
	run_sql("UPDATE messages SET number=9 WHERE number=2");
	check_one_is_lost("number", 0, 1, 0);
	setup(state);
	run_sql("UPDATE names SET id=9 WHERE id=2");
	check_one_is_lost("id", 1, 0, 0);
	setup(state);
	run_sql("UPDATE dedup SET number=9 WHERE number=2");
	check_one_is_lost("number", 0, 0, 1);
}

static void test_bodies_elsewhere(void **state)
{
	static const char *const spoilt[] = {
		"UPDATE bodies SET body=x'00'||substr(body,3)||x'01' WHERE number=4",
		"UPDATE bodies SET body=substr(body,2) WHERE number=4",
		"DELETE FROM bodies WHERE number=4",
	};

	for (size_t i = 0; i < ARRAY_SIZE(spoilt); i++) {
		setup(state);
		run_sql("%s", spoilt[i]);
		check_one_is_lost(spoilt[i], 0, 1, 0);
		assert_false(seen.messages[4]);
	}
	setup(state);
	assert_int_equal(truncate(disk_path("spool/77"), LARGE - 1), 0);
	check_one_is_lost("a short file", 0, 1, 0);
	setup(state);
	assert_int_equal(unlink(disk_path("spool/77")), 0);
	check_one_is_lost("no file", 0, 1, 0);
	setup(state);
	assert_int_equal(rename(disk_path("spool/77"), disk_path("77")), 0);
	assert_int_equal(symlink("../77", disk_path("spool/77")), 0);
	check_one_is_lost("a link", 0, 1, 0);
	setup(state);
	assert_int_equal(rename(disk_path("spool/77"), disk_path("spool/78")), 0);
	run_sql("UPDATE messages SET blob=78 WHERE number=5");
	check_one_is_lost("a file of another name", 0, 1, 0);
}

/* Without its head all is there; only what the head knew is known from elsewhere. */
static void test_the_head(void **state)
{
	static const char *const columns[] = { "generation", "commits", "next_number",
					       "live",	     "clean",	"lease_key",
					       "sum" };

	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		setup(state);
		run_sql("UPDATE head SET %s",
			strcmp(columns[i], "clean") ? spoil(columns[i]) : "clean=1");
		(void)load();
		assert_int_equal(seen.n, 3 * N);
		assert_int_equal(storage.head.next_number, N + 1);
		assert_int_equal(storage.head.generation, 1);
		storage_close(&storage);
	}
}

static void test_rows_that_are_gone(void **state)
{
	run_sql("DELETE FROM messages WHERE number IN (1,2)");
	(void)load();
	assert_non_null(strstr(storage.damage, "2 of 5 messages are lost"));
	storage_close(&storage);
}

/* ---- whole files ---- */

/* What another version has written stays as it is. */
static void test_another_version(void **state)
{
	static const unsigned int others[] = { 1, DATABASE_FORMAT + 1 };

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		struct database *db;
		unsigned int other = 0;

		run_sql("PRAGMA user_version=%u", others[i]);
		assert_int_equal(database_open(&db, disk_directory, "ipcd.db", NULL,
					       &other),
				 -EUCLEAN);
		assert_int_equal(other, others[i]);
		assert_int_equal(storage_open(&storage, disk_directory), -EUCLEAN);
		storage_close(&storage);
		assert_true(disk_has("ipcd.db"));
		assert_true(disk_has("spool/77"));
		assert_false(disk_has("ipcd.db.bad"));
	}
	run_sql("PRAGMA user_version=%d", DATABASE_FORMAT);
	assert_false(load());
	assert_int_equal(seen.n, 3 * N);
	storage_close(&storage);
}

static void check_set_aside(void)
{
	assert_true(load());
	assert_int_equal(seen.n, 0);
	assert_true(disk_has("ipcd.db.bad"));
	assert_non_null(storage.damage);
	storage_close(&storage);
}

static void test_a_database_of_others(void **state)
{
	run_sql("PRAGMA application_id=5");
	check_set_aside();
}

static void test_garbage(void **state)
{
	static const size_t sizes[] = { 1, 100, 512, 4096, 100000 };
	char *garbage = malloc(100000);
	uint32_t random = 7;

	for (size_t i = 0; i < 100000; i++)
		garbage[i] = (char)next_random(&random);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		setup(state);
		disk_put("ipcd.db", garbage, sizes[i]);
		if (sizes[i] < 512) { /* SQLite takes it for an empty one */
			(void)load();
			assert_non_null(storage.damage);
			storage_close(&storage);
			continue;
		}
		check_set_aside();
		assert_false(load());
		storage_close(&storage);
	}
	free(garbage);
}

/* An empty file, and one that is not there: what was in it is said to be missing. */
static void test_nothing_left(void **state)
{
	disk_put("ipcd.db", "", 0);
	(void)load();
	assert_int_equal(seen.n, 0);
	assert_non_null(strstr(storage.damage, "the last 1 commits are missing"));
	assert_int_equal(storage.head.next_number, N + 1);
	storage_close(&storage);
}

/* As after a kill: all is in the log still. */
static void put_into_log(void)
{
	struct store_head head = { .generation = 1, .next_number = N + 1 };
	struct database *db;
	struct spool *spool;
	unsigned int other;

	assert_int_equal(unlink(disk_path("ipcd.db")), 0);
	assert_int_equal(spool_open(&spool, disk_directory), 0);
	assert_int_equal(database_open(&db, disk_directory, "ipcd.db", spool, &other), 0);
	assert_int_equal(database_begin(db, true), 0);
	put_all(db);
	assert_int_equal(database_commit(db, &head), 0);
	database_abandon(db);
	spool_close(spool);
}

/* However much of the file is cut off, the log is read. */
static void test_the_log_is_left(void **state)
{
	static const off_t sizes[] = { 0, 1, 511, 512, 4095, 4096 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		setup(state);
		put_into_log();
		assert_int_equal(truncate(disk_path("ipcd.db"), sizes[i]), 0);
		(void)load();
		assert_int_equal(seen.n, 3 * N);
		storage_close(&storage);
	}
}

/* Any byte of the file: what comes is right, whatever does not come. */
static void test_each_part_of_the_file(void **state)
{
	struct stat st;
	size_t step;

	assert_int_equal(stat(disk_path("ipcd.db"), &st), 0);
	step = (size_t)st.st_size / 700;
	for (off_t at = 0; at < st.st_size; at += (off_t)step) {
		char c;
		int fd;

		setup(state);
		fd = open(disk_path("ipcd.db"), O_RDWR | O_CLOEXEC);
		assert_int_equal(pread(fd, &c, 1, at), 1);
		c ^= (char)0x81;
		assert_int_equal(pwrite(fd, &c, 1, at), 1);
		close(fd);
		(void)load(); /* checks what comes */
		storage_close(&storage);
		storage = (struct storage){ 0 };
	}
}

#define on_disk(test) cmocka_unit_test_setup_teardown(test, setup, disk_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_disk(test_nothing_is_wrong),
		on_disk(test_each_column_of_a_message),
		on_disk(test_each_column_of_others),
		on_disk(test_numbers),
		on_disk(test_bodies_elsewhere),
		on_disk(test_the_head),
		on_disk(test_rows_that_are_gone),
		on_disk(test_another_version),
		on_disk(test_a_database_of_others),
		on_disk(test_garbage),
		on_disk(test_nothing_left),
		on_disk(test_the_log_is_left),
		on_disk(test_each_part_of_the_file),
	};

	return cmocka_run_group_tests_name("store_damage", tests, NULL, NULL);
}
