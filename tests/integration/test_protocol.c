/* SPDX-License-Identifier: MIT */

/* Requests and replies as ipc-protocol(7) has them: ids, keys, errors by name. */

#include "integration/harness.h"

#include <stdio.h>
#include <sys/socket.h>

#include "wire/limits.h"
#include "wire/plain.h"

static void test_hello(void **state)
{
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	say(c, "{'op':'hello','id':1,'version':1,'pieces':true,'fds':true,'label':'me'}");
	f = hear_reply(c, 1);
	assert_int_equal(json_int(f->header, "version"), 1);
	assert_int_equal(strncmp(json_string(f->header, "server"), "ipcd ", 5), 0);
	assert_int_equal(strlen(json_string(f->header, "epoch")), 16);
	assert_true(json_int(f->header, "peer") >= 1);
	assert_true(strlen(json_string(f->header, "user")) > 0);
	for (size_t i = 0; i < limits_table_size; i++) {
		char path[64];

		snprintf(path, sizeof(path), "limits.%s", limits_table[i].key);
		assert_int_equal(json_int(f->header, path), limits_table[i].value);
	}
}

static void test_hello_again_and_another_version(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say(c, "{'op':'hello','id':1}");
	hear_reply(c, 1);
	say(c, "{'op':'hello','id':1,'version':2}");
	hear_error(c, 1, "bad-request");
	say(c, "{'op':'hello','id':1,'version':1}");
	hear_reply(c, 1);
}

static void test_ping_sizes(void **state)
{
	static const size_t sizes[] = {
		0, 1, 2, 4095, 32767, 32768, 65535, 65536, 1 << 20
	};
	char *body = keep(malloc(1 << 20));
	struct client *c;

	for (size_t i = 0; i < 1 << 20; i++)
		body[i] = (char)(i * 2654435761u >> 24);
	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct frame *f;

		say_body(c, body, sizes[i], "{'op':'ping','id':1}");
		f = hear_reply(c, 1);
		assert_int_equal(f->body_size, sizes[i]);
		assert_memory_equal(f->body, body, sizes[i]);
	}
}

/* Frames of every length around the size of one read, back to back. */
static void test_ping_around_one_read(void **state)
{
	enum { AROUND = 65536, REACH = 80 };
	char *body = keep(calloc(1, AROUND + REACH));
	struct client *c;

	start();
	c = client_connect();
	for (size_t size = AROUND - REACH; size < AROUND + REACH; size++) {
		say_body(c, body, size, "{'op':'ping','id':1}");
		say(c, "{'op':'ping','id':2}");
		assert_int_equal(hear_reply(c, 1)->body_size, size);
		hear_reply(c, 2);
	}
}

/* One write with many requests, and each byte in a write of its own. */
static void test_pipelined_and_split(void **state)
{
	size_t size;
	char *bytes = frame_encode(&size, "12345", 5, "{'op':'ping','id':7,'x':'y'}");
	char *many = keep(malloc(size * 1000));
	struct client *c;

	for (int i = 0; i < 1000; i++)
		memcpy(many + size * (size_t)i, bytes, size);
	start();
	c = client_connect();
	say_bytes(c, many, size * 1000);
	for (int i = 0; i < 1000; i++)
		assert_string_equal(hear_reply(c, 7)->body, "12345");
	for (size_t i = 0; i < size; i++)
		say_bytes(c, bytes + i, 1);
	assert_string_equal(hear_reply(c, 7)->body, "12345");
}

static void test_no_id_no_reply(void **state)
{
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	say_text(c, "x", "{'op':'send','queue':'jobs'}");
	hear_nothing(c);
	assert_int_equal(queue_count("jobs", "ready"), 1);

	say(c, "{'op':'ack','message':77,'lease':'0123456789abcdef'}");
	f = hear_notice(c, "lease-lost");
	assert_string_equal(json_string(f->header, "op"), "ack");
	say(c, "{'op':'dance'}");
	hear_notice(c, "unknown-op");
	say_text(c, "x", "{'op':'send','queue':'bad..name'}");
	f = hear_notice(c, "bad-name");
	assert_string_equal(json_string(f->header, "op"), "send");
	hear_nothing(c);
}

/* Where the reply is the point, it cannot be done without. */
static void test_requests_that_need_an_id(void **state)
{
	static const char *const requests[] = {
		"{'op':'hello'}",
		"{'op':'ping'}",
		"{'op':'receive','queue':'jobs'}",
		"{'op':'names'}",
		"{'op':'peers'}",
		"{'op':'stats'}",
		"{'op':'disconnect','peer':1}",
		"{'op':'send','queue':'jobs','confirm':'acked'}",
	};
	struct client *c;

	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		struct frame *f;

		say(c, "%s", with_quotes(requests[i]));
		f = hear_notice(c, "bad-request");
		assert_non_null(strstr(json_string(f->header, "message"), "\"id\""));
	}
	hear_nothing(c);
	assert_null(frame_line(list(c, "names"), 0));
}

static void test_id_in_use_ends_the_connection(void **state)
{
	struct client *c, *bystander;

	start();
	c = client_connect();
	bystander = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'jobs','wait_ms':-1}");
	say(c, "{'op':'ping','id':1}");
	hear_last_words(c, "bad-request");
	hear_nothing(bystander);
}

static void test_id_is_free_after_its_last_reply(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	for (int i = 0; i < 3; i++) {
		say(c, "{'op':'receive','id':1,'queue':'jobs'}");
		hear_end(c, 1, "timeout");
	}
	say(c, "{'op':'ping','id':9007199254740991}");
	hear_reply(c, 9007199254740991u);
	say(c, "{'op':'ping','id':0}");
	hear_reply(c, 0);
}

static void test_bad_ids(void **state)
{
	static const char *const ids[] = { "-1",
					   "1.0",
					   "1e3",
					   "\"1\"",
					   "null",
					   "true",
					   "[1]",
					   "9007199254740992",
					   "9223372036854775808" };
	struct client *c;

	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct frame *f;

		say(c, "{'op':'ping','id':%s}", ids[i]);
		f = hear_notice(c, "bad-request");
		assert_non_null(strstr(json_string(f->header, "message"), "\"id\""));
		hear_nothing(c);
	}
}

static void test_bad_op(void **state)
{
	static const struct {
		const char *request, *word;
	} rows[] = {
		{ "{'op':'dance','id':1}", "unknown-op" },
		{ "{'op':'','id':1}", "unknown-op" },
		{ "{'op':'PING','id':1}", "unknown-op" },
		{ "{'op':'ping\\u0020','id':1}", "unknown-op" },
		{ "{'op':5,'id':1}", "bad-request" },
		{ "{'op':null,'id':1}", "bad-request" },
		{ "{'id':1}", "bad-request" },
	};
	struct client *c;

	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		say(c, "%s", with_quotes(rows[i].request));
		hear_error(c, 1, rows[i].word);
		hear_nothing(c);
	}
}

static void test_unknown_keys_are_ignored(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say_text(c, "x",
		 "{'op':'send','id':1,'queue':'jobs','colour':'red','Queue':5,"
		 "'':null,'deep':[{'a':[1.5e9]}]}");
	hear_reply(c, 1);
	say(c, "{'op':'receive','id':2,'queue':'jobs','shape':{}}");
	hear_delivery(c, 2, "x");
	hear_end(c, 2, "max");
}

/* Keys of the protocol in a wrong type or range: refused by name, the connection lives. */
static void test_wrong_values(void **state)
{
	static const struct {
		const char *request, *key;
	} rows[] = {
		{ "'op':'hello','version':'1'", "version" },
		{ "'op':'hello','pieces':1", "pieces" },
		{ "'op':'hello','fds':'yes'", "fds" },
		{ "'op':'hello','label':7", "label" },
		{ "'op':'send'", "queue" },
		{ "'op':'send','queue':7", "queue" },
		{ "'op':'send','queue':null", "queue" },
		{ "'op':'send','queue':['a']", "queue" },
		{ "'op':'send','queue':'a','priority':10", "priority" },
		{ "'op':'send','queue':'a','priority':-1", "priority" },
		{ "'op':'send','queue':'a','priority':'4'", "priority" },
		{ "'op':'send','queue':'a','delay_ms':-1", "delay_ms" },
		{ "'op':'send','queue':'a','delay_ms':1.5", "delay_ms" },
		{ "'op':'send','queue':'a','ttl_ms':'1s'", "ttl_ms" },
		{ "'op':'send','queue':'a','wait_ms':-2", "wait_ms" },
		{ "'op':'send','queue':'a','wait_ms':31536000000001", "wait_ms" },
		{ "'op':'send','queue':'a','confirm':'maybe'", "confirm" },
		{ "'op':'send','queue':'a','confirm':true", "confirm" },
		{ "'op':'send','queue':'a','meta':[]", "meta" },
		{ "'op':'send','queue':'a','meta':'x'", "meta" },
		{ "'op':'receive'", "queues" },
		{ "'op':'receive','queues':'a'", "queues" },
		{ "'op':'receive','queues':[]", "queues" },
		{ "'op':'receive','queues':['a',5]", "queues" },
		{ "'op':'receive','queues':[['a']]", "queues" },
		{ "'op':'receive','queue':'a','max':-1", "max" },
		{ "'op':'receive','queue':'a','window':0", "window" },
		{ "'op':'receive','queue':'a','window':65537", "window" },
		{ "'op':'receive','queue':'a','wait_ms':'0'", "wait_ms" },
		{ "'op':'receive','queue':'a','ack_wait_ms':true", "ack_wait_ms" },
		{ "'op':'receive','queue':'a','peek':0", "peek" },
		{ "'op':'ack'", "message" },
		{ "'op':'ack','message':'1'", "message" },
		{ "'op':'ack','message':9007199254740992", "message" },
		{ "'op':'ack','message':1,'lease':7", "lease" },
		{ "'op':'ack','messages':[]", "messages" },
		{ "'op':'ack','messages':['1']", "messages" },
		{ "'op':'nack','message':1,'delay_ms':-2", "delay_ms" },
		{ "'op':'nack','message':1,'count':1", "count" },
		{ "'op':'nack','message':1,'reason':1", "reason" },
		{ "'op':'reject','message':1,'reason':{}", "reason" },
		{ "'op':'touch','message':-1", "message" },
		{ "'op':'cancel'", "request" },
		{ "'op':'cancel','request':'1'", "request" },
		{ "'op':'names','name':5", "name" },
		{ "'op':'disconnect'", "peer" },
		{ "'op':'disconnect','peer':'1'", "peer" },
	};
	struct client *c;

	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *request = with_quotes(keep_printf("{%s,'id':1}", rows[i].request));
		char *quoted = keep_printf("\"%s\"", rows[i].key);
		struct frame *f;

		say(c, "%s", request);
		f = hear_error(c, 1, "bad-request");
		if (!strstr(json_string(f->header, "message"), quoted))
			fail_msg("%s: %s", request, f->header);
		hear_nothing(c);
	}
	assert_null(frame_line(list(c, "names"), 0));
}

/* What later versions will know must not be taken for granted now. */
static void test_keys_of_files(void **state)
{
	static const struct {
		const char *op, *key, *value;
	} rows[] = {
		{ "send", "filename", "''" },	      { "send", "filename", "'a/b'" },
		{ "send", "filename", "'..'" },	      { "send", "filename", "1" },
		{ "send", "file_size", "1" },	      { "send", "file_size", "-1" },
		{ "send", "mode", "'0644'" },	      { "send", "mode", "512" },
		{ "send", "mtime", "'now'" },	      { "send", "mtime_ns", "5" },
		{ "send", "mtime_ns", "1000000000" }, { "send", "xxh3", "'00'" },
		{ "send", "sha256", "false" },	      { "send", "md5", "'g'" },
		{ "send", "archive", "'zip'" },	      { "send", "live", "1" },
		{ "send", "live", "true" },	      { "send", "progress", "1" },
	};
	struct client *c;

	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct frame *f;

		say(c, "{'op':'%s','id':1,'queue':'jobs','%s':%s}", rows[i].op,
		    rows[i].key, with_quotes(rows[i].value));
		f = hear_error(c, 1, "bad-request");
		assert_non_null(strstr(json_string(f->header, "message"), rows[i].key));
	}
	assert_null(frame_line(list(c, "names"), 0));
}

static void test_both_forms_at_once(void **state)
{
	static const char *const requests[] = {
		"{'op':'receive','id':1,'queue':'a','queues':['b']}",
		"{'op':'ack','id':1,'message':1,'messages':[2]}",
		"{'op':'ack','id':1,'messages':[2],'lease':'0123456789abcdef'}",
	};
	struct client *c;

	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		say(c, "%s", with_quotes(requests[i]));
		hear_error(c, 1, "bad-request");
	}
	hear_nothing(c);
}

/* Nothing that a reply quotes can break it, or its limits. */
static void test_hostile_text_in_errors(void **state)
{
	char *name = keep(malloc(60001));
	struct client *c;
	struct frame *f;

	memset(name, 'n', 60000);
	name[60000] = '\0';
	start();
	c = client_connect();
	say(c, "{'op':'%s','id':1}", name);
	f = hear_error(c, 1, "bad-request");
	assert_true(strlen(json_string(f->header, "message")) <= LIMIT_ERROR_TEXT_MAX);
	for (int i = 1; i < 59999; i += 2)
		memcpy(name + i, "\xc3\xa4", 2);
	say(c, "{'op':'send','id':1,'queue':'%s'}", name);
	f = hear_error(c, 1, "bad-name");
	assert_true(strlen(json_string(f->header, "message")) <= LIMIT_ERROR_TEXT_MAX);
	assert_non_null(strstr(json_string(f->header, "message"), "a name has"));
	say(c, "{'op':'\\n\\u001b[31m\\\"\\u202e','id':1}");
	hear_error(c, 1, "unknown-op");
	hear_nothing(c);
}

/* `... | nc -U`: the end of the requests is not the end of the replies. */
static void test_shut_down_for_writing(void **state)
{
	struct client *c, *sender;

	start();
	c = client_connect();
	sender = client_connect();
	say(c, "{'op':'receive','id':1,'queue':'jobs','wait_ms':-1,'max':2,'window':2}");
	say(c, "{'op':'ping','id':2}");
	shutdown(client_fd(c), SHUT_WR);
	hear_reply(c, 2);
	send_text(sender, "jobs", "one");
	hear_delivery(c, 1, "one");
	send_text(sender, "jobs", "two");
	hear_delivery(c, 1, "two");
	hear_end(c, 1, "max");
	hear_eof(c);
}

static void test_cancel_of_nothing(void **state)
{
	struct client *c, *other;

	start();
	c = client_connect();
	other = client_connect();
	say(other, "{'op':'receive','id':5,'queue':'jobs','wait_ms':-1}");
	hear_nothing(other);
	say(c, "{'op':'cancel','id':1,'request':5}");
	hear_error(c, 1, "not-found");
	say(c, "{'op':'cancel','id':1,'request':1}");
	hear_error(c, 1, "not-found");
	hear_nothing(other);
}

static enum plain_kind kind_of(const struct frame *f)
{
	return plain_scan(f->header, strlen(f->header)).kind;
}

/* Those that clients recognise by their text, see wire/plain.h. */
static void test_plain_headers(void **state)
{
	static const struct {
		const char *keys, *text;
		enum plain_kind kind;
	} sends[] = {
		{ "", "body", PLAIN_DELIVERY },
		{ "", "", PLAIN_DELIVERY },
		{ ",'meta':{'a':[1]}", "body", PLAIN_NONE },
		{ ",'priority':2", "body", PLAIN_NONE },
		{ ",'filename':'a'", "body", PLAIN_NONE },
		{ ",'mode':420", "body", PLAIN_NONE },
		{ ",'md5':'841a2d689ad86bd1611447453c22c6fc'", "body", PLAIN_NONE },
	};
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	for (size_t i = 0; i < sizeof(sends) / sizeof(*sends); i++) {
		say_text(c, sends[i].text, "{'op':'send','id':1,'queue':'q'%s}",
			 with_quotes(sends[i].keys));
		assert_int_equal(kind_of(hear_reply(c, 1)), PLAIN_SENT);
		say(c, "{'op':'receive','id':1,'queue':'q','max':1,'peek':true}");
		assert_int_equal(kind_of(hear_delivery(c, 1, sends[i].text)), PLAIN_NONE);
		hear(c);
		f = take(c, "q", sends[i].text);
		assert_int_equal(kind_of(f), sends[i].kind);
		settle(c, "ack", f, "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_hello),
		it(test_hello_again_and_another_version),
		it(test_ping_sizes),
		it(test_ping_around_one_read),
		it(test_pipelined_and_split),
		it(test_no_id_no_reply),
		it(test_requests_that_need_an_id),
		it(test_id_in_use_ends_the_connection),
		it(test_id_is_free_after_its_last_reply),
		it(test_bad_ids),
		it(test_bad_op),
		it(test_unknown_keys_are_ignored),
		it(test_wrong_values),
		it(test_keys_of_files),
		it(test_both_forms_at_once),
		it(test_hostile_text_in_errors),
		it(test_shut_down_for_writing),
		it(test_cancel_of_nothing),
		it(test_plain_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
