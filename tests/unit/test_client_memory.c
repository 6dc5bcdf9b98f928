/* SPDX-License-Identifier: MIT */

/* The n-th allocation fails, for every n: a call fails by name or the client ends, every
 * request is told once, and nothing is lost or freed twice (which ASan looks after). */

#include "unit/client_memory.h"

#define LEASE "0123456789abcdef"

/* ---- open ---- */

static void test_open(void **state)
{
	(void)state;
	for (long n = 1;; n++) {
		bool all_done;
		struct fake f;
		int r, other;

		assert_true(n < 1000);
		fake_listen(&f);
		failing = pthread_self();
		fail_at = n;
		r = ipc_client_open(f.path, 0, &f.client);
		all_done = fail_at > 0;
		fail_at = 0;
		assert_true(r == 0 || r == -ENOMEM);
		if (r < 0)
			assert_true(strlen(ipc_client_get_error(f.client)) > 0);
		/* the greeter may still wait for one who comes */
		struct sockaddr_un address = { .sun_family = AF_UNIX };
		memcpy(address.sun_path, f.path, strlen(f.path));
		other = socket(AF_UNIX, SOCK_STREAM, 0);
		assert_int_equal(
			connect(other, (struct sockaddr *)&address, sizeof(address)), 0);
		close(other);
		f.client = ipc_client_close(f.client);
		pthread_join(f.greeter, NULL);
		fake_close(&f);
		if (all_done)
			break;
	}
}

/* ---- calls ---- */

static void say_sent(struct fake *f)
{
	fake_say(f, "{\"re\":2,\"message\":1}");
}

static int send_large(struct fake *f)
{
	static char body[50000];

	return ipc_send(f->client, "q", body, sizeof(body), NULL);
}

static void test_send(void **state)
{
	(void)state;
	sweep(send_large, say_sent);
}

static void say_refused(struct fake *f)
{
	fake_say(f, "{\"re\":2,\"error\":\"full\",\"message\":\"the queue is full\"}");
}

static int send_refused(struct fake *f)
{
	int r = ipc_send(f->client, "q", "x", 1, NULL);

	return r == -EAGAIN ? 0 : r;
}

static void test_refused(void **state)
{
	(void)state;
	sweep(send_refused, say_refused);
}

static void say_gone(struct fake *f)
{
	fake_say(f, "{\"re\":2,\"message\":1,\"duplicate\":true,\"outcome\":\"gone\"}");
}

static int send_again(struct fake *f)
{
	struct ipc_message *m;
	int r = ipc_message_new(&m);

	if (r < 0)
		return r;
	r = ipc_message_set_dedup_id(m, "a");
	if (!r)
		r = ipc_send_message(f->client, "q", m, 0, IPC_SEND_WAIT_ACKED, NULL);
	ipc_message_free(m);
	return r == -EALREADY ? 0 : r;
}

static void test_send_again(void **state)
{
	(void)state;
	sweep(send_again, say_gone);
}

static void say_list(struct fake *f)
{
	static const char lines[] = "{\"name\":\"a\"}\n{\"name\":\"b\",\"t\":\"\\n\"}\n";
	char header[64];

	fake_say_body(f, "{\"re\":2,\"size\":3,\"more\":true}", lines, 3);
	snprintf(header, sizeof(header), "{\"re\":2,\"size\":%zu}", sizeof(lines) - 4);
	fake_say_body(f, header, lines + 3, sizeof(lines) - 4);
}

static int list(struct fake *f)
{
	const struct ipc_record *record;
	struct ipc_list *records;
	int n = 0, r = ipc_list_open(f->client, IPC_LIST_NAMES, NULL, &records);

	if (r < 0)
		return r;
	while ((record = ipc_list_next(records)))
		n += ipc_record_get_string(record, "name") != NULL;
	assert_int_equal(n, 2);
	ipc_list_free(records);
	return 0;
}

static void test_list(void **state)
{
	(void)state;
	sweep(list, say_list);
}

static unsigned int n_told;

static void note(struct ipc_client *client, const struct ipc_reply *reply, void *userdata)
{
	int r = ipc_reply_get_error(reply);

	(void)client;
	(void)userdata;
	if (r < 0)
		assert_true(strlen(ipc_reply_get_error_text(reply)) > 0);
	n_told++;
}

static void say_two(struct fake *f)
{
	fake_say(f, "{\"re\":2,\"message\":1}");
	fake_say(f, "{\"re\":3,\"error\":\"denied\",\"message\":\"no\"}");
}

static int send_two(struct fake *f)
{
	struct ipc_message *message;
	unsigned int n_accepted = 0;
	int r = ipc_message_new(&message);

	n_told = 0;
	if (r < 0)
		return r;
	r = ipc_message_set_meta(message, "{\"a\":1}");
	for (int i = 0; !r && i < 2; i++) {
		r = ipc_send_async(f->client, "q", message, 0, 0, note, NULL, NULL);
		n_accepted += !r;
	}
	ipc_message_free(message);
	if (!r)
		r = ipc_client_process(f->client);
	f->client = ipc_client_close(f->client);
	assert_int_equal(n_told, n_accepted);
	return r < 0 ? r : 0;
}

static void test_async(void **state)
{
	(void)state;
	sweep(send_two, say_two);
}

/* ---- receiving ---- */

static void say_messages(struct fake *f)
{
	static char large[40000];
	char header[200];

	fake_say_body(f,
		      "{\"re\":2,\"size\":1,\"message\":1,\"lease\":\"" LEASE
		      "\",\"from\":{\"user\":\"\\u00e4\"},\"meta\":{}}",
		      "x", 1);
	snprintf(header, sizeof(header),
		 "{\"re\":2,\"size\":%zu,\"message\":2,\"lease\":\"" LEASE "\"}",
		 sizeof(large));
	fake_say_body(f, header, large, sizeof(large));
	fake_say_body(
		f,
		"{\"re\":2,\"size\":2,\"more\":true,\"message\":3,\"lease\":\"" LEASE
		"\"}",
		"ab", 2);
	fake_say_body(f, "{\"re\":2,\"size\":2}", "cd", 2);
	fake_say_body(f, "{\"re\":2,\"size\":1,\"message\":4,\"lease\":\"" LEASE "\"}",
		      "x", 1);
}

static int take_three(struct fake *f, struct ipc_receiver *receiver)
{
	struct ipc_message *message;
	char *json;
	int r = 0;

	for (int i = 0; i < 3; i++) {
		r = ipc_receiver_next(receiver, IPC_FOREVER, &message);
		if (r < 0)
			return r;
		assert_int_equal(r, 1);
		r = ipc_message_to_json(message, true, &json);
		if (!r)
			free(json);
		if (!r)
			r = ipc_ack(f->client, message);
		ipc_message_free(message);
		if (r < 0)
			return r;
	}
	return r;
}

static int receive(struct fake *f)
{
	struct ipc_receiver *receiver;
	int r = ipc_receiver_new(f->client, &receiver);

	if (r < 0)
		return r;
	r = ipc_receiver_add_queue(receiver, "q");
	if (!r)
		r = ipc_receiver_set_window(receiver, 4);
	if (!r)
		r = take_three(f, receiver);
	ipc_receiver_free(receiver); /* gives the fourth back */
	return r;
}

static void test_receive(void **state)
{
	(void)state;
	sweep(receive, say_messages);
}

static void say_one(struct fake *f)
{
	fake_say_body(f, "{\"re\":2,\"size\":1,\"message\":1,\"lease\":\"" LEASE "\"}",
		      "x", 1);
	fake_say(f, "{\"re\":2,\"end\":\"max\"}");
	fake_say(f, "{\"error\":\"lease-lost\",\"op\":\"ack\",\"message\":\"settled\"}");
}

static int receive_one(struct fake *f)
{
	struct ipc_message *message;
	int r = ipc_receive(f->client, "q", 0, &message);

	if (r < 0)
		return r;
	r = ipc_ack_many(f->client, &message, 1);
	ipc_message_free(message);
	return r;
}

static void test_receive_one(void **state)
{
	(void)state;
	sweep(receive_one, say_one);
}

static void say_plain(struct fake *f)
{
	fake_say_body(f,
		      "{\"re\":2,\"size\":1,\"message\":1,\"lease\":\"" LEASE
		      "\",\"attempt\":1,\"from\":{\"uid\":7,\"gid\":8,\"pid\":9,"
		      "\"user\":\"ann\"},\"queue\":\"q\"}",
		      "x", 1);
	fake_say(f, "{\"re\":2,\"end\":\"max\"}");
}

static int receive_plain(struct fake *f)
{
	struct ipc_message *message;
	int r = ipc_receive(f->client, "q", 0, &message);

	if (r < 0)
		return r;
	r = ipc_ack(f->client, message);
	ipc_message_free(message);
	return r;
}

static void test_receive_plain(void **state)
{
	(void)state;
	sweep(receive_plain, say_plain);
}

/* ---- callbacks, settings, another connection ---- */

static unsigned int n_messages, n_ends;

static void take(struct ipc_client *client, struct ipc_receiver *receiver,
		 struct ipc_message *message, void *userdata)
{
	(void)receiver;
	(void)userdata;
	if (message) {
		n_messages++;
		(void)!ipc_ack(client, message);
	} else {
		n_ends++;
	}
	ipc_message_free(message);
}

static void say_for_callbacks(struct fake *f)
{
	fake_say(f, "{\"re\":2,\"message\":1,\"lease\":\"" LEASE "\"}");
	fake_say_body(f, "{\"re\":3,\"size\":13}", "{\"name\":\"a\"}\n", 13);
	fake_say(f, "{\"re\":2,\"end\":\"max\"}");
}

/* Each is told once, by ipc_client_close() if not before. */
static int receive_and_list(struct fake *f)
{
	struct ipc_receiver *receiver;
	struct ipc_request *request;
	bool started, accepted = false;
	int r = ipc_receiver_new(f->client, &receiver);

	n_told = n_messages = n_ends = 0;
	if (r < 0)
		return r;
	r = ipc_receiver_add_queue(receiver, "q");
	if (!r)
		r = ipc_receiver_set_callback(receiver, take, NULL);
	if (!r)
		r = ipc_receiver_start(receiver);
	started = !r;
	if (!r)
		r = ipc_list_async(f->client, IPC_LIST_NAMES, NULL, note, NULL, &request);
	accepted = started && !r;
	if (!r)
		r = ipc_request_set_timeout(request, 60000);
	if (!r)
		r = ipc_client_process(f->client);
	f->client = ipc_client_close(f->client);
	assert_int_equal(n_ends, started);
	assert_int_equal(n_told, accepted);
	assert_true(n_messages <= 1);
	return r < 0 ? r : 0;
}

static void test_callbacks(void **state)
{
	(void)state;
	sweep(receive_and_list, say_for_callbacks);
}

static void say_done(struct fake *f)
{
	fake_say(f, "{\"re\":2}");
}

static int create(struct fake *f)
{
	static const char *const settings[] = { "mode=0660", "owner=root", "group=0",
						"backoff=1,2" };

	return ipc_name_create(f->client, "q", settings, 4);
}

static void test_create(void **state)
{
	(void)state;
	sweep(create, say_done);
}

static int create_wrongly(struct fake *f)
{
	static const char *const settings[] = { "colour=red" };
	int r = ipc_name_create(f->client, "q", settings, 1);

	return r == -EINVAL ? 0 : r;
}

static void test_unknown_setting(void **state)
{
	(void)state;
	sweep(create_wrongly, say_done);
}

static void say_explained(struct fake *f)
{
	fake_say_body(f, "{\"re\":2,\"size\":13}", "{\"name\":\"a\"}\n", 13);
}

static int explain(struct fake *f)
{
	struct ipc_list *list;
	int r = ipc_name_explain(f->client, "q", "0", &list);

	if (!r)
		ipc_list_free(list);
	return r;
}

static void test_explain(void **state)
{
	(void)state;
	sweep(explain, say_explained);
}

static unsigned int n_again;

static void again(struct ipc_client *client, bool restarted, uint64_t n_held,
		  void *userdata)
{
	(void)client;
	(void)restarted;
	(void)n_held;
	(void)userdata;
	n_again++;
}

static void say_then_hang_up(struct fake *f)
{
	fake_say(f, "{\"re\":2,\"message\":1,\"lease\":\"" LEASE "\"}");
	fake_say(f, "{\"re\":2,\"message\":2,\"lease\":\"" LEASE "\"}");
	fake_hang_up(f);
}

/* Whatever fails, the client comes again, and asks for what it did not get. */
static int lose(struct fake *f)
{
	struct ipc_receiver *receiver;
	struct ipc_message *message;
	int r = ipc_client_set_reconnect(f->client, again, NULL);

	if (!r)
		r = ipc_receiver_new(f->client, &receiver);
	if (r < 0)
		return r;
	r = ipc_receiver_add_queue(receiver, "q");
	if (!r)
		r = ipc_receiver_set_window(receiver, 2);
	if (!r)
		r = ipc_receiver_next(receiver, 0, &message);
	if (r == 1)
		ipc_message_free(message);
	if (r >= 0 || r == -ETIMEDOUT)
		r = ipc_receiver_next(receiver, 5, &message);
	if (r == 1)
		ipc_message_free(message);
	for (int i = 0; i < 3 && (r >= 0 || r == -ETIMEDOUT); i++)
		r = ipc_client_process(f->client);
	ipc_receiver_free(receiver);
	return r > 0 ? 0 : r;
}

static void test_reconnect(void **state)
{
	(void)state;
	sweep(lose, say_then_hang_up);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_send),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_send_again),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_async),
		cmocka_unit_test(test_receive),
		cmocka_unit_test(test_receive_one),
		cmocka_unit_test(test_receive_plain),
		cmocka_unit_test(test_callbacks),
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_unknown_setting),
		cmocka_unit_test(test_explain),
		cmocka_unit_test(test_reconnect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
