/* SPDX-License-Identifier: MIT */

/* Descriptors that are not what they seem: of every kind that has no bytes to copy, files
 * that change under the copy. Those that hang are in test_files_hung. */

#include "integration/harness_fuse.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "integration/durable.h"
#include "integration/harness_file.h"

/* ---- kinds ---- */

static int open_pipe(void)
{
	return make_pipe().read;
}

static int open_fifo(void)
{
	const char *path = keep_printf("%s/fifo", server.dir);

	assert_int_equal(mkfifo(path, 0600), 0);
	return open(path, O_RDWR | O_CLOEXEC);
}

static int open_socket(void)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	keep_fd(ends[0]);
	return ends[1];
}

static int open_directory(void)
{
	return open(server.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int open_path(void)
{
	return open(server.log, O_PATH | O_CLOEXEC);
}

static int open_path_link(void)
{
	const char *path = keep_printf("%s/link", server.dir);

	assert_int_equal(symlink("nowhere", path), 0);
	return open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

static int open_for_writing(void)
{
	return open(keep_printf("%s/out", server.dir), O_WRONLY | O_CREAT | O_CLOEXEC,
		    0600);
}

static int open_terminal(void)
{
	int fd = keep_fd(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));

	assert_int_equal(grantpt(fd), 0);
	assert_int_equal(unlockpt(fd), 0);
	return open(ptsname(fd), O_RDWR | O_NOCTTY | O_CLOEXEC);
}

static int open_device(void)
{
	return open("/dev/zero", O_RDONLY | O_CLOEXEC);
}

static int open_epoll(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

static int open_event(void)
{
	return eventfd(1, EFD_CLOEXEC);
}

static int open_timer(void)
{
	return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
}

static int open_signal(void)
{
	sigset_t set;

	sigemptyset(&set);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static int open_inotify(void)
{
	return inotify_init1(IN_CLOEXEC);
}

static int open_process(void)
{
	return (int)syscall(SYS_pidfd_open, getpid(), 0);
}

static int open_own_connection(void)
{
	return dup(client_fd(client_connect()));
}

static const struct {
	int (*open)(void);
	const char *said; /* somewhere in the message; NULL: any */
} kinds[] = {
	{ open_pipe, "pipe" },
	{ open_fifo, "pipe" },
	{ open_socket, "socket" },
	{ open_directory, "directory" },
	{ open_path, "O_PATH" },
	{ open_path_link, "O_PATH" },
	{ open_for_writing, "writing" },
	{ open_terminal, NULL },
	{ open_device, NULL },
	{ open_epoll, NULL },
	{ open_event, NULL },
	{ open_timer, NULL },
	{ open_signal, NULL },
	{ open_inotify, NULL },
	{ open_process, NULL },
	{ open_own_connection, NULL },
};

static void test_kinds(void **state)
{
	struct client *c;

	start_durable();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		int fd = keep_fd(kinds[i].open());
		struct frame *f =
			send_fd_fails(c, fd, "'queue':'q','filename':'x'", "bad-fd");

		if (kinds[i].said &&
		    !strstr(json_string(f->header, "message"), kinds[i].said))
			fail_at(HERE, "it is not said that it is a %s: %s", kinds[i].said,
				f->header);
		close_kept(fd);
	}
	hear_nothing(c);
	assert_null(frame_line(list(c, "names"), 0));
	wait_for(spool_count() == 0);
}

/* One that is good behind each that is not, all sent before the first answer. */
static void test_good_and_bad_in_turn(void **state)
{
	struct client *c, *receiver;
	int good;

	start_durable();
	c = client_connect();
	receiver = connect_with_fds();
	good = make_file(LARGE);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		int bad = keep_fd(kinds[i].open());

		say_fd(c, bad, "{'op':'send','id':%zu,'fds':1,'queue':'q'}", 2 * i);
		say_fd(c, good, "{'op':'send','id':%zu,'fds':1,'queue':'q'}", 2 * i + 1);
		close_kept(bad);
	}
	for (size_t i = 0; i < 2 * ARRAY_SIZE(kinds); i++) {
		struct frame *f = hear(c);

		assert_int_equal(json_has(f->header, "error"),
				 json_int(f->header, "re") % 2 == 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct frame *f = take_file(receiver, "q", LARGE);

		settle(receiver, "ack", f, "");
		close_kept(f->fd);
	}
}

/* Files of the kernel's that have another size than they say, or of which nobody can read
 * whether they are empty. */
static void test_files_that_lie(void **state)
{
	static const struct {
		const char *path, *word;
	} rows[] = {
		{ "/proc/self/status", "bad-fd" },
		{ "/proc/cpuinfo", "bad-fd" },
		{ "/proc/self/mem", "bad-fd" },
		{ "/sys/kernel/mm/transparent_hugepage/enabled", "changed" },
		{ "/sys/power/state", "changed" },
	};
	struct client *c;

	start_durable();
	c = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int fd = open(rows[i].path, O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			continue;
		keep_fd(fd);
		send_fd_fails(c, fd, "'queue':'q'", rows[i].word);
	}
	take_nothing(c, "q");
	wait_for(spool_count() == 0);
}

/* ---- changes while it is copied ---- */

/* A thread that changes a file until it is told to stop. */
struct changer {
	pthread_t thread;
	int fd;
	void (*change)(int fd, unsigned int n);
	volatile bool stop;
};

static void *run_changer(void *arg)
{
	struct changer *changer = arg;

	for (unsigned int n = 0; !changer->stop; n++)
		changer->change(changer->fd, n);
	return NULL;
}

enum { CHANGED_SIZE = 2 << 20 };

static void shrink_and_grow(int fd, unsigned int n)
{
	if (ftruncate(fd, n % 2 ? CHANGED_SIZE : 4096) < 0)
		abort();
}

static void append(int fd, unsigned int n)
{
	if (n % 4096 == 4095 && ftruncate(fd, CHANGED_SIZE) < 0)
		abort();
	if (pwrite(fd, "x", 1, CHANGED_SIZE + n % 4096) != 1)
		abort();
}

static void overwrite(int fd, unsigned int n)
{
	if (pwrite(fd, "x", 1, n % CHANGED_SIZE) != 1)
		abort();
}

/* Each send is taken or refused by name, and what was taken has the size that it says. */
static void check_changes(int fd, void (*change)(int fd, unsigned int n))
{
	enum { N = 15 };
	struct changer changer = { .fd = fd, .change = change };
	struct client *c = client_connect(), *receiver = connect_with_fds();
	struct frame *answers[N];
	int n_taken = 0, n_refused = 0;

	assert_int_equal(pthread_create(&changer.thread, NULL, run_changer, &changer), 0);
	for (int i = 0; i < N; i++) {
		say_fd(c, fd, "{'op':'send','id':%d,'fds':1,'queue':'q'%s}", i,
		       i % 2 ? ",\"md5\":true" : "");
		answers[i] = hear(c);
	}
	changer.stop = true;
	pthread_join(changer.thread, NULL);
	for (int i = 0; i < N; i++)
		if (!json_has(answers[i]->header, "error"))
			n_taken++;
		else if (!strcmp(json_string(answers[i]->header, "error"), "changed"))
			n_refused++;
		else
			fail_at(HERE, "%s", answers[i]->header);
	print_message("%d taken, %d refused\n", n_taken, n_refused);
	for (int i = 0; i < n_taken; i++) {
		struct frame *f;
		struct stat st;

		say(receiver, "{'op':'receive','id':1,'queue':'q','wait_ms':30000}");
		f = hear_reply(receiver, 1);
		hear_end(receiver, 1, "max");
		if (f->fd >= 0) {
			assert_int_equal(fstat(f->fd, &st), 0);
			assert_int_equal(st.st_size, json_int(f->header, "file_size"));
			close_kept(f->fd);
		} else {
			assert_int_equal(f->body_size, json_int(f->header, "file_size"));
		}
		settle(receiver, "ack", f, "");
	}
	take_nothing(c, "q");
	wait_for(spool_count() == 0);
	client_close(c);
	client_close(receiver);
}

static void test_a_file_that_shrinks_and_grows(void **state)
{
	start_durable();
	check_changes(make_file(CHANGED_SIZE), shrink_and_grow);
}

static void test_a_file_that_grows(void **state)
{
	start_durable();
	check_changes(make_file(CHANGED_SIZE), append);
}

static void test_a_file_that_is_written(void **state)
{
	start_durable();
	check_changes(make_file(CHANGED_SIZE), overwrite);
}

static void test_a_memfd_that_shrinks(void **state)
{
	start_durable();
	check_changes(make_memfd(CHANGED_SIZE, false), shrink_and_grow);
}

/* It changes under each copy: refused, twice is enough. Only under the first one: the second
 * copy is good. */
static void test_changes_at_a_known_time(void **state)
{
	struct client *c, *receiver;
	struct hung_fuse *fuse;
	struct frame *f;
	int fd;

	start_durable();
	fuse = hung_fuse_start();
	c = client_connect();
	receiver = connect_with_fds();
	fd = hung_fuse_open(fuse, O_RDONLY);
	hung_fuse_change(fuse, 1000000);
	send_fd_fails(c, fd, "'queue':'q'", "changed");
	take_nothing(c, "q");
	wait_for(spool_count() == 0);
	hung_fuse_change(fuse, 1);
	send_fd(c, fd, "'queue':'q'");
	f = take_file(receiver, "q", HUNG_FUSE_SIZE);
	settle(receiver, "ack", f, "");
	wait_for(spool_count() == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_kinds),
		it(test_good_and_bad_in_turn),
		it(test_files_that_lie),
		it(test_a_file_that_shrinks_and_grows),
		it(test_a_file_that_grows),
		it(test_a_file_that_is_written),
		it(test_a_memfd_that_shrinks),
		it_hangs(test_changes_at_a_known_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
