/* SPDX-License-Identifier: MIT */

/* Receivers, deliveries and their messages, and settling them. */

#include "unit/client_fake.h"

#include "wire/json.h"

#define LEASE "0123456789abcdef"
#define FROM "\"from\":{\"uid\":7,\"gid\":8,\"pid\":9,\"user\":\"ann\"}"

static struct ipc_receiver *receiver_of(struct fake *f, unsigned int window)
{
	struct ipc_receiver *receiver;

	assert_int_equal(ipc_receiver_new(f->client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_set_window(receiver, window), 0);
	return receiver;
}

/* A delivery of text as a whole, under the id re. */
static void deliver(struct fake *f, int re, int number, const char *body)
{
	char header[200];

	snprintf(header, sizeof(header),
		 "{\"re\":%d,\"size\":%zu,\"message\":%d,\"lease\":\"" LEASE
		 "\",\"attempt\":1," FROM ",\"queue\":\"q\"}",
		 re, strlen(body), number);
	fake_say_body(f, header, body, strlen(body));
}

static void assert_body(const struct ipc_message *message, const char *text)
{
	size_t size = 0;
	const char *body = ipc_message_get_body(message, &size);

	assert_int_equal(size, strlen(text));
	assert_memory_equal(body, text, size);
}

/* ---- messages ---- */

static void test_receive(void **state)
{
	static const char header[] =
		"{\"re\":2,\"size\":5,\"message\":41,\"lease\":\"" LEASE
		"\",\"attempt\":3,\"priority\":0," FROM
		",\"queue\":\"q\\u00e4\",\"meta\":{\"a\":\n1}}";
	struct fake *f = *state;
	struct ipc_message *m;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	char *json;

	fake_say_body(f, header, "h\0llo", 5);
	assert_int_equal(ipc_receive(f->client, "q", 500, &m), 0);
	fake_expect(
		f,
		"{\"op\":\"receive\",\"id\":2,\"queues\":[\"q\"],\"max\":1,\"window\":1,"
		"\"wait_ms\":500}");
	fake_say(f, "{\"re\":2,\"end\":\"max\"}");
	assert_int_equal(ipc_client_process(f->client), 1);
	fake_expect_silence(f); /* no cancel: the end had to come */
	f->client = ipc_client_close(f->client);

	assert_memory_equal(ipc_message_get_body(m, NULL), "h\0llo", 5);
	assert_int_equal(ipc_message_get_number(m), 41);
	assert_string_equal(ipc_message_get_lease(m), LEASE);
	assert_int_equal(ipc_message_get_attempt(m), 3);
	assert_int_equal(ipc_message_get_priority(m), 0);
	assert_string_equal(ipc_message_get_queue(m), "q\xc3\xa4");
	assert_string_equal(ipc_message_get_meta(m), "{\"a\":\n1}");
	assert_string_equal(ipc_message_get_from(m, &uid, &gid, &pid), "ann");
	assert_int_equal(uid, 7);
	assert_int_equal(gid, 8);
	assert_int_equal(pid, 9);
	assert_int_equal(ipc_message_to_json(m, true, &json), 0);
	assert_string_equal(
		json, "{\"message\":41,\"queue\":\"q\xc3\xa4\",\"lease\":\"" LEASE
		      "\",\"attempt\":3,\"priority\":0," FROM
		      ",\"meta\":{\"a\": 1},\"size\":5,\"body_base64\":\"aABsbG8=\"}");
	free(json);
	ipc_message_free(m);
}

static unsigned int n_parsed;

int __real_json_parse(struct json *j, const char *text, size_t size);
int __wrap_json_parse(struct json *j, const char *text, size_t size);

int __wrap_json_parse(struct json *j, const char *text, size_t size)
{
	n_parsed++;
	return __real_json_parse(j, text, size);
}

/* Recognised by its text, and the same with a space in it, which is parsed. */
static void test_plain(void **state)
{
	static const char *const spaces[] = { "", " " };
	struct fake *f = *state;

	for (int i = 0; i < 2; i++) {
		struct ipc_message *m;
		char header[300], *json;

		snprintf(header, sizeof(header),
			 "{\"re\":%d,\"size\":3,\"message\":41,\"lease\":\"" LEASE
			 "\",\"attempt\":2," FROM ",\"queue\":\"q\"%s}",
			 i + 2, spaces[i]);
		fake_say_body(f, header, "one", 3);
		n_parsed = 0;
		assert_int_equal(ipc_receive(f->client, "q", 500, &m), 0);
		assert_int_equal(n_parsed, i);
		assert_true(fake_hear(f));
		fake_say(f, "{\"re\":%d,\"end\":\"max\"}", i + 2);
		assert_int_equal(ipc_client_process(f->client), 1);
		assert_body(m, "one");
		assert_null(ipc_message_get_meta(m));
		assert_null(ipc_message_get_filename(m));
		assert_int_equal(ipc_message_to_json(m, false, &json), 0);
		assert_string_equal(json,
				    "{\"message\":41,\"queue\":\"q\",\"lease\":\"" LEASE
				    "\",\"attempt\":2,\"priority\":4," FROM
				    ",\"size\":3}");
		free(json);
		ipc_message_free(m);
	}
}

/* What only looks like a delivery, or like the answer to a send. */
static void test_plain_elsewhere(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *r = receiver_of(f, 1);
	struct ipc_message *m;
	uint64_t number = 0;

	deliver(f, 2, 41, "one");
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, &number), 0);
	assert_int_equal(number, 41);
	fake_say(f, "{\"re\":3,\"message\":42}");
	assert_int_equal(ipc_receiver_next(r, IPC_FOREVER, &m), 1);
	assert_int_equal(ipc_message_get_number(m), 42);
	ipc_message_free(m);
	ipc_receiver_free(r);
}

/* The size decides where the frame ends, wherever it stands. */
static void test_size_behind(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;

	fake_say_body(f,
		      "{\"re\":2,\"message\":41,\"lease\":\"" LEASE
		      "\",\"attempt\":1," FROM ",\"queue\":\"q\",\"size\":3}",
		      "one", 3);
	assert_int_equal(ipc_receive(f->client, "q", 500, &m), 0);
	assert_body(m, "one");
	ipc_message_free(m);
}

static void test_message_without_much(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;
	uid_t uid = 0;

	fake_say(f, "{\"re\":2,\"message\":1}");
	assert_int_equal(ipc_receive(f->client, "q", 0, &m), 0);
	assert_body(m, "");
	assert_string_equal(ipc_message_get_lease(m), "");
	assert_string_equal(ipc_message_get_queue(m), "");
	assert_string_equal(ipc_message_get_from(m, &uid, NULL, NULL), "");
	assert_int_equal(uid, (uid_t)-1);
	assert_int_equal(ipc_message_get_priority(m), 4);
	assert_null(ipc_message_get_meta(m));
	assert_int_equal(ipc_ack(f->client, m), -EINVAL);
	ipc_message_free(m);
}

static void test_json_bodies(void **state)
{
	static const struct {
		const char *body;
		size_t size;
		const char *json;
	} cases[] = {
		{ "", 0, "\"body\":\"\"}" },
		{ "a\n\"", 3, "\"body\":\"a\\n\\\"\"}" },
		{ "\xff", 1, "\"body_base64\":\"/w==\"}" },
		{ "\0ab", 3, "\"body_base64\":\"AGFi\"}" },
		{ "\xfe\xff", 2, "\"body_base64\":\"/v8=\"}" },
	};
	struct ipc_message *m;
	char *json;

	(void)state;
	assert_int_equal(ipc_message_new(&m), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ipc_message_set_body(m, cases[i].body, cases[i].size);
		assert_int_equal(ipc_message_to_json(m, true, &json), 0);
		assert_non_null(strstr(json, cases[i].json));
		free(json);
		assert_int_equal(ipc_message_to_json(m, false, &json), 0);
		assert_null(strstr(json, "body"));
		free(json);
	}
	ipc_message_free(m);
	assert_null(ipc_message_free(NULL));
}

/* A body that is read into a block of its own, and is then the message's. */
static void test_large_body(void **state)
{
	enum { SIZE = 100000 };
	struct fake *f = *state;
	char header[200], *body = malloc(SIZE);
	struct ipc_message *m;
	size_t size;

	for (size_t i = 0; i < SIZE; i++)
		body[i] = (char)(i * 7);
	snprintf(header, sizeof(header),
		 "{\"re\":2,\"size\":%d,\"message\":1,\"lease\":\"" LEASE "\"}", SIZE);
	fake_say_body(f, header, body, SIZE);
	assert_int_equal(ipc_receive(f->client, "q", 0, &m), 0);
	f->client = ipc_client_close(f->client);
	assert_memory_equal(ipc_message_get_body(m, &size), body, SIZE);
	assert_int_equal(size, SIZE);
	ipc_message_free(m);
	free(body);
}

/* ---- one message, and none ---- */

static void test_receive_none(void **state)
{
	static const struct {
		const char *end;
		int error;
	} ends[] = { { "timeout", -ETIMEDOUT },
		     { "shutting-down", -ESHUTDOWN },
		     { "cancelled", -ECANCELED },
		     { "deleted", -ECANCELED } };
	struct fake *f = *state;
	struct ipc_message *m;
	int id = 2;

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		fake_say(f, "{\"re\":%d,\"end\":\"%s\"}", id++, ends[i].end);
		assert_int_equal(ipc_receive(f->client, "q", 0, &m), ends[i].error);
		assert_true(fake_hear(f));
	}
	assert_string_equal(ipc_client_get_error(f->client),
			    "receiving from q has ended: deleted");
	fake_say(f, "{\"re\":%d,\"error\":\"denied\",\"message\":\"not yours\"}", id++);
	assert_int_equal(ipc_receive(f->client, "q", 0, &m), -EACCES);
	assert_string_equal(ipc_client_get_error(f->client), "not yours");
	assert_true(fake_hear(f));
	assert_int_equal(ipc_receive(f->client, "q", -5, &m), -EINVAL);
	fake_expect_silence(f);
}

/* The daemon says nothing at all: the receive is given up, and what comes is given back. */
static void test_receive_unanswered(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;

	assert_int_equal(ipc_client_set_timeout(f->client, 20), 0);
	assert_int_equal(ipc_receive(f->client, "q", 10, &m), -ETIMEDOUT);
	assert_true(fake_hear(f));
	fake_expect(f, "{\"op\":\"cancel\",\"request\":2}");
	deliver(f, 2, 5, "late");
	assert_int_equal(ipc_client_process(f->client), 0);
	fake_expect(f, "{\"op\":\"nack\",\"message\":5,\"delay_ms\":0,\"count\":false}");
	fake_say(f, "{\"re\":2,\"end\":\"cancelled\"}");
	assert_int_equal(ipc_client_process(f->client), 0);
}

/* ---- receivers ---- */

static void test_options(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *r;
	struct ipc_message *m;

	assert_int_equal(ipc_receiver_new(f->client, &r), 0);
	assert_int_equal(ipc_receiver_next(r, 0, &m), -EINVAL); /* no queue */
	assert_int_equal(ipc_receiver_add_queue(r, "a"), 0);
	assert_int_equal(ipc_receiver_add_queue(r, "b"), 0);
	assert_int_equal(ipc_receiver_set_window(r, 0), -EINVAL);
	assert_int_equal(ipc_receiver_set_window(r, 65537), -EINVAL);
	assert_int_equal(ipc_receiver_set_window(r, 16), 0);
	assert_int_equal(ipc_receiver_set_max(r, 3), 0);
	assert_int_equal(ipc_receiver_set_wait(r, -2), -EINVAL);
	assert_int_equal(ipc_receiver_set_wait(r, 100), 0);
	assert_int_equal(ipc_receiver_set_ack_wait(r, 0), -EINVAL);
	assert_int_equal(ipc_receiver_set_ack_wait(r, 5), 0);
	assert_int_equal(ipc_receiver_set_peek(r, true), 0);
	assert_int_equal(ipc_receiver_next(r, -2, &m), -EINVAL);
	assert_int_equal(ipc_receiver_next(r, 0, &m), -ETIMEDOUT);
	fake_expect(f, "{\"op\":\"receive\",\"id\":2,\"queues\":[\"a\",\"b\"],\"max\":3,"
		       "\"window\":16,\"wait_ms\":100,\"ack_wait_ms\":5,\"peek\":true}");
	assert_int_equal(ipc_receiver_add_queue(r, "c"), -EBUSY);
	assert_int_equal(ipc_receiver_set_window(r, 1), -EBUSY);
	assert_int_equal(ipc_receiver_set_max(r, 1), -EBUSY);
	assert_int_equal(ipc_receiver_set_wait(r, 1), -EBUSY);
	assert_int_equal(ipc_receiver_set_ack_wait(r, 1), -EBUSY);
	assert_int_equal(ipc_receiver_set_peek(r, false), -EBUSY);
	assert_int_equal(ipc_receiver_set_dead(r, true), -EBUSY);
	assert_int_equal(ipc_receiver_set_filter(r, "age>1h"), -EBUSY);
	assert_string_equal(ipc_receiver_get_end(r), "");
	assert_null(ipc_receiver_free(r));
	assert_null(ipc_receiver_free(NULL));
	fake_expect(f, "{\"op\":\"cancel\",\"request\":2}");
}

/* A filter is read when it is set; the last one that was right holds. */
static void test_looking_at_the_dead(void **state)
{
	static const char header[] =
		"{\"re\":2,\"size\":1,\"message\":1,\"state\":\"dead\",\"reason\":\"no\","
		"\"attempt\":2,\"history\":[{\"attempt\":1},{}]}";
	struct fake *f = *state;
	struct ipc_receiver *r;
	struct ipc_message *m;
	char *json;

	assert_int_equal(ipc_receiver_new(f->client, &r), 0);
	assert_int_equal(ipc_receiver_add_queue(r, "q"), 0);
	assert_int_equal(ipc_receiver_set_dead(r, true), 0);
	assert_int_equal(ipc_receiver_set_filter(r, "age>1h"), 0);
	assert_int_equal(ipc_receiver_set_filter(r, NULL), 0);
	assert_int_equal(ipc_receiver_set_filter(r, "attempt>=2"), 0);
	assert_int_equal(ipc_receiver_set_filter(r, "attempt>=2 x"), -EINVAL);
	assert_non_null(strstr(ipc_client_get_error(f->client), "'x'"));
	assert_int_equal(ipc_receiver_set_filter(r, "sender=no-such-user"), -ENOENT);
	for (int i = 0; i < 3; i++) /* more than the window: they are not leased */
		fake_say_body(f, header, "x", 1);
	fake_say(f, "{\"re\":2,\"end\":\"peeked\"}");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ipc_receiver_next(r, IPC_FOREVER, &m), 1);
		assert_string_equal(ipc_message_get_state(m), "dead");
		assert_string_equal(ipc_message_get_reason(m), "no");
		assert_string_equal(ipc_message_get_history(m), "[{\"attempt\":1},{}]");
		assert_int_equal(ipc_message_to_json(m, false, &json), 0);
		assert_non_null(strstr(json, "\"state\":\"dead\",\"reason\":\"no\","
					     "\"history\":[{\"attempt\":1},{}],"));
		free(json);
		assert_int_equal(ipc_ack(f->client, m), -EINVAL);
		ipc_message_free(m);
	}
	fake_expect(f, "{\"op\":\"receive\",\"id\":2,\"queues\":[\"q\"],\"max\":0,"
		       "\"window\":1,\"wait_ms\":-1,\"dead\":true,"
		       "\"filter\":{\"attempt_min\":2}}");
	assert_int_equal(ipc_receiver_next(r, 0, &m), 0);
	ipc_receiver_free(r);
	fake_expect_silence(f);
}

static void test_many_queues(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *r;

	assert_int_equal(ipc_receiver_new(f->client, &r), 0);
	for (int i = 0; i < 64; i++)
		assert_int_equal(ipc_receiver_add_queue(r, "q"), 0);
	assert_int_equal(ipc_receiver_add_queue(r, "q"), -E2BIG);
	ipc_receiver_free(r);
	fake_expect_silence(f);
}

static void test_next(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *r = receiver_of(f, 3);
	struct ipc_message *m;

	deliver(f, 2, 1, "one");
	deliver(f, 2, 2, "two");
	deliver(f, 2, 3, "three");
	assert_int_equal(ipc_receiver_next(r, IPC_FOREVER, &m), 1);
	assert_body(m, "one");
	ipc_message_free(m);
	assert_int_equal(ipc_receiver_next(r, 0, &m), 1);
	assert_body(m, "two");
	ipc_message_free(m);
	fake_say(f, "{\"re\":2,\"end\":\"max\"}");
	assert_true(ipc_client_process(f->client) > 0);
	assert_string_equal(ipc_receiver_get_end(r), "max");
	assert_int_equal(ipc_receiver_next(r, 0, &m), 1); /* what came before the end */
	assert_body(m, "three");
	ipc_message_free(m);
	assert_int_equal(ipc_receiver_next(r, 0, &m), 0);
	assert_int_equal(ipc_receiver_next(r, 0, &m), 0);
	ipc_receiver_free(r);
}

static void test_next_refused(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *r = receiver_of(f, 1);
	struct ipc_message *m;

	fake_say(f, "{\"re\":2,\"error\":\"denied\",\"message\":\"not yours\"}");
	assert_int_equal(ipc_receiver_next(r, IPC_FOREVER, &m), -EACCES);
	assert_string_equal(ipc_client_get_error_word(f->client), "denied");
	assert_int_equal(ipc_receiver_next(r, IPC_FOREVER, &m), -EACCES);
	assert_string_equal(ipc_receiver_get_end(r), "denied");
	ipc_receiver_free(r);
}

/* Messages come while a call waits for something else. */
static void test_deliveries_during_a_call(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *r = receiver_of(f, 2);
	struct ipc_message *m;

	assert_int_equal(ipc_receiver_next(r, 0, &m), -ETIMEDOUT);
	deliver(f, 2, 1, "one");
	fake_say(f, "{\"re\":3,\"message\":9}");
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), 0);
	assert_int_equal(ipc_client_get_timeout(f->client), 0);
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_int_equal(ipc_receiver_next(r, 0, &m), 1);
	assert_body(m, "one");
	ipc_message_free(m);
	ipc_receiver_free(r);
}

static void test_window_is_held(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *r = receiver_of(f, 2);
	struct ipc_message *m;

	deliver(f, 2, 1, "one");
	deliver(f, 2, 2, "two");
	deliver(f, 2, 3, "three");
	assert_int_equal(ipc_receiver_next(r, IPC_FOREVER, &m), -EPROTO);
	assert_non_null(strstr(ipc_client_get_error(f->client), "window of 2"));
	assert_int_equal(ipc_receiver_next(r, IPC_FOREVER, &m), -ECONNRESET);
	ipc_receiver_free(r);
}

/* What was peeked at is worth something after the connection is lost; leases are not. */
static void test_lost_with_queued(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *r = receiver_of(f, 2), *peek = receiver_of(f, 1);
	struct ipc_message *m;

	assert_int_equal(ipc_receiver_set_peek(peek, true), 0);
	assert_int_equal(ipc_receiver_next(r, 0, &m), -ETIMEDOUT);
	assert_int_equal(ipc_receiver_next(peek, 0, &m), -ETIMEDOUT);
	deliver(f, 2, 1, "one");
	fake_say(f, "{\"re\":3,\"message\":5,\"state\":\"dead\",\"reason\":\"bad\"}");
	fake_say(f, "{\"re\":3,\"message\":6,\"state\":\"ready\"}");
	fake_hang_up(f);
	assert_int_equal(ipc_client_process(f->client), -ECONNRESET);
	assert_int_equal(ipc_receiver_next(r, IPC_FOREVER, &m), -ECONNRESET);
	assert_int_equal(ipc_receiver_next(peek, IPC_FOREVER, &m), 1);
	char *json;
	assert_int_equal(ipc_message_to_json(m, false, &json), 0);
	assert_non_null(strstr(json, "\"state\":\"dead\",\"reason\":\"bad\""));
	free(json);
	ipc_message_free(m);
	assert_int_equal(ipc_receiver_next(peek, 0, &m), 1);
	ipc_message_free(m);
	assert_int_equal(ipc_receiver_next(peek, 0, &m), -ECONNRESET);
	ipc_receiver_free(r); /* the other is left to ipc_client_close() */
}

/* All had come and its end too: but the program has not had it, and will not. */
static void test_lost_with_the_end_queued(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *r = receiver_of(f, 2), *drained = receiver_of(f, 1);
	struct ipc_message *m;

	assert_int_equal(ipc_receiver_set_max(r, 2), 0);
	assert_int_equal(ipc_receiver_next(r, 0, &m), -ETIMEDOUT);
	assert_int_equal(ipc_receiver_next(drained, 0, &m), -ETIMEDOUT);
	deliver(f, 2, 1, "one");
	deliver(f, 2, 2, "two");
	fake_say(f, "{\"re\":2,\"end\":\"max\"}");
	fake_say(f, "{\"re\":3,\"end\":\"timeout\"}");
	assert_int_equal(ipc_receiver_next(r, IPC_FOREVER, &m), 1);
	ipc_message_free(m);
	fake_hang_up(f);
	assert_int_equal(ipc_client_process(f->client), -ECONNRESET);
	assert_int_equal(ipc_receiver_next(r, IPC_FOREVER, &m), -ECONNRESET);
	assert_int_equal(ipc_receiver_get_error(r), -ECONNRESET);
	assert_string_equal(ipc_receiver_get_end(r), "lost");
	assert_int_equal(ipc_receiver_next(drained, IPC_FOREVER, &m), 0);
	assert_string_equal(ipc_receiver_get_end(drained), "timeout");
	ipc_receiver_free(r);
	ipc_receiver_free(drained);
}

/* ---- pieces ---- */

static void test_pieces(void **state)
{
	enum { PIECE = 40000, WHOLE = 3 * PIECE };
	struct fake *f = *state;
	struct ipc_receiver *a = receiver_of(f, 1), *b = receiver_of(f, 1);
	char header[200], *body = malloc(WHOLE);
	struct ipc_message *m;
	size_t size;

	for (size_t i = 0; i < WHOLE; i++)
		body[i] = (char)(i * 11);
	assert_int_equal(ipc_receiver_next(a, 0, &m), -ETIMEDOUT);
	assert_int_equal(ipc_receiver_next(b, 0, &m), -ETIMEDOUT);
	snprintf(header, sizeof(header),
		 "{\"re\":2,\"size\":%d,\"more\":true,\"message\":1,\"lease\":\"" LEASE
		 "\"}",
		 PIECE);
	fake_say_body(f, header, body, PIECE);
	fake_say_body(
		f,
		"{\"re\":3,\"size\":2,\"more\":true,\"message\":2,\"lease\":\"" LEASE
		"\"}",
		"sm", 2);
	assert_int_equal(ipc_client_process(f->client), 0);
	snprintf(header, sizeof(header), "{\"re\":2,\"size\":%d,\"more\":true}", PIECE);
	fake_say_body(f, header, body + PIECE, PIECE);
	fake_say_body(f, "{\"re\":3,\"size\":3}", "all", 3);
	assert_int_equal(ipc_receiver_next(b, IPC_FOREVER, &m), 1);
	assert_body(m, "small");
	assert_int_equal(ipc_message_get_number(m), 2);
	ipc_message_free(m);
	snprintf(header, sizeof(header), "{\"re\":2,\"size\":%d}", PIECE);
	fake_say_body(f, header, body + WHOLE - PIECE, PIECE);
	assert_int_equal(ipc_receiver_next(a, IPC_FOREVER, &m), 1);
	assert_memory_equal(ipc_message_get_body(m, &size), body, WHOLE);
	assert_int_equal(size, WHOLE);
	assert_int_equal(ipc_message_get_number(m), 1);
	ipc_message_free(m);
	ipc_receiver_free(a);
	ipc_receiver_free(b);
	free(body);
}

/* The pieces of a body come one after the other. */
static void test_pieces_torn(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *r = receiver_of(f, 2);
	struct ipc_message *m;

	fake_say_body(
		f,
		"{\"re\":2,\"size\":2,\"more\":true,\"message\":1,\"lease\":\"" LEASE
		"\",\"attempt\":1," FROM "}",
		"ab", 2);
	deliver(f, 2, 2, "two");
	assert_int_equal(ipc_receiver_next(r, IPC_FOREVER, &m), -EPROTO);
	assert_non_null(strstr(ipc_client_get_error(f->client), "in the middle"));
	ipc_receiver_free(r);
}

static void test_pieces_aborted(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *r = receiver_of(f, 1);
	struct ipc_message *m;

	fake_say_body(
		f,
		"{\"re\":2,\"size\":2,\"more\":true,\"message\":2,\"lease\":\"" LEASE
		"\"}",
		"ab", 2);
	fake_say(f, "{\"re\":2,\"abort\":\"the file shrank\"}");
	deliver(f, 2, 3, "next");
	assert_int_equal(ipc_receiver_next(r, IPC_FOREVER, &m), 1);
	assert_body(m, "next");
	ipc_message_free(m);
	ipc_receiver_free(r);
	assert_true(fake_hear(f));
	assert_true(fake_hear(f));

	fake_say_body(f, "{\"re\":3,\"size\":2,\"more\":true}", "ab", 2);
	fake_say(f, "{\"re\":3,\"abort\":\"no memory\"}");
	struct ipc_list *list;
	assert_int_equal(ipc_list_open(f->client, IPC_LIST_NAMES, NULL, &list), -EIO);
	assert_string_equal(ipc_client_get_error(f->client), "no memory");
}

/* Freed in the middle of a body: given back when its last piece is there. */
static void test_pieces_freed(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *r = receiver_of(f, 1);
	struct ipc_message *m;

	assert_int_equal(ipc_receiver_next(r, 0, &m), -ETIMEDOUT);
	fake_say_body(
		f,
		"{\"re\":2,\"size\":2,\"more\":true,\"message\":2,\"lease\":\"" LEASE
		"\"}",
		"ab", 2);
	assert_int_equal(ipc_client_process(f->client), 0);
	ipc_receiver_free(r);
	assert_true(fake_hear(f));
	fake_expect(f, "{\"op\":\"cancel\",\"request\":2}");
	fake_say_body(f, "{\"re\":2,\"size\":2}", "cd", 2);
	assert_int_equal(ipc_client_process(f->client), 0);
	fake_expect(f, "{\"op\":\"nack\",\"message\":2,\"delay_ms\":0,\"count\":false}");
}

/* ---- settling ---- */

static struct ipc_message *take(struct fake *f, int re, int number)
{
	struct ipc_message *m;

	deliver(f, re, number, "x");
	fake_say(f, "{\"re\":%d,\"end\":\"max\"}", re);
	assert_int_equal(ipc_receive(f->client, "q", 0, &m), 0);
	assert_true(fake_hear(f));
	return m;
}

static void test_settle(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m = take(f, 2, 41);
	char reason[1026];

	assert_int_equal(ipc_ack(f->client, m), 0);
	fake_expect(f, "{\"op\":\"ack\",\"message\":41}");
	fake_say(f, "{\"re\":3}");
	assert_int_equal(ipc_nack(f->client, m, -1, NULL), 0);
	fake_expect(f,
		    "{\"op\":\"nack\",\"id\":3,\"message\":41,\"lease\":\"" LEASE "\"}");
	fake_say(
		f,
		"{\"re\":4,\"error\":\"lease-lost\",\"message\":\"gone\",\"messages\":[41]}");
	assert_int_equal(ipc_nack(f->client, m, 7, "why"), -ESTALE);
	fake_expect(f, "{\"op\":\"nack\",\"id\":4,\"message\":41,\"lease\":\"" LEASE
		       "\",\"delay_ms\":7,\"reason\":\"why\"}");
	fake_say(f, "{\"re\":5}");
	assert_int_equal(ipc_reject(f->client, m, "why"), 0);
	fake_expect(f, "{\"op\":\"reject\",\"id\":5,\"message\":41,\"lease\":\"" LEASE
		       "\",\"reason\":\"why\"}");
	fake_say(f, "{\"re\":6}");
	assert_int_equal(ipc_touch(f->client, m), 0);
	fake_expect(f,
		    "{\"op\":\"touch\",\"id\":6,\"message\":41,\"lease\":\"" LEASE "\"}");
	fake_say(f, "{\"re\":7}");
	assert_int_equal(ipc_settle(f->client, IPC_VERDICT_NACK, 9, NULL, 0, true, NULL),
			 0);
	fake_expect(
		f,
		"{\"op\":\"nack\",\"id\":7,\"message\":9,\"delay_ms\":0,\"count\":false}");

	memset(reason, 'a', 1025);
	reason[1025] = '\0';
	assert_int_equal(ipc_reject(f->client, m, reason), -EINVAL);
	assert_int_equal(ipc_reject(f->client, m, "\xff"), -EINVAL);
	assert_int_equal(ipc_nack(f->client, m, -2, NULL), -EINVAL);
	assert_int_equal(ipc_settle(f->client, IPC_VERDICT_ACK, 0, NULL, -1, false, NULL),
			 -EINVAL);
	assert_int_equal(ipc_settle(f->client, IPC_VERDICT_ACK, 1, NULL, 1, false, NULL),
			 -EINVAL);
	assert_int_equal(ipc_settle(f->client, IPC_VERDICT_TOUCH, 1, NULL, -1, true,
				    NULL),
			 -EINVAL);
	assert_int_equal(ipc_settle(f->client, IPC_VERDICT_ACK, 1, NULL, -1, false, "x"),
			 -EINVAL);
	assert_int_equal(ipc_settle(f->client, (enum ipc_verdict)9, 1, NULL, -1, false,
				    NULL),
			 -EINVAL);
	fake_expect_silence(f);
	ipc_message_free(m);
}

static void test_ack_many(void **state)
{
	enum { N = 1025 };
	struct fake *f = *state;
	struct ipc_message *m = take(f, 2, 41), *messages[N], *sent;

	for (int i = 0; i < N; i++)
		messages[i] = m;
	assert_int_equal(ipc_ack_many(f->client, messages, 0), 0);
	fake_expect_silence(f);
	assert_int_equal(ipc_ack_many(f->client, messages, 3), 0);
	fake_expect(f, "{\"op\":\"ack\",\"messages\":[41,41,41]}");
	assert_int_equal(ipc_ack_many(f->client, messages, N), 0);
	assert_true(fake_hear(f));
	assert_int_equal(strlen(f->header),
			 strlen("{\"op\":\"ack\",\"messages\":[]}") + 3071);
	fake_expect(f, "{\"op\":\"ack\",\"messages\":[41]}");
	assert_int_equal(ipc_message_new(&sent), 0);
	messages[1] = sent;
	assert_int_equal(ipc_ack_many(f->client, messages, 3), -EINVAL);
	fake_expect_silence(f);
	ipc_message_free(sent);
	ipc_message_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fake_test(test_receive),
		fake_test(test_plain),
		fake_test(test_plain_elsewhere),
		fake_test(test_size_behind),
		fake_test(test_message_without_much),
		cmocka_unit_test(test_json_bodies),
		fake_test(test_large_body),
		fake_test(test_receive_none),
		fake_test(test_receive_unanswered),
		fake_test(test_options),
		fake_test(test_looking_at_the_dead),
		fake_test(test_many_queues),
		fake_test(test_next),
		fake_test(test_next_refused),
		fake_test(test_deliveries_during_a_call),
		fake_test(test_window_is_held),
		fake_test(test_lost_with_queued),
		fake_test(test_lost_with_the_end_queued),
		fake_test(test_pieces),
		fake_test(test_pieces_torn),
		fake_test(test_pieces_aborted),
		fake_test(test_pieces_freed),
		fake_test(test_settle),
		fake_test(test_ack_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
