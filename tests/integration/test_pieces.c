/* SPDX-License-Identifier: MIT */

/* Bodies that come and go in pieces. */

#include "integration/harness.h"

#include "wire/limits.h"

static void test_a_body_in_pieces(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say_text(c, "one ", "{'op':'send','id':1,'queue':'jobs','more':true}");
	say_text(c, "two ", "{'id':1,'more':true}");
	say_text(c, "", "{'id':1,'more':true}");
	assert_int_equal(stats_count("messages"), 0);
	say_text(c, "three", "{'id':1}");
	hear_reply(c, 1);
	take(c, "jobs", "one two three");
}

static void test_every_split_in_two(void **state)
{
	static const char text[] = "0123456789";
	struct client *c;

	start();
	c = client_connect();
	for (size_t i = 0; i < sizeof(text); i++) {
		say_body(c, text, i, "{'op':'ping','id':1,'more':true}");
		say_body(c, text + i, sizeof(text) - 1 - i, "{'id':1}");
		assert_string_equal(hear_reply(c, 1)->body, text);
	}
}

/* Eight at once, piece by piece in turn, with other requests between; the place of each in
 * the queue is that of its last piece. */
static void test_interleaved(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	for (int i = 0; i < LIMIT_CUT_BODIES_MAX; i++)
		say_text(c, "a", "{'op':'send','id':%d,'queue':'jobs','more':true}", i);
	for (int i = 0; i < LIMIT_CUT_BODIES_MAX; i++)
		say_text(c, "b", "{'id':%d,'more':true}", i);
	hear_nothing(c);
	send_text(c, "jobs", "first");
	for (int i = LIMIT_CUT_BODIES_MAX - 1; i >= 0; i--) {
		say_text(c, keep_printf("%d", i), "{'id':%d}", i);
		hear_reply(c, (uint64_t)i);
	}
	take(c, "jobs", "first");
	for (int i = LIMIT_CUT_BODIES_MAX - 1; i >= 0; i--)
		take(c, "jobs", keep_printf("ab%d", i));
}

/* The ninth ends the connection: to remember which pieces to drop would take a ninth place. */
static void test_too_many_at_once(void **state)
{
	struct client *c, *bystander;
	struct frame *f;

	start();
	bystander = client_connect();
	c = client_connect();
	for (int i = 0; i <= LIMIT_CUT_BODIES_MAX; i++)
		say_text(c, "a", "{'op':'send','id':%d,'queue':'jobs','more':true}", i);
	f = hear_last_words(c, "bad-request");
	assert_non_null(strstr(json_string(f->header, "message"), "cut_bodies_max"));
	assert_null(frame_line(list(bystander, "names"), 0));
}

/* After an early error the rest of the pieces is dropped; then the id is free. */
static void test_early_error(void **state)
{
	static const struct {
		const char *request, *word;
	} rows[] = {
		{ "{'op':'send','id':1,'queue':'..','size':1,'more':true}", "bad-name" },
		{ "{'op':'send','id':1,'queue':7,'size':1,'more':true}", "bad-request" },
		{ "{'op':'dance','id':1,'size':1,'more':true}", "unknown-op" },
	};
	struct client *c;

	start();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		say(c, "%s", with_quotes(rows[i].request));
		say_bytes(c, "1", 1);
		say_text(c, "2", "{'id':1,'more':true}");
		say_text(c, "3", "{'id':1}");
		hear_error(c, 1, rows[i].word);
		say(c, "{'op':'ping','id':1}");
		hear_reply(c, 1);
	}
}

static void test_abort(void **state)
{
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	say_text(c, "one", "{'op':'send','id':1,'queue':'jobs','more':true}");
	say_text(c, "two", "{'id':1,'more':true}");
	say(c, "{'id':1,'abort':'disk\\nfailed'}");
	f = hear_error(c, 1, "bad-request");
	assert_non_null(strstr(json_string(f->header, "message"), "failed"));
	assert_null(frame_line(list(c, "names"), 0));
	send_text(c, "jobs", "next");
	take(c, "jobs", "next");
}

/* A first piece that is no request is refused when it is whole; one without id cannot be
 * told from the others, so it ends the connection. */
static void test_pieces_of_nothing(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say_text(c, "x", "{'id':5,'more':true}");
	say_text(c, "x", "{'id':5}");
	hear_error(c, 5, "bad-request");
	hear_nothing(c);
	say_text(c, "x", "{'op':'send','queue':'jobs','more':true}");
	hear_last_words(c, "bad-request");
}

static void test_an_id_in_pieces_is_in_use(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say_text(c, "x", "{'op':'ping','id':1,'more':true}");
	say_text(c, "x", "{'op':'ping','id':1}");
	hear_last_words(c, "bad-request");
}

static void test_too_large_in_pieces(void **state)
{
	char *kilobyte = keep(malloc(1025));
	struct client *c;
	struct frame *f;

	memset(kilobyte, 'k', 1024);
	kilobyte[1024] = '\0';
	start("--limit", "body_max=4096");
	c = client_connect();
	say_text(c, kilobyte, "{'op':'ping','id':1,'more':true}");
	for (int i = 0; i < 3; i++)
		say_text(c, kilobyte, "{'id':1,'more':true}");
	say_text(c, "", "{'id':1}");
	assert_int_equal(hear_reply(c, 1)->body_size, 4096);

	say_text(c, kilobyte, "{'op':'ping','id':1,'more':true}");
	for (int i = 0; i < 3; i++)
		say_text(c, kilobyte, "{'id':1,'more':true}");
	say_text(c, "!", "{'id':1}");
	f = hear_error(c, 1, "too-large");
	assert_non_null(strstr(json_string(f->header, "message"), "body_max"));
	hear_nothing(c);
}

static void test_peer_goes_in_the_middle(void **state)
{
	struct client *c, *bystander;

	start();
	bystander = client_connect();
	c = client_connect();
	say_text(c, "half", "{'op':'send','id':1,'queue':'jobs','more':true}");
	hear_nothing(c);
	client_close(c);
	assert_null(frame_line(list(bystander, "names"), 0));
}

static void test_pieces_deadline(void **state)
{
	struct client *c;
	struct frame *f;

	start("--limit", "pieces_deadline=200");
	c = client_connect();
	say_text(c, "half", "{'op':'ping','id':1,'more':true}");
	f = hear(c);
	assert_string_equal(json_string(f->header, "error"), "timeout");
	assert_non_null(strstr(json_string(f->header, "message"), "pieces_deadline"));
}

/* One delivery to a peer that said pieces: true, one to a peer that did not. */
static void test_deliveries_are_cut_for_those_who_can(void **state)
{
	size_t size = 2 * LIMIT_PIECE_MAX + 1, got = 0;
	char *body = keep(malloc(size));
	struct client *c, *simple;
	struct frame *f;
	int n_pieces = 0;

	for (size_t i = 0; i < size; i++)
		body[i] = (char)(i * 2654435761u >> 24);
	start();
	simple = client_connect();
	c = client_connect();
	say(c, "{'op':'hello','id':1,'pieces':true}");
	hear_reply(c, 1);
	for (int i = 0; i < 2; i++) {
		say_body(simple, body, size, "{'op':'send','id':1,'queue':'jobs'}");
		hear_reply(simple, 1);
	}

	say(simple, "{'op':'receive','id':2,'queue':'jobs'}");
	f = hear_reply(simple, 2);
	assert_int_equal(f->body_size, size);
	assert_memory_equal(f->body, body, size);
	hear_end(simple, 2, "max");

	say(c, "{'op':'receive','id':3,'queue':'jobs'}");
	do {
		f = hear_reply(c, 3);
		assert_true(json_has(f->header, "message") == !n_pieces);
		assert_true(f->body_size <= LIMIT_PIECE_MAX);
		assert_memory_equal(f->body, body + got, f->body_size);
		got += f->body_size;
		n_pieces++;
	} while (json_has(f->header, "more"));
	assert_int_equal(got, size);
	assert_int_equal(n_pieces, 3);
	hear_end(c, 3, "max");
	say(c, "{'op':'delete','id':4,'name':'jobs'}");
	hear_reply(c, 4);
}

/* Lists and echoes as well. */
static void test_all_bodies_are_cut_for_those_who_can(void **state)
{
	size_t size = LIMIT_PIECE_MAX + 1, got = 0;
	struct client *c;
	struct frame *f;

	start();
	c = client_connect();
	say(c, "{'op':'hello','id':1,'pieces':true}");
	hear_reply(c, 1);
	say_body(c, keep(calloc(1, size)), size, "{'op':'ping','id':2}");
	do {
		f = hear_reply(c, 2);
		assert_true(f->body_size <= LIMIT_PIECE_MAX);
		got += f->body_size;
	} while (json_has(f->header, "more"));
	assert_int_equal(got, size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_a_body_in_pieces),
		it(test_every_split_in_two),
		it(test_interleaved),
		it(test_too_many_at_once),
		it(test_early_error),
		it(test_abort),
		it(test_pieces_of_nothing),
		it(test_an_id_in_pieces_is_in_use),
		it(test_too_large_in_pieces),
		it(test_peer_goes_in_the_middle),
		it(test_pieces_deadline),
		it(test_deliveries_are_cut_for_those_who_can),
		it(test_all_bodies_are_cut_for_those_who_can),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
