/* SPDX-License-Identifier: MIT */

/* What the name service says, and what becomes of it. The name service is the test's. */

#include "unit/turns.h"

#include <pwd.h>

#include "name.h"
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

/* "slow" is answered when the test lets it. */
static int gate[2];

int __wrap_getpwnam_r(const char *name, struct passwd *pw, char *space, size_t size,
		      struct passwd **result);
int __wrap_getpwnam_r(const char *name, struct passwd *pw, char *space, size_t size,
		      struct passwd **result)
{
	char c;

	if (!strncmp(name, "slow", 4))
		(void)!read(gate[0], &c, 1);
	snprintf(space, size, "%s", name);
	*pw = (struct passwd){ .pw_name = space, .pw_uid = UID };
	*result = pw;
	return 0;
}

static int setup(void **state)
{
	(void)state;
	turns_begin();
	return pipe2(gate, O_CLOEXEC) < 0 || workers_new(&workers, &loop) < 0 ||
	       users_init(&users, &loop, workers) < 0;
}

static int teardown(void **state)
{
	(void)state;
	close(gate[1]);
	workers = workers_free(workers, 30000);
	close(gate[0]);
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

/* ---- in names ---- */

static struct broker broker = { .users = &users, .system_mode = true };

static const char *shown(const char *text)
{
	static char shown[400];
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct name_ref ref;

	snprintf(ref.text, sizeof(ref.text), "%s", text);
	assert_int_equal(name_ref_append_display(&broker, &ref, &out), 0);
	snprintf(shown, sizeof(shown), "%.*s", (int)out.size, out.data);
	return shown;
}

/* Others would be somebody else's, or no names; and deliveries have them as they are. */
static void test_names_show_users_that_read_back(void **state)
{
	static const char *const by_name[] = { "xenia", "x-ray_2", "2x", "-1" };
	static const char *const by_uid[] = { "john.doe", "2001",	 "CORP\\xenia",
					      "a\"b",	  "J\xc3\xb6rg", "a b",
					      "" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(by_name); i++) {
		struct user *user = user_named(by_name[i]);
		char text[32];

		snprintf(text, sizeof(text), "@%s", by_name[i]);
		assert_string_equal(shown("@2004"), text);
		strcat(text, ".x.y");
		assert_string_equal(shown("@2004.x.y"), text);
		user_unref(user);
	}
	for (size_t i = 0; i < ARRAY_SIZE(by_uid); i++) {
		struct user *user = user_named(by_uid[i]);

		assert_string_equal(shown("@2004"), "@2004");
		assert_string_equal(shown("@2004.x.y"), "@2004.x.y");
		user_unref(user);
	}
}

/* By name it would be too long. */
static void test_a_long_name_is_shown_by_uid(void **state)
{
	char text[LIMIT_NAME_MAX + 1], by_name[sizeof(text) + 8];
	struct user *user = user_named("xenia"); /* a byte more than "2004" */

	(void)state;
	snprintf(text, sizeof(text), "@2004.%0*d", LIMIT_NAME_MAX - 6, 0);
	assert_string_equal(shown(text), text);
	text[LIMIT_NAME_MAX - 1] = '\0';
	snprintf(by_name, sizeof(by_name), "@xenia%s", text + 5);
	assert_string_equal(shown(text), by_name);
	user_unref(user);
}

static void test_a_refusal_tells_where_one_may(void **state)
{
	struct user *user = user_named("john.doe");
	const struct credentials who = { .uid = UID, .user = user };
	const struct name_ref ref = { .text = "jobs", .size = 4 };
	struct name_policy policy;
	static struct rules rules;
	struct fault fault;

	(void)state;
	broker.rules = &rules;
	name_decide(&broker, &ref, &who, &policy);
	assert_int_equal(name_check_create(&broker, &ref, &policy, &who, &fault), FAULT);
	assert_non_null(strstr(fault.text, "john.doe may not create jobs"));
	assert_non_null(strstr(fault.text, "below @2004."));
	user_unref(user);
}

/* ---- from name to uid ---- */

struct asker {
	struct user_waiter waiter;
	bool known;
};

static void on_answer(struct user_waiter *waiter)
{
	CONTAINER_OF(waiter, struct asker, waiter)->known = true;
}

static int look_up(struct asker *asker, uid_t uid, const char *name)
{
	uid_t found;

	*asker = (struct asker){ .waiter.known = on_answer };
	return user_lookup(&users, name, strlen(name), uid, &asker->waiter, &found);
}

static void test_a_lookup_does_not_wait_for_anothers(void **state)
{
	static const char *const slow[] = { "slow1", "slow2", "slow3" };
	static struct asker flood[ARRAY_SIZE(slow)], first, again, other;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(slow); i++)
		assert_int_equal(look_up(&flood[i], 1, slow[i]), USER_WAIT);
	assert_int_equal(look_up(&first, 1, "ann"), USER_WAIT);
	assert_int_equal(look_up(&again, 1, "ann"), USER_WAIT);
	assert_int_equal(look_up(&other, 2, "ann"), USER_WAIT);
	wait_for(other.known && first.known && again.known);
	assert_int_equal(look_up(&other, 2, "ann"), USER_FOUND);
	assert_false(flood[0].known || flood[1].known || flood[2].known);
	/* the first one's own job comes to nothing */
	for (size_t i = 0; i < ARRAY_SIZE(slow); i++)
		assert_int_equal(write(gate[1], "x", 1), 1);
	wait_for(flood[0].known && flood[1].known && flood[2].known);
	assert_int_equal(look_up(&other, 3, "ann"), USER_FOUND);
}

/* ---- in turn ---- */

struct work {
	struct user_turn turn;
	struct user *user;
	char name;
	int left; /* parts */
};

static char done[16];

static void on_turn(struct user_turn *turn)
{
	struct work *work = CONTAINER_OF(turn, struct work, turn);

	done[strlen(done)] = work->name;
	if (--work->left)
		user_go_on(work->user, turn);
}

static void line_up(struct work *work, struct user *user, char name, int left)
{
	*work = (struct work){ .user = user, .name = name, .left = left };
	user_turn_init(&work->turn, on_turn);
	user_line_up(user, &work->turn);
}

/* Of one user one after the other, and of two by turns. */
static void test_work_in_line(void **state)
{
	struct user *ann, *bob;
	struct work a, b, c, d;

	(void)state;
	assert_int_equal(user_get(&users, 1, &ann), 0);
	assert_int_equal(user_get(&users, 2, &bob), 0);
	memset(done, 0, sizeof(done));
	line_up(&a, ann, 'a', 3);
	line_up(&b, ann, 'b', 1);
	line_up(&c, ann, 'c', 2);
	line_up(&d, bob, 'd', 2);
	list_remove(&b.turn.link); /* given up */
	assert_true(user_has_line(ann));
	for (size_t n = 0; n < 7; n = strlen(done)) {
		turn();
		assert_in_range(strlen(done), n, n + 2); /* one part of each in a pass */
	}
	assert_string_equal(done, "adadacc");
	assert_false(user_has_line(ann));
	line_up(&a, ann, 'a', 1);
	list_remove(&a.turn.link);
	user_unref(ann);
	user_unref(bob);
	turn();
	assert_int_equal(strlen(done), 7);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_name_that_is_no_text),
		TEST(test_names_show_users_that_read_back),
		TEST(test_a_long_name_is_shown_by_uid),
		TEST(test_a_refusal_tells_where_one_may),
		TEST(test_a_lookup_does_not_wait_for_anothers),
		TEST(test_work_in_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
