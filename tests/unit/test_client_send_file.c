/* SPDX-License-Identifier: MIT */

/* Bodies and files sent as bytes and as descriptors, and how far the daemon has come. */

#include "unit/client_send.h"

static bool no_descriptor; /* F_DUPFD_CLOEXEC fails */

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...)
{
	va_list args;
	long argument;

	if (no_descriptor && command == F_DUPFD_CLOEXEC) {
		errno = EMFILE;
		return -1;
	}
	va_start(args, command);
	argument = va_arg(args, long);
	va_end(args);
	return __real_fcntl(fd, command, argument);
}

/* A signal, and somebody who writes to the file that is read. */
static int rewritten = -1;  /* descriptor */
static int direct = -1;	    /* one with O_DIRECT, which not every file system knows */
static int overstated = -1; /* one that ends after OVERSTATED_SIZE bytes */
enum { OVERSTATED_SIZE = 18 };
static unsigned int n_rewrites;

ssize_t __real_pread(int fd, void *buffer, size_t size, off_t offset);
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t offset);
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t offset)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };

	if (fd == rewritten && n_rewrites) {
		times[1].tv_sec = n_rewrites--;
		futimens(fd, times);
	}
	if (fd == direct) {
		errno = EINVAL;
		return -1;
	}
	if (fd == overstated && offset + (off_t)size > OVERSTATED_SIZE)
		size = offset < OVERSTATED_SIZE ? (size_t)(OVERSTATED_SIZE - offset) : 0;
	return __real_pread(fd, buffer, size > 1000 ? 1000 : size, offset);
}

static void expect_fd(struct fake *f, size_t size)
{
	char byte;

	assert_true(f->has_fd);
	assert_int_equal(lseek(f->body_fd, 0, SEEK_END), size);
	assert_int_equal(__real_pread(f->body_fd, &byte, 1, (off_t)size - 1), 1);
	assert_int_equal(byte, large[size - 1]);
}

/* ---- bytes and descriptors ---- */

static void test_small_file(void **state)
{
	struct fake *f = *state;
	int fd = new_file(SMALL);
	struct ipc_message *m = new_file_message(fd, "x.txt", IPC_FILE_MD5);

	assert_int_equal(lseek(fd, 10, SEEK_SET), 10);
	fake_say(f, SENT(7));
	assert_int_equal(send_it(f, m), 0);
	fake_expect(f, "{\"op\":\"send\",\"id\":2,\"queue\":\"q\",\"filename\":\"x.txt\","
		       "\"file_size\":65536,\"mode\":416," MTIME ",\"md5\":true,"
		       "\"size\":65536}");
	assert_false(f->has_fd);
	assert_memory_equal(f->body, large, SMALL);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 10);
	ipc_message_free(m);
	close(fd);
}

/* What cannot be read to any place in memory is left to the daemon. */
static void test_small_file_for_direct_reading(void **state)
{
	struct fake *f = *state;
	int fd = new_file(SMALL);
	struct ipc_message *m = new_file_message(fd, NULL, 0);

	direct = fd;
	fake_say(f, SENT(7));
	assert_int_equal(send_it(f, m), 0);
	fake_expect(f, "{\"op\":\"send\",\"id\":2,\"queue\":\"q\",\"file_size\":65536,"
		       "\"mode\":416," MTIME ",\"progress\":true,\"fds\":1}");
	expect_fd(f, SMALL);
	direct = -1;
	ipc_message_free(m);
	close(fd);
}

static void test_empty_file(void **state)
{
	struct fake *f = *state;
	int fd = new_file(0);
	struct ipc_message *m = new_file_message(fd, NULL, 0);

	fake_say(f, SENT(7));
	assert_int_equal(send_it(f, m), 0);
	fake_expect(f, "{\"op\":\"send\",\"id\":2,\"queue\":\"q\",\"file_size\":0,"
		       "\"mode\":416," MTIME "}");
	ipc_message_free(m);
	close(fd);
}

static void test_large_file(void **state)
{
	struct fake *f = *state;
	int fd = new_file(SMALL + 1);
	struct ipc_message *m =
		new_file_message(fd, "x", IPC_FILE_XXH3 | IPC_FILE_SHA256);

	assert_int_equal(ipc_message_set_archive(m, "tar"), 0);
	fake_say(f, SENT(7));
	assert_int_equal(send_it(f, m), 0);
	fake_expect(f,
		    "{\"op\":\"send\",\"id\":2,\"queue\":\"q\",\"filename\":\"x\","
		    "\"file_size\":65537,\"mode\":416," MTIME ",\"xxh3\":true,"
		    "\"sha256\":true,\"archive\":\"tar\",\"progress\":true,\"fds\":1}");
	expect_fd(f, SMALL + 1);
	ipc_message_free(m);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
}

static void test_live(void **state)
{
	struct fake *f = *state;
	int fd = new_file(3), pipefd[2];
	struct ipc_message *m = new_file_message(fd, "x", IPC_FILE_LIVE);

	assert_int_equal(lseek(fd, 2, SEEK_SET), 2);
	fake_say(f, SENT(7));
	assert_int_equal(send_it(f, m), 0);
	fake_expect(f, "{\"op\":\"send\",\"id\":2,\"queue\":\"q\",\"filename\":\"x\","
		       "\"mode\":416," MTIME ",\"live\":true,\"fds\":1}");
	assert_int_equal(lseek(f->body_fd, 0, SEEK_CUR), 2); /* it is the same file */
	assert_int_equal(pipe(pipefd), 0);
	assert_int_equal(ipc_message_set_file(m, pipefd[0], NULL, IPC_FILE_LIVE), 0);
	fake_say(f, "{\"re\":3,\"message\":8}");
	assert_int_equal(send_it(f, m), 0);
	fake_expect(f, "{\"op\":\"send\",\"id\":3,\"queue\":\"q\",\"live\":true,"
		       "\"fds\":1}");
	assert_true(f->has_fd);
	ipc_message_free(m);
	close(fd);
	close(pipefd[0]);
	close(pipefd[1]);
}

static void test_large_body(void **state)
{
	struct fake *f = *state;
	int seals;

	close(new_file(0));
	fake_say(f, SENT(7));
	assert_int_equal(ipc_send(f->client, "q", large, LARGE, NULL), 0);
	fake_expect(f, "{\"op\":\"send\",\"id\":2,\"queue\":\"q\",\"progress\":true,"
		       "\"fds\":1}");
	expect_fd(f, LARGE);
	seals = fcntl(f->body_fd, F_GET_SEALS);
	assert_int_equal(seals & (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW |
				  F_SEAL_WRITE),
			 F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	fake_say(f, "{\"re\":3,\"message\":8}");
	assert_int_equal(ipc_send(f->client, "q", large, 100, NULL), 0);
	fake_expect(f, "{\"op\":\"send\",\"id\":3,\"queue\":\"q\",\"size\":100}");
	assert_false(f->has_fd);
}

/* What it was said to be is said again, its digests are claimed. */
static void test_sent_on(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;
	int fd = new_file(LARGE);

	fake_say_fd(f,
		    "{\"re\":2,\"message\":1,\"lease\":\"l\",\"priority\":3,"
		    "\"filename\":\"x\",\"file_size\":262145,\"mode\":420,\"mtime\":-1,"
		    "\"md5\":\"900150983cd24fb0d6963f7d28e17f72\",\"fds\":1}",
		    fd);
	close(fd);
	assert_int_equal(ipc_receive(f->client, "q", 0, &m), 0);
	assert_true(fake_hear(f));
	fake_say(f, "{\"re\":3,\"message\":8}");
	assert_int_equal(send_it(f, m), 0);
	fake_expect(f,
		    "{\"op\":\"send\",\"id\":3,\"queue\":\"q\",\"priority\":3,"
		    "\"filename\":\"x\",\"file_size\":262145,\"mode\":420,\"mtime\":-1,"
		    "\"md5\":\"900150983cd24fb0d6963f7d28e17f72\",\"progress\":true,"
		    "\"fds\":1}");
	expect_fd(f, LARGE);
	ipc_message_free(m);
}

/* proc(5) says 0 bytes. */
static void test_file_without_size(void **state)
{
	struct fake *f = *state;
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	struct ipc_message *m = new_file_message(fd, "status", 0);

	fake_say(f, SENT(7));
	assert_int_equal(send_it(f, m), 0);
	assert_true(fake_hear(f));
	assert_true(f->body_size > 100);
	assert_memory_equal(f->body, "Name:", 5);
	ipc_message_free(m);
	close(fd);
}

/* Those of sysfs say that they have a page, whatever is in them. */
static void test_file_that_says_more(void **state)
{
	struct fake *f = *state;
	int fd = new_file(0);
	struct ipc_message *m = new_file_message(fd, "x", 0);

	assert_int_equal(ftruncate(fd, 4096), 0);
	overstated = fd;
	fake_say(f, SENT(7));
	assert_int_equal(send_it(f, m), 0);
	overstated = -1;
	assert_true(fake_hear(f));
	assert_non_null(strstr(f->header, "\"file_size\":18,"));
	assert_int_equal(f->body_size, OVERSTATED_SIZE);
	ipc_message_free(m);
	close(fd);
}

static void test_changing_file(void **state)
{
	struct fake *f = *state;
	int fd = new_file(3);
	struct ipc_message *m = new_file_message(fd, "x", 0);

	rewritten = fd;
	n_rewrites = 2;
	fake_say(f, SENT(7));
	assert_int_equal(send_it(f, m), 0);
	assert_true(fake_hear(f));
	assert_non_null(strstr(f->header, "\"mtime\":1,")); /* as it was in the end */
	n_rewrites = 100;
	assert_int_equal(send_it(f, m), -EBUSY);
	assert_true(strlen(ipc_client_get_error(f->client)) > 0);
	n_rewrites = 0;
	fake_expect_silence(f);
	ipc_message_free(m);
	close(fd);
}

static void test_no_descriptor(void **state)
{
	struct fake *f = *state;
	int fd = new_file(LARGE);
	struct ipc_message *m = new_file_message(fd, "x", 0);

	no_descriptor = true;
	assert_int_equal(send_it(f, m), -EMFILE);
	no_descriptor = false;
	assert_string_equal(ipc_client_get_error_word(f->client), "");
	fake_expect_silence(f);
	close(fd);
	assert_int_equal(send_it(f, m), -EBADF);
	ipc_message_free(m);
}

/* A daemon of before. */
static void test_daemon_without_files(void **state)
{
	struct fake *f = *state;
	int fd = new_file(3);
	struct ipc_message *m = new_file_message(fd, "x", 0);

	assert_int_equal(send_it(f, m), -EOPNOTSUPP);
	assert_string_equal(ipc_client_get_error(f->client), "fake 1.0 takes no files");
	assert_int_equal(ipc_send_async(f->client, "q", m, 0, 0, NULL, NULL, NULL),
			 -EOPNOTSUPP);
	fake_expect_silence(f);
	ipc_message_free(m);
	close(fd);
}

static void test_refused(void **state)
{
	struct fake *f = *state;
	int fd = new_file(LARGE);
	struct ipc_message *m = new_file_message(fd, "x", 0);

	fake_say(f, "{\"re\":2,\"error\":\"bad-fd\",\"message\":\"no\"}");
	assert_int_equal(send_it(f, m), -EBADF);
	assert_string_equal(ipc_client_get_error_word(f->client), "bad-fd");
	fake_say(f, "{\"re\":3,\"error\":\"changed\"}");
	assert_int_equal(send_it(f, m), -EBUSY);
	fake_say(f, "{\"re\":4,\"error\":\"integrity\"}");
	assert_int_equal(send_it(f, m), -EILSEQ);
	ipc_message_free(m);
	close(fd);
}

/* ---- without waiting ---- */

static void note(struct ipc_client *client, const struct ipc_reply *reply, void *userdata)
{
	(void)client;
	*(int *)userdata += ipc_reply_get_error(reply) ? 100 : 1;
}

static int send_async(struct fake *f, const struct ipc_message *m, int *told)
{
	return ipc_send_async(f->client, "q", m, 0, 0, note, told, NULL);
}

static void test_async(void **state)
{
	struct fake *f = *state;
	int fd = new_file(LARGE), pipefd[2], told = 0;
	struct ipc_message *m = new_file_message(fd, "x", 0);

	assert_int_equal(send_async(f, m, &told), 0);
	ipc_message_free(m);
	close(fd); /* the message has gone, the file has not */
	assert_int_equal(ipc_client_process(f->client), 0);
	fake_expect(f, "{\"op\":\"send\",\"id\":2,\"queue\":\"q\",\"filename\":\"x\","
		       "\"file_size\":262145,\"mode\":416," MTIME ",\"fds\":1}");
	expect_fd(f, LARGE);
	fake_say(f, SENT(7));
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_int_equal(told, 1);

	assert_int_equal(pipe(pipefd), 0);
	m = new_file_message(pipefd[0], "x", 0);
	assert_int_equal(send_async(f, m, &told), -EOPNOTSUPP);
	fake_expect_silence(f);
	close(pipefd[0]);
	close(pipefd[1]);
	ipc_message_free(m);
}

/* Bytes that wait are counted, so a large body goes in one frame as ever. */
static void test_async_large_body(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m = new_message();
	static int told;

	ipc_message_set_body(m, large, LARGE);
	assert_int_equal(send_async(f, m, &told), 0);
	assert_true(ipc_client_get_pending(f->client) > 0);
	ipc_message_free(m);
}

/* The kernel has room for one, says the stream: the second waits until the first is read,
 * without a busy loop. */
static void test_two_descriptors(void **state)
{
	struct fake *f = *state;
	int fd = new_file(LARGE), timeout;
	static int told;
	struct ipc_message *m = new_file_message(fd, "x", 0);

	assert_int_equal(send_async(f, m, &told), 0);
	assert_int_equal(send_async(f, m, &told), 0);
	assert_int_equal(ipc_client_get_events(f->client), POLLIN | POLLOUT);
	assert_int_equal(ipc_client_get_timeout(f->client), -1);
	assert_int_equal(ipc_client_process(f->client), 0);
	assert_true(ipc_client_get_pending(f->client) > 0);
	assert_int_equal(ipc_client_get_events(f->client), POLLIN);
	timeout = ipc_client_get_timeout(f->client);
	assert_in_range(timeout, 1, 100);
	assert_true(fake_hear(f));
	expect_fd(f, LARGE);
	assert_int_equal(ipc_client_process(f->client), 0);
	assert_int_equal(ipc_client_get_pending(f->client), 0);
	assert_int_equal(ipc_client_get_timeout(f->client), -1);
	assert_true(fake_hear(f));
	expect_fd(f, LARGE);
	ipc_message_free(m);
	close(fd);
}

/* ---- the connection is lost, and comes again ---- */

static void told(struct ipc_client *client, bool restarted, uint64_t n_held,
		 void *userdata)
{
	(void)client;
	(void)restarted;
	(void)n_held;
	++*(unsigned int *)userdata;
}

struct again {
	struct fake *f;
	bool heard, had_fd;
	char header[512];
};

/* Hears a send, hangs up, greets the one who comes again, and answers what it sends. */
static void *serve_again(void *userdata)
{
	struct again *again = userdata;
	struct fake *f = again->f;

	fake_hear(f);
	fake_hang_up(f);
	f->fd = accept(f->listener, NULL, NULL);
	fake_hear(f);
	fake_say(f, "{\"re\":3,\"server\":\"fake\",\"epoch\":\"0123456789abcdef\","
		    "\"peer\":2,\"limits\":{\"file_max\":1}}");
	again->heard = fake_hear(f);
	again->had_fd = f->has_fd;
	snprintf(again->header, sizeof(again->header), "%.500s", f->header);
	if (again->heard)
		fake_say(f, "{\"re\":4,\"message\":7}");
	return NULL;
}

static void send_again(struct fake *f, struct ipc_message *m, struct again *again)
{
	unsigned int n_told = 0;
	uint64_t number = 0;
	pthread_t thread;

	*again = (struct again){ .f = f };
	assert_int_equal(ipc_message_set_dedup_id(m, "a"), 0);
	assert_int_equal(ipc_client_set_reconnect(f->client, told, &n_told), 0);
	pthread_create(&thread, NULL, serve_again, again);
	assert_int_equal(ipc_send_message(f->client, "q", m, 0, 0, &number), 0);
	pthread_join(thread, NULL);
	assert_int_equal(number, 7);
	assert_int_equal(n_told, 1);
}

static void test_file_is_sent_again(void **state)
{
	struct fake *f = *state;
	int fd = new_file(LARGE);
	struct ipc_message *m = new_file_message(fd, "x", 0);
	struct again again;

	send_again(f, m, &again);
	assert_true(again.had_fd);
	assert_non_null(strstr(again.header, "\"dedup_id\":\"a\",\"filename\":\"x\""));
	expect_fd(f, LARGE);
	ipc_message_free(m);
	close(fd);
}

static void test_large_body_is_sent_again(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m = new_message();
	struct again again;

	close(new_file(0));
	ipc_message_set_body(m, large, LARGE);
	send_again(f, m, &again);
	assert_true(again.had_fd);
	expect_fd(f, LARGE);
	ipc_message_free(m);
}

/* ---- how far it has come ---- */

static void *answer_late(void *userdata)
{
	struct fake *f = userdata;

	fake_hear(f);
	fake_say(f, "{\"re\":2,\"progress\":1000,\"file_size\":262145}");
	poll(NULL, 0, 50);
	fake_say(f, SENT(7));
	return NULL;
}

static void test_progress(void **state)
{
	struct fake *f = *state;
	int fd = new_file(LARGE);
	struct ipc_message *m = new_file_message(fd, "x", 0);
	struct progress p = { 0 };
	uint64_t number;
	pthread_t thread;

	ipc_message_set_progress(m, note_progress, &p);
	assert_int_equal(pthread_create(&thread, NULL, answer_late, f), 0);
	assert_int_equal(ipc_send_message(f->client, "q", m, 0, 0, &number), 0);
	pthread_join(thread, NULL);
	assert_int_equal(number, 7);
	assert_int_equal(p.n, 1);
	assert_int_equal(p.done, 1000);
	assert_int_equal(p.total, LARGE);
	ipc_message_set_progress(m, NULL, NULL);
	fake_say(f, "{\"re\":3,\"progress\":1000}");
	fake_say(f, "{\"re\":3,\"message\":8}");
	assert_int_equal(send_it(f, m), 0);
	ipc_message_free(m);
	close(fd);
}

static void *answer_cancel(void *userdata)
{
	struct fake *f = userdata;

	fake_hear(f);
	fake_hear(f);
	if (!strcmp(f->header, "{\"op\":\"cancel\",\"request\":2}"))
		fake_say(f, "{\"re\":2,\"error\":\"timeout\",\"message\":\"cancelled\"}");
	if (!strcmp(f->header, "{\"op\":\"cancel\",\"request\":3}"))
		fake_say(f, "{\"re\":3,\"message\":8}");
	return NULL;
}

/* It may be too late: then it was sent. */
static void test_progress_gives_up(void **state)
{
	struct fake *f = *state;
	int fd = new_file(LARGE);
	struct ipc_message *m = new_file_message(fd, "x", 0);

	for (unsigned int id = 2; id <= 3; id++) {
		struct progress p = { .stop_at = 1 };
		pthread_t thread;

		ipc_message_set_progress(m, note_progress, &p);
		fake_say(f, "{\"re\":%u,\"progress\":1000,\"file_size\":262145}", id);
		assert_int_equal(pthread_create(&thread, NULL, answer_cancel, f), 0);
		assert_int_equal(send_it(f, m), id == 2 ? -ECANCELED : 0);
		pthread_join(thread, NULL);
		assert_int_equal(p.n, 1);
	}
	ipc_message_free(m);
	close(fd);
}

/* Each word of how far it is makes the time begin anew; silence does not. */
static void *tell_progress(void *userdata)
{
	struct fake *f = userdata;

	for (int i = 0; i < 6; i++) {
		poll(NULL, 0, 50);
		fake_say(f, "{\"re\":2,\"progress\":%d,\"file_size\":262145}", i);
	}
	return NULL;
}

static void test_progress_takes_time(void **state)
{
	struct fake *f = *state;
	int fd = new_file(LARGE);
	struct ipc_message *m = new_file_message(fd, "x", 0);
	struct progress p = { 0 };
	pthread_t thread;

	ipc_message_set_progress(m, note_progress, &p);
	assert_int_equal(ipc_client_set_timeout(f->client, 200), 0);
	assert_int_equal(pthread_create(&thread, NULL, tell_progress, f), 0);
	assert_int_equal(send_it(f, m), -ETIMEDOUT);
	pthread_join(thread, NULL);
	assert_int_equal(p.done, 5);
	assert_int_equal(ipc_client_flush(f->client), 0);
	assert_true(fake_hear(f));
	fake_expect(f, "{\"op\":\"cancel\",\"request\":2}");
	ipc_message_free(m);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fake_files_test(test_small_file),
		fake_files_test(test_small_file_for_direct_reading),
		fake_files_test(test_empty_file),
		fake_files_test(test_large_file),
		fake_files_test(test_live),
		fake_files_test(test_large_body),
		fake_files_test(test_sent_on),
		fake_files_test(test_file_without_size),
		fake_files_test(test_file_that_says_more),
		fake_files_test(test_changing_file),
		fake_files_test(test_no_descriptor),
		fake_test(test_daemon_without_files),
		fake_files_test(test_refused),
		fake_files_test(test_async),
		fake_files_test(test_async_large_body),
		fake_files_test(test_two_descriptors),
		fake_files_test(test_file_is_sent_again),
		fake_files_test(test_large_body_is_sent_again),
		fake_files_test(test_progress),
		fake_files_test(test_progress_gives_up),
		fake_files_test(test_progress_takes_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
