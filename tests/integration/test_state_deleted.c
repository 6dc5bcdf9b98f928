/* SPDX-License-Identifier: MIT */

/* The state directory, or a part of it, is deleted under a running daemon and made again:
 * nobody is told that a message is safe which is not, what is in memory is written into what
 * is there then, and all works as before. */

#include "integration/durable.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { LARGE = 300000 };

static struct client *c;

static const char *in_state(const char *name)
{
	return keep_printf("%s/%s", server.state, name);
}

static void delete_state(void)
{
	assert_int_equal(system(keep_printf("rm -r '%s'", server.state)), 0);
}

static void make_state(void)
{
	assert_int_equal(mkdir(server.state, 0700), 0);
}

static bool works_again(int times)
{
	return log_count("/state works again") == times;
}

static void be_refused(const char *text)
{
	say_text(c, text, "{'op':'send','id':1,'queue':'q'}");
	hear_error(c, 1, "internal");
}

/* Deleted and made again, and that was noticed. */
static void replace_state(void)
{
	delete_state();
	make_state();
	be_refused("lost");
	wait_for(works_again(1));
}

static char *large(char letter)
{
	char *body = keep(malloc(LARGE + 1));

	memset(body, letter, LARGE);
	body[LARGE] = '\0';
	return body;
}

static void test_small_messages(void **state)
{
	start_durable(AT_ONCE);
	c = client_connect();
	send_text(c, "q", "before");
	delete_state();
	be_refused("lost");
	assert_int_equal(log_count("No such file or directory"), 1);
	make_state();
	wait_for(works_again(1));
	send_text(c, "q", "after");
	restart(CRASH, AT_ONCE);
	c = client_connect();
	take(c, "q", "before");
	take(c, "q", "after");
	take_nothing(c, "q");
}

/* Only the last commit, at the stop, could notice. */
static void test_an_orderly_stop(void **state)
{
	start_durable();
	c = client_connect();
	send_text(c, "q", "before");
	delete_state();
	make_state();
	restart(ORDERLY);
	c = client_connect();
	take(c, "q", "before");
	take_nothing(c, "q");
}

/* What was sent before, and what has been sent since to the directory made anew. */
static void expect_both_after_a_crash(void)
{
	restart(CRASH, AT_ONCE);
	c = client_connect();
	take(c, "q", "before");
	take(c, "q", large('a'));
	take_nothing(c, "q");
}

static void test_large_messages(void **state)
{
	start_durable(AT_ONCE);
	c = client_connect();
	send_text(c, "q", "before");
	replace_state();
	send_text(c, "q", large('a'));
	expect_both_after_a_crash();
}

/* Nothing else is sent that would notice. */
static void test_large_messages_alone(void **state)
{
	start_durable(AT_ONCE);
	c = client_connect();
	delete_state();
	make_state();
	assert_int_equal(chmod(server.state, 0755), 0);
	be_refused(large('l'));
	wait_for(works_again(1));
	assert_int_equal(log_count("has mode 0755"), 1);
	send_text(c, "q", large('a'));
	restart(CRASH, AT_ONCE);
	c = client_connect();
	take(c, "q", large('a'));
	take_nothing(c, "q");
}

static void test_the_spool_alone(void **state)
{
	start_durable(AT_ONCE);
	c = client_connect();
	send_text(c, "q", "before");
	assert_int_equal(rmdir(in_state("spool")), 0);
	be_refused(large('l'));
	wait_for(works_again(1));
	send_text(c, "q", large('a'));
	expect_both_after_a_crash();
}

/* What a deleted file had is lost, and that is said: in the log, and in the queue. */
static void test_a_body_that_is_lost(void **state)
{
	struct frame *f;

	start_durable(AT_ONCE);
	c = client_connect();
	send_text(c, "q", large('x'));
	send_text(c, "q", "small");
	replace_state();
	assert_int_equal(log_count("the bodies of 1 messages are lost"), 1);
	take(c, "q", "small");
	take_nothing(c, "q");
	say(c, "{'op':'receive','id':1,'queue':'q','peek':true,'dead':true}");
	f = hear_reply(c, 1);
	assert_string_equal(json_string(f->header, "reason"),
			    "its body cannot be read any more");
	hear_end(c, 1, "peeked");
}

static off_t size_of(const char *name)
{
	struct stat st;

	return stat(in_state(name), &st) < 0 ? -1 : st.st_size;
}

/* What else was in it. */
static void test_the_other_files(void **state)
{
	off_t reserve, commits;

	start_durable(AT_ONCE);
	c = client_connect();
	send_text(c, "q", "before");
	reserve = size_of("reserve");
	commits = size_of("commits");
	replace_state();
	send_text(c, "q", "after");
	assert_int_equal(size_of("reserve"), reserve);
	assert_int_equal(size_of("commits"), commits);
}

static pid_t start_other(const char *log, int *ret_ready)
{
	const char *arguments[] = { "--socket", keep_printf("%s/other", server.dir),
				    "--state", server.state, NULL };

	return server_spawn(arguments, log, ret_ready);
}

/* It belongs to the one daemon as before, whose socket the lock tells. */
static void test_no_second_daemon(void **state)
{
	char text[256] = "";
	int fd;

	start_durable(AT_ONCE);
	c = client_connect();
	send_text(c, "q", "before");
	replace_state();
	assert_int_equal(wait_exit(start_other(server.log, NULL)), 1);
	assert_int_equal(log_count(keep_printf("its socket is %s", server.socket)), 1);
	fd = open(in_state("lock"), O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	assert_string_equal(text, keep_printf("%s\n", server.socket));
	take(c, "q", "before");
}

static bool is_refused_for(const char *reason)
{
	say_text(c, "refused", "{'op':'send','id':1,'queue':'q'}");
	return strstr(hear_error(c, 1, "internal")->header, reason);
}

/* Another daemon has been quicker: the directory is its own until it ends, and what it has
 * left there is kept aside. */
static void test_a_quicker_daemon(void **state)
{
	const char *log = keep_printf("%s/other.log", server.dir);
	pid_t pid;
	int ready;

	start_durable(AT_ONCE);
	c = client_connect();
	send_text(c, "q", "before");
	delete_state();
	pid = start_other(log, &ready);
	assert_true(server_wait_ready(ready));
	be_refused("lost");
	wait_for(is_refused_for("another ipcd has the directory"));
	assert_false(works_again(1));
	assert_int_equal(access(in_state("ipcd.db.bad"), F_OK), -1);
	kill(pid, SIGTERM);
	assert_int_equal(wait_exit(pid), 0);
	wait_for(works_again(1));
	assert_int_equal(access(in_state("ipcd.db.bad"), F_OK), 0);
	send_text(c, "q", "after");
	restart(CRASH, AT_ONCE);
	c = client_connect();
	take(c, "q", "before");
	take(c, "q", "after");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_small_messages),   it(test_an_orderly_stop),
		it(test_large_messages),   it(test_large_messages_alone),
		it(test_the_spool_alone),  it(test_a_body_that_is_lost),
		it(test_the_other_files),  it(test_no_second_daemon),
		it(test_a_quicker_daemon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
