/* SPDX-License-Identifier: MIT */

/* The database at start: every row is read, and what its checksum does not agree with is left
 * out and counted. */

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "commits.h"
#include "database_internal.h"
#include "log.h"
#include "record_sum.h"
#include "spool.h"

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
		return err_trace(database_failed(db, rc));
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
		return err_trace(database_failed(w->db, rc));
	sqlite3_bind_int64(s, 1, down ? *border : INT64_MIN);
	r = walk_rows(w, s, &last, &rc);
	sqlite3_finalize(s);
	*border = last;
	return r ? r : err_trace(database_failed(w->db, rc));
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

	if (column_number(s, 3) != record_sum_name(&n)) {
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

/* Its content is not read. */
static int check_blob(struct database *db, struct message_record *m)
{
	int r = spool_check(db->spool, m->blob, m->body_size, &m->blob_disk);

	if (r < 0)
		log_error("cannot look at the body of message %llu: %s",
			  (unsigned long long)m->number, strerror(-r));
	return err_trace(r);
}

/* The body where it lies elsewhere. 1; 0: it is lost; or a failure that will pass, for which
 * nothing may be given up. */
static int read_body(struct database *db, struct message_record *m)
{
	sqlite3_stmt *s = db->statements[GET_BODY];
	int rc;

	if (m->blob)
		return err_trace(check_blob(db, m));
	if (m->body_size < BODY_ROW_MIN)
		return m->body.size == m->body_size;
	sqlite3_bind_int64(s, 1, (sqlite3_int64)m->number);
	rc = sqlite3_step(s);
	if (rc == SQLITE_ROW)
		m->body = column_slice(s, 0);
	if (database_failed(db, rc) == -ENOMEM)
		return err_origin(-ENOMEM);
	return rc == SQLITE_ROW && m->body.size == m->body_size;
}

static void read_columns(sqlite3_stmt *s, struct message_record *m)
{
	*m = (struct message_record){
		.number = column_number(s, 0),
		.queue = column_number(s, 1),
		.dead = column_number(s, 2) != 0,
		.kept = column_number(s, 3) & 1,
		.in_hand = column_number(s, 3) >> 1 & 1,
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
		.file = column_slice(s, 16),
		.body_size = column_number(s, 17),
		.blob = column_number(s, 18),
		.blob_fd = -1,
		.body = column_slice(s, 19),
	};
}

static int read_message(struct walk *w, sqlite3_stmt *s)
{
	int (*fn)(void *, const struct message_record *) = w->fn;
	struct message_record m;
	uint64_t commit;
	int r;

	read_columns(s, &m);
	w->db->live++;
	w->db->next_number = max_u64(w->db->next_number, m.number + 1);
	commit = column_number(s, 20);
	r = column_number(s, 10) == record_sum_state(&m) ? read_body(w->db, &m) : 0;
	if (r < 0) {
		sqlite3_reset(w->db->statements[GET_BODY]);
		return err_trace(r);
	}
	if (r && column_number(s, 21) == record_sum_content(&m, commit)) {
		w->db->commits = max_u64(w->db->commits, commit);
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

	if (column_number(s, 5) != record_sum_dedup(&d)) {
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
