/* SPDX-License-Identifier: MIT */

#include "storage.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "log.h"
#include "state.h"

/* So much does the file grow at most when the log is brought in, after which that begins anew
 * in the space that it has. The second is free beside the reserve when that is made, or else
 * it would be given up again at once. */
static const off_t reserve_bytes = 10 << 20, beside_reserve_bytes = 2 << 20;

enum { PAGE_BYTES = 4096 }; /* as SQLite has them */

static const char file[] = "ipcd.db", file_part[] = "ipcd.db.part", /* being written */
	file_new[] = "ipcd.db.new", /* complete, and not yet in its place */
	file_old[] = "ipcd.db.old", file_bad[] = "ipcd.db.bad";

/* NULL without memory. */
static char *path_of(const struct storage *s, const char *name, const char *suffix)
{
	char *path;

	return asprintf(&path, "%s/%s%s", s->directory, name, suffix) < 0 ? NULL : path;
}

static void note_error(struct storage *s, int error)
{
	const char *text = s->db && error != -ENOMEM && error != -ENOSPC
				   ? database_error(s->db)
				   : strerror(-error);

	if (error == -EADDRINUSE)
		text = "another ipcd has the directory";
	s->failure = error;
	snprintf(s->error, sizeof(s->error), "%s", text);
}

/* ---- files ---- */

static int rename_file(const struct storage *s, const char *from, const char *to,
		       const char *suffix)
{
	_cleanup_free_ char *old = path_of(s, from, suffix),
			    *new = path_of(s, to, suffix);

	if (!old || !new)
		return err_origin(-ENOMEM);
	return rename(old, new) < 0 && errno != ENOENT ? err_origin(-errno) : 0;
}

static int remove_file(const struct storage *s, const char *name, const char *suffix)
{
	_cleanup_free_ char *path = path_of(s, name, suffix);

	if (!path)
		return err_origin(-ENOMEM);
	return unlink(path) < 0 && errno != ENOENT ? err_origin(-errno) : 0;
}

static int remove_both(const struct storage *s, const char *name)
{
	int r = remove_file(s, name, "");

	return err_trace(r < 0 ? r : remove_file(s, name, "-wal"));
}

static int sync_directory(const struct storage *s)
{
	_cleanup_fd_ int fd = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? err_origin(-errno) : 0;
}

static bool has_file(const struct storage *s, const char *name)
{
	_cleanup_free_ char *path = path_of(s, name, "");

	return !path || access(path, F_OK) == 0;
}

/* Out of the way, with its log. */
static int move_away(const struct storage *s, const char *to)
{
	int r = has_file(s, file) ? remove_both(s, to) : 0; /* no log of another one's */

	if (r == 0)
		r = rename_file(s, file, to, "");
	if (r == 0)
		r = rename_file(s, file, to, "-wal");
	if (r == 0)
		r = sync_directory(s); /* no old log meets the new file */
	return err_trace(r);
}

char *storage_find_bad(const struct storage *s)
{
	return has_file(s, file_bad) ? path_of(s, file_bad, "") : NULL;
}

bool storage_reserve(struct storage *s)
{
	_cleanup_free_ char *path = path_of(s, "reserve", "");
	_cleanup_fd_ int fd = -1;

	if (s->has_reserve || !path)
		return s->has_reserve;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return false;
	s->has_reserve = posix_fallocate(fd, 0, reserve_bytes + beside_reserve_bytes) ==
			 0;
	if (ftruncate(fd, s->has_reserve ? reserve_bytes : 0) == 0 && fsync(fd) == 0)
		(void)!sync_directory(s); /* what there is, is there after a power cut */
	return s->has_reserve;
}

static void give_up_reserve(struct storage *s)
{
	_cleanup_free_ char *path = path_of(s, "reserve", "");

	if (path && (truncate(path, 0) == 0 || errno == ENOENT))
		s->has_reserve = false;
}

/* ---- start ---- */

static int open_file(struct storage *s, const char *name, unsigned int *ret_other)
{
	return err_trace(database_open(&s->db, s->directory, name, s->spool, ret_other));
}

/* A complete new file takes the place of the one there is, if there is one. */
static int put_in_place(struct storage *s)
{
	int r = move_away(s, s->set_aside ? file_bad : file_old);

	if (r == 0) {
		s->set_aside = false; /* what is there from now on is not the bad one */
		r = rename_file(s, file_new, file, "");
	}
	if (r == 0)
		r = sync_directory(s);
	if (r == 0)
		r = remove_both(s, file_old);
	return err_trace(r);
}

/* What a stop has left of storage_begin_anew() and storage_finish_anew(). */
static int settle_files(struct storage *s)
{
	int r = remove_both(s, file_part);

	if (r == 0 && has_file(s, file_new))
		r = put_in_place(s);
	if (r == 0 && has_file(s, file))
		r = remove_both(s, file_old);
	return err_trace(r);
}

/* The file is no database any more: put aside, and an empty one in its place. */
static int open_empty(struct storage *s)
{
	unsigned int other;
	int r = move_away(s, file_bad);

	s->losses.damaged = true;
	s->is_aside = r == 0;
	if (r == 0)
		r = open_file(s, file, &other);
	return err_trace(r);
}

/* SQLite takes a file that is cut off at its beginning for an empty one, and deletes the log,
 * which may have all of it. */
static int keep_log(const struct storage *s)
{
	_cleanup_free_ char *path = path_of(s, file, ""), *log = path_of(s, file, "-wal");
	struct stat st;

	if (!path || !log)
		return err_origin(-ENOMEM);
	if (stat(path, &st) < 0 || st.st_size >= PAGE_BYTES)
		return 0;
	if (stat(log, &st) < 0 || !st.st_size)
		return 0;
	return truncate(path, PAGE_BYTES) < 0 ? err_origin(-errno) : 0;
}

static int open_found(struct storage *s, unsigned int *ret_other)
{
	int r = keep_log(s);

	return err_trace(r < 0 ? r : open_file(s, file, ret_other));
}

static int read_head(struct storage *s)
{
	int r = database_read_head(s->db, &s->head);

	if (r == -EUCLEAN) {
		s->db = database_abandon(s->db);
		r = open_empty(s);
	}
	if (r < 0)
		return err_trace(r);
	return r;
}

/* Of a backup that was put back, for example: SQLite would say that reading or writing has
 * failed. */
static int check_access(const struct storage *s)
{
	static const char *const names[] = { "", "ipcd.db", "ipcd.db-wal", "commits",
					     "spool" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_free_ char *path = path_of(s, names[i], "");
		int r;

		if (!path)
			return err_origin(-ENOMEM);
		if (access(path, R_OK | W_OK) == 0 || errno == ENOENT)
			continue;
		r = -errno;
		log_error("cannot read and write %s: %s", path, strerror(-r));
		return err_origin(r);
	}
	return 0;
}

static uint64_t now_ms(clockid_t clock)
{
	return clock_ns(clock) / NS_PER_MS;
}

/* The store's clock goes on. A wall clock that was set back meanwhile, as without a battery,
 * makes no delay longer. */
static void begin_clock(struct storage *s)
{
	struct store_head known = s->head;
	uint64_t wall_ms = now_ms(CLOCK_REALTIME), then_ms, passed_ms;

	(void)!database_read_commits(s->db, &known);
	passed_ms = wall_ms > known.written_ms ? wall_ms - known.written_ms : 0;
	then_ms = known.clock_ms ? known.clock_ms : known.written_ms;
	s->clock_base_ms =
		(int64_t)(then_ms + passed_ms) - (int64_t)now_ms(CLOCK_BOOTTIME);
}

int storage_open(struct storage *s, const char *directory)
{
	unsigned int other = 0;
	int r;

	*s = (struct storage){ .directory = strdup(directory), .lock_fd = -1 };
	if (!s->directory)
		return err_origin(-ENOMEM);
	r = check_access(s);
	if (r < 0)
		return err_trace(r);
	r = spool_open(&s->spool, directory);
	if (r == 0)
		r = settle_files(s);
	if (r == 0)
		r = open_found(s, &other);
	if (r == -ENOSPC) {
		give_up_reserve(s);
		r = open_found(s, &other);
	}
	if (r == -EUCLEAN && !other)
		r = open_empty(s);
	if (r >= 0)
		r = read_head(s);
	if (r >= 0 && !s->head.clean)
		database_write_again(s->db);
	if (r >= 0) {
		begin_clock(s);
		s->options = database_describe_options(s->db);
	}
	if (other)
		log_error(
			"%s/%s was written by another version of ipcd, in format %u; this "
			"one has format %u. What is in it can be received with that version; "
			"to begin without it, move %s away, whole",
			directory, file, other, DATABASE_FORMAT, directory);
	else if (r < 0)
		log_error("cannot open the store in %s: %s (%s)", directory, strerror(-r),
			  err_trail());
	return r < 0 ? err_trace(r) : 0;
}

void storage_close(struct storage *s)
{
	if (s->db)
		s->db = database_close(s->db);
	s->spool = spool_close(s->spool);
	free(s->directory);
	free(s->damage);
	free(s->options);
	s->directory = s->damage = s->options = NULL;
}

int storage_load(struct storage *s,
		 int (*name)(void *arg, const struct name_record *name),
		 int (*message)(void *arg, const struct message_record *m),
		 int (*dedup)(void *arg, const struct dedup_record *dedup), void *arg)
{
	int r = database_each_name(s->db, name, arg, &s->losses);

	if (r == 0)
		r = database_each_message(s->db, message, arg, &s->losses);
	if (r == 0)
		r = database_each_dedup(s->db, dedup, arg, &s->losses);
	return err_trace(r);
}

/* ---- what is lost ---- */

static void add_damage(struct storage *s, const char *format, ...) PRINTF_LIKE(2, 3);
static void add_damage(struct storage *s, const char *format, ...)
{
	char *text, *joined = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	if (!text)
		return;
	log_error("the store in %s is damaged: %s", s->directory, text);
	if (s->damage && asprintf(&joined, "%s; %s", s->damage, text) < 0)
		joined = NULL;
	if (joined) {
		free(s->damage);
		free(text);
		s->damage = joined;
	} else if (!s->damage) {
		s->damage = text;
	} else {
		free(text);
	}
}

/* The end of the log is missing: SQLite cannot know, the file `commits` does. */
static void judge_log(struct storage *s, const struct store_head *known)
{
	uint64_t commits = known->commits - s->head.commits;
	uint64_t sends = known->next_number > s->head.next_number
				 ? known->next_number - s->head.next_number
				 : 0;

	add_damage(s,
		   "the last %" PRIu64 " commits are missing: at most %" PRIu64
		   " messages are lost, and what was acknowledged in them comes again",
		   commits, sends);
}

/* live: how many rows the head says there are; loaded: how many came. */
static void judge_rows(struct storage *s, uint64_t live, bool has_head)
{
	const struct database_losses *l = &s->losses;
	uint64_t loaded = database_live(s->db) - l->messages;

	if (l->names)
		add_damage(s,
			   "%" PRIu64 " names are lost with their settings: they get "
			   "those of the rules",
			   l->names);
	if (has_head && live > loaded)
		add_damage(s, "%" PRIu64 " of %" PRIu64 " messages are lost",
			   live - loaded, live);
	else if (l->messages)
		add_damage(s, "%" PRIu64 " messages are lost", l->messages);
	else if (l->damaged)
		add_damage(s, "parts of the file cannot be read");
	if (l->dedups)
		add_damage(s,
			   "%" PRIu64 " ids of sends are lost: a repeated send may be "
			   "taken for a new one",
			   l->dedups);
}

bool storage_judge(struct storage *s)
{
	struct store_head known;
	bool has_known = database_read_commits(s->db, &known);
	bool has_head = s->head.commits > 0;
	uint64_t commits = database_commits(s->db);
	bool damaged;

	s->head.next_number = max_u64(s->head.next_number, database_next_number(s->db));
	/* how many rows there ought to be is known for the commit that wrote it */
	if (has_known && known.commits == commits)
		judge_rows(s, known.live, true);
	else if (s->head.commits == commits)
		judge_rows(s, s->head.live, has_head);
	else
		judge_rows(s, 0, false);
	s->head.commits = s->commits = commits;
	s->live = database_live(s->db);
	if (has_known && known.commits > commits)
		judge_log(s, &known);
	if (has_known) { /* numbers and keys are never used twice */
		s->head.next_number = max_u64(s->head.next_number, known.next_number);
		s->head.generation = max_u64(s->head.generation, known.generation);
		if (!has_head)
			s->head.lease_key = known.lease_key;
	}
	damaged = s->losses.damaged || s->losses.names || s->losses.messages ||
		  s->losses.dedups;
	s->set_aside = damaged && !s->is_aside;
	return damaged;
}

void storage_sweep(struct storage *s, bool (*keep)(void *arg, uint64_t blob), void *arg)
{
	bool drop = !s->set_aside && !has_file(s, file_bad);

	spool_sweep(s->spool, drop, keep, arg);
}

/* ---- writing ---- */

static bool is_send(const struct batch_entry *e)
{
	return !e->again && (e->kind == BATCH_PUT_MESSAGE || e->kind == BATCH_PUT_DEDUP);
}

static int write_entry(struct database *db, const struct batch_entry *e)
{
	switch (e->kind) {
	case BATCH_PUT_NAME:
		return err_trace(database_put_name(db, &e->name));
	case BATCH_DROP_NAME:
		return err_trace(database_drop_name(db, e->drop.number));
	case BATCH_PUT_MESSAGE:
		return err_trace(database_put_message(db, &e->message, e->again));
	case BATCH_SET_MESSAGE:
		return err_trace(database_set_message(db, &e->message));
	case BATCH_DROP_MESSAGE:
		return err_trace(
			database_drop_message(db, e->drop.number, e->drop.body_size));
	case BATCH_PUT_DEDUP:
		return err_trace(database_put_dedup(db, &e->dedup));
	case BATCH_DROP_DEDUP:
		return err_trace(database_drop_dedup(db, e->drop.number));
	}
	return 0;
}

/* What is behind *last, which is moved on. */
static int write_batch(struct database *db, const struct batch *batch, bool sends,
		       const struct batch_entry **last)
{
	const struct batch_entry *e;
	int r = 0;

	while (r == 0 && (e = batch_next(batch, *last))) {
		if (sends || !is_send(e))
			r = write_entry(db, e);
		*last = e;
	}
	return err_trace(r);
}

void storage_write_ahead(struct storage *s, const struct batch *batch)
{
	if (!s->db)
		return;
	if (!s->ahead) {
		s->ahead = true;
		s->ahead_entry = NULL;
		s->ahead_result = database_begin(s->db, true);
	}
	if (s->ahead_result == 0)
		s->ahead_result = write_batch(s->db, batch, true, &s->ahead_entry);
}

bool storage_is_behind(const struct storage *s, const struct batch *batch)
{
	return s->ahead && s->ahead_result == 0 && batch_next(batch, s->ahead_entry);
}

static int begin(struct storage *s, bool sends)
{
	if (!s->ahead)
		return err_trace(database_begin(s->db, sends));
	s->ahead = false;
	return err_trace(s->ahead_result);
}

/* A batch whose sends have failed before comes again without them. */
static int write_all(struct storage *s, struct list *batches, bool sends)
{
	const struct batch_entry *last = s->ahead ? s->ahead_entry : NULL;
	int r = begin(s, sends);

	LIST_FOREACH(link, batches) {
		const struct batch *batch = LIST_ENTRY(link, struct batch, link);

		if (r == 0)
			r = write_batch(s->db, batch, sends && !batch->without_sends,
					&last);
		last = NULL;
	}
	s->head.clock_ms = now_ms(CLOCK_BOOTTIME) + (uint64_t)s->clock_base_ms;
	if (r == 0)
		r = database_commit(s->db, &s->head);
	if (r == 0) {
		s->live = s->head.live;
		s->commits = s->head.commits;
		s->written = true;
	} else {
		note_error(s, r);
		database_rollback(s->db);
	}
	return err_trace(r);
}

static void measure_commit(struct storage *s, uint64_t begun_ns)
{
	s->last_commit_us = (clock_ns(CLOCK_MONOTONIC) - begun_ns) / 1000;
	s->longest_commit_us = max_u64(s->longest_commit_us, s->last_commit_us);
}

/* Where SQLite could not even roll back for lack of space it refuses everything from then on,
 * also when there is space again: the file is as good as ever, and opened anew. False: there
 * is no room for that either. */
static bool open_again(struct storage *s)
{
	unsigned int other;
	int r;

	if (s->db)
		s->db = database_abandon(s->db);
	r = open_file(s, file, &other);
	if (r < 0) {
		s->db = NULL;
		s->failure = r;
		return false;
	}
	if (database_is_ahead(s->db, s->commits)) {
		snprintf(s->error, sizeof(s->error), "%s",
			 "a commit that failed is there all the same");
		s->db = database_abandon(s->db);
		return true;
	}
	database_go_on(s->db, s->head.commits, s->live);
	return true;
}

enum storage_outcome storage_write(struct storage *s, struct list *batches)
{
	uint64_t begun_ns = clock_ns(CLOCK_MONOTONIC);
	int r;

	if (!s->db && s->no_room)
		s->no_room = !open_again(s);
	if (!s->db)
		return s->no_room ? STORAGE_FULL : STORAGE_LOST;
	r = write_all(s, batches, true);
	if (r == 0) {
		measure_commit(s, begun_ns);
		return STORAGE_WRITTEN;
	}
	if (r != -ENOSPC && r != -ENOMEM)
		return STORAGE_LOST;
	if (r == -ENOSPC)
		give_up_reserve(s);
	r = write_all(s, batches, false);
	if (r == 0)
		return STORAGE_REST_WRITTEN;
	if (r == -ENOSPC && !s->anew)
		s->no_room = !open_again(s);
	if (!s->db && !s->no_room)
		return STORAGE_LOST;
	return r == -ENOSPC || r == -ENOMEM ? STORAGE_FULL : STORAGE_LOST;
}

void storage_after_write(struct storage *s)
{
	if (s->written)
		database_after_commit(s->db);
	s->written = false;
}

/* ---- a new file ---- */

/* The directory may be another one than before. What somebody has put there, perhaps a copy
 * of an earlier state, is not lost. */
static int follow_directory(struct storage *s)
{
	int r = s->lock_fd < 0 ? 0 : state_lock_again(s->directory, s->lock_fd);

	if (r < 0)
		return err_trace(r);
	if (r && has_file(s, file))
		s->set_aside = true;
	s->has_reserve = s->has_reserve && has_file(s, "reserve");
	return err_trace(spool_open_again(s->spool, s->directory));
}

int storage_begin_anew(struct storage *s)
{
	unsigned int other;
	int r;

	if (s->db)
		s->db = database_abandon(s->db);
	s->anew = true;
	r = follow_directory(s);
	if (r == 0)
		r = remove_both(s, file_part);
	if (r == 0)
		r = open_file(s, file_part, &other);
	if (r < 0) {
		note_error(s, r);
		return err_trace(r);
	}
	database_go_on(s->db, s->head.commits, 0);
	database_stand_beside(s->db);
	return 0;
}

static int install(struct storage *s)
{
	unsigned int other;
	int r = rename_file(s, file_part, file_new, "");

	if (r == 0) /* from here on it is the one, wherever a stop comes */
		r = put_in_place(s);
	if (r == 0)
		r = open_file(s, file, &other);
	return err_trace(r);
}

int storage_finish_anew(struct storage *s)
{
	int r = database_checkpoint(s->db); /* all is in the one file now */

	if (r < 0)
		note_error(s, r);
	s->lost_bodies = database_lost_bodies(s->db);
	s->db = database_close(s->db);
	if (r < 0)
		return err_trace(r);
	r = install(s);
	if (r < 0) {
		note_error(s, r);
		return err_trace(r);
	}
	database_go_on(s->db, s->head.commits, s->head.live);
	s->anew = false;
	(void)storage_reserve(s); /* while the disk is full it waits for that to end */
	return 0;
}

bool storage_idle(struct storage *s)
{
	return s->db && !s->anew && database_shrink(s->db);
}
