/* SPDX-License-Identifier: MIT */

/* Daemons that go away, talk nonsense, do not answer and do not read. */

#include "unit/client_fake.h"

#include <poll.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

struct notes {
	unsigned int n;
	int error;
	char text[256];
};

static void note(struct ipc_client *client, const struct ipc_reply *reply, void *userdata)
{
	struct notes *notes = userdata;

	(void)client;
	notes->n++;
	notes->error = ipc_reply_get_error(reply);
	snprintf(notes->text, sizeof(notes->text), "%s", ipc_reply_get_error_text(reply));
}

static int send_async(struct fake *f, size_t size, struct notes *notes)
{
	char *body = calloc(1, size + 1);
	struct ipc_message *message;
	int r;

	assert_int_equal(ipc_message_new(&message), 0);
	ipc_message_set_body(message, body, size);
	r = ipc_send_async(f->client, "q", message, 0, 0, note, notes, NULL);
	ipc_message_free(message);
	free(body);
	return r;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- it goes away ---- */

static void assert_dead(struct fake *f)
{
	struct ipc_message *message;

	assert_int_equal(ipc_client_get_fd(f->client), -ECONNRESET);
	assert_int_equal(ipc_client_get_timeout(f->client), 0);
	assert_int_equal(ipc_client_process(f->client), -ECONNRESET);
	assert_int_equal(ipc_client_flush(f->client), -ECONNRESET);
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), -ECONNRESET);
	assert_int_equal(ipc_receive(f->client, "q", 0, &message), -ECONNRESET);
	assert_int_equal(ipc_ping(f->client, NULL, 0), -ECONNRESET);
	assert_int_equal(ipc_ack_many(f->client, NULL, 0), -ECONNRESET);
	assert_true(strlen(ipc_client_get_error(f->client)) > 0);
}

static void test_gone_with_open(void **state)
{
	struct fake *f = *state;
	struct notes a = { 0 }, b = { 0 }, answered = { 0 };

	assert_int_equal(send_async(f, 1, &a), 0);
	assert_int_equal(send_async(f, 1, &answered), 0);
	assert_int_equal(send_async(f, 1, &b), 0);
	fake_say(f, "{\"re\":3,\"message\":1}");
	assert_int_equal(ipc_client_flush(f->client), 0);
	for (int i = 0; i < 3; i++)
		assert_true(fake_hear(f)); /* a reset would take the answer with it */
	fake_hang_up(f);
	assert_int_equal(ipc_client_process(f->client), -ECONNRESET);
	assert_int_equal(answered.n, 1);
	assert_int_equal(answered.error, 0);
	assert_int_equal(a.n, 1);
	assert_int_equal(a.error, -ECONNRESET);
	assert_string_equal(a.text, "the daemon closed the connection");
	assert_int_equal(b.n, 1);
	assert_int_equal(b.error, -ECONNRESET);
	assert_dead(f);
	assert_int_equal(send_async(f, 1, &a), -ECONNRESET);
	f->client = ipc_client_close(f->client);
	assert_int_equal(a.n, 1);
}

static void test_gone_in_call(void **state)
{
	struct fake *f = *state;

	assert_int_equal(shutdown(f->fd, SHUT_WR), 0);
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), -ECONNRESET);
	assert_dead(f);
}

/* It said why, and did not wait for what we had to say. */
static void test_parting_words(void **state)
{
	struct fake *f = *state;
	struct notes a = { 0 };

	fake_say(f, "{\"error\":\"slow\",\"message\":\"9 MiB unread\"}");
	fake_hang_up(f);
	assert_int_equal(send_async(f, 1, &a), 0);
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), -ECONNRESET);
	assert_string_equal(ipc_client_get_error(f->client),
			    "the daemon closed the connection: 9 MiB unread");
	assert_string_equal(ipc_client_get_error_word(f->client), "slow");
	assert_int_equal(a.n, 1);
	assert_string_equal(a.text, "the daemon closed the connection: 9 MiB unread");
}

/* ---- it talks nonsense ---- */

static void test_garbage(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
		const char *why;
	} cases[] = {
		{ "HTTP/1.1 400 Bad Request\r\n", 26, "a frame begins with" },
		{ "\2\0\0\0[]", 6, "no strict JSON object" },
		{ "\2\0\0\0{}", 6, "neither an answer nor an error" },
		{ "\x09\0\0\0{\"re\":99}", 13, "an answer to no request" },
		{ "\x08\0\0\0{\"re\":0}", 12, "\"re\" must be from 1" },
		{ "\x0a\0\0\0{\"re\":\"2\"}", 14, "\"re\" must be an integer" },
		{ "\x12\0\0\0{\"re\":2,\"error\":1}", 22, "\"error\" must be a string" },
		{ "\x16\0\0\0{\"re\":2,\"message\":\"x\"}", 26,
		  "\"message\" must be an integer" },
		{ "\x11\0\0\0{\"re\":2,\"more\":1}", 21,
		  "\"more\" must be true or false" },
		{ "\x1d\0\0\0{\"re\":2,\"size\":999999999999}\0", 34, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct notes a = { 0 };
		struct fake f;
		int r;

		fake_open(&f);
		assert_int_equal(send_async(&f, 0, &a), 0);
		fake_write(f.fd, cases[i].bytes, cases[i].size);
		r = ipc_send(f.client, "q", NULL, 0, NULL);
		if (cases[i].why) {
			assert_int_equal(r, -EPROTO);
			assert_non_null(
				strstr(ipc_client_get_error(f.client), cases[i].why));
			assert_int_equal(a.n, 1);
			assert_int_equal(a.error, -ECONNRESET);
			assert_dead(&f);
		}
		fake_close(&f);
		assert_int_equal(a.n, 1);
	}
}

/* Other requests are done with that, a message that was sent has a number. */
static void test_send_without_a_number(void **state)
{
	struct fake *f = *state;
	struct notes a = { 0 };
	uint64_t number;

	assert_int_equal(send_async(f, 1, &a), 0);
	fake_say(f, "{\"re\":3}");
	assert_int_equal(ipc_send(f->client, "q", "x", 1, &number), -EPROTO);
	assert_non_null(strstr(ipc_client_get_error(f->client), "without \"message\""));
	assert_int_equal(ipc_client_process(f->client), -ECONNRESET);
	assert_int_equal(a.n, 1);
	assert_int_equal(a.error, -ECONNRESET);
}

static void test_bad_deliveries(void **state)
{
	static const char *const headers[] = {
		"{\"re\":2}",
		"{\"re\":2,\"message\":0}",
		"{\"re\":2,\"message\":1,\"attempt\":-1}",
		"{\"re\":2,\"message\":1,\"priority\":10}",
		"{\"re\":2,\"message\":1,\"lease\":7}",
		"{\"re\":2,\"message\":1,\"meta\":[]}",
		"{\"re\":2,\"message\":1,\"queue\":{}}",
		"{\"re\":2,\"end\":false}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		struct ipc_message *message;
		struct fake f;

		fake_open(&f);
		fake_say(&f, "%s", headers[i]);
		assert_int_equal(ipc_receive(f.client, "q", 0, &message), -EPROTO);
		assert_dead(&f);
		fake_close(&f);
	}
}

/* Descriptors that nobody announced. */
static void test_unannounced_fds(void **state)
{
	struct fake *f = *state;
	char frame[] = "\x14\0\0\0{\"re\":2,\"message\":7}";
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .space = { 0 } };
	struct iovec iov = { frame, sizeof(frame) - 1 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control.space,
				  .msg_controllen = sizeof(control.space) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	int fd = dup(f->fd);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	frame[0] = (char)(sizeof(frame) - 1 - 4);
	assert_true(sendmsg(f->fd, &message, 0) > 0);
	close(fd);
	(void)!ipc_send(f->client, "q", NULL, 0, NULL);
	assert_dead(f);
}

/* ---- it does not answer ---- */

static void test_no_answer(void **state)
{
	struct fake *f = *state;
	uint64_t before = now_ms();

	assert_int_equal(ipc_client_set_timeout(f->client, 30), 0);
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), -ETIMEDOUT);
	assert_true(now_ms() - before >= 30);
	assert_string_equal(ipc_client_get_error_word(f->client), "");
	assert_true(fake_hear(f));
	fake_say(f, "{\"re\":2,\"message\":1}"); /* too late: for nobody */
	fake_say(f, "{\"re\":3,\"message\":5}");
	uint64_t number = 0;
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, &number), 0);
	assert_int_equal(number, 5);
	fake_expect(f, "{\"op\":\"cancel\",\"request\":2}");
}

static void test_timeout_of_nothing(void **state)
{
	struct fake *f = *state;

	assert_int_equal(ipc_client_set_timeout(f->client, 0), 0);
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), -ETIMEDOUT);
	fake_say(f, "{\"re\":3,\"message\":1}");
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), 0); /* it is there */
}

/* Time that a call may wait comes on top of the timeout. */
static void test_wait_and_timeout(void **state)
{
	struct fake *f = *state;
	struct ipc_message *message;
	uint64_t before = now_ms();

	assert_int_equal(ipc_client_set_timeout(f->client, 20), 0);
	assert_int_equal(ipc_message_new(&message), 0);
	assert_int_equal(ipc_send_message(f->client, "q", message, 30, 0, NULL),
			 -ETIMEDOUT);
	assert_true(now_ms() - before >= 50);
	ipc_message_free(message);
}

static volatile sig_atomic_t n_signals;

static void on_alarm(int signal)
{
	(void)signal;
	n_signals++;
}

/* Signals neither end a call nor make it longer or shorter. */
static void test_signals(void **state)
{
	struct sigaction action = { .sa_handler = on_alarm }, before;
	struct itimerval often = { { 0, 2000 }, { 0, 2000 } }, never = { 0 };
	struct fake *f = *state;
	uint64_t begin = now_ms();

	n_signals = 0;
	sigaction(SIGALRM, &action, &before);
	setitimer(ITIMER_REAL, &often, NULL);
	assert_int_equal(ipc_client_set_timeout(f->client, 50), 0);
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), -ETIMEDOUT);
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &before, NULL);
	assert_true(n_signals > 1);
	assert_true(now_ms() - begin >= 50);
}

/* ---- it does not read ---- */

static void test_never_reads(void **state)
{
	struct fake *f = *state;
	struct notes a = { 0 };
	char *body = calloc(1, 4 << 20);
	int r, n = 0;

	assert_int_equal(ipc_client_set_timeout(f->client, 20), 0);
	assert_int_equal(ipc_send(f->client, "q", body, 4 << 20, NULL), -ETIMEDOUT);
	assert_int_equal(ipc_client_flush(f->client), -ETIMEDOUT);
	assert_string_equal(ipc_client_get_error(f->client), "the daemon does not read");
	assert_int_equal(ipc_client_get_events(f->client), POLLIN | POLLOUT);

	/* what waits to be written has an end */
	while ((r = send_async(f, 4 << 20, &a)) == 0)
		assert_true(++n < 20);
	assert_int_equal(r, -ENOBUFS);
	assert_int_equal(n, 16);
	assert_non_null(strstr(ipc_client_get_error(f->client), "flush first"));
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), -ETIMEDOUT);
	assert_int_equal(a.n, 0);
	f->client = ipc_client_close(f->client);
	assert_int_equal(a.n, (unsigned int)n);
	free(body);
}

struct flood {
	struct fake *fake;
	char *data;
	size_t size;
};

/* Writes all it has before it reads anything. */
static void *flood(void *userdata)
{
	struct flood *flood = userdata;
	struct fake *f = flood->fake;
	char header[100];

	for (int i = 0; i < 4; i++) {
		snprintf(header, sizeof(header), "{\"re\":2,\"size\":%zu,\"message\":%d}",
			 flood->size, i + 1);
		fake_say_body(f, header, flood->data, flood->size);
	}
	fake_hear(f); /* receive */
	fake_hear(f); /* send */
	if (f->body_size == flood->size)
		fake_say(f, "{\"re\":3,\"message\":9}");
	return NULL;
}

/* Both directions are full: the client must read while it cannot write. */
static void test_both_full(void **state)
{
	struct fake *f = *state;
	struct flood all = { f, calloc(1, 2 << 20), 2 << 20 };
	struct ipc_receiver *receiver;
	struct ipc_message *message;
	pthread_t thread;

	assert_int_equal(ipc_receiver_new(f->client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_set_peek(receiver, true), 0);
	assert_int_equal(ipc_receiver_next(receiver, 0, &message), -ETIMEDOUT);
	pthread_create(&thread, NULL, flood, &all);
	assert_int_equal(ipc_send(f->client, "q", all.data, all.size, NULL), 0);
	pthread_join(thread, NULL);
	for (unsigned int i = 1; i <= 4; i++) {
		assert_int_equal(ipc_receiver_next(receiver, 0, &message), 1);
		assert_int_equal(ipc_message_get_number(message), i);
		ipc_message_free(message);
	}
	ipc_receiver_free(receiver);
	free(all.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fake_test(test_gone_with_open),
		fake_test(test_gone_in_call),
		fake_test(test_parting_words),
		cmocka_unit_test(test_garbage),
		fake_test(test_send_without_a_number),
		cmocka_unit_test(test_bad_deliveries),
		fake_test(test_unannounced_fds),
		fake_test(test_no_answer),
		fake_test(test_timeout_of_nothing),
		fake_test(test_wait_and_timeout),
		fake_test(test_signals),
		fake_test(test_never_reads),
		fake_test(test_both_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
