/* SPDX-License-Identifier: MIT */

/* Deliveries and the end of the daemon: who has a message in hand may settle it afterwards,
 * until it is handed out anew; the end of the daemon is no attempt. */

#include "integration/durable.h"

static struct client *c, *other;

static void connect_both(void)
{
	c = client_connect();
	other = client_connect();
}

/* The daemon ends, and the message is not handed out before its holder is back. */
#define HELD_BACK "--limit", "lost_delay=86400000"

/* ---- tokens ---- */

static void test_ack_afterwards(void **state)
{
	struct frame *f;

	start_durable(HELD_BACK);
	connect_both();
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		send_text(c, "q", "by the same");
		f = take(c, "q", "by the same");
		restart(how, HELD_BACK);
		connect_both();
		assert_int_equal(queue_count("q", "delayed"), 1);
		take_nothing(other, "q");
		settle(other, "ack", f, "");
		settle_fails(c, "ack", f, "lease-lost");
		assert_int_equal(stats_count("messages"), 0);
	}
	restart(CRASH, HELD_BACK);
	assert_int_equal(stats_count("messages"), 0);
}

static void test_nack_and_reject_afterwards(void **state)
{
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		struct frame *f, *g;

		start_durable(HELD_BACK);
		connect_both();
		send_text(c, "q", "x");
		send_text(c, "q", "y");
		f = take(c, "q", "x");
		g = take(c, "q", "y");
		restart(how, HELD_BACK);
		connect_both();
		settle(c, "nack", f, ",'delay_ms':0");
		settle_fails(c, "ack", f, "lease-lost");
		settle(c, "reject", g, ",'reason':'no'");
		settle_fails(c, "nack", g, "lease-lost");
		settle(c, "ack", take(c, "q", "x"), "");
		say(c, "{'op':'purge','id':1,'name':'q','state':'all'}");
		hear_reply(c, 1);
		stop();
	}
}

/* A verdict uses a token up, also across the end of the daemon. */
static void test_a_used_token(void **state)
{
	start_durable(AT_ONCE, "--limit", "max_attempts=100");
	connect_both();
	send_text(c, "q", "x");
	for (int i = 0; i < 4; i++) {
		struct frame *f = take(c, "q", "x");

		settle(c, "nack", f, ",'delay_ms':0");
		restart((enum ending)(i % N_ENDINGS), AT_ONCE, "--limit",
			"max_attempts=100");
		connect_both();
		settle_fails(c, "ack", f, "lease-lost");
		settle_fails(c, "nack", f, "lease-lost");
	}
	settle(c, "ack", take(c, "q", "x"), "");
}

/* A backup is put back, and the number comes once more: a token is of one message alone. */
static void test_a_token_of_what_a_backup_has_not(void **state)
{
	const char *state_dir = server.state;
	struct frame *f;

	start_durable(AT_ONCE);
	stop();
	assert_int_equal(system(keep_printf("cp -a %s %s.copy", state_dir, state_dir)),
			 0);
	start_durable(AT_ONCE);
	connect_both();
	send_text(c, "q", "lost");
	f = take(c, "q", "lost");
	stop();
	assert_int_equal(system(keep_printf("rm -r %s && mv %s.copy %s", state_dir,
					    state_dir, state_dir)),
			 0);
	start_durable(AT_ONCE);
	connect_both();
	assert_int_equal(send_text(other, "q", "new"), json_int(f->header, "message"));
	settle_fails(c, "ack", f, "lease-lost");
	settle(other, "ack", take(other, "q", "new"), "");
}

static void test_handed_out_anew(void **state)
{
	start_durable(AT_ONCE);
	connect_both();
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		struct frame *f, *anew;

		send_text(c, "q", "x");
		f = take(c, "q", "x");
		restart(how, AT_ONCE);
		connect_both();
		anew = take(other, "q", "x");
		assert_string_not_equal(json_string(f->header, "lease"),
					json_string(anew->header, "lease"));
		settle_fails(c, "ack", f, "lease-lost");
		settle_fails(c, "touch", f, "lease-lost");
		settle(other, "ack", anew, "");
	}
}

/* Handed out by each of many starts: only the last token counts. */
static void test_tokens_of_many_starts(void **state)
{
	enum { N = 5 };
	struct frame *f[N];

	start_durable(AT_ONCE);
	connect_both();
	send_text(c, "q", "x");
	for (int i = 0; i < N; i++) {
		f[i] = take(c, "q", "x");
		restart(CRASH, AT_ONCE);
		connect_both();
	}
	settle(c, "ack", f[N - 1], "");
	for (int i = 0; i < N; i++)
		settle_fails(c, "ack", f[i], "lease-lost");
}

/* After kill -9 nobody knows whether it was handed out anew: the one who has it keeps it. */
static void test_a_lost_token_before_a_crash(void **state)
{
	struct frame *f, *anew;

	start_durable(AT_ONCE);
	connect_both();
	send_text(c, "q", "x");
	f = take(c, "q", "x");
	client_close(c);
	anew = take(other, "q", "x");
	settle_fails(other, "ack", f, "lease-lost");
	send_text(other, "later", "x"); /* on the disk with all before it */
	restart(CRASH, AT_ONCE);
	connect_both();
	settle_fails(c, "ack", f, "lease-lost");
	settle(c, "ack", anew, "");
}

static void test_a_memory_queue(void **state)
{
	struct frame *f;

	start_durable(HELD_BACK);
	connect_both();
	create_volatile(c, "m");
	send_text(c, "m", "x");
	f = take(c, "m", "x");
	restart(ORDERLY, HELD_BACK);
	connect_both();
	settle(c, "ack", f, "");
	restart(ORDERLY, HELD_BACK);
	assert_int_equal(stats_count("messages"), 0);
}

static void test_a_stranger_afterwards(void **state)
{
	struct client *thief;
	struct frame *f;

	skip_unless_root();
	start_durable(HELD_BACK, "--system");
	connect_both();
	send_text(c, "q", "x");
	f = take(c, "q", "x");
	restart(CRASH, HELD_BACK, "--system");
	connect_both();
	thief = client_connect_as(stranger(0));
	settle_fails(thief, "ack", f, "lease-lost");
	settle(c, "ack", f, "");
}

/* ---- attempts ---- */

static void test_the_end_is_no_attempt(void **state)
{
	start_durable(AT_ONCE, "--limit", "max_attempts=2");
	connect_both();
	send_text(c, "q", "x");
	for (int i = 0; i < 6; i++) {
		struct frame *f = take(c, "q", "x");

		assert_int_equal(json_int(f->header, "attempt"), 1);
		restart((enum ending)(i % N_ENDINGS), AT_ONCE, "--limit",
			"max_attempts=2");
		connect_both();
	}
	settle(c, "nack", take(c, "q", "x"), ",'delay_ms':0");
	restart(CRASH, AT_ONCE, "--limit", "max_attempts=2");
	connect_both();
	assert_int_equal(json_int(take(c, "q", "x")->header, "attempt"), 2);
}

/* A verdict on what was in hand before: then it was one. */
static void test_verdicts_afterwards(void **state)
{
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		struct frame *f;

		start_durable(HELD_BACK);
		connect_both();
		send_text(c, "q", "x");
		settle(c, "nack", take(c, "q", "x"), ",'delay_ms':0");
		f = take(c, "q", "x");
		restart(how, HELD_BACK);
		connect_both();
		settle(c, "nack", f, ",'delay_ms':0,'count':false,'reason':'s'");
		f = take(c, "q", "x");
		assert_int_equal(json_int(f->header, "attempt"), 2);
		restart(how, HELD_BACK);
		connect_both();
		settle(c, "nack", f, ",'delay_ms':0");
		f = take(c, "q", "x");
		assert_int_equal(json_int(f->header, "attempt"), 3);
		restart(how, HELD_BACK);
		connect_both();
		settle(c, "reject", f, ",'reason':'no'");
		say(c, "{'op':'receive','id':1,'queue':'q','dead':true}");
		f = hear_delivery(c, 1, "x");
		hear_end(c, 1, "peeked");
		assert_int_equal(json_int(f->header, "attempt"), 3);
		assert_non_null(strstr(f->header, "\"reason\":\"s\"},{\"attempt\":2,"));
		assert_non_null(strstr(f->header, "\"reason\":\"\"},{\"attempt\":3,"));
		assert_non_null(strstr(f->header, "\"reason\":\"no\"}]"));
		say(c, "{'op':'purge','id':1,'name':'q','state':'all'}");
		hear_reply(c, 1);
		stop();
	}
}

/* Who dies with the message in hand again and again: it comes back, counted, and others are
 * not held up; then it is dead, with what happened. */
static void test_a_consumer_that_dies(void **state)
{
	const char *dead;

	start_durable(AT_ONCE, "--limit", "max_attempts=3");
	connect_both();
	send_text(c, "q", "poison");
	for (int i = 1; i <= 3; i++) {
		struct client *victim = client_connect();
		struct frame *f = take(victim, "q", "poison");

		assert_int_equal(json_int(f->header, "attempt"), i);
		send_text(c, "q", "good");
		client_close(victim);
		wait_queue_count("q", "leased", 0);
		if (i < 3) {
			f = take(c, "q", "poison"); /* what came back goes first */
			settle(c, "nack", f, ",'delay_ms':0,'count':false");
		}
		send_text(c, "later", "x"); /* on the disk with all before it */
		restart((enum ending)(i % N_ENDINGS), AT_ONCE, "--limit",
			"max_attempts=3");
		connect_both();
	}
	assert_int_equal(queue_count("q", "dead"), 1);
	for (int i = 0; i < 3; i++)
		settle(c, "ack", take(c, "q", "good"), "");
	dead = describe_queue("q");
	assert_non_null(strstr(dead, "\"reason\":\"the receiver's connection ended\""));
	assert_non_null(strstr(dead, "{\"attempt\":3,"));
	restart(CRASH, AT_ONCE, "--limit", "max_attempts=3");
	assert_string_equal(describe_queue("q"), dead);
}

/* It is stopped in order while all is held back after kill -9: it stays so. */
static void test_a_stop_behind_a_crash(void **state)
{
	struct frame *f;

	start_durable(HELD_BACK);
	connect_both();
	send_text(c, "q", "x");
	f = take(c, "q", "x");
	restart(CRASH, HELD_BACK);
	restart(ORDERLY, HELD_BACK);
	connect_both();
	take_nothing(other, "q");
	settle(c, "ack", f, "");
}

/* A lost connection is held back as long as without a restart. */
static void test_lost_before_the_end(void **state)
{
	struct frame *f;

	start_durable(HELD_BACK);
	connect_both();
	send_text(other, "q", "x");
	f = take(c, "q", "x");
	client_close(c);
	wait_queue_count("q", "delayed", 1);
	restart(ORDERLY, HELD_BACK);
	connect_both();
	take_nothing(c, "q");
	settle(c, "ack", f, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_ack_afterwards),	it(test_nack_and_reject_afterwards),
		it(test_a_used_token),		it(test_a_token_of_what_a_backup_has_not),
		it(test_handed_out_anew),	it(test_tokens_of_many_starts),
		it(test_a_memory_queue),	it(test_a_stranger_afterwards),
		it(test_the_end_is_no_attempt), it(test_a_consumer_that_dies),
		it(test_a_stop_behind_a_crash), it(test_lost_before_the_end),
		it(test_verdicts_afterwards),	it(test_a_lost_token_before_a_crash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
