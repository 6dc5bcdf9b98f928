/* SPDX-License-Identifier: MIT */

/* What the name service says, and what becomes of it. The name service is the test's. */

#include "unit/turns.h"

#include <pwd.h>

#include "user.h"

enum { UID = 2004 };

static const char *service_name; /* of every uid */
static struct workers *workers;
static struct users users;

int __wrap_getpwuid_r(uid_t uid, struct passwd *pw, char *space, size_t size,
		      struct passwd **result);
int __wrap_getpwuid_r(uid_t uid, struct passwd *pw, char *space, size_t size,
		      struct passwd **result)
{
	snprintf(space, size, "%s", service_name);
	*pw = (struct passwd){ .pw_name = space, .pw_uid = uid };
	*result = pw;
	return 0;
}

static int setup(void **state)
{
	(void)state;
	turns_begin();
	return workers_new(&workers, &loop) < 0 || users_init(&users, &loop, workers) < 0;
}

static int teardown(void **state)
{
	(void)state;
	workers = workers_free(workers, 30000);
	users_deinit(&users);
	loop_deinit(&loop);
	return 0;
}

/* ---- from uid to name ---- */

static void on_known(struct user_waiter *waiter)
{
	(void)waiter;
}

static struct user *user_named(const char *name)
{
	struct user_waiter waiter = { .known = on_known };
	struct user *user;

	service_name = name;
	assert_int_equal(user_get(&users, UID, &user), 0);
	assert_false(user_name_wait(user, &waiter));
	wait_for(user->name_known);
	return user;
}

/* It goes into replies and log lines. */
static void test_a_name_that_is_no_text(void **state)
{
	static const char *const bad[] = { "J\xf6rg", "cut\xc3",     "\xed\xa0\x80",
					   "a\nb",    "\x1b[31mred", "del\x7f" };
	static const char *const good[] = { "xenia", "CORP\\xenia", "a\"b", "john.doe",
					    "J\xc3\xb6rg" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct user *user = user_named(bad[i]);

		assert_string_equal(user->name, "2004");
		user_unref(user);
	}
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct user *user = user_named(good[i]);

		assert_string_equal(user->name, good[i]);
		user_unref(user);
	}
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_name_that_is_no_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
