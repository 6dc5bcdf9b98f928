/* SPDX-License-Identifier: MIT */

/*
 * A disk that fails, on the model of powercut_disk.c, under load: what ipcd answers with
 * success is safe all the same, the rest is said to have failed, and it recovers by itself.
 */

#include "integration/durable.h"

#include <inttypes.h>
#include <signal.h>

#include "base/clock.h"
#include "integration/harness_crash.h"
#include "integration/harness_load.h"
#include "integration/harness_powercut.h"

enum {
	ROUNDS = 6, /* of a test, at least */
	FIRST_SYNCS = 12,
	ROOM_MAX = 300000,
	N_QUEUED = 2000,
};
#define SOME 40ul /* sends */

static uint64_t choice, rounds_end;

static unsigned int below(unsigned int n)
{
	return (unsigned int)random_below(&choice, n);
}

static void setup(void)
{
	const char *seconds = getenv("CRASH_SECONDS");

	powercut_setup();
	choice = random_seed();
	rounds_end = deadline_after(clock_ns(CLOCK_MONOTONIC),
				    seconds ? 1000 * strtoul(seconds, NULL, 10) / 2 : 0);
	powercut->seed = choice;
	powercut->sync_us = 200;
	load_begin(choice + 1);
}

static bool is_enough(int rounds)
{
	return rounds >= ROUNDS && clock_ns(CLOCK_MONOTONIC) >= rounds_end;
}

/* Load until the condition holds. */
#define run_until(condition)                                                            \
	do {                                                                            \
		uint64_t run_until_end_ = wait_deadline();                              \
		while (!(condition)) {                                                  \
			if (!load_turn())                                               \
				fail_at(HERE, "ipcd has gone");                         \
			if (clock_ns(CLOCK_MONOTONIC) > run_until_end_)                 \
				fail_at(HERE, "never came true: %s (%d left, %squiet)", \
					#condition, load_counts()->left,                \
					load_is_quiet() ? "" : "not ");                 \
		}                                                                       \
	} while (0)

#define run_for_sends(n)                                       \
	do {                                                   \
		uint64_t enough_ = load_counts()->sends + (n); \
		run_until(load_counts()->sends >= enough_);    \
	} while (0)

static void start_load(void)
{
	crash_start(true);
	assert_true(load_connect());
}

/* It was killed, or is about to be. */
static void end_load(void)
{
	while (load_turn())
		;
	load_disconnect();
}

static void lose_all(void)
{
	crash_lose_all();
	end_load();
}

/* The power goes, and everything is taken out that then is there. */
static void cut_and_settle(void)
{
	lose_all();
	load_produce(false);
	load_expect(NULL);
	start_load();
	run_until(load_is_quiet());
	load_disconnect();
	load_settle();
	assert_int_equal(crash_count_bad_files(), 0);
	load_end();
}

/* ---- fsync fails ---- */

static void fail_a_sync(void)
{
	long before = powercut->errors;

	powercut->syncs_to_error = 1 + below(8);
	run_until(powercut->errors > before);
}

static void test_a_sync_fails_once(void **state)
{
	setup();
	start_load();
	run_for_sends(SOME);
	load_expect("internal");
	for (int i = 0; !is_enough(i); i++) {
		size_t mark = keep_mark();

		fail_a_sync();
		run_for_sends(SOME);
		if (below(3) == 0) {
			lose_all();
			start_load();
		}
		keep_release(mark);
	}
	print_message("%ld syncs failed, and %" PRIu64 " sends, %" PRIu64 " acks\n",
		      powercut->errors, load_counts()->refused_sends,
		      load_counts()->refused_acks);
	assert_true(load_counts()->refused_sends > 0);
	assert_true(log_count("<3>") > 0);
	cut_and_settle();
}

/* After a failure the file is written anew, and the power goes in the midst of that. */
static void test_cuts_while_the_file_is_written_anew(void **state)
{
	setup();
	load_expect("internal");
	for (int i = 0; !is_enough(i / 2); i++) {
		size_t mark = keep_mark();

		start_load();
		run_for_sends(SOME / 2);
		powercut->process_only = below(4) == 0;
		fail_a_sync();
		if (below(2))
			powercut->changes_to_cut = 1 + below(100);
		else
			powercut->syncs_to_cut = 1 + below(12);
		end_load();
		crash_expect(KILLED);
		keep_release(mark);
	}
	start_load();
	cut_and_settle();
}

/* Several in a row: those that are to repair it fail too. */
static void test_syncs_fail_for_a_while(void **state)
{
	setup();
	start_load();
	run_for_sends(SOME);
	load_expect("internal");
	powercut->errors_left = 6;
	powercut->syncs_to_error = 1 + below(8);
	run_until(!powercut->syncs_to_error);
	run_for_sends(SOME);
	assert_true(load_counts()->refused_sends > 0);
	cut_and_settle();
}

/* The first ones of a new state: it does not start, or it starts and has kept its word. */
static void test_a_sync_fails_at_the_start(void **state)
{
	setup();
	load_expect("internal");
	for (long i = 1; i <= FIRST_SYNCS; i++) {
		int ready;

		powercut->syncs_to_error = i;
		crash_spawn(true, &ready);
		if (!crash_wait_ready(ready)) {
			crash_expect(1);
			continue;
		}
		assert_true(load_connect());
		run_for_sends(SOME);
		lose_all();
	}
	powercut->syncs_to_error = 0;
	start_load();
	cut_and_settle();
}

/* ---- the disk is full ---- */

static void fill_disk(long room)
{
	powercut->room = room;
	powercut->is_limited = 1;
	load_expect("no-space");
}

/* All that is there can still be taken and acknowledged. */
static void take_what_is_left(void)
{
	load_produce(false);
	run_until(load_is_quiet() && load_counts()->left == 0);
	load_produce(true);
}

static void test_the_disk_is_full(void **state)
{
	setup();
	start_load();
	for (int i = 0; i < 2; i++) {
		uint64_t refused = load_counts()->refused_sends;

		run_for_sends(SOME);
		fill_disk(below(ROOM_MAX));
		run_until(load_counts()->refused_sends > refused + SOME);
		take_what_is_left();
		assert_int_equal(load_counts()->refused_acks, 0);
		/* more than what ipcd keeps for this case */
		powercut->room = 16 << 20;
		run_for_sends(SOME);
		powercut->is_limited = 0;
		load_expect(NULL);
		if (i == 0) {
			lose_all();
			start_load();
		}
	}
	assert_true(log_count("<3>") > 0);
	cut_and_settle();
}

/* More acks than the reserve would hold, if each of them took room. */
static void test_many_acks_on_a_full_disk(void **state)
{
	static int64_t numbers[N_QUEUED];
	struct client *c;
	char body[3000];

	setup();
	memset(body, 'x', sizeof(body));
	crash_start(true);
	c = client_connect();
	for (int i = 0; i < N_QUEUED; i++)
		say_body(c, body, sizeof(body), "{'op':'send','id':%d,'queue':'q'}", i);
	for (int i = 0; i < N_QUEUED; i++)
		hear_reply(c, (uint64_t)i);
	fill_disk(below(ROOM_MAX));
	do
		say_body(c, body, sizeof(body), "{'op':'send','id':1,'queue':'r'}");
	while (!json_has(hear(c)->header, "error"));
	say(c, "{'op':'receive','id':2,'queue':'q','max':%d,'window':%d}", N_QUEUED,
	    N_QUEUED);
	for (int i = 0; i < N_QUEUED; i++)
		numbers[i] = json_int(hear_reply(c, 2)->header, "message");
	hear_end(c, 2, "max");
	for (int i = 0; i < N_QUEUED; i++) {
		say(c, "{'op':'ack','id':3,'message':%" PRId64 "}", numbers[i]);
		hear_reply(c, 3);
	}
	client_close(c);
	crash_lose_all();
	crash_start(true);
	assert_int_equal(queue_count("q", "ready"), 0);
	load_end();
}

/* Also what was put by is used up: what was done is done all the same, and nobody is told
 * that it was not. */
static void test_a_verdict_that_is_not_written(void **state)
{
	const char *reserve = keep_printf("%s/reserve", server.state);
	struct client *c, *sender;
	struct frame *f;

	setup();
	crash_start(true);
	assert_int_equal(unlink(reserve), 0);
	fill_disk(100000);
	c = client_connect();
	sender = client_connect();
	send_text(c, "q", "first");
	say_text(sender, "x", "{'op':'send','id':1,'queue':'r','confirm':'acked'}");
	wait_queue_count("r", "ready", 1);
	do
		say_text(c, "x", "{'op':'send','id':1,'queue':'s'}");
	while (!json_has((f = hear(c))->header, "error"));
	assert_string_equal(json_string(f->header, "error"), "no-space");
	f = take(c, "q", "first");
	say(c, "{'op':'ack','id':1,'message':%" PRId64 "}",
	    json_int(f->header, "message"));
	hear_error(c, 1, "internal");
	f = take(c, "r", "x");
	say(c, "{'op':'ack','id':1,'message':%" PRId64 "}",
	    json_int(f->header, "message"));
	hear_error(c, 1, "internal");
	hear_error(sender, 1, "internal");
	assert_int_equal(queue_count("q", "leased"), 0);
	powercut->is_limited = 0;
	do
		say_text(c, "x", "{'op':'send','id':1,'queue':'s'}");
	while (json_has(hear(c)->header, "error"));
	assert_int_equal(access(reserve, F_OK), 0); /* it is there for the next time */
	client_close(c);
	client_close(sender);
	crash_lose_all();
	crash_start(true);
	assert_int_equal(queue_count("q", "ready"), 0);
	assert_int_equal(queue_count("r", "ready"), 0);
	load_end();
}

/* Purging and deleting make room, they must not need any. */
static void test_purge_and_delete_on_a_full_disk(void **state)
{
	struct client *c;
	size_t size = 100000;
	char *body = keep(calloc(1, size));

	setup();
	crash_start(true);
	c = client_connect();
	for (int i = 0; i < 40; i++) {
		say_body(c, body, size, "{'op':'send','id':1,'queue':'%s'}",
			 i % 2 ? "odd" : "even");
		hear_reply(c, 1);
	}
	fill_disk(0);
	do
		say_body(c, body, size, "{'op':'send','id':1,'queue':'odd'}");
	while (!json_has(hear(c)->header, "error"));
	say(c, "{'op':'purge','id':2,'name':'odd'}");
	hear_reply(c, 2);
	say(c, "{'op':'delete','id':3,'name':'even','force':true}");
	hear_reply(c, 3);
	assert_int_equal(queue_count("odd", "ready"), 0);
	powercut->is_limited = 0;
	for (bool stored = false; !stored;) {
		say_text(c, "x", "{'op':'send','id':4,'queue':'odd'}");
		stored = !json_has(hear(c)->header, "error");
	}
	client_close(c);
	crash_lose_all();
	crash_start(true);
	assert_int_equal(queue_count("odd", "ready"), 1);
	assert_int_equal(stats_count("messages"), 1);
	load_end();
}

/* How it was stopped before: in order, killed, by a power cut. */
static void check_start_on_full_disk(int how)
{
	uint64_t refused;

	setup();
	start_load();
	run_for_sends(3 * SOME);
	load_produce(false);
	run_until(load_is_quiet());
	powercut->process_only = how == 1;
	if (how == 0)
		kill(server.pid, SIGTERM);
	else
		powercut_now();
	end_load();
	crash_expect(how == 0 ? 0 : KILLED);
	fill_disk(0);
	start_load();
	take_what_is_left();
	refused = load_counts()->refused_sends;
	run_until(load_counts()->refused_sends > refused + SOME);
	take_what_is_left();
	powercut->is_limited = 0;
	run_for_sends(SOME);
	cut_and_settle();
}

static void test_start_on_a_full_disk(void **state)
{
	check_start_on_full_disk(0);
}

static void test_start_on_a_full_disk_after_a_kill(void **state)
{
	check_start_on_full_disk(1);
}

static void test_start_on_a_full_disk_after_a_cut(void **state)
{
	check_start_on_full_disk(2);
}

/* ---- at the stop ---- */

/* A memory queue is kept also where the last commit fails, as all is written anew then; or
 * that failed before, and nobody has tried again. */
static void check_kept_at_the_stop(bool broken)
{
	struct client *c;

	setup();
	powercut_preload(true);
	start_durable(AT_ONCE);
	powercut_preload(false);
	c = client_connect();
	create_volatile(c, "m");
	send_text(c, "m", "in memory");
	say_text(c, "also", "{'op':'send','id':1,'queue':'m','dedup_id':'a'}");
	hear_reply(c, 1);
	send_text(c, "q", "durable");
	powercut->errors_left = broken ? 2 : 1;
	powercut->syncs_to_error = 1;
	if (broken) {
		say_text(c, "x", "{'op':'send','id':1,'queue':'q'}");
		hear_error(c, 1, "internal");
		wait_for(powercut->errors == 2);
	}
	client_close(c);
	kill(server.pid, SIGTERM);
	crash_expect(0);
	assert_int_equal(powercut->errors, broken ? 2 : 1);
	start_durable(AT_ONCE);
	c = client_connect();
	take(c, "m", "in memory");
	say_text(c, "also", "{'op':'send','id':1,'queue':'m','dedup_id':'a'}");
	assert_true(json_has(hear_reply(c, 1)->header, "duplicate"));
	take(c, "m", "also");
	take(c, "q", "durable");
	load_end();
}

static void test_the_last_commit_fails(void **state)
{
	check_kept_at_the_stop(false);
}

static void test_a_stop_while_the_store_is_broken(void **state)
{
	check_kept_at_the_stop(true);
}

/* ---- fsync does not return ---- */

static void prepare_the_stop(struct client *acker)
{
	struct client *c = client_connect();

	send_text(c, "handed", "x");
	take(acker, "handed", "x");
	send_text(c, "purged", "x");
	send_text(c, "moved", "x");
	say(c, "{'op':'create','id':1,'name':'deleted'}");
	hear_reply(c, 1);
	say(c, "{'op':'create','id':1,'name':'full','queue_messages':1}");
	hear_reply(c, 1);
	send_text(c, "full", "x");
}

static const char *error_text(const struct frame *f)
{
	return json_string(f->header, "message");
}

/* What waits for the disk in vain may be there after the start, or not: nobody is told that
 * it was refused. Here all of it is there. */
static void test_a_stop_while_the_disk_hangs(void **state)
{
	static const char *const acts[] = {
		"{'op':'ack','id':1,'message':1}",
		"{'op':'send','id':1,'queue':'sent'}",
		"{'op':'send','id':1,'queue':'sent','confirm':'acked'}",
		"{'op':'create','id':1,'name':'created'}",
		"{'op':'set','id':1,'name':'full','lost_delay':77}",
		"{'op':'delete','id':1,'name':'deleted'}",
		"{'op':'purge','id':1,'name':'purged'}",
		"{'op':'move','id':1,'name':'moved','to':'elsewhere','state':'all'}",
	};
	struct client *who[ARRAY_SIZE(acts)], *no_id, *waits, *outcome;
	long syncs;

	setup();
	powercut_preload(true);
	start_durable(AT_ONCE, "--limit", "shutdown_deadline=100");
	powercut_preload(false);
	for (size_t i = 0; i < ARRAY_SIZE(acts); i++)
		who[i] = client_connect();
	no_id = client_connect();
	waits = client_connect();
	outcome = client_connect();
	prepare_the_stop(who[0]);
	say_text(outcome, "x", "{'op':'send','id':1,'queue':'q','confirm':'acked'}");
	wait_queue_count("q", "ready", 1);

	powercut->sync_us = 1000000;
	syncs = powercut->syncs;
	for (size_t i = 0; i < ARRAY_SIZE(acts); i++)
		say_text(who[i], strstr(acts[i], "send") ? "x" : "", "%s",
			 with_quotes(acts[i]));
	say_text(no_id, "x", "{'op':'send','queue':'sent'}");
	say_text(waits, "x", "{'op':'send','id':1,'queue':'full','wait_ms':-1}");
	hear_nothing(waits);
	wait_for(powercut->syncs > syncs);
	kill(server.pid, SIGTERM);
	for (size_t i = 0; i < ARRAY_SIZE(acts); i++)
		assert_non_null(strstr(error_text(hear_error(who[i], 1, "internal")),
				       "not known"));
	hear_notice(no_id, "internal");
	assert_non_null(
		strstr(error_text(hear_error(waits, 1, "shutting-down")), "not taken"));
	assert_non_null(strstr(error_text(hear_error(outcome, 1, "shutting-down")),
			       "stays in the queue"));
	powercut->sync_us = 0;
	crash_expect(0);

	start_durable(AT_ONCE);
	assert_int_equal(queue_count("handed", "ready"), 0);
	assert_int_equal(queue_count("sent", "ready"), 3);
	assert_int_equal(queue_count("q", "ready"), 1);
	assert_int_equal(queue_count("created", "ready"), 0);
	assert_int_equal(queue_count("full", "ready"), 1);
	assert_int_equal(queue_count("full", "lost_delay"), 77);
	assert_int_equal(queue_count("purged", "ready"), 0);
	assert_int_equal(queue_count("moved", "ready"), 0);
	assert_int_equal(queue_count("elsewhere", "ready"), 1);
	load_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_a_sync_fails_once),
		it(test_cuts_while_the_file_is_written_anew),
		it(test_syncs_fail_for_a_while),
		it(test_a_sync_fails_at_the_start),
		it(test_the_disk_is_full),
		it(test_many_acks_on_a_full_disk),
		it(test_a_verdict_that_is_not_written),
		it(test_purge_and_delete_on_a_full_disk),
		it(test_start_on_a_full_disk),
		it(test_start_on_a_full_disk_after_a_kill),
		it(test_start_on_a_full_disk_after_a_cut),
		it(test_the_last_commit_fails),
		it(test_a_stop_while_the_store_is_broken),
		it(test_a_stop_while_the_disk_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
