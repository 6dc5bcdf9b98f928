/* SPDX-License-Identifier: MIT */

/* libipc and a real daemon: what a fake one cannot confirm, since both would be mistaken in
 * the same way. */

#include "integration/harness_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ipc/ipc.h>

static struct ipc_client *open_client(void)
{
	struct ipc_client *client;

	assert_int_equal(ipc_client_open(server.socket, 0, &client), 0);
	return client;
}

static int64_t count_of(struct ipc_client *client, const char *name, const char *key)
{
	struct ipc_list *list;
	int64_t n;

	assert_int_equal(ipc_list_open(client, IPC_LIST_NAMES, name, &list), 0);
	n = ipc_record_get_integer(ipc_list_next(list), key);
	ipc_list_free(list);
	return n;
}

/* ---- names ---- */

static void test_create(void **state)
{
	static const char *const settings[] = { "mode=0660",	      "queue_messages=2",
						"backoff=1,2",	      "max_attempts=1",
						"queue_bytes=100000", "lost_delay=0" };
	static const char *const more[] = { "queue_messages=3" };
	static const char *const unknown[] = { "mode=0777" };
	struct ipc_client *client;

	start();
	client = open_client();
	assert_int_equal(ipc_name_create(client, "q", settings, 6), 0);
	assert_int_equal(ipc_name_create(client, "q", NULL, 0), -EEXIST);
	assert_int_equal(ipc_send(client, "q", NULL, 0, NULL), 0);
	assert_int_equal(ipc_send(client, "q", NULL, 0, NULL), 0);
	assert_int_equal(ipc_send(client, "q", NULL, 0, NULL), -EAGAIN);
	assert_int_equal(ipc_name_set(client, "q", more, 1), 0);
	assert_int_equal(ipc_send(client, "q", NULL, 0, NULL), 0);
	assert_int_equal(ipc_name_set(client, "q", unknown, 1), -EINVAL);
	assert_int_equal(ipc_name_set(client, "none", more, 1), -ENOENT);
	assert_int_equal(ipc_name_delete(client, "q"), 0);
	assert_int_equal(ipc_name_delete(client, "q"), -ENOENT);
	ipc_client_close(client);
}

static void test_purge_and_move(void **state)
{
	struct ipc_client *client;
	struct ipc_message *message;
	uint64_t n;

	start();
	client = open_client();
	for (int i = 0; i < 3; i++)
		assert_int_equal(ipc_send(client, "q", "x", 1, NULL), 0);
	assert_int_equal(ipc_receive(client, "q", 0, &message), 0);
	assert_int_equal(ipc_reject(client, message, "bad"), 0);
	ipc_message_free(message);
	assert_int_equal(ipc_name_purge(client, "q", NULL, NULL, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(count_of(client, "q", "dead"), 1);
	assert_int_equal(ipc_name_move(client, "q", NULL, NULL, NULL, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(count_of(client, "q", "ready"), 1);
	assert_int_equal(ipc_name_move(client, "q", "other", "ready", NULL, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(count_of(client, "other", "ready"), 1);
	assert_int_equal(ipc_name_purge(client, "q", "leased", NULL, &n), -EINVAL);
	assert_int_equal(ipc_name_purge(client, "none", NULL, NULL, &n), -ENOENT);
	ipc_client_close(client);
}

static void test_explain(void **state)
{
	struct ipc_client *client;
	const struct ipc_record *record;
	struct ipc_list *list;

	start();
	client = open_client();
	assert_int_equal(ipc_name_explain(client, "q", NULL, &list), 0);
	record = ipc_list_next(list);
	assert_string_equal(ipc_record_get_string(record, "name"), "q");
	assert_true(ipc_record_get_bool(record, "read"));
	assert_true(ipc_record_get_bool(record, "create"));
	assert_false(ipc_record_get_bool(record, "exists"));
	assert_null(ipc_list_next(list));
	ipc_list_free(list);
	ipc_client_close(client);
}

/* ---- a connection that is lost ---- */

struct notes {
	unsigned int n;
	bool restarted;
	uint64_t n_held;
};

static void told(struct ipc_client *client, bool restarted, uint64_t n_held,
		 void *userdata)
{
	*(struct notes *)userdata = (struct notes){ 1, restarted, n_held };
}

/* What is held is settled by its lease, what was not fetched comes again at once and is not
 * counted as an attempt. */
static void test_disconnected(void **state)
{
	struct notes notes = { 0 };
	struct ipc_client *client, *other;
	struct ipc_receiver *receiver;
	struct ipc_message *a, *b;

	start();
	client = open_client();
	other = open_client();
	assert_int_equal(ipc_client_set_reconnect(client, told, &notes), 0);
	assert_int_equal(ipc_send(client, "q", "a", 1, NULL), 0);
	assert_int_equal(ipc_send(client, "q", "b", 1, NULL), 0);
	assert_int_equal(ipc_receiver_new(client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_set_window(receiver, 2), 0);
	assert_int_equal(ipc_receiver_next(receiver, DEADLINE_MS, &a), 1);
	assert_int_equal(ipc_ping(client, NULL, 0), 0); /* b has come, too */
	assert_int_equal(ipc_disconnect(other, ipc_client_get_peer(client)), 0);
	assert_int_equal(ipc_receiver_next(receiver, 0, &b), 1); /* not noticed yet */
	ipc_message_free(b);
	assert_int_equal(ipc_ping(client, NULL, 0), -ECONNRESET);
	assert_int_equal(ipc_ping(client, NULL, 0), 0);
	assert_int_equal(notes.n, 1);
	assert_false(notes.restarted);
	assert_int_equal(notes.n_held, 2);
	assert_int_equal(ipc_settle(client, IPC_VERDICT_ACK, ipc_message_get_number(a),
				    ipc_message_get_lease(a), -1, false, NULL),
			 0);
	assert_int_equal(count_of(client, "q", "acked"), 1);
	ipc_message_free(a);
	ipc_client_close(client);
	ipc_client_close(other);
}

static void test_not_fetched(void **state)
{
	struct notes notes = { 0 };
	struct ipc_client *client, *other;
	struct ipc_receiver *receiver;
	struct ipc_message *a, *b;

	start();
	client = open_client();
	other = open_client();
	assert_int_equal(ipc_client_set_reconnect(client, told, &notes), 0);
	assert_int_equal(ipc_send(client, "q", "a", 1, NULL), 0);
	assert_int_equal(ipc_send(client, "q", "b", 1, NULL), 0);
	assert_int_equal(ipc_receiver_new(client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_set_window(receiver, 2), 0);
	assert_int_equal(ipc_receiver_next(receiver, DEADLINE_MS, &a), 1);
	assert_int_equal(ipc_ping(client, NULL, 0), 0);
	assert_int_equal(ipc_disconnect(other, ipc_client_get_peer(client)), 0);
	assert_int_equal(ipc_ping(client, NULL, 0), -ECONNRESET);
	assert_int_equal(ipc_receiver_next(receiver, 4000, &b), 1); /* under lost_delay */
	assert_memory_equal(ipc_message_get_body(b, NULL), "b", 1);
	assert_int_equal(ipc_message_get_attempt(b), 1);
	assert_int_equal(notes.n_held, 1);
	assert_int_equal(ipc_ack(client, a), 0);
	assert_int_equal(ipc_ack(client, b), 0);
	assert_int_equal(ipc_ping(client, NULL, 0), 0);
	assert_int_equal(count_of(client, "q", "acked"), 2);
	ipc_message_free(a);
	ipc_message_free(b);
	ipc_client_close(client);
	ipc_client_close(other);
}

static void test_restarted(void **state)
{
	struct notes notes = { 0 };
	struct ipc_client *client;
	struct ipc_receiver *receiver;
	struct ipc_message *message;

	start();
	client = open_client();
	assert_int_equal(ipc_client_set_reconnect(client, told, &notes), 0);
	assert_int_equal(ipc_receiver_new(client, &receiver), 0);
	assert_int_equal(ipc_receiver_add_queue(receiver, "q"), 0);
	assert_int_equal(ipc_receiver_next(receiver, 0, &message), -ETIMEDOUT);
	stop();
	wait_for(ipc_client_process(client) >= 0 && ipc_client_get_fd(client) < 0);
	start();
	assert_int_equal(ipc_send(client, "q", "x", 1, NULL), 0);
	assert_int_equal(ipc_receiver_next(receiver, DEADLINE_MS, &message), 1);
	assert_int_equal(notes.n, 1);
	assert_true(notes.restarted);
	assert_int_equal(ipc_ack(client, message), 0);
	ipc_message_free(message);
	ipc_client_close(client);
}

/* ---- sent again ---- */

static void crash(void)
{
	kill(server.pid, SIGKILL);
	assert_int_equal(wait_exit(server.pid), 256 + SIGKILL);
	server.pid = 0;
}

static struct ipc_message *message_of(const char *id)
{
	struct ipc_message *m;

	assert_int_equal(ipc_message_new(&m), 0);
	assert_int_equal(ipc_message_set_dedup_id(m, id), 0);
	ipc_message_set_body(m, "x", 1);
	return m;
}

static int send_telling(struct ipc_client *client, const struct ipc_message *m,
			unsigned int flags, uint64_t *number)
{
	int r = ipc_send_message(client, "q", m, 0, flags | IPC_SEND_TELL, number);

	return r < 0 ? r : r & IPC_SENT_DUPLICATE; /* the test may lie on a tmpfs */
}

static void test_duplicate(void **state)
{
	struct ipc_message *a = message_of("a"), *b = message_of("b"), *taken;
	struct ipc_client *client;
	uint64_t first, number;

	start_durable();
	client = open_client();
	assert_int_equal(send_telling(client, a, 0, &first), 0);
	assert_int_equal(send_telling(client, a, 0, &number), IPC_SENT_DUPLICATE);
	assert_int_equal(number, first);
	assert_int_equal(send_telling(client, b, 0, &number), 0);
	assert_int_not_equal(number, first);
	assert_int_equal(count_of(client, "q", "ready"), 2);
	ipc_client_close(client);

	crash();
	start_durable();
	client = open_client();
	assert_int_equal(send_telling(client, a, 0, &number), IPC_SENT_DUPLICATE);
	assert_int_equal(number, first);
	assert_int_equal(ipc_receive(client, "q", DEADLINE_MS, &taken), 0);
	assert_int_equal(ipc_message_get_number(taken), first);
	assert_int_equal(ipc_settle(client, IPC_VERDICT_ACK, first,
				    ipc_message_get_lease(taken), -1, false, NULL),
			 0);
	assert_int_equal(send_telling(client, a, IPC_SEND_WAIT_ACKED, &number),
			 -EALREADY);
	ipc_message_free(taken);
	ipc_message_free(a);
	ipc_message_free(b);
	ipc_client_close(client);
}

/* In a process of its own: sends for ever, and ends with what came of it. */
static pid_t fork_sender(const struct ipc_message *m)
{
	pid_t pid = fork_child();
	struct notes notes = { 0 };
	struct ipc_client *client;

	if (pid)
		return pid;
	if (ipc_client_open(server.socket, 0, &client) < 0 ||
	    ipc_client_set_reconnect(client, told, &notes) < 0 ||
	    ipc_send_message(client, "q", m, IPC_FOREVER, 0, NULL) != 0 || notes.n != 1)
		_exit(1);
	_exit(0);
}

static void acknowledge_one(struct ipc_client *client, const char *expected)
{
	struct ipc_message *message;
	size_t size;

	assert_int_equal(ipc_receive(client, "q", DEADLINE_MS, &message), 0);
	assert_memory_equal(ipc_message_get_body(message, &size), expected,
			    strlen(expected));
	assert_int_equal(size, strlen(expected));
	assert_int_equal(ipc_settle(client, IPC_VERDICT_ACK,
				    ipc_message_get_number(message), NULL, -1, false,
				    NULL),
			 0);
	ipc_message_free(message);
}

/* One that waits for room when the daemon is killed goes on waiting at the next one. */
static void test_repeated(void **state)
{
	static const char *const one[] = { "queue_messages=1" };
	struct ipc_message *m = message_of("a");
	struct ipc_client *client;
	pid_t sender;

	start_durable();
	client = open_client();
	assert_int_equal(ipc_name_create(client, "q", one, 1), 0);
	assert_int_equal(ipc_send(client, "q", "full", 4, NULL), 0);
	sender = fork_sender(m);
	wait_for(count_of(client, "q", "waiting") == 1);
	ipc_client_close(client);
	crash();
	start_durable();
	client = open_client();
	wait_for(count_of(client, "q", "waiting") == 1);
	acknowledge_one(client, "full");
	assert_int_equal(wait_exit(sender), 0);
	acknowledge_one(client, "x");
	assert_int_equal(count_of(client, "q", "ready"), 0);
	ipc_message_free(m);
	ipc_client_close(client);
}

/* ---- what is kept ---- */

static void test_durable(void **state)
{
	static const char *const no[] = { "durable=false" };
	static const char *const yes[] = { "durable=true" };
	struct ipc_client *client;

	start_durable();
	client = open_client();
	assert_int_equal(ipc_name_create(client, "q", no, 1), 0);
	assert_int_equal(ipc_send(client, "q", "in memory", 9, NULL), 0);
	assert_int_equal(ipc_name_set(client, "q", yes, 1), 0);
	assert_int_equal(ipc_send(client, "q", "on disk", 7, NULL), 0);
	ipc_client_close(client);
	crash();
	start_durable();
	client = open_client();
	acknowledge_one(client, "on disk");
	assert_int_equal(count_of(client, "q", "ready"), 0);
	ipc_client_close(client);
	stop();
	start("--volatile");
	client = open_client();
	assert_int_equal(ipc_name_create(client, "q", yes, 1), -EINVAL);
	ipc_client_close(client);
}

/* ---- files ---- */

/* The lowest that is free is not to be had. */
static struct rlimit forbid_descriptors(void)
{
	struct rlimit before, limit;
	int fd = dup(0);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = (struct rlimit){ (rlim_t)fd, before.rlim_max };
	close(fd);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	return before;
}

/* The kernel drops what it has no room for: the message is given back without having been
 * counted, and comes again as it was. */
static void test_no_room_for_a_descriptor(void **state)
{
	struct ipc_client *client;
	struct ipc_message *m = NULL;
	struct rlimit before;
	struct client *other;
	int r;

	start_durable();
	client = open_client();
	other = client_connect();
	send_file(other, BY_FD, LARGE, "'queue':'q'");
	before = forbid_descriptors();
	r = ipc_receive(client, "q", DEADLINE_MS, &m);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(r, -EMFILE);
	assert_null(m);
	hear_nothing(other);
	assert_int_equal(spool_count(), 1);
	assert_int_equal(ipc_receive(client, "q", DEADLINE_MS, &m), 0);
	assert_int_equal(ipc_message_get_attempt(m), 1);
	assert_true(fd_has_pattern(ipc_message_get_fd(m), LARGE));
	assert_int_equal(ipc_ack(client, m), 0);
	assert_int_equal(ipc_client_flush(client), 0);
	wait_for(spool_count() == 0);
	ipc_message_free(m);
	ipc_client_close(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_create),      it(test_purge_and_move),
		it(test_explain),     it(test_disconnected),
		it(test_not_fetched), it(test_restarted),
		it(test_duplicate),   it(test_repeated),
		it(test_durable),     it(test_no_room_for_a_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
