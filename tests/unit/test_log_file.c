/* SPDX-License-Identifier: MIT */

/* SQLite's log, written in one piece: fewer calls, the same file, the same failures. */

#include "unit/disk.h"

#include <sqlite3.h>

#include "log_file.h"

static sqlite3 *db;

static int run(const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static void must(const char *sql)
{
	int rc = run(sql);

	if (rc != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errstr(rc));
}

static void open_by(const char *layer)
{
	assert_int_equal(sqlite3_open_v2(disk_path("db"), &db,
					 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
					 layer),
			 SQLITE_OK);
	must("PRAGMA locking_mode=EXCLUSIVE");
	must("PRAGMA journal_mode=WAL");
	must("PRAGMA synchronous=FULL");
}

static void open_it(void)
{
	assert_string_equal(log_file_layer(), "ipcd");
	open_by(log_file_layer());
	must("CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, body BLOB)");
}

/* Without bringing in the log, as after a crash. */
static void close_it(void)
{
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* n rows of 2,000 bytes, all different. */
static void insert(int from, int n)
{
	char sql[200];

	snprintf(sql, sizeof(sql),
		 "WITH RECURSIVE i(n) AS (VALUES(%d) UNION ALL SELECT n+1 FROM i WHERE "
		 "n<%d) INSERT INTO t SELECT n, printf('%%02000d', n) FROM i",
		 from, from + n - 1);
	must(sql);
}

static int64_t ask(const char *sql)
{
	sqlite3_stmt *s;
	int64_t value;

	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	value = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return value;
}

/* So many rows, from 1, and nothing else. */
static void check_rows(int n)
{
	assert_int_equal(ask("SELECT count(*) FROM t WHERE CAST(body AS INT)=n"), n);
	assert_int_equal(ask("SELECT count(*)+coalesce(max(n),0) FROM t"), 2 * n);
	assert_int_equal(ask("SELECT integrity_check='ok' FROM pragma_integrity_check"),
			 1);
}

/* By SQLite alone, from what is in the files. */
static void check_file(int n)
{
	open_by(NULL);
	check_rows(n);
	close_it();
}

static unsigned long calls_of(const char *sql)
{
	unsigned long before = disk.calls;

	must(sql);
	return disk.calls - before;
}

static void test_one_call(void **state)
{
	open_it();
	must("BEGIN");
	insert(1, 20);
	assert_true(calls_of("COMMIT") <= 2); /* and one to sync it */
	must("BEGIN");
	insert(21, 200); /* more than is gathered at once */
	assert_true(calls_of("COMMIT") <= 5);
	check_rows(220);
	close_it();
	check_file(220);
}

/* What has been written is read again before it is synced: the cache is small. */
static void test_read_again(void **state)
{
	open_it();
	must("PRAGMA cache_size=5");
	must("BEGIN");
	insert(1, 300);
	check_rows(300);
	must("SAVEPOINT one");
	insert(301, 100);
	must("ROLLBACK TO one");
	check_rows(300);
	must("COMMIT");
	must("BEGIN");
	insert(301, 100);
	must("ROLLBACK");
	insert(301, 1);
	check_rows(301);
	close_it();
	check_file(301);
}

static void test_brought_in(void **state)
{
	open_it();
	for (int i = 0; i < 5; i++) {
		insert(1 + i * 50, 50);
		assert_int_equal(
			sqlite3_wal_checkpoint_v2(db, NULL,
						  i % 2 ? SQLITE_CHECKPOINT_PASSIVE
							: SQLITE_CHECKPOINT_TRUNCATE,
						  NULL, NULL),
			SQLITE_OK);
		check_rows(50 + i * 50);
	}
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	assert_false(disk_has("db-wal"));
	check_file(250);
}

/* Each of its calls fails in turn: the commit does, too, and nothing of it is there. */
static void test_failures(void **state)
{
	static const struct {
		int error, rc;
	} failures[] = { { ENOSPC, SQLITE_FULL }, { EIO, SQLITE_IOERR } };

	for (int i = 0; i < 2; i++) {
		for (unsigned long n = 1;; n++) {
			int rc;

			disk_make();
			open_it();
			insert(1, 10);
			must("BEGIN");
			insert(11, 100);
			disk_fail(n, n, failures[i].error);
			rc = run("COMMIT");
			disk_works();
			if (!disk.failed) {
				assert_int_equal(rc, SQLITE_OK);
				close_it();
				break;
			}
			assert_true(rc == failures[i].rc || rc == SQLITE_IOERR);
			(void)run("ROLLBACK");
			check_rows(10);
			insert(11, 5);
			check_rows(15);
			close_it();
			check_file(15);
		}
	}
}

/* A statement that fails while it reads is no end of the transaction for SQLite: what it
 * then commits is there. */
static void test_failed_read(void **state)
{
	for (unsigned long n = 1; n < 40; n++) {
		int64_t rows;

		disk_make();
		open_it();
		must("PRAGMA cache_size=5");
		must("BEGIN");
		insert(1, 200);
		disk_fail(n, n, ENOSPC);
		(void)run("UPDATE t SET body=printf('%02000d', n) WHERE n%2");
		disk_works();
		(void)run("INSERT INTO t VALUES(201, printf('%02000d', 201))");
		if (run("COMMIT") != SQLITE_OK)
			(void)run("ROLLBACK");
		rows = ask("SELECT count(*) FROM t");
		check_rows((int)rows);
		close_it();
		check_file((int)rows);
	}
}

/* What was too much for the disk is forgotten with its commit: there is room for less. */
static void test_less_has_room(void **state)
{
	unsigned long calls;

	open_it();
	insert(1, 10);
	must("BEGIN");
	insert(11, 40);
	disk_fail(1, 1000, ENOSPC);
	assert_int_equal(run("COMMIT"), SQLITE_FULL);
	disk_works();
	calls = disk.calls;
	(void)run("ROLLBACK");
	insert(11, 1);
	assert_int_equal(disk.calls - calls, 2);
	check_rows(11);
	close_it();
	check_file(11);
}

/* As many pages as are gathered at once, and more, of each size. */
static void test_sizes(void **state)
{
	static const int pages[] = { 512, 1024, 4096, 32768, 65536 };

	for (int i = 0; i < 5; i++) {
		char sql[64];

		for (int rows = 1; rows < 200; rows += 1 + rows / 8) {
			disk_make();
			snprintf(sql, sizeof(sql), "PRAGMA page_size=%d", pages[i]);
			assert_int_equal(sqlite3_open_v2(disk_path("db"), &db,
							 SQLITE_OPEN_READWRITE |
								 SQLITE_OPEN_CREATE,
							 NULL),
					 SQLITE_OK);
			must(sql);
			must("CREATE TABLE t(n INTEGER PRIMARY KEY, body BLOB)");
			assert_int_equal(sqlite3_close(db), SQLITE_OK);
			open_it();
			insert(1, rows);
			close_it();
			check_file(rows);
		}
	}
}

static void test_no_memory(void **state)
{
	const char *layer = log_file_layer();

	assert_int_equal(sqlite3_open_v2(disk_path("db"), &db,
					 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
					 layer),
			 SQLITE_OK);
	must("PRAGMA locking_mode=EXCLUSIVE");
	sqlite3_hard_heap_limit64(sqlite3_memory_used() + 100000);
	assert_int_not_equal(run("PRAGMA journal_mode=WAL;CREATE TABLE t(n)"), SQLITE_OK);
	sqlite3_hard_heap_limit64(0);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	open_it();
	insert(1, 3);
	close_it();
	check_file(3);
}

int main(void)
{
#define on_disk(test) cmocka_unit_test_setup_teardown(test, disk_setup, disk_teardown)
	const struct CMUnitTest tests[] = {
		on_disk(test_one_call),	   on_disk(test_read_again),
		on_disk(test_brought_in),  on_disk(test_failures),
		on_disk(test_failed_read), on_disk(test_less_has_room),
		on_disk(test_sizes),	   on_disk(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
