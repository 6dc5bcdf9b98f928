/* SPDX-License-Identifier: MIT */

/* Who may use and see what: strangers, owners, users by name and number, uids that a
 * container does not map. */

#include "integration/harness.h"

#include <inttypes.h>
#include <pwd.h>
#include <unistd.h>

static int64_t peer_number(struct client *c)
{
	say(c, "{'op':'hello','id':1}");
	return json_int(hear_reply(c, 1)->header, "peer");
}

static void test_a_stranger_at_a_system_daemon(void **state)
{
	static const struct {
		const char *request, *word; /* NULL: allowed; %u is the stranger */
	} rows[] = {
		{ "{'op':'send','id':1,'queue':'jobs'}", "denied" },
		{ "{'op':'receive','id':1,'queue':'jobs'}", "denied" },
		{ "{'op':'receive','id':1,'queue':'jobs','peek':true}", "denied" },
		{ "{'op':'send','id':1,'queue':'new'}", "denied" },
		{ "{'op':'receive','id':1,'queue':'new'}", "denied" },
		{ "{'op':'receive','id':1,'queues':['@%u.x','jobs']}", "denied" },
		{ "{'op':'names','id':1,'name':'jobs'}", "not-found" },
		{ "{'op':'send','id':1,'queue':'@root'}", NULL },
		{ "{'op':'receive','id':1,'queue':'@root'}", "denied" },
		{ "{'op':'receive','id':1,'queue':'@root','peek':true}", "denied" },
		{ "{'op':'send','id':1,'queue':'@0.x'}", "denied" },
		{ "{'op':'send','id':1,'queue':'@%u.x'}", NULL },
		{ "{'op':'receive','id':1,'queue':'@%u.x','peek':true}", NULL },
		{ "{'op':'receive','id':1,'queue':'@%u','wait_ms':0}", NULL },
		{ "{'op':'send','id':1,'queue':'@%u'}", NULL },
	};
	struct client *root, *c;

	skip_unless_root();
	start("--system");
	root = client_connect();
	send_text(root, "jobs", "secret");
	send_text(root, "@root", "secret");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *number = keep_printf("%u", stranger(0));
		char *request = with_quotes(rows[i].request), *at = strstr(request, "%u");
		struct frame *f;

		if (at)
			request = keep_printf("%.*s%s%s", (int)(at - request), request,
					      number, at + 2);
		c = client_connect_as(stranger(0));
		say(c, "%s", request);
		if (rows[i].word) {
			hear_error(c, 1, rows[i].word);
		} else {
			do
				f = hear_reply(c, 1);
			while (strstr(request, "receive") && !json_has(f->header, "end"));
		}
		hear_nothing(c);
		client_close(c);
	}
	assert_int_equal(queue_count("jobs", "ready"), 1);
	assert_int_equal(queue_count("@root", "ready"), 2);
	say(root, "{'op':'names','id':1,'name':'new'}");
	hear_error(root, 1, "not-found");
}

/* "denied" says who owns it and how it is protected, to who has the other right. */
static void test_a_refusal_explains_itself(void **state)
{
	struct client *root, *c;
	const char *message;

	skip_unless_root();
	start("--system");
	root = client_connect();
	c = client_connect_as(stranger(0));
	say(root, "{'op':'create','id':1,'name':'jobs','mode':'0644'}");
	hear_reply(root, 1);
	say_text(c, "x", "{'op':'send','id':1,'queue':'jobs'}");
	message = json_string(hear_error(c, 1, "denied")->header, "message");
	assert_non_null(strstr(message, "jobs"));
	assert_non_null(strstr(message, "0644"));
	assert_non_null(strstr(message, "root"));
}

static void test_a_stranger_at_the_daemon_of_a_user(void **state)
{
	struct client *c = NULL;
	int r;

	skip_unless_root();
	start("--user");
	r = client_try_connect(stranger(0), &c);
	if (r < 0) { /* the socket itself is closed to others: just as good */
		assert_int_equal(r, -EACCES);
		return;
	}
	say_text(c, "x", "{'op':'send','id':1,'queue':'jobs'}");
	hear_error(c, 1, "denied");
	say_text(c, "x", "{'op':'send','id':1,'queue':'@%u.x'}", stranger(0));
	hear_error(c, 1, "denied");
	say(c, "{'op':'receive','id':1,'queue':'jobs'}");
	hear_error(c, 1, "denied");
	assert_null(frame_line(list(c, "names"), 0));
}

static void test_one_sees_what_one_may_use(void **state)
{
	struct client *root, *c;
	struct frame *f;

	skip_unless_root();
	start("--system");
	root = client_connect();
	c = client_connect_as(stranger(0));
	send_text(root, "jobs", "x");
	send_text(root, "@0", "x");
	send_text(root, "@0.x", "x");
	send_text(c, keep_printf("@%u.mine", stranger(0)), "x");
	send_text(c, keep_printf("@%u", stranger(1)), "x");
	f = list(c, "names");
	for (int i = 0; i < 3; i++)
		assert_non_null(frame_line(f, (unsigned int)i));
	assert_null(frame_line(f, 3));
	assert_null(strstr(f->body, "jobs"));
	assert_null(strstr(f->body, "@root.x"));
	assert_non_null(frame_line(list(root, "names"), 4));
}

/* An inbox takes from everybody, and gives to its owner alone, even if a stranger made it. */
static void test_an_inbox_made_by_another(void **state)
{
	struct client *ann, *bob;
	char *inbox = keep_printf("@%u", stranger(0));
	struct frame *f;

	skip_unless_root();
	start("--system");
	ann = client_connect_as(stranger(0));
	bob = client_connect_as(stranger(1));
	send_text(bob, inbox, "hello");
	say(bob, "{'op':'receive','id':1,'queue':'%s'}", inbox);
	hear_error(bob, 1, "denied");
	f = take(ann, inbox, "hello");
	assert_int_equal(json_int(f->header, "from.uid"), stranger(1));
	settle_fails(bob, "ack", f, "lease-lost");
	settle(ann, "ack", f, "");
}

/* ---- users ---- */

static void test_unknown_user(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	say_text(c, "x", "{'op':'send','id':1,'queue':'@no-such-user-here'}");
	hear_error(c, 1, "not-found");
	say_text(c, "x", "{'op':'send','id':1,'queue':'@4294967296'}");
	hear_error(c, 1, "not-found");
}

/* "@root" and "@0" are one inbox, kept by uid. */
static void test_a_user_by_name_and_by_number(void **state)
{
	struct client *c;

	skip_unless_root();
	start("--system");
	c = client_connect();
	send_text(c, "@root", "x");
	take(c, "@0", "x");
	send_text(c, "@0.own", "y");
	take(c, "@root.own", "y");
	say(c, "{'op':'names','id':1,'name':'@0'}");
	assert_string_equal(json_string(frame_line(hear_reply(c, 1), 0), "name"),
			    "@root");
}

enum form { WHOLE, LARGE, IN_TWO_PARTS, LARGE_IN_TWO_PARTS, IN_PIECES, N_FORMS };

static void say_send(struct client *c, enum form form, const char *name)
{
	static char body[100000];
	bool large = form == LARGE || form == LARGE_IN_TWO_PARTS;
	size_t size, body_size = large ? sizeof(body) : 10;
	char *bytes = frame_encode(&size, body, body_size,
				   "{'op':'send','id':1,'queue':'%s'}", name);

	if (form == IN_PIECES) {
		say_text(c, "one", "{'op':'send','id':1,'queue':'%s','more':true}", name);
		say_text(c, "two", "{'id':1}");
		return;
	}
	if (form == IN_TWO_PARTS || form == LARGE_IN_TWO_PARTS) {
		struct client *other = client_connect();

		say_bytes(c, bytes, size - 3);
		hear_nothing(other);
		client_close(other);
		bytes += size - 3;
		size = 3;
	}
	say_bytes(c, bytes, size);
}

/* The name service is asked once for each user. Until it has answered the request waits, in
 * whatever form it came, with all behind it on its connection. */
static void test_requests_that_wait_for_a_user_name(void **state)
{
	static const char *const users[N_FORMS] = { "daemon", "bin", "sys", "mail",
						    "games" };
	struct client *c;
	int n = 0;

	skip_unless_root();
	start("--system");
	c = client_connect();
	for (enum form form = WHOLE; form < N_FORMS; form++) {
		if (!getpwnam(users[form]))
			continue;
		say_send(c, form, keep_printf("@%s.x", users[form]));
		say(c, "{'op':'send','id':2,'queue':'order'}");
		hear_reply(c, 1);
		hear_reply(c, 2);
		assert_int_equal(queue_count(keep_printf("@%s.x", users[form]), "ready"),
				 1);
		assert_int_equal(queue_count("order", "ready"), ++n);
	}
	assert_true(n > 0);
}

/* A user that does not exist is asked for as well. */
static void test_requests_that_wait_for_an_unknown_user(void **state)
{
	struct client *c;

	start();
	c = client_connect();
	for (enum form form = WHOLE; form < N_FORMS; form++) {
		say_send(c, form, keep_printf("@no-such-user-%d.x", form));
		say(c, "{'op':'receive','id':2,'queues':['order','@nor-this-one-%d']}",
		    form);
		hear_error(c, 1, "not-found");
		hear_error(c, 2, "not-found");
	}
	assert_null(frame_line(list(c, "names"), 0));
}

static void test_a_peer_goes_while_its_name_is_asked(void **state)
{
	struct client *c;

	start();
	for (int i = 0; i < 50; i++) {
		c = client_connect();
		say_text(c, "x", "{'op':'send','queue':'@no-such-user-%d'}", i);
		client_close(c);
	}
	hear_nothing(client_connect());
}

/* Everybody that a container does not map has this uid: it owns nothing, shares nothing. */
static void test_the_overflow_uid(void **state)
{
	enum { OVERFLOW_UID = 65534 };
	static const char *const denied[] = {
		"{'op':'send','id':1,'queue':'@65534'}",
		"{'op':'send','id':1,'queue':'@65534.x'}",
		"{'op':'receive','id':1,'queue':'@65534'}",
		"{'op':'receive','id':1,'queue':'@65534.x'}",
	};
	struct client *a, *b;

	skip_unless_root();
	start("--system");
	a = client_connect_as(OVERFLOW_UID);
	b = client_connect_as(OVERFLOW_UID);
	hear_nothing(b);
	for (size_t i = 0; i < ARRAY_SIZE(denied); i++) {
		say(a, "%s", with_quotes(denied[i]));
		hear_error(a, 1, "denied");
	}
	assert_null(frame_line(list(a, "peers"), 1));
	say(a, "{'op':'disconnect','id':1,'peer':%" PRId64 "}", peer_number(b));
	hear_error(a, 1, "not-found");
	hear_nothing(b);
}

/* ---- peers ---- */

static void test_peers_of_others(void **state)
{
	struct client *root, *c, *twin;
	struct frame *f;

	skip_unless_root();
	start("--system");
	root = client_connect();
	c = client_connect_as(stranger(0));
	twin = client_connect_as(stranger(0));
	hear_nothing(root);
	hear_nothing(twin);
	f = list(c, "peers");
	assert_non_null(frame_line(f, 1));
	assert_null(frame_line(f, 2));
	assert_non_null(frame_line(list(root, "peers"), 2));
	say(c, "{'op':'disconnect','id':2,'peer':%" PRId64 "}", peer_number(root));
	hear_error(c, 2, "not-found");
	hear_nothing(root);
	say(c, "{'op':'disconnect','id':2,'peer':%" PRId64 "}", peer_number(twin));
	hear_reply(c, 2);
	hear_or_eof(twin);
	say(root, "{'op':'disconnect','id':2,'peer':%" PRId64 "}", peer_number(c));
	hear_reply(root, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_a_stranger_at_a_system_daemon),
		it(test_a_refusal_explains_itself),
		it(test_a_stranger_at_the_daemon_of_a_user),
		it(test_one_sees_what_one_may_use),
		it(test_an_inbox_made_by_another),
		it(test_unknown_user),
		it(test_a_user_by_name_and_by_number),
		it(test_requests_that_wait_for_a_user_name),
		it(test_requests_that_wait_for_an_unknown_user),
		it(test_a_peer_goes_while_its_name_is_asked),
		it(test_the_overflow_uid),
		it(test_peers_of_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
