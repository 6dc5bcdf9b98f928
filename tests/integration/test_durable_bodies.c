/* SPDX-License-Identifier: MIT */

/* Large bodies, which are files beside the database: they are there as long as their message
 * needs them, and no longer. */

#include "integration/durable.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>

enum { SIZE = 300000 };

static struct client *c;

/* How many large bodies there are in files. */
static int count_files(void)
{
	DIR *dir = opendir(keep_printf("%s/spool", server.state));
	struct dirent *entry;
	int n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void send_file(const char *queue)
{
	char *body = keep(calloc(SIZE, 1));

	say_body(c, body, SIZE, "{'op':'send','id':1,'queue':'%s'}", queue);
	hear_reply(c, 1);
}

/* Large bodies are files: none stays when its message is gone. */
static void test_files_go_with_their_messages(void **state)
{
	char *left_over = keep_printf("%s/spool/12345", server.state);

	start_durable(AT_ONCE);
	c = client_connect();
	send_file("q");
	send_file("q");
	assert_int_equal(count_files(), 2);
	say(c, "{'op':'receive','id':1,'queue':'q'}");
	hear_reply(c, 1);
	hear_end(c, 1, "max");
	say(c, "{'op':'ack','id':2,'message':1}");
	hear_reply(c, 2);
	wait_for(count_files() == 1);
	fclose(fopen(left_over, "we")); /* as if the machine had stopped in between */
	restart(CRASH, AT_ONCE);
	assert_int_equal(access(left_over, F_OK), -1);
	assert_int_equal(count_files(), 1);
	assert_int_equal(queue_count("q", "ready"), 1);
}

static void be_in_memory(const char *queue)
{
	say(c, "{'op':'create','id':1,'name':'%s','durable':false}", queue);
	hear_reply(c, 1);
}

static struct frame *take_body(const char *queue)
{
	struct frame *f;

	say(c, "{'op':'receive','id':1,'queue':'%s','wait_ms':-1}", queue);
	f = hear_reply(c, 1);
	assert_int_equal(f->body_size, SIZE);
	hear_end(c, 1, "max");
	return f;
}

static void move(const char *from, const char *to)
{
	say(c, "{'op':'move','id':1,'name':'%s','to':'%s','state':'ready'}", from, to);
	hear_reply(c, 1);
}

/* What is in a memory queue has its file as long as it is there, and through an orderly
 * stop; the same from queue to queue. */
static void test_files_between_queues(void **state)
{
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		start_durable(AT_ONCE);
		c = client_connect();
		if (how == ORDERLY)
			be_in_memory("memory");
		send_file("q");
		send_file("memory");
		move("memory", "r");
		move("q", "memory");
		assert_int_equal(count_files(), 2);
		restart(how, AT_ONCE);
		assert_int_equal(queue_count("r", "ready"), 1);
		assert_int_equal(queue_count("memory", "ready"), how == ORDERLY);
		assert_int_equal(count_files(), how == ORDERLY ? 2 : 1);
		c = client_connect();
		settle(c, "ack", take_body("r"), "");
		if (how == ORDERLY)
			settle(c, "ack", take_body("memory"), "");
		stop();
	}
}

static int sealed_memfd(size_t size)
{
	int fd = memfd_create("body", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(posix_fallocate(fd, 0, (off_t)size), 0); /* without holes */
	assert_int_equal(pwrite(fd, "first", 5, 0), 5);
	assert_int_equal(pwrite(fd, "last", 4, (off_t)size - 4), 4);
	assert_int_equal(fcntl(fd, F_ADD_SEALS,
			       F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE),
			 0);
	return fd;
}

static void send_fd(const char *queue, int fd)
{
	size_t size;
	char *bytes = frame_encode(&size, NULL, 0,
				   "{'op':'send','id':1,'queue':'%s','fds':1,"
				   "'filename':'a b.bin'}",
				   queue);

	say_bytes_fds(c, bytes, size, &fd, 1);
	hear_reply(c, 1);
}

/* A memfd that is kept as it is becomes a file only at the end, or in a durable queue. */
static void test_a_memfd(void **state)
{
	char *body = keep(calloc(SIZE, 1));
	int fd = sealed_memfd(SIZE);
	struct frame *f;

	memcpy(body, "first", 5);
	memcpy(body + SIZE - 4, "last", 4);
	start_durable(AT_ONCE);
	c = client_connect();
	be_in_memory("memory");
	send_fd("memory", fd);
	be_in_memory("moved");
	send_fd("moved", fd);
	close(fd);
	assert_int_equal(count_files(), 0);
	move("moved", "q");
	wait_for(count_files() == 1);
	restart(ORDERLY, AT_ONCE);
	assert_int_equal(count_files(), 2);
	restart(CRASH, AT_ONCE); /* kept for one start */
	assert_int_equal(queue_count("memory", "ready"), 0);
	assert_int_equal(count_files(), 1);
	c = client_connect();
	f = take_body("q");
	assert_memory_equal(f->body, body, SIZE);
	assert_string_equal(json_string(f->header, "filename"), "a b.bin");
}

/* Text about a file is there with a small body, too. */
static void test_text_of_a_small_file(void **state)
{
	struct frame *f;

	start_durable(AT_ONCE);
	c = client_connect();
	say_text(c, "small", "{'op':'send','id':1,'queue':'q','filename':'a b.bin'}");
	hear_reply(c, 1);
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		restart(how, AT_ONCE);
		c = client_connect();
		f = take(c, "q", "small");
		assert_string_equal(json_string(f->header, "filename"), "a b.bin");
		assert_int_equal(json_int(f->header, "file_size"), 5);
		settle(c, "nack", f, ",'delay_ms':0");
	}
}

/* A file that is gone, or not whole, costs its message only. */
static void test_files_that_are_lost(void **state)
{
	static const char *const spoils[] = { "rm $f", "truncate -s -1 $f", "echo >>$f",
					      "mv $f x; ln -s ../x $f" };

	for (size_t i = 0; i < ARRAY_SIZE(spoils); i++) {
		start_durable(AT_ONCE);
		c = client_connect();
		send_file("q");
		send_text(c, "q", "another");
		end_by(HERE, CRASH);
		assert_int_equal(system(keep_printf("cd %s/spool && f=$(ls) && %s",
						    server.state, spoils[i])),
				 0);
		server_start(HERE, (const char *const[]){ AT_ONCE, NULL });
		assert_int_equal(log_count("1 of 2 messages are lost"), i + 1);
		c = client_connect();
		settle(c, "ack", take(c, "q", "another"), "");
		take_nothing(c, "q");
		stop();
		assert_int_equal(system(keep_printf("rm %s/ipcd.db.bad*", server.state)),
				 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_files_go_with_their_messages),
		it(test_files_between_queues),
		it(test_a_memfd),
		it(test_text_of_a_small_file),
		it(test_files_that_are_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
