/* SPDX-License-Identifier: MIT */

/* Live messages: the very descriptor that was given, for the one who receives it. */

#include "integration/harness_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/mman.h>
#include <unistd.h>

#include "integration/durable.h"

#define LIVE "'queue':'m','live':true"

/* A daemon with a store, and the memory queue m. */
static struct client *begin(void)
{
	struct client *c;

	start_durable(AT_ONCE);
	c = client_connect();
	create_volatile(c, "m");
	return c;
}

static void write_text(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void read_text(int fd, const char *text)
{
	char got[100];

	assert_int_equal(read(fd, got, sizeof(got)), strlen(text));
	assert_memory_equal(got, text, strlen(text));
}

/* Nobody has the other end of this pipe any more: not the daemon either. */
static void wait_end_of(int write_end)
{
	struct pollfd pollfd = { .fd = write_end };

	assert_int_equal(poll(&pollfd, 1, DEADLINE_MS), 1);
	assert_true(pollfd.revents & POLLERR);
}

static bool has_reader(int write_end)
{
	struct pollfd pollfd = { .fd = write_end };

	return poll(&pollfd, 1, 0) == 0;
}

/* Sends the reading end of a pipe; the writing end is what the test keeps. */
static int send_pipe(struct client *c, const char *keys)
{
	struct pipe_ends ends = make_pipe();

	send_fd(c, ends.read, keys);
	close_kept(ends.read);
	return ends.write;
}

/* ---- what it may be ---- */

static void test_a_pipe(void **state)
{
	struct client *c = begin(), *receiver = connect_with_fds();
	int writer = send_pipe(c, LIVE ",'filename':'log','meta':{'a':1}");
	struct frame *f;

	write_text(writer, "before");
	f = take_live(receiver, "m");
	assert_string_equal(json_string(f->header, "filename"), "log");
	assert_int_equal(json_int(f->header, "meta.a"), 1);
	assert_false(json_has(f->header, "file_size"));
	assert_false(json_has(f->header, "xxh3"));
	read_text(f->fd, "before");
	write_text(writer, "after");
	read_text(f->fd, "after");
	settle(receiver, "ack", f, "");
	write_text(writer, "at last");
	read_text(f->fd, "at last");
	close_kept(f->fd);
	wait_end_of(writer);
}

static void test_a_writing_end(void **state)
{
	struct client *c = begin(), *receiver = connect_with_fds();
	struct pipe_ends ends = make_pipe();
	struct frame *f;

	send_fd(c, ends.write, LIVE);
	f = take_live(receiver, "m");
	write_text(f->fd, "from the receiver");
	read_text(ends.read, "from the receiver");
}

static void test_a_socket(void **state)
{
	struct client *c = begin(), *receiver = connect_with_fds();
	struct frame *f;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	keep_fd(ends[0]);
	send_fd(c, keep_fd(ends[1]), LIVE);
	f = take_live(receiver, "m");
	assert_false(json_has(f->header, "file_size"));
	write_text(ends[0], "ping");
	read_text(f->fd, "ping");
	write_text(f->fd, "pong");
	read_text(ends[0], "pong");
}

static void test_a_listening_socket(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct client *c = begin(), *receiver = connect_with_fds();
	struct frame *f;
	int fd = keep_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), client;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/other", server.dir);
	assert_int_equal(bind(fd, (const void *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	send_fd(c, fd, LIVE);
	f = take_live(receiver, "m");
	client = keep_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	assert_int_equal(connect(client, (const void *)&address, sizeof(address)), 0);
	keep_fd(accept4(f->fd, NULL, NULL, SOCK_CLOEXEC));
}

/* Offset and content are the giver's too. */
static void test_a_file(void **state)
{
	struct client *c = begin(), *receiver = connect_with_fds();
	int fd = make_file(LARGE);
	struct frame *f;

	assert_int_equal(lseek(fd, 1000, SEEK_SET), 1000);
	send_fd(c, fd, LIVE);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 1000);
	f = take_live(receiver, "m");
	assert_int_equal(json_int(f->header, "file_size"), LARGE);
	assert_int_equal(lseek(f->fd, 0, SEEK_CUR), 1000);
	assert_int_equal(lseek(fd, 5, SEEK_SET), 5);
	assert_int_equal(lseek(f->fd, 0, SEEK_CUR), 5);
	assert_int_equal(pwrite(f->fd, "from the receiver", 17, 0), 17);
	assert_false(fd_has_pattern(fd, LARGE));
	assert_int_equal(spool_count(), 0);
}

static void test_a_memfd(void **state)
{
	struct client *c = begin(), *receiver = connect_with_fds();
	int fd = make_memfd(LARGE, false);
	struct frame *f;

	send_fd(c, fd, LIVE);
	f = take_live(receiver, "m");
	assert_int_equal(pwrite(fd, "later", 5, 0), 5);
	assert_false(fd_has_pattern(f->fd, LARGE));
}

static void test_other_kinds(void **state)
{
	struct client *c = begin(), *receiver = connect_with_fds();
	struct frame *f;
	uint64_t n = 7;

	send_fd(c, keep_fd(eventfd(0, EFD_CLOEXEC)), LIVE);
	f = take_live(receiver, "m");
	assert_int_equal(write(f->fd, &n, sizeof(n)), sizeof(n));
	send_fd(c, keep_fd(open("/dev/null", O_RDWR | O_CLOEXEC)), LIVE);
	f = take_live(receiver, "m");
	assert_int_equal(read(f->fd, &n, sizeof(n)), 0);
}

/* The daemon changes nothing of it on its way. */
static void test_its_flags_stay(void **state)
{
	struct client *c = begin(), *receiver = connect_with_fds();
	struct pipe_ends ends = make_pipe();
	struct frame *f;
	int flags;

	assert_int_equal(fcntl(ends.read, F_SETFL, O_NONBLOCK), 0);
	flags = fcntl(ends.read, F_GETFL);
	send_fd(c, ends.read, LIVE);
	assert_int_equal(fcntl(ends.read, F_GETFL), flags);
	f = take_live(receiver, "m");
	assert_int_equal(fcntl(f->fd, F_GETFL), flags);
}

/* ---- what it may not be ---- */

static void test_refused(void **state)
{
	struct client *c = begin(), *other = client_connect();
	int directory, path, listener;

	directory = keep_fd(open(server.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	path = keep_fd(open(server.log, O_PATH | O_CLOEXEC));
	listener = make_pipe().read;
	send_fd_fails(c, directory, LIVE, "bad-fd");
	send_fd_fails(c, path, LIVE, "bad-fd");
	send_fd_fails(c, client_fd(c), LIVE, "bad-fd");
	send_fd_fails(c, client_fd(other), LIVE, "bad-fd");
	assert_non_null(
		strstr(json_string(send_fd_fails(c, listener, "'queue':'q','live':true",
						 "bad-request")
					   ->header,
				   "message"),
		       "durable"));
	take_nothing(c, "m");
	hear_nothing(other);
	client_close(other);
}

/* A live message has no bytes that could be checked before it is taken. */
static void test_not_with_a_promise(void **state)
{
	struct client *c = begin();
	struct pipe_ends ends = make_pipe();

	say_text(c, "x", "{'op':'send','id':1,'queue':'m','live':true}");
	hear_error(c, 1, "bad-request");
	send_fd_fails(c, ends.read,
		      keep_printf(LIVE ",'md5':'%s'", digest_of("md5", SMALL)),
		      "bad-request");
	send_fd(c, ends.read, "'queue':'m','live':true,'filename':'x'");
	say(c, "{'op':'purge','id':1,'name':'m'}");
	hear_reply(c, 1);
}

/* ---- who gets it ---- */

/* Peers without descriptors are passed over, and get what comes behind it. */
static void test_peers_without_descriptors(void **state)
{
	struct client *c = begin(), *plain = client_connect(), *receiver;
	int writer;

	say(plain, "{'op':'receive','id':1,'queue':'m','max':0,'window':9,"
		   "'wait_ms':-1}");
	writer = send_pipe(c, LIVE);
	send_text(c, "m", "one");
	hear_delivery(plain, 1, "one");
	send_file(c, BY_FD, LARGE, "'queue':'m'");
	hear_file(plain, 1, LARGE);
	receiver = connect_with_fds();
	take_live(receiver, "m");
	assert_true(has_reader(writer));
	hear_nothing(plain);

	send_pipe(c, LIVE);
	take_live(receiver, "m");
	send_text(c, "m", "two");
	hear_delivery(plain, 1, "two");
}

/* Waiting receivers of both kinds: each gets what it can take. */
static void test_receivers_of_both_kinds(void **state)
{
	struct client *c = begin(), *plain = client_connect(),
		      *receiver = connect_with_fds();

	say(plain, "{'op':'receive','id':1,'queue':'m','wait_ms':-1}");
	say(receiver, "{'op':'receive','id':1,'queue':'m','wait_ms':-1}");
	hear_nothing(plain);
	hear_nothing(receiver);
	send_pipe(c, LIVE);
	assert_true(hear_reply(receiver, 1)->fd >= 0);
	send_text(c, "m", "text");
	hear_delivery(plain, 1, "text");
}

/* And what all can take they take in turn. */
static void test_both_kinds_in_one_line(void **state)
{
	struct client *c = begin(), *r[3];

	for (int i = 0; i < 3; i++) {
		r[i] = i == 1 ? connect_with_fds() : client_connect();
		say(r[i],
		    "{'op':'receive','id':1,'queue':'m','max':0,'window':9,'wait_ms':-1}");
		hear_nothing(r[i]);
	}
	for (int i = 0; i < 6; i++) {
		send_text(c, "m", "text");
		hear_delivery(r[i % 3], 1, "text");
	}
}

/* Who takes descriptors no longer gets none, and whoever does from now on what is there. */
static void test_another_hello(void **state)
{
	struct client *c = begin(), *receiver = connect_with_fds(), *other;

	say(receiver,
	    "{'op':'receive','id':1,'queue':'m','max':2,'window':2,'wait_ms':-1}");
	say(receiver, "{'op':'hello','id':2,'fds':false,'pieces':true}");
	hear_reply(receiver, 2);
	send_fd(c, make_file(LARGE), LIVE);
	hear_nothing(receiver);
	other = connect_with_fds();
	settle(other, "nack", take_live(other, "m"), ",'delay_ms':0");
	say(receiver, "{'op':'hello','id':2,'fds':true}");
	hear_reply(receiver, 2);
	assert_true(hear_reply(receiver, 1)->fd >= 0);
	send_text(c, "m", "text");
	hear_delivery(receiver, 1, "text");
	hear_end(receiver, 1, "max");
}

static void test_peek(void **state)
{
	struct client *c = begin(),
		      *receivers[] = { client_connect(), connect_with_fds() };

	send_pipe(c, LIVE ",'filename':'x'");
	send_fd(c, make_file(LARGE), LIVE);
	for (size_t i = 0; i < ARRAY_SIZE(receivers); i++) {
		say(receivers[i],
		    "{'op':'receive','id':1,'queue':'m','peek':true,'max':0}");
		for (int n = 0; n < 2; n++) {
			struct frame *f = hear_reply(receivers[i], 1);

			assert_true(json_has(f->header, "live"));
			assert_string_equal(json_string(f->header, "state"), "ready");
			assert_false(json_has(f->header, "size"));
			assert_false(json_has(f->header, "fds"));
		}
		hear_end(receivers[i], 1, "peeked");
	}
	take_live(receivers[1], "m");
	say(c, "{'op':'delete','id':1,'name':'m'}");
	hear_reply(c, 1);
}

/* ---- how it ends ---- */

/* Once handed out it cannot be handed out again: with its receiver it is lost. */
static void test_a_lost_receiver(void **state)
{
	struct client *c = begin(), *receiver = connect_with_fds();
	struct pipe_ends ends = make_pipe();

	say_fd(c, ends.read, "{'op':'send','id':1,'fds':1,'confirm':'acked'," LIVE "}");
	close_kept(take_live(receiver, "m")->fd);
	close_kept(ends.read);
	client_close(receiver);
	assert_string_equal(json_string(hear_reply(c, 1)->header, "outcome"), "lost");
	wait_end_of(ends.write);
	take_nothing(connect_with_fds(), "m");
	assert_int_equal(queue_count("m", "bytes"), 0);
}

/* Nor where its time is over: who has it may still use it. */
static void test_a_late_receiver(void **state)
{
	struct client *c = begin(), *receiver = connect_with_fds();
	struct pipe_ends ends = make_pipe();
	struct frame *f;

	say_fd(c, ends.read, "{'op':'send','id':1,'fds':1,'confirm':'acked'," LIVE "}");
	close_kept(ends.read);
	say(receiver, "{'op':'receive','id':1,'queue':'m','wait_ms':-1,'ack_wait_ms':1}");
	f = hear_reply(receiver, 1);
	hear_end(receiver, 1, "max");
	assert_string_equal(json_string(hear_reply(c, 1)->header, "outcome"), "lost");
	take_nothing(connect_with_fds(), "m");
	settle_fails(receiver, "ack", f, "lease-lost");
	assert_int_equal(queue_count("m", "lost"), 1);
	close_kept(f->fd);
	wait_end_of(ends.write);
}

static void test_nack(void **state)
{
	struct client *c = begin(), *receiver = connect_with_fds(),
		      *second = connect_with_fds();
	int writer = send_pipe(c, LIVE);
	struct frame *f = take_live(receiver, "m");

	settle(receiver, "nack", f, ",'delay_ms':0");
	close_kept(f->fd);
	client_close(receiver);
	f = take_live(second, "m");
	assert_int_equal(json_int(f->header, "attempt"), 2);
	write_text(writer, "x");
	read_text(f->fd, "x");
	settle(second, "ack", f, "");
	close_kept(f->fd);
	wait_end_of(writer);
}

/* Nothing would be left to be looked at. */
static void test_reject(void **state)
{
	struct client *c = begin(), *receiver = connect_with_fds();
	int writer = send_pipe(c, LIVE);
	struct frame *f = take_live(receiver, "m");

	settle(receiver, "reject", f, ",'reason':'no'");
	close_kept(f->fd);
	wait_end_of(writer);
	say(receiver, "{'op':'receive','id':1,'queue':'m','dead':true}");
	hear_end(receiver, 1, "peeked");
}

static void test_purge_and_delete(void **state)
{
	struct client *c = begin();
	int writer = send_pipe(c, LIVE);

	assert_true(has_reader(writer));
	say(c, "{'op':'purge','id':1,'name':'m'}");
	hear_reply(c, 1);
	wait_end_of(writer);
	writer = send_pipe(c, LIVE);
	say(c, "{'op':'delete','id':1,'name':'m'}");
	hear_reply(c, 1);
	wait_end_of(writer);
}

static void test_time_to_live(void **state)
{
	wait_end_of(send_pipe(begin(), LIVE ",'ttl_ms':1"));
}

/* Parked too long. */
static void test_deadline(void **state)
{
	struct pipe_ends ends;
	struct client *c;

	start("--limit", "live_deadline=50");
	c = client_connect();
	ends = make_pipe();
	say_fd(c, ends.read, "{'op':'send','id':1,'fds':1,'confirm':'acked'," LIVE "}");
	close_kept(ends.read);
	assert_string_equal(json_string(hear_reply(c, 1)->header, "outcome"), "expired");
	wait_end_of(ends.write);
	take_nothing(connect_with_fds(), "m");
}

/* At most so many of one user are parked or in hand. */
static void test_how_many(void **state)
{
	struct client *c, *receiver;
	struct frame *f;
	int fd;

	start("--limit", "live_per_user=2");
	c = client_connect();
	receiver = connect_with_fds();
	fd = make_pipe().read;
	send_fd(c, fd, LIVE);
	send_fd(c, fd, LIVE);
	f = send_fd_fails(c, fd, LIVE, "quota");
	assert_non_null(strstr(json_string(f->header, "message"), "live_per_user"));
	send_fd(c, make_file(LARGE), "'queue':'m'");
	f = take_live(receiver, "m");
	settle(receiver, "ack", f, "");
	send_fd(c, fd, LIVE);
	send_fd_fails(c, fd, LIVE, "quota");
	say(c, "{'op':'purge','id':1,'name':'m'}");
	hear_reply(c, 1);
	send_fd(c, fd, LIVE);
	say(c, "{'op':'purge','id':1,'name':'m'}");
	hear_reply(c, 1);
}

/* Nothing of it can be kept over a stop. */
static void test_stop(void **state)
{
	int writer = send_pipe(begin(), LIVE);

	send_text(client_connect(), "m", "kept");
	restart(ORDERLY, AT_ONCE);
	wait_end_of(writer);
	take(connect_with_fds(), "m", "kept");
	take_nothing(connect_with_fds(), "m");
}

/* It stays in queues that are in memory. */
static void test_move(void **state)
{
	struct client *c = begin();
	int writer;

	create_volatile(c, "m2");
	writer = send_pipe(c, LIVE);
	say(c, "{'op':'move','id':1,'name':'m','to':'q','state':'all'}");
	assert_true(json_has(hear(c)->header, "error"));
	assert_true(has_reader(writer));
	say(c, "{'op':'move','id':1,'name':'m','to':'m2','state':'all'}");
	assert_int_equal(json_int(hear_reply(c, 1)->header, "moved"), 1);
	take_live(connect_with_fds(), "m2");
}

/* In the order in which they were sent, with others between. */
static void test_order(void **state)
{
	struct client *c = begin(), *receiver = connect_with_fds();

	for (int i = 0; i < 5; i++) {
		write_text(send_pipe(c, LIVE), keep_printf("%d", i));
		send_text(c, "m", keep_printf("%d", i));
		send_file(c, BY_FD, LARGE, "'queue':'m'");
	}
	for (int i = 0; i < 5; i++) {
		read_text(take_live(receiver, "m")->fd, keep_printf("%d", i));
		take(receiver, "m", keep_printf("%d", i));
		take_file(receiver, "m", LARGE);
	}
}

/* Those that wait for room are counted as well. */
static void test_waiting_ones_are_counted(void **state)
{
	struct client *c;
	int ends[2];

	start_durable("--limit", "queue_messages=1", "--limit", "live_per_user=3");
	c = client_connect();
	create_volatile(c, "m");
	send_text(c, "m", "first");
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	for (int i = 0; i < 2; i++)
		keep_fd(ends[i]);
	for (int i = 1; i <= 4; i++)
		say_fd(c, ends[0],
		       "{'op':'send','id':%d,'fds':1,'live':true,'queue':'m',"
		       "'wait_ms':-1}",
		       i);
	hear_error(c, 4, "quota");
	hear_nothing(c);
}

/* What waits for room in a queue that is made durable would wait for ever. */
static void test_made_durable_meanwhile(void **state)
{
	struct client *c;
	int fd;

	start_durable("--limit", "queue_messages=1");
	c = client_connect();
	create_volatile(c, "m");
	fd = make_pipe().read;
	send_text(c, "m", "first");
	say_fd(c, fd,
	       "{'op':'send','id':1,'fds':1,'live':true,'queue':'m','wait_ms':-1}");
	say(c, "{'op':'send','id':2,'queue':'m','wait_ms':-1}");
	hear_nothing(c);
	say(c, "{'op':'set','id':3,'name':'m','durable':true}");
	hear_error(c, 1, "bad-request");
	hear_reply(c, 3);
	hear_nothing(c);
	settle(c, "ack", take(c, "m", "first"), "");
	hear_reply(c, 2);
}

/* A sealed one with holes would cost nothing but a descriptor of ours: it is copied. */
static void test_sparse_memfd(void **state)
{
	struct client *c;
	int fd;

	start_durable();
	c = client_connect();
	create_volatile(c, "m");
	fd = keep_fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	assert_int_equal(ftruncate(fd, LARGE), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS,
			       F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE),
			 0);
	send_fd(c, fd, "'queue':'m'");
	assert_int_equal(spool_count(), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_waiting_ones_are_counted),
		it(test_made_durable_meanwhile),
		it(test_sparse_memfd),
		it(test_a_pipe),
		it(test_a_writing_end),
		it(test_a_socket),
		it(test_a_listening_socket),
		it(test_a_file),
		it(test_a_memfd),
		it(test_other_kinds),
		it(test_its_flags_stay),
		it(test_refused),
		it(test_not_with_a_promise),
		it(test_peers_without_descriptors),
		it(test_receivers_of_both_kinds),
		it(test_both_kinds_in_one_line),
		it(test_another_hello),
		it(test_peek),
		it(test_a_lost_receiver),
		it(test_a_late_receiver),
		it(test_nack),
		it(test_reject),
		it(test_purge_and_delete),
		it(test_time_to_live),
		it(test_deadline),
		it(test_how_many),
		it(test_stop),
		it(test_move),
		it(test_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
