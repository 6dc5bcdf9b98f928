/* SPDX-License-Identifier: MIT */

/* Descriptors of a file system that does not answer: read(2), fstat(2) and close(2) hang.
 * That is the trouble of the user who sent them: others go on, and so does that user's
 * connection. When the file system answers all is as before. */

#include "integration/harness_fuse.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <unistd.h>

#include "integration/durable.h"
#include "integration/harness_file.h"

static struct hung_fuse *fuse;

/* A system daemon and the file system. A hung one gives up soon. */
static void begin_with(struct hung_fuse *(*start_fuse)(void))
{
	skip_unless_root();
	start_durable("--system", HUNG_SOON);
	fuse = start_fuse();
}

static void begin(void)
{
	begin_with(hung_fuse_start);
}

static const char *own(unsigned int n, const char *name)
{
	return keep_printf("@%u.%s", stranger(n), name);
}

static const char *to(const char *queue)
{
	return keep_printf("'queue':'%s'", queue);
}

/* All that somebody else may want, who was there before or comes now. */
static void check_goes_on(struct client *c, const char *queue)
{
	hear_nothing(c);
	send_text(c, queue, "text");
	for (enum way in = 0; in < N_WAYS; in++)
		send_file(c, in, LARGE, to(queue));
	settle(c, "ack", take(c, queue, "text"), "");
	for (enum way in = 0; in < N_WAYS; in++)
		settle(c, "ack", take_file(c, queue, LARGE), "");
}

static void check_others_go_on(void)
{
	struct client *root = client_connect(), *bob = client_connect_as(stranger(2));

	check_goes_on(root, "q");
	check_goes_on(bob, own(2, "q"));
	client_close(root);
	client_close(bob);
}

/* What brings no descriptor goes on for the one who hangs, too. */
static void check_goes_on_without_descriptors(struct client *c, const char *queue)
{
	hear_nothing(c);
	send_text(c, queue, "text");
	send_file(c, BY_FRAME, LARGE, to(queue));
	send_file(c, BY_PIECES, LARGE, to(queue));
	settle(c, "ack", take(c, queue, "text"), "");
	settle(c, "ack", take_file(c, queue, LARGE), "");
	settle(c, "ack", take_file(c, queue, LARGE), "");
}

/* Is a descriptor of this user's taken? */
static bool takes_descriptors(unsigned int n)
{
	struct client *c = client_connect_as(stranger(n));
	bool takes;

	say_file(c, 1, BY_FD, LARGE, to(own(n, "probe")));
	takes = !json_has(hear(c)->header, "error");
	client_close(c);
	return takes;
}

/* Sends the file as request 1 and waits until such a call hangs. */
static int send_hanging(struct client *c, enum hung_call call, const char *queue)
{
	int fd = hung_fuse_open(fuse, O_RDONLY);

	hung_fuse_hang(fuse, call);
	say_fd(c, fd, "{'op':'send','id':1,'fds':1,'queue':'%s'}", queue);
	wait_for(hung_fuse_count(fuse) > 0);
	return fd;
}

static void check_recovers(unsigned int n)
{
	hung_fuse_answer(fuse);
	wait_for(takes_descriptors(n));
	check_goes_on(client_connect_as(stranger(n)), own(n, "q"));
}

/* ---- while it is copied ---- */

static void check_hangs(enum hung_call call)
{
	struct client *ann;
	struct frame *f;
	int fd;

	begin();
	ann = client_connect_as(stranger(1));
	fd = send_hanging(ann, call, own(1, "hung"));
	check_others_go_on();
	/* on another connection: here the answer may come at any time */
	check_goes_on_without_descriptors(client_connect_as(stranger(1)),
					  own(1, "other"));
	f = hear_error(ann, 1, "timeout");
	assert_non_null(strstr(json_string(f->header, "message"), "descriptor"));
	assert_false(takes_descriptors(1));
	check_others_go_on();
	check_goes_on_without_descriptors(ann, own(1, "other"));
	check_recovers(1);
	take_nothing(ann, own(1, "hung"));
	send_fd(ann, fd, to(own(1, "hung")));
	settle(ann, "ack", take_file(ann, own(1, "hung"), HUNG_FUSE_SIZE), "");
	assert_true(log_count(keep_printf("%u", stranger(1))) > 0);
}

static void test_read_hangs(void **state)
{
	check_hangs(HANG_READ);
}

static void test_fstat_hangs(void **state)
{
	check_hangs(HANG_STAT);
}

/* It answers in time: nobody was in a hurry. */
static void test_slow(void **state)
{
	struct client *c;

	start_durable();
	fuse = hung_fuse_start();
	c = client_connect();
	for (enum hung_call call = 0; call < HANG_CLOSE; call++) {
		send_hanging(c, call, "q");
		hung_fuse_answer(fuse);
		hear_reply(c, 1);
		settle(c, "ack", take_file(c, "q", HUNG_FUSE_SIZE), "");
	}
}

/* What goes beyond the sender's quota is refused before anything of it is read. */
static void test_a_quota_that_hangs(void **state)
{
	struct client *c;
	int second;

	skip_unless_root();
	start_durable("--system", "--limit",
		      keep_printf("user_file_bytes=%d", HUNG_FUSE_SIZE * 3 / 2));
	fuse = hung_fuse_start();
	c = client_connect_as(stranger(1));
	second = hung_fuse_open(fuse, O_RDONLY);
	send_hanging(c, HANG_READ, own(1, "q"));
	say_fd(c, second, "{'op':'send','id':2,'fds':1,'queue':'%s'}", own(1, "q"));
	hear_error(c, 2, "quota");
	hung_fuse_answer(fuse);
	hear_reply(c, 1);
	settle(c, "ack", take_file(c, own(1, "q"), HUNG_FUSE_SIZE), "");
}

/* A large hole is hashed, which takes longer than a file system may. */
static void test_hashing_a_hole(void **state)
{
	struct client *c;
	struct frame *f;

	start_durable("--limit", "fd_deadline=500");
	c = client_connect();
	say_fd(c, make_sparse(1 << 30),
	       "{'op':'send','id':1,'fds':1,'queue':'q','md5':true}");
	f = hear(c);
	assert_false(json_has(f->header, "error"));
}

/* The file system goes away in the middle. */
static void test_ends_in_the_middle(void **state)
{
	struct client *c;

	start_durable();
	fuse = hung_fuse_start();
	c = client_connect();
	send_hanging(c, HANG_READ, "q");
	hung_fuse_end(fuse);
	assert_true(json_has(hear(c)->header, "error"));
	take_nothing(c, "q");
	wait_for(spool_count() == 0);
	check_goes_on(c, "q");
}

/* Whoever sent it has gone. */
static void test_the_sender_goes(void **state)
{
	struct client *ann;

	begin();
	ann = client_connect_as(stranger(1));
	send_hanging(ann, HANG_READ, own(1, "hung"));
	client_close(ann);
	check_others_go_on();
	check_recovers(1);
}

/* Very many of one user. */
static void test_many(void **state)
{
	enum { N = 50 };
	struct client *ann;
	int fds[N];

	begin();
	ann = client_connect_as(stranger(1));
	for (int i = 0; i < N; i++)
		fds[i] = hung_fuse_open(fuse, O_RDONLY);
	hung_fuse_hang(fuse, HANG_READ);
	for (int i = 0; i < N; i++)
		say_fd(ann, fds[i], "{'op':'send','id':%d,'fds':1,'queue':'%s'}", i,
		       own(1, keep_printf("q%d", i)));
	wait_for(hung_fuse_count(fuse) > 0);
	check_others_go_on();
	for (int i = 0; i < N; i++)
		assert_true(json_has(hear(ann)->header, "error"));
	check_others_go_on();
	check_recovers(1);
}

/* One that is half copied when others take all the places of its user. */
static void test_in_the_middle_of_another(void **state)
{
	struct client *ann;
	int hung[2];

	begin();
	ann = client_connect_as(stranger(1));
	for (int i = 0; i < 2; i++)
		hung[i] = hung_fuse_open(fuse, O_RDONLY);
	hung_fuse_hang(fuse, HANG_READ);
	say_fd(ann, make_sparse((size_t)4 << 30),
	       "{'op':'send','id':1,'fds':1,'md5':true,'queue':'%s'}", own(1, "a"));
	for (int i = 0; i < 2; i++)
		say_fd(ann, hung[i], "{'op':'send','id':%d,'fds':1,'queue':'%s'}", i + 2,
		       own(1, keep_printf("q%d", i)));
	for (int i = 0; i < 3; i++)
		assert_true(json_has(hear(ann)->header, "error"));
	check_recovers(1);
}

/* ---- while it is closed ---- */

static void test_close_hangs(void **state)
{
	struct client *ann;

	begin();
	ann = client_connect_as(stranger(1));
	send_hanging(ann, HANG_CLOSE, own(1, "hung"));
	check_others_go_on();
	hear_nothing(client_connect_as(stranger(1)));
	wait_for(!takes_descriptors(1));
	check_others_go_on();
	check_recovers(1);
}

/* Frames that are refused, or never whole: their descriptors are closed as well. */
static void say_with_hung(struct client *c, const char *request, size_t cut)
{
	int fd = hung_fuse_open(fuse, O_RDONLY),
	    calls = hung_fuse_calls(fuse, HANG_CLOSE);
	size_t size;
	char *bytes = frame_encode(&size, NULL, 0, "%s", with_quotes(request));

	say_bytes_fds(c, bytes, size - cut, &fd, 1);
	if (cut)
		client_close(c);
	wait_for(hung_fuse_calls(fuse, HANG_CLOSE) > calls);
}

static void test_close_of_what_is_refused_hangs(void **state)
{
	static const struct {
		const char *request;
		size_t cut;
	} rows[] = {
		{ "{'op':'ping','id':1,'fds':1}", 0 },
		{ "{'op':'send','id':1,'queue':'..','fds':1}", 0 },
		{ "{'op':'send','id':1,'queue':'q','fds':2}", 0 },
		{ "{'op':'send','id':1,'queue':'q'}", 0 },
		{ "{'op':'send','id':1,'queue':'q','fds':1}", 1 },
		{ "{}x{}", 0 },
	};

	begin();
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		hung_fuse_hang(fuse, HANG_CLOSE);
		say_with_hung(client_connect_as(stranger(1)), rows[i].request,
			      rows[i].cut);
		check_others_go_on();
		hung_fuse_answer(fuse);
	}
	check_recovers(1);
}

/* Of many users at once, and nobody else may notice. */
static void test_many_users(void **state)
{
	enum { N = 12 };

	begin();
	hung_fuse_hang(fuse, HANG_CLOSE);
	for (unsigned int i = 0; i < N; i++) {
		say_with_hung(client_connect_as(stranger(10 + i)),
			      "{'op':'ping','id':1,'fds':1}", 0);
		check_others_go_on();
	}
	for (unsigned int i = 0; i < N; i++)
		check_recovers(10 + i);
}

/* Handed out, taken back or purged: the daemon's own copy is closed elsewhere. */
static void check_close_of_what_is_live(void)
{
	const char *queue = own(1, "m");
	struct client *ann, *receiver;
	struct frame *f;

	ann = client_connect_as(stranger(1));
	receiver = client_connect_as(stranger(1));
	say(receiver, "{'op':'hello','id':1,'fds':true}");
	hear_reply(receiver, 1);
	say(ann, "{'op':'create','id':1,'name':'%s','durable':false}", queue);
	hear_reply(ann, 1);
	for (int i = 0; i < 2; i++)
		send_fd(ann, hung_fuse_open(fuse, O_RDONLY),
			keep_printf("%s,'live':true", to(queue)));
	f = take_live(receiver, queue);
	hung_fuse_hang(fuse, HANG_CLOSE);
	settle(receiver, "ack", f, "");
	check_others_go_on();
	say(ann, "{'op':'purge','id':1,'name':'%s'}", queue);
	hear_reply(ann, 1);
	wait_for(hung_fuse_count(fuse) > 0);
	check_others_go_on();
	check_recovers(1);
}

static void test_close_of_what_is_live_hangs(void **state)
{
	begin();
	check_close_of_what_is_live();
}

/* A device number tells nothing of who answers for what is on it. */
static void test_close_of_what_is_live_hangs_on_a_device(void **state)
{
	begin_with(hung_fuse_start_on_device);
	check_close_of_what_is_live();
}

/* ---- its place among other requests ---- */

/* The queue it goes to waits for it, on this connection; nothing else does. */
static void test_order(void **state)
{
	struct client *c, *other;

	start_durable();
	fuse = hung_fuse_start();
	c = client_connect();
	other = client_connect();
	send_hanging(c, HANG_READ, "q");
	say_text(c, "second", "{'op':'send','id':2,'queue':'q'}");
	say_file(c, 3, BY_PIECES, LARGE, "'queue':'q'");
	say_file(c, 4, BY_FD, LARGE + 1, "'queue':'q'");
	say_text(c, "elsewhere", "{'op':'send','id':5,'queue':'r'}");
	hear_reply(c, 5);
	hear_nothing(c);
	settle(c, "ack", take(c, "r", "elsewhere"), "");
	send_text(other, "q", "of another");
	hung_fuse_answer(fuse);
	for (int i = 0; i < 4; i++)
		assert_false(json_has(hear(c)->header, "error"));
	settle(c, "ack", take(c, "q", "of another"), "");
	settle(c, "ack", take_file(c, "q", HUNG_FUSE_SIZE), "");
	settle(c, "ack", take(c, "q", "second"), "");
	settle(c, "ack", take_file(c, "q", LARGE), "");
	settle(c, "ack", take_file(c, "q", LARGE + 1), "");
}

/* What waits behind a copy takes memory, and so room of its sender's. */
static void test_waiting_is_counted(void **state)
{
	struct client *c;

	start_durable("--limit", "buffer_per_user=600000");
	fuse = hung_fuse_start();
	c = client_connect();
	send_hanging(c, HANG_READ, "q");
	for (int i = 2; i < 5; i++)
		say_body(c, pattern(250000), 250000, "{'op':'send','id':%d,'queue':'q'}",
			 i);
	hear_error(c, 4, "quota");
	say_file(c, 5, BY_FD, 250000, "'queue':'q'");
	hear_error(c, 5, "quota");
	hung_fuse_answer(fuse);
	for (int i = 1; i < 4; i++)
		hear_reply(c, i);
	settle(c, "ack", take_file(c, "q", HUNG_FUSE_SIZE), "");
	for (int i = 0; i < 2; i++)
		settle(c, "ack", take_file(c, "q", 250000), "");
	say_body(c, pattern(250000), 250000, "{'op':'send','id':1,'queue':'q'}");
	hear_reply(c, 1);
}

/* So are the live descriptors that wait so: each is one of ours. */
static void test_live_ones_that_wait_are_counted(void **state)
{
	struct client *c;
	int live;

	start_durable("--limit", "live_per_user=2");
	fuse = hung_fuse_start();
	c = client_connect();
	create_volatile(c, "m");
	live = make_pipe().read;
	send_hanging(c, HANG_READ, "m");
	for (int i = 2; i < 5; i++)
		say_fd(c, live, "{'op':'send','id':%d,'fds':1,'live':true,'queue':'m'}",
		       i);
	assert_non_null(strstr(json_string(hear_error(c, 4, "quota")->header, "message"),
			       "live_per_user"));
	hear_nothing(c);
	hung_fuse_answer(fuse);
	for (int i = 1; i < 4; i++)
		hear_reply(c, i);
	say(c, "{'op':'purge','id':1,'name':'m'}");
	hear_reply(c, 1);
}

/* A copy that is given up lets those behind it go. */
static void test_cancel(void **state)
{
	struct client *c;

	start_durable();
	fuse = hung_fuse_start();
	c = client_connect();
	send_hanging(c, HANG_READ, "q");
	say_text(c, "second", "{'op':'send','id':2,'queue':'q'}");
	say(c, "{'op':'cancel','id':3,'request':1}");
	hear_error(c, 1, "timeout");
	for (int i = 0; i < 2; i++)
		assert_false(json_has(hear(c)->header, "error"));
	hung_fuse_answer(fuse);
	settle(c, "ack", take(c, "q", "second"), "");
	take_nothing(c, "q");
	wait_for(spool_count() == 0);
}

/* The queue is deleted while a copy for it is under way. */
static void test_the_queue_is_deleted(void **state)
{
	struct client *c;

	start_durable();
	fuse = hung_fuse_start();
	c = client_connect();
	send_text(c, "q", "text");
	send_hanging(c, HANG_READ, "q");
	say(c, "{'op':'delete','id':2,'name':'q'}");
	for (int i = 0; i < 2; i++) {
		struct frame *f = hear(c);

		if (json_int(f->header, "re") == 2)
			assert_false(json_has(f->header, "error"));
		else
			assert_string_equal(json_string(f->header, "error"), "not-found");
		if (i == 0)
			hung_fuse_answer(fuse);
	}
	wait_for(spool_count() == 0);
}

/* The daemon stops meanwhile, and leaves all in order; only its process waits for the kernel,
 * which waits for the file system. */
static void check_stop(enum hung_call call)
{
	struct client *c;
	pid_t pid;

	start_durable("--limit", "shutdown_deadline=100");
	fuse = hung_fuse_start();
	c = client_connect();
	send_text(c, "q", "kept");
	send_hanging(c, call, "q");
	pid = server.pid;
	kill(pid, SIGTERM);
	wait_for(log_count("stopped") > 0);
	hung_fuse_answer(fuse);
	server.pid = 0;
	assert_int_equal(wait_exit(pid), 0);
	start_durable(AT_ONCE);
	take(client_connect(), "q", "kept");
	wait_for(spool_count() == 0);
}

static void test_stop_while_reading(void **state)
{
	check_stop(HANG_READ);
}

static void test_stop_while_looking(void **state)
{
	check_stop(HANG_STAT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it_hangs(test_read_hangs),
		it_hangs(test_fstat_hangs),
		it_hangs(test_slow),
		it_hangs(test_a_quota_that_hangs),
		cmocka_unit_test_setup_teardown(test_hashing_a_hole, harness_setup,
						harness_teardown),
		it_hangs(test_ends_in_the_middle),
		it_hangs(test_the_sender_goes),
		it_hangs(test_many),
		it_hangs(test_in_the_middle_of_another),
		it_hangs(test_close_hangs),
		it_hangs(test_close_of_what_is_refused_hangs),
		it_hangs(test_many_users),
		it_hangs(test_close_of_what_is_live_hangs),
		it_hangs(test_close_of_what_is_live_hangs_on_a_device),
		it_hangs(test_order),
		it_hangs(test_waiting_is_counted),
		it_hangs(test_live_ones_that_wait_are_counted),
		it_hangs(test_cancel),
		it_hangs(test_the_queue_is_deleted),
		it_hangs(test_stop_while_reading),
		it_hangs(test_stop_while_looking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
