/* SPDX-License-Identifier: MIT */

/* Many connections, many queues, many messages: they are served, and what they cost goes
 * back. */

#include "integration/harness_file.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "wire/limits.h"

enum { N_IDLE = 10000, N_SPARE = 200 };

/* Descriptors for ourselves, and for the daemon, which inherits the limit. */
static void allow_descriptors(rlim_t n)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_max < n) {
		print_message(
			"skipped: the hard limit of open files is %lu, %lu are needed\n",
			(unsigned long)limit.rlim_max, (unsigned long)n);
		skip();
	}
	if (limit.rlim_cur < n)
		limit.rlim_cur = n;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static long resident_bytes(void)
{
	char *text = read_file(keep_printf("/proc/%d/statm", (int)server.pid));
	long size, resident;

	assert_int_equal(sscanf(text, "%ld %ld", &size, &resident), 2);
	return resident * sysconf(_SC_PAGESIZE);
}

static void test_ten_thousand_idle_connections(void **state)
{
	struct client *active, *idle[N_IDLE];
	long before, each;

	allow_descriptors(N_IDLE + N_SPARE);
	start("--log-level", "warning");
	active = client_connect();
	hear_nothing(active);
	before = resident_bytes();
	for (int i = 0; i < N_IDLE; i++)
		idle[i] = client_connect();
	hear_nothing(idle[N_IDLE - 1]);
	each = (resident_bytes() - before) / N_IDLE;
	print_message("%ld bytes for each idle connection\n", each);
	if (!server_is_sanitized())
		assert_true(each < 2048);

	for (int i = 0; i < 100; i++) {
		send_text(active, "jobs", "x");
		settle(active, "ack", take(active, "jobs", "x"), "");
	}
	hear_nothing(idle[0]);
	hear_nothing(idle[N_IDLE / 2]);
	for (int i = 0; i < N_IDLE; i++)
		client_close(idle[i]);
	wait_for(stats_count("peers") == 2);
	hear_nothing(active);
}

/* A thousand come and go at once, each with a message. */
static void test_come_and_go(void **state)
{
	struct client *active;

	start("--log-level", "warning");
	active = client_connect();
	for (int i = 0; i < 5000; i++) {
		struct client *c = client_connect();

		say_text(c, "x", "{'op':'send','queue':'jobs'}");
		client_close(c);
		if (i % 100 == 0)
			hear_nothing(active);
	}
	wait_for(queue_count("jobs", "ready") == 5000);
}

/* Messages in, then out: the memory goes back. */
static void test_memory_goes_back(void **state)
{
	enum { N = 50000, WINDOW = 1000 };
	char *body = keep(malloc(1001));
	struct client *c;
	long before, full;
	uint64_t deadline;
	int n_acked = 0;

	memset(body, 'b', 1000);
	body[1000] = '\0';
	start("--log-level", "warning");
	c = client_connect();
	hear_nothing(c);
	before = resident_bytes();
	for (int i = 0; i < N; i++)
		say_text(c, body, "{'op':'send','queue':'jobs'}");
	hear_nothing(c);
	full = resident_bytes();
	say(c, "{'op':'receive','id':1,'queue':'jobs','max':%d,'window':%d}", N, WINDOW);
	while (n_acked++ < N) {
		struct frame *f = hear_reply(c, 1);

		say(c, "{'op':'ack','message':%d}", (int)json_int(f->header, "message"));
	}
	hear_end(c, 1, "max");
	hear_nothing(c);
	deadline = wait_deadline();
	/* the store gives back what it has when nobody has needed it for a while */
	while (!server_is_sanitized() && resident_bytes() - before > (full - before) / 4)
		assert_true(wait_again(deadline));
	print_message("%ld KiB before, %ld KiB full, %ld KiB empty\n", before / 1024,
		      full / 1024, resident_bytes() / 1024);
}

static void test_many_queues(void **state)
{
	enum { N = 20000 };
	struct client *c;

	start("--log-level", "warning");
	c = client_connect();
	for (int i = 0; i < N; i++)
		say(c, "{'op':'send','queue':'queue-%d'}", i);
	hear_nothing(c);
	assert_int_equal(stats_count("names"), N);
	assert_non_null(frame_line(list(c, "names"), N - 1));
	take(c, "queue-0", "");
	take(c, "queue-19999", "");
}

static void check_in_order(const struct frame *f, int first, int last,
			   unsigned int n_least)
{
	int before = first - 1;
	const char *line;
	unsigned int n = 0;

	for (; (line = frame_line(f, n)); n++) {
		int number;

		assert_int_equal(sscanf(json_string(line, "name"), "queue-%d", &number),
				 1);
		if (number <= before || number > last)
			fail_msg("%d comes after %d", number, before);
		before = number;
	}
	assert_true(n >= n_least);
}

/* Others have turns while a list is made: what they delete and make meanwhile does not harm
 * it. */
static void test_a_list_in_turns(void **state)
{
	enum { N = 5000, SLICE = 64, PING = 100000 };
	struct client *asker, *other;
	char *body = keep(calloc(1, PING));
	struct frame *f;

	start("--log-level", "warning");
	asker = client_connect();
	other = client_connect();
	for (int i = 0; i < N; i++)
		say(asker, "{'op':'send','queue':'queue-%d'}", i);
	hear_nothing(asker);
	hear_nothing(other);
	kill(server.pid, SIGSTOP);
	say(asker, "{'op':'names','id':1}");
	/* more than one turn of its own is needed before the deletions */
	say_body(other, body, PING, "{'op':'ping','id':1}");
	for (int i = SLICE - 1; i < N; i += SLICE)
		say(other, "{'op':'delete','id':2,'name':'queue-%d'}", i);
	say(other, "{'op':'delete','id':2,'name':'queue-%d'}", N - 1);
	say(other, "{'op':'send','queue':'queue-%d'}", N);
	kill(server.pid, SIGCONT);
	f = hear_reply(asker, 1);
	check_in_order(f, 0, N - 2, N - 1 - N / SLICE);
	assert_non_null(strstr(f->body, "queue-0\""));
}

/* It goes while a list is made for it, or the daemon ends. */
static void test_a_list_is_given_up(void **state)
{
	enum { N = 2000 };
	struct client *gone, *asker;
	struct frame *f;

	start("--log-level", "warning");
	asker = client_connect();
	gone = client_connect();
	for (int i = 0; i < N; i++)
		say(asker, "{'op':'send','queue':'queue-%d'}", i);
	hear_nothing(asker);
	hear_nothing(gone);
	kill(server.pid, SIGSTOP);
	say(gone, "{'op':'names','id':1}");
	client_close(gone);
	kill(server.pid, SIGCONT);
	wait_for(stats_count("peers") == 2);
	say(asker, "{'op':'names','id':1}");
	kill(server.pid, SIGTERM);
	f = hear_or_eof(asker); /* which, is a matter of when it was read */
	if (f && json_has(f->header, "error"))
		assert_string_equal(json_string(f->header, "error"), "shutting-down");
	stop();
}

/* ---- longer than buffer_per_user ---- */

enum { LONG = 6000, BUFFER = 1200000 };

static void start_with_long_list(void)
{
	struct client *c;

	start("--log-level", "warning", "--limit",
	      keep_printf("buffer_per_user=%d", BUFFER));
	c = client_connect();
	for (int i = 0; i < LONG; i++)
		say(c, "{'op':'send','queue':'queue-%d'}", i);
	hear_nothing(c);
}

/* Asked for, not read, and as much of it made as there is room for. */
static struct client *ask_for_long_list(struct client *other)
{
	struct client *asker = connect_with_pieces();

	say(asker, "{'op':'names','id':1}");
	wait_for(json_int(frame_line(list(other, "stats"), 0), "usage.buffer_bytes") >
		 BUFFER / 3);
	for (int i = 0; i < 100; i++) /* it has turns between any two of these */
		hear_nothing(other);
	return asker;
}

/* The next frame is a piece, and not the last. */
static bool hear_piece(struct client *c, char *body, size_t *size)
{
	struct frame *f = hear(c);

	assert_int_equal(json_int(f->header, "re"), 1);
	assert_false(json_has(f->header, "error"));
	memcpy(body + *size, f->body, f->body_size);
	*size += f->body_size;
	return json_has(f->header, "more");
}

/* It is made as it is read, and answers to others may come between its pieces. */
static void test_a_long_list(void **state)
{
	struct frame f = { .body = keep(calloc(LONG, 1000)) };
	struct client *asker, *other;
	size_t size = 0;

	start_with_long_list();
	other = client_connect();
	asker = ask_for_long_list(other);
	while (hear_piece(asker, f.body, &size))
		;
	assert_true(size > 2UL * BUFFER);
	f.body_size = size;
	check_in_order(&f, 0, LONG - 1, LONG);
	hear_nothing(asker);
	assert_int_equal(log_count("is cut"), 0);
}

/* Who takes no pieces is told the size first. */
static void test_a_long_list_at_once(void **state)
{
	struct client *c;

	start_with_long_list();
	c = client_connect();
	say(c, "{'op':'names','id':1}");
	assert_non_null(
		strstr(json_string(hear_last_words(c, "quota")->header, "message"),
		       "buffer_per_user"));
}

/* The daemon ends in the middle of it, which is no end of the list. */
static void test_a_long_list_is_given_up(void **state)
{
	char *body = keep(calloc(LONG, 1000));
	struct client *asker, *other;
	struct frame *f;
	size_t size = 0;

	start_with_long_list();
	other = client_connect();
	asker = ask_for_long_list(other);
	kill(server.pid, SIGTERM);
	hear_eof(other);
	while (size < LIMIT_PIECE_MAX)
		assert_true(hear_piece(asker, body, &size));
	while (json_has((f = hear(asker))->header, "more"))
		;
	assert_int_equal(json_int(f->header, "re"), 1);
	assert_string_equal(json_string(f->header, "abort"), "shutting-down");
	assert_string_equal(json_string(f->header, "error"), "shutting-down");
	hear_eof(asker);
	stop();
}

/* It goes in the middle. */
static void test_a_long_list_for_nobody(void **state)
{
	struct client *asker, *other;

	start_with_long_list();
	other = client_connect();
	asker = ask_for_long_list(other);
	client_close(asker);
	wait_for(json_int(frame_line(list(other, "stats"), 0), "usage.buffer_bytes") ==
		 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_ten_thousand_idle_connections),
		it(test_come_and_go),
		it(test_memory_goes_back),
		it(test_many_queues),
		it(test_a_list_in_turns),
		it(test_a_list_is_given_up),
		it(test_a_long_list),
		it(test_a_long_list_at_once),
		it(test_a_long_list_is_given_up),
		it(test_a_long_list_for_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
