/* SPDX-License-Identifier: MIT */

/*
 * ipcd, by libipc: what a fast user of the public header would write.
 *
 * One job: ipc_send(); a receiver, to which the daemon sends of its own accord;
 * ipc_ack(), which is not answered. Batches: all but the last by ipc_send_async(), so
 * that they are written together; what has come is acknowledged by one ipc_ack_many().
 *
 * Descriptors: ipc_send_message() of a live one, which is answered; acknowledged when the
 * next one is waited for.
 *
 * The variant is the receiver's window, or "settle": each acknowledgement is answered.
 * The default window is 1, and two batches where there are batches.
 */

#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <ipc/ipc.h>

#define QUEUE "bench"

struct conn {
	struct ipc_client *client;
	struct ipc_message *message; /* to send */
	struct ipc_receiver *receiver;
	struct ipc_message *taken; /* with a descriptor */
	unsigned int n_unanswered;
	bool settle;
};

static void check(const struct conn *conn, int r)
{
	if (r < 0)
		die("ipcd: %s", ipc_client_get_error(conn->client));
}

static int hello(void)
{
	struct ipc_client *client;

	if (!ipc_client_open(opt.address, 0, &client))
		return ipc_client_get_fd(client);
	ipc_client_close(client);
	return -1;
}

static void open_receiver(struct conn *conn)
{
	unsigned int window = (unsigned int)strtoul(opt.variant, NULL, 10);

	if (!window)
		window = opt.batch > 1 ? 2 * opt.batch : 1;
	check(conn, ipc_receiver_new(conn->client, &conn->receiver));
	check(conn, ipc_receiver_add_queue(conn->receiver, QUEUE));
	check(conn, ipc_receiver_set_window(conn->receiver, window));
}

static void *open_conn(void)
{
	struct conn *conn = calloc(1, sizeof(*conn));

	must(conn);
	check(conn, ipc_client_open(opt.address, 0, &conn->client));
	must(!ipc_message_new(&conn->message));
	ipc_message_set_body(conn->message, opt.body, opt.size);
	conn->settle = !strcmp(opt.variant, "settle");
	open_receiver(conn);
	return conn;
}

static void on_stored(struct ipc_client *client, const struct ipc_reply *reply,
		      void *userdata)
{
	struct conn *conn = userdata;

	(void)client;
	if (ipc_reply_get_error(reply))
		die("ipcd: %s", ipc_reply_get_error_text(reply));
	conn->n_unanswered--;
}

static void put(void *arg, unsigned int n)
{
	struct conn *conn = arg;

	for (; n > 1; n--) {
		check(conn, ipc_send_async(conn->client, QUEUE, conn->message, 0, 0,
					   on_stored, conn, NULL));
		conn->n_unanswered++;
	}
	check(conn, ipc_send(conn->client, QUEUE, opt.body, opt.size, NULL));
	if (conn->n_unanswered) /* sends to one queue are answered in order */
		die("a later send was answered first");
}

static void acknowledge(struct conn *conn, struct ipc_message **messages, unsigned int n)
{
	if (conn->settle)
		for (unsigned int i = 0; i < n; i++)
			check(conn, ipc_settle(conn->client, IPC_VERDICT_ACK,
					       ipc_message_get_number(messages[i]), NULL,
					       -1, false, NULL));
	else if (n == 1)
		check(conn, ipc_ack(conn->client, messages[0]));
	else
		check(conn, ipc_ack_many(conn->client, messages, n));
}

static unsigned int take(void *arg, unsigned int max)
{
	struct ipc_message *messages[BATCH_MAX];
	struct conn *conn = arg;
	unsigned int n = 1;
	size_t size;

	check(conn, ipc_receiver_next(conn->receiver, IPC_FOREVER, &messages[0]));
	while (n < max && ipc_receiver_next(conn->receiver, 0, &messages[n]) == 1)
		n++;
	acknowledge(conn, messages, n);
	for (unsigned int i = 0; i < n; i++) {
		ipc_message_get_body(messages[i], &size);
		must(size == opt.size);
		ipc_message_free(messages[i]);
	}
	return n;
}

static uint64_t left(void)
{
	static const char *const states[] = { "ready", "delayed", "leased", "dead" };
	const struct ipc_record *record;
	struct conn conn = { 0 };
	struct ipc_list *list;
	uint64_t n = 0;
	int r;

	check(&conn, ipc_client_open(opt.address, 0, &conn.client));
	r = ipc_list_open(conn.client, IPC_LIST_NAMES, QUEUE, &list);
	if (r != -ENOENT) { /* a server started anew may have lost the queue as well */
		check(&conn, r);
		record = ipc_list_next(list);
		must(record);
		for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
			n += (uint64_t)ipc_record_get_integer(record, states[i]);
		ipc_list_free(list);
	}
	ipc_client_close(conn.client);
	return n;
}

static void give(void *arg, int fd)
{
	struct conn *conn = arg;

	must(!ipc_message_set_file(conn->message, fd, NULL, IPC_FILE_LIVE));
	check(conn, ipc_send_message(conn->client, QUEUE, conn->message, 0, 0, NULL));
}

static int get(void *arg)
{
	struct conn *conn = arg;

	if (conn->taken)
		check(conn, ipc_ack(conn->client, conn->taken));
	conn->taken = ipc_message_free(conn->taken);
	check(conn, ipc_receiver_next(conn->receiver, IPC_FOREVER, &conn->taken));
	return ipc_message_get_fd(conn->taken);
}

int main(int argc, char **argv)
{
	static const struct driver driver = {
		.hello = hello,
		.open = open_conn,
		.put = put,
		.take = take,
		.left = left,
		.give = give,
		.get = get,
	};

	return bench_main(argc, argv, &driver, NULL);
}
