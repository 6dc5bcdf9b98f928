/* SPDX-License-Identifier: MIT */

/* Calls of the client: what they write, how answers find their request, and callbacks that
 * do what callbacks may do. */

#include "unit/client_fake.h"

#include <limits.h>
#include <poll.h>
#include <sys/wait.h>

#define LEASE "0123456789abcdef"

/* ---- system calls are counted ---- */

static unsigned int n_sends, n_receives, n_polls, n_options;

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	n_sends++;
	return __real_sendmsg(fd, message, flags);
}

ssize_t __real_send(int fd, const void *data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags)
{
	n_sends++;
	return __real_send(fd, data, size, flags);
}

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
	n_receives++;
	return __real_recvmsg(fd, message, flags);
}

static int poll_ms; /* of the last poll(2) */

int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	n_polls++;
	poll_ms = timeout;
	return __real_poll(fds, n, timeout);
}

int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t size);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t size);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
	n_options++;
	return __real_setsockopt(fd, level, name, value, size);
}

static void count_anew(void)
{
	n_sends = n_receives = n_polls = n_options = 0;
}

/* ---- callbacks that take notes ---- */

struct notes {
	unsigned int n;
	int errors[16];
	uint64_t numbers[16];
	char text[256];
	struct ipc_request *victim;
	struct ipc_receiver *receiver;
	unsigned int depth, depth_max;
};

static void note(struct ipc_client *client, const struct ipc_reply *reply, void *userdata)
{
	struct notes *notes = userdata;

	(void)client;
	if (notes->n < 16) {
		notes->errors[notes->n] = ipc_reply_get_error(reply);
		notes->numbers[notes->n] = ipc_reply_get_number(reply);
	}
	snprintf(notes->text, sizeof(notes->text), "%s", ipc_reply_get_error_text(reply));
	notes->n++;
}

static struct ipc_request *send_async(struct fake *f, const char *body,
				      ipc_reply_fn callback, struct notes *notes)
{
	struct ipc_request *request = NULL;
	struct ipc_message *message;

	assert_int_equal(ipc_message_new(&message), 0);
	ipc_message_set_body(message, body, strlen(body));
	assert_int_equal(ipc_send_async(f->client, "q", message, 0, 0, callback, notes,
					&request),
			 0);
	ipc_message_free(message);
	return request;
}

/* ---- hello ---- */

static void test_hello(void **state)
{
	struct fake *f = *state;
	char expected[256];

	snprintf(expected, sizeof(expected),
		 "{\"op\":\"hello\",\"id\":1,\"version\":1,\"pieces\":true,\"fds\":true,"
		 "\"label\":\"%s\"}",
		 program_invocation_short_name);
	assert_string_equal(f->header, expected); /* which the greeter has heard */
	assert_string_equal(ipc_client_get_server(f->client), "fake 1.0");
	assert_string_equal(ipc_client_get_socket(f->client), f->path);
	assert_int_equal(ipc_client_get_peer(f->client), 12);
	assert_string_equal(ipc_client_get_error(f->client), "");
	assert_string_equal(ipc_client_get_error_word(f->client), "");
}

/* A name of 64 bytes at most, cut where a character begins. */
static void test_label(void **state)
{
	char *before = program_invocation_short_name;
	char name[] =
		"0123456789012345678901234567890123456789012345678901234567890123\xc3\xa4";
	char expected[200];
	struct fake f;

	(void)state;
	name[63] = '\xc3'; /* bytes 63 and 64 are one character */
	name[64] = '\xa4';
	program_invocation_short_name = name;
	fake_open(&f);
	program_invocation_short_name = before;
	snprintf(expected, sizeof(expected), "\"label\":\"%.63s\"}", name);
	assert_non_null(strstr(f.header, expected));
	fake_close(&f);
}

static void *greet_badly(void *userdata)
{
	struct fake *f = userdata;

	f->fd = accept(f->listener, NULL, NULL);
	fake_hear(f);
	fake_say(
		f,
		"{\"re\":1,\"error\":\"bad-request\",\"message\":\"version 1 is too old\"}");
	return NULL;
}

static void test_hello_refused(void **state)
{
	struct fake f = { .fd = -1 };

	(void)state;
	fake_listen(&f);
	pthread_cancel(f.greeter);
	pthread_join(f.greeter, NULL);
	pthread_create(&f.greeter, NULL, greet_badly, &f);
	assert_int_equal(ipc_client_open(f.path, 0, &f.client), -EINVAL);
	pthread_join(f.greeter, NULL);
	assert_string_equal(ipc_client_get_error(f.client), "version 1 is too old");
	assert_string_equal(ipc_client_get_error_word(f.client), "bad-request");
	assert_int_equal(ipc_client_get_fd(f.client), -ECONNRESET);
	fake_close(&f);
}

/* ---- send ---- */

static void test_send(void **state)
{
	struct fake *f = *state;
	uint64_t number = 0;

	fake_say(f, "{\"re\":2,\"message\":41}");
	assert_int_equal(ipc_send(f->client, "jobs", "hello", 5, &number), 0);
	assert_int_equal(number, 41);
	fake_expect(f, "{\"op\":\"send\",\"id\":2,\"queue\":\"jobs\",\"size\":5}");
	assert_memory_equal(f->body, "hello", 5);

	fake_say(f, "{\"re\":3,\"message\":42}");
	assert_int_equal(ipc_send(f->client, "jobs", NULL, 0, NULL), 0);
	fake_expect(f, "{\"op\":\"send\",\"id\":3,\"queue\":\"jobs\"}");
	fake_expect_silence(f);
}

static void test_send_all_options(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;
	uint64_t number = 0;

	assert_int_equal(ipc_message_new(&m), 0);
	ipc_message_set_body(m, "x", 1);
	assert_int_equal(ipc_message_set_meta(m, "{ \"a\" : [1] }"), 0);
	assert_int_equal(ipc_message_set_priority(m, 9), 0);
	assert_int_equal(ipc_message_set_delay(m, 100), 0);
	assert_int_equal(ipc_message_set_ttl(m, 2000), 0);
	assert_int_equal(ipc_message_set_dedup_id(m, "7\"\n"), 0);
	fake_say(f, "{\"re\":2,\"message\":41,\"outcome\":\"acked\"}");
	assert_int_equal(ipc_send_message(f->client, "q", m, IPC_FOREVER,
					  IPC_SEND_WAIT_ACKED, &number),
			 0);
	fake_expect(
		f,
		"{\"op\":\"send\",\"id\":2,\"queue\":\"q\",\"priority\":9,"
		"\"delay_ms\":100,\"ttl_ms\":2000,\"wait_ms\":-1,\"confirm\":\"acked\","
		"\"dedup_id\":\"7\\\"\\n\",\"meta\":{ \"a\" : [1] },\"size\":1}");
	ipc_message_free(m);
}

static void test_send_not_acked(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;

	assert_int_equal(ipc_message_new(&m), 0);
	fake_say(f, "{\"re\":2,\"message\":41,\"outcome\":\"expired\"}");
	assert_int_equal(ipc_send_message(f->client, "q", m, 0, IPC_SEND_WAIT_ACKED,
					  NULL),
			 -ECANCELED);
	assert_string_equal(ipc_client_get_error(f->client),
			    "message 41 was not acknowledged: expired");
	ipc_message_free(m);
}

/* What else the answer says is told to who asks for it, and a success all the same. */
static void test_sent_again(void **state)
{
	enum { BOTH = IPC_SENT_DUPLICATE | IPC_SENT_NOT_DURABLE };
	static const char *const answers[] = {
		"\"duplicate\":true",
		"\"durable\":false",
		"\"duplicate\":true,\"durable\":false",
		"\"duplicate\":false,\"durable\":true",
		"\"duplicate\":1,\"durable\":null",
	};
	static const int told[] = { IPC_SENT_DUPLICATE, IPC_SENT_NOT_DURABLE, BOTH, 0,
				    0 };
	struct fake *f = *state;
	struct ipc_message *m;
	uint64_t number = 0;

	assert_int_equal(ipc_message_new(&m), 0);
	assert_int_equal(ipc_message_set_dedup_id(m, "a"), 0);
	for (int i = 0; i < 5; i++) {
		fake_say(f, "{\"re\":%d,\"message\":41,%s}", 2 * i + 2, answers[i]);
		assert_int_equal(ipc_send_message(f->client, "q", m, 0, IPC_SEND_TELL,
						  &number),
				 told[i]);
		assert_int_equal(number, 41);
		fake_say(f, "{\"re\":%d,\"message\":41,%s}", 2 * i + 3, answers[i]);
		assert_int_equal(ipc_send_message(f->client, "q", m, 0, 0, NULL), 0);
	}
	fake_say(f, "{\"re\":12,\"message\":41,\"duplicate\":true,\"outcome\":\"gone\"}");
	assert_int_equal(ipc_send_message(f->client, "q", m, 0,
					  IPC_SEND_WAIT_ACKED | IPC_SEND_TELL, &number),
			 -EALREADY);
	assert_string_equal(ipc_client_get_error(f->client),
			    "it was sent before, as message 41, and that has ended: "
			    "whether it was acknowledged is not known any more");
	ipc_message_free(m);
}

static void test_dedup_id_is_checked(void **state)
{
	struct ipc_message *m;
	char large[257];

	(void)state;
	memset(large, 'x', sizeof(large));
	large[256] = '\0';
	assert_int_equal(ipc_message_new(&m), 0);
	assert_int_equal(ipc_message_set_dedup_id(m, ""), -EINVAL);
	assert_int_equal(ipc_message_set_dedup_id(m, "\xff"), -EINVAL);
	assert_int_equal(ipc_message_set_dedup_id(m, large), -EMSGSIZE);
	assert_int_equal(ipc_message_set_dedup_id(m, large + 1), 0);
	assert_int_equal(ipc_message_set_dedup_id(m, NULL), 0);
	assert_int_equal(ipc_message_set_dedup_id(m, "again"), 0);
	ipc_message_free(m);
}

static void test_meta_is_checked(void **state)
{
	static const char *const bad[] = {
		"",
		"1",
		"[]",
		"{",
		"{}}",
		"{},\"queue\":\"x\"",
		"{\"a\":1,\"a\":2}",
		"{\"a\":\"\\u0000\"}",
		"{\"a\":\"\xff\"}",
		"{} {}",
	};
	struct ipc_message *m;
	char *large = malloc(32769 + 1);

	(void)state;
	assert_int_equal(ipc_message_new(&m), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(ipc_message_set_meta(m, bad[i]), -EINVAL);
	assert_null(ipc_message_get_meta(m));
	memset(large, ' ', 32769);
	large[0] = '{';
	large[32768] = '}';
	large[32769] = '\0';
	assert_int_equal(ipc_message_set_meta(m, large), -EMSGSIZE);
	large[32767] = '}';
	large[32768] = '\0';
	assert_int_equal(ipc_message_set_meta(m, large), 0);
	assert_string_equal(ipc_message_get_meta(m), large);
	assert_int_equal(ipc_message_set_meta(m, NULL), 0);
	assert_null(ipc_message_get_meta(m));
	assert_int_equal(ipc_message_set_priority(m, 10), -EINVAL);
	assert_int_equal(ipc_message_set_delay(m, -1), -EINVAL);
	assert_int_equal(ipc_message_set_ttl(m, 0), -EINVAL);
	assert_int_equal(ipc_message_set_ttl(m, IPC_FOREVER), 0);
	ipc_message_free(m);
	free(large);
}

static void test_arguments(void **state)
{
	struct fake *f = *state;
	char name[202];
	struct ipc_message *m;

	memset(name, 'a', 201);
	name[201] = '\0';
	assert_int_equal(ipc_send(f->client, name, NULL, 0, NULL), -EINVAL);
	assert_string_equal(ipc_client_get_error(f->client),
			    "the queue's name has 201 bytes, the limit is 200");
	assert_int_equal(ipc_send(f->client, "\xff", NULL, 0, NULL), -EINVAL);
	assert_int_equal(ipc_message_new(&m), 0);
	assert_int_equal(ipc_send_message(f->client, "q", m, -2, 0, NULL), -EINVAL);
	assert_int_equal(ipc_send_message(f->client, "q", m, 0, 8, NULL), -EINVAL);
	assert_int_equal(ipc_client_set_timeout(f->client, -2), -EINVAL);
	ipc_message_free(m);
	fake_expect_silence(f);
}

static void test_errors(void **state)
{
	static const struct {
		const char *word;
		int error;
	} words[] = { { "denied", -EACCES },	   { "full", -EAGAIN },
		      { "quota", -EDQUOT },	   { "bad-name", -EINVAL },
		      { "too-large", -EMSGSIZE },  { "shutting-down", -ESHUTDOWN },
		      { "internal", -EIO },	   { "timeout", -ETIMEDOUT },
		      { "not-known-yet", -EPROTO } };
	struct fake *f = *state;

	for (unsigned int i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		fake_say(f, "{\"re\":%u,\"error\":\"%s\",\"message\":\"no:\\n%s\"}",
			 i + 2, words[i].word, words[i].word);
		assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), words[i].error);
		assert_string_equal(ipc_client_get_error_word(f->client), words[i].word);
		assert_int_equal(strncmp(ipc_client_get_error(f->client), "no: ", 4), 0);
	}
	fake_say(f, "{\"re\":11,\"message\":1}");
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), 0);
}

static void test_system_calls(void **state)
{
	struct fake *f = *state;

	for (unsigned int i = 2; i < 12; i++) {
		fake_say(f, "{\"re\":%u,\"message\":1}", i);
		count_anew();
		assert_int_equal(ipc_send(f->client, "q", "x", 1, NULL), 0);
		assert_int_equal(n_sends, 1);
		assert_int_equal(n_receives, 1);
		assert_int_equal(n_polls, 1);
		assert_int_equal(n_options, 0);
	}
}

/* poll(2) takes less than 25 days at once, which then is not for ever. */
static void test_long_time(void **state)
{
	static const struct {
		int64_t wait_ms;
		int poll_ms;
	} rows[] = { { (int64_t)30 * 86400000, INT_MAX }, { IPC_FOREVER, -1 } };
	struct fake *f = *state;
	struct ipc_message *m;

	for (int i = 0; i < 2; i++) {
		fake_say(f, "{\"re\":%d,\"message\":1,\"lease\":\"" LEASE "\"}", i + 2);
		assert_int_equal(ipc_receive(f->client, "q", rows[i].wait_ms, &m), 0);
		assert_int_equal(poll_ms, rows[i].poll_ms);
		ipc_message_free(m);
	}
}

/* ---- answers in any order ---- */

static void test_async(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };

	count_anew();
	send_async(f, "a", note, &notes);
	send_async(f, "b", note, &notes);
	send_async(f, "c", note, &notes);
	assert_int_equal(n_sends, 0);
	assert_int_equal(ipc_client_get_events(f->client), POLLIN | POLLOUT);
	assert_int_equal(ipc_client_flush(f->client), 0);
	assert_int_equal(n_sends, 1);
	assert_int_equal(ipc_client_get_events(f->client), POLLIN);
	assert_int_equal(ipc_client_get_timeout(f->client), -1);
	for (int c = 'a'; c <= 'c'; c++) {
		assert_true(fake_hear(f));
		assert_int_equal(f->body[0], c);
	}
	fake_say(f, "{\"re\":4,\"message\":104}");
	fake_say(f, "{\"re\":2,\"error\":\"denied\",\"message\":\"not you\"}");
	fake_say(f, "{\"re\":3,\"message\":103}");
	assert_int_equal(ipc_client_process(f->client), 3);
	assert_int_equal(notes.n, 3);
	assert_int_equal(notes.numbers[0], 104);
	assert_int_equal(notes.errors[1], -EACCES);
	assert_int_equal(notes.numbers[2], 103);
	assert_int_equal(ipc_client_process(f->client), 0);
}

/* More than 64 KiB are written unasked, less are not. */
static void test_async_writes_soon(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	char body[30001];

	memset(body, 'x', 30000);
	body[30000] = '\0';
	count_anew();
	send_async(f, body, note, &notes);
	send_async(f, body, note, &notes);
	assert_int_equal(n_sends, 0);
	send_async(f, body, note, &notes);
	assert_int_equal(n_sends, 1);
	for (int i = 0; i < 3; i++) {
		assert_true(fake_hear(f));
		assert_int_equal(f->body_size, 30000);
	}
	f->client = ipc_client_close(f->client); /* while notes is there */
	assert_int_equal(notes.n, 3);
}

static void test_call_between_answers(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	uint64_t number = 0;

	send_async(f, "a", note, &notes);
	send_async(f, "b", note, &notes);
	fake_say(f, "{\"re\":3,\"message\":103}");
	fake_say(f, "{\"re\":4,\"message\":104}");
	fake_say(f, "{\"re\":2,\"message\":102}");
	assert_int_equal(ipc_send(f->client, "q", "c", 1, &number), 0);
	assert_int_equal(number, 104);
	assert_int_equal(notes.n, 2); /* what came with it was handled too */
	assert_int_equal(notes.numbers[0], 103);
	assert_int_equal(notes.numbers[1], 102);
	assert_int_equal(ipc_client_get_timeout(f->client),
			 0); /* process() tells of them */
	assert_int_equal(ipc_client_process(f->client), 2);
	assert_int_equal(ipc_client_get_timeout(f->client), -1);
}

static void test_cancel(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_request *request = send_async(f, "a", note, &notes);

	assert_int_equal(ipc_request_cancel(request), 0);
	assert_true(fake_hear(f));
	fake_expect(f, "{\"op\":\"cancel\",\"request\":2}");
	fake_say(f, "{\"re\":2,\"error\":\"timeout\",\"message\":\"cancelled\"}");
	fake_say(f,
		 "{\"error\":\"not-found\",\"op\":\"cancel\",\"message\":\"too late\"}");
	fake_say(f, "{\"re\":3,\"message\":1}");
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), 0);
	assert_int_equal(notes.n, 0);
	assert_string_equal(ipc_client_get_error(f->client), "");
}

static void cancel_victim(struct ipc_client *client, const struct ipc_reply *reply,
			  void *userdata)
{
	struct notes *notes = userdata;

	note(client, reply, userdata);
	assert_int_equal(ipc_request_cancel(notes->victim), 0);
}

static void test_cancel_in_callback(void **state)
{
	struct fake *f = *state;
	struct notes first = { 0 }, answered = { 0 }, open = { 0 };

	/* one whose answer is there already */
	send_async(f, "a", cancel_victim, &first);
	first.victim = send_async(f, "b", note, &answered);
	fake_say(f, "{\"re\":2,\"message\":1}");
	fake_say(f, "{\"re\":3,\"message\":2}");
	assert_true(ipc_client_process(f->client) >= 1);
	assert_int_equal(first.n, 1);
	assert_int_equal(answered.n, 0);

	/* one that is open */
	send_async(f, "a", cancel_victim, &first);
	first.victim = send_async(f, "b", note, &open);
	fake_say(f, "{\"re\":4,\"message\":1}");
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_int_equal(first.n, 2);
	fake_say(f, "{\"re\":5,\"message\":1}");
	assert_int_equal(ipc_client_process(f->client), 0);
	assert_int_equal(open.n, 0);

	/* itself */
	first.victim = send_async(f, "a", cancel_victim, &first);
	fake_say(f, "{\"re\":6,\"message\":1}");
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_int_equal(first.n, 3);
}

static void call_again(struct ipc_client *client, const struct ipc_reply *reply,
		       void *userdata)
{
	struct notes *notes = userdata;
	uint64_t number = 0;

	notes->depth++;
	if (notes->depth > notes->depth_max)
		notes->depth_max = notes->depth;
	assert_int_equal(ipc_client_process(client), -EBUSY);
	assert_int_equal(ipc_send(client, "q", "again", 5, &number), 0);
	note(client, reply, userdata);
	notes->numbers[notes->n - 1] = number;
	notes->depth--;
}

/* Each callback makes a call, which reads the answers of others: no callback inside of
 * another, none lost. */
static void test_call_in_callback(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };

	for (int i = 0; i < 5; i++)
		send_async(f, "a", call_again, &notes); /* 2..6 */
	for (int i = 2; i <= 6; i++)
		fake_say(f, "{\"re\":%d,\"message\":1}", i);
	assert_int_equal(ipc_client_flush(f->client), 0);
	/* the calls' own ids are not used yet, so their answers must come later */
	for (int i = 0; i < 5; i++)
		assert_true(fake_hear(f));
	struct ipc_client *client = f->client;
	pid_t pid = fork();
	if (!pid) { /* answers the calls that the callbacks make */
		for (int i = 7; i <= 11 && fake_hear(f); i++)
			fake_say(f, "{\"re\":%d,\"message\":%d}", i, 100 + i);
		_exit(0);
	}
	assert_true(ipc_client_process(client) >= 5);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(notes.n, 5);
	assert_int_equal(notes.depth_max, 1);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(notes.numbers[i], 107 + i);
}

static void send_another(struct ipc_client *client, const struct ipc_reply *reply,
			 void *userdata)
{
	struct ipc_message *message;

	note(client, reply, userdata);
	assert_int_equal(ipc_message_new(&message), 0);
	assert_int_equal(ipc_send_async(client, "q", message, 0, 0, note, userdata, NULL),
			 0);
	ipc_message_free(message);
}

static void test_send_in_callback(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };

	send_async(f, "a", send_another, &notes);
	fake_say(f, "{\"re\":2,\"message\":1}");
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_true(fake_hear(f));
	fake_expect(
		f,
		"{\"op\":\"send\",\"id\":3,\"queue\":\"q\"}"); /* written by process() */
	fake_say(f, "{\"re\":3,\"message\":2}");
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_int_equal(notes.n, 2);
}

static void free_receiver(struct ipc_client *client, const struct ipc_reply *reply,
			  void *userdata)
{
	struct notes *notes = userdata;

	note(client, reply, userdata);
	notes->receiver = ipc_receiver_free(notes->receiver);
}

/* A receiver that is freed while it waits, and while messages are queued on it. */
static void test_free_receiver_in_callback(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_message *message;

	assert_int_equal(ipc_receiver_new(f->client, &notes.receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(notes.receiver, "q"), 0);
	assert_int_equal(ipc_receiver_set_window(notes.receiver, 2), 0);
	send_async(f, "a", free_receiver, &notes); /* 2 */
	fake_say(f, "{\"re\":2,\"message\":1}");
	assert_int_equal(ipc_receiver_next(notes.receiver, IPC_FOREVER, &message),
			 -ECANCELED);
	assert_int_equal(notes.n, 1);
	assert_true(fake_hear(f));
	assert_true(fake_hear(f)); /* receive */
	fake_expect(f, "{\"op\":\"cancel\",\"request\":3}");

	/* what was on its way is given back */
	fake_say(f,
		 "{\"re\":3,\"message\":7,\"lease\":\"0123456789abcdef\",\"attempt\":1}");
	fake_say(f, "{\"re\":3,\"end\":\"cancelled\"}");
	assert_int_equal(ipc_client_process(f->client), 1);
	fake_expect(f, "{\"op\":\"nack\",\"message\":7,\"delay_ms\":0,\"count\":false}");
}

static void test_free_receiver_with_queued(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_message *message;

	assert_int_equal(ipc_receiver_new(f->client, &notes.receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(notes.receiver, "q"), 0);
	assert_int_equal(ipc_receiver_set_window(notes.receiver, 2), 0);
	assert_int_equal(ipc_receiver_next(notes.receiver, 0, &message), -ETIMEDOUT);
	assert_true(fake_hear(f));
	send_async(f, "a", free_receiver, &notes);
	fake_say(f,
		 "{\"re\":2,\"message\":7,\"lease\":\"0123456789abcdef\",\"attempt\":1}");
	fake_say(f,
		 "{\"re\":2,\"message\":8,\"lease\":\"0123456789abcdef\",\"attempt\":1}");
	fake_say(f, "{\"re\":3,\"message\":1}");
	assert_int_equal(ipc_client_process(f->client), 3);
	assert_true(fake_hear(f)); /* send */
	fake_expect(f, "{\"op\":\"cancel\",\"request\":2}");
	fake_expect(f, "{\"op\":\"nack\",\"message\":7,\"delay_ms\":0,\"count\":false}");
	fake_expect(f, "{\"op\":\"nack\",\"message\":8,\"delay_ms\":0,\"count\":false}");
	fake_expect_silence(f);
}

static void test_close_with_open(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };

	send_async(f, "a", note, &notes);
	send_async(f, "b", note, &notes);
	fake_say(f, "{\"re\":2,\"message\":1}");
	f->client = ipc_client_close(f->client);
	assert_int_equal(notes.n, 2);
	assert_int_equal(notes.errors[0], -ECANCELED);
	assert_int_equal(notes.errors[1], -ECANCELED);
	assert_true(fake_hear(f)); /* what was put is still written */
	assert_true(fake_hear(f));
	assert_false(fake_hear(f));
	assert_null(ipc_client_close(NULL));
}

/* ---- notices ---- */

static void test_failed_ack_is_told(void **state)
{
	struct fake *f = *state;

	fake_say(
		f,
		"{\"error\":\"lease-lost\",\"op\":\"ack\",\"message\":\"41 was settled\"}");
	assert_int_equal(ipc_client_process(f->client), 0);
	assert_string_equal(ipc_client_get_error(f->client), "41 was settled");
	assert_string_equal(ipc_client_get_error_word(f->client), "lease-lost");
	fake_say(f, "{\"re\":2,\"message\":1}");
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), 0);
}

/* ---- ping, lists, disconnect ---- */

static void test_ping(void **state)
{
	struct fake *f = *state;

	fake_say_body(f, "{\"re\":2,\"size\":4}", "ping", 4);
	assert_int_equal(ipc_ping(f->client, "ping", 4), 0);
	fake_expect(f, "{\"op\":\"ping\",\"id\":2,\"size\":4}");
	fake_say(f, "{\"re\":3}");
	assert_int_equal(ipc_ping(f->client, NULL, 0), 0);
	fake_say_body(f, "{\"re\":4,\"size\":4}", "pong", 4);
	assert_int_equal(ipc_ping(f->client, "ping", 4), -EPROTO);
	assert_int_equal(ipc_ping(f->client, NULL, 0), -ECONNRESET);
}

static void test_list(void **state)
{
	static const char lines[] =
		"{\"name\":\"a.b\",\"n\":3,\"x\":{\"name\":\"no\",\"n\":7,"
		"\"y\":{\"z\":\"deep\",\"b\":true}},\"t\":\"\\u00e4\\n\\\"\"}\n"
		"{\"name\":\"c\",\"bad\":-1,\"part\":1.25,\"half\":5e-1}\n";
	struct fake *f = *state;
	const struct ipc_record *r;
	struct ipc_list *list;
	char header[64];

	/* in two pieces, cut in the middle of a line */
	snprintf(header, sizeof(header), "{\"re\":2,\"size\":10,\"more\":true}");
	fake_say_body(f, header, lines, 10);
	snprintf(header, sizeof(header), "{\"re\":2,\"size\":%zu}", sizeof(lines) - 11);
	fake_say_body(f, header, lines + 10, sizeof(lines) - 11);
	assert_int_equal(ipc_list_open(f->client, IPC_LIST_NAMES, "a.b", &list), 0);
	fake_expect(f, "{\"op\":\"names\",\"id\":2,\"name\":\"a.b\"}");
	f->client = ipc_client_close(f->client); /* lists do not need it */

	r = ipc_list_next(list);
	assert_non_null(r);
	const char *name = ipc_record_get_string(r, "name"),
		   *t = ipc_record_get_string(r, "t");
	assert_string_equal(name, "a.b");
	assert_string_equal(t, "\xc3\xa4\n\"");
	assert_ptr_equal(ipc_record_get_string(r, "name"), name);
	assert_int_equal(ipc_record_get_integer(r, "n"), 3);
	assert_null(ipc_record_get_string(r, "n"));
	assert_null(ipc_record_get_string(r, "x"));
	assert_string_equal(ipc_record_get_string(r, "x.name"), "no");
	assert_string_equal(ipc_record_get_string(r, "x.y.z"), "deep");
	assert_true(ipc_record_get_bool(r, "x.y.b"));
	assert_int_equal(ipc_record_get_integer(r, "x.n"), 7);
	assert_true(ipc_record_get_number(r, "x.n") == 7);
	assert_null(ipc_record_get_string(r, "x.none"));
	assert_null(ipc_record_get_string(r, "t.name"));
	assert_null(ipc_record_get_string(r, "x."));
	assert_null(ipc_record_get_string(r, ""));
	assert_null(ipc_record_get_string(r, "none"));
	assert_int_equal(ipc_record_get_integer(r, "none"), -1);
	assert_true(ipc_record_get_number(r, "n") == 3);
	assert_true(ipc_record_get_number(r, "none") == -1);
	assert_true(ipc_record_get_number(r, "name") == -1);
	assert_int_equal(ipc_record_get_integer(r, "name"), -1);
	assert_int_equal(strlen(ipc_record_get_json(r)), strchr(lines, '\n') - lines);
	r = ipc_list_next(list);
	assert_string_equal(ipc_record_get_string(r, "name"), "c");
	assert_string_equal(ipc_record_get_json(r),
			    "{\"name\":\"c\",\"bad\":-1,\"part\":1.25,\"half\":5e-1}");
	assert_true(ipc_record_get_number(r, "part") == 1.25);
	assert_true(ipc_record_get_number(r, "half") == 0.5);
	assert_int_equal(ipc_record_get_integer(r, "part"), -1);
	assert_null(ipc_list_next(list));
	assert_null(ipc_list_next(list));
	ipc_list_free(list);
}

static void test_list_errors(void **state)
{
	struct fake *f = *state;
	struct ipc_list *list;

	assert_int_equal(ipc_list_open(f->client, IPC_LIST_PEERS, "a", &list), -EINVAL);
	assert_int_equal(ipc_list_open(f->client, (enum ipc_list_kind)7, NULL, &list),
			 -EINVAL);
	fake_say(f, "{\"re\":2}");
	assert_int_equal(ipc_list_open(f->client, IPC_LIST_PEERS, NULL, &list), 0);
	fake_expect(f, "{\"op\":\"peers\",\"id\":2}");
	assert_null(ipc_list_next(list));
	ipc_list_free(list);
	fake_say(f, "{\"re\":3,\"error\":\"not-found\",\"message\":\"no b\"}");
	assert_int_equal(ipc_list_open(f->client, IPC_LIST_NAMES, "b", &list), -ENOENT);
	fake_say_body(f, "{\"re\":4,\"size\":3}", "{}x", 3);
	assert_int_equal(ipc_list_open(f->client, IPC_LIST_STATS, NULL, &list), -EPROTO);
	assert_int_equal(ipc_list_open(f->client, IPC_LIST_STATS, NULL, &list),
			 -ECONNRESET);
}

static void test_disconnect(void **state)
{
	struct fake *f = *state;

	fake_say(f, "{\"re\":2}");
	assert_int_equal(ipc_disconnect(f->client, 9), 0);
	fake_expect(f, "{\"op\":\"disconnect\",\"id\":2,\"peer\":9}");
	assert_int_equal(ipc_disconnect(f->client, 0), -EINVAL);
	assert_int_equal(ipc_disconnect(f->client, UINT64_MAX), -EINVAL);
	fake_expect_silence(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fake_test(test_hello),
		cmocka_unit_test(test_label),
		cmocka_unit_test(test_hello_refused),
		fake_test(test_send),
		fake_test(test_send_all_options),
		fake_test(test_send_not_acked),
		fake_test(test_sent_again),
		cmocka_unit_test(test_dedup_id_is_checked),
		cmocka_unit_test(test_meta_is_checked),
		fake_test(test_arguments),
		fake_test(test_errors),
		fake_test(test_system_calls),
		fake_test(test_long_time),
		fake_test(test_async),
		fake_test(test_async_writes_soon),
		fake_test(test_call_between_answers),
		fake_test(test_cancel),
		fake_test(test_cancel_in_callback),
		fake_test(test_call_in_callback),
		fake_test(test_send_in_callback),
		fake_test(test_free_receiver_in_callback),
		fake_test(test_free_receiver_with_queued),
		fake_test(test_close_with_open),
		fake_test(test_failed_ack_is_told),
		fake_test(test_ping),
		fake_test(test_list),
		fake_test(test_list_errors),
		fake_test(test_disconnect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
