/* SPDX-License-Identifier: MIT */

/*
 * Files of a killed ipcd are damaged, each time at one place: it starts, shows no corrupt
 * body, says what is lost, keeps the rest, and what is sent then is safe. Of a large body
 * only the size is looked at.
 *
 * CRASH_SECONDS says how long it goes on; IPC_TEST_SEED repeats the choices of a run.
 */

#include "integration/harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/clock.h"
#include "integration/harness_crash.h"
#include "integration/harness_load.h"
#include "integration/harness_powercut.h"
#include "wire/limits.h"

enum {
	SECONDS = 2, /* for each of the larger tests, less for others */
	N_OLD = 60,  /* messages that are in the database itself */
	N_NEW = 30,  /* that are in its log */
	N_ACKED = 10,
	N_MESSAGES = N_OLD + N_NEW,
	PAGE_SIZE = 4096,
	/* so many messages may have rows in one page */
	ROWS_MAX = 32,
};

enum damage { FLIP, ZEROS, CUT, N_DAMAGES };

static struct {
	uint64_t random;
	unsigned int trials, lossless, lost, n_roots;
	bool in_spool;
	unsigned int changed; /* bodies that are not what was sent, in this trial */
	off_t roots[32];      /* where pages begin on which much depends */
	bool seen[N_MESSAGES];
} run;

static uint64_t below(uint64_t n)
{
	return random_below(&run.random, n);
}

static void command(char *text)
{
	if (system(text) != 0) /* NOLINT(*-command-processor) */
		fail_msg("%s", text);
}

/* ---- the sound state ---- */

static void send_messages(struct client *c, int from, int to)
{
	for (int n = from; n < to; n++) {
		say_body(c, load_body((uint64_t)n), load_body_size((uint64_t)n),
			 "{'op':'send','id':1,'queue':'" LOAD_QUEUE "','meta':{'n':%d}}",
			 n);
		hear_reply(c, 1);
	}
}

static void kill_server(void)
{
	kill(server.pid, SIGKILL);
	crash_expect(KILLED);
}

/* The first ones have been acknowledged: they lie before what is in the log. */
static void ack_some(struct client *c)
{
	for (int n = 0; n < N_ACKED; n++) {
		struct frame *f;

		say(c, "{'op':'receive','id':2,'queue':'" LOAD_QUEUE "','wait_ms':-1}");
		f = hear_reply(c, 2);
		hear_end(c, 2, "max");
		assert_int_equal(json_int(f->header, "meta.n"), n);
		settle(c, "ack", f, "");
	}
}

static void note_roots(void)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *s = NULL;

	assert_int_equal(sqlite3_open(keep_printf("%s/copy/ipcd.db", server.dir), &db),
			 SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db,
					    "SELECT rootpage FROM sqlite_master "
					    "WHERE rootpage UNION SELECT 1",
					    -1, &s, NULL),
			 SQLITE_OK);
	while (sqlite3_step(s) == SQLITE_ROW) {
		assert_in_range(run.n_roots, 0, ARRAY_SIZE(run.roots) - 1);
		run.roots[run.n_roots++] =
			(sqlite3_column_int64(s, 0) - 1) * (off_t)PAGE_SIZE;
	}
	sqlite3_finalize(s);
	sqlite3_close(db);
}

static void make_sound_state(void)
{
	struct client *c;

	crash_start(false);
	c = client_connect();
	send_messages(c, 0, N_OLD);
	client_close(c);
	stop();
	crash_start(false);
	c = client_connect();
	ack_some(c);
	send_messages(c, N_OLD, N_MESSAGES);
	client_close(c);
	kill_server();
	command(keep_printf("cd %s && mv state sound && cp -r sound copy", server.dir));
	note_roots();
}

/* ---- damage ---- */

static off_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : 0;
}

/* Behind its last byte that is not zero: the log is longer than what is in it. */
static off_t used_size_of(const char *path)
{
	FILE *file = fopen(path, "re");
	off_t at = 0, used = 0;
	int c;

	assert_non_null(file);
	while ((c = getc(file)) != EOF) {
		at++;
		if (c)
			used = at;
	}
	fclose(file);
	return used;
}

/* A file in a directory, any of them. */
static char *pick_file(const char *directory)
{
	DIR *dir = opendir(keep_printf("%s/%s", server.state, directory));
	struct dirent *entry;
	char *picked = NULL;
	unsigned int n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' && below(++n) == 0)
			picked = keep_printf("%s/%s", directory, entry->d_name);
	closedir(dir);
	assert_non_null(picked);
	return picked;
}

static void overwrite(const char *path, enum damage damage, off_t at)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	unsigned char bytes[PAGE_SIZE] = { 0 };
	size_t size = damage == FLIP ? 1 : sizeof(bytes);

	assert_true(fd >= 0);
	if (damage == CUT)
		assert_int_equal(ftruncate(fd, at), 0);
	if (damage == ZEROS && (off_t)size > size_of(path) - at)
		size = (size_t)(size_of(path) - at);
	if (damage == FLIP) {
		assert_int_equal(pread(fd, bytes, 1, at), 1);
		bytes[0] ^= (unsigned char)(1 + below(255));
	}
	if (damage != CUT)
		assert_int_equal(pwrite(fd, bytes, size, at), size);
	close(fd);
}

static void restore_sound_state(void)
{
	command(keep_printf("cd %s && rm -rf state && cp -r sound state && : >log",
			    server.dir));
}

/* ---- what is there afterwards ---- */

static void note_message(const struct frame *f)
{
	int64_t n = json_int(f->header, "meta.n");

	if (n < 0 || n >= N_MESSAGES || run.seen[n] ||
	    f->body_size != load_body_size((uint64_t)n))
		fail_msg("corrupt, or twice: %s", f->header);
	run.seen[n] = true;
	if (memcmp(f->body, load_body((uint64_t)n), f->body_size) == 0)
		return;
	if (!run.in_spool || f->body_size <= LIMIT_PIECE_MAX)
		fail_msg("corrupt: %s", f->header);
	run.changed++;
}

/* In whatever queue they are: its name may be lost. */
static void look(void)
{
	struct client *c = client_connect();
	struct frame *names = list(c, "names"), *f;
	const char *line;

	memset(run.seen, 0, sizeof(run.seen));
	run.changed = 0;
	for (unsigned int i = 0; (line = frame_line(names, i)); i++) {
		say(c, "{'op':'receive','id':1,'queue':'%s','peek':true,'max':0}",
		    json_string(line, "name"));
		while (!json_has((f = hear_reply(c, 1))->header, "end"))
			if (json_has(f->header, "meta"))
				note_message(f);
	}
	client_close(c);
}

static unsigned int count_lost(void)
{
	unsigned int n = 0;

	for (int i = N_ACKED; i < N_MESSAGES; i++)
		n += !run.seen[i];
	return n;
}

static unsigned int count_back(void)
{
	unsigned int n = 0;

	for (int i = 0; i < N_ACKED; i++)
		n += run.seen[i];
	return n;
}

/* ---- trials ---- */

static bool is_root(off_t at)
{
	for (unsigned int i = 0; i < run.n_roots; i++)
		if (at >= run.roots[i] && at < run.roots[i] + PAGE_SIZE)
			return true;
	return false;
}

/* The sum of all numbers before these words in the log. */
static unsigned int count_said(const char *words)
{
	const char *log = server_read_log(), *at = log;
	unsigned int n = 0;

	while ((at = strstr(at, words))) {
		const char *digits = at;

		while (digits > log && digits[-1] >= '0' && digits[-1] <= '9')
			digits--;
		n += (unsigned int)strtoul(digits, NULL, 10);
		at++;
	}
	return n;
}

/* What is in the database is counted, of the end of the log there is a bound. */
static void check_words(unsigned int lost, unsigned int back, bool in_log)
{
	const char *of = keep_printf(" of %d messages are lost", N_MESSAGES - N_ACKED);
	unsigned int bound = count_said(log_count(of) ? of : " messages are lost");

	if ((lost || back) && !log_count("damaged"))
		fail_msg("%u are lost and %u came back, and nothing is said", lost, back);
	if (lost > bound || (!in_log && lost != bound))
		fail_msg("%u are lost, of %u it is said", lost, bound);
}

static void check_loss(const char *file, enum damage damage, off_t at)
{
	bool in_log = strstr(file, "-wal") != NULL;
	unsigned int lost = count_lost(), back = count_back();

	run.trials++;
	run.lossless += !lost;
	run.lost += lost;
	if (run.in_spool &&
	    (damage == CUT ? lost != 1 || run.changed : lost || run.changed > 1))
		fail_msg("%u are lost, %u changed", lost, run.changed);
	check_words(lost, back, in_log);
	if (back && !in_log)
		fail_msg("%u came again that had been acknowledged", back);
	if (!in_log && damage != CUT && !is_root(at) && lost > ROWS_MAX)
		fail_msg("%u are lost by the damage of one page", lost);
	/* what SQLite does not take for its log, it will write over */
	if (lost && !in_log && !crash_count_bad_files())
		fail_msg("%u are lost, and no file was set aside", lost);
}

/* What is sent now is safe, and so is what was found. */
static void check_mended(void)
{
	struct client *c = client_connect();
	unsigned int lost = count_lost();
	int said = log_count("damaged");

	send_text(c, "after", "x");
	client_close(c);
	kill_server();
	crash_start(false);
	look();
	if (count_lost() != lost)
		fail_msg("%u were lost at first, now %u", lost, count_lost());
	assert_int_equal(queue_count("after", "ready"), 1);
	assert_int_equal(log_count("damaged"), said);
}

static void try_damage(const char *file, enum damage damage)
{
	static const char *const words[] = {
		[FLIP] = "a byte flipped", [ZEROS] = "zeros", [CUT] = "cut"
	};
	size_t mark = keep_mark();
	char *path;
	off_t at;

	restore_sound_state();
	if (!strcmp(file, "spool"))
		file = pick_file(file);
	path = keep_printf("%s/%s", server.state, file);
	at = (off_t)below((uint64_t)(below(10) ? used_size_of(path) : size_of(path)));
	if (damage == ZEROS)
		at -= at % 512;
	overwrite(path, damage, at);
	print_message("%s, %s at %" PRId64 "\n", file, words[damage], (int64_t)at);
	crash_start(false);
	look();
	check_loss(file, damage, at);
	if (below(4) == 0)
		check_mended();
	kill_server();
	keep_release(mark);
}

static enum damage choose_damage(void)
{
	if (below(run.in_spool ? 2 : 8) == 0)
		return CUT;
	return below(3) == 0 ? ZEROS : FLIP;
}

static void run_all(const char *file, unsigned int share)
{
	const char *text = getenv("CRASH_SECONDS");
	uint64_t seconds = text ? strtoul(text, NULL, 10) : SECONDS, end;

	memset(&run, 0, sizeof(run));
	run.random = random_seed();
	run.in_spool = strcmp(file, "spool") == 0;
	make_sound_state();
	end = deadline_after(clock_ns(CLOCK_MONOTONIC), 1000 * seconds / share);
	while (clock_ns(CLOCK_MONOTONIC) < end)
		try_damage(file, choose_damage());
	print_message("%s: %u times, %u of them without loss; lost %u messages\n", file,
		      run.trials, run.lossless, run.lost);
}

static void test_damaged_database(void **state)
{
	run_all("ipcd.db", 1);
}

static void test_damaged_log(void **state)
{
	run_all("ipcd.db-wal", 1);
}

static void test_damaged_bodies(void **state)
{
	run_all("spool", 4);
}

/* Without it less could be told, but nothing is missing. */
static void test_damaged_commits(void **state)
{
	run_all("commits", 4);
	assert_int_equal(run.lost, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_damaged_database),
		it(test_damaged_log),
		it(test_damaged_bodies),
		it(test_damaged_commits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
