/* SPDX-License-Identifier: MIT */

/* What is read from the environment, also from a wrong one; the rest is for
 * integration/test_activation. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/util.h"
#include "log.h"
#include "systemd.h"

static void describe(struct notifier *n, char *out, size_t size)
{
	snprintf(out, size, "none");
}

static void set_own_pid(const char *name)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv(name, pid, 1);
}

static void test_no_sockets_passed(void **state)
{
	static const char *const wrong[] = {
		"", "x", "-1", "+1", "0", "1x", "99999999999999999999"
	};
	struct activation a;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		set_own_pid("LISTEN_PID");
		setenv("LISTEN_FDS", wrong[i], 1);
		setenv("LISTEN_FDNAMES", "a:b", 1);
		assert_int_equal(activation_take(&a), 0);
		assert_int_equal(a.n, 0);
		assert_null(activation_choose(&a, "/path"));
		assert_null(getenv("LISTEN_PID"));
		assert_null(getenv("LISTEN_FDS"));
		assert_null(getenv("LISTEN_FDNAMES"));
		activation_deinit(&a);
	}
}

static void test_no_environment(void **state)
{
	struct activation a;
	struct notifier n;
	struct loop loop;

	assert_int_equal(activation_take(&a), 0);
	assert_int_equal(a.n, 0);
	assert_int_equal(loop_init(&loop), 0);
	notifier_init(&n, &loop, describe);
	assert_int_equal(n.fd, -1);
	notifier_ready(&n);
	notifier_reloading(&n);
	notifier_stopping(&n);
	assert_false(timer_is_set(&n.tick));
	notifier_deinit(&n);
	loop_deinit(&loop);
}

static uint64_t watchdog_ns(const char *usec)
{
	struct notifier n;
	struct loop loop;

	assert_int_equal(loop_init(&loop), 0);
	setenv("NOTIFY_SOCKET", "@ipcd-test-nobody", 1);
	setenv("WATCHDOG_USEC", usec, 1);
	notifier_init(&n, &loop, describe);
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_null(getenv("WATCHDOG_USEC"));
	assert_null(getenv("WATCHDOG_PID"));
	notifier_deinit(&n);
	loop_deinit(&loop);
	return n.watchdog_ns;
}

static void test_watchdog_interval(void **state)
{
	assert_int_equal(watchdog_ns("5000000"), 5 * (uint64_t)NS_PER_S);
	assert_int_equal(watchdog_ns("0"), 0);
	assert_int_equal(watchdog_ns(""), 0);
	assert_int_equal(watchdog_ns("5s"), 0);
	assert_int_equal(watchdog_ns("18446744073709551615"), 0);
	set_own_pid("WATCHDOG_PID");
	assert_int_equal(watchdog_ns("7"), 7000);
	setenv("WATCHDOG_PID", "1", 1);
	assert_int_equal(watchdog_ns("7"), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_sockets_passed),
		cmocka_unit_test(test_no_environment),
		cmocka_unit_test(test_watchdog_interval),
	};

	log_set_level(LEVEL_ERROR); /* warnings are meant here */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
