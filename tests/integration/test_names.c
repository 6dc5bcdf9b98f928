/* SPDX-License-Identifier: MIT */

/* Names, and what the daemon tells about names, peers and itself. */

#include "integration/harness.h"

#include <inttypes.h>
#include <unistd.h>

#include "wire/limits.h"

static char *repeated(char c, size_t n)
{
	char *text = keep(malloc(n + 1));

	memset(text, c, n);
	text[n] = '\0';
	return text;
}

static void test_good_names(void **state)
{
	const char *const names[] = { "a",
				      "A-Z_0-9",
				      "a.b.c",
				      "-",
				      "_",
				      "0",
				      "jobs.2024-01.x",
				      "ipcd-x",
				      "@0",
				      "@0.x.y",
				      repeated('n', LIMIT_NAME_MAX) };
	struct client *c;

	skip_unless_root();
	start("--system");
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		send_text(c, names[i], "x");
		take(c, names[i], "x");
	}
}

static void test_bad_names(void **state)
{
	const char *const names[] = { "",
				      ".",
				      "..",
				      "a.",
				      ".a",
				      "a..b",
				      "a b",
				      "a/b",
				      "a*",
				      "**",
				      "*",
				      "a\\n",
				      "\\u001b[31m",
				      "\\u00e4",
				      "@",
				      "@.x",
				      "@0.",
				      "@@0",
				      "a@0",
				      "@0..x",
				      "a:b",
				      "~",
				      repeated('n', LIMIT_NAME_MAX + 1) };
	static const char *const requests[] = {
		"{'op':'send','id':1,'queue':'%s'}",
		"{'op':'receive','id':1,'queue':'%s'}",
		"{'op':'receive','id':1,'queues':['good','%s']}",
		"{'op':'names','id':1,'name':'%s'}",
		"{'op':'create','id':1,'name':'%s'}",
		"{'op':'delete','id':1,'name':'%s'}",
		"{'op':'explain','id':1,'name':'%s'}",
	};
	struct client *c;

	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(names) * ARRAY_SIZE(requests); i++) {
		const char *request = requests[i % ARRAY_SIZE(requests)];
		const char *at = strstr(request, "%s");

		say(c, "%s",
		    with_quotes(keep_printf("%.*s%s%s", (int)(at - request), request,
					    names[i / ARRAY_SIZE(requests)], at + 2)));
		hear_error(c, 1, "bad-name");
	}
	hear_nothing(c);
}

static void test_names_of_the_daemon(void **state)
{
	static const char *const names[] = { "ipcd", "ipcd.x", "ipcd.name.jobs" };
	struct client *c;

	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		say_text(c, "x", "{'op':'send','id':1,'queue':'%s'}", names[i]);
		hear_error(c, 1, "denied");
	}
}

static void test_what_names_tells(void **state)
{
	struct client *c, *receiver;
	const char *line;

	start();
	c = client_connect();
	receiver = client_connect();
	for (int i = 0; i < 6; i++)
		send_text(c, "jobs", "12345");
	settle(c, "ack", take(c, "jobs", "12345"), "");
	take(c, "jobs", "12345");
	settle(c, "nack", take(c, "jobs", "12345"), ",'delay_ms':1000000");
	settle(c, "reject", take(c, "jobs", "12345"), "");
	say(receiver,
	    "{'op':'receive','id':1,'queues':['other','jobs'],'window':1,'max':0,"
	    "'wait_ms':-1}");
	hear_delivery(receiver, 1, "12345");
	say(c, "{'op':'names','id':1,'name':'jobs'}");
	line = frame_line(hear_reply(c, 1), 0);
	assert_string_equal(json_string(line, "name"), "jobs");
	assert_string_equal(json_string(line, "kind"), "queue");
	assert_int_equal(json_int(line, "owner_uid"), getuid());
	assert_string_equal(json_string(line, "mode"), "0600");
	assert_int_equal(json_int(line, "ready"), 1);
	assert_int_equal(json_int(line, "leased"), 2);
	assert_int_equal(json_int(line, "delayed"), 1);
	assert_int_equal(json_int(line, "dead"), 1);
	assert_int_equal(json_int(line, "sent"), 6);
	assert_int_equal(json_int(line, "acked"), 1);
	assert_int_equal(json_int(line, "receivers"), 1);
	assert_int_equal(json_int(line, "waiting"), 0);
	assert_true(json_int(line, "bytes") >= 25);
	assert_int_equal(queue_count("other", "receivers"), 1);
}

/* The head of a queue by what is still to be done, and how busy it is. */
static void test_age_and_rates(void **state)
{
	struct client *c;
	const char *line;
	struct frame *f;

	start();
	c = client_connect();
	send_text(c, "q", "1");
	settle(c, "reject", take(c, "q", "1"), "");
	line = frame_line(list(c, "names"), 0);
	assert_false(json_has(line, "oldest_ms")); /* it is dead */
	assert_null(strstr(line, "\"sent_rate\":0.00"));
	assert_non_null(strstr(line, "\"acked_rate\":0.00"));
	send_text(c, "q", "2");
	f = take(c, "q", "2");
	assert_in_range(queue_count("q", "oldest_ms"), 0, DEADLINE_MS);
	wait_for(queue_count("q", "oldest_ms") > 20);
	settle(c, "ack", f, "");
	line = frame_line(list(c, "names"), 0);
	assert_false(json_has(line, "oldest_ms"));
	assert_null(strstr(line, "\"acked_rate\":0.00"));
	say(c, "{'op':'move','id':1,'name':'q'}");
	hear_reply(c, 1);
	assert_true(queue_count("q", "oldest_ms") > 20); /* since it was sent */
}

static void test_names_of_nothing(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say(c, "{'op':'names','id':1,'name':'jobs'}");
	hear_error(c, 1, "not-found");
	assert_null(frame_line(list(c, "names"), 0));
}

/* ---- peers ---- */

static int64_t peer_number(struct client *c)
{
	say(c, "{'op':'hello','id':1}");
	return json_int(hear_reply(c, 1)->header, "peer");
}

/* Nor does a look, or what is refused, leave a name behind. */
static void test_refused_requests_make_no_name(void **state)
{
	char *large = keep_printf("%02000d", 0);
	struct client *c;

	start("--limit", "queue_bytes=1024", "--limit", "queue_file_bytes=300000");
	c = client_connect();
	say(c, "{'op':'receive','id':1,'queues':['one','ipcd.x']}");
	hear_error(c, 1, "denied");
	say(c, "{'op':'receive','id':1,'queues':['one','two','one']}");
	hear_error(c, 1, "bad-request");
	say_text(c, large, "{'op':'send','id':1,'queue':'one'}");
	hear_error(c, 1, "too-large");
	say_text(c, keep_printf("%0400000d", 0), "{'op':'send','id':1,'queue':'one'}");
	hear_error(c, 1, "too-large");
	say(c, "{'op':'receive','id':1,'queue':'one','peek':true}");
	hear_end(c, 1, "peeked");
	say(c, "{'op':'receive','id':1,'queues':['one','two'],'dead':true}");
	hear_end(c, 1, "peeked");
	assert_null(frame_line(list(c, "names"), 0));
	take_nothing(c, "one");
	assert_non_null(frame_line(list(c, "names"), 0));
}

static void test_peers(void **state)
{
	struct client *c, *other;
	const char *line = NULL;
	int64_t number;
	struct frame *f;

	start();
	c = client_connect();
	other = client_connect();
	number = peer_number(other);
	say(other, "{'op':'hello','id':1,'label':'the \\u001b[31mred one'}");
	hear_reply(other, 1);
	send_text(other, "jobs", "x");
	take(other, "jobs", "x");
	say(other, "{'op':'receive','id':2,'queue':'jobs','wait_ms':-1}");
	hear_nothing(other);
	f = list(c, "peers");
	for (unsigned int i = 0; (line = frame_line(f, i)); i++)
		if (json_int(line, "peer") == number)
			break;
	assert_non_null(line);
	assert_int_equal(json_int(line, "uid"), getuid());
	assert_int_equal(json_int(line, "pid"), getpid());
	assert_int_equal(json_int(line, "requests"), 1);
	assert_int_equal(json_int(line, "leases"), 1);
	assert_string_equal(json_string(line, "label"), "the \x1b[31mred one");
	assert_non_null(strstr(json_string(line, "command"), "test_names"));
}

static void test_disconnect(void **state)
{
	struct client *c, *other;
	int64_t number;
	struct frame *f;

	start("--limit", "lost_delay=0");
	c = client_connect();
	other = client_connect();
	number = peer_number(other);
	send_text(other, "jobs", "x");
	take(other, "jobs", "x");
	say(c, "{'op':'disconnect','id':2,'peer':%" PRId64 "}", number);
	hear_reply(c, 2);
	while ((f = hear_or_eof(other)))
		assert_true(json_has(f->header, "error"));
	take(c, "jobs", "x");
	say(c, "{'op':'disconnect','id':2,'peer':%" PRId64 "}", number);
	hear_error(c, 2, "not-found");
	/* oneself */
	say(c, "{'op':'disconnect','id':3,'peer':%" PRId64 "}", peer_number(c));
	while (hear_or_eof(c))
		;
}

static void test_stats(void **state)
{
	struct client *c;
	const char *line;
	struct frame *f;

	start_durable();
	c = client_connect();
	send_text(c, "jobs", "12345");
	send_text(c, "jobs", "12345");
	settle(c, "ack", take(c, "jobs", "12345"), "");
	f = list(c, "stats");
	line = frame_line(f, 0);
	assert_null(frame_line(f, 1));
	assert_int_equal(json_int(line, "pid"), server.pid);
	assert_int_equal(json_int(line, "uid"), getuid());
	assert_string_equal(json_string(line, "socket"), server.socket);
	assert_string_equal(json_string(line, "mode"), getuid() ? "user" : "system");
	assert_string_equal(json_string(line, "log_level"), "info");
	assert_int_equal(json_int(line, "peers"), 1);
	assert_int_equal(json_int(line, "names"), 1);
	assert_int_equal(json_int(line, "messages"), 1);
	assert_int_equal(json_int(line, "sent"), 2);
	assert_int_equal(json_int(line, "delivered"), 1);
	assert_int_equal(json_int(line, "acked"), 1);
	assert_true(json_int(line, "bytes") > 0);
	assert_true(json_has(line, "uptime_ms"));
	assert_string_equal(json_string(line, "state"), server.state);
	assert_true(json_has(line, "store"));
	assert_int_equal(strlen(json_string(line, "epoch")), 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_good_names),
		it(test_bad_names),
		it(test_names_of_the_daemon),
		it(test_what_names_tells),
		it(test_age_and_rates),
		it(test_names_of_nothing),
		it(test_refused_requests_make_no_name),
		it(test_peers),
		it(test_disconnect),
		it(test_stats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
