/* SPDX-License-Identifier: MIT */

/* The client in a main loop: messages, answers and deadlines told by callbacks. */

#include "unit/client_fake.h"

#include <poll.h>
#include <sys/mman.h>

#define LEASE "0123456789abcdef"

struct notes {
	unsigned int n;
	int errors[8];
	char text[256], word[32], names[64];
	uint64_t messages[8]; /* 0: the end */
	unsigned int n_messages;
	int end_error;
	struct fake *fake;
	struct ipc_receiver *receiver; /* to be freed by the callback */
	int r;
};

static void note(struct ipc_client *client, const struct ipc_reply *reply, void *userdata)
{
	struct notes *notes = userdata;
	struct ipc_list *list = ipc_reply_get_list(reply);
	const struct ipc_record *record;

	(void)client;
	notes->errors[notes->n++ % 8] = ipc_reply_get_error(reply);
	snprintf(notes->text, sizeof(notes->text), "%s", ipc_reply_get_error_text(reply));
	snprintf(notes->word, sizeof(notes->word), "%s", ipc_reply_get_error_word(reply));
	while (list && (record = ipc_list_next(list)))
		strncat(notes->names, ipc_record_get_string(record, "name"), 16);
}

static void note_message(struct ipc_client *client, struct ipc_receiver *receiver,
			 struct ipc_message *message, void *userdata)
{
	struct notes *notes = userdata;

	notes->messages[notes->n_messages++ % 8] =
		message ? ipc_message_get_number(message) : 0;
	if (message)
		notes->r = ipc_ack(client, message);
	else
		notes->end_error = ipc_receiver_get_error(receiver);
	ipc_message_free(message);
	if (notes->receiver)
		notes->receiver = ipc_receiver_free(notes->receiver);
}

static struct ipc_receiver *start(struct fake *f, const char *queue, struct notes *notes)
{
	struct ipc_receiver *receiver;

	assert_int_equal(ipc_receiver_new(f->client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, queue), 0);
	assert_int_equal(ipc_receiver_set_window(receiver, 4), 0);
	assert_int_equal(ipc_receiver_set_callback(receiver, note_message, notes), 0);
	assert_int_equal(ipc_receiver_start(receiver), 0);
	return receiver;
}

static void deliver(struct fake *f, int re, int number)
{
	fake_say(f, "{\"re\":%d,\"message\":%d,\"lease\":\"" LEASE "\"}", re, number);
}

/* ---- messages ---- */

static void test_messages(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_message *message;
	struct ipc_receiver *receiver = start(f, "q", &notes);

	assert_int_equal(ipc_receiver_next(receiver, 0, &message), -EBUSY);
	assert_int_equal(ipc_receiver_start(receiver), -EBUSY);
	assert_int_equal(ipc_receiver_set_callback(receiver, NULL, NULL), -EBUSY);
	deliver(f, 2, 5);
	deliver(f, 2, 6);
	fake_say(f, "{\"re\":2,\"end\":\"max\"}");
	assert_int_equal(ipc_client_process(f->client), 3);
	fake_expect(f, "{\"op\":\"receive\",\"id\":2,\"queues\":[\"q\"],\"max\":0,"
		       "\"window\":4,\"wait_ms\":-1}");
	fake_expect(f, "{\"op\":\"ack\",\"message\":5}");
	fake_expect(f, "{\"op\":\"ack\",\"message\":6}");
	assert_int_equal(notes.n_messages, 3);
	assert_int_equal(notes.messages[0], 5);
	assert_int_equal(notes.messages[1], 6);
	assert_int_equal(notes.messages[2], 0);
	assert_int_equal(notes.end_error, 0);
	assert_string_equal(ipc_receiver_get_end(receiver), "max");
	assert_int_equal(ipc_client_process(f->client), 0);
	assert_int_equal(notes.n_messages, 3); /* the end is told once */
	ipc_receiver_free(receiver);
}

static void test_refused(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *receiver = start(f, "q", &notes);

	fake_say(f, "{\"re\":2,\"error\":\"denied\",\"message\":\"no\"}");
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_int_equal(notes.n_messages, 1);
	assert_int_equal(notes.end_error, -EACCES);
	assert_int_equal(ipc_receiver_get_error(receiver), -EACCES);
	ipc_receiver_free(receiver);
}

static void test_no_queue(void **state)
{
	struct fake *f = *state;
	struct ipc_receiver *receiver;

	assert_int_equal(ipc_receiver_new(f->client, &receiver), 0);
	assert_int_equal(ipc_receiver_start(receiver), -EINVAL);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_start(receiver), 0);
	ipc_receiver_free(receiver);
}

/* Each has its turn. */
static void test_two_receivers(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *a = start(f, "a", &notes), *b = start(f, "b", &notes);

	deliver(f, 2, 1);
	deliver(f, 2, 2);
	deliver(f, 3, 11);
	deliver(f, 3, 12);
	assert_int_equal(ipc_client_process(f->client), 4);
	assert_int_equal(notes.messages[0], 1);
	assert_int_equal(notes.messages[1], 11);
	assert_int_equal(notes.messages[2], 2);
	assert_int_equal(notes.messages[3], 12);
	ipc_receiver_free(a);
	ipc_receiver_free(b);
}

static void test_free_in_own_callback(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };

	notes.receiver = start(f, "q", &notes);
	deliver(f, 2, 5);
	deliver(f, 2, 6);
	assert_int_equal(ipc_client_process(f->client), 2);
	assert_int_equal(notes.n_messages, 1);
	assert_true(fake_hear(f)); /* receive */
	fake_expect(f, "{\"op\":\"ack\",\"message\":5}");
	fake_expect(f, "{\"op\":\"cancel\",\"request\":2}");
	fake_expect(f, "{\"op\":\"nack\",\"message\":6,\"delay_ms\":0,\"count\":false}");
	fake_say(f, "{\"re\":2,\"end\":\"cancelled\"}");
	assert_int_equal(ipc_client_process(f->client), 0);
	assert_int_equal(notes.n_messages, 1); /* not told what it did itself */
}

/* Messages that come while a callback blocks are told after it. */
static void block(struct ipc_client *client, struct ipc_receiver *receiver,
		  struct ipc_message *message, void *userdata)
{
	struct notes *notes = userdata;

	if (message && !notes->n_messages) {
		notes->n_messages = 1;
		fake_say(notes->fake, "{\"re\":3,\"message\":1}");
		notes->r = ipc_send(client, "q", NULL, 0, NULL);
		assert_int_equal(notes->n_messages, 1);
		ipc_message_free(message);
		return;
	}
	note_message(client, receiver, message, userdata);
}

static void test_call_in_callback(void **state)
{
	struct fake *f = *state;
	struct notes notes = { .fake = f };
	struct ipc_receiver *receiver;

	assert_int_equal(ipc_receiver_new(f->client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_set_window(receiver, 2), 0);
	assert_int_equal(ipc_receiver_set_callback(receiver, block, &notes), 0);
	assert_int_equal(ipc_receiver_start(receiver), 0);
	deliver(f, 2, 5);
	deliver(f, 2, 6);
	assert_int_equal(ipc_client_process(f->client), 2);
	assert_int_equal(notes.r, 0);
	assert_int_equal(notes.n_messages, 2);
	assert_int_equal(notes.messages[1], 6);
	ipc_receiver_free(receiver);
}

static void test_close_tells(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };

	start(f, "q", &notes);
	f->client = ipc_client_close(f->client);
	assert_int_equal(notes.n_messages, 1);
	assert_int_equal(notes.end_error, -ECANCELED);
}

/* What was peeked at is told, what was leased is not. */
static void test_lost(void **state)
{
	struct fake *f = *state;
	struct notes leased = { 0 }, peeked = { 0 };
	struct ipc_receiver *receiver;

	start(f, "q", &leased);
	assert_int_equal(ipc_receiver_new(f->client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_set_peek(receiver, true), 0);
	assert_int_equal(ipc_receiver_set_callback(receiver, note_message, &peeked), 0);
	assert_int_equal(ipc_receiver_start(receiver), 0);
	deliver(f, 2, 1);
	fake_say(f, "{\"re\":3,\"message\":1,\"state\":\"leased\"}");
	fake_hang_up(f);
	assert_int_equal(ipc_client_process(f->client), -ECONNRESET);
	assert_int_equal(leased.n_messages, 1);
	assert_int_equal(leased.end_error, -ECONNRESET);
	assert_int_equal(peeked.n_messages, 2);
	assert_int_equal(peeked.messages[0], 1);
	assert_int_equal(peeked.end_error, -ECONNRESET);
}

/* ---- answers ---- */

static void test_settle(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };

	assert_int_equal(ipc_settle_async(f->client, IPC_VERDICT_NACK, 41, LEASE, 100,
					  true, "later", note, &notes, NULL),
			 0);
	assert_int_equal(ipc_settle_async(f->client, IPC_VERDICT_ACK, 42, NULL, -1, false,
					  NULL, note, &notes, NULL),
			 0);
	assert_int_equal(ipc_settle_async(f->client, IPC_VERDICT_ACK, 0, NULL, -1, false,
					  NULL, note, &notes, NULL),
			 -EINVAL);
	fake_expect_silence(f); /* written together */
	fake_say(f, "{\"re\":3}");
	fake_say(f, "{\"re\":2,\"error\":\"lease-lost\",\"message\":\"handed out\"}");
	assert_int_equal(ipc_client_process(f->client), 2);
	fake_expect(f, "{\"op\":\"nack\",\"id\":2,\"message\":41,\"lease\":\"" LEASE
		       "\",\"delay_ms\":100,\"count\":false,\"reason\":\"later\"}");
	fake_expect(f, "{\"op\":\"ack\",\"id\":3,\"message\":42}");
	assert_int_equal(notes.n, 2);
	assert_int_equal(notes.errors[0], 0);
	assert_int_equal(notes.errors[1], -ESTALE);
	assert_string_equal(notes.text, "handed out");
	assert_string_equal(notes.word, "lease-lost");
}

static void test_list(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };

	assert_int_equal(
		ipc_list_async(f->client, IPC_LIST_NAMES, "a", note, &notes, NULL), 0);
	assert_int_equal(ipc_list_async(f->client, IPC_LIST_PEERS, "a", note, &notes,
					NULL),
			 -EINVAL);
	fake_say_body(f, "{\"re\":2,\"size\":26}", "{\"name\":\"a\"}\n{\"name\":\"b\"}\n",
		      26);
	assert_int_equal(ipc_client_process(f->client), 1);
	fake_expect(f, "{\"op\":\"names\",\"id\":2,\"name\":\"a\"}");
	assert_int_equal(notes.errors[0], 0);
	assert_string_equal(notes.names, "ab");
}

static void test_bool(void **state)
{
	static const char line[] = "{\"a\":true,\"b\":false,\"c\":1}\n";
	struct fake *f = *state;
	const struct ipc_record *record;
	struct ipc_list *list;
	char header[64];

	snprintf(header, sizeof(header), "{\"re\":2,\"size\":%zu}", sizeof(line) - 1);
	fake_say_body(f, header, line, sizeof(line) - 1);
	assert_int_equal(ipc_list_open(f->client, IPC_LIST_STATS, NULL, &list), 0);
	record = ipc_list_next(list);
	assert_true(ipc_record_get_bool(record, "a"));
	assert_false(ipc_record_get_bool(record, "b"));
	assert_false(ipc_record_get_bool(record, "c"));
	assert_false(ipc_record_get_bool(record, "d"));
	ipc_list_free(list);
}

static void test_ping(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };

	assert_int_equal(ipc_ping_async(f->client, note, &notes, NULL), 0);
	fake_say(f, "{\"re\":2}");
	assert_int_equal(ipc_client_process(f->client), 1);
	fake_expect(f, "{\"op\":\"ping\",\"id\":2}");
	assert_int_equal(notes.errors[0], 0);
}

static void test_without_a_callback(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m = new_message();
	struct ipc_request *request;

	assert_int_equal(ipc_send_async(f->client, "q", m, 0, 0, NULL, NULL, &request),
			 -EINVAL);
	assert_string_equal(ipc_client_get_error(f->client),
			    "nobody to be told of an answer");
	assert_int_equal(ipc_settle_async(f->client, IPC_VERDICT_ACK, 1, LEASE, -1, false,
					  NULL, NULL, NULL, &request),
			 -EINVAL);
	assert_int_equal(ipc_list_async(f->client, IPC_LIST_STATS, NULL, NULL, NULL,
					&request),
			 -EINVAL);
	assert_int_equal(ipc_ping_async(f->client, NULL, NULL, &request), -EINVAL);
	assert_int_equal(ipc_client_flush(f->client), 0);
	fake_expect_silence(f);
	ipc_message_free(m);
}

/* As of the client's own error, whatever the daemon says. */
static void test_text_is_one_line(void **state)
{
	static const char *const answers[] = {
		"\"error\":\"denied\",\"message\":\"a\\nb\\u007f\"",
		"\"abort\":\"a\\nb\\u007f\"",
	};
	struct fake *f = *state;
	struct notes notes = { 0 };

	for (int i = 0; i < 2; i++) {
		assert_int_equal(ipc_ping_async(f->client, note, &notes, NULL), 0);
		fake_say(f, "{\"re\":%d,%s}", i + 2, answers[i]);
		assert_int_equal(ipc_client_process(f->client), 1);
		assert_int_equal(notes.errors[i], i ? -EIO : -EACCES);
		assert_string_equal(notes.text, "a b ");
	}
}

static void test_pending(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };

	assert_int_equal(ipc_client_get_pending(f->client), 0);
	assert_int_equal(ipc_ping_async(f->client, note, &notes, NULL), 0);
	assert_int_equal(ipc_client_get_pending(f->client),
			 4 + strlen("{\"op\":\"ping\",\"id\":2}"));
	assert_int_equal(ipc_client_flush(f->client), 0);
	assert_int_equal(ipc_client_get_pending(f->client), 0);
}

/* ---- deadlines ---- */

static void wait_and_process(struct fake *f)
{
	struct pollfd p = { ipc_client_get_fd(f->client), POLLIN, 0 };
	int timeout = ipc_client_get_timeout(f->client);

	assert_in_range(timeout, 0, 60000);
	assert_int_equal(poll(&p, 1, timeout), 0);
	assert_true(ipc_client_process(f->client) >= 0);
}

static void test_deadlines(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_request *late, *other, *never;

	assert_int_equal(ipc_ping_async(f->client, note, &notes, &other), 0);
	assert_int_equal(ipc_ping_async(f->client, note, &notes, &late), 0);
	assert_int_equal(ipc_ping_async(f->client, note, &notes, &never), 0);
	assert_int_equal(ipc_request_set_timeout(other, 60000), 0);
	assert_int_equal(ipc_request_set_timeout(late, 60000), 0);
	assert_int_equal(ipc_request_set_timeout(late, 10), 0);
	assert_int_equal(ipc_request_set_timeout(late, -2), -EINVAL);
	assert_int_equal(ipc_request_set_timeout(never, 5), 0);
	assert_int_equal(ipc_request_set_timeout(never, IPC_FOREVER), 0);
	assert_int_equal(ipc_client_process(f->client), 0);
	wait_and_process(f);
	assert_int_equal(notes.n, 1);
	assert_int_equal(notes.errors[0], -ETIMEDOUT);
	assert_true(fake_hear(f));
	assert_true(fake_hear(f));
	assert_true(fake_hear(f));
	fake_expect(f, "{\"op\":\"cancel\",\"request\":3}");
	fake_say(f, "{\"re\":3}"); /* too late, and nothing to anybody */
	fake_say(f, "{\"re\":2}");
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_int_equal(notes.n, 2);
	assert_int_equal(notes.errors[1], 0);
	assert_int_equal(ipc_request_cancel(never), 0);
	assert_int_equal(ipc_client_get_timeout(f->client), -1);
}

/* Also while something else is waited for. */
static void test_deadline_in_call(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *receiver;
	struct ipc_request *request;
	struct ipc_message *message;

	assert_int_equal(ipc_ping_async(f->client, note, &notes, &request), 0);
	assert_int_equal(ipc_request_set_timeout(request, 5), 0);
	assert_int_equal(ipc_receiver_new(f->client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_next(receiver, 40, &message), -ETIMEDOUT);
	assert_int_equal(notes.n, 1);
	assert_int_equal(notes.errors[0], -ETIMEDOUT);
	ipc_receiver_free(receiver);
}

/* And while the daemon does not read. */
static void test_deadline_in_flush(void **state)
{
	enum { SIZE = 1000000 };
	struct fake *f = *state;
	struct notes notes = { 0 }, sent = { 0 };
	char *body = calloc(1, SIZE);
	struct ipc_message *m = new_message();
	struct ipc_request *request;

	ipc_message_set_body(m, body, SIZE);
	assert_int_equal(ipc_send_async(f->client, "q", m, 0, 0, note, &sent, NULL), 0);
	assert_int_equal(ipc_ping_async(f->client, note, &notes, &request), 0);
	assert_int_equal(ipc_request_set_timeout(request, 5), 0);
	assert_int_equal(ipc_client_set_timeout(f->client, 40), 0);
	assert_int_equal(ipc_client_flush(f->client), -ETIMEDOUT);
	assert_int_equal(notes.n, 1);
	assert_int_equal(notes.errors[0], -ETIMEDOUT);
	assert_int_equal(sent.n, 0);
	ipc_message_free(m);
	f->client = ipc_client_close(f->client);
	free(body);
}

static void close_pipe(struct ipc_client *client, const struct ipc_reply *reply,
		       void *userdata)
{
	(void)client;
	assert_int_equal(ipc_reply_get_error(reply), -ETIMEDOUT);
	assert_int_equal(close(*(int *)userdata), 0);
}

static void *answer_send(void *userdata)
{
	struct fake *f = userdata;

	while (fake_hear(f) && !strstr(f->header, "\"send\""))
		;
	fake_say(f, "{\"re\":3,\"message\":1}");
	return NULL;
}

/* And while a pipe gives nothing, here until the callback ends that. */
static void test_deadline_in_pipe(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m = new_message();
	struct ipc_request *request;
	pthread_t thread;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(ipc_message_set_file(m, ends[0], NULL, 0), 0);
	assert_int_equal(ipc_ping_async(f->client, close_pipe, &ends[1], &request), 0);
	assert_int_equal(ipc_request_set_timeout(request, 5), 0);
	pthread_create(&thread, NULL, answer_send, f);
	assert_int_equal(ipc_send_message(f->client, "q", m, 0, 0, NULL), 0);
	pthread_join(thread, NULL);
	ipc_message_free(m);
	close(ends[0]);
}

static void set_again(struct ipc_client *client, const struct ipc_reply *reply,
		      void *userdata)
{
	struct ipc_request **request = userdata;

	(void)client;
	(void)reply;
	assert_int_equal(ipc_request_set_timeout(*request, 1), 0);
	*request = NULL;
}

static void test_deadline_when_answered(void **state)
{
	struct fake *f = *state;
	struct ipc_request *request;

	assert_int_equal(ipc_ping_async(f->client, set_again, &request, &request), 0);
	assert_int_equal(ipc_request_set_timeout(request, 60000), 0);
	fake_say(f, "{\"re\":2}");
	assert_int_equal(ipc_client_process(f->client), 1);
	assert_null(request);
	assert_int_equal(ipc_client_get_timeout(f->client), -1);
}

/* ---- turns ---- */

enum { ENDLESS = 1000 };

/* Whenever a message is settled the next one has come already. Nothing else is answered. */
static void *deliver_endlessly(void *userdata)
{
	struct fake *f = userdata;
	unsigned long long id;

	for (int n = 1; n <= ENDLESS && fake_hear(f);) {
		if (sscanf(f->header, "{\"op\":\"ack\",\"id\":%llu", &id) != 1)
			continue;
		if (n++ < ENDLESS)
			fake_say(f, "{\"re\":2,\"message\":%d,\"lease\":\"" LEASE "\"}",
				 n);
		fake_say(f, "{\"re\":%llu}", id);
	}
	return NULL;
}

static void settle(struct ipc_client *client, struct ipc_receiver *receiver,
		   struct ipc_message *message, void *userdata)
{
	struct notes *notes = userdata;

	(void)receiver;
	if (!message)
		return;
	notes->n_messages++;
	assert_int_equal(ipc_settle(client, IPC_VERDICT_ACK,
				    ipc_message_get_number(message), LEASE, -1, false,
				    NULL),
			 0);
	ipc_message_free(message);
}

/* Callbacks that bring about further ones do not keep the main loop, or a call whose time is
 * over, from going on. */
static void test_endless_callbacks(void **state)
{
	struct fake *f = *state;
	struct notes notes = { 0 };
	struct ipc_receiver *receiver, *other;
	struct ipc_message *message;
	pthread_t thread;

	assert_int_equal(ipc_receiver_new(f->client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_set_callback(receiver, settle, &notes), 0);
	assert_int_equal(ipc_receiver_start(receiver), 0);
	fake_say(f, "{\"re\":2,\"message\":1,\"lease\":\"" LEASE "\"}");
	pthread_create(&thread, NULL, deliver_endlessly, f);
	assert_true(ipc_client_process(f->client) > 0);
	assert_int_equal(notes.n_messages, 1);
	assert_int_equal(ipc_client_get_timeout(f->client), 0);
	assert_true(ipc_client_process(f->client) > 0);
	assert_int_equal(notes.n_messages, 2);
	assert_int_equal(ipc_receiver_new(f->client, &other), 0);
	assert_int_equal(ipc_receiver_add_queue(other, "none"), 0);
	assert_int_equal(ipc_receiver_next(other, 1, &message), -ETIMEDOUT);
	assert_true(notes.n_messages < ENDLESS);
	while (notes.n_messages < ENDLESS)
		assert_true(ipc_client_process(f->client) >= 0);
	pthread_join(thread, NULL);
	ipc_receiver_free(receiver);
	ipc_receiver_free(other);
}

/* ---- IPC_DEBUG ---- */

static void test_debug(void **state)
{
	char text[2048] = "", *first;
	int saved = dup(STDERR_FILENO), fd = memfd_create("stderr", MFD_CLOEXEC);
	struct fake f;

	(void)state;
	fflush(stderr);
	dup2(fd, STDERR_FILENO);
	setenv("IPC_DEBUG", "1", 1);
	fake_open(&f);
	unsetenv("IPC_DEBUG"); /* it is read once */
	fake_say(&f, "{\"re\":2,\n\"message\":1}");
	assert_int_equal(ipc_send(f.client, "q\xc3\xa4", "body", 4, NULL), 0);
	fake_close(&f);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
	close(fd);
	first = strstr(text, " -> {\"op\":\"hello\"");
	assert_non_null(first);
	assert_non_null(strstr(first, " <- {\"re\":1,"));
	assert_non_null(strstr(first, " -> {\"op\":\"send\",\"id\":2,\"queue\":"
				      "\"q\\xc3\\xa4\",\"size\":4} + 4 bytes\n"));
	assert_non_null(strstr(first, " <- {\"re\":2,\\x0a\"message\":1}\n"));
}

/* What is written to it must not go to the daemon. */
static void test_without_standard_error(void **state)
{
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3), fd, r;
	struct fake f;

	(void)state;
	fflush(stderr);
	fake_listen(&f);
	close(STDERR_FILENO);
	r = ipc_client_open(f.path, 0, &f.client);
	fd = ipc_client_get_fd(f.client);
	pthread_join(f.greeter, NULL);
	fake_close(&f);
	dup2(saved, STDERR_FILENO);
	close(saved);
	assert_int_equal(r, 0);
	assert_true(fd > STDERR_FILENO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fake_test(test_messages),
		fake_test(test_refused),
		fake_test(test_no_queue),
		fake_test(test_two_receivers),
		fake_test(test_free_in_own_callback),
		fake_test(test_call_in_callback),
		fake_test(test_close_tells),
		fake_test(test_lost),
		fake_test(test_settle),
		fake_test(test_list),
		fake_test(test_bool),
		fake_test(test_ping),
		fake_test(test_without_a_callback),
		fake_test(test_text_is_one_line),
		fake_test(test_pending),
		fake_test(test_deadlines),
		fake_test(test_deadline_in_call),
		fake_test(test_deadline_in_flush),
		fake_files_test(test_deadline_in_pipe),
		fake_test(test_deadline_when_answered),
		fake_test(test_endless_callbacks),
		cmocka_unit_test(test_debug),
		cmocka_unit_test(test_without_standard_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
