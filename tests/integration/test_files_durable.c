/* SPDX-License-Identifier: MIT */

/* Files over the end of the daemon, in order and by kill -9. */

#include "integration/harness_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "integration/durable.h"

static void send_all(struct client *c, const char *queue)
{
	for (enum way in = 0; in < N_WAYS; in++) {
		send_file(c, in, SMALL,
			  keep_printf("'queue':'%s','filename':'small %d','mode':384,"
				      "'mtime':-1,'md5':true",
				      queue, in));
		send_file(c, in, LARGE,
			  keep_printf("'queue':'%s','filename':'large %d','mode':420,"
				      "'mtime':1,'mtime_ns':2,'sha256':true,"
				      "'archive':'tar','meta':{'a':1}",
				      queue, in));
	}
}

static void take_all(struct client *c, const char *queue)
{
	for (enum way in = 0; in < N_WAYS; in++) {
		settle(c, "ack", take_file(c, queue, SMALL), "");
		settle(c, "ack", take_file(c, queue, LARGE), "");
	}
	take_nothing(c, queue);
	wait_for(spool_count() == 0);
}

/* All that can be seen of them is as before. */
static void test_durable(void **state)
{
	const char *before;

	start_durable(AT_ONCE);
	send_all(client_connect(), "q");
	before = describe_queue("q");
	for (int i = 0; i < 2 * N_ENDINGS; i++) {
		restart((enum ending)(i % N_ENDINGS), AT_ONCE);
		assert_string_equal(describe_queue("q"), before);
		assert_int_equal(spool_count(), 3);
	}
	take_all(connect_with_fds(), "q");
}

static void test_in_memory(void **state)
{
	const char *before;
	struct client *c;

	start_durable(AT_ONCE);
	c = client_connect();
	create_volatile(c, "m");
	send_all(c, "m");
	send_fd(c, make_memfd(LARGE, true), "'queue':'m'");
	before = describe_queue("m");
	restart(ORDERLY, AT_ONCE);
	assert_string_equal(describe_queue("m"), before);
	restart(ORDERLY, AT_ONCE);
	assert_string_equal(describe_queue("m"), before);
	restart(CRASH, AT_ONCE);
	assert_int_equal(queue_count("m", "ready"), 0);
	wait_for(spool_count() == 0);
}

/* In hand when the daemon ends: the old lease still counts. */
static void test_leased(void **state)
{
	start_durable(AT_ONCE);
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		struct client *c = connect_with_fds();
		struct frame *f;

		send_file(c, BY_FD, LARGE, "'queue':'q'");
		f = take_file(c, "q", LARGE);
		restart(how, AT_ONCE);
		assert_true(fd_has_pattern(f->fd, LARGE));
		settle(client_connect(), "ack", f, "");
		wait_for(spool_count() == 0);
	}
}

/* What had ended before does not come again, and its file is gone. */
static void test_acknowledged(void **state)
{
	struct client *c;

	start_durable(AT_ONCE);
	c = connect_with_fds();
	for (int i = 0; i < 3; i++)
		send_file(c, BY_FD, LARGE, "'queue':'q'");
	settle(c, "ack", take_file(c, "q", LARGE), "");
	restart(CRASH, AT_ONCE);
	wait_for(spool_count() == 2);
	c = connect_with_fds();
	say(c, "{'op':'purge','id':1,'name':'q'}");
	hear_reply(c, 1);
	restart(CRASH, AT_ONCE);
	assert_int_equal(queue_count("q", "ready"), 0);
	wait_for(spool_count() == 0);
}

/* Half of a body, or a file of which nobody was told: nothing of it is there afterwards. */
static void test_cut_off(void **state)
{
	const char *data = pattern(LARGE);
	size_t size;
	char *frame =
		frame_encode(&size, data, LARGE, "{'op':'send','id':1,'queue':'q'}");

	start_durable(AT_ONCE);
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		struct client *a = client_connect(), *b = client_connect();

		say_body(a, data, LARGE, "{'op':'send','id':1,'queue':'q','more':true}");
		say_bytes(b, frame, size - 1);
		hear_nothing(a);
		restart(how, AT_ONCE, "--limit", "shutdown_deadline=100");
		assert_null(frame_line(list(client_connect(), "names"), 0));
		wait_for(spool_count() == 0);
	}
}

/* kill -9 while files come in: what was answered is there, and what is there is whole. */
static void test_killed_while_files_come(void **state)
{
	enum { ROUNDS = 8, N = 6 };
	int n_answered, n;

	start_durable(AT_ONCE);
	say(client_connect(), "{'op':'create','id':1,'name':'q'}");
	wait_for(frame_line(list(client_connect(), "names"), 0) != NULL);
	for (int round = 0; round < ROUNDS; round++) {
		struct client *c = client_connect(), *receiver;

		for (int i = 0; i < N; i++)
			say_file(c, (uint64_t)i, (enum way)(i % N_WAYS), LARGE,
				 "'queue':'q'");
		n_answered = round * N / (ROUNDS - 1);
		for (int i = 0; i < n_answered; i++)
			assert_false(json_has(hear(c)->header, "error"));
		restart(CRASH, AT_ONCE);
		client_close(c);
		receiver = connect_with_fds();
		n = (int)queue_count("q", "ready");
		assert_in_range(n, n_answered, N);
		for (int i = 0; i < n; i++)
			settle(receiver, "ack", take_file(receiver, "q", LARGE), "");
		wait_for(spool_count() == 0);
		client_close(receiver);
	}
}

/* ---- what somebody has done to the spool ---- */

static char *only_file(void)
{
	DIR *dir = opendir(keep_printf("%s/spool", server.state));
	struct dirent *entry;
	char *path = NULL;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			path = keep_printf("%s/spool/%s", server.state, entry->d_name);
	closedir(dir);
	assert_non_null(path);
	return path;
}

/* A file that is missing or cut short is never handed out as if it were whole; the daemon
 * starts, says what is lost and goes on. */
static void check_spoiled(int (*spoil)(const char *path))
{
	struct client *c;

	start_durable(AT_ONCE);
	c = client_connect();
	send_file(c, BY_FD, LARGE, "'queue':'q'");
	send_text(c, "q", "next");
	stop();
	assert_int_equal(spoil(only_file()), 0);
	start_durable(AT_ONCE);
	assert_true(log_count("damaged") + log_count("lost") > 0);
	c = client_connect();
	settle(c, "ack", take(c, "q", "next"), "");
	take_nothing(c, "q");
	send_file(c, BY_FD, LARGE, "'queue':'q'");
	settle(c, "ack", take_file(c, "q", LARGE), "");
}

static int cut_short(const char *path)
{
	return truncate(path, LARGE - 1);
}

static void test_a_missing_file(void **state)
{
	check_spoiled(unlink);
}

static void test_a_short_file(void **state)
{
	check_spoiled(cut_short);
}

/* Files that no message names are swept up at the start. */
static void test_files_of_nobody(void **state)
{
	int fd;

	start_durable(AT_ONCE);
	send_file(client_connect(), BY_FD, LARGE, "'queue':'q'");
	stop();
	fd = open(keep_printf("%s/spool/999999", server.state),
		  O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(write(keep_fd(fd), "x", 1), 1);
	start_durable(AT_ONCE);
	wait_for(spool_count() == 1);
	take_file(client_connect(), "q", LARGE);
}

/* Nobody but the daemon's user can look into the spool. */
static void test_modes(void **state)
{
	struct stat st;

	start_durable(AT_ONCE);
	send_file(client_connect(), BY_FD, LARGE, "'queue':'q','mode':511");
	assert_int_equal(stat(only_file(), &st), 0);
	assert_int_equal(st.st_mode & 0177, 0);
	assert_int_equal(stat(keep_printf("%s/spool", server.state), &st), 0);
	assert_int_equal(st.st_mode & 0077, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_durable),	  it(test_in_memory),
		it(test_leased),	  it(test_acknowledged),
		it(test_cut_off),	  it(test_killed_while_files_come),
		it(test_a_missing_file),  it(test_a_short_file),
		it(test_files_of_nobody), it(test_modes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
