/* SPDX-License-Identifier: MIT */

/* Replies and the disk: what is answered is there, what is there is in bounds, also with
 * many sends under way, and charges are what they were. */

#include "integration/durable.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "wire/limits.h"

static struct client *c;

/* ---- on the disk before the reply ---- */

static void copy_file(const char *name, const char *directory)
{
	int from = open(keep_printf("%s/%s", server.state, name), O_RDONLY | O_CLOEXEC);
	int to = open(keep_printf("%s/%s", directory, name),
		      O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct stat st;

	assert_true(from >= 0 && to >= 0);
	assert_int_equal(fstat(from, &st), 0);
	for (off_t left = st.st_size; left;) {
		ssize_t n = sendfile(to, from, NULL, (size_t)left);

		assert_true(n > 0);
		left -= n;
	}
	close(from);
	close(to);
}

/* What a second ipcd finds if the first one ended right now. */
static char *copy_of_the_state(void)
{
	static const char *const names[] = { "ipcd.db", "ipcd.db-wal", "commits" };
	char *copy = keep_printf("%s/copy", server.dir);

	mkdir(copy, 0700);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		copy_file(names[i], copy);
	return copy;
}

static void test_a_reply_comes_behind_the_disk(void **state)
{
	char *live, *copy = NULL;
	struct frame *f;

	start_durable(AT_ONCE);
	c = client_connect();
	for (int i = 0; i < 50; i++) {
		send_text(c, "q", keep_printf("%d", i));
		if (i == 30)
			settle(c, "ack", take(c, "q", "0"), "");
		copy = copy_of_the_state();
	}
	stop();
	live = server.state;
	server.state = copy;
	start_durable(AT_ONCE);
	c = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'q','max':0,'window':100}");
	for (int i = 1; i < 50; i++)
		hear_delivery(c, 1, keep_printf("%d", i));
	f = hear(c);
	assert_string_equal(json_string(f->header, "end"), "timeout");
	assert_int_equal(log_count("is damaged"), 0);
	server.state = live;
}

/* ---- many under way ---- */

static void say_sends(struct client *client, const char *queue, int from, int n)
{
	for (int i = from; i < from + n; i++)
		say_text(client, keep_printf("%d", i),
			 "{'op':'send','id':%d,'queue':'%s'}", i, queue);
}

/* More than one connection may have waiting for the disk: it is not read from, then goes
 * on; the replies come in the order of the sends. */
static void test_more_than_may_wait_for_the_disk(void **state)
{
	enum { N = 3 * LIMIT_STORING_MAX };
	uint64_t last = 0;

	start_durable(AT_ONCE);
	c = client_connect();
	say_sends(c, "q", 1, N);
	for (int i = 1; i <= N; i++) {
		uint64_t number = (uint64_t)json_int(hear_reply(c, i)->header, "message");

		assert_true(number > last);
		last = number;
	}
	restart(CRASH, AT_ONCE);
	c = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'q','max':%d,'window':65536}", N);
	for (int i = 1; i <= N; i++)
		hear_delivery(c, 1, keep_printf("%d", i));
}

static void test_close_behind_the_send(void **state)
{
	start_durable(AT_ONCE);
	for (int i = 0; i < 50; i++) {
		c = client_connect();
		say_sends(c, "q", 0, 2);
		client_close(c);
	}
	wait_queue_count("q", "ready", 100);
	send_text(client_connect(), "q", "last");
	restart(CRASH, AT_ONCE);
	assert_int_equal(queue_count("q", "ready"), 101);
}

static void test_shut_down_behind_the_send(void **state)
{
	start_durable(AT_ONCE);
	for (int i = 0; i < 20; i++) {
		c = client_connect();
		say_sends(c, "q", 0, 20);
		shutdown(client_fd(c), SHUT_WR);
		for (int k = 0; k < 20; k++)
			hear_reply(c, k);
		hear_eof(c);
	}
	restart(CRASH, AT_ONCE);
	assert_int_equal(queue_count("q", "ready"), 400);
}

/* ---- the end with sends under way ---- */

enum { SENDERS = 4, SENDS = 2000 };

/* Reads all replies until the end of the connection: which sends were answered, none of them
 * twice. */
static int hear_answers(struct client *client, bool answered[SENDS])
{
	bool told[SENDS] = { false };
	struct frame *f;
	int n = 0;

	told[0] = answered[0];
	while ((f = hear_or_eof(client))) {
		if (!json_has(f->header, "re"))
			continue;
		assert_false(told[json_int(f->header, "re")]);
		told[json_int(f->header, "re")] = true;
		if (json_has(f->header, "error"))
			continue;
		answered[json_int(f->header, "re")] = true;
		n++;
	}
	return n;
}

static void check_answered(int sender, const bool answered[SENDS])
{
	bool there[SENDS] = { false };
	struct frame *f;

	c = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'q%d','max':0,'window':65536}", sender);
	while (!json_has((f = hear_reply(c, 1))->header, "end")) {
		assert_false(there[atoi(f->body)]);
		there[atoi(f->body)] = true;
	}
	for (int i = 0; i < SENDS; i++)
		assert_true(there[i] || !answered[i]);
	client_close(c);
}

static void test_the_end_with_sends_under_way(void **state)
{
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		bool answered[SENDERS][SENDS] = { { false } };
		struct client *senders[SENDERS];
		int n = 0;

		start_durable(AT_ONCE);
		for (int i = 0; i < SENDERS; i++)
			senders[i] = client_connect();
		for (int i = 0; i < SENDERS; i++)
			say_sends(senders[i], keep_printf("q%d", i), 0, SENDS / 2);
		hear_reply(senders[0], 0);
		answered[0][0] = true;
		restart(how, AT_ONCE);
		for (int i = 0; i < SENDERS; i++)
			n += hear_answers(senders[i], answered[i]);
		print_message("%d answered %s\n", n, ending_name(how));
		for (int i = 0; i < SENDERS; i++)
			check_answered(i, answered[i]);
		c = client_connect();
		for (int i = 0; i < SENDERS; i++) {
			say(c, "{'op':'delete','id':1,'name':'q%d'}", i);
			hear(c);
		}
		stop();
	}
}

/* ---- in bounds ---- */

static uint64_t size_of(const char *name)
{
	struct stat st;

	return stat(keep_printf("%s/%s", server.state, name), &st) < 0
		       ? 0
		       : (uint64_t)st.st_size;
}

static uint64_t disk_bytes(void)
{
	return size_of("ipcd.db") + size_of("ipcd.db-wal");
}

/* Sends n and takes them, in rounds. */
static void pass_through(const char *queue, int n, const char *body)
{
	enum { ROUND = 500 };

	for (int done = 0; done < n; done += ROUND) {
		for (int i = 0; i < ROUND; i++)
			say_text(c, body, "{'op':'send','queue':'%s'}", queue);
		say(c,
		    "{'op':'receive','id':1,'queue':'%s','max':%d,'window':%d,"
		    "'wait_ms':-1}",
		    queue, ROUND, ROUND);
		for (int i = 0; i < ROUND; i++)
			say(c, "{'op':'ack','message':%" PRId64 "}",
			    json_int(hear_reply(c, 1)->header, "message"));
		hear_end(c, 1, "max");
	}
	hear_nothing(c);
}

static char *text_of(size_t size)
{
	char *text = keep(malloc(size + 1));

	memset(text, 't', size);
	text[size] = '\0';
	return text;
}

/* One old message does not keep the space of those that went by. */
static void test_an_old_message_while_others_pass(void **state)
{
	const char *body = text_of(5000);
	uint64_t bound;

	start_durable(AT_ONCE);
	c = client_connect();
	send_text(c, "q", "dead");
	settle(c, "reject", take(c, "q", "dead"), "");
	say_text(c, "x", "{'op':'send','id':1,'queue':'q','delay_ms':31536000000000}");
	hear_reply(c, 1);
	pass_through("q", 3000, body);
	bound = disk_bytes() + (4 << 20);
	pass_through("q", 9000, body);
	if (disk_bytes() > bound)
		fail_msg("%" PRIu64 " bytes, more than %" PRIu64, disk_bytes(), bound);
	assert_int_equal(queue_count("q", "dead"), 1);
}

static void test_many_nacks_of_one_message(void **state)
{
	enum { N = 10000 };
	const char *body = text_of(20000);
	uint64_t bound = 48 << 20;

	start_durable("--limit", "max_attempts=1000000000", "--log-level", "warning");
	c = client_connect();
	send_text(c, "q", body);
	say(c, "{'op':'receive','id':1,'queue':'q','max':0,'wait_ms':-1}");
	for (int i = 0; i < N; i++) {
		say(c, "{'op':'nack','message':%" PRId64 ",'delay_ms':0,'reason':'no'}",
		    json_int(hear_reply(c, 1)->header, "message"));
		if (i % 1000 == 0 && disk_bytes() > bound)
			fail_msg("%" PRIu64 " bytes", disk_bytes());
	}
	assert_true(disk_bytes() <= bound);
}

static uint64_t memory_kib(void)
{
	const char *status = read_file(keep_printf("/proc/%d/status", (int)server.pid));
	const char *line = strstr(status, "VmRSS:");

	return line ? strtoull(line + 6, NULL, 10) : 0;
}

/* A flood in, then out: memory and disk go back. */
static void test_a_flood_goes_back(void **state)
{
	enum { N = 100000 };
	uint64_t before;

	start_durable(AT_ONCE, "--log-level", "warning");
	c = client_connect();
	pass_through("q", 2000, "x");
	before = memory_kib();
	for (int i = 0; i < N; i++) {
		say_text(c, "x", "{'op':'send','queue':'q'}");
		if (i % 1000 == 999)
			hear_nothing(c);
	}
	wait_queue_count("q", "ready", N);
	say(c, "{'op':'purge','id':1,'name':'q','state':'all'}");
	hear_reply(c, 1);
	wait_for(size_of("ipcd.db") < 6 << 20);
	if (!server_is_sanitized())
		wait_for(memory_kib() < before + 16384);
	restart(CRASH, AT_ONCE, "--log-level", "warning");
	assert_int_equal(stats_count("messages"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_a_reply_comes_behind_the_disk),
		it(test_more_than_may_wait_for_the_disk),
		it(test_close_behind_the_send),
		it(test_shut_down_behind_the_send),
		it(test_the_end_with_sends_under_way),
		it(test_an_old_message_while_others_pass),
		it(test_many_nacks_of_one_message),
		it(test_a_flood_goes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
