/* SPDX-License-Identifier: MIT */

/* Names that outlive the daemon with owner, mode and settings; queues whose messages live
 * in memory only, and messages that go between the two kinds. */

#include "integration/durable.h"

#include <pwd.h>

static struct client *c;

static const char *name_line(const char *name)
{
	const char *line;

	say(c, "{'op':'names','id':1,'name':'%s'}", name);
	line = frame_line(hear_reply(c, 1), 0);
	return line;
}

/* ---- owner, group, mode ---- */

static void write_config(const char *rules)
{
	FILE *f = fopen(keep_printf("%s/ipcd.conf", server.dir), "we");

	assert_non_null(f);
	assert_true(fprintf(f, "{ \"rules\": [ %s ] }", with_quotes(rules)) > 0);
	assert_int_equal(fclose(f), 0);
}

#define CONFIG AT_ONCE, "--config", keep_printf("%s/ipcd.conf", server.dir), "--system"

static void check_owner(const char *name, uid_t owner, const char *mode)
{
	const char *line = name_line(name);

	assert_int_equal(json_int(line, "owner_uid"), owner);
	assert_string_equal(json_string(line, "mode"), mode);
}

static uid_t uid_of(const char *user)
{
	const struct passwd *entry = getpwnam(user);

	assert_non_null(entry);
	return entry->pw_uid;
}

static void make_names(void)
{
	c = client_connect();
	say(c, "{'op':'create','id':1,'name':'by.rule'}");
	hear_reply(c, 1);
	say(c,
	    "{'op':'create','id':1,'name':'by.hand','mode':'0640','owner':%u,"
	    "'group':%u}",
	    stranger(1), stranger(2));
	hear_reply(c, 1);
	say(c, "{'op':'create','id':1,'name':'set.later'}");
	hear_reply(c, 1);
	say(c, "{'op':'set','id':1,'name':'set.later','mode':'0666'}");
	hear_reply(c, 1);
	send_text(c, "plain", "x");
}

static void test_owner_and_mode(void **state)
{
	skip_unless_root();
	write_config("{'names':'by.*','owner':'daemon','mode':'0660'}");
	start_durable(CONFIG);
	make_names();
	check_owner("by.rule", uid_of("daemon"), "0660");
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		restart(how, CONFIG);
		c = client_connect();
		check_owner("by.rule", uid_of("daemon"), "0660");
		check_owner("by.hand", stranger(1), "0640");
		assert_int_equal(json_int(name_line("by.hand"), "group"), stranger(2));
		check_owner("set.later", 0, "0666");
		check_owner("plain", 0, "0600");
	}
}

/* What was not set by hand follows the rules, which may have changed meanwhile. */
static void test_rules_change_meanwhile(void **state)
{
	skip_unless_root();
	write_config("{'names':'by.*','owner':'daemon','mode':'0660'}");
	start_durable(CONFIG);
	make_names();
	write_config(
		"{'names':'by.*','owner':'bin','mode':'0622'},"
		"{'names':'set.later','mode':'0600'},{'names':'plain','mode':'0644'}");
	restart(CRASH, CONFIG);
	c = client_connect();
	check_owner("by.rule", uid_of("bin"), "0622");
	check_owner("by.hand", stranger(1), "0640");
	check_owner("set.later", 0, "0666");
	check_owner("plain", 0, "0644");
	write_config("");
	restart(ORDERLY, CONFIG);
	c = client_connect();
	check_owner("by.rule", 0, "0600");
	check_owner("plain", 0, "0600");
}

static void test_names_of_users(void **state)
{
	struct client *ann;

	skip_unless_root();
	start_durable(AT_ONCE, "--system");
	ann = client_connect_as(stranger(0));
	send_text(ann, keep_printf("@%u.jobs", stranger(0)), "x");
	send_text(ann, keep_printf("@%u", stranger(1)), "for bob");
	restart(CRASH, AT_ONCE, "--system");
	ann = client_connect_as(stranger(0));
	take(ann, keep_printf("@%u.jobs", stranger(0)), "x");
	take(client_connect_as(stranger(1)), keep_printf("@%u", stranger(1)), "for bob");
	c = client_connect();
	check_owner(keep_printf("@%u", stranger(1)), stranger(1), "0622");
}

/* ---- settings ---- */

static void send_fails(const char *queue, const char *word)
{
	say_text(c, "x", "{'op':'send','id':9,'queue':'%s'}", queue);
	hear_error(c, 9, word);
}

static void test_settings(void **state)
{
	start_durable(AT_ONCE);
	c = client_connect();
	say(c, "{'op':'create','id':1,'name':'small','queue_messages':2,"
	       "'max_attempts':2,'backoff':[0,31536000000000]}");
	hear_reply(c, 1);
	send_text(c, "default", "x");
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		struct frame *f;

		restart(how, AT_ONCE, "--limit", "max_attempts=1");
		c = client_connect();
		send_text(c, "small", "a");
		send_text(c, "small", "b");
		send_fails("small", "full");
		settle(c, "nack", take(c, "small", "a"), "");
		f = take(c, "small", "a"); /* the backoff's first step is 0 */
		settle(c, "nack", f, "");
		assert_int_equal(queue_count("small", "dead"), 1);
		say(c, "{'op':'purge','id':1,'name':'small','state':'all'}");
		hear_reply(c, 1);
	}
	settle(c, "nack", take(c, "default", "x"), "");
	assert_int_equal(queue_count("default", "dead"), 1);
}

static void test_deleted_names_stay_away(void **state)
{
	start_durable(AT_ONCE);
	c = client_connect();
	say(c, "{'op':'create','id':1,'name':'q','max_attempts':2}");
	hear_reply(c, 1);
	send_text(c, "q", "x");
	say(c, "{'op':'delete','id':1,'name':'q'}");
	hear_reply(c, 1);
	send_text(c, "other", "y");
	restart(CRASH, AT_ONCE);
	c = client_connect();
	say(c, "{'op':'names','id':1,'name':'q'}");
	hear_error(c, 1, "not-found");
	take_nothing(c, "q");
	take(c, "other", "y");
}

/* ---- memory queues ---- */

static void test_memory_queue_and_orderly_stop(void **state)
{
	char *before;

	start_durable(AT_ONCE);
	c = client_connect();
	create_volatile(c, "m");
	say_text(c, "x",
		 "{'op':'send','id':1,'queue':'m','meta':{'a':1},'priority':1,"
		 "'ttl_ms':31536000000000}");
	hear_reply(c, 1);
	send_text(c, "m", "y");
	settle(c, "reject", take(c, "m", "x"), "");
	before = describe_queue("m");
	for (int i = 0; i < 3; i++) {
		restart(ORDERLY, AT_ONCE);
		assert_string_equal(describe_queue("m"), before);
		c = client_connect();
		assert_non_null(strstr(name_line("m"), "\"durable\":false"));
	}
	settle(c, "ack", take(c, "m", "y"), "");
	restart(ORDERLY, AT_ONCE);
	assert_int_equal(queue_count("m", "ready"), 0);
	assert_int_equal(queue_count("m", "dead"), 1);
}

/* Kept once is not kept for ever: what came back from the disk is in memory only. */
static void test_memory_queue_and_crash(void **state)
{
	start_durable(AT_ONCE);
	c = client_connect();
	create_volatile(c, "m");
	send_text(c, "m", "x");
	restart(CRASH, AT_ONCE);
	assert_int_equal(queue_count("m", "ready"), 0);
	c = client_connect();
	send_text(c, "m", "y");
	restart(ORDERLY, AT_ONCE);
	assert_int_equal(queue_count("m", "ready"), 1);
	restart(CRASH, AT_ONCE);
	assert_int_equal(queue_count("m", "ready"), 0);
	restart(ORDERLY, AT_ONCE);
	assert_int_equal(queue_count("m", "ready"), 0);
}

/* The kind of a queue decides for what is sent from then on. */
static void test_durable_and_back(void **state)
{
	start_durable(AT_ONCE);
	c = client_connect();
	send_text(c, "q", "first");
	set_durable(c, "q", false);
	send_text(c, "q", "lost");
	restart(CRASH, AT_ONCE);
	c = client_connect();
	assert_int_equal(queue_count("q", "ready"), 1);
	send_text(c, "q", "kept");
	set_durable(c, "q", true);
	send_text(c, "q", "last");
	restart(ORDERLY, AT_ONCE); /* now "kept" is in the queue's store for good */
	restart(CRASH, AT_ONCE);
	c = client_connect();
	take(c, "q", "first");
	take(c, "q", "kept");
	take(c, "q", "last");
}

static void move_all(const char *from, const char *to)
{
	say(c, "{'op':'move','id':1,'name':'%s','to':'%s','state':'all'}", from, to);
	hear_reply(c, 1);
}

static void test_move_to_a_memory_queue(void **state)
{
	char *large = keep(calloc(300001, 1));

	memset(large, 'l', 300000);
	start_durable(AT_ONCE);
	c = client_connect();
	create_volatile(c, "m");
	send_text(c, "q", large);
	send_text(c, "q", "x");
	move_all("q", "m");
	restart(ORDERLY, AT_ONCE);
	c = client_connect();
	assert_int_equal(queue_count("m", "ready"), 2);
	move_all("m", "q");
	move_all("q", "m");
	restart(CRASH, AT_ONCE);
	assert_int_equal(queue_count("m", "ready"), 0);
	assert_int_equal(queue_count("q", "ready"), 0);
}

static void test_move_to_a_durable_queue(void **state)
{
	char *large = keep(calloc(300001, 1));

	memset(large, 'l', 300000);
	start_durable(AT_ONCE);
	c = client_connect();
	create_volatile(c, "m");
	send_text(c, "m", large);
	say_text(c, "x", "{'op':'send','id':1,'queue':'m','meta':{'a':1}}");
	hear_reply(c, 1);
	move_all("m", "q");
	move_all("q", "m");
	move_all("m", "q");
	for (int i = 0; i < 2; i++) {
		restart(CRASH, AT_ONCE);
		assert_int_equal(queue_count("q", "ready"), 2);
		assert_int_equal(queue_count("m", "ready"), 0);
	}
	c = client_connect();
	settle(c, "ack", take(c, "q", large), "");
	assert_true(json_has(take(c, "q", "x")->header, "meta.a"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_owner_and_mode),	  it(test_rules_change_meanwhile),
		it(test_names_of_users),	  it(test_settings),
		it(test_deleted_names_stay_away), it(test_memory_queue_and_orderly_stop),
		it(test_memory_queue_and_crash),  it(test_durable_and_back),
		it(test_move_to_a_memory_queue),  it(test_move_to_a_durable_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
