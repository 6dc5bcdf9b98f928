/* SPDX-License-Identifier: MIT */

/*
 * loop QUEUE: sends each line of standard input as a message.
 *
 * How a client joins a main loop that is not its own, as those of toolkits: they have
 * sources (a descriptor, events, a function), timers, and a hook before they wait. The
 * upper half is such a loop; the adapter is what a program writes; below is a program that
 * reads no more input while too much waits to be written.
 */

#include <ipc/ipc.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- the loop ---- */

enum { SOURCES_MAX = 4 };

struct source {
	int fd; /* negative: not watched */
	short events;
	void (*ready)(void *userdata, short revents);
	void *userdata;
};

struct loop {
	struct source *sources[SOURCES_MAX];
	size_t n_sources;
	int64_t timer_ms; /* when it fires; -1: never */
	void (*fire)(void *userdata);
	void (*prepare)(void *userdata); /* before each wait */
	void *userdata;			 /* of fire and prepare */
	bool quit;
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int time_left(const struct loop *loop)
{
	int64_t left = loop->timer_ms - now_ms();

	if (loop->timer_ms < 0)
		return -1;
	return left > 0 ? (int)left : 0;
}

static void dispatch(struct loop *loop, const struct pollfd *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (fds[i].revents)
			loop->sources[i]->ready(loop->sources[i]->userdata,
						fds[i].revents);
	if (loop->timer_ms >= 0 && !time_left(loop)) {
		loop->timer_ms = -1;
		loop->fire(loop->userdata);
	}
}

static int loop_run(struct loop *loop)
{
	struct pollfd fds[SOURCES_MAX];
	size_t n = loop->n_sources;

	while (!loop->quit) {
		loop->prepare(loop->userdata);
		for (size_t i = 0; i < n; i++)
			fds[i] = (struct pollfd){ loop->sources[i]->fd,
						  loop->sources[i]->events, 0 };
		if (poll(fds, n, time_left(loop)) < 0 && errno != EINTR)
			return -errno;
		dispatch(loop, fds, n);
	}
	return 0;
}

/* ---- the adapter ---- */

struct adapter {
	struct ipc_client *client;
	struct loop *loop;
	struct source source;
	int result; /* of ipc_client_process() */
};

static void adapter_process(void *userdata)
{
	struct adapter *adapter = userdata;

	adapter->result = ipc_client_process(adapter->client);
	if (adapter->result < 0)
		adapter->loop->quit = true;
}

static void adapter_ready(void *userdata, short revents)
{
	(void)revents;
	adapter_process(userdata);
}

/* All three may be others each time: after a request there is something to be written. */
static void adapter_prepare(void *userdata)
{
	struct adapter *adapter = userdata;
	int timeout = ipc_client_get_timeout(adapter->client);

	adapter->source.fd = ipc_client_get_fd(adapter->client);
	adapter->source.events = (short)ipc_client_get_events(adapter->client);
	adapter->loop->timer_ms = timeout < 0 ? -1 : now_ms() + timeout;
}

static void adapter_attach(struct adapter *adapter, struct loop *loop)
{
	adapter->loop = loop;
	adapter->source.ready = adapter_ready;
	adapter->source.userdata = adapter;
	loop->sources[loop->n_sources++] = &adapter->source;
	loop->fire = adapter_process;
	loop->prepare = adapter_prepare;
	loop->userdata = adapter;
}

/* ---- the program ---- */

enum {
	PENDING_MAX = 1048576, /* bytes that wait to be written */
	OPEN_MAX = 1000,       /* messages that are not answered yet */
};

struct sender {
	struct adapter adapter;
	struct loop loop;
	struct source input;
	const char *queue;
	char *line;
	size_t capacity;
	unsigned long n_open, n_sent, n_failed;
	bool at_end;
};

static void pause_or_go_on(struct sender *sender)
{
	bool full = sender->n_open >= OPEN_MAX ||
		    ipc_client_get_pending(sender->adapter.client) > PENDING_MAX;

	sender->input.fd = full || sender->at_end ? -1 : STDIN_FILENO;
	sender->loop.quit |= sender->at_end && !sender->n_open;
}

static void on_reply(struct ipc_client *client, const struct ipc_reply *reply,
		     void *userdata)
{
	struct sender *sender = userdata;

	(void)client;
	sender->n_open--;
	if (ipc_reply_get_error(reply) < 0) {
		fprintf(stderr, "%s\n", ipc_reply_get_error_text(reply));
		sender->n_failed++;
	} else {
		sender->n_sent++;
	}
	pause_or_go_on(sender);
}

static int send_line(struct sender *sender, size_t size)
{
	struct ipc_message *message;
	int r = ipc_message_new(&message);

	if (r < 0)
		return r;
	ipc_message_set_body(message, sender->line, size);
	r = ipc_send_async(sender->adapter.client, sender->queue, message, 0, 0, on_reply,
			   sender, NULL);
	ipc_message_free(message);
	if (!r)
		sender->n_open++;
	return r;
}

/* Standard input has no buffer, or lines in it would not wake poll(2). */
static void on_input(void *userdata, short revents)
{
	struct sender *sender = userdata;
	ssize_t size = getline(&sender->line, &sender->capacity, stdin);
	int r = 0;

	(void)revents;
	if (size > 0 && sender->line[size - 1] == '\n')
		size--;
	if (size >= 0)
		r = send_line(sender, (size_t)size);
	sender->at_end = size < 0 || r < 0;
	sender->n_failed += r < 0;
	pause_or_go_on(sender);
}

int main(int argc, char **argv)
{
	struct sender sender = { .queue = argv[1] };
	int r;

	if (argc != 2) {
		fprintf(stderr, "usage: loop QUEUE\n");
		return 1;
	}
	setvbuf(stdin, NULL, _IONBF, 0);
	r = ipc_client_open(NULL, 0, &sender.adapter.client);
	sender.input = (struct source){ STDIN_FILENO, POLLIN, on_input, &sender };
	sender.loop.sources[sender.loop.n_sources++] = &sender.input;
	adapter_attach(&sender.adapter, &sender.loop);
	if (!r)
		r = loop_run(&sender.loop);
	if (!r && sender.adapter.result < 0)
		r = sender.adapter.result;
	if (r < 0)
		fprintf(stderr, "loop: %s\n",
			ipc_client_get_error(sender.adapter.client));
	printf("%lu sent, %lu failed\n", sender.n_sent, sender.n_failed);
	ipc_client_close(sender.adapter.client);
	free(sender.line);
	return r < 0 || sender.n_failed ? 2 : 0;
}
