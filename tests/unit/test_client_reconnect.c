/* SPDX-License-Identifier: MIT */

/* A connection that is lost and made again. */

#include "unit/client_fake.h"

#include <poll.h>
#include <sys/epoll.h>

#define LEASE "0123456789abcdef"
#define SAME "0123456789abcdef" /* what the greeter says */
#define OTHER "00000000000000ff"

struct notes {
	unsigned int n_told;
	bool restarted;
	uint64_t n_held;
	unsigned int n;
	int error;
	unsigned int n_messages, n_ends;
	int end_error;
};

static void told(struct ipc_client *client, bool restarted, uint64_t n_held,
		 void *userdata)
{
	struct notes *notes = userdata;

	assert_true(ipc_client_get_fd(client) >= 0);
	notes->n_told++;
	notes->restarted = restarted;
	notes->n_held = n_held;
}

static void note(struct ipc_client *client, const struct ipc_reply *reply, void *userdata)
{
	struct notes *notes = userdata;

	(void)client;
	notes->n++;
	notes->error = ipc_reply_get_error(reply);
}

static void note_message(struct ipc_client *client, struct ipc_receiver *receiver,
			 struct ipc_message *message, void *userdata)
{
	struct notes *notes = userdata;

	(void)client;
	if (message)
		notes->n_messages++;
	else
		notes->n_ends++;
	notes->end_error = ipc_receiver_get_error(receiver);
	ipc_message_free(message);
}

static struct ipc_receiver *receiver_of(struct fake *f, unsigned int window, uint64_t max)
{
	struct ipc_receiver *receiver;

	assert_int_equal(ipc_receiver_new(f->client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_set_window(receiver, window), 0);
	assert_int_equal(ipc_receiver_set_max(receiver, max), 0);
	return receiver;
}

static void deliver(struct fake *f, int re, int number)
{
	fake_say(f, "{\"re\":%d,\"message\":%d,\"lease\":\"" LEASE "\"}", re, number);
}

static struct ipc_message *next(struct ipc_receiver *receiver)
{
	struct ipc_message *message;

	assert_int_equal(ipc_receiver_next(receiver, IPC_FOREVER, &message), 1);
	return message;
}

/* Processes the client until the listener has a connection, which is taken. */
static void accept_again(struct fake *f)
{
	struct pollfd p = { f->listener, POLLIN, 0 };

	fake_hang_up(f);
	while (poll(&p, 1, 0) == 0) {
		assert_true(ipc_client_process(f->client) >= 0);
		poll(&p, 1, ipc_client_get_timeout(f->client));
	}
	f->fd = accept(f->listener, NULL, NULL);
	assert_true(f->fd >= 0);
}

/* hello has the id; the client is told. */
static void greet(struct fake *f, int id, const char *epoch)
{
	char expected[64];

	assert_true(fake_hear(f));
	snprintf(expected, sizeof(expected), "{\"op\":\"hello\",\"id\":%d,", id);
	assert_memory_equal(f->header, expected, strlen(expected));
	fake_say(f,
		 "{\"re\":%d,\"version\":1,\"server\":\"fake 2.0\",\"epoch\":\"%s\","
		 "\"peer\":13}",
		 id, epoch);
	assert_true(ipc_client_process(f->client) > 0);
}

/* ---- */

static void test_told(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	int fd = ipc_client_get_fd(f->client);

	assert_int_equal(ipc_client_set_reconnect(f->client, NULL, NULL), -EINVAL);
	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	assert_int_equal(ipc_ping_async(f->client, note, &notes, NULL), 0);
	accept_again(f);
	assert_int_equal(notes.n, 1);
	assert_int_equal(notes.error, -ECONNRESET);
	assert_int_not_equal(ipc_client_get_fd(f->client), fd);
	assert_int_equal(notes.n_told, 0);
	greet(f, 3, SAME);
	assert_int_equal(notes.n_told, 1);
	assert_false(notes.restarted);
	assert_int_equal(notes.n_held, 0);
	assert_string_equal(ipc_client_get_server(f->client), "fake 2.0");
	assert_int_equal(ipc_client_get_peer(f->client), 13);
	fake_expect_silence(f); /* the ping is not repeated */

	accept_again(f);
	greet(f, 4, OTHER);
	assert_int_equal(notes.n_told, 2);
	assert_true(notes.restarted);
	assert_int_equal(notes.n, 1);
}

static void test_dead_already(void **state)
{
	struct fake *f = *state;

	fake_hang_up(f);
	assert_int_equal(ipc_client_process(f->client), -ECONNRESET);
	assert_int_equal(ipc_client_set_reconnect(f->client, told, NULL), -ECONNRESET);
}

/* Three were received: one acknowledged, one held, one not fetched. */
static void test_receiver_goes_on(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *receiver;
	struct ipc_message *a, *b, *c, *both[2];

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	receiver = receiver_of(f, 3, 5);
	deliver(f, 2, 1);
	deliver(f, 2, 2);
	deliver(f, 2, 3);
	a = next(receiver);
	b = next(receiver);
	assert_int_equal(ipc_ack(f->client, a), 0);
	ipc_message_free(a);
	accept_again(f);
	greet(f, 3, SAME);
	assert_int_equal(notes.n_told, 1);
	assert_int_equal(notes.n_held, 1);
	fake_expect(f, "{\"op\":\"nack\",\"message\":3,\"lease\":\"" LEASE
		       "\",\"delay_ms\":0,\"count\":false}");
	fake_expect(f, "{\"op\":\"receive\",\"id\":4,\"queues\":[\"q\"],\"max\":3,"
		       "\"window\":3,\"wait_ms\":-1}");
	deliver(f, 4, 3);
	c = next(receiver);
	assert_int_equal(ipc_message_get_number(c), 3);

	/* by token what came before, by number what came now */
	both[0] = b;
	both[1] = c;
	assert_int_equal(ipc_ack_many(f->client, both, 2), 0);
	fake_expect(f, "{\"op\":\"ack\",\"messages\":[3]}");
	fake_expect(f, "{\"op\":\"ack\",\"message\":2,\"lease\":\"" LEASE "\"}");
	assert_int_equal(ipc_ack(f->client, b), 0);
	fake_expect(f, "{\"op\":\"ack\",\"message\":2,\"lease\":\"" LEASE "\"}");
	ipc_message_free(b);
	ipc_message_free(c);
	ipc_receiver_free(receiver);
}

static void test_all_settled(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *receiver;
	struct ipc_message *m[4];

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	receiver = receiver_of(f, 4, 0);
	for (int i = 0; i < 4; i++)
		deliver(f, 2, i + 1);
	for (int i = 0; i < 4; i++)
		m[i] = next(receiver);
	fake_say(f, "{\"re\":3}");
	assert_int_equal(ipc_touch(f->client, m[0]), 0);
	fake_say(f, "{\"re\":4}");
	assert_int_equal(ipc_nack(f->client, m[1], -1, NULL), 0);
	assert_int_equal(ipc_settle_async(f->client, IPC_VERDICT_REJECT, 3, LEASE, -1,
					  false, NULL, note, &notes, NULL),
			 0);
	assert_int_equal(ipc_ack_many(f->client, m + 3, 1), 0);
	accept_again(f);
	greet(f, 6, SAME);
	assert_int_equal(notes.n_held, 1); /* the one that was touched */
	for (int i = 0; i < 4; i++)
		ipc_message_free(m[i]);
	ipc_receiver_free(receiver);
}

/* What has come in full, and was not fetched in full, is asked for again. */
static void test_max_not_fetched(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *receiver, *done;

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	receiver = receiver_of(f, 2, 2);
	done = receiver_of(f, 1, 1);
	deliver(f, 2, 1);
	deliver(f, 2, 2);
	fake_say(f, "{\"re\":2,\"end\":\"max\"}");
	ipc_message_free(next(receiver));
	deliver(f, 3, 3);
	fake_say(f, "{\"re\":3,\"end\":\"max\"}");
	ipc_message_free(next(done));
	accept_again(f);
	greet(f, 4, SAME);
	fake_expect(f, "{\"op\":\"nack\",\"message\":2,\"lease\":\"" LEASE
		       "\",\"delay_ms\":0,\"count\":false}");
	fake_expect(f, "{\"op\":\"receive\",\"id\":5,\"queues\":[\"q\"],\"max\":1,"
		       "\"window\":2,\"wait_ms\":-1}");
	fake_expect_silence(f);
	assert_string_equal(ipc_receiver_get_end(receiver), "");
	assert_string_equal(ipc_receiver_get_end(done), "max");
	ipc_receiver_free(receiver);
	ipc_receiver_free(done);
}

/* All was fetched, only the end has not come: there is nothing left to ask for. */
static void test_max_fetched(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *receiver, *stopped;
	struct ipc_message *message;

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	receiver = receiver_of(f, 1, 1);
	stopped = receiver_of(f, 1, 1);
	deliver(f, 2, 1);
	ipc_message_free(next(receiver));
	deliver(f, 3, 2);
	fake_say(f, "{\"re\":3,\"end\":\"shutting-down\"}");
	assert_int_equal(ipc_receiver_start(stopped), 0);
	assert_true(ipc_client_process(f->client) > 0);
	ipc_message_free(next(stopped));
	accept_again(f);
	greet(f, 4, SAME);
	fake_expect_silence(f);
	assert_string_equal(ipc_receiver_get_end(receiver), "max");
	assert_int_equal(ipc_receiver_next(receiver, IPC_FOREVER, &message), 0);
	assert_string_equal(ipc_receiver_get_end(stopped), "max");
	assert_int_equal(ipc_receiver_next(stopped, IPC_FOREVER, &message), 0);
	ipc_receiver_free(receiver);
	ipc_receiver_free(stopped);
}

/* A daemon that stops ends its receives before it closes. */
static void test_orderly_stop(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *receiver;
	struct ipc_message *message;

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	receiver = receiver_of(f, 1, 0);
	fake_say(f, "{\"re\":2,\"end\":\"shutting-down\"}");
	assert_int_equal(ipc_receiver_next(receiver, 0, &message), -ETIMEDOUT);
	assert_int_equal(ipc_receiver_next(receiver, 0, &message), -ETIMEDOUT);
	assert_string_equal(ipc_receiver_get_end(receiver), "");
	accept_again(f);
	greet(f, 3, OTHER);
	fake_expect(f, "{\"op\":\"receive\",\"id\":4,\"queues\":[\"q\"],\"max\":0,"
		       "\"window\":1,\"wait_ms\":-1}");
	deliver(f, 4, 7);
	ipc_message_free(next(receiver));
	ipc_receiver_free(receiver);
}

static void test_callbacks_go_on(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *receiver = receiver_of(f, 2, 0);

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	assert_int_equal(ipc_receiver_set_callback(receiver, note_message, &notes), 0);
	fake_hang_up(f);
	assert_int_equal(ipc_client_process(f->client), 0);
	assert_int_equal(ipc_receiver_start(receiver), 0); /* when there is one */
	accept_again(f);
	greet(f, 2, SAME);
	assert_true(fake_hear(f));
	deliver(f, 3, 7);
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_int_equal(notes.n_messages, 1);
	fake_hang_up(f);
	assert_int_equal(ipc_client_process(f->client), 0);
	f->client = ipc_client_close(f->client);
	assert_int_equal(notes.n_ends, 1);
	assert_int_equal(notes.end_error, -ECANCELED);
}

/* Peeking ends, as does what was asked for once. */
static void test_what_ends(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *peek;
	struct ipc_message *message;

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	peek = receiver_of(f, 1, 0);
	assert_int_equal(ipc_receiver_set_peek(peek, true), 0);
	fake_say(f, "{\"re\":2,\"message\":1,\"state\":\"ready\"}");
	assert_int_equal(ipc_receiver_start(peek), 0);
	assert_int_equal(ipc_client_process(f->client), 1);
	fake_hang_up(f);
	assert_int_equal(ipc_receive(f->client, "q", IPC_FOREVER, &message), -ECONNRESET);
	ipc_message_free(next(peek));
	assert_int_equal(ipc_receiver_next(peek, 0, &message), -ECONNRESET);
	ipc_receiver_free(peek);
}

/* ---- a daemon that is away ---- */

static void go_away(struct fake *f)
{
	fake_hang_up(f);
	close(f->listener);
	unlink(f->path);
}

static void test_away(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_message *message;
	int timeout;

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	fake_say(f, "{\"re\":2,\"message\":1,\"lease\":\"" LEASE "\"}");
	assert_int_equal(ipc_receive(f->client, "q", 0, &message), 0);
	go_away(f);
	assert_int_equal(ipc_client_process(f->client), 1); /* its receive was open */
	assert_int_equal(ipc_client_get_fd(f->client), -ECONNRESET);
	assert_int_equal(ipc_client_process(f->client), 0); /* the first attempt */
	timeout = ipc_client_get_timeout(f->client);
	assert_in_range(timeout, 0, 50);
	assert_non_null(strstr(ipc_client_get_error(f->client), "no daemon at"));
	assert_int_equal(ipc_ack(f->client, message), -ECONNRESET);
	assert_int_equal(ipc_ping_async(f->client, note, &notes, NULL), -ECONNRESET);
	assert_int_equal(ipc_client_flush(f->client), -ECONNRESET);
	assert_int_equal(ipc_client_set_timeout(f->client, 60), 0);
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, NULL), -ECONNRESET);
	assert_non_null(strstr(ipc_client_get_error(f->client), "no daemon at"));
	for (int i = 0; i < 3; i++) {
		timeout = ipc_client_get_timeout(f->client);
		assert_in_range(timeout, 0, 5000);
		poll(NULL, 0, timeout);
		assert_int_equal(ipc_client_process(f->client), 0);
	}
	assert_true(ipc_client_get_timeout(f->client) > 100); /* the pauses grow */

	assert_int_equal(ipc_client_set_timeout(f->client, 30000), 0);
	f->listener = fake_bind(f->path);
	accept_again(f);
	greet(f, 3, OTHER);
	assert_int_equal(notes.n_held, 1);
	assert_int_equal(ipc_ack(f->client, message), 0);
	fake_expect(f, "{\"op\":\"ack\",\"message\":1,\"lease\":\"" LEASE "\"}");
	ipc_message_free(message);
}

/* What a loop has registered is gone by itself, and does not wake it again and again. */
static void test_silent_while_away(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct epoll_event event = { .events = EPOLLIN };
	int fd = ipc_client_get_fd(f->client), epoll = epoll_create1(EPOLL_CLOEXEC);
	struct pollfd p = { fd, POLLIN | POLLOUT, 0 };

	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	go_away(f);
	assert_int_equal(epoll_wait(epoll, &event, 1, 0), 1);
	assert_int_equal(ipc_client_process(f->client), 0);
	assert_int_equal(epoll_wait(epoll, &event, 1, 0), 0);
	assert_int_equal(poll(&p, 1, 0) > 0 && p.revents & (POLLIN | POLLHUP), 0);
	f->listener = fake_bind(f->path);
	accept_again(f);
	greet(f, 2, SAME);
	assert_int_not_equal(ipc_client_get_fd(f->client), fd);
	close(epoll);
}

static void test_close_while_away(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *receiver;
	struct ipc_message *message;

	assert_int_equal(ipc_client_set_reconnect(f->client, told, NULL), 0);
	receiver = receiver_of(f, 2, 0);
	deliver(f, 2, 1);
	deliver(f, 2, 2);
	ipc_message_free(next(receiver));
	go_away(f);
	assert_true(ipc_client_process(f->client) >= 0);
	assert_int_equal(ipc_receiver_next(receiver, 20, &message), -ETIMEDOUT);
	f->client = ipc_client_close(f->client);
	f->listener = fake_bind(f->path);
}

static void *serve_once(void *userdata)
{
	struct fake *f = userdata;

	f->fd = accept(f->listener, NULL, NULL);
	fake_hear(f); /* hello */
	fake_say(f, "{\"re\":2,\"server\":\"fake\",\"epoch\":\"" SAME "\",\"peer\":2}");
	fake_hear(f); /* send */
	fake_say(f, "{\"re\":3,\"message\":9}");
	return NULL;
}

/* A call waits for the connection, and nobody processes the client. */
static void test_call_reconnects(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	uint64_t number = 0;
	pthread_t thread;

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	fake_hang_up(f);
	assert_int_equal(ipc_client_process(f->client), 0);
	pthread_create(&thread, NULL, serve_once, f);
	assert_int_equal(ipc_send(f->client, "q", NULL, 0, &number), 0);
	pthread_join(thread, NULL);
	assert_int_equal(number, 9);
	assert_int_equal(notes.n_told, 1);
}

/* ---- a send that may be repeated ---- */

struct repeat {
	struct fake *f;
	const char *first; /* the answer to it, or NULL */
	bool heard;	   /* again, on the next connection */
};

static void *serve_twice(void *userdata)
{
	struct repeat *r = userdata;
	struct fake *f = r->f;

	fake_hear(f);
	if (r->first)
		fake_say(f, "%s", r->first);
	fake_hang_up(f);
	f->fd = accept(f->listener, NULL, NULL);
	fake_hear(f);
	fake_say(f, "{\"re\":3,\"server\":\"fake\",\"epoch\":\"" OTHER "\",\"peer\":2}");
	r->heard = fake_hear(f);
	if (r->heard)
		fake_say(f, "{\"re\":4,\"message\":9,\"duplicate\":true}");
	return NULL;
}

static void repeated(struct fake *f, const char *first)
{
	struct repeat repeat = { .f = f, .first = first };
	struct notes notes = { 0 };
	struct ipc_message *m;
	uint64_t number = 0;
	pthread_t thread;

	assert_int_equal(ipc_message_new(&m), 0);
	assert_int_equal(ipc_message_set_dedup_id(m, "a"), 0);
	ipc_message_set_body(m, "x", 1);
	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	pthread_create(&thread, NULL, serve_twice, &repeat);
	assert_int_equal(ipc_send_message(f->client, "q", m, IPC_FOREVER, IPC_SEND_TELL,
					  &number),
			 IPC_SENT_DUPLICATE);
	pthread_join(thread, NULL);
	assert_int_equal(number, 9);
	assert_int_equal(notes.n_told, 1);
	assert_string_equal(f->header,
			    "{\"op\":\"send\",\"id\":4,\"queue\":\"q\",\"wait_ms\":-1,"
			    "\"dedup_id\":\"a\",\"size\":1}");
	ipc_message_free(m);
}

static void test_send_is_repeated(void **state)
{
	repeated(*state, NULL);
}

static void test_send_is_repeated_after_a_stop(void **state)
{
	repeated(*state, "{\"re\":2,\"error\":\"shutting-down\",\"message\":\"stops\"}");
}

static void *serve_callback(void *userdata)
{
	struct fake *f = userdata;

	fake_hear(f); /* the ping with the callback */
	fake_hear(f); /* send */
	fake_say(f, "{\"re\":3,\"error\":\"shutting-down\",\"message\":\"stops\"}");
	fake_say(f, "{\"re\":2}");
	fake_hang_up(f);
	f->fd = accept(f->listener, NULL, NULL);
	fake_hear(f);
	fake_say(f, "{\"re\":5,\"server\":\"fake\",\"epoch\":\"" OTHER "\",\"peer\":2}");
	fake_hear(f);
	fake_say(f, "{\"re\":6}");
	fake_hear(f);
	fake_say(f, "{\"re\":7,\"message\":9}");
	return NULL;
}

static void ping_until_answered(struct ipc_client *client, const struct ipc_reply *reply,
				void *userdata)
{
	int r;

	(void)reply;
	(void)userdata;
	do
		r = ipc_ping(client, NULL, 0);
	while (r == -ECONNRESET);
	assert_int_equal(r, 0);
}

/* The connection comes again within a callback, before the send looks. */
static void test_send_is_repeated_after_a_callback(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_message *m = new_message();
	uint64_t number = 0;
	pthread_t thread;

	assert_int_equal(ipc_message_set_dedup_id(m, "a"), 0);
	assert_int_equal(ipc_client_set_timeout(f->client, 3000), 0);
	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	assert_int_equal(ipc_ping_async(f->client, ping_until_answered, NULL, NULL), 0);
	pthread_create(&thread, NULL, serve_callback, f);
	assert_int_equal(ipc_send_message(f->client, "q", m, 0, 0, &number), 0);
	pthread_join(thread, NULL);
	assert_int_equal(number, 9);
	assert_int_equal(notes.n_told, 1);
	ipc_message_free(m);
}

/* Whether the daemon has it is not known: without an id it must not go again. */
static void test_send_is_not_repeated(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct repeat repeat = { .f = f };
	struct ipc_message *m;
	pthread_t thread;

	assert_int_equal(ipc_message_new(&m), 0);
	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	pthread_create(&thread, NULL, serve_twice, &repeat);
	assert_int_equal(ipc_send_message(f->client, "q", m, 0, 0, NULL), -ECONNRESET);
	while (!notes.n_told)
		assert_true(ipc_client_process(f->client) >= 0);
	f->client = ipc_client_close(f->client);
	pthread_join(thread, NULL);
	assert_false(repeat.heard);
	ipc_message_free(m);
}

static void *hang_up_once(void *userdata)
{
	struct fake *f = userdata;

	fake_hear(f);
	close(f->listener);
	fake_hang_up(f);
	return NULL;
}

/* Without a program that has asked for it nothing goes again, nor when the time is over. */
static void test_send_gives_up(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_message *m;
	pthread_t thread;

	assert_int_equal(ipc_message_new(&m), 0);
	assert_int_equal(ipc_message_set_dedup_id(m, "a"), 0);
	assert_int_equal(ipc_client_set_timeout(f->client, 200), 0);
	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	pthread_create(&thread, NULL, hang_up_once, f);
	assert_int_equal(ipc_send_message(f->client, "q", m, 0, 0, NULL), -ECONNRESET);
	pthread_join(thread, NULL);
	assert_int_equal(notes.n_told, 0);
	f->listener = -1;
	ipc_message_free(m);
}

static void test_send_without_reconnect(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;

	assert_int_equal(ipc_message_new(&m), 0);
	assert_int_equal(ipc_message_set_dedup_id(m, "a"), 0);
	fake_hang_up(f);
	assert_int_equal(ipc_send_message(f->client, "q", m, 0, 0, NULL), -ECONNRESET);
	ipc_message_free(m);
}

static void *serve_receiver(void *userdata)
{
	struct fake *f = userdata;

	fake_hear(f);
	fake_hang_up(f);
	f->fd = accept(f->listener, NULL, NULL);
	fake_hear(f);
	fake_say(f, "{\"re\":3,\"server\":\"fake\",\"epoch\":\"" SAME "\",\"peer\":2}");
	fake_hear(f);
	deliver(f, 4, 9);
	return NULL;
}

/* ipc_receiver_next() does not notice. */
static void test_next_goes_on(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *receiver;
	struct ipc_message *message;
	pthread_t thread;

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	receiver = receiver_of(f, 1, 0);
	pthread_create(&thread, NULL, serve_receiver, f);
	message = next(receiver);
	pthread_join(thread, NULL);
	assert_int_equal(ipc_message_get_number(message), 9);
	assert_int_equal(notes.n_told, 1);
	ipc_message_free(message);
	ipc_receiver_free(receiver);
}

/* ---- connections that come to nothing ---- */

static void test_refused(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	accept_again(f);
	assert_true(fake_hear(f));
	fake_say(f, "{\"re\":2,\"error\":\"bad-request\",\"message\":\"too old\"}");
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_non_null(strstr(ipc_client_get_error(f->client), "too old"));
	assert_int_equal(ipc_client_get_fd(f->client), -ECONNRESET);
	assert_true(ipc_client_get_timeout(f->client) > 0);
	assert_int_equal(notes.n_told, 0);
	accept_again(f);
	greet(f, 3, SAME);
	assert_int_equal(notes.n_told, 1);
}

/* Greeted and lost in one turn, before the program was told: told the next time. */
static void test_lost_at_once(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	accept_again(f);
	assert_true(fake_hear(f));
	fake_say(f, "{\"re\":2,\"server\":\"fake\",\"epoch\":\"" OTHER "\",\"peer\":2}");
	fake_hang_up(f);
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_int_equal(notes.n_told, 0);
	assert_true(ipc_client_get_timeout(f->client) > 0); /* no busy loop */
	accept_again(f);
	greet(f, 3, OTHER);
	assert_int_equal(notes.n_told, 1);
	assert_true(notes.restarted);
}

static void test_not_greeted(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	int timeout;

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	assert_int_equal(ipc_client_set_timeout(f->client, 20), 0);
	accept_again(f);
	timeout = ipc_client_get_timeout(f->client);
	assert_in_range(timeout, 0, 50);
	poll(NULL, 0, timeout);
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_int_equal(ipc_client_get_fd(f->client), -ECONNRESET);
	assert_int_equal(ipc_client_set_timeout(f->client, 30000), 0);
	accept_again(f);
	greet(f, 3, SAME);
	assert_int_equal(notes.n_told, 1);
}

/* Another connection, which nobody greets, by calls. */
static void lose_in_a_call(struct fake *f)
{
	int r;

	fake_hang_up(f);
	assert_int_equal(ipc_ping(f->client, NULL, 0), -ECONNRESET);
	do
		r = ipc_ping(f->client, NULL, 0);
	while (r == -ECONNRESET); /* there are pauses */
	assert_int_equal(r, -ETIMEDOUT);
	f->fd = accept(f->listener, NULL, NULL);
	assert_true(f->fd >= 0);
}

/* Who compares descriptors sees that it is another one, however often it was lost since. */
static void test_lost_twice_between_looks(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	int fd = ipc_client_get_fd(f->client);

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	assert_int_equal(ipc_client_set_timeout(f->client, 5), 0);
	lose_in_a_call(f);
	lose_in_a_call(f);
	assert_true(ipc_client_get_fd(f->client) >= 0);
	assert_int_not_equal(ipc_client_get_fd(f->client), fd);
}

/* Ends the next connection at once, and serves the one after. */
static void *serve_third(void *userdata)
{
	struct fake *f = userdata;
	unsigned long long id;

	f->fd = accept(f->listener, NULL, NULL);
	fake_hang_up(f);
	f->fd = accept(f->listener, NULL, NULL);
	while (fake_hear(f)) {
		if (sscanf(f->header, "{\"op\":\"hello\",\"id\":%llu", &id) == 1)
			fake_say(f,
				 "{\"re\":%llu,\"server\":\"fake\",\"epoch\":\"" OTHER
				 "\",\"peer\":2}",
				 id);
		if (sscanf(f->header, "{\"op\":\"ping\",\"id\":%llu", &id) == 1)
			fake_say(f, "{\"re\":%llu}", id);
	}
	return NULL;
}

/* When it is the turn of one connection's greeting there is the next one already, which is
 * not the worse for it. */
static void test_stale_greeting(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_request *request;
	pthread_t thread;

	assert_int_equal(ipc_client_set_timeout(f->client, 3000), 0);
	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	assert_int_equal(ipc_ping_async(f->client, ping_until_answered, NULL, NULL), 0);
	assert_int_equal(ipc_ping_async(f->client, note, &notes, &request), 0);
	fake_hang_up(f);
	assert_int_equal(ipc_request_cancel(request), -ECONNRESET);
	pthread_create(&thread, NULL, serve_third, f);
	(void)!ipc_ping(f->client, NULL, 0); /* lost, as a rule */
	assert_true(ipc_client_process(f->client) >= 0);
	assert_true(ipc_client_get_fd(f->client) >= 0);
	assert_int_equal(notes.n_told, 1);
	assert_true(notes.restarted);
	f->client = ipc_client_close(f->client);
	pthread_join(thread, NULL);
}

/* A program that never waits for an answer. */
static void test_no_time_to_wait(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	assert_int_equal(ipc_client_set_timeout(f->client, 0), 0);
	accept_again(f);
	greet(f, 2, SAME);
	assert_int_equal(notes.n_told, 1);
}

/* It had come to its end, but the program has not. */
static void test_timeout_not_fetched(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *receiver = receiver_of(f, 2, 0),
			    *done = receiver_of(f, 1, 0);
	struct ipc_message *message;

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	assert_int_equal(ipc_receiver_set_wait(receiver, 0), 0);
	assert_int_equal(ipc_receiver_set_wait(done, 0), 0);
	deliver(f, 2, 1);
	deliver(f, 2, 2);
	fake_say(f, "{\"re\":2,\"end\":\"timeout\"}");
	ipc_message_free(next(receiver));
	fake_say(f, "{\"re\":3,\"end\":\"timeout\"}");
	assert_int_equal(ipc_receiver_next(done, IPC_FOREVER, &message), 0);
	accept_again(f);
	greet(f, 4, SAME);
	fake_expect(f, "{\"op\":\"nack\",\"message\":2,\"lease\":\"" LEASE
		       "\",\"delay_ms\":0,\"count\":false}");
	fake_expect(f, "{\"op\":\"receive\",\"id\":5,\"queues\":[\"q\"],\"max\":0,"
		       "\"window\":2,\"wait_ms\":0}");
	fake_expect_silence(f);
	assert_string_equal(ipc_receiver_get_end(receiver), "");
	assert_string_equal(ipc_receiver_get_end(done), "timeout");
	ipc_receiver_free(receiver);
	ipc_receiver_free(done);
}

/* Freed while its request was open: nobody asks for it again. */
static void test_freed(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *receiver;

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	receiver = receiver_of(f, 1, 0);
	assert_int_equal(ipc_receiver_start(receiver), 0);
	ipc_receiver_free(receiver);
	receiver = receiver_of(f, 1, 0);
	fake_hang_up(f);
	assert_int_equal(ipc_receiver_start(receiver), 0);
	assert_int_equal(ipc_client_process(f->client), 0);
	ipc_receiver_free(receiver); /* while it waits */
	accept_again(f);
	greet(f, 4, SAME);
	fake_expect_silence(f);
}

/* Loses the connection, frees the receiver, and has another connection made. */
static void free_while_lost(struct fake *f, struct ipc_receiver *receiver)
{
	fake_hang_up(f);
	assert_int_equal(ipc_ping(f->client, NULL, 0), -ECONNRESET);
	ipc_receiver_free(receiver);
	assert_int_equal(ipc_client_set_timeout(f->client, 20), 0);
	assert_int_equal(ipc_ping(f->client, NULL, 0), -ETIMEDOUT);
}

struct freed {
	struct fake *f;
	struct ipc_receiver *receiver;
};

static void free_in_callback(struct ipc_client *client, struct ipc_receiver *receiver,
			     struct ipc_message *message, void *userdata)
{
	struct freed *freed = userdata;

	(void)client;
	assert_non_null(message);
	ipc_message_free(message);
	free_while_lost(freed->f, receiver);
}

static void expect_no_receive(struct fake *f)
{
	f->fd = accept(f->listener, NULL, NULL);
	assert_true(fake_hear(f)); /* hello */
	assert_true(fake_hear(f));
	assert_non_null(strstr(f->header, "\"ping\""));
}

static void test_freed_in_its_callback(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct freed freed = { .f = f };
	struct ipc_receiver *receiver = receiver_of(f, 1, 0);

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	assert_int_equal(ipc_receiver_set_callback(receiver, free_in_callback, &freed),
			 0);
	assert_int_equal(ipc_receiver_start(receiver), 0);
	deliver(f, 2, 1);
	assert_true(ipc_client_process(f->client) > 0);
	expect_no_receive(f);
}

static void free_other(struct ipc_client *client, const struct ipc_reply *reply,
		       void *userdata)
{
	struct freed *freed = userdata;

	(void)client;
	(void)reply;
	free_while_lost(freed->f, freed->receiver);
}

static void test_freed_while_waited_for(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct freed freed = { f, receiver_of(f, 1, 0) };
	struct ipc_message *message;

	assert_int_equal(ipc_client_set_reconnect(f->client, told, &notes), 0);
	assert_int_equal(ipc_ping_async(f->client, free_other, &freed, NULL), 0);
	fake_say(f, "{\"re\":2}");
	assert_int_equal(ipc_receiver_next(freed.receiver, IPC_FOREVER, &message),
			 -ECANCELED);
	expect_no_receive(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fake_test(test_told),
		fake_test(test_dead_already),
		fake_test(test_receiver_goes_on),
		fake_test(test_all_settled),
		fake_test(test_max_not_fetched),
		fake_test(test_max_fetched),
		fake_test(test_orderly_stop),
		fake_test(test_callbacks_go_on),
		fake_test(test_what_ends),
		fake_test(test_away),
		fake_test(test_silent_while_away),
		fake_test(test_close_while_away),
		fake_test(test_call_reconnects),
		fake_test(test_send_is_repeated),
		fake_test(test_send_is_repeated_after_a_stop),
		fake_test(test_send_is_repeated_after_a_callback),
		fake_test(test_send_is_not_repeated),
		fake_test(test_send_gives_up),
		fake_test(test_send_without_reconnect),
		fake_test(test_next_goes_on),
		fake_test(test_refused),
		fake_test(test_lost_at_once),
		fake_test(test_not_greeted),
		fake_test(test_lost_twice_between_looks),
		fake_test(test_stale_greeting),
		fake_test(test_no_time_to_wait),
		fake_test(test_timeout_not_fetched),
		fake_test(test_freed),
		fake_test(test_freed_in_its_callback),
		fake_test(test_freed_while_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
