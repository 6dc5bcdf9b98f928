/* SPDX-License-Identifier: MIT */

#include "database.h"

#include <fcntl.h>
#include <malloc.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/err.h"
#include "commits.h"
#include "log.h"
#include "spool.h"

enum {
	SCHEMA_VERSION = 1,
	APPLICATION_ID = 0x69706364, /* "ipcd" */
	AUTO_VACUUM_INCREMENTAL = 2, /* as SQLite says it */
	CHECKPOINT_PAGES = 2000, /* of the log, before they are brought into the file */
	LOG_PAGE_BYTES = 4096 + 24, /* with its frame's header */
	SHRINK_PAGES = 256,
	SHRINK_MIN_PAGES = 1024,
};

enum statement {
	BEGIN,
	COMMIT,
	ROLLBACK,
	PUT_HEAD,
	PUT_NAME,
	DROP_NAME,
	PUT_MESSAGE,
	SET_MESSAGE,
	DROP_MESSAGE,
	PUT_BODY,
	DROP_BODY,
	GET_BODY,
	PUT_DEDUP,
	DROP_DEDUP,
	N_STATEMENTS,
};

static const char *const statement_texts[N_STATEMENTS] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[PUT_HEAD] = "INSERT OR REPLACE INTO head VALUES(1,?,?,?,?,?,?,?,?)",
	[PUT_NAME] = "INSERT OR REPLACE INTO names VALUES(?,?,?,?)",
	[DROP_NAME] = "DELETE FROM names WHERE id=?",
	[PUT_MESSAGE] = ("INSERT OR REPLACE INTO messages VALUES"
			 "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"),
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
	" meta TEXT, body_size INT, body BLOB, commit_number INT, sum INT);"
	"CREATE TABLE bodies(number INTEGER PRIMARY KEY, body BLOB);"
	"CREATE TABLE dedup(number INTEGER PRIMARY KEY, queue INT, uid INT, sent_ms INT,"
	" id TEXT, sum INT);";

struct number_list {
	uint64_t *numbers;
	size_t n, capacity;
};

struct database {
	sqlite3 *sqlite;
	sqlite3_stmt *statements[N_STATEMENTS];
	struct spool *spool;
	struct number_list added, dropped; /* files of the spool, in this transaction */
	char *path;
	int commits_fd;	       /* the file `commits` */
	uint64_t live, before; /* rows of messages, and at the start of the transaction */
	uint64_t commits;
	uint64_t next_number; /* behind the messages that were read or put */
	bool beside;  /* another file has the same spool, and the file `commits` */
	uint64_t put; /* the last message put in this transaction; 0: none */
	struct store_head had; /* the head as it was written last */
	bool log_is_long;
	bool shrinks;	 /* space is being given back, a little at a time */
	int last;	 /* SQLite's result of the last failure … */
	int spool_error; /* … which was the spool's, if this is not 0 */
	int background;	 /* the last failure of what nobody waits for */
	bool full;	 /* there was no space to bring in the log */
};

/* ---- results ---- */

static int failed(struct database *db, int rc)
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
	return err_trace(failed(db, sqlite3_exec(db->sqlite, text, NULL, NULL, NULL)));
}

/* A statement without rows, whose parameters are bound. */
static int run(struct database *db, enum statement which)
{
	sqlite3_stmt *s = db->statements[which];
	int rc = sqlite3_step(s);

	sqlite3_reset(s);
	return err_trace(failed(db, rc));
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

/* ---- checksums ---- */

static uint64_t sum_numbers(const uint64_t *numbers, size_t size_bytes)
{
	return XXH3_64bits(numbers, size_bytes);
}

/* No text and an empty one are the same here: a row tells them apart. */
static uint64_t sum_slice(uint64_t sum, struct slice s)
{
	return s.size ? XXH3_64bits_withSeed(s.data, s.size, sum) : sum * 31 + 1;
}

static uint64_t sum_name(const struct name_record *n)
{
	return sum_slice(sum_slice(sum_numbers(&n->id, sizeof(n->id)), n->name),
			 n->settings);
}

static uint64_t sum_state(const struct message_record *m)
{
	const uint64_t numbers[] = {
		m->number,   m->queue,	    m->dead,   m->kept,
		m->attempts, m->deliveries, m->due_ms, m->expires_ms
	};

	return sum_slice(sum_slice(sum_numbers(numbers, sizeof(numbers)), m->reason),
			 m->history);
}

static uint64_t sum_content(const struct message_record *m, uint64_t commit)
{
	const uint64_t numbers[] = { m->number,	 m->uid,       m->priority,
				     m->sent_ms, m->body_size, commit };
	uint64_t sum = sum_numbers(numbers, sizeof(numbers));

	return sum_slice(sum_slice(sum_slice(sum, m->from), m->meta), m->body);
}

static uint64_t sum_dedup(const struct dedup_record *d)
{
	const uint64_t numbers[] = { d->number, d->queue, d->uid, d->sent_ms };

	return sum_slice(sum_numbers(numbers, sizeof(numbers)), d->id);
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
			return err_trace(failed(db, rc));
	}
	return 0;
}

static int read_pragma(struct database *db, const char *pragma, int64_t *ret_value)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(db->sqlite, pragma, -1, &s, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(s);
	*ret_value = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
	sqlite3_finalize(s);
	return err_trace(failed(db, rc));
}

static int check_schema(struct database *db, bool *ret_later)
{
	int64_t version, application;
	int r = read_pragma(db, "PRAGMA user_version", &version);

	if (r == 0)
		r = read_pragma(db, "PRAGMA application_id", &application);
	if (r < 0)
		return err_trace(r);
	if (version == SCHEMA_VERSION && application == APPLICATION_ID)
		return 0;
	if (version > SCHEMA_VERSION && application == APPLICATION_ID) {
		*ret_later = true;
		return err_origin(-EUCLEAN);
	}
	if (version || application)
		return err_origin(-EUCLEAN);
	r = run_text(db, "BEGIN IMMEDIATE");
	if (r == 0)
		r = run_text(db, schema);
	if (r == 0)
		r = run_text(db, "PRAGMA application_id=0x69706364;"
				 "PRAGMA user_version=1;COMMIT");
	return err_trace(r);
}

/* Only a new file is written to, so that one on a full disk can be opened: setting
 * auto_vacuum always writes. */
static int configure(struct database *db)
{
	int64_t mode;
	int r = run_text(db, "PRAGMA locking_mode=EXCLUSIVE");

	if (r == 0)
		r = read_pragma(db, "PRAGMA auto_vacuum", &mode);
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
	    read_pragma(db, "PRAGMA synchronous", &synchronous) < 0)
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

	db->full = failed(db, rc) == -ENOSPC;
	if (!db->full)
		note_background(db, rc);
}

static int on_log_grown(void *arg, sqlite3 *sqlite, const char *name, int pages)
{
	(void)sqlite;
	(void)name;
	if (pages >= CHECKPOINT_PAGES)
		bring_in_log(arg, SQLITE_CHECKPOINT_PASSIVE);
	return SQLITE_OK;
}

static int open_sqlite(struct database *db, bool *ret_later)
{
	int rc, r;

	rc = sqlite3_open_v2(db->path, &db->sqlite,
			     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
				     SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
			     NULL);
	if (rc != SQLITE_OK)
		return err_trace(failed(db, rc));
	sqlite3_extended_result_codes(db->sqlite, 1);
	sqlite3_wal_hook(db->sqlite, on_log_grown, db);
	r = configure(db);
	if (r == 0)
		r = check_schema(db, ret_later);
	if (r == 0)
		r = prepare_all(db);
	return err_trace(r);
}

int database_open(struct database **ret_db, const char *directory, const char *file,
		  bool *ret_later)
{
	struct database *db = calloc(1, sizeof(*db));
	mode_t before;
	int r;

	*ret_later = false;
	if (!db)
		return err_origin(-ENOMEM);
	db->commits_fd = -1;
	if (asprintf(&db->path, "%s/%s", directory, file) < 0) {
		db->path = NULL;
		r = -ENOMEM;
	} else {
		before = umask(077);
		r = spool_open(&db->spool, directory);
		if (r == 0)
			r = commits_open(directory, &db->commits_fd);
		if (r == 0)
			r = open_sqlite(db, ret_later);
		umask(before);
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
	spool_close(db->spool);
	fd_close(db->commits_fd);
	free(db->added.numbers);
	free(db->dropped.numbers);
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

static int add_number(struct number_list *list, uint64_t number)
{
	if (list->n == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 16;
		uint64_t *grown = realloc(list->numbers, capacity * sizeof(*grown));

		if (!grown)
			return err_origin(-ENOMEM);
		list->numbers = grown;
		list->capacity = capacity;
	}
	list->numbers[list->n++] = number;
	return 0;
}

static void remove_number(struct number_list *list, uint64_t number)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->numbers[i] == number)
			list->numbers[i--] = list->numbers[--list->n];
}

static void drop_files(struct database *db, struct number_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		spool_drop(db->spool, list->numbers[i]);
	list->n = 0;
}

int database_begin(struct database *db, bool sends)
{
	db->before = db->live;
	db->added.n = db->dropped.n = 0;
	db->put = 0;
	if (db->background)
		return err_trace(failed(db, db->background));
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
	if (r < 0) {
		db->had = (struct store_head){ 0 };
		if (r == -EIO) /* their rows may be there all the same */
			db->added.n = 0;
		return err_trace(r);
	}
	db->commits = head->commits;
	if (db->beside)
		return 0;
	drop_files(db, &db->dropped); /* and is there as long as its row */
	commits_write(db->commits_fd, head);
	return 0;
}

void database_rollback(struct database *db)
{
	if (!sqlite3_get_autocommit(db->sqlite))
		(void)!run(db, ROLLBACK);
	db->live = db->before;
	drop_files(db, &db->added);
	db->dropped.n = 0;
}

/* ---- rows ---- */

int database_put_name(struct database *db, const struct name_record *name)
{
	sqlite3_stmt *s = db->statements[PUT_NAME];

	bind_number(s, 1, name->id);
	bind_text(s, 2, name->name);
	bind_text(s, 3, name->settings);
	bind_number(s, 4, sum_name(name));
	return err_trace(run(db, PUT_NAME));
}

int database_drop_name(struct database *db, uint64_t id)
{
	bind_number(db->statements[DROP_NAME], 1, id);
	return err_trace(run(db, DROP_NAME));
}

static int put_body(struct database *db, const struct message_record *m)
{
	sqlite3_stmt *s = db->statements[PUT_BODY];
	bool is_new = true;
	int r;

	if (m->body_size < SPOOL_MIN) {
		bind_number(s, 1, m->number);
		bind_blob(s, 2, m->body);
		return err_trace(run(db, PUT_BODY));
	}
	remove_number(&db->dropped, m->number); /* dropped and put in one transaction */
	r = add_number(&db->added, m->number);
	if (r == 0)
		r = spool_failed(db, spool_put(db->spool, m->number, m->body, &is_new));
	if (!is_new)
		db->added.n--; /* it was there before, and stays */
	return err_trace(r);
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
	bind_number(s, at++, m->kept);
	bind_number(s, at++, m->attempts);
	bind_number(s, at++, m->deliveries);
	bind_number(s, at++, m->due_ms);
	bind_number(s, at++, m->expires_ms);
	bind_text(s, at++, m->reason);
	bind_text(s, at++, m->history);
	bind_number(s, at++, sum_state(m));
	return at;
}

int database_put_message(struct database *db, const struct message_record *m)
{
	sqlite3_stmt *s = db->statements[PUT_MESSAGE];
	bool within = m->body_size < BODY_ROW_MIN;
	int at, r = within ? 0 : put_body(db, m);

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
	bind_number(s, at++, m->body_size);
	bind_blob(s, at++, within ? m->body : (struct slice){ NULL, 0 });
	bind_number(s, at++, db->commits + 1);
	bind_number(s, at, sum_content(m, db->commits + 1));
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

static int drop_body(struct database *db, uint64_t number, uint64_t size)
{
	if (size >= SPOOL_MIN)
		return err_trace(add_number(&db->dropped, number));
	bind_number(db->statements[DROP_BODY], 1, number);
	return err_trace(run(db, DROP_BODY));
}

int database_drop_message(struct database *db, uint64_t number, uint64_t body_size)
{
	int r = forget_message(db, number);

	if (number == db->put)
		db->put = 0; /* it came and went within the transaction */
	if (r == 0 && body_size >= BODY_ROW_MIN)
		r = drop_body(db, number, body_size);
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
	bind_number(s, 6, sum_dedup(d));
	return err_trace(run(db, PUT_DEDUP));
}

int database_drop_dedup(struct database *db, uint64_t number)
{
	bind_number(db->statements[DROP_DEDUP], 1, number);
	return err_trace(run(db, DROP_DEDUP));
}

/* ---- reading ---- */

static uint64_t column_number(sqlite3_stmt *s, int at)
{
	return (uint64_t)sqlite3_column_int64(s, at);
}

/* Valid until the next step. */
static struct slice column_slice(sqlite3_stmt *s, int at)
{
	struct slice slice = { sqlite3_column_blob(s, at), 0 };

	slice.size = (size_t)sqlite3_column_bytes(s, at);
	if (!slice.data && sqlite3_column_type(s, at) != SQLITE_NULL)
		slice.data = ""; /* an empty one, which SQLite gives as NULL */
	return slice;
}

int database_read_head(struct database *db, struct store_head *ret_head)
{
	struct store_head h = { 0 };
	struct slice key;
	sqlite3_stmt *s = NULL;
	bool right = false;
	int rc = sqlite3_prepare_v2(db->sqlite, "SELECT * FROM head WHERE id=1", -1, &s,
				    NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(s);
	if (rc == SQLITE_ROW) {
		h.generation = column_number(s, 1);
		h.commits = column_number(s, 2);
		h.next_number = column_number(s, 3);
		h.live = column_number(s, 4);
		h.clean = column_number(s, 5) != 0;
		key = column_slice(s, 6);
		if (key.size == sizeof(h.lease_key))
			memcpy(&h.lease_key, key.data, sizeof(h.lease_key));
		h.written_ms = column_number(s, 7);
		right = column_number(s, 8) == commits_sum(&h);
	}
	sqlite3_finalize(s);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return err_trace(failed(db, rc));
	if (right)
		*ret_head = h;
	db->commits = max_u64(db->commits, right ? h.commits : 0);
	return right;
}

/* One table being walked. Where a page is damaged the walk goes on behind it. */
struct walk {
	struct database *db;
	const char *table;
	struct database_losses *losses;
	/* 0: go on */
	int (*row)(struct walk *walk, sqlite3_stmt *s);
	void *fn, *arg;
};

static int walk_rows(struct walk *w, sqlite3_stmt *s, int64_t *last, int *ret_rc)
{
	int r = 0;

	while (r == 0 && (*ret_rc = sqlite3_step(s)) == SQLITE_ROW) {
		*last = sqlite3_column_int64(s, 0);
		r = w->row(w, s);
	}
	return r;
}

/* Up from the smallest number to a place that cannot be read, then down from the largest one
 * to it. */
static int walk_table(struct walk *w, bool down, int64_t *border)
{
	_cleanup_free_ char *text = NULL;
	sqlite3_stmt *s = NULL;
	int64_t last = down ? INT64_MAX : INT64_MIN;
	int rc, r;

	if (asprintf(&text, "SELECT * FROM %s WHERE rowid>? ORDER BY rowid %s", w->table,
		     down ? "DESC" : "ASC") < 0) {
		text = NULL;
		return err_origin(-ENOMEM);
	}
	rc = sqlite3_prepare_v2(w->db->sqlite, text, -1, &s, NULL);
	if (rc != SQLITE_OK)
		return err_trace(failed(w->db, rc));
	sqlite3_bind_int64(s, 1, down ? *border : INT64_MIN);
	r = walk_rows(w, s, &last, &rc);
	sqlite3_finalize(s);
	*border = last;
	return r ? r : err_trace(failed(w->db, rc));
}

static int walk_all(struct walk *w)
{
	int64_t border = INT64_MIN;
	int r = walk_table(w, false, &border);

	if (r != -EUCLEAN && r != -EIO)
		return r;
	w->losses->damaged = true;
	r = walk_table(w, true, &border);
	return r == -EUCLEAN || r == -EIO ? 0 : r;
}

static int read_name(struct walk *w, sqlite3_stmt *s)
{
	int (*fn)(void *, const struct name_record *) = w->fn;
	struct name_record n = { .id = column_number(s, 0),
				 .name = column_slice(s, 1),
				 .settings = column_slice(s, 2) };

	if (column_number(s, 3) != sum_name(&n)) {
		w->losses->names++;
		return 0;
	}
	return fn(w->arg, &n);
}

int database_each_name(struct database *db,
		       int (*fn)(void *arg, const struct name_record *name), void *arg,
		       struct database_losses *losses)
{
	struct walk w = { db, "names", losses, read_name, fn, arg };

	return walk_all(&w);
}

static int read_spooled(struct database *db, struct message_record *m, struct buf *buf)
{
	int r = spool_get(db->spool, m->number, m->body_size, buf);

	m->body = (struct slice){ buf->data, buf->size };
	if (r == -ENOENT || r == -EIO)
		return 0;
	if (r < 0)
		log_error("cannot read the body of message %llu: %s",
			  (unsigned long long)m->number, strerror(-r));
	return r < 0 ? err_trace(r) : 1;
}

/* The body where it lies elsewhere; *buf holds it. 1; 0: it is lost; or a failure that will
 * pass, for which nothing may be given up. */
static int read_body(struct database *db, struct message_record *m, struct buf *buf)
{
	sqlite3_stmt *s = db->statements[GET_BODY];
	int rc;

	if (m->body_size < BODY_ROW_MIN)
		return m->body.size == m->body_size;
	if (m->body_size >= SPOOL_MIN)
		return err_trace(read_spooled(db, m, buf));
	bind_number(s, 1, m->number);
	rc = sqlite3_step(s);
	if (rc == SQLITE_ROW)
		m->body = column_slice(s, 0);
	if (failed(db, rc) == -ENOMEM)
		return err_origin(-ENOMEM);
	return rc == SQLITE_ROW && m->body.size == m->body_size;
}

static void read_columns(sqlite3_stmt *s, struct message_record *m)
{
	*m = (struct message_record){
		.number = column_number(s, 0),
		.queue = column_number(s, 1),
		.dead = column_number(s, 2) != 0,
		.kept = column_number(s, 3) != 0,
		.attempts = column_number(s, 4),
		.deliveries = column_number(s, 5),
		.due_ms = column_number(s, 6),
		.expires_ms = column_number(s, 7),
		.reason = column_slice(s, 8),
		.history = column_slice(s, 9),
		.uid = (uid_t)column_number(s, 11),
		.priority = (unsigned int)column_number(s, 12),
		.sent_ms = column_number(s, 13),
		.from = column_slice(s, 14),
		.meta = column_slice(s, 15),
		.body_size = column_number(s, 16),
		.body = column_slice(s, 17),
	};
}

static int read_message(struct walk *w, sqlite3_stmt *s)
{
	int (*fn)(void *, const struct message_record *) = w->fn;
	_cleanup_buf_ struct buf body = BUF_INIT;
	struct message_record m;
	int r;

	read_columns(s, &m);
	w->db->live++;
	w->db->next_number = max_u64(w->db->next_number, m.number + 1);
	r = column_number(s, 10) == sum_state(&m) ? read_body(w->db, &m, &body) : 0;
	if (r < 0) {
		sqlite3_reset(w->db->statements[GET_BODY]);
		return err_trace(r);
	}
	if (r && column_number(s, 19) == sum_content(&m, column_number(s, 18))) {
		w->db->commits = max_u64(w->db->commits, column_number(s, 18));
		r = fn(w->arg, &m);
	} else {
		w->losses->messages++;
		r = 0;
	}
	sqlite3_reset(w->db->statements[GET_BODY]);
	return r;
}

int database_each_message(struct database *db,
			  int (*fn)(void *arg, const struct message_record *m), void *arg,
			  struct database_losses *losses)
{
	struct walk w = { db, "messages", losses, read_message, fn, arg };

	db->live = 0;
	return walk_all(&w);
}

static int read_dedup(struct walk *w, sqlite3_stmt *s)
{
	int (*fn)(void *, const struct dedup_record *) = w->fn;
	struct dedup_record d = {
		.number = column_number(s, 0),
		.queue = column_number(s, 1),
		.uid = (uid_t)column_number(s, 2),
		.sent_ms = column_number(s, 3),
		.id = column_slice(s, 4),
	};

	if (column_number(s, 5) != sum_dedup(&d)) {
		w->losses->dedups++;
		return 0;
	}
	return fn(w->arg, &d);
}

int database_each_dedup(struct database *db,
			int (*fn)(void *arg, const struct dedup_record *dedup), void *arg,
			struct database_losses *losses)
{
	struct walk w = { db, "dedup", losses, read_dedup, fn, arg };

	return walk_all(&w);
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

uint64_t database_commits(const struct database *db)
{
	return db->commits;
}

bool database_read_commits(struct database *db, struct store_head *ret_head)
{
	return commits_read(db->commits_fd, ret_head);
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

void database_sweep(struct database *db, bool (*exists)(void *arg, uint64_t number),
		    void *arg)
{
	spool_sweep(db->spool, exists, arg);
}

int database_checkpoint(struct database *db)
{
	int rc = sqlite3_wal_checkpoint_v2(db->sqlite, "main", SQLITE_CHECKPOINT_TRUNCATE,
					   NULL, NULL);

	return err_trace(failed(db, rc));
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
	if (read_pragma(db, "PRAGMA freelist_count", &unused) < 0)
		return false;
	if (unused >= SHRINK_MIN_PAGES) {
		snprintf(text, sizeof(text), "PRAGMA incremental_vacuum(%d)",
			 SHRINK_PAGES);
		r = run_text(db, text);
		if (r < 0 && r != -ENOSPC)
			note_background(db, db->last);
		db->shrinks = r == 0;
		return db->shrinks;
	}
	if (db->shrinks) /* until then the file is as long as it was */
		bring_in_log(db, SQLITE_CHECKPOINT_PASSIVE);
	db->shrinks = false;
	return false;
}
