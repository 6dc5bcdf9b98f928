/* SPDX-License-Identifier: MIT */

/*
 * ipcd is killed at random moments, or the power goes on the modelled disk, again and again
 * under load (see harness_load.h): whatever it has promised holds.
 *
 * CRASH_SECONDS says how long each test runs; IPC_TEST_SEED repeats the choices of a run.
 */

#include "integration/harness.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "integration/harness_crash.h"
#include "integration/harness_load.h"
#include "integration/harness_powercut.h"

enum {
	SECONDS = 3,
	HEARD_MAX = 500, /* from a daemon before it is killed */
	START_US_MAX = 30000,
	CHANGES_MAX = 600, /* of its files */
	SYNCS_MAX = 100,
	SYNC_US_MAX = 1000,
	LIFE_MS_MAX = 1000,
};

enum how {
	BY_TERM,
	BY_KILL,
	BY_KILL_AT_START,
	BY_CUT, /* at any moment */
	BY_CUT_OF_CHANGES,
	BY_CUT_OF_SYNCS,
	N_HOW,
};

static struct {
	uint64_t random;
	bool on_model;
	unsigned int n[N_HOW], n_dead_at_start;
} run;

static unsigned int below(unsigned int n)
{
	return (unsigned int)random_below(&run.random, n);
}

/* How this one will end. On the model a kill -9 is done by the model, which else would not
 * know what is still unsynced. */
static enum how choose(void)
{
	if (below(8) == 0)
		return BY_TERM;
	if (run.on_model)
		return BY_CUT + below(3);
	return below(4) ? BY_KILL : BY_KILL_AT_START;
}

static void arm(enum how how)
{
	if (!run.on_model)
		return;
	powercut->sync_us = (int)below(SYNC_US_MAX);
	powercut->process_only = below(4) == 0;
	if (how == BY_CUT_OF_CHANGES)
		powercut->changes_to_cut = 1 + below(CHANGES_MAX);
	if (how == BY_CUT_OF_SYNCS)
		powercut->syncs_to_cut = 1 + below(SYNCS_MAX);
}

static void strike(enum how how)
{
	if (how == BY_TERM)
		kill(server.pid, SIGTERM);
	else if (run.on_model)
		powercut_now();
	else
		kill(server.pid, SIGKILL);
}

/* False if it was killed before it was ready. */
static bool start_to_be_killed(enum how how)
{
	int ready;

	crash_spawn(run.on_model, &ready);
	if (how == BY_KILL_AT_START) {
		usleep(below(
			START_US_MAX)); /* this waits for nothing: any moment will do */
		kill(server.pid, SIGKILL);
	}
	return crash_wait_ready(ready);
}

/* Under load until it ends. Has it been told to? */
static bool live(enum how how)
{
	uint64_t until = load_counts()->heard + below(HEARD_MAX);
	uint64_t end = deadline_after(clock_ns(CLOCK_MONOTONIC), LIFE_MS_MAX);
	bool struck = false;

	for (bool on = load_connect(); on; on = load_turn())
		if (!struck &&
		    (load_counts()->heard >= until || clock_ns(CLOCK_MONOTONIC) > end)) {
			strike(how);
			struck = true;
		}
	load_disconnect();
	return struck;
}

static void live_once(void)
{
	size_t mark = keep_mark();
	enum how how = choose();
	bool struck = false;

	run.n[how]++;
	arm(how);
	if (start_to_be_killed(how))
		struck = live(how);
	else
		run.n_dead_at_start++;
	crash_expect(struck && how == BY_TERM ? 0 : KILLED);
	keep_release(mark);
}

/* In the end all is taken out, after a last crash. */
static void settle_all(void)
{
	assert_int_equal(crash_count_bad_files(), 0);
	load_produce(false);
	crash_start(run.on_model);
	assert_true(load_connect());
	while (!load_is_quiet())
		load_turn();
	load_disconnect();
	load_settle();
	load_end();
}

static void print_counts(void)
{
	print_message(
		"TERM %u, kill %u, kill at start %u, cuts %u, %u and %u; %u were not "
		"ready\n",
		run.n[BY_TERM], run.n[BY_KILL], run.n[BY_KILL_AT_START], run.n[BY_CUT],
		run.n[BY_CUT_OF_CHANGES], run.n[BY_CUT_OF_SYNCS], run.n_dead_at_start);
	if (run.on_model)
		print_message("lost %ld sectors of %ld, %ld names of %ld\n",
			      powercut->lost_sectors,
			      powercut->lost_sectors + powercut->kept_sectors,
			      powercut->lost_names,
			      powercut->lost_names + powercut->kept_names);
}

static void run_all(bool on_model)
{
	const char *seconds = getenv("CRASH_SECONDS");
	uint64_t seed = random_seed(), end;

	memset(&run, 0, sizeof(run));
	run.random = seed;
	run.on_model = on_model;
	if (on_model)
		powercut->seed = seed;
	load_begin(seed + 1);
	end = deadline_after(clock_ns(CLOCK_MONOTONIC),
			     1000 * (seconds ? strtoul(seconds, NULL, 10) : SECONDS));
	while (clock_ns(CLOCK_MONOTONIC) < end)
		live_once();
	print_counts();
	settle_all();
}

static void test_killed_again_and_again(void **state)
{
	run_all(false);
}

static void test_power_cut_again_and_again(void **state)
{
	powercut_setup();
	run_all(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_killed_again_and_again),
		it(test_power_cut_again_and_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
