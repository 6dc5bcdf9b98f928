/* SPDX-License-Identifier: MIT */

/* Configuration files, right and wrong ones: each key, each type, drop-ins, what is no file. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"

static struct {
	char dir[64], file[96], drop_ins[112];
	struct config config;
	struct buf errors;
} world;

static int setup(void **state)
{
	strcpy(world.dir, "/tmp/ipcd-config.XXXXXX");
	assert_non_null(mkdtemp(world.dir));
	snprintf(world.file, sizeof(world.file), "%s/ipcd.conf", world.dir);
	snprintf(world.drop_ins, sizeof(world.drop_ins), "%s.d", world.file);
	config_init(&world.config);
	world.errors = (struct buf)BUF_INIT;
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	config_deinit(&world.config);
	buf_deinit(&world.errors);
	snprintf(command, sizeof(command), "rm -rf '%s'", world.dir);
	return system(command);
}

#define with_files(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

static void write_file(const char *path, const char *data, size_t size)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, size, f), size);
	assert_int_equal(fclose(f), 0);
}

static void write_drop_in(const char *name, const char *text)
{
	char path[256];

	mkdir(world.drop_ins, 0755);
	snprintf(path, sizeof(path), "%s/%s", world.drop_ins, name);
	write_file(path, text, strlen(text));
}

/* What was there goes. */
static int load_file(void)
{
	config_deinit(&world.config);
	buf_deinit(&world.errors);
	world.errors = (struct buf)BUF_INIT;
	return config_load(&world.config, world.file, true, &world.errors);
}

static int load(const char *text)
{
	write_file(world.file, text, strlen(text));
	return load_file();
}

static const char *errors(void)
{
	assert_int_equal(buf_terminate(&world.errors), 0);
	return world.errors.data;
}

static void assert_loads(const char *text)
{
	if (load(text) < 0)
		fail_msg("%s: %s", text, errors());
	assert_int_equal(world.errors.size, 0);
}

static void test_all_keys(void **state)
{
	const struct rule *rule;

	assert_loads(
		"// one\n{ /* two */ \"socket\": \"/a b\", \"state\": \"/s\",\n"
		"\"mode\": \"system\", \"log_level\": \"debug\",\n"
		"\"limits\": { \"queue_messages\": 7, \"max_attempts\": 9 },\n"
		"\"rules\": [\n"
		"{ \"names\": \"a.**\", \"owner\": \"root\", \"group\": \"root\",\n"
		"  \"mode\": \"0640\", \"queue_messages\": 1, \"queue_bytes\": 4096,\n"
		"  \"max_attempts\": 3, \"lost_delay\": 4, \"backoff\": [0, 5] },\n"
		"{ \"names\": \"@root.x\", \"owner\": \"77\", \"group\": \"78\" } ] }\n");
	assert_string_equal(world.config.socket, "/a b");
	assert_string_equal(world.config.state, "/s");
	assert_true(world.config.has_mode && world.config.system_mode);
	assert_true(world.config.has_level && world.config.level == LEVEL_DEBUG);
	assert_int_equal(world.config.limits.queue_messages, 7);
	assert_int_equal(world.config.limits.max_attempts, 9);
	assert_int_equal(world.config.limits.user_bytes, limits_default.user_bytes);
	assert_int_equal(world.config.rules.n, 2);
	rule = &world.config.rules.rules[0];
	assert_string_equal(rule->pattern, "a.**");
	assert_string_equal(rule->where, "ipcd.conf:6");
	assert_true(rule->has_owner && rule->has_group && rule->has_mode);
	assert_int_equal(rule->owner, 0);
	assert_int_equal(rule->mode, 0640);
	assert_int_equal(rule->settings.set, 31);
	assert_int_equal(rule->settings.max_messages, 1);
	assert_int_equal(rule->settings.max_bytes, 4096);
	assert_int_equal(rule->settings.max_attempts, 3);
	assert_int_equal(rule->settings.lost_delay_ms, 4);
	assert_int_equal(rule->settings.n_backoff, 2);
	assert_int_equal(rule->settings.backoff_ms[1], 5);
	rule++;
	assert_string_equal(rule->pattern, "@0.x");
	assert_int_equal(rule->owner, 77);
	assert_int_equal(rule->group, 78);
	assert_false(rule->has_mode);
	assert_int_equal(rule->settings.set, 0);
}

/* Each is refused, with its line and a word about it. */
#define LETTERS_20 "abcdefghijklmnopqrst"
#define LETTERS_106 LETTERS_20 LETTERS_20 LETTERS_20 LETTERS_20 LETTERS_20 "uvwxyz"
#define LETTERS_107 LETTERS_106 "_"

static void test_wrong_files(void **state)
{
	static const struct {
		const char *text;
		int line;
		const char *says;
	} rows[] = {
		{ "{\n\"sokcet\": \"/a\" }", 2, "unknown key \"sokcet\"" },
		{ "{\n\"\": 1 }", 2, "unknown key \"\"" },
		{ "{ \"limits\": {\n\n\"quue\": 1 } }", 3, "unknown key \"quue\"" },
		{ "{ \"limits\": { \"name_max\": 1 } }", 1, "unknown key" },
		{ "{ \"rules\": [\n{ \"names\": \"a\",\n\"user\": \"x\" } ] }", 3,
		  "unknown key \"user\"" },
		{ "{ \"rules\": [ { \"names\": \"a\",\n\"owner\": \"nobody-here\" } ] }",
		  2, "no user \"nobody-here\"" },
		{ "{ \"rules\": [ { \"names\": \"a\",\n\"group\": \"nobody-here\" } ] }",
		  2, "no group \"nobody-here\"" },
		{ "{ \"rules\": [ {\n\"names\": \"@nobody-here.x\" } ] }", 2,
		  "no user \"nobody-here\"" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"owner\": \"4294967295\" } ] }", 1,
		  "no user" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"owner\": 0 } ] }", 1,
		  "\"owner\" must be a string, not an integer" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"group\": null } ] }", 1,
		  "must be a string" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"owner\": \"\" } ] }", 1,
		  "empty" },
		{ "{ \"rules\": [ { \"names\": \"a..b\" } ] }", 1, "no pattern" },
		{ "{ \"rules\": [ { \"names\": \"\" } ] }", 1, "empty" },
		{ "{ \"rules\": [ { \"names\": [\"a\"] } ] }", 1, "must be a string" },
		{ "{ \"rules\": [\n{ \"mode\": \"0600\" } ] }", 2, "needs \"names\"" },
		{ "{ \"rules\": [\n{} ] }", 2, "needs \"names\"" },
		{ "{ \"rules\": [\n[] ] }", 2, "must be an object" },
		{ "{ \"rules\": {} }", 1, "must be an array" },
		{ "{ \"rules\": \"a\" }", 1, "must be an array" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"mode\": 600 } ] }", 1,
		  "must be a string, not an integer" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"mode\": \"0700\" } ] }", 1,
		  "r (4) and w (2) only" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"mode\": \"0680\" } ] }", 1,
		  "octal" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"mode\": \"1600\" } ] }", 1,
		  "octal" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"mode\": \"-1\" } ] }", 1,
		  "octal" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"mode\": \" 600\" } ] }", 1,
		  "octal" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"mode\": \"u=rw\" } ] }", 1,
		  "octal" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"queue_messages\": 0 } ] }", 1,
		  "\"queue_messages\" must be from" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"queue_messages\": \"9\" } ] }", 1,
		  "must be an integer" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"backoff\": [] } ] }", 1,
		  "1 to 16" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"backoff\": 5 } ] }", 1, "array" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"backoff\": [-1] } ] }", 1,
		  "from 0" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"backoff\": [\"1\"] } ] }", 1,
		  "integer" },
		{ "{ \"rules\": [ { \"names\": \"a\", \"backoff\": "
		  "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17] } ] }",
		  1, "1 to 16" },
		{ "{ \"limits\": [] }", 1, "must be an object" },
		{ "{ \"limits\": { \"queue_messages\": -1 } }", 1, "must be from" },
		{ "{ \"limits\": { \"queue_messages\": 1.5 } }", 1,
		  "must be an integer" },
		{ "{ \"limits\": { \"queue_messages\": 99999999999999999999 } }", 1,
		  "must be an integer" },
		{ "{ \"socket\": \"relative\" }", 1, "absolute path" },
		{ "{ \"socket\": 5 }", 1, "must be a string, not an integer" },
		{ "{ \"socket\": {} }", 1, "must be a string, not an object" },
		{ "{ \"socket\": \"\" }", 1, "empty" },
		{ "{\n\"socket\": \"/" LETTERS_107 "\" }", 2,
		  "\"socket\" must have at most 107 bytes, not 108" },
		{ "{ \"state\": \"s\" }", 1, "absolute path" },
		{ "{ \"state\": true }", 1, "must be a string" },
		{ "{ \"mode\": \"root\" }", 1, "\"system\" or \"user\"" },
		{ "{ \"mode\": 1 }", 1, "must be a string, not an integer" },
		{ "{ \"log_level\": \"loud\" }", 1, "log_level" },
		{ "{ \"log_level\": [] }", 1, "must be a string" },
		{ "{ \"mode\": \"user\",\n\"mode\": \"system\" }", 2,
		  "the key \"mode\" stands twice" },
		{ "{ \"rules\": [\n{ \"m\\u006fde\": \"0\", \"mode\": \"0\" } ] }", 2,
		  "the key \"mode\" stands twice" },
		{ "{ \"" LETTERS_107 "\": 1, \"" LETTERS_107 "\": 1 }", 1,
		  ": a key stands twice" },
		{ "{\n\"rules\": [\n", 2, "ends too early" },
		{ "{\n\"rules\": [", 2, "ends too early" },
		{ "{}\n\nx", 3, "trailing" },
		{ "{}\n{}", 2, "" },
		{ "{\n\n?", 3, "" },
		{ "{ \"mode\": \"user\",\n}", 2, "" },
		{ "\n[]", 2, "not an object" },
		{ "// nothing\n", 1, "ends too early" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char place[160];

		if (load(rows[i].text) != -EINVAL)
			fail_msg("%s was taken", rows[i].text);
		snprintf(place, sizeof(place), "%s:%d: ", world.file, rows[i].line);
		if (strncmp(errors(), place, strlen(place)) != 0 ||
		    !strstr(errors(), rows[i].says))
			fail_msg("%s: %s", rows[i].text, errors());
		assert_int_equal(errors()[world.errors.size - 1], '\n');
	}
}

static void test_longest_socket(void **state)
{
	assert_loads("{ \"socket\": \"/" LETTERS_106 "\" }");
	assert_int_equal(strlen(world.config.socket), 107);
}

/* n-1, n, n+1 of both ends of each limit. */
static void test_limits_are_exact(void **state)
{
	for (size_t i = 0; i < limits_table_size; i++) {
		const struct limit_info *info = &limits_table[i];
		char text[160];

		if (info->offset == SIZE_MAX)
			continue;
		for (int d = -1; d <= 1; d++) {
			bool low = d >= 0 || info->min > 0;

			if (!low)
				continue;
			snprintf(text, sizeof(text), "{\"limits\":{\"%s\":%llu}}",
				 info->key,
				 (unsigned long long)(info->min + (uint64_t)(int64_t)d));
			assert_int_equal(load(text),
					 d < 0 || info->min + (uint64_t)(int64_t)d >
								 info->max
						 ? -EINVAL
						 : 0);
			snprintf(text, sizeof(text), "{\"limits\":{\"%s\":%llu}}",
				 info->key,
				 (unsigned long long)(info->max + (uint64_t)(int64_t)d));
			assert_int_equal(load(text), d > 0 ? -EINVAL : 0);
		}
	}
}

static void test_bad_utf8(void **state)
{
	assert_int_equal(load("{ \"socket\": \"/\xff\" }"), -EINVAL);
	assert_non_null(strstr(errors(), "UTF-8"));
	assert_null(strstr(errors(), ":0:"));
}

static void test_drop_ins(void **state)
{
	write_drop_in("20-b.conf",
		      "{ \"socket\": \"/b\", \"rules\": [ { \"names\": \"x\", "
		      "\"mode\": \"0622\" } ] }");
	write_drop_in("10-a.conf",
		      "{ \"socket\": \"/a\", \"state\": \"/s\",\n\"rules\": [ {"
		      " \"names\": \"x\" } ] }");
	write_drop_in("30-c.conf~", "{ wrong");
	write_drop_in(".conf", "{ wrong");
	write_drop_in(".hidden.conf", "{ wrong");
	write_drop_in("README", "wrong");
	assert_loads("{ \"socket\": \"/0\", \"mode\": \"user\","
		     "\"limits\": { \"max_attempts\": 3 } }");
	assert_string_equal(world.config.socket, "/b");
	assert_string_equal(world.config.state, "/s");
	assert_int_equal(world.config.limits.max_attempts, 3);
	assert_int_equal(world.config.rules.n, 2);
	assert_string_equal(world.config.rules.rules[0].where, "10-a.conf:2");
	assert_string_equal(world.config.rules.rules[1].where, "20-b.conf:1");
	assert_int_equal(rules_find(&world.config.rules, "x")->mode, 0622);
	write_drop_in("15.conf", "{\n\"x\": 1 }");
	assert_int_equal(load_file(), -EINVAL);
	assert_non_null(strstr(errors(), "ipcd.conf.d/15.conf:2: unknown key \"x\""));
}

static void test_drop_ins_without_file(void **state)
{
	write_drop_in("a.conf", "{ \"socket\": \"/a\" }");
	assert_int_equal(config_load(&world.config, world.file, false, &world.errors), 0);
	assert_string_equal(world.config.socket, "/a");
	assert_int_equal(load_file(), -ENOENT);
	assert_non_null(strstr(errors(), world.file));
}

static void test_drop_ins_that_are_no_directory(void **state)
{
	write_file(world.drop_ins, "{}", 2);
	assert_int_equal(load("{}"), -ENOTDIR);
	assert_non_null(strstr(errors(), "ipcd.conf.d"));
}

static void test_what_is_no_file(void **state)
{
	assert_int_equal(config_load(&world.config, world.file, false, &world.errors), 0);
	assert_int_equal(load_file(), -ENOENT);
	assert_int_equal(mkdir(world.file, 0755), 0);
	assert_int_equal(load_file(), -EINVAL);
	assert_non_null(strstr(errors(), "it is not a regular file"));
	assert_int_equal(rmdir(world.file), 0);
	assert_int_equal(mkfifo(world.file, 0600), 0);
	assert_int_equal(load_file(), -EINVAL);
	assert_non_null(strstr(errors(), "it is not a regular file"));
	assert_int_equal(unlink(world.file), 0);
	assert_int_equal(symlink("loop", world.file), 0);
	assert_int_equal(load_file(), -ENOENT);
}

static void test_empty_and_huge(void **state)
{
	enum { MAX = 1024 * 1024 };
	char *text = malloc(MAX + 1);

	assert_int_equal(load(""), -EINVAL);
	assert_non_null(strstr(errors(), "empty"));
	assert_non_null(text);
	memset(text, ' ', MAX + 1);
	memcpy(text, "{}", 2);
	write_file(world.file, text, MAX);
	assert_int_equal(load_file(), 0);
	write_file(world.file, text, MAX + 1);
	free(text);
	assert_int_equal(load_file(), -EFBIG);
	assert_non_null(strstr(errors(), "it has more than 1048576 bytes"));
}

static void test_unreadable(void **state)
{
	assert_loads("{}");
	assert_int_equal(chmod(world.file, 0), 0);
	assert_int_equal(chmod(world.dir, 0755), 0);
	if (geteuid() == 0)
		assert_int_equal(seteuid(4000001), 0);
	assert_int_equal(load_file(), -EACCES);
	/* also one that need not be there: it may say who must be kept out */
	assert_int_equal(config_load(&world.config, world.file, false, &world.errors),
			 -EACCES);
	(void)!seteuid(0);
}

static void dump_into(struct buf *out)
{
	assert_int_equal(config_dump(&world.config, out), 0);
	write_file(world.file, out->data, out->size);
	if (load_file() < 0)
		fail_msg("%.*s\n%s", (int)out->size, out->data, errors());
}

static void test_a_dump_can_be_loaded(void **state)
{
	static const char *const texts[] = {
		"{}",
		"{ \"socket\": \"/a\\\"\\\\\\n\\u00e4/*\", \"state\": \"//x\", \"mode\": \"user\","
		"\"log_level\": \"error\", \"limits\": { \"max_attempts\": 77 },"
		"\"rules\": [ { \"names\": \"**\" }, { \"names\": \"@root.**\","
		"\"owner\": \"5\", \"group\": \"6\", \"mode\": \"0062\","
		"\"queue_messages\": 3, \"backoff\": [1, 2, 3], \"lost_delay\": 0 } ] }",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_buf_ struct buf first = BUF_INIT;
		_cleanup_buf_ struct buf second = BUF_INIT;
		const struct rule *rule;

		assert_loads(texts[i]);
		dump_into(&first);
		dump_into(&second);
		assert_int_equal(config_dump(&world.config, &second), 0);
		if (!i)
			continue;
		assert_string_equal(world.config.socket, "/a\"\\\n\xc3\xa4/*");
		assert_string_equal(world.config.state, "//x");
		assert_true(world.config.has_mode && !world.config.system_mode);
		assert_int_equal(world.config.limits.max_attempts, 77);
		assert_int_equal(world.config.rules.n, 2);
		rule = &world.config.rules.rules[0];
		assert_false(rule->has_owner || rule->has_group || rule->has_mode);
		assert_int_equal(rule->settings.set, 0);
		rule++;
		assert_string_equal(rule->pattern, "@0.**");
		assert_int_equal(rule->owner, 5);
		assert_int_equal(rule->group, 6);
		assert_int_equal(rule->mode, 062);
		assert_int_equal(rule->settings.n_backoff, 3);
		assert_int_equal(rule->settings.set, SETTING_MAX_MESSAGES |
							     SETTING_LOST_DELAY |
							     SETTING_BACKOFF);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_files(test_all_keys),
		with_files(test_wrong_files),
		with_files(test_longest_socket),
		with_files(test_limits_are_exact),
		with_files(test_bad_utf8),
		with_files(test_drop_ins),
		with_files(test_drop_ins_without_file),
		with_files(test_drop_ins_that_are_no_directory),
		with_files(test_what_is_no_file),
		with_files(test_empty_and_huge),
		with_files(test_unreadable),
		with_files(test_a_dump_can_be_loaded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
