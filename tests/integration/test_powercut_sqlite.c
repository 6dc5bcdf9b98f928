/* SPDX-License-Identifier: MIT */

/*
 * SQLite, as ipcd sets it up, on the disk that loses its unsynced writes: every cut leaves a
 * whole database with all committed transactions. That says as much of the model as of
 * SQLite; and a database told not to sync loses some, so the model does take away.
 *
 * IPC_TEST_SEED repeats a run.
 */

#include "integration/harness_powercut.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

enum {
	N_ROUNDS = 60,
	CHANGES_MAX = 300, /* until a cut */
	N_KEPT = 12,	   /* transactions whose rows have not been deleted */
	BODY_MAX = 20000,
};

/* ---- what a transaction is ---- */

static int rows_of(int64_t transaction)
{
	return 1 + (int)(transaction % 5);
}

static int size_of(int64_t transaction, int row)
{
	return (int)((transaction * 7919 + row * 104729L) %
		     (transaction % 7 ? 500 : BODY_MAX));
}

static const char *body_of(int64_t transaction, int row)
{
	static char body[BODY_MAX];
	uint64_t state = (uint64_t)transaction * 100 + (uint64_t)row;

	for (int i = 0; i < BODY_MAX; i += 8) {
		uint64_t x = random_next(&state);

		memcpy(body + i, &x, 8);
	}
	return body;
}

/* ---- what runs with the shim ---- */

static void child_check(sqlite3 *db, int rc)
{
	if (rc == SQLITE_OK || rc == SQLITE_ROW || rc == SQLITE_DONE)
		return;
	fprintf(stderr, "child: %s\n", sqlite3_errmsg(db));
	_exit(1);
}

static void run_text(sqlite3 *db, const char *text)
{
	child_check(db, sqlite3_exec(db, text, NULL, NULL, NULL));
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *text)
{
	sqlite3_stmt *s = NULL;

	child_check(db, sqlite3_prepare_v2(db, text, -1, &s, NULL));
	return s;
}

static int64_t last_transaction(sqlite3 *db)
{
	sqlite3_stmt *s = prepare(db, "SELECT max(number) FROM t");
	int64_t last = 0;

	child_check(db, sqlite3_step(s));
	last = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return last;
}

static void tell(int fd, int64_t transaction)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%20" PRId64 "\n", transaction);

	if (pwrite(fd, text, (size_t)n, 0) != n)
		_exit(1);
}

static void commit_one(sqlite3 *db, sqlite3_stmt *insert, int64_t number)
{
	char text[80];

	run_text(db, "BEGIN IMMEDIATE");
	for (int row = 0; row < rows_of(number); row++) {
		sqlite3_bind_int64(insert, 1, number);
		sqlite3_bind_int(insert, 2, row);
		sqlite3_bind_blob(insert, 3, body_of(number, row), size_of(number, row),
				  SQLITE_TRANSIENT);
		child_check(db, sqlite3_step(insert));
		sqlite3_reset(insert);
	}
	snprintf(text, sizeof(text), "DELETE FROM t WHERE number<=%" PRId64,
		 number - N_KEPT);
	run_text(db, text);
	run_text(db, "COMMIT");
}

static int child_main(const char *directory, const char *told, const char *synchronous)
{
	char text[64];
	int fd = open(told, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	sqlite3 *db = NULL;
	sqlite3_stmt *insert;

	if (fd < 0 || chdir(directory) < 0)
		return 1;
	child_check(db, sqlite3_open("db", &db));
	snprintf(text, sizeof(text), "PRAGMA synchronous=%s", synchronous);
	run_text(db, "PRAGMA locking_mode=EXCLUSIVE");
	run_text(db, "PRAGMA journal_mode=WAL");
	run_text(db, text);
	run_text(db, "PRAGMA wal_autocheckpoint=20");
	run_text(db, "CREATE TABLE IF NOT EXISTS t(number, row, body)");
	insert = prepare(db, "INSERT INTO t VALUES(?,?,?)");
	for (int64_t number = last_transaction(db) + 1;; number++) {
		commit_one(db, insert, number);
		tell(fd, number);
	}
}

/* ---- the test's side ---- */

static char *told_path(void)
{
	return keep_printf("%s/told", server.dir);
}

static void run_until_cut(const char *synchronous)
{
	pid_t pid;

	powercut_preload(true);
	pid = fork_child();
	if (!pid) {
		execl("/proc/self/exe", "test_powercut_sqlite", "child", server.state,
		      told_path(), synchronous, NULL);
		_exit(127);
	}
	powercut_preload(false);
	assert_int_equal(wait_exit(pid), 256 + SIGKILL);
	powercut_finish();
}

static int64_t scalar(sqlite3 *db, const char *text)
{
	sqlite3_stmt *s = NULL;
	int64_t value = 0;

	if (sqlite3_prepare_v2(db, text, -1, &s, NULL) == SQLITE_OK &&
	    sqlite3_step(s) == SQLITE_ROW)
		value = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return value;
}

/* How many transactions are wholly there, from the last one down; -1: the file is damaged,
 * or a transaction is there in part. */
static int count_whole(sqlite3 *db, int64_t last)
{
	sqlite3_stmt *s = NULL;
	int64_t number = last + 1;
	int n = 0, row = 0;
	bool whole = true;

	if (!last && !scalar(db, "SELECT count(*) FROM sqlite_master"))
		return 0;
	if (sqlite3_prepare_v2(db, "SELECT * FROM t ORDER BY number DESC, row", -1, &s,
			       NULL) != SQLITE_OK)
		return -1;
	while (sqlite3_step(s) == SQLITE_ROW) {
		if (row == 0) {
			number--;
			n++;
		}
		if (sqlite3_column_int64(s, 0) != number ||
		    sqlite3_column_int(s, 1) != row ||
		    sqlite3_column_bytes(s, 2) != size_of(number, row) ||
		    memcmp(sqlite3_column_blob(s, 2) ?: "", body_of(number, row),
			   (size_t)size_of(number, row)) != 0)
			whole = false;
		row = row + 1 == rows_of(number) ? 0 : row + 1;
	}
	if (sqlite3_finalize(s) != SQLITE_OK || row != 0)
		whole = false;
	return whole ? n : -1;
}

static bool is_sound(sqlite3 *db)
{
	sqlite3_stmt *s = NULL;
	bool sound = sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &s, NULL) ==
			     SQLITE_OK &&
		     sqlite3_step(s) == SQLITE_ROW &&
		     !strcmp((const char *)sqlite3_column_text(s, 0), "ok");

	sqlite3_finalize(s);
	return sound;
}

static void run_command(char *command)
{
	assert_int_equal(system(command), 0); /* NOLINT(*-command-processor) */
}

/* Is all there that was told, and nothing in part? Of what was not told there may be one
 * transaction, or one more than there was before. A copy is looked at, so that the file's
 * next user finds it as the cut has left it. */
static bool nothing_is_lost(int64_t *there)
{
	int64_t told = atoll(read_file(told_path())), last;
	sqlite3 *db = NULL;
	bool right;

	run_command(keep_printf("rm -rf %s/copy && cp -r %s %s/copy", server.dir,
				server.state, server.dir));
	assert_int_equal(sqlite3_open(keep_printf("%s/copy/db", server.dir), &db),
			 SQLITE_OK);
	sqlite3_exec(db, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
	last = scalar(db, "SELECT max(number) FROM t");
	right = is_sound(db) && last >= told &&
		last <= (told > *there ? told : *there) + 1 &&
		count_whole(db, last) == (last < N_KEPT ? last : N_KEPT);
	if (!right)
		print_message("told %" PRId64 ", found %" PRId64 ", whole %d, %s\n", told,
			      last, count_whole(db, last),
			      is_sound(db) ? "sound" : "damaged");
	sqlite3_close(db);
	*there = last;
	return right;
}

static void start_over(void)
{
	unlink(told_path());
	powercut_forget();
	run_command(keep_printf("rm -rf %s && mkdir %s", server.state, server.state));
}

/* Returns how many cuts it took until something was lost, 0: nothing was. */
static int cut_again_and_again(const char *synchronous)
{
	uint64_t random = random_seed();
	int64_t there = 0;

	powercut_setup();
	powercut->seed = random;
	for (int round = 1; round <= N_ROUNDS; round++) {
		bool by_syncs = strcmp(synchronous, "OFF") != 0 &&
				random_below(&random, 3) == 0;
		bool anew = round % 5 == 1;

		if (anew) {
			there = 0;
			start_over();
		}
		powercut->process_only = random_below(&random, 5) == 0;
		if (by_syncs)
			powercut->syncs_to_cut =
				1 + (long)random_below(&random, anew ? 5 : 30);
		else
			powercut->changes_to_cut =
				1 + (long)random_below(&random, anew ? 40 : CHANGES_MAX);
		run_until_cut(synchronous);
		if (!nothing_is_lost(&there))
			return round;
	}
	print_message("%ld changes, %ld syncs; lost %ld sectors of %ld, %ld names of "
		      "%ld\n",
		      powercut->changes, powercut->syncs, powercut->lost_sectors,
		      powercut->lost_sectors + powercut->kept_sectors,
		      powercut->lost_names, powercut->lost_names + powercut->kept_names);
	return 0;
}

static void test_a_careful_database(void **state)
{
	assert_int_equal(cut_again_and_again("FULL"), 0);
	assert_true(powercut->lost_sectors > 0 && powercut->kept_sectors > 0);
}

static void test_a_careless_database(void **state)
{
	assert_int_not_equal(cut_again_and_again("OFF"), 0);
}

static void test_a_database_that_syncs_late(void **state)
{
	assert_int_not_equal(cut_again_and_again("NORMAL"), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		it(test_a_careful_database),
		it(test_a_careless_database),
		it(test_a_database_that_syncs_late),
	};

	if (argc == 5 && !strcmp(argv[1], "child"))
		return child_main(argv[2], argv[3], argv[4]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
