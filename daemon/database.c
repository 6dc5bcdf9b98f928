/* SPDX-License-Identifier: MIT */

#include "database.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "commits.h"
#include "database_internal.h"
#include "log_file.h"
#include "record_sum.h"
#include "spool.h"

enum {
	APPLICATION_ID = 0x69706364, /* "ipcd" */
	AUTO_VACUUM_INCREMENTAL = 2, /* as SQLite says it */
	CHECKPOINT_PAGES = 2000, /* of the log, before they are brought into the file */
	LOG_PAGE_BYTES = 4096 + 24, /* with its frame's header */
	SHRINK_PAGES = 256,
	SHRINK_MIN_PAGES = 1024,
};

static const char *const statement_texts[N_STATEMENTS] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[PUT_HEAD] = "INSERT OR REPLACE INTO head VALUES(1,?,?,?,?,?,?,?,?)",
	[PUT_NAME] = "INSERT OR REPLACE INTO names VALUES(?,?,?,?)",
	[DROP_NAME] = "DELETE FROM names WHERE id=?",
	[PUT_MESSAGE] = ("INSERT OR REPLACE INTO messages VALUES"
			 "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"),
	[SET_MESSAGE] =
		("UPDATE messages SET queue=?,dead=?,kept=?,attempts=?,deliveries=?,"
		 "due_ms=?,expires_ms=?,reason=?,history=?,state_sum=? WHERE number=?"),
	[DROP_MESSAGE] = "DELETE FROM messages WHERE number=?",
	[PUT_BODY] = "INSERT OR REPLACE INTO bodies VALUES(?,?)",
	[DROP_BODY] = "DELETE FROM bodies WHERE number=?",
	[GET_BODY] = "SELECT body FROM bodies WHERE number=?",
	[PUT_DEDUP] = "INSERT OR REPLACE INTO dedup VALUES(?,?,?,?,?,?)",
	[DROP_DEDUP] = "DELETE FROM dedup WHERE number=?",
};

/* Where the columns of a message's state begin, in the table and so in SELECT *. */
static const char schema[] =
	"CREATE TABLE head(id INTEGER PRIMARY KEY, generation INT, commits INT,"
	" next_number INT, live INT, clean INT, lease_key BLOB, written_ms INT, sum INT);"
	"CREATE TABLE names(id INTEGER PRIMARY KEY, name TEXT, settings TEXT, sum INT);"
	"CREATE TABLE messages(number INTEGER PRIMARY KEY, queue INT, dead INT, kept INT,"
	" attempts INT, deliveries INT, due_ms INT, expires_ms INT, reason TEXT,"
	" history TEXT, state_sum INT, uid INT, priority INT, sent_ms INT, sender TEXT,"
	" meta TEXT, file TEXT, body_size INT, blob INT, body BLOB, commit_number INT,"
	" sum INT);"
	"CREATE TABLE bodies(number INTEGER PRIMARY KEY, body BLOB);"
	"CREATE TABLE dedup(number INTEGER PRIMARY KEY, queue INT, uid INT, sent_ms INT,"
	" id TEXT, sum INT);";

/* ---- results ---- */

int database_failed(struct database *db, int rc)
{
	int error = sqlite3_system_errno(db->sqlite);

	db->last = rc;
	db->spool_error = 0;
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_DONE:
	case SQLITE_ROW:
		return 0;
	case SQLITE_FULL:
		return err_origin(-ENOSPC);
	case SQLITE_NOMEM:
		return err_origin(-ENOMEM);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return err_origin(-EUCLEAN);
	case SQLITE_IOERR:
		if (rc == SQLITE_IOERR_NOMEM)
			return err_origin(-ENOMEM);
		/* a quota on the disk: SQLite knows the full disk only. But whatever fsync(2)
		 * says, what was written before is not known any more. */
		if (rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC)
			return err_origin(-EIO);
		return err_origin(error == EDQUOT || error == ENOSPC ? -ENOSPC : -EIO);
	default:
		return err_origin(-EIO);
	}
}

static int spool_failed(struct database *db, int r)
{
	db->spool_error = r < 0 ? r : 0;
	return err_trace(r);
}

const char *database_error(struct database *db)
{
	int error = sqlite3_system_errno(db->sqlite);

	if (db->spool_error)
		return strerror(-db->spool_error);
	if ((db->last & 0xff) == SQLITE_IOERR && error)
		return strerror(error);
	return sqlite3_errstr(db->last);
}

static int run_text(struct database *db, const char *text)
{
	return err_trace(
		database_failed(db, sqlite3_exec(db->sqlite, text, NULL, NULL, NULL)));
}

/* A statement without rows, whose parameters are bound. */
static int run(struct database *db, enum statement which)
{
	sqlite3_stmt *s = db->statements[which];
	int rc = sqlite3_step(s);

	sqlite3_reset(s);
	return err_trace(database_failed(db, rc));
}

static void bind_number(sqlite3_stmt *s, int at, uint64_t value)
{
	sqlite3_bind_int64(s, at, (sqlite3_int64)value);
}

/* The text lives until the statement has run. */
static void bind_text(sqlite3_stmt *s, int at, struct slice text)
{
	if (text.data)
		sqlite3_bind_text64(s, at, text.data, text.size, SQLITE_STATIC,
				    SQLITE_UTF8);
	else
		sqlite3_bind_null(s, at);
}

static void bind_blob(sqlite3_stmt *s, int at, struct slice blob)
{
	if (blob.data)
		sqlite3_bind_blob64(s, at, blob.data, blob.size, SQLITE_STATIC);
	else
		sqlite3_bind_null(s, at);
}

/* ---- opening ---- */

static int prepare_all(struct database *db)
{
	for (int i = 0; i < N_STATEMENTS; i++) {
		int rc = sqlite3_prepare_v3(db->sqlite, statement_texts[i], -1,
					    SQLITE_PREPARE_PERSISTENT, &db->statements[i],
					    NULL);
		if (rc == SQLITE_ERROR) /* a table or column is called otherwise */
			return err_origin(-EUCLEAN);
		if (rc != SQLITE_OK)
			return err_trace(database_failed(db, rc));
	}
	return 0;
}

/* The only one of the first row; 0 if there is none. */
static int read_value(struct database *db, const char *query, int64_t *ret_value)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(db->sqlite, query, -1, &s, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(s);
	*ret_value = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
	sqlite3_finalize(s);
	return err_trace(database_failed(db, rc));
}

static int check_schema(struct database *db, unsigned int *ret_other)
{
	int64_t version, application;
	int r = read_value(db, "PRAGMA user_version", &version);

	if (r == 0)
		r = read_value(db, "PRAGMA application_id", &application);
	if (r < 0)
		return err_trace(r);
	if (version == DATABASE_FORMAT && application == APPLICATION_ID)
		return 0;
	if (version && application == APPLICATION_ID)
		*ret_other = (unsigned int)version;
	if (version || application)
		return err_origin(-EUCLEAN);
	r = run_text(db, "BEGIN IMMEDIATE");
	if (r == 0)
		r = run_text(db, schema);
	if (r == 0)
		r = run_text(db, "PRAGMA application_id=0x69706364;"
				 "PRAGMA user_version=2;COMMIT");
	return err_trace(r);
}

/* Only a new file is written to, so that one on a full disk can be opened: setting
 * auto_vacuum always writes. */
static int configure(struct database *db)
{
	int64_t mode;
	int r = run_text(db, "PRAGMA locking_mode=EXCLUSIVE");

	if (r == 0)
		r = read_value(db, "PRAGMA auto_vacuum", &mode);
	if (r == 0 && mode != AUTO_VACUUM_INCREMENTAL)
		r = run_text(db, "PRAGMA auto_vacuum=INCREMENTAL");
	if (r < 0)
		return err_trace(r);
	return err_trace(run_text(db, "PRAGMA journal_mode=WAL;"
				      "PRAGMA synchronous=FULL;"
				      "PRAGMA secure_delete=OFF;"
				      "PRAGMA cell_size_check=ON;"
				      "PRAGMA trusted_schema=OFF;"
				      "PRAGMA cache_size=-4096;"
				      "PRAGMA temp_store=MEMORY;"
				      "PRAGMA journal_size_limit=16777216"));
}

static char *ask_pragma(struct database *db, const char *pragma)
{
	sqlite3_stmt *s = NULL;
	const char *text = NULL;
	char *copy;

	if (sqlite3_prepare_v2(db->sqlite, pragma, -1, &s, NULL) == SQLITE_OK &&
	    sqlite3_step(s) == SQLITE_ROW)
		text = (const char *)sqlite3_column_text(s, 0);
	copy = strdup(text ? text : "unknown");
	sqlite3_finalize(s);
	return copy;
}

char *database_describe_options(struct database *db)
{
	static const char *const names[] = { "off", "normal", "full", "extra" };
	_cleanup_free_ char *journal = ask_pragma(db, "PRAGMA journal_mode");
	_cleanup_free_ char *locking = ask_pragma(db, "PRAGMA locking_mode");
	int64_t synchronous = -1;
	char *text;

	if (!journal || !locking ||
	    read_value(db, "PRAGMA synchronous", &synchronous) < 0)
		return NULL;
	return asprintf(&text, "journal_mode=%s synchronous=%s locking_mode=%s", journal,
			synchronous >= 0 && synchronous < (int64_t)ARRAY_SIZE(names)
				? names[synchronous]
				: "unknown",
			locking) < 0
		       ? NULL
		       : text;
}

/* SQLite's own hook ignores failures. But where fsync(2) has failed once, a second one may
 * succeed without the data: then the file can no longer be trusted. */
static void note_background(struct database *db, int rc)
{
	if ((rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CORRUPT)
		db->background = rc;
}

/* The file may have to grow for that. */
static void bring_in_log(struct database *db, int mode)
{
	int rc = sqlite3_wal_checkpoint_v2(db->sqlite, "main", mode, NULL, NULL);

	db->full = database_failed(db, rc) == -ENOSPC;
	if (!db->full)
		note_background(db, rc);
}

static int on_log_grown(void *arg, sqlite3 *sqlite, const char *name, int pages)
{
	struct database *db = arg;

	(void)sqlite;
	(void)name;
	db->log_pages = pages;
	return SQLITE_OK;
}

static int open_sqlite(struct database *db, unsigned int *ret_other)
{
	const char *layer = log_file_layer();
	int rc, r;

	if (!layer)
		return err_origin(-ENOMEM);
	rc = sqlite3_open_v2(db->path, &db->sqlite,
			     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
				     SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
			     layer);
	if (rc != SQLITE_OK)
		return err_trace(database_failed(db, rc));
	sqlite3_extended_result_codes(db->sqlite, 1);
	sqlite3_wal_hook(db->sqlite, on_log_grown, db);
	r = configure(db);
	if (r == 0)
		r = check_schema(db, ret_other);
	if (r == 0)
		r = prepare_all(db);
	return err_trace(r);
}

static int open_to_look(struct database *db)
{
	db->file_fd = open(db->path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	return db->file_fd < 0 ? err_origin(-errno) : 0;
}

int database_open(struct database **ret_db, const char *directory, const char *file,
		  struct spool *spool, unsigned int *ret_other)
{
	struct database *db = calloc(1, sizeof(*db));
	_cleanup_free_ char *real = NULL;
	mode_t before;
	int r;

	*ret_other = 0;
	if (!db)
		return err_origin(-ENOMEM);
	db->commits_fd = db->file_fd = -1;
	db->spool = spool;
	/* for SQLite, NOFOLLOW forbids symbolic links in the whole path */
	real = realpath(directory, NULL);
	if (!real) {
		r = errno == ENOMEM ? -ENOMEM : -EIO;
	} else if (asprintf(&db->path, "%s/%s", real, file) < 0) {
		db->path = NULL;
		r = -ENOMEM;
	} else {
		before = umask(077);
		r = commits_open(directory, &db->commits_fd);
		if (r == 0)
			r = open_sqlite(db, ret_other);
		umask(before);
		if (r == 0)
			r = open_to_look(db);
	}
	if (r < 0) {
		if (db->sqlite)
			database_abandon(db);
		else
			database_close(db);
		return err_trace(r);
	}
	*ret_db = db;
	return 0;
}

struct database *database_close(struct database *db)
{
	for (int i = 0; i < N_STATEMENTS; i++)
		sqlite3_finalize(db->statements[i]);
	sqlite3_close(db->sqlite);
	fd_close(db->commits_fd);
	fd_close(db->file_fd);
	free(db->path);
	free(db);
	return NULL;
}

struct database *database_abandon(struct database *db)
{
	sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	return database_close(db);
}

/* ---- the log ---- */

/* SQLite takes zeros for the end of its log. Without room for them there are none. */
static bool write_zeros(int fd, off_t from, off_t to)
{
	static const char zeros[65536];

	while (from < to) {
		size_t size = min_size(sizeof(zeros), (size_t)(to - from));
		ssize_t n = pwrite(fd, zeros, size, from);

		if (n <= 0)
			return false;
		from += n;
	}
	return fdatasync(fd) == 0;
}

/* Makes the log as long as it may become, for the first message: a commit that makes a file
 * grow takes twice as long. */
static void lengthen_log(struct database *db)
{
	static const off_t size = CHECKPOINT_PAGES * (off_t)LOG_PAGE_BYTES;
	_cleanup_free_ char *path = NULL;
	_cleanup_fd_ int fd = -1;
	struct stat st;

	if (asprintf(&path, "%s-wal", db->path) < 0) {
		path = NULL;
		return;
	}
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	db->log_is_long = true; /* tried once */
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size >= size)
		return;
	if (!write_zeros(fd, st.st_size, size))
		(void)!ftruncate(fd, st.st_size);
}

/* ---- transactions ---- */

int database_begin(struct database *db, bool sends)
{
	db->before = db->live;
	db->put = 0;
	if (db->background)
		return err_trace(database_failed(db, db->background));
	if (db->full && sends)
		bring_in_log(db, SQLITE_CHECKPOINT_PASSIVE);
	if (db->full && sends)
		return err_origin(-ENOSPC);
	return err_trace(run(db, BEGIN));
}

static int put_head(struct database *db, const struct store_head *h)
{
	sqlite3_stmt *s = db->statements[PUT_HEAD];

	bind_number(s, 1, h->generation);
	bind_number(s, 2, h->commits);
	bind_number(s, 3, h->next_number);
	bind_number(s, 4, h->live);
	bind_number(s, 5, h->clean);
	bind_blob(s, 6,
		  (struct slice){ (const char *)&h->lease_key, sizeof(h->lease_key) });
	bind_number(s, 7, h->written_ms);
	bind_number(s, 8, commits_sum(h));
	return err_trace(run(db, PUT_HEAD));
}

/* The number of the commit is in the messages it has put, of which the last one at least
 * must be there: that saves a page. */
static bool needs_head(const struct database *db, const struct store_head *head)
{
	return !db->put || head->generation != db->had.generation ||
	       head->clean != db->had.clean;
}

/* With the whole directory, as a rule: then what was written ends with the process. */
static int check_linked(const struct database *db)
{
	struct stat st;

	return fstat(db->file_fd, &st) == 0 && st.st_nlink == 0 ? err_origin(-ENOENT) : 0;
}

int database_commit(struct database *db, struct store_head *head)
{
	int r = 0;

	head->commits = db->commits + 1;
	head->live = db->live;
	head->written_ms = clock_ns(CLOCK_REALTIME) / NS_PER_MS;
	if (needs_head(db, head)) {
		r = put_head(db, head);
		db->had = *head;
	}
	if (db->put && !db->log_is_long)
		lengthen_log(db);
	if (r == 0) /* a file is there before its row */
		r = spool_failed(db, spool_sync(db->spool));
	if (r == 0)
		r = run(db, COMMIT);
	if (r == 0)
		r = spool_failed(db, check_linked(db));
	if (r < 0) {
		db->had = (struct store_head){ 0 };
		return err_trace(r);
	}
	db->commits = head->commits;
	if (!db->beside)
		commits_write(db->commits_fd, head);
	return 0;
}

void database_after_commit(struct database *db)
{
	if (db->log_pages >= CHECKPOINT_PAGES)
		bring_in_log(db, SQLITE_CHECKPOINT_PASSIVE);
	db->log_pages = 0;
}

void database_rollback(struct database *db)
{
	if (!sqlite3_get_autocommit(db->sqlite))
		(void)!run(db, ROLLBACK);
	db->live = db->before;
}

/* ---- rows ---- */

int database_put_name(struct database *db, const struct name_record *name)
{
	sqlite3_stmt *s = db->statements[PUT_NAME];

	bind_number(s, 1, name->id);
	bind_text(s, 2, name->name);
	bind_text(s, 3, name->settings);
	bind_number(s, 4, record_sum_name(name));
	return err_trace(run(db, PUT_NAME));
}

int database_drop_name(struct database *db, uint64_t id)
{
	bind_number(db->statements[DROP_NAME], 1, id);
	return err_trace(run(db, DROP_NAME));
}

static int put_blob(struct database *db, const struct message_record *m, bool again)
{
	int r = spool_put(db->spool, m);

	if (r == -ENOENT && again) { /* who receives it is told, and the next start */
		db->lost_bodies++;
		return 0;
	}
	if (r == -ENOENT)
		r = err_origin(-EIO);
	return err_trace(spool_failed(db, r));
}

static int put_body(struct database *db, const struct message_record *m)
{
	sqlite3_stmt *s = db->statements[PUT_BODY];

	if (m->body_size < BODY_ROW_MIN)
		return 0;
	bind_number(s, 1, m->number);
	bind_blob(s, 2, m->body);
	return err_trace(run(db, PUT_BODY));
}

/* What is put again is one message, not two. */
static int forget_message(struct database *db, uint64_t number)
{
	int r;

	bind_number(db->statements[DROP_MESSAGE], 1, number);
	r = run(db, DROP_MESSAGE);
	if (r == 0)
		db->live -= (uint64_t)sqlite3_changes64(db->sqlite);
	return err_trace(r);
}

/* From parameter `at` on; returns the one behind. */
static int bind_state(sqlite3_stmt *s, int at, const struct message_record *m)
{
	bind_number(s, at++, m->queue);
	bind_number(s, at++, m->dead);
	bind_number(s, at++, message_record_flags(m));
	bind_number(s, at++, m->attempts);
	bind_number(s, at++, m->deliveries);
	bind_number(s, at++, m->due_ms);
	bind_number(s, at++, m->expires_ms);
	bind_text(s, at++, m->reason);
	bind_text(s, at++, m->history);
	bind_number(s, at++, record_sum_state(m));
	return at;
}

int database_put_message(struct database *db, const struct message_record *m, bool again)
{
	sqlite3_stmt *s = db->statements[PUT_MESSAGE];
	bool within = !m->blob && m->body_size < BODY_ROW_MIN;
	int at, r = m->blob ? put_blob(db, m, again) : put_body(db, m);

	if (r == 0 && m->number < db->next_number)
		r = forget_message(db, m->number);
	if (r < 0)
		return err_trace(r);
	db->next_number = max_u64(db->next_number, m->number + 1);
	bind_number(s, 1, m->number);
	at = bind_state(s, 2, m);
	bind_number(s, at++, m->uid);
	bind_number(s, at++, m->priority);
	bind_number(s, at++, m->sent_ms);
	bind_text(s, at++, m->from);
	bind_text(s, at++, m->meta);
	bind_text(s, at++, m->file);
	bind_number(s, at++, m->body_size);
	bind_number(s, at++, m->blob);
	bind_blob(s, at++, within ? m->body : (struct slice){ NULL, 0 });
	bind_number(s, at++, db->commits + 1);
	bind_number(s, at, record_sum_content(m, db->commits + 1));
	r = run(db, PUT_MESSAGE);
	db->live += r == 0;
	db->put = m->number;
	return err_trace(r);
}

int database_set_message(struct database *db, const struct message_record *m)
{
	sqlite3_stmt *s = db->statements[SET_MESSAGE];
	int at = bind_state(s, 1, m);

	bind_number(s, at, m->number);
	return err_trace(run(db, SET_MESSAGE));
}

static int drop_body(struct database *db, uint64_t number)
{
	bind_number(db->statements[DROP_BODY], 1, number);
	return err_trace(run(db, DROP_BODY));
}

int database_drop_message(struct database *db, uint64_t number, uint64_t body_size)
{
	int r = forget_message(db, number);

	if (number == db->put)
		db->put = 0; /* it came and went within the transaction */
	if (r == 0 && body_size >= BODY_ROW_MIN)
		r = drop_body(db, number);
	return err_trace(r);
}

int database_put_dedup(struct database *db, const struct dedup_record *d)
{
	sqlite3_stmt *s = db->statements[PUT_DEDUP];

	bind_number(s, 1, d->number);
	bind_number(s, 2, d->queue);
	bind_number(s, 3, d->uid);
	bind_number(s, 4, d->sent_ms);
	bind_text(s, 5, d->id);
	bind_number(s, 6, record_sum_dedup(d));
	return err_trace(run(db, PUT_DEDUP));
}

int database_drop_dedup(struct database *db, uint64_t number)
{
	bind_number(db->statements[DROP_DEDUP], 1, number);
	return err_trace(run(db, DROP_DEDUP));
}

/* ---- space ---- */

uint64_t database_live(const struct database *db)
{
	return db->live;
}

uint64_t database_next_number(const struct database *db)
{
	return db->next_number;
}

uint64_t database_lost_bodies(const struct database *db)
{
	return db->lost_bodies;
}

uint64_t database_commits(const struct database *db)
{
	return db->commits;
}

bool database_read_commits(struct database *db, struct store_head *ret_head)
{
	return commits_read(db->commits_fd, ret_head);
}

/* The last ones sent are the last ones there. */
bool database_is_ahead(struct database *db, uint64_t commits)
{
	int64_t last;
	int r = read_value(db,
			   "SELECT commit_number FROM messages ORDER BY number DESC "
			   "LIMIT 1",
			   &last);

	return r == 0 && (uint64_t)last > commits;
}

void database_go_on(struct database *db, uint64_t commits, uint64_t live)
{
	db->commits = commits;
	db->live = live;
}

void database_stand_beside(struct database *db)
{
	db->beside = true;
}

int database_checkpoint(struct database *db)
{
	int rc = sqlite3_wal_checkpoint_v2(db->sqlite, "main", SQLITE_CHECKPOINT_TRUNCATE,
					   NULL, NULL);

	return err_trace(database_failed(db, rc));
}

void database_write_again(struct database *db)
{
	bring_in_log(db, SQLITE_CHECKPOINT_TRUNCATE);
}

/* What a flood took, in both threads. */
static void give_memory_back(struct database *db)
{
	sqlite3_db_release_memory(db->sqlite);
	malloc_trim(0);
}

bool database_shrink(struct database *db)
{
	int64_t unused = 0;
	char text[64];
	int r;

	if (!db->shrinks)
		give_memory_back(db);
	if (read_value(db, "PRAGMA freelist_count", &unused) < 0)
		return false;
	if (unused >= SHRINK_MIN_PAGES) {
		snprintf(text, sizeof(text), "PRAGMA incremental_vacuum(%d)",
			 SHRINK_PAGES);
		r = run_text(db, text);
		if (r < 0 && r != -ENOSPC)
			note_background(db, db->last);
		else if (r == 0)
			database_after_commit(db); /* or the log grows with all of it */
		db->shrinks = r == 0;
		return db->shrinks;
	}
	if (db->shrinks) /* until then the file is as long as it was */
		bring_in_log(db, SQLITE_CHECKPOINT_PASSIVE);
	db->shrinks = false;
	return false;
}
