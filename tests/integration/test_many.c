/* SPDX-License-Identifier: MIT */

/* Many connections, many queues, many messages: they are served, and what they cost goes
 * back. */

#include "integration/harness.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_ten_thousand_idle_connections),
		it(test_come_and_go),
		it(test_memory_goes_back),
		it(test_many_queues),
		it(test_a_list_in_turns),
		it(test_a_list_is_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
