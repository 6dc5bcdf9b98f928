/* SPDX-License-Identifier: MIT */

/*
 * SQLite in the producer's own process, in -D: what a durable store costs without a
 * server before it. WAL, each transaction synced, the file locked for good; the jobs of a
 * batch are one transaction.
 */

#include "bench.h"

#include <limits.h>
#include <stdio.h>

#include <sqlite3.h>

static sqlite3 *db;
static sqlite3_stmt *insert;

static void check(int r)
{
	if (r != SQLITE_OK && r != SQLITE_DONE)
		die("sqlite: %s", sqlite3_errmsg(db));
}

static void execute(const char *sql)
{
	check(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

static void *open_conn(void)
{
	char path[PATH_MAX];

	must(snprintf(path, sizeof(path), "%s/db", opt.directory) < PATH_MAX);
	check(sqlite3_open(path, &db));
	/* before WAL: then it needs no shared memory */
	execute("PRAGMA locking_mode=EXCLUSIVE");
	execute("PRAGMA journal_mode=WAL");
	execute("PRAGMA synchronous=FULL");
	execute("CREATE TABLE job (number INTEGER PRIMARY KEY, body BLOB)");
	check(sqlite3_prepare_v2(db, "INSERT INTO job (body) VALUES (?)", -1, &insert,
				 NULL));
	check(sqlite3_bind_blob(insert, 1, opt.body, (int)opt.size, SQLITE_STATIC));
	return db;
}

static void put(void *conn, unsigned int n)
{
	(void)conn;
	if (n > 1)
		execute("BEGIN");
	for (unsigned int i = 0; i < n; i++) {
		check(sqlite3_step(insert));
		check(sqlite3_reset(insert));
	}
	if (n > 1)
		execute("COMMIT");
}

int main(int argc, char **argv)
{
	static const struct driver driver = {
		.open = open_conn,
		.put = put,
	};

	return bench_main(argc, argv, &driver, NULL);
}
