/* SPDX-License-Identifier: MIT */

/* The keys of a file: passed on as they are, refused by name, and what is promised of a body
 * is held against it. */

#include "integration/harness_file.h"

#include <stdio.h>

#include "integration/durable.h"

static const char *const algorithms[] = { "xxh3", "sha256", "md5" };
static const size_t sizes[] = { SMALL, LARGE };

/* Nothing was queued, the connection goes on. */
static void check_nothing_queued(struct client *c)
{
	assert_null(frame_line(list(c, "names"), 0));
	wait_for(spool_count() == 0);
}

static void test_keys_are_passed_on(void **state)
{
	static const char keys[] =
		"'queue':'q','filename':'Bericht \xc3\xa4.txt','mode':493,'mtime':-86400,"
		"'mtime_ns':999999999,'archive':'tar','meta':{'a' :[1]}";
	struct client *c;

	start_durable();
	c = client_connect();
	for (enum way in = 0; in < N_WAYS; in++)
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			struct frame *f;

			send_file(c, in, sizes[i], keys);
			f = take_file(c, "q", sizes[i]);
			assert_string_equal(json_string(f->header, "filename"),
					    "Bericht \xc3\xa4.txt");
			assert_int_equal(json_int(f->header, "file_size"), sizes[i]);
			assert_int_equal(json_int(f->header, "mode"), 0755);
			assert_int_equal(json_int(f->header, "mtime"), -86400);
			assert_int_equal(json_int(f->header, "mtime_ns"), 999999999);
			assert_string_equal(json_string(f->header, "archive"), "tar");
			assert_non_null(strstr(f->header, "{\"a\" :[1]}"));
			assert_false(json_has(f->header, "live"));
			settle(c, "ack", f, "");
		}
}

/* What is not said is not made up. */
static void test_no_keys(void **state)
{
	static const char *const keys[] = { "filename", "mode", "mtime",  "mtime_ns",
					    "archive",	"live", "sha256", "md5" };
	struct client *c;

	start_durable();
	c = client_connect();
	for (enum way in = 0; in < N_WAYS; in++) {
		struct frame *f;

		send_file(c, in, LARGE, "'queue':'q'");
		f = take_file(c, "q", LARGE);
		for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
			assert_false(json_has(f->header, keys[i]));
		settle(c, "ack", f, "");
	}
}

/* Spaces, quotes, globs, newlines and escape codes are a name's own affair. */
static void test_odd_names(void **state)
{
	static const struct {
		const char *json, *name;
	} rows[] = {
		{ " ", " " },
		{ "-rf", "-rf" },
		{ "...", "..." },
		{ ".hidden", ".hidden" },
		{ "a b\\\"c'*?[x]$(id)", "a b\"c'*?[x]$(id)" },
		{ "new\\nline\\ttab", "new\nline\ttab" },
		{ "\\u001b[31mred\\u0007", "\x1b[31mred\x07" },
		{ "a\\\\b", "a\\b" },
		{ "\\u00e4\\ud83d\\ude00", "\xc3\xa4\xf0\x9f\x98\x80" },
	};
	struct client *c;

	start_durable();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *header = keep_printf("{\"op\":\"send\",\"id\":1,\"queue\":\"q\","
					   "\"filename\":\"%s\"}",
					   rows[i].json);
		size_t size;
		char *bytes = frame_encode(&size, "x", 1, "%s", header);
		struct frame *f;

		say_bytes(c, bytes, size);
		hear_reply(c, 1);
		f = take(c, "q", "x");
		assert_string_equal(json_string(f->header, "filename"), rows[i].name);
		settle(c, "ack", f, "");
	}
}

static void test_long_names(void **state)
{
	char *name = keep(malloc(257));
	struct client *c;
	struct frame *f;

	memset(name, 'n', 256);
	name[256] = '\0';
	start_durable();
	c = client_connect();
	f = send_file_fails(c, BY_FRAME, SMALL,
			    keep_printf("'queue':'q','filename':'%s'", name),
			    "bad-request");
	assert_non_null(strstr(json_string(f->header, "message"), "filename"));
	check_nothing_queued(c);
	name[255] = '\0';
	send_file(c, BY_FRAME, SMALL, keep_printf("'queue':'q','filename':'%s'", name));
	f = take_file(c, "q", SMALL);
	assert_string_equal(json_string(f->header, "filename"), name);
}

static void test_bad_keys(void **state)
{
	static const struct {
		const char *key, *value;
	} rows[] = {
		{ "filename", "''" },
		{ "filename", "'.'" },
		{ "filename", "'..'" },
		{ "filename", "'/'" },
		{ "filename", "'a/b'" },
		{ "filename", "'../b'" },
		{ "filename", "7" },
		{ "file_size", "-1" },
		{ "file_size", "'5'" },
		{ "file_size", "null" },
		{ "mode", "-1" },
		{ "mode", "512" },
		{ "mode", "'0644'" },
		{ "mtime", "'yesterday'" },
		{ "mtime", "true" },
		{ "mtime_ns", "-1" },
		{ "mtime_ns", "1000000000" },
		{ "xxh3", "'0123456789abcdef0123456789abcde'" },
		{ "xxh3", "'0123456789abcdef0123456789abcdef0'" },
		{ "xxh3", "'0123456789abcdef0123456789abcdeg'" },
		{ "xxh3", "1" },
		{ "sha256", "'0123456789abcdef0123456789abcdef'" },
		{ "sha256", "''" },
		{ "md5", "'0123456789abcdef0123456789abcde '" },
		{ "md5", "[]" },
		{ "archive", "'zip'" },
		{ "archive", "true" },
		{ "live", "1" },
		{ "live", "true" }, /* without a descriptor */
		{ "progress", "1" },
	};
	struct client *c;

	start_durable();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *keys =
			keep_printf("'queue':'q','%s':%s", rows[i].key, rows[i].value);
		struct frame *f;

		f = send_file_fails(c, BY_FRAME, SMALL, keys, "bad-request");
		if (!strstr(json_string(f->header, "message"), rows[i].key))
			fail_at(HERE, "%s is not named: %s", keys, f->header);
	}
	check_nothing_queued(c);
}

/* A name that is not UTF-8, or with a NUL, is in no valid JSON. */
static void test_names_that_are_no_text(void **state)
{
	static const char *const names[] = { "\xff", "a\xc3", "\\u0000", "\\ud800" };

	start_durable();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct client *c = client_connect();

		say_text(c, "x", "{'op':'send','id':1,'queue':'q','filename':'%s'}",
			 names[i]);
		hear_last_words(c, "bad-json");
	}
	check_nothing_queued(client_connect());
}

static void test_descriptors_where_none_belong(void **state)
{
	static const char *const rows[] = {
		"{'op':'send','id':1,'queue':'q','fds':1,'size':0}",
		"{'op':'send','id':1,'queue':'q','fds':1,'more':true}",
		"{'op':'ping','id':1,'fds':1}",
		"{'op':'receive','id':1,'queue':'q','fds':1}",
		"{'op':'dance','id':1,'fds':1}",
	};
	struct client *c;
	int fd, fds[2];
	size_t size;
	char *bytes;

	start_durable();
	fd = make_file(SMALL);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct frame *f;

		c = client_connect();
		say_fd(c, fd, "%s", with_quotes(rows[i]));
		f = hear(c);
		assert_true(json_has(f->header, "error"));
		client_close(c);
	}
	c = client_connect();
	fds[0] = fds[1] = fd;
	bytes = frame_encode(&size, NULL, 0, "{'op':'send','id':1,'queue':'q','fds':2}");
	say_bytes_fds(c, bytes, size, fds, 2);
	hear_error(c, 1, "bad-request");
	check_nothing_queued(c);
}

/* ---- digests ---- */

static char *upper_case(const char *text)
{
	char *copy = keep_printf("%s", text);

	for (char *p = copy; *p; p++)
		if (*p >= 'a' && *p <= 'f')
			*p = (char)(*p - 'a' + 'A');
	return copy;
}

static const char *claim(const char *algorithm, const char *hex)
{
	return keep_printf("'queue':'q','%s':'%s'", algorithm, hex);
}

static void check_digest(const struct frame *f, const char *algorithm, size_t size)
{
	assert_string_equal(json_string(f->header, algorithm),
			    digest_of(algorithm, size));
}

/* A body with this digest, and its end. */
static void take_digest(struct client *c, const char *algorithm, size_t size)
{
	struct frame *f = take_file(c, "q", size);

	check_digest(f, algorithm, size);
	settle(c, "ack", f, "");
}

static void check_claims(struct client *c, enum way in, const char *algorithm,
			 size_t size)
{
	const char *right = digest_of(algorithm, size);
	char *wrong = keep_printf("%s", right);

	wrong[7] = wrong[7] == '0' ? '1' : '0';
	send_file_fails(c, in, size, claim(algorithm, wrong), "integrity");
	check_nothing_queued(c);
	send_file(c, in, size, claim(algorithm, right));
	take_digest(c, algorithm, size);
	send_file(c, in, size, claim(algorithm, upper_case(right)));
	take_digest(c, algorithm, size);
	say(c, "{'op':'delete','id':1,'name':'q'}");
	hear_reply(c, 1);
}

static void test_claimed_digests(void **state)
{
	struct client *c;

	start_durable();
	c = client_connect();
	for (enum way in = 0; in < N_WAYS; in++)
		for (size_t a = 0; a < ARRAY_SIZE(algorithms); a++)
			for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
				check_claims(c, in, algorithms[a], sizes[i]);
}

/* Also of a sealed memfd, which is not copied. */
static void test_digests_of_a_sealed_memfd(void **state)
{
	struct client *c;
	int fd;

	start();
	c = client_connect();
	fd = make_memfd(LARGE, true);
	send_fd_fails(c, fd, claim("md5", digest_of("md5", SMALL)), "integrity");
	send_fd(c, fd, claim("md5", digest_of("md5", LARGE)));
	send_fd(c, fd, "'queue':'q','sha256':true,'xxh3':true");
	check_digest(take_file(c, "q", LARGE), "md5", LARGE);
	check_digest(take_file(c, "q", LARGE), "sha256", LARGE);
	say(c, "{'op':'delete','id':1,'name':'q'}");
	hear_reply(c, 1);
}

static void test_digests_that_are_asked_for(void **state)
{
	struct client *c;

	start_durable();
	c = client_connect();
	for (enum way in = 0; in < N_WAYS; in++)
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			struct frame *f;

			send_file(c, in, sizes[i],
				  "'queue':'q','xxh3':true,'sha256':true,'md5':true");
			f = take_file(c, "q", sizes[i]);
			for (size_t a = 0; a < ARRAY_SIZE(algorithms); a++)
				check_digest(f, algorithms[a], sizes[i]);
			settle(c, "ack", f, "");
		}
}

/* One that is claimed and one that is asked for. */
static void test_digests_of_both_kinds(void **state)
{
	struct client *c;
	struct frame *f;

	start_durable();
	c = client_connect();
	send_file(c, BY_FD, LARGE,
		  keep_printf("'queue':'q','md5':'%s','sha256':true",
			      digest_of("md5", LARGE)));
	f = take_file(c, "q", LARGE);
	check_digest(f, "md5", LARGE);
	check_digest(f, "sha256", LARGE);
	send_file_fails(c, BY_FD, LARGE,
			keep_printf("'queue':'q','md5':'%s','xxh3':'%s'",
				    digest_of("md5", LARGE), digest_of("xxh3", SMALL)),
			"integrity");
}

/* Where bytes pass through the daemon it makes one unasked. */
static void test_the_digest_that_comes_by_itself(void **state)
{
	struct client *c;

	start_durable();
	c = client_connect();
	for (enum way in = BY_FRAME; in < N_WAYS; in++) {
		send_file(c, in, LARGE, "'queue':'q'");
		take_digest(c, "xxh3", LARGE);
	}
}

/* Who reads a file only once knows its digest at the end: the last piece may bring it. */
static void test_digests_in_the_last_piece(void **state)
{
	const char *right = digest_of("md5", LARGE), *wrong = digest_of("md5", SMALL);
	const struct {
		const char *first, *last;
		bool passes;
	} rows[] = {
		{ NULL, right, true },	 { NULL, wrong, false }, { wrong, right, true },
		{ right, wrong, false }, { right, right, true },
	};
	const char *data = pattern(LARGE);
	struct client *c;

	start_durable();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *key = rows[i].first
					  ? keep_printf("\"md5\":\"%s\",", rows[i].first)
					  : "";

		say_body(c, data, LARGE - 10,
			 "{'op':'send','id':1,'queue':'q',%s'more':true}", key);
		say_body(c, data + LARGE - 10, 10, "{'id':1,'md5':'%s'}", rows[i].last);
		if (rows[i].passes) {
			hear_reply(c, 1);
			take_digest(c, "md5", LARGE);
		} else {
			hear_error(c, 1, "integrity");
		}
	}
	wait_for(spool_count() == 0);
}

/* ---- sizes ---- */

static void test_another_size_than_was_promised(void **state)
{
	static const char *const words[N_WAYS] = { "changed", "bad-request",
						   "integrity" };
	struct client *c;

	start_durable();
	c = client_connect();
	for (enum way in = 0; in < N_WAYS; in++)
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
			for (int more = -1; more <= 1; more += 2) {
				size_t promised = sizes[i] + (size_t)more;

				send_file_fails(c, in, sizes[i],
						keep_printf("'queue':'q','file_size':%zu",
							    promised),
						words[in]);
				check_nothing_queued(c);
			}
	for (enum way in = 0; in < N_WAYS; in++)
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			send_file(c, in, sizes[i],
				  keep_printf("'queue':'q','file_size':%zu", sizes[i]));
			settle(c, "ack", take_file(c, "q", sizes[i]), "");
		}
}

/* Neither with the first piece, nor with the last one, nor between them. */
static void test_none_with_pieces(void **state)
{
	static const char *const texts[] = {
		"{'op':'send','id':1,'fds':1,'queue':'q','more':true}",
		"{'id':1,'fds':1,'more':true}", "{'id':1,'fds':1}"
	};

	start();
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct client *c = client_connect();

		if (i)
			say_text(c, "x", "{'op':'send','id':1,'queue':'q','more':true}");
		say_fd(c, make_file(SMALL), "%s", with_quotes(texts[i]));
		hear_last_words(c, "bad-request");
	}
	take_nothing(client_connect(), "q");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_none_with_pieces),
		it(test_keys_are_passed_on),
		it(test_no_keys),
		it(test_odd_names),
		it(test_long_names),
		it(test_bad_keys),
		it(test_names_that_are_no_text),
		it(test_descriptors_where_none_belong),
		it(test_claimed_digests),
		it(test_digests_of_a_sealed_memfd),
		it(test_digests_that_are_asked_for),
		it(test_digests_of_both_kinds),
		it(test_the_digest_that_comes_by_itself),
		it(test_digests_in_the_last_piece),
		it(test_another_size_than_was_promised),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
