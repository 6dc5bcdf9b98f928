/* SPDX-License-Identifier: MIT */

/* The configuration of a real ipcd: it is checked, it never starts wrong, and a living daemon
 * reads it anew. */

#include "integration/harness.h"

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static char *config_path(void)
{
	return keep_printf("%s/ipcd.conf", server.dir);
}

static void write_config(const char *text)
{
	FILE *f = fopen(config_path(), "we");

	assert_non_null(f);
	assert_true(fputs(with_quotes(text), f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* Exit status of ipcd with these options; what it wrote goes to *ret_output. */
#define run(ret_output, ...)                                                   \
	run_ipcd(ret_output,                                                   \
		 (const char *const[]){ "--config", config_path(), "--socket", \
					server.socket, ##__VA_ARGS__, NULL })
static int run_ipcd(char **ret_output, const char *const *options)
{
	char *log = keep_printf("%s/output", server.dir);
	int status;

	unlink(log);
	status = wait_exit(server_spawn(options, log, NULL));
	*ret_output = read_file(log);
	return status;
}

static void test_check_config(void **state)
{
	static const char *const bad_texts[] = { "\\n\\u0000", "\\u12", "\\ud800",
						 "\\udc00",    "\xff",	"\v",
						 "\x01" };
	char *output;

	write_config("{ 'rules': [ { 'names': 'a' } ] }");
	assert_int_equal(run(&output, "--check-config"), 0);
	assert_non_null(strstr(output, "1 rules, no mistake found"));
	write_config("{\n\n'rules': [ { 'names': 'a', 'owner': 'no-such-user' } ] }");
	assert_int_equal(run(&output, "--check-config"), 1);
	assert_non_null(strstr(output, "ipcd.conf:3: there is no user \"no-such-user\""));
	write_config("{\n'rules': [\n");
	assert_int_equal(run(&output, "--check-config"), 1);
	assert_non_null(strstr(output, "ipcd.conf:2: it ends too early"));
	for (size_t i = 0; i < ARRAY_SIZE(bad_texts); i++) {
		write_config(keep_printf("{\n// '\n'mode': '%s'\n}\n", bad_texts[i]));
		assert_int_equal(run(&output, "--check-config"), 1);
		if (!strstr(output, "ipcd.conf:3: "))
			fail_msg("%s: %s", bad_texts[i], output);
	}
	assert_int_equal(unlink(config_path()), 0);
	assert_int_equal(run(&output, "--check-config"), 1);
	assert_non_null(strstr(output, "ipcd.conf: No such file or directory"));
}

static void test_a_wrong_configuration_never_starts(void **state)
{
	static const char *const texts[] = {
		"",
		"{",
		"{ 'x': 1 }",
		"{ 'rules': [ { 'names': 'a', 'group': 'no-such-group' } ] }",
		"{ 'rules': [ { 'names': '@no-such-user.**' } ] }",
		"{ 'limits': { 'queue_messages': 0 } }",
		"{ 'mode': 'open' }",
	};
	struct stat st;
	char *output;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		write_config(texts[i]);
		assert_int_equal(run(&output), 1);
		assert_non_null(strstr(output, "ipcd.conf"));
		assert_int_equal(stat(server.socket, &st), -1);
	}
}

static void test_dump_config(void **state)
{
	char *output, *again;

	write_config(
		"{ 'mode': 'user', 'rules': [ { 'names': '@root.*', 'mode': '0640' } ] }");
	assert_int_equal(run(&output, "--dump-config"), 0);
	assert_non_null(strstr(output, "\"names\": \"@0.*\""));
	FILE *f = fopen(config_path(), "we");
	assert_non_null(f);
	assert_true(fputs(output, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(run(&again, "--check-config"), 0);
	assert_int_equal(run(&again, "--dump-config"), 0);
}

static void test_what_the_file_says(void **state)
{
	struct client *c;

	write_config(
		"{ 'mode': 'system', 'limits': { 'queue_messages': 1, 'max_attempts': 2 } }");
	start("--config", config_path());
	c = client_connect();
	assert_string_equal(json_string(frame_line(list(c, "stats"), 0), "mode"),
			    "system");
	send_text(c, "q", "x");
	say(c, "{'op':'send','id':1,'queue':'q'}");
	hear_error(c, 1, "full");
}

/* ---- SIGHUP ---- */

/* says: what the log tells of it. */
static void reload(const char *text, const char *says)
{
	int before = log_count(says);

	write_config(text);
	kill(server.pid, SIGHUP);
	wait_for(log_count(says) > before);
}

#define reload_right(text) reload(text, "was read anew")
#define reload_wrong(text) reload(text, "the old one stays")

static void assert_room(struct client *c, const char *queue, int n)
{
	for (int i = 0; i < n; i++)
		send_text(c, queue, "x");
	say(c, "{'op':'send','id':1,'queue':'%s'}", queue);
	hear_error(c, 1, "full");
}

static void test_limits_change(void **state)
{
	struct client *c;

	write_config("{ 'limits': { 'queue_messages': 1 } }");
	start("--config", config_path());
	c = client_connect();
	assert_room(c, "q", 1);
	say(c, "{'op':'send','id':5,'queue':'q','wait_ms':-1}");
	hear_nothing(c);
	reload_right("{ 'limits': { 'queue_messages': 3 } }");
	hear_reply(c, 5); /* there is room now for who waits */
	assert_room(c, "q", 1);
	reload_right("{}");
	send_text(c, "q", "x");
	reload_right("{ 'rules': [ { 'names': 'q', 'queue_messages': 5 } ] }");
	assert_room(c, "q", 1);
}

static void say_ping(struct client *c, size_t size)
{
	say_body(c, keep(calloc(1, size)), size, "{'op':'ping','id':1}");
}

/* Also for connections that are there. */
static void test_body_max_changes(void **state)
{
	struct client *c;

	write_config("{ 'limits': { 'body_max': 300000 } }");
	start("--config", config_path());
	c = client_connect();
	say_ping(c, 400000);
	hear_error(c, 1, "too-large");
	reload_right("{ 'limits': { 'body_max': 500000 } }");
	say_ping(c, 400000);
	hear_reply(c, 1);
	reload_right("{ 'limits': { 'body_max': 1024 } }");
	say_ping(c, 1025);
	hear_error(c, 1, "too-large");
}

static bool is_known(struct client *c, int id)
{
	say(c, "{'op':'send','id':1,'queue':'q','dedup_id':'%d'}", id);
	return json_has(hear_reply(c, 1)->header, "duplicate");
}

/* What is remembered already is forgotten by the new limits, too. */
static void test_limits_of_ids_change(void **state)
{
	struct client *c;

	write_config("{}");
	start("--config", config_path());
	c = client_connect();
	for (int i = 0; i < 4; i++)
		assert_false(is_known(c, i));
	reload_right("{ 'limits': { 'dedup_ids': 2 } }");
	for (int i = 3; i >= 0; i--)
		assert_int_equal(is_known(c, i), i >= 2);
	assert_true(is_known(c, 0));
	reload_right("{ 'limits': { 'dedup_window': 1 } }");
	wait_for(!is_known(c, 0));
}

static void test_a_wrong_file_changes_nothing(void **state)
{
	static const char *const texts[] = {
		"",
		"{",
		"{ 'limits': { 'queue_messages': 9 }, 'x': 1 }",
		("{ 'limits': { 'queue_messages': 9 }, 'rules': [ { 'names': 'q', 'owner':"
		 "'no-such-user' } ] }"),
	};
	struct client *c;

	write_config("{ 'limits': { 'queue_messages': 2 } }");
	start("--config", config_path());
	c = client_connect();
	send_text(c, "q", "x");
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		reload_wrong(texts[i]);
	assert_true(log_count("ipcd.conf:1: unknown key \"x\"") == 1);
	unlink(config_path());
	kill(server.pid, SIGHUP);
	wait_for(log_count("the old one stays") == (int)ARRAY_SIZE(texts) + 1);
	assert_room(c, "q", 1);
	reload_right("{ 'limits': { 'queue_messages': 3 } }");
	assert_room(c, "q", 1);
}

static void test_the_command_line_goes_first(void **state)
{
	struct client *c;

	write_config("{ 'limits': { 'queue_messages': 5 }, 'log_level': 'error' }");
	start("--config", config_path(), "--limit", "queue_messages=2");
	c = client_connect();
	assert_room(c, "q", 2);
	reload_right("{ 'limits': { 'queue_messages': 9 }, 'log_level': 'error' }");
	assert_room(c, "q", 0);
	assert_string_equal(json_string(frame_line(list(c, "stats"), 0), "log_level"),
			    "info");
}

static void test_rights_change(void **state)
{
	struct client *root, *ann, *sender;
	struct frame *leased;

	skip_unless_root();
	write_config("{ 'rules': [ { 'names': 'q', 'mode': '0666' },"
		     "{ 'names': 'one', 'mode': '0622', 'queue_messages': 1 } ] }");
	start("--system", "--config", config_path());
	root = client_connect();
	ann = client_connect_as(stranger(0));
	sender = client_connect_as(stranger(1));
	send_text(root, "q", "before");
	say(ann, "{'op':'receive','id':3,'queue':'q','max':0,'wait_ms':-1}");
	leased = hear_delivery(ann, 3, "before");
	say(ann, "{'op':'receive','id':4,'queue':'@%u','wait_ms':-1}", stranger(0));
	send_text(sender, "one", "x");
	say(sender, "{'op':'send','id':5,'queue':'one','wait_ms':-1}");
	say(sender, "{'op':'send','id':6,'queue':'one','wait_ms':-1,'confirm':'acked'}");
	hear_nothing(ann);
	hear_nothing(sender);
	reload_wrong("{ 'rules': [ { 'names': 'q', 'mode': '0600', 'typo': 1 } ] }");
	hear_nothing(ann);
	hear_nothing(sender);
	reload_right("{ 'rules': [ { 'names': 'q', 'mode': '0622' },"
		     "{ 'names': 'one', 'mode': '0600', 'queue_messages': 1 } ] }");
	hear_error(ann, 3, "denied");
	hear_error(sender, 5, "denied");
	hear_error(sender, 6, "denied");
	hear_nothing(sender);
	settle(ann, "ack", leased, ""); /* what one had in hand may be finished */
	say(ann, "{'op':'receive','id':5,'queue':'q'}");
	hear_error(ann, 5, "denied");
	send_text(ann, "q", "still");
	send_text(root, keep_printf("@%u", stranger(0)), "untouched");
	hear_delivery(ann, 4, "untouched");
	/* without rules all is closed */
	reload_right("{}");
	hear_end(ann, 4, "max");
	say(ann, "{'op':'send','id':6,'queue':'q'}");
	hear_error(ann, 6, "denied");
	reload_right("{ 'rules': [ { 'names': 'q', 'owner': '4000001' } ] }");
	take(ann, "q", "still");
}

/* A refusal tells what decides, also where the name is not there yet, and makes nothing. */
static void test_a_refusal_tells_the_rule(void **state)
{
	static const struct {
		const char *request, *says;
	} rows[] = {
		{ "{'op':'send','id':1,'queue':'news'}",
		  "may not send to news (mode 0644, owner root; " },
		{ "{'op':'receive','id':1,'queue':'jobs'}",
		  "may not receive from jobs (mode 0622, owner root; " },
		{ "{'op':'send','id':1,'queue':'shut'}",
		  "may not use shut (mode 0600, owner root; " },
	};
	struct client *root, *ann;

	skip_unless_root();
	write_config("{ 'rules': [\n{ 'names': 'news', 'mode': '0644' },\n"
		     "{ 'names': 'jobs', 'mode': '0622' },\n"
		     "{ 'names': 'shut', 'mode': '0600' } ] }");
	start("--system", "--config", config_path());
	root = client_connect();
	hear_nothing(root); /* its name has been looked up */
	ann = client_connect_as(stranger(0));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *message;

		say(ann, "%s", with_quotes(rows[i].request));
		message = json_string(hear_error(ann, 1, "denied")->header, "message");
		assert_non_null(strstr(message, rows[i].says));
		assert_non_null(strstr(message, keep_printf("ipcd.conf:%zu)", i + 2)));
	}
	assert_null(frame_line(list(root, "names"), 0));
}

/* What was set by hand no rule changes; what was not follows. */
static void test_names_that_were_set(void **state)
{
	struct client *root;

	skip_unless_root();
	write_config("{ 'rules': [ { 'names': '*', 'mode': '0666', 'group': '7' } ] }");
	start("--system", "--config", config_path());
	root = client_connect();
	send_text(root, "a", "x");
	send_text(root, "b", "x");
	say(root, "{'op':'set','id':1,'name':'b','mode':'0644','queue_messages':1}");
	hear_reply(root, 1);
	reload_right(
		"{ 'rules': [ { 'names': '*', 'mode': '0622', 'queue_messages': 2 } ] }");
	say(root, "{'op':'names','id':1}");
	const char *lines = hear_reply(root, 1)->body;
	assert_non_null(strstr(lines, "\"0622\""));
	assert_non_null(strstr(lines, "\"0644\""));
	assert_room(root, "a", 1);
	assert_room(root, "b", 0);
}

/* Owner and group of a rule go with the rule. */
static void test_what_a_rule_gave(void **state)
{
	struct client *root;
	const char *line;

	skip_unless_root();
	write_config(
		"{ 'rules': [ { 'names': 'q', 'owner': '4000001', 'group': '7' } ] }");
	start("--system", "--config", config_path());
	root = client_connect();
	send_text(root, "q", "x");
	assert_int_equal(queue_count("q", "owner_uid"), stranger(0));
	assert_int_equal(queue_count("q", "group"), 7);
	reload_right(
		"{ 'rules': [ { 'names': 'q', 'owner': '4000002', 'mode': '0660' } ] }");
	assert_int_equal(queue_count("q", "owner_uid"), stranger(1));
	line = frame_line(list(root, "names"), 0);
	assert_int_not_equal(json_int(line, "group"), 7);
	assert_int_not_equal(json_int(line, "group"), 0);
	reload_right("{}");
	line = frame_line(list(root, "names"), 0);
	assert_int_equal(json_int(line, "owner_uid"), 0);
	assert_int_equal(json_int(line, "group"), 0);
	assert_string_equal(json_string(line, "mode"), "0600");
}

static void test_many_reloads_at_once(void **state)
{
	write_config("{ 'limits': { 'queue_messages': 1 } }");
	start("--config", config_path());
	for (int i = 0; i < 200; i++)
		kill(server.pid, SIGHUP);
	write_config("{ 'limits': { 'queue_messages': 2 } }");
	kill(server.pid, SIGHUP);
	wait_for(log_count("was read anew") > 0);
	hear_nothing(client_connect());
	kill(server.pid, SIGHUP); /* and the stop overtakes this one */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_check_config),
		it(test_a_wrong_configuration_never_starts),
		it(test_dump_config),
		it(test_what_the_file_says),
		it(test_limits_change),
		it(test_limits_of_ids_change),
		it(test_body_max_changes),
		it(test_a_wrong_file_changes_nothing),
		it(test_the_command_line_goes_first),
		it(test_rights_change),
		it(test_a_refusal_tells_the_rule),
		it(test_names_that_were_set),
		it(test_what_a_rule_gave),
		it(test_many_reloads_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
