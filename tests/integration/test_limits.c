/* SPDX-License-Identifier: MIT */

/* Every limit at its edge: what is just allowed passes, one more is refused with an error
 * that names limit and value, and what was there before goes on. */

#include "integration/harness_file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire/limits.h"

static char *repeated(char c, size_t n)
{
	char *text = keep(malloc(n + 1));

	memset(text, c, n);
	text[n] = '\0';
	return text;
}

static void check_message(const struct frame *f, const char *key, uint64_t value)
{
	const char *message = json_string(f->header, "message");

	if (!strstr(message, key) || !strstr(message, keep_printf("%" PRIu64, value)))
		fail_msg("neither \"%s\" nor its value %" PRIu64 ": %s", key, value,
			 message);
}

/* Of `send` and of all others; a body just beyond it is dropped as it comes. */
static void check_body_limit(const char *op, const char *key, size_t max, bool echoes)
{
	char *body = repeated('b', max + 1);
	struct client *c;

	start("--limit", keep_printf("%s=%zu", key, max));
	c = client_connect();
	for (size_t size = max - 1; size <= max; size++) {
		say_body(c, body, size, "{'op':'%s','id':1,'queue':'jobs'}", op);
		assert_int_equal(hear_reply(c, 1)->body_size, echoes ? size : 0);
	}
	say_body(c, body, max + 1, "{'op':'%s','id':1,'queue':'jobs'}", op);
	check_message(hear_error(c, 1, "too-large"), key, max);
	hear_nothing(c);
	if (echoes)
		return;
	assert_int_equal(queue_count("jobs", "ready"), 2);
	say(c, "{'op':'delete','id':1,'name':'jobs'}");
	hear_reply(c, 1);
}

static void test_file_max(void **state)
{
	check_body_limit("send", "file_max", 1 << 20, false);
}

static void test_file_max_of_small_bodies(void **state)
{
	check_body_limit("send", "file_max", 1024, false);
}

static void test_body_max(void **state)
{
	check_body_limit("ping", "body_max", 1 << 20, true);
}

static void test_body_max_of_small_bodies(void **state)
{
	check_body_limit("ping", "body_max", 1024, true);
}

/* A body that is announced and never comes costs nothing. */
static void test_huge_body(void **state)
{
	struct client *c, *bystander;

	start();
	bystander = client_connect();
	c = client_connect();
	say(c, "{'op':'send','id':1,'queue':'jobs','size':9223372036854775807}");
	say_bytes(c, "x", 1);
	hear_nothing(bystander);
}

/* Texts of a request: {at most, one more}. */
static void test_lengths(void **state)
{
	static const struct {
		const char *format; /* with one %s */
		size_t max;
		const char *word, *key;
	} rows[] = {
		{ "{'op':'hello','id':1,'label':'%s'}", LIMIT_LABEL_MAX, "bad-request",
		  "label" },
		{ "{'op':'names','id':1,'name':'%s'}", LIMIT_NAME_MAX, "bad-name",
		  "a name" },
		{ "{'op':'nack','id':1,'message':1,'reason':'%s'}", LIMIT_REASON_MAX,
		  "bad-request", "reason" },
		{ "{'op':'reject','id':1,'message':1,'reason':'%s'}", LIMIT_REASON_MAX,
		  "bad-request", "reason" },
	};
	struct client *c;

	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *format = with_quotes(rows[i].format),
			   *at = strstr(format, "%s");
		int before = (int)(at - format);
		struct frame *f;

		say(c, "%.*s%s%s", before, format, repeated('n', rows[i].max), at + 2);
		f = hear(c);
		assert_true(!json_has(f->header, "error") ||
			    strcmp(json_string(f->header, "error"), rows[i].word) != 0);
		say(c, "%.*s%s%s", before, format, repeated('n', rows[i].max + 1),
		    at + 2);
		check_message(hear_error(c, 1, rows[i].word), rows[i].key, rows[i].max);
	}
}

static void test_meta_max(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say(c, "{'op':'send','id':1,'queue':'jobs','meta':{'x':'%s'}}",
	    repeated('m', LIMIT_META_MAX - 8));
	hear_reply(c, 1);
	say(c, "{'op':'send','id':1,'queue':'jobs','meta':{'x':'%s'}}",
	    repeated('m', LIMIT_META_MAX - 7));
	check_message(hear_error(c, 1, "bad-request"), "meta", LIMIT_META_MAX);
	assert_int_equal(json_int(take(c, "jobs", "")->header, "attempt"), 1);
}

/* An array of n times the text, with commas. */
static char *array_of(const char *text, int n, bool numbered)
{
	char *array = keep(malloc((size_t)n * (strlen(text) + 12) + 1)), *at = array;

	for (int i = 0; i < n; i++)
		at += sprintf(at, numbered ? "%s%s%d\"" : "%s%s", i ? "," : "", text, i);
	*at = '\0';
	return array;
}

static void test_queues_max(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say(c, "{'op':'receive','id':1,'queues':[%s]}",
	    array_of("\"queue-", LIMIT_QUEUES_MAX, true));
	hear_end(c, 1, "timeout");
	say(c, "{'op':'receive','id':1,'queues':[%s]}",
	    array_of("\"queue-", LIMIT_QUEUES_MAX + 1, true));
	check_message(hear_error(c, 1, "bad-request"), "queues", LIMIT_QUEUES_MAX);
}

/* The same queue twice in one receive gives each message once. */
static void test_a_queue_named_twice(void **state)
{
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	send_text(c, "jobs", "x");
	say(c, "{'op':'receive','id':1,'queues':['jobs','jobs'],'max':0,'window':5}");
	f = hear(c);
	if (!json_has(f->header, "error"))
		hear_end(c, 1, "timeout");
	hear_nothing(c);
}

static void test_messages_max(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say(c, "{'op':'ack','id':1,'messages':[%s]}",
	    array_of("7", LIMIT_MESSAGES_MAX, false));
	hear_error(c, 1, "lease-lost");
	say(c, "{'op':'ack','id':1,'messages':[%s]}",
	    array_of("7", LIMIT_MESSAGES_MAX + 1, false));
	check_message(hear_error(c, 1, "bad-request"), "messages", LIMIT_MESSAGES_MAX);
}

static void test_window_max(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'jobs','window':%d}", LIMIT_WINDOW_MAX);
	hear_end(c, 1, "timeout");
	say(c, "{'op':'receive','id':1,'queue':'jobs','window':%d}",
	    LIMIT_WINDOW_MAX + 1);
	check_message(hear_error(c, 1, "bad-request"), "window", LIMIT_WINDOW_MAX);
}

static void test_requests_per_connection(void **state)
{
	struct client *c, *other;

	start("--limit", "requests_per_connection=3");
	c = client_connect();
	other = client_connect();
	for (int i = 1; i <= 3; i++)
		say(c, "{'op':'receive','id':%d,'queue':'jobs','wait_ms':-1}", i);
	say(c, "{'op':'receive','id':4,'queue':'jobs','wait_ms':-1}");
	check_message(hear_error(c, 4, "full"), "requests_per_connection", 3);
	hear_nothing(other);
	say(c, "{'op':'cancel','id':5,'request':1}");
	hear_end(c, 1, "cancelled");
	hear_reply(c, 5);
	say(c, "{'op':'receive','id':4,'queue':'jobs','wait_ms':-1}");
	send_text(other, "jobs", "x");
	hear_delivery(c, 2, "x");
}

static bool is_served(uid_t uid)
{
	size_t size;
	char *bytes = frame_encode(&size, NULL, 0, "{'op':'ping','id':1}");
	struct client *c;
	struct frame *f;

	assert_int_equal(client_try_connect(uid, &c), 0);
	send(client_fd(c), bytes, size, MSG_NOSIGNAL);
	f = hear_or_eof(c);
	client_close(c);
	return f && !json_has(f->header, "error");
}

/* Too many connections: the next is told and closed; one that goes makes room. */
static void refuse_the_fourth(const char *key, uid_t uid)
{
	struct client *c[3], *fourth;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(client_try_connect(uid, &c[i]), 0);
		hear_nothing(c[i]);
	}
	assert_int_equal(client_try_connect(uid, &fourth), 0);
	check_message(hear_last_words(fourth, "full"), key, 3);
	for (int i = 0; i < 3; i++)
		hear_nothing(c[i]);
	client_close(c[0]);
	wait_for(is_served(uid));
}

static void test_connections(void **state)
{
	start("--limit", "connections=3");
	refuse_the_fourth("connections", geteuid());
}

static void test_connections_per_user(void **state)
{
	struct client *other;

	skip_unless_root();
	start("--system", "--limit", "connections_per_user=3");
	other = client_connect_as(stranger(1));
	refuse_the_fourth("connections_per_user", stranger(0));
	hear_nothing(other);
	for (int i = 0; i < 5; i++)
		hear_nothing(client_connect()); /* root is not counted */
}

static void test_queue_messages(void **state)
{
	struct client *c;

	start("--limit", "queue_messages=2");
	c = client_connect();
	send_text(c, "jobs", "1");
	send_text(c, "jobs", "2");
	say_text(c, "3", "{'op':'send','id':1,'queue':'jobs'}");
	check_message(hear_error(c, 1, "full"), "queue_messages", 2);
	send_text(c, "other", "1");
}

static void test_queue_bytes(void **state)
{
	const char *body = repeated('b', 3000);
	struct client *c;
	struct frame *f;

	start("--limit", "queue_bytes=10000");
	c = client_connect();
	send_text(c, "jobs", body);
	send_text(c, "jobs", body);
	do {
		say_text(c, body, "{'op':'send','id':1,'queue':'jobs'}");
		f = hear(c);
	} while (!json_has(f->header, "error") && queue_count("jobs", "ready") < 5);
	assert_string_equal(json_string(f->header, "error"), "full");
	check_message(f, "queue_bytes", 10000);
	assert_true(queue_count("jobs", "bytes") <= 10000);
	say_text(c, repeated('b', 10001),
		 "{'op':'send','id':1,'queue':'other','wait_ms':-1}");
	hear_error(c, 1, "too-large"); /* waiting would never help */
}

/* Root is not exempt from what it puts into queues, in its own queues or in others'. */
static void test_user_messages(void **state)
{
	struct client *c;

	skip_unless_root();
	start("--system", "--limit", "user_messages=4");
	c = client_connect_as(stranger(0));
	for (int i = 0; i < 4; i++)
		send_text(c, keep_printf("@%u.q%d", stranger(0), i), "x");
	say_text(c, "x", "{'op':'send','id':1,'queue':'@%u.q5'}", stranger(0));
	check_message(hear_error(c, 1, "quota"), "user_messages", 4);
	c = client_connect_as(stranger(1));
	send_text(c, keep_printf("@%u.q", stranger(1)), "x");
}

/* At most a quarter of one's own quota in a queue of another; the others' share is left. */
static void test_a_quarter_in_a_foreign_queue(void **state)
{
	struct client *c, *root;

	skip_unless_root();
	start("--system", "--limit", "user_messages=8");
	root = client_connect();
	c = client_connect_as(stranger(0));
	send_text(c, "@0", "1");
	send_text(c, "@0", "2");
	say_text(c, "3", "{'op':'send','id':1,'queue':'@0'}");
	hear_error(c, 1, "quota");
	say_text(c, "3", "{'op':'send','id':1,'queue':'@0','wait_ms':1}");
	hear_error(c, 1, "quota"); /* also after the wait: the queue is not full */
	send_text(c, keep_printf("@%u.own", stranger(0)), "x");
	send_text(client_connect_as(stranger(1)), "@0", "3");
	settle(root, "ack", take(root, "@0", "1"), "");
	send_text(c, "@0", "4");
}

/* Whoever moves a message, it counts for its sender: the rest stays where it is. */
static void test_a_move_beyond_a_quarter(void **state)
{
	struct client *c, *owner, *root;
	struct frame *f;
	char *theirs = keep_printf("@%u.own", stranger(1));

	skip_unless_root();
	start("--system", "--limit", "user_messages=8");
	root = client_connect();
	owner = client_connect_as(stranger(1));
	c = client_connect_as(stranger(0));
	say(root, "{'op':'create','id':1,'name':'pub','mode':'0622'}");
	hear_reply(root, 1);
	say(owner, "{'op':'create','id':1,'name':'%s','mode':'0622'}", theirs);
	hear_reply(owner, 1);
	send_text(c, "pub", "0");
	send_text(c, theirs, "1");
	send_text(c, theirs, "2");
	say(owner, "{'op':'move','id':1,'name':'%s','to':'pub','state':'all'}", theirs);
	f = hear_error(owner, 1, "quota");
	assert_non_null(strstr(f->header, "the sender has too much"));
	assert_int_equal(json_int(f->header, "moved"), 1);
	assert_int_equal(queue_count(theirs, "ready"), 1);
	send_text(owner, "pub", "3"); /* its own share is as it was */
	send_text(owner, "pub", "4");
}

static void test_inbox_messages_per_sender(void **state)
{
	struct client *c, *other;

	skip_unless_root();
	start("--system", "--limit", "inbox_messages_per_sender=3");
	c = client_connect_as(stranger(0));
	other = client_connect_as(stranger(1));
	for (int i = 0; i < 3; i++)
		send_text(c, "@0", "x");
	say_text(c, "x", "{'op':'send','id':1,'queue':'@0'}");
	check_message(hear_error(c, 1, "quota"), "inbox_messages_per_sender", 3);
	for (int i = 0; i < 3; i++)
		send_text(other, "@0", "x");
}

/* Who was passed over when the others were let in is told of the end all the same. */
static void test_who_waits_for_a_share(void **state)
{
	char *inbox = keep_printf("@%u", stranger(1));
	struct client *root, *waits[2];

	skip_unless_root();
	start("--system", "--limit", "inbox_messages_per_sender=1");
	root = client_connect();
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 2; i++) {
			waits[i] = client_connect_as(stranger(0));
			if (i == 0)
				send_text(waits[i], inbox, "x");
			say_text(waits[i], "y",
				 "{'op':'send','id':1,'queue':'%s','wait_ms':-1}", inbox);
			hear_nothing(waits[i]);
		}
		assert_int_equal(queue_count(inbox, "waiting"), 2);
		say(root,
		    round ? "{'op':'set','id':1,'name':'%s','mode':'0600'}"
			  : "{'op':'delete','id':1,'name':'%s','force':true}",
		    inbox);
		hear_reply(root, 1);
		for (int i = 0; i < 2; i++)
			hear_error(waits[i], 1, round ? "denied" : "not-found");
	}
	assert_int_equal(queue_count(inbox, "waiting"), 0);
	say(root, "{'op':'delete','id':1,'name':'%s'}", inbox);
	hear_reply(root, 1);
}

static void test_names_per_user(void **state)
{
	struct client *c, *other;

	skip_unless_root();
	start("--system", "--limit", "names_per_user=2");
	c = client_connect_as(stranger(0));
	send_text(c, keep_printf("@%u.1", stranger(0)), "x");
	send_text(c, keep_printf("@%u.2", stranger(0)), "x");
	say_text(c, "x", "{'op':'send','id':1,'queue':'@%u.3'}", stranger(0));
	check_message(hear_error(c, 1, "quota"), "names_per_user", 2);
	send_text(c, keep_printf("@%u.1", stranger(0)), "x");
	/* nor inboxes of others, who need not even be there */
	say_text(c, "x", "{'op':'send','id':1,'queue':'@4100000'}");
	check_message(hear_error(c, 1, "quota"), "names_per_user", 2);
	other = client_connect_as(stranger(1));
	send_text(other, "@4100000", "x");
	send_text(other, keep_printf("@%u", stranger(0)), "x");
	say_text(other, "x", "{'op':'send','id':1,'queue':'@4100001'}");
	hear_error(other, 1, "quota");
	say(c, "{'op':'delete','id':1,'name':'@%u.1'}", stranger(0));
	hear_reply(c, 1);
	send_text(c, keep_printf("@%u.3", stranger(0)), "x");
}

/* Has the daemon taken everything out of the socket? */
static bool is_read(struct client *c)
{
	int unread = 0;

	ioctl(client_fd(c), SIOCOUTQ, &unread);
	return unread == 0;
}

/* Unfinished input of one user: the connection that goes beyond is cut, those before it and
 * other users are not. */
static void test_buffer_per_user(void **state)
{
	struct client *c[3], *other;
	size_t size;
	char *bytes = frame_encode(&size, repeated('b', 100000), 100000,
				   "{'op':'ping','id':1}");

	skip_unless_root();
	start("--system", "--limit", "buffer_per_user=250000");
	other = client_connect_as(stranger(1));
	for (int i = 0; i < 3; i++) {
		c[i] = client_connect_as(stranger(0));
		hear_nothing(c[i]);
	}
	for (int i = 0; i < 2; i++) {
		say_bytes(c[i], bytes, size - 1);
		wait_for(is_read(c[i]));
	}
	send(client_fd(c[2]), bytes, size - 1, MSG_NOSIGNAL);
	check_message(hear_last_words(c[2], "quota"), "buffer_per_user", 250000);
	hear_nothing(other);
	for (int i = 0; i < 2; i++) {
		say_bytes(c[i], bytes + size - 1, 1);
		hear_reply(c[i], 1);
	}
}

static int64_t output_of_all(struct client *c)
{
	struct frame *f = list(c, "peers");
	const char *line;
	int64_t sum = 0;

	for (unsigned int i = 0; (line = frame_line(f, i)); i++)
		sum += json_int(line, "output_bytes");
	return sum;
}

/* Many connections of one user that ask and do not read: together, too, they are not read
 * from; nobody is cut, and all is answered when they read. */
static void test_unread_replies_of_many(void **state)
{
	enum { HOGS = 40, REQUESTS = 200, MAX = 1 << 20 };
	struct client *hogs[HOGS], *sibling;

	start("--limit", keep_printf("buffer_per_user=%d", MAX), "--limit",
	      "buffer_per_connection=65536");
	sibling = client_connect();
	kill(server.pid, SIGSTOP); /* it reads all of one at once */
	for (int i = 0; i < HOGS; i++) {
		hogs[i] = client_connect();
		for (int k = 0; k < REQUESTS; k++)
			say(hogs[i], "{'op':'stats','id':%d}", k);
	}
	kill(server.pid, SIGCONT);
	for (int i = 0; i < 50; i++) /* each hog has turns between any two of these */
		assert_true(output_of_all(sibling) < MAX);
	for (int i = 0; i < HOGS; i++)
		for (int k = 0; k < REQUESTS; k++)
			hear_reply(hogs[i], (uint64_t)k);
	assert_int_equal(log_count("is cut"), 0);
}

/* Echoes that are not read fill the buffers as their requests did before. */
static void test_unread_echoes_of_many(void **state)
{
	enum { HOGS = 2, ECHO = 1000000, LAST = 2900000, MAX = 3000000 };
	struct client *hogs[HOGS], *last, *other;
	char *body = repeated('b', LAST), *bytes;
	size_t size;

	skip_unless_root();
	start("--system", "--limit", keep_printf("buffer_per_user=%d", MAX));
	other = client_connect_as(stranger(1));
	for (int i = 0; i < HOGS; i++) {
		hogs[i] = client_connect_as(stranger(0));
		say_body(hogs[i], body, ECHO, "{'op':'ping','id':1}");
		wait_for(is_read(hogs[i]));
	}
	last = client_connect_as(stranger(0));
	bytes = frame_encode(&size, body, LAST, "{'op':'ping','id':1}");
	send(client_fd(last), bytes, size - 1, MSG_NOSIGNAL);
	check_message(hear_last_words(last, "quota"), "buffer_per_user", MAX);
	hear_nothing(other);
	for (int i = 0; i < HOGS; i++)
		assert_int_equal(hear_reply(hogs[i], 1)->body_size, ECHO);
}

/* Who breaks the protocol again and again does not fill the log: some lines are written, and
 * how many are left out. */
static void test_log_lines_per_user(void **state)
{
	enum { N = 300 };
	int n_said, n_told = 0;

	start();
	for (int i = 0; i < N; i++) {
		struct client *c = client_connect();

		say_bytes(c, "GET / HTTP/1.0\r\n\r\n", 18);
		hear_last_words(c, "bad-frame");
		client_close(c);
	}
	wait_for(log_count("that uid") > 0);
	stop();
	n_said = log_count("broke the protocol");
	assert_true(n_said >= 10 && n_said < N);
	for (const char *at = server_read_log(); (at = strstr(at, " more lines")); at++) {
		const char *digits = at;

		while (digits[-1] != ' ')
			digits--;
		n_told += atoi(digits);
	}
	assert_int_equal(n_said + n_told, N);
}

/* What counts against the limits of the one who asks. */
static int64_t usage_of(struct client *c, const char *key)
{
	return json_int(frame_line(list(c, "stats"), 0), keep_printf("usage.%s", key));
}

/* What a refusal with "quota" is about can be seen, and goes when its cause does. */
static void test_usage_of_memory(void **state)
{
	struct client *c, *waits;
	size_t size;
	char *bytes = frame_encode(&size, repeated('b', 100000), 100000,
				   "{'op':'ping','id':1}");

	start_durable("--limit", "queue_messages=1");
	c = client_connect();
	waits = client_connect();
	assert_int_equal(usage_of(c, "buffer_bytes"), 0);
	say_bytes(waits, bytes, size - 1);
	wait_for(usage_of(c, "buffer_bytes") >= 99999);
	say_bytes(waits, bytes + size - 1, 1);
	hear_reply(waits, 1);
	wait_for(usage_of(c, "buffer_bytes") == 0);
	send_text(c, "jobs", "x");
	say_text(waits, repeated('b', 5000),
		 "{'op':'send','id':1,'queue':'jobs','wait_ms':-1}");
	wait_for(usage_of(c, "waiting_bytes") >= 5000);
	assert_true(usage_of(c, "waiting_bytes") < 6000);
	assert_int_equal(usage_of(c, "held_bytes"), 0);
	say_body(waits, pattern(LARGE), LARGE,
		 "{'op':'send','id':2,'queue':'jobs','wait_ms':-1}");
	wait_for(usage_of(c, "held_bytes") >= LARGE / 2);
	assert_int_equal(usage_of(c, "bodies"), 0); /* all of it is there */
	for (int i = 1; i <= 2; i++) {
		say(waits, "{'op':'cancel','id':3,'request':%d}", i);
		hear_error(waits, (uint64_t)i, "timeout");
		hear_reply(waits, 3);
	}
	assert_int_equal(usage_of(c, "waiting_bytes"), 0);
	assert_int_equal(usage_of(c, "held_bytes"), 0);
}

/* A reply that is read but for its end is there as a whole. */
static void test_usage_of_unread_end(void **state)
{
	enum { SIZE = 1 << 22, LEFT = 1 << 20 };
	struct client *c, *slow;

	start();
	c = client_connect();
	slow = client_connect();
	say_body(slow, pattern(SIZE), SIZE, "{'op':'ping','id':1}");
	client_read(HERE, slow, keep(malloc(SIZE)), SIZE - LEFT);
	wait_for(usage_of(c, "buffer_bytes") < SIZE + 1000);
	assert_true(usage_of(c, "buffer_bytes") >= SIZE);
	client_read(HERE, slow, keep(malloc(LEFT)), LEFT);
	wait_for(usage_of(c, "buffer_bytes") < 1000);
	client_close(slow);
	wait_for(usage_of(c, "buffer_bytes") == 0);
}

/* The header of a body in pieces is kept until the last of them is there. */
static void test_usage_of_headers_in_pieces(void **state)
{
	struct client *c, *pieces;

	start();
	c = client_connect();
	pieces = client_connect();
	for (int i = 1; i <= LIMIT_CUT_BODIES_MAX; i++)
		say_text(pieces, "x",
			 "{'op':'send','id':%d,'queue':'jobs','more':true,"
			 "'meta':{'x':'%s'}}",
			 i, repeated('m', 30000));
	wait_for(usage_of(c, "buffer_bytes") >= (int64_t)LIMIT_CUT_BODIES_MAX * 30000);
	for (int i = 1; i <= LIMIT_CUT_BODIES_MAX; i++) {
		say_text(pieces, "y", "{'id':%d}", i);
		hear_reply(pieces, (uint64_t)i);
	}
	wait_for(usage_of(c, "buffer_bytes") == 0);
}

/* In memory each body is a descriptor until it goes. */
static void drop_queue(const char *queue)
{
	struct client *c = client_connect();

	say(c, "{'op':'delete','id':1,'name':'%s','force':true}", queue);
	hear_reply(c, 1);
}

/* Rejects the next message, and returns the reason that is shown then; NULL: none. */
static const char *reject_one(struct client *c, const char *reason)
{
	struct frame *f = take(c, "jobs", "x"), *dead;
	const char *told = NULL;

	settle(c, "reject", f, keep_printf(",'reason':'%s'", reason));
	say(c, "{'op':'receive','id':1,'queue':'jobs','max':0,'dead':true}");
	for (dead = hear(c); !json_has(dead->header, "end"); dead = hear(c))
		if (json_int(dead->header, "message") == json_int(f->header, "message") &&
		    json_has(dead->header, "reason"))
			told = json_string(dead->header, "reason");
	return told;
}

/* Why a message came back is in memory as well, and takes no room that there is not. */
static void test_reasons_are_charged(void **state)
{
	enum { N = 20, MAX = 20000 };
	const char *text = repeated('r', LIMIT_REASON_MAX);
	struct client *c;
	int n_told = 0;

	start("--limit", keep_printf("user_bytes=%d", MAX));
	c = client_connect();
	for (int i = 0; i < N; i++)
		send_text(c, "jobs", "x");
	for (int i = 1; i < N; i++) {
		int64_t before = usage_of(c, "bytes");

		if (!reject_one(c, text))
			continue;
		n_told++;
		assert_true(usage_of(c, "bytes") >= before + LIMIT_REASON_MAX);
	}
	assert_in_range(n_told, 5, N - 3);
	assert_in_range(usage_of(c, "bytes"), MAX - 2 * LIMIT_REASON_MAX, MAX);
	assert_string_equal(reject_one(c, "broken"), "broken"); /* a short one is kept */
	drop_queue("jobs");
	assert_int_equal(usage_of(c, "bytes"), 0);
}

/* A file of holes takes no memory, but a descriptor: it costs as much as the least body that
 * does. */
static void test_holes_in_memory(void **state)
{
	enum { MAX = 1 << 20, N = MAX / LIMIT_PIECE_MAX - 1 };
	struct client *c;

	start("--limit", keep_printf("user_bytes=%d", MAX));
	c = client_connect();
	for (int i = 0; i <= N; i++) {
		say_fd(c, make_sparse(LARGE),
		       "{'op':'send','id':1,'queue':'jobs','fds':1}");
		if (i < N)
			hear_reply(c, 1);
	}
	check_message(hear_error(c, 1, "quota"), "user_bytes", MAX);
	drop_queue("jobs");
}

/* ---- open requests ---- */

/* A receive of many queues, which waits for messages that do not come. */
static char *long_receive(int id)
{
	char *queues = keep_printf("'q0'");

	for (int i = 1; i < LIMIT_QUEUES_MAX; i++)
		queues = keep_printf("%s,'q%d'", queues, i);
	return with_quotes(keep_printf(
		"{'op':'receive','id':%d,'queues':[%s],'wait_ms':-1}", id, queues));
}

/* How many this connection can open. */
static int open_receives(struct client *c, uint64_t max)
{
	for (int i = 1;; i++) {
		struct frame *f;

		say(c, "%s", long_receive(i));
		say(c, "{'op':'ping','id':1000}");
		f = hear(c);
		if (!json_has(f->header, "error"))
			continue;
		assert_string_equal(json_string(f->header, "error"), "quota");
		check_message(f, "buffer_per_user", max);
		hear_reply(c, 1000);
		return i - 1;
	}
}

/* What open requests take is charged to the user, in all connections, and by itself: a receive
 * that makes room is not refused for the sends that wait for it. */
static void test_open_requests_per_user(void **state)
{
	enum { MAX = 65536 };
	struct client *c[2], *sender;
	int n;

	start("--limit", keep_printf("buffer_per_user=%d", MAX), "--limit",
	      "queue_messages=1");
	sender = client_connect();
	for (int i = 0; i < 2; i++)
		c[i] = client_connect();
	n = open_receives(c[0], MAX);
	assert_in_range(n, MAX / LIMIT_QUEUES_MAX / 128, MAX / LIMIT_QUEUES_MAX / 32);
	assert_int_equal(open_receives(c[1], MAX), 0);
	say(c[0], "{'op':'cancel','id':1001,'request':1}");
	hear_end(c[0], 1, "cancelled");
	hear_reply(c[0], 1001);
	assert_int_equal(open_receives(c[1], MAX), 1);
	client_close(c[0]);
	client_close(c[1]);
	wait_for(usage_of(sender, "request_bytes") == 0);
	/* sends that wait do not count here */
	send_text(sender, "jobs", "x");
	for (int i = 1; i <= 3; i++)
		say_body(sender, repeated('b', MAX / 4), MAX / 4,
			 "{'op':'send','id':%d,'queue':'jobs','wait_ms':-1}", i);
	c[0] = client_connect();
	wait_for(usage_of(c[0], "waiting_bytes") > MAX / 2);
	assert_int_equal(open_receives(c[0], MAX), n);
}

/* A receive that has ended is there as long as one of its leases. */
static void test_ended_receives_per_user(void **state)
{
	enum { MAX = 65536 };
	struct frame *taken[MAX / 256], *f;
	struct client *c;
	int n = 0;

	start("--limit", keep_printf("buffer_per_user=%d", MAX));
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
		send_text(c, "jobs", "x");
	for (;; n++) {
		say(c, "{'op':'receive','id':1,'queue':'jobs','max':1}");
		f = hear(c);
		if (json_has(f->header, "error"))
			break;
		assert_in_range(n, 0, ARRAY_SIZE(taken) - 2);
		taken[n] = f;
		hear_end(c, 1, "max");
	}
	assert_string_equal(json_string(f->header, "error"), "quota");
	check_message(f, "buffer_per_user", MAX);
	settle(c, "ack", taken[0], "");
	take(c, "jobs", "x");
	for (int i = 1; i < n; i++)
		settle(c, "ack", taken[i], "");
	assert_in_range(usage_of(c, "request_bytes"), 256, 512);
	drop_queue("jobs");
	assert_int_equal(usage_of(c, "request_bytes"), 0);
}

/* Sends that wait for the outcome are charged as well: there may be many for one message. */
static void test_confirms_per_user(void **state)
{
	enum { MAX = 65536 };
	struct client *c, *other;
	struct frame *f;
	int n = 0;

	start("--limit", keep_printf("buffer_per_user=%d", MAX));
	c = client_connect();
	other = client_connect();
	do {
		say(c,
		    "{'op':'send','id':%d,'queue':'jobs','dedup_id':'x',"
		    "'confirm':'acked'}",
		    ++n);
		say(c, "{'op':'ping','id':100000}");
		f = hear(c);
	} while (!json_has(f->header, "error"));
	assert_string_equal(json_string(f->header, "error"), "quota");
	check_message(f, "buffer_per_user", MAX);
	hear_reply(c, 100000);
	assert_in_range(n, MAX / 512, MAX / 256);
	/* others go on: this is what ends it */
	send_text(other, "jobs", "x");
	settle(other, "ack", take(other, "jobs", ""), "");
	for (int i = 1; i < n; i++) /* in any order */
		assert_string_equal(json_string(hear(c)->header, "outcome"), "acked");
	assert_int_equal(usage_of(c, "waiting_bytes"), 0);
}

/* ---- bodies under way ---- */

enum { BODIES = 3 };

static int64_t bodies_of(struct client *c)
{
	return usage_of(c, "bodies");
}

/* One user's third of three: a body in one frame; the others come in pieces. Returns the byte
 * that is missing. */
static char *begin_bodies(struct client *pieces, struct client *frame, const char *queue)
{
	const char *body = pattern(LARGE);
	size_t size;
	char *bytes = frame_encode(&size, body, LARGE,
				   "{'op':'send','id':1,'queue':'%s'}", queue);

	for (int i = 1; i < BODIES; i++)
		say_body(pieces, body, LARGE,
			 "{'op':'send','id':%d,'queue':'%s','more':true}", i, queue);
	say_bytes(frame, bytes, size - 1);
	wait_for(bodies_of(pieces) == BODIES);
	return bytes + size - 1;
}

/* Each way in which a large body comes is refused, and what still comes of it is dropped. */
static void refuse_bodies(struct client *c, const char *queue)
{
	const char *body = pattern(LARGE);

	say_body(c, body, LARGE, "{'op':'send','id':1,'queue':'%s'}", queue);
	check_message(hear_error(c, 1, "quota"), "(bodies_per_user)", BODIES);
	hear_nothing(c);
	say_body(c, body, LARGE, "{'op':'send','id':1,'queue':'%s','more':true}", queue);
	check_message(hear_error(c, 1, "quota"), "(bodies_per_user)", BODIES);
	say_body(c, body, LARGE, "{'id':1,'more':true}");
	say_body(c, body, SMALL, "{'id':1}");
	hear_nothing(c);
	/* one that is small at first */
	say_body(c, body, SMALL, "{'op':'send','id':1,'queue':'%s','more':true}", queue);
	hear_nothing(c);
	say_body(c, body, LIMIT_PIECE_MAX, "{'id':1,'more':true}");
	check_message(hear_error(c, 1, "quota"), "(bodies_per_user)", BODIES);
	say_body(c, body, LARGE, "{'id':1}");
	hear_nothing(c);
	say_fd(c, make_file(LARGE), "{'op':'send','id':1,'queue':'%s','fds':1}", queue);
	check_message(hear_error(c, 1, "quota"), "(bodies_per_user)", BODIES);
	hear_nothing(c);
	/* what stays in memory takes none */
	say_body(c, body, SMALL, "{'op':'send','id':1,'queue':'%s'}", queue);
	hear_reply(c, 1);
}

static void send_bodies(struct client *c, const char *queue)
{
	for (int i = 0; i < 2 * BODIES; i++) {
		say_body(c, pattern(LARGE), LARGE, "{'op':'send','id':1,'queue':'%s'}",
			 queue);
		hear_reply(c, 1);
	}
}

/* Each unfinished one is a descriptor of the daemon's: one user has so many at once, whichever
 * connections they are of, and others, root too, are not held up by that. */
static void check_bodies_per_user(void)
{
	const char *queue = keep_printf("@%u.q", stranger(0));
	struct client *c[3];
	char *missing;

	for (int i = 0; i < 3; i++)
		c[i] = client_connect_as(stranger(0));
	missing = begin_bodies(c[0], c[1], queue);
	refuse_bodies(c[2], queue);
	send_bodies(client_connect_as(stranger(1)), keep_printf("@%u.q", stranger(1)));
	send_bodies(client_connect(), "@0.q");
	assert_int_equal(bodies_of(c[2]), BODIES);
	/* there is room again by one that is whole, one that is given up, … */
	say(c[0], "{'id':1}");
	hear_reply(c[0], 1);
	say(c[0], "{'id':2,'abort':'enough'}");
	hear_error(c[0], 2, "bad-request");
	assert_int_equal(bodies_of(c[2]), 1);
	send_bodies(c[2], queue);
	say_bytes(c[1], missing, 1);
	hear_reply(c[1], 1);
	assert_int_equal(bodies_of(c[2]), 0);
	/* … and one whose connection has ended */
	begin_bodies(c[0], c[1], queue);
	client_close(c[0]);
	client_close(c[1]);
	wait_for(bodies_of(c[2]) == 0);
	say_fd(c[2], make_file(LARGE), "{'op':'send','id':1,'queue':'%s','fds':1}",
	       queue);
	hear_reply(c[2], 1);
	assert_int_equal(bodies_of(c[2]), 0);
	drop_queue(queue);
	drop_queue(keep_printf("@%u.q", stranger(1)));
	drop_queue("@0.q");
}

static void test_bodies_per_user(void **state)
{
	skip_unless_root();
	start_durable("--system", "--limit", keep_printf("bodies_per_user=%d", BODIES));
	check_bodies_per_user();
}

static void test_bodies_per_user_in_memory(void **state)
{
	skip_unless_root();
	start("--system", "--limit", keep_printf("bodies_per_user=%d", BODIES));
	check_bodies_per_user();
}

/* Root has as many as there are descriptors. */
static void test_bodies_of_root(void **state)
{
	struct client *c[2];

	skip_unless_root();
	start("--limit", "bodies_per_user=1");
	for (int i = 0; i < 2; i++)
		c[i] = client_connect();
	begin_bodies(c[0], c[1], "jobs");
	send_bodies(client_connect(), "jobs");
	drop_queue("jobs");
}

/* The first byte of a frame, with so many descriptors. */
static void begin_frame_with_fds(struct client *c, unsigned int n)
{
	int fds[64], null = keep_fd(open("/dev/null", O_RDONLY | O_CLOEXEC));

	for (unsigned int i = 0; i < n; i++)
		fds[i] = null;
	say_bytes_fds(c, "@", 1, fds, n);
	close_kept(null);
}

/* Descriptors of a frame of which the end does not come count as well. */
static void test_unfinished_fds(void **state)
{
	struct client *sender, *c[2];
	int n_fds;

	skip_unless_root();
	start("--system", "--limit",
	      keep_printf("bodies_per_user=%d", LIMIT_FDS_MAX + 2));
	sender = client_connect_as(stranger(0));
	for (int i = 0; i < 2; i++)
		c[i] = client_connect_as(stranger(0));
	n_fds = server_count_fds();
	begin_frame_with_fds(c[0], LIMIT_FDS_MAX);
	wait_for(bodies_of(sender) == LIMIT_FDS_MAX);
	begin_frame_with_fds(c[1], 2);
	wait_for(bodies_of(sender) == LIMIT_FDS_MAX + 2);
	begin_frame_with_fds(sender, 1);
	check_message(hear_last_words(sender, "quota"), "bodies_per_user",
		      LIMIT_FDS_MAX + 2);
	sender = client_connect_as(stranger(0));
	client_close(c[0]);
	wait_for(bodies_of(sender) == 2);
	/* what is too much for any frame is closed as it comes */
	c[0] = client_connect_as(stranger(0));
	begin_frame_with_fds(c[0], 64);
	hear_nothing(sender);
	assert_int_equal(bodies_of(sender), 2);
	wait_for(server_count_fds() <= n_fds + 2);
	client_close(c[0]);
	client_close(c[1]);
	wait_for(bodies_of(sender) == 0);
}

static void hear_bodies(struct client *c, int n)
{
	for (int i = 0; i < n; i++)
		hear_file(c, 1, LARGE);
}

/* Each that is on its way to somebody who does not read is a descriptor, too: beyond the limit
 * each connection has one, so that all of them go on. */
static void test_outgoing_per_user(void **state)
{
	enum { N = 4 * BODIES };
	const char *queue = keep_printf("@%u.q", stranger(0));
	struct client *sender, *c[3];

	skip_unless_root();
	start_durable("--system", "--limit", "lost_delay=0", "--limit",
		      keep_printf("bodies_per_user=%d", BODIES));
	sender = client_connect_as(stranger(0));
	for (int i = 0; i < N; i++) {
		say_body(sender, pattern(LARGE), LARGE,
			 "{'op':'send','id':1,'queue':'%s'}", queue);
		hear_reply(sender, 1);
	}
	for (int i = 0; i < 3; i++) {
		c[i] = client_connect_as(stranger(0));
		say(c[i], "{'op':'receive','id':1,'queue':'%s','max':%d,'window':%d}",
		    queue, N, i < 2 ? N : 1);
		wait_for(usage_of(sender, "outgoing") == BODIES + i);
	}
	hear_bodies(c[2], 1);
	wait_for(usage_of(sender, "outgoing") == BODIES + 1);
	client_close(c[0]);
	wait_for(usage_of(sender, "outgoing") == 1);
	hear_bodies(c[1], N - 1);
	wait_for(usage_of(sender, "outgoing") == 0);
	drop_queue(queue);
}

/* Bodies that are not read are there also when their messages are gone. */
static void test_outgoing_bytes_per_user(void **state)
{
	enum { N = 10, SIZE = 200000, MAX = 1000000 };
	struct client *sender, *c[3];
	int64_t n;

	start("--limit", keep_printf("buffer_per_user=%d", MAX));
	sender = client_connect();
	for (int i = 0; i < 3 * N; i++) {
		say_body(sender, pattern(SIZE), SIZE,
			 "{'op':'send','id':1,'queue':'jobs'}");
		hear_reply(sender, 1);
	}
	for (int i = 0; i < 3; i++) {
		c[i] = client_connect();
		say(c[i], "{'op':'receive','id':1,'queue':'jobs','max':%d,'window':%d}",
		    N, N);
		wait_for(json_int(frame_line(list(sender, "peers"), (unsigned int)i + 1),
				  "leases") > 0);
		hear_nothing(sender);
	}
	n = queue_count("jobs", "leased");
	assert_in_range(n, 3, 3 * N / 2);
	assert_in_range(usage_of(sender, "outgoing_bytes"), 1, 5 * SIZE);
	drop_queue("jobs");
	assert_in_range(usage_of(sender, "outgoing_bytes"), 1, 5 * SIZE);
	for (int i = 0; i < 3; i++)
		client_close(c[i]);
	wait_for(usage_of(sender, "outgoing_bytes") == 0);
}

/* Who reads gets all of them. */
static void test_outgoing_bytes_are_read(void **state)
{
	enum { N = 20, SIZE = 200000 };
	struct client *sender, *c;

	start("--limit", "buffer_per_user=250000");
	sender = client_connect();
	for (int i = 0; i < N; i++) {
		say_body(sender, pattern(SIZE), SIZE,
			 "{'op':'send','id':1,'queue':'jobs'}");
		hear_reply(sender, 1);
	}
	c = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'jobs','max':%d,'window':%d}", N, N);
	for (int i = 0; i < N; i++)
		assert_int_equal(hear(c)->body_size, SIZE);
	hear_end(c, 1, "max");
	wait_for(usage_of(sender, "outgoing_bytes") == 0);
}

/* `ipcd --limit` itself. */
static void test_bad_limits(void **state)
{
	static const char *const assignments[] = {
		"no_such_limit=1",
		"body_max",
		"body_max=",
		"body_max=x",
		"body_max=-1",
		"body_max=1023",
		"body_max=1073741825",
		"header_max=100",
		"body_max=1e6",
		"=1",
		"",
	};

	for (size_t i = 0; i < ARRAY_SIZE(assignments); i++) {
		const char *arguments[] = { "--socket",	  server.socket, "--state",
					    server.state, "--limit",	 assignments[i],
					    NULL };
		char *log = keep_printf("%s/log%zu", server.dir, i);
		int ready;
		pid_t pid = server_spawn(arguments, log, &ready);

		assert_false(server_wait_ready(ready));
		assert_int_equal(wait_exit(pid), 1);
		assert_true(strlen(read_file(log)) > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_file_max),
		it(test_file_max_of_small_bodies),
		it(test_body_max),
		it(test_body_max_of_small_bodies),
		it(test_huge_body),
		it(test_lengths),
		it(test_meta_max),
		it(test_queues_max),
		it(test_a_queue_named_twice),
		it(test_messages_max),
		it(test_window_max),
		it(test_requests_per_connection),
		it(test_open_requests_per_user),
		it(test_ended_receives_per_user),
		it(test_confirms_per_user),
		it(test_connections),
		it(test_connections_per_user),
		it(test_queue_messages),
		it(test_queue_bytes),
		it(test_user_messages),
		it(test_a_quarter_in_a_foreign_queue),
		it(test_a_move_beyond_a_quarter),
		it(test_inbox_messages_per_sender),
		it(test_who_waits_for_a_share),
		it(test_names_per_user),
		it(test_buffer_per_user),
		it(test_unread_replies_of_many),
		it(test_unread_echoes_of_many),
		it(test_log_lines_per_user),
		it(test_usage_of_memory),
		it(test_usage_of_unread_end),
		it(test_usage_of_headers_in_pieces),
		it(test_reasons_are_charged),
		it(test_holes_in_memory),
		it(test_bodies_per_user),
		it(test_bodies_per_user_in_memory),
		it(test_bodies_of_root),
		it(test_unfinished_fds),
		it(test_outgoing_per_user),
		it(test_outgoing_bytes_per_user),
		it(test_outgoing_bytes_are_read),
		it(test_bad_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
