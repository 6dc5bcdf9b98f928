/* SPDX-License-Identifier: MIT */

/* Messages that carry files, as objects: what can be set, what a delivery says, its
 * descriptor, and descriptors that get lost. */

#include "unit/client_fake.h"

#include <sys/mman.h>
#include <sys/resource.h>

#define XXH3_ABC "06b05ab6733a618578af5f94892f3950"
#define MD5_ABC "900150983cd24fb0d6963f7d28e17f72"
#define LEASE "0123456789abcdef"
#define DELIVERY \
	"\"re\":2,\"message\":1,\"lease\":\"" LEASE "\",\"attempt\":1,\"queue\":\"q\""

static int new_file(const char *data, size_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_int_equal(write(fd, data, size), size);
	return fd;
}

/* ---- to be sent ---- */

static ssize_t no_reader(void *buffer, size_t size, void *userdata)
{
	(void)buffer;
	(void)size;
	(void)userdata;
	return 0;
}

static void test_names(void **state)
{
	static const char *const bad[] = { "",	     "/",    ".",	    "..",
					   "a/b",    "a/",   "\xff",	    "\xc3",
					   "../etc", "/etc", "\xed\xa0\x80" };
	static const char *const good[] = {
		"a", "...", ".a", "a b", "\xc3\xa4", "\n", "-"
	};
	struct ipc_message *m = new_message();
	int fd = new_file("abc", 3);
	char name[257];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(ipc_message_set_file(m, fd, bad[i], 0), -EINVAL);
		assert_int_equal(ipc_message_set_reader(m, no_reader, NULL, bad[i], 0),
				 -EINVAL);
	}
	assert_null(ipc_message_get_filename(m));
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_int_equal(ipc_message_set_file(m, fd, good[i], 0), 0);
		assert_string_equal(ipc_message_get_filename(m), good[i]);
	}
	memset(name, 'x', 256);
	name[256] = '\0';
	assert_int_equal(ipc_message_set_file(m, fd, name, 0), -EMSGSIZE);
	assert_string_equal(ipc_message_get_filename(m), "-");
	name[255] = '\0';
	assert_int_equal(ipc_message_set_file(m, fd, name, 0), 0);
	assert_string_equal(ipc_message_get_filename(m), name);
	ipc_message_free(m);
	close(fd);
}

static void test_what_cannot_be_sent(void **state)
{
	struct ipc_message *m = new_message();
	int fd = new_file("abc", 3), dir = open("/", O_RDONLY | O_CLOEXEC),
	    path = open("/dev/null", O_PATH | O_CLOEXEC),
	    writer = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(ipc_message_set_file(m, -1, "x", 0), -EBADF);
	assert_int_equal(ipc_message_set_file(m, dir, "x", 0), -EISDIR);
	assert_int_equal(ipc_message_set_file(m, dir, "x", IPC_FILE_LIVE), -EISDIR);
	assert_int_equal(ipc_message_set_file(m, path, "x", 0), -EBADF);
	assert_int_equal(ipc_message_set_file(m, path, "x", IPC_FILE_LIVE), -EBADF);
	assert_int_equal(ipc_message_set_file(m, writer, "x", 0), -EBADF);
	assert_int_equal(ipc_message_set_file(m, writer, "x", IPC_FILE_LIVE), 0);
	assert_int_equal(ipc_message_set_file(m, fd, "x", 1 << 4), -EINVAL);
	assert_int_equal(ipc_message_set_file(m, fd, "x", IPC_FILE_LIVE | IPC_FILE_MD5),
			 -EINVAL);
	assert_int_equal(ipc_message_set_reader(m, NULL, NULL, "x", 0), -EINVAL);
	assert_int_equal(ipc_message_set_reader(m, no_reader, NULL, "x", IPC_FILE_LIVE),
			 -EINVAL);
	assert_int_equal(ipc_message_set_archive(m, "zip"), -EINVAL);
	assert_int_equal(ipc_message_set_archive(m, ""), -EINVAL);
	ipc_message_free(m);
	close(fd);
	close(dir);
	close(path);
	close(writer);
}

/* The last one counts; an archive stays one. */
static void test_one_takes_the_others_place(void **state)
{
	struct ipc_message *m = new_message();
	int fd = new_file("abc", 3);
	size_t size;

	(void)state;
	assert_null(ipc_message_get_archive(m));
	assert_int_equal(ipc_message_set_archive(m, NULL), 0);
	ipc_message_set_body(m, "abc", 3);
	assert_int_equal(ipc_message_set_archive(m, "tar"), 0);
	assert_string_equal(ipc_message_get_archive(m), "tar");
	assert_memory_equal(ipc_message_get_body(m, &size), "abc", 3);
	assert_int_equal(size, 3);
	assert_int_equal(ipc_message_set_file(m, fd, "x", 0), 0);
	assert_string_equal(ipc_message_get_archive(m), "tar");
	assert_null(ipc_message_get_body(m, &size));
	assert_int_equal(errno, EBADF);
	assert_int_equal(size, 0);
	assert_int_equal(ipc_message_get_fd(m), -1);
	assert_int_equal(ipc_message_steal_fd(m), -1);
	ipc_message_set_body(m, "xyz", 3);
	assert_null(ipc_message_get_filename(m));
	assert_string_equal(ipc_message_get_archive(m), "tar");
	assert_memory_equal(ipc_message_get_body(m, NULL), "xyz", 3);
	assert_int_equal(ipc_message_get_size(m), 3);
	assert_int_equal(ipc_message_set_archive(m, NULL), 0);
	assert_null(ipc_message_get_archive(m));
	assert_int_equal(ipc_message_set_reader(m, no_reader, NULL, NULL, 0), 0);
	assert_null(ipc_message_get_filename(m));
	ipc_message_free(m);
	assert_true(fcntl(fd, F_GETFD) >= 0); /* it was borrowed */
	close(fd);
}

/* ---- received ---- */

static struct ipc_message *receive(struct fake *f)
{
	struct ipc_message *m;

	assert_int_equal(ipc_receive(f->client, "q", 0, &m), 0);
	assert_true(fake_hear(f));
	return m;
}

/* What deliveries of before say. */
static void test_no_file(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;
	struct timespec mtime;

	fake_say_body(f, "{" DELIVERY ",\"size\":3}", "abc", 3);
	m = receive(f);
	assert_null(ipc_message_get_filename(m));
	assert_int_equal(ipc_message_get_size(m), 3);
	assert_int_equal(ipc_message_get_mode(m), -1);
	assert_false(ipc_message_get_mtime(m, &mtime));
	assert_null(ipc_message_get_digest(m, "xxh3"));
	assert_null(ipc_message_get_archive(m));
	assert_false(ipc_message_is_live(m));
	assert_int_equal(ipc_message_get_fd(m), -1);
	assert_int_equal(ipc_message_steal_fd(m), -1);
	ipc_message_free(m);
}

static void test_small_file(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;
	struct timespec mtime;
	char *json;

	fake_say_body(
		f,
		"{" DELIVERY ",\"filename\":\"x.txt\",\"file_size\":3,\"mode\":420,"
		"\"mtime\":-5,\"mtime_ns\":7,\"xxh3\":\"06B05AB6733a618578af5f94892f3950\","
		"\"md5\":\"" MD5_ABC "\",\"archive\":\"tar\",\"size\":3}",
		"abc", 3);
	m = receive(f);
	assert_string_equal(ipc_message_get_filename(m), "x.txt");
	assert_int_equal(ipc_message_get_size(m), 3);
	assert_int_equal(ipc_message_get_mode(m), 0644);
	assert_true(ipc_message_get_mtime(m, NULL));
	assert_true(ipc_message_get_mtime(m, &mtime));
	assert_int_equal(mtime.tv_sec, -5);
	assert_int_equal(mtime.tv_nsec, 7);
	assert_string_equal(ipc_message_get_digest(m, "xxh3"), XXH3_ABC);
	assert_string_equal(ipc_message_get_digest(m, "md5"), MD5_ABC);
	assert_null(ipc_message_get_digest(m, "sha256"));
	assert_null(ipc_message_get_digest(m, "crc"));
	assert_string_equal(ipc_message_get_archive(m), "tar");
	assert_int_equal(ipc_message_get_fd(m), -1);
	assert_int_equal(ipc_message_verify(m), 0);
	assert_int_equal(ipc_message_to_json(m, true, &json), 0);
	assert_non_null(strstr(json,
			       "\"filename\":\"x.txt\",\"file_size\":3,\"mode\":420,"
			       "\"mtime\":-5,\"mtime_ns\":7,\"xxh3\":\"" XXH3_ABC
			       "\",\"md5\":\"" MD5_ABC "\",\"archive\":\"tar\","
			       "\"size\":3,\"body\":\"abc\""));
	free(json);
	ipc_message_free(m);
}

static void say_file(struct fake *f, const char *data, size_t size)
{
	char header[256];
	int fd = new_file(data, size);

	snprintf(header, sizeof(header),
		 "{" DELIVERY ",\"filename\":\"x\",\"file_size\":%zu,\"fds\":1}", size);
	fake_say_fd(f, header, fd);
	close(fd);
}

/* Mapped once; it stays when the descriptor goes. */
static void test_descriptor(void **state)
{
	struct fake *f = *state;
	int before = count_fds();
	struct ipc_message *m;
	const void *body;
	size_t size;
	char *json;
	int fd;

	say_file(f, "abc", 3);
	m = receive(f);
	fd = ipc_message_get_fd(m);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(ipc_message_get_size(m), 3);
	body = ipc_message_get_body(m, &size);
	assert_int_equal(size, 3);
	assert_memory_equal(body, "abc", 3);
	assert_ptr_equal(ipc_message_get_body(m, NULL), body);
	assert_int_equal(ipc_message_to_json(m, true, &json), 0);
	assert_non_null(strstr(json, "\"file_size\":3,\"size\":3,\"body\":\"abc\""));
	free(json);
	assert_int_equal(ipc_message_steal_fd(m), fd);
	assert_int_equal(ipc_message_steal_fd(m), -1);
	assert_int_equal(ipc_message_get_fd(m), -1);
	assert_ptr_equal(ipc_message_get_body(m, NULL), body);
	ipc_message_free(m);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
	assert_int_equal(count_fds(), before);
}

/* Also where nobody fetches the message. */
static void test_descriptor_goes_with_the_message(void **state)
{
	struct fake *f = *state;
	int before = count_fds();
	struct ipc_receiver *receiver;

	say_file(f, "abc", 3);
	ipc_message_free(receive(f));
	assert_int_equal(count_fds(), before);
	assert_int_equal(ipc_receiver_new(f->client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_start(receiver), 0);
	fake_say_fd(f, "{\"re\":3,\"message\":1,\"lease\":\"" LEASE "\",\"fds\":1}", 0);
	assert_true(ipc_client_process(f->client) >= 0);
	assert_int_equal(count_fds(), before + 1);
	ipc_receiver_free(receiver);
	assert_int_equal(count_fds(), before);
}

static void test_stolen(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;
	size_t size = 7;
	char *json;

	say_file(f, "abc", 3);
	m = receive(f);
	close(ipc_message_steal_fd(m));
	errno = 0;
	assert_null(ipc_message_get_body(m, &size));
	assert_int_equal(errno, EBADF);
	assert_int_equal(size, 0);
	assert_int_equal(ipc_message_to_json(m, true, &json), -EBADF);
	assert_int_equal(ipc_message_verify(m), -EBADF);
	assert_int_equal(ipc_message_save(m, AT_FDCWD, "x", 0, NULL), -EBADF);
	assert_int_equal(ipc_message_to_json(m, false, &json), 0);
	free(json);
	ipc_message_free(m);
}

/* Shorter than was said: to read it where it is mapped would be SIGBUS. */
static void test_another_size(void **state)
{
	struct fake *f = *state;
	int fd = new_file("abc", 3);
	struct ipc_message *m;

	fake_say_fd(f, "{" DELIVERY ",\"file_size\":5000,\"fds\":1}", fd);
	m = receive(f);
	assert_null(ipc_message_get_body(m, NULL));
	assert_int_equal(errno, EBADMSG);
	assert_int_equal(ipc_message_verify(m), -EBADMSG);
	ipc_message_free(m);
	close(fd);
}

/* The same of a body that came with the message. */
static void test_another_size_in_memory(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;

	fake_say_body(f, "{" DELIVERY ",\"file_size\":10,\"size\":5}", "abcde", 5);
	m = receive(f);
	assert_int_equal(ipc_message_verify(m), -EBADMSG);
	assert_int_equal(ipc_message_save(m, AT_FDCWD, "x", 0, NULL), -EBADMSG);
	ipc_message_free(m);
}

static void test_live(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;
	char *json, byte;
	int pipefd[2];

	assert_int_equal(pipe(pipefd), 0);
	fake_say_fd(f, "{" DELIVERY ",\"live\":true,\"fds\":1}", pipefd[0]);
	m = receive(f);
	assert_true(ipc_message_is_live(m));
	assert_true(ipc_message_get_size(m) == UINT64_MAX);
	assert_null(ipc_message_get_body(m, NULL));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_int_equal(ipc_message_verify(m), -EOPNOTSUPP);
	assert_int_equal(ipc_message_to_json(m, true, &json), 0);
	assert_non_null(strstr(json, "\"live\":true"));
	assert_null(strstr(json, "size"));
	assert_null(strstr(json, "body"));
	free(json);
	assert_int_equal(write(pipefd[1], "x", 1), 1);
	assert_int_equal(read(ipc_message_get_fd(m), &byte, 1), 1);
	ipc_message_free(m);
	close(pipefd[0]);
	close(pipefd[1]);
}

/* To who only looks it is shown without. */
static void test_live_peeked(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *receiver;
	struct ipc_message *m;

	assert_int_equal(ipc_receiver_new(f->client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_set_peek(receiver, true), 0);
	fake_say(f, "{\"re\":2,\"message\":1,\"state\":\"ready\",\"live\":true}");
	assert_int_equal(ipc_receiver_next(receiver, 0, &m), 1);
	assert_true(ipc_message_is_live(m));
	assert_int_equal(ipc_message_get_fd(m), -1);
	assert_null(ipc_message_get_body(m, NULL));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_int_equal(ipc_message_save(m, AT_FDCWD, "x", 0, NULL), -EBADF);
	ipc_message_free(m);
	ipc_receiver_free(receiver);
}

/* The daemon is believed, but not everything. */
static void test_nonsense(void **state)
{
	static const char *const keys[] = {
		"\"filename\":\"../x\"",
		"\"filename\":\"\"",
		"\"filename\":7",
		"\"mode\":512",
		"\"mode\":\"644\"",
		"\"mtime\":\"now\"",
		"\"mtime\":1,\"mtime_ns\":1000000000",
		"\"file_size\":-1",
		"\"md5\":\"0\"",
		"\"xxh3\":true",
		"\"live\":1",
		"\"archive\":true",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		struct ipc_message *m;
		struct fake f;

		fake_open(&f);
		fake_say(&f, "{" DELIVERY ",%s}", keys[i]);
		assert_int_equal(ipc_receive(f.client, "q", 0, &m), -EPROTO);
		fake_close(&f);
	}
}

/* ---- descriptors get lost ---- */

static struct rlimit limit_before;

/* No further descriptor. */
static void fill_table(void)
{
	struct rlimit limit;
	int fd = dup(0);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit_before), 0);
	limit = limit_before;
	limit.rlim_cur = (rlim_t)fd; /* the lowest that is free */
	close(fd);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void make_room(void)
{
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit_before), 0);
}

static struct ipc_receiver *new_receiver(struct fake *f, uint64_t max)
{
	struct ipc_receiver *receiver;

	assert_int_equal(ipc_receiver_new(f->client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_set_window(receiver, 2), 0);
	assert_int_equal(ipc_receiver_set_max(receiver, max), 0);
	return receiver;
}

#define GIVEN_BACK "{\"op\":\"nack\",\"message\":1,\"delay_ms\":1000,\"count\":false}"

static void test_no_room(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *receiver = new_receiver(f, 0);
	struct ipc_message *m;

	say_file(f, "abc", 3);
	fill_table();
	assert_int_equal(ipc_receiver_next(receiver, 1000, &m), -EMFILE);
	assert_non_null(strstr(ipc_client_get_error(f->client), "given back"));
	make_room();
	assert_true(fake_hear(f));
	fake_expect(f, GIVEN_BACK);
	assert_int_equal(ipc_receiver_next(receiver, 0, &m), -ETIMEDOUT);
	say_file(f, "abc", 3);
	assert_int_equal(ipc_receiver_next(receiver, 1000, &m), 1);
	assert_memory_equal(ipc_message_get_body(m, NULL), "abc", 3);
	ipc_message_free(m);
	ipc_receiver_free(receiver);
}

/* The daemon has counted it as one of max: what is left is asked for anew. */
static void test_no_room_for_the_last(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *receiver = new_receiver(f, 3);
	struct ipc_message *m;

	fake_say(f, "{\"re\":2,\"message\":6,\"lease\":\"" LEASE "\"}");
	fake_say(f, "{\"re\":2,\"message\":7,\"lease\":\"" LEASE "\"}");
	say_file(f, "abc", 3);
	fake_say(f, "{\"re\":2,\"end\":\"max\"}");
	fill_table();
	assert_int_equal(ipc_receiver_start(receiver), 0);
	assert_true(ipc_client_process(f->client) > 0);
	assert_int_equal(ipc_receiver_next(receiver, 0, &m), -EMFILE);
	make_room();
	assert_true(fake_hear(f));
	fake_expect(f, GIVEN_BACK);
	fake_expect(f, "{\"op\":\"receive\",\"id\":3,\"queues\":[\"q\"],\"max\":1,"
		       "\"window\":2,\"wait_ms\":-1}");
	fake_say(f, "{\"re\":3,\"message\":8,\"lease\":\"" LEASE "\"}");
	fake_say(f, "{\"re\":3,\"end\":\"max\"}");
	assert_true(ipc_client_process(f->client) > 0); /* the window counts anew */
	for (unsigned int number = 6; number <= 8; number++) {
		assert_int_equal(ipc_receiver_next(receiver, 1000, &m), 1);
		assert_int_equal(ipc_message_get_number(m), number);
		ipc_message_free(m);
	}
	assert_int_equal(ipc_receiver_next(receiver, 1000, &m), 0);
	assert_string_equal(ipc_receiver_get_end(receiver), "max");
	ipc_receiver_free(receiver);
	fake_expect_silence(f);
}

/* Who only looks has no lease that could be given back. */
static void test_no_room_to_look(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *receiver = new_receiver(f, 1);
	struct ipc_message *m;
	int fd = new_file("abc", 3);

	assert_int_equal(ipc_receiver_set_peek(receiver, true), 0);
	fake_say_fd(f, "{\"re\":2,\"message\":1,\"state\":\"ready\",\"fds\":1}", fd);
	fake_say(f, "{\"re\":2,\"end\":\"max\"}");
	fill_table();
	assert_int_equal(ipc_receiver_next(receiver, 1000, &m), -EMFILE);
	make_room();
	assert_string_equal(ipc_client_get_error(f->client),
			    "no room for the descriptor of a message: it is left out");
	assert_int_equal(ipc_receiver_next(receiver, 1000, &m), 0);
	assert_true(fake_hear(f));
	fake_expect_silence(f);
	ipc_receiver_free(receiver);
	close(fd);
}

static void test_no_room_for_one(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;

	say_file(f, "abc", 3);
	fake_say(f, "{\"re\":2,\"end\":\"max\"}");
	fill_table();
	assert_int_equal(ipc_receive(f->client, "q", 0, &m), -EMFILE);
	make_room();
	assert_true(fake_hear(f));
	fake_expect(f, GIVEN_BACK);
	fake_expect_silence(f);
}

static void count_messages(struct ipc_client *client, struct ipc_receiver *receiver,
			   struct ipc_message *message, void *userdata)
{
	(void)client;
	(void)receiver;
	++*(unsigned int *)userdata;
	ipc_message_free(message);
}

/* Who has a callback hears nothing, but the message comes again. */
static void test_no_room_with_a_callback(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *receiver = new_receiver(f, 0);
	unsigned int n = 0;

	assert_int_equal(ipc_receiver_set_callback(receiver, count_messages, &n), 0);
	assert_int_equal(ipc_receiver_start(receiver), 0);
	assert_int_equal(ipc_client_flush(f->client), 0);
	say_file(f, "abc", 3);
	fill_table();
	assert_true(ipc_client_process(f->client) >= 0);
	make_room();
	assert_true(fake_hear(f));
	fake_expect(f, GIVEN_BACK);
	assert_int_equal(n, 0);
	say_file(f, "abc", 3);
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_int_equal(n, 1);
	ipc_receiver_free(receiver);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_what_cannot_be_sent),
		cmocka_unit_test(test_one_takes_the_others_place),
		fake_test(test_no_file),
		fake_test(test_small_file),
		fake_test(test_descriptor),
		fake_test(test_descriptor_goes_with_the_message),
		fake_test(test_stolen),
		fake_test(test_another_size),
		fake_test(test_another_size_in_memory),
		fake_test(test_live),
		fake_test(test_live_peeked),
		cmocka_unit_test(test_nonsense),
		fake_test(test_no_room),
		fake_test(test_no_room_for_the_last),
		fake_test(test_no_room_to_look),
		fake_test(test_no_room_for_one),
		fake_test(test_no_room_with_a_callback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
