/* SPDX-License-Identifier: MIT */

/* Operations on names: settings from text to the request, counts, explanations. */

#include "unit/client_fake.h"

static int create(struct fake *f, const char *a, const char *b)
{
	const char *settings[] = { a, b };

	return ipc_name_create(f->client, "q", settings, a ? b ? 2 : 1 : 0);
}

static void test_create(void **state)
{
	struct fake *f = *state;
	static const char *const all[] = {
		"mode=0660",	     "owner=root",     "group=0",
		"queue_messages=10", "backoff=1,20",   "queue_bytes=2000",
		"lost_delay=0",	     "max_attempts=3", "durable=false",
	};

	fake_say(f, "{\"re\":2}");
	assert_int_equal(create(f, NULL, NULL), 0);
	fake_expect(f, "{\"op\":\"create\",\"id\":2,\"name\":\"q\"}");
	fake_say(f, "{\"re\":3}");
	assert_int_equal(ipc_name_set(f->client, "q", all, 9), 0);
	fake_expect(
		f,
		"{\"op\":\"set\",\"id\":3,\"name\":\"q\",\"mode\":\"0660\","
		"\"owner\":0,\"group\":0,\"queue_messages\":10,\"backoff\":[1,20],"
		"\"queue_bytes\":2000,\"lost_delay\":0,\"max_attempts\":3,\"durable\":false}");
	fake_say(f, "{\"re\":4,\"error\":\"exists\",\"message\":\"there is one\"}");
	assert_int_equal(create(f, "backoff=7", "owner=4000001"), -EEXIST);
	fake_expect(f, "{\"op\":\"create\",\"id\":4,\"name\":\"q\",\"backoff\":[7],"
		       "\"owner\":4000001}");
	fake_expect_silence(f);
}

static void test_bad_settings(void **state)
{
	static const struct {
		const char *a, *b, *error;
		int r;
	} cases[] = {
		{ "mode", NULL, "mode: no value", -EINVAL },
		{ "mode=9", NULL, "mode=9: an octal mode", -EINVAL },
		{ "mode=", NULL, "mode=: an octal mode", -EINVAL },
		{ "mode=06600", NULL, "mode=06600: an octal mode", -EINVAL },
		{ "mode=0600", "mode=0660", "mode is set twice", -EINVAL },
		{ "owner=no-such-user", NULL, "owner=no-such-user: there is no",
		  -ENOENT },
		{ "owner=", NULL, "owner=: there is no", -ENOENT },
		{ "owner=4294967295", NULL, "there is no such user", -ENOENT },
		{ "group=no-such-group", NULL, "there is no such group", -ENOENT },
		{ "backoff=", NULL, "backoff=: milliseconds", -EINVAL },
		{ "backoff=1,,2", NULL, "backoff=1,,2: milliseconds", -EINVAL },
		{ "queue_bytes=-1", NULL, "queue_bytes=-1: a number", -EINVAL },
		{ "durable=yes", NULL, "durable=yes: true or false", -EINVAL },
		{ "durable=", NULL, "durable=: true or false", -EINVAL },
		{ "queue_bytes=1k", NULL, "queue_bytes=1k: a number", -EINVAL },
		{ "mode=0600", "colour=red", "unknown setting colour; there are mode, ow",
		  -EINVAL },
		{ "", NULL, "unknown setting ;", -EINVAL },
		{ "=x", NULL, "unknown setting ;", -EINVAL },
		{ "\xff=x", NULL, "not valid UTF-8", -EINVAL },
	};
	struct fake *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(create(f, cases[i].a, cases[i].b), cases[i].r);
		assert_non_null(strstr(ipc_client_get_error(f->client), cases[i].error));
	}
	fake_expect_silence(f);
}

/* More than the header of a request has room for. */
static void test_too_long(void **state)
{
	struct fake *f = *state;
	char *text = malloc(70001);
	struct ipc_receiver *receiver;
	uint64_t n;

	for (int i = 0; i < 70000; i++)
		text[i] = i % 2 ? ',' : '1';
	memcpy(text, "backoff=", 8);
	text[69999] = '\0';
	assert_int_equal(create(f, text, NULL), -EMSGSIZE);
	memset(text, 'a', 70000);
	memcpy(text, "meta.k=", 7);
	text[70000] = '\0';
	assert_int_equal(ipc_name_purge(f->client, "q", NULL, text, &n), -EMSGSIZE);
	assert_int_equal(ipc_receiver_new(f->client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_set_filter(receiver, text), 0);
	assert_int_equal(ipc_receiver_start(receiver), -EMSGSIZE);
	assert_non_null(strstr(ipc_client_get_error(f->client), "the limit is 65536"));
	ipc_receiver_free(receiver);
	fake_expect_silence(f);
	free(text);
}

static void test_delete(void **state)
{
	struct fake *f = *state;

	fake_say(f, "{\"re\":2}");
	assert_int_equal(ipc_name_delete(f->client, "q"), 0);
	fake_expect(f, "{\"op\":\"delete\",\"id\":2,\"name\":\"q\"}");
	assert_int_equal(ipc_name_delete(f->client, "\xff"), -EINVAL);
	fake_expect_silence(f);
}

static void test_counts(void **state)
{
	struct fake *f = *state;
	uint64_t n = 99;

	fake_say(f, "{\"re\":2,\"purged\":7}");
	assert_int_equal(ipc_name_purge(f->client, "q", NULL, NULL, &n), 0);
	assert_int_equal(n, 7);
	fake_expect(f, "{\"op\":\"purge\",\"id\":2,\"name\":\"q\"}");
	fake_say(f, "{\"re\":3,\"moved\":0}");
	assert_int_equal(ipc_name_move(f->client, "q", "other", "dead", NULL, &n), 0);
	assert_int_equal(n, 0);
	fake_expect(f, "{\"op\":\"move\",\"id\":3,\"name\":\"q\",\"to\":\"other\","
		       "\"state\":\"dead\"}");
	/* what was done stays done */
	fake_say(f, "{\"re\":4,\"error\":\"full\",\"message\":\"no room\",\"moved\":3}");
	assert_int_equal(ipc_name_move(f->client, "q", "other", NULL, NULL, &n), -EAGAIN);
	assert_int_equal(n, 3);
	assert_true(fake_hear(f));
	fake_say(f, "{\"re\":5,\"error\":\"denied\",\"message\":\"not yours\"}");
	assert_int_equal(ipc_name_purge(f->client, "q", "all", NULL, &n), -EACCES);
	assert_int_equal(n, 0);
	assert_true(fake_hear(f));
	assert_int_equal(ipc_name_purge(f->client, "q", "\xff", NULL, NULL), -EINVAL);
	assert_int_equal(ipc_name_purge(f->client, "q", NULL, "age", NULL), -EINVAL);
	assert_int_equal(ipc_name_move(f->client, "q", NULL, NULL, "sender=no-such-user",
				       NULL),
			 -ENOENT);
	fake_expect_silence(f);
	fake_say(f, "{\"re\":7,\"purged\":\"many\"}");
	assert_int_equal(ipc_name_purge(f->client, "q", NULL, NULL, NULL), -EPROTO);
}

static void test_explain(void **state)
{
	static const char line[] = "{\"name\":\"q\",\"read\":true,\"rule\":\"none\"}\n";
	struct fake *f = *state;
	const struct ipc_record *record;
	struct ipc_list *list;
	char header[64];

	snprintf(header, sizeof(header), "{\"re\":2,\"size\":%zu}", sizeof(line) - 1);
	fake_say_body(f, header, line, sizeof(line) - 1);
	assert_int_equal(ipc_name_explain(f->client, "q", NULL, &list), 0);
	fake_expect(f, "{\"op\":\"explain\",\"id\":2,\"name\":\"q\"}");
	record = ipc_list_next(list);
	assert_true(ipc_record_get_bool(record, "read"));
	assert_string_equal(ipc_record_get_string(record, "rule"), "none");
	ipc_list_free(list);

	fake_say(f, "{\"re\":3,\"error\":\"denied\",\"message\":\"only root\"}");
	assert_int_equal(ipc_name_explain(f->client, "q", "4000001", &list), -EACCES);
	fake_expect(f, "{\"op\":\"explain\",\"id\":3,\"name\":\"q\",\"uid\":4000001}");
	fake_say(f, "{\"re\":4,\"error\":\"denied\",\"message\":\"only root\"}");
	assert_int_equal(ipc_name_explain(f->client, "q", "root", &list), -EACCES);
	assert_true(fake_hear(f));
	assert_non_null(strstr(f->header, "\"name\":\"q\",\"uid\":0,\"gids\":[0"));
	assert_int_equal(ipc_name_explain(f->client, "q", "no-such-user", &list),
			 -ENOENT);
	fake_expect_silence(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fake_test(test_create),	  fake_test(test_bad_settings),
		fake_test(test_too_long), fake_test(test_delete),
		fake_test(test_counts),	  fake_test(test_explain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
