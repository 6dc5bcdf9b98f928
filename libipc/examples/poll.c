/* SPDX-License-Identifier: MIT */

/*
 * poll FROM TO COUNT: passes COUNT messages on from one queue to another.
 *
 * Everything is asynchronous, in a loop around poll(2). A message is acknowledged when the
 * other queue has it: so none is lost, whatever fails, and the window bounds what is under
 * way. Messages that TO refuses go back to FROM.
 */

#include <ipc/ipc.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

struct pass {
	struct ipc_client *client;
	const char *to;
	unsigned long wanted, settled, failed;
	bool ended;
};

/* One message under way. */
struct item {
	struct pass *pass;
	struct ipc_message *message;
};

static void free_item(struct item *item)
{
	ipc_message_free(item->message);
	free(item);
}

static void on_settled(struct ipc_client *client, const struct ipc_reply *reply,
		       void *userdata)
{
	struct item *item = userdata;

	(void)client;
	if (ipc_reply_get_error(reply) < 0) {
		fprintf(stderr, "settle: %s\n", ipc_reply_get_error_text(reply));
		item->pass->failed++;
	}
	item->pass->settled++;
	free_item(item);
}

static void on_sent(struct ipc_client *client, const struct ipc_reply *reply,
		    void *userdata)
{
	struct item *item = userdata;
	bool sent = ipc_reply_get_error(reply) == 0;
	int r;

	if (!sent) {
		fprintf(stderr, "send: %s\n", ipc_reply_get_error_text(reply));
		item->pass->failed++;
	}
	r = ipc_settle_async(client, sent ? IPC_VERDICT_ACK : IPC_VERDICT_NACK,
			     ipc_message_get_number(item->message),
			     ipc_message_get_lease(item->message), -1, false, NULL,
			     on_settled, item, NULL);
	if (r < 0)
		free_item(item); /* lost: it comes again */
}

static void on_message(struct ipc_client *client, struct ipc_receiver *receiver,
		       struct ipc_message *message, void *userdata)
{
	struct pass *pass = userdata;
	struct item *item = message ? malloc(sizeof(*item)) : NULL;
	struct ipc_request *request;

	if (!message) {
		pass->ended = true;
		return;
	}
	if (!item) {
		ipc_message_free(message); /* it comes again when this program ends */
		pass->wanted--;
		pass->failed++;
		return;
	}
	(void)receiver;
	*item = (struct item){ pass, message };
	/* a received message can be sent as it is; the daemon has 10 s for it */
	if (ipc_send_async(client, pass->to, message, 0, 0, on_sent, item, &request) < 0)
		free_item(item);
	else if (ipc_request_set_timeout(request, 10000) < 0)
		pass->failed++;
}

static int run(struct pass *pass)
{
	int r = 0;

	while (r >= 0 && !(pass->ended && pass->settled == pass->wanted)) {
		struct pollfd p = { .fd = ipc_client_get_fd(pass->client),
				    .events =
					    (short)ipc_client_get_events(pass->client) };

		if (poll(&p, 1, ipc_client_get_timeout(pass->client)) < 0 &&
		    errno != EINTR)
			return -errno;
		r = ipc_client_process(pass->client);
	}
	return r < 0 ? r : 0;
}

static int start(struct pass *pass, const char *from)
{
	struct ipc_receiver *receiver; /* ends with the client */
	int r = ipc_receiver_new(pass->client, &receiver);

	if (!r)
		r = ipc_receiver_add_queue(receiver, from);
	if (!r)
		r = ipc_receiver_set_window(receiver, 64);
	if (!r)
		r = ipc_receiver_set_max(receiver, pass->wanted);
	if (!r)
		r = ipc_receiver_set_callback(receiver, on_message, pass);
	if (!r)
		r = ipc_receiver_start(receiver);
	return r;
}

int main(int argc, char **argv)
{
	struct pass pass = { 0 };
	int r;

	if (argc != 4) {
		fprintf(stderr, "usage: poll FROM TO COUNT\n");
		return 1;
	}
	pass.to = argv[2];
	pass.wanted = strtoul(argv[3], NULL, 10);
	r = ipc_client_open(NULL, 0, &pass.client);
	if (!r)
		r = start(&pass, argv[1]);
	if (!r)
		r = run(&pass);
	if (r < 0)
		fprintf(stderr, "poll: %s\n", ipc_client_get_error(pass.client));
	ipc_client_close(pass.client);
	return r < 0 || pass.failed ? 2 : 0;
}
