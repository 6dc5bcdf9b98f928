/* SPDX-License-Identifier: MIT */

/* Bytes that are no frame, half a frame, or a frame with a header that is no header: what
 * the peer is told, and that the others go on. */

#include "integration/harness.h"

#include <sys/socket.h>

#include "wire/limits.h"

static void say_length(struct client *c, uint32_t length)
{
	unsigned char bytes[4] = { (unsigned char)length, (unsigned char)(length >> 8),
				   (unsigned char)(length >> 16),
				   (unsigned char)(length >> 24) };

	say_bytes(c, bytes, sizeof(bytes));
}

/* A header as it is, with its true length. */
static void say_header(struct client *c, const char *header, size_t size)
{
	say_length(c, (uint32_t)size);
	say_bytes(c, header, size);
}

static void test_stray_text(void **state)
{
	static const char *const texts[] = { "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
					     "/home/user/.bashrc: line 3: x: not found\n",
					     "HELP\n", "{\"op\":\"ping\",\"id\":1}" };
	struct client *bystander;

	start();
	bystander = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct client *c = client_connect();
		char shown[5] = { 0 };
		struct frame *f;

		say_bytes(c, texts[i], strlen(texts[i]));
		f = hear_last_words(c, "bad-frame");
		memcpy(shown, texts[i], 4);
		assert_non_null(strstr(json_string(f->header, "message"), shown));
		hear_nothing(bystander);
	}
	assert_int_equal(log_count("broke the protocol"), ARRAY_SIZE(texts));
}

static void test_bad_lengths(void **state)
{
	static const uint32_t lengths[] = { 0, 1, LIMIT_HEADER_MAX + 1, 1u << 31,
					    UINT32_MAX };

	start();
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct client *c = client_connect();

		say_length(c, lengths[i]);
		hear_last_words(c, "bad-frame");
	}
}

static void test_longest_header(void **state)
{
	char *header = keep(malloc(LIMIT_HEADER_MAX));
	static const char begin[] = "{\"op\":\"ping\",\"id\":1}";
	struct client *c;

	memset(header, ' ', LIMIT_HEADER_MAX);
	memcpy(header, begin, sizeof(begin) - 1);
	start();
	c = client_connect();
	say_header(c, header, LIMIT_HEADER_MAX);
	hear_reply(c, 1);
	say_header(c, "{}", 2);
	hear_notice(c, "bad-request");
	hear_nothing(c);
}

/* Headers that are no strict JSON object: the size of the body behind is not known. */
static void test_bad_json(void **state)
{
#define ROW(text)                      \
	{                              \
		text, sizeof(text) - 1 \
	}
#define PING(more) ROW("{\"op\":\"ping\",\"id\":1" more "}")
	static const struct {
		const char *header;
		size_t size;
	} rows[] = {
		ROW("[]"),
		ROW("[{\"op\":\"ping\",\"id\":1}]"),
		ROW("17"),
		ROW("\"op\""),
		ROW("null"),
		ROW("  "),
		ROW("{\"op\":\"ping\",\"id\":1"),
		ROW("{\"op\":\"ping\",\"id\":1}}"),
		ROW("{\"op\":\"ping\",\"id\":1} {}"),
		ROW("{\"op\":\"ping\",\"id\":1}\0"),
		ROW("{'op':'ping','id':1}"),
		ROW("{op:\"ping\",\"id\":1}"),
		PING(","),
		PING(",\"x\":\"\0\""),
		PING(",\"x\":\"\\u0000\""),
		PING(",\"x\":\"\xff\""),
		PING(",\"x\":\"\xc0\xaf\""),
		PING(",\"x\":\"\xed\xa0\x80\""),
		PING(",\"x\":\"\\ud800\""),
		PING(",\"x\":\"\\udc00\\ud800\""),
		PING(",\"x\":\"\n\""),
		PING(",\"x\":\"\\x41\""),
		PING(",\"id\":1"),
		PING(",\"\\u0069d\":1"),
		PING(",\"x\":{\"a\":1,\"a\":2}"),
		PING(",\"x\":NaN"),
		PING(",\"x\":01"),
		PING(",\"x\":+1"),
		PING(",\"x\":1."),
		PING(",\"x\":/**/1"),
		PING(",\"size\":-1"),
		PING(",\"size\":\"0\""),
		PING(",\"size\":1.0"),
		PING(",\"size\":null"),
		PING(",\"size\":9223372036854775808"),
	};
#undef PING
#undef ROW
	struct client *bystander;

	start();
	bystander = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct client *c = client_connect();
		struct frame *f;

		say_header(c, rows[i].header, rows[i].size);
		f = hear(c);
		if (!json_has(f->header, "error"))
			fail_msg("row %zu, %s: %s", i, rows[i].header, f->header);
		hear_eof(c);
		hear_nothing(bystander);
		client_close(c);
	}
}

/* Unusual, but right. */
static void test_good_json(void **state)
{
	static const char *const values[] = {
		"1e400",
		"-0",
		"9223372036854775807",
		"-9223372036854775808",
		"9223372036854775808",
		"123456789012345678901234567890",
		"\"\\ud83d\\ude00 \\/ \\u00e4\"",
		"\"\xf0\x9f\x98\x80\"",
		"{\"id\":2,\"op\":\"x\"}",
		"[ [ ] , { } ]",
	};
	struct client *c;

	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		say(c, " {'op' : 'ping',\n 'x':%s,'id':1 }\t", values[i]);
		hear_reply(c, 1);
	}
}

static char *nested(int levels)
{
	char *text = keep(malloc((size_t)levels * 2 + 1));

	memset(text, '[', (size_t)levels);
	memset(text + levels, ']', (size_t)levels);
	text[(size_t)levels * 2] = '\0';
	return text;
}

static void test_depth(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say(c, "{'op':'ping','id':1,'x':%s}", nested(LIMIT_JSON_DEPTH_MAX - 1));
	hear_reply(c, 1);
	say(c, "{'op':'ping','id':1,'x':%s}", nested(LIMIT_JSON_DEPTH_MAX));
	hear_last_words(c, "bad-json");
	c = client_connect();
	say(c, "{'op':'ping','id':1,'x':%s}", nested(20000));
	hear_last_words(c, "bad-json");
}

/* Half a frame, then silence: one slot with a deadline, nobody else waits. */
static void test_half_frames(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
	} rows[] = {
		{ "\x20", 1 },
		{ "\x20\0\0\0", 4 },
		{ "\x20\0\0\0{\"op\"", 9 },
	};
	struct client *clients[ARRAY_SIZE(rows)], *bystander;

	start("--limit", "header_deadline=300");
	bystander = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		clients[i] = client_connect();
		say_bytes(clients[i], rows[i].bytes, rows[i].size);
	}
	hear_nothing(bystander);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct frame *f = hear_last_words(clients[i], "timeout");

		assert_non_null(
			strstr(json_string(f->header, "message"), "header_deadline"));
	}
	hear_nothing(bystander);
}

static void test_half_body(void **state)
{
	struct client *c, *idle, *bystander;
	struct frame *f;
	size_t size;
	char *bytes = frame_encode(&size, "0123456789", 10, "{'op':'ping','id':1}");

	start("--limit", "body_deadline=300", "--limit", "header_deadline=300");
	c = client_connect();
	idle = client_connect();
	bystander = client_connect();
	say_bytes(c, bytes, size - 1);
	hear_nothing(bystander);
	f = hear_last_words(c, "timeout");
	assert_non_null(strstr(json_string(f->header, "message"), "body_deadline"));
	hear_nothing(idle); /* an idle connection has no deadline */
}

/* A large body that comes byte by byte outlives each deadline as long as it goes on. */
static void test_slow_body_goes_on(void **state)
{
	struct client *c;
	size_t size;
	char *bytes = frame_encode(&size, "0123456789", 10, "{'op':'ping','id':1}");

	start("--limit", "body_deadline=1000");
	c = client_connect();
	say_bytes(c, bytes, size - 10);
	for (size_t i = size - 10; i < size; i++) {
		struct client *other = client_connect();

		say_bytes(c, bytes + i, 1);
		hear_nothing(other);
		client_close(other);
	}
	hear_reply(c, 1);
}

/* A header's deadline counts from its first byte, however many more trickle in. */
static void test_trickle(void **state)
{
	struct client *c;
	struct frame *f = NULL;

	start("--limit", "header_deadline=200");
	c = client_connect();
	say_length(c, LIMIT_HEADER_MAX);
	for (int i = 0; i < LIMIT_HEADER_MAX - 1; i++) {
		char byte = ' ', echo;

		if (send(client_fd(c), &byte, 1, MSG_NOSIGNAL) < 0)
			break;
		wait_again(wait_deadline());
		if (recv(client_fd(c), &echo, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
			break;
	}
	f = hear(c);
	assert_string_equal(json_string(f->header, "error"), "timeout");
	hear_eof(c);
}

static void test_half_frame_then_close(void **state)
{
	struct client *c, *bystander;
	size_t size;
	char *bytes = frame_encode(&size, "0123456789", 10,
				   "{'op':'send','id':1,'queue':'jobs'}");

	start();
	bystander = client_connect();
	for (size_t n = 1; n < size; n++) {
		c = client_connect();
		say_bytes(c, bytes, n);
		client_close(c);
	}
	c = client_connect();
	say_bytes(c, bytes, size - 1);
	shutdown(client_fd(c), SHUT_WR);
	hear_or_eof(c);
	assert_null(frame_line(list(bystander, "names"), 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_stray_text),
		it(test_bad_lengths),
		it(test_longest_header),
		it(test_bad_json),
		it(test_good_json),
		it(test_depth),
		it(test_half_frames),
		it(test_half_body),
		it(test_slow_body_goes_on),
		it(test_trickle),
		it(test_half_frame_then_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
